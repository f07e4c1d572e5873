//! Jobs and CronJobs.

use serde_json::{Map, Value, json};

use super::access::{Fields, carry, default, default_absent, ensure, object, same};
use super::{Context, Errors, immutable, labels, workload};
use crate::schema::{FieldError, Path};

/// Labels that tie pods to their job; the ones without a domain are kept for old clients.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// Defaults of a job that depend on each other.
pub(super) fn spec_defaults(spec: &mut Map<String, Value>) {
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        spec.insert("completions".to_owned(), 1.into());
    }
    default_absent(spec, "parallelism", 1);
    let per_index = spec.contains_key("backoffLimitPerIndex");
    default_absent(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
    let policy = if spec.contains_key("podFailurePolicy") {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    default_absent(spec, "podReplacementPolicy", policy);
}

/// A job without labels takes those of its template.
pub(super) fn defaults(job: &mut Map<String, Value>) {
    let template = job.get("spec").map_or(&Value::Null, |s| s.at("template"));
    let labels = template.at("metadata").at("labels").clone();
    if labels.as_object().is_some_and(|l| !l.is_empty()) {
        default(ensure(job, "metadata"), "labels", labels);
    }
}

/// Gives a new job the selector and the labels by which it finds its pods. Needs the uid.
pub(super) fn create(_context: &Context<'_>, job: &mut Value) {
    if job.at("spec").flag("manualSelector") {
        return;
    }
    let name = job.at("metadata").text("name").to_owned();
    let uid = job.at("metadata").text("uid").to_owned();
    let Some(spec) = job.as_object_mut().and_then(|j| object(j, "spec")) else {
        return;
    };
    let selector = ensure(spec, "selector");
    let wanted = ensure(selector, "matchLabels");
    wanted.insert(UID_LABELS[0].to_owned(), uid.clone().into());
    let template = ensure(spec, "template");
    let labels = ensure(ensure(template, "metadata"), "labels");
    for key in NAME_LABELS {
        labels.insert(key.to_owned(), name.clone().into());
    }
    for key in UID_LABELS {
        labels.insert(key.to_owned(), uid.clone().into());
    }
}

/// Checks a job's spec, in jobs and in the templates of CronJobs.
pub(super) fn spec(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let at_template = at.field("template");
    let at_pod = at_template.field("spec");
    let pod = spec.at("template").at("spec");
    workload::mounts(spec, &at_template, out);
    match pod.text("restartPolicy") {
        "OnFailure" | "Never" => {}
        "" => {
            let detail = "valid values: \"OnFailure\", \"Never\"";
            out.push(FieldError::required(at_pod.field("restartPolicy"), detail));
        }
        other => out.push(FieldError::not_supported(
            at_pod.field("restartPolicy"),
            other,
            &["OnFailure", "Never"],
        )),
    }
    if spec.text("completionMode") == "Indexed" {
        indexed(spec, at, out);
    } else if spec.has("backoffLimitPerIndex") {
        let value = spec.at("backoffLimitPerIndex").clone();
        let detail = "requires indexed completion mode";
        out.push(FieldError::invalid(
            at.field("backoffLimitPerIndex"),
            value,
            detail,
        ));
    }
    if spec.has("podFailurePolicy") && pod.text("restartPolicy") != "Never" {
        let detail = "only \"Never\" is supported when podFailurePolicy is specified";
        let value = pod.text("restartPolicy");
        out.push(FieldError::invalid(
            at_pod.field("restartPolicy"),
            value,
            detail,
        ));
    }
}

fn indexed(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    match spec.int("completions") {
        None => {
            let detail = "when completion mode is Indexed";
            out.push(FieldError::required(at.field("completions"), detail));
        }
        Some(n) if n > 1_000_000 && spec.has("backoffLimitPerIndex") => {
            let detail = "must be less than or equal to 1000000 when backoffLimitPerIndex is set";
            out.push(FieldError::invalid(at.field("completions"), n, detail));
        }
        Some(_) => {}
    }
    if let Some(n) = spec.int("parallelism").filter(|n| *n > 100_000) {
        let detail = "must be less than or equal to 100000 when completion mode is Indexed";
        out.push(FieldError::invalid(at.field("parallelism"), n, detail));
    }
}

/// Checks a job as a whole: its selector matches its template.
pub(super) fn check(_: &Context<'_>, job: &Value, out: &mut Errors) {
    let spec = job.at("spec");
    let at_spec = Path::new("spec");
    let given = spec.at("template").at("metadata").at("labels");
    if !spec.has("selector") {
        out.push(FieldError::required(at_spec.field("selector"), ""));
    } else if !labels::matches(spec.at("selector"), given) {
        let at = at_spec.field("template");
        let at = at.field("metadata");
        let shown = if given.is_null() {
            json!({})
        } else {
            given.clone()
        };
        let detail = "`selector` does not match template `labels`";
        out.push(FieldError::invalid(at.field("labels"), shown, detail));
    }
}

/// Checks what stays as it was in a job.
pub(super) fn update(context: &Context<'_>, new: &Value, old: &Value, out: &mut Errors) {
    if !context.subresource.is_empty() {
        return;
    }
    let at = Path::new("spec");
    let (new_spec, old_spec) = (new.at("spec"), old.at("spec"));
    for key in [
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        immutable(new_spec, old_spec, key, &at, out);
    }
    // An indexed job may be scaled, both numbers together.
    let elastic = new_spec.text("completionMode") == "Indexed"
        && new_spec.at("completions") == new_spec.at("parallelism");
    if !elastic {
        immutable(new_spec, old_spec, "completions", &at, out);
    }
    let suspended = old_spec.flag("suspend") && !old.at("status").has("startTime");
    let mut template = old_spec.at("template").clone();
    if suspended {
        scheduling_directives(&mut template, new_spec.at("template"));
    }
    if !same(&template, new_spec.at("template")) {
        let value = new_spec.at("template").clone();
        out.push(FieldError::invalid(
            at.field("template"),
            value,
            "field is immutable",
        ));
    }
}

/// What decides where a suspended job will run may still change.
fn scheduling_directives(template: &mut Value, new: &Value) {
    let Some(fields) = template.as_object_mut() else {
        return;
    };
    let mut metadata = Value::Object(std::mem::take(ensure(fields, "metadata")));
    for key in ["labels", "annotations"] {
        carry(&mut metadata, new.at("metadata"), key);
    }
    fields.insert("metadata".to_owned(), metadata);
    let mut spec = Value::Object(std::mem::take(ensure(fields, "spec")));
    for key in ["nodeSelector", "affinity", "tolerations", "schedulingGates"] {
        carry(&mut spec, new.at("spec"), key);
    }
    fields.insert("spec".to_owned(), spec);
}

/// Checks a CronJob's spec.
pub(super) fn cron_spec(spec: &Value, at: &Path<'_>, out: &mut Errors) {
    let schedule = spec.text("schedule");
    if !schedule.is_empty() {
        let zoned = schedule.contains("TZ");
        if zoned && spec.has("timeZone") {
            let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
            out.push(FieldError::invalid(at.field("schedule"), schedule, detail));
        } else if zoned {
            let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            out.push(FieldError::invalid(at.field("schedule"), schedule, detail));
        } else if let Err(reason) = super::cron::check(schedule) {
            out.push(FieldError::invalid(at.field("schedule"), schedule, reason));
        }
    }
    if spec.has("timeZone") {
        let zone = spec.text("timeZone");
        let fault = match zone {
            "" => Some("timeZone must be nil or non-empty string".to_owned()),
            z if z.eq_ignore_ascii_case("local") => Some(
                "timeZone must be an explicit time zone as defined in \
                      https://www.iana.org/time-zones"
                    .to_owned(),
            ),
            z => jiff::tz::TimeZone::get(z)
                .err()
                .map(|_| format!("unknown time zone {z}")),
        };
        if let Some(fault) = fault {
            out.push(FieldError::invalid(at.field("timeZone"), zone, fault));
        }
    }
}
