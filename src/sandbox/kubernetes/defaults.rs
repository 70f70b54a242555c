//! What the server fills in beyond the schema's own defaults.

use serde_json::{Map, Value, json};

use super::kinds::{Kind, Version};
use super::store::{Store, at, meta, metadata_mut, set_meta, text_at};

/// Runs before the schema's defaults: forms that are written differently than they are kept.
pub(super) fn before_schema(kind: &Kind, object: &mut Value) {
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "secrets") => keep_string_data(object),
        ("apps", "deployments") => fill_strategy(object, "strategy", "25%", "25%"),
        ("apps", "daemonsets") => fill_strategy_of_daemon_set(object),
        _ => {}
    }
    if let Some(spec) = pod_spec(kind, object) {
        fill_pod_spec(spec, kind.is("", "pods"));
    }
}

/// Runs after the schema's defaults: values that follow from others.
pub(super) fn after_schema(kind: &Kind, object: &mut Value) {
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "namespaces") => {
            let name = meta(object, "name").to_owned();
            if let Some(metadata) = metadata_mut(object).filter(|_| !name.is_empty()) {
                let labels = metadata.entry("labels").or_insert_with(|| json!({}));
                labels["kubernetes.io/metadata.name"] = Value::from(name);
            }
        }
        ("", "services") => fill_service(object),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            for subject in items_mut(object, &["subjects"]) {
                let group = match text_at(subject, &["kind"]) {
                    "ServiceAccount" => continue,
                    _ => "rbac.authorization.k8s.io",
                };
                put_absent(subject, "apiGroup", group);
            }
        }
        ("apiextensions.k8s.io", "customresourcedefinitions") => {
            let Some(names) = object.pointer_mut("/spec/names") else {
                return;
            };
            let kind = text_at(names, &["kind"]).to_owned();
            put_absent(names, "singular", kind.to_lowercase());
            put_absent(names, "listKind", format!("{kind}List"));
            put_absent(&mut object["spec"], "conversion", json!({"strategy": "None"}));
        }
        _ => {}
    }
}

fn put_absent(object: &mut Value, member: &str, value: impl Into<Value>) {
    if let Some(members) = object.as_object_mut() {
        members.entry(member).or_insert_with(|| value.into());
    }
}

fn items_mut<'a>(object: &'a mut Value, path: &[&str]) -> impl Iterator<Item = &'a mut Value> {
    let found = path.iter().try_fold(object, |value, name| value.get_mut(name));
    found.and_then(Value::as_array_mut).into_iter().flatten()
}

fn keep_string_data(object: &mut Value) {
    use base64::Engine as _;
    let Some(members) = object.as_object_mut() else {
        return;
    };
    let Some(Value::Object(texts)) = members.remove("stringData") else {
        return;
    };
    let data = members.entry("data").or_insert_with(|| Value::Object(Map::new()));
    for (key, text) in texts {
        let bytes = text.as_str().unwrap_or_default().as_bytes();
        data[key] = Value::from(base64::engine::general_purpose::STANDARD.encode(bytes));
    }
}

fn fill_strategy(object: &mut Value, member: &str, surge: &str, unavailable: &str) {
    let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else {
        return;
    };
    put_absent(spec, member, json!({}));
    let strategy = &mut spec[member];
    put_absent(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        put_absent(strategy, "rollingUpdate", json!({}));
        put_absent(&mut strategy["rollingUpdate"], "maxUnavailable", unavailable);
        put_absent(&mut strategy["rollingUpdate"], "maxSurge", surge);
    }
}

fn fill_strategy_of_daemon_set(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else {
        return;
    };
    put_absent(spec, "updateStrategy", json!({}));
    let strategy = &mut spec["updateStrategy"];
    put_absent(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        put_absent(strategy, "rollingUpdate", json!({}));
        put_absent(&mut strategy["rollingUpdate"], "maxUnavailable", 1);
        put_absent(&mut strategy["rollingUpdate"], "maxSurge", 0);
    }
}

/// The pod specification inside an object of a kind that has one.
pub(super) fn pod_spec<'a>(kind: &Kind, object: &'a mut Value) -> Option<&'a mut Value> {
    let path = match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => "/spec",
        ("apps", "deployments" | "replicasets" | "daemonsets") => "/spec/template/spec",
        _ => return None,
    };
    object.pointer_mut(path).filter(|spec| spec.is_object())
}

fn fill_pod_spec(spec: &mut Value, is_pod: bool) {
    let account = text_at(spec, &["serviceAccountName"]).to_owned();
    let old_account = text_at(spec, &["serviceAccount"]).to_owned();
    match (account.as_str(), old_account.as_str()) {
        ("", "") => {}
        ("", name) => put_absent(spec, "serviceAccountName", name),
        (name, _) => spec["serviceAccount"] = Value::from(name),
    }
    if is_pod {
        put_absent(spec, "enableServiceLinks", true);
    }
    let on_host = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for volume in items_mut(spec, &["volumes"]) {
        if volume
            .as_object()
            .is_some_and(|members| members.keys().all(|key| key == "name"))
        {
            put_absent(volume, "emptyDir", json!({}));
        }
    }
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, &[list]) {
            let image = text_at(container, &["image"]);
            let last = image.rsplit('/').next().unwrap_or_default();
            let newest = !image.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
            put_absent(
                container,
                "imagePullPolicy",
                if newest { "Always" } else { "IfNotPresent" },
            );
            if on_host {
                for port in items_mut(container, &["ports"]) {
                    if let Some(number) = port.get("containerPort").cloned() {
                        put_absent(port, "hostPort", number);
                    }
                }
            }
            if is_pod {
                request_limits(container);
            }
        }
    }
}

/// A pod that has limits requests them.
fn request_limits(container: &mut Value) {
    let Some(limits) = at(container, &["resources", "limits"])
        .and_then(Value::as_object)
        .cloned()
    else {
        return;
    };
    put_absent(&mut container["resources"], "requests", json!({}));
    for (name, limit) in limits {
        put_absent(&mut container["resources"]["requests"], &name, limit);
    }
}

fn fill_service(object: &mut Value) {
    for port in items_mut(object, &["spec", "ports"]) {
        if let Some(number) = port.get("port").cloned() {
            put_absent(port, "targetPort", number);
        }
    }
    let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else {
        return;
    };
    let kind = text_at(spec, &["type"]).to_owned();
    if kind == "LoadBalancer" || kind == "NodePort" {
        put_absent(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        put_absent(spec, "allocateLoadBalancerNodePorts", true);
    }
    if kind != "ExternalName" {
        put_absent(spec, "internalTrafficPolicy", "Cluster");
    }
}

/// What a new object gets: its first status, addresses, the finalizer of a namespace.
pub(super) fn on_create(store: &mut Store, kind: &Kind, version: &Version, object: &mut Value, dry: bool) {
    if !object.is_object() {
        return;
    }
    let status = match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "namespaces") => {
            put_absent(object, "spec", json!({}));
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            Some(json!({"phase": "Active"}))
        }
        ("", "pods") => Some(json!({"phase": "Pending", "qosClass": quality(object)})),
        ("", "services") => {
            allocate_addresses(store, object, dry);
            Some(json!({"loadBalancer": {}}))
        }
        ("", "nodes") | ("apiextensions.k8s.io", _) => return,
        ("networking.k8s.io", "ingresses") => Some(json!({"loadBalancer": {}})),
        ("apps", "replicasets") => Some(json!({"replicas": 0})),
        ("apps", "daemonsets") => Some(json!({
            "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
        })),
        ("apps", "deployments") => Some(json!({})),
        _ => None,
    };
    if let Some(status) = status {
        object["status"] = status;
    } else if version.status
        && let Some(members) = object.as_object_mut()
    {
        members.remove("status");
    }
}

/// The quality-of-service class of a new pod.
fn quality(pod: &Value) -> &'static str {
    let containers = at(pod, &["spec", "containers"])
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let has = |container: &Value, part: &str| {
        at(container, &["resources", part])
            .and_then(Value::as_object)
            .is_some_and(|all| !all.is_empty())
    };
    let full = |container: &Value| {
        let part = |name: &str| at(container, &["resources", name]).cloned().unwrap_or_default();
        part("limits") == part("requests")
            && part("limits").get("cpu").is_some()
            && part("limits").get("memory").is_some()
    };
    if containers
        .iter()
        .all(|container| !has(container, "limits") && !has(container, "requests"))
    {
        "BestEffort"
    } else if containers.iter().all(full) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

fn allocate_addresses(store: &mut Store, service: &mut Value, dry: bool) {
    let Some(spec) = service.get_mut("spec").filter(|spec| spec.is_object()) else {
        return;
    };
    let kind = text_at(spec, &["type"]).to_owned();
    if kind == "ExternalName" {
        return;
    }
    if text_at(spec, &["clusterIP"]).is_empty() {
        let next = store.next_service_ip;
        if !dry {
            store.next_service_ip += 1;
        }
        spec["clusterIP"] = Value::from(format!("10.0.{}.{}", (next >> 8) & 0xff, next & 0xff));
    }
    let address = spec["clusterIP"].clone();
    put_absent(spec, "clusterIPs", json!([address]));
    put_absent(spec, "ipFamilies", json!(["IPv4"]));
    put_absent(spec, "ipFamilyPolicy", "SingleStack");
    allocate_node_ports(store, spec, dry);
}

fn allocate_node_ports(store: &mut Store, spec: &mut Value, dry: bool) {
    let kind = text_at(spec, &["type"]).to_owned();
    let wanted = spec.get("allocateLoadBalancerNodePorts") != Some(&Value::Bool(false));
    if kind != "NodePort" && !(kind == "LoadBalancer" && wanted) {
        return;
    }
    let mut next = store.next_node_port;
    for port in items_mut(spec, &["ports"]) {
        if port.get("nodePort").and_then(Value::as_i64).unwrap_or_default() == 0 {
            port["nodePort"] = Value::from(next);
            next += 1;
        }
    }
    if !dry {
        store.next_node_port = next;
    }
}

/// How often a DaemonSet's template changed stands in an annotation of old times.
pub(super) fn count_template(kind: &Kind, live: Option<&Value>, object: &mut Value) {
    const COUNT: &str = "deprecated.daemonset.template.generation";
    if !kind.is("apps", "daemonsets") || !object["metadata"].is_object() {
        return;
    }
    let count = live.map_or(1, |live| {
        let known = text_at(live, &["metadata", "annotations", COUNT])
            .parse()
            .unwrap_or(1_u64);
        known + u64::from(live["spec"]["template"] != object["spec"]["template"])
    });
    if !object["metadata"]["annotations"].is_object() {
        object["metadata"]["annotations"] = json!({});
    }
    object["metadata"]["annotations"][COUNT] = Value::from(count.to_string());
}

/// What an update cannot leave out.
pub(super) fn on_update(kind: &Kind, live: &Value, new: &mut Value) {
    count_template(kind, Some(live), new);
    if kind.is("", "services") {
        let (live, Some(spec)) = (&live["spec"], new.get_mut("spec").filter(|spec| spec.is_object())) else {
            return;
        };
        for member in [
            "clusterIP",
            "clusterIPs",
            "ipFamilies",
            "ipFamilyPolicy",
            "healthCheckNodePort",
        ] {
            let absent = spec
                .get(member)
                .is_none_or(|value| value == "" || value.is_null());
            if let Some(value) = live
                .get(member)
                .filter(|_| absent && spec["type"] != "ExternalName")
            {
                spec[member] = value.clone();
            }
        }
        let old = live
            .get("ports")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        if spec["type"] == "NodePort" || spec["type"] == "LoadBalancer" {
            for port in items_mut(spec, &["ports"]) {
                let same = old
                    .iter()
                    .find(|one| one["port"] == port["port"] && one["protocol"] == port["protocol"]);
                if let Some(number) = same.and_then(|one| one.get("nodePort")) {
                    put_absent(port, "nodePort", number.clone());
                }
            }
        }
    }
    if kind.is("", "namespaces")
        && at(new, &["spec", "finalizers"]).is_none()
        && let Some(finalizers) = at(live, &["spec", "finalizers"])
    {
        put_absent(new, "spec", json!({}));
        new["spec"]["finalizers"] = finalizers.clone();
    }
    if kind.is("", "serviceaccounts") && meta(new, "name").is_empty() {
        set_meta(new, "name", meta(live, "name"));
    }
}

/// How many seconds a deletion waits: `None` for kinds that do not wait.
pub(super) fn grace(kind: &Kind, object: &Value, options: &Value) -> Option<i64> {
    if !kind.is("", "pods") {
        return None;
    }
    let finished = matches!(text_at(object, &["status", "phase"]), "Succeeded" | "Failed");
    if text_at(object, &["spec", "nodeName"]).is_empty() || finished {
        return Some(0);
    }
    let asked = options.get("gracePeriodSeconds").and_then(Value::as_i64);
    let own = at(object, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64);
    Some(asked.or(own).unwrap_or(30).max(0))
}
