//! Tables after Kubernetes' own label selectors, and properties.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn text_matches() {
    let web = labels(&[("app", "web"), ("tier", "front"), ("n", "5"), ("e", "")]);
    for (text, expected) in [
        ("", true),
        ("  ", true),
        ("app", true),
        ("!app", false),
        ("!gone", true),
        ("app=web", true),
        ("app==web", true),
        ("app = web , tier=front", true),
        ("app=db", false),
        ("app!=db", true),
        ("gone!=db", true),
        ("gone=db", false),
        ("app in (web,db)", true),
        ("app in ( db )", false),
        ("app notin (db)", true),
        ("gone notin (db)", true),
        ("gone in (db)", false),
        ("e=", true),
        ("e=,app=web", true),
        ("app=", false),
        ("e in (,a)", true),
        ("e in (a,)", true),
        ("app in (a,)", false),
        ("n>4", true),
        ("n>5", false),
        ("n<6", true),
        ("app>1", false),
        ("gone<1", false),
        ("in=x", false),
        ("app in (web),tier notin (back),!gone", true),
    ] {
        let selector: LabelSelector = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(selector.matches(&web), expected, "{text}");
        let again: LabelSelector = selector.to_string().parse().unwrap();
        assert_eq!(again, selector, "{text}");
    }
}

#[test]
fn refused_text() {
    for text in [
        ",",
        "a,",
        "a,,b",
        "!",
        "!a=b",
        "=a",
        "a b",
        "a in",
        "a in b",
        "a in (b",
        "a in ()",
        "a in (b c)",
        "a=b=c",
        "a=(b)",
        "a>b",
        "a>",
        "(a)",
        "x/y/z",
        "-a",
        "a=-b",
        "/a",
        "A_/b",
        "a notin b",
        "a!b",
    ] {
        assert!(text.parse::<LabelSelector>().is_err(), "{text}");
    }
    let long = format!("a={}", "x".repeat(64));
    assert!(long.parse::<LabelSelector>().is_err());
    let error = "a in ()".parse::<LabelSelector>().unwrap_err().to_string();
    assert!(
        error.starts_with("unable to parse requirement: "),
        "{error}"
    );
}

#[test]
fn structured_form() {
    let read: meta::LabelSelector = serde_json::from_value(json!({
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["front", "back"]},
            {"key": "old", "operator": "DoesNotExist"},
        ],
    }))
    .unwrap();
    let selector = LabelSelector::try_from(&read).unwrap();
    assert_eq!(selector.to_string(), "app=web,tier in (back,front),!old");
    assert!(selector.matches(&labels(&[("app", "web"), ("tier", "back")])));
    assert!(!selector.matches(&labels(&[("app", "web"), ("tier", "back"), ("old", "1")])));
    for expression in [
        json!({"key": "a", "operator": "Gt", "values": ["1"]}),
        json!({"key": "a", "operator": "In", "values": []}),
        json!({"key": "a", "operator": "Exists", "values": ["1"]}),
        json!({"key": "", "operator": "Exists"}),
    ] {
        let read: meta::LabelSelector =
            serde_json::from_value(json!({ "matchExpressions": [expression] })).unwrap();
        assert!(LabelSelector::try_from(&read).is_err());
    }
    assert!(
        LabelSelector::try_from(&meta::LabelSelector::default())
            .unwrap()
            .is_empty()
    );
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[a-z0-9=!,()<> ./_-]{0,40}|\\PC{0,20}") {
        if let Ok(selector) = text.parse::<LabelSelector>() {
            let again: LabelSelector = selector.to_string().parse().unwrap();
            prop_assert_eq!(again, selector);
        }
    }

    #[test]
    fn negations_disagree(
        key in "[a-c]", value in "[x-z]{0,2}", set in prop::collection::btree_set("[x-z]{1,2}", 1..4),
    ) {
        let object = labels(&[(&key, &value)]);
        for probe in ["a", "b", "c"] {
            let holds = |operator| {
                let one = Requirement::new(probe, operator, set.clone()).unwrap();
                one.holds(object.get(probe).map(String::as_str))
            };
            prop_assert_ne!(holds(Operator::In), holds(Operator::NotIn));
        }
    }
}
