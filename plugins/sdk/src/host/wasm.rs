//! The real host: calls of the component's imports.

use super::Area;
use crate::Result;
use crate::bindings::base::davit::plugin::{context, log, state};
use crate::bindings::network::davit::network::{inspect as links, ipam};
use crate::bindings::storage::davit::storage::inspect as volumes;
use crate::context::ObjectRef;
use crate::network::{Lease, LinkInfo, Pool};
use crate::storage::SpaceInfo;

#[derive(Debug)]
pub(crate) struct Host;

impl Host {
    pub(crate) fn config(&self) -> String {
        context::config()
    }
    pub(crate) fn operation_id(&self) -> String {
        context::operation_id()
    }
    pub(crate) fn attempt(&self) -> u32 {
        context::attempt()
    }
    pub(crate) fn dry_run(&self) -> bool {
        context::dry_run()
    }
    pub(crate) fn node_name(&self) -> String {
        context::node_name()
    }
    pub(crate) fn subject(&self) -> Option<ObjectRef> {
        context::subject()
    }
    pub(crate) fn now_ms(&self) -> u64 {
        context::now_ms()
    }
    pub(crate) fn log_info(&self, message: &str) {
        log::write(log::Level::Info, message, &[]);
    }
    pub(crate) fn log_warn(&self, message: &str) {
        log::write(log::Level::Warn, message, &[]);
    }
    pub(crate) fn event(&self, warning: bool, reason: &str, message: &str) {
        log::event(warning, reason, message);
    }
    pub(crate) fn pools(&self) -> Result<Vec<Pool>> {
        ipam::pools()
    }
    pub(crate) fn allocate(&self, pool: &str, tag: &str, want: Option<&str>) -> Result<Lease> {
        ipam::allocate(pool, tag, want)
    }
    pub(crate) fn state_get(&self, area: Area, key: &str) -> Result<Option<Vec<u8>>> {
        state::get(area, key)
    }
    pub(crate) fn state_put(&self, area: Area, key: &str, value: &[u8]) -> Result<()> {
        state::put(area, key, value)
    }
    pub(crate) fn state_delete(&self, area: Area, key: &str) -> Result<()> {
        state::delete(area, key)
    }
    pub(crate) fn state_keys(
        &self,
        area: Area,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<String>> {
        state::keys(area, prefix, after, limit)
    }
    pub(crate) fn links(&self, glob: &str) -> Result<Vec<LinkInfo>> {
        links::links(glob)
    }
    pub(crate) fn default_route_link(&self, family: u8) -> Result<Option<LinkInfo>> {
        links::default_route_link(family)
    }
    pub(crate) fn roots(&self) -> Result<Vec<String>> {
        volumes::roots()
    }
    pub(crate) fn space(&self, root: &str) -> Result<SpaceInfo> {
        volumes::space(root)
    }
}

/// Writes a panic's text to the log before the trap ends the call.
pub(crate) fn report_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let fields = [("panic".to_owned(), "true".to_owned())];
            log::write(log::Level::Error, &info.to_string(), &fields);
        }));
    });
}
