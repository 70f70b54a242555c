//! Custom resource definitions, and the kinds they make.

use std::sync::Arc;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::kinds::{Kind, Scale, Version};
use super::request::stamp;
use super::schema::{ANY, Type};
use super::store::{Store, at, meta, text_at};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";

/// Gives a definition the status that makes it served.
pub(super) fn before_storing(store: &Store, kind: &Kind, object: &mut Value, now: OffsetDateTime) {
    if !kind.is(GROUP, PLURAL) {
        return;
    }
    let names = object["spec"]["names"].clone();
    let mut stored: Vec<Value> = at(object, &["status", "storedVersions"])
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let versions = object["spec"]["versions"].as_array().cloned().unwrap_or_default();
    for version in versions.iter().filter(|version| version["storage"] == true) {
        if !stored.contains(&version["name"]) {
            stored.push(version["name"].clone());
        }
    }
    let since = |kind: &str| {
        let old = store.get_at(GROUP, PLURAL, "", meta(object, "name"));
        let old = old
            .as_ref()
            .and_then(|old| at(old, &["status", "conditions"]))
            .and_then(Value::as_array);
        let same = old
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == kind);
        same.map_or_else(
            || Value::from(stamp(now)),
            |condition| condition["lastTransitionTime"].clone(),
        )
    };
    let conditions = json!([
        {"type": "NamesAccepted", "status": "True", "reason": "NoConflicts", "message": "no conflicts found", "lastTransitionTime": since("NamesAccepted")},
        {"type": "Established", "status": "True", "reason": "InitialNamesAccepted", "message": "the initial names have been accepted", "lastTransitionTime": since("Established")},
    ]);
    object["status"] = json!({"conditions": conditions, "acceptedNames": names, "storedVersions": stored});
}

/// Serves the kind of a definition that was stored.
pub(super) fn stored(store: &mut Store, kind: &Kind, object: &Value) {
    if kind.is(GROUP, PLURAL) {
        store.kinds.insert(Arc::new(defined(object)));
    }
}

/// Stops serving the kind of a definition that was removed, and removes its objects.
pub(super) fn removed(store: &mut Store, kind: &Kind, object: &Value, _now: OffsetDateTime) {
    if !kind.is(GROUP, PLURAL) {
        return;
    }
    let custom = defined(object);
    let places: Vec<_> = store
        .all(&custom.group, &custom.plural)
        .map(|(place, _)| place.clone())
        .collect();
    for (namespace, name) in places {
        store.remove(&custom, &namespace, &name);
    }
    store.kinds.remove(&custom.group, &custom.plural);
}

/// The kind that a definition describes.
fn defined(definition: &Value) -> Kind {
    let spec = &definition["spec"];
    let word = |path: &[&str]| text_at(spec, path).to_owned();
    let words = |path: &[&str]| -> Vec<String> {
        let list = at(spec, path).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let (group, kind) = (word(&["group"]), word(&["names", "kind"]));
    let all = spec["versions"].as_array().cloned().unwrap_or_default();
    let storage = all.iter().find(|version| version["storage"] == true);
    let storage = storage
        .map(|version| text_at(version, &["name"]).to_owned())
        .unwrap_or_default();
    let mut versions: Vec<_> = all
        .iter()
        .filter(|version| version["served"] == true)
        .map(|version| served(&group, &kind, version, &storage))
        .collect();
    versions.sort_by_key(|version| std::cmp::Reverse(priority(&version.name)));
    Kind {
        plural: word(&["names", "plural"]),
        singular: word(&["names", "singular"]),
        list_kind: word(&["names", "listKind"]),
        namespaced: word(&["scope"]) == "Namespaced",
        short_names: words(&["names", "shortNames"]),
        categories: words(&["names", "categories"]),
        versions,
        storage,
        custom: true,
        generations: true,
        others: &[],
        group,
        kind,
    }
}

fn served(group: &str, kind: &str, version: &Value, storage: &str) -> Version {
    let name = text_at(version, &["name"]).to_owned();
    let schema = at(version, &["schema", "openAPIV3Schema"]);
    let path = |scale: &Value, member: &str| -> Option<Vec<String>> {
        let text = scale.get(member)?.as_str()?;
        Some(
            text.trim_start_matches('.')
                .split('.')
                .map(str::to_owned)
                .collect(),
        )
    };
    let scale = at(version, &["subresources", "scale"]).and_then(|scale| {
        Some(Scale {
            replicas: path(scale, "specReplicasPath")?,
            status_replicas: path(scale, "statusReplicasPath")?,
            selector: path(scale, "labelSelectorPath"),
        })
    });
    let deprecated = (version["deprecated"] == true).then(|| {
        let own = text_at(version, &["deprecationWarning"]);
        if own.is_empty() {
            format!("{group}/{name} {kind} is deprecated; use {group}/{storage} {kind}")
        } else {
            own.to_owned()
        }
    });
    Version {
        of: Arc::new(schema.map_or_else(|| ANY.clone(), Type::custom)),
        status: at(version, &["subresources", "status"]).is_some(),
        scale,
        deprecated,
        name,
    }
}

/// How Kubernetes orders versions: stable before beta before alpha, then by number.
fn priority(name: &str) -> (u8, u32, u32, std::cmp::Reverse<String>) {
    let plain = (0, 0, 0, std::cmp::Reverse(name.to_owned()));
    let Some(rest) = name.strip_prefix('v') else {
        return plain;
    };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = rest.split_at(digits);
    let Ok(major) = major.parse() else { return plain };
    let minor = |text: &str| text.parse().unwrap_or_default();
    let (rank, minor) = if let Some(beta) = rest.strip_prefix("beta") {
        (2, minor(beta))
    } else if let Some(alpha) = rest.strip_prefix("alpha") {
        (1, minor(alpha))
    } else if rest.is_empty() {
        (3, 0)
    } else {
        return plain;
    };
    (rank, major, minor, std::cmp::Reverse(String::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_come_first() {
        let mut names = ["v1alpha1", "v2", "v1beta2", "v1", "v1beta1", "foo"];
        names.sort_by_key(|name| std::cmp::Reverse(priority(name)));
        assert_eq!(names, ["v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "foo"]);
    }
}
