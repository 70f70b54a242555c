//! Destroy looks first, waits for each part, and survives a world that is half gone.

use kvtls::sandbox::demo::QUICKSTART;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::terraform::{SHOP, Terraform};
use crate::world::{CLUSTER, DEPLOYMENT, INGRESS, SECRET_PROVIDER_CLASS, World};

async fn post(world: &World, path: &str, object: &Value) {
    let made = world
        .kubernetes(Method::POST, path, Some(("application/json", object)))
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
}

/// A pod of somebody else that mounts our SecretProviderClass.
fn foreign_pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "theirs", "namespace": "default" },
        "spec": {
            "containers": [{ "name": "app", "image": "app:1", "volumeMounts": [{ "name": "tls", "mountPath": "/tls" }] }],
            "volumes": [{ "name": "tls", "csi": { "driver": "secrets-store.csi.k8s.io", "readOnly": true,
                "volumeAttributes": { "secretProviderClass": "shop" } } }],
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn s24_pods_of_others_that_mount_ours_are_named_and_nothing_is_removed() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    post(&world, "/api/v1/namespaces/default/pods", &foreign_pod()).await;
    world.settle().await;
    let before = world.inventory().await;

    let destroy = terraform.destroy().await.fails_with(&["KVTLS-E421", "theirs"]);
    destroy.error(&["Nothing was removed"]);
    assert_eq!(world.inventory().await, before, "nothing was touched");
    assert!(terraform.state(SHOP).await.is_some());

    let pod = "/api/v1/namespaces/default/pods/theirs";
    world.kubernetes(Method::DELETE, pod, None).await;
    world.advance("1m").await;
    world.settle().await;
    terraform.destroy().await.succeeds();
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn s24_a_stopped_cluster_is_started_first() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let power = |word: &str| json!({ "clusters": { CLUSTER: { "power": word } } });
    world.control(Method::PATCH, "/world", power("Stopped")).await;
    let destroy = terraform.destroy().await.fails_with(&["KVTLS-E413", "stopped"]);
    destroy.error(&["az aks start"]);
    assert!(terraform.state(SHOP).await.is_some(), "{}", destroy.evidence());
    world.control(Method::PATCH, "/world", power("Running")).await;
    terraform.destroy().await.succeeds();
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn s24_with_the_cluster_everything_is_gone_but_the_grant_and_that_goes() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    world.delete_cluster().await;
    terraform
        .command(&["destroy", "-json", "-auto-approve", "-refresh=false"])
        .await
        .succeeds();
    let all = world.look("/world?pointer=/assignments").await.to_string();
    assert!(!all.contains("kvtls: "), "{all}");
    assert_eq!(terraform.state(SHOP).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn s24_a_namespace_that_is_going_takes_ours_along() {
    let world = World::start().await;
    let configuration = QUICKSTART.replacen(
        "certificates = {",
        "namespace = \"gone\"\n  create_namespace = true\n  certificates = {",
        1,
    );
    let terraform = Terraform::new(&world.deployer, &configuration);
    terraform.apply().await.succeeds();
    let deleted = world
        .kubernetes(Method::DELETE, "/api/v1/namespaces/gone", None)
        .await;
    assert!(deleted.status.is_success(), "{deleted:?}");
    terraform.destroy().await.succeeds();
    assert_eq!(world.inventory().await.our_grants, Vec::<String>::new());
}

/// What carries the name and not the mark of this creation is another's.
#[tokio::test(flavor = "multi_thread")]
async fn s24_objects_that_another_creation_took_over_stay() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let other = json!({ "metadata": { "annotations": { "kvtls.io/instance": "another" } } });
    for path in [SECRET_PROVIDER_CLASS, DEPLOYMENT, INGRESS] {
        let body = Some(("application/merge-patch+json", &other));
        assert_eq!(
            world.kubernetes(Method::PATCH, path, body).await.status,
            StatusCode::OK
        );
    }
    let destroy = ["destroy", "-json", "-auto-approve", "-refresh=false"];
    terraform.command(&destroy).await.succeeds();
    for path in [SECRET_PROVIDER_CLASS, DEPLOYMENT, INGRESS] {
        let still = world.kubernetes(Method::GET, path, None).await;
        assert_eq!(still.status, StatusCode::OK, "{path}");
    }
}
