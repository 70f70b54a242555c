//! The actors together, against the embedded API and a small Azure.

mod failures;
mod gateway;
mod generations;
mod rig;
mod workloads;

use std::sync::atomic::Ordering;

use http::Method;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use self::rig::{CERTIFICATE, HOST, Rig};
use super::kubelet::DRIVER;

const CLASSES: &str = "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/default/secretproviderclasses";
const STATUSES: &str =
    "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/default/secretproviderclasspodstatuses";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const INGRESSES: &str = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";

fn class() -> Value {
    let objects = format!("array:\n  - |\n    objectName: {CERTIFICATE}\n    objectType: secret\n");
    json!({
        "apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass",
        "metadata": {"name": "tls", "namespace": "default"},
        "spec": {
            "provider": "azure",
            "parameters": {"keyvaultName": "myAKSKeyVault", "tenantID": "t", "useVMManagedIdentity": "true",
                "userAssignedIdentityID": "the-client", "objects": objects},
            "secretObjects": [{"secretName": "ingress-tls", "type": "kubernetes.io/tls", "data": [
                {"objectName": CERTIFICATE, "key": "tls.key"}, {"objectName": CERTIFICATE, "key": "tls.crt"}]}],
        },
    })
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "holder", "namespace": "default"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": "holder"}},
            "template": {"metadata": {"labels": {"app": "holder"}}, "spec": {
                "containers": [{"name": "pause", "image": "mcr.microsoft.com/oss/kubernetes/pause:3.10",
                    "volumeMounts": [{"name": "tls", "mountPath": "/mnt/secrets", "readOnly": true}],
                    "readinessProbe": {"exec": {"command": ["test", "-s", format!("/mnt/secrets/{CERTIFICATE}")]}}}],
                "volumes": [{"name": "tls", "csi": {"driver": DRIVER, "readOnly": true,
                    "volumeAttributes": {"secretProviderClass": "tls"}}}],
            }},
        },
    })
}

fn ingress() -> Value {
    let backend = json!({"service": {"name": "app", "port": {"number": 80}}});
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "app", "namespace": "default"},
        "spec": {
            "ingressClassName": "nginx", "tls": [{"hosts": [HOST], "secretName": "ingress-tls"}],
            "rules": [{"host": HOST, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
        },
    })
}

/// A bare pod that mounts a class.
fn pod(name: &str, class: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "containers": [{"name": "c", "image": "busybox:1.37", "volumeMounts": [{"name": "tls", "mountPath": "/mnt"}]}],
            "volumes": [{"name": "tls", "csi": {"driver": DRIVER, "readOnly": true,
                "volumeAttributes": {"secretProviderClass": class}}}]}})
}

async fn with_binding() -> Rig {
    binding_on(Rig::start().await).await
}

/// A holder, its class and an Ingress on a cluster whose add-on gets enabled.
async fn binding_on(rig: Rig) -> Rig {
    rig.enable().await;
    rig.create(CLASSES, class()).await;
    rig.create(DEPLOYMENTS, deployment()).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app", "namespace": "default"},
        "spec": {"selector": {"app": "holder"}, "ports": [{"port": 80}]}});
    rig.create("/api/v1/namespaces/default/services", service).await;
    rig.create(INGRESSES, ingress()).await;
    rig.settle().await;
    rig.advance(1).await;
    rig
}

fn subject(leaf: &[u8]) -> String {
    X509Certificate::from_der(leaf).unwrap().1.subject().to_string()
}

#[tokio::test]
async fn the_add_on_brings_driver_and_definitions_and_takes_the_driver_away_again() {
    let rig = Rig::start().await;
    let driver = "/apis/storage.k8s.io/v1/csidrivers/secrets-store.csi.k8s.io";
    assert_eq!(rig.get(driver).await, Value::Null);
    rig.enable().await;
    assert_eq!(
        rig.get(driver).await["spec"]["volumeLifecycleModes"],
        json!(["Ephemeral"])
    );
    let set = rig
        .get("/apis/apps/v1/namespaces/kube-system/daemonsets/aks-secrets-store-provider-azure")
        .await;
    assert_eq!(
        (
            &set["status"]["desiredNumberScheduled"],
            &set["status"]["numberReady"]
        ),
        (&json!(1), &json!(1))
    );
    let nodes = rig.items("/apis/storage.k8s.io/v1/csinodes").await;
    assert!(
        nodes[0]["spec"]["drivers"]
            .as_array()
            .unwrap()
            .iter()
            .any(|driver| driver["name"] == DRIVER)
    );
    assert_eq!(rig.get(CLASSES).await["items"], json!([]));

    rig.addon.send_replace(Default::default());
    rig.settle().await;
    rig.advance(3).await;
    assert_eq!(rig.get(driver).await, Value::Null);
    assert_eq!(
        rig.items("/api/v1/namespaces/kube-system/pods").await,
        Vec::<Value>::new()
    );
    let nodes = rig.items("/apis/storage.k8s.io/v1/csinodes").await;
    assert!(
        nodes[0]["spec"]["drivers"]
            .as_array()
            .unwrap()
            .iter()
            .all(|driver| driver["name"] != DRIVER)
    );
    assert_eq!(rig.get(CLASSES).await["items"], json!([]));
}

#[tokio::test]
async fn a_mounted_class_becomes_a_secret_that_the_edge_serves() {
    let rig = with_binding().await;
    let statuses = rig.items(STATUSES).await;
    assert_eq!(statuses.len(), 1, "{:?}", rig.items(PODS).await);
    assert_eq!(
        statuses[0]["status"]["objects"],
        json!([{"id": "secret/my-tls-cert", "version": "v1"}])
    );
    let secret = rig.get(&format!("{SECRETS}/ingress-tls")).await;
    assert_eq!(
        secret["metadata"]["labels"]["secrets-store.csi.k8s.io/managed"],
        "true"
    );
    assert_eq!(secret["metadata"]["ownerReferences"][0]["kind"], "ReplicaSet");
    assert_eq!(
        secret["metadata"]["managedFields"][0]["manager"],
        "csi-secrets-store"
    );
    let deployment = rig.get(&format!("{DEPLOYMENTS}/holder")).await;
    assert_eq!(deployment["status"]["availableReplicas"], 1);
    let (leaf, answer) = rig.visit(HOST).await;
    assert_eq!(subject(&leaf), format!("CN={HOST}"));
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("default/app:80"),
        "{answer}"
    );
    let ingress = rig.get(&format!("{INGRESSES}/app")).await;
    assert_eq!(
        ingress["status"]["loadBalancer"]["ingress"],
        json!([{"ip": "127.0.1.1"}])
    );
    assert_eq!(
        rig.edges.by_host(HOST),
        rig.edges.by_address("127.0.1.1".parse().unwrap())
    );
    assert_eq!(rig.edges.by_host("other.example.com"), None);
    let (leaf, answer) = rig.visit("other.example.com").await;
    assert!(subject(&leaf).contains("Kubernetes Ingress Controller Fake Certificate"));
    assert!(answer.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_renewed_certificate_arrives_with_the_next_poll() {
    let rig = with_binding().await;
    let renewed = rig.issue("v2").await;
    assert_ne!(rig.visit(HOST).await.0, renewed);
    rig.advance(125).await;
    assert_eq!(rig.visit(HOST).await.0, renewed);
    let statuses = rig.items(STATUSES).await;
    assert_eq!(statuses[0]["status"]["objects"][0]["version"], "v2");
    assert_eq!(rig.events("MountRotationComplete").await.len(), 1);
    assert_eq!(rig.events("SecretRotationComplete").await.len(), 1);
}

#[tokio::test]
async fn a_secret_goes_with_its_owners_and_the_edge_falls_back() {
    let rig = with_binding().await;
    let patch = json!({"spec": {"replicas": 0}});
    rig.call(Method::PATCH, &format!("{DEPLOYMENTS}/holder"), Some(&patch))
        .await;
    rig.settle().await;
    assert_eq!(rig.items(PODS).await, Vec::<Value>::new());
    assert_eq!(rig.items(STATUSES).await, Vec::<Value>::new());
    assert_ne!(
        rig.get(&format!("{SECRETS}/ingress-tls")).await,
        Value::Null,
        "scaling to 0 keeps it"
    );
    rig.call(Method::DELETE, &format!("{DEPLOYMENTS}/holder"), None)
        .await;
    rig.settle().await;
    rig.advance(1).await;
    assert_eq!(rig.get(&format!("{SECRETS}/ingress-tls")).await, Value::Null);
    let (leaf, answer) = rig.visit(HOST).await;
    assert!(subject(&leaf).contains("Fake Certificate"));
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[tokio::test]
async fn a_missing_role_shows_as_failed_mount_and_heals_on_retry() {
    let rig = Rig::start().await;
    rig.enable().await;
    rig.azure.granted.store(false, Ordering::SeqCst);
    rig.create(CLASSES, class()).await;
    rig.create(DEPLOYMENTS, deployment()).await;
    rig.settle().await;
    rig.advance(30).await;
    let events = rig.events("FailedMount").await;
    assert_eq!(events.len(), 1, "{events:?}");
    let message = events[0]["message"].as_str().unwrap();
    let start = "MountVolume.SetUp failed for volume \"tls\" : rpc error: code = Unknown desc = failed to mount secrets \
        store objects for pod default/holder-";
    assert!(message.starts_with(start), "{message}");
    for words in [
        "objectType:secret, objectName:my-tls-cert, objectVersion:",
        "RESPONSE 403: 403 Forbidden",
        "ERROR CODE: Forbidden",
        "ForbiddenByRbac",
    ] {
        assert!(message.contains(words), "{message}");
    }
    // 0.5 + 1 + 2 + 4 + 8 s: six attempts within 30 s, the last after 15.5 s.
    assert_eq!(events[0]["count"], 6);
    let pod = &rig.items(PODS).await[0];
    assert_eq!(
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"],
        "ContainerCreating"
    );
    rig.azure.granted.store(true, Ordering::SeqCst);
    rig.advance(60).await;
    assert_ne!(rig.get(&format!("{SECRETS}/ingress-tls")).await, Value::Null);
    let pod = &rig.items(PODS).await[0];
    assert_eq!(pod["status"]["phase"], "Running");
}

#[tokio::test]
async fn a_namespace_ends_with_all_it_holds() {
    let rig = Rig::start().await;
    let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    rig.create("/api/v1/namespaces", space).await;
    rig.settle().await;
    assert_ne!(
        rig.get("/api/v1/namespaces/team/serviceaccounts/default").await,
        Value::Null
    );
    assert_ne!(
        rig.get("/api/v1/namespaces/team/configmaps/kube-root-ca.crt")
            .await,
        Value::Null
    );
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "team"},
        "spec": {"containers": [{"name": "c", "image": "busybox", "command": ["sleep", "1d"]}]}});
    rig.create("/api/v1/namespaces/team/pods", pod).await;
    rig.settle().await;
    assert_eq!(
        rig.get("/api/v1/namespaces/team/pods/p").await["status"]["phase"],
        "Running"
    );
    rig.call(Method::DELETE, "/api/v1/namespaces/team", None).await;
    rig.settle().await;
    // A sleeping process 1 does not hear SIGTERM: it is killed after its 30 s of grace.
    assert_ne!(rig.get("/api/v1/namespaces/team/pods/p").await, Value::Null);
    rig.advance(40).await;
    assert_eq!(rig.get("/api/v1/namespaces/team").await, Value::Null);
}

#[tokio::test]
async fn a_pod_that_waits_for_the_synced_secret_recovers_by_itself() {
    let rig = Rig::start().await;
    rig.enable().await;
    rig.create(CLASSES, class()).await;
    let mut deployment = deployment();
    deployment["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "ingress-tls", "key": "tls.key"}}}]);
    rig.create(DEPLOYMENTS, deployment).await;
    rig.settle().await;
    rig.advance(1).await;
    let pod = &rig.items(PODS).await[0];
    assert_eq!(pod["status"]["phase"], "Running");
    let failures = rig.events("Failed").await;
    assert_eq!(failures[0]["message"], "Error: secret \"ingress-tls\" not found");
}
