//! Who runs as a service account, so that none goes that others need. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::manifests;
use super::observation::{Observation, Seen};
use super::step::object_key;
use crate::k8s::{DEPLOYMENT, ObjectRef, SERVICE_ACCOUNT};

/// Who runs as a service account: Deployments, started or not, and whatever else has pods that do, as `Kind/name`.
pub fn users(deployments: &[Value], pods: &[Value], account: &str) -> BTreeSet<String> {
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let runs = |spec: &Value| spec["serviceAccountName"] == account;
    let all: BTreeSet<String> = deployments.iter().map(|it| deployment(&name(it))).collect();
    let told = deployments
        .iter()
        .filter(|it| runs(&it["spec"]["template"]["spec"]));
    let mut users: BTreeSet<String> = told.map(|it| deployment(&name(it))).collect();
    let is_over = |pod: &Value| {
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        ["Succeeded", "Failed"].contains(&phase) || pod["metadata"]["deletionTimestamp"].is_string()
    };
    for pod in pods.iter().filter(|pod| runs(&pod["spec"]) && !is_over(pod)) {
        let mut owners = pod["metadata"]["ownerReferences"]
            .as_array()
            .into_iter()
            .flatten();
        let Some(owner) = owners.find(|owner| owner["controller"] == true) else {
            users.insert(format!("Pod/{}", name(pod)));
            continue;
        };
        let (kind, owner) = (
            owner["kind"].as_str().unwrap_or_default(),
            owner["name"].as_str().unwrap_or_default(),
        );
        // A Deployment's ReplicaSet has its name and a hash; one that is being replaced runs as the Deployment did.
        let parent = owner.rsplit_once('-').map(|(parent, _)| deployment(parent));
        let parent = parent.filter(|parent| kind == "ReplicaSet" && all.contains(parent));
        users.insert(parent.unwrap_or_else(|| format!("{kind}/{owner}")));
    }
    users
}

/// Who besides the binding's own Deployment runs as a service account; none if nobody asked, or it could not be read.
pub fn others<'a>(seen: &'a Observation, account: &str, binding: &str) -> Option<Vec<&'a str>> {
    let users = seen.account_users.get(account)?.known()?;
    let own = deployment(binding);
    Some(
        users
            .iter()
            .map(String::as_str)
            .filter(|user| *user != own)
            .collect(),
    )
}

/// Whether it is certain that nobody else runs as a service account.
pub fn is_unused(seen: &Observation, account: &str, binding: &str) -> bool {
    others(seen, account, binding).is_some_and(|users| users.is_empty())
}

/// Service accounts among `objects` that carry the instance's stamp and are still there after everything of it went, and
/// why.
pub fn kept(
    objects: &[ObjectRef],
    instance: &str,
    binding: &str,
    seen: &Observation,
) -> Vec<(ObjectRef, String)> {
    let is_left = |object: &&ObjectRef| {
        object.kind == SERVICE_ACCOUNT
            && seen
                .object(&object_key(object))
                .is_some_and(|live| manifests::annotation(live, manifests::INSTANCE) == Some(instance))
    };
    let why = |account: &str| match others(seen, account, binding) {
        Some(users) if users.is_empty() => None,
        Some(users) => Some(format!("{} run as it", users.join(", "))),
        None => {
            let why = seen.account_users.get(account).and_then(Seen::why_not)?;
            Some(format!("who else runs as it could not be read ({why})"))
        }
    };
    objects
        .iter()
        .filter(is_left)
        .filter_map(|object| Some((object.clone(), why(&object.name)?)))
        .collect()
}

fn deployment(name: &str) -> String {
    format!("{}/{name}", DEPLOYMENT.kind)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, owner: Option<(&str, &str)>, phase: &str) -> Value {
        let owners = owner.map(|(kind, name)| json!([{ "controller": true, "kind": kind, "name": name }]));
        json!({
            "metadata": { "name": name, "ownerReferences": owners },
            "spec": { "serviceAccountName": "reader" },
            "status": { "phase": phase },
        })
    }

    #[test]
    fn whatever_has_pods_is_a_user() {
        let deployment = |name: &str, account: &str| {
            json!({
                "metadata": { "name": name },
                "spec": { "template": { "spec": { "serviceAccountName": account } } },
            })
        };
        let deployments = [deployment("shop", "reader"), deployment("web", "default")];
        let pods = [
            pod("shop-6f-x", Some(("ReplicaSet", "shop-6f")), "Running"),
            pod("web-6f-x", Some(("ReplicaSet", "web-6f")), "Running"),
            pod("lone-6f-x", Some(("ReplicaSet", "lone-6f")), "Running"),
            pod("db-0", Some(("StatefulSet", "db")), "Pending"),
            pod("shell", None, "Running"),
            pod("done", None, "Succeeded"),
        ];
        let found: Vec<String> = users(&deployments, &pods, "reader").into_iter().collect();
        assert_eq!(
            found,
            [
                "Deployment/shop",
                "Deployment/web",
                "Pod/shell",
                "ReplicaSet/lone-6f",
                "StatefulSet/db"
            ]
        );
        assert!(users(&deployments, &pods, "other").is_empty());
    }
}
