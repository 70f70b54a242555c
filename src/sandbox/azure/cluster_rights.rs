//! Azure roles inside a cluster that asks for them: requests to its API as data actions.

use super::super::kubernetes::{Deed, Identity};
use super::access::Question;
use super::{Azure, path};

/// The API groups whose resources have data actions of their own. All others share those of custom resources.
const BUILT_IN: &[&str] = &[
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "metrics.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

impl Azure {
    /// Whether Azure roles let somebody do this in a cluster: at the cluster, or at the namespace it is about.
    pub(crate) fn allows_in_cluster(&self, cluster: &str, who: &Identity, deed: &Deed) -> bool {
        let state = self.lock();
        let found = state
            .clusters
            .values()
            .find(|each| path::same(&each.name, cluster));
        let Some(id) = found.map(super::ManagedCluster::id) else {
            return false;
        };
        let scope = match deed.namespace.as_str() {
            "" => id,
            namespace => format!("{id}/namespaces/{namespace}"),
        };
        let principals: Vec<_> = std::iter::once(&who.name).chain(&who.groups).cloned().collect();
        let question = Question {
            principals: &principals,
            action: &data_action(deed),
            scope: &scope,
            data: true,
            // The cluster hears of assignments later than the rest of Azure.
            now: self.core.clock.now() - self.core.lags.get("kubernetes_authz_effect"),
        };
        state.access.allows(question)
    }
}

/// The data action of a deed. Subresources count as what they belong to.
fn data_action(deed: &Deed) -> String {
    let verb = match deed.verb.as_str() {
        "get" | "list" | "watch" => "read",
        "create" | "update" | "patch" => "write",
        "delete" | "deletecollection" => "delete",
        other => other,
    };
    let what = match (&deed.path, deed.group.as_str()) {
        (Some(path), _) => path.trim_matches('/').to_owned(),
        (None, "") => deed.resource.clone(),
        (None, group) if BUILT_IN.contains(&group) => format!("{group}/{}", deed.resource),
        (None, _) => "customresources".to_owned(),
    };
    format!("Microsoft.ContainerService/managedClusters/{what}/{verb}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deeds_are_data_actions_of_the_cluster() {
        let deed = |verb: &str, group: &str, resource: &str| {
            let (verb, group, resource) = (verb.to_owned(), group.to_owned(), resource.to_owned());
            data_action(&Deed {
                verb,
                group,
                resource,
                ..Deed::default()
            })
        };
        for (deed, action) in [
            (deed("list", "", "pods"), "pods/read"),
            (deed("patch", "apps", "deployments"), "apps/deployments/write"),
            (
                deed("deletecollection", "networking.k8s.io", "ingresses"),
                "networking.k8s.io/ingresses/delete",
            ),
            (
                deed("patch", "secrets-store.csi.x-k8s.io", "secretproviderclasses"),
                "customresources/write",
            ),
            (
                deed("get", "gateway.networking.k8s.io", "gateways"),
                "customresources/read",
            ),
        ] {
            assert_eq!(
                deed,
                format!("Microsoft.ContainerService/managedClusters/{action}")
            );
        }
    }
}
