//! Times and durations: their arithmetic and their parts.

use cel::Value;
use chrono::{DateTime, Datelike, Duration, FixedOffset, Timelike, Utc};

use super::{Native, text};
use crate::schema::cel::meter::Failure;
use crate::schema::formats::duration_nanos;

pub(super) const FUNCTIONS: &[(&str, Native)] = &[
    ("duration", |v| match v {
        [Value::Duration(duration)] => Ok(Value::Duration(*duration)),
        _ => {
            let nanos = duration_nanos(text(v, 0)?);
            let nanos = nanos.ok_or("invalid duration")?;
            Ok(Value::Duration(Duration::nanoseconds(nanos)))
        }
    }),
    ("timestamp", |v| match v {
        [Value::Timestamp(time)] => Ok(Value::Timestamp(*time)),
        [Value::Int(seconds)] => {
            let time = DateTime::from_timestamp(*seconds, 0).ok_or("timestamp overflow")?;
            in_range(time.fixed_offset()).map(Value::Timestamp)
        }
        _ => {
            let time = DateTime::parse_from_rfc3339(text(v, 0)?);
            let time = time.map_err(|_| "invalid timestamp")?;
            in_range(time).map(Value::Timestamp)
        }
    }),
    ("getFullYear", |v| of_time(v, |t| i64::from(t.year()))),
    ("getMonth", |v| of_time(v, |t| i64::from(t.month0()))),
    ("getDate", |v| of_time(v, |t| i64::from(t.day()))),
    ("getDayOfMonth", |v| of_time(v, |t| i64::from(t.day0()))),
    ("getDayOfYear", |v| of_time(v, |t| i64::from(t.ordinal0()))),
    ("getDayOfWeek", |v| {
        of_time(v, |t| i64::from(t.weekday().num_days_from_sunday()))
    }),
    ("getHours", |v| match v {
        [Value::Duration(duration)] => Ok(Value::Int(duration.num_hours())),
        _ => of_time(v, |t| i64::from(t.hour())),
    }),
    ("getMinutes", |v| match v {
        [Value::Duration(duration)] => Ok(Value::Int(duration.num_minutes())),
        _ => of_time(v, |t| i64::from(t.minute())),
    }),
    ("getSeconds", |v| match v {
        [Value::Duration(duration)] => Ok(Value::Int(duration.num_seconds())),
        _ => of_time(v, |t| i64::from(t.second())),
    }),
    ("getMilliseconds", |v| match v {
        [Value::Duration(duration)] => {
            Ok(Value::Int(i64::from(duration.subsec_nanos()) / 1_000_000))
        }
        _ => of_time(v, |t| i64::from(t.nanosecond() / 1_000_000)),
    }),
];

/// A part of a time, in UTC or at the offset that is given.
fn of_time(values: &[Value], part: fn(&DateTime<FixedOffset>) -> i64) -> Result<Value, String> {
    let time = match values.first() {
        Some(Value::Timestamp(time)) => time,
        _ => return Err("no such overload".to_owned()),
    };
    let offset = match values.get(1) {
        None => Some(FixedOffset::east_opt(0)),
        Some(_) => match text(values, 1)? {
            "UTC" | "" => Some(FixedOffset::east_opt(0)),
            other => offset(other).map(FixedOffset::east_opt),
        },
    };
    let offset = offset.flatten().ok_or("unknown time zone")?;
    Ok(Value::Int(part(&time.with_timezone(&offset))))
}

/// Seconds of `+02:00`.
fn offset(text: &str) -> Option<i32> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let plain = (0..24).contains(&hours) && (0..60).contains(&minutes);
    plain.then_some(sign * (hours * 3600 + minutes * 60))
}

/// CEL's times are in the years 1 to 9999.
fn in_range(time: DateTime<FixedOffset>) -> Result<DateTime<FixedOffset>, String> {
    let year = time.with_timezone(&Utc).year();
    match (1..=9999).contains(&year) {
        true => Ok(time),
        false => Err("timestamp overflow".to_owned()),
    }
}

/// `+` and `-` over times and durations.
pub(super) fn arithmetic(values: &[Value], operator: char) -> Result<Value, Failure> {
    let duration = |sum: Option<Duration>| {
        let sum = sum.filter(|sum| sum.num_nanoseconds().is_some());
        sum.map(Value::Duration)
            .ok_or(Failure::from("duration overflow"))
    };
    let time = |sum: Option<DateTime<FixedOffset>>| {
        let sum = sum.ok_or("timestamp overflow")?;
        Ok(Value::Timestamp(in_range(sum)?))
    };
    match (values, operator) {
        ([Value::Duration(a), Value::Duration(b)], '+') => duration(a.checked_add(b)),
        ([Value::Duration(a), Value::Duration(b)], '-') => duration(a.checked_sub(b)),
        ([Value::Timestamp(a), Value::Duration(b)], '+') => time(a.checked_add_signed(*b)),
        ([Value::Timestamp(a), Value::Duration(b)], '-') => time(a.checked_sub_signed(*b)),
        ([Value::Timestamp(a), Value::Timestamp(b)], '-') => {
            duration(Some(a.signed_duration_since(*b)))
        }
        _ => Err("no such overload".into()),
    }
}
