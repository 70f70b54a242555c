//! Kinds and names of the objects we touch. Pure.

use std::fmt::{self, Display};

/// A kind as the API server serves it. Only the kinds below exist, so a request needs no discovery first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The version we speak.
    pub version: &'static str,
    /// The kind's name.
    pub kind: &'static str,
    /// Its name in paths.
    pub plural: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// One object: kind, namespace and name. Reads as "Ingress shop/shop".
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// The kind.
    pub kind: Kind,
    /// The namespace, for kinds that have one.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $constant:ident = $group:literal $version:literal $kind:literal $plural:literal $namespaced:literal;)*) => {
        $(
            $(#[$doc])*
            pub const $constant: Kind = Kind {
                group: $group,
                version: $version,
                kind: $kind,
                plural: $plural,
                namespaced: $namespaced,
            };
        )*
    };
}

kinds! {
    /// What to fetch from the vault, and which Secrets to make of it.
    SECRET_PROVIDER_CLASS = "secrets-store.csi.x-k8s.io" "v1" "SecretProviderClass" "secretproviderclasses" true;
    /// Which pod mounts which SecretProviderClass, and which versions it got.
    SPC_POD_STATUS = "secrets-store.csi.x-k8s.io" "v1" "SecretProviderClassPodStatus" "secretproviderclasspodstatuses" true;
    /// The pods that keep the mount alive.
    DEPLOYMENT = "apps" "v1" "Deployment" "deployments" true;
    /// Who decides how many pods there are; version 1 shows those of all versions.
    AUTOSCALER = "autoscaling" "v1" "HorizontalPodAutoscaler" "horizontalpodautoscalers" true;
    /// A Deployment's generation of pods.
    REPLICA_SET = "apps" "v1" "ReplicaSet" "replicasets" true;
    /// Where driver and provider of the add-on run.
    DAEMON_SET = "apps" "v1" "DaemonSet" "daemonsets" true;
    /// Hosts, paths and the Secrets that serve them.
    INGRESS = "networking.k8s.io" "v1" "Ingress" "ingresses" true;
    /// Which controller serves an Ingress.
    INGRESS_CLASS = "networking.k8s.io" "v1" "IngressClass" "ingressclasses" false;
    /// Which controller serves a Gateway.
    GATEWAY_CLASS = "gateway.networking.k8s.io" "v1" "GatewayClass" "gatewayclasses" false;
    /// Listeners and the Secrets that serve them.
    GATEWAY = "gateway.networking.k8s.io" "v1" "Gateway" "gateways" true;
    /// Listeners that join somebody else's Gateway; served from Gateway API 1.5 on.
    LISTENER_SET = "gateway.networking.k8s.io" "v1" "ListenerSet" "listenersets" true;
    /// Hosts, paths and where their requests go.
    HTTP_ROUTE = "gateway.networking.k8s.io" "v1" "HTTPRoute" "httproutes" true;
    /// What other namespaces may refer to; in the version that every release serves.
    REFERENCE_GRANT = "gateway.networking.k8s.io" "v1beta1" "ReferenceGrant" "referencegrants" true;
    /// Certificate and key, as the edge reads them.
    SECRET = "" "v1" "Secret" "secrets" true;
    /// A namespace.
    NAMESPACE = "" "v1" "Namespace" "namespaces" false;
    /// A pod.
    POD = "" "v1" "Pod" "pods" true;
    /// What Kubernetes has to say about an object.
    EVENT = "" "v1" "Event" "events" true;
    /// What an Ingress sends requests to.
    SERVICE = "" "v1" "Service" "services" true;
    /// Whom a pod runs as.
    SERVICE_ACCOUNT = "" "v1" "ServiceAccount" "serviceaccounts" true;
    /// Whether the driver is installed.
    CSI_DRIVER = "storage.k8s.io" "v1" "CSIDriver" "csidrivers" false;
    /// Whether a kind is served.
    CRD = "apiextensions.k8s.io" "v1" "CustomResourceDefinition" "customresourcedefinitions" false;
}

impl Kind {
    /// `group/version`, or `version` alone in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `plural.group`, as access reviews and error messages name a resource.
    pub fn resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// The object of this kind with that name in that namespace.
    pub fn named(self, namespace: &str, name: &str) -> ObjectRef {
        let namespace = self.namespaced.then(|| namespace.to_owned());
        ObjectRef {
            kind: self,
            namespace,
            name: name.to_owned(),
        }
    }

    /// The path of all objects of this kind, in one namespace or in all.
    pub(super) fn collection_path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!(
                "{root}/{}/namespaces/{namespace}/{}",
                self.api_version(),
                self.plural
            ),
            None => format!("{root}/{}/{}", self.api_version(), self.plural),
        }
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)
    }
}

impl ObjectRef {
    /// The object's path.
    pub(super) fn path(&self) -> String {
        format!(
            "{}/{}",
            self.kind.collection_path(self.namespace.as_deref()),
            self.name
        )
    }
}

impl Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_reads_well_and_knows_its_path() {
        let rows = [
            (
                INGRESS.named("shop", "web"),
                "Ingress shop/web",
                "/apis/networking.k8s.io/v1/namespaces/shop/ingresses/web",
            ),
            (
                SECRET.named("shop", "tls"),
                "Secret shop/tls",
                "/api/v1/namespaces/shop/secrets/tls",
            ),
            (
                NAMESPACE.named("", "shop"),
                "Namespace shop",
                "/api/v1/namespaces/shop",
            ),
        ];
        for (object, text, path) in rows {
            assert_eq!(
                (object.to_string().as_str(), object.path().as_str()),
                (text, path)
            );
        }
        assert_eq!(
            SECRET_PROVIDER_CLASS.resource(),
            "secretproviderclasses.secrets-store.csi.x-k8s.io"
        );
        assert_eq!(POD.collection_path(None), "/api/v1/pods");
    }
}
