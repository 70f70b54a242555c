//! Scenario 17: whoever followed the guide by hand hands the four objects over, and no visitor notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::terraform::{SHOP, Terraform};
use crate::world::{CERTIFICATE, CLUSTER, HOST, VAULT, World};

const CONFIGURATION: &str = r#"
terraform {
  required_providers {
    kvtls = { source = "kvtls/kvtls" }
  }
}

provider "kvtls" {}

resource "kvtls_ingress_binding" "shop" {
  name         = "azure-tls"
  cluster_id   = "CLUSTER_ID"
  key_vault_id = "VAULT_ID"
  certificates = { my-tls-cert = { secret_name = "ingress-tls-csi" } }
  ingress = {
    name       = "ingress-tls"
    class_name = "nginx"
    rules      = [{ host = "myapp.example.com", paths = [{ service = "my-app-service", port = 80 }] }]
  }
}
"#;

async fn post(world: &World, path: &str, object: &Value) {
    let path = format!("{path}?fieldManager=kubectl-client-side-apply");
    let made = world
        .kubernetes(Method::POST, &path, Some(("application/json", object)))
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
}

/// The guide's objects under its own names, serving.
async fn guide(world: &World) {
    let identity = world.addon().await["identity"].clone();
    world.grant(&identity["objectId"]).await;
    let class = json!({
        "apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass",
        "metadata": { "name": "azure-tls", "namespace": "default" },
        "spec": {
            "provider": "azure",
            "secretObjects": [{ "secretName": "ingress-tls-csi", "type": "kubernetes.io/tls", "data": [
                { "objectName": CERTIFICATE, "key": "tls.key" }, { "objectName": CERTIFICATE, "key": "tls.crt" }] }],
            "parameters": {
                "usePodIdentity": "false", "useVMManagedIdentity": "true", "userAssignedIdentityID": identity["clientId"],
                "keyvaultName": VAULT, "tenantId": world.deployer.variable("ARM_TENANT_ID").expect("a tenant"),
                "objects": format!("array:\n  - |\n    objectName: {CERTIFICATE}\n    objectType: secret\n"),
            },
        },
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "busybox-secrets-store-inline", "namespace": "default" },
        "spec": { "replicas": 1, "selector": { "matchLabels": { "app": "busybox" } }, "template": {
            "metadata": { "labels": { "app": "busybox" } },
            "spec": {
                "containers": [{ "name": "busybox", "image": "busybox:1.36", "command": ["sleep", "10000"],
                    "volumeMounts": [{ "name": "secrets-store", "mountPath": "/mnt/secrets-store", "readOnly": true }] }],
                "volumes": [{ "name": "secrets-store", "csi": { "driver": "secrets-store.csi.k8s.io", "readOnly": true,
                    "volumeAttributes": { "secretProviderClass": "azure-tls" } } }],
            } } },
    });
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": { "name": "ingress-tls", "namespace": "default" },
        "spec": {
            "ingressClassName": "nginx",
            "tls": [{ "hosts": [HOST], "secretName": "ingress-tls-csi" }],
            "rules": [{ "host": HOST, "http": { "paths": [{ "path": "/", "pathType": "Prefix",
                "backend": { "service": { "name": "my-app-service", "port": { "number": 80 } } } }] } }],
        },
    });
    let namespaced = |group: &str, plural: &str| format!("{group}/namespaces/default/{plural}");
    post(
        world,
        &namespaced("/apis/secrets-store.csi.x-k8s.io/v1", "secretproviderclasses"),
        &class,
    )
    .await;
    post(world, &namespaced("/apis/apps/v1", "deployments"), &deployment).await;
    world.settle().await;
    post(
        world,
        &namespaced("/apis/networking.k8s.io/v1", "ingresses"),
        &ingress,
    )
    .await;
    world.advance("1m").await;
    world.settle().await;
    assert_eq!(world.served().await, world.in_vault().await, "the guide serves");
}

#[tokio::test(flavor = "multi_thread")]
async fn s17_what_the_guide_made_by_hand_is_adopted_and_nobody_notices() {
    let addon = json!({ "enabled": true, "config": { "enableSecretRotation": "true", "rotationPollInterval": "2m" } });
    let world = Arc::new(World::with(json!({ "clusters": { CLUSTER: { "addon": addon } } })).await);
    guide(&world).await;
    let cluster = world.binding_id();
    let (cluster, _) = cluster.split_once("/namespaces/").expect("an ID");
    let configuration = CONFIGURATION
        .replace("CLUSTER_ID", cluster)
        .replace("VAULT_ID", &world.vault_id());
    let terraform = Terraform::new(&world.deployer, &configuration);

    let (stop, failed, asked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let probe = {
        let (world, stop, failed, asked) = (
            Arc::clone(&world),
            Arc::clone(&stop),
            Arc::clone(&failed),
            Arc::clone(&asked),
        );
        let wanted = world.in_vault().await;
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let served = world.deployer.edge(HOST).await;
                let good = served.is_ok_and(|served| served.leaf.thumbprint.to_string() == wanted);
                failed.fetch_add(usize::from(!good), Ordering::Relaxed);
                asked.fetch_add(1, Ordering::Relaxed);
            }
        })
    };

    let import = terraform
        .import(
            SHOP,
            &format!("{cluster}/namespaces/default/ingresses/ingress-tls"),
        )
        .await
        .succeeds();
    let said = import.run.output();
    for words in [
        "KVTLS-W424",
        "kubectl-client-side-apply",
        "busybox-secrets-store-inline",
    ] {
        assert!(said.contains(words), "{words}\n{}", import.evidence());
    }
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    let changes = terraform.changes().await;
    assert_eq!(changes.len(), 1, "{changes:#?}");
    assert_eq!(changes[0].actions, ["update"], "{changes:#?}");
    let since = world.now_in_journal().await;
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
    world.advance("5m").await;
    world.settle().await;
    terraform.plan_is_empty().await;

    stop.store(true, Ordering::Relaxed);
    probe.await.expect("the probe ends");
    let (failed, asked) = (failed.load(Ordering::Relaxed), asked.load(Ordering::Relaxed));
    assert!(asked > 10, "{asked} handshakes");
    assert_eq!(failed, 0, "of {asked} handshakes");
    let deletes = world.journal_after(since).await;
    assert!(
        deletes.iter().all(|entry| entry["method"] != "DELETE"),
        "{deletes:#?}"
    );
    let state = terraform.state(SHOP).await.expect("the shop");
    assert_eq!(state["secret_names"][CERTIFICATE], "ingress-tls-csi");
    let theirs = "/apis/apps/v1/namespaces/default/deployments/busybox-secrets-store-inline";
    assert_eq!(
        world.kubernetes(Method::GET, theirs, None).await.status,
        StatusCode::OK
    );
}
