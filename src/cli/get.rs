//! `davit get`: objects as a table, as the server draws it, or as YAML or JSON.

mod table;

use futures::AsyncBufReadExt;
use futures::TryStreamExt;
use kube::core::DynamicObject;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::catalog::{Catalog, Kind};
use crate::connect::{Connection, Target};
use crate::document;
use crate::fault::Fault;
use crate::moment::{self, Moment};
use crate::output::{Output, note};
use table::{Layout, Table};

/// Asks for a table, and takes the objects themselves from servers that cannot draw one.
const AS_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// What `davit get` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Kind, or kinds separated by commas, or KIND/NAME
    kind: String,
    /// Names; none shows all
    names: Vec<String>,
    /// Objects of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only objects with these labels, as in app=web,tier!=db
    #[arg(short = 'l', long, value_name = "SELECTOR", default_value = "")]
    selector: String,
    /// Only objects with these fields, as in status.phase=Running
    #[arg(long, value_name = "SELECTOR", default_value = "")]
    field_selector: String,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Go on and print changes
    #[arg(short, long)]
    watch: bool,
    /// Show what there was at a moment of the past: a revision, a time, or how long ago, such as 10m
    #[arg(long, value_name = "REVISION|TIME", conflicts_with = "watch")]
    at: Option<Moment>,
    /// Print no headings
    #[arg(long)]
    no_headers: bool,
    /// Print the labels too
    #[arg(long)]
    show_labels: bool,
    /// Print who owns which fields too, in YAML and JSON
    #[arg(long)]
    show_managed_fields: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    #[default]
    Table,
    Wide,
    Yaml,
    Json,
    Name,
}

impl Args {
    pub(super) async fn run(self) -> Result<(), Fault> {
        let connection = self.target.connect().await?;
        let catalog = Catalog::fetch(&connection.client).await?;
        let (words, names) = split_names(&self.kind, &self.names)?;
        let kinds = catalog.find_many(&words)?;
        if kinds.len() > 1 && !names.is_empty() {
            let remedy = "name one kind, or leave the names out";
            return Err(Fault::told("", "names belong to one kind", remedy));
        }
        let at = match &self.at {
            Some(moment) => Some(moment.revision(&connection).await?),
            None => None,
        };
        let mut shown = 0;
        for kind in &kinds {
            let query = Query {
                args: &self,
                connection: &connection,
                kind,
                many: kinds.len() > 1,
                at,
            };
            shown += query.show(&names, shown > 0).await?;
        }
        if shown == 0 && matches!(self.output, Format::Table | Format::Wide) {
            let everywhere = self.all_namespaces || kinds.iter().all(|kind| !kind.namespaced);
            note(&if everywhere {
                "No resources found".to_owned()
            } else {
                format!("No resources found in {} namespace.", connection.namespace)
            });
        }
        if let ([kind], true) = (kinds.as_slice(), self.watch) {
            let query = Query {
                args: &self,
                connection: &connection,
                kind,
                many: false,
                at: None,
            };
            return query.follow(&names).await;
        }
        Ok(())
    }
}

/// `pods a b`, `pod/a` and `pod/a pod/b` name the same things.
pub(super) fn split_names(kind: &str, names: &[String]) -> Result<(String, Vec<String>), Fault> {
    let Some((first, name)) = kind.split_once('/') else {
        return Ok((kind.to_owned(), names.to_vec()));
    };
    let mut all = vec![name.to_owned()];
    for other in names {
        match other.split_once('/') {
            Some((kind, name)) if kind == first => all.push(name.to_owned()),
            _ => {
                let cause = format!("{other:?} is not of the form {first}/NAME");
                return Err(Fault::told("", cause, "ask for one kind at a time"));
            }
        }
    }
    Ok((first.to_owned(), all))
}

/// One kind to be shown.
struct Query<'a> {
    args: &'a Args,
    connection: &'a Connection,
    kind: &'a Kind,
    many: bool,
    at: Option<u64>,
}

impl Query<'_> {
    /// Shows the objects; how many there were.
    async fn show(&self, names: &[String], after_others: bool) -> Result<usize, Fault> {
        match self.args.output {
            Format::Table | Format::Wide => {
                let table = self.table(names).await?;
                if !table.rows.is_empty() {
                    let mut output = Output::new();
                    if after_others {
                        output.line("")?;
                    }
                    for line in table.lines(&self.layout(), !self.args.no_headers) {
                        output.line(&line)?;
                    }
                }
                Ok(table.rows.len())
            }
            format => {
                let objects = self.objects(names).await?;
                print_objects(format, self.kind, &objects, names.len() == 1)?;
                Ok(objects.len())
            }
        }
    }

    fn layout(&self) -> Layout {
        Layout {
            wide: self.args.output == Format::Wide,
            namespaces: self.args.all_namespaces && self.kind.namespaced,
            labels: self.args.show_labels,
            prefix: self
                .many
                .then(|| format!("{}/", self.kind.qualified_singular())),
        }
    }

    async fn table(&self, names: &[String]) -> Result<Table, Fault> {
        if names.is_empty() {
            return self.request(&self.url(None, &[])?).await;
        }
        let mut all = Table::default();
        for name in names {
            all.append(self.request(&self.url(Some(name), &[])?).await?);
        }
        Ok(all)
    }

    async fn objects(&self, names: &[String]) -> Result<Vec<Value>, Fault> {
        let mut objects = Vec::new();
        if names.is_empty() {
            let list: Value = self.plain(&self.url(None, &[])?).await?;
            let (api_version, kind) = (&self.kind.resource.api_version, &self.kind.resource.kind);
            for mut item in list["items"].as_array().cloned().unwrap_or_default() {
                item["apiVersion"] = json!(api_version);
                item["kind"] = json!(kind);
                objects.push(item);
            }
        }
        for name in names {
            objects.push(self.plain(&self.url(Some(name), &[])?).await?);
        }
        if !self.args.show_managed_fields {
            for metadata in objects
                .iter_mut()
                .filter_map(|object| object["metadata"].as_object_mut())
            {
                metadata.remove("managedFields");
            }
        }
        Ok(objects)
    }

    /// Prints a row for every change, until the server ends the watch.
    async fn follow(&self, names: &[String]) -> Result<(), Fault> {
        let name = names.first().map(|name| format!("metadata.name={name}"));
        let mut more = vec![("watch", "true")];
        more.extend(name.as_deref().map(|name| ("fieldSelector", name)));
        let request = self.http(&self.url(None, &more)?, AS_TABLE)?;
        let failed = |error| Fault::request("watching", &error);
        let stream = self
            .connection
            .client
            .request_stream(request)
            .await
            .map_err(failed)?;
        let stream = std::pin::pin!(stream);
        let mut lines = stream.lines();
        let mut output = Output::new();
        let broken = |error| Fault::new("watching", error, "");
        while let Some(line) = lines.try_next().await.map_err(broken)? {
            let event: Event =
                serde_json::from_str(&line).map_err(|e| Fault::new("watching", e, ""))?;
            if event.kind == "BOOKMARK" {
                continue;
            }
            for line in event.object.lines(&self.layout(), false) {
                output.line(&line)?;
            }
        }
        Ok(())
    }

    /// The path of the collection or of one object, with the query.
    fn url(&self, name: Option<&str>, more: &[(&str, &str)]) -> Result<String, Fault> {
        let namespace = if self.args.all_namespaces && name.is_none() {
            None
        } else {
            Some(self.connection.namespace.as_str()).filter(|_| self.kind.namespaced)
        };
        let mut url = collection(self.kind, namespace);
        if let Some(name) = name {
            check_path_segment(name)?;
            url.push('/');
            url.push_str(name);
        }
        let exactly: Vec<_> = self.at.map(moment::exactly).into_iter().flatten().collect();
        let exactly = exactly.iter().map(|(key, value)| (*key, value.as_str()));
        let selectors = [
            ("labelSelector", &*self.args.selector),
            ("fieldSelector", &*self.args.field_selector),
        ];
        let wanted = selectors
            .into_iter()
            .filter(|(_, value)| !value.is_empty() && name.is_none());
        let pairs = wanted.chain(more.iter().copied()).chain(exactly);
        for (number, (key, value)) in pairs.enumerate() {
            url.push(if number == 0 { '?' } else { '&' });
            url.push_str(&format!("{key}={}", escape(value)));
        }
        Ok(url)
    }

    fn http(&self, url: &str, accept: &str) -> Result<http::Request<Vec<u8>>, Fault> {
        http::Request::get(url)
            .header(http::header::ACCEPT, accept)
            .body(Vec::new())
            .map_err(|error| Fault::new("asking the server", error, ""))
    }

    async fn request(&self, url: &str) -> Result<Table, Fault> {
        let failed = |error| Fault::request("", &error);
        self.connection
            .client
            .request(self.http(url, AS_TABLE)?)
            .await
            .map_err(failed)
    }

    async fn plain(&self, url: &str) -> Result<Value, Fault> {
        let failed = |error| Fault::request("", &error);
        let request = self.http(url, "application/json")?;
        self.connection
            .client
            .request(request)
            .await
            .map_err(failed)
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: Table,
}

/// The path of the objects of a kind, in a namespace or in all.
pub(super) fn collection(kind: &Kind, namespace: Option<&str>) -> String {
    let namespace = namespace.filter(|_| kind.namespaced);
    <DynamicObject as kube::Resource>::url_path(&kind.resource, namespace)
}

/// Names go into the path as they are, so they must be what names of objects are.
pub(super) fn check_path_segment(name: &str) -> Result<(), Fault> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'_' | b'@');
    if !name.is_empty() && name != "." && name != ".." && name.bytes().all(plain) {
        return Ok(());
    }
    Err(Fault::told(
        "",
        format!("{name:?} is no name of an object"),
        "",
    ))
}

/// Percent-encodes a value of a query.
fn escape(value: &str) -> String {
    value.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
        text
    })
}

fn print_objects(
    format: Format,
    kind: &Kind,
    objects: &[Value],
    single: bool,
) -> Result<(), Fault> {
    let mut output = Output::new();
    if format == Format::Name {
        for object in objects {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            output.line(&format!("{}/{name}", kind.qualified_singular()))?;
        }
        return Ok(());
    }
    let whole = match objects {
        [object] if single => object.clone(),
        _ => json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": objects}),
    };
    let text = if format == Format::Json {
        document::json(&whole)?
    } else {
        document::yaml(&whole)?
    };
    output.data(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_in_two_forms() {
        let owned = |words: &[&str]| {
            words
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            split_names("pods", &owned(&["a"])).unwrap(),
            ("pods".into(), owned(&["a"]))
        );
        let two = split_names("pod/a", &owned(&["pod/b"])).unwrap();
        assert_eq!(two, ("pod".into(), owned(&["a", "b"])));
        assert!(split_names("pod/a", &owned(&["svc/b"])).is_err());
    }

    #[test]
    fn nothing_leaves_the_path() {
        for name in ["..", "a/b", "a%2fb", "a?b", "", "ü"] {
            assert!(check_path_segment(name).is_err(), "{name}");
        }
        assert!(check_path_segment("system:node.x-1").is_ok());
        assert_eq!(escape("a in (b,ü)"), "a%20in%20%28b%2C%C3%BC%29");
    }
}
