//! The objects of a binding, as the fields we own, and nothing else.
//!
//! Pure. Field by field this is what a careful operator would write by hand: one SecretProviderClass that takes key
//! and chain from the vault (`objectType: secret`), one small Deployment whose only purpose is to mount it (without a
//! mount the driver never writes a Secret), and the Ingress that uses the Secrets.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::controllers::{Redirect, redirect};
use super::desired::{Desired, Identity, Ingress, Port, Toleration};
use super::gateway;
use super::workload;
use crate::azure::ids::{ClientId, VaultId};
use crate::k8s::{DEPLOYMENT, INGRESS, NAMESPACE, ObjectRef, SECRET, SECRET_PROVIDER_CLASS};

/// Annotation: the binding an object belongs to.
pub const BINDING: &str = "kvtls.io/binding";
/// Annotation: the creation an object belongs to; only that one deletes it.
pub const INSTANCE: &str = "kvtls.io/instance";
/// Annotation on the SecretProviderClass: [`UNFINISHED`] or [`FINISHED`].
pub const PHASE: &str = "kvtls.io/phase";
/// A create that has not yet come to its end.
pub const UNFINISHED: &str = "unfinished";
/// A binding that has been complete.
pub const FINISHED: &str = "finished";
/// Annotation on the SecretProviderClass: the vault's resource ID, so that the binding can be imported.
pub const VAULT: &str = "kvtls.io/key-vault-id";
/// Annotation on the SecretProviderClass: the workload identity's resource ID, for the same purpose.
pub const IDENTITY: &str = "kvtls.io/identity-id";
/// Annotation on the SecretProviderClass: the service account that the workload identity trusts.
pub const ACCOUNT: &str = "kvtls.io/service-account";
/// Annotation on the SecretProviderClass of a binding that knows that kvtls switched the add-on on: [`SWITCHED_ON`].
/// Whoever switches it off again may be a binding of another configuration.
pub const ADDON: &str = "kvtls.io/addon";
/// The one value of [`ADDON`].
pub const SWITCHED_ON: &str = "switched-on";
/// Annotation on the pod template: a hash of what the mount depends on, so that a change rolls the pods.
pub const INPUTS: &str = "kvtls.io/inputs";
/// Prefix of annotations that are bookkeeping: never shown in `manifests`, never drift.
pub const BOOKKEEPING: &str = "kvtls.io/";
/// Label by which everybody sees who manages an object, and its value.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "kvtls");

const MOUNT: &str = "/mnt/certificates";

/// What the manifests need beyond the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The reading identity's client ID.
    pub client_id: ClientId,
    /// The vault's tenant.
    pub tenant_id: String,
    /// The cloud's name as the Azure provider of the driver wants it; `None` for the public cloud.
    pub cloud_name: Option<String>,
}

/// The SecretProviderClass of a binding.
pub fn secret_provider_class(desired: &Desired) -> ObjectRef {
    SECRET_PROVIDER_CLASS.named(&desired.namespace, &desired.name)
}

/// The sync Deployment of a binding.
pub fn deployment(desired: &Desired) -> ObjectRef {
    DEPLOYMENT.named(&desired.namespace, &desired.name)
}

/// Selects the sync pods of a binding.
pub fn sync_selector(name: &str) -> String {
    format!("app.kubernetes.io/name=kvtls-sync,app.kubernetes.io/instance={name}")
}

/// An Ingress of a binding.
pub fn ingress(desired: &Desired, name: &str) -> ObjectRef {
    INGRESS.named(&desired.namespace, name)
}

/// A Secret of a binding.
pub fn secret(desired: &Desired, name: &str) -> ObjectRef {
    SECRET.named(&desired.namespace, name)
}

/// Every object of a binding: the SecretProviderClass first, the edge's last.
pub fn objects(desired: &Desired) -> Vec<ObjectRef> {
    let mut objects = vec![secret_provider_class(desired), deployment(desired)];
    objects.extend(
        desired
            .ingress
            .iter()
            .map(|wanted| ingress(desired, &wanted.name)),
    );
    objects.extend(gateway::objects(desired).into_iter().map(|(object, _)| object));
    objects
}

/// The namespace, and what is written of it where it is missing.
pub fn namespace(desired: &Desired) -> (ObjectRef, Value) {
    let object = NAMESPACE.named("", &desired.namespace);
    let mut labels = desired.default_labels.clone();
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    let manifest = json!({
        "apiVersion": object.kind.api_version(),
        "kind": object.kind.kind,
        "metadata": { "name": object.name, "labels": labels },
    });
    (object, manifest)
}

/// The manifest of the SecretProviderClass, without stamps.
pub fn secret_provider_class_manifest(desired: &Desired, facts: &Facts) -> Value {
    let mut parameters = Map::new();
    parameters.insert("keyvaultName".to_owned(), json!(desired.vault.name()));
    parameters.insert("tenantId".to_owned(), json!(facts.tenant_id));
    parameters.insert("usePodIdentity".to_owned(), json!("false"));
    parameters.insert("useVMManagedIdentity".to_owned(), json!("true"));
    match desired.access.identity {
        Identity::Addon => {
            parameters.insert("userAssignedIdentityID".to_owned(), json!(facts.client_id.0));
        }
        Identity::Workload(_) => workload::parameters(&mut parameters, &facts.client_id.0),
    }
    parameters.insert("objects".to_owned(), json!(vault_objects(desired)));
    if let Some(cloud) = &facts.cloud_name {
        parameters.insert("cloudName".to_owned(), json!(cloud));
    }
    let mut labels = desired.default_labels.clone();
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    let secrets: Vec<Value> = desired
        .certificates
        .iter()
        .map(|(key, certificate)| {
            json!({
                "secretName": certificate.secret_name,
                "type": "kubernetes.io/tls",
                "labels": labels,
                // Both keys come from the one file: a `secret` object holds the key and the whole chain.
                "data": [{ "objectName": key, "key": "tls.key" }, { "objectName": key, "key": "tls.crt" }],
            })
        })
        .collect();
    let spec = json!({ "provider": "azure", "parameters": parameters, "secretObjects": secrets });
    let mut annotations = BTreeMap::new();
    if let Some(workload) = desired.access.workload() {
        annotations.insert(IDENTITY.to_owned(), workload.id.to_string());
        annotations.insert(ACCOUNT.to_owned(), workload.service_account.clone());
    }
    object(
        &secret_provider_class(desired),
        &annotations,
        desired.default_labels.clone(),
        &spec,
    )
}

/// The `objects` parameter: YAML text whose list items are YAML texts themselves.
fn vault_objects(desired: &Desired) -> String {
    let mut text = String::from("array:\n");
    for (key, certificate) in &desired.certificates {
        // Names are letters, digits and hyphens, so nothing needs quoting but what looks like a number.
        let mut entry = vec![
            format!("objectName: \"{}\"", certificate.certificate),
            "objectType: secret".to_owned(),
            format!("objectAlias: \"{key}\""),
        ];
        entry.extend(
            certificate
                .version
                .iter()
                .map(|version| format!("objectVersion: \"{version}\"")),
        );
        text.push_str("  - |\n");
        for line in entry {
            text.push_str("    ");
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

/// The manifest of the sync Deployment, without stamps. It does not depend on anything but the configuration, so a
/// plan can always show it; what else the mount depends on is in the [`INPUTS`] stamp.
pub fn deployment_manifest(desired: &Desired) -> Value {
    let selector = json!({
        "app.kubernetes.io/name": "kvtls-sync",
        "app.kubernetes.io/instance": desired.name,
    });
    let sync = &desired.sync;
    let files: Vec<String> = desired
        .certificates
        .keys()
        .map(|key| format!("test -s {MOUNT}/{key}"))
        .collect();
    let probe = json!({ "exec": { "command": ["sh", "-c", files.join(" && ")] }, "periodSeconds": 10 });
    let resources = &sync.resources;
    let container = json!({
        "name": "sync",
        "image": sync.image,
        // Sleeps, and leaves at once when asked to.
        "command": ["sh", "-c", "trap 'exit 0' TERM INT; while true; do sleep 3600 & wait $!; done"],
        "resources": {
            "requests": { "cpu": resources.cpu_request, "memory": resources.memory_request },
            "limits": { "cpu": resources.cpu_limit, "memory": resources.memory_limit },
        },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
        "readinessProbe": probe,
        "livenessProbe": probe,
        "volumeMounts": [{ "name": "certificates", "mountPath": MOUNT, "readOnly": true }],
    });
    let mut pod = json!({
        "automountServiceAccountToken": false,
        "terminationGracePeriodSeconds": 5,
        "nodeSelector": sync.node_selector,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": 65_534,
            "runAsGroup": 65_534,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "containers": [container],
        "volumes": [{
            "name": "certificates",
            "csi": {
                "driver": "secrets-store.csi.k8s.io",
                "readOnly": true,
                "volumeAttributes": { "secretProviderClass": desired.name },
            },
        }],
    });
    if !sync.tolerations.is_empty() {
        pod["tolerations"] = sync.tolerations.iter().map(toleration).collect();
    }
    if let Some(class) = &sync.priority_class_name {
        pod["priorityClassName"] = json!(class);
    }
    if !sync.image_pull_secrets.is_empty() {
        let secrets = sync.image_pull_secrets.iter().map(|name| json!({ "name": name }));
        pod["imagePullSecrets"] = secrets.collect();
    }
    let labels = with_defaults(desired, &sync.labels);
    let mut metadata = json!({ "labels": labels });
    if let (Some(all), Some(selected)) = (metadata["labels"].as_object_mut(), selector.as_object()) {
        all.extend(selected.clone());
    }
    if !sync.annotations.is_empty() {
        metadata["annotations"] = json!(sync.annotations);
    }
    let spec = json!({
        "replicas": sync.replicas,
        "selector": { "matchLabels": selector },
        "template": { "metadata": metadata, "spec": pod },
    });
    let mut manifest = object(&deployment(desired), &sync.annotations, labels, &spec);
    workload::adapt(desired, &mut manifest);
    manifest
}

fn toleration(it: &Toleration) -> Value {
    let mut written = Map::new();
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            written.insert(name.to_owned(), value);
        }
    };
    add("key", it.key.as_ref().map(|key| json!(key)));
    add("operator", Some(json!(it.operator)));
    add("value", it.value.as_ref().map(|value| json!(value)));
    add("effect", it.effect.as_ref().map(|effect| json!(effect)));
    add(
        "tolerationSeconds",
        it.toleration_seconds.map(|seconds| json!(seconds)),
    );
    Value::Object(written)
}

/// The manifest of the Ingress, without stamps. `controller` is its class's, which decides how a redirect is asked for.
pub fn ingress_manifest(desired: &Desired, wanted: &Ingress, controller: Option<&str>) -> Value {
    let mut tls: Vec<Value> = desired
        .certificates
        .values()
        .filter(|certificate| !certificate.hosts.is_empty())
        .map(|certificate| json!({ "hosts": certificate.hosts, "secretName": certificate.secret_name }))
        .collect();
    let extra = wanted.extra_tls.iter();
    tls.extend(extra.map(|it| json!({ "hosts": it.hosts, "secretName": it.secret_name })));
    let rules: Vec<Value> = wanted.rules.iter().map(rule).collect();
    let mut spec = Map::new();
    if let Some(class) = &wanted.class_name {
        spec.insert("ingressClassName".to_owned(), json!(class));
    }
    spec.insert("tls".to_owned(), json!(tls));
    spec.insert("rules".to_owned(), json!(rules));
    let mut annotations = wanted.annotations.clone();
    if let (Some(wished), Some(Redirect::Annotation(name))) =
        (wanted.ssl_redirect, controller.and_then(redirect))
    {
        annotations.insert(name.to_owned(), wished.to_string());
    }
    object(
        &ingress(desired, &wanted.name),
        &annotations,
        with_defaults(desired, &wanted.labels),
        &Value::Object(spec),
    )
}

/// Labels of one object over those of all.
pub(super) fn with_defaults(
    desired: &Desired,
    labels: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut all = desired.default_labels.clone();
    all.extend(labels.clone());
    all
}

fn rule(rule: &super::desired::Rule) -> Value {
    let paths: Vec<Value> = rule
        .paths
        .iter()
        .map(|path| {
            let port = match &path.port {
                Port::Number(number) => json!({ "number": number }),
                Port::Name(name) => json!({ "name": name }),
            };
            json!({
                "path": path.path,
                "pathType": path.path_type,
                "backend": { "service": { "name": path.service, "port": port } },
            })
        })
        .collect();
    json!({ "host": rule.host, "http": { "paths": paths } })
}

pub(super) fn object(
    object: &ObjectRef,
    annotations: &BTreeMap<String, String>,
    mut labels: BTreeMap<String, String>,
    spec: &Value,
) -> Value {
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), json!(object.name));
    if let Some(namespace) = &object.namespace {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    metadata.insert("labels".to_owned(), json!(labels));
    if !annotations.is_empty() {
        metadata.insert("annotations".to_owned(), json!(annotations));
    }
    json!({
        "apiVersion": object.kind.api_version(),
        "kind": object.kind.kind,
        "metadata": metadata,
        "spec": spec,
    })
}

/// A live object as one would write it: without what the server adds. The fallback where no manifest is known.
#[must_use]
pub fn without_status(live: &Value) -> Value {
    let mut shown = live.clone();
    if let Some(members) = shown.as_object_mut() {
        members.remove("status");
    }
    if let Some(metadata) = shown["metadata"].as_object_mut() {
        metadata.retain(|name, _| ["name", "namespace", "labels", "annotations"].contains(&name.as_str()));
    }
    shown
}

/// A manifest with the stamps of its binding and instance.
#[must_use]
pub fn stamped(mut manifest: Value, binding: &str, instance: &str) -> Value {
    annotate(&mut manifest["metadata"], BINDING, binding);
    annotate(&mut manifest["metadata"], INSTANCE, instance);
    manifest
}

/// The SecretProviderClass's manifest, marked with its phase and its vault.
#[must_use]
pub fn with_phase(mut manifest: Value, phase: &str, vault: &VaultId) -> Value {
    annotate(&mut manifest["metadata"], PHASE, phase);
    annotate(&mut manifest["metadata"], VAULT, vault.as_str());
    manifest
}

/// The SecretProviderClass's manifest with the note that kvtls switched the add-on on.
#[must_use]
pub fn with_addon_note(mut manifest: Value, switched_on: bool) -> Value {
    if switched_on {
        annotate(&mut manifest["metadata"], ADDON, SWITCHED_ON);
    }
    manifest
}

/// The Deployment's manifest with the hash of what its mount depends on.
#[must_use]
pub fn with_inputs(mut manifest: Value, inputs: &str) -> Value {
    annotate(&mut manifest["spec"]["template"]["metadata"], INPUTS, inputs);
    manifest
}

/// The hash of a mount's inputs: the SecretProviderClass, and what else must restart the pods.
pub fn inputs(secret_provider_class: &Value, restart: Option<&str>) -> String {
    let text = format!(
        "{}\n{}",
        secret_provider_class["spec"],
        restart.unwrap_or_default()
    );
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes())
        .simple()
        .to_string()
}

/// An annotation of an object or pod template.
pub fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][name].as_str()
}

fn annotate(metadata: &mut Value, name: &str, value: &str) {
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = json!({});
    }
    metadata["annotations"][name] = json!(value);
}
