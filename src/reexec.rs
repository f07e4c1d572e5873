//! Invocations that davit makes of itself: the shim of a pod, a container's first process, and the
//! compiler of plugins.

use std::process::ExitCode;

/// Runs the hidden command this process was started for, if it was; otherwise returns `None`.
///
/// The caller must not have started a thread yet.
pub(crate) fn dispatch() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    let command = args.nth(1)?;
    if command == "plugin-compile" {
        let code = davit_plugins::compile_main();
        return Some(ExitCode::from(u8::try_from(code).unwrap_or(1)));
    }
    if command != "shim" && command != "init" {
        return None;
    }
    let code = davit_node::shim::main(std::iter::once(command).chain(args));
    Some(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}
