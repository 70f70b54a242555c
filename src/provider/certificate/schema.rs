//! The attributes of `kvtls_certificate`, and what of a configuration contradicts itself. The source of its page in
//! `docs/`.

use std::collections::BTreeSet;

use super::pem;
use crate::framework::validate::{
    self, each, length_between, one_of, text, unexpected, whole_number_between,
};
use crate::framework::{
    Attribute, AttributePath, Constraint, Diagnostic, Diagnostics, Known, Nesting, Presence, Reader, Schema,
    Timeouts, Type, Value, duration, equality,
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
                    .equal_by(equality::without_case)
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
                .valid(validate::duration("30d"))
                .equal_by(equality::same_duration),
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
    .constrained(
        Constraint::exactly_one_of(&["policy", "import"]).fix(
            "Set  policy = { hosts = [\"myapp.example.com\"] }  to have the vault make it, or  import  to bring one, and not \
             both.",
        ),
    )
    .constrained(
        Constraint::at_most_one_of(&["import", "renew_before"])
            .because("For an imported certificate the vault has nobody to ask for another.")
            .fix("Remove  renew_before, and bring a new one with another  import.wo_version."),
    )
}

fn policy() -> Attribute {
    Attribute::nested(
        Nesting::Single,
        Optional,
        "How the vault makes it. What else the vault's policy says stays.",
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
        "A certificate that exists, with its key. Needs Terraform or OpenTofu 1.11: the key is in \
         no state and in no plan.",
        [
            (
                "pfx_wo",
                Attribute::string(Optional, "A PFX in base64, as `filebase64(\"site.pfx\")`.")
                    .write_only()
                    .valid(text(
                        "a PFX in base64",
                        "filebase64(\"site.pfx\")",
                        pem::is_base64,
                    )),
            ),
            (
                "pem_wo",
                Attribute::string(
                    Optional,
                    "PEM text with the key in PKCS#8 and the certificates, the leaf first.",
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
    .constrained(
        Constraint::exactly_one_of(&["pfx_wo", "pem_wo"])
            .fix("Set  pfx_wo = filebase64(\"site.pfx\"), or  pem_wo, and not both."),
    )
    .constrained(
        Constraint::at_most_one_of(&["pem_wo", "password_wo"])
            .because("A vault does not take an encrypted key in PEM: the password is for a PFX.")
            .fix("Remove it; to decrypt a key:  openssl pkcs8 -topk8 -nocrypt -in key.pem."),
    )
}

/// What contradicts itself, as far as it is known.
pub(super) fn contradictions(config: &Value) -> Diagnostics {
    let root = Reader::root(config);
    let mut diagnostics = Diagnostics::new();
    if let Known::Known(policy) = root.known_object("policy") {
        key(&policy, &mut diagnostics);
        renewal(&root, &policy, &mut diagnostics);
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
            (
                object(&[]),
                Some("Exactly one of policy and import must be set; none is set."),
            ),
            (
                object(&[("policy", policy.clone()), ("import", import.clone())]),
                Some("policy and import are set."),
            ),
            (object(&[("policy", ec)]), Some("key_size is for RSA keys")),
            (
                object(&[("policy", policy.clone()), ("renew_before", Value::from("400d"))]),
                Some("as long as a version is valid"),
            ),
            (
                object(&[("import", both)]),
                Some("exactly one of pfx_wo and pem_wo must be set; pfx_wo and pem_wo are set."),
            ),
            (
                object(&[("import", import), ("renew_before", Value::from("30d"))]),
                Some("nobody to ask for another"),
            ),
        ];
        for (config, expected) in rows {
            let mut whole = config.clone();
            whole.set("key_vault_id", Value::Unknown);
            whole.set("name", "web");
            let found = validate::with_own(&schema(), &whole, contradictions(&whole));
            match expected {
                None => assert!(found.is_empty(), "{found:?}"),
                Some(part) => assert!(
                    found
                        .iter()
                        .any(|it| it.detail.contains(part) && it.code == "KVTLS-E002"),
                    "{found:?}"
                ),
            }
        }
    }
}
