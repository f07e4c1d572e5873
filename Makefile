# davit: build, demo, tests. Every target sets up what it needs on a fresh Debian machine with Rust, as root.
SHELL := /bin/bash
CARGO ?= cargo
DATA_DIR ?= /var/lib/davit

.PHONY: demo test bench conformance build setup setup-guests setup-tests check tidy down clean plugins

# The main job, end to end: a cluster, a manifest, a container that answers.
demo: setup-guests
	$(CARGO) build --release --bin davit
	tests/demo.sh target/release/davit

build: setup-guests
	$(CARGO) build --release --bin davit

# Everything CI runs but format and lints.
test: setup
	$(CARGO) test --workspace
	$(CARGO) test --manifest-path plugins/drivers/Cargo.toml --target-dir target/drivers

check: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

tidy:
	$(CARGO) test -p davit-tidy

bench: setup
	$(CARGO) build --release -p davit -p davit-bench --bins
	target/release/davit-bench --davit target/release/davit

# Kubernetes' own end-to-end suite, built from Debian's source package, against davit.
conformance: setup
	$(CARGO) build --release --bin davit
	tests/conformance/run

# The bundled drivers and the sample guests as files, for `davit apply` of a Plugin that names one.
plugins: setup-guests
	$(CARGO) build -p davit-plugins
	@ls target/wasm/*.wasm

down:
	target/release/davit down --data-dir $(DATA_DIR)

setup: setup-guests setup-tests

setup-guests:
	@tests/setup.sh guests

setup-tests:
	@tests/setup.sh tests

clean:
	$(CARGO) clean
