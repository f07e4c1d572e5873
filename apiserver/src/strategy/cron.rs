//! The syntax of cron schedules, as CronJobs take it.

/// The fields with their ranges and the names of their values.
const FIELDS: [(u32, u32, &[&str]); 5] = [
    (0, 59, &[]),
    (0, 23, &[]),
    (1, 31, &[]),
    (
        1,
        12,
        &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    ),
    (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

/// Checks a schedule of five fields or one of the `@` shorthands.
pub(crate) fn check(schedule: &str) -> Result<(), String> {
    if let Some(shorthand) = schedule.strip_prefix('@') {
        let every = shorthand.strip_prefix("every ");
        return match shorthand {
            "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly" => {
                Ok(())
            }
            _ if every.is_some_and(|d| crate::schema::formats::duration_nanos(d).is_some()) => {
                Ok(())
            }
            _ => Err(format!("unrecognized descriptor: {schedule}")),
        };
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let list = fields.join(" ");
        return Err(format!(
            "expected exactly 5 fields, found {}: [{list}]",
            fields.len()
        ));
    }
    for (text, (low, high, names)) in fields.into_iter().zip(FIELDS) {
        for part in text.split(',') {
            range(part, low, high, names)?;
        }
    }
    Ok(())
}

fn range(text: &str, low: u32, high: u32, names: &[&str]) -> Result<(), String> {
    let (span, step) = match text.split_once('/') {
        Some((span, step)) => (span, Some(step)),
        None => (text, None),
    };
    if let Some(step) = step {
        let parsed = step
            .parse::<u32>()
            .map_err(|_| format!("failed to parse int from {step}"))?;
        if parsed == 0 {
            return Err(format!("step of range should be a positive number: {text}"));
        }
    }
    if matches!(span, "*" | "?") {
        return Ok(());
    }
    let number = |word: &str| number(word, low, names);
    let (start, end) = match span.split_once('-') {
        Some((start, end)) => (number(start)?, number(end)?),
        None => {
            let start = number(span)?;
            (start, if step.is_some() { high } else { start })
        }
    };
    match () {
        () if start < low => Err(format!(
            "beginning of range ({start}) below minimum ({low}): {text}"
        )),
        () if end > high => Err(format!(
            "end of range ({end}) above maximum ({high}): {text}"
        )),
        () if start > end => Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {text}"
        )),
        () => Ok(()),
    }
}

fn number(word: &str, low: u32, names: &[&str]) -> Result<u32, String> {
    if let Some(at) = names.iter().position(|n| n.eq_ignore_ascii_case(word)) {
        return Ok(low + u32::try_from(at).unwrap_or(0));
    }
    word.parse()
        .map_err(|_| format!("failed to parse int from {word}"))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn schedules() {
        let good = [
            "* * * * *",
            "*/5 0-6 1,15 jan-MAR mon",
            "0 0 ? * 0/2",
            "@daily",
            "@every 1h30m",
        ];
        for schedule in good {
            assert_eq!(check(schedule), Ok(()), "{schedule}");
        }
        let bad = [
            "",
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 7",
            "5-1 * * * *",
            "*/0 * * * *",
            "a * * * *",
            "@never",
            "@every soon",
            "-1 * * * *",
        ];
        for schedule in bad {
            assert!(check(schedule).is_err(), "{schedule}");
        }
        assert_eq!(
            check("a b").unwrap_err(),
            "expected exactly 5 fields, found 2: [a b]"
        );
    }
}
