//! Describes the built-in kinds at build time, so that the program carries their schemas as text rather than as the code that makes
//! them, which is several megabytes.
//!
//! Writes `kinds.rs` (the table of kinds), `definitions.txt` (a name, a tab and the JSON schema without descriptions on each line) and
//! `described.txt.gz` (the same with descriptions, which only OpenAPI documents need).
#![allow(clippy::expect_used, reason = "a build fails by panicking")]
#![allow(
    clippy::print_stdout,
    reason = "cargo reads what a build script prints"
)]

mod kinds;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value};

fn main() {
    println!("cargo::rerun-if-changed=build");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names the directory"));
    let write = |name: &str, bytes: &[u8]| {
        fs::write(out.join(name), bytes).expect("the directory can be written");
    };
    let (named, definitions) = kinds::generate();

    let mut table = String::from("&[\n");
    for (kind, definition) in &named {
        let (group, version, kind) = (kind.group, kind.version, kind.kind);
        writeln!(
            table,
            "Kind {{ group: {group:?}, version: {version:?}, kind: {kind:?}, definition: {definition:?} }},"
        )
        .expect("text takes text");
    }
    write("kinds.rs", format!("{table}]").as_bytes());

    let mut bare = definitions.clone();
    bare.values_mut().for_each(undescribe);
    write("definitions.txt", lines(&bare).as_bytes());

    let mut described = GzEncoder::new(Vec::new(), Compression::best());
    let compressed = described
        .write_all(lines(&definitions).as_bytes())
        .and_then(|()| described.finish());
    write("described.txt.gz", &compressed.expect("memory takes bytes"));
}

fn lines(definitions: &Map<String, Value>) -> String {
    let mut text = String::new();
    for (name, schema) in definitions {
        writeln!(text, "{name}\t{schema}").expect("text takes text");
    }
    text
}

/// Removes the descriptions of a schema and of the schemas in it; a property may have that name.
fn undescribe(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    map.remove("description");
    for (key, inner) in map {
        match (key.as_str(), inner) {
            ("properties", Value::Object(properties)) => {
                properties.values_mut().for_each(undescribe);
            }
            ("items" | "additionalProperties", inner) => undescribe(inner),
            _ => {}
        }
    }
}
