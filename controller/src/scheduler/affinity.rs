//! Affinity and anti-affinity between pods, by topology domain.

use std::collections::{BTreeMap, HashMap};

use davit_api::LabelSelector;
use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm};
use kube::ResourceExt;

use super::cluster::{Cluster, NodeInfo};

/// A term with its selector worked out.
#[derive(Debug)]
struct Term {
    topology: String,
    namespaces: Vec<String>,
    any_namespace: bool,
    selector: Option<LabelSelector>,
}

impl Term {
    fn new(owner: &Pod, term: &PodAffinityTerm) -> Self {
        let listed = term.namespaces.clone().unwrap_or_default();
        // An empty namespace selector means every namespace; another one would need the labels
        // of namespaces, and is taken as the listed names alone.
        let any_namespace = term.namespace_selector.as_ref().is_some_and(|selector| {
            selector.match_labels.iter().flatten().next().is_none()
                && selector.match_expressions.iter().flatten().next().is_none()
        });
        let own = listed.is_empty() && term.namespace_selector.is_none();
        Self {
            topology: term.topology_key.clone(),
            namespaces: if own {
                owner.namespace().into_iter().collect()
            } else {
                listed
            },
            any_namespace,
            selector: selector_of(owner, term),
        }
    }

    fn matches(&self, pod: &Pod) -> bool {
        let namespace = pod.namespace().unwrap_or_default();
        (self.any_namespace || self.namespaces.contains(&namespace))
            && self
                .selector
                .as_ref()
                .is_some_and(|selector| selector.matches(pod.labels()))
    }
}

/// The term's selector, with the owner's own values for `matchLabelKeys`.
fn selector_of(owner: &Pod, term: &PodAffinityTerm) -> Option<LabelSelector> {
    let mut selector = term.label_selector.clone()?;
    for key in term.match_label_keys.iter().flatten() {
        if let Some(value) = owner.labels().get(key) {
            selector
                .match_labels
                .get_or_insert_default()
                .insert(key.clone(), value.clone());
        }
    }
    LabelSelector::try_from(&selector).ok()
}

/// True for a pod that keeps others away by required anti-affinity.
pub(crate) fn repels(pod: &Pod) -> bool {
    !required_anti(pod).is_empty()
}

fn required_anti(pod: &Pod) -> &[PodAffinityTerm] {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.affinity.as_ref()?.pod_anti_affinity.as_ref())
        .and_then(|anti| {
            anti.required_during_scheduling_ignored_during_execution
                .as_deref()
        })
        .unwrap_or_default()
}

fn required(pod: &Pod) -> &[PodAffinityTerm] {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.affinity.as_ref()?.pod_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_deref()
        })
        .unwrap_or_default()
}

fn domain<'a>(info: &'a NodeInfo, topology: &str) -> Option<&'a str> {
    info.node
        .as_ref()?
        .metadata
        .labels
        .as_ref()?
        .get(topology)
        .map(String::as_str)
}

/// Domains in which pods that match a term live, with their number.
type Domains = HashMap<String, i64>;

fn domains(cluster: &Cluster, term: &Term) -> Domains {
    let mut found = Domains::new();
    for info in cluster.nodes.values() {
        let Some(domain) = domain(info, &term.topology) else {
            continue;
        };
        let count = info
            .pods
            .values()
            .filter(|placed| term.matches(&placed.pod))
            .count();
        if count > 0 {
            *found.entry(domain.to_owned()).or_default() += i64::try_from(count).unwrap_or(0);
        }
    }
    found
}

/// Everything about pod affinity that one pod's scheduling needs, worked out once.
#[derive(Debug, Default)]
pub(crate) struct PodAffinity {
    attracted: Vec<(Term, Domains)>,
    /// The pod may start a group that nobody has started: it matches its own terms.
    first_of_its_kind: bool,
    repelled: Vec<(Term, Domains)>,
    /// Domains closed by pods already placed: topology key → values.
    closed: HashMap<String, Vec<String>>,
    preferred: Vec<(i64, String, Domains)>,
}

impl PodAffinity {
    pub(crate) fn new(pod: &Pod, cluster: &Cluster) -> Self {
        let with_domains = |terms: &[PodAffinityTerm]| -> Vec<(Term, Domains)> {
            terms
                .iter()
                .map(|term| {
                    let term = Term::new(pod, term);
                    let domains = domains(cluster, &term);
                    (term, domains)
                })
                .collect()
        };
        let attracted = with_domains(required(pod));
        let first_of_its_kind = attracted.iter().all(|(_, domains)| domains.is_empty())
            && attracted.iter().all(|(term, _)| term.matches(pod));
        let mut closed: HashMap<String, Vec<String>> = HashMap::new();
        for (other, home) in cluster.repelling() {
            for term in required_anti(other)
                .iter()
                .map(|term| Term::new(other, term))
            {
                if term.matches(pod)
                    && let Some(domain) = domain(home, &term.topology)
                {
                    closed
                        .entry(term.topology.clone())
                        .or_default()
                        .push(domain.to_owned());
                }
            }
        }
        Self {
            attracted,
            first_of_its_kind,
            repelled: with_domains(required_anti(pod)),
            closed,
            preferred: preferred(pod, cluster),
        }
    }

    /// The reason that speaks against the node, if any.
    pub(crate) fn check(&self, info: &NodeInfo) -> Option<&'static str> {
        let among = |term: &Term, domains: &Domains| {
            domain(info, &term.topology).is_some_and(|domain| domains.contains_key(domain))
        };
        let has_key = |term: &Term| domain(info, &term.topology).is_some();
        let together = self
            .attracted
            .iter()
            .all(|(term, domains)| among(term, domains) || self.first_of_its_kind && has_key(term));
        if !together {
            return Some("node(s) didn't match pod affinity rules");
        }
        if self
            .repelled
            .iter()
            .any(|(term, domains)| among(term, domains))
        {
            return Some("node(s) didn't match pod anti-affinity rules");
        }
        let closed = self.closed.iter().any(|(topology, values)| {
            domain(info, topology).is_some_and(|own| values.iter().any(|value| value == own))
        });
        closed.then_some("node(s) didn't satisfy existing pods anti-affinity rules")
    }

    /// Weighted number of wanted neighbours less that of unwanted ones.
    pub(crate) fn score(&self, info: &NodeInfo) -> i64 {
        self.preferred
            .iter()
            .filter_map(|(weight, topology, domains)| {
                let own = domain(info, topology)?;
                Some(weight * domains.get(own).copied().unwrap_or(0))
            })
            .sum()
    }
}

fn preferred(pod: &Pod, cluster: &Cluster) -> Vec<(i64, String, Domains)> {
    let Some(affinity) = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()) else {
        return Vec::new();
    };
    let wanted = affinity
        .pod_affinity
        .iter()
        .flat_map(|own| {
            own.preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
        })
        .map(|row| (i64::from(row.weight), &row.pod_affinity_term));
    let unwanted = affinity
        .pod_anti_affinity
        .iter()
        .flat_map(|own| {
            own.preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
        })
        .map(|row| (-i64::from(row.weight), &row.pod_affinity_term));
    wanted
        .chain(unwanted)
        .map(|(weight, term)| {
            let term = Term::new(pod, term);
            let domains = domains(cluster, &term);
            (weight, term.topology, domains)
        })
        .collect()
}

/// Pods of one namespace and selector, counted by domain; used by topology spreading too.
pub(crate) fn count_by_domain(
    cluster: &Cluster,
    topology: &str,
    eligible: impl Fn(&NodeInfo) -> bool,
    matches: impl Fn(&Pod) -> bool,
) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for info in cluster.nodes.values().filter(|info| eligible(info)) {
        let Some(domain) = domain(info, topology) else {
            continue;
        };
        let count = info
            .pods
            .values()
            .filter(|placed| placed.pod.metadata.deletion_timestamp.is_none())
            .filter(|placed| matches(&placed.pod))
            .count();
        *counts.entry(domain.to_owned()).or_default() += i64::try_from(count).unwrap_or(0);
    }
    counts
}
