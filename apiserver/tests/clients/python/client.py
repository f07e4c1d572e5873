"""Python's client against the cluster of KUBECONFIG, in the namespace named by the argument."""

import datetime
import sys
import threading

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException

config.load_kube_config()
ns = sys.argv[1]
core, apps = client.CoreV1Api(), client.AppsV1Api()
extensions, custom = client.ApiextensionsV1Api(), client.CustomObjectsApi()


def refused(code, call, *arguments, **options):
    """The message of a call that must be refused with this code."""
    try:
        call(*arguments, **options)
    except ApiException as error:
        assert error.status == code, error
        return error.body
    raise AssertionError(f"{call.__name__} was not refused")


def typed():
    pod = client.V1Pod(
        metadata=client.V1ObjectMeta(name="p", labels={"a": "b"}),
        spec=client.V1PodSpec(containers=[client.V1Container(name="c", image="busybox")]),
    )
    made = core.create_namespaced_pod(ns, pod)
    assert isinstance(made.metadata.creation_timestamp, datetime.datetime)
    assert made.spec.restart_policy == "Always" and made.status.phase == "Pending"
    assert core.read_namespaced_pod_status("p", ns).status.qos_class == "BestEffort"
    refused(409, core.create_namespaced_pod, ns, pod)
    refused(404, core.read_namespaced_pod, "none", ns)
    made.metadata.labels["c"] = "d"
    assert core.replace_namespaced_pod("p", ns, made).metadata.labels["c"] == "d"
    refused(409, core.replace_namespaced_pod, "p", ns, made)
    # A dict is a strategic merge patch, a list a JSON patch.
    core.patch_namespaced_pod("p", ns, {"spec": {"containers": [{"name": "c", "image": "busybox:2"}]}})
    patched = core.patch_namespaced_pod("p", ns, [{"op": "add", "path": "/metadata/labels/e", "value": "f"}])
    assert (patched.spec.containers[0].image, patched.metadata.labels["e"]) == ("busybox:2", "f")
    assert len(core.list_pod_for_all_namespaces(label_selector="a=b,e in (f)").items) == 1
    assert not core.list_namespaced_pod(ns, field_selector="metadata.name!=p").items
    until = core.create_namespaced_service_account_token(
        "default", ns, client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=["x"]))
    ).status.expiration_timestamp
    assert until > datetime.datetime.now(datetime.timezone.utc)
    core.create_namespaced_pod_eviction("p", ns, client.V1Eviction(metadata=client.V1ObjectMeta(name="p")))
    refused(404, core.read_namespaced_pod, "p", ns)


def workloads():
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}}
    body = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    assert apps.create_namespaced_deployment(ns, body).spec.replicas == 1
    assert apps.patch_namespaced_deployment_scale("d", ns, {"spec": {"replicas": 5}}).spec.replicas == 5
    assert apps.read_namespaced_deployment_scale("d", ns).status.selector == "a=b"
    status = {"status": {"conditions": [{"type": "Tested", "status": "True"}]}}
    assert apps.patch_namespaced_deployment_status("d", ns, status).status.conditions[0].type == "Tested"
    apps.delete_collection_namespaced_deployment(ns)
    assert not apps.list_namespaced_deployment(ns).items


def every_list():
    """Each generated list call of each API answers and its objects can be decoded."""
    for name in dir(client):
        if not name.endswith("Api") or "V1alpha" in name or "V1beta" in name or name == "CustomObjectsApi":
            continue
        api = getattr(client, name)()
        for call in dir(api):
            skip = call.endswith("with_http_info") or "component_status" in call
            if call.startswith("list_") and not skip:
                getattr(api, call)(*([ns] if "namespaced" in call else []))
            if call in ("get_api_resources", "get_api_group") and hasattr(api, "get_api_resources"):
                getattr(api, call)()


def watches():
    seen = []
    names = [f"watched-{i}" for i in range(3)]
    start = core.list_namespaced_config_map(ns).metadata.resource_version

    def make():
        for name in names:
            core.create_namespaced_config_map(ns, {"metadata": {"name": name}, "data": {"a": name}})
        core.delete_namespaced_config_map(names[0], ns)

    maker = threading.Thread(target=make)
    maker.start()
    stream = watch.Watch()
    for event in stream.stream(core.list_namespaced_config_map, ns, resource_version=start, timeout_seconds=20):
        seen.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            stream.stop()
    maker.join()
    assert seen == [("ADDED", name) for name in names] + [("DELETED", names[0])], seen


def custom_objects():
    tags = {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}
    spec = {"n": {"type": "integer", "default": 3, "maximum": 9}, "tags": tags}
    schema = {"spec": {"type": "object", "properties": spec}, "status": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    extensions.create_custom_resource_definition({
        "metadata": {"name": "toys.python.example.com"},
        "spec": {
            "group": "python.example.com", "scope": "Namespaced",
            "names": {"plural": "toys", "singular": "toy", "kind": "Toy"},
            "versions": [{
                "name": "v1", "served": True, "storage": True,
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": schema}},
            }],
        },
    })
    for event in watch.Watch().stream(extensions.list_custom_resource_definition, timeout_seconds=20):
        definition = event["object"]
        conditions = definition.status.conditions or [] if definition.status else []
        if definition.metadata.name.startswith("toys.") and any(c.type == "Established" and c.status == "True" for c in conditions):
            break
    kind = ("python.example.com", "v1", ns, "toys")
    toy = {"apiVersion": "python.example.com/v1", "kind": "Toy", "metadata": {"name": "t"}, "spec": {}}
    assert custom.create_namespaced_custom_object(*kind, toy)["spec"] == {"n": 3}
    assert len(custom.list_cluster_custom_object("python.example.com", "v1", "toys")["items"]) == 1
    assert custom.patch_namespaced_custom_object_status(*kind, "t", {"status": {"n": 4}})["status"] == {"n": 4}
    assert custom.patch_namespaced_custom_object_scale(*kind, "t", {"spec": {"replicas": 7}})["spec"] == {"replicas": 7}
    assert "less than or equal to 9" in refused(422, custom.patch_namespaced_custom_object, *kind, "t", {"spec": {"n": 10}})
    found = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="python.example.com/v1", kind="Toy")
    assert found.get(namespace=ns).items[0].spec.n == 7
    extensions.delete_custom_resource_definition("toys.python.example.com")


def applying():
    maps = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="ConfigMap")

    def apply(value, manager, **options):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": value}}
        return maps.server_side_apply(body=body, namespace=ns, field_manager=manager, **options)

    assert apply("1", "one").metadata.managedFields[0].manager == "one"
    message = refused(409, apply, "2", "two")
    assert 'conflict with \\"one\\": .data.a' in message, message
    assert apply("2", "two", force_conflicts=True).data.a == "2"


for part in (typed, workloads, every_list, watches, custom_objects, applying):
    part()
print("all is well")
