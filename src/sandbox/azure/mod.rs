//! Azure as this world plays it: ARM, AKS, Key Vault, role assignments, and the metadata service of cluster nodes.
//!
//! A call to ARM passes the front-end ([`arm`]), which judges token, path ([`routes`]), api-version, rights
//! ([`access`]), locks and policies, and ends at [`cluster_calls`], [`vault_calls`] or [`role_assignments`]. A call to
//! a vault's data plane passes [`key_vault`] and ends at [`certificate_calls`], [`certificate_issuance`] or
//! [`vault_content`]. [`staging`] fills the state from the world file.
//!
//! What takes time is data with a moment in it: an operation that is due, an assignment that is not yet effective.
//! Everything that looks at the state first lets happen what is due by now, so the answer never depends on which task
//! ran first; tasks wait on the clock only so that time has something to stop at, and actors hear of changes.

mod access;
mod access_policies;
mod arm;
mod call;
mod certificate_calls;
mod certificate_issuance;
mod certificates;
mod cluster_calls;
mod cluster_changes;
mod cluster_document;
mod cluster_rights;
mod cluster_template;
mod credentials;
mod deleted_vaults;
mod denials;
mod identity;
mod key_vault;
mod managed_clusters;
mod managed_identities;
mod operations;
mod path;
mod refusal;
mod role_assignments;
mod role_definitions;
mod roles;
mod routes;
mod staged_vaults;
mod staging;
mod surroundings;
#[cfg(test)]
mod tests;
mod tree;
mod vault_calls;
mod vault_content;
mod vaults;
mod versions;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use self::access::Access;
pub(crate) use self::cluster_changes::Foreign;
use self::managed_clusters::ManagedCluster;
use self::managed_identities::UserIdentity;
use self::operations::Operation;
use self::surroundings::{ResourceGroup, Subscription};
use self::vaults::Vault;
use super::core::{AddonState, Core, ManagedIdentity, PatchError, WorldError};
use super::world::{moment, rfc3339};

/// ARM and the vaults.
pub(crate) struct Azure {
    core: Arc<Core>,
    me: Weak<Self>,
    subscriptions: Vec<Subscription>,
    /// Whether api-versions pass that AKS no longer speaks.
    accepts_retired: bool,
    state: Mutex<State>,
}

/// Everything that changes.
struct State {
    groups: Vec<ResourceGroup>,
    /// By id in lower case.
    clusters: BTreeMap<String, ManagedCluster>,
    operations: BTreeMap<Uuid, Operation>,
    vaults: Vec<Vault>,
    /// Vaults that were purged: name, begin, end.
    purges: Vec<(String, OffsetDateTime, OffsetDateTime)>,
    access: Access,
    identities: Vec<UserIdentity>,
    /// Object ids of identities that are as old as the world, though the directory met them at its start.
    aged: Vec<String>,
}

impl Azure {
    /// What the world file says there is. Needs a running Tokio runtime: certificates are made beside the start.
    pub(crate) fn new(world: &Value, core: Arc<Core>) -> Result<Arc<Self>, Vec<WorldError>> {
        let azure = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            subscriptions: staging::subscriptions(world, &core.directory),
            accepts_retired: world.get("accept_retired") == Some(&json!(true)),
            core,
            state: Mutex::new(State {
                groups: Vec::new(),
                clusters: BTreeMap::new(),
                operations: BTreeMap::new(),
                vaults: Vec::new(),
                purges: Vec::new(),
                access: Access::new(),
                identities: Vec::new(),
                aged: Vec::new(),
            }),
        });
        azure.stage(world)?;
        Ok(azure)
    }

    /// The add-on of a cluster, as the last finished operation or the world file left it.
    pub(crate) fn addon_state(&self, cluster: &str) -> AddonState {
        let state = self.lock();
        let found = state
            .clusters
            .values()
            .find(|each| path::same(&each.name, cluster));
        found.map(ManagedCluster::addon_state).unwrap_or_default()
    }

    /// The issuer of a cluster's service account tokens that Entra can be made to trust.
    pub(crate) fn issuer_of(&self, cluster: &str) -> Option<String> {
        let state = self.lock();
        let found = state
            .clusters
            .values()
            .find(|each| path::same(&each.name, cluster));
        found.and_then(ManagedCluster::issuer)
    }

    /// This part of the world, as the control API shows it.
    pub(crate) fn describe(&self) -> Value {
        let state = self.lock();
        let clusters: BTreeMap<_, _> = state
            .clusters
            .values()
            .map(|cluster| {
                let addon = cluster_document::addon(&cluster.document).map(|(key, entry)| {
                    json!({
                        "key": key,
                        "enabled": entry["enabled"],
                        "config": entry["config"],
                        "client_id": cluster.addon.as_ref().map(|identity| &identity.client_id),
                        "object_id": cluster.addon.as_ref().map(|identity| &identity.object_id),
                    })
                });
                let shown = json!({
                    "id": cluster.id(),
                    "etag": cluster.etag.map(|tag| tag.to_string()),
                    "state": cluster.state,
                    "power": tree::text(&cluster.document, "properties.powerState.code"),
                    "addon": addon,
                });
                (cluster.name.clone(), shown)
            })
            .collect();
        let vaults: BTreeMap<_, _> = state
            .vaults
            .iter()
            .map(|vault| {
                let certificates = vault.objects.certificates.values();
                let certificates: BTreeMap<_, _> = certificates
                    .map(|certificate| {
                        let versions: Vec<_> = certificate.versions.iter().map(version_shown).collect();
                        (certificate.name.clone(), versions)
                    })
                    .collect();
                let shown = json!({
                    "id": vault.id(),
                    "rbac": vault.properties["enableRbacAuthorization"],
                    "policies": vault.properties["accessPolicies"],
                    "deleted": vault.deleted.is_some(),
                    "certificates": certificates,
                });
                (vault.name.clone(), shown)
            })
            .collect();
        let assignments: Vec<_> = state
            .access
            .existing()
            .map(|each| {
                json!({
                    "id": each.id(),
                    "scope": each.scope,
                    "role": state.access.role(&each.role).map(|role| role.name.as_str()),
                    "principal": each.principal,
                    "description": each.description,
                    "effective_at": rfc3339(each.effective_at),
                })
            })
            .collect();
        let operations: Vec<_> = state
            .operations
            .values()
            .map(|operation| {
                json!({
                    "id": operation.id.to_string(),
                    "cluster": path::last_segment(&operation.cluster),
                    "status": operation.ended.as_ref().map_or("InProgress", |ended| ended.status.as_str()),
                    "due": rfc3339(operation.due),
                })
            })
            .collect();
        json!({"clusters": clusters, "vaults": vaults, "assignments": assignments, "operations": operations})
    }

    /// Changes live members of the world file.
    pub(crate) fn patch(&self, merge: &Value) -> Result<(), PatchError> {
        self.patch_live(merge)
    }

    /// A new version of a certificate, as its issuer would make it.
    pub(crate) async fn renew(&self, vault: &str, certificate: &str, how: &Value) -> Result<Value, String> {
        let version = {
            let mut state = self.lock();
            let now = self.core.clock.now();
            let found = state
                .vault_named(vault)
                .ok_or_else(|| format!("there is no vault '{vault}'"))?;
            let found = found
                .objects
                .certificates
                .get_mut(&certificate.to_ascii_lowercase());
            let found = found.ok_or_else(|| format!("{vault} holds no certificate '{certificate}'"))?;
            if let Some(hosts) = how.get("hosts").and_then(Value::as_array) {
                found.shape.hosts = hosts
                    .iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect();
                let dns_names = json!(found.shape.hosts);
                tree::set(&mut found.policy, "x509_props.sans.dns_names", dns_names);
            }
            let until = match how.get("until").and_then(Value::as_str) {
                Some(text) => moment(text, now).ok_or_else(|| format!("'{text}' is no moment"))?,
                None => now + Duration::days(90),
            };
            let enabled = how.get("enabled") != Some(&json!(false));
            let id = self.add_version(found, now, until, enabled);
            found.version(&id).cloned().ok_or("the new version is gone")?
        };
        let material = version.source.material().await?;
        Ok(json!({"version": version.id, "thumbprint": certificates::thumbprint(&material.leaf_der)}))
    }

    /// The state, after everything that is due by now has happened.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.raw_lock();
        let now = self.core.clock.now();
        self.end_operations(&mut state, now);
        self.complete_pending(&mut state, now);
        state.end_purges(now);
        state.access.forget(now);
        self.publish_federations(&mut state, now);
        state
    }

    fn raw_lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets happen what is due at this moment, when it comes.
    fn wake_at(&self, at: OffsetDateTime, what: String) {
        let me = self.me.clone();
        let work = async move {
            if let Some(azure) = me.upgrade() {
                drop(azure.lock());
            }
        };
        // Nobody waits for it: whoever looks at the state earlier lets the same happen.
        drop(self.core.clock.spawn_at(at, what, work));
    }

    /// A managed identity in a subscription's tenant.
    fn make_identity(&self, name: &str, subscription: &str) -> ManagedIdentity {
        self.core
            .directory
            .add_managed_identity(name, &self.tenant_of(subscription))
    }

    fn end_identity(&self, identity: &ManagedIdentity) {
        self.core.directory.remove(&identity.object_id);
    }
}

/// A version as the control API shows it; its thumbprint once it is made.
fn version_shown(version: &certificates::Version) -> Value {
    let made = version.source.material().now_or_never();
    let thumbprint = made
        .and_then(Result::ok)
        .map(|material| certificates::thumbprint(&material.leaf_der));
    json!({
        "version": version.id,
        "thumbprint": thumbprint,
        "not_after": rfc3339(version.expires),
        "enabled": version.enabled,
    })
}
