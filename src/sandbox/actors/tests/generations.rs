//! The driver's 1.6 generation, and what is staged on nodes: which object says what.

use std::sync::atomic::Ordering;

use http::Method;
use serde_json::{Value, json};

use super::rig::{CERTIFICATE, HOST, Rig};
use super::{CLASSES, PODS, SECRETS, STATUSES, binding_on, class, pod};

const SECRET: &str = "/api/v1/namespaces/default/secrets/ingress-tls";
const NODES: &str = "/api/v1/nodes";

async fn owners(rig: &Rig) -> Value {
    rig.get(SECRET).await["metadata"]["ownerReferences"].clone()
}

#[tokio::test]
async fn the_kubelet_brings_a_renewed_certificate_without_a_word() {
    for version in ["1.6.0", "1.6.1"] {
        let rig = binding_on(Rig::start_with(version).await).await;
        let driver = rig
            .get("/apis/storage.k8s.io/v1/csidrivers/secrets-store.csi.k8s.io")
            .await;
        assert_eq!(driver["spec"]["requiresRepublish"], true, "{version}");
        let renewed = rig.issue("v2").await;
        rig.advance(60).await;
        assert_ne!(
            rig.visit(HOST).await.0,
            renewed,
            "{version}: younger than the interval"
        );
        rig.advance(150).await;
        assert_eq!(rig.visit(HOST).await.0, renewed, "{version}");
        let statuses = rig.items(STATUSES).await;
        assert_eq!(statuses[0]["status"]["objects"][0]["version"], "v2", "{version}");
        for reason in ["MountRotationComplete", "SecretRotationComplete"] {
            assert_eq!(rig.events(reason).await, Vec::<Value>::new(), "{version}");
        }
        // Both generations end with the owners in place.
        rig.advance(6).await;
        assert_eq!(owners(&rig).await[0]["kind"], "ReplicaSet", "{version}");
    }
}

#[tokio::test]
async fn a_failing_republish_is_told_nowhere() {
    let rig = binding_on(Rig::start_with("1.6.1").await).await;
    rig.azure.granted.store(false, Ordering::SeqCst);
    let before = rig.get(SECRET).await["data"].clone();
    rig.advance(300).await;
    assert_eq!(rig.events("MountRotationFailed").await, Vec::<Value>::new());
    assert_eq!(rig.events("FailedMount").await, Vec::<Value>::new());
    assert_eq!(rig.get(SECRET).await["data"], before);
}

#[tokio::test]
async fn a_foreign_secret_is_overwritten_by_one_version_and_its_data_by_the_next() {
    for (version, label) in [("1.6.0", Value::Null), ("1.6.1", json!("theirs"))] {
        let rig = Rig::start_with(version).await;
        rig.enable().await;
        let foreign = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": "taken", "namespace": "default", "labels": {"whose": "theirs"}}, "data": {"a": "Yg=="}});
        rig.create(SECRETS, foreign).await;
        let mut class = class();
        class["spec"]["secretObjects"] = json!([{"secretName": "taken", "type": "Opaque", "data": [
            {"objectName": CERTIFICATE, "key": "a"}]}]);
        rig.create(CLASSES, class).await;
        rig.create(PODS, pod("web", "tls")).await;
        rig.settle().await;
        rig.advance(1).await;
        let taken = rig.get(&format!("{SECRETS}/taken")).await;
        assert_ne!(taken["data"]["a"], "Yg==", "{version}");
        assert_eq!(taken["metadata"]["labels"]["whose"], label, "{version}");
    }
}

#[tokio::test]
async fn one_version_writes_secrets_without_their_owners_and_the_next_keeps_them() {
    for (version, kept) in [("1.6.0", false), ("1.6.1", true)] {
        let rig = binding_on(Rig::start_with(version).await).await;
        rig.advance(10).await;
        assert_eq!(owners(&rig).await[0]["kind"], "ReplicaSet", "{version}");
        // The reconcile after five minutes writes again; with little time after it, the owners are not back yet.
        let mut seen_without = false;
        for _ in 0..160 {
            rig.advance(2).await;
            seen_without |= owners(&rig).await.is_null();
        }
        assert_eq!(seen_without, !kept, "{version}");
    }
}

#[tokio::test]
async fn a_first_publish_that_hangs_leaves_an_empty_directory() {
    for (version, is_empty) in [("1.6.0", true), ("1.6.1", false)] {
        let rig = Rig::start_with(version).await;
        rig.enable().await;
        rig.create(CLASSES, class()).await;
        rig.azure.hangs.store(true, Ordering::SeqCst);
        rig.create(PODS, pod("web", "tls")).await;
        while !rig.clock.due().iter().any(|due| due.what.contains("deadline")) {
            tokio::task::yield_now().await;
        }
        let deadline = rig.clock.now() + std::time::Duration::from_secs(121);
        while !rig.clock.advance_towards(deadline).is_empty() {}
        rig.azure.hangs.store(false, Ordering::SeqCst);
        rig.settle().await;
        assert_eq!(rig.events("FailedMount").await.len(), 1, "{version}");
        rig.advance(2).await;
        let running = rig.get(&format!("{PODS}/web")).await;
        assert_eq!(running["status"]["phase"], "Running", "{version}: {running}");
        assert_eq!(rig.items(STATUSES).await.is_empty(), is_empty, "{version}");
        assert_eq!(rig.get(SECRET).await.is_null(), is_empty, "{version}");
        // After the interval the kubelet's next sync mounts after all.
        rig.advance(210).await;
        assert_eq!(rig.items(STATUSES).await.len(), 1, "{version}");
        assert!(!rig.get(SECRET).await.is_null(), "{version}");
    }
}

async fn said(rig: &Rig, reason: &str, pod: &str) -> String {
    let events = rig.events(reason).await;
    let of = events
        .iter()
        .filter(|event| event["involvedObject"]["name"] == pod);
    of.filter_map(|event| event["message"].as_str()).collect()
}

#[tokio::test]
async fn words_whose_cause_lies_outside_can_be_staged_and_heal() {
    let rig = Rig::start().await;
    rig.enable().await;
    rig.create(CLASSES, class()).await;
    for (row, words) in [
        (2, "error connecting to provider \"azure\": provider not found"),
        (14, "service account tokens not found"),
        (15, "token for audience api://AzureADTokenExchange not found"),
        (32, "i/o timeout"),
        (33, "nmi response failed with status code: 404"),
        (34, "received message larger than max"),
    ] {
        rig.actors.stage(&json!({"mount_error": row}));
        let name = format!("row-{row}");
        rig.create(PODS, pod(&name, "tls")).await;
        rig.settle().await;
        let message = said(&rig, "FailedMount", &name).await;
        assert!(message.contains(words), "row {row}: {message}");
        assert!(
            message.contains("failed to mount secrets store objects for pod"),
            "{message}"
        );
    }
    rig.actors.stage(&Value::Null);
    rig.advance(120).await;
    let healed = rig.get(&format!("{PODS}/row-34")).await;
    assert_eq!(healed["status"]["phase"], "Running");
}

#[tokio::test]
async fn a_driver_that_may_not_write_or_ask_for_tokens_says_so() {
    let rig = Rig::start().await;
    rig.enable().await;
    rig.create(CLASSES, class()).await;
    rig.actors.stage(&json!({"mount_error": 31}));
    rig.create(PODS, pod("web", "tls")).await;
    rig.settle().await;
    rig.advance(1).await;
    let message = said(&rig, "FailedToCreateSecret", "web").await;
    assert!(
        message.contains("secrets is forbidden") && message.contains("cannot create"),
        "{message}"
    );
    rig.actors.stage(&json!({"mount_error": 44}));
    rig.advance(130).await;
    let message = said(&rig, "MountRotationFailed", "web").await;
    assert!(message.contains("serviceaccounts/token"), "{message}");
}

#[tokio::test]
async fn nodes_and_images_go_wrong_when_staged() {
    let rig = Rig::start().await;
    rig.enable().await;
    rig.create(CLASSES, class()).await;
    rig.actors.stage(&json!({"missing_images": ["busybox*"]}));
    rig.create(PODS, pod("image", "tls")).await;
    rig.settle().await;
    rig.advance(1).await;
    let waiting =
        &rig.get(&format!("{PODS}/image")).await["status"]["containerStatuses"][0]["state"]["waiting"];
    // Told as it happens, and as a pause a moment later.
    assert!(
        ["ErrImagePull", "ImagePullBackOff"].contains(&waiting["reason"].as_str().unwrap()),
        "{waiting}"
    );
    assert!(
        waiting["message"].as_str().unwrap().ends_with("not found"),
        "{waiting}"
    );

    rig.actors.stage(&json!({"unschedulable": "Insufficient memory"}));
    rig.create(PODS, pod("room", "tls")).await;
    rig.settle().await;
    let message = said(&rig, "FailedScheduling", "room").await;
    assert!(
        message.starts_with("0/1 nodes are available: 1 Insufficient memory."),
        "{message}"
    );

    rig.actors.stage(&json!({"no_driver_on_node": true}));
    rig.settle().await;
    rig.create(PODS, pod("driver", "tls")).await;
    rig.settle().await;
    let message = said(&rig, "FailedMount", "driver").await;
    assert!(
        message.contains("not found in the list of registered CSI drivers"),
        "{message}"
    );

    rig.actors.stage(&json!({"node_not_ready": true}));
    // A scheduler that asks before the node has said so would still find it ready.
    rig.settle().await;
    rig.create(PODS, pod("node", "tls")).await;
    rig.settle().await;
    let nodes = rig.items(NODES).await;
    let ready = nodes[0]["status"]["conditions"].as_array().unwrap();
    let ready = ready
        .iter()
        .find(|condition| condition["type"] == "Ready")
        .unwrap();
    assert_eq!(
        (&ready["status"], &ready["reason"]),
        (&json!("False"), &json!("KubeletNotReady"))
    );
    let message = said(&rig, "FailedScheduling", "node").await;
    assert!(message.contains("node.kubernetes.io/not-ready"), "{message}");

    rig.actors.stage(&Value::Null);
    rig.advance(400).await;
    for name in ["image", "room", "driver", "node"] {
        let pod = rig.get(&format!("{PODS}/{name}")).await;
        assert_eq!(pod["status"]["phase"], "Running", "{name}: {}", pod["status"]);
    }
    rig.call(Method::DELETE, &format!("{PODS}/node"), None).await;
    rig.settle().await;
}
