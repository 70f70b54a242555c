//! Which kinds are served, and under which names.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::schema::Type;

/// A kind: its names, versions and habits.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) group: String,
    pub(super) plural: String,
    pub(super) singular: String,
    pub(super) kind: String,
    pub(super) list_kind: String,
    pub(super) namespaced: bool,
    pub(super) short_names: Vec<String>,
    pub(super) categories: Vec<String>,
    /// Served versions, the preferred one first.
    pub(super) versions: Vec<Version>,
    /// The version objects are kept in.
    pub(super) storage: String,
    /// Defined by a custom resource definition.
    pub(super) custom: bool,
    /// Whether `metadata.generation` counts changes of the specification.
    pub(super) generations: bool,
    /// Further subresources of built-in kinds.
    pub(super) others: &'static [&'static str],
}

/// A served version of a kind.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) name: String,
    pub(super) of: Arc<Type>,
    pub(super) status: bool,
    pub(super) scale: Option<Scale>,
    /// The words of the `Warning` header.
    pub(super) deprecated: Option<String>,
}

/// Where a kind keeps what `scale` shows, as paths of member names.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    pub(super) replicas: Vec<String>,
    pub(super) status_replicas: Vec<String>,
    pub(super) selector: Option<Vec<String>>,
}

impl Kind {
    /// One that is known by its names only.
    pub(super) fn named(group: &str, plural: &str, kind: &str) -> Self {
        Self {
            group: group.to_owned(),
            plural: plural.to_owned(),
            singular: kind.to_lowercase(),
            kind: kind.to_owned(),
            list_kind: format!("{kind}List"),
            namespaced: false,
            short_names: Vec::new(),
            categories: Vec::new(),
            versions: Vec::new(),
            storage: String::new(),
            custom: false,
            generations: false,
            others: &[],
        }
    }

    /// `deployments.apps`, or `pods`.
    pub(super) fn resource(&self) -> String {
        dotted(&self.plural, &self.group)
    }

    /// `Deployment.apps`, or `Pod`.
    pub(super) fn dotted_kind(&self) -> String {
        dotted(&self.kind, &self.group)
    }

    /// The name of the original's own type, which some messages show; `suffix` is `List` or nothing.
    pub(super) fn go_type(&self, suffix: &str) -> String {
        if self.custom {
            return format!("*unstructured.Unstructured{suffix}");
        }
        let package = match self.group.split('.').next().unwrap_or_default() {
            "" => "core",
            first => first,
        };
        format!("*{package}.{}{suffix}", self.kind)
    }

    /// The version of this name, if served.
    pub(super) fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// `apps/v1`, or `v1`.
    pub(super) fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() {
            version.to_owned()
        } else {
            format!("{}/{version}", self.group)
        }
    }

    /// The verbs of discovery.
    pub(super) fn verbs(&self) -> Vec<&'static str> {
        const BUILT_IN: &[&str] = &[
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "update",
            "watch",
        ];
        const CUSTOM: &[&str] = &[
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "create",
            "update",
            "watch",
        ];
        let verbs = if self.custom { CUSTOM } else { BUILT_IN };
        verbs
            .iter()
            .copied()
            .filter(|verb| !(self.plural == "namespaces" && *verb == "deletecollection"))
            .collect()
    }

    /// Whether this is the built-in kind of that plural.
    pub(super) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }
}

fn dotted(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

/// All kinds, by group and plural.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds(BTreeMap<(String, String), Arc<Kind>>);

impl Kinds {
    /// The built-in kinds.
    pub(super) fn built_in() -> Self {
        let mut kinds = Self::default();
        for row in TABLE {
            kinds.insert(Arc::new(row.kind()));
        }
        kinds
    }

    /// Adds or replaces a kind.
    pub(super) fn insert(&mut self, kind: Arc<Kind>) {
        self.0.insert((kind.group.clone(), kind.plural.clone()), kind);
    }

    /// Takes a kind away.
    pub(super) fn remove(&mut self, group: &str, plural: &str) {
        self.0.remove(&(group.to_owned(), plural.to_owned()));
    }

    /// The kind of that group and plural.
    pub(super) fn find(&self, group: &str, plural: &str) -> Option<Arc<Kind>> {
        self.0.get(&(group.to_owned(), plural.to_owned())).cloned()
    }

    /// Whether a group has kinds that no definition brought.
    pub(super) fn has_built_in(&self, group: &str) -> bool {
        self.iter().any(|kind| kind.group == group && !kind.custom)
    }

    /// Every kind, by group.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.0.values()
    }

    /// Every kind of a group version.
    pub(super) fn of<'a>(&'a self, group: &'a str, version: &'a str) -> impl Iterator<Item = &'a Arc<Kind>> {
        self.iter()
            .filter(move |kind| kind.group == group && kind.version(version).is_some())
    }

    /// The named groups with their versions, in the order of discovery.
    pub(super) fn groups(&self) -> Vec<(String, Vec<String>)> {
        let mut groups: Vec<(String, Vec<String>)> = ORDER
            .iter()
            .map(|name| ((*name).to_owned(), Vec::new()))
            .collect();
        for kind in self.iter().filter(|kind| !kind.group.is_empty()) {
            let at = groups.iter().position(|(name, _)| *name == kind.group);
            let at = at.unwrap_or_else(|| {
                groups.push((kind.group.clone(), Vec::new()));
                groups.len() - 1
            });
            if let Some((_, versions)) = groups.get_mut(at) {
                for version in &kind.versions {
                    if !versions.contains(&version.name) {
                        versions.push(version.name.clone());
                    }
                }
            }
        }
        groups
    }
}

/// The order in which the original names its groups; custom groups follow.
const ORDER: &[&str] = &[
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "apiextensions.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
];

/// Whether a group is one of the original's own, served or not by definitions.
pub(super) fn is_own(group: &str) -> bool {
    group.is_empty() || ORDER.contains(&group)
}

struct Row {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
    short: &'static [&'static str],
    /// In the category `all`.
    all: bool,
    status: bool,
    generations: bool,
    scale: bool,
    others: &'static [&'static str],
}

impl Row {
    fn kind(&self) -> Kind {
        let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        let scale = self.scale.then(|| Scale {
            replicas: path("spec.replicas"),
            status_replicas: path("status.replicas"),
            selector: Some(path("spec.selector")),
        });
        let version = Version {
            name: self.version.to_owned(),
            of: Arc::new(Type::named(self.kind)),
            status: self.status,
            scale,
            deprecated: None,
        };
        Kind {
            group: self.group.to_owned(),
            plural: self.plural.to_owned(),
            singular: self.kind.to_lowercase(),
            kind: self.kind.to_owned(),
            list_kind: format!("{}List", self.kind),
            namespaced: self.namespaced,
            short_names: self.short.iter().map(|name| (*name).to_owned()).collect(),
            categories: if self.all {
                vec!["all".to_owned()]
            } else {
                Vec::new()
            },
            versions: vec![version],
            storage: self.version.to_owned(),
            custom: false,
            generations: self.generations,
            others: self.others,
        }
    }
}

const PLAIN: Row = Row {
    group: "",
    version: "v1",
    plural: "",
    kind: "",
    namespaced: true,
    short: &[],
    all: false,
    status: false,
    generations: false,
    scale: false,
    others: &[],
};

const RBAC: &str = "rbac.authorization.k8s.io";

const TABLE: &[Row] = &[
    Row {
        plural: "namespaces",
        kind: "Namespace",
        namespaced: false,
        short: &["ns"],
        status: true,
        others: &["finalize"],
        ..PLAIN
    },
    Row {
        plural: "nodes",
        kind: "Node",
        namespaced: false,
        short: &["no"],
        status: true,
        ..PLAIN
    },
    Row {
        plural: "pods",
        kind: "Pod",
        short: &["po"],
        all: true,
        status: true,
        generations: true,
        others: &[
            "log",
            "portforward",
            "exec",
            "attach",
            "eviction",
            "binding",
            "proxy",
        ],
        ..PLAIN
    },
    Row {
        plural: "services",
        kind: "Service",
        short: &["svc"],
        all: true,
        status: true,
        ..PLAIN
    },
    Row {
        plural: "secrets",
        kind: "Secret",
        ..PLAIN
    },
    Row {
        plural: "configmaps",
        kind: "ConfigMap",
        short: &["cm"],
        ..PLAIN
    },
    Row {
        plural: "serviceaccounts",
        kind: "ServiceAccount",
        short: &["sa"],
        others: &["token"],
        ..PLAIN
    },
    Row {
        plural: "events",
        kind: "Event",
        short: &["ev"],
        ..PLAIN
    },
    // Stored, and nobody acts on them.
    Row {
        plural: "resourcequotas",
        kind: "ResourceQuota",
        short: &["quota"],
        status: true,
        ..PLAIN
    },
    Row {
        plural: "limitranges",
        kind: "LimitRange",
        short: &["limits"],
        ..PLAIN
    },
    Row {
        group: "autoscaling",
        version: "v2",
        plural: "horizontalpodautoscalers",
        kind: "HorizontalPodAutoscaler",
        short: &["hpa"],
        all: true,
        status: true,
        ..PLAIN
    },
    Row {
        group: "policy",
        plural: "poddisruptionbudgets",
        kind: "PodDisruptionBudget",
        short: &["pdb"],
        status: true,
        generations: true,
        ..PLAIN
    },
    Row {
        group: "apps",
        plural: "deployments",
        kind: "Deployment",
        short: &["deploy"],
        all: true,
        status: true,
        generations: true,
        scale: true,
        ..PLAIN
    },
    Row {
        group: "apps",
        plural: "replicasets",
        kind: "ReplicaSet",
        short: &["rs"],
        all: true,
        status: true,
        generations: true,
        scale: true,
        ..PLAIN
    },
    Row {
        group: "apps",
        plural: "daemonsets",
        kind: "DaemonSet",
        short: &["ds"],
        all: true,
        status: true,
        generations: true,
        ..PLAIN
    },
    Row {
        group: "autoscaling",
        plural: "horizontalpodautoscalers",
        kind: "HorizontalPodAutoscaler",
        short: &["hpa"],
        all: true,
        status: true,
        ..PLAIN
    },
    Row {
        group: "networking.k8s.io",
        plural: "ingresses",
        kind: "Ingress",
        short: &["ing"],
        status: true,
        generations: true,
        ..PLAIN
    },
    Row {
        group: "networking.k8s.io",
        plural: "ingressclasses",
        kind: "IngressClass",
        namespaced: false,
        generations: true,
        ..PLAIN
    },
    Row {
        group: "storage.k8s.io",
        plural: "csidrivers",
        kind: "CSIDriver",
        namespaced: false,
        ..PLAIN
    },
    Row {
        group: "storage.k8s.io",
        plural: "csinodes",
        kind: "CSINode",
        namespaced: false,
        ..PLAIN
    },
    Row {
        group: "discovery.k8s.io",
        plural: "endpointslices",
        kind: "EndpointSlice",
        generations: true,
        ..PLAIN
    },
    Row {
        group: RBAC,
        plural: "roles",
        kind: "Role",
        ..PLAIN
    },
    Row {
        group: RBAC,
        plural: "rolebindings",
        kind: "RoleBinding",
        ..PLAIN
    },
    Row {
        group: RBAC,
        plural: "clusterroles",
        kind: "ClusterRole",
        namespaced: false,
        ..PLAIN
    },
    Row {
        group: RBAC,
        plural: "clusterrolebindings",
        kind: "ClusterRoleBinding",
        namespaced: false,
        ..PLAIN
    },
    Row {
        group: "coordination.k8s.io",
        plural: "leases",
        kind: "Lease",
        ..PLAIN
    },
    Row {
        group: "apiextensions.k8s.io",
        plural: "customresourcedefinitions",
        kind: "CustomResourceDefinition",
        namespaced: false,
        short: &["crd", "crds"],
        status: true,
        generations: true,
        ..PLAIN
    },
];
