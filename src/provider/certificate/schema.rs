//! The attributes of `kvtls_certificate`, and what of a configuration contradicts itself. The source of its page in
//! `docs/`.

use std::collections::BTreeSet;

use super::pem;
use crate::azure::duration;
use crate::framework::validate::{each, length_between, one_of, text, unexpected, whole_number_between};
use crate::framework::{
    Attribute, AttributePath, Diagnostic, Diagnostics, Known, Nesting, Presence, Reader, Schema, Timeouts,
    Type, Value,
};
use crate::provider::data::certificate::is_certificate_name;
use crate::provider::ids::vault_id;
use crate::tls::Host;

use Presence::{Computed, Optional, OptionalComputed, Required};

/// What operations take at most unless the configuration says otherwise.
pub(super) const TIMEOUTS: Timeouts = Timeouts {
    create: "30m",
    read: "5m",
    update: "30m",
    delete: "10m",
};

/// The schema.
pub(super) fn schema() -> Schema {
    let computed = |description: &str| Attribute::string(Computed, description);
    Schema::new(
        "A certificate in a Key Vault: made there by a policy, or imported with its key, which is stored nowhere else. \
         A changed policy, other key material, `renew_trigger` and `renew_before` make a new version; the certificate \
         itself stays, and what refers to it follows.",
        [
            (
                "key_vault_id",
                Attribute::string(Required, "The vault's resource ID.")
                    .valid(vault_id)
                    .equal_by(same_without_case)
                    .requires_replace(),
            ),
            (
                "name",
                Attribute::string(Required, "Its name in the vault: letters, digits and hyphens.")
                    .valid(text("a certificate's name", "\"my-tls-cert\"", is_certificate_name))
                    .requires_replace(),
            ),
            ("policy", policy()),
            ("import", import()),
            (
                "renew_before",
                Attribute::string(
                    Optional,
                    "Has a new version made when the current one ends within this time, for example `30d`; with \
                     `policy` only. Without it the vault itself renews, when four fifths of a version's life are over.",
                )
                .valid(text("a duration", "\"30d\"", is_duration))
                .equal_by(same_duration),
            ),
            (
                "renew_trigger",
                Attribute::string(Optional, "Any text; another one makes a new version."),
            ),
            (
                "enabled",
                Attribute::bool(OptionalComputed, "Whether the newest version may be used. True unless set.")
                    .default(true),
            ),
            (
                "tags",
                Attribute::value(
                    Type::map(Type::String),
                    Optional,
                    "Tags of the newest version. Tags that others set stay.",
                ),
            ),
            (
                "on_destroy",
                Attribute::string(
                    OptionalComputed,
                    "`delete`: so that it can be recovered. `purge`: for good. `leave`: not at all. `delete` unless set.",
                )
                .default("delete")
                .valid(one_of(&["delete", "purge", "leave"])),
            ),
            (
                "recover_soft_deleted",
                Attribute::bool(
                    OptionalComputed,
                    "Whether a deleted certificate of the name is recovered, and gets a new version. True unless set.",
                )
                .default(true),
            ),
            ("timeouts", TIMEOUTS.attribute()),
            (
                "id",
                computed("`{key_vault_id}/certificates/{name}`; also the ID to import by."),
            ),
            ("version", computed("The newest version.")),
            (
                "versionless_secret_id",
                computed(
                    "Follows every new version; what a binding's `certificates.*.certificate` takes, so that Terraform \
                     knows the order.",
                ),
            ),
            (
                "hosts",
                Attribute::value(Type::list(Type::String), Computed, "The hosts it covers."),
            ),
            (
                "thumbprint",
                computed("SHA-1, upper-case hex, as the portal shows it."),
            ),
            ("not_before", computed("The start of its validity, RFC 3339.")),
            ("not_after", computed("The end of its validity, RFC 3339.")),
            (
                "exportable",
                Attribute::bool(Computed, "Whether the secret holds the key, which TLS needs."),
            ),
        ],
    )
    .faults_as("KVTLS-E002")
}

fn policy() -> Attribute {
    Attribute::nested(
        Nesting::Single,
        Optional,
        "How the vault makes it. Either this or `import`. What else the vault's policy says stays.",
        [
            (
                "hosts",
                Attribute::value(
                    Type::list(Type::String),
                    Required,
                    "The hosts it covers, one to a hundred.",
                )
                .valid(length_between(1, 100))
                .valid(each(host))
                .equal_by(same_hosts),
            ),
            (
                "subject",
                Attribute::string(
                    OptionalComputed,
                    "The subject's distinguished name; `CN=` and the first host unless set.",
                )
                .valid(text("a distinguished name", "\"CN=myapp.example.com\"", |it| {
                    it.contains('=')
                }))
                .equal_by(same_subject),
            ),
            (
                "issuer",
                Attribute::string(
                    OptionalComputed,
                    "`Self`, or the name of an issuer that the vault knows. `Self` unless set.",
                )
                .default("Self")
                .valid(text(
                    "`Self` or an issuer that the vault knows",
                    "\"Self\"",
                    |it| !it.is_empty() && !it.eq_ignore_ascii_case("Unknown"),
                )),
            ),
            (
                "key_type",
                Attribute::string(OptionalComputed, "`RSA` or `EC`. `RSA` unless set.")
                    .default("RSA")
                    .valid(one_of(&["RSA", "EC"])),
            ),
            (
                "key_size",
                Attribute::number(OptionalComputed, "2048, 3072 or 4096, for RSA. 2048 unless set.")
                    .valid(key_size),
            ),
            (
                "curve",
                Attribute::string(
                    OptionalComputed,
                    "`P-256`, `P-384` or `P-521`, for EC. `P-256` unless set.",
                )
                .valid(one_of(&["P-256", "P-384", "P-521"])),
            ),
            (
                "reuse_key",
                Attribute::bool(
                    OptionalComputed,
                    "Whether a new version keeps the key. False unless set.",
                )
                .default(false),
            ),
            (
                "validity_months",
                Attribute::number(
                    OptionalComputed,
                    "How long a version is valid, 1 to 120 months. 12 unless set.",
                )
                .default(12_i64)
                .valid(whole_number_between(1, 120)),
            ),
            (
                "content_type",
                Attribute::string(
                    OptionalComputed,
                    "In which form the secret holds it, `pem` or `pfx`. `pem` unless set.",
                )
                .default("pem")
                .valid(one_of(&["pem", "pfx"])),
            ),
        ],
    )
}

fn import() -> Attribute {
    Attribute::nested(
        Nesting::Single,
        Optional,
        "A certificate that exists, with its key. Either this or `policy`. Needs Terraform or OpenTofu 1.11: the key is in \
         no state and in no plan.",
        [
            (
                "pfx_wo",
                Attribute::string(Optional, "A PFX in base64, as `filebase64(\"site.pfx\")`. Either this or `pem_wo`.")
                    .write_only()
                    .valid(text("a PFX in base64", "filebase64(\"site.pfx\")", pem::is_base64)),
            ),
            (
                "pem_wo",
                Attribute::string(
                    Optional,
                    "PEM text with the key in PKCS#8 and the certificates, the leaf first. Either this or `pfx_wo`.",
                )
                .write_only()
                .valid(pem_text),
            ),
            (
                "password_wo",
                Attribute::string(Optional, "The PFX's password.").write_only(),
            ),
            (
                "wo_version",
                Attribute::number(
                    Required,
                    "Another number imports what the write-only attributes hold, as a new version.",
                )
                .valid(whole_number_between(0, i64::from(i32::MAX))),
            ),
        ],
    )
}

/// What contradicts itself, as far as it is known.
pub(super) fn contradictions(config: &Value) -> Diagnostics {
    let root = Reader::root(config);
    let mut diagnostics = Diagnostics::new();
    let (policy, import) = (root.known_object("policy"), root.known_object("import"));
    if policy.is_null() && import.is_null() {
        diagnostics.push(
            Diagnostic::error(
                "Certificate has no source",
                "Neither policy nor import is set, so nobody knows where the certificate is to come from.",
                "Set  policy = { hosts = [\"myapp.example.com\"] }  to have the vault make it, or  import  to bring one.",
            )
            .at(AttributePath::root()),
        );
    }
    if let (Known::Known(_), Known::Known(import)) = (&policy, &import) {
        diagnostics.push(
            Diagnostic::error(
                "Certificate has two sources",
                "Both policy and import are set.",
                "Remove one of them.",
            )
            .at(import.path().clone()),
        );
    }
    if let Known::Known(policy) = &policy {
        key(policy, &mut diagnostics);
        renewal(&root, policy, &mut diagnostics);
    }
    if let Known::Known(import) = &import {
        material(import, &mut diagnostics);
        if root.known_string("renew_before").known().is_some() {
            diagnostics.push(
                Diagnostic::error(
                    "Imported certificate cannot be renewed here",
                    "renew_before is set, and the certificate is imported: the vault has nobody to ask for another.",
                    "Remove  renew_before, and bring a new one with another  import.wo_version.",
                )
                .at(AttributePath::of("renew_before")),
            );
        }
    }
    diagnostics
}

fn key(policy: &Reader<'_>, diagnostics: &mut Diagnostics) {
    let kind = policy.known_string("key_type").or("RSA").known();
    let (attribute, other) = match kind {
        Some("EC") => ("key_size", "RSA"),
        Some("RSA") => ("curve", "EC"),
        _ => return,
    };
    if !policy.at(attribute).is_null() {
        diagnostics.push(
            Diagnostic::error(
                "Key is of another type",
                format!(
                    "{attribute} is for {other} keys, and key_type is {}.",
                    kind.unwrap_or_default()
                ),
                format!("Remove  {attribute}, or set  key_type = \"{other}\"."),
            )
            .at(policy.path().attribute(attribute)),
        );
    }
}

/// A version that is due as soon as it is made would never end.
fn renewal(root: &Reader<'_>, policy: &Reader<'_>, diagnostics: &mut Diagnostics) {
    const SHORTEST_MONTH: u64 = 28 * 24 * 60 * 60;
    let before = root
        .known_string("renew_before")
        .known()
        .and_then(duration::parse);
    let months = policy.known_whole("validity_months").or(12).known();
    let (Some(before), Some(months)) = (before, months.and_then(|it| u64::try_from(it).ok())) else {
        return;
    };
    if before.as_secs() >= months * SHORTEST_MONTH {
        diagnostics.push(
            Diagnostic::error(
                "Renewal would never end",
                format!("renew_before is as long as a version is valid, which is {months} months."),
                "Make it shorter, for example  \"30d\", or raise  policy.validity_months.",
            )
            .at(AttributePath::of("renew_before")),
        );
    }
}

fn material(import: &Reader<'_>, diagnostics: &mut Diagnostics) {
    let (pfx, pem) = (import.at("pfx_wo"), import.at("pem_wo"));
    let both = !pfx.is_null() && !pem.is_null() && !pfx.is_unknown() && !pem.is_unknown();
    if both || (pfx.is_null() && pem.is_null()) {
        diagnostics.push(
            Diagnostic::error(
                "Exactly one form of key is needed",
                format!(
                    "{} of pfx_wo and pem_wo are set.",
                    if both { "Both" } else { "Neither" }
                ),
                "Set  pfx_wo = filebase64(\"site.pfx\"), or  pem_wo.",
            )
            .at(import.path().clone()),
        );
    }
    if !pem.is_null() && !import.at("password_wo").is_null() {
        diagnostics.push(
            Diagnostic::error(
                "PEM has no password",
                "password_wo is for a PFX. A vault does not take an encrypted key in PEM.",
                "Remove it; to decrypt a key:  openssl pkcs8 -topk8 -nocrypt -in key.pem.",
            )
            .at(import.path().attribute("password_wo")),
        );
    }
}

fn pem_text(value: &Value, path: &AttributePath) -> Vec<Diagnostic> {
    let fault = value.as_str().and_then(pem::fault);
    let diagnostic = fault.map(|fault| {
        Diagnostic::error(
            "PEM text cannot be imported",
            format!("{path}: {fault}."),
            "It holds one key in PKCS#8 (BEGIN PRIVATE KEY) and the certificates, the leaf first. To convert a key:  \
             openssl pkcs8 -topk8 -nocrypt -in key.pem.",
        )
        .at(path.clone())
    });
    diagnostic.into_iter().collect()
}

fn host(value: &Value, path: &AttributePath) -> Vec<Diagnostic> {
    match value.as_str().map(Host::parse) {
        Some(Err(error)) => {
            let expected = "a lower-case host name or a one-label wildcard";
            let mut diagnostic = unexpected(path, expected, "\"myapp.example.com\"", value);
            diagnostic.detail = format!("{} ({error})", diagnostic.detail);
            vec![diagnostic]
        }
        _ => Vec::new(),
    }
}

fn key_size(value: &Value, path: &AttributePath) -> Vec<Diagnostic> {
    match value.as_i64() {
        Some(2048 | 3072 | 4096) => Vec::new(),
        _ => vec![unexpected(path, "2048, 3072 or 4096", "2048", value)],
    }
}

fn is_duration(text: &str) -> bool {
    duration::parse(text).is_some_and(|it| !it.is_zero())
}

fn same_duration(left: &Value, right: &Value) -> bool {
    matches!((left.as_str(), right.as_str()), (Some(left), Some(right)) if duration::same(left, right))
}

fn same_without_case(left: &Value, right: &Value) -> bool {
    matches!((left.as_str(), right.as_str()), (Some(left), Some(right)) if left.eq_ignore_ascii_case(right))
}

/// The same hosts in whatever order.
fn same_hosts(left: &Value, right: &Value) -> bool {
    let set = |value: &Value| -> BTreeSet<String> {
        let items = value.as_list().unwrap_or_default().iter();
        items
            .filter_map(|it| it.as_str().map(str::to_ascii_lowercase))
            .collect()
    };
    set(left) == set(right)
}

/// Vaults write a distinguished name with other blanks, and some parts under other names.
fn same_subject(left: &Value, right: &Value) -> bool {
    let parts = |value: &Value| -> Vec<String> {
        let text = value.as_str().unwrap_or_default();
        let mut parts: Vec<String> = text
            .split(',')
            .map(|part| {
                let (name, value) = part.split_once('=').unwrap_or(("", part));
                let name = name.trim().to_ascii_uppercase();
                let name = if name == "ST" { "S" } else { name.as_str() }.to_owned();
                format!("{name}={}", value.trim())
            })
            .collect();
        parts.sort();
        parts
    };
    parts(left) == parts(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_keeps_terraforms_rules() {
        assert_eq!(schema().check(), Vec::<String>::new());
    }

    #[test]
    fn a_subject_has_several_spellings() {
        let same = |left: &str, right: &str| same_subject(&Value::from(left), &Value::from(right));
        assert!(same("C=US, ST=WA, CN=a", "CN=a,S=WA,C=US"));
        assert!(!same("CN=a", "CN=b"));
    }

    fn object(members: &[(&str, Value)]) -> Value {
        Value::object(members.iter().map(|(name, value)| (*name, value.clone())))
    }

    #[test]
    fn contradictions_are_found_and_what_is_unknown_is_not_judged() {
        let policy = object(&[("hosts", Value::from(vec!["a.example.com"]))]);
        let import = object(&[("pfx_wo", Value::from("AAAA")), ("wo_version", Value::from(1))]);
        let ec = object(&[("key_type", Value::from("EC")), ("key_size", Value::from(2048))]);
        let both = object(&[("pfx_wo", Value::from("AAAA")), ("pem_wo", Value::from("x"))]);
        let later = object(&[("pfx_wo", Value::Unknown), ("wo_version", Value::from(1))]);
        let rows = [
            (object(&[("policy", policy.clone())]), None),
            (object(&[("policy", Value::Unknown)]), None),
            (object(&[("import", later)]), None),
            (object(&[]), Some("Certificate has no source")),
            (
                object(&[("policy", policy.clone()), ("import", import.clone())]),
                Some("Certificate has two sources"),
            ),
            (object(&[("policy", ec)]), Some("Key is of another type")),
            (
                object(&[("policy", policy.clone()), ("renew_before", Value::from("400d"))]),
                Some("Renewal would never end"),
            ),
            (
                object(&[("import", both)]),
                Some("Exactly one form of key is needed"),
            ),
            (
                object(&[("import", import), ("renew_before", Value::from("30d"))]),
                Some("Imported certificate cannot be renewed here"),
            ),
        ];
        for (config, expected) in rows {
            let found = contradictions(&config);
            let summary = found.iter().next().map(|it| it.summary.as_str());
            assert_eq!(summary, expected, "{config:?}");
        }
    }
}
