//! A state from what is in the cluster, by the binding's ID alone.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::import_gateway;
use super::schema::schema;
use super::state::Kept;
use super::{adopt, objects};
use crate::azure::Cluster;
use crate::azure::ids::{ClusterId, VaultId};
use crate::binding::controllers::redirect_annotations;
use crate::binding::error::kubernetes_said;
use crate::binding::manifests::{self, MANAGED_BY};
use crate::binding::world::{Freshness, World};
use crate::framework::{AttributePath, Diagnostic, Diagnostics, Value};
use crate::k8s::{DEPLOYMENT, INGRESS, Kubernetes, ObjectRef, SECRET_PROVIDER_CLASS};
use crate::provider::Defaults;
use crate::provider::explain::cluster::credential;
use crate::provider::explain::{Changed, azure_error};

/// Where `kubectl apply` keeps what it sent last.
const KUBECTLS_OWN: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What an import ID names.
#[derive(Debug)]
pub(super) struct Named {
    cluster: ClusterId,
    namespace: String,
    name: String,
    /// An Ingress whose objects were made by other hands, and not a binding.
    is_ingress: bool,
}

/// What a binding's or an Ingress's ID names.
pub(super) fn parse_id(id: &str) -> Option<Named> {
    let (cluster, rest) = id.split_once("/namespaces/")?;
    let (namespace, rest) = rest.split_once('/')?;
    let (kind, name) = rest.split_once('/')?;
    let is_plain = |text: &str| !text.is_empty() && !text.contains('/');
    (is_plain(namespace) && is_plain(name) && ["bindings", "ingresses"].contains(&kind)).then_some(())?;
    Some(Named {
        cluster: ClusterId::parse(cluster).ok()?,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        is_ingress: kind == "ingresses",
    })
}

/// A state to begin with; a read follows and fills in the computed values.
pub(super) struct Imported {
    pub(super) state: Value,
    pub(super) kept: Kept,
    pub(super) diagnostics: Diagnostics,
}

/// Objects that were found, and what else belongs in the state.
pub(super) struct Found {
    pub(super) id: String,
    pub(super) instance: String,
    pub(super) name: String,
    pub(super) vault: VaultId,
    pub(super) certificates: Value,
    /// Entries of the Ingress's `tls` with Secrets of others.
    pub(super) extra_tls: Value,
    /// The `gateway` attribute.
    pub(super) gateway: Value,
    /// Who reads the vault.
    pub(super) access: Value,
    pub(super) ingress: Option<Json>,
    /// The sync Deployment, if it is there.
    pub(super) deployment: Option<Json>,
}

/// Where to look.
pub(super) struct Place<'a> {
    pub(super) world: &'a World,
    pub(super) kubernetes: Kubernetes,
    pub(super) cluster: &'a ClusterId,
    pub(super) namespace: &'a str,
}

/// The state of what is there, by ID.
pub(super) async fn import(world: &World, defaults: &Defaults, id: &str) -> Result<Imported, Diagnostic> {
    let named = parse_id(id).ok_or_else(|| {
        Diagnostic::error(
            "Import ID is not valid",
            format!(
                "Expected {{cluster_id}}/namespaces/{{namespace}}/bindings/{{name}}, or …/ingresses/{{ingress}} to adopt \
                 objects made by hand; got \"{id}\"."
            ),
            "For example  /subscriptions/…/managedClusters/aks-prod/namespaces/shop/bindings/shop.",
        )
        .code("KVTLS-E020")
    })?;
    let nothing = Changed::nothing();
    let cluster = world
        .cluster(&named.cluster, Freshness::Shared)
        .await
        .map_err(|error| azure_error(&error, &nothing))?
        .ok_or_else(|| missing(&format!("Azure knows no AKS cluster {}.", named.cluster)))?;
    let connected = world.kubernetes(&cluster, &defaults.connection).await;
    let connected = connected.map_err(|error| credential(&error, &nothing))?;
    let place = Place {
        world,
        kubernetes: connected.kubernetes,
        cluster: &named.cluster,
        namespace: &named.namespace,
    };
    let mut kept = Kept {
        server: connected.server,
        ..Kept::default()
    };
    let mut diagnostics = Diagnostics::new();
    let found = if named.is_ingress {
        let adopted = adopt::adopt(&place, &named.name).await?;
        kept.adopted = adopted.objects;
        diagnostics.push(adopted.told);
        adopted.found
    } else {
        find_binding(&place, &named.name, id, defaults).await?
    };
    Ok(Imported {
        state: state(&place, &cluster, &found, defaults),
        kept,
        diagnostics,
    })
}

async fn find_binding(
    place: &Place<'_>,
    name: &str,
    id: &str,
    defaults: &Defaults,
) -> Result<Found, Diagnostic> {
    let namespace = place.namespace;
    let class = SECRET_PROVIDER_CLASS.named(namespace, name);
    let deployment = DEPLOYMENT.named(namespace, name);
    let (class, deployment, ingress, gateway) = tokio::join!(
        read(&place.kubernetes, &class),
        read(&place.kubernetes, &deployment),
        find_ingress(&place.kubernetes, namespace, id),
        import_gateway::find(&place.kubernetes, namespace, id),
    );
    let class =
        class?.ok_or_else(|| missing(&format!("There is no SecretProviderClass {namespace}/{name}.")))?;
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
    let ingress = ingress?;
    let gateway = gateway.map_err(|error| missing(&kubernetes_said(&error)))?;
    Ok(Found {
        id: id.to_owned(),
        instance: manifests::annotation(&class, manifests::INSTANCE)
            .unwrap_or_default()
            .to_owned(),
        name: name.to_owned(),
        vault,
        certificates: certificates(&class, ingress.as_ref(), gateway.as_ref()),
        extra_tls: ingress
            .as_ref()
            .map_or(Value::Null, |ingress| extra_tls(ingress, &class)),
        gateway: gateway
            .as_ref()
            .map_or(Value::Null, |found| found.value(defaults)),
        access: access(&class),
        ingress,
        deployment: deployment?,
    })
}

fn state(place: &Place<'_>, cluster: &Cluster, found: &Found, defaults: &Defaults) -> Value {
    let known = [
        ("id", Value::from(found.id.as_str())),
        ("instance_id", Value::from(found.instance.as_str())),
        ("name", Value::from(found.name.as_str())),
        ("cluster_id", Value::from(place.cluster.to_string())),
        ("key_vault_id", Value::from(found.vault.to_string())),
        ("namespace", Value::from(place.namespace)),
        ("create_namespace", Value::from(false)),
        ("certificates", found.certificates.clone()),
        ("sync", objects::sync_value(found.deployment.as_ref(), defaults)),
        ("apply_manifests", Value::from(true)),
        ("force_conflicts", Value::from(false)),
        ("on_incomplete", Value::from("error")),
        (
            "addon",
            Value::object([
                ("mode", Value::from("ensure")),
                ("rotation_enabled", Value::from(cluster.addon.rotation_enabled)),
                ("rotation_poll_interval", Value::Null),
                ("on_destroy", Value::from("leave")),
            ]),
        ),
        ("access", found.access.clone()),
        (
            "expiry",
            Value::object([("warn", Value::from("30d")), ("fail", Value::Null)]),
        ),
        (
            "ingress",
            found.ingress.as_ref().map_or(Value::Null, |ingress| {
                ingress_value(ingress, found.extra_tls.clone(), defaults)
            }),
        ),
        ("gateway", found.gateway.clone()),
        (
            "verify",
            Value::object([
                ("level", Value::from("auto")),
                ("via", Value::from("auto")),
                ("on_refresh", Value::from(true)),
                ("endpoint", Value::Null),
                ("timeout", Value::from("5m")),
                ("read_secret", Value::from("apply")),
            ]),
        ),
    ];
    let mut state = schema().nothing();
    if let Some(members) = state.as_map_mut() {
        members.extend(known.map(|(name, value)| (name.to_owned(), value)));
    }
    state
}

pub(super) fn missing(detail: &str) -> Diagnostic {
    Diagnostic::error(
        "Binding to import was not found",
        format!("{detail} Nothing was imported."),
        "Check the ID; bindings of a cluster:  kubectl get secretproviderclass -A -o yaml | grep kvtls.io/binding",
    )
    .at(AttributePath::root())
    .code("KVTLS-E021")
}

pub(super) async fn read(kubernetes: &Kubernetes, object: &ObjectRef) -> Result<Option<Json>, Diagnostic> {
    kubernetes
        .get(object)
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
fn certificates(class: &Json, ingress: Option<&Json>, gateway: Option<&import_gateway::Found>) -> Value {
    let names = vault_names(
        class["spec"]["parameters"]["objects"]
            .as_str()
            .unwrap_or_default(),
    );
    let secrets = class["spec"]["secretObjects"].as_array();
    let is_only = secrets.is_some_and(|all| all.len() == 1);
    Value::object(secrets.into_iter().flatten().filter_map(|secret| {
        let key = secret["data"][0]["objectName"].as_str()?;
        let secret_name = secret["secretName"].as_str()?;
        let (name, version) = names.get(key).cloned().unwrap_or((key.to_owned(), None));
        let mut hosts = hosts(ingress, secret_name);
        for host in gateway
            .into_iter()
            .flat_map(|found| found.hosts(secret_name, is_only))
        {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        let certificate = Value::object([
            ("certificate", Value::from(name)),
            ("hosts", Value::from(hosts)),
            ("secret_name", Value::from(secret_name)),
            ("version", Value::from(version)),
        ]);
        Some((key, certificate))
    }))
}

/// Who reads, by the bookkeeping of a SecretProviderClass of ours.
pub(super) fn access(class: &Json) -> Value {
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

pub(super) fn hosts(ingress: Option<&Json>, secret_name: &str) -> Vec<String> {
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

/// The entries of `tls` whose Secret is none of ours.
pub(super) fn extra_tls(ingress: &Json, class: &Json) -> Value {
    let ours = |secret: &Json| {
        let all = class["spec"]["secretObjects"].as_array().into_iter().flatten();
        all.into_iter().any(|object| object["secretName"] == *secret)
    };
    let extra: Vec<Value> = ingress["spec"]["tls"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|entry| !ours(&entry["secretName"]))
        .map(|entry| {
            let hosts = entry["hosts"].as_array().into_iter().flatten();
            let hosts = hosts.filter_map(|host| host.as_str().map(Value::from));
            Value::object([
                ("hosts", Value::List(hosts.collect())),
                ("secret_name", Value::from(entry["secretName"].as_str())),
            ])
        })
        .collect();
    if extra.is_empty() {
        Value::Null
    } else {
        Value::List(extra)
    }
}

fn ingress_value(ingress: &Json, extra_tls: Value, defaults: &Defaults) -> Value {
    let text = |value: &Json| Value::from(value.as_str());
    let strings = |value: &Json, keep: &dyn Fn(&str, &str) -> bool| {
        let kept: BTreeMap<String, String> = value
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .filter(|(name, value)| keep(name, value))
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
    let redirects: Vec<&str> = redirect_annotations().collect();
    let redirect = redirects
        .iter()
        .find_map(|name| annotations[*name].as_str()?.parse::<bool>().ok());
    Value::object([
        ("name", text(&ingress["metadata"]["name"])),
        ("class_name", text(&ingress["spec"]["ingressClassName"])),
        ("rules", Value::List(rules.collect())),
        ("extra_tls", extra_tls),
        ("ssl_redirect", Value::from(redirect)),
        (
            "annotations",
            strings(annotations, &|name, _| {
                !name.starts_with(manifests::BOOKKEEPING)
                    && !redirects.contains(&name)
                    && name != KUBECTLS_OWN
            }),
        ),
        (
            "labels",
            strings(&ingress["metadata"]["labels"], &|name, value| {
                name != MANAGED_BY.0 && defaults.labels.get(name).is_none_or(|it| it != value)
            }),
        ),
    ])
}
