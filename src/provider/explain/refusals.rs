//! Refusals of Azure whose status alone would mislead: what they are, and who can help.

use crate::azure::Error;

/// A refusal that its code tells.
pub(super) struct Known {
    pub(super) summary: &'static str,
    pub(super) fix: String,
    /// Whether it is about a rule of the subscription's, so that no role helps.
    pub(super) is_rule: bool,
}

/// What a refusal is, where its code tells.
pub(super) fn known(error: &Error) -> Option<Known> {
    let said = error.service_said();
    let rule = |summary, fix: &str| Known {
        summary,
        fix: fix.to_owned(),
        is_rule: true,
    };
    let other = |summary, fix: String| Known {
        summary,
        fix,
        is_rule: false,
    };
    Some(match error.code()? {
        "RequestDisallowedByPolicy" => rule(
            "Azure Policy forbids the change",
            "Roles do not help here. Let the owner of the policy that the service names exempt the resource, or do what the \
             policy asks for.",
        ),
        "PolicyTokenRequired" => rule(
            "Azure asks for a policy token",
            "A policy of the subscription wants each such change approved first, which kvtls cannot ask for. Let its owner \
             exempt the resource.",
        ),
        "DenyAssignmentAuthorizationFailed" => rule(
            "Deny assignment forbids the change",
            "Roles do not help here. A deny assignment comes with a deployment stack or a managed application; let its \
             owner except this identity.",
        ),
        "ScopeLocked" => rule(
            "Lock forbids the change",
            "Look for it with  az lock list --resource-group GROUP  and let its owner remove it for as long as the apply \
             takes.",
        ),
        "MissingSubscriptionRegistration" => other(
            "Resource provider is not registered",
            format!(
                "Somebody who may, once per subscription:  az provider register --namespace {}",
                quoted_after(&said, "namespace '").unwrap_or("NAMESPACE")
            ),
        ),
        "LinkedAuthorizationFailed" => other(
            "Permission on linked resource is missing",
            format!(
                "The cluster's settings name another resource, and a write of the cluster needs {} there. Give the identity \
                 a role with it on the linked scope, or let the cluster's owner make the change.",
                missing_action(error).unwrap_or("a right")
            ),
        ),
        "RoleAssignmentLimitExceeded" => other(
            "Subscription has no room for assignments",
            "Remove assignments that nobody uses (those of deleted identities first), or have one made for the whole \
             resource group and set  access = { mode = \"require\" }."
                .to_owned(),
        ),
        "Conflict" if said.contains("hash conflict") => other(
            "Name of role assignment is taken",
            "Names are unique in the tenant, and both that kvtls would use are others'. Make the assignment by hand (az \
             role assignment create) and set  access = { mode = \"require\" }."
                .to_owned(),
        ),
        "RoleAssignmentExists" => other(
            "Role assignment is not shown yet",
            "Somebody has made the same one just now, and Azure does not list it yet. Apply again.".to_owned(),
        ),
        "PrincipalNotFound" => other(
            "Entra ID does not know the identity",
            "A new identity takes up to some minutes to be known everywhere: apply again. If it stays, the \
             identity was deleted; an add-on that is switched off and on gets a new one."
                .to_owned(),
        ),
        "ResourceNotFound" | "ResourceGroupNotFound" => other(
            "Resource does not exist any more",
            "It was deleted meanwhile. Plan again to see what is left.".to_owned(),
        ),
        "BadRequest" if said.contains("Power State(Stopped)") => other(
            "Cluster is stopped",
            "Start it (az aks start), then apply again.".to_owned(),
        ),
        "Unauthorized" if said.contains("AKV10032") => other(
            "Key Vault belongs to another tenant",
            "The vault takes tokens of its own tenant only. Use an identity of that tenant (ARM_TENANT_ID), or a vault of \
             this one."
                .to_owned(),
        ),
        "ExpiredAuthenticationToken" | "InvalidAuthenticationToken" => other(
            "Azure does not accept the token",
            "A new token did not do either. Compare this machine's clock with the service's, and the tenant with the \
             subscription's."
                .to_owned(),
        ),
        "SubscriptionNotFound" => other(
            "Subscription cannot be found",
            "Check the subscription in the resource's ID, and that the identity signs in to the tenant the subscription \
             belongs to (ARM_TENANT_ID)."
                .to_owned(),
        ),
        "ForbiddenByFirewall" | "ForbiddenByConnection" => rule(
            "Key Vault's network rules refuse access",
            "Run Terraform in a network that the vault lets in, or allow this one in the vault's network rules.",
        ),
        "ForbiddenByPolicy" => rule(
            "Key Vault's policy refuses the identity",
            "The vault takes this only on behalf of a user. Let its owner allow the identity itself.",
        ),
        _ => return None,
    })
}

/// Whether somebody who may assign roles can help.
pub(super) fn is_about_roles(error: &Error) -> bool {
    error.is_forbidden() && known(error).is_none()
}

fn missing_action(error: &Error) -> Option<&str> {
    match error {
        Error::Forbidden { action, .. } => action.as_deref(),
        Error::Credential { .. }
        | Error::Settings { .. }
        | Error::Unreachable { .. }
        | Error::Throttled { .. }
        | Error::Conflict { .. }
        | Error::Rejected { .. }
        | Error::NotReady { .. }
        | Error::OperationFailed { .. }
        | Error::Unexpected { .. } => None,
    }
}

fn quoted_after<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    text.split_once(words)?.1.split('\'').next()
}
