//! How many seats a request takes: those that go through many objects take more than one.

use crate::request::Options;

/// Objects that one seat is for.
const OBJECTS: usize = 100;
/// No request takes more.
pub(super) const MOST: u32 = 10;

/// The seats for a request with this verb. `stored` is how many objects of its kind there are; it is asked for only when it
/// matters.
pub(crate) fn seats(verb: &str, options: &Options, stored: impl FnOnce() -> usize) -> u32 {
    let lists = match verb {
        "list" | "deletecollection" => true,
        // It begins with everything that there is.
        "watch" => match options.send_initial_events {
            Some(wanted) => wanted,
            None => matches!(options.resource_version.as_deref(), None | Some("0")),
        },
        _ => false,
    };
    if !lists || options.pinned_name(verb).is_some() {
        return 1;
    }
    let selected = !options.field_selector.is_empty() || !options.label_selector.is_empty();
    let mut objects = stored();
    if options.limit > 0 && !selected && verb == "list" {
        // A page of everything is found without looking at the rest.
        objects = objects.min(options.limit);
    }
    u32::try_from(objects.div_ceil(OBJECTS))
        .unwrap_or(MOST)
        .clamp(1, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_follow_what_has_to_be_looked_at() {
        let cases = [
            ("get", "", 5000, 1),
            ("create", "", 5000, 1),
            ("list", "", 0, 1),
            ("list", "", 100, 1),
            ("list", "", 101, 2),
            ("list", "", 100_000, 10),
            ("list", "limit=500", 5000, 5),
            ("list", "limit=500&labelSelector=a%3Db", 800, 8),
            ("list", "fieldSelector=metadata.name%3Da", 5000, 1),
            ("watch", "resourceVersion=7", 5000, 1),
            ("watch", "", 300, 3),
            ("watch", "resourceVersion=7&sendInitialEvents=true", 300, 3),
            ("deletecollection", "", 300, 3),
        ];
        for (verb, query, stored, expected) in cases {
            let options = Options::parse(query).unwrap();
            assert_eq!(seats(verb, &options, || stored), expected, "{verb} {query}");
        }
        let cheap = || -> usize { panic!("counted for nothing") };
        assert_eq!(seats("get", &Options::default(), cheap), 1);
    }
}
