//! The add-on's objects, with the names and labels AKS gives them.

use serde_json::{Value, json};

use crate::sandbox::actors::csi_driver::Generation;
use crate::sandbox::actors::kubelet::DRIVER;
use crate::sandbox::core::AddonState;

pub(super) const DRIVER_SET: &str = "aks-secrets-store-csi-driver";
pub(super) const PROVIDER_SET: &str = "aks-secrets-store-provider-azure";

const GROUP: &str = "secrets-store.csi.x-k8s.io";

/// Both definitions, each in both of its versions.
pub(super) fn definitions() -> [Value; 2] {
    let text = || json!({"type": "string"});
    let texts = || json!({"type": "object", "additionalProperties": {"type": "string"}});
    let kind = |members: Value| {
        json!({"type": "object", "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
            "spec": members["spec"], "status": members["status"]}})
    };
    let class = kind(json!({
        "spec": {"type": "object", "properties": {
            "parameters": texts(),
            "provider": text(),
            "secretObjects": {"type": "array", "items": {"type": "object", "properties": {
                "annotations": texts(), "labels": texts(), "secretName": text(), "type": text(),
                "data": {"type": "array", "items": {"type": "object", "properties": {
                    "key": text(), "objectName": text()}}}}}},
        }},
        "status": {"type": "object", "properties": {
            "byPod": {"type": "array", "items": {"type": "object", "properties": {
                "id": text(), "namespace": text()}}}}},
    }));
    let mut status = kind(json!({
        "spec": null,
        "status": {"type": "object", "properties": {
            "mounted": {"type": "boolean"}, "podName": text(), "secretProviderClassName": text(), "targetPath": text(),
            "objects": {"type": "array", "items": {"type": "object", "properties": {
                "id": text(), "version": text()}}}}},
    }));
    if let Some(properties) = status["properties"].as_object_mut() {
        properties.remove("spec");
    }
    [
        definition(
            "SecretProviderClass",
            "secretproviderclasses",
            "secretproviderclass",
            &class,
        ),
        definition(
            "SecretProviderClassPodStatus",
            "secretproviderclasspodstatuses",
            "secretproviderclasspodstatus",
            &status,
        ),
    ]
}

fn definition(kind: &str, plural: &str, singular: &str, schema: &Value) -> Value {
    let schema = json!({"openAPIV3Schema": schema});
    json!({
        "metadata": {"name": format!("{plural}.{GROUP}"), "labels": addon_labels("secrets-store-csi-driver"),
            "annotations": {"controller-gen.kubebuilder.io/version": "v0.15.0"}},
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": {"kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": singular},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": schema},
                {"name": "v1alpha1", "served": true, "storage": false, "deprecated": true, "schema": schema,
                    "deprecationWarning": format!("{GROUP}/v1alpha1 is deprecated. Use {GROUP}/v1 instead.")},
            ],
        },
    })
}

/// `is_republished`: the kubelet has to publish again and again.
pub(super) fn csi_driver(is_republished: bool) -> Value {
    let mut driver = json!({
        "metadata": {"name": DRIVER, "labels": addon_labels("secrets-store-csi-driver")},
        "spec": {
            "podInfoOnMount": true, "attachRequired": false, "volumeLifecycleModes": ["Ephemeral"],
            "tokenRequests": [{"audience": "api://AzureADTokenExchange"}],
        },
    });
    if is_republished {
        driver["spec"]["requiresRepublish"] = true.into();
    }
    driver
}

/// The driver, which reads its rotation settings from its arguments.
pub(super) fn driver_set(state: &AddonState, version: &str) -> Value {
    let mut arguments = vec![
        json!("--endpoint=$(CSI_ENDPOINT)"),
        json!("--nodeid=$(KUBE_NODE_NAME)"),
        json!("--provider-volume=/var/run/secrets-store-csi-providers"),
        json!("--additional-provider-volume-paths=/etc/kubernetes/secrets-store-csi-providers"),
        json!("--metrics-addr=:8095"),
        json!("--provider-health-check-interval=2m"),
        json!("--max-call-recv-msg-size=4194304"),
    ];
    if state.rotation {
        let seconds = state.poll_interval.map_or(120, |interval| interval.as_secs());
        arguments.push(json!("--enable-secret-rotation=true"));
        arguments.push(json!(format!("--rotation-poll-interval={seconds}s")));
    }
    let registry = "mcr.microsoft.com/oss/v2/kubernetes-csi";
    daemon_set(
        DRIVER_SET,
        "secrets-store-csi-driver",
        &json!([
            {"name": "node-driver-registrar", "image": format!("{registry}/csi-node-driver-registrar:v2.13.0"),
                "args": ["--v=5", "--csi-address=/csi/csi.sock",
                    format!("--kubelet-registration-path=/var/lib/kubelet/plugins/{DRIVER}/csi.sock")]},
            {"name": "secrets-store", "image": format!("{registry}/secrets-store/driver:v{version}"), "args": arguments},
            {"name": "liveness-probe", "image": format!("{registry}/livenessprobe:v2.15.0"),
                "args": ["--csi-address=/csi/csi.sock", "--probe-timeout=3s", "--http-endpoint=0.0.0.0:9808", "-v=2"]},
        ]),
        false,
    )
}

pub(super) fn provider_set(generation: Generation) -> Value {
    let version = if generation.is_republished() {
        "v1.8.1-2"
    } else {
        "v1.7.2"
    };
    let image = format!("mcr.microsoft.com/oss/v2/azure/secrets-store/provider-azure:{version}");
    daemon_set(
        PROVIDER_SET,
        "secrets-store-provider-azure",
        &json!([{"name": "provider-azure-installer", "image": image,
            "args": ["-v=2", "--endpoint=unix:///etc/kubernetes/secrets-store-csi-providers/azure.sock",
                "--construct-pem-chain=true", "--healthz-port=8989"]}]),
        true,
    )
}

fn daemon_set(set: &str, app: &str, containers: &Value, host_network: bool) -> Value {
    let mut labels = addon_labels(app);
    labels["app"] = app.into();
    let mut spec = json!({
        "containers": containers, "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}], "priorityClassName": "system-node-critical",
    });
    if host_network {
        spec["hostNetwork"] = true.into();
    }
    json!({
        "metadata": {"name": set, "namespace": "kube-system", "labels": labels},
        "spec": {
            "selector": {"matchLabels": {"app": app}},
            "template": {"metadata": {"labels": {"app": app, "kubernetes.azure.com/managedby": "aks"}}, "spec": spec},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
        },
    })
}

fn addon_labels(app: &str) -> Value {
    json!({"app.kubernetes.io/name": app, "app.kubernetes.io/managed-by": "Helm",
        "addonmanager.kubernetes.io/mode": "Reconcile", "kubernetes.azure.com/managedby": "aks"})
}
