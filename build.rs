//! Tells the program what it was built from, for `/version`, and the linker to keep one copy of functions that came
//! out the same for several types.

#![allow(
    clippy::disallowed_methods,
    reason = "a build script asks git and the compiler"
)]

use std::process::Command;

fn main() {
    // There the compiler brings a linker that can.
    if std::env::var("TARGET").is_ok_and(|target| target == "x86_64-unknown-linux-gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
    let commit = answer("git", &["rev-parse", "HEAD"]);
    let changed = answer("git", &["status", "--porcelain", "--untracked-files=no"]);
    let tree = match (&commit, &changed) {
        (Some(_), None) => "clean",
        (Some(_), Some(_)) => "dirty",
        (None, _) => "archive",
    };
    // The commit's date rather than today's: the same sources make the same program.
    let date = answer(
        "git",
        &[
            "log",
            "-1",
            "--format=%cd",
            "--date=format-local:%Y-%m-%dT%H:%M:%SZ",
        ],
    );
    let compiler = answer(
        &std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()),
        &["--version"],
    );
    println!(
        "cargo::rustc-env=DAVIT_COMMIT={}",
        commit.unwrap_or_default()
    );
    println!("cargo::rustc-env=DAVIT_TREE={tree}");
    println!("cargo::rustc-env=DAVIT_DATE={}", date.unwrap_or_default());
    println!(
        "cargo::rustc-env=DAVIT_COMPILER={}",
        compiler.unwrap_or_default()
    );
    // Where commits are recorded, in a checkout of its own or of another one.
    println!("cargo::rerun-if-changed=build.rs");
    if let Some(log) = answer("git", &["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
}

/// What a program prints, if it is there, succeeds and prints something.
fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .env("TZ", "UTC")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
