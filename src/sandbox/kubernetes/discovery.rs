//! What the API says about itself.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::kinds::{Kind, Kinds, Version};
use super::refusal::{Outcome, Refusal};

/// Groups that have no stored kinds, only reviews.
const REVIEWS: &[(&str, &str, &str, bool)] = &[
    (
        "authentication.k8s.io",
        "selfsubjectreviews",
        "SelfSubjectReview",
        false,
    ),
    ("authentication.k8s.io", "tokenreviews", "TokenReview", false),
    (
        "authorization.k8s.io",
        "localsubjectaccessreviews",
        "LocalSubjectAccessReview",
        true,
    ),
    (
        "authorization.k8s.io",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        false,
    ),
    (
        "authorization.k8s.io",
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        false,
    ),
    (
        "authorization.k8s.io",
        "subjectaccessreviews",
        "SubjectAccessReview",
        false,
    ),
];

/// `/version`.
pub(super) fn version(version: &str) -> Value {
    let mut parts = version.split('.');
    let (major, minor) = (parts.next().unwrap_or("1"), parts.next().unwrap_or("34"));
    json!({
        "major": major, "minor": minor, "emulationMajor": major, "emulationMinor": minor, "minCompatibilityMajor": major,
        "minCompatibilityMinor": minor.parse::<u32>().unwrap_or(34).saturating_sub(1).to_string(),
        "gitVersion": format!("v{version}"), "gitCommit": "0000000000000000000000000000000000000000", "gitTreeState": "clean",
        "buildDate": "2025-11-12T00:00:00Z", "goVersion": "go1.24.9", "compiler": "gc", "platform": "linux/amd64",
    })
}

/// The named groups with their versions, reviews among them, in the order of discovery.
pub(super) fn versions_of(kinds: &Kinds) -> Vec<(String, Vec<String>)> {
    let mut groups = kinds.groups();
    for (group, versions) in &mut groups {
        if REVIEWS.iter().any(|(name, ..)| name == group) {
            versions.push("v1".to_owned());
        }
    }
    groups.retain(|(_, versions)| !versions.is_empty());
    groups
}

fn group_json(name: &str, versions: &[String]) -> Value {
    let all: Vec<_> = versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "versions": all, "preferredVersion": all.first()})
}

/// Answers a discovery path; `None` if it is not one.
pub(super) fn answer(
    kinds: &Kinds,
    path: &str,
    accept: &str,
    server: &str,
) -> Option<Outcome<(Value, &'static str)>> {
    const PLAIN: &str = "application/json";
    const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let aggregated = accept.split(',').any(|one| {
        let one = one.replace(' ', "");
        one.contains("as=APIGroupDiscoveryList") && one.contains("v=v2") && !one.contains("v=v2beta1")
    });
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    let value = match parts.as_slice() {
        ["api"] if aggregated => {
            return Some(Ok((
                aggregated_list(kinds, &[(String::new(), vec!["v1".to_owned()])]),
                AGGREGATED,
            )));
        }
        ["api"] => json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}],
        }),
        ["apis"] if aggregated => return Some(Ok((aggregated_list(kinds, &versions_of(kinds)), AGGREGATED))),
        ["apis"] => {
            let groups: Vec<_> = versions_of(kinds)
                .iter()
                .map(|(name, all)| group_json(name, all))
                .collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["api", version] => return Some(resources(kinds, "", version).map(|value| (value, PLAIN))),
        ["apis", group] => {
            let found = versions_of(kinds).into_iter().find(|(name, _)| name == group);
            let Some((name, versions)) = found else {
                return Some(Err(Refusal::no_such_path()));
            };
            let mut value = group_json(&name, &versions);
            value["kind"] = Value::from("APIGroup");
            value["apiVersion"] = Value::from("v1");
            value
        }
        ["apis", group, version] => {
            return Some(resources(kinds, group, version).map(|value| (value, PLAIN)));
        }
        _ => return None,
    };
    Some(Ok((value, PLAIN)))
}

/// The parts of a kind beside itself, as (subresource, kind, group version of the kind, verbs).
fn parts(
    kind: &Kind,
    version: &Version,
) -> Vec<(&'static str, String, &'static str, &'static [&'static str])> {
    let mut parts: Vec<(&'static str, String, &'static str, &'static [&'static str])> = Vec::new();
    if version.status {
        parts.push(("status", kind.kind.clone(), "", &["get", "patch", "update"]));
    }
    if version.scale.is_some() {
        parts.push((
            "scale",
            "Scale".to_owned(),
            "autoscaling/v1",
            &["get", "patch", "update"],
        ));
    }
    for other in kind.others {
        parts.push(match *other {
            "token" => (
                "token",
                "TokenRequest".to_owned(),
                "authentication.k8s.io/v1",
                &["create"],
            ),
            "log" => ("log", kind.kind.clone(), "", &["get"]),
            "portforward" => (
                "portforward",
                "PodPortForwardOptions".to_owned(),
                "",
                &["create", "get"],
            ),
            "finalize" => ("finalize", kind.kind.clone(), "", &["update"]),
            "binding" => ("binding", "Binding".to_owned(), "", &["create"]),
            _ => continue,
        });
    }
    parts.sort_by_key(|(name, ..)| *name);
    parts
}

/// The start of a digest that tells whether servers keep a kind alike.
fn storage_hash(kind: &Kind) -> String {
    let of = format!("{}/{}/{}", kind.group, kind.storage, kind.kind);
    let digest = digest(&SHA256, of.as_bytes());
    STANDARD.encode(digest.as_ref().get(..8).unwrap_or_default())
}

fn resources(kinds: &Kinds, group: &str, version: &str) -> Outcome<Value> {
    let mut list = Vec::new();
    for kind in kinds.of(group, version) {
        let Some(found) = kind.version(version) else {
            continue;
        };
        let mut resource = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": kind.verbs(), "storageVersionHash": storage_hash(kind),
        });
        if let Some(members) = resource.as_object_mut() {
            if !kind.short_names.is_empty() {
                members.insert("shortNames".to_owned(), Value::from(kind.short_names.clone()));
            }
            if !kind.categories.is_empty() {
                members.insert("categories".to_owned(), Value::from(kind.categories.clone()));
            }
        }
        list.push(resource);
        for (name, part, of, verbs) in parts(kind, found) {
            let mut resource = json!({
                "name": format!("{}/{name}", kind.plural), "singularName": "", "namespaced": kind.namespaced, "kind": part, "verbs": verbs,
            });
            if let Some((group, version)) = of.split_once('/') {
                resource["group"] = Value::from(group);
                resource["version"] = Value::from(version);
            }
            list.push(resource);
        }
    }
    for (_, plural, kind, namespaced) in REVIEWS
        .iter()
        .filter(|(name, ..)| *name == group && version == "v1")
    {
        list.push(json!({"name": plural, "singularName": kind.to_lowercase(), "namespaced": namespaced, "kind": kind, "verbs": ["create"]}));
    }
    if list.is_empty() {
        return Err(if kinds.has_built_in(group) {
            Refusal::no_such_resource()
        } else {
            Refusal::no_such_path()
        });
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let mut answer = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": list});
    if !group.is_empty() {
        answer["apiVersion"] = Value::from("v1");
    }
    Ok(answer)
}

fn aggregated_list(kinds: &Kinds, groups: &[(String, Vec<String>)]) -> Value {
    let items: Vec<_> = groups
        .iter()
        .map(|(group, versions)| {
            let versions: Vec<_> = versions
                .iter()
                .map(|version| aggregated_version(kinds, group, version))
                .collect();
            let metadata = if group.is_empty() {
                json!({"creationTimestamp": null})
            } else {
                json!({"name": group, "creationTimestamp": null})
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_version(kinds: &Kinds, group: &str, version: &str) -> Value {
    let mut resources = Vec::new();
    for kind in kinds.of(group, version) {
        let Some(found) = kind.version(version) else {
            continue;
        };
        let own = json!({"group": group, "version": version, "kind": kind.kind});
        let parts: Vec<_> = parts(kind, found)
            .into_iter()
            .map(|(name, part, of, verbs)| {
                let (group, version) = of.split_once('/').unwrap_or((group, version));
                json!({"subresource": name, "responseKind": {"group": group, "version": version, "kind": part}, "verbs": verbs})
            })
            .collect();
        let mut resource = json!({
            "resource": kind.plural, "responseKind": own, "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": kind.singular, "verbs": kind.verbs(),
        });
        for (member, list) in [
            ("shortNames", &kind.short_names),
            ("categories", &kind.categories),
        ] {
            if !list.is_empty() {
                resource[member] = Value::from(list.clone());
            }
        }
        if !parts.is_empty() {
            resource["subresources"] = Value::from(parts);
        }
        resources.push(resource);
    }
    for (_, plural, kind, namespaced) in REVIEWS
        .iter()
        .filter(|(name, ..)| *name == group && version == "v1")
    {
        resources.push(json!({
            "resource": plural, "responseKind": {"group": group, "version": version, "kind": kind},
            "scope": if *namespaced { "Namespaced" } else { "Cluster" }, "singularResource": kind.to_lowercase(), "verbs": ["create"],
        }));
    }
    json!({"version": version, "freshness": "Current", "resources": resources})
}
