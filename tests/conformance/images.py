"""Makes the images that the suite's tests run, each a docker-save archive: images.py SOURCE BINARIES TARGET."""

import hashlib
import io
import json
import pathlib
import re
import subprocess
import sys
import tarfile

source, binaries, target = map(pathlib.Path, sys.argv[1:])
busybox = next(path for path in map(pathlib.Path, ["/bin/busybox", "/usr/bin/busybox"]) if path.exists())
APPLETS = """awk base64 cat chmod chown cp cut date dd df dirname du echo env expr false find free grep gunzip gzip head
hostname httpd id ifconfig ip kill killall ln ls md5sum mkdir mkfifo mktemp more mount mv nc netstat nslookup od ping pgrep ps
pwd readlink realpath rm rmdir sed seq sh sha256sum sleep sort stat stty sync tail tar tee telnet test timeout top touch tr
traceroute true tty umount uname uniq unlink uptime usleep vi wc wget which whoami xargs yes""".split()


class Layer:
    """One layer, built entry by entry."""

    def __init__(self):
        self.bytes = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.bytes, mode="w")

    def add(self, name, kind=tarfile.REGTYPE, mode=0o644, data=b"", link=""):
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(data), link
        self.tar.addfile(entry, io.BytesIO(data))

    def folder(self, name, mode=0o755):
        self.add(name, tarfile.DIRTYPE, mode)

    def link(self, name, to):
        self.add(name, tarfile.SYMTYPE, 0o777, link=to)

    def done(self):
        self.tar.close()
        return self.bytes.getvalue()


def base():
    layer = Layer()
    for name in ["bin", "etc", "home", "root", "run", "usr", "usr/bin", "usr/local", "usr/local/bin", "var", "var/www", "lib"]:
        layer.folder(name)
    layer.folder("tmp", 0o1777)
    layer.add("bin/busybox", mode=0o755, data=busybox.read_bytes())
    for applet in APPLETS:
        layer.link(f"bin/{applet}", "busybox")
    # Debian's busybox has all that is asked for but this.
    layer.add("bin/printenv", mode=0o755, data=b'#!/bin/sh\nif [ $# = 0 ]; then env; else eval "echo \\"\\$$1\\""; fi\n')
    layer.add("etc/passwd", data=b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    layer.add("etc/group", data=b"root:x:0:\nnogroup:x:65534:\n")
    layer.add("var/www/index.html", data=b"<html><body><h1>It works!</h1></body></html>\n")
    return layer.done()


def agnhost():
    layer = Layer()
    layer.add("agnhost", mode=0o755, data=(binaries / "agnhost").read_bytes())
    layer.link("agnhost-2", "agnhost")
    layer.folder("uploads", 0o777)
    for name in ["localhost.crt", "localhost.key"]:
        layer.add(name, data=(source / "test/images/agnhost/porter" / name).read_bytes())
    return layer.done()


def program(path, name):
    """The program and what it is linked to."""
    layer = Layer()
    layer.add(name, mode=0o755, data=path.read_bytes())
    linked = subprocess.run(["ldd", path], capture_output=True, text=True)
    for library in re.findall(r"(/\S+) \(0x", linked.stdout):
        layer.add(library.lstrip("/"), mode=0o755, data=pathlib.Path(library).read_bytes())
    return layer.done()


def pictures(name):
    layer = Layer()
    for path in (source / "test/images" / name / "html").iterdir():
        layer.add(path.name, data=path.read_bytes())
    return layer.done()


def save(name, config, *layers):
    """Writes one archive; a layer's name is its digest."""
    digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], **config},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": [f"{digest}.tar" for digest in digests]}]
    path = target / (name.replace("/", "_").replace(":", "_") + ".tar")
    with tarfile.open(path, "w") as archive:
        entries = [("config.json", json.dumps(document).encode()), ("manifest.json", json.dumps(manifest).encode())]
        entries += [(f"{digest}.tar", layer) for digest, layer in zip(digests, layers)]
        for entry_name, data in dict(entries).items():
            entry = tarfile.TarInfo(entry_name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


shell, host = base(), agnhost()
serve = {"Entrypoint": ["/agnhost"], "Cmd": ["pause"]}
# Web servers of the library are stood in for by busybox's, which answers on port 80 as they do.
web = {"Cmd": ["httpd", "-f", "-p", "80", "-h", "/var/www"], "ExposedPorts": {"80/tcp": {}}}
save("k8s.gcr.io/e2e-test-images/agnhost:2.21", serve, shell, host)
save("k8s.gcr.io/pause:3.2", {"Entrypoint": ["/agnhost", "pause"]}, host)
save("docker.io/library/busybox:1.29", {"Cmd": ["sh"]}, shell)
for name in ["httpd:2.4.38-alpine", "httpd:2.4.39-alpine", "nginx:1.14-alpine", "nginx:1.15-alpine"]:
    # One layer more makes images of different names different images.
    mark = Layer()
    mark.add("etc/image", data=name.encode())
    save(f"docker.io/library/{name}", web, shell, mark.done())
for name in ["nautilus", "kitten"]:
    save(
        f"gcr.io/kubernetes-e2e-test-images/{name}:1.0",
        {"Entrypoint": ["/agnhost"], "Cmd": ["test-webserver"]}, shell, host, pictures(name),
    )
save(
    "gcr.io/kubernetes-e2e-test-images/sample-apiserver:1.17",
    {"Entrypoint": ["/sample-apiserver"]}, shell, program(binaries / "sample-apiserver", "sample-apiserver"),
)
save("k8s.gcr.io/etcd:3.4.13-0", {"Cmd": ["/usr/local/bin/etcd"]}, shell, program(pathlib.Path("/usr/bin/etcd"), "usr/local/bin/etcd"))
