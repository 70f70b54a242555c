//! Who reads the vault, and whether it is allowed to. Pure.

use std::collections::BTreeSet;

use super::desired::{Desired, GrantScope, Identity};
use super::observation::Observation;
use crate::azure::ids::{ClientId, ClusterId, PrincipalId};
use crate::azure::{AccessPolicy, RoleAssignment, Vault};

/// The identity that reads the vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    /// What the SecretProviderClass names.
    pub client_id: ClientId,
    /// What is granted.
    pub principal: PrincipalId,
}

/// What a grant is, as a state calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantKind {
    /// A role at a vault or at one of its secrets.
    RoleAssignment,
    /// An entry in a vault's access policies.
    AccessPolicy,
    /// The trust of an identity in a service account.
    FederatedCredential,
}

impl GrantKind {
    /// Its word in a state.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoleAssignment => "role_assignment",
            Self::AccessPolicy => "access_policy",
            Self::FederatedCredential => "federated_credential",
        }
    }

    /// The kind that a state's word means.
    pub fn parse(word: &str) -> Option<Self> {
        [
            Self::RoleAssignment,
            Self::AccessPolicy,
            Self::FederatedCredential,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == word)
    }
}

/// How an identity is allowed to read.
#[derive(Clone, Debug, PartialEq)]
pub enum Grant<'a> {
    /// By a role assignment.
    Role(&'a RoleAssignment),
    /// By an access policy.
    Policy(&'a AccessPolicy),
}

/// The identity that is to read, once it exists and was seen. With the add-on off there is no driver either, so nobody
/// reads then.
pub fn reader(identity: &Identity, seen: &Observation) -> Option<Reader> {
    let addon = seen.cluster.present().map(|cluster| &cluster.addon)?;
    match identity {
        _ if !addon.enabled => None,
        Identity::Addon => addon.identity.as_ref().map(|identity| Reader {
            client_id: identity.client_id.clone(),
            principal: identity.object_id.clone(),
        }),
        Identity::Workload(_) => seen.identity.present().map(|identity| Reader {
            client_id: identity.client_id.clone(),
            principal: identity.principal_id.clone(),
        }),
    }
}

/// Who is to be allowed, once it exists and was seen: the reader, and a workload identity before there is a driver for it.
pub fn principal(identity: &Identity, seen: &Observation) -> Option<PrincipalId> {
    match identity {
        Identity::Addon => reader(identity, seen).map(|reader| reader.principal),
        Identity::Workload(_) => seen
            .identity
            .present()
            .map(|identity| identity.principal_id.clone()),
    }
}

/// Where the reader has to be allowed: at the vault, or at each of its secrets that belongs to a bound certificate. A
/// vault with access policies knows only itself.
pub fn scopes(desired: &Desired, rbac: bool) -> BTreeSet<String> {
    let vault = desired.vault.to_string();
    match desired.access.scope {
        GrantScope::Certificate if rbac => desired
            .certificates
            .values()
            .map(|it| format!("{vault}/secrets/{}", it.certificate))
            .collect(),
        GrantScope::Certificate | GrantScope::Vault => BTreeSet::from([vault]),
    }
}

/// The grant by which `principal` reads at `scope`, in the model that applies to the vault; one that we made for this
/// cluster first, so that what we made is what we report. `assignments` are those of the principal, through its groups
/// too, wherever they hold.
///
/// Ours counts only for exactly what it was made for: it goes when that is no longer wanted.
pub fn find<'a>(
    vault: &'a Vault,
    assignments: &'a [RoleAssignment],
    principal: &PrincipalId,
    cluster: &ClusterId,
    scope: &str,
) -> Option<Grant<'a>> {
    if !vault.rbac {
        return vault
            .policies
            .iter()
            .find(|policy| allows(policy, principal))
            .map(Grant::Policy);
    }
    let holds = |assignment: &&RoleAssignment| {
        let exactly = assignment.scope.eq_ignore_ascii_case(scope);
        assignment.reads_secrets
            && (exactly || (!is_ours(assignment, cluster) && is_at_or_above(&assignment.scope, scope)))
    };
    let found: Vec<&RoleAssignment> = assignments.iter().filter(holds).collect();
    found
        .iter()
        .find(|assignment| is_ours(assignment, cluster))
        .or(found.first())
        .copied()
        .map(Grant::Role)
}

/// Whether the reader is allowed everywhere it has to be.
pub fn is_complete(
    desired: &Desired,
    vault: &Vault,
    assignments: &[RoleAssignment],
    principal: &PrincipalId,
) -> bool {
    missing(desired, vault, assignments, principal).is_empty()
}

/// Where the reader still has to be allowed.
pub fn missing(
    desired: &Desired,
    vault: &Vault,
    assignments: &[RoleAssignment],
    principal: &PrincipalId,
) -> Vec<String> {
    let lacks = |scope: &String| find(vault, assignments, principal, &desired.cluster, scope).is_none();
    scopes(desired, vault.rbac).into_iter().filter(lacks).collect()
}

/// Whether an assignment there holds here. A management group's does: only such are found that are above.
pub fn is_at_or_above(assignment: &str, scope: &str) -> bool {
    let (assignment, scope) = (
        assignment.trim_end_matches('/').to_ascii_lowercase(),
        scope.to_ascii_lowercase(),
    );
    assignment.is_empty()
        || assignment.starts_with("/providers/microsoft.management/")
        || scope
            .strip_prefix(&assignment)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn allows(policy: &AccessPolicy, principal: &PrincipalId) -> bool {
    let gets = |permission: &String| {
        ["get", "all"]
            .iter()
            .any(|known| permission.eq_ignore_ascii_case(known))
    };
    policy.object_id.0.eq_ignore_ascii_case(&principal.0) && policy.secrets.iter().any(gets)
}

/// The description by which an assignment says that kvtls made it for a cluster.
pub fn description(cluster: &ClusterId) -> String {
    format!("kvtls: {cluster}")
}

/// Whether kvtls made it for this cluster.
pub fn is_ours(assignment: &RoleAssignment, cluster: &ClusterId) -> bool {
    assignment
        .description
        .as_deref()
        .is_some_and(|text| text.eq_ignore_ascii_case(&description(cluster)))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{desired, with_addon};
    use super::*;

    const VAULT: &str = "/subscriptions/1/resourceGroups/shop/providers/Microsoft.KeyVault/vaults/kv";

    #[test]
    fn what_was_given_at_the_scope_or_above_holds() {
        let rows = [
            (VAULT, true),
            ("/subscriptions/1/resourcegroups/SHOP", true),
            ("/subscriptions/1", true),
            ("/", true),
            ("/providers/Microsoft.Management/managementGroups/root", true),
            (
                "/subscriptions/1/resourceGroups/shop/providers/Microsoft.KeyVault/vaults/kv2",
                false,
            ),
            (
                "/subscriptions/1/resourceGroups/shop/providers/Microsoft.KeyVault/vaults/kv/secrets/a",
                false,
            ),
            ("/subscriptions/11", false),
        ];
        for (assignment, expected) in rows {
            assert_eq!(is_at_or_above(assignment, VAULT), expected, "{assignment}");
        }
    }

    /// A vault-wide grant of ours is for those who asked for one; a stranger's is there anyway.
    #[test]
    fn a_wide_grant_of_ours_does_not_stand_for_a_narrow_one() {
        let mut desired = desired();
        desired.access.scope = GrantScope::Certificate;
        let seen = with_addon();
        let vault = seen.vault.present().unwrap();
        let reader = reader(&Identity::Addon, &seen).unwrap();
        let mut wide = RoleAssignment {
            id: "wide".to_owned(),
            scope: desired.vault.to_string(),
            role_guid: "4633458b-17de-408a-b874-0445c86b69e6".to_owned(),
            reads_secrets: true,
            principal: reader.principal.clone(),
            description: Some(description(&desired.cluster)),
        };
        let narrow = format!("{}/secrets/my-tls-cert", desired.vault);
        let lacks =
            |wide: &RoleAssignment| missing(&desired, vault, std::slice::from_ref(wide), &reader.principal);
        assert_eq!(lacks(&wide), [narrow]);
        wide.description = None;
        assert!(lacks(&wide).is_empty());
        // Another cluster's is a stranger's, too.
        wide.description = Some("kvtls: /another".to_owned());
        assert!(lacks(&wide).is_empty());
    }
}
