//! The house's rules, written as things that must not be there.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "asks cargo for the crates' dependencies"
)]

use std::collections::BTreeMap;
use std::process::Command;

use davit_tidy::{Source, root, sources};

const LONGEST_FILE: usize = 600;
const LONGEST_FUNCTION: usize = 100;

/// Files that may hold `unsafe` code, each block with its reason.
const UNSAFE: [&str; 3] = [
    "node/src/kernel",
    "plugins/src/engine",
    "apiserver/src/storage",
];

fn all() -> Vec<Source> {
    sources(&root()).unwrap()
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_file_says_what_it_holds() {
    let silent: Vec<String> = all()
        .iter()
        .filter(|source| {
            let first = source.text.lines().find(|line| !line.starts_with("#!"));
            !first.is_some_and(|line| line.starts_with("//! "))
        })
        .map(|source| format!("{}: starts without a `//!` line", source.path))
        .collect();
    assert_none(&silent);
}

#[test]
fn files_and_functions_stay_short() {
    let mut long = Vec::new();
    for source in all() {
        let lines = source.text.lines().count();
        if lines > LONGEST_FILE {
            long.push(format!(
                "{}: {lines} lines (at most {LONGEST_FILE})",
                source.path
            ));
        }
        // Tables of cases may be long.
        let functions = if source.is_test() {
            Vec::new()
        } else {
            source.functions()
        };
        for function in functions {
            if function.lines > LONGEST_FUNCTION {
                long.push(format!(
                    "{}:{}: fn {} has {} lines (at most {LONGEST_FUNCTION})",
                    source.path, function.line, function.name, function.lines
                ));
            }
        }
    }
    assert_none(&long);
}

#[test]
fn no_file_is_a_drawer() {
    let drawers = [
        "mod.rs",
        "utils.rs",
        "util.rs",
        "common.rs",
        "helpers.rs",
        "manager.rs",
    ];
    let found: Vec<String> = all()
        .iter()
        .filter(|source| {
            let name = source.path.rsplit('/').next().unwrap_or_default();
            let shared_by_tests = source.path.starts_with("tests/") && name == "mod.rs";
            drawers.contains(&name) && !shared_by_tests
        })
        .map(|source| format!("{}: name it after the one thing it holds", source.path))
        .collect();
    assert_none(&found);
}

#[test]
fn unsafe_code_stays_in_its_places() {
    let found: Vec<String> = all()
        .iter()
        .filter(|source| !source.is_test())
        .filter(|source| !UNSAFE.iter().any(|place| source.path.starts_with(place)))
        .filter(|source| source.text.contains("unsafe {") || source.text.contains("unsafe fn"))
        .map(|source| {
            format!(
                "{}: unsafe code belongs to {}",
                source.path,
                UNSAFE.join(", ")
            )
        })
        .collect();
    assert_none(&found);
}

#[test]
fn narrow_places_stay_narrow() {
    let rules = [
        (
            "sled::Config::new",
            "apiserver/src/storage",
            "plugins/src/scope",
        ),
        (
            "wasmtime::Engine::new",
            "plugins/src/engine",
            "plugins/src/engine",
        ),
    ];
    let mut found = Vec::new();
    for source in all()
        .iter()
        .filter(|source| !source.path.starts_with("tests/tidy"))
    {
        for (call, place, other) in rules {
            let allowed = source.path.starts_with(place) || source.path.starts_with(other);
            if !allowed && source.text.contains(call) {
                found.push(format!("{}: {call} belongs to {place}", source.path));
            }
        }
    }
    assert_none(&found);
}

/// A loop of its own around accept is one that a want of descriptors turns into a storm.
#[test]
fn connections_are_accepted_in_one_place() {
    // The shim has one thread, no runtime, and one client.
    let places = ["apiserver/listen/src", "node/src/shim"];
    let found: Vec<String> = all()
        .iter()
        .filter(|source| !source.is_test() && !source.path.starts_with("tests/"))
        // Servers of tests, in files that only tests compile.
        .filter(|source| !source.path.ends_with("/testing.rs"))
        .filter(|source| !places.iter().any(|place| source.path.starts_with(place)))
        .filter(|source| {
            let production = source.text.split("#[cfg(test)]").next();
            production.unwrap_or_default().contains(".accept().")
                || production.unwrap_or_default().contains(".accept() ")
        })
        .map(|source| format!("{}: accept through davit_listen::Acceptor", source.path))
        .collect();
    assert_none(&found);
}

/// What each crate may not depend on, directly or through another.
const FORBIDDEN: [(&str, &[&str]); 6] = [
    (
        "davit-api",
        &[
            "davit-apiserver",
            "davit-controller",
            "davit-node",
            "davit-plugins",
            "wasmtime",
            "sled",
        ],
    ),
    (
        "davit-apiserver",
        &[
            "davit-controller",
            "davit-node",
            "davit-plugins",
            "wasmtime",
            "cgroups-rs",
        ],
    ),
    (
        "davit-controller",
        &[
            "davit-apiserver",
            "davit-node",
            "davit-plugins",
            "wasmtime",
            "sled",
            "axum",
        ],
    ),
    (
        "davit-plugins",
        &["davit-apiserver", "davit-controller", "davit-node"],
    ),
    ("davit-node", &["davit-apiserver", "davit-controller"]),
    (
        "davit-listen",
        &[
            "davit-api",
            "davit-apiserver",
            "davit-controller",
            "davit-node",
            "davit-plugins",
            "hyper",
        ],
    ),
];

#[test]
fn dependencies_point_one_way() {
    let graph = dependencies();
    let mut found = Vec::new();
    for (from, forbidden) in FORBIDDEN {
        let reached = reach(&graph, from);
        assert!(reached.len() > 1, "{from} is not in the workspace");
        for name in forbidden
            .iter()
            .filter(|name| reached.contains(&(**name).to_owned()))
        {
            found.push(format!("{from} must not depend on {name}"));
        }
    }
    assert_none(&found);
}

/// Package name → names of the packages that its normal build needs.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--offline",
            "--filter-platform",
        ])
        .arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            (
                package["id"].as_str().unwrap(),
                package["name"].as_str().unwrap(),
            )
        })
        .collect();
    let mut graph: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let normal = node["deps"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| {
                let kinds = dependency["dep_kinds"].as_array().unwrap();
                kinds.iter().any(|kind| kind["kind"].is_null())
            });
        let targets =
            normal.map(|dependency| names[dependency["pkg"].as_str().unwrap()].to_owned());
        graph
            .entry(names[node["id"].as_str().unwrap()].to_owned())
            .or_default()
            .extend(targets);
    }
    graph
}

fn reach(graph: &BTreeMap<String, Vec<String>>, from: &str) -> Vec<String> {
    let mut reached = vec![from.to_owned()];
    let mut next = 0;
    while let Some(name) = reached.get(next).cloned() {
        for target in graph.get(&name).into_iter().flatten() {
            if !reached.contains(target) {
                reached.push(target.clone());
            }
        }
        next += 1;
    }
    reached
}
