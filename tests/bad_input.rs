//! Bad input: each mistake is one clear line, nothing is lost, and what runs goes on.
#![allow(clippy::disallowed_methods, reason = "the tests run real programs")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "tests fail by panicking"
)]
mod harness;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use harness::{Cluster, DAVIT, on_a_machine, run, wait_for};

/// The one line that a command failed with; it has these words.
#[track_caller]
fn refused(output: &Output, words: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it succeeded");
    assert_eq!(error.trim_end().lines().count(), 1, "{error}");
    assert!(error.starts_with("davit: "), "{error}");
    for word in words {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
}

/// `davit up` on a folder of its own, to its end.
fn up(cluster: &Cluster, folder: &str, listen: &str) -> Output {
    let data = cluster.dir.path().join(folder);
    let mut command = Command::new(DAVIT);
    command
        .args(["up", "--listen", listen, "--data-dir"])
        .arg(data);
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_start_that_cannot_succeed_says_why() {
    on_a_machine(|| {
        let mut cluster = Cluster::start();
        refused(
            &up(&cluster, "data", "127.0.0.1:0"),
            &["data directory", "--data-dir"],
        );
        let taken = format!("127.0.0.1:{}", cluster.port);
        refused(
            &up(&cluster, "other", &taken),
            &["Address already in use", "--listen"],
        );
        refused(
            &up(&cluster, "other", "nowhere"),
            &["'nowhere'", "--listen"],
        );
        refused(&not_root(), &["needs root", "sudo"]);
        cluster.stop();
        run(Command::new("mount").args(["-t", "tmpfs", "none", "/sys/fs/cgroup"]));
        refused(
            &up(&cluster, "other", "127.0.0.1:0"),
            &["no cgroups are mounted"],
        );
        run(Command::new("umount").arg("/sys/fs/cgroup"));
        // Nothing of that has hurt what was there.
        cluster.up();
        cluster.down();
    });
}

/// `davit up` by a user who is nobody, and who need not be allowed to reach the file.
fn not_root() -> Output {
    let program = File::open(DAVIT).unwrap();
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    nix::fcntl::fcntl(&program, nix::fcntl::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    command.args(["up", "--data-dir", "/nonexistent/davit"]);
    command.uid(65534).gid(65534);
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn manifests_that_are_wrong_are_refused_and_the_rest_stays() {
    on_a_machine(|| {
        let cluster = Cluster::start();
        let config_map = |rest: &str| format!("apiVersion: v1\nkind: ConfigMap\n{rest}\n");
        cluster.apply(&config_map("metadata: {name: kept}\ndata: {a: b}"));
        let nested = "[".repeat(20_000);
        for (manifest, words) in [
            (
                config_map("metadata: {name: a}\ndat: {x: y}"),
                [".dat", "not declared in schema"],
            ),
            (
                config_map("metadata: {name: a}\ndata: {x: 1}"),
                ["data.x", "string"],
            ),
            (
                config_map("metadata: {name: A_b}"),
                ["metadata.name", "RFC 1123"],
            ),
            (
                config_map("metadata: {name: a, namespace: nope}"),
                ["namespaces", "not found"],
            ),
            (
                "apiVersion: v1\nkind: Nope\nmetadata: {name: a}\n".into(),
                ["no kind Nope", "v1"],
            ),
            ("a: [b".into(), ["line 1", "bracket"]),
            (nested, ["reading", "recursion limit"]),
            ("a: &a [*a, *a]".into(), ["reading", "*a"]),
        ] {
            let file = cluster.dir.path().join("bad.yaml");
            std::fs::write(&file, manifest).unwrap();
            refused(
                &cluster.davit(&["apply", "-f", file.to_str().unwrap()]),
                &words,
            );
            let said = cluster.kubectl_fails(&["apply", "-f", file.to_str().unwrap()]);
            assert!(!said.contains("panic"), "{said}");
        }
        refused(
            &cluster.davit(&["apply", "-f", "/no/such.yaml"]),
            &["No such file"],
        );
        refused(&cluster.davit(&["get", "nopes"]), &["nopes"]);
        refused(
            &cluster.davit(&["logs", "pod/absent"]),
            &["\"absent\" not found"],
        );
        assert_eq!(cluster.field("configmap/kept", ".data.a"), "b");
        cluster.down();
    });
}

#[test]
fn an_image_that_nobody_has_is_a_reason_on_its_pod() {
    on_a_machine(|| {
        let cluster = Cluster::start();
        for (name, image, reason) in [
            ("absent", "127.0.0.1:1/no/such:1", "ImagePullBackOff"),
            ("wrong", "UPPER/Case", "InvalidImageName"),
            ("never", "test.local/never:1", "ErrImageNeverPull"),
        ] {
            let policy = if name == "never" { "Never" } else { "Always" };
            cluster.apply(&format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  - \
                 {{name: main, image: '{image}', imagePullPolicy: {policy}}}\n"
            ));
            let pod = format!("pod/{name}");
            wait_for(reason, || {
                let path = ".status.containerStatuses[0].state.waiting.reason";
                (cluster.field(&pod, path) == reason).then_some(())
            });
            cluster.kubectl(&["delete", &pod, "--grace-period=0", "--force"]);
        }
        cluster.down();
    });
}
