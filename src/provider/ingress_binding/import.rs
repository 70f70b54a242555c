//! A state from what is in the cluster, by the binding's ID alone.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::schema::schema;
use crate::azure::ids::{ClusterId, VaultId};
use crate::binding::error::kubernetes_said;
use crate::binding::manifests::{self, MANAGED_BY};
use crate::binding::world::{ConnectError, Freshness, World};
use crate::framework::{AttributePath, Diagnostic, Value};
use crate::k8s::{INGRESS, Kubernetes, SECRET_PROVIDER_CLASS};
use crate::provider::explain::{Changed, azure_error};

/// Cluster, namespace and name of a binding's ID.
pub(super) fn parse_id(id: &str) -> Option<(ClusterId, String, String)> {
    let (cluster, rest) = id.split_once("/namespaces/")?;
    let (namespace, name) = rest.split_once("/bindings/")?;
    let is_plain = |text: &str| !text.is_empty() && !text.contains('/');
    (is_plain(namespace) && is_plain(name)).then_some(())?;
    Some((
        ClusterId::parse(cluster).ok()?,
        namespace.to_owned(),
        name.to_owned(),
    ))
}

/// The state of an existing binding, computed values still null: a read follows.
pub(super) async fn import(world: &World, id: &str) -> Result<Value, Diagnostic> {
    let (cluster_id, namespace, name) = parse_id(id).ok_or_else(|| {
        Diagnostic::error(
            "Import ID is not valid",
            format!("Expected {{cluster_id}}/namespaces/{{namespace}}/bindings/{{name}}; got \"{id}\"."),
            "For example  /subscriptions/…/managedClusters/aks-prod/namespaces/shop/bindings/shop.",
        )
        .code("KVTLS-E020")
    })?;
    let nothing = Changed::nothing();
    let cluster = world
        .cluster(&cluster_id, Freshness::Shared)
        .await
        .map_err(|error| azure_error(&error, &nothing))?
        .ok_or_else(|| missing(&format!("Azure knows no AKS cluster {cluster_id}.")))?;
    let kubernetes = world.kubernetes(&cluster).await.map_err(|error| match error {
        ConnectError::Azure(error) => azure_error(&error, &nothing),
        ConnectError::Kubernetes(error) => missing(&kubernetes_said(&error)),
    })?;
    let class = read(&kubernetes, SECRET_PROVIDER_CLASS.named(&namespace, &name))
        .await?
        .ok_or_else(|| missing(&format!("There is no SecretProviderClass {namespace}/{name}.")))?;
    if manifests::annotation(&class, manifests::BINDING).is_none_or(|it| !it.eq_ignore_ascii_case(id)) {
        return Err(missing(&format!(
            "SecretProviderClass {namespace}/{name} was not made by kvtls for this binding."
        )));
    }
    let vault = manifests::annotation(&class, manifests::VAULT)
        .and_then(|text| VaultId::parse(text).ok())
        .ok_or_else(|| {
            missing(&format!(
                "SecretProviderClass {namespace}/{name} does not say which vault it reads."
            ))
        })?;
    let ingress = find_ingress(&kubernetes, &namespace, id).await?;
    let certificates = certificates(&class, ingress.as_ref());
    let instance = manifests::annotation(&class, manifests::INSTANCE).unwrap_or_default();
    let known = [
        ("id", Value::from(id)),
        ("instance_id", Value::from(instance)),
        ("name", Value::from(name.as_str())),
        ("cluster_id", Value::from(cluster_id.to_string())),
        ("key_vault_id", Value::from(vault.to_string())),
        ("namespace", Value::from(namespace.as_str())),
        ("certificates", certificates),
        (
            "addon",
            Value::object([
                ("mode", Value::from("ensure")),
                ("rotation_enabled", Value::from(cluster.addon.rotation_enabled)),
                ("rotation_poll_interval", Value::Null),
                ("on_destroy", Value::from("leave")),
            ]),
        ),
        ("access", access(&class)),
        (
            "expiry",
            Value::object([("warn", Value::from("30d")), ("fail", Value::Null)]),
        ),
        ("ingress", ingress.as_ref().map_or(Value::Null, ingress_value)),
        (
            "verify",
            Value::object([
                ("level", Value::from("auto")),
                ("endpoint", Value::Null),
                ("timeout", Value::from("5m")),
            ]),
        ),
    ];
    let mut state = Value::object(
        schema()
            .attributes
            .keys()
            .map(|name| (name.as_str(), Value::Null)),
    );
    if let Some(members) = state.as_map_mut() {
        members.extend(known.map(|(name, value)| (name.to_owned(), value)));
    }
    Ok(state)
}

fn missing(detail: &str) -> Diagnostic {
    Diagnostic::error(
        "Binding to import was not found",
        format!("{detail} Nothing was imported."),
        "Check the ID; bindings of a cluster:  kubectl get secretproviderclass -A -o yaml | grep kvtls.io/binding",
    )
    .at(AttributePath::root())
    .code("KVTLS-E021")
}

async fn read(kubernetes: &Kubernetes, object: crate::k8s::ObjectRef) -> Result<Option<Json>, Diagnostic> {
    kubernetes
        .get(&object)
        .await
        .map_err(|error| missing(&kubernetes_said(&error)))
}

async fn find_ingress(
    kubernetes: &Kubernetes,
    namespace: &str,
    id: &str,
) -> Result<Option<Json>, Diagnostic> {
    let selector = format!("{}={}", MANAGED_BY.0, MANAGED_BY.1);
    let all = kubernetes
        .list(INGRESS, Some(namespace), &selector)
        .await
        .map_err(|error| missing(&kubernetes_said(&error)))?;
    Ok(all.into_iter().find(|ingress| {
        manifests::annotation(ingress, manifests::BINDING).is_some_and(|it| it.eq_ignore_ascii_case(id))
    }))
}

/// The certificates of a SecretProviderClass of ours: aliases are logical names, hosts stand in the Ingress.
fn certificates(class: &Json, ingress: Option<&Json>) -> Value {
    let names = vault_names(
        class["spec"]["parameters"]["objects"]
            .as_str()
            .unwrap_or_default(),
    );
    let secrets = class["spec"]["secretObjects"].as_array().into_iter().flatten();
    Value::object(secrets.filter_map(|secret| {
        let key = secret["data"][0]["objectName"].as_str()?;
        let secret_name = secret["secretName"].as_str()?;
        let (name, version) = names.get(key).cloned().unwrap_or((key.to_owned(), None));
        let certificate = Value::object([
            ("certificate", Value::from(name)),
            ("hosts", Value::from(hosts(ingress, secret_name))),
            ("secret_name", Value::from(secret_name)),
            ("version", Value::from(version)),
        ]);
        Some((key, certificate))
    }))
}

/// Who reads, by the bookkeeping of a SecretProviderClass of ours.
fn access(class: &Json) -> Value {
    let identity = manifests::annotation(class, manifests::IDENTITY);
    let account = manifests::annotation(class, manifests::ACCOUNT);
    Value::object([
        ("mode", Value::from("ensure")),
        ("model", Value::from("auto")),
        ("scope", Value::from("vault")),
        ("propagation_timeout", Value::from("10m")),
        (
            "identity",
            Value::from(if identity.is_some() { "workload" } else { "addon" }),
        ),
        ("identity_id", Value::from(identity)),
        ("service_account_name", Value::from(account)),
        ("federated_credential", Value::from("ensure")),
    ])
}

/// Names and pinned versions in the vault by alias, out of the `objects` text as we write it.
fn vault_names(objects: &str) -> BTreeMap<String, (String, Option<String>)> {
    let outer: Json = serde_saphyr::from_str(objects).unwrap_or_default();
    let entries = outer["array"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Json::as_str);
    entries
        .filter_map(|entry| {
            let entry: Json = serde_saphyr::from_str(entry).ok()?;
            Some((
                entry["objectAlias"].as_str()?.to_owned(),
                (
                    entry["objectName"].as_str()?.to_owned(),
                    entry["objectVersion"].as_str().map(str::to_owned),
                ),
            ))
        })
        .collect()
}

fn hosts(ingress: Option<&Json>, secret_name: &str) -> Vec<String> {
    let entries = ingress
        .and_then(|it| it["spec"]["tls"].as_array())
        .into_iter()
        .flatten();
    entries
        .filter(|entry| entry["secretName"] == secret_name)
        .flat_map(|entry| entry["hosts"].as_array().into_iter().flatten())
        .filter_map(|host| host.as_str().map(str::to_owned))
        .collect()
}

fn ingress_value(ingress: &Json) -> Value {
    let text = |value: &Json| Value::from(value.as_str());
    let strings = |value: &Json, keep: fn(&str) -> bool| {
        let kept: BTreeMap<String, String> = value
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| keep(name))
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect();
        if kept.is_empty() {
            Value::Null
        } else {
            Value::from(kept)
        }
    };
    let rules = ingress["spec"]["rules"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|rule| {
            let paths = rule["http"]["paths"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|path| {
                    let service = &path["backend"]["service"];
                    let port = service["port"]["number"]
                        .as_u64()
                        .map(|number| number.to_string());
                    Value::object([
                        ("path", text(&path["path"])),
                        ("path_type", text(&path["pathType"])),
                        ("service", text(&service["name"])),
                        (
                            "port",
                            port.map_or_else(|| text(&service["port"]["name"]), Value::from),
                        ),
                    ])
                });
            Value::object([
                ("host", text(&rule["host"])),
                ("paths", Value::List(paths.collect())),
            ])
        });
    let annotations = &ingress["metadata"]["annotations"];
    let redirect = annotations[manifests::SSL_REDIRECT]
        .as_str()
        .and_then(|text| text.parse::<bool>().ok());
    Value::object([
        ("name", text(&ingress["metadata"]["name"])),
        ("class_name", text(&ingress["spec"]["ingressClassName"])),
        ("rules", Value::List(rules.collect())),
        ("ssl_redirect", Value::from(redirect)),
        (
            "annotations",
            strings(annotations, |name| {
                !name.starts_with(manifests::BOOKKEEPING) && name != manifests::SSL_REDIRECT
            }),
        ),
        (
            "labels",
            strings(&ingress["metadata"]["labels"], |name| name != MANAGED_BY.0),
        ),
    ])
}
