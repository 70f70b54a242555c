//! From what a vault says to state. Pure.

use crate::azure::{CertificateBundle, CertificatePolicy};
use crate::framework::Value;
use crate::provider::data::certificate::{content_word, time};
use crate::provider::operation::{all_tags, shown_tags};

/// The policy of a planned state; nothing if it is imported.
pub(super) fn policy(planned: &Value) -> Option<CertificatePolicy> {
    let policy = planned.get("policy");
    policy.as_map()?;
    let text = |name: &str| policy.get(name).as_str().unwrap_or_default().to_owned();
    let hosts = policy.get("hosts").as_list().unwrap_or_default().iter();
    Some(CertificatePolicy {
        subject: text("subject"),
        hosts: hosts.filter_map(|it| it.as_str().map(str::to_owned)).collect(),
        issuer: text("issuer"),
        key_type: text("key_type"),
        key_size: policy.get("key_size").as_i64(),
        curve: policy.get("curve").as_str().map(str::to_owned),
        reuse_key: policy.get("reuse_key").as_bool().unwrap_or(false),
        validity_months: policy.get("validity_months").as_i64().unwrap_or(12),
        content_type: content_type(policy.get("content_type").as_str().unwrap_or("pem")).to_owned(),
    })
}

/// The content type that `pem` or `pfx` stands for.
pub(super) fn content_type(word: &str) -> &'static str {
    if word == "pfx" {
        "application/x-pkcs12"
    } else {
        "application/x-pem-file"
    }
}

fn policy_value(policy: &CertificatePolicy) -> Value {
    Value::object([
        ("subject", Value::from(policy.subject.as_str())),
        ("hosts", Value::from(policy.hosts.clone())),
        ("issuer", Value::from(policy.issuer.as_str())),
        ("key_type", Value::from(policy.key_type.as_str())),
        ("key_size", Value::from(policy.key_size)),
        ("curve", Value::from(policy.curve.clone())),
        ("reuse_key", Value::from(policy.reuse_key)),
        ("validity_months", Value::from(policy.validity_months)),
        ("content_type", Value::from(content_word(&policy.content_type))),
    ])
}

/// The state of a certificate that was read. `base` has the attributes that the vault does not know.
pub(super) fn observed(base: &Value, id: &str, uri: &str, name: &str, bundle: &CertificateBundle) -> Value {
    let mut state = base.clone();
    let certificate = &bundle.certificate;
    state.set("id", id);
    state.set("versionless_secret_id", secret_id(uri, name));
    state.set("version", certificate.version.as_str());
    state.set("hosts", Value::from(certificate.leaf.hosts.clone()));
    state.set("thumbprint", certificate.leaf.thumbprint.as_str());
    state.set("not_before", time(certificate.leaf.not_before));
    state.set("not_after", time(certificate.leaf.not_after));
    state.set("exportable", certificate.exportable.unwrap_or(true));
    state.set("enabled", certificate.enabled);
    state.set("tags", shown_tags(&bundle.tags, base));
    // What was imported has a policy that the vault derived, which is nobody's wish.
    if let (false, Some(live)) = (
        base.get("policy").is_null(),
        bundle.policy.as_ref().and_then(CertificatePolicy::of_json),
    ) {
        state.set("policy", policy_value(&live));
    }
    state
}

/// The state of a certificate that is imported into Terraform.
pub(super) fn imported(
    empty: &Value,
    vault: &str,
    uri: &str,
    name: &str,
    bundle: &CertificateBundle,
) -> Value {
    let mut base = empty.clone();
    base.set("key_vault_id", vault);
    base.set("name", name);
    base.set("on_destroy", "delete");
    base.set("recover_soft_deleted", true);
    let live = bundle.policy.as_ref().and_then(CertificatePolicy::of_json);
    // Nobody can make another one of an unknown issuer's: it came from outside.
    if let Some(live) = live.filter(|live| live.issuer != "Unknown") {
        base.set("policy", policy_value(&live));
    }
    let id = format!("{vault}/certificates/{name}");
    let mut state = observed(&base, &id, uri, name, bundle);
    state.set("tags", all_tags(&bundle.tags));
    state
}

/// What follows every version.
pub(super) fn secret_id(uri: &str, name: &str) -> String {
    format!("{}/secrets/{name}", uri.trim_end_matches('/'))
}
