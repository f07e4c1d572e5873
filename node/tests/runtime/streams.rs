//! Logs, exec and terminals.
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use davit_node::runtime::{ContainerStatus, Error, ExecConfig, User, resize_terminal};

use crate::fixture::{Pod, exit_of, texts, until_logged};

fn command(args: &[&str]) -> ExecConfig {
    ExecConfig {
        args: args.iter().map(|a| (*a).to_owned()).collect(),
        ..ExecConfig::default()
    }
}

pub(crate) async fn logs_are_in_the_cri_format() {
    let pod = Pod::new().await;
    let config =
        pod.shell("echo out; echo err >&2; printf unended; head -c 40000 /dev/zero | tr '\\0' x");
    let log = config.log_path.clone();
    pod.run_config(config).await;
    let text = std::fs::read_to_string(&log).unwrap();
    let mut long = String::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.splitn(4, ' ').collect();
        fields[0].parse::<jiff::Timestamp>().unwrap();
        assert!(["stdout", "stderr"].contains(&fields[1]), "{line}");
        assert!(["F", "P"].contains(&fields[2]), "{line}");
        assert!(fields[3].len() <= 16 << 10);
        if fields[1] == "stdout" && fields[3] != "out" {
            long.push_str(fields[3]);
        }
    }
    assert!(
        text.contains("stderr F err\n") && text.contains("stdout F out\n"),
        "{text}"
    );
    assert_eq!(long, format!("unended{}", "x".repeat(40_000)));
    pod.end().await;
}

pub(crate) async fn logs_rotate() {
    let pod = Pod::new().await;
    let mut config = pod.shell("i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done");
    config.log_max_bytes = 4096;
    config.log_max_files = 3;
    let log = config.log_path.clone();
    pod.run_config(config).await;
    let mut files: Vec<_> = std::fs::read_dir(log.parent().unwrap())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in &files {
        assert!(file.metadata().unwrap().len() <= 4096);
    }
    assert!(texts(&log).ends_with("line 499\n"));
    pod.end().await;
}

pub(crate) async fn exec_in_a_container() {
    let pod = Pod::new().await;
    let mut config = pod.command(&["sleep", "100"]);
    config.env.push(("FROM".to_owned(), "container".to_owned()));
    config.resources.pids_max = Some(20);
    let id = config.id.clone();
    pod.sandbox.start_container(config).await.unwrap();
    let script = "echo $FROM $MORE; ps | grep -c sleep; echo bad >&2; pwd; \
                  grep -E 'CapEff|Seccomp:' /proc/self/status; cat /proc/self/cgroup | grep pids; exit 9";
    let mut exec = command(&["sh", "-c", script]);
    exec.env = vec![("MORE".to_owned(), "exec".to_owned())];
    exec.cwd = Some("/etc".to_owned());
    let outcome = pod.sandbox.exec(&id, exec, 1 << 20).await.unwrap();
    let text = String::from_utf8(outcome.stdout).unwrap();
    assert_eq!((outcome.exit_code, outcome.timed_out), (9, false));
    assert!(text.starts_with("container exec\n"), "{text}");
    assert!(
        text.contains("/etc\nCapEff:\t00000000a80425fb\nSeccomp:\t2"),
        "{text}"
    );
    // In the container's cgroup namespace its own cgroup is the root.
    assert!(text.trim_end().ends_with("pids:/"), "{text}");
    assert_eq!(outcome.stderr, b"bad\n");

    let mut exec = command(&["id", "-u"]);
    exec.user = Some(User {
        name: Some("web".to_owned()),
        ..User::default()
    });
    assert_eq!(
        pod.sandbox.exec(&id, exec, 100).await.unwrap().stdout,
        b"33\n"
    );
    let outcome = pod
        .sandbox
        .exec(&id, command(&["yes"]).into_limited(300), 1000)
        .await
        .unwrap();
    assert_eq!((outcome.stdout.len(), outcome.timed_out), (1000, true));

    let error = pod
        .sandbox
        .exec(&id, command(&["nothing"]), 10)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Step { .. }), "{error:?}");
    let error = pod
        .sandbox
        .exec("unknown", command(&["true"]), 10)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    pod.sandbox
        .stop_container(&id, 9, Duration::ZERO)
        .await
        .unwrap();
    let error = pod
        .sandbox
        .exec(&id, command(&["true"]), 10)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::WrongState { .. }), "{error:?}");
    pod.end().await;
}

trait IntoLimited {
    fn into_limited(self, millis: u64) -> Self;
}

impl IntoLimited for ExecConfig {
    fn into_limited(mut self, millis: u64) -> Self {
        self.timeout = Some(Duration::from_millis(millis));
        self
    }
}

pub(crate) async fn exec_times_out() {
    let pod = Pod::new().await;
    let config = pod.command(&["sleep", "100"]);
    let id = config.id.clone();
    pod.sandbox.start_container(config).await.unwrap();
    let begun = Instant::now();
    let exec = command(&["sh", "-c", "echo begun; sleep 50; echo never"]).into_limited(200);
    let outcome = pod.sandbox.exec(&id, exec, 100).await.unwrap();
    assert!(outcome.timed_out);
    assert_eq!(
        (outcome.exit_code, outcome.stdout.as_slice()),
        (137, &b"begun\n"[..])
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
    // The first process ends while an exec runs: both end.
    let streams = pod
        .sandbox
        .exec_stream(&id, command(&["sleep", "100"]))
        .await
        .unwrap();
    pod.sandbox
        .stop_container(&id, 9, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(streams.exit.await.unwrap(), 137);
    pod.end().await;
}

pub(crate) async fn exec_streams_flow() {
    let pod = Pod::new().await;
    let config = pod.command(&["sleep", "100"]);
    let id = config.id.clone();
    pod.sandbox.start_container(config).await.unwrap();
    let exec = ExecConfig {
        stdin: true,
        ..command(&["sh", "-c", "cat; echo end; exit 4"])
    };
    let streams = pod.sandbox.exec_stream(&id, exec).await.unwrap();
    let mut stdin = std::fs::File::from(streams.stdin.unwrap());
    stdin.write_all(b"through the pipe\n").unwrap();
    drop(stdin);
    assert_eq!(streams.exit.await.unwrap(), 4);
    let mut text = String::new();
    std::fs::File::from(streams.stdout)
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "through the pipe\nend\n");
    pod.end().await;
}

pub(crate) async fn exec_with_a_terminal() {
    let pod = Pod::new().await;
    let config = pod.command(&["sleep", "100"]);
    let id = config.id.clone();
    pod.sandbox.start_container(config).await.unwrap();
    let exec = ExecConfig {
        tty: true,
        ..command(&["sh", "-c", "tty; read x; stty size; echo got $x; exit 6"])
    };
    let streams = pod.sandbox.exec_stream(&id, exec).await.unwrap();
    resize_terminal(&streams.stdout, 100, 40).unwrap();
    let mut terminal = std::fs::File::from(streams.stdout);
    terminal.write_all(b"word\n").unwrap();
    assert_eq!(streams.exit.await.unwrap(), 6);
    let text = read_terminal(&mut terminal);
    assert!(
        text.contains("/dev/pts/") && text.contains("40 100") && text.contains("got word"),
        "{text}"
    );
    pod.end().await;
}

/// Reads a stream that does not block to its end.
async fn read_all(fd: std::os::fd::OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(fd).unwrap();
    tokio::io::AsyncReadExt::read_to_end(&mut pipe, &mut bytes)
        .await
        .unwrap();
    bytes
}

pub(crate) async fn attached_streams_are_shared() {
    let pod = Pod::new().await;
    let mut config = pod.shell("while read x; do echo got $x; echo no >&2; done; echo end");
    config.stdin = true;
    let (id, log) = (config.id.clone(), config.log_path.clone());
    let mut events = pod.sandbox.events();
    pod.sandbox.start_container(config).await.unwrap();
    let first = pod.sandbox.attach(&id, true, true).await.unwrap();
    let second = pod.sandbox.attach(&id, true, false).await.unwrap();
    // One that nobody reads any more is no hindrance.
    drop(pod.sandbox.attach(&id, true, true).await.unwrap());
    assert!(!first.terminal && second.stderr.is_none());
    let mut stdin = std::fs::File::from(first.stdin.unwrap());
    stdin.write_all(b"one\n").unwrap();
    drop((stdin, second.stdin));
    pod.sandbox.close_stdin(&id).await.unwrap();
    let (one, two, errors) = tokio::join!(
        read_all(first.stdout.unwrap()),
        read_all(second.stdout.unwrap()),
        read_all(first.stderr.unwrap())
    );
    assert_eq!(one, b"got one\nend\n");
    assert_eq!((one, errors), (two, b"no\n".to_vec()));
    until_logged(&log, "end").await;
    exit_of(&mut events, &id).await;
    let refused = pod.sandbox.attach(&id, true, true).await.unwrap_err();
    assert!(matches!(refused, Error::WrongState { .. }), "{refused:?}");
    pod.end().await;
}

pub(crate) async fn a_slow_follower_loses_nothing() {
    let pod = Pod::new().await;
    let mut config = pod.shell("read x; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end");
    config.stdin = true;
    let id = config.id.clone();
    pod.sandbox.start_container(config).await.unwrap();
    let streams = pod.sandbox.attach(&id, true, false).await.unwrap();
    let mut stdin = std::fs::File::from(streams.stdin.unwrap());
    stdin.write_all(b"go\n").unwrap();
    // Longer than it takes to fill every buffer on the way.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let state = pod.sandbox.containers().await.unwrap();
    assert!(
        matches!(state[0].status, ContainerStatus::Running { .. }),
        "it is held up: {state:?}"
    );
    let bytes = read_all(streams.stdout.unwrap()).await;
    assert_eq!(bytes.len(), 3_000_005);
    assert!(bytes.ends_with(b"x\nend\n"));
    pod.end().await;
}

pub(crate) async fn attached_terminals() {
    let pod = Pod::new().await;
    let mut config = pod.shell("read x; stty size; echo got $x");
    (config.stdin, config.tty) = (true, true);
    let id = config.id.clone();
    pod.sandbox.start_container(config).await.unwrap();
    let streams = pod.sandbox.attach(&id, true, false).await.unwrap();
    assert!(streams.terminal);
    let terminal = streams.stdin.unwrap();
    resize_terminal(&terminal, 100, 40).unwrap();
    let mut terminal = std::fs::File::from(terminal);
    terminal.write_all(b"word\n").unwrap();
    let shown = String::from_utf8(read_all(streams.stdout.unwrap()).await).unwrap();
    assert!(
        shown.contains("40 100") && shown.contains("got word"),
        "{shown}"
    );
    pod.end().await;
}

/// A terminal ends with an error once nobody has it open.
fn read_terminal(terminal: &mut std::fs::File) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = terminal.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) async fn a_terminal_for_the_container() {
    let pod = Pod::new().await;
    let mut config = pod.shell(
        "tty; test -t 1 && echo terminal; readlink /proc/self/fd/2; echo x > /dev/console; exit 3",
    );
    config.tty = true;
    let (id, log) = (config.id.clone(), config.log_path.clone());
    let mut events = pod.sandbox.events();
    pod.sandbox.start_container(config).await.unwrap();
    assert_eq!(exit_of(&mut events, &id).await.exit_code, 3);
    until_logged(&log, "terminal").await;
    let text = texts(&log);
    assert!(
        text.contains("/dev/pts/0") && text.ends_with("x\n"),
        "{text}"
    );
    pod.end().await;
}
