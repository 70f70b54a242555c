//! Pods, and the kinds that make them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::names::{LABEL, SUBDOMAIN, check_labels, is_label};
use super::{immutable, selects};
use crate::sandbox::kubernetes::quantity;
use crate::sandbox::kubernetes::refusal::Cause;
use crate::sandbox::kubernetes::store::{at, text_at};

const MISMATCH: &str = "`selector` does not match template `labels`";

/// Checks a Deployment, ReplicaSet or DaemonSet.
pub(super) fn check_workload(plural: &str, object: &Value, live: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let labels = at(spec, &["template", "metadata", "labels"]);
    if spec.get("selector").is_none() {
        // No selector selects nothing.
        let labels = labels.cloned().unwrap_or(Value::Null);
        causes.push(Cause::invalid("spec.template.metadata.labels", &labels, MISMATCH));
    }
    if let Some(selector) = spec.get("selector").filter(|selector| selector.is_object()) {
        let empty = selector.as_object().is_none_or(serde_json::Map::is_empty);
        if empty {
            causes.push(Cause::invalid(
                "spec.selector",
                selector,
                format!("empty selector is invalid for {}", singular(plural)),
            ));
        } else if !selects(selector, labels) {
            let labels = labels.cloned().unwrap_or(Value::Null);
            causes.push(Cause::invalid("spec.template.metadata.labels", &labels, MISMATCH));
        }
    }
    immutable(object, live, &["spec", "selector"], causes);
    if spec
        .get("replicas")
        .and_then(Value::as_i64)
        .is_some_and(|replicas| replicas < 0)
    {
        causes.push(Cause::invalid(
            "spec.replicas",
            &spec["replicas"],
            "must be greater than or equal to 0",
        ));
    }
    check_labels(
        at(spec, &["template", "metadata", "labels"]),
        "spec.template.labels",
        causes,
    );
    let template = &spec["template"]["spec"];
    let policy = text_at(template, &["restartPolicy"]);
    if !matches!(policy, "" | "Always") && matches!(policy, "Never" | "OnFailure") {
        let known = ["Always".to_owned()];
        causes.push(Cause::unsupported(
            "spec.template.spec.restartPolicy",
            &template["restartPolicy"],
            &known,
        ));
    }
    check_pod_spec(template, "spec.template.spec", causes);
}

fn singular(plural: &str) -> &str {
    match plural {
        "daemonsets" => "daemonset",
        "replicasets" => "replicaset",
        _ => "deployment",
    }
}

/// Checks a pod.
pub(super) fn check_pod(object: &Value, live: Option<&Value>, causes: &mut Vec<Cause>) {
    check_pod_spec(&object["spec"], "spec", causes);
    let Some(live) = live else { return };
    let frozen = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        let Some(members) = spec.as_object_mut() else {
            return spec;
        };
        for member in [
            "activeDeadlineSeconds",
            "terminationGracePeriodSeconds",
            "tolerations",
        ] {
            members.remove(member);
        }
        // Binding a pod that has no node yet is what schedulers do, here also by update.
        if at(live, &["spec", "nodeName"]).is_none() {
            members.remove("nodeName");
        }
        for list in ["containers", "initContainers"] {
            let containers = members.get_mut(list).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
                container.remove("image");
            }
        }
        spec
    };
    if frozen(live) != frozen(object) {
        let why = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        causes.push(Cause::forbidden("spec", why));
    }
}

/// The driver of a volume that has one, or should.
fn at_csi(volume: &Value) -> Option<&str> {
    Some(text_at(volume.get("csi")?, &["driver"]))
}

fn check_pod_spec(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let list = |member: &str| {
        spec.get(member)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let mut volumes = BTreeSet::new();
    for (at, volume) in list("volumes").iter().enumerate() {
        let name = text_at(volume, &["name"]);
        let here = format!("{path}.volumes[{at}]");
        if !name.is_empty() && !is_label(name) {
            causes.push(Cause::invalid(format!("{here}.name"), &volume["name"], LABEL));
        }
        if !name.is_empty() && !volumes.insert(name.to_owned()) {
            causes.push(Cause::duplicate(format!("{here}.name"), &volume["name"]));
        }
        if at_csi(volume) == Some("") {
            causes.push(Cause::invalid(
                format!("{here}.csi.driver"),
                &Value::from(""),
                SUBDOMAIN,
            ));
        }
        let sources = volume
            .as_object()
            .map_or(0, |members| members.len().saturating_sub(1));
        if sources > 1 {
            causes.push(Cause::forbidden(here, "may not specify more than 1 volume type"));
        }
    }
    let mut names = BTreeSet::new();
    for member in ["initContainers", "containers"] {
        for (at, container) in list(member).iter().enumerate() {
            check_container(
                container,
                &format!("{path}.{member}[{at}]"),
                &volumes,
                &mut names,
                causes,
            );
        }
    }
}

fn check_container(
    container: &Value,
    path: &str,
    volumes: &BTreeSet<String>,
    names: &mut BTreeSet<String>,
    causes: &mut Vec<Cause>,
) {
    let name = text_at(container, &["name"]);
    if !name.is_empty() && !is_label(name) {
        causes.push(Cause::invalid(format!("{path}.name"), &container["name"], LABEL));
    }
    if !name.is_empty() && !names.insert(name.to_owned()) {
        causes.push(Cause::duplicate(format!("{path}.name"), &container["name"]));
    }
    if text_at(container, &["image"]).is_empty() {
        causes.push(Cause::required(format!("{path}.image"), ""));
    }
    let mut paths = BTreeSet::new();
    let mounts = container.get("volumeMounts").and_then(Value::as_array);
    for (at, mount) in mounts.into_iter().flatten().enumerate() {
        let here = format!("{path}.volumeMounts[{at}]");
        let volume = text_at(mount, &["name"]);
        if !volume.is_empty() && !volumes.contains(volume) {
            causes.push(Cause::not_found(format!("{here}.name"), volume));
        }
        let place = text_at(mount, &["mountPath"]);
        if !place.is_empty() && !paths.insert(place.to_owned()) {
            causes.push(Cause::invalid(
                format!("{here}.mountPath"),
                &mount["mountPath"],
                "must be unique",
            ));
        }
    }
    check_resources(&container["resources"], &format!("{path}.resources"), causes);
    for (at, port) in container
        .get("ports")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
    {
        if !super::network::port_in_range(&port["containerPort"]) {
            let here = format!("{path}.ports[{at}].containerPort");
            causes.push(Cause::invalid(
                here,
                &port["containerPort"],
                super::network::PORT_RANGE,
            ));
        }
    }
}

/// No container may ask for more than it is allowed to use.
fn check_resources(resources: &Value, path: &str, causes: &mut Vec<Cause>) {
    let amount = |value: &Value| value.as_str().and_then(quantity::amount);
    let requests = resources.get("requests").and_then(Value::as_object);
    for (name, wanted) in requests.into_iter().flatten() {
        let Some(limit) = at(resources, &["limits", name]) else {
            continue;
        };
        if amount(wanted)
            .zip(amount(limit))
            .is_some_and(|(wanted, limit)| wanted > limit)
        {
            let limit = limit.as_str().unwrap_or_default();
            let why = format!("must be less than or equal to {name} limit of {limit}");
            causes.push(Cause::invalid(format!("{path}.requests"), wanted, why));
        }
    }
}
