//! Taking everything back that the node gave to pods: what `davit down` does after the agent has ended.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use davit_plugins::executor::Host;
use tokio::sync::mpsc;

use super::Error;
use super::layout::Layout;
use crate::image::{ImageStore, Options};
use crate::network::{Network, namespace, nft};
use crate::pod::services::{PodRuntime as _, Sandboxes, chain};

/// What [`teardown`] removed, in numbers for the user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TeardownReport {
    /// Pods whose processes were ended.
    pub pods: usize,
    /// Things given away by the host (mounts, links, rules, cgroups) that were taken back.
    pub host_objects: usize,
    /// What could not be removed, one line each with the cause.
    pub failures: Vec<String>,
}

impl TeardownReport {
    fn note<T, E: std::error::Error + 'static>(
        &mut self,
        what: &str,
        result: Result<T, E>,
    ) -> bool {
        match result {
            Ok(_) => true,
            Err(error) => {
                self.failures.push(format!("{what}: {}", chain(&error)));
                false
            }
        }
    }
}

/// Ends every pod under `data_dir` and takes back every mount, link, rule and cgroup its ledger names.
/// Data (images, volumes, objects) stays. Safe to run twice and after a crash.
///
/// # Errors
/// [`Error::Data`] when the directory cannot be read, [`Error::Runtime`] and [`Error::Ledger`] when what it holds cannot be
/// opened. What cannot be removed is no error but in the report.
pub async fn teardown(data_dir: &Path) -> Result<TeardownReport, Error> {
    let mut report = TeardownReport::default();
    let layout =
        Layout::of_last_agent(data_dir).map_err(|(path, source)| Error::Data { path, source })?;
    let Some(layout) = layout else {
        return Ok(report);
    };
    layout
        .make()
        .map_err(|(path, source)| Error::Data { path, source })?;
    end_pods(&layout, &mut report).await?;
    report.note(
        "packet rules of services",
        nft::services::remove(&layout.services_table()).await,
    );
    let released = release_scopes(&layout, &mut report).await?;
    remove_files(&layout, released, &mut report).await;
    Ok(report)
}

async fn end_pods(layout: &Layout, report: &mut TeardownReport) -> Result<(), Error> {
    let program = std::env::current_exe().map_err(|source| Error::Data {
        path: PathBuf::from("/proc/self/exe"),
        source,
    })?;
    let runtime = layout.runtime(&program).map_err(Error::Runtime)?;
    let (sandboxes, unreadable) = Sandboxes::adopt(runtime).await;
    for error in unreadable {
        report.failures.push(chain(&error));
    }
    for uid in sandboxes.pods() {
        let ended = sandboxes.stop_sandbox(&uid).await;
        if report.note(&format!("pod {uid}"), ended) {
            report.pods += 1;
        }
    }
    let volumes = layout.pod_volumes();
    for uid in names(&layout.pods()) {
        report.note(
            &format!("volumes of pod {uid}"),
            volumes.tear_down(&uid).await,
        );
    }
    report.note("cgroups", sandboxes.remove_root_cgroup());
    Ok(())
}

/// Takes back what the journal says that plans made, then what the kernel still has of it. Returns whether nothing is left, so
/// that the journal may go too.
async fn release_scopes(layout: &Layout, report: &mut TeardownReport) -> Result<bool, Error> {
    // Nobody is there any more to be told what drivers have to say.
    let (events, _) = mpsc::channel(1);
    let host = layout
        .host("", Arc::default(), events)
        .map_err(Error::Ledger)?;
    let before = in_force(&host);
    for uid in names(&layout.namespaces()) {
        if host.holds_devices(&uid) {
            let given_back = host.release_pod(&uid).await;
            report.note(&format!("devices of pod {uid}"), given_back);
        }
        // With the namespace everything in it goes at once.
        let removed = namespace::remove(&layout.namespaces().join(&uid));
        if report.note(&format!("network namespace {uid}"), removed) {
            report.host_objects += 1;
        }
    }
    let failures = host.release_all().await;
    let failures = failures
        .into_iter()
        .map(|(scope, why)| format!("{scope}: {why}"));
    report.failures.extend(failures);
    let left = in_force(&host);
    report.host_objects += before.saturating_sub(left);
    // A list may be lost, or lack what was made just before a crash; marks in the kernel are not.
    report.host_objects += host.collect().await.len();
    if left == 0 {
        match Network::default().sweep().await {
            Ok(removed) => report.host_objects += removed.len(),
            Err(error) => {
                report.note::<(), _>("links and routes", Err(error));
            }
        }
    }
    let there = host.leftovers().await;
    let there = there.into_iter().map(|mark| format!("still there: {mark}"));
    report.failures.extend(there);
    Ok(left == 0)
}

/// Scopes that hold something of the host; data that volumes hold stays on purpose.
fn in_force(host: &Host) -> usize {
    let scopes = host.scopes();
    let held = scopes.iter().filter(|scope| !scope.scope.is_durable());
    held.count()
}

async fn remove_files(layout: &Layout, released: bool, report: &mut TeardownReport) {
    match ImageStore::open(&layout.images(), Options::default()) {
        Ok(images) => {
            for key in images.prepared() {
                report.note(
                    &format!("root file system {key}"),
                    images.discard(&key).await,
                );
            }
        }
        Err(error) => report.failures.push(chain(&error)),
    }
    report.note("secrets in memory", layout.unmount());
    let mounted = mounts_beneath(&[&layout.pods(), layout.run()]);
    if !mounted.is_empty() {
        // Removing files now would remove what is mounted there.
        report.failures.extend(
            mounted
                .into_iter()
                .map(|path| format!("still mounted: {path}")),
        );
        return;
    }
    for name in names(&layout.pods()) {
        report.note(
            &format!("files of pod {name}"),
            crate::beneath::remove_tree(&layout.pods().join(&name)),
        );
    }
    // What could not be taken back yet is in the journal there, for the next try.
    if released {
        report.note(
            &layout.run().display().to_string(),
            crate::beneath::remove_tree(layout.run()),
        );
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Mount points at or beneath any of these directories, from the kernel's own table.
fn mounts_beneath(dirs: &[&Path]) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescaped);
    points
        .filter(|point| dirs.iter().any(|dir| Path::new(point).starts_with(dir)))
        .collect()
}

/// The table writes spaces and the like as octal escapes.
fn unescaped(field: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescaped(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescaped(r"/a\04"), r"/a\04");
        assert!(mounts_beneath(&[Path::new("/proc")]).contains(&"/proc".to_owned()));
    }

    #[tokio::test]
    async fn a_directory_no_agent_used_has_nothing_to_take_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            teardown(dir.path()).await.unwrap(),
            TeardownReport::default()
        );
    }
}
