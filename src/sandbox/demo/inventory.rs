//! What a cluster and a vault hold, told apart: ours and everybody else's.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::Value;

use super::visitor::{VisitError, Visitor};

/// Where objects of the kinds that a binding touches, or must not touch, are listed.
const LISTS: &[(&str, &str)] = &[
    ("Namespace", "/api/v1/namespaces"),
    ("Service", "/api/v1/services"),
    ("Secret", "/api/v1/secrets"),
    ("ConfigMap", "/api/v1/configmaps"),
    ("ServiceAccount", "/api/v1/serviceaccounts"),
    ("Pod", "/api/v1/pods"),
    ("Deployment", "/apis/apps/v1/deployments"),
    ("ReplicaSet", "/apis/apps/v1/replicasets"),
    ("DaemonSet", "/apis/apps/v1/daemonsets"),
    ("Ingress", "/apis/networking.k8s.io/v1/ingresses"),
    ("IngressClass", "/apis/networking.k8s.io/v1/ingressclasses"),
    ("Gateway", "/apis/gateway.networking.k8s.io/v1/gateways"),
    ("ListenerSet", "/apis/gateway.networking.k8s.io/v1/listenersets"),
    ("HTTPRoute", "/apis/gateway.networking.k8s.io/v1/httproutes"),
    (
        "ReferenceGrant",
        "/apis/gateway.networking.k8s.io/v1beta1/referencegrants",
    ),
    (
        "SecretProviderClass",
        "/apis/secrets-store.csi.x-k8s.io/v1/secretproviderclasses",
    ),
    (
        "SecretProviderClassPodStatus",
        "/apis/secrets-store.csi.x-k8s.io/v1/secretproviderclasspodstatuses",
    ),
];

/// A cluster's objects and a vault's grants at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// `Kind namespace/name` → uid, of objects that a binding made or caused.
    pub ours: BTreeMap<String, String>,
    /// The same of all others.
    pub others: BTreeMap<String, String>,
    /// Role assignments at the vault whose description says that kvtls made them, by ID.
    pub our_grants: Vec<String>,
    /// Role assignments at the vault of anybody else, by ID.
    pub other_grants: Vec<String>,
}

impl Inventory {
    /// Looks at everything.
    ///
    /// # Errors
    /// If the world cannot be asked.
    pub async fn take(visitor: &Visitor, cluster: &str, vault_id: &str) -> Result<Self, VisitError> {
        let mut inventory = Self::default();
        for (kind, path) in LISTS {
            let list = visitor.kubernetes(cluster, Method::GET, path, None).await?;
            for object in list.body["items"].as_array().into_iter().flatten() {
                let name = name(kind, object);
                let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
                let side = if is_ours(object) {
                    &mut inventory.ours
                } else {
                    &mut inventory.others
                };
                side.insert(name, uid);
            }
        }
        inventory.adopt_dependents();
        for grant in visitor.assignments_at(vault_id).await? {
            let id = grant["id"].as_str().unwrap_or_default().to_owned();
            let description = grant["properties"]["description"].as_str().unwrap_or_default();
            let ours = description.starts_with("kvtls");
            let side = if ours {
                &mut inventory.our_grants
            } else {
                &mut inventory.other_grants
            };
            side.push(id);
        }
        Ok(inventory)
    }

    /// What of others' was there then and is not there now, or is another object of the same name. Pods, their
    /// replica sets and the cluster's own bookkeeping come and go by themselves and are left out.
    pub fn missing_since(&self, then: &Self) -> Vec<String> {
        let lasting = then.others.iter().filter(|(name, _)| {
            !["Pod ", "ReplicaSet ", "SecretProviderClassPodStatus "]
                .iter()
                .any(|kind| name.starts_with(kind))
        });
        let objects = lasting.filter(|(name, uid)| self.others.get(*name) != Some(uid));
        let grants = then
            .other_grants
            .iter()
            .filter(|grant| !self.other_grants.contains(grant));
        objects
            .map(|(name, _)| name.clone())
            .chain(grants.cloned())
            .collect()
    }

    /// Everything that is ours, objects and grants.
    pub fn all_ours(&self) -> Vec<String> {
        self.ours.keys().chain(&self.our_grants).cloned().collect()
    }

    /// Replica sets, pods and mounts of our Deployments belong to us although nothing on them says so: they carry the
    /// Deployment's name.
    fn adopt_dependents(&mut self) {
        let deployments: Vec<String> = self
            .ours
            .keys()
            .filter_map(|name| name.strip_prefix("Deployment ").map(str::to_owned))
            .collect();
        let follows = |name: &str| {
            let rest = ["ReplicaSet ", "Pod ", "SecretProviderClassPodStatus "]
                .iter()
                .find_map(|kind| name.strip_prefix(kind));
            rest.is_some_and(|rest| deployments.iter().any(|own| rest.starts_with(&format!("{own}-"))))
        };
        let dependents: Vec<String> = self.others.keys().filter(|name| follows(name)).cloned().collect();
        for name in dependents {
            if let Some(uid) = self.others.remove(&name) {
                self.ours.insert(name, uid);
            }
        }
    }
}

fn name(kind: &str, object: &Value) -> String {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

fn is_ours(object: &Value) -> bool {
    let metadata = &object["metadata"];
    metadata["annotations"]["kvtls.io/binding"].is_string()
        || metadata["labels"]["app.kubernetes.io/managed-by"] == "kvtls"
        || metadata["labels"]["app.kubernetes.io/name"] == "kvtls-sync"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(names: &[&str]) -> BTreeMap<String, String> {
        names
            .iter()
            .map(|name| ((*name).to_owned(), format!("uid of {name}")))
            .collect()
    }

    #[test]
    fn what_our_deployment_made_is_ours_too() {
        let mut inventory = Inventory {
            ours: objects(&["Deployment default/shop"]),
            others: objects(&[
                "Pod default/shop-6d4f-x2",
                "Pod default/shopping-1",
                "ReplicaSet default/shop-6d4f",
            ]),
            ..Inventory::default()
        };
        inventory.adopt_dependents();
        assert_eq!(inventory.others, objects(&["Pod default/shopping-1"]));
        assert_eq!(inventory.ours.len(), 3);
    }

    #[test]
    fn an_object_that_was_made_anew_is_missed() {
        let then = Inventory {
            others: objects(&["Service default/a", "Pod default/p"]),
            ..Inventory::default()
        };
        let mut now = then.clone();
        now.others
            .insert("Service default/a".to_owned(), "another".to_owned());
        now.others.remove("Pod default/p");
        assert_eq!(now.missing_since(&then), ["Service default/a"]);
        assert!(then.missing_since(&then).is_empty());
    }
}
