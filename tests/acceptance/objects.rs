//! The objects themselves: what is said about them reaches the cluster, and what the cluster makes of them is no drift.

use kvtls::sandbox::demo::QUICKSTART;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::probe::Probe;
use crate::terraform::{SHOP, Terraform};
use crate::with;
use crate::world::{CERTIFICATE, CLUSTER, DEPLOYMENT, INGRESS, SECRET_PROVIDER_CLASS, World};

/// A binding without an edge.
fn secret_only(more: &str) -> String {
    let start = QUICKSTART.find("  ingress = {").expect("an Ingress");
    format!("{}  {more}\n}}\n", &QUICKSTART[..start])
}

async fn asked_of_the_cluster(world: &World, since: u64) -> Vec<String> {
    let asked = world.journal_after(since).await;
    asked
        .iter()
        .filter(|entry| entry["plane"] == "kubernetes" || entry["url"].to_string().contains("Credential"))
        .map(|entry| format!("{} {}", entry["method"], entry["url"]))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn s25_what_is_only_rendered_asks_the_cluster_nothing() {
    let world = World::start().await;
    let since = world.now_in_journal().await;
    let terraform = Terraform::new(&world.deployer, &with("apply_manifests = false"));
    terraform.apply().await.succeeds();
    let state = terraform.state(SHOP).await.expect("the shop");
    let class = state["manifests"]["SecretProviderClass/shop"]
        .as_str()
        .expect("a class");
    let client_id = state["addon_identity"]["client_id"]
        .as_str()
        .expect("an identity");
    assert!(class.contains(client_id), "{class}");
    assert!(state["manifests"]["Ingress/shop"].is_string(), "{state:#}");
    assert_eq!(state["verify"]["level"], "none", "{state:#}");
    assert_eq!(state["status"]["phase"], "objects", "{state:#}");
    terraform.plan_is_empty().await;
    let destroy = terraform.destroy().await.succeeds();
    destroy.warning(&["KVTLS-W402"]);
    assert_eq!(asked_of_the_cluster(&world, since).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn s25_a_binding_without_an_edge_follows_the_vault_and_reads_no_secret() {
    let world = World::start().await;
    let since = world.now_in_journal().await;
    let terraform = Terraform::new(
        &world.deployer,
        &secret_only("verify = { read_secret = \"never\" }"),
    );
    terraform.apply().await.succeeds();
    let synced = |state: Value| state["status"]["certificates"][CERTIFICATE]["synced"]["thumbprint"].clone();
    let state = terraform.state(SHOP).await.expect("the shop");
    assert_eq!(synced(state), world.in_vault().await);
    terraform.plan_is_empty().await;

    let renewed = world.renew().await;
    terraform.plan_is_empty().await;
    world.advance("3m").await;
    world.settle().await;
    terraform.plan_is_empty().await;
    terraform
        .command(&["apply", "-refresh-only", "-auto-approve", "-json"])
        .await
        .succeeds();
    assert_eq!(synced(terraform.state(SHOP).await.expect("the shop")), renewed);
    for entry in world.journal_after(since).await {
        let is_secret = entry["url"]
            .as_str()
            .is_some_and(|url| url.contains("/secrets/") || url.contains("/secrets?"));
        let accept = entry["request"]["headers"]["accept"].to_string();
        assert!(
            !is_secret || accept.contains("PartialObjectMetadata"),
            "{entry:#}"
        );
    }
    terraform.destroy().await.succeeds();
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_about_pods_labels_and_namespace_reaches_the_cluster() {
    let world = World::start().await;
    let configuration = with(
        r#"namespace        = "new"
  create_namespace = true
  sync = {
    replicas      = 2
    resources     = { memory_limit = "64Mi" }
    node_selector = { "kubernetes.io/os" = "linux" }
    tolerations   = [{ key = "spot", operator = "Exists", effect = "NoSchedule" }]
    labels        = { team = "web" }
    annotations   = { note = "x" }
  }"#,
    )
    .replace(
        "provider \"kvtls\" {}",
        "provider \"kvtls\" {\n  default_labels = { cost = \"42\" }\n}",
    );
    let terraform = Terraform::new(&world.deployer, &configuration);
    terraform.apply().await.succeeds();
    let path = "/apis/apps/v1/namespaces/new/deployments/shop";
    let live = world.kubernetes(Method::GET, path, None).await.body;
    let pod = &live["spec"]["template"];
    assert_eq!(live["spec"]["replicas"], 2, "{live:#}");
    assert_eq!(
        pod["spec"]["containers"][0]["resources"]["limits"],
        json!({ "cpu": "20m", "memory": "64Mi" })
    );
    assert_eq!(pod["spec"]["tolerations"][0]["key"], "spot");
    for labels in [&live["metadata"]["labels"], &pod["metadata"]["labels"]] {
        assert_eq!(
            (&labels["team"], &labels["cost"]),
            (&json!("web"), &json!("42")),
            "{labels}"
        );
    }
    let secret = "/api/v1/namespaces/new/secrets/shop-my-tls-cert";
    let secret = world.kubernetes(Method::GET, secret, None).await.body;
    assert_eq!(secret["metadata"]["labels"]["cost"], "42");
    terraform.plan_is_empty().await;

    // A new image rolls the pods.
    terraform.write(&configuration.replace(
        "replicas      = 2",
        "replicas      = 1\n    image = \"busybox:1.37\"",
    ));
    terraform
        .plan_shows(&["manifests.Deployment/shop", "sync.image", "sync.replicas"])
        .await;
    terraform.apply().await.succeeds();
    let live = world.kubernetes(Method::GET, path, None).await.body;
    assert_eq!(
        live["spec"]["template"]["spec"]["containers"][0]["image"],
        "busybox:1.37"
    );
    terraform.plan_is_empty().await;
    terraform.destroy().await.succeeds();
    let namespace = world
        .kubernetes(Method::GET, "/api/v1/namespaces/new", None)
        .await;
    assert_eq!(namespace.status, StatusCode::OK, "a namespace is never deleted");
    let latest = with("sync = { image = \"busybox:latest\" }");
    Terraform::new(&world.deployer, &latest)
        .validate()
        .await
        .error(&["latest"]);
}

/// Pods of ours fit into a namespace that is as strict as Pod Security knows.
#[tokio::test(flavor = "multi_thread")]
async fn pods_of_ours_are_admitted_where_pod_security_is_restricted() {
    let restricted = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": "strict", "labels": { "pod-security.kubernetes.io/enforce": "restricted" },
    } });
    let service = json!({ "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "my-app-service", "namespace": "strict" }, "spec": { "ports": [{ "port": 80 }] } });
    let world = World::with(json!({ "clusters": { CLUSTER: {
        "objects": [{ "as": "kubectl", "object": restricted }, { "as": "kubectl", "object": service }],
    } } }))
    .await;
    let terraform = Terraform::new(&world.deployer, &with("namespace = \"strict\""));
    terraform.apply().await.succeeds();
    let path = "/apis/apps/v1/namespaces/strict/deployments/shop";
    let live = world.kubernetes(Method::GET, path, None).await.body;
    assert_eq!(live["status"]["readyReplicas"], 1, "{live:#}");
    let pods = world
        .kubernetes(Method::GET, "/api/v1/namespaces/strict/pods", None)
        .await
        .body;
    // Others are not.
    let bare = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "bare" },
        "spec": { "containers": [{ "name": "one", "image": "busybox:1.36" }] } });
    let refused = world
        .kubernetes(
            Method::POST,
            "/api/v1/namespaces/strict/pods",
            Some(("application/json", &bare)),
        )
        .await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    // Its log can be read, on a real API server by way of the kubelet.
    let pod = pods["items"][0]["metadata"]["name"].as_str().expect("a pod");
    let path = format!("/api/v1/namespaces/strict/pods/{pod}/log");
    let log = world.kubernetes(Method::GET, &path, None).await;
    assert_eq!(log.status, StatusCode::OK, "{log:?}");
    terraform.plan_is_empty().await;
    terraform.destroy().await.succeeds();
}

/// Webhooks that rewrite registries and add labels, and an autoscaler.
#[tokio::test(flavor = "multi_thread")]
async fn s11_what_others_add_by_right_is_no_drift() {
    let admission = json!([
        { "kinds": ["Deployment"], "patch": [
            { "op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "mirror.internal/busybox:1.36" },
            { "op": "add", "path": "/metadata/labels/policy", "value": "seen" },
            { "op": "add", "path": "/spec/template/metadata/labels/mesh", "value": "on" },
        ] },
        { "kinds": ["Ingress"], "patch": [{ "op": "add", "path": "/metadata/labels/policy", "value": "seen" }] },
    ]);
    let world = World::with(json!({ "clusters": { CLUSTER: { "admission": admission } } })).await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let live = world.kubernetes(Method::GET, DEPLOYMENT, None).await.body;
    assert_eq!(
        live["spec"]["template"]["spec"]["containers"][0]["image"],
        "mirror.internal/busybox:1.36"
    );
    let autoscaler = json!({
        "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "busy" },
        "spec": { "maxReplicas": 5, "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "shop" } },
    });
    let autoscalers = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    let body = Some(("application/json", &autoscaler));
    let made = world.kubernetes(Method::POST, autoscalers, body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let scale = json!({ "spec": { "replicas": 3 } });
    let path = format!("{DEPLOYMENT}/scale?fieldManager=kube-controller-manager");
    let body = Some(("application/merge-patch+json", &scale));
    assert_eq!(
        world.kubernetes(Method::PATCH, &path, body).await.status,
        StatusCode::OK
    );
    world.settle().await;
    for _ in 0..5 {
        terraform.plan_is_empty().await;
    }
    // Something of ours changes: the autoscaler's number stays.
    terraform.write(&with("sync = { annotations = { note = \"x\" } }"));
    terraform.apply().await.succeeds();
    let live = world.kubernetes(Method::GET, DEPLOYMENT, None).await.body;
    assert_eq!(live["spec"]["replicas"], 3, "{live:#}");
    terraform.plan_is_empty().await;
    // Without it, the number is what was asked for.
    let busy = format!("{autoscalers}/busy");
    world.kubernetes(Method::DELETE, &busy, None).await;
    terraform.plan_shows(&["manifests.Deployment/shop"]).await;
    terraform.apply().await.succeeds();
    let live = world.kubernetes(Method::GET, DEPLOYMENT, None).await.body;
    assert_eq!(live["spec"]["replicas"], 1, "{live:#}");
    terraform.plan_is_empty().await;
}

/// Deployment safeguards, enforced, admit ours as it is; what they add is no drift.
#[tokio::test(flavor = "multi_thread")]
async fn s11_deployment_safeguards_admit_ours_and_what_they_add_is_no_drift() {
    let world = World::with(json!({ "clusters": { CLUSTER: { "admission": ["safeguards"] } } })).await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await);
    let live = world.kubernetes(Method::GET, DEPLOYMENT, None).await.body;
    let pod = &live["spec"]["template"]["spec"];
    assert!(
        pod["topologySpreadConstraints"].is_array(),
        "they were here: {live:#}"
    );
    for _ in 0..5 {
        terraform.plan_is_empty().await;
    }
    // A change of ours keeps what they added, and is no drift either.
    terraform.write(&with("sync = { annotations = { note = \"x\" } }"));
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
    // What is not hardened is refused.
    let bare = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "bare" },
        "spec": { "containers": [{ "name": "one", "image": "busybox:1.36" }] } });
    let pods = "/api/v1/namespaces/default/pods";
    let refused = world
        .kubernetes(Method::POST, pods, Some(("application/json", &bare)))
        .await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_would_refuse_is_told_in_the_plan() {
    let world = World::with(json!({ "clusters": { CLUSTER: {
        "addon": { "enabled": true, "config": { "enableSecretRotation": "true" } },
        "admission": [{ "kinds": ["Ingress"], "deny": "no Ingress without a team" }],
    } } }))
    .await;
    let terraform = world.quickstart();
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    plan.warning(&["KVTLS-W421", "no Ingress without a team", "Ingress default/shop"]);
    let made = world.inventory().await.all_ours();
    assert_eq!(made, Vec::<String>::new(), "a dry run stores nothing");
    terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E409", "no Ingress without a team"]);
}

/// Fields of people are taken back; those of other reconcilers only if that is insisted on.
#[tokio::test(flavor = "multi_thread")]
async fn another_reconciler_keeps_its_fields_unless_forced() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let theirs = json!({ "spec": { "tls": [{ "hosts": ["myapp.example.com"], "secretName": "theirs" }] } });
    let path = format!("{INGRESS}?fieldManager=argocd-controller");
    let body = Some(("application/merge-patch+json", &theirs));
    assert_eq!(
        world.kubernetes(Method::PATCH, &path, body).await.status,
        StatusCode::OK
    );
    let plan = terraform.plan().await;
    plan.warning(&["KVTLS-W421", "argocd-controller"]);
    terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E408", "argocd-controller"]);
    terraform.write(&with("force_conflicts = true"));
    terraform.apply().await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_apply_may_be_a_warning() {
    let world = World::start().await;
    let terraform = Terraform::new(&world.deployer, &with("on_incomplete = \"warn\""));
    let id = world
        .fault(json!({
            "match": { "plane": "kubernetes", "method": "PATCH", "path": "**/ingresses/*", "as": "masterclient", "dry_run": false },
            "do": { "status": 403, "body": { "kind": "Status", "status": "Failure", "code": 403, "message": "staged by the test" } },
        }))
        .await;
    let apply = terraform.apply().await.succeeds();
    apply.warning(&["staged by the test", "status.phase"]);
    let shop = terraform.resource(SHOP).await.expect("the shop");
    assert_ne!(shop["tainted"], true, "{shop:#}");
    assert_eq!(shop["values"]["status"]["phase"], "azure", "{shop:#}");
    world.release(&id).await;
    terraform.apply().await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
}

/// Somebody switches the add-on off and on: it comes back with another identity, and the binding follows.
#[tokio::test(flavor = "multi_thread")]
async fn s25_an_add_on_that_comes_back_with_another_identity_is_followed() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let before = terraform.state(SHOP).await.expect("the shop")["addon_identity"].clone();
    let path = format!("{SECRET_PROVIDER_CLASS}?propagationPolicy=Background");
    world.kubernetes(Method::DELETE, &path, None).await;
    world.settle().await;
    for enabled in [false, true] {
        world
            .change_addon(|addon| addon["enabled"] = json!(enabled))
            .await;
        world.settle().await;
    }
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    let changes = terraform.changes().await;
    assert_eq!(changes[0].actions, ["update"], "{changes:#?}");
    terraform.apply().await.succeeds();
    let after = terraform.state(SHOP).await.expect("the shop");
    assert_ne!(after["addon_identity"], before, "a new identity");
    let class = after["manifests"]["SecretProviderClass/shop"].to_string();
    assert!(
        class.contains(after["addon_identity"]["client_id"].as_str().expect("an ID")),
        "{class}"
    );
    assert_eq!(after["grants"].as_array().map(Vec::len), Some(1), "{after:#}");
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
    terraform.destroy().await.succeeds();
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
}

/// The cluster's ID comes out of something that changes, so a plan does not know it: that is no other cluster.
#[tokio::test(flavor = "multi_thread")]
async fn s03_an_id_that_is_unknown_while_planning_replaces_nothing() {
    let world = World::start().await;
    let id = "\"${local.group}/Microsoft.ContainerService/managedClusters/myAKSCluster\"";
    let configuration = |revision: &str| {
        QUICKSTART.replacen(
            &format!("cluster_id   = {id}"),
            "cluster_id   = terraform_data.cluster.output.id",
            1,
        ) + &format!(
            "\nresource \"terraform_data\" \"cluster\" {{\n  input = {{ id = {id}, revision = \"{revision}\" }}\n}}\n"
        )
    };
    let terraform = Terraform::new(&world.deployer, &configuration("1"));
    terraform.apply().await.succeeds();
    let before = terraform.state(SHOP).await.expect("the shop");
    let probe = Probe::start(&world, world.in_vault().await);
    terraform.write(&configuration("2"));
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    let changes = terraform.changes().await;
    assert!(
        changes.iter().all(|change| change.actions == ["update"]),
        "{changes:#?}"
    );
    let since = world.now_in_journal().await;
    terraform.apply().await.succeeds();
    let asked = world.journal_after(since).await;
    assert!(
        asked.iter().all(|entry| entry["method"] != "DELETE"),
        "{asked:#?}"
    );
    assert_eq!(probe.failures().await, Vec::<String>::new());
    let after = terraform.state(SHOP).await.expect("the shop");
    assert_eq!(after["instance_id"], before["instance_id"]);
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s10_a_changed_interval_is_drift() {
    let world = World::start().await;
    let terraform = Terraform::new(
        &world.deployer,
        &with("addon = { rotation_poll_interval = \"3m\" }"),
    );
    terraform.apply().await.succeeds();
    world
        .change_addon(|addon| addon["config"]["rotationPollInterval"] = json!("9m"))
        .await;
    terraform
        .plan_shows(&["addon_state.rotation_poll_interval"])
        .await;
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
}
