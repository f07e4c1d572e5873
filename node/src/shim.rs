//! The shim: one small single-threaded process a pod, a re-exec of the davit binary, that outlives the agent.
use std::ffi::OsString;

/// Entry of the hidden `davit shim …`, to be called before any thread exists; returns the process's exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> i32 {
    let _ = args.into_iter();
    1
}
