//! `davit logs`: what the containers of a pod print.

use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use serde_json::Value;

use crate::catalog::Catalog;
use crate::connect::{Connection, Target};
use crate::fault::Fault;
use crate::output::{Output, note};

/// What `davit logs` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Pod, or a workload whose newest pod is meant, as in deployment/NAME
    #[arg(value_name = "POD")]
    pod: String,
    /// Container, if the pod has several
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Go on and print what comes
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "COUNT")]
    tail: Option<u32>,
    /// Only what is not older, as in 30s, 5m or 2h
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    since: Option<i64>,
    /// The container before its last restart
    #[arg(short, long)]
    previous: bool,
    /// Put the time before every line
    #[arg(long)]
    timestamps: bool,
    #[command(flatten)]
    target: Target,
}

impl Args {
    pub(super) async fn run(self) -> Result<(), Fault> {
        let connection = self.target.connect().await?;
        let pods = Api::<Pod>::namespaced(connection.client.clone(), &connection.namespace);
        let name = match self.pod.split_once('/') {
            None => self.pod.clone(),
            Some(("pod" | "pods" | "po", name)) => name.to_owned(),
            Some((kind, name)) => pod_of(&connection, &pods, kind, name).await?,
        };
        let params = LogParams {
            container: self.container,
            follow: self.follow,
            previous: self.previous,
            since_seconds: self.since,
            tail_lines: self.tail.map(i64::from),
            timestamps: self.timestamps,
            ..LogParams::default()
        };
        let failed = |error| Fault::request("", &error);
        let stream = pods.log_stream(&name, &params).await.map_err(failed)?;
        let mut stream = std::pin::pin!(stream);
        let mut output = Output::new();
        let mut buffer = vec![0; 32 << 10];
        loop {
            let read = stream.read(&mut buffer).await;
            match read.map_err(|error| Fault::new("reading the log", error, ""))? {
                0 => return Ok(()),
                count => output.piece(buffer.get(..count).unwrap_or_default())?,
            }
        }
    }
}

/// The newest pod that the selector of a workload or Service means.
async fn pod_of(
    connection: &Connection,
    pods: &Api<Pod>,
    kind: &str,
    name: &str,
) -> Result<String, Fault> {
    let failed = |error| Fault::request("", &error);
    let catalog = Catalog::fetch(&connection.client).await?;
    let owner = catalog
        .find(kind)?
        .api(connection, None)
        .get(name)
        .await
        .map_err(failed)?;
    let selector = labels_of(&owner.data["spec"]["selector"])
        .ok_or_else(|| Fault::told("", format!("{kind}/{name} selects no pods"), "name a pod"))?;
    let found = pods
        .list(&ListParams::default().labels(&selector))
        .await
        .map_err(failed)?
        .items;
    let newest = found.iter().max_by_key(|pod| pod.creation_timestamp());
    let newest = newest.map(ResourceExt::name_any).ok_or_else(|| {
        Fault::told(
            "",
            format!("{kind}/{name} has no pods"),
            "wait for them, or see its events",
        )
    })?;
    if found.len() > 1 {
        note(&format!("Found {} pods, using pod/{newest}", found.len()));
    }
    Ok(newest)
}

/// `a=b,c=d` of the labels a selector wants, in either of its two forms.
fn labels_of(selector: &Value) -> Option<String> {
    let labels = selector
        .get("matchLabels")
        .unwrap_or(selector)
        .as_object()?;
    let pairs = labels
        .iter()
        .map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
    let pairs = pairs.collect::<Option<Vec<_>>>()?;
    (!pairs.is_empty()).then(|| pairs.join(","))
}

/// Seconds of a duration such as `90`, `30s`, `5m`, `2h` or `1d`.
fn seconds(text: &str) -> Result<i64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..) {
        Some("" | "s") => 1,
        Some("m") => 60,
        Some("h") => 3600,
        Some("d") => 86_400,
        _ => return Err("write it as in 30s, 5m or 2h".into()),
    };
    let count: i64 = digits
        .parse()
        .map_err(|_| "write it as in 30s, 5m or 2h".to_owned())?;
    count
        .checked_mul(unit)
        .filter(|s| *s > 0)
        .ok_or_else(|| "it must be above zero".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_selectors_are_read() {
        let cases = [
            (
                serde_json::json!({"matchLabels": {"a": "b", "c": "d"}}),
                Some("a=b,c=d"),
            ),
            (serde_json::json!({"a": "b"}), Some("a=b")),
            (serde_json::json!({"matchExpressions": []}), None),
            (Value::Null, None),
        ];
        for (selector, expected) in cases {
            assert_eq!(labels_of(&selector).as_deref(), expected, "{selector}");
        }
    }

    #[test]
    fn durations_are_read() {
        let cases = [
            ("90", Some(90)),
            ("5m", Some(300)),
            ("2h", Some(7200)),
            ("1d", Some(86_400)),
        ];
        for (text, expected) in cases {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
        for text in [
            "",
            "m",
            "5x",
            "-1s",
            "0s",
            "99999999999999999999",
            "9223372036854775807d",
        ] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
