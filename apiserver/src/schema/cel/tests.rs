//! Rules over objects.

use serde_json::{Value, json};

use super::*;
use crate::schema::Schema;

fn schema(properties: Value, rules: Value) -> std::sync::Arc<Schema> {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties,
        "x-kubernetes-validations": rules}}});
    Schema::from_crd("x.io", "v1", "Foo", &schema, &Path::new("s")).unwrap()
}

fn errors(rule: &str, spec: Value, old: Option<Value>) -> Vec<String> {
    let string = json!({"type": "string"});
    let properties = json!({
        "a": {"type": "integer"}, "b": {"type": "integer"}, "s": string, "t": string, "a-b": string, "namespace": string,
        "when": {"type": "string", "format": "date-time"}, "wait": {"type": "string", "format": "duration"},
        "list": {"type": "array", "items": {"type": "integer"}}, "names": {"type": "array", "items": string},
        "map": {"type": "object", "additionalProperties": {"type": "integer"}},
        "port": {"x-kubernetes-int-or-string": true}, "ratio": {"type": "number"},
    });
    let schema = schema(properties, json!([{"rule": rule}]));
    let whole = |spec: Value| json!({"metadata": {"name": "x"}, "spec": spec});
    let errors = schema.validate(&whole(spec), old.map(whole).as_ref());
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn rules_that_hold_and_rules_that_fail() {
    let table = [
        (
            "self.a <= self.b",
            json!({"a": 1, "b": 2}),
            json!({"a": 3, "b": 2}),
        ),
        ("has(self.a) || has(self.b)", json!({"a": 1}), json!({})),
        (
            "isIP(self.s) && ip(self.s).family() == 4 && ip.isCanonical(self.s)",
            json!({"s": "10.0.0.1"}),
            json!({"s": "fd00::1"}),
        ),
        (
            "cidr('10.0.0.0/8').containsIP(self.s)",
            json!({"s": "10.9.0.1"}),
            json!({"s": "192.168.0.1"}),
        ),
        (
            "url(self.s).getHost() == 'x.io:80'",
            json!({"s": "https://x.io:80/a"}),
            json!({"s": "https://y.io/a"}),
        ),
        (
            "semver(self.s).isGreaterThan(semver('1.9.0'))",
            json!({"s": "1.10.0"}),
            json!({"s": "1.2.0"}),
        ),
        (
            "'%s=%d'.format([self.s, self.a]) == 'x=2'",
            json!({"s": "x", "a": 2}),
            json!({"s": "x", "a": 3}),
        ),
        (
            "!has(self.s) || self.s.startsWith('x')",
            json!({}),
            json!({"s": "y"}),
        ),
        (
            "self.s.matches('^[a-z]+$')",
            json!({"s": "abc"}),
            json!({"s": "1"}),
        ),
        (
            "self.list.all(x, x > 0)",
            json!({"list": [1, 2]}),
            json!({"list": [1, 0]}),
        ),
        (
            "self.list.exists(x, x == 2)",
            json!({"list": [1, 2]}),
            json!({"list": [1]}),
        ),
        (
            "self.list.exists_one(x, x == 2)",
            json!({"list": [1, 2]}),
            json!({"list": [2, 2]}),
        ),
        (
            "self.list.map(x, x * 2).sum() == 6",
            json!({"list": [1, 2]}),
            json!({"list": [1]}),
        ),
        (
            "self.list.filter(x, x > 1).size() == 1",
            json!({"list": [1, 2]}),
            json!({"list": [1]}),
        ),
        (
            "self.list.isSorted()",
            json!({"list": [1, 2]}),
            json!({"list": [2, 1]}),
        ),
        (
            "self.list.max() < 5",
            json!({"list": [1, 2]}),
            json!({"list": [1, 9]}),
        ),
        (
            "size(self.names) <= 1",
            json!({"names": ["a"]}),
            json!({"names": ["a", "b"]}),
        ),
        (
            "self.names.join(',') == 'a,b'",
            json!({"names": ["a", "b"]}),
            json!({"names": ["b"]}),
        ),
        (
            "'x' in self.map && self.map['x'] > 1",
            json!({"map": {"x": 2}}),
            json!({"map": {"x": 1}}),
        ),
        (
            "self.map.all(k, k.startsWith('x'))",
            json!({"map": {"x": 2}}),
            json!({"map": {"y": 1}}),
        ),
        (
            "self.s.split('-').size() == 2",
            json!({"s": "a-b"}),
            json!({"s": "a"}),
        ),
        (
            "self.s.lowerAscii() == self.s",
            json!({"s": "a"}),
            json!({"s": "A"}),
        ),
        (
            "self.s.substring(1) == 'bc'",
            json!({"s": "abc"}),
            json!({"s": "abd"}),
        ),
        (
            "self.s.find('[0-9]+') == '12'",
            json!({"s": "a12b"}),
            json!({"s": "a"}),
        ),
        ("isIP(self.s)", json!({"s": "10.0.0.1"}), json!({"s": "x"})),
        (
            "isCIDR(self.s)",
            json!({"s": "10.0.0.0/8"}),
            json!({"s": "10.0.0.0"}),
        ),
        (
            "isURL(self.s)",
            json!({"s": "https://a.b/c"}),
            json!({"s": "a b"}),
        ),
        (
            "quantity(self.s).isLessThan(quantity('1Gi'))",
            json!({"s": "500Mi"}),
            json!({"s": "2Gi"}),
        ),
        (
            "self.when < timestamp('2025-01-01T00:00:00Z')",
            json!({"when": "2024-01-01T00:00:00Z"}),
            json!({"when": "2026-01-01T00:00:00Z"}),
        ),
        (
            "self.wait < duration('1h')",
            json!({"wait": "5m"}),
            json!({"wait": "2h"}),
        ),
        (
            "self.a__dash__b == 'x' && self.__namespace__ == 'n'",
            json!({"a-b": "x", "namespace": "n"}),
            json!({"a-b": "y", "namespace": "n"}),
        ),
        (
            "type(self.port) == int ? self.port > 0 : self.port != ''",
            json!({"port": 1}),
            json!({"port": ""}),
        ),
        ("self.ratio > 0.5", json!({"ratio": 1}), json!({"ratio": 0})),
        (
            "self.a > 0 ? self.b > 0 : true",
            json!({"a": 0, "b": 0}),
            json!({"a": 1, "b": 0}),
        ),
        (
            "sets.contains(self.names, ['a'])",
            json!({"names": ["a", "b"]}),
            json!({"names": ["b"]}),
        ),
    ];
    for (rule, good, bad) in table {
        assert_eq!(errors(rule, good, None), Vec::<String>::new(), "{rule}");
        let expected = format!("spec: Invalid value: \"object\": failed rule: {rule}");
        assert_eq!(errors(rule, bad, None), [expected]);
    }
}

#[test]
fn transition_rules_need_an_old_value() {
    let rule = "self.s == oldSelf.s";
    assert!(errors(rule, json!({"s": "a"}), None).is_empty());
    assert!(errors(rule, json!({"s": "a"}), Some(json!({"s": "a"}))).is_empty());
    assert_eq!(
        errors(rule, json!({"s": "b"}), Some(json!({"s": "a"}))).len(),
        1
    );
    // What is wrong already may stay as long as it is not touched.
    assert!(errors("self.a > 5", json!({"a": 1}), Some(json!({"a": 1}))).is_empty());
    assert_eq!(
        errors("self.a > 5", json!({"a": 2}), Some(json!({"a": 1}))).len(),
        1
    );
}

#[test]
fn messages_reasons_and_paths() {
    let properties = json!({"a": {"type": "integer"}});
    let rules = json!([
        {"rule": "self.a < 5", "message": "a must be small", "fieldPath": ".a"},
        {"rule": "self.a < 6", "messageExpression": "'a is ' + string(self.a)", "message": "unused", "reason": "FieldValueForbidden"},
        {"rule": "self.a < 7", "messageExpression": "self.nothing", "message": "fallback"},
    ]);
    let schema = schema(properties, rules);
    let errors = schema.validate(&json!({"spec": {"a": 9}}), None);
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "spec.a: Invalid value: \"object\": a must be small",
            "spec: Forbidden: a is 9",
            "spec: Invalid value: \"object\": fallback"
        ]
    );
}

#[test]
fn rules_that_cannot_work_are_refused_with_the_definition() {
    let table = [
        ("self.a >", "compilation failed"),
        ("other.a > 1", "undeclared reference to 'other'"),
        ("", "rule is not specified"),
        (&"(".repeat(2000) as &str, "more than 600 operators"),
        (&format!("{}1", "1+".repeat(5000)) as &str, "longer than"),
    ];
    for (rule, part) in table {
        let schema = json!({"type": "object", "x-kubernetes-validations": [{"rule": rule}]});
        let errors = Schema::from_crd("x.io", "v1", "Foo", &schema, &Path::new("s")).unwrap_err();
        assert!(errors[0].to_string().contains(part), "{errors:?}");
        assert!(
            errors[0]
                .path
                .starts_with("s.x-kubernetes-validations[0].rule"),
            "{errors:?}"
        );
    }
    let deep = format!("{}true{}", "(".repeat(80), ")".repeat(80));
    let long = format!("self.a{} > 0", "+1".repeat(550));
    for rule in [deep, long] {
        assert!(
            errors(&rule, json!({"a": 1}), None).is_empty(),
            "as deep as allowed"
        );
    }
}

#[test]
fn costly_rules_fail_at_once() {
    let list: Vec<i64> = (0..2000).collect();
    let rule = "self.list.all(x, self.list.all(y, self.list.all(z, x + y + z >= 0)))";
    let start = std::time::Instant::now();
    let found = errors(rule, json!({"list": list}), None);
    assert!(found[0].contains("call cost exceeds limit"), "{found:?}");
    assert!(start.elapsed().as_secs() < 5);
    assert!(errors(rule, json!({"list": [1, 2, 3]}), None).is_empty());
    assert!(errors("self.a / 0 == 1", json!({"a": 1}), None)[0].contains("rule self.a / 0 == 1:"));
    assert!(errors("self.a", json!({"a": 1}), None)[0].contains("must evaluate to a bool"));
}

proptest::proptest! {
    #[test]
    fn no_expression_panics(rule in "[a-z().\\[\\]'\"0-9+*/<>=!&|?: ,{}-]{0,60}", spec in crate::schema::any_json()) {
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-validations": [{"rule": rule}]});
        if let Ok(schema) = Schema::from_crd("x.io", "v1", "Foo", &schema, &Path::new("s")) {
            let _ = schema.validate(&json!({"spec": spec}), Some(&json!({"spec": 1})));
        }
    }
}
