//! Images for tests, made of what Debian's packages put on the machine.

use std::fs::File;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Writes an OCI archive with one layer of busybox, every applet linked, tagged `name`.
pub fn busybox(target: &Path, name: &str) {
    let layer = busybox_layer("web:x:1000:1000::/home:/bin/sh\n");
    let config = json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]});
    write_archive(target, name, &layer.into_inner().unwrap(), &config);
}

/// As [`busybox`], with the running test itself as `/attack` and what it is linked to; the image's user is `user`, and
/// an account of root's is called 1000.
pub fn with_program(target: &Path, name: &str, user: &str) {
    let mut layer = busybox_layer("1000:x:0:0::/:/bin/sh\n");
    let mut program = File::open("/proc/self/exe").unwrap();
    layer.append_file("attack", &mut program).unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut libraries: Vec<&str> = maps
        .lines()
        .filter_map(|line| line.split_once('/').map(|(_, path)| path))
        .filter(|path| path.contains(".so"))
        .collect();
    libraries.sort_unstable();
    libraries.dedup();
    for folder in ["lib", "lib64"] {
        directory(&mut layer, folder);
    }
    for library in libraries {
        let file = Path::new(library).file_name().unwrap().to_str().unwrap();
        // The one that loads the others is looked for where the platform says.
        for folder in ["lib", "lib64"] {
            let mut from = File::open(Path::new("/").join(library)).unwrap();
            layer
                .append_file(format!("{folder}/{file}"), &mut from)
                .unwrap();
        }
    }
    let config = json!({
        "Env": ["PATH=/bin", "LD_LIBRARY_PATH=/lib:/lib64"], "Cmd": ["sh"], "User": user,
    });
    write_archive(target, name, &layer.into_inner().unwrap(), &config);
}

fn busybox_layer(account: &str) -> tar::Builder<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    for folder in ["bin", "tmp", "etc", "var", "home"] {
        directory(&mut layer, folder);
    }
    let mut program = File::open(busybox_path()).unwrap();
    layer.append_file("bin/busybox", &mut program).unwrap();
    for applet in [
        "sh", "cat", "echo", "sleep", "httpd", "nc", "id", "ls", "wget", "dd", "head", "tail",
        "true", "false", "env", "mount", "kill", "ps", "hostname", "grep", "touch", "rm", "mkdir",
        "seq", "date", "stat", "ip", "ping", "nslookup", "test", "awk", "yes", "tee", "wc", "tar",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        layer
            .append_link(&mut header, format!("bin/{applet}"), "busybox")
            .unwrap();
    }
    file(
        &mut layer,
        "etc/passwd",
        format!("root:x:0:0:root:/:/bin/sh\n{account}").as_bytes(),
    );
    file(&mut layer, "etc/group", b"root:x:0:\nweb:x:1000:\n");
    layer
}

fn busybox_path() -> &'static str {
    let places = ["/bin/busybox", "/usr/bin/busybox"];
    places
        .into_iter()
        .find(|path| Path::new(path).exists())
        .expect("busybox-static")
}

fn directory(layer: &mut tar::Builder<Vec<u8>>, path: &str) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(if path == "tmp" { 0o1777 } else { 0o755 });
    layer
        .append_data(&mut header, format!("{path}/"), std::io::empty())
        .unwrap();
}

fn file(layer: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    layer.append_data(&mut header, path, content).unwrap();
}

/// Writes an OCI image layout as a tar file.
pub fn write_archive(target: &Path, name: &str, layer: &[u8], config: &Value) {
    let digest = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let image = json!({
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(layer))]},
    });
    let image = serde_json::to_vec(&image).unwrap();
    let described = |media: &str, bytes: &[u8]| json!({"mediaType": media, "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len()});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("application/vnd.oci.image.config.v1+json", &image),
        "layers": [described("application/vnd.oci.image.layer.v1.tar", layer)],
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let mut entry = described("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    let mut archive = tar::Builder::new(File::create(target).unwrap());
    let mut add = |path: String, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, bytes).unwrap();
    };
    add("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#);
    add("index.json".into(), &serde_json::to_vec(&index).unwrap());
    for bytes in [layer, &image, &manifest] {
        add(format!("blobs/sha256/{}", digest(bytes)), bytes);
    }
    archive.finish().unwrap();
}
