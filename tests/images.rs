//! Images from a real registry, a real server out of Debian's packages, and archives that are bad.
#![allow(clippy::disallowed_methods, reason = "the tests run real programs")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "tests fail by panicking"
)]
mod harness;

use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::{Background, Cluster, http_get, image, on_a_machine, run, wait_for};
use serde_json::json;

/// Starts Debian's docker-registry on loopback; its address.
fn registry(folder: &Path) -> (Background, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let config = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}}}\n\
         log: {{level: error}}\n",
        folder.join("registry").display()
    );
    let file = folder.join("registry.yml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("docker-registry");
    command
        .arg("serve")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let server = Background::start(&mut command);
    wait_for("the registry answers", || TcpStream::connect(&address).ok());
    (server, address)
}

fn push(archive: &Path, target: &str) {
    run(Command::new("skopeo")
        .args(["copy", "--insecure-policy", "--dest-tls-verify=false"])
        .arg(format!("oci-archive:{}", archive.display()))
        .arg(format!("docker://{target}")));
}

/// An image of Debian's nginx, from the packages that `tests/setup.sh` downloads.
fn nginx(folder: &Path) -> std::path::PathBuf {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/packages");
    let root = folder.join("root");
    std::fs::create_dir_all(&root).unwrap();
    for package in std::fs::read_dir(&packages).expect("run tests/setup.sh tests") {
        run(Command::new("dpkg-deb")
            .arg("-x")
            .arg(package.unwrap().path())
            .arg(&root));
    }
    std::fs::write(
        root.join("etc/nginx/nginx.conf"),
        "daemon off; worker_processes 1; error_log /dev/stderr; pid /tmp/nginx.pid;\n\
         events { worker_connections 64; }\n\
         http { access_log /dev/stdout; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p;\n\
         fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;\n\
         server { listen 80; location / { return 200 \"nginx of Debian\\n\"; } } }\n",
    )
    .unwrap();
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/:/\nnobody:x:65534:65534::/:/\n",
    )
    .unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").unwrap();
    std::fs::create_dir_all(root.join("tmp")).unwrap();
    let mut layer = tar::Builder::new(Vec::new());
    layer.follow_symlinks(false);
    layer.append_dir_all(".", &root).unwrap();
    let archive = folder.join("nginx.tar");
    let config = json!({"Cmd": ["/usr/sbin/nginx"], "ExposedPorts": {"80/tcp": {}}});
    image::write_archive(
        &archive,
        "nginx:debian",
        &layer.into_inner().unwrap(),
        &config,
    );
    archive
}

#[test]
fn a_real_server_is_pulled_from_a_real_registry() {
    on_a_machine(|| {
        let cluster = Cluster::start();
        let (server, registry) = registry(cluster.dir.path());
        let name = format!("{registry}/debian/nginx:1");
        push(&nginx(cluster.dir.path()), &name);
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: nginx}}\nspec:\n  \
             terminationGracePeriodSeconds: 2\n  containers:\n  - name: nginx\n    image: {name}\n    \
             readinessProbe: {{httpGet: {{port: 80}}, periodSeconds: 1}}\n"
        ));
        cluster.wait("pod/nginx", "condition=Ready");
        let ip = cluster.field("pod/nginx", ".status.podIP");
        assert_eq!(
            http_get(&format!("{ip}:80"), "/").unwrap(),
            "nginx of Debian\n"
        );
        assert!(
            cluster
                .kubectl(&["logs", "nginx"])
                .contains("GET / HTTP/1.1")
        );
        let id = cluster.field("pod/nginx", ".status.containerStatuses[0].imageID");
        assert!(id.contains("sha256:"), "{id}");
        let listed = cluster.davit_ok(&["images", "ls"]);
        assert!(listed.contains("debian/nginx"), "{listed}");
        cluster.kubectl(&["delete", "pod", "nginx"]);
        cluster.davit_ok(&["images", "rm", &name]);
        assert!(!cluster.davit_ok(&["images", "ls"]).contains("debian/nginx"));
        drop(server);
        cluster.down();
    });
}

#[test]
fn bad_images_are_refused_in_one_line() {
    on_a_machine(|| {
        let cluster = Cluster::start();
        let file = cluster.dir.path().join("broken.tar");
        std::fs::write(&file, "this is no archive").unwrap();
        for args in [
            &["images", "import", file.to_str().unwrap()][..],
            &["images", "import", "/no/such/file"],
            &["images", "pull", "127.0.0.1:1/no/such:image"],
            &["images", "pull", "UPPER/Case"],
            &["images", "rm", "no/such:image"],
        ] {
            let output = cluster.davit(args);
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success(), "{args:?} succeeded");
            assert_eq!(error.trim_end().lines().count(), 1, "{args:?}: {error}");
            assert!(
                error.starts_with("davit: ") && !error.contains("panic"),
                "{args:?}: {error}"
            );
        }
        cluster.down();
    });
}
