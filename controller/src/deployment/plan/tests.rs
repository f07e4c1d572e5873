//! Rollouts played step by step against a simulated ReplicaSet controller.

use serde_json::json;

use super::*;

fn deployment(replicas: i32, image: &str, strategy: serde_json::Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas,
            "strategy": strategy,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    }))
    .unwrap()
}

fn rolling(surge: &str, unavailable: &str) -> serde_json::Value {
    let bound = |text: &str| {
        text.parse::<i32>()
            .map_or_else(|_| json!(text), |count| json!(count))
    };
    json!({"type": "RollingUpdate", "rollingUpdate": {
        "maxSurge": bound(surge), "maxUnavailable": bound(unavailable)}})
}

/// ReplicaSets that make their pods available at once, and a deployment that is replanned.
struct World {
    deployment: Deployment,
    sets: Vec<Arc<ReplicaSet>>,
    clock: i64,
    /// Old pods that a Recreate rollout still has to wait for.
    lingering: usize,
    healthy: bool,
}

impl World {
    fn new(deployment: Deployment) -> Self {
        Self {
            deployment,
            sets: Vec::new(),
            clock: 1_900_000_000,
            lingering: 0,
            healthy: true,
        }
    }

    fn plan(&self) -> Plan {
        let now = Timestamp::from_second(self.clock).unwrap();
        let mut observed =
            observe(&self.deployment, self.sets.clone(), |_| Vec::new(), now).unwrap();
        observed.old_pods = self.lingering;
        plan(&self.deployment, &observed)
    }

    /// Plans and acts once; the readable text of what was done.
    fn step(&mut self) -> Vec<String> {
        self.clock += 1;
        let plan = self.plan();
        self.deployment.status = Some(plan.status.clone());
        let texts = plan
            .changes
            .iter()
            .map(|change| self.apply(change))
            .collect();
        self.settle();
        texts
    }

    fn apply(&mut self, change: &Change) -> String {
        let name_of = |set: &ReplicaSet| {
            set.spec
                .template
                .as_ref()
                .unwrap()
                .spec
                .as_ref()
                .unwrap()
                .containers[0]
                .image
                .clone()
                .unwrap()
        };
        match change {
            Change::Create(set) => {
                let mut set = (**set).clone();
                set.metadata.uid = Some(set.name_any());
                set.metadata.creation_timestamp =
                    Some(crate::meta::at(Timestamp::from_second(self.clock).unwrap()));
                self.sets.push(Arc::new(set.clone()));
                format!("create {} at {}", name_of(&set), size(&set))
            }
            Change::Scale {
                set,
                replicas,
                annotations,
            } => {
                let text = format!("scale {} {} -> {replicas}", name_of(set), size(set));
                self.edit(set, |set| {
                    set.spec.replicas = Some(*replicas);
                    set.annotations_mut().extend(annotations.clone());
                });
                text
            }
            Change::Annotate { set, annotations } => {
                self.edit(set, |set| set.annotations_mut().extend(annotations.clone()));
                format!("annotate {}", name_of(set))
            }
            Change::Delete(set) => {
                self.sets.retain(|kept| kept.name_any() != set.name_any());
                format!("delete {}", name_of(set))
            }
            Change::SetRevision(revision) => {
                self.deployment
                    .annotations_mut()
                    .insert(revision::REVISION.into(), revision.clone());
                format!("revision {revision}")
            }
            other => format!("{other:?}"),
        }
    }

    fn edit(&mut self, target: &ReplicaSet, edit: impl Fn(&mut ReplicaSet)) {
        for set in &mut self.sets {
            if set.name_any() == target.name_any() {
                edit(Arc::make_mut(set));
            }
        }
    }

    fn settle(&mut self) {
        let healthy = self.healthy;
        for set in &mut self.sets {
            let set = Arc::make_mut(set);
            let replicas = size(set);
            let bad = !healthy && revision::same_template(set, &self.deployment);
            let up = if bad { 0 } else { replicas };
            set.status = Some(k8s_openapi::api::apps::v1::ReplicaSetStatus {
                replicas,
                ready_replicas: Some(up),
                available_replicas: Some(up),
                ..Default::default()
            });
        }
    }

    fn set_image(&mut self, image: &str) {
        let spec = &mut self.deployment.spec;
        spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.into());
        self.deployment.metadata.generation = self.deployment.metadata.generation.map(|g| g + 1);
    }

    /// Steps until nothing changes; every step's text, and the bounds checked on the way.
    fn run(&mut self) -> Vec<String> {
        let mut log = Vec::new();
        for _ in 0..100 {
            let texts = self.step();
            let total: i32 = self.sets.iter().map(|set| size(set)).sum();
            assert!(total <= most(&self.deployment), "{log:?}");
            if texts.is_empty() && self.deployment.status == Some(self.plan().status) {
                return log;
            }
            log.push(texts.join(", "));
            log.retain(|line| !line.is_empty());
        }
        panic!("does not settle: {log:?}");
    }

    fn condition(&self, type_: &str) -> (String, String) {
        let conditions = self.deployment.status.clone().unwrap().conditions.unwrap();
        let found = conditions
            .into_iter()
            .find(|condition| condition.type_.as_deref() == Some(type_))
            .unwrap();
        (found.status.unwrap(), found.reason.unwrap())
    }
}

#[test]
fn a_rollout_and_its_rollback() {
    let mut world = World::new(deployment(4, "a", rolling("25%", "25%")));
    assert_eq!(world.run(), ["create a at 4, revision 1"]);
    assert_eq!(world.condition("Progressing").1, "NewReplicaSetAvailable");
    world.set_image("b");
    assert_eq!(
        world.run(),
        [
            "create b at 1, revision 2",
            "scale a 4 -> 2",
            "scale b 1 -> 3",
            "scale a 2 -> 0",
            "scale b 3 -> 4",
        ]
    );
    assert_eq!(world.condition("Available").0, "True");
    world.set_image("a");
    let log = world.run();
    assert!(
        log[0].starts_with("scale a 0 -> 1") && log[0].contains("revision 3"),
        "{log:?}"
    );
    let back = find_new(&world.deployment, &world.sets).unwrap();
    assert_eq!(back.annotations()[revision::REVISION_HISTORY], "1");
    assert_eq!(world.sets.len(), 2);
}

#[test]
fn an_unhealthy_rollout_stops_within_its_bounds_and_times_out() {
    let mut world = World::new(deployment(4, "a", rolling("1", "1")));
    world.run();
    world.set_image("bad");
    world.healthy = false;
    world.run();
    let available: i32 = world.sets.iter().map(|set| scale::available(set)).sum();
    assert_eq!(available, 3);
    world.clock += 700;
    world.step();
    assert_eq!(
        world.condition("Progressing"),
        ("False".to_owned(), "ProgressDeadlineExceeded".to_owned())
    );
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut world = World::new(deployment(2, "a", json!({"type": "Recreate"})));
    world.run();
    world.set_image("b");
    world.lingering = 1;
    assert_eq!(world.step(), ["scale a 2 -> 0"]);
    assert!(world.step().is_empty());
    world.lingering = 0;
    assert_eq!(world.step(), ["create b at 2", "revision 2"]);
}

#[test]
fn scaling_during_a_rollout_is_proportional() {
    let mut world = World::new(deployment(10, "a", rolling("3", "2")));
    world.run();
    world.set_image("b");
    world.healthy = false;
    world.run();
    let before: Vec<i32> = world.sets.iter().map(|set| size(set)).collect();
    assert_eq!(before, [8, 5]);
    world.deployment.spec.replicas = Some(15);
    let log = world.step();
    assert_eq!(log, ["scale a 8 -> 11", "scale b 5 -> 7"]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::new(deployment(2, "a", rolling("1", "0")));
    world.run();
    world.set_image("b");
    world.deployment.spec.paused = Some(true);
    world.deployment.spec.replicas = Some(3);
    assert_eq!(world.run(), ["scale a 2 -> 3"]);
    assert_eq!(world.condition("Progressing").1, "DeploymentPaused");
}

#[test]
fn history_beyond_the_limit_is_deleted() {
    let mut world = World::new(deployment(1, "a", rolling("1", "0")));
    world.deployment.spec.revision_history_limit = Some(1);
    for image in ["a", "b", "c"] {
        world.set_image(image);
        world.run();
    }
    assert_eq!(world.sets.len(), 2);
}

#[test]
fn bounds_round_as_kubernetes_does() {
    let of = |n, s: &str, u: &str| bounds(&deployment(n, "a", rolling(s, u)));
    assert_eq!(
        of(10, "25%", "25%"),
        scale::Bounds {
            surge: 3,
            unavailable: 2
        }
    );
    assert_eq!(
        of(1, "0%", "25%"),
        scale::Bounds {
            surge: 0,
            unavailable: 1
        }
    );
}
