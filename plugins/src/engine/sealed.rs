//! What a component is asked before anything is granted: every import traps.

use super::bindings::exports::davit::plugin::lifecycle::{
    Guest, GuestIndices, Manifest as WitManifest, Want as WitWant,
};
use super::ticker::TICK;
use super::{Engine, LoadError, MemoryLimiter};
use crate::grants::MEMORY_BYTES;
use crate::imports::printable;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::time::Duration;
use wasmtime::component::{Component, Linker};
use wasmtime::{Store, UpdateDeadline};

/// Time a component has to answer.
const TIME: Duration = Duration::from_secs(1);

/// How a driver introduces itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Manifest {
    pub(crate) driver: String,
    pub(crate) version: String,
    pub(crate) description: String,
    pub(crate) wants: Vec<Want>,
    pub(crate) features: Vec<(String, String)>,
}

/// A grant that a driver would like to have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Want {
    pub(crate) capability: String,
    pub(crate) value: String,
    pub(crate) required: bool,
    pub(crate) why: String,
}

/// Who the component is.
pub(super) async fn describe(
    engine: &Engine,
    component: &Component,
) -> Result<Manifest, LoadError> {
    let answer = ask(engine, component, |guest, store| {
        async move { guest.call_describe(store).await }.boxed()
    });
    Ok(answer.await.map_err(LoadError::Describe)?.into())
}

/// Whether the component takes a configuration.
pub(super) async fn validate(
    engine: &Engine,
    component: &Component,
    kind: &'static str,
    config: String,
) -> Result<(), LoadError> {
    let answer = ask(engine, component, move |guest, store| {
        async move { guest.call_validate(store, kind, &config).await }.boxed()
    });
    let refused = answer.await.map_err(LoadError::Config)?;
    refused.map_err(|error| LoadError::Config(printable(&error.message)))
}

/// One call with nothing to import, bounded as calls are.
async fn ask<R>(
    engine: &Engine,
    component: &Component,
    call: impl for<'a> FnOnce(Guest, &'a mut Store<MemoryLimiter>) -> BoxFuture<'a, wasmtime::Result<R>>,
) -> Result<R, String> {
    let failed = |error: wasmtime::Error| error.root_cause().to_string();
    let mut linker = Linker::new(engine.wasmtime());
    linker
        .define_unknown_imports_as_traps(component)
        .map_err(failed)?;
    let pre = linker.instantiate_pre(component).map_err(failed)?;
    let indices = GuestIndices::new(&pre).map_err(failed)?;
    let mut store = Store::new(engine.wasmtime(), MemoryLimiter::new(MEMORY_BYTES));
    store.limiter(|limiter| limiter);
    let mut ticks = TIME.as_millis() / TICK.as_millis();
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        ticks = ticks.saturating_sub(1);
        Ok(if ticks == 0 {
            UpdateDeadline::Interrupt
        } else {
            UpdateDeadline::Yield(1)
        })
    });
    let _slot = engine.slot().await;
    let _running = engine.ticker().run();
    let work = async {
        let instance = pre.instantiate_async(&mut store).await?;
        let guest = indices.load(&mut store, &instance)?;
        call(guest, &mut store).await
    };
    match tokio::time::timeout(TIME * 2, work).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if error.is::<wasmtime::Trap>() => {
            Err(format!("it ended with: {}", error.root_cause()))
        }
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(format!("it took longer than {TIME:?}")),
    }
}

impl From<WitManifest> for Manifest {
    fn from(manifest: WitManifest) -> Self {
        let want = |want: WitWant| Want {
            capability: printable(&want.capability),
            value: printable(&want.value),
            required: want.required,
            why: printable(&want.why),
        };
        Self {
            driver: manifest.driver,
            version: printable(&manifest.version),
            description: printable(&manifest.description),
            wants: manifest.wants.into_iter().take(64).map(want).collect(),
            features: manifest.features.into_iter().take(64).collect(),
        }
    }
}

impl Manifest {
    /// The value of a feature.
    pub(crate) fn feature(&self, name: &str) -> Option<&str> {
        let mut features = self.features.iter();
        features
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// That the name can be a driver's.
    pub(super) fn check(&self) -> Result<(), LoadError> {
        let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let label = |label: &str| {
            let bytes = label.as_bytes();
            bytes.first().is_some_and(plain)
                && bytes.last().is_some_and(plain)
                && bytes.iter().all(|b| plain(b) || *b == b'-')
        };
        if self.driver.len() <= 63 && self.driver.split('.').all(label) {
            return Ok(());
        }
        Err(LoadError::Manifest(format!(
            "driver name {:?} is not a DNS name of at most 63 characters",
            printable(&self.driver)
        )))
    }
}
