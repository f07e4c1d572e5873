//! The README's tour, run as it stands.
#![allow(clippy::disallowed_methods, reason = "the tests run real programs")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "tests fail by panicking"
)]
mod harness;

use std::path::Path;
use std::process::Command;

use harness::{DAVIT, on_a_machine, run};

/// The blocks marked `sh tour`, in order.
fn tour(text: &str) -> String {
    let mut inside = false;
    let mut script = String::from("set -eu\n");
    for line in text.lines() {
        match line {
            "```sh tour" => inside = true,
            "```" => inside = false,
            _ if inside => {
                script.push_str(line);
                script.push('\n');
            }
            _ => {}
        }
    }
    script
}

#[test]
fn the_tour_works() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = tour(&std::fs::read_to_string(home.join("README.md")).unwrap());
    assert!(
        script.contains("davit up") && script.contains("davit down"),
        "{script}"
    );
    on_a_machine(move || {
        let folder = tempfile::Builder::new()
            .prefix("davit-e2e-")
            .tempdir()
            .unwrap();
        let programs = Path::new(DAVIT).parent().unwrap().display().to_string();
        let path = std::env::var_os("PATH").unwrap().into_string().unwrap();
        let shown = run(Command::new("bash")
            .args(["-m", "-c", &script])
            .current_dir(home)
            .env("PATH", format!("{programs}:{path}"))
            .env("DATA", folder.path().join("data")));
        assert!(shown.contains("successfully rolled out"), "{shown}");
        assert!(shown.contains("davit.local/hello"), "{shown}");
    });
}
