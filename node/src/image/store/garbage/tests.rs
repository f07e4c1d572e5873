//! The plan, by table.
use super::*;

const GIB: u64 = 1 << 30;

fn id(name: &str) -> Digest {
    Digest::sha256(name.as_bytes())
}

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn ago(minutes: i64) -> Timestamp {
    now() - jiff::SignedDuration::from_mins(minutes)
}

/// Name, layers, minutes since the pull, minutes since the last use, in use.
type Row<'a> = (&'a str, &'a [&'a str], i64, i64, bool);

fn run(rows: &[Row<'_>], used_percent: u64, policy: &GarbagePolicy) -> (Vec<String>, u64) {
    let candidates = rows
        .iter()
        .map(|(name, layers, pulled, used, in_use)| Candidate {
            id: id(name),
            layers: layers.iter().map(|layer| id(layer)).collect(),
            pulled_at: ago(*pulled),
            used_at: ago(*used),
            in_use: *in_use,
        });
    let sizes = rows
        .iter()
        .flat_map(|row| row.1)
        .map(|layer| (id(layer), GIB))
        .collect();
    let disk = Disk {
        size: 100 * GIB,
        available: (100 - used_percent) * GIB,
    };
    let (removed, missing) = plan(candidates.collect(), &sizes, disk, policy, now());
    let name = |digest: &Digest| {
        rows.iter()
            .find(|row| id(row.0) == *digest)
            .map(|row| row.0.to_owned())
            .unwrap()
    };
    (removed.iter().map(name).collect(), missing / GIB)
}

#[test]
fn removes_the_least_recently_used_until_enough_is_free() {
    let policy = GarbagePolicy::default();
    let rows: &[Row<'_>] = &[
        ("new", &["base", "new"], 90, 1, false),
        ("old", &["base", "old"], 90, 50, false),
        ("older", &["older", "older2"], 90, 60, false),
        ("used", &["u"], 90, 70, true),
        ("young", &["y"], 1, 80, false),
    ];
    assert_eq!(
        run(rows, 84, &policy),
        (vec![], 0),
        "below the threshold nothing goes"
    );
    let gone = |names: &[&str], missing| (names.iter().map(|n| (*n).to_owned()).collect(), missing);
    let two = GarbagePolicy {
        low_percent: 83,
        ..policy.clone()
    };
    assert_eq!(run(rows, 85, &two), gone(&["older"], 0));
    assert_eq!(
        run(rows, 86, &two),
        gone(&["older", "old"], 0),
        "a shared layer frees nothing"
    );
    assert_eq!(
        run(rows, 90, &policy),
        gone(&["older", "old"], 7),
        "what is in use stays"
    );
}

#[test]
fn what_nobody_used_for_long_goes_whatever_the_disk_says() {
    let hour = GarbagePolicy {
        maximum_age: Some(Duration::from_secs(3600)),
        ..Default::default()
    };
    let rows: &[Row<'_>] = &[
        ("old", &["a"], 900, 61, false),
        ("used", &["b"], 900, 900, true),
        ("fresh", &["c"], 900, 59, false),
    ];
    assert_eq!(run(rows, 10, &hour), (vec!["old".to_owned()], 0));
}
