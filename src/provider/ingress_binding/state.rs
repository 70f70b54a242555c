//! From the observed world to state. What was not seen keeps its prior value; normalisation is not drift.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::azure::ids::ClientId;
use crate::azure::{FederatedCredential, Role};
use crate::binding::converge::{self, owned_objects};
use crate::binding::desired::{Desired, Mode};
use crate::binding::edit::{Edit, edit};
use crate::binding::gateway::{self, Parent};
use crate::binding::grant::{self, Grant, GrantKind};
use crate::binding::manifests::{self, Facts};
use crate::binding::observation::{Observation, Seen};
use crate::binding::step::object_key;
use crate::binding::text::{shown, yaml};
use crate::binding::verify::{CertificateStatus, Phase, Status, Version, status};
use crate::binding::workload;
use crate::framework::Value;
use crate::framework::duration;
use crate::framework::equality::without_case;
use crate::framework::resource::Private;
use crate::k8s::{ApiServer, ObjectRef, SECRET};
use crate::provider::operation::identity_value;

/// What is kept beside the state. Losing it costs one update that changes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Kept {
    /// The vault's tenant.
    pub(super) tenant_id: Option<String>,
    /// The cloud's name as the driver's Azure provider wants it; none for the public cloud.
    pub(super) cloud_name: Option<String>,
    /// The controller of the Ingress's class, where the manifest depends on it.
    pub(super) controller: Option<String>,
    /// Whether the vault uses roles.
    pub(super) rbac: Option<bool>,
    /// Client ID and object ID of the workload identity, by its resource ID.
    pub(super) workload: Option<(String, String, String)>,
    /// Whether the run that made the binding switched the add-on on.
    pub(super) switched_addon_on: bool,
    /// What the server made of our last writes, where it changed them.
    pub(super) admitted: BTreeMap<String, serde_json::Value>,
    /// Who changed what in an object, and when, by `Kind/name`; only while it differs.
    pub(super) edits: BTreeMap<String, Edit>,
    /// From plan to apply: the targets that the plan showed.
    pub(super) announced: Vec<String>,
    /// From plan to apply: the unfinished creation that is resumed.
    pub(super) resumes: Option<String>,
    /// Where the cluster's API is, if that and a token suffice to reach it.
    pub(super) server: Option<ApiServer>,
    /// Objects by `Kind/name` that were imported from other hands and not yet written.
    pub(super) adopted: BTreeSet<String>,
}

impl Kept {
    /// Client ID and object ID of the identity that reads the vault, as far as they are known.
    pub(super) fn reader(&self, desired: &Desired, addon_identity: &Value) -> Option<(String, String)> {
        let Some(workload) = desired.access.workload() else {
            let text = |name: &str| addon_identity.get(name).as_str().map(str::to_owned);
            return text("client_id").zip(text("object_id"));
        };
        let (id, client_id, object_id) = self.workload.clone()?;
        workload
            .id
            .as_str()
            .eq_ignore_ascii_case(&id)
            .then_some((client_id, object_id))
    }

    pub(super) fn read(private: &Private) -> Self {
        let get = |name: &str| private.get(name).cloned().unwrap_or_default();
        Self {
            tenant_id: get("tenant_id").as_str().map(str::to_owned),
            cloud_name: get("cloud_name").as_str().map(str::to_owned),
            controller: get("controller").as_str().map(str::to_owned),
            rbac: get("rbac").as_bool(),
            workload: serde_json::from_value(get("workload")).unwrap_or_default(),
            switched_addon_on: get("switched_addon_on").as_bool().unwrap_or_default(),
            admitted: serde_json::from_value(get("admitted")).unwrap_or_default(),
            edits: serde_json::from_value(get("edits")).unwrap_or_default(),
            announced: serde_json::from_value(get("announced")).unwrap_or_default(),
            resumes: get("resumes").as_str().map(str::to_owned),
            server: serde_json::from_value(get("server")).ok(),
            adopted: serde_json::from_value(get("adopted")).unwrap_or_default(),
        }
    }

    pub(super) fn write(&self) -> Private {
        let all = [
            ("tenant_id", json!(self.tenant_id)),
            ("cloud_name", json!(self.cloud_name)),
            ("controller", json!(self.controller)),
            ("rbac", json!(self.rbac)),
            ("workload", json!(self.workload)),
            ("switched_addon_on", json!(self.switched_addon_on.then_some(true))),
            ("admitted", json!(self.admitted)),
            ("edits", json!(self.edits)),
            ("announced", json!(self.announced)),
            ("resumes", json!(self.resumes)),
            ("server", json!(self.server)),
            ("adopted", json!(self.adopted)),
        ];
        let is_empty = |value: &serde_json::Value| {
            value.is_null()
                || value.as_object().is_some_and(serde_json::Map::is_empty)
                || value.as_array().is_some_and(Vec::is_empty)
        };
        all.into_iter()
            .filter(|(_, value)| !is_empty(value))
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

/// The state of a binding as observed. `base` holds the configured attributes, `prior` the last known computed ones.
pub(super) fn observed(
    base: &Value,
    prior: &Value,
    desired: &Desired,
    seen: &Observation,
    kept: &mut Kept,
) -> Value {
    let mut state = base.clone();
    let Some(members) = state.as_map_mut() else {
        return state;
    };
    if seen
        .cluster
        .present()
        .is_some_and(|cluster| !cluster.addon.enabled)
    {
        // Whoever switches it on next, it is not what kvtls switched on.
        kept.switched_addon_on = false;
    }
    if let Some(vault) = seen.vault.present() {
        kept.tenant_id = Some(vault.tenant_id.clone());
        kept.rbac = Some(vault.rbac);
    }
    if let (Some(workload), Some(found)) = (desired.access.workload(), seen.identity.present()) {
        kept.workload = Some((
            workload.id.to_string(),
            found.client_id.0.clone(),
            found.principal_id.0.clone(),
        ));
    }
    if let Seen::Known(controller) = &seen.controller {
        kept.controller.clone_from(controller);
    }
    if let Some(server) = &seen.server {
        kept.server = Some(server.clone());
    }
    let (identity, addon) = addon(seen, prior);
    members.insert("addon_identity".to_owned(), identity.clone());
    let poll = addon
        .get("rotation_poll_interval")
        .as_str()
        .and_then(duration::parse);
    members.insert("addon_state".to_owned(), addon);
    members.insert("grants".to_owned(), grants(desired, seen, prior, kept));
    members.insert("secret_names".to_owned(), secret_names(desired));
    let client_id = kept.reader(desired, &identity).map(|(client_id, _)| client_id);
    let manifests = manifests(desired, seen, prior, client_id.as_deref(), base, kept);
    members.insert("manifests".to_owned(), manifests);
    members.insert("addresses".to_owned(), addresses(desired, seen, prior));
    // What another vault held says nothing about this one.
    let same_vault = without_case(prior.get("key_vault_id"), base.get("key_vault_id"));
    let mut before = read_status(prior.get("status")).filter(|_| same_vault);
    if let Some(before) = &mut before {
        // Nor does what another certificate, or a version that was asked for before, says of this one.
        let of = |state: &Value, key: &str| {
            let certificate = state.get("certificates").get(key);
            ["certificate", "version"].map(|name| certificate.get(name).clone())
        };
        before
            .certificates
            .retain(|key, _| of(prior, key) == of(base, key));
    }
    // Two minutes is the driver's own default.
    let poll = poll
        .and_then(|it| it.try_into().ok())
        .unwrap_or(time::Duration::minutes(2));
    members.insert(
        "status".to_owned(),
        write_status(&status(desired, seen, before.as_ref(), poll)),
    );
    state
}

fn addon(seen: &Observation, prior: &Value) -> (Value, Value) {
    let Some(cluster) = seen.cluster.present() else {
        return (
            or_null(prior.get("addon_identity")),
            or_null(prior.get("addon_state")),
        );
    };
    let identity = cluster.addon.identity.as_ref().filter(|_| cluster.addon.enabled);
    let identity = identity_value(identity);
    let state = Value::object([
        ("enabled", Value::from(cluster.addon.enabled)),
        ("rotation_enabled", Value::from(cluster.addon.rotation_enabled)),
        (
            "rotation_poll_interval",
            Value::from(cluster.addon.rotation_poll_interval.clone()),
        ),
    ]);
    (identity, state)
}

/// An unknown of a plan that was not fulfilled becomes null.
fn or_null(value: &Value) -> Value {
    if value.is_wholly_known() {
        value.clone()
    } else {
        Value::Null
    }
}

fn grants(desired: &Desired, seen: &Observation, prior: &Value, kept: &Kept) -> Value {
    let before = prior.get("grants").as_list().unwrap_or_default();
    let unseen = seen.cluster.known().is_none()
        || seen.vault.known().is_none()
        || seen.identity.why_not().is_some()
        || seen.assignments.why_not().is_some();
    if unseen {
        return or_null(prior.get("grants"));
    }
    let reader = grant::reader(&desired.access.identity, seen);
    let none = Vec::new();
    let assignments = seen.assignments.known().unwrap_or(&none);
    let mut grants: Vec<Value> = Vec::new();
    if let (Some(reader), Some(vault)) = (&reader, seen.vault.present()) {
        for scope in grant::scopes(desired, vault.rbac) {
            let found = grant::find(vault, assignments, &reader.principal, &desired.cluster, &scope);
            let value = found.map(|found| grant_value(desired, &found, before));
            grants.extend(value.filter(|value| !grants.contains(value)));
        }
    }
    match (&seen.federated, workload::trust(desired, seen)) {
        (_, Some(credential)) => grants.extend(trust_value(desired, credential)),
        (Seen::NotSeen(_), None) => {
            let is_trust = |grant: &&Value| grant_kind(grant) == Some(GrantKind::FederatedCredential);
            grants.extend(before.iter().filter(is_trust).cloned());
        }
        (Seen::Known(_) | Seen::NotAsked, None) => {}
    }
    // What kvtls made for another vault or for an identity that is gone stays here until it is revoked.
    let principal = reader.map(|reader| reader.principal.0);
    let stale = before
        .iter()
        .filter(|grant| is_stale(grant, desired, principal.as_deref(), kept.rbac));
    let stale: Vec<Value> = stale.filter(|grant| !grants.contains(grant)).cloned().collect();
    grants.extend(stale);
    Value::List(grants)
}

/// The kind of a grant in a state.
pub(super) fn grant_kind(grant: &Value) -> Option<GrantKind> {
    GrantKind::parse(grant.get("kind").as_str()?)
}

/// Whether a grant is ours and no longer of use: for another vault, scope or model, or for another identity.
pub(super) fn is_stale(
    grant: &Value,
    desired: &Desired,
    principal: Option<&str>,
    rbac: Option<bool>,
) -> bool {
    grant.get("managed").as_bool() == Some(true) && !is_wanted(grant, desired, principal, rbac)
}

fn is_wanted(grant: &Value, desired: &Desired, principal: Option<&str>, rbac: Option<bool>) -> bool {
    let text = |name: &str| grant.get(name).as_str().unwrap_or_default();
    let kind = grant_kind(grant);
    if kind == Some(GrantKind::FederatedCredential) {
        let trust = trust_of(desired);
        return trust
            .is_some_and(|(identity, subject)| same(text("scope"), &identity) && text("role") == subject);
    }
    let uses_roles = kind == Some(GrantKind::RoleAssignment);
    let same_principal = principal.is_some_and(|it| same(text("principal_id"), it));
    let scopes = grant::scopes(desired, uses_roles);
    same_principal
        && rbac.is_none_or(|rbac| rbac == uses_roles)
        && scopes.iter().any(|scope| same(scope, text("scope")))
}

/// Identity and subject of the trust that a binding needs.
fn trust_of(desired: &Desired) -> Option<(String, String)> {
    let workload = desired.access.workload()?;
    let subject = workload::subject(&desired.namespace, &workload.service_account);
    Some((workload.id.to_string(), subject))
}

fn same(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right)
}

/// Whether grants of a state let the reader in everywhere it has to be, and the identity in at all.
pub(super) fn is_granted(grants: &[Value], desired: &Desired, rbac: Option<bool>) -> bool {
    let text = |grant: &Value, name: &str| grant.get(name).as_str().unwrap_or_default().to_owned();
    let uses_roles = rbac.unwrap_or_else(|| {
        grants
            .iter()
            .any(|grant| grant_kind(grant) == Some(GrantKind::RoleAssignment))
    });
    let kind = if uses_roles {
        GrantKind::RoleAssignment
    } else {
        GrantKind::AccessPolicy
    };
    let covers = |scope: &String| {
        grants.iter().any(|grant| {
            let (at, ours) = (text(grant, "scope"), grant.get("managed").as_bool() == Some(true));
            let holds = same(&at, scope) || (!ours && grant::is_at_or_above(&at, scope));
            grant_kind(grant) == Some(kind) && holds
        })
    };
    let ignored = desired.access.mode != Mode::Ensure;
    ignored || grant::scopes(desired, uses_roles).iter().all(covers)
}

/// Whether a state's grants say that the identity trusts the service account, where that is ours to make so.
pub(super) fn is_trusted(grants: &[Value], desired: &Desired) -> bool {
    let ensures = |it: &crate::binding::desired::Workload| it.federated == Mode::Ensure;
    let Some((identity, subject)) =
        trust_of(desired).filter(|_| desired.access.workload().is_some_and(ensures))
    else {
        return true;
    };
    grants.iter().any(|grant| {
        let text = |name: &str| grant.get(name).as_str().unwrap_or_default();
        let is_trust = grant_kind(grant) == Some(GrantKind::FederatedCredential);
        is_trust && same(text("scope"), &identity) && text("role") == subject
    })
}

fn trust_value(desired: &Desired, credential: &FederatedCredential) -> Option<Value> {
    let (identity, _) = trust_of(desired)?;
    let name = credential.id.rsplit('/').next().unwrap_or_default();
    Some(Value::object([
        ("kind", Value::from(GrantKind::FederatedCredential.as_str())),
        ("scope", Value::from(identity)),
        ("role", Value::from(credential.subject.as_str())),
        ("principal_id", Value::from(name)),
        ("id", Value::from(credential.id.as_str())),
        (
            "managed",
            Value::from(workload::is_own_trust(desired, credential)),
        ),
    ]))
}

fn grant_value(desired: &Desired, found: &Grant<'_>, before: &[Value]) -> Value {
    let vault = desired.vault.to_string();
    let (kind, scope, role, principal, id, managed) = match found {
        Grant::Role(assignment) => (
            GrantKind::RoleAssignment,
            assignment.scope.clone(),
            Role::of_guid(&assignment.role_guid)
                .map_or_else(|| assignment.role_guid.clone(), |role| role.name().to_owned()),
            assignment.principal.0.clone(),
            assignment.id.clone(),
            grant::is_ours(assignment, &desired.cluster),
        ),
        Grant::Policy(policy) => {
            let ours = before.iter().any(|grant| {
                grant.get("managed").as_bool() == Some(true)
                    && grant_kind(grant) == Some(GrantKind::AccessPolicy)
                    && without_case(grant.get("id"), &Value::from(vault.as_str()))
                    && grant.get("principal_id").as_str() == Some(policy.object_id.0.as_str())
            });
            let principal = policy.object_id.0.clone();
            (
                GrantKind::AccessPolicy,
                vault.clone(),
                "secrets/get".to_owned(),
                principal,
                vault,
                ours,
            )
        }
    };
    Value::object([
        ("kind", Value::from(kind.as_str())),
        ("scope", Value::from(scope)),
        ("role", Value::from(role)),
        ("principal_id", Value::from(principal)),
        ("id", Value::from(id)),
        ("managed", Value::from(managed)),
    ])
}

/// Marks access policies as made by us; Azure has no place to say so.
pub(super) fn mark_policies_managed(state: &mut Value) {
    let Some(Value::List(grants)) = state.as_map_mut().and_then(|it| it.get_mut("grants")) else {
        return;
    };
    for grant in grants {
        let is_policy = grant_kind(grant) == Some(GrantKind::AccessPolicy);
        if let (true, Some(members)) = (is_policy, grant.as_map_mut()) {
            members.insert("managed".to_owned(), Value::from(true));
        }
    }
}

/// The Secrets by logical name.
pub(super) fn secret_names(desired: &Desired) -> Value {
    Value::object(
        desired
            .certificates
            .iter()
            .map(|(key, it)| (key.as_str(), Value::from(it.secret_name.as_str()))),
    )
}

/// The manifests of a binding, without stamps; the SecretProviderClass and the Ingress only if what they need is known.
pub(super) fn wanted(
    desired: &Desired,
    client_id: Option<&str>,
    tenant_id: Option<&str>,
    cloud_name: Option<&str>,
    controller: Option<&str>,
) -> BTreeMap<String, Option<serde_json::Value>> {
    let facts = client_id.zip(tenant_id).map(|(client_id, tenant_id)| Facts {
        client_id: ClientId(client_id.to_owned()),
        tenant_id: tenant_id.to_owned(),
        cloud_name: cloud_name.map(str::to_owned),
    });
    let class = facts.map(|facts| manifests::secret_provider_class_manifest(desired, &facts));
    let mut wanted = BTreeMap::new();
    wanted.insert(object_key(&manifests::secret_provider_class(desired)), class);
    let deployment = manifests::deployment_manifest(desired);
    wanted.insert(object_key(&manifests::deployment(desired)), Some(deployment));
    if let Some(ingress) = &desired.ingress {
        let known = ingress.ssl_redirect.is_none() || controller.is_some();
        let manifest = known.then(|| manifests::ingress_manifest(desired, ingress, controller));
        wanted.insert(object_key(&manifests::ingress(desired, &ingress.name)), manifest);
    }
    let gateway = gateway::objects(desired).into_iter();
    wanted.extend(gateway.map(|(object, manifest)| (object_key(&object), Some(manifest))));
    wanted
}

/// The text of a service account that is somebody else's.
pub(super) const USED_AS_IT_IS: &str = "# used as it is, not owned by this binding\n";

/// The service account's manifest, if there is to be one and what it needs is known.
pub(super) fn account_manifest(desired: &Desired, client_id: Option<&str>) -> Option<serde_json::Value> {
    let workload = desired.access.workload()?;
    Some(workload::account_manifest(desired, workload, client_id?))
}

/// The objects of a state: every one that the binding has or may have left behind.
pub(super) fn objects(state: &Value) -> Vec<ObjectRef> {
    let manifests = state.get("manifests").as_map();
    let keys = manifests
        .into_iter()
        .flat_map(|all| all.keys().map(String::as_str));
    owned_objects(state.get("namespace").as_str().unwrap_or_default(), keys)
}

/// Ends the text of an object that does not carry this creation's mark.
const UNMARKED: &str = "# kvtls.io/instance is missing or another's\n";

/// The Secrets of a state.
pub(super) fn secrets(state: &Value) -> impl Iterator<Item = &str> {
    let names = state.get("secret_names").as_map();
    names
        .into_iter()
        .flat_map(|names| names.values().filter_map(Value::as_str))
}

/// What a prior state owns and the binding no longer wants.
pub(super) fn retired(desired: &Desired, prior: &Value) -> Vec<ObjectRef> {
    let mut wanted = manifests::objects(desired);
    wanted.extend(workload::account(desired));
    let objects = objects(prior).into_iter().filter(|it| !wanted.contains(it));
    let still: BTreeSet<&str> = desired
        .certificates
        .values()
        .map(|it| it.secret_name.as_str())
        .collect();
    let secrets = secrets(prior).filter(|name| !still.contains(name));
    objects
        .chain(secrets.map(|name| SECRET.named(&desired.namespace, name)))
        .collect()
}

/// What was rendered last; what a plan left open is rendered now.
fn rendered(base: &Value, wanted: &BTreeMap<String, Option<serde_json::Value>>) -> Value {
    let text = |(key, manifest): (&String, &Option<serde_json::Value>)| match base.get(key) {
        Value::String(text) => Some((key.clone(), Value::from(text.as_str()))),
        _ => manifest
            .as_ref()
            .map(|manifest| (key.clone(), Value::from(yaml(manifest)))),
    };
    Value::Map(wanted.iter().filter_map(text).collect())
}

fn manifests(
    desired: &Desired,
    seen: &Observation,
    prior: &Value,
    client_id: Option<&str>,
    base: &Value,
    kept: &mut Kept,
) -> Value {
    let wanted = wanted(
        desired,
        client_id,
        kept.tenant_id.as_deref(),
        kept.cloud_name.as_deref(),
        kept.controller.as_deref(),
    );
    if !desired.apply_manifests {
        return rendered(base.get("manifests"), &wanted);
    }
    let mut texts = BTreeMap::new();
    let instance = base.get("instance_id").as_str();
    kept.edits.clear();
    for (key, wanted) in &wanted {
        match seen.objects.get(key) {
            Some(Seen::Known(Some(live))) => {
                let mask = wanted.clone().unwrap_or_else(|| manifests::without_status(live));
                let view = shown(live, &mask, kept.admitted.get(key));
                if let Some(edit) = wanted.as_ref().and_then(|wanted| edit(live, &view, wanted))
                    && !kept.adopted.contains(key)
                {
                    kept.edits.insert(key.clone(), edit);
                }
                let text = yaml(&view);
                let ours = manifests::annotation(live, manifests::INSTANCE) == instance;
                // A lost mark is shown, or nobody would ever set it again, and destroy would leave the object.
                let text = if ours { text } else { format!("{text}{UNMARKED}") };
                texts.insert(key.clone(), Value::from(text));
            }
            Some(Seen::Known(None)) => {}
            Some(Seen::NotSeen(_) | Seen::NotAsked) | None => {
                if let Some(text) = prior.get("manifests").get(key).as_str() {
                    texts.insert(key.clone(), Value::from(text));
                }
            }
        }
    }
    let account = workload::account(desired).map(|account| object_key(&account));
    if let Some(key) = &account {
        let wanted = account_manifest(desired, client_id);
        let text = match seen.objects.get(key) {
            Some(Seen::Known(Some(live))) if workload::is_own(desired, live) => {
                let mask = wanted.unwrap_or_else(|| manifests::without_status(live));
                Some(yaml(&shown(live, &mask, kept.admitted.get(key))))
            }
            Some(Seen::Known(Some(_))) => Some(USED_AS_IT_IS.to_owned()),
            Some(Seen::Known(None)) => None,
            _ => prior.get("manifests").get(key).as_str().map(str::to_owned),
        };
        texts.extend(text.map(|text| (key.clone(), Value::from(text))));
    }
    // Objects under an old name stay visible until they are gone.
    for object in objects(prior) {
        let key = object_key(&object);
        if wanted.contains_key(&key) || account.as_ref() == Some(&key) {
            continue;
        }
        let before = prior.get("manifests").get(&key).clone();
        match seen.objects.get(&key) {
            Some(Seen::Known(Some(live))) => {
                texts.insert(key, Value::from(yaml(&manifests::without_status(live))));
            }
            Some(Seen::Known(None)) => {}
            Some(Seen::NotSeen(_) | Seen::NotAsked) | None => {
                texts.insert(key, before);
            }
        }
    }
    Value::Map(texts)
}

fn addresses(desired: &Desired, seen: &Observation, prior: &Value) -> Value {
    let (ingress, gateway) = converge::addresses(desired, seen);
    let ingress_key = desired
        .ingress
        .as_ref()
        .map(|wanted| object_key(&manifests::ingress(desired, &wanted.name)));
    let ingress_seen = ingress_key.is_none_or(|key| is_seen(seen, &key));
    let gateway_seen = match &desired.gateway {
        None => true,
        Some(wanted) => match wanted.parent {
            Parent::Own { .. } => is_seen(seen, &object_key(&wanted.publisher(&desired.namespace))),
            Parent::Foreign { .. } => seen.gateway.known().is_some(),
        },
    };
    let told = |name: &str, is_seen: bool, address: Option<String>| {
        if is_seen {
            Value::from(address)
        } else {
            or_null(prior.get("addresses").get(name))
        }
    };
    Value::object([
        ("ingress", told("ingress", ingress_seen, ingress)),
        ("gateway", told("gateway", gateway_seen, gateway)),
    ])
}

fn is_seen(seen: &Observation, key: &str) -> bool {
    seen.objects
        .get(key)
        .is_some_and(|object| object.known().is_some())
}

const PHASES: [(&str, Phase); 6] = [
    ("pending", Phase::Pending),
    ("azure", Phase::Azure),
    ("objects", Phase::Objects),
    ("synced", Phase::Synced),
    ("unverified", Phase::Unverified),
    ("served", Phase::Served),
];

fn write_status(status: &Status) -> Value {
    let phase = PHASES
        .iter()
        .find(|(_, phase)| *phase == status.phase)
        .map_or("pending", |(name, _)| name);
    let place = |version: &Option<Version>| {
        version.as_ref().map_or(Value::Null, |version| {
            Value::object([
                ("version", Value::from(version.version.clone())),
                ("thumbprint", Value::from(version.thumbprint.as_str())),
                ("not_after", Value::from(version.not_after.format(&Rfc3339).ok())),
            ])
        })
    };
    let certificates = status.certificates.iter().map(|(key, it)| {
        let places = [
            ("vault", place(&it.vault)),
            ("synced", place(&it.synced)),
            ("served", place(&it.served)),
        ];
        (key.as_str(), Value::object(places))
    });
    Value::object([
        ("phase", Value::from(phase)),
        ("in_sync", Value::from(status.in_sync)),
        ("certificates", Value::object(certificates)),
    ])
}

/// The status of a state, if it has one.
pub(super) fn read_status(value: &Value) -> Option<Status> {
    let phase = value.get("phase").as_str()?;
    let phase = PHASES.iter().find(|(name, _)| *name == phase)?.1;
    let place = |value: &Value| {
        Some(Version {
            version: value.get("version").as_str().map(str::to_owned),
            thumbprint: value.get("thumbprint").as_str()?.to_owned(),
            not_after: OffsetDateTime::parse(value.get("not_after").as_str()?, &Rfc3339).ok()?,
        })
    };
    let certificates = value.get("certificates").as_map()?.iter().map(|(key, it)| {
        let status = CertificateStatus {
            vault: place(it.get("vault")),
            synced: place(it.get("synced")),
            served: place(it.get("served")),
        };
        (key.clone(), status)
    });
    Some(Status {
        phase,
        in_sync: value.get("in_sync").as_bool().unwrap_or(false),
        certificates: certificates.collect(),
    })
}
