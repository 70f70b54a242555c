//! Takes back what kvtls granted, if it can be shown that nobody else needs it. Pure.

use serde_json::Value;

use super::accounts;
use super::desired::Identity;
use super::grant::{self, GrantKind};
use super::manifests;
use super::observation::{Observation, Seen};
use super::plan::{Owned, OwnedGrant};
use super::step::Step;
use crate::azure::ids::PrincipalId;
use crate::azure::{AccessPolicy, FederatedCredential, RoleAssignment, Vault};

/// How a SecretProviderClass says whose rights it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named<'a> {
    /// The identity that the add-on has now.
    Addon(&'a str),
    /// A workload identity, by its client ID.
    Workload(&'a str),
    /// A workload identity of which nothing more is known.
    SomeWorkload,
}

/// What becomes of a grant that kvtls made.
#[derive(Clone, Debug, PartialEq)]
enum Fate {
    /// It is not there any more, or not ours.
    Gone,
    /// It is taken back by this step.
    Revoked(Box<Step>),
    /// It stays.
    Kept(Reason),
}

/// Why a grant stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Others are known to need it.
    Needed(String),
    /// Others may need it: something could not be seen.
    Unclear(String),
}

/// A grant that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptGrant {
    /// Which.
    pub grant: OwnedGrant,
    /// Why.
    pub reason: Reason,
}

impl KeptGrant {
    /// Whether it stays only because something could not be seen.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self.reason, Reason::Unclear(_))
    }
}

/// What is to be taken back, once everything of the binding in the cluster is gone.
pub fn revocations(owned: &Owned, seen: &Observation) -> Vec<Step> {
    let mut steps: Vec<Step> = owned
        .grants
        .iter()
        .filter_map(|grant| match fate(owned, grant, seen) {
            Fate::Revoked(step) => Some(*step),
            Fate::Gone | Fate::Kept(_) => None,
        })
        .collect();
    if owned.disables_addon && seen.other_classes.known().is_some_and(Vec::is_empty) {
        let enabled = seen
            .cluster
            .present()
            .is_some_and(|cluster| cluster.addon.enabled);
        steps.extend(enabled.then_some(Step::DisableAddon));
    }
    steps
}

/// The grants that stay; all that are there, if a binding that is `being_made` uses what they are for.
pub fn kept(owned: &Owned, seen: &Observation, being_made: bool) -> Vec<KeptGrant> {
    let stays = |fate: Fate| match fate {
        Fate::Gone => None,
        Fate::Revoked(_) if being_made => Some(Reason::Unclear(
            "a binding that is being made right now uses it".to_owned(),
        )),
        Fate::Revoked(_) => None,
        Fate::Kept(reason) => Some(reason),
    };
    let grants = owned.grants.iter();
    grants
        .filter_map(|grant| {
            Some(KeptGrant {
                grant: grant.clone(),
                reason: stays(fate(owned, grant, seen))?,
            })
        })
        .collect()
}

fn fate(owned: &Owned, grant: &OwnedGrant, seen: &Observation) -> Fate {
    match grant.kind {
        GrantKind::RoleAssignment => at_vault(seen, |vault| fate_of_role(owned, grant, vault, seen)),
        GrantKind::AccessPolicy => at_vault(seen, |vault| fate_of_policy(owned, grant, vault, seen)),
        GrantKind::FederatedCredential => fate_of_trust(owned, grant, seen),
    }
}

/// What is granted at a vault goes with it.
fn at_vault(seen: &Observation, fate: impl FnOnce(&Vault) -> Fate) -> Fate {
    match &seen.vault {
        Seen::Known(Some(vault)) => fate(vault),
        Seen::NotSeen(unseen) => Fate::Kept(unread("the vault", &unseen.why)),
        Seen::Known(None) | Seen::NotAsked => Fate::Gone,
    }
}

fn unread(what: &str, why: &str) -> Reason {
    Reason::Unclear(format!("{what} could not be read ({why})"))
}

fn fate_of_policy(owned: &Owned, grant: &OwnedGrant, vault: &Vault, seen: &Observation) -> Fate {
    let principal = PrincipalId(grant.principal_id.clone());
    let holds = |policy: &AccessPolicy| policy.object_id.0.eq_ignore_ascii_case(&principal.0);
    if !vault.policies.iter().any(holds) {
        return Fate::Gone;
    }
    // Where roles count, nobody reads by a policy.
    if !vault.rbac
        && let Some(reason) = readers(owned, grant, seen)
    {
        return Fate::Kept(reason);
    }
    Fate::Revoked(Box::new(Step::RemoveAccessPolicy {
        vault: owned.vault.clone(),
        tenant: vault.tenant_id.clone(),
        principal,
    }))
}

fn fate_of_role(owned: &Owned, grant: &OwnedGrant, vault: &Vault, seen: &Observation) -> Fate {
    let is_of_reader = reader_principal(owned, seen)
        .is_some_and(|principal| principal.eq_ignore_ascii_case(&grant.principal_id));
    // Of an identity that is gone or another, the state alone knows the assignment.
    let live = seen.assignments.known().filter(|_| is_of_reader && vault.rbac);
    let is_same = |live: &&RoleAssignment| live.id.eq_ignore_ascii_case(&grant.id);
    let id = match live.map(|all| all.iter().find(is_same)) {
        Some(Some(live)) if grant::is_ours(live, &owned.cluster) => live.id.clone(),
        Some(_) => return Fate::Gone,
        None => grant.id.clone(),
    };
    let others = || match is_workload(owned, grant, seen) {
        true => trusted_besides(owned, seen),
        false => None,
    };
    let stays = readers(owned, grant, seen).or_else(others);
    stays.map_or_else(|| Fate::Revoked(Box::new(Step::RemoveRole { id })), Fate::Kept)
}

/// A credential of ours goes with the last pods that use its service account.
fn fate_of_trust(owned: &Owned, grant: &OwnedGrant, seen: &Observation) -> Fate {
    let Identity::Workload(workload) = &owned.identity else {
        return Fate::Kept(Reason::Unclear(
            "the state does not say which identity it belongs to".to_owned(),
        ));
    };
    let there =
        |all: &Vec<FederatedCredential>| all.iter().any(|live| live.id.eq_ignore_ascii_case(&grant.id));
    match &seen.federated {
        Seen::Known(all) if there(all) => {}
        Seen::NotSeen(unseen) => return Fate::Kept(unread("the credentials of its identity", &unseen.why)),
        Seen::Known(_) | Seen::NotAsked => return Fate::Gone,
    }
    let account = &workload.service_account;
    let reason = match accounts::others(seen, account, &owned.name) {
        None => match seen.account_users.get(account).and_then(Seen::why_not) {
            Some(why) => unread("who runs as its service account", why),
            None => Reason::Unclear(NOT_ASKED.to_owned()),
        },
        Some(users) if users.is_empty() => {
            return Fate::Revoked(Box::new(Step::Distrust {
                identity: workload.id.clone(),
                credential: grant.id.clone(),
            }));
        }
        Some(users) => Reason::Needed(format!("{} run as its service account", users.join(", "))),
    };
    Fate::Kept(reason)
}

const NOT_ASKED: &str = "with apply_manifests = false the cluster is not asked who else needs it";

/// Why the rights of a workload identity stay: somebody besides us, in this cluster or in another, may act as it.
fn trusted_besides(owned: &Owned, seen: &Observation) -> Option<Reason> {
    let ours = |id: &str| owned.grants.iter().any(|grant| grant.id.eq_ignore_ascii_case(id));
    match &seen.federated {
        Seen::Known(all) => {
            let other = all.iter().find(|credential| !ours(&credential.id))?;
            Some(Reason::Needed(format!(
                "{} lets others act as its identity",
                other.id
            )))
        }
        Seen::NotSeen(unseen) => Some(unread("the credentials of its identity", &unseen.why)),
        Seen::NotAsked => None,
    }
}

fn reader_principal<'a>(owned: &Owned, seen: &'a Observation) -> Option<&'a str> {
    match &owned.identity {
        Identity::Addon => {
            let cluster = seen.cluster.present()?;
            Some(cluster.addon.identity.as_ref()?.object_id.0.as_str())
        }
        Identity::Workload(_) => Some(seen.identity.present()?.principal_id.0.as_str()),
    }
}

fn is_workload(owned: &Owned, grant: &OwnedGrant, seen: &Observation) -> bool {
    let workload = matches!(owned.identity, Identity::Workload(_));
    workload && reader_principal(owned, seen).is_none_or(|it| it.eq_ignore_ascii_case(&grant.principal_id))
}

/// Why a grant stays: others in the cluster read through it, or may.
fn readers(owned: &Owned, grant: &OwnedGrant, seen: &Observation) -> Option<Reason> {
    let named = named(owned, grant, seen);
    let reads =
        |class: &&Value| !is_own(class, owned) && reads(class, owned.vault.name(), &grant.scope, named);
    match &seen.other_classes {
        Seen::Known(classes) => classes
            .iter()
            .find(reads)
            .map(|class| Reason::Needed(format!("{} reads with it", object_name(class)))),
        // Nobody can be an add-on identity that the cluster no longer has: with the cluster or the add-on it goes.
        _ if named == Named::SomeWorkload
            && seen.cluster.known().is_some()
            && owned.identity == Identity::Addon =>
        {
            None
        }
        Seen::NotSeen(unseen) => Some(unread("the cluster's SecretProviderClasses", &unseen.why)),
        Seen::NotAsked => Some(Reason::Unclear(NOT_ASKED.to_owned())),
    }
}

fn object_name(class: &Value) -> String {
    let text = |name: &str| class["metadata"][name].as_str().unwrap_or_default();
    format!("SecretProviderClass {}/{}", text("namespace"), text("name"))
}

/// Whether it is this very instance's SecretProviderClass: on its way out, or read through another grant by now.
fn is_own(class: &Value, owned: &Owned) -> bool {
    !owned.instance.is_empty() && manifests::annotation(class, manifests::INSTANCE) == Some(&owned.instance)
}

fn named<'a>(owned: &Owned, grant: &OwnedGrant, seen: &'a Observation) -> Named<'a> {
    let same = |id: &str| id.eq_ignore_ascii_case(&grant.principal_id);
    let addon = seen
        .cluster
        .present()
        .and_then(|cluster| cluster.addon.identity.as_ref());
    match (addon, seen.identity.present()) {
        (Some(addon), _) if same(&addon.object_id.0) => Named::Addon(&addon.client_id.0),
        (_, Some(identity)) if same(&identity.principal_id.0) => Named::Workload(&identity.client_id.0),
        // Out of sight, the add-on's may still be the one it was for.
        (None, _) if owned.identity == Identity::Addon && seen.cluster.known().is_none() => Named::Addon(""),
        _ => Named::SomeWorkload,
    }
}

/// Whether a SecretProviderClass reads what was granted as the one it was granted to; one that we cannot judge counts,
/// because a grant too many is cheaper than an outage.
fn reads(class: &Value, vault: &str, scope: &str, named: Named<'_>) -> bool {
    let parameters = &class["spec"]["parameters"];
    let text = |name: &str| parameters[name].as_str().unwrap_or_default().trim();
    let same_vault = parameters["keyvaultName"]
        .as_str()
        .is_none_or(|name| name.eq_ignore_ascii_case(vault));
    // Of a narrow grant only those are readers who name its secret.
    let same_object = match scope.rsplit_once("/secrets/") {
        Some((_, name)) => parameters["objects"]
            .as_str()
            .is_none_or(|objects| objects.to_ascii_lowercase().contains(&name.to_ascii_lowercase())),
        None => true,
    };
    let managed = parameters["useVMManagedIdentity"].as_str().is_none_or(|text| {
        ["1", "t", "true"]
            .iter()
            .any(|yes| text.trim().eq_ignore_ascii_case(yes))
    });
    let client = text("clientID");
    let same_identity = match named {
        Named::Addon(id) => {
            let user_assigned = text("userAssignedIdentityID");
            managed && (id.is_empty() || user_assigned.is_empty() || user_assigned.eq_ignore_ascii_case(id))
        }
        Named::Workload(id) => client.eq_ignore_ascii_case(id),
        Named::SomeWorkload => !client.is_empty(),
    };
    class["spec"]["provider"] == "azure" && same_vault && same_object && same_identity
}
