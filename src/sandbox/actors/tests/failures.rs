//! Rows of the diagnosis table that the actors cause, each by its cause: which object says what.

use http::Method;
use serde_json::{Value, json};

use super::rig::{CERTIFICATE, Rig};
use super::{CLASSES, PODS, SECRETS, STATUSES, class, pod};

/// What the events with this reason on this pod say.
async fn said(rig: &Rig, reason: &str, pod: &str) -> String {
    let events = rig.events(reason).await;
    let of = events
        .iter()
        .filter(|event| event["involvedObject"]["name"] == pod);
    of.filter_map(|event| event["message"].as_str()).collect()
}

fn objects(entry: &str) -> String {
    format!("array:\n  - |\n    {}\n", entry.replace('\n', "\n    "))
}

#[tokio::test]
async fn each_mistake_in_a_class_shows_on_the_pod() {
    let rig = Rig::start().await;
    rig.enable().await;
    // Row, parameter, value, key fragment.
    let rows = [
        (
            4,
            "objects",
            objects("objectName: no-such\nobjectType: secret"),
            "SecretNotFound",
        ),
        (
            10,
            "userAssignedIdentityID",
            "somebody-else".into(),
            "the requested identity isn't assigned to this resource",
        ),
        (
            18,
            "useVMManagedIdentity",
            "false".into(),
            "nodePublishSecretRef secret is not set",
        ),
        (20, "usePodIdentity", "true".into(), "cannot enable both"),
        (
            21,
            "useVMManagedIdentity",
            "yes".into(),
            "failed to parse useVMManagedIdentity flag",
        ),
        (22, "keyvaultName", "my_vault".into(), "Invalid vault name"),
        (
            23,
            "objects",
            objects("objectName: a\nobjectType: certificate"),
            "Invalid vaultObjectTypes",
        ),
        (
            24,
            "objects",
            "array:\n  - objectName: a\n".into(),
            "cannot unmarshal !!map into string",
        ),
        (25, "objects", "arrays: []\n".into(), "missing object versions"),
        (32, "keyvaultName", "another-vault".into(), "no such host"),
        (
            40,
            "cloudName",
            "AzureMoon".into(),
            "cloudName AzureMoon is not valid",
        ),
    ];
    for (row, parameter, value, _) in &rows {
        let mut class = class();
        class["metadata"]["name"] = format!("row-{row}").into();
        class["spec"]["parameters"][*parameter] = value.as_str().into();
        rig.create(CLASSES, class).await;
        rig.create(PODS, pod(&format!("row-{row}"), &format!("row-{row}")))
            .await;
    }
    rig.create(PODS, pod("row-1", "no-such-class")).await;
    let mut writable = pod("row-47", "row-4");
    writable["spec"]["volumes"][0]["csi"]["readOnly"] = false.into();
    rig.create(PODS, writable).await;
    let mut foreign = class();
    foreign["metadata"]["name"] = "row-2".into();
    foreign["spec"]["provider"] = "vault".into();
    rig.create(CLASSES, foreign).await;
    rig.create(PODS, pod("row-2", "row-2")).await;
    rig.settle().await;
    for (row, _, _, words) in &rows {
        let message = said(&rig, "FailedMount", &format!("row-{row}")).await;
        assert!(message.contains(words), "row {row}: {message}");
    }
    for (pod, words) in [
        ("row-1", "failed to get secretproviderclass default/no-such-class"),
        (
            "row-2",
            "error connecting to provider \"vault\": provider not found",
        ),
        ("row-47", "Readonly is not true in request"),
    ] {
        let message = said(&rig, "FailedMount", pod).await;
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(rig.items(STATUSES).await, Vec::<Value>::new());
}

#[tokio::test]
async fn without_the_add_on_the_driver_is_not_registered_and_with_it_the_pod_starts() {
    let rig = Rig::start().await;
    rig.create(PODS, pod("early", "tls")).await;
    rig.settle().await;
    let message = said(&rig, "FailedMount", "early").await;
    let words = "driver name secrets-store.csi.k8s.io not found in the list of registered CSI drivers";
    assert!(message.contains(words), "{message}");
    rig.enable().await;
    rig.create(CLASSES, class()).await;
    rig.advance(130).await;
    assert_eq!(
        rig.get(&format!("{PODS}/early")).await["status"]["phase"],
        "Running"
    );
    // A bare pod's Secret belongs to the status object, and goes with it.
    let secret = rig.get(&format!("{SECRETS}/ingress-tls")).await;
    assert_eq!(
        secret["metadata"]["ownerReferences"][0]["kind"],
        "SecretProviderClassPodStatus"
    );
    rig.call(Method::DELETE, &format!("{PODS}/early"), None).await;
    rig.settle().await;
    assert_eq!(rig.get(&format!("{SECRETS}/ingress-tls")).await, Value::Null);
}

#[tokio::test]
async fn what_cannot_become_a_secret_is_told_on_the_pod() {
    let rig = Rig::start().await;
    rig.enable().await;
    let foreign = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "taken", "namespace": "default"}, "data": {"a": "Yg=="}});
    rig.create(SECRETS, foreign).await;
    let rows = [
        (
            "row-27",
            json!({"secretName": "s27", "type": "kubernetes.io/tls", "data": [
            {"objectName": "another-name", "key": "tls.crt"}]}),
            "file matching objectName another-name not found in the pod",
        ),
        (
            "row-28",
            json!({"secretName": "s28", "type": "kubernetes.io/tls", "data": [
            {"objectName": CERTIFICATE, "key": "ca.crt"}]}),
            "Only 'tls.key' and 'tls.crt' are supported",
        ),
        (
            "row-30",
            json!({"secretName": "s30", "type": "kubernetes.io/tls", "data": [
            {"objectName": CERTIFICATE, "key": "tls.crt"}]}),
            "timed out waiting for the condition",
        ),
        ("row-42", json!({"secretName": "s42", "type": "", "data": []}), ""),
        (
            "taken",
            json!({"secretName": "taken", "type": "Opaque", "data": [
            {"objectName": CERTIFICATE, "key": "a"}]}),
            "",
        ),
    ];
    for (name, entry, _) in &rows {
        let mut class = class();
        class["metadata"]["name"] = (*name).into();
        class["spec"]["secretObjects"] = json!([entry]);
        rig.create(CLASSES, class).await;
        rig.create(PODS, pod(name, name)).await;
    }
    rig.settle().await;
    rig.advance(1).await;
    for (name, _, words) in &rows {
        assert_eq!(
            rig.get(&format!("{PODS}/{name}")).await["status"]["phase"],
            "Running"
        );
        let message = said(&rig, "FailedToCreateSecret", name).await;
        assert!(
            message.contains(words) && message.is_empty() == words.is_empty(),
            "{name}: {message}"
        );
    }
    // The 1.5 generation leaves a Secret that exists alone.
    let taken = rig.get(&format!("{SECRETS}/taken")).await;
    assert_eq!(taken["data"], json!({"a": "Yg=="}));
    assert_eq!(taken["metadata"]["ownerReferences"], Value::Null);
}

#[tokio::test]
async fn a_failing_poll_is_told_on_the_pod_and_changes_nothing() {
    let rig = super::with_binding().await;
    let before = rig.get(&format!("{SECRETS}/ingress-tls")).await["data"].clone();
    rig.azure
        .granted
        .store(false, std::sync::atomic::Ordering::SeqCst);
    rig.advance(125).await;
    let events = rig.events("MountRotationFailed").await;
    assert_eq!(events.len(), 1);
    let message = events[0]["message"].as_str().unwrap();
    assert!(
        message.starts_with("provider mount err: ") && message.contains("ForbiddenByRbac"),
        "{message}"
    );
    assert_eq!(rig.get(&format!("{SECRETS}/ingress-tls")).await["data"], before);
}
