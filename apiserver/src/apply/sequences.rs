//! Random sequences of writes by several managers, each step held against the model and against what anybody may
//! rely on.

mod rig;
mod types;

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use self::rig::Rig;
use self::types::{Types, built_in, custom};

const MANAGERS: [&str; 4] = ["a", "b", "c", "kubectl"];
const CLIENT_SIDE: &str = "kubectl-client-side-apply";
/// Sequences of each kind of type in an ordinary run.
const FEW: u32 = 400;
/// Sequences of each kind of type in the long run.
const MANY: u32 = 40_000;

/// Which place, and which of its values.
type Choice = (prop::sample::Index, prop::sample::Index);

/// What is said about `managedFields` in a write.
#[derive(Clone, Copy, Debug)]
enum Sent {
    AsRead,
    Absent,
    Nothing,
    OneEmpty,
    Garbage,
    Renamed,
}

#[derive(Clone, Debug)]
enum Write {
    Apply {
        who: usize,
        say: Vec<Choice>,
        force: bool,
        status: bool,
        later: bool,
    },
    Update {
        who: usize,
        put: Vec<Choice>,
        cut: Vec<Choice>,
        sent: Sent,
        status: bool,
    },
    Patch {
        who: usize,
        put: Vec<Choice>,
        cut: Vec<Choice>,
    },
    /// `kubectl apply` without `--server-side`.
    Client {
        say: Vec<Choice>,
    },
    /// What kubectl does after its first server-side apply.
    Migrate {
        to: usize,
    },
    Reshape,
    Delete,
}

fn choices(most: usize) -> impl Strategy<Value = Vec<Choice>> {
    prop::collection::vec(any::<Choice>(), 0..most)
}

fn write() -> impl Strategy<Value = Write> {
    let who = 0..MANAGERS.len();
    let sent = prop_oneof![
        8 => Just(Sent::AsRead), 4 => Just(Sent::Absent), 1 => Just(Sent::Nothing),
        1 => Just(Sent::OneEmpty), 1 => Just(Sent::Garbage), 2 => Just(Sent::Renamed),
    ];
    let status = prop::bool::weighted(0.2);
    prop_oneof![
        10 => (who.clone(), choices(8), any::<bool>(), status, any::<bool>()).prop_map(
            |(who, say, force, status, later)| Write::Apply { who, say, force, status, later }),
        5 => (who.clone(), choices(4), choices(4), sent, status).prop_map(
            |(who, put, cut, sent, status)| Write::Update { who, put, cut, sent, status }),
        3 => (who.clone(), choices(3), choices(3)).prop_map(|(who, put, cut)| Write::Patch { who, put, cut }),
        2 => choices(6).prop_map(|say| Write::Client { say }),
        2 => who.prop_map(|to| Write::Migrate { to }),
        1 => Just(Write::Reshape),
        1 => Just(Write::Delete),
    ]
}

fn run(types: &Types, cases: u32) {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..Config::default()
    };
    let writes = prop::collection::vec(write(), 1..12);
    let outcome = TestRunner::new(config).run(&writes, |writes| {
        let mut rig = Rig {
            types,
            shape: 0,
            live: None,
        };
        for write in &writes {
            rig.step(write);
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

static CUSTOM: LazyLock<Types> = LazyLock::new(custom);
static BUILT_IN: LazyLock<Types> = LazyLock::new(built_in);

#[test]
fn custom_objects_are_owned_as_the_model_says() {
    run(&CUSTOM, FEW);
}

#[test]
fn built_in_objects_are_owned_as_the_model_says() {
    run(&BUILT_IN, FEW);
}

#[test]
#[ignore = "some ten minutes"]
fn both_are_owned_as_the_model_says_in_the_long_run() {
    std::thread::scope(|scope| {
        scope.spawn(|| run(&CUSTOM, 2 * MANY));
        scope.spawn(|| run(&BUILT_IN, MANY));
    });
}
