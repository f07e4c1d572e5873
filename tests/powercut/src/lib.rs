//! What the store survives: power cuts at the level of blocks, and `kill -9`.
//!
//! The rig gives the store a file system on a disk that remembers every write and flush. Replaying a part of that log gives the
//! disk as a power cut at that moment may leave it; the store must open it with every acknowledged write.
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
pub mod full;
pub mod machine;
pub mod rig;
pub mod workload;
