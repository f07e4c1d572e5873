//! Stop signals by name, as images and `lifecycle.stopSignal` give them.
use std::str::FromStr as _;

use nix::sys::signal::Signal;

/// Sent when neither the container nor its image names another.
pub const SIGTERM: i32 = Signal::SIGTERM as i32;

/// First and last real-time signal.
const REAL_TIME: (i32, i32) = (34, 64);

/// The number of `SIGQUIT`, `QUIT`, `3`, `SIGRTMIN+1`; SIGTERM for what is no signal.
pub fn stop_signal(name: &str) -> i32 {
    let upper = name.trim().to_ascii_uppercase();
    if let Ok(number) = upper.parse::<i32>() {
        return if (1..=REAL_TIME.1).contains(&number) {
            number
        } else {
            SIGTERM
        };
    }
    let full = if upper.starts_with("SIG") {
        upper
    } else {
        format!("SIG{upper}")
    };
    real_time(&full)
        .or_else(|| Signal::from_str(&full).ok().map(|signal| signal as i32))
        .unwrap_or(SIGTERM)
}

fn real_time(name: &str) -> Option<i32> {
    let offset = |rest: &str| {
        if rest.is_empty() {
            Some(0)
        } else {
            rest.get(1..)?.parse::<i32>().ok()
        }
    };
    let number = if let Some(rest) = name.strip_prefix("SIGRTMIN") {
        REAL_TIME.0.checked_add(offset(rest)?)?
    } else {
        REAL_TIME
            .1
            .checked_sub(offset(name.strip_prefix("SIGRTMAX")?)?)?
    };
    (REAL_TIME.0..=REAL_TIME.1)
        .contains(&number)
        .then_some(number)
}

#[cfg(test)]
mod tests {
    use super::stop_signal;

    #[test]
    fn names_and_numbers() {
        let cases = [
            ("SIGQUIT", 3),
            ("quit", 3),
            ("3", 3),
            ("SIGRTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("SIGRTMIN", 34),
            ("SIGNOTHING", 15),
            ("99", 15),
            ("", 15),
            ("SIGRTMIN+99", 15),
        ];
        for (name, number) in cases {
            assert_eq!(stop_signal(name), number, "{name}");
        }
    }
}
