//! Stock kubectl against a server over TLS: what people type.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test drives a real client and fails by panicking"
)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use davit_apiserver::pki::Purpose;
use davit_apiserver::{ApiServer, Config, StoreKind};
use tokio_util::sync::CancellationToken;

const MANIFEST: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: demo}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: demo}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: demo}
data: {color: red}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: demo}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: "nginx:1.25", ports: [{containerPort: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: alone, namespace: demo, labels: {app: alone}}
spec: {containers: [{name: c, image: busybox}]}
"#;

struct Kubectl {
    dir: tempfile::TempDir,
}

impl Kubectl {
    /// Runs a command line, which must succeed; what it prints.
    fn ok(&self, line: &str, input: &str) -> String {
        let (success, text) = self.run(line, input);
        assert!(success, "kubectl {line}: {text}");
        text
    }

    fn run(&self, line: &str, input: &str) -> (bool, String) {
        let mut child = Command::new("kubectl")
            .args(line.split_whitespace())
            .args(["--namespace", "demo", "--request-timeout", "30s"])
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.dir.path())
            .env("EDITOR", "sed -i s/nginx:1.25/nginx:1.26/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }
}

async fn serve(stop: CancellationToken) -> (Arc<ApiServer>, Kubectl) {
    let dir = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut config = Config::new(dir.path().to_owned(), address);
    config.store = StoreKind::Memory;
    let server = ApiServer::open(config).await.unwrap();
    let purpose = Purpose::Client {
        user: "admin".into(),
        group: "system:masters".into(),
    };
    let leaf = server.authority().leaf("admin", purpose).unwrap();
    let kubectl = Kubectl { dir };
    let url = format!("https://{address}");
    server
        .authority()
        .keep_kubeconfig(kubectl.kubeconfig(), url, leaf)
        .unwrap();
    tokio::spawn(server.clone().serve(listener, stop));
    (server, kubectl)
}

fn has_kubectl() -> bool {
    let found = Command::new("kubectl")
        .args(["version", "--client"])
        .output()
        .is_ok();
    if !found {
        println!("kubectl is not installed: nothing was tested");
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_type_works() {
    if !has_kubectl() {
        return;
    }
    let stop = CancellationToken::new();
    let (_server, kubectl) = serve(stop.clone()).await;
    tokio::task::spawn_blocking(move || {
        apply_and_look(&kubectl);
        change(&kubectl);
        make_by_command(&kubectl);
        delete(&kubectl);
    })
    .await
    .unwrap();
    stop.cancel();
}

fn apply_and_look(kubectl: &Kubectl) {
    let first = kubectl.ok("apply -f -", MANIFEST);
    assert_eq!(first.matches(" created").count(), 6, "{first}");
    let second = kubectl.ok("apply -f -", MANIFEST);
    assert_eq!(second.matches(" unchanged").count(), 6, "{second}");
    let changed = MANIFEST.replace("color: red", "color: blue");
    let server_side = kubectl.ok("apply --server-side --force-conflicts -f -", &changed);
    assert!(!server_side.contains("Warning"), "{server_side}");
    assert!(
        kubectl
            .ok("get cm settings -o jsonpath={.data.color}", "")
            .contains("blue")
    );
    kubectl.ok("diff -f -", &changed);
    let wide = kubectl.ok("get all -o wide", "");
    for column in [
        "READINESS GATES",
        "SELECTOR",
        "IMAGES",
        "deployment.apps/web",
        "NodePort",
    ] {
        assert!(wide.contains(column), "no {column} in {wide}");
    }
    assert!(kubectl.ok("describe deploy web", "").contains("3 desired"));
    assert!(
        kubectl
            .ok("explain pod.spec.containers", "")
            .contains("List of containers")
    );
    assert!(
        kubectl
            .ok("explain deploy.spec --recursive", "")
            .contains("replicas")
    );
    assert!(kubectl.ok("api-resources", "").contains("plugins"));
    let typo = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: x}\ndate: {}\n";
    let (_, strict) = kubectl.run("create -f -", typo);
    assert!(strict.contains("unknown field \"date\""), "{strict}");
}

fn change(kubectl: &Kubectl) {
    kubectl.ok("scale deploy web --replicas=5", "");
    assert_eq!(
        kubectl.ok("get deploy web -o jsonpath={.spec.replicas}", ""),
        "5"
    );
    kubectl.ok("label pod alone tier=x", "");
    kubectl.ok("annotate pod alone note=y", "");
    kubectl.ok("edit deploy web", "");
    assert!(
        kubectl
            .ok("get deploy web -o wide", "")
            .contains("nginx:1.26")
    );
    kubectl.ok("set image deploy/web web=nginx:1.27", "");
    kubectl.ok("set env deploy/web A=B", "");
    kubectl.ok("rollout restart deploy/web", "");
    kubectl.ok("patch deploy web --type=json -p [{\"op\":\"remove\",\"path\":\"/spec/template/metadata/annotations\"}]", "");
    kubectl.ok("autoscale deploy web --max=9", "");
    assert!(kubectl.ok("get hpa web", "").contains("Deployment/web"));
    let wait = "wait pod/alone --for=jsonpath={.status.phase}=Pending --timeout=5s";
    assert!(kubectl.ok(wait, "").contains("condition met"));
}

/// Commands that send protobuf.
fn make_by_command(kubectl: &Kubectl) {
    for line in [
        "create deployment made --image=nginx --replicas=2",
        "create configmap made --from-literal=a=b",
        "create secret generic made --from-literal=a=b",
        "create serviceaccount made",
        "create job made --image=busybox",
        "create cronjob made --image=busybox --schedule=@hourly",
        "create role made --verb=get --resource=pods",
        "create rolebinding made --role=made --serviceaccount=demo:made",
        "create service clusterip made --tcp=80:80",
        "create ingress made --rule=a.b/=made:80",
        "create poddisruptionbudget made --selector=app=x --min-available=1",
        "create quota made --hard=pods=9",
        "create priorityclass made --value=9",
        "run made --image=busybox",
        "expose deploy made --port=80 --name=exposed",
    ] {
        kubectl.ok(line, "");
    }
    assert!(kubectl.ok("create token made", "").starts_with("eyJ"));
    assert!(kubectl.ok("auth whoami", "").contains("admin"));
    let made = "--as=system:serviceaccount:demo:made";
    assert_eq!(
        kubectl
            .ok(&format!("auth can-i get pods {made}"), "")
            .lines()
            .next(),
        Some("yes")
    );
    let (allowed, _) = kubectl.run(&format!("auth can-i delete pods {made}"), "");
    assert!(!allowed);
}

fn delete(kubectl: &Kubectl) {
    assert!(
        kubectl
            .ok("delete pod alone --timeout=10s", "")
            .contains("deleted")
    );
    kubectl.ok("delete cm,secret,sa --all --timeout=10s", "");
    let gone = kubectl.ok("delete deploy web --cascade=foreground --wait=false", "");
    assert!(gone.contains("deleted"));
    let marked = kubectl.ok("get deploy web -o jsonpath={.metadata.finalizers}", "");
    assert!(marked.contains("foregroundDeletion"));
    let (found, text) = kubectl.run("get pod nothing", "");
    assert!(!found && text.contains("Error from server (NotFound): pods \"nothing\" not found"));
}
