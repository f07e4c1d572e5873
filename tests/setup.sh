#!/usr/bin/env bash
# Installs what building (guests) and testing (tests) need on Debian; does nothing where it is there.
set -euo pipefail

# Debian packages of which a command or file is missing.
missing=()
need() { # need PATH-OR-COMMAND PACKAGE
  case "$1" in
    /*) compgen -G "$1" >/dev/null || missing+=("$2") ;;
    *) command -v "$1" >/dev/null || missing+=("$2") ;;
  esac
}

guests() {
  need cc gcc
  # The wasm target of rustup, or Debian's Rust, which can build the standard library for it.
  if ! { command -v rustup >/dev/null && rustup target list --installed | grep -qx wasm32-unknown-unknown; }; then
    if command -v rustup >/dev/null && [ "${DAVIT_RUSTUP_TARGET:-0}" = 1 ]; then
      rustup target add wasm32-unknown-unknown
    else
      need /usr/bin/rustc rustc-web
      need /usr/bin/cargo cargo-web
      need '/usr/src/rustc-*/library/std/Cargo.toml' rust-web-src
    fi
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
