//! Who may open connections to containers: webhooks that are asked, and tokens that browsers can send.
#![allow(clippy::disallowed_methods, reason = "the tests run real programs")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]
mod harness;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};

use harness::clients::{command, kubectls, run, text};
use harness::{Cluster, image, on_a_machine, wait_for};

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: box}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: "test.local/busybox:1", command: [sleep, "3600"]}
"#;

fn cluster() -> Cluster {
    let cluster = Cluster::start_with(&["--allow-callouts", "127.0.0.0/8"]);
    let archive = cluster.dir.path().join("busybox.tar");
    image::busybox(&archive, "test.local/busybox:1");
    cluster.davit_ok(&["images", "import", archive.to_str().unwrap()]);
    cluster.apply(POD);
    cluster.wait("pod/box", "condition=Ready");
    cluster
}

/// A webhook that lets nobody have a shell, nor a port.
struct Guard {
    port: u16,
    bundle: String,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Guard {
    fn start() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let tls = Arc::new(tls);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let guard = Self {
            port: listener.local_addr().unwrap().port(),
            bundle: BASE64.encode(certificate.pem()),
            asked: Arc::default(),
        };
        let asked = Arc::clone(&guard.asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = rustls::ServerConnection::new(Arc::clone(&tls)).unwrap();
                let stream = rustls::StreamOwned::new(connection, stream);
                // A client that hangs up gets no answer.
                let _ = answer(stream, &asked);
            }
        });
        guard
    }

    fn configuration(&self) -> String {
        let rule = json!({
            "operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["*"],
            "resources": ["pods/exec", "pods/portforward"],
        });
        let hook = json!({
            "name": "guard.example.com", "rules": [rule], "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "failurePolicy": "Fail",
            "clientConfig": {"url": format!("https://127.0.0.1:{}/", self.port), "caBundle": self.bundle},
        });
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "guard"}, "webhooks": [hook],
        })
        .to_string()
    }

    fn last(&self) -> Value {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

fn answer(stream: impl Read + Write, asked: &Mutex<Vec<Value>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let review: Value = serde_json::from_slice(&body)?;
    let request = &review["request"];
    let denied = request["object"]["command"][0] == "sh" || request["subResource"] == "portforward";
    let response =
        json!({"uid": request["uid"], "allowed": !denied, "status": {"message": "not in here"}});
    let text = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    let text = text.to_string();
    asked.lock().unwrap().push(request.clone());
    write!(
        stream.get_mut(),
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )?;
    stream.get_mut().flush()
}

#[test]
fn webhooks_are_asked_who_may_connect() {
    on_a_machine(|| {
        let cluster = cluster();
        let guard = Guard::start();
        cluster.apply(&guard.configuration());
        let denied = "admission webhook \"guard.example.com\" denied the request: not in here";
        for kubectl in kubectls() {
            let shown = kubectl.display();
            let kubectl = |args: &[&str]| run(command(&cluster, &kubectl, args), b"");
            let out = kubectl(&["exec", "box", "--", "echo", "hello"]);
            assert_eq!(text(&out.stdout), "hello\n", "{shown}: {out:?}");
            let request = guard.last();
            for (path, expected) in [
                ("/operation", json!("CONNECT")),
                (
                    "/kind",
                    json!({"group": "", "version": "v1", "kind": "PodExecOptions"}),
                ),
                (
                    "/resource",
                    json!({"group": "", "version": "v1", "resource": "pods"}),
                ),
                ("/subResource", json!("exec")),
                ("/name", json!("box")),
                ("/namespace", json!("default")),
                ("/oldObject", Value::Null),
                ("/options", Value::Null),
                ("/userInfo/groups/0", json!("system:masters")),
                (
                    "/object",
                    json!({
                        "kind": "PodExecOptions", "apiVersion": "v1", "container": "main",
                        "stdout": true, "stderr": true, "command": ["echo", "hello"],
                    }),
                ),
            ] {
                assert_eq!(request.pointer(path), Some(&expected), "{shown}: {path}");
            }
            let out = kubectl(&["exec", "box", "--", "sh", "-c", "echo never"]);
            assert!(
                !out.status.success() && text(&out.stderr).contains(denied),
                "{shown}: {out:?}"
            );
            let out = kubectl(&["port-forward", "box", ":80"]);
            assert!(
                !out.status.success() && text(&out.stderr).contains(denied),
                "{shown}: {out:?}"
            );
            let expected = json!({"kind": "PodPortForwardOptions", "apiVersion": "v1"});
            assert_eq!(guard.last()["object"], expected, "{shown}");
        }
        cluster.down();
    });
}

/// exec as a page in a browser does it, with a token that is right and one that is wrong.
const PYTHON: &str = r#"
import base64, ssl, sys
import websocket

server, token = sys.argv[1:]
url = server.replace("https", "wss") + "/api/v1/namespaces/default/pods/box/exec?command=echo&command=hello&stdout=true"

def connect(token):
    token = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    protocols = ["base64url.bearer.authorization.k8s.io." + token, "v4.channel.k8s.io"]
    return websocket.create_connection(url, timeout=30, subprotocols=protocols, sslopt={"cert_reqs": ssl.CERT_NONE})

shell = connect(token)
assert shell.getsubprotocol() == "v4.channel.k8s.io", shell.getsubprotocol()
said = b""
while not said.endswith(b"hello\n"):
    message = shell.recv()
    assert message, said
    said += message[1:]
try:
    connect(token[:-2])
except websocket.WebSocketBadStatusException as refused:
    assert refused.status_code == 401, refused
else:
    raise AssertionError("a wrong token was let in")
"#;

#[test]
fn a_browser_sends_its_token_as_a_protocol() {
    on_a_machine(|| {
        let cluster = cluster();
        cluster.kubectl(&[
            "create",
            "clusterrolebinding",
            "page",
            "--clusterrole=admin",
            "--serviceaccount=default:default",
        ]);
        let token = cluster.kubectl(&["create", "token", "default"]);
        let server = format!("https://127.0.0.1:{}", cluster.port);
        let python = kubectls()[1].with_file_name("python/bin/python");
        let args = ["-c", PYTHON, &server, token.trim()];
        let out = run(command(&cluster, &python, &args), b"");
        assert!(out.status.success(), "{}", text(&out.stderr));
        cluster.down();
    });
}

/// A pod cannot keep others from the API by holding connections to its Service.
#[test]
fn idle_connections_of_a_pod_do_not_keep_others_from_the_api() {
    on_a_machine(|| {
        let cluster = cluster();
        let hold = "for i in $(seq 900); do (sleep 600 | nc 10.96.0.1 443 >/dev/null 2>&1 &); done; sleep 5; echo held";
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: holder}}\nspec:\n  restartPolicy: Never\n  \
             terminationGracePeriodSeconds: 0\n  containers:\n  - name: main\n    image: test.local/busybox:1\n    \
             command: [sh, -c, '{hold}; sleep 600']\n"
        );
        cluster.apply(&pod);
        wait_for("the pod holds its connections", || {
            let log = cluster.try_kubectl(&["logs", "holder"])?;
            log.contains("held").then_some(())
        });
        // The API serves this machine, and another pod through the Service.
        cluster.kubectl(&["get", "nodes"]);
        let ask = "wget -q -O - --no-check-certificate https://10.96.0.1/version || true; nc -w 5 10.96.0.1 443 </dev/null && echo connected";
        let answer = cluster.kubectl(&["exec", "box", "--", "sh", "-c", ask]);
        assert!(answer.contains("connected"), "{answer}");
        let open = std::fs::read_dir(format!("/proc/{}/fd", cluster.pid()))
            .unwrap()
            .count();
        assert!(open < 1024, "{open} descriptors");
        let log = cluster.log();
        let complaints = log
            .lines()
            .filter(|line| line.contains("too many connections"))
            .count();
        assert!((1..=3).contains(&complaints), "{complaints}\n{log}");
        // What davit raised for itself is not what containers get.
        let limit = cluster.kubectl(&["exec", "box", "--", "sh", "-c", "ulimit -Sn; ulimit -Hn"]);
        let own = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
        let (soft, hard) = own.unwrap();
        assert_eq!(limit, format!("{soft}\n{hard}\n"));
        cluster.kubectl(&["delete", "pod", "holder", "--force", "--grace-period=0"]);
        cluster.down();
    });
}
