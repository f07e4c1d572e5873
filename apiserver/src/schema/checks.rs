//! Checks of single fields of built-in types, as the table names them, and the walk that runs them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

use serde_json::Value;

use super::defaults::is_zero;
use super::field::{FieldError, Path};
use super::node::{Node, Shape};
use crate::strategy::names;

/// One demand on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Must be set to something other than the zero value.
    Required,
    /// A number that reads as 0 when it was left out.
    Plain,
    /// One of these, if set.
    OneOf(Vec<&'static str>),
    /// At least this.
    AtLeast(i64),
    /// In this closed range.
    Between(i64, i64),
    /// A text of this form, if set.
    Form(Form),
    /// Every item of the list has this form.
    Each(Form),
    /// Each item occurs once.
    Unique,
    /// At most this many bytes.
    MaxBytes(usize),
    /// At most this many items.
    MaxItems(usize),
}

/// A form of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Label,
    Subdomain,
    Label1035,
    Qualified,
    LabelValue,
    PortName,
    Environment,
    ConfigKey,
    Header,
    Ip,
    Cidr,
    PathSegment,
    /// Starts with a slash.
    AbsolutePath,
    /// Has no `..` step.
    NoBacksteps,
    /// Neither starts with a slash nor has `..` steps.
    LocalPath,
    /// A local path that does not begin with the two dots of the names that volumes keep for themselves.
    LocalFile,
}

impl Form {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "label" => Self::Label,
            "subdomain" => Self::Subdomain,
            "1035" => Self::Label1035,
            "qualified" => Self::Qualified,
            "label-value" => Self::LabelValue,
            "port-name" => Self::PortName,
            "env" => Self::Environment,
            "config-key" => Self::ConfigKey,
            "header" => Self::Header,
            "ip" => Self::Ip,
            "cidr" => Self::Cidr,
            "path-segment" => Self::PathSegment,
            "absolute-path" => Self::AbsolutePath,
            "no-backsteps" => Self::NoBacksteps,
            "local-path" => Self::LocalPath,
            "local-file" => Self::LocalFile,
            _ => return None,
        })
    }

    fn fault(self, text: &str) -> Option<Cow<'static, str>> {
        let backsteps = || text.split('/').any(|step| step == "..");
        match self {
            Self::Label => names::dns_label(text),
            Self::Subdomain => names::dns_subdomain(text),
            Self::Label1035 => names::dns1035_label(text),
            Self::Qualified => names::qualified_name(text),
            Self::LabelValue => names::label_value(text),
            Self::PortName => names::port_name(text),
            Self::Environment => names::environment(text),
            Self::ConfigKey => names::config_key(text),
            Self::Header => names::header(text),
            Self::Ip => names::ip(text),
            Self::Cidr => names::cidr(text),
            Self::PathSegment => names::path_segment(text),
            Self::AbsolutePath if !text.starts_with('/') => Some("must be an absolute path".into()),
            Self::LocalPath | Self::LocalFile if text.starts_with('/') => {
                Some("must be a relative path".into())
            }
            Self::NoBacksteps | Self::LocalPath | Self::LocalFile if backsteps() => {
                Some("must not contain '..'".into())
            }
            Self::LocalFile if text.starts_with("..") => Some("must not start with '..'".into()),
            Self::AbsolutePath | Self::NoBacksteps | Self::LocalPath | Self::LocalFile => None,
        }
    }
}

impl Check {
    /// Reads one word of the table.
    pub(crate) fn parse(word: &'static str) -> Option<Self> {
        let number = |text: &str| text.parse::<i64>().ok();
        Some(match word.split_once(['=', ':']) {
            Some(("enum", values)) => {
                Self::OneOf(values.split(',').map(|v| v.trim_matches('"')).collect())
            }
            Some(("min", least)) => Self::AtLeast(number(least)?),
            Some(("between", range)) => {
                let (least, most) = range.split_once("..")?;
                Self::Between(number(least)?, number(most)?)
            }
            Some(("bytes", most)) => Self::MaxBytes(most.parse().ok()?),
            Some(("items", most)) => Self::MaxItems(most.parse().ok()?),
            Some(("each", form)) => Self::Each(Form::parse(form)?),
            _ => match word {
                "required" => Self::Required,
                "plain" => Self::Plain,
                "unique" => Self::Unique,
                "port" => Self::Between(1, 65535),
                form => Self::Form(Form::parse(form)?),
            },
        })
    }

    fn run(&self, value: &Value, at: &Path<'_>, out: &mut Vec<FieldError>) {
        match self {
            Self::Required | Self::Plain => {}
            Self::OneOf(values) => {
                if value.as_str().is_some_and(|v| !values.contains(&v)) {
                    out.push(FieldError::not_supported(at, value.clone(), values));
                }
            }
            Self::AtLeast(least) => {
                if value.as_i64().is_some_and(|n| n < *least) {
                    let detail = match least {
                        1 => "must be greater than 0".to_owned(),
                        n => format!("must be greater than or equal to {n}"),
                    };
                    out.push(FieldError::invalid(at, value.clone(), detail));
                }
            }
            Self::Between(least, most) => {
                if value
                    .as_i64()
                    .is_some_and(|n| !(*least..=*most).contains(&n))
                {
                    let detail = format!("must be between {least} and {most}, inclusive");
                    out.push(FieldError::invalid(at, value.clone(), detail));
                }
            }
            Self::Form(form) => form_of(*form, value, at, out),
            Self::Each(form) => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    form_of(*form, item, &at.index(index), out);
                }
            }
            Self::Unique => unique(value, at, out),
            Self::MaxBytes(most) => {
                if value.as_str().is_some_and(|v| v.len() > *most) {
                    out.push(FieldError::too_long(at, *most));
                }
            }
            Self::MaxItems(most) => {
                let items = value.as_array().map_or(0, Vec::len);
                if items > *most {
                    out.push(FieldError::too_many(at, items, *most));
                }
            }
        }
    }
}

/// Runs the checks of one field.
fn run_all(checks: &[Check], value: Option<&Value>, at: &Path<'_>, out: &mut Vec<FieldError>) {
    static ZERO: LazyLock<Value> = LazyLock::new(|| Value::from(0));
    let plain = checks.contains(&Check::Plain);
    let value = value
        .filter(|v| !v.is_null())
        .or_else(|| plain.then(|| &*ZERO));
    if checks.contains(&Check::Required) && value.is_none_or(is_zero) {
        out.push(FieldError::required(at, ""));
        return;
    }
    let Some(value) = value.filter(|v| v.is_number() || !is_zero(v)) else {
        return;
    };
    for check in checks {
        check.run(value, at, out);
    }
}

fn form_of(form: Form, value: &Value, at: &Path<'_>, out: &mut Vec<FieldError>) {
    if let Some(fault) = value.as_str().and_then(|text| form.fault(text)) {
        out.push(FieldError::invalid(at, value.clone(), fault));
    }
}

fn unique(value: &Value, at: &Path<'_>, out: &mut Vec<FieldError>) {
    let items = value.as_array().map_or(&[][..], Vec::as_slice);
    let mut seen = HashSet::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        if !seen.insert(item.to_string()) {
            out.push(FieldError::duplicate(at.index(index), item.clone()));
        }
    }
}

/// Runs every check of the tables and every hook over `value`.
pub(crate) fn walk(node: &Node, value: &Value, at: &Path<'_>, out: &mut Vec<FieldError>) {
    match (&node.shape, value) {
        (Shape::Object(object), Value::Object(map)) => {
            for field in object.fields.iter().filter(|f| !f.checks.is_empty()) {
                run_all(
                    field.checks,
                    map.get(&*field.name),
                    &at.field(&field.name),
                    out,
                );
            }
            if let Some(hook) = object.hooks.check {
                hook(value, at, out);
            }
            for (key, value) in map {
                match (object.field(key), &object.values) {
                    (Some(field), _) => walk(&field.node, value, &at.field(key), out),
                    (None, Some(values)) => walk(values, value, &at.key(key), out),
                    (None, None) => {}
                }
            }
        }
        (Shape::List(list), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                walk(&list.items, item, &at.index(index), out);
            }
        }
        _ => {}
    }
}
