//! Takes over a set of objects that was made by hand, by the name of its Ingress: the guide's four objects have four
//! different names. The Ingress names the Secrets, one SecretProviderClass writes them, and its `keyvaultName` leads to
//! the vault. The names of Secrets and SecretProviderClass are kept; whoever mounts it by now is left alone, and told.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use uuid::Uuid;

use super::import::{Found, Place, access, extra_tls, hosts, missing, read};
use crate::binding::desired::binding_id;
use crate::binding::error::kubernetes_said;
use crate::binding::manifests;
use crate::binding::step::object_key;
use crate::framework::{Diagnostic, Value};
use crate::k8s::{DEPLOYMENT, INGRESS, SECRET_PROVIDER_CLASS, ownership};
use crate::provider::explain::{Changed, azure_error, cluster};

/// What is adopted.
pub(super) struct Adopted {
    pub(super) found: Found,
    /// Objects by `Kind/name` that are written over once, whoever holds their fields.
    pub(super) objects: BTreeSet<String>,
    /// What happens to whom.
    pub(super) told: Diagnostic,
}

/// Finds what belongs to an Ingress.
pub(super) async fn adopt(place: &Place<'_>, name: &str) -> Result<Adopted, Diagnostic> {
    let namespace = place.namespace;
    let ingress_object = INGRESS.named(namespace, name);
    let (ingress, classes, deployments) = tokio::join!(
        read(&place.kubernetes, &ingress_object),
        place.kubernetes.list(SECRET_PROVIDER_CLASS, Some(namespace), ""),
        place.kubernetes.list(DEPLOYMENT, Some(namespace), ""),
    );
    let ingress = ingress?.ok_or_else(|| missing(&format!("There is no {ingress_object}.")))?;
    let said = |error: crate::k8s::Error| missing(&kubernetes_said(&error));
    let class = class_of(&ingress, classes.map_err(said)?)
        .map_err(|why| missing(&format!("{ingress_object} cannot be adopted: {why}.")))?;
    let class_name = text(&class["metadata"]["name"]);
    let mounts: Vec<Json> = deployments
        .map_err(said)?
        .into_iter()
        .filter(|deployment| mounts_class(deployment, class_name))
        .collect();
    if mounts.iter().any(|it| it["metadata"]["name"] == class_name) {
        return Err(missing(&format!(
            "Deployment {namespace}/{class_name} has the name of the SecretProviderClass, which the sync Deployment will \
             need. Give it another name first."
        )));
    }
    let vault_name = text(&class["spec"]["parameters"]["keyvaultName"]);
    let subscription = place.cluster.subscription();
    let vault = place.world.azure().find_vault(subscription, vault_name).await;
    let vault = vault
        .map_err(|error| azure_error(&error, &Changed::nothing()))?
        .ok_or_else(|| {
            missing(&format!(
                "The SecretProviderClass reads vault \"{vault_name}\", which this identity does not see in the cluster's \
                 subscription {subscription}."
            ))
        })?;
    let class_object = SECRET_PROVIDER_CLASS.named(namespace, class_name);
    let objects = [&class_object, &ingress_object];
    let managers = objects.into_iter().zip([&class, &ingress]);
    let managers: Vec<String> = managers
        .map(|(object, live)| {
            let names = ownership::managers(live);
            let names = if names.is_empty() {
                "nobody".to_owned()
            } else {
                names.join(", ")
            };
            format!("{object}: {names}")
        })
        .collect();
    let left: Vec<String> = mounts
        .iter()
        .map(|it| format!("Deployment {namespace}/{}", text(&it["metadata"]["name"])))
        .collect();
    Ok(Adopted {
        told: cluster::adopted(&managers, &left),
        objects: objects.into_iter().map(object_key).collect(),
        found: Found {
            id: binding_id(&place.cluster.to_string(), namespace, class_name),
            instance: Uuid::new_v4().to_string(),
            name: class_name.to_owned(),
            vault,
            certificates: certificates(&class, &ingress),
            extra_tls: extra_tls(&ingress, &class),
            gateway: Value::Null,
            access: access(&Json::Null),
            ingress: Some(ingress),
            deployment: None,
        },
    })
}

/// The one SecretProviderClass that writes the Secrets of an Ingress.
fn class_of(ingress: &Json, classes: Vec<Json>) -> Result<Json, String> {
    let used: BTreeSet<&str> = list(&ingress["spec"]["tls"])
        .map(|entry| text(&entry["secretName"]))
        .collect();
    let mut writers = classes.into_iter().filter(|class| {
        list(&class["spec"]["secretObjects"]).any(|it| used.contains(text(&it["secretName"])))
    });
    let class = writers
        .next()
        .ok_or("no SecretProviderClass of its namespace writes a Secret that its tls names")?;
    if writers.next().is_some() {
        return Err("its Secrets come from several SecretProviderClasses, and a binding has one".to_owned());
    }
    if let Some(binding) = manifests::annotation(&class, manifests::BINDING) {
        return Err(format!(
            "it belongs to a binding; import that by its ID {binding}"
        ));
    }
    if class["spec"]["provider"] != "azure" {
        return Err("its SecretProviderClass is for another provider than azure".to_owned());
    }
    let other = list(&class["spec"]["secretObjects"]).find(|it| it["type"] != "kubernetes.io/tls");
    if let Some(other) = other {
        return Err(format!(
            "its SecretProviderClass also writes Secret {}, which is no TLS Secret and would be lost",
            text(&other["secretName"])
        ));
    }
    Ok(class)
}

fn mounts_class(deployment: &Json, class: &str) -> bool {
    list(&deployment["spec"]["template"]["spec"]["volumes"])
        .any(|volume| volume["csi"]["volumeAttributes"]["secretProviderClass"] == class)
}

/// The certificates by a logical name: the vault's, where it may be one.
fn certificates(class: &Json, ingress: &Json) -> Value {
    let files = vault_files(text(&class["spec"]["parameters"]["objects"]));
    let mut found = BTreeMap::new();
    for secret in list(&class["spec"]["secretObjects"]) {
        let secret_name = text(&secret["secretName"]);
        let file = text(&secret["data"][0]["objectName"]);
        let name = files.get(file).map_or(file, String::as_str);
        let key = [name.to_ascii_lowercase(), secret_name.replace('.', "-")]
            .into_iter()
            .find(|it| it.len() <= 40 && !found.contains_key(it))
            .unwrap_or_else(|| format!("certificate-{}", found.len() + 1));
        let certificate = Value::object([
            ("certificate", Value::from(name)),
            ("hosts", Value::from(hosts(Some(ingress), secret_name))),
            ("secret_name", Value::from(secret_name)),
            ("version", Value::Null),
        ]);
        found.insert(key, certificate);
    }
    Value::Map(found)
}

/// Names in the vault by the name of the file they become.
fn vault_files(objects: &str) -> BTreeMap<String, String> {
    let outer: Json = serde_saphyr::from_str(objects).unwrap_or_default();
    let entries = list(&outer["array"]).filter_map(Json::as_str);
    entries
        .filter_map(|entry| {
            let entry: Json = serde_saphyr::from_str(entry).ok()?;
            let name = entry["objectName"].as_str()?;
            let alias = entry["objectAlias"].as_str().filter(|alias| !alias.is_empty());
            Some((alias.unwrap_or(name).to_owned(), name.to_owned()))
        })
        .collect()
}

fn list(value: &Json) -> impl Iterator<Item = &Json> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Json) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn class(secrets: &[(&str, &str)]) -> Json {
        let objects: Vec<Json> = secrets
            .iter()
            .map(|(name, kind)| json!({ "secretName": name, "type": kind, "data": [{ "objectName": "file", "key": "tls.key" }] }))
            .collect();
        json!({
            "metadata": { "name": "azure-tls" },
            "spec": { "provider": "azure", "secretObjects": objects, "parameters": {
                "objects": "array:\n  - |\n    objectName: My-Cert\n    objectType: secret\n    objectAlias: file\n" } },
        })
    }

    #[test]
    fn the_class_is_the_one_that_writes_the_secrets_of_the_ingress() {
        let ingress =
            json!({ "spec": { "tls": [{ "hosts": ["a.example.com"], "secretName": "ingress-tls-csi" }] } });
        let tls = class(&[("ingress-tls-csi", "kubernetes.io/tls")]);
        let found = class_of(&ingress, vec![class(&[("other", "Opaque")]), tls.clone()]).unwrap();
        assert_eq!(found, tls);
        let certificates = certificates(&found, &ingress);
        let certificate = certificates.get("my-cert");
        assert_eq!(certificate.get("certificate").as_str(), Some("My-Cert"));
        assert_eq!(certificate.get("secret_name").as_str(), Some("ingress-tls-csi"));
        assert_eq!(
            *certificate.get("hosts"),
            Value::from(vec!["a.example.com".to_owned()])
        );

        assert!(
            class_of(&ingress, vec![])
                .unwrap_err()
                .contains("no SecretProviderClass")
        );
        assert!(
            class_of(&ingress, vec![tls.clone(), tls])
                .unwrap_err()
                .contains("several")
        );
        let mixed = class(&[("ingress-tls-csi", "kubernetes.io/tls"), ("env", "Opaque")]);
        assert!(
            class_of(&ingress, vec![mixed])
                .unwrap_err()
                .contains("Secret env")
        );
    }
}
