//! `davit diff`: what applying manifests would change, and what changed since a moment of the past.

mod lines;

use std::collections::BTreeMap;
use std::path::PathBuf;

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use serde_json::Value;

use super::apply::{self, MANAGER};
use super::get::{collection, split_names};
use crate::catalog::{Catalog, Kind};
use crate::connect::{Connection, Target};
use crate::document;
use crate::fault::Fault;
use crate::manifest;
use crate::moment::{self, Moment};
use crate::output::Output;

/// What `davit diff` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// With --from: kind, or KIND/NAME, of the objects to compare
    #[arg(required_unless_present = "files", requires = "from")]
    kind: Option<String>,
    /// Names; none compares all objects of the kind
    names: Vec<String>,
    /// Manifests: what would be if they were applied
    #[arg(
        short = 'f',
        long = "filename",
        value_name = "FILE",
        conflicts_with = "kind"
    )]
    files: Vec<PathBuf>,
    /// Compare with this moment instead of now: a revision, a time, or how long ago
    #[arg(long, value_name = "REVISION|TIME")]
    from: Option<Moment>,
    /// Objects of all namespaces
    #[arg(short = 'A', long, conflicts_with = "files")]
    all_namespaces: bool,
    #[command(flatten)]
    target: Target,
}

/// An object before and after; none where it is not there.
struct Pair {
    title: String,
    before: Option<Value>,
    after: Option<Value>,
}

impl Args {
    /// Prints the differences; [`Fault::Differs`] if there are any.
    pub(super) async fn run(self) -> Result<(), Fault> {
        let connection = self.target.connect().await?;
        let catalog = Catalog::fetch(&connection.client).await?;
        let from = match &self.from {
            Some(moment) => Some(moment.revision(&connection).await?),
            None => None,
        };
        let pairs = match &self.kind {
            Some(kind) => self.since(&connection, &catalog, kind, from).await?,
            None => self.applied(&connection, &catalog, from).await?,
        };
        let mut output = Output::new();
        let mut differs = false;
        for pair in pairs {
            let lines = pair.lines()?;
            differs |= !lines.is_empty();
            lines.iter().try_for_each(|line| output.line(line))?;
        }
        if differs { Err(Fault::Differs) } else { Ok(()) }
    }

    /// What applying the manifests would make of their objects.
    async fn applied(
        &self,
        connection: &Connection,
        catalog: &Catalog,
        from: Option<u64>,
    ) -> Result<Vec<Pair>, Fault> {
        let mut pairs = Vec::new();
        for document in manifest::read(&self.files)? {
            let kind = apply::kind_of(catalog, &document)?;
            let place = Place {
                connection,
                kind,
                namespace: Some(
                    document
                        .namespace
                        .as_deref()
                        .unwrap_or(&connection.namespace),
                ),
            };
            let params = PatchParams {
                dry_run: true,
                force: true,
                ..PatchParams::apply(MANAGER)
            };
            let api = kind.api(connection, document.namespace.as_deref());
            let object = apply::without_server_fields(&document);
            let after = api
                .patch(&document.name, &params, &Patch::Apply(&object))
                .await;
            let after = after.map_err(|error| Fault::request(&document.source, &error))?;
            pairs.push(Pair {
                title: place.title(after.namespace().as_deref(), &document.name),
                before: place.object(&document.name, from).await?,
                after: Some(value(&after)?),
            });
        }
        Ok(pairs)
    }

    /// What became of the objects of a kind.
    async fn since(
        &self,
        connection: &Connection,
        catalog: &Catalog,
        kind: &str,
        from: Option<u64>,
    ) -> Result<Vec<Pair>, Fault> {
        let (word, names) = split_names(kind, &self.names)?;
        let place = Place {
            connection,
            kind: catalog.find(&word)?,
            namespace: (!self.all_namespaces).then_some(&*connection.namespace),
        };
        if names.is_empty() {
            let mut pairs = BTreeMap::<(String, String), Pair>::new();
            for (moment, is_after) in [(from, false), (None, true)] {
                for object in place.list(moment).await? {
                    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
                    let (namespace, name) = (text("namespace").to_owned(), text("name").to_owned());
                    let title = place.title(Some(&namespace), &name);
                    let pair = pairs.entry((namespace, name)).or_insert_with(|| Pair {
                        title,
                        before: None,
                        after: None,
                    });
                    *(if is_after {
                        &mut pair.after
                    } else {
                        &mut pair.before
                    }) = Some(object);
                }
            }
            return Ok(pairs.into_values().collect());
        }
        let mut pairs = Vec::new();
        for name in &names {
            pairs.push(Pair {
                title: place.title(place.namespace, name),
                before: place.object(name, from).await?,
                after: place.object(name, None).await?,
            });
        }
        Ok(pairs)
    }
}

/// Where objects of a kind are.
struct Place<'a> {
    connection: &'a Connection,
    kind: &'a Kind,
    namespace: Option<&'a str>,
}

impl Place<'_> {
    fn title(&self, namespace: Option<&str>, name: &str) -> String {
        let kind = self.kind.qualified_singular();
        match namespace.filter(|namespace| self.kind.namespaced && !namespace.is_empty()) {
            Some(namespace) => format!("{kind}/{namespace}/{name}"),
            None => format!("{kind}/{name}"),
        }
    }

    async fn object(&self, name: &str, at: Option<u64>) -> Result<Option<Value>, Fault> {
        let path = format!("{}/{name}", collection(self.kind, self.namespace));
        super::get::check_path_segment(name)?;
        match self.request(path, at).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(Fault::request("", &error)),
        }
    }

    async fn list(&self, at: Option<u64>) -> Result<Vec<Value>, Fault> {
        let path = collection(self.kind, self.namespace);
        let listed = self.request(path, at).await;
        let mut list = listed.map_err(|error| Fault::request("", &error))?;
        Ok(match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        })
    }

    async fn request(&self, mut path: String, at: Option<u64>) -> Result<Value, kube::Error> {
        for (number, (key, value)) in at.map(moment::exactly).into_iter().flatten().enumerate() {
            path.push(if number == 0 { '?' } else { '&' });
            path.push_str(&format!("{key}={value}"));
        }
        let request = http::Request::get(path).body(Vec::new());
        let request = request.map_err(kube::Error::HttpError)?;
        self.connection.client.request(request).await
    }
}

fn value(object: &DynamicObject) -> Result<Value, Fault> {
    serde_json::to_value(object).map_err(|error| Fault::new("reading an object", error, ""))
}

impl Pair {
    /// The difference as lines; none if there is none.
    fn lines(&self) -> Result<Vec<String>, Fault> {
        let (before, after) = (shown(self.before.as_ref())?, shown(self.after.as_ref())?);
        let mut hunks = lines::unified(&before, &after);
        if hunks.is_empty() {
            return Ok(hunks);
        }
        let name = |object: &Option<Value>| match object {
            Some(_) => self.title.as_str(),
            None => "/dev/null",
        };
        let head = [
            format!("--- {}", name(&self.before)),
            format!("+++ {}", name(&self.after)),
        ];
        hunks.splice(0..0, head);
        Ok(hunks)
    }
}

/// An object as YAML without what changes with every write; nothing if it is not there.
fn shown(object: Option<&Value>) -> Result<String, Fault> {
    let Some(mut object) = object.cloned() else {
        return Ok(String::new());
    };
    // Items of lists come without them.
    for field in ["apiVersion", "kind"] {
        object.as_object_mut().map(|object| object.remove(field));
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["managedFields", "resourceVersion"] {
            metadata.remove(field);
        }
    }
    document::yaml(&object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_people_wrote_counts() {
        let object = |revision: &str, data: &str| {
            json!({"metadata": {"name": "a", "resourceVersion": revision, "managedFields": [revision]},
                "data": {"key": data}})
        };
        let typed = json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"key": "1"},
            "metadata": {"resourceVersion": "9", "name": "a"}});
        let pair = |before: Option<Value>, after: Option<Value>| {
            let title = "configmap/default/a".to_owned();
            Pair {
                title,
                before,
                after,
            }
            .lines()
            .unwrap()
        };
        assert!(pair(Some(object("1", "1")), Some(typed)).is_empty());
        let changed = pair(Some(object("1", "1")), Some(object("2", "2")));
        let expected = [
            "--- configmap/default/a",
            "+++ configmap/default/a",
            "@@ -1,4 +1,4 @@",
            " data:",
            "-  key: \"1\"",
            "+  key: \"2\"",
            " metadata:",
            "   name: a",
        ];
        assert_eq!(changed, expected);
        let gone = pair(Some(object("1", "1")), None);
        assert_eq!(
            gone[..3],
            [
                "--- configmap/default/a",
                "+++ /dev/null",
                "@@ -1,4 +0,0 @@"
            ]
        );
        assert!(pair(None, None).is_empty());
    }
}
