//! AKS deployment safeguards, enforced: what they add to workloads, and what they refuse.
//!
//! Played are those that meet a binding's own pods: probes are required; requests, anti-affinity and spread are added.
//! The amounts are not measured. System namespaces are left alone.

use serde_json::{Value, json};

use super::kinds::Kind;
use super::store::{at, meta};

/// Namespaces the policies do not look at.
const EXEMPT: &[&str] = &[
    "kube-system",
    "calico-system",
    "tigera-system",
    "gatekeeper-system",
    "app-routing-system",
    "aks-istio-system",
];

/// The probes every container needs.
const PROBES: &[&str] = &["readinessProbe", "livenessProbe"];

/// Adds what a workload lacks.
pub(super) fn mutate(kind: &Kind, object: &mut Value) {
    if EXEMPT.contains(&meta(object, "namespace")) || kind.group != "apps" {
        return;
    }
    let selector = at(object, &["spec", "selector"]).cloned();
    let Some(template) = object.pointer_mut("/spec/template/spec") else {
        return;
    };
    let containers = template.get_mut("containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten().filter(|one| one.is_object()) {
        for (name, amount) in [("cpu", "500m"), ("memory", "2048Mi")] {
            let set = |list: &str| at(container, &["resources", list, name]).is_some();
            if !set("requests") && !set("limits") {
                container["resources"]["requests"][name] = Value::from(amount);
            }
        }
    }
    let Some(selector) = selector.filter(|_| kind.is("apps", "deployments") && template.is_object()) else {
        return;
    };
    if at(template, &["affinity"]).is_none() && at(template, &["topologySpreadConstraints"]).is_none() {
        let host = "kubernetes.io/hostname";
        template["affinity"] = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "podAffinityTerm": {"labelSelector": selector, "topologyKey": host}},
        ]}});
        template["topologySpreadConstraints"] = json!([
            {"maxSkew": 1, "topologyKey": host, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector},
        ]);
    }
}

/// Why an object is refused, in the policy's words.
pub(super) fn denial(kind: &Kind, object: &Value) -> Option<String> {
    let spec = match (kind.group.as_str(), kind.plural.as_str()) {
        _ if EXEMPT.contains(&meta(object, "namespace")) => return None,
        ("", "pods") => &object["spec"],
        ("apps", "deployments" | "replicasets" | "daemonsets") => &object["spec"]["template"]["spec"],
        _ => return None,
    };
    let mut lines = Vec::new();
    for container in spec["containers"].as_array().into_iter().flatten() {
        for probe in PROBES.iter().filter(|probe| container.get(**probe).is_none()) {
            let (name, of) = (
                container["name"].as_str().unwrap_or_default(),
                meta(object, "name"),
            );
            lines.push(format!(
                "[azurepolicy-k8sazurev2containerenforceprob] Container <{name}> in your Pod <{of}> has no <{probe}>. \
                 Required probes: [\"readinessProbe\", \"livenessProbe\"]"
            ));
        }
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}
