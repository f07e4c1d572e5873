//! exec, attach, cp, port-forward and the proxies with clients of every protocol: SPDY, WebSockets, and SPDY inside of
//! WebSockets.
#![allow(clippy::disallowed_methods, reason = "the tests run real programs")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "tests fail by panicking"
)]
mod harness;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use harness::clients::{AtTerminal, Running, command, forward, kubectls, noise, run, text};
use harness::{Cluster, http_get, image, on_a_machine, wait_for};

/// A container that waits, one that serves, and one that reads what it is given.
const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: box, labels: {app: box}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: test.local/busybox:1
    command: [sh, -c, "mkdir /www && echo hello > /www/index.html && echo '<a href=\"/other?a=b\">' > /www/page.html && httpd -h /www -p 8080 && sleep 3600"]
    env: [{name: COLOUR, value: green}]
    workingDir: /tmp
  - name: web
    image: test.local/busybox:1
    command: [sleep, "3600"]
    securityContext: {runAsUser: 1000, runAsGroup: 1000}
"#;

fn cluster() -> Cluster {
    let cluster = Cluster::start();
    let archive = cluster.dir.path().join("busybox.tar");
    image::busybox(&archive, "test.local/busybox:1");
    cluster.davit_ok(&["images", "import", archive.to_str().unwrap()]);
    cluster.apply(PODS);
    cluster.wait("pod/box", "condition=Ready");
    cluster
}

#[test]
fn commands_run_as_the_container_does_and_tell_how_they_ended() {
    on_a_machine(|| {
        let cluster = cluster();
        for kubectl in kubectls() {
            let exec = |args: &[&str], input: &[u8]| {
                let args = [&["exec"], args].concat();
                run(command(&cluster, &kubectl, &args), input)
            };
            let shown = kubectl.display();
            let out = exec(
                &[
                    "box",
                    "-c",
                    "main",
                    "--",
                    "sh",
                    "-c",
                    "echo $COLOUR; pwd; id -u; echo no >&2",
                ],
                b"",
            );
            assert!(out.status.success(), "{shown}: {out:?}");
            assert_eq!(
                (text(&out.stdout).as_str(), text(&out.stderr).as_str()),
                ("green\n/tmp\n0\n", "no\n"),
                "{shown}"
            );
            let out = exec(&["box", "-c", "web", "--", "id", "-u"], b"");
            assert_eq!(text(&out.stdout), "1000\n", "{shown}");

            let out = exec(&["box", "-c", "main", "--", "sh", "-c", "exit 7"], b"");
            assert_eq!(out.status.code(), Some(7), "{shown}: {out:?}");
            let out = exec(&["box", "-c", "main", "--", "no-such-program"], b"");
            let error = text(&out.stderr);
            assert!(
                !out.status.success() && error.contains("executable file not found in $PATH"),
                "{shown}: {error}"
            );
            let out = exec(&["box", "-c", "nothing", "--", "true"], b"");
            assert!(
                text(&out.stderr).contains("container nothing is not valid for pod box"),
                "{shown}: {out:?}"
            );
            let out = exec(&["absent", "--", "true"], b"");
            assert!(
                text(&out.stderr).contains("pods \"absent\" not found"),
                "{shown}: {out:?}"
            );

            // What is piped in comes out as it is, and its end is seen.
            let bytes = noise(5 << 20);
            let out = exec(&["-i", "box", "-c", "main", "--", "cat"], &bytes);
            assert!(out.status.success(), "{shown}: {}", text(&out.stderr));
            assert!(out.stdout == bytes, "{shown}: {} bytes", out.stdout.len());
            // A command that does not read to the end does not hang.
            let out = exec(
                &["-i", "box", "-c", "main", "--", "head", "-c", "3"],
                &bytes,
            );
            assert!(out.stdout == bytes[..3], "{shown}: {out:?}");
            // What it leaves running holds nobody up.
            let out = exec(
                &[
                    "box",
                    "-c",
                    "main",
                    "--",
                    "sh",
                    "-c",
                    "sleep 300 & echo left",
                ],
                b"",
            );
            assert_eq!(text(&out.stdout), "left\n", "{shown}");
            // Only its own three descriptors are open in it, besides the one it looks with.
            let out = exec(
                &["box", "-c", "main", "--", "sh", "-c", "ls /proc/self/fd"],
                b"",
            );
            assert_eq!(text(&out.stdout), "0\n1\n2\n3\n", "{shown}");
        }
        cluster.down();
    });
}

#[test]
fn a_client_that_is_killed_ends_its_commands_input() {
    on_a_machine(|| {
        let cluster = cluster();
        let main = |script: &str| {
            let args = ["exec", "box", "-c", "main", "--", "sh", "-c", script];
            cluster.try_kubectl(&args)
        };
        for kubectl in kubectls() {
            let shown = kubectl.display();
            let script = "rm -f /tmp/gone; cat; touch /tmp/gone";
            let args = ["exec", "-i", "box", "-c", "main", "--", "sh", "-c", script];
            let mut client = command(&cluster, &kubectl, &args);
            let mut client = Running(client.stdin(Stdio::piped()).spawn().unwrap());
            client.0.stdin.as_mut().unwrap().write_all(b"x\n").unwrap();
            let mut line = String::new();
            let mut lines = BufReader::new(client.0.stdout.take().unwrap());
            lines.read_line(&mut line).unwrap();
            assert_eq!(line, "x\n", "{shown}");
            assert_eq!(main("test -e /tmp/gone"), None, "{shown}");
            client.0.kill().unwrap();
            wait_for("the command has read the end of its input", || {
                main("test -e /tmp/gone")
            });
        }
        cluster.down();
    });
}

#[test]
fn files_are_copied_both_ways() {
    on_a_machine(|| {
        let cluster = cluster();
        let bytes = noise(3 << 20);
        let source = cluster.dir.path().join("source");
        std::fs::write(&source, &bytes).unwrap();
        for kubectl in kubectls() {
            let shown = kubectl.display();
            let back = cluster.dir.path().join("back");
            let there = format!("{}", source.display());
            let out = run(
                command(
                    &cluster,
                    &kubectl,
                    &["cp", &there, "default/box:/tmp/copy", "-c", "main"],
                ),
                b"",
            );
            assert!(out.status.success(), "{shown}: {out:?}");
            let here = format!("{}", back.display());
            let out = run(
                command(
                    &cluster,
                    &kubectl,
                    &["cp", "default/box:/tmp/copy", &here, "-c", "main"],
                ),
                b"",
            );
            assert!(out.status.success(), "{shown}: {out:?}");
            assert!(std::fs::read(&back).unwrap() == bytes, "{shown}");
            std::fs::remove_file(&back).unwrap();
        }
        cluster.down();
    });
}

#[test]
fn ports_are_forwarded_for_many_at_once() {
    on_a_machine(|| {
        let cluster = cluster();
        cluster.kubectl(&["expose", "pod", "box", "--port=80", "--target-port=8080"]);
        // Sends back what it gets; each connection has a process of its own.
        cluster.kubectl(&[
            "exec",
            "box",
            "-c",
            "web",
            "--",
            "sh",
            "-c",
            "nc -ll -p 9000 -e cat >/dev/null 2>&1 &",
        ]);
        for kubectl in kubectls() {
            let shown = kubectl.display();
            let (_client, address) = forward(&cluster, &kubectl, "service/box", 80);
            let all: Vec<_> = (0..8)
                .map(|_| {
                    let address = address.clone();
                    std::thread::spawn(move || http_get(&address, "/"))
                })
                .collect();
            for one in all {
                assert_eq!(one.join().unwrap().as_deref(), Some("hello\n"), "{shown}");
            }
            let (_client, address) = forward(&cluster, &kubectl, "box", 9000);
            let both: Vec<_> = (0..3)
                .map(|_| {
                    let address = address.clone();
                    std::thread::spawn(move || echoed(&address, &noise(2 << 20)))
                })
                .collect();
            for one in both {
                one.join().unwrap();
            }
            // Nobody listens there: the connection ends, and the others are none the wiser.
            let (_client, closed) = forward(&cluster, &kubectl, "box", 9);
            let mut stream = TcpStream::connect(&closed).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            let mut nothing = Vec::new();
            let _ = stream.read_to_end(&mut nothing);
            assert!(nothing.is_empty(), "{shown}");
        }
        cluster.down();
    });
}

/// Sends bytes and reads them back while it does.
fn echoed(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let (mut writer, sent) = (stream.try_clone().unwrap(), bytes.to_vec());
    let writing = std::thread::spawn(move || writer.write_all(&sent).unwrap());
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    writing.join().unwrap();
    assert!(back == bytes);
}

#[test]
fn who_may_only_read_gets_no_shell() {
    on_a_machine(|| {
        let cluster = cluster();
        cluster.apply(
            r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules:
- {apiGroups: [""], resources: ["*"], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: eve}]
"#,
        );
        for kubectl in kubectls() {
            let shown = kubectl.display();
            for args in [
                &["exec", "box", "--as=eve", "--", "true"][..],
                &["port-forward", "box", ":8080", "--as=eve"],
            ] {
                let out = run(command(&cluster, &kubectl, args), b"");
                let error = text(&out.stderr);
                assert!(
                    !out.status.success() && error.contains("cannot create resource"),
                    "{shown}: {error}"
                );
            }
        }
        cluster.down();
    });
}

#[test]
fn a_terminal_has_its_clients_size() {
    on_a_machine(|| {
        let cluster = cluster();
        for kubectl in kubectls() {
            let args = ["exec", "-it", "box", "-c", "main", "--", "sh"];
            let mut client = AtTerminal::start(command(&cluster, &kubectl, &args));
            client.until("# ");
            client.type_in("busybox stty size; test -t 2 && echo is a$((1))terminal\n");
            client.until("33 101");
            client.until("is a1terminal");
            client.type_in("exit 5\n");
            assert_eq!(client.exit_code(), Some(5), "{}", kubectl.display());
        }
        cluster.down();
    });
}

#[test]
fn containers_are_attached_to() {
    on_a_machine(|| {
        let cluster = cluster();
        cluster.apply(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: ticker}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: "test.local/busybox:1", command: [sh, -c, "while true; do echo tick; sleep 1; done"]}
"#,
        );
        cluster.wait("pod/ticker", "condition=Ready");
        let image = "--image=test.local/busybox:1";
        for (number, kubectl) in kubectls().iter().enumerate() {
            let shown = kubectl.display();
            let mut child = command(&cluster, kubectl, &["attach", "ticker"])
                .spawn()
                .unwrap();
            let mut line = String::new();
            let mut lines = BufReader::new(child.stdout.take().unwrap());
            let _client = Running(child);
            lines.read_line(&mut line).unwrap();
            assert_eq!(line, "tick\n", "{shown}");

            // All of the input arrives, its end is seen, and all of the output comes back.
            let bytes = noise(1 << 20);
            let name = format!("once-{number}");
            let args = [
                "run",
                &name,
                "-i",
                "--restart=Never",
                image,
                "--",
                "sh",
                "-c",
                "cat; exit 3",
            ];
            let out = run(command(&cluster, kubectl, &args), &bytes);
            assert!(
                out.stdout.starts_with(&bytes),
                "{shown}: {} {}",
                out.stdout.len(),
                text(&out.stderr)
            );
            assert_eq!(out.status.code(), Some(3), "{shown}: {}", text(&out.stderr));

            let name = format!("shell-{number}");
            let args = [
                "run",
                &name,
                "-it",
                "--rm",
                "--restart=Never",
                image,
                "--",
                "sh",
            ];
            let mut client = AtTerminal::start(command(&cluster, kubectl, &args));
            client.until("prompt");
            client.type_in("echo $((6 * 7)); busybox stty size\n");
            client.until("42");
            client.until("33 101");
            client.type_in("exit\n");
            assert_eq!(client.exit_code(), Some(0), "{shown}");
            assert!(
                cluster.try_kubectl(&["get", "pod", &name]).is_none(),
                "{shown}"
            );
        }
        cluster.down();
    });
}

#[test]
fn pods_services_and_nodes_are_reached_through_the_server() {
    on_a_machine(|| {
        let cluster = cluster();
        cluster.kubectl(&["expose", "pod", "box", "--port=80", "--target-port=8080"]);
        let node = cluster.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
        let own = "/api/v1/namespaces/default";
        wait_for("the service has an endpoint", || {
            cluster.try_kubectl(&["get", "--raw", &format!("{own}/services/box:80/proxy/")])
        });
        for kubectl in kubectls() {
            let shown = kubectl.display();
            for path in [
                format!("{own}/pods/box:8080/proxy/"),
                format!("{own}/pods/http:box:8080/proxy/index.html?watch=true&limit=x"),
                format!("{own}/services/box:80/proxy/"),
                format!("{own}/services/box:80/proxy"),
                format!("{own}/services/http:box:80/proxy/index.html"),
            ] {
                let out = run(command(&cluster, &kubectl, &["get", "--raw", &path]), b"");
                assert_eq!(
                    text(&out.stdout),
                    "hello\n",
                    "{shown} {path}: {}",
                    text(&out.stderr)
                );
            }
            let path = format!("{own}/services/box:80/proxy/page.html");
            let out = run(command(&cluster, &kubectl, &["get", "--raw", &path]), b"");
            let link = format!("<a href=\"{own}/services/box:80/proxy/other?a=b\">\n");
            assert_eq!(text(&out.stdout), link, "{shown}");
            let path = format!("/api/v1/nodes/{node}/proxy/healthz");
            let out = run(command(&cluster, &kubectl, &["get", "--raw", &path]), b"");
            assert_eq!(text(&out.stdout), "ok", "{shown}");
            for (path, message) in [
                (
                    format!("{own}/services/box:81/proxy/"),
                    "no service port 81 found",
                ),
                (format!("{own}/pods/box:81/proxy/"), "connection refused"),
                (format!("{own}/pods/absent/proxy/"), "not found"),
                (
                    format!("{own}/pods/ftp:box:1/proxy/"),
                    "invalid pod request",
                ),
            ] {
                let out = run(command(&cluster, &kubectl, &["get", "--raw", &path]), b"");
                let error = text(&out.stderr);
                assert!(
                    !out.status.success() && error.to_lowercase().contains(message),
                    "{shown} {path}: {error}"
                );
            }
            let path = format!("{own}/services/box:80/proxy/");
            let out = run(
                command(&cluster, &kubectl, &["get", "--raw", &path, "--as=eve"]),
                b"",
            );
            assert!(
                text(&out.stderr).contains("cannot get resource \"services/proxy\""),
                "{shown}: {out:?}"
            );
            let out = run(command(&cluster, &kubectl, &["cluster-info"]), b"");
            assert!(out.status.success(), "{shown}: {out:?}");

            let mut child = command(&cluster, &kubectl, &["proxy", "--port=0"])
                .spawn()
                .unwrap();
            let mut line = String::new();
            let mut lines = BufReader::new(child.stdout.take().unwrap());
            let _client = Running(child);
            lines.read_line(&mut line).unwrap();
            let address = line.trim().rsplit(' ').next().unwrap_or_default();
            assert_eq!(
                http_get(address, &path).as_deref(),
                Some("hello\n"),
                "{shown}"
            );
            assert!(
                http_get(address, "/version")
                    .unwrap()
                    .contains("gitVersion"),
                "{shown}"
            );
        }
        cluster.down();
    });
}

/// exec and port-forward as the Python client does them, over WebSockets.
const PYTHON: &str = r#"
from kubernetes import client, config
from kubernetes.stream import portforward, stream

config.load_kube_config()
api = client.CoreV1Api()
want = dict(container="main", stdin=True, stdout=True, stderr=True, tty=False, _preload_content=False)
shell = stream(api.connect_get_namespaced_pod_exec, "box", "default", command=["sh", "-c", "read a; echo $a; echo no >&2; exit 4"], **want)
shell.write_stdin("hello\n")
shell.run_forever(timeout=30)
assert shell.read_stdout() == "hello\n" and shell.read_stderr() == "no\n", "streams"
assert shell.returncode == 4, shell.returncode

line = portforward(api.connect_get_namespaced_pod_portforward, "box", "default", ports="8080")
web = line.socket(8080)
web.setblocking(True)
web.settimeout(30)
web.sendall(b"GET / HTTP/1.0\r\n\r\n")
answer = b""
while not answer.endswith(b"hello\n"):
    part = web.recv(4096)
    assert part, answer
    answer += part
assert line.error(8080) is None, line.error(8080)
"#;

#[test]
fn the_python_client_streams() {
    on_a_machine(|| {
        let cluster = cluster();
        let kubectls = kubectls();
        let python = kubectls[1].with_file_name("python/bin/python");
        let out = run(command(&cluster, &python, &["-c", PYTHON]), b"");
        assert!(out.status.success(), "{}", text(&out.stderr));
        cluster.down();
    });
}
