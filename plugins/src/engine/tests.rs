//! The engine without a driver: files that are none, the cache, the clock.

use super::*;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const BRIDGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bridge.wasm"));

fn engine(dir: &TempDir) -> Engine {
    Engine::new(EngineConfig {
        cache_dir: dir.path().to_owned(),
        compiler: None,
    })
    .unwrap()
}

fn all() -> BTreeSet<Interface> {
    [Interface::NetworkIpam, Interface::State].into()
}

#[tokio::test]
async fn imports_are_checked_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let described = engine(&dir).describe(BRIDGE).await.unwrap();
    assert_eq!(described.manifest.driver, "bridge.davit.dev");
    let error = described.link(&BTreeSet::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the component imports davit:network/ipam@0.1.0, which is not granted: add network.ipam \
         to spec.grants.interfaces"
    );
    let loaded = engine(&dir)
        .describe(BRIDGE)
        .await
        .unwrap()
        .link(&all())
        .unwrap();
    assert!(loaded.network.is_some() && loaded.node.is_none() && loaded.controller.is_none());
}

#[tokio::test]
async fn a_damaged_cache_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    engine(&dir).describe(BRIDGE).await.unwrap();
    let file = std::fs::read_dir(dir.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let whole = std::fs::read(&file).unwrap();
    for damaged in [Vec::new(), whole[..whole.len() / 2].to_vec(), {
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        flipped
    }] {
        std::fs::write(&file, damaged).unwrap();
        engine(&dir).describe(BRIDGE).await.unwrap();
        assert_eq!(std::fs::read(&file).unwrap().len(), whole.len());
    }
}

#[test]
fn the_clock_rests_when_nothing_runs() {
    let engine = config::compiler().unwrap();
    let ticker = ticker::Ticker::start(engine.clone()).unwrap();
    let (mut store, started) = (wasmtime::Store::new(&engine, ()), Instant::now());
    let running = ticker.run();
    store.set_epoch_deadline(3);
    std::thread::sleep(Duration::from_millis(100));
    drop(running);
    assert!(started.elapsed() >= Duration::from_millis(100));
    // Nothing to observe of a resting clock but that it ends at once.
    drop(ticker);
}
