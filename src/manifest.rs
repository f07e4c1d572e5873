//! Manifests: files, directories and standard input, YAML or JSON, several documents each.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::fault::Fault;

/// The largest manifest that is read, in bytes.
const LARGEST: u64 = 64 << 20;

/// One object of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    /// Where it came from, for messages.
    pub(crate) source: String,
    /// `apiVersion`.
    pub(crate) api_version: String,
    /// `kind`.
    pub(crate) kind: String,
    /// `metadata.name`.
    pub(crate) name: String,
    /// `metadata.namespace`, if there is one.
    pub(crate) namespace: Option<String>,
    /// The object.
    pub(crate) object: Value,
}

/// Reads all objects of `paths`, in order; `-` is standard input, a directory its `.yaml`, `.yml` and
/// `.json` files by name.
///
/// # Errors
/// The first file that cannot be read, document that is not YAML, or object without kind or version.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Document>, Fault> {
    let mut documents = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let text = limited(std::io::stdin().lock(), "standard input")?;
            documents.extend(parse(&text, "standard input")?);
            continue;
        }
        for file in files(path)? {
            let name = file.display().to_string();
            let opened = std::fs::File::open(&file).map_err(|error| unreadable(&file, error))?;
            documents.extend(parse(&limited(opened, &name)?, &name)?);
        }
    }
    if documents.is_empty() {
        return Err(Fault::told(
            "reading the manifests",
            "they hold no objects",
            "",
        ));
    }
    Ok(documents)
}

fn unreadable(path: &Path, error: std::io::Error) -> Fault {
    Fault::new(
        format!("reading {}", path.display()),
        error,
        "name a manifest or a directory of them",
    )
}

fn files(path: &Path) -> Result<Vec<PathBuf>, Fault> {
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(|error| unreadable(path, error))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(|error| unreadable(path, error))?.path();
        let extension = file.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("yaml" | "yml" | "json")) && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn limited(from: impl Read, name: &str) -> Result<String, Fault> {
    let what = || format!("reading {name}");
    let mut text = String::new();
    let read = from.take(LARGEST + 1).read_to_string(&mut text);
    let read = read.map_err(|error| Fault::new(what(), error, ""))?;
    if read as u64 > LARGEST {
        return Err(Fault::told(what(), "it is larger than 64 MiB", "split it"));
    }
    Ok(text)
}

/// The objects of one text.
fn parse(text: &str, source: &str) -> Result<Vec<Document>, Fault> {
    let values: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| Fault::new(format!("reading {source}"), error, "correct the YAML"))?;
    let mut documents = Vec::new();
    for (number, value) in values.into_iter().enumerate() {
        let place = format!("{source}, document {}", number + 1);
        for object in flatten(value) {
            documents.push(document(object, &place)?);
        }
    }
    Ok(documents)
}

/// The items of a `List`, or the object itself.
fn flatten(mut value: Value) -> Vec<Value> {
    if value["kind"] == "List"
        && let Value::Array(items) = value["items"].take()
    {
        return items;
    }
    if value.is_null() {
        Vec::new()
    } else {
        vec![value]
    }
}

fn document(object: Value, source: &str) -> Result<Document, Fault> {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let missing = |field: &str| {
        let what = format!("reading {source}");
        Fault::told(what, format!("the object has no {field}"), "add it")
    };
    let kind = text("/kind")
        .filter(|kind| !kind.is_empty())
        .ok_or_else(|| missing("kind"))?;
    let api_version = text("/apiVersion")
        .filter(|version| !version.is_empty())
        .ok_or_else(|| missing("apiVersion"))?;
    let name = text("/metadata/name").unwrap_or_default();
    if name.is_empty() {
        return Err(missing("metadata.name"));
    }
    let namespace = text("/metadata/namespace").filter(|namespace| !namespace.is_empty());
    Ok(Document {
        source: source.to_owned(),
        api_version,
        kind,
        name,
        namespace,
        object,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_lists_and_directories_are_read_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let map =
            |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
        write(
            "b.yaml",
            &format!("---\n{}---\n# nothing\n---\n{}", map("b1"), map("b2")),
        );
        write(
            "a.json",
            r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a","namespace":"n"}}]}"#,
        );
        write("c.txt", "not a manifest");
        let read = read(&[dir.path().to_owned()]).unwrap();
        let names: Vec<_> = read
            .iter()
            .map(|d| (d.kind.as_str(), d.name.as_str()))
            .collect();
        assert_eq!(
            names,
            [("Secret", "a"), ("ConfigMap", "b1"), ("ConfigMap", "b2")]
        );
        assert_eq!(read[0].namespace.as_deref(), Some("n"));
    }

    #[test]
    fn bad_manifests_are_one_clear_line() {
        let cases = [
            (
                "kind: Pod\nmetadata: {name: x}",
                "the object has no apiVersion",
            ),
            (
                "apiVersion: v1\nmetadata: {name: x}",
                "the object has no kind",
            ),
            (
                "apiVersion: v1\nkind: Pod",
                "the object has no metadata.name",
            ),
            ("a: [1", "correct the YAML"),
            ("a: 1\na: 2\n", "correct the YAML"),
            ("text", "the object has no kind"),
        ];
        for (text, expected) in cases {
            let fault = parse(text, "x.yaml").unwrap_err().to_string();
            assert!(fault.contains(expected) && !fault.contains('\n'), "{fault}");
        }
    }

    #[test]
    fn nothing_to_apply_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(&[dir.path().to_owned()]).is_err());
        assert!(
            read(&[dir.path().join("gone")])
                .unwrap_err()
                .to_string()
                .contains("gone")
        );
    }
}
