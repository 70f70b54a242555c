//! Whether an identity may read the vault's secrets. Pure.

use crate::azure::ids::PrincipalId;
use crate::azure::{AccessPolicy, RoleAssignment, Vault};

/// Built-in roles with the data action `Microsoft.KeyVault/vaults/secrets/getSecret/action` (reference: the public
/// role catalogue): Secrets User, Certificate User, Secrets Officer, Administrator.
const READER_ROLES: [&str; 4] = [
    "4633458b-17de-408a-b874-0445c86b69e6",
    "db79e9a7-68ee-4b58-9aeb-b90e7c24fcba",
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
    "00482a5a-887f-4fb3-b363-3b7fe8e74483",
];

/// How an identity is allowed to read.
#[derive(Clone, Debug, PartialEq)]
pub enum Grant<'a> {
    /// By a role assignment.
    Role(&'a RoleAssignment),
    /// By an access policy.
    Policy(&'a AccessPolicy),
}

/// The grant by which `principal` reads secrets of `vault`, in the model that applies to it; one of ours first, so that
/// what we made is what we report. `assignments` are those assigned to the principal, through its groups too.
pub fn find<'a>(
    vault: &'a Vault,
    assignments: &'a [RoleAssignment],
    principal: &PrincipalId,
) -> Option<Grant<'a>> {
    if !vault.rbac {
        return vault
            .policies
            .iter()
            .find(|policy| allows(policy, principal))
            .map(Grant::Policy);
    }
    let reads = |assignment: &&RoleAssignment| {
        READER_ROLES
            .iter()
            .any(|role| role.eq_ignore_ascii_case(&assignment.role_guid))
    };
    let found: Vec<&RoleAssignment> = assignments.iter().filter(reads).collect();
    found
        .iter()
        .find(|assignment| is_ours(assignment))
        .or(found.first())
        .copied()
        .map(Grant::Role)
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
pub fn description(cluster: &str) -> String {
    format!("kvtls: {cluster}")
}

/// Whether kvtls made it.
pub fn is_ours(assignment: &RoleAssignment) -> bool {
    assignment
        .description
        .as_deref()
        .is_some_and(|text| text.starts_with("kvtls: "))
}
