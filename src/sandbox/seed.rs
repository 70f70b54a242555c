//! What stands in a cluster when it starts: the world's manifests, and the rights of the world's principals.

use http::Method;
use serde_json::{Value, json};

use super::actors::gateway_definitions;
use super::core::{Cluster, WorldError};
use super::entra::Directory;
use super::world::{list, members};

/// Kinds without a namespace.
const CLUSTER_WIDE: &[&str] = &[
    "Namespace",
    "Node",
    "IngressClass",
    "GatewayClass",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "CSIDriver",
    "CSINode",
    "StorageClass",
    "PriorityClass",
];

/// Applies the definitions of the cluster's Gateway API bundle, then the manifests of the world, each as its own field
/// manager.
pub(crate) async fn objects(cluster: &Cluster) -> Result<(), Vec<WorldError>> {
    let mut errors = Vec::new();
    if let Some(bundle) = cluster.settings.world.get("gateway_api").and_then(Value::as_str) {
        for definition in gateway_definitions(bundle) {
            if let Err(message) = apply(cluster, "aks-gateway-api", &definition).await {
                let pointer = format!("/clusters/{}/gateway_api", cluster.settings.name);
                errors.push(WorldError::new(pointer, message));
            }
        }
    }
    for (index, manifest) in list(&cluster.settings.world, "objects").enumerate() {
        let manager = manifest.get("as").and_then(Value::as_str).unwrap_or("kubectl");
        let object = manifest.get("object").unwrap_or(&Value::Null);
        if let Err(message) = apply(cluster, manager, object).await {
            let pointer = format!("/clusters/{}/objects/{index}/object", cluster.settings.name);
            errors.push(WorldError::new(pointer, message));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Binds roles of the cluster to principals of the world, as an administrator would have. Only Entra clusters know
/// principals.
pub(crate) async fn grants(
    cluster: &Cluster,
    world: &Value,
    directory: &Directory,
) -> Result<(), Vec<WorldError>> {
    if cluster.settings.entra_tenant.is_none() {
        return Ok(());
    }
    let mut errors = Vec::new();
    for (name, source) in members(world, "principals") {
        let Some(principal) = directory.principal_by_name(name) else {
            continue;
        };
        for (index, grant) in list(source, "kubernetes").enumerate() {
            let text = |member: &str| grant.get(member).and_then(Value::as_str);
            if text("cluster") != Some(cluster.settings.name.as_str()) {
                continue;
            }
            let role = text("cluster_role").unwrap_or("view");
            let is_group = principal.kind.arm() == "Group";
            let mut binding = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": format!("{name}-{role}")},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": if is_group { "Group" } else { "User" },
                    "name": principal.object_id,
                }],
            });
            if let Some(namespace) = text("namespace") {
                binding["kind"] = json!("RoleBinding");
                binding["metadata"]["namespace"] = json!(namespace);
            }
            if let Err(message) = apply(cluster, "kubectl", &binding).await {
                let pointer = format!("/principals/{name}/kubernetes/{index}");
                errors.push(WorldError::new(pointer, message));
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

async fn apply(cluster: &Cluster, manager: &str, object: &Value) -> Result<(), String> {
    let path = path(object).ok_or("needs apiVersion, kind and metadata.name")?;
    let path = format!("{path}?fieldManager={manager}&force=true");
    let answer = cluster
        .ask_with(Method::PATCH, &path, "application/apply-patch+yaml", Some(object))
        .await;
    match answer {
        (status, _) if status.is_success() => Ok(()),
        (status, body) => {
            let message = body.get("message").and_then(Value::as_str).unwrap_or_default();
            Err(format!("{status}: {message}"))
        }
    }
}

/// The API path of an object.
fn path(object: &Value) -> Option<String> {
    let version = object.get("apiVersion")?.as_str()?;
    let kind = object.get("kind")?.as_str()?;
    let name = object.pointer("/metadata/name")?.as_str()?;
    let root = if version.contains('/') { "apis" } else { "api" };
    let plural = plural(kind);
    if CLUSTER_WIDE.contains(&kind) {
        return Some(format!("/{root}/{version}/{plural}/{name}"));
    }
    let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
    let namespace = namespace.unwrap_or("default");
    Some(format!(
        "/{root}/{version}/namespaces/{namespace}/{plural}/{name}"
    ))
}

/// The resource of a kind, by the rule that all kinds of this world follow.
fn plural(kind: &str) -> String {
    let kind = kind.to_ascii_lowercase();
    let before_last = kind.chars().rev().nth(1);
    let vowel = before_last.is_some_and(|letter| "aeiou".contains(letter));
    match kind.strip_suffix('y') {
        Some(stem) if !vowel => format!("{stem}ies"),
        _ if kind.ends_with('s') => format!("{kind}es"),
        _ => format!("{kind}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_knows_its_path() {
        for (version, kind, expected) in [
            ("v1", "Namespace", "/api/v1/namespaces/x"),
            (
                "networking.k8s.io/v1",
                "Ingress",
                "/apis/networking.k8s.io/v1/namespaces/default/ingresses/x",
            ),
            (
                "networking.k8s.io/v1",
                "IngressClass",
                "/apis/networking.k8s.io/v1/ingressclasses/x",
            ),
            (
                "gateway.networking.k8s.io/v1",
                "Gateway",
                "/apis/gateway.networking.k8s.io/v1/namespaces/default/gateways/x",
            ),
        ] {
            let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}});
            assert_eq!(path(&object).as_deref(), Some(expected));
        }
    }
}
