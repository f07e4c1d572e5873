//! Reads the project's own sources: what the tests of the house's rules are made of.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

/// A Rust source file of the project.
#[derive(Debug)]
pub struct Source {
    /// Path below the project's root, with `/`.
    pub path: String,
    /// The file's text.
    pub text: String,
}

/// A function with a body, as rustfmt lays it out.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Line of the `fn`, from 1.
    pub line: usize,
    /// Lines from the `fn` to the closing brace.
    pub lines: usize,
}

/// The project's root folder.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Every `.rs` file below `root` but build output.
///
/// # Errors
/// When a folder or file cannot be read.
pub fn sources(root: &Path) -> std::io::Result<Vec<Source>> {
    let mut found = Vec::new();
    collect(root, root, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect(root, &path, found)?;
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path)?;
            let path = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            found.push(Source { path, text });
        }
    }
    Ok(())
}

impl Source {
    /// True for code that only runs in tests, benches and examples.
    #[must_use]
    pub fn is_test(&self) -> bool {
        let folders = ["tests/", "benches/", "examples/"];
        folders.iter().any(|folder| self.path.contains(folder))
            || self.path.ends_with("tests.rs")
            || self.path.ends_with("_test.rs")
    }

    /// Every function with a body. It ends at the first later line that closes a brace at the
    /// indentation of its `fn`, which holds for all code that rustfmt has laid out.
    #[must_use]
    pub fn functions(&self) -> Vec<Function> {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut found = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let Some(name) = function_name(line) else {
                continue;
            };
            let indent = line.len() - line.trim_start().len();
            let closing = format!("{}}}", " ".repeat(indent));
            // A method without a body, or one on a single line.
            let mut rest = lines.iter().skip(index);
            let opening = rest.find(|line| line.ends_with(['{', '}', ';']));
            let one_line = !opening.is_some_and(|line| line.ends_with('{'));
            let end = lines.iter().skip(index).position(|line| *line == closing);
            if let (false, Some(length)) = (one_line, end) {
                found.push(Function {
                    name,
                    line: index + 1,
                    lines: length + 1,
                });
            }
        }
        found
    }
}

fn function_name(line: &str) -> Option<String> {
    let mut words = line.split_whitespace().peekable();
    let before = [
        "pub",
        "pub(crate)",
        "pub(super)",
        "async",
        "const",
        "unsafe",
        "extern",
        "\"C\"",
    ];
    while words.peek().is_some_and(|word| before.contains(word)) {
        words.next();
    }
    if words.next() != Some("fn") {
        return None;
    }
    let rest = words.next()?;
    let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    Some(rest.get(..end.unwrap_or(rest.len()))?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured() {
        let text = "fn a() {\n    b();\n}\n\nimpl X {\n    pub(crate) async fn c<T>(\n        x: T,\n    ) {\n    }\n}\nfn d() {}\n";
        let source = Source {
            path: "x.rs".into(),
            text: text.into(),
        };
        let expected = [("a", 1, 3), ("c", 6, 4)].map(|(name, line, lines)| Function {
            name: name.into(),
            line,
            lines,
        });
        assert_eq!(source.functions(), expected);
    }
}
