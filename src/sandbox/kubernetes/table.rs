//! Tables: what `kubectl get` shows is decided by the server.
//!
//! `columns.json` holds the columns of built-in kinds, recorded from a real kube-apiserver; kinds that are not there have
//! a name and a time. Custom kinds bring their columns in their definition.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::kinds::{Kind, Version};
use super::store::{Store, at, meta, text_at};

/// Name, type, format and priority of a column.
type Recorded = (String, String, String, u8);

/// The columns of built-in kinds, by resource.
static COLUMNS: LazyLock<BTreeMap<String, Vec<Recorded>>> =
    LazyLock::new(|| serde_json::from_str(include_str!("columns.json")).unwrap_or_default());

const NONE: &str = "<none>";
const UNKNOWN: &str = "<unknown>";

/// How objects of one kind become rows.
pub(super) struct Columns {
    definitions: Value,
    /// Of a custom kind: type and path of each column after the name.
    paths: Option<Vec<(String, String)>>,
    resource: String,
    now: OffsetDateTime,
}

impl Columns {
    /// The columns of a kind; ages are told as of `now`.
    pub(super) fn of(store: &Store, kind: &Kind, version: &Version, now: OffsetDateTime) -> Self {
        let column = |name: &str, of: &str, format: &str, priority: u8| json!({"name": name, "type": of, "format": format, "description": "", "priority": priority});
        let resource = kind.resource();
        let mut definitions = vec![column("Name", "string", "name", 0)];
        let mut paths = None;
        if kind.custom {
            let own = printed(store, kind, &version.name);
            for (name, of, path, priority) in &own {
                definitions.push(column(name, of, "", *priority));
                paths
                    .get_or_insert_with(Vec::new)
                    .push((of.clone(), path.clone()));
            }
        } else if let Some(recorded) = COLUMNS.get(&resource) {
            let all = recorded.iter();
            definitions = all
                .map(|(name, of, format, priority)| column(name, of, format, *priority))
                .collect();
        } else {
            definitions.push(column("Created At", "date", "", 0));
        }
        Self {
            definitions: Value::Array(definitions),
            paths,
            resource,
            now,
        }
    }

    /// A table of these objects, each as it would be shown whole.
    pub(super) fn table<'a>(
        &self,
        objects: impl Iterator<Item = &'a Value>,
        metadata: &Value,
        with_definitions: bool,
    ) -> Value {
        let rows: Vec<_> = objects
            .map(|object| {
                let partial = json!({
                    "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                    "metadata": object.get("metadata").cloned().unwrap_or_default(),
                });
                json!({"cells": self.cells(object), "object": partial})
            })
            .collect();
        let rows = if rows.is_empty() {
            Value::Null
        } else {
            Value::Array(rows)
        };
        let definitions = if with_definitions {
            self.definitions.clone()
        } else {
            Value::Null
        };
        json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "columnDefinitions": definitions, "rows": rows,
        })
    }

    fn cells(&self, object: &Value) -> Vec<Value> {
        let name = json!(meta(object, "name"));
        let created = || json!(age(meta(object, "creationTimestamp"), self.now));
        if let Some(paths) = &self.paths {
            let own = paths
                .iter()
                .map(|(of, path)| custom_cell(object, of, path, self.now));
            return std::iter::once(name).chain(own).collect();
        }
        let text = |path: &[&str]| text_at(object, path).to_owned();
        let count = |path: &[&str]| at(object, path).and_then(Value::as_i64).unwrap_or_default();
        match self.resource.as_str() {
            "namespaces" => vec![name, json!(text(&["status", "phase"])), created()],
            "nodes" => node(object, name, created()),
            "pods" => pod(object, name, created(), self.now),
            "services" => service(object, name, created()),
            "secrets" => vec![
                name,
                json!(text(&["type"])),
                json!(entries(object, &["data"])),
                created(),
            ],
            "configmaps" => {
                let entries = entries(object, &["data"]) + entries(object, &["binaryData"]);
                vec![name, json!(entries), created()]
            }
            "serviceaccounts" => vec![name, json!(items(object, &["secrets"]).len()), created()],
            "events" => event(object, name, self.now),
            "deployments.apps" => {
                let ready = format!(
                    "{}/{}",
                    count(&["status", "readyReplicas"]),
                    count(&["spec", "replicas"])
                );
                let updated = count(&["status", "updatedReplicas"]);
                let available = count(&["status", "availableReplicas"]);
                let mut cells = vec![name, json!(ready), json!(updated), json!(available), created()];
                cells.extend(template(object));
                cells
            }
            "replicasets.apps" => {
                let counts = [
                    count(&["spec", "replicas"]),
                    count(&["status", "replicas"]),
                    count(&["status", "readyReplicas"]),
                ];
                let mut cells = vec![name];
                cells.extend(counts.map(Value::from));
                cells.push(created());
                cells.extend(template(object));
                cells
            }
            "daemonsets.apps" => {
                let of = |member| Value::from(count(&["status", member]));
                let mut cells = vec![
                    name,
                    of("desiredNumberScheduled"),
                    of("currentNumberScheduled"),
                    of("numberReady"),
                    of("updatedNumberScheduled"),
                    of("numberAvailable"),
                    json!(pairs(at(object, &["spec", "template", "spec", "nodeSelector"]))),
                    created(),
                ];
                cells.extend(template(object));
                cells
            }
            "ingresses.networking.k8s.io" => ingress(object, name, created()),
            "ingressclasses.networking.k8s.io" => {
                let parameters = at(object, &["spec", "parameters"]).map_or_else(
                    || NONE.to_owned(),
                    |reference| {
                        let kind = text_at(reference, &["kind"]);
                        match text_at(reference, &["apiGroup"]) {
                            "" => format!("{kind}/{}", text_at(reference, &["name"])),
                            group => format!("{kind}.{group}/{}", text_at(reference, &["name"])),
                        }
                    },
                );
                vec![
                    name,
                    json!(text(&["spec", "controller"])),
                    json!(parameters),
                    created(),
                ]
            }
            "csinodes.storage.k8s.io" => {
                vec![name, json!(items(object, &["spec", "drivers"]).len()), created()]
            }
            "csidrivers.storage.k8s.io" => {
                let flag = |member| {
                    at(object, &["spec", member])
                        .and_then(Value::as_bool)
                        .unwrap_or_default()
                };
                let tokens = joined(
                    items(object, &["spec", "tokenRequests"])
                        .iter()
                        .map(|one| text_at(one, &["audience"])),
                    ",",
                );
                let modes = joined(
                    items(object, &["spec", "volumeLifecycleModes"])
                        .iter()
                        .filter_map(Value::as_str),
                    ",",
                );
                let tokens = if items(object, &["spec", "tokenRequests"]).is_empty() {
                    "<unset>".to_owned()
                } else {
                    tokens
                };
                vec![
                    name,
                    json!(flag("attachRequired")),
                    json!(flag("podInfoOnMount")),
                    json!(flag("storageCapacity")),
                    json!(tokens),
                    json!(flag("requiresRepublish")),
                    json!(if modes.is_empty() { NONE.to_owned() } else { modes }),
                    created(),
                ]
            }
            "endpointslices.discovery.k8s.io" => endpoint_slice(object, name, created()),
            "rolebindings.rbac.authorization.k8s.io" | "clusterrolebindings.rbac.authorization.k8s.io" => {
                let role = format!("{}/{}", text(&["roleRef", "kind"]), text(&["roleRef", "name"]));
                let subjects = items(object, &["subjects"]);
                let of = |kind: &str| {
                    let named = subjects.iter().filter(|subject| subject["kind"] == kind);
                    let named = named.map(|subject| match (kind, text_at(subject, &["namespace"])) {
                        ("ServiceAccount", namespace) => {
                            format!("{namespace}/{}", text_at(subject, &["name"]))
                        }
                        _ => text_at(subject, &["name"]).to_owned(),
                    });
                    json!(named.collect::<Vec<_>>().join(", "))
                };
                vec![
                    name,
                    json!(role),
                    created(),
                    of("User"),
                    of("Group"),
                    of("ServiceAccount"),
                ]
            }
            _ => vec![name, json!(meta(object, "creationTimestamp"))],
        }
    }
}

/// Name, type, path and priority of a definition's columns; without any, the age.
fn printed(store: &Store, kind: &Kind, version: &str) -> Vec<(String, String, String, u8)> {
    let definition = store.get_at(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "",
        &format!("{}.{}", kind.plural, kind.group),
    );
    let versions = definition
        .as_deref()
        .map(|definition| items(definition, &["spec", "versions"]));
    let version = versions
        .unwrap_or_default()
        .iter()
        .find(|one| one["name"] == version);
    let own = version
        .map(|version| items(version, &["additionalPrinterColumns"]))
        .unwrap_or_default();
    let own = own.iter().map(|column| {
        let word = |member| text_at(column, &[member]).to_owned();
        let priority = column["priority"]
            .as_u64()
            .and_then(|priority| u8::try_from(priority).ok());
        (
            word("name"),
            word("type"),
            word("jsonPath"),
            priority.unwrap_or_default(),
        )
    });
    let own: Vec<_> = own.collect();
    if own.is_empty() {
        let age = ("Age", "date", ".metadata.creationTimestamp");
        return vec![(age.0.to_owned(), age.1.to_owned(), age.2.to_owned(), 0)];
    }
    own
}

/// One cell of a custom kind. Paths are the original's JSON paths as far as definitions use them: members, and items
/// chosen by one member's value.
fn custom_cell(object: &Value, of: &str, path: &str, now: OffsetDateTime) -> Value {
    let Some(found) = follow(object, path) else {
        return if of == "date" { json!(UNKNOWN) } else { Value::Null };
    };
    match (of, found) {
        ("date", Value::String(text)) => json!(age(text, now)),
        ("string", Value::String(text)) => json!(text),
        ("string", other) => json!(other.to_string()),
        (_, other) => other.clone(),
    }
}

fn follow<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mut rest = path.trim_start_matches('.');
    let mut found = object;
    while !rest.is_empty() {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (member, after) = rest.split_at(end);
        if !member.is_empty() {
            found = found.get(member)?;
        }
        rest = after.trim_start_matches('.');
        if let Some(chosen) = rest.strip_prefix('[') {
            let (choice, after) = chosen.split_once(']')?;
            found = choose(found, choice)?;
            rest = after.trim_start_matches('.');
        }
    }
    Some(found)
}

/// `0`, or `?(@.type=="Ready")`.
fn choose<'a>(list: &'a Value, choice: &str) -> Option<&'a Value> {
    if let Ok(index) = choice.parse::<usize>() {
        return list.get(index);
    }
    let (member, wanted) = choice.strip_prefix("?(@.")?.strip_suffix(')')?.split_once("==")?;
    let wanted = wanted.trim_matches(['"', '\'']);
    list.as_array()?.iter().find(|item| item[member] == wanted)
}

fn node(object: &Value, name: Value, created: Value) -> Vec<Value> {
    let conditions = items(object, &["status", "conditions"]);
    let ready = conditions.iter().find(|one| one["type"] == "Ready");
    let mut status = match ready.map(|one| one["status"] == "True") {
        Some(true) => "Ready",
        Some(false) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if object["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    let roles = labels.into_iter().flatten().filter_map(|(key, value)| {
        let role = key.strip_prefix("node-role.kubernetes.io/");
        role.or_else(|| value.as_str().filter(|_| key == "kubernetes.io/role"))
    });
    let roles = joined(roles, ",");
    let address = |kind: &str| {
        let found = items(object, &["status", "addresses"])
            .iter()
            .find(|one| one["type"] == kind);
        json!(found.map_or(NONE, |one| text_at(one, &["address"])))
    };
    let info = |member| {
        let text = text_at(object, &["status", "nodeInfo", member]);
        json!(if text.is_empty() { UNKNOWN } else { text })
    };
    vec![
        name,
        json!(status),
        json!(if roles.is_empty() { NONE.to_owned() } else { roles }),
        created,
        json!(text_at(object, &["status", "nodeInfo", "kubeletVersion"])),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn pod(object: &Value, name: Value, created: Value, now: OffsetDateTime) -> Vec<Value> {
    let statuses = items(object, &["status", "containerStatuses"]);
    let ready = statuses.iter().filter(|one| one["ready"] == true).count();
    let total = items(object, &["spec", "containers"]).len();
    let mut word = text_at(object, &["status", "phase"]).to_owned();
    let reason = text_at(object, &["status", "reason"]);
    if !reason.is_empty() {
        reason.clone_into(&mut word);
    }
    for status in statuses.iter().rev() {
        for state in ["waiting", "terminated"] {
            let why = text_at(status, &["state", state, "reason"]);
            if !why.is_empty() {
                why.clone_into(&mut word);
            }
        }
    }
    if !meta(object, "deletionTimestamp").is_empty() {
        "Terminating".clone_into(&mut word);
    }
    let restarts: i64 = statuses
        .iter()
        .filter_map(|one| one["restartCount"].as_i64())
        .sum();
    let last = statuses
        .iter()
        .map(|one| text_at(one, &["lastState", "terminated", "finishedAt"]))
        .max();
    let restarts = match last.filter(|last| restarts > 0 && !last.is_empty()) {
        Some(last) => format!("{restarts} ({} ago)", age(last, now)),
        None => restarts.to_string(),
    };
    let or_none = |path: &[&str]| {
        let text = text_at(object, path);
        json!(if text.is_empty() { NONE } else { text })
    };
    vec![
        name,
        json!(format!("{ready}/{total}")),
        json!(word),
        json!(restarts),
        created,
        or_none(&["status", "podIP"]),
        or_none(&["spec", "nodeName"]),
        or_none(&["status", "nominatedNodeName"]),
        json!(NONE),
    ]
}

fn service(object: &Value, name: Value, created: Value) -> Vec<Value> {
    let kind = text_at(object, &["spec", "type"]);
    let mut outside: Vec<_> = items(object, &["spec", "externalIPs"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let balancer = items(object, &["status", "loadBalancer", "ingress"]);
    outside.splice(
        ..0,
        balancer.iter().map(|one| match text_at(one, &["ip"]) {
            "" => text_at(one, &["hostname"]),
            ip => ip,
        }),
    );
    let outside = match (kind, outside.is_empty()) {
        ("LoadBalancer", true) => "<pending>".to_owned(),
        ("ExternalName", _) => text_at(object, &["spec", "externalName"]).to_owned(),
        (_, true) => NONE.to_owned(),
        _ => outside.join(","),
    };
    let ports = items(object, &["spec", "ports"]).iter().map(|port| {
        let (number, protocol) = (&port["port"], text_at(port, &["protocol"]));
        match port["nodePort"].as_i64() {
            Some(node) if node > 0 => format!("{number}:{node}/{protocol}"),
            _ => format!("{number}/{protocol}"),
        }
    });
    let ports = ports.collect::<Vec<_>>().join(",");
    let address = text_at(object, &["spec", "clusterIP"]);
    vec![
        name,
        json!(kind),
        json!(if address.is_empty() { NONE } else { address }),
        json!(outside),
        json!(if ports.is_empty() { NONE.to_owned() } else { ports }),
        created,
        json!(pairs(at(object, &["spec", "selector"]))),
    ]
}

fn ingress(object: &Value, name: Value, created: Value) -> Vec<Value> {
    let class = text_at(object, &["spec", "ingressClassName"]);
    let hosts: Vec<_> = items(object, &["spec", "rules"])
        .iter()
        .map(|rule| text_at(rule, &["host"]))
        .filter(|host| !host.is_empty())
        .collect();
    let shown = match hosts.len() {
        0 => "*".to_owned(),
        1..=3 => hosts.join(","),
        many => format!(
            "{} + {} more...",
            hosts.iter().take(3).copied().collect::<Vec<_>>().join(","),
            many - 3
        ),
    };
    let addresses = items(object, &["status", "loadBalancer", "ingress"])
        .iter()
        .map(|one| match text_at(one, &["ip"]) {
            "" => text_at(one, &["hostname"]),
            ip => ip,
        });
    let secured = !items(object, &["spec", "tls"]).is_empty();
    vec![
        name,
        json!(if class.is_empty() { NONE } else { class }),
        json!(shown),
        json!(joined(addresses, ",")),
        json!(if secured { "80, 443" } else { "80" }),
        created,
    ]
}

fn event(object: &Value, name: Value, now: OffsetDateTime) -> Vec<Value> {
    let first = text_at(object, &["firstTimestamp"]);
    let last = text_at(object, &["lastTimestamp"]);
    let kind = text_at(object, &["involvedObject", "kind"]).to_lowercase();
    let about = format!("{kind}/{}", text_at(object, &["involvedObject", "name"]));
    let source = joined(
        [
            text_at(object, &["source", "component"]),
            text_at(object, &["source", "host"]),
        ]
        .into_iter()
        .filter(|part| !part.is_empty()),
        ", ",
    );
    vec![
        json!(age(if last.is_empty() { first } else { last }, now)),
        json!(text_at(object, &["type"])),
        json!(text_at(object, &["reason"])),
        json!(about),
        json!(text_at(object, &["involvedObject", "fieldPath"])),
        json!(source),
        json!(text_at(object, &["message"]).trim()),
        json!(age(first, now)),
        json!(object["count"].as_i64().unwrap_or(1)),
        name,
    ]
}

fn endpoint_slice(object: &Value, name: Value, created: Value) -> Vec<Value> {
    let ports: Vec<_> = items(object, &["ports"])
        .iter()
        .map(|port| port["port"].to_string())
        .collect();
    let endpoints: Vec<_> = items(object, &["endpoints"])
        .iter()
        .flat_map(|one| items(one, &["addresses"]))
        .filter_map(Value::as_str)
        .collect();
    let shown = |all: Vec<&str>| match all.len() {
        0 => "<unset>".to_owned(),
        1..=3 => all.join(","),
        many => format!("{} + {} more...", all[..3].join(","), many - 3),
    };
    vec![
        name,
        json!(text_at(object, &["addressType"])),
        json!(shown(ports.iter().map(String::as_str).collect())),
        json!(shown(endpoints)),
        created,
    ]
}

/// Containers, images and selector of a workload.
fn template(object: &Value) -> [Value; 3] {
    let containers = items(object, &["spec", "template", "spec", "containers"]);
    let of = |member| json!(joined(containers.iter().map(|one| text_at(one, &[member])), ","));
    [
        of("name"),
        of("image"),
        json!(pairs(at(object, &["spec", "selector", "matchLabels"]))),
    ]
}

/// `a=b,c=d`, or that there are none.
fn pairs(labels: Option<&Value>) -> String {
    let labels = labels.and_then(Value::as_object);
    let all: Vec<_> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if all.is_empty() {
        NONE.to_owned()
    } else {
        all.join(",")
    }
}

fn joined<'a>(parts: impl Iterator<Item = &'a str>, by: &str) -> String {
    parts.collect::<Vec<_>>().join(by)
}

fn entries(object: &Value, path: &[&str]) -> usize {
    at(object, path)
        .and_then(Value::as_object)
        .map_or(0, serde_json::Map::len)
}

fn items<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    at(object, path)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// How long ago that was, in two units at most.
fn age(since: &str, now: OffsetDateTime) -> String {
    let Ok(since) = OffsetDateTime::parse(since, &Rfc3339) else {
        return UNKNOWN.to_owned();
    };
    let seconds = (now - since).whole_seconds();
    let two = |first: i64, unit: char, rest: i64, below: char| match rest {
        0 => format!("{first}{unit}"),
        rest => format!("{first}{unit}{rest}{below}"),
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units_at_most() {
        let now = OffsetDateTime::UNIX_EPOCH + time::Duration::days(10_000);
        for (seconds, shown) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (601, "10m"),
            (10_860, "3h1m"),
            (30_000, "8h"),
            (180_000, "2d2h"),
            (700_000, "8d"),
        ] {
            let since = (now - time::Duration::seconds(seconds)).format(&Rfc3339).unwrap();
            assert_eq!(age(&since, now), shown, "{seconds}");
        }
    }

    #[test]
    fn a_path_may_choose_an_item() {
        let object = json!({"status": {"conditions": [{"type": "A", "status": "no"}, {"type": "B", "status": "yes"}]}});
        let found = follow(&object, ".status.conditions[?(@.type==\"B\")].status");
        assert_eq!(found, Some(&json!("yes")));
        assert_eq!(follow(&object, ".status.conditions[0].type"), Some(&json!("A")));
        assert_eq!(follow(&object, ".spec.none"), None);
    }
}
