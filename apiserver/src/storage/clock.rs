//! When revisions were made: milliseconds since 1970, as changes carry them. 0 stands for a time that is not known.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970; 0 if that is not known.
pub(super) type Millis = u64;

/// A time in whole milliseconds.
pub(super) fn millis(time: SystemTime) -> Millis {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The time that was noted, if one was.
pub(super) fn time(millis: Millis) -> Option<SystemTime> {
    if millis == 0 {
        return None;
    }
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;

    use super::super::plan::plan;
    use super::super::state::State;
    use super::super::{Op, Txn};
    use super::*;

    fn write(state: &mut State, key: &str, now: Millis) {
        let op = Op::Put {
            key: key.into(),
            value: Bytes::from_static(b"1").into(),
        };
        let txn = Txn {
            ops: vec![op],
            ..Txn::default()
        };
        for change in plan(state, [&txn], now).changes {
            state.apply(change, Instant::now());
        }
    }

    #[test]
    fn revisions_are_found_by_the_time_they_were_the_newest() {
        let mut state = State::at(1, 100);
        // Revisions 2 to 5; the clock goes back once.
        for (key, now) in [("a", 110), ("b", 110), ("c", 90), ("a", 130)] {
            write(&mut state, key, now);
        }
        let all = [
            (99, None),
            (100, Some(1)),
            (109, Some(1)),
            (110, Some(4)),
            (129, Some(4)),
            (130, Some(5)),
            (u64::MAX, Some(5)),
        ];
        for (time, revision) in all {
            assert_eq!(state.revision_at(time), revision, "{time}");
        }
        let trim = state.plan_trim(4);
        state.trim(&trim);
        for (time, revision) in [(109, None), (110, Some(4)), (129, Some(4)), (130, Some(5))] {
            assert_eq!(state.revision_at(time), revision, "{time} after forgetting");
        }
        let trim = state.plan_trim(5);
        state.trim(&trim);
        assert_eq!(
            (state.revision_at(129), state.revision_at(130)),
            (None, Some(5))
        );
    }

    #[test]
    fn what_an_older_format_left_has_no_time() {
        let mut state = State::at(7, 0);
        write(&mut state, "a", 0);
        assert_eq!(state.revision_at(50), None);
        write(&mut state, "a", 60);
        assert_eq!(
            (state.revision_at(59), state.revision_at(60)),
            (None, Some(9))
        );
        assert_eq!((time(0), time(1_500).map(millis)), (None, Some(1_500)));
    }
}
