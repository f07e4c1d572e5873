//! helm with the chart of the examples: install, upgrade both ways, rollback, uninstall.

use std::collections::HashMap;

use crate::cluster::Cluster;
use crate::programs::{run, stored};

const SCRIPT: &str = r#"
$ $helm lint $chart
$ $helm install hi $chart --dry-run=server
> STATUS: pending-install
$ $helm install hi $chart
> hi serves its page at port 80
$ $helm list
> greeter-0.1.0
! $helm install hi $chart
> cannot reuse a name
$ $helm upgrade hi $chart --set replicas=3
> REVISION: 2
$ $helm get manifest hi
> replicas: 3
$ $helm upgrade hi $chart --set greeting=Bye --server-side=false
> REVISION: 3
$ $helm rollback hi 2
> Rollback was a success
$ $helm history hi
> superseded
> Rollback to 2
$ $helm status hi
> STATUS: deployed
$ $helm get values hi
> replicas: 3
$ $helm upgrade --install other $chart --create-namespace
$ $helm template $chart --dry-run=server
$ $helm uninstall hi other
> release "hi" uninstalled
$ $helm list
< greeter
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_chart_comes_changes_and_goes() {
    let Some(helm) = stored("helm") else {
        return;
    };
    let cluster = Cluster::start().await;
    cluster.namespace("charts").await;
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/chart").to_owned();
    let cluster = tokio::task::spawn_blocking(move || {
        let helm = format!("{} --namespace charts", helm.display());
        run(
            &cluster,
            SCRIPT,
            0,
            &HashMap::from([("helm", helm), ("chart", chart)]),
        );
        cluster
    })
    .await
    .unwrap();
    for kind in ["services", "configmaps", "secrets"] {
        let label = "app.kubernetes.io/name%3Dgreeter";
        let path = format!("/api/v1/namespaces/charts/{kind}?labelSelector={label}");
        let left = cluster.get(&path).await.ok();
        assert_eq!(left["items"], serde_json::json!([]), "{kind}");
    }
}
