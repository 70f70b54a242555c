//! The kinds of objects the actors watch, and where the API keeps them.

/// A kind the actors keep a cache of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Namespace,
    Node,
    Pod,
    Service,
    Secret,
    ConfigMap,
    ServiceAccount,
    Deployment,
    ReplicaSet,
    DaemonSet,
    Ingress,
    IngressClass,
    CsiDriver,
    CsiNode,
    EndpointSlice,
    CustomResourceDefinition,
    SecretProviderClass,
    PodStatus,
    GatewayClass,
    Gateway,
    HttpRoute,
    ReferenceGrant,
    ListenerSet,
}

/// Where a kind lives.
pub(super) struct Place {
    /// `v1`, `apps/v1`, …
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) plural: &'static str,
    pub(super) namespaced: bool,
}

const fn place(
    api_version: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
) -> Place {
    Place {
        api_version,
        kind,
        plural,
        namespaced,
    }
}

/// In the order of [`Kind`].
const PLACES: [Place; 23] = [
    place("v1", "Namespace", "namespaces", false),
    place("v1", "Node", "nodes", false),
    place("v1", "Pod", "pods", true),
    place("v1", "Service", "services", true),
    place("v1", "Secret", "secrets", true),
    place("v1", "ConfigMap", "configmaps", true),
    place("v1", "ServiceAccount", "serviceaccounts", true),
    place("apps/v1", "Deployment", "deployments", true),
    place("apps/v1", "ReplicaSet", "replicasets", true),
    place("apps/v1", "DaemonSet", "daemonsets", true),
    place("networking.k8s.io/v1", "Ingress", "ingresses", true),
    place("networking.k8s.io/v1", "IngressClass", "ingressclasses", false),
    place("storage.k8s.io/v1", "CSIDriver", "csidrivers", false),
    place("storage.k8s.io/v1", "CSINode", "csinodes", false),
    place("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", true),
    place(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        false,
    ),
    place(
        "secrets-store.csi.x-k8s.io/v1",
        "SecretProviderClass",
        "secretproviderclasses",
        true,
    ),
    place(
        "secrets-store.csi.x-k8s.io/v1",
        "SecretProviderClassPodStatus",
        "secretproviderclasspodstatuses",
        true,
    ),
    place(
        "gateway.networking.k8s.io/v1",
        "GatewayClass",
        "gatewayclasses",
        false,
    ),
    place("gateway.networking.k8s.io/v1", "Gateway", "gateways", true),
    place("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes", true),
    // The version that every bundle serves.
    place(
        "gateway.networking.k8s.io/v1beta1",
        "ReferenceGrant",
        "referencegrants",
        true,
    ),
    place(
        "gateway.networking.k8s.io/v1",
        "ListenerSet",
        "listenersets",
        true,
    ),
];

impl Kind {
    pub(super) const ALL: [Self; 23] = [
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::Service,
        Self::Secret,
        Self::ConfigMap,
        Self::ServiceAccount,
        Self::Deployment,
        Self::ReplicaSet,
        Self::DaemonSet,
        Self::Ingress,
        Self::IngressClass,
        Self::CsiDriver,
        Self::CsiNode,
        Self::EndpointSlice,
        Self::CustomResourceDefinition,
        Self::SecretProviderClass,
        Self::PodStatus,
        Self::GatewayClass,
        Self::Gateway,
        Self::HttpRoute,
        Self::ReferenceGrant,
        Self::ListenerSet,
    ];

    pub(super) fn place(self) -> &'static Place {
        &PLACES[self as usize]
    }

    /// The kind an owner reference names, whatever the version.
    pub(super) fn named(api_version: &str, kind: &str) -> Option<Self> {
        let group = |version: &str| version.rsplit_once('/').map(|(group, _)| group.to_owned());
        Self::ALL.into_iter().find(|known| {
            let place = known.place();
            place.kind == kind && group(place.api_version) == group(api_version)
        })
    }

    /// Whether the kind exists only once its definition does.
    pub(super) fn is_custom(self) -> bool {
        matches!(
            self,
            Self::SecretProviderClass
                | Self::PodStatus
                | Self::GatewayClass
                | Self::Gateway
                | Self::HttpRoute
                | Self::ReferenceGrant
                | Self::ListenerSet
        )
    }

    /// The path of all its objects, of one namespace's, or of one object.
    pub(super) fn path(self, namespace: &str, name: &str) -> String {
        let place = self.place();
        let mut path = if place.api_version.contains('/') {
            format!("/apis/{}", place.api_version)
        } else {
            format!("/api/{}", place.api_version)
        };
        if place.namespaced && !namespace.is_empty() {
            path = format!("{path}/namespaces/{namespace}");
        }
        path = format!("{path}/{}", place.plural);
        if !name.is_empty() {
            path = format!("{path}/{name}");
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_kinds() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
        assert_eq!(Kind::Pod.place().kind, "Pod");
        assert_eq!(
            Kind::PodStatus.path("a", "b"),
            "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/a/secretproviderclasspodstatuses/b"
        );
        assert_eq!(Kind::Node.path("", "n"), "/api/v1/nodes/n");
        assert_eq!(Kind::named("apps/v1beta2", "ReplicaSet"), Some(Kind::ReplicaSet));
    }
}
