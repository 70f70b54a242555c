//! What surrounds resources: subscriptions, resource groups, resource providers.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::access::Question;
use super::call::{Call, Reply};
use super::path::same;
use super::refusal::Refusal;
use super::role_assignments::quoted;
use super::{Azure, State};
use crate::sandbox::core::Effect;

/// A subscription.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) name: String,
    pub(super) id: String,
    /// The tenant's id.
    pub(super) tenant: String,
    /// The resource providers it was registered with; `None` if the world file does not say, and all are.
    pub(super) registered: Option<Vec<String>>,
}

impl Subscription {
    /// Whether a resource provider may be used.
    pub(super) fn is_registered(&self, namespace: &str) -> bool {
        let mut all = self.registered.iter().flatten();
        self.registered.is_none() || all.any(|each| each.eq_ignore_ascii_case(namespace))
    }
}

/// A resource group.
#[derive(Clone, Debug)]
pub(super) struct ResourceGroup {
    pub(super) name: String,
    pub(super) subscription: String,
    pub(super) location: String,
    pub(super) tags: Value,
    /// `CanNotDelete` or `ReadOnly`.
    pub(super) lock: Option<String>,
    /// The name of a policy that denies all writes.
    pub(super) policy_deny: Option<String>,
}

impl ResourceGroup {
    fn body(&self) -> Value {
        json!({
            "id": format!("/subscriptions/{}/resourceGroups/{}", self.subscription, self.name),
            "name": self.name,
            "type": "Microsoft.Resources/resourceGroups",
            "location": self.location,
            "tags": self.tags,
            "properties": {"provisioningState": "Succeeded"},
        })
    }
}

/// Resource providers a subscription may have registered.
const PROVIDERS: &[&str] = &[
    "Microsoft.Authorization",
    "Microsoft.ContainerService",
    "Microsoft.KeyVault",
    "Microsoft.ManagedIdentity",
    "Microsoft.Resources",
];

impl State {
    /// The resource group of this name.
    pub(super) fn group(&self, subscription: &str, name: &str) -> Option<&ResourceGroup> {
        self.groups
            .iter()
            .find(|group| same(&group.subscription, subscription) && same(&group.name, name))
    }

    /// Refuses a scope that is a vault or a cluster of this world and is not there.
    pub(super) fn scope_exists(&self, scope: &str) -> Result<(), Refusal> {
        let Some(path) = super::path::ArmPath::parse(scope) else {
            return Ok(());
        };
        let (group, name) = (
            path.group.as_deref().unwrap_or_default(),
            path.names().first().copied().unwrap_or_default(),
        );
        let kind = path
            .rest
            .first()
            .map(|kind| kind.to_ascii_lowercase())
            .unwrap_or_default();
        let here = |own_group: &str, own_name: &str| same(own_group, group) && same(own_name, name);
        let (kind, found) = match (path.namespace.to_ascii_lowercase().as_str(), kind.as_str()) {
            ("microsoft.keyvault", "vaults") => {
                let mut vaults = self.vaults.iter().filter(|vault| vault.deleted.is_none());
                (
                    "Microsoft.KeyVault/vaults",
                    vaults.any(|vault| here(&vault.group, &vault.name)),
                )
            }
            ("microsoft.containerservice", "managedclusters") => {
                let mut clusters = self.clusters.values();
                let found = clusters.any(|cluster| here(&cluster.group, &cluster.name));
                ("Microsoft.ContainerService/managedClusters", found)
            }
            _ => return Ok(()),
        };
        if found {
            Ok(())
        } else {
            Err(Refusal::resource_not_found(kind, name, group))
        }
    }
}

impl Azure {
    /// The tenant of a subscription.
    pub(super) fn tenant_of(&self, subscription: &str) -> String {
        let found = self
            .subscriptions
            .iter()
            .find(|known| same(&known.id, subscription));
        found
            .or(self.subscriptions.first())
            .map(|known| known.tenant.clone())
            .unwrap_or_default()
    }

    /// Calls on subscriptions, resource groups, providers and lists of resources.
    pub(super) fn surrounding_call(&self, call: &Call) -> Result<Reply, Refusal> {
        let segments: Vec<_> = call
            .path
            .scope
            .split('/')
            .filter(|segment| !segment.is_empty())
            .collect();
        let words: Vec<_> = segments
            .iter()
            .map(|segment| segment.to_ascii_lowercase())
            .collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let providers = call.target.to_ascii_lowercase().contains("/providers");
        match words.as_slice() {
            ["tenants"] => {
                let tenants = self.core.directory.tenants().iter();
                let value: Vec<_> = tenants
                    .map(|tenant| json!({"id": format!("/tenants/{}", tenant.id), "tenantId": tenant.id}))
                    .collect();
                Ok(Reply::ok(json!({"value": value})))
            }
            ["subscriptions"] => {
                let own = self
                    .subscriptions
                    .iter()
                    .filter(|known| same(&known.tenant, &call.caller.tenant));
                let value: Vec<_> = own.map(subscription_body).collect();
                Ok(Reply::ok(
                    json!({"value": value, "count": {"type": "Total", "value": value.len()}}),
                ))
            }
            ["subscriptions", id] if providers => {
                let found = self.subscriptions.iter().find(|known| same(&known.id, id));
                let found = found.ok_or_else(|| Refusal::unplayed("this subscription"))?;
                Ok(provider_body(found, &call.path.namespace))
            }
            ["subscriptions", id] => {
                let found = self.subscriptions.iter().find(|known| same(&known.id, id));
                found
                    .map(|found| Reply::ok(subscription_body(found)))
                    .ok_or_else(|| Refusal::unplayed("this subscription"))
            }
            ["subscriptions", _, "resourcegroups"] => {
                let state = self.lock();
                let principals = call.principals();
                let own = state.groups.iter().filter(|group| {
                    let scope = format!(
                        "/subscriptions/{}/resourceGroups/{}",
                        group.subscription, group.name
                    );
                    same(&group.subscription, call.subscription())
                        && state.access.allows(Question {
                            principals: &principals,
                            action: "Microsoft.Resources/subscriptions/resourceGroups/read",
                            scope: &scope,
                            data: false,
                            now: call.now,
                        })
                });
                let value: Vec<_> = own.map(ResourceGroup::body).collect();
                Ok(Reply::ok(json!({"value": value})))
            }
            ["subscriptions", _, "resources"] => Ok(self.list_resources(call)),
            ["subscriptions", _, "resourcegroups", _] if call.method == Method::PUT => self.put_group(call),
            ["subscriptions", _, "resourcegroups", name] => {
                let state = self.lock();
                let found = state.group(call.subscription(), name);
                found
                    .map(|group| Reply::ok(group.body()))
                    .ok_or_else(|| Refusal::unplayed("this resource group"))
            }
            _ => Err(Refusal::unplayed(&format!("the path '{}'", call.path.id()))),
        }
    }

    fn put_group(&self, call: &Call) -> Result<Reply, Refusal> {
        let location = call.location()?;
        let mut state = self.lock();
        let tags = if call.body["tags"].is_object() {
            call.body["tags"].clone()
        } else {
            json!({})
        };
        let (subscription, name) = (call.subscription().to_owned(), call.group().to_owned());
        let known = state
            .groups
            .iter_mut()
            .find(|group| same(&group.subscription, &subscription) && same(&group.name, &name));
        if let Some(group) = known {
            group.tags = tags;
            return Ok(Reply::ok(group.body()).effect(Effect::Updated));
        }
        let group = ResourceGroup {
            name,
            subscription,
            location,
            tags,
            lock: None,
            policy_deny: None,
        };
        let body = group.body();
        state.groups.push(group);
        Ok(Reply::new(StatusCode::CREATED, body))
    }

    /// The list of resources of which clients use one filter: a type, perhaps with a name.
    fn list_resources(&self, call: &Call) -> Reply {
        let filter = call.query("$filter").unwrap_or_default();
        let kind = quoted(&filter, "resourceType eq ").unwrap_or_default();
        let name = quoted(&filter, "name eq ");
        let state = self.lock();
        let principals = call.principals();
        let vaults = state.vaults.iter().filter(|vault| vault.deleted.is_none());
        let vaults = vaults.map(|vault| {
            (
                vault.id(),
                &vault.name,
                "Microsoft.KeyVault/vaults",
                vault.location.clone(),
            )
        });
        let clusters = state.clusters.values().map(|cluster| {
            let kind = "Microsoft.ContainerService/managedClusters";
            (
                cluster.id().replacen("resourcegroups", "resourceGroups", 1),
                &cluster.name,
                kind,
                cluster.location().to_owned(),
            )
        });
        let value: Vec<_> = vaults
            .chain(clusters)
            .filter(|(id, own, own_kind, _)| {
                let action = format!("{own_kind}/read");
                let scope = id.as_str();
                let question = Question { principals: &principals, action: &action, scope, data: false, now: call.now };
                (kind.is_empty() || same(&kind, own_kind))
                    && name.as_ref().is_none_or(|name| same(name, own))
                    && state.access.allows(question)
            })
            .map(|(id, name, kind, location)| {
                json!({"id": id, "name": name, "type": kind, "location": location, "tags": {}})
            })
            .collect();
        Reply::ok(json!({"value": value}))
    }
}

fn subscription_body(subscription: &Subscription) -> Value {
    json!({
        "id": format!("/subscriptions/{}", subscription.id),
        "subscriptionId": subscription.id,
        "tenantId": subscription.tenant,
        "displayName": subscription.name,
        "state": "Enabled",
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
        "subscriptionPolicies": {
            "locationPlacementId": "Public_2014-09-01",
            "quotaId": "PayAsYouGo_2014-09-01",
            "spendingLimit": "Off",
        },
    })
}

fn provider_body(subscription: &Subscription, namespace: &str) -> Reply {
    let one = |name: &str| {
        let state = if subscription.is_registered(name) {
            "Registered"
        } else {
            "NotRegistered"
        };
        json!({
            "id": format!("/subscriptions/{}/providers/{name}", subscription.id),
            "namespace": name,
            "registrationState": state,
            "registrationPolicy": "RegistrationRequired",
            "resourceTypes": [],
        })
    };
    match namespace {
        "" => Reply::ok(json!({"value": PROVIDERS.iter().map(|name| one(name)).collect::<Vec<_>>()})),
        name => Reply::ok(one(name)),
    }
}
