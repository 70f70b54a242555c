//! Which calls this ARM knows, whose they are, and which right each needs.

use http::Method;

use super::path::ArmPath;
use super::versions::Family;

/// Who answers a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Clusters,
    Pools,
    Power,
    /// True for the administrator's.
    Credentials(bool),
    /// `operations` or `operationresults`.
    Operations(&'static str),
    Vaults,
    AccessPolicies,
    DeletedVaults,
    Purges,
    VaultNames,
    Assignments,
    Definitions,
    /// Subscriptions, resource groups, resource providers.
    Surroundings,
    Permissions,
    /// Deny assignments.
    Denials,
    Identities,
    /// Federated credentials of an identity.
    IdentityCredentials,
    /// Known to exist on Azure, never there in this world.
    Absent,
}

/// A call that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) target: Target,
    pub(super) family: Family,
    /// The right it needs; none for addresses that are signed, or open to all.
    pub(super) action: Option<String>,
    /// Where.
    pub(super) scope: String,
}

/// Finds the route of a call.
pub(super) fn route(path: &ArmPath, method: &Method) -> Option<Route> {
    if path.namespace.is_empty() || path.rest.is_empty() {
        return surroundings(path, method);
    }
    let kind = path.kind();
    let aks = "Microsoft.ContainerService/managedClusters";
    let vaults = "Microsoft.KeyVault/vaults";
    let identities = "Microsoft.ManagedIdentity/userAssignedIdentities";
    let (target, family, stem) = match kind.as_str() {
        "microsoft.containerservice/managedclusters" => (Target::Clusters, Family::Clusters, aks.to_owned()),
        "microsoft.containerservice/managedclusters/agentpools" => {
            (Target::Pools, Family::Clusters, format!("{aks}/agentPools"))
        }
        "microsoft.containerservice/managedclusters/maintenanceconfigurations" if *method == Method::GET => (
            Target::Absent,
            Family::Clusters,
            format!("{aks}/maintenanceConfigurations"),
        ),
        "microsoft.keyvault/vaults" => (Target::Vaults, Family::Vaults, vaults.to_owned()),
        "microsoft.keyvault/vaults/accesspolicies" => (
            Target::AccessPolicies,
            Family::Vaults,
            format!("{vaults}/accessPolicies"),
        ),
        "microsoft.keyvault/deletedvaults" => (
            Target::DeletedVaults,
            Family::Vaults,
            "Microsoft.KeyVault/deletedVaults".to_owned(),
        ),
        "microsoft.keyvault/locations/deletedvaults" if *method == Method::GET => (
            Target::DeletedVaults,
            Family::Vaults,
            "Microsoft.KeyVault/locations/deletedVaults".to_owned(),
        ),
        "microsoft.keyvault/locations/operationresults" => (
            Target::Purges,
            Family::Vaults,
            "Microsoft.KeyVault/locations/operationResults".to_owned(),
        ),
        "microsoft.authorization/roleassignments" => (
            Target::Assignments,
            Family::Authorization,
            "Microsoft.Authorization/roleAssignments".to_owned(),
        ),
        "microsoft.authorization/roledefinitions" if *method != Method::PATCH => (
            Target::Definitions,
            Family::Authorization,
            "Microsoft.Authorization/roleDefinitions".to_owned(),
        ),
        "microsoft.authorization/permissions" if *method == Method::GET && !path.is_named() => (
            Target::Permissions,
            Family::Authorization,
            "Microsoft.Authorization/permissions".to_owned(),
        ),
        "microsoft.authorization/denyassignments" if *method == Method::GET => (
            Target::Denials,
            Family::Authorization,
            "Microsoft.Authorization/denyAssignments".to_owned(),
        ),
        "microsoft.managedidentity/userassignedidentities" => {
            (Target::Identities, Family::Identities, identities.to_owned())
        }
        "microsoft.managedidentity/userassignedidentities/federatedidentitycredentials"
            if *method != Method::PATCH =>
        {
            (
                Target::IdentityCredentials,
                Family::Identities,
                format!("{identities}/federatedIdentityCredentials"),
            )
        }
        _ => return action(path, method, &kind),
    };
    let verb = match *method {
        Method::GET => "read",
        Method::PUT | Method::PATCH if path.is_named() => "write",
        Method::DELETE if path.is_named() => "delete",
        _ => return None,
    };
    let scope = if path.is_named() {
        path.id()
    } else {
        list_scope(path)
    };
    Some(Route {
        target,
        family,
        action: Some(format!("{stem}/{verb}")),
        scope,
    })
}

/// Calls whose last segment is a verb, and addresses of operations.
fn action(path: &ArmPath, method: &Method, kind: &str) -> Option<Route> {
    let aks = "Microsoft.ContainerService/managedClusters";
    let post = *method == Method::POST;
    let open = |target| {
        let family = Family::Clusters;
        Some(Route {
            target,
            family,
            action: None,
            scope: path.scope.clone(),
        })
    };
    let (target, family, action) = match kind {
        "microsoft.containerservice/locations/operations" if *method == Method::GET => {
            return open(Target::Operations("operations"));
        }
        "microsoft.containerservice/locations/operationresults" if *method == Method::GET => {
            return open(Target::Operations("operationresults"));
        }
        "microsoft.containerservice/managedclusters/listclusterusercredential" if post => (
            Target::Credentials(false),
            Family::Clusters,
            format!("{aks}/listClusterUserCredential/action"),
        ),
        "microsoft.containerservice/managedclusters/listclusteradmincredential" if post => (
            Target::Credentials(true),
            Family::Clusters,
            format!("{aks}/listClusterAdminCredential/action"),
        ),
        "microsoft.containerservice/managedclusters/start" if post => {
            (Target::Power, Family::Clusters, format!("{aks}/start/action"))
        }
        "microsoft.containerservice/managedclusters/stop" if post => {
            (Target::Power, Family::Clusters, format!("{aks}/stop/action"))
        }
        "microsoft.keyvault/locations/deletedvaults/purge" if post => (
            Target::DeletedVaults,
            Family::Vaults,
            "Microsoft.KeyVault/locations/deletedVaults/purge/action".to_owned(),
        ),
        "microsoft.keyvault/checknameavailability" if post => (
            Target::VaultNames,
            Family::Vaults,
            "Microsoft.KeyVault/checkNameAvailability/read".to_owned(),
        ),
        _ => return None,
    };
    let id = path.id();
    let scope = id.rsplit_once('/').map_or(id.as_str(), |(parent, _)| parent);
    // A verb below a location is judged at the subscription.
    let scope = if target == Target::VaultNames {
        path.scope.as_str()
    } else {
        scope
    };
    Some(Route {
        target,
        family,
        action: Some(action),
        scope: scope.to_owned(),
    })
}

/// Subscriptions, resource groups, resource providers, resources.
fn surroundings(path: &ArmPath, method: &Method) -> Option<Route> {
    let segments = path.scope.split('/').filter(|segment| !segment.is_empty());
    let segments: Vec<_> = segments.map(str::to_ascii_lowercase).collect();
    let providers = !path.namespace.is_empty() || path.scope.is_empty();
    let words: Vec<_> = segments.iter().map(String::as_str).collect();
    let stem = "Microsoft.Resources/subscriptions";
    let action = match (words.as_slice(), method) {
        // Lists hold what the caller may see; all may ask.
        (["subscriptions"] | ["tenants"] | ["subscriptions", _, "resourcegroups"], &Method::GET) => None,
        (["subscriptions", _], &Method::GET) if providers || path.namespace.is_empty() => {
            Some(format!("{stem}/read"))
        }
        (["subscriptions", _, "locations" | "resources"], &Method::GET) => None,
        (["subscriptions", _, "resourcegroups", _], &Method::GET | &Method::HEAD) => {
            Some(format!("{stem}/resourceGroups/read"))
        }
        (["subscriptions", _, "resourcegroups", _], &Method::PUT) => {
            Some(format!("{stem}/resourceGroups/write"))
        }
        _ => return None,
    };
    Some(Route {
        target: Target::Surroundings,
        family: Family::Resources,
        action,
        scope: path.scope.clone(),
    })
}

/// Lists are judged at the resource group or subscription they are asked for in.
fn list_scope(path: &ArmPath) -> String {
    let mut parent = path.clone();
    parent.rest.pop();
    if parent.rest.is_empty() {
        parent.scope
    } else {
        parent.id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_needs_its_right() {
        let group = "/subscriptions/s/resourceGroups/g";
        let cluster = format!("{group}/providers/Microsoft.ContainerService/managedClusters/c");
        let vault = format!("{group}/providers/Microsoft.KeyVault/vaults/v");
        for (method, path, action, scope) in [
            (
                "GET",
                cluster.clone(),
                "Microsoft.ContainerService/managedClusters/read",
                cluster.clone(),
            ),
            (
                "PUT",
                cluster.to_lowercase(),
                "Microsoft.ContainerService/managedClusters/write",
                cluster.to_lowercase(),
            ),
            (
                "POST",
                format!("{cluster}/listClusterUserCredential"),
                "Microsoft.ContainerService/managedClusters/listClusterUserCredential/action",
                cluster.clone(),
            ),
            (
                "PUT",
                format!("{vault}/accessPolicies/add"),
                "Microsoft.KeyVault/vaults/accessPolicies/write",
                format!("{vault}/accessPolicies/add"),
            ),
            (
                "GET",
                format!("{group}/providers/Microsoft.KeyVault/vaults"),
                "Microsoft.KeyVault/vaults/read",
                group.to_owned(),
            ),
            (
                "DELETE",
                format!("{vault}/providers/Microsoft.Authorization/roleAssignments/n"),
                "Microsoft.Authorization/roleAssignments/delete",
                format!("{vault}/providers/Microsoft.Authorization/roleAssignments/n"),
            ),
        ] {
            let parsed = ArmPath::parse(&path).unwrap();
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            // Another case must not change what a path means.
            let found = route(&parsed, &method).unwrap_or_else(|| panic!("{method} {path}"));
            assert_eq!(found.action.as_deref(), Some(action), "{method} {path}");
            assert_eq!(found.scope, scope, "{method} {path}");
        }
    }

    #[test]
    fn what_is_not_played_has_no_route() {
        let parsed =
            ArmPath::parse("/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/x").unwrap();
        assert_eq!(route(&parsed, &Method::GET), None);
    }
}
