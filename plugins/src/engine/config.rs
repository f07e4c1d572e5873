//! wasmtime's settings. The compiler's process uses the same ones without the pool, so that what it
//! makes can be loaded here.

use crate::grants::MEMORY_BYTES;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Calls at once, over all plugins.
pub(super) const SLOTS: u32 = 64;
/// Memory of a slot that is wiped instead of given back, which makes the next call faster.
const KEEP_RESIDENT: usize = 64 << 10;

/// An engine that runs components: with a pool if the address space allows it, else on demand.
pub(super) fn engine() -> wasmtime::Result<Engine> {
    let mut config = tunables();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    Engine::new(&config).or_else(|error| {
        tracing::warn!(%error, "no instance pool; calls of plugins are a little slower");
        Engine::new(&tunables())
    })
}

/// An engine that only compiles.
pub(super) fn compiler() -> wasmtime::Result<Engine> {
    Engine::new(&tunables())
}

fn tunables() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .epoch_interruption(true)
        .max_wasm_stack(512 << 10)
        .async_stack_size(1 << 20)
        // One slot is one memory of the largest size: no growth, no moving, small reservations that
        // also fit small machines.
        .memory_reservation(MEMORY_BYTES as u64)
        .memory_reservation_for_growth(0)
        .memory_guard_size(64 << 10)
        .memory_may_move(false)
        .guard_before_linear_memory(false);
    config
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(SLOTS)
        .total_core_instances(SLOTS * 8)
        .total_memories(SLOTS)
        .total_tables(SLOTS * 8)
        .total_stacks(SLOTS)
        .max_memory_size(MEMORY_BYTES)
        .max_memories_per_component(1)
        .max_core_instances_per_component(8)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT)
        .pagemap_scan(Enabled::Auto);
    pool
}
