//! The runtime with real containers; needs root. The binary is its own shim: `runtime shim …` is dispatched first.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, report on standard output, and start other programs"
)]

#[path = "runtime/attack.rs"]
#[allow(unsafe_code, reason = "attacks use what no library offers")]
mod attack;
#[path = "runtime/confinement.rs"]
mod confinement;
#[path = "runtime/fixture.rs"]
mod fixture;
#[path = "runtime/lifecycle.rs"]
mod lifecycle;
#[path = "runtime/limits.rs"]
mod limits;
#[path = "runtime/neighbours.rs"]
mod neighbours;
#[path = "runtime/streams.rs"]
mod streams;
#[path = "runtime/survival.rs"]
mod survival;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

type Test = (
    &'static str,
    fn() -> Pin<Box<dyn Future<Output = ()> + Send>>,
);

/// Longest any test may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Lists async functions as tests under their own names.
macro_rules! tests {
    ($($module:ident: $($name:ident),+;)+) => {
        &[$($((concat!(stringify!($module), "::", stringify!($name)), || Box::pin($module::$name()))),+),+]
    };
}

const TESTS: &[Test] = tests![
    lifecycle: exit_codes_are_reported, signals_are_reported, sigterm_may_be_ignored,
        a_program_that_is_missing, failed_steps_leave_nothing, names_are_used_once,
        namespaces_are_shared_in_the_pod, one_pid_namespace_for_the_pod, host_namespaces,
        removal_leaves_nothing, sysctls_are_the_pods_own;
    limits: too_much_memory_is_oom_killed, a_fork_bomb_stays_in_its_limit, pod_limits_hold_too,
        limits_change_while_it_runs_and_are_read_back, usage_is_reported, devices_are_refused;
    confinement: capabilities_and_seccomp_apply, paths_are_masked, nothing_covers_proc,
        volumes_of_the_image_are_writable_on_a_read_only_root, no_descriptor_leaks,
        the_shims_executable_is_safe, links_do_not_lead_out, sub_paths_stay_in_their_volume,
        mounts_are_read_only_where_asked, users_and_groups, the_user_is_resolved_once,
        a_password_file_that_is_a_pipe, working_directories,
        a_read_only_root, privileged_containers, no_new_privileges;
    neighbours: nobody_of_the_host_is_seen_in_a_containers_processes,
        nobody_of_the_host_is_seen_in_the_pods_processes, the_first_process_of_the_pod_has_nothing,
        a_container_lives_among_anothers_processes, the_hosts_keys_stay_there, failures_behind_the_gate_are_told,
        whoever_asks_to_be_traced_is_let_go, real_time_signals_end_containers_and_are_sent,
        a_tracer_that_does_not_let_go_holds_nobody;
    streams: logs_are_in_the_cri_format, logs_rotate, exec_in_a_container, exec_times_out,
        exec_with_a_terminal, a_terminal_for_the_container, exec_streams_flow,
        attached_streams_are_shared, a_slow_follower_loses_nothing, attached_terminals;
    survival: agents_come_and_go, exits_without_an_agent_are_known, a_killed_shim_is_swept,
        the_agents_death_is_survived;
];

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    match args.peek().and_then(|arg| arg.to_str()) {
        Some("shim") => {
            let code = davit_node::shim::main(args);
            return ExitCode::from(u8::try_from(code).unwrap_or(1));
        }
        Some("agent") => return survival::agent_process(args.skip(1).collect()),
        Some("attack") => {
            let args: Vec<String> = args
                .skip(1)
                .filter_map(|arg| arg.into_string().ok())
                .collect();
            return attack::main(&args);
        }
        _ => {}
    }
    let args: Vec<String> = args.filter_map(|arg| arg.into_string().ok()).collect();
    if args.iter().any(|arg| arg == "--list") {
        for (name, _) in TESTS {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let root = fixture::is_root();
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    for (name, test) in TESTS {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        if !root {
            println!("test {name} ... ignored, needs root");
            ignored += 1;
            continue;
        }
        let begun = Instant::now();
        let result = runtime.block_on(async {
            match tokio::time::timeout(LIMIT, tokio::spawn(test())).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(panic)) => Err(panic.to_string()),
                Err(_) => Err(format!("still running after {LIMIT:?}")),
            }
        });
        match result {
            Ok(()) => {
                passed += 1;
                println!("test {name} ... ok ({} ms)", begun.elapsed().as_millis());
            }
            Err(error) => {
                failed += 1;
                println!("test {name} ... FAILED: {error}");
            }
        }
    }
    if let Err(left) = fixture::leftovers() {
        println!("left behind: {left}");
        failed += 1;
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 filtered out"
    );
    ExitCode::from(u8::from(failed > 0))
}
