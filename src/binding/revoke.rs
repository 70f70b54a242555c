//! Takes back what kvtls granted, if it can be shown that nobody else needs it. Pure.

use serde_json::Value;

use super::accounts;
use super::desired::Identity;
use super::grant;
use super::manifests;
use super::observation::{Observation, Seen};
use super::plan::{Owned, OwnedGrant};
use super::step::Step;
use crate::azure::ids::PrincipalId;

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

/// What is to be taken back. A grant that others in the cluster use stays.
pub fn revocations(owned: &Owned, seen: &Observation) -> Vec<Step> {
    let mut steps: Vec<Step> = owned
        .grants
        .iter()
        .filter_map(|grant| revocation(owned, grant, seen))
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

fn revocation(owned: &Owned, grant: &OwnedGrant, seen: &Observation) -> Option<Step> {
    match grant.kind.as_str() {
        "role_assignment" => revoke_role(owned, grant, seen),
        "access_policy" => {
            let vault = seen.vault.present()?;
            if !vault.rbac {
                // Where roles count, nobody reads by a policy.
                is_unused(owned, grant, seen)?;
            }
            let principal = PrincipalId(grant.principal_id.clone());
            let holds = vault
                .policies
                .iter()
                .any(|policy| policy.object_id.0.eq_ignore_ascii_case(&principal.0));
            holds.then(|| Step::RemoveAccessPolicy {
                vault: owned.vault.clone(),
                tenant: vault.tenant_id.clone(),
                principal,
            })
        }
        "federated_credential" => revoke_trust(owned, grant, seen),
        _ => None,
    }
}

fn revoke_role(owned: &Owned, grant: &OwnedGrant, seen: &Observation) -> Option<Step> {
    let vault = seen.vault.present()?;
    is_unused(owned, grant, seen)?;
    if is_workload(owned, grant, seen) && trusts_others(owned, seen) {
        // Somebody else, in this cluster or in another, may read with it.
        return None;
    }
    let is_of_reader = reader_principal(owned, seen)
        .is_some_and(|principal| principal.eq_ignore_ascii_case(&grant.principal_id));
    let live = seen
        .assignments
        .known()
        .filter(|_| is_of_reader && vault.rbac)
        .map(|all| all.iter().find(|live| live.id.eq_ignore_ascii_case(&grant.id)));
    match live {
        Some(Some(live)) => {
            grant::is_ours(live, &owned.cluster).then(|| Step::RemoveRole { id: live.id.clone() })
        }
        Some(None) => None,
        // The identity is gone or another: the state alone knows the assignment.
        None => Some(Step::RemoveRole { id: grant.id.clone() }),
    }
}

/// A credential of ours goes with the last pods that use its service account.
fn revoke_trust(owned: &Owned, grant: &OwnedGrant, seen: &Observation) -> Option<Step> {
    let Identity::Workload(workload) = &owned.identity else {
        return None;
    };
    if !accounts::is_unused(seen, &workload.service_account, &owned.name) {
        return None;
    }
    let there = seen
        .federated
        .known()?
        .iter()
        .any(|live| live.id.eq_ignore_ascii_case(&grant.id));
    there.then(|| Step::Distrust {
        identity: workload.id.clone(),
        credential: grant.id.clone(),
    })
}

/// Whether the identity trusts anybody besides us: then its rights are not ours to take.
fn trusts_others(owned: &Owned, seen: &Observation) -> bool {
    let ours = |id: &str| owned.grants.iter().any(|grant| grant.id.eq_ignore_ascii_case(id));
    match &seen.federated {
        Seen::Known(all) => all.iter().any(|credential| !ours(&credential.id)),
        Seen::NotSeen(_) => true,
        Seen::NotAsked => false,
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

/// Something, if nobody else in the cluster reads through a grant.
fn is_unused(owned: &Owned, grant: &OwnedGrant, seen: &Observation) -> Option<()> {
    let named = named(owned, grant, seen);
    // With the cluster or the add-on its identity goes. What could not be seen may still be there.
    let addon_is_known = seen.cluster.known().is_some();
    let classes = seen.other_classes.known();
    let used = match (named, classes) {
        // Nobody can be an add-on identity that the cluster no longer has.
        (Named::SomeWorkload, None) if addon_is_known && owned.identity == Identity::Addon => false,
        (_, None) => return None,
        (named, Some(classes)) => classes
            .iter()
            .filter(|class| !is_own(class, owned))
            .any(|class| reads(class, owned.vault.name(), &grant.scope, named)),
    };
    (!used).then_some(())
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
