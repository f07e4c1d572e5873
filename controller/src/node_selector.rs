//! Node selector terms: the language of node affinity, of pods and of volumes.

use k8s_openapi::api::core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use kube::ResourceExt;

/// True when any term matches; no terms match nothing.
pub(crate) fn matches(selector: &NodeSelector, node: &Node) -> bool {
    selector
        .node_selector_terms
        .iter()
        .any(|term| term_matches(term, node))
}

/// True when all of the term's expressions match; an empty term matches nothing.
pub(crate) fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let name = node.name_any();
    let labels = node.labels();
    expressions
        .iter()
        .all(|row| holds(row, labels.get(&row.key).map(String::as_str)))
        && fields
            .iter()
            .all(|row| holds(row, (row.key == "metadata.name").then_some(name.as_str())))
}

fn holds(row: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let listed = row.values.as_deref().unwrap_or_default();
    let within = value.is_some_and(|value| listed.iter().any(|listed| listed == value));
    let compared = || {
        let bound = listed.first()?.parse::<i64>().ok()?;
        Some((value?.parse::<i64>().ok()?, bound))
    };
    match row.operator.as_str() {
        "In" => within,
        "NotIn" => !within,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared().is_some_and(|(value, bound)| value > bound),
        "Lt" => compared().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn operators() {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n1", "labels": {"zone": "a", "cores": "8"}}}))
        .unwrap();
        let table: [(Value, bool); 10] = [
            (
                json!({"key": "zone", "operator": "In", "values": ["a", "b"]}),
                true,
            ),
            (
                json!({"key": "zone", "operator": "NotIn", "values": ["a"]}),
                false,
            ),
            (
                json!({"key": "other", "operator": "NotIn", "values": ["a"]}),
                true,
            ),
            (json!({"key": "zone", "operator": "Exists"}), true),
            (json!({"key": "other", "operator": "DoesNotExist"}), true),
            (
                json!({"key": "cores", "operator": "Gt", "values": ["4"]}),
                true,
            ),
            (
                json!({"key": "cores", "operator": "Lt", "values": ["8"]}),
                false,
            ),
            (
                json!({"key": "zone", "operator": "Gt", "values": ["4"]}),
                false,
            ),
            (
                json!({"key": "zone", "operator": "Gt", "values": []}),
                false,
            ),
            (json!({"key": "zone", "operator": "Nonsense"}), false),
        ];
        for (row, expected) in table {
            let term = serde_json::from_value(json!({"matchExpressions": [row]})).unwrap();
            assert_eq!(term_matches(&term, &node), expected, "{term:?}");
        }
        let by_name = json!({"nodeSelectorTerms": [
            {}, {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]});
        assert!(matches(&serde_json::from_value(by_name).unwrap(), &node));
        let nothing = json!({"nodeSelectorTerms": [{}]});
        assert!(!matches(&serde_json::from_value(nothing).unwrap(), &node));
    }
}
