//! Counts and durations under Kubernetes' standard names, in the Prometheus text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use parking_lot::Mutex;

use crate::cache::Cache;
use crate::storage::Status;

/// What a request is counted under: only names that the server itself knows, or a scanner would fill the
/// memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Labels {
    pub(crate) verb: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
}

/// Upper bounds of the duration buckets in seconds.
const BUCKETS: [f64; 12] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 5.0, 60.0,
];

#[derive(Debug, Default)]
struct Durations {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    seconds: f64,
}

/// Answers of one kind of request: their number by status code, and how long they took.
type Answered = (BTreeMap<u16, u64>, Durations);

/// Requests answered since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<Labels, Answered>>,
}

impl Metrics {
    pub(crate) fn observe(&self, labels: &Labels, code: u16, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut requests = self.requests.lock();
        if !requests.contains_key(labels) {
            requests.insert(labels.clone(), Default::default());
        }
        let Some((codes, durations)) = requests.get_mut(labels) else {
            return;
        };
        *codes.entry(code).or_default() += 1;
        durations.count += 1;
        durations.seconds += seconds;
        if let Some(bucket) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            durations.buckets[bucket] += 1;
        }
    }

    /// The text that `/metrics` answers.
    pub(crate) fn render(&self, cache: &Cache, store: &Status) -> String {
        let mut out = String::new();
        out.push_str("# TYPE apiserver_request_total counter\n");
        let requests = self.requests.lock();
        for (labels, (codes, _)) in &*requests {
            for (code, count) in codes {
                let labels = text(labels);
                let _ = writeln!(
                    out,
                    "apiserver_request_total{{code=\"{code}\",{labels}}} {count}"
                );
            }
        }
        out.push_str("# TYPE apiserver_request_duration_seconds histogram\n");
        for (labels, (_, durations)) in &*requests {
            render_durations(&mut out, &text(labels), durations);
        }
        out.push_str("# TYPE apiserver_storage_objects gauge\n");
        for (prefix, count) in cache.counts() {
            let mut parts = prefix.trim_matches('/').split('/').skip(1);
            let group = parts
                .next()
                .filter(|group| *group != "core")
                .unwrap_or_default();
            let plural = parts.next().unwrap_or_default();
            let dot = if group.is_empty() { "" } else { "." };
            let _ = writeln!(
                out,
                "apiserver_storage_objects{{resource=\"{plural}{dot}{group}\"}} {count}"
            );
        }
        let gauges = [
            ("davit_store_revision", store.revision),
            ("davit_store_oldest_revision", store.oldest),
            ("davit_store_value_bytes", store.value_bytes),
            ("davit_store_history_bytes", store.history_bytes),
            (
                "davit_store_writable",
                u64::from(store.write_fault.is_none()),
            ),
        ];
        for (name, value) in gauges {
            let _ = writeln!(out, "# TYPE {name} gauge\n{name} {value}");
        }
        out
    }
}

fn text(labels: &Labels) -> String {
    let Labels {
        verb,
        resource,
        subresource,
    } = labels;
    let escape = |text: &str| text.replace(['"', '\\', '\n'], "_");
    format!(
        "verb=\"{}\",resource=\"{}\",subresource=\"{}\"",
        escape(verb).to_ascii_uppercase(),
        escape(resource),
        escape(subresource)
    )
}

fn render_durations(out: &mut String, labels: &str, durations: &Durations) {
    let name = "apiserver_request_duration_seconds";
    let mut sum = 0;
    for (bound, count) in BUCKETS.iter().zip(durations.buckets) {
        sum += count;
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {sum}");
    }
    let _ = writeln!(
        out,
        "{name}_bucket{{{labels},le=\"+Inf\"}} {}",
        durations.count
    );
    let _ = writeln!(out, "{name}_sum{{{labels}}} {}", durations.seconds);
    let _ = writeln!(out, "{name}_count{{{labels}}} {}", durations.count);
}
