//! What every cluster has from the beginning.

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::request::{Call, Query};
use super::server::{ApiServer, Identity};
use super::writes::Write;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Fills an empty cluster.
pub(super) fn fill(server: &ApiServer) {
    for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        create(server, "/api/v1/namespaces", &json!({"metadata": {"name": name}}));
    }
    let kubernetes = json!({
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "https", "port": 443, "targetPort": 443}]},
    });
    create(server, "/api/v1/namespaces/default/services", &kubernetes);
    for (name, rules, labels) in roles() {
        let mut metadata = json!({
            "name": name, "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        });
        for label in labels {
            metadata["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{label}")] =
                Value::from("true");
        }
        let mut role = json!({"metadata": metadata, "rules": rules});
        if matches!(name, "admin" | "edit" | "view") {
            let selector =
                json!({"matchLabels": {format!("rbac.authorization.k8s.io/aggregate-to-{name}"): "true"}});
            role["aggregationRule"] = json!({"clusterRoleSelectors": [selector]});
        }
        create(server, &format!("{RBAC}/clusterroles"), &role);
    }
    for (name, role, group) in [
        ("cluster-admin", "cluster-admin", "system:masters"),
        ("system:basic-user", "system:basic-user", "system:authenticated"),
        ("system:discovery", "system:discovery", "system:authenticated"),
        (
            "system:public-info-viewer",
            "system:public-info-viewer",
            "system:authenticated",
        ),
        (
            "system:service-account-issuer-discovery",
            "system:service-account-issuer-discovery",
            "system:serviceaccounts",
        ),
    ] {
        let binding = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": group}],
        });
        create(server, &format!("{RBAC}/clusterrolebindings"), &binding);
    }
}

type Role = (&'static str, Value, &'static [&'static str]);

fn roles() -> Vec<Role> {
    const READ: [&str; 3] = ["get", "list", "watch"];
    const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];
    let core = [
        "configmaps",
        "endpoints",
        "events",
        "pods",
        "pods/log",
        "pods/status",
        "serviceaccounts",
        "services",
        "services/status",
    ];
    let apps = [
        "daemonsets",
        "daemonsets/status",
        "deployments",
        "deployments/scale",
        "deployments/status",
        "replicasets",
        "replicasets/scale",
        "replicasets/status",
        "statefulsets",
    ];
    let written = [
        "configmaps",
        "pods",
        "pods/attach",
        "pods/exec",
        "pods/portforward",
        "pods/proxy",
        "secrets",
        "serviceaccounts",
        "services",
    ];
    let everything = json!([
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ]);
    let view = json!([
        {"apiGroups": [""], "resources": core, "verbs": READ},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": READ},
        {"apiGroups": ["apps"], "resources": apps, "verbs": READ},
        {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses", "ingresses/status", "networkpolicies"], "verbs": READ},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": READ},
    ]);
    let edit = json!([
        {"apiGroups": [""], "resources": ["secrets"], "verbs": READ},
        {"apiGroups": [""], "resources": written, "verbs": WRITE},
        {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]},
        {"apiGroups": ["apps"], "resources": ["daemonsets", "deployments", "deployments/scale", "replicasets", "replicasets/scale"], "verbs": WRITE},
        {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses", "networkpolicies"], "verbs": WRITE},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]},
    ]);
    let admin = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings", "roles"], "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]},
        {"apiGroups": ["authorization.k8s.io"], "resources": ["localsubjectaccessreviews"], "verbs": ["create"]},
    ]);
    let basic = json!([
        {"apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], "verbs": ["create"]},
        {"apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"]},
    ]);
    let health = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
    let discovery = [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
        "/version/",
    ];
    let keys = [
        "/.well-known/openid-configuration",
        "/.well-known/openid-configuration/",
        "/openid/v1/jwks",
        "/openid/v1/jwks/",
    ];
    vec![
        ("cluster-admin", everything, &[]),
        ("admin", json!([]), &[]),
        ("edit", json!([]), &["admin"]),
        ("view", json!([]), &["edit"]),
        ("system:aggregate-to-admin", admin, &["admin"]),
        ("system:aggregate-to-edit", edit, &["edit", "admin"]),
        ("system:aggregate-to-view", view, &["view", "edit", "admin"]),
        ("system:basic-user", basic, &[]),
        (
            "system:discovery",
            json!([{"nonResourceURLs": discovery, "verbs": ["get"]}]),
            &[],
        ),
        (
            "system:public-info-viewer",
            json!([{"nonResourceURLs": health, "verbs": ["get"]}]),
            &[],
        ),
        (
            "system:service-account-issuer-discovery",
            json!([{"nonResourceURLs": keys, "verbs": ["get"]}]),
            &[],
        ),
    ]
}

fn create(server: &ApiServer, path: &str, object: &Value) {
    let user = Identity {
        name: "system:apiserver".to_owned(),
        uid: String::new(),
        groups: vec!["system:masters".to_owned()],
    };
    let query = Query::parse("fieldManager=kube-apiserver");
    let body = Bytes::from(object.to_string());
    let call = Call::new(
        &Method::POST,
        path,
        query,
        &HeaderMap::new(),
        body,
        user,
        server.now(),
    );
    let target = &call.target;
    let kind = server.with_store(|store| store.kinds.find(&target.group, &target.resource));
    let Some(kind) = kind else { return };
    let Some(version) = kind.version(&target.version) else {
        return;
    };
    let created = server.change(|store| Write::new(store, &call, &kind, version).create());
    if let Err(refusal) = created {
        tracing::error!(path, refusal = %refusal.status(), "the cluster's own object was refused");
    }
}
