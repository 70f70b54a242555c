//! Role definitions: the built-in ones this world knows, and what a definition allows.

use serde_json::{Value, json};

/// A role definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) custom: bool,
    pub(super) scopes: Vec<String>,
    pub(super) actions: Vec<String>,
    pub(super) not_actions: Vec<String>,
    pub(super) data_actions: Vec<String>,
    pub(super) not_data_actions: Vec<String>,
    /// If there is such a condition: the only roles its holder may assign or take away.
    pub(super) assignable: Option<Vec<String>>,
}

impl Role {
    /// True if the role allows this control plane or data action.
    pub(super) fn allows(&self, action: &str, data: bool) -> bool {
        let (yes, no) = if data {
            (&self.data_actions, &self.not_data_actions)
        } else {
            (&self.actions, &self.not_actions)
        };
        yes.iter().any(|pattern| matches(pattern, action))
            && !no.iter().any(|pattern| matches(pattern, action))
    }

    /// What it allows, as ARM shows it.
    pub(super) fn permission(&self) -> Value {
        let mut permission = json!({
            "actions": self.actions,
            "notActions": self.not_actions,
            "dataActions": self.data_actions,
            "notDataActions": self.not_data_actions,
        });
        if let Some(roles) = &self.assignable {
            let roles = roles.join(", ");
            let only = |verb: &str, source: &str| {
                format!(
                    "((!(ActionMatches{{'Microsoft.Authorization/roleAssignments/{verb}'}})) OR \
                     ({source}[Microsoft.Authorization/roleAssignments:RoleDefinitionId] \
                     ForAnyOfAnyValues:GuidEquals{{{roles}}}))"
                )
            };
            let condition = format!(
                "{} AND {}",
                only("write", "@Request"),
                only("delete", "@Resource")
            );
            permission["condition"] = json!(condition);
            permission["conditionVersion"] = json!("2.0");
        }
        permission
    }

    /// The definition as ARM shows it, under a subscription.
    pub(super) fn document(&self, subscription: Option<&str>) -> Value {
        let prefix = subscription
            .map(|id| format!("/subscriptions/{id}"))
            .unwrap_or_default();
        json!({
            "properties": {
                "roleName": self.name,
                "type": if self.custom { "CustomRole" } else { "BuiltInRole" },
                "description": self.description,
                "assignableScopes": self.scopes,
                "permissions": [self.permission()],
                "createdOn": "2020-05-19T17:52:47.2049241Z",
                "updatedOn": "2021-11-11T20:14:30.9542829Z",
                "createdBy": null,
                "updatedBy": null,
            },
            "id": format!("{prefix}/providers/Microsoft.Authorization/roleDefinitions/{}", self.id),
            "type": "Microsoft.Authorization/roleDefinitions",
            "name": self.id,
        })
    }
}

/// Action patterns: `*` stands for anything, case does not count.
pub(super) fn matches(pattern: &str, action: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    let action = action.to_ascii_lowercase();
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| action.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Name, id, description, actions, not actions, data actions.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);

/// What the vault roles may do on the control plane.
const VAULT_SURROUNDINGS: &[&str] = &[
    "Microsoft.Authorization/*/read",
    "Microsoft.Insights/alertRules/*",
    "Microsoft.Resources/deployments/*",
    "Microsoft.Resources/subscriptions/resourceGroups/read",
    "Microsoft.Support/*",
    "Microsoft.KeyVault/checkNameAvailability/read",
    "Microsoft.KeyVault/deletedVaults/read",
    "Microsoft.KeyVault/locations/*/read",
    "Microsoft.KeyVault/vaults/*/read",
    "Microsoft.KeyVault/operations/read",
];

/// What the Kubernetes roles of AKS may do on the control plane.
const CLUSTER_SURROUNDINGS: &[&str] = &[
    "Microsoft.Authorization/*/read",
    "Microsoft.Resources/subscriptions/resourceGroups/read",
    "Microsoft.ContainerService/managedClusters/listClusterUserCredential/action",
];

/// The roles Key Vault Data Access Administrator may assign: as documented, without Certificate User.
const DATA_ACCESS: &[&str] = &[
    "00482a5a-887f-4fb3-b363-3b7fe8e74483",
    "a4417e6f-fecd-4de8-b567-7b0420556985",
    "14b46e9e-c2b7-41b4-b07b-48a6ebf60603",
    "e147488a-f6f5-4113-8e2d-b22465e65bf6",
    "12338af0-0e69-4776-bea7-57ae8d297424",
    "21090545-7ca7-4776-b22c-e363652d74d2",
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
    "4633458b-17de-408a-b874-0445c86b69e6",
];

const DATA_ACCESS_ADMINISTRATOR: &str = "8b54135c-b56d-4d72-a534-26097cfdc8d8";

#[rustfmt::skip]
const BUILT_IN: &[Row] = &[
    ("Owner", "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
        "Grants full access to manage all resources, including the ability to assign roles in Azure RBAC.",
        &["*"], &[], &[]),
    ("Contributor", "b24988ac-6180-42a0-ab88-20f7382dd24c",
        "Grants full access to manage all resources, but does not allow you to assign roles in Azure RBAC.",
        &["*"],
        &["Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write",
          "Microsoft.Authorization/elevateAccess/Action"], &[]),
    ("Reader", "acdd72a7-3385-48ef-bd42-f606fba81ae7",
        "View all resources, but does not allow you to make any changes.", &["*/read"], &[], &[]),
    ("User Access Administrator", "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9",
        "Lets you manage user access to Azure resources.",
        &["*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"], &[], &[]),
    ("Role Based Access Control Administrator", "f58310d9-a9f6-439a-9e8d-f62e7b41a168",
        "Manage access to Azure resources by assigning roles using Azure RBAC.",
        &["Microsoft.Authorization/roleAssignments/write", "Microsoft.Authorization/roleAssignments/delete",
          "*/read", "Microsoft.Support/*"], &[], &[]),
    ("Key Vault Administrator", "00482a5a-887f-4fb3-b363-3b7fe8e74483",
        "Perform all data plane operations on a key vault and all objects in it.",
        VAULT_SURROUNDINGS, &[], &["Microsoft.KeyVault/vaults/*"]),
    ("Key Vault Certificates Officer", "a4417e6f-fecd-4de8-b567-7b0420556985",
        "Perform any action on the certificates of a key vault, except manage permissions.",
        VAULT_SURROUNDINGS, &[],
        &["Microsoft.KeyVault/vaults/certificatecas/*", "Microsoft.KeyVault/vaults/certificates/*",
          "Microsoft.KeyVault/vaults/certificatecontacts/write"]),
    ("Key Vault Certificate User", "db79e9a7-68ee-4b58-9aeb-b90e7c24fcba",
        "Read certificate contents.", &[], &[],
        &["Microsoft.KeyVault/vaults/certificates/read", "Microsoft.KeyVault/vaults/secrets/getSecret/action",
          "Microsoft.KeyVault/vaults/secrets/readMetadata/action", "Microsoft.KeyVault/vaults/keys/read"]),
    ("Key Vault Secrets Officer", "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
        "Perform any action on the secrets of a key vault, except manage permissions.",
        VAULT_SURROUNDINGS, &[], &["Microsoft.KeyVault/vaults/secrets/*"]),
    ("Key Vault Secrets User", "4633458b-17de-408a-b874-0445c86b69e6",
        "Read secret contents. Only works for key vaults that use the 'Azure role-based access control' permission model.",
        &[], &[],
        &["Microsoft.KeyVault/vaults/secrets/getSecret/action",
          "Microsoft.KeyVault/vaults/secrets/readMetadata/action"]),
    ("Key Vault Crypto Officer", "14b46e9e-c2b7-41b4-b07b-48a6ebf60603",
        "Perform any action on the keys of a key vault, except manage permissions.",
        VAULT_SURROUNDINGS, &[], &["Microsoft.KeyVault/vaults/keys/*", "Microsoft.KeyVault/vaults/keyrotationpolicies/*"]),
    ("Key Vault Crypto User", "12338af0-0e69-4776-bea7-57ae8d297424",
        "Perform cryptographic operations using keys.", &[], &[],
        &["Microsoft.KeyVault/vaults/keys/read", "Microsoft.KeyVault/vaults/keys/update/action",
          "Microsoft.KeyVault/vaults/keys/encrypt/action", "Microsoft.KeyVault/vaults/keys/decrypt/action",
          "Microsoft.KeyVault/vaults/keys/wrap/action", "Microsoft.KeyVault/vaults/keys/unwrap/action",
          "Microsoft.KeyVault/vaults/keys/sign/action", "Microsoft.KeyVault/vaults/keys/verify/action"]),
    ("Key Vault Reader", "21090545-7ca7-4776-b22c-e363652d74d2",
        "Read metadata of key vaults and its certificates, keys, and secrets.",
        VAULT_SURROUNDINGS, &[],
        &["Microsoft.KeyVault/vaults/*/read", "Microsoft.KeyVault/vaults/secrets/readMetadata/action"]),
    ("Key Vault Purge Operator", "a68e7c17-0ab2-4c09-9a58-125dae29748c",
        "Allows permanent deletion of soft-deleted vaults.",
        &["Microsoft.KeyVault/locations/deletedVaults/read", "Microsoft.KeyVault/locations/deletedVaults/purge/action",
          "Microsoft.KeyVault/locations/operationResults/read"], &[], &[]),
    ("Key Vault Contributor", "f25e0fa2-a7c8-4377-a976-54943a77a395",
        "Lets you manage key vaults, but not access to them.",
        &["Microsoft.Authorization/*/read", "Microsoft.Insights/alertRules/*", "Microsoft.KeyVault/*",
          "Microsoft.Resources/deployments/*", "Microsoft.Resources/subscriptions/resourceGroups/read",
          "Microsoft.Support/*"],
        &["Microsoft.KeyVault/locations/deletedVaults/purge/action", "Microsoft.KeyVault/hsmPools/*",
          "Microsoft.KeyVault/managedHsms/*"], &[]),
    ("Key Vault Data Access Administrator", DATA_ACCESS_ADMINISTRATOR,
        "Manage access to Azure Key Vault by adding or removing role assignments for the Key Vault data roles.",
        &["Microsoft.Authorization/roleAssignments/write", "Microsoft.Authorization/roleAssignments/delete",
          "Microsoft.Authorization/*/read", "Microsoft.Resources/deployments/*",
          "Microsoft.Resources/subscriptions/resourceGroups/read", "Microsoft.Resources/subscriptions/read",
          "Microsoft.Management/managementGroups/read", "Microsoft.Support/*", "Microsoft.KeyVault/vaults/*/read"],
        &[], &[]),
    ("Azure Kubernetes Service Cluster User Role", "4abbcc35-e782-43d8-92c5-2d3f1bd2253f",
        "List cluster user credential action.",
        &["Microsoft.ContainerService/managedClusters/listClusterUserCredential/action",
          "Microsoft.ContainerService/managedClusters/read"], &[], &[]),
    ("Azure Kubernetes Service Cluster Admin Role", "0ab0b1a8-8aac-4efd-b8c2-3ee1fb270be8",
        "List cluster admin credential action.",
        &["Microsoft.ContainerService/managedClusters/listClusterAdminCredential/action",
          "Microsoft.ContainerService/managedClusters/accessProfiles/listCredential/action",
          "Microsoft.ContainerService/managedClusters/read",
          "Microsoft.ContainerService/managedClusters/runcommand/action"], &[], &[]),
    ("Azure Kubernetes Service Contributor Role", "ed7f3fbd-7b88-4dd4-9017-9adb7ce333f8",
        "Grants access to read and write Azure Kubernetes Service clusters",
        &["Microsoft.ContainerService/locations/*", "Microsoft.ContainerService/managedClusters/*",
          "Microsoft.Authorization/*/read", "Microsoft.ContainerService/managedclustersnapshots/*", "Microsoft.ContainerService/snapshots/*",
          "Microsoft.Insights/alertRules/*", "Microsoft.Resources/deployments/*",
          "Microsoft.Resources/subscriptions/resourceGroups/read"], &[], &[]),
    ("Azure Kubernetes Service RBAC Cluster Admin", "b1ff04bb-8a4e-4dc4-8eb5-8693973ce19b",
        "Lets you manage all resources in the cluster.",
        CLUSTER_SURROUNDINGS, &[], &["Microsoft.ContainerService/managedClusters/*"]),
    ("Azure Kubernetes Service RBAC Reader", "7f6c6a51-bcf8-42ba-9220-52d62157d7db",
        "Allows read-only access to see most objects in a namespace.",
        CLUSTER_SURROUNDINGS, &[],
        &["Microsoft.ContainerService/managedClusters/apps/*/read",
          "Microsoft.ContainerService/managedClusters/configmaps/read",
          "Microsoft.ContainerService/managedClusters/events/read",
          "Microsoft.ContainerService/managedClusters/namespaces/read",
          "Microsoft.ContainerService/managedClusters/networking.k8s.io/ingresses/read",
          "Microsoft.ContainerService/managedClusters/pods/read",
          "Microsoft.ContainerService/managedClusters/services/read"]),
    ("Azure Kubernetes Service RBAC Writer", "a7ffa36f-339b-4b5c-8bdf-e2c188b2c0eb",
        "Allows read/write access to most objects in a namespace.",
        CLUSTER_SURROUNDINGS, &[],
        &["Microsoft.ContainerService/managedClusters/apps/*",
          "Microsoft.ContainerService/managedClusters/configmaps/*",
          "Microsoft.ContainerService/managedClusters/events/read",
          "Microsoft.ContainerService/managedClusters/namespaces/read",
          "Microsoft.ContainerService/managedClusters/networking.k8s.io/ingresses/*",
          "Microsoft.ContainerService/managedClusters/pods/*",
          "Microsoft.ContainerService/managedClusters/secrets/*",
          "Microsoft.ContainerService/managedClusters/serviceaccounts/*",
          "Microsoft.ContainerService/managedClusters/services/*"]),
    ("Managed Identity Operator", "f1a07417-d97a-45cb-824c-7a7467783830",
        "Read and Assign User Assigned Identity",
        &["Microsoft.ManagedIdentity/userAssignedIdentities/*/read",
          "Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action", "Microsoft.Authorization/*/read",
          "Microsoft.Resources/subscriptions/resourceGroups/read"], &[], &[]),
    ("Managed Identity Contributor", "e40ec5ca-96e0-45a2-b4ff-59039f2c2b59",
        "Create, Read, Update, and Delete User Assigned Identity",
        &["Microsoft.ManagedIdentity/userAssignedIdentities/read",
          "Microsoft.ManagedIdentity/userAssignedIdentities/write",
          "Microsoft.ManagedIdentity/userAssignedIdentities/delete", "Microsoft.Authorization/*/read",
          "Microsoft.Resources/subscriptions/resourceGroups/read"], &[], &[]),
    ("Network Contributor", "4d97b98b-1d4f-4787-a291-c67834d212e7",
        "Lets you manage networks, but not access to them.",
        &["Microsoft.Authorization/*/read", "Microsoft.Network/*",
          "Microsoft.Resources/subscriptions/resourceGroups/read"], &[], &[]),
    ("Log Analytics Contributor", "92aaf0da-9dab-42b6-94a3-d43ce8d16293",
        "Log Analytics Contributor can read all monitoring data and edit monitoring settings.",
        &["*/read", "Microsoft.Insights/diagnosticSettings/*", "Microsoft.OperationalInsights/*",
          "Microsoft.OperationsManagement/*", "Microsoft.Resources/deployments/*"], &[], &[]),
];

/// The built-in role definitions.
pub(super) fn built_in() -> Vec<Role> {
    let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    BUILT_IN
        .iter()
        .map(|(name, id, description, actions, not_actions, data_actions)| {
            let data_access = *id == DATA_ACCESS_ADMINISTRATOR;
            Role {
                id: (*id).to_owned(),
                name: (*name).to_owned(),
                description: (*description).to_owned(),
                custom: false,
                scopes: vec!["/".to_owned()],
                actions: own(actions),
                not_actions: own(not_actions),
                data_actions: own(data_actions),
                not_data_actions: Vec::new(),
                assignable: data_access.then(|| own(DATA_ACCESS)),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_actions() {
        let read = "Microsoft.KeyVault/vaults/read";
        for (pattern, action, expected) in [
            ("*", read, true),
            ("*/read", read, true),
            ("microsoft.keyvault/vaults/READ", read, true),
            ("Microsoft.KeyVault/*", read, true),
            (
                "Microsoft.Authorization/*/read",
                "Microsoft.Authorization/roleAssignments/read",
                true,
            ),
            (
                "Microsoft.Authorization/*/read",
                "Microsoft.Authorization/roleAssignments/write",
                false,
            ),
            ("*/read", "Microsoft.KeyVault/vaults/reader", false),
            ("Microsoft.KeyVault/vaults", read, false),
        ] {
            assert_eq!(matches(pattern, action), expected, "{pattern} on {action}");
        }
    }

    #[test]
    fn built_in_roles_have_unique_ids() {
        let roles = built_in();
        let ids: std::collections::BTreeSet<_> = roles.iter().map(|role| &role.id).collect();
        assert_eq!(ids.len(), roles.len());
    }

    #[test]
    fn the_smallest_roles_allow_what_the_reference_says() {
        let roles = built_in();
        let role = |name: &str| roles.iter().find(|role| role.name == name).unwrap();
        let secret = "Microsoft.KeyVault/vaults/secrets/getSecret/action";
        assert!(role("Key Vault Secrets User").allows(secret, true));
        assert!(!role("Key Vault Reader").allows(secret, true));
        assert!(role("Key Vault Reader").allows("Microsoft.KeyVault/vaults/certificates/read", true));
        assert!(!role("Owner").allows(secret, true));
        assert!(!role("Contributor").allows("Microsoft.Authorization/roleAssignments/write", false));
    }
}
