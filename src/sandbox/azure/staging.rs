//! From the world file to what there is at the start, and its live members later.

use serde_json::{Map, Value, json};
use time::Duration;

use super::access::Assignment;
use super::cluster_document as document;
use super::cluster_template::{self as template, Birth};
use super::managed_clusters::{KUBERNETES, ManagedCluster, issuer_url};
use super::path::same;
use super::roles::Role;
use super::staged_vaults::live_vault;
use super::surroundings::{ResourceGroup, Subscription};
use super::tree;
use super::vaults::Vault;
use super::{Azure, State};
use crate::sandbox::core::{PatchError, WorldError};
use crate::sandbox::entra::Directory;
use crate::sandbox::world::id_of;

/// The members of an object.
pub(super) fn members<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value
        .get(name)
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter)
}

/// The items of a list.
pub(super) fn items<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

pub(super) fn texts(value: &Value, name: &str) -> Vec<String> {
    items(value, name)
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

pub(super) fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

/// The subscriptions of a world; one at least.
pub(super) fn subscriptions(world: &Value, directory: &Directory) -> Vec<Subscription> {
    let first = directory
        .tenants()
        .first()
        .map(|tenant| tenant.id.clone())
        .unwrap_or_default();
    members(world, "subscriptions")
        .map(|(name, source)| Subscription {
            name: name.clone(),
            id: text(source, "id").map_or_else(|| id_of(&format!("/subscriptions/{name}")), str::to_owned),
            registered: source.get("registered").map(|_| texts(source, "registered")),
            tenant: text(source, "tenant")
                .and_then(|tenant| directory.tenant(tenant))
                .map_or_else(|| first.clone(), |tenant| tenant.id.clone()),
        })
        .collect()
}

impl Azure {
    /// Puts everything in its place. All mistakes are found at once.
    pub(super) fn stage(&self, world: &Value) -> Result<(), Vec<WorldError>> {
        let mut errors = Vec::new();
        let mut state = self.raw_lock();
        if self.subscriptions.is_empty() {
            errors.push(WorldError::new(
                "/subscriptions",
                "must hold at least one subscription",
            ));
        }
        for (name, source) in members(world, "resource_groups") {
            let group = ResourceGroup {
                name: name.clone(),
                subscription: self.subscription_named(text(source, "subscription")),
                location: text(source, "location").unwrap_or("eastus").to_owned(),
                tags: source.get("tags").cloned().unwrap_or(json!({})),
                lock: lock_of(source.get("lock")),
                policy_deny: policy_name(source.get("policy_deny")),
            };
            state.groups.push(group);
        }
        for (name, source) in members(world, "roles") {
            state.access.roles.push(Role {
                id: text(source, "id").map_or_else(|| id_of(&format!("/roles/{name}")), str::to_owned),
                name: name.clone(),
                description: String::new(),
                custom: true,
                scopes: self
                    .subscriptions
                    .iter()
                    .map(|each| format!("/subscriptions/{}", each.id))
                    .collect(),
                actions: texts(source, "actions"),
                not_actions: texts(source, "not_actions"),
                data_actions: texts(source, "data_actions"),
                not_data_actions: texts(source, "not_data_actions"),
                assignable: None,
            });
        }
        for (name, source) in members(world, "identities") {
            let identity = self.staged_identity(&state, name, source);
            state.aged.push(identity.identity.object_id.clone());
            state.identities.push(identity);
        }
        for (name, source) in members(world, "clusters") {
            let cluster = self.staged_cluster(&mut state, name, source);
            state.clusters.insert(cluster.id().to_ascii_lowercase(), cluster);
        }
        for (name, source) in members(world, "vaults") {
            match self.staged_vault(&state, name, source) {
                Ok(vault) => state.vaults.push(vault),
                Err(error) => errors.push(error),
            }
        }
        for (name, source) in members(world, "principals") {
            self.staged_assignments(&mut state, name, source, &mut errors);
        }
        self.staged_denials(&mut state, world, &mut errors);
        self.publish_federations(&mut state, self.core.clock.now());
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn subscription_named(&self, name: Option<&str>) -> String {
        let found = name.and_then(|name| self.subscriptions.iter().find(|each| each.name == name));
        found
            .or(self.subscriptions.first())
            .map(|each| each.id.clone())
            .unwrap_or_default()
    }

    /// The resource group a thing of the world is in: its own, or the first.
    pub(super) fn home(&self, state: &State, source: &Value) -> (String, String, String) {
        let named = text(source, "resource_group");
        let found = state
            .groups
            .iter()
            .find(|group| Some(group.name.as_str()) == named);
        let found = found.or(state.groups.first());
        let location = text(source, "location").map(str::to_owned);
        match found {
            Some(group) => {
                let location = location.unwrap_or_else(|| group.location.clone());
                (group.subscription.clone(), group.name.clone(), location)
            }
            None => (
                self.subscription_named(None),
                "myResourceGroup".to_owned(),
                "eastus".to_owned(),
            ),
        }
    }

    fn staged_cluster(&self, state: &mut State, name: &str, source: &Value) -> ManagedCluster {
        let (subscription, group, location) = self.home(state, source);
        let tenant = self.tenant_of(&subscription);
        let is = |member: &str| source.get(member) == Some(&json!(true));
        let kubelet = self.make_identity(&format!("{name}-agentpool"), &subscription);
        state.aged.push(kubelet.object_id.clone());
        let kubernetes = text(source, "kubernetes").unwrap_or(KUBERNETES);
        let suffix = id_of(&format!("/clusters/{}/fqdn", name.to_ascii_lowercase()));
        let mut own = template::fresh(&Birth {
            name,
            subscription: &subscription,
            group: &group,
            location: &location,
            kubernetes,
            nodes: source.get("nodes").and_then(Value::as_u64).unwrap_or(1),
            suffix: suffix.get(..8).unwrap_or_default(),
            kubelet: Value::Null,
        });
        let mut set = |path: &str, value: Value| tree::set(&mut own, path, value);
        set(
            "identity.principalId",
            json!(id_of(&format!("/clusters/{name}/identity"))),
        );
        set("identity.tenantId", json!(tenant));
        set(
            "properties.disableLocalAccounts",
            json!(source.get("local_accounts") == Some(&json!(false))),
        );
        if is("entra") {
            let profile = json!({
                "managed": true,
                "adminGroupObjectIDs": null,
                "enableAzureRBAC": is("azure_rbac"),
                "tenantID": tenant,
            });
            set("properties.aadProfile", profile);
        }
        if is("private") {
            let profile = json!({
                "enablePrivateCluster": true,
                "privateDNSZone": "system",
                "enablePrivateClusterPublicFQDN": false,
            });
            set("properties.apiServerAccessProfile", profile);
        }
        if !is("oidc") {
            set("properties.oidcIssuerProfile", json!({"enabled": false}));
        }
        if is("workload_identity") {
            set(
                "properties.securityProfile.workloadIdentity",
                json!({"enabled": true}),
            );
        }
        if let Some(power) = text(source, "power") {
            set("properties.powerState.code", json!(power));
        }
        if let Some(addon) = source.get("addon").filter(|addon| addon.is_object()) {
            let key = text(addon, "key").unwrap_or(document::ADDON);
            let enabled = addon.get("enabled") != Some(&json!(false));
            let config = addon.get("config").cloned().unwrap_or_default();
            set(
                "properties.addonProfiles",
                json!({key: {"enabled": enabled, "config": config}}),
            );
        }
        match source.get("approuting") {
            Some(Value::Object(profile)) => set("properties.ingressProfile.webAppRouting", json!(profile)),
            Some(Value::Bool(true)) => {
                let nginx = json!({"defaultIngressControllerType": "AnnotationControlled"});
                let profile = json!({"enabled": true, "dnsZoneResourceIds": null, "nginx": nginx});
                set("properties.ingressProfile.webAppRouting", profile);
            }
            _ => {}
        }
        if let Some(tags) = source.get("tags") {
            set("tags", tags.clone());
        }
        // Unknown members stand below `properties`, unless they say themselves where they stand.
        let extra = match source.get("extra") {
            Some(extra) if extra.get("properties").is_some() => extra.clone(),
            Some(extra) => json!({"properties": extra}),
            None => Value::Null,
        };
        tree::merge(&mut own, &extra);
        let linked = texts(source, "linked").into_iter().map(|scope| {
            let action = linked_action(&scope).to_owned();
            (scope, action)
        });
        let mut cluster = ManagedCluster {
            name: name.to_owned(),
            subscription,
            group,
            document: own,
            extra,
            linked: linked.collect(),
            state: text(source, "state").unwrap_or("Succeeded").to_owned(),
            etag: None,
            pool_etags: Vec::new(),
            operation: None,
            pool_operation: None,
            addon: None,
            routing: None,
            kubelet,
            issuer: issuer_url(&location, &tenant, &id_of(&format!("/clusters/{name}/issuer"))),
            generation: 0,
        };
        cluster.show_kubelet();
        cluster.retag();
        self.reconcile(&mut cluster);
        state.aged.extend(
            cluster
                .node_identities()
                .map(|identity| identity.object_id.clone()),
        );
        cluster
    }

    /// The assignments of one principal, in place of those it had from the world file.
    fn staged_assignments(
        &self,
        state: &mut State,
        name: &str,
        source: &Value,
        errors: &mut Vec<WorldError>,
    ) {
        let Some(principal) = self.core.directory.principal_by_name(name) else {
            return;
        };
        let start = self.core.clock.now();
        for (index, grant) in items(source, "assignments").enumerate() {
            let pointer = format!("/principals/{name}/assignments/{index}");
            let role = text(grant, "role")
                .and_then(|role| state.access.role(role))
                .map(|role| role.id.clone());
            let Some(role) = role else {
                errors.push(WorldError::new(
                    format!("{pointer}/role"),
                    "names no role of this world",
                ));
                continue;
            };
            let scope = self.scope_of(state, text(grant, "scope").unwrap_or_default());
            let Some(scope) = scope else {
                errors.push(WorldError::new(format!("{pointer}/scope"), "leads nowhere"));
                continue;
            };
            state.access.add(Assignment {
                name: id_of(&format!("{pointer}/{role}/{scope}")),
                scope,
                role,
                principal: principal.object_id.clone(),
                principal_type: principal.kind.arm().to_owned(),
                description: None,
                condition: None,
                condition_version: None,
                delegated: None,
                created_on: start - Duration::days(30),
                updated_on: start - Duration::days(30),
                by: Some(id_of("/staged")),
                effective_at: start - Duration::days(30),
                ends_at: None,
            });
        }
    }

    /// A scope of the world file, which may be a pointer, as an ARM id.
    pub(super) fn scope_of(&self, state: &State, scope: &str) -> Option<String> {
        if let Some(name) = scope.strip_prefix("/subscriptions/")
            && let Some(found) = self.subscriptions.iter().find(|each| each.name == name)
        {
            return Some(format!("/subscriptions/{}", found.id));
        }
        if let Some(name) = scope.strip_prefix("/resource_groups/") {
            let found = state.groups.iter().find(|group| group.name == name)?;
            return Some(format!(
                "/subscriptions/{}/resourceGroups/{}",
                found.subscription, found.name
            ));
        }
        if let Some(name) = scope.strip_prefix("/vaults/") {
            return state
                .vaults
                .iter()
                .find(|vault| vault.name == name)
                .map(Vault::id);
        }
        if let Some(name) = scope.strip_prefix("/clusters/") {
            return state
                .clusters
                .values()
                .find(|cluster| cluster.name == name)
                .map(ManagedCluster::id);
        }
        scope.starts_with('/').then(|| scope.to_owned())
    }

    /// Live members of the world file, changed while it runs.
    pub(super) fn patch_live(&self, merge: &Value) -> Result<(), PatchError> {
        let mut errors = Vec::new();
        let mut state = self.lock();
        for (name, change) in members(merge, "clusters") {
            let found = state
                .clusters
                .values_mut()
                .find(|cluster| same(&cluster.name, name));
            let Some(cluster) = found else {
                continue;
            };
            if let Some(word) = change.get("state") {
                word.as_str()
                    .unwrap_or("Succeeded")
                    .clone_into(&mut cluster.state);
            }
            if let Some(power) = change.get("power") {
                let power = power.as_str().unwrap_or("Running");
                tree::set(&mut cluster.document, "properties.powerState.code", json!(power));
            }
        }
        for (name, change) in members(merge, "vaults") {
            if let Some(vault) = state.vault_named(name) {
                live_vault(vault, change);
            }
        }
        for (name, change) in members(merge, "resource_groups") {
            let Some(group) = state.groups.iter_mut().find(|group| same(&group.name, name)) else {
                continue;
            };
            if let Some(lock) = change.get("lock") {
                group.lock = lock_of(Some(lock));
            }
            if let Some(policy) = change.get("policy_deny") {
                group.policy_deny = policy_name(Some(policy));
            }
        }
        for (name, change) in members(merge, "principals") {
            if change.get("assignments").is_none() {
                continue;
            }
            if let Some(principal) = self.core.directory.principal_by_name(name) {
                state.access.drop_of(&principal.object_id);
            }
            self.staged_assignments(&mut state, name, change, &mut errors);
        }
        if merge.get("deny_assignments").is_some() {
            self.staged_denials(&mut state, merge, &mut errors);
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(PatchError::Invalid(errors))
        }
    }
}

fn lock_of(source: Option<&Value>) -> Option<String> {
    match source? {
        Value::String(kind) => Some(kind.clone()),
        Value::Bool(true) => Some("CanNotDelete".to_owned()),
        _ => None,
    }
}

fn policy_name(source: Option<&Value>) -> Option<String> {
    match source? {
        Value::String(name) => Some(name.clone()),
        Value::Bool(true) => Some("deny-all".to_owned()),
        Value::Array(names) => names.first().and_then(Value::as_str).map(str::to_owned),
        _ => None,
    }
}

/// The right a cluster PUT needs on what it is linked to.
fn linked_action(scope: &str) -> &'static str {
    let scope = scope.to_ascii_lowercase();
    if scope.contains("/microsoft.operationalinsights/") {
        "Microsoft.OperationalInsights/workspaces/sharedkeys/read"
    } else if scope.contains("/userassignedidentities/") {
        "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
    } else if scope.contains("/subnets/") {
        "Microsoft.Network/virtualNetworks/subnets/join/action"
    } else if scope.contains("/dnszones/") {
        "Microsoft.Network/dnsZones/write"
    } else {
        "Microsoft.Resources/links/read"
    }
}
