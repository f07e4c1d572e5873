//! What expressions may cost, in money of Kubernetes, memory and time: hostile ones, and random ones over random objects.

use std::collections::HashSet;
use std::sync::Arc;

use cel::Value as Cel;
use cel::objects::OptionalValue;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::meter::{Budget, Failure, Limit, Meter};
use super::{Expression, Scope, convert, evaluate, to_json};
use crate::schema::node::Node;

const NAMES: &[&str] = &["self"];

fn run(source: &str, object: &Value, meter: &mut Meter) -> Result<Cel, Failure> {
    let expression = Expression::compile(source, NAMES).map_err(Failure::Fault)?;
    let object = convert::convert(Node::any(), object);
    evaluate::evaluate(expression.tree(), vec![("self", object)], meter)
}

/// An object of 200 KB, of texts that do harm.
fn large() -> Value {
    let ones: Vec<u8> = vec![1; 20_000];
    json!({
        "text": "a".repeat(100_000),
        "pairs": "a&".repeat(30_000),
        "pattern": "(a*)*".repeat(200) + "b",
        "wide": "((a{100}){100}){100}",
        "list": ones,
        "words": (0..5_000).map(|n| format!("word-{n}")).collect::<Vec<_>>(),
        "nested": [[1, 2], [3, 4]],
    })
}

#[test]
fn what_functions_make_is_charged_before_it_is_made() {
    let object = large();
    let table = [
        // One text in the place of each of its own characters: 10 GB.
        "self.text.replace('a', self.text).size() > 0",
        "self.text.replace('', self.text) == ''",
        "self.words.join(self.text) == ''",
        "self.words.map(w, self.text).join('') == ''",
        "self.list.map(x, self.text + self.text).size() > 0",
        "self.list.map(x, self.text.split('')).size() > 0",
        "self.list.map(x, self.text.upperAscii()).size() > 0",
        "self.list.map(x, '%s%s'.format([self.text, self.text])).size() > 0",
        "self.list.map(x, bytes(self.text) + bytes(self.text)).size() > 0",
        "self.list.map(x, url('/?' + self.pairs).getQuery()).size() > 0",
        "self.list.map(x, self.text.findAll('a')).size() > 0",
        // Patterns that users wrote, over texts that users wrote.
        "self.words.all(w, self.text.matches(self.pattern))",
        "self.text.matches(self.pattern)",
        "self.list.exists(x, self.text.find('(a|b|c){1,200}d') == 'd')",
        "self.list.all(x, 'a'.matches('a{' + string(x + 900) + '}') || true)",
        // Loops in loops.
        "self.list.all(x, self.list.all(y, true))",
        "self.list.map(x, self.list).map(l, l + self.list).size() > 0",
        "self.list.map(x, self.list.map(y, y)).size() > 0",
        "self.list.transformMap(i, x, self.list.transformList(j, y, y)).size() > 0",
        "self.list.all(x, sets.contains(self.list, self.list))",
        "sets.equivalent(self.words + ['x'], self.words + ['y'])",
        "self.list.all(x, self.words == self.words)",
        "self.list.all(x, 'x' in self.words || true)",
        "self.list.all(x, self.words.indexOf('x') < 0)",
        "self.list.all(x, self.list.isSorted() && self.list.sum() > 0 && self.list.max() > 0)",
        "self.list.all(x, self.text < self.text + 'b')",
        "self.list.all(x, isIP(self.text) || isURL(self.text) || true)",
        "self.list.all(x, quantity(self.text) == quantity('1') || true)",
        // An error that others make irrelevant does not hide a limit.
        "self.list.all(x, self.list.all(y, true)) || true",
        "(self.text.replace('a', self.text) == '') || true",
    ];
    for source in table {
        let mut meter = Meter::default();
        let outcome = run(source, &object, &mut meter);
        assert!(
            matches!(outcome, Err(Failure::Spent(Limit::Call | Limit::Memory))),
            "{source}: {outcome:.200?}"
        );
    }
}

/// Values that hold the same part many times are small until somebody writes them out.
#[test]
fn parts_that_are_shared_are_charged_each_time_they_are_looked_at() {
    let double = Expression::compile("[self, self]", NAMES).unwrap();
    let mut value = Cel::Null;
    for _ in 0..60 {
        let names = vec![("self", value)];
        value = evaluate::evaluate(double.tree(), names, &mut Meter::default()).unwrap();
    }
    let error = to_json(&value).unwrap_err();
    assert_eq!(error, Limit::Memory.message(), "2^60 texts");
    for source in [
        "'%s'.format([self]) == ''",
        "self == self",
        "self in [self]",
        "sets.contains(self, self)",
        "self.indexOf(self[0]) == 0",
        "optional.of(self) == optional.of(self)",
    ] {
        let expression = Expression::compile(source, NAMES).unwrap();
        let names = vec![("self", value.clone())];
        let outcome = evaluate::evaluate(expression.tree(), names, &mut Meter::default());
        let limit = matches!(outcome, Err(Failure::Spent(Limit::Call | Limit::Memory)));
        assert!(limit, "{source}");
    }
}

#[test]
fn what_is_usual_costs_what_kubernetes_says() {
    let object = json!({"list": [1, 2, 3], "text": "abcdefghij", "map": {"a": 1}});
    let table = [
        ("true", 0),
        ("self", 1),
        ("self.text", 2),
        ("self.text == 'abcdefghij'", 4),
        ("self.text + self.text == ''", 7),
        ("self.text.startsWith('abc')", 3),
        ("[1, 2, 3].size() == 3", 12),
        ("{'a': 1}.size() == 1", 32),
        ("1 in [1, 2, 3]", 11),
        ("self.text.matches('abcd')", 4),
    ];
    for (source, cost) in table {
        let mut meter = Meter::default();
        run(source, &object, &mut meter).unwrap();
        let (used, _) = meter.used();
        // Kubernetes' own measure, and a little more for the bytes of both sides.
        assert!((cost..=cost + 2).contains(&used), "{source}: {used}");
    }
    // A thousand items with a pattern each are nothing.
    let names: Vec<String> = (0..1000).map(|n| format!("name-{n}")).collect();
    let rule = "self.names.all(n, n.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && n.size() <= 63)";
    let outcome = run(rule, &json!({ "names": names }), &mut Meter::default());
    assert_eq!(outcome, Ok(Cel::Bool(true)));
}

#[test]
fn all_expressions_over_the_same_values_share_a_budget() {
    let mut scope = Scope::of_conditions();
    let list: Vec<u8> = vec![1; 300];
    scope.set("self", &json!({ "list": list }));
    let costly = Expression::compile("self.list.all(x, self.list.all(y, x == y))", NAMES).unwrap();
    let outcomes: Vec<_> = (0..10).map(|_| costly.evaluate(&scope)).collect();
    assert_eq!(outcomes.first(), Some(&Ok(Cel::Bool(true))));
    let spent = Err(Limit::Budget.message().to_owned());
    assert_eq!(outcomes.last(), Some(&spent));
    let budget = Budget::default();
    budget.settle(&budget.meter());
}

/// Bytes of a value, parts that it holds several times counted once.
fn size(value: &Cel, seen: &mut HashSet<usize>) -> u64 {
    let mut new = |at: usize| seen.insert(at);
    match value {
        Cel::String(text) if new(Arc::as_ptr(text).addr()) => text.len() as u64,
        Cel::Bytes(bytes) if new(Arc::as_ptr(bytes).addr()) => bytes.len() as u64,
        Cel::List(items) if new(Arc::as_ptr(items).addr()) => {
            items.iter().map(|item| 24 + size(item, seen)).sum()
        }
        Cel::Map(map) if new(Arc::as_ptr(&map.map).addr()) => {
            let values = map.map.values();
            values.map(|value| 48 + size(value, seen)).sum()
        }
        Cel::Opaque(opaque) => match opaque.downcast_ref::<OptionalValue>() {
            Some(optional) => optional.value().map_or(0, |value| size(value, seen)),
            None => 0,
        },
        _ => 0,
    }
}

/// Makes expressions of the types it is asked for, as random bytes say.
struct Author<'b> {
    bytes: std::slice::Iter<'b, u8>,
    loops: usize,
}

impl Author<'_> {
    fn pick(&mut self, deep: usize) -> u8 {
        if deep > 5 {
            return 0;
        }
        self.bytes.next().copied().unwrap_or(0)
    }

    fn text(&mut self, deep: usize) -> String {
        let n = deep + 1;
        match self.pick(deep) % 16 {
            1 => format!("({} + {})", self.text(n), self.text(n)),
            2 => format!(
                "{}.replace({}, {})",
                self.text(n),
                self.text(n),
                self.text(n)
            ),
            3 => format!("{}.join({})", self.list(n), self.text(n)),
            4 => format!("{}.upperAscii()", self.text(n)),
            5 => format!("'%s|%s'.format([{}, {}])", self.text(n), self.list(n)),
            6 => format!("{}.substring({} % 10)", self.text(n), self.int(n)),
            7 => format!("{}.find({})", self.text(n), self.text(n)),
            8 => format!("string({})", self.int(n)),
            9 => format!("string(bytes({}) + bytes({}))", self.text(n), self.text(n)),
            10 => format!("({} ? {} : {})", self.flag(n), self.text(n), self.text(n)),
            11 => "self.pattern".to_owned(),
            12 => "'a'".to_owned(),
            13 => "''".to_owned(),
            14 => format!("jsonpatch.escapeKey({})", self.text(n)),
            _ => "self.text".to_owned(),
        }
    }

    fn list(&mut self, deep: usize) -> String {
        let n = deep + 1;
        match self.pick(deep) % 12 {
            1 => format!("({} + {})", self.list(n), self.list(n)),
            2 => format!("{}.split({})", self.text(n), self.text(n)),
            3 => format!("{}.findAll({})", self.text(n), self.text(n)),
            4 => self.looped(n, "map", Self::text),
            5 => self.looped(n, "filter", Self::flag),
            6 => format!("[{}, {}]", self.text(n), self.text(n)),
            7 => format!("({} ? {} : {})", self.flag(n), self.list(n), self.list(n)),
            8 => {
                self.loops += 1;
                let (i, v) = (format!("i{}", self.loops), format!("v{}", self.loops));
                format!(
                    "{}.transformList({i}, {v}, {v} + {})",
                    self.list(n),
                    self.text(n)
                )
            }
            9 => self.looped(n, "map", Self::list),
            _ => "self.list".to_owned(),
        }
    }

    fn looped(&mut self, n: usize, name: &str, body: fn(&mut Self, usize) -> String) -> String {
        self.loops += 1;
        let variable = format!("x{}", self.loops);
        let range = self.list(n);
        format!("{range}.{name}({variable}, {})", body(self, n))
    }

    fn int(&mut self, deep: usize) -> String {
        let n = deep + 1;
        match self.pick(deep) % 7 {
            1 => format!("{}.size()", self.text(n)),
            2 => format!("{}.size()", self.list(n)),
            3 => format!("({} * {})", self.int(n), self.int(n)),
            4 => format!("{}.indexOf({})", self.text(n), self.text(n)),
            5 => format!("int({})", self.text(n)),
            _ => "7".to_owned(),
        }
    }

    fn flag(&mut self, deep: usize) -> String {
        let n = deep + 1;
        match self.pick(deep) % 12 {
            1 => format!("{}.matches({})", self.text(n), self.text(n)),
            2 => format!("({} == {})", self.text(n), self.text(n)),
            3 => format!("({} == {})", self.list(n), self.list(n)),
            4 => format!("({} in {})", self.text(n), self.list(n)),
            5 => self.looped(n, "all", Self::flag),
            6 => self.looped(n, "exists", Self::flag),
            7 => format!("({} || {})", self.flag(n), self.flag(n)),
            8 => format!("({} && !{})", self.flag(n), self.flag(n)),
            9 => format!("sets.contains({}, {})", self.list(n), self.list(n)),
            10 => format!("({} < {})", self.text(n), self.text(n)),
            11 => format!("isURL({})", self.text(n)),
            _ => "true".to_owned(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_expression_exceeds_its_limits(
        kind in 0_u8..3, bytes in prop::collection::vec(any::<u8>(), 0..120),
        length in prop_oneof![0_usize..20, 1000_usize..200_000], count in prop_oneof![0_usize..5, 100_usize..20_000],
        letter in prop_oneof![Just("a"), Just("ä"), Just("a,")],
        pattern in prop_oneof![Just("(a*)*b".to_owned()), Just("(a{50}){50}".to_owned()), "[a-z(){}*+?|,0-9\\[\\]^-]{0,40}"],
    ) {
        let mut author = Author { bytes: bytes.iter(), loops: 0 };
        let source = match kind {
            0 => author.text(0),
            1 => author.list(0),
            _ => author.flag(0),
        };
        let object = json!({"text": letter.repeat(length), "list": vec!["item"; count], "pattern": pattern});
        let mut meter = Meter::default();
        let started = super::meter::now();
        let outcome = run(&source, &object, &mut meter);
        let took = super::meter::now() - started;
        let (cost, bytes) = meter.used();
        if outcome != Err(Failure::Spent(Limit::Call)) {
            prop_assert!(cost <= 1_000_000, "{cost}");
        }
        // The thread's own time: what else runs on the machine does not count. Tests are not optimised.
        prop_assert!(took < 20_000_000_000, "{took} ns for {source}");
        prop_assert_ne!(&outcome, &Err(Failure::Spent(Limit::Time)), "{}", source);
        if let Ok(value) = outcome {
            let given = letter.len() * length + pattern.len() + 4 * count + 24 * count + 1000;
            let size = size(&value, &mut HashSet::new());
            prop_assert!(size <= bytes + given as u64, "{size} bytes made, {bytes} charged by {source}");
        }
    }
}
