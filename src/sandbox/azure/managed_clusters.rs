//! Managed clusters: what one is, and how it shows itself.
//!
//! A change is stored at once and shown at once, but its effect comes when its operation ends: only then does the
//! add-on have its identity, the tags change, and the cluster's actors hear of it.

use serde_json::{Value, json};
use uuid::Uuid;

use super::State;
use super::call::Call;
use super::cluster_document as document;
use super::refusal::Refusal;
use super::tree;
use crate::sandbox::core::{AddonState, ManagedIdentity};
use crate::sandbox::world::go_duration;

/// The version of a cluster whose creator named none.
pub(super) const KUBERNETES: &str = "1.34.2";

/// The first api-version whose answers hold eTags.
const ETAGS_SINCE: &str = "2024-09";

/// A managed cluster.
pub(super) struct ManagedCluster {
    pub(super) name: String,
    pub(super) subscription: String,
    pub(super) group: String,
    /// What ARM stores: without id, name, type, tags of change, and states.
    pub(super) document: Value,
    /// Members the world file added, which a PUT must send back.
    pub(super) extra: Value,
    /// Scopes and actions a PUT needs besides its own.
    pub(super) linked: Vec<(String, String)>,
    /// `provisioningState`.
    pub(super) state: String,
    pub(super) etag: Option<Uuid>,
    /// In the order of the pools.
    pub(super) pool_etags: Vec<Uuid>,
    pub(super) operation: Option<Uuid>,
    pub(super) pool_operation: Option<(Uuid, String)>,
    /// The add-on's identity, on the nodes.
    pub(super) addon: Option<ManagedIdentity>,
    /// App routing's identity, on the nodes.
    pub(super) routing: Option<ManagedIdentity>,
    pub(super) kubelet: ManagedIdentity,
    /// The issuer of its service account tokens, where it has one.
    pub(super) issuer: String,
    /// How many identities the add-on has had.
    pub(super) generation: u32,
}

impl ManagedCluster {
    /// Its id, spelled as AKS spells it.
    pub(super) fn id(&self) -> String {
        format!(
            "/subscriptions/{}/resourcegroups/{}/providers/Microsoft.ContainerService/managedClusters/{}",
            self.subscription, self.group, self.name
        )
    }

    pub(super) fn location(&self) -> &str {
        tree::text(&self.document, "location")
    }

    pub(super) fn is_stopped(&self) -> bool {
        tree::text(&self.document, "properties.powerState.code") == "Stopped"
    }

    /// True if nothing is going on.
    pub(super) fn is_settled(&self) -> bool {
        self.operation.is_none() && is_terminal(&self.state)
    }

    /// An identity in the node resource group, as ARM shows it.
    pub(super) fn identity(&self, name: &str, identity: &ManagedIdentity) -> Value {
        json!({
            "resourceId": format!(
                "/subscriptions/{}/resourcegroups/{}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}",
                self.subscription,
                tree::text(&self.document, "properties.nodeResourceGroup"),
            ),
            "clientId": identity.client_id,
            "objectId": identity.object_id,
        })
    }

    /// The cluster as this api-version shows it.
    pub(super) fn body(&self, version: &str, fqdn: &str) -> Value {
        let mut body = self.document.clone();
        let settled = self.is_settled();
        let creating = self.state == "Creating";
        let properties = "properties.provisioningState";
        tree::set(&mut body, properties, json!(self.state));
        if tree::at(&body, "properties.apiServerAccessProfile.enablePrivateCluster") == Some(&json!(true)) {
            drop(tree::take(&mut body, "properties.fqdn"));
            drop(tree::take(&mut body, "properties.azurePortalFQDN"));
            tree::set(&mut body, "properties.privateFQDN", json!(fqdn));
        } else if !fqdn.is_empty() {
            let portal = fqdn.replacen(".hcp.", ".portal.hcp.", 1);
            tree::set(&mut body, "properties.fqdn", json!(fqdn));
            tree::set(&mut body, "properties.azurePortalFQDN", json!(portal));
        }
        let etags = version >= ETAGS_SINCE;
        let tags = self.pool_etags.iter().filter(|_| etags && !creating);
        let mut tags = tags.map(Uuid::to_string);
        let pool_state = |name: &Value| match &self.pool_operation {
            Some((_, busy)) if name.as_str() == Some(busy) => "Updating",
            _ => self.state.as_str(),
        };
        for pool in tree::list_mut(&mut body, "properties.agentPoolProfiles") {
            let state = pool_state(&pool["name"]).to_owned();
            tree::set(pool, "provisioningState", json!(state));
            if !settled && pool.get("nodeLabels").is_none() {
                tree::set(pool, "nodeLabels", json!({}));
            }
            if let Some(tag) = tags.next() {
                tree::set(pool, "eTag", json!(tag));
            }
        }
        if creating {
            drop(tree::take(&mut body, "properties.identityProfile"));
            let ips = "properties.networkProfile.loadBalancerProfile.effectiveOutboundIPs";
            drop(tree::take(&mut body, ips));
        }
        self.show_identities(&mut body, settled);
        if let Some(issuer) = self.issuer() {
            tree::set(&mut body, "properties.oidcIssuerProfile.issuerURL", json!(issuer));
        }
        tree::set(&mut body, "id", json!(self.id()));
        tree::set(&mut body, "name", json!(self.name));
        tree::set(
            &mut body,
            "type",
            json!("Microsoft.ContainerService/ManagedClusters"),
        );
        if let Some(tag) = self.etag.filter(|_| etags && !creating) {
            tree::set(&mut body, "eTag", json!(tag.to_string()));
        }
        body
    }

    /// The add-on's identity shows only while nothing is going on; app routing's once it is there.
    fn show_identities(&self, body: &mut Value, settled: bool) {
        if let (true, Some(identity)) = (settled, &self.addon)
            && let Some((key, entry)) = document::addon(&self.document)
            && entry["enabled"] == true
        {
            let name = format!("{}-{}", document::ADDON.to_ascii_lowercase(), self.name);
            let path = format!("properties.addonProfiles.{key}.identity");
            tree::set(body, &path, self.identity(&name, identity));
        }
        let path = "properties.ingressProfile.webAppRouting";
        if tree::at(body, path).is_some_and(Value::is_object) {
            let name = format!("webapprouting-{}", self.name);
            let shown = self
                .routing
                .as_ref()
                .map(|identity| self.identity(&name, identity));
            tree::set(body, &format!("{path}.identity"), shown.unwrap_or_default());
        }
    }

    /// The add-on as the cluster's actors have to know it.
    pub(super) fn addon_state(&self) -> AddonState {
        let entry = document::addon(&self.document).map_or(Value::Null, |(_, entry)| entry.clone());
        AddonState {
            enabled: entry["enabled"] == true,
            identity: self.addon.clone(),
            rotation: entry["config"]["enableSecretRotation"] == "true",
            poll_interval: entry["config"]["rotationPollInterval"]
                .as_str()
                .and_then(go_duration),
        }
    }

    /// The issuer that Entra can be made to trust, if there is one.
    pub(super) fn issuer(&self) -> Option<String> {
        let enabled = self.document["properties"]["oidcIssuerProfile"]["enabled"] == true;
        enabled.then(|| self.issuer.clone())
    }

    /// The identities on its nodes.
    pub(super) fn node_identities(&self) -> impl Iterator<Item = &ManagedIdentity> {
        std::iter::once(&self.kubelet)
            .chain(&self.addon)
            .chain(&self.routing)
    }

    /// Writes the nodes' own identity into the document.
    pub(super) fn show_kubelet(&mut self) {
        let shown = self.identity(&format!("{}-agentpool", self.name), &self.kubelet);
        tree::set(
            &mut self.document,
            "properties.identityProfile.kubeletidentity",
            shown,
        );
    }

    /// New tags after a change of the cluster.
    pub(super) fn retag(&mut self) {
        let pools = self.document["properties"]["agentPoolProfiles"]
            .as_array()
            .map_or(0, Vec::len);
        self.etag = Some(Uuid::new_v4());
        self.pool_etags = (0..pools).map(|_| Uuid::new_v4()).collect();
    }
}

/// Where a cluster of this tenant issues tokens; the slash at the end is part of it.
pub(super) fn issuer_url(location: &str, tenant: &str, unique: &str) -> String {
    format!("https://{location}.oic.prod-aks.azure.com/{tenant}/{unique}/")
}

/// Whether a `provisioningState` is one in which nothing is going on.
pub(super) fn is_terminal(state: &str) -> bool {
    matches!(state, "Succeeded" | "Failed" | "Canceled")
}

impl State {
    /// The cluster of this path.
    pub(super) fn cluster(&self, call: &Call) -> Result<&ManagedCluster, Refusal> {
        let key = format!(
            "/subscriptions/{}/resourcegroups/{}/providers/microsoft.containerservice/managedclusters/{}",
            call.subscription(),
            call.group(),
            call.name(0)
        );
        self.clusters.get(&key.to_ascii_lowercase()).ok_or_else(|| {
            Refusal::resource_not_found(
                "Microsoft.ContainerService/managedClusters",
                call.name(0),
                call.group(),
            )
        })
    }
}
