//! Saying once what happens again and again.

use std::time::{Duration, Instant};

/// For so long nothing is said again.
const QUIET: Duration = Duration::from_secs(60);

/// One kind of trouble.
#[derive(Debug, Default)]
pub(crate) struct Complaint {
    said: Option<Instant>,
    since: u64,
}

impl Complaint {
    /// It happened at `now`: how often since it was last said, if it is to be said now.
    pub(crate) fn happened(&mut self, now: Instant) -> Option<u64> {
        self.since += 1;
        let quiet = self
            .said
            .is_some_and(|said| now.saturating_duration_since(said) < QUIET);
        if quiet {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_a_line_a_minute() {
        let start = Instant::now();
        let mut complaint = Complaint::default();
        assert_eq!(complaint.happened(start), Some(1));
        for millis in 0..59_000 {
            let at = start + Duration::from_millis(millis);
            assert_eq!(complaint.happened(at), None);
        }
        assert_eq!(complaint.happened(start + QUIET), Some(59_001));
        assert_eq!(complaint.happened(start + QUIET), None);
    }
}
