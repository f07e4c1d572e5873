//! Builds the guests (bundled drivers and test samples) to WebAssembly, for `include_bytes!`.
//!
//! Two ways to a wasm32 standard library are known: a rustup target, and Debian's
//! `rustc-web`, `cargo-web` and `rust-web-src`, which build it from source. Which of them is there is
//! found out here, rustup's first; with neither, the build stops and says what to install. `DAVIT_GUESTS`
//! (`rustup` or `debian`) insists on one of them, so that guests of both can be tested.

#![allow(
    clippy::disallowed_methods,
    reason = "a build script's job is to run the compiler for the guests"
)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::{env, fs};

const TARGET: &str = "wasm32-unknown-unknown";
const GUESTS: [&str; 5] = [
    "bridge",
    "local_path",
    "sample_etc",
    "sample_script",
    "sample_spin",
];

fn main() {
    if let Err(message) = run() {
        eprintln!("cannot build davit's WebAssembly guests: {message}");
        exit(1);
    }
}

fn run() -> Result<(), String> {
    println!("cargo:rerun-if-env-changed=DAVIT_GUESTS");
    let here = path_of("CARGO_MANIFEST_DIR")?;
    let out = path_of("OUT_DIR")?;
    for source in sources(&here) {
        println!("cargo:rerun-if-changed={}", source.display());
    }
    // <target>/<profile>/build/<package>/out: every profile shares the guests' own directory.
    let target = out
        .ancestors()
        .nth(4)
        .ok_or("OUT_DIR is not inside a target directory")?;
    let guests = target.join("guests");
    build(&here.join("drivers"), &guests)?;
    // As files too, for manifests that point at them.
    let files = target.join("wasm");
    fs::create_dir_all(&files).map_err(|error| format!("making {}: {error}", files.display()))?;
    for guest in GUESTS {
        let file = format!("{guest}.wasm");
        let from = guests.join(TARGET).join("release").join(&file);
        for to in [out.join(&file), files.join(file.replace('_', "-"))] {
            fs::copy(&from, &to).map_err(|error| format!("copying {}: {error}", from.display()))?;
        }
    }
    Ok(())
}

/// What the guests are made of. Their own target directories are left out.
fn sources(here: &Path) -> Vec<PathBuf> {
    let mut sources = vec![here.join("build.rs"), here.join("wit")];
    for package in packages(here) {
        sources.push(package.join("src"));
        sources.push(package.join("Cargo.toml"));
    }
    sources.extend([
        here.join("drivers/Cargo.toml"),
        here.join("drivers/Cargo.lock"),
    ]);
    sources
}

fn packages(here: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(here.join("drivers"))
        .into_iter()
        .flatten()
        .flatten();
    let drivers = entries
        .map(|entry| entry.path())
        .filter(|dir| dir.join("Cargo.toml").is_file());
    std::iter::once(here.join("sdk")).chain(drivers).collect()
}

/// A cargo that can build for wasm32, and what it has to be told.
struct Toolchain {
    cargo: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    arguments: &'static [&'static str],
}

fn build(workspace: &Path, target_dir: &Path) -> Result<(), String> {
    let toolchain = find_toolchain()?;
    let mut command = Command::new(&toolchain.cargo);
    // What cargo told this script about the host's build must not reach the guests' build.
    for (name, _) in env::vars_os() {
        if is_about_the_host_build(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command
        .current_dir(workspace)
        .args([
            "build",
            "--release",
            "--locked",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(target_dir)
        .args(toolchain.arguments)
        .envs(toolchain.environment);
    let output = command
        .output()
        .map_err(|error| format!("running {}: {error}", toolchain.cargo.display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "cargo failed\n{}",
        String::from_utf8_lossy(&output.stderr)
    ))
}

fn is_about_the_host_build(name: &str) -> bool {
    let kept = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
    ];
    (name.starts_with("CARGO") && !kept.iter().any(|prefix| name.starts_with(prefix)))
        || name.starts_with("RUSTC")
        || name.starts_with("RUSTFLAGS")
        || [
            "RUSTDOC",
            "CLIPPY_ARGS",
            "OUT_DIR",
            "TARGET",
            "HOST",
            "PROFILE",
        ]
        .contains(&name)
}

fn find_toolchain() -> Result<Toolchain, String> {
    let sysroot = sysroot()?;
    let target = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    let wanted = env::var("DAVIT_GUESTS").unwrap_or_default();
    match (wanted.as_str(), target.is_dir()) {
        ("debian", _) | ("", false) => debian_toolchain(&sysroot),
        ("rustup" | "", true) => {
            let cargo = path_of("CARGO")?;
            let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
            Ok(Toolchain {
                cargo,
                environment: vec![("RUSTC", rustc)],
                arguments: &[],
            })
        }
        ("rustup", false) => Err(format!(
            "DAVIT_GUESTS=rustup, and rustup's target is not there: rustup target add {TARGET}"
        )),
        _ => Err(format!(
            "DAVIT_GUESTS={wanted}: write rustup or debian, or leave it out"
        )),
    }
}

fn debian_toolchain(sysroot: &Path) -> Result<Toolchain, String> {
    let missing = |what: &str| {
        format!(
            "{what} is not there.\n\
             Install the target:       rustup target add {TARGET}\n\
             or, on Debian, packages:  apt-get install rustc-web cargo-web rust-web-src"
        )
    };
    let source = Path::new("/usr/lib/rustlib/src/rust/library/std/Cargo.toml");
    let cargo = PathBuf::from("/usr/bin/cargo");
    let rustc = Path::new("/usr/bin/rustc");
    for (file, name) in [
        (source, "a standard library for wasm32"),
        (rustc, "/usr/bin/rustc"),
        (cargo.as_path(), "/usr/bin/cargo"),
    ] {
        if !file.exists() {
            return Err(missing(name));
        }
    }
    let host = env::var_os("HOST").unwrap_or_default();
    let bundled = sysroot.join("lib/rustlib").join(host).join("bin/rust-lld");
    let linkers = [
        bundled,
        "/usr/bin/rust-lld".into(),
        "/usr/bin/wasm-ld".into(),
    ];
    let linker = linkers.into_iter().find(|file| file.exists());
    let linker = linker.ok_or_else(|| missing("a WebAssembly linker (rust-lld or wasm-ld)"))?;
    Ok(Toolchain {
        cargo,
        environment: vec![
            ("RUSTC", rustc.into()),
            // Building std from source is an unstable option of cargo.
            ("RUSTC_BOOTSTRAP", "1".into()),
            ("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker.into()),
        ],
        arguments: &["-Zbuild-std=std,panic_abort"],
    })
}

fn sysroot() -> Result<PathBuf, String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .output()
        .map_err(|error| format!("asking rustc for its sysroot: {error}"))?;
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}

fn path_of(variable: &str) -> Result<PathBuf, String> {
    env::var_os(variable)
        .map(PathBuf::from)
        .ok_or_else(|| format!("{variable} is not set"))
}
