//! `davit describe`: all fields of an object for people to read, and its events.

mod text;

use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};

use super::get::split_names;
use crate::catalog::Catalog;
use crate::connect::{Connection, Target};
use crate::fault::Fault;
use crate::output::{Output, columns};

/// What `davit describe` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Kind, or KIND/NAME
    kind: String,
    /// Names; none describes all
    names: Vec<String>,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR", default_value = "")]
    selector: String,
    #[command(flatten)]
    target: Target,
}

impl Args {
    pub(super) async fn run(self) -> Result<(), Fault> {
        let connection = self.target.connect().await?;
        let catalog = Catalog::fetch(&connection.client).await?;
        let (word, names) = split_names(&self.kind, &self.names)?;
        let kind = catalog.find(&word)?;
        let api = kind.api(&connection, None);
        let failed = |error| Fault::request("", &error);
        let mut objects = Vec::new();
        if names.is_empty() {
            let params = ListParams::default().labels(&self.selector);
            objects.extend(api.list(&params).await.map_err(failed)?.items);
        }
        for name in &names {
            objects.push(api.get(name).await.map_err(failed)?);
        }
        let mut output = Output::new();
        for (number, object) in objects.iter().enumerate() {
            if number > 0 {
                output.line("")?;
                output.line("")?;
            }
            let events = events_of(&connection, object).await?;
            for line in text::describe(object).iter().chain(&event_lines(&events)) {
                output.line(line)?;
            }
        }
        Ok(())
    }
}

/// The events about an object, oldest first.
async fn events_of(connection: &Connection, object: &DynamicObject) -> Result<Vec<Event>, Fault> {
    let namespace = object.namespace().unwrap_or_else(|| "default".into());
    let events = Api::<Event>::namespaced(connection.client.clone(), &namespace);
    let uid = object.uid().unwrap_or_default();
    let params = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    let failed = |error| Fault::request("reading the events", &error);
    let mut found = events.list(&params).await.map_err(failed)?.items;
    found.sort_by_key(last_seen);
    Ok(found)
}

fn last_seen(event: &Event) -> Option<jiff::Timestamp> {
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    last.or_else(|| event.event_time.as_ref().map(|time| time.0))
}

fn event_lines(events: &[Event]) -> Vec<String> {
    if events.is_empty() {
        return vec!["Events:  <none>".into()];
    }
    let heading = ["  Type", "Reason", "Age", "From", "Message"]
        .map(str::to_owned)
        .to_vec();
    let rule = ["  ----", "------", "----", "----", "-------"]
        .map(str::to_owned)
        .to_vec();
    let now = jiff::Timestamp::now();
    let rows = events.iter().map(|event| {
        let source = event
            .source
            .as_ref()
            .and_then(|source| source.component.clone());
        vec![
            format!("  {}", event.type_.clone().unwrap_or_default()),
            event.reason.clone().unwrap_or_default(),
            last_seen(event).map_or_else(|| "<unknown>".into(), |at| text::age(at, now)),
            source
                .or_else(|| event.reporting_component.clone())
                .unwrap_or_default(),
            event
                .message
                .clone()
                .unwrap_or_default()
                .trim()
                .replace('\n', " "),
        ]
    });
    let rows: Vec<_> = [heading, rule].into_iter().chain(rows).collect();
    std::iter::once("Events:".to_owned())
        .chain(columns(&rows))
        .collect()
}
