//! What the store survives: power cuts at the level of blocks, and `kill -9`.
//!
//! The rig gives the store a file system on a disk that remembers every write and flush. Replaying a part of that log gives the
//! disk as a power cut at that moment may leave it; the store must open it with every acknowledged write.
//!
//! For faults of one operation, it gets a file system that stops, is full or breaks at any step of a store's whole life ([`faults`]).
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "tests fail by panicking"
    )
)]

pub mod bench;
pub mod block_log;
pub mod disk;
pub mod faults;
pub mod files;
pub mod full;
pub mod life;
pub mod machine;
pub mod rig;
pub mod tree;
pub mod workload;
