//! The attributes of `kvtls_ingress_binding`, with what they accept. The source of its page in `docs/`.

use super::gateway;
use super::objects;
use crate::framework::validate::{self, each, length_between, matches_each, one_of, text, unexpected};
use crate::framework::{
    Attribute, AttributePath, Diagnostic, Nesting, Presence, Schema, Timeouts, Type, Value, duration,
    equality,
};
use crate::provider::ids::{cluster_id, identity_id, vault_id};
use crate::provider::wishes;
use crate::tls::Host;

use Presence::{Computed, Optional, OptionalComputed, Required};

/// What operations take at most unless the configuration says otherwise. Generous: an add-on update takes minutes, and a
/// grant can take ten to have an effect.
pub(super) const TIMEOUTS: Timeouts = Timeouts {
    create: "45m",
    read: "3m",
    update: "45m",
    delete: "30m",
};

/// The schema.
pub(super) fn schema() -> Schema {
    Schema::new(
        "Serves HTTPS from an AKS cluster with certificates that live in Azure Key Vault, and keeps it true: the \
         cluster's Key Vault add-on with rotation, the grant for its identity, SecretProviderClass, sync Deployment \
         and Ingress, and the proof of what is served.",
        [
            (
                "name",
                Attribute::string(
                    Required,
                    "Names the objects in the cluster. A DNS label of at most 40 characters.",
                )
                .valid(text(
                    "a DNS label of at most 40 characters",
                    "\"shop\"",
                    is_short_label,
                ))
                .requires_replace(),
            ),
            (
                "cluster_id",
                Attribute::string(Required, "The AKS cluster's resource ID.")
                    .valid(cluster_id)
                    .equal_by(equality::without_case)
                    .requires_replace(),
            ),
            (
                "key_vault_id",
                Attribute::string(Required, "The vault's resource ID.")
                    .valid(vault_id)
                    .equal_by(equality::without_case),
            ),
            (
                "namespace",
                Attribute::string(
                    OptionalComputed,
                    "The namespace; it must exist, unless `create_namespace`. `default` unless set.",
                )
                .default("default")
                .valid(text("a DNS label", "\"shop\"", is_label))
                .requires_replace(),
            ),
            (
                "create_namespace",
                Attribute::bool(
                    OptionalComputed,
                    "Whether a missing namespace is made. It is never deleted. Services that the rules name may then come \
                     later. False unless set.",
                )
                .default(false),
            ),
            ("certificates", certificates()),
            ("sync", objects::sync()),
            (
                "apply_manifests",
                Attribute::bool(
                    OptionalComputed,
                    "Whether the objects are applied. If not they are only rendered, in `manifests`, for whoever applies \
                     them: then the cluster's API is never asked, and nothing is verified. True unless set.",
                )
                .default(true),
            ),
            (
                "force_conflicts",
                Attribute::bool(
                    OptionalComputed,
                    "Whether fields of these objects are taken even from other reconcilers (Helm, Argo CD, Flux, other \
                     Terraform providers), and a complete binding of the same ID even if this state does not know it. \
                     What people edited is always taken back. False unless set.",
                )
                .default(false),
            ),
            (
                "on_incomplete",
                Attribute::string(
                    OptionalComputed,
                    "What an apply that stops half way is: `error` (a new resource is then tainted, and the next apply \
                     resumes it), or `warn`: a success whose `status.phase` tells the truth. `error` unless set.",
                )
                .default("error")
                .valid(one_of(&["error", "warn"])),
            ),
            ("kubernetes", objects::kubernetes()),
            ("addon", addon()),
            ("access", access()),
            ("ingress", ingress()),
            ("gateway", gateway::attribute()),
            ("verify", verify()),
            ("expiry", expiry()),
            ("timeouts", TIMEOUTS.attribute()),
            (
                "id",
                computed("`{cluster_id}/namespaces/{namespace}/bindings/{name}`; also the ID to import by."),
            ),
            (
                "instance_id",
                computed(
                    "One per creation. Objects carry it, and only objects that carry it are ever deleted.",
                ),
            ),
            ("addon_identity", addon_identity()),
            ("addon_state", addon_state()),
            ("grants", grants()),
            (
                "secret_names",
                Attribute::value(
                    Type::map(Type::String),
                    Computed,
                    "The Secrets, by the keys of `certificates`.",
                ),
            ),
            (
                "manifests",
                Attribute::value(
                    Type::map(Type::String),
                    Computed,
                    "The objects as they are in the cluster, reduced to the fields kvtls owns, by `Kind/name`. A plan \
                     shows what each will be.",
                ),
            ),
            (
                "addresses",
                Attribute::nested(
                    Nesting::Single,
                    Computed,
                    "Where the edge is reached.",
                    [
                        (
                            "ingress",
                            computed("The address that the Ingress publishes, for a DNS record."),
                        ),
                        (
                            "gateway",
                            computed("The address that the Gateway publishes, for a DNS record."),
                        ),
                    ],
                ),
            ),
            ("status", status()),
        ],
    )
    .faults_as("KVTLS-E002")
}

fn certificates() -> Attribute {
    Attribute::nested(
        Nesting::Map,
        Required,
        "The certificates, by a logical name that is a DNS label; one to twenty.",
        [
            (
                "certificate",
                Attribute::string(
                    OptionalComputed,
                    "The certificate's name in the vault, or its versionless ID; the key unless set. An ID with a \
                     version is refused unless `version` says the same, because the certificate would never be renewed.",
                )
                .valid(certificate_reference),
            ),
            (
                "hosts",
                Attribute::value(
                    Type::list(Type::String),
                    OptionalComputed,
                    "The hosts it serves. With one certificate: all hosts of the rules, unless set.",
                )
                .valid(each(host)),
            ),
            (
                "secret_name",
                Attribute::string(OptionalComputed, "The Secret's name; `{name}-{key}` unless set.")
                    .valid(text("a DNS subdomain", "\"shop-tls\"", is_subdomain)),
            ),
            (
                "version",
                Attribute::string(
                    Optional,
                    "The only version to serve, 32 hexadecimal digits. Unless set, the newest is followed. A newer one in \
                     the vault is a warning.",
                )
                .valid(text(
                    "32 hexadecimal digits",
                    "\"0123456789abcdef0123456789abcdef\"",
                    is_version,
                )),
            ),
        ],
    )
    .valid(length_between(1, 20))
    .valid(matches_each("a DNS label of at most 40 characters", "my-tls-cert", is_short_label))
}

fn addon() -> Attribute {
    Attribute::nested(
        Nesting::Single,
        OptionalComputed,
        "The cluster's Key Vault Secrets Provider add-on.",
        [
            (
                "mode",
                Attribute::string(
                    OptionalComputed,
                    "`ensure` switches it on as wished, `require` fails unless it already is, `ignore` does not care \
                     how it is set. `ensure` unless set.",
                )
                .default("ensure")
                .valid(one_of(MODES)),
            ),
            ("rotation_enabled", wishes::rotation_enabled()),
            ("rotation_poll_interval", wishes::rotation_poll_interval()),
            (
                "on_destroy",
                Attribute::string(
                    OptionalComputed,
                    "`disable_if_unused` switches the add-on off with the last SecretProviderClass of the cluster, if this \
                     binding was made by the run that switched it on; `leave` does not. `leave` unless set.",
                )
                .default("leave")
                .valid(one_of(&["leave", "disable_if_unused"])),
            ),
        ],
    )
}

fn access() -> Attribute {
    Attribute::nested(
        Nesting::Single,
        OptionalComputed,
        "Who reads the vault, and who lets it.",
        [
            (
                "mode",
                Attribute::string(
                    OptionalComputed,
                    "`ensure` grants, `require` fails unless it is granted already (grants above and to a group count), \
                     `ignore` does not look. `ensure` unless set.",
                )
                .default("ensure")
                .valid(one_of(MODES)),
            ),
            (
                "model",
                Attribute::string(
                    OptionalComputed,
                    "The vault's permission model: `rbac`, `access_policy`, or `auto` to take it as it is. Another one than \
                     is written is an error. `auto` unless set.",
                )
                .default("auto")
                .valid(one_of(&["auto", "rbac", "access_policy"])),
            ),
            (
                "scope",
                Attribute::string(
                    OptionalComputed,
                    "What is granted: `vault`, or `certificate` for the bound certificates alone (vaults with roles). `vault` \
                     unless set.",
                )
                .default("vault")
                .valid(one_of(&["vault", "certificate"])),
            ),
            (
                "propagation_timeout",
                Attribute::string(
                    OptionalComputed,
                    "How long a new grant, or a role in a cluster made within the last half hour, may take to have an effect, \
                     `1m` to `60m`. `10m` unless set.",
                )
                .default("10m")
                .valid(text(
                    "a duration from one minute to an hour",
                    "\"10m\"",
                    is_propagation_timeout,
                ))
                .equal_by(equality::same_duration),
            ),
            (
                "identity",
                Attribute::string(
                    OptionalComputed,
                    "Who reads: `addon`, the cluster's own identity for it, or `workload`, a user-assigned identity that \
                     trusts a service account. `addon` unless set.",
                )
                .default("addon")
                .valid(one_of(&["addon", "workload"])),
            ),
            (
                "identity_id",
                Attribute::string(Optional, "The user-assigned identity's resource ID; for `workload`.")
                    .valid(identity_id)
                    .equal_by(equality::without_case),
            ),
            (
                "service_account_name",
                Attribute::string(
                    OptionalComputed,
                    "The service account of the sync pods; for `workload`. One that is there is used as it is, another one is \
                     made. The binding's name unless set.",
                )
                .valid(text("a DNS subdomain", "\"shop\"", is_subdomain)),
            ),
            (
                "federated_credential",
                Attribute::string(
                    OptionalComputed,
                    "Who makes the identity trust the service account; for `workload`. `ensure` adds a federated credential, \
                     `require` fails without one, `ignore` does not look. `ensure` unless set.",
                )
                .default("ensure")
                .valid(one_of(MODES)),
            ),
        ],
    )
}

fn expiry() -> Attribute {
    Attribute::nested(
        Nesting::Single,
        OptionalComputed,
        "What is said when a certificate is about to end.",
        [
            (
                "warn",
                Attribute::string(
                    OptionalComputed,
                    "Plans warn this long before a certificate ends. `30d` unless set.",
                )
                .default("30d")
                .valid(validate::duration("30d"))
                .equal_by(equality::same_duration),
            ),
            (
                "fail",
                Attribute::string(
                    Optional,
                    "Plans fail this long before a certificate ends. Unless set, what serves already never fails a plan.",
                )
                .valid(validate::duration("3d"))
                .equal_by(equality::same_duration),
            ),
        ],
    )
}

/// `rules`, with the path types that the edge knows; a port is a number where the edge cannot look up a name.
pub(super) fn rules(path_types: &'static [&'static str], numbers: bool) -> Attribute {
    let port = if numbers {
        Attribute::string(Required, "The Service's port.").valid(text("a port number", "80", |it| {
            it.parse::<u16>().is_ok_and(|port| port > 0)
        }))
    } else {
        Attribute::string(Required, "The Service's port, by number or name.").valid(text(
            "a port number or name",
            "80",
            is_port,
        ))
    };
    let path =
        Attribute::nested(
            Nesting::List,
            Required,
            "Where requests go, by path.",
            [
                (
                    "path",
                    Attribute::string(OptionalComputed, "`/` unless set.")
                        .default("/")
                        .valid(text("a path that begins with /", "\"/\"", |it| {
                            it.starts_with('/')
                        })),
                ),
                (
                    "path_type",
                    Attribute::string(OptionalComputed, "`Prefix` unless set.")
                        .default("Prefix")
                        .valid(one_of(path_types)),
                ),
                (
                    "service",
                    Attribute::string(Required, "The Service; it must be there before the binding.")
                        .valid(text("a DNS label", "\"my-app\"", is_label)),
                ),
                ("port", port),
            ],
        )
        .valid(length_between(1, 100));
    Attribute::nested(
        Nesting::List,
        Required,
        "The hosts and where their requests go.",
        [
            ("host", Attribute::string(Required, "The host.").valid(host)),
            ("paths", path),
        ],
    )
    .valid(length_between(1, 100))
}

fn ingress() -> Attribute {
    Attribute::nested(
        Nesting::Single,
        Optional,
        "The Ingress. Without it the Secrets are kept for whoever uses them.",
        [
            (
                "name",
                Attribute::string(
                    OptionalComputed,
                    "Its name; the binding's unless set. A new name is served first.",
                )
                .valid(text("a DNS subdomain", "\"shop\"", is_subdomain)),
            ),
            (
                "class_name",
                Attribute::string(Optional, "Its class; the cluster's default unless set.").valid(text(
                    "a DNS subdomain",
                    "\"nginx\"",
                    is_subdomain,
                )),
            ),
            (
                "rules",
                rules(&["Prefix", "Exact", "ImplementationSpecific"], false),
            ),
            ("extra_tls", extra_tls()),
            (
                "ssl_redirect",
                Attribute::bool(
                    Optional,
                    "Whether plain HTTP is redirected, written as the annotation of the class's controller \
                     (ingress-nginx, application routing, Application Gateway, HAProxy); the controller's own way unless \
                     set.",
                ),
            ),
            (
                "annotations",
                Attribute::value(Type::map(Type::String), Optional, "Its annotations.").valid(annotations),
            ),
            (
                "labels",
                Attribute::value(Type::map(Type::String), Optional, "Its labels.").valid(labels),
            ),
        ],
    )
}

fn extra_tls() -> Attribute {
    Attribute::nested(
        Nesting::List,
        Optional,
        "Secrets that somebody else keeps, another binding for example, for hosts that no certificate here has.",
        [
            (
                "hosts",
                Attribute::value(Type::list(Type::String), Required, "The hosts.")
                    .valid(length_between(1, 100))
                    .valid(each(host)),
            ),
            (
                "secret_name",
                Attribute::string(Required, "The Secret, in the binding's namespace.").valid(text(
                    "a DNS subdomain",
                    "\"api-tls\"",
                    is_subdomain,
                )),
            ),
        ],
    )
    .valid(length_between(1, 100))
}

fn verify() -> Attribute {
    Attribute::nested(
        Nesting::Single,
        OptionalComputed,
        "What must be proven before an apply succeeds.",
        [
            (
                "level",
                Attribute::string(
                    OptionalComputed,
                    "`served`: a handshake must return the vault's certificate. `auto`: so, but an edge that cannot be \
                     reached is only a warning. `synced`: the Secret must hold it. `none`. `auto` unless set.",
                )
                .default("auto")
                .valid(one_of(&["auto", "served", "synced", "none"])),
            ),
            (
                "via",
                Attribute::string(
                    OptionalComputed,
                    "Where a handshake is made. `address`: at the address that Ingress or Gateway publish. `dns`: at each \
                     host's own. `tunnel`: in a pod of the controller, through the API server, where the address cannot be \
                     reached. `auto`: as `address`, and what the pod serves is told beside an address that cannot be \
                     reached. `auto` unless set.",
                )
                .default("auto")
                .valid(one_of(&["auto", "address", "dns", "tunnel"])),
            ),
            (
                "endpoint",
                Attribute::string(
                    Optional,
                    "`host:port` to dial instead, as with curl --connect-to; wins over `via`.",
                )
                .valid(text("a host and a port", "\"10.1.2.3:443\"", |it| endpoint(it).is_some())),
            ),
            ("read_secret", objects::read_secret()),
            (
                "on_refresh",
                Attribute::bool(
                    OptionalComputed,
                    "Whether a refresh looks, too, for at most 3 seconds; it never tunnels. True unless set.",
                )
                .default(true),
            ),
            (
                "timeout",
                Attribute::string(OptionalComputed, "How long each proof may take. `5m` unless set.")
                    .default("5m")
                    .valid(validate::duration("5m"))
                    .equal_by(equality::same_duration),
            ),
        ],
    )
}

fn addon_identity() -> Attribute {
    Attribute::nested(
        Nesting::Single,
        Computed,
        "The add-on's identity; null while the add-on is off.",
        [
            ("client_id", computed("Its client ID.")),
            ("object_id", computed("Its object ID, for grants.")),
            ("resource_id", computed("Its resource ID.")),
        ],
    )
}

fn addon_state() -> Attribute {
    Attribute::nested(
        Nesting::Single,
        Computed,
        "The add-on as it is; a plan shows what it will be.",
        [
            ("enabled", Attribute::bool(Computed, "Whether it is on.")),
            (
                "rotation_enabled",
                Attribute::bool(Computed, "Whether it rotates."),
            ),
            ("rotation_poll_interval", computed("How often.")),
        ],
    )
}

fn grants() -> Attribute {
    Attribute::nested(
        Nesting::List,
        Computed,
        "What lets the add-on's identity read the vault.",
        [
            ("kind", computed("`role_assignment` or `access_policy`.")),
            ("scope", computed("Where it applies.")),
            (
                "role",
                computed("The role's name or GUID; `secrets/get` for an access policy."),
            ),
            ("principal_id", computed("Whom it is for.")),
            (
                "id",
                computed("The assignment's ID; the vault's for an access policy."),
            ),
            ("managed", Attribute::bool(Computed, "Whether kvtls made it.")),
        ],
    )
}

fn status() -> Attribute {
    let place = |text: &str| {
        Attribute::nested(
            Nesting::Single,
            Computed,
            text,
            [
                ("version", computed("The vault's version, where it is known.")),
                (
                    "thumbprint",
                    computed("SHA-1, upper-case hex, as the portal shows it."),
                ),
                ("not_after", computed("The end of its validity, RFC 3339.")),
            ],
        )
    };
    Attribute::nested(
        Nesting::Single,
        Computed,
        "How far the binding has come.",
        [
            (
                "phase",
                computed("`pending`, `azure`, `objects`, `synced`, `unverified` or `served`."),
            ),
            (
                "in_sync",
                Attribute::bool(
                    Computed,
                    "Whether every place holds the vault's certificate, may be on the way, or does not follow because rotation is off.",
                ),
            ),
            (
                "certificates",
                Attribute::nested(
                    Nesting::Map,
                    Computed,
                    "By the keys of `certificates`.",
                    [
                        ("vault", place("In the vault.")),
                        ("synced", place("In the Secret.")),
                        ("served", place("At the edge; of several hosts the worst.")),
                    ],
                ),
            ),
        ],
    )
}

const MODES: &[&str] = &["ensure", "require", "ignore"];

fn computed(description: &str) -> Attribute {
    Attribute::string(Computed, description)
}

pub(super) fn host(value: &Value, path: &AttributePath) -> Vec<Diagnostic> {
    match value.as_str().map(Host::parse) {
        Some(Err(error)) => {
            let mut diagnostic = unexpected(
                path,
                "a lower-case host name or a one-label wildcard",
                "\"myapp.example.com\"",
                value,
            );
            diagnostic.detail = format!("{} ({error})", diagnostic.detail);
            vec![diagnostic]
        }
        _ => Vec::new(),
    }
}

pub(super) fn annotations(value: &Value, path: &AttributePath) -> Vec<Diagnostic> {
    refused_keys(value, path, |key| {
        if key.starts_with("kvtls.io/") {
            Some("kvtls keeps its own bookkeeping there")
        } else if key.starts_with("kubernetes.azure.com/tls-cert-") {
            Some("application routing would manage the same certificate, and the two would fight")
        } else {
            None
        }
    })
}

pub(in crate::provider) fn labels(value: &Value, path: &AttributePath) -> Vec<Diagnostic> {
    refused_keys(value, path, |key| {
        (key == "app.kubernetes.io/managed-by" || key.starts_with("kvtls.io/"))
            .then_some("kvtls marks its objects with it")
    })
}

fn refused_keys(
    value: &Value,
    path: &AttributePath,
    reason: impl Fn(&str) -> Option<&'static str>,
) -> Vec<Diagnostic> {
    let keys = value.as_map().into_iter().flat_map(|members| members.keys());
    keys.filter_map(|key| {
        let reason = reason(key)?;
        let detail = format!("The key \"{key}\" cannot be used here: {reason}.");
        Some(
            Diagnostic::error("Key is reserved", detail, format!("Remove it from {path}.")).at(path.key(key)),
        )
    })
    .collect()
}

fn certificate_reference(value: &Value, path: &AttributePath) -> Vec<Diagnostic> {
    let expected = "a certificate's name, or its versionless ID";
    let example = "\"my-tls-cert\" or \"https://kv-prod.vault.azure.net/certificates/my-tls-cert\"";
    match value.as_str().map(certificate_name) {
        Some(Err(MalformedReference)) => vec![unexpected(path, expected, example, value)],
        _ => Vec::new(),
    }
}

/// A reference to a certificate that is neither a name nor an ID.
#[derive(Debug)]
pub(super) struct MalformedReference;

/// Name and version in a reference: a name, or `https://{vault}/certificates/{name}[/{version}]` or `…/secrets/{name}…`.
pub(super) fn certificate_name(reference: &str) -> Result<(&str, Option<&str>), MalformedReference> {
    let is_name = |text: &str| {
        (1..=127).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-')
    };
    let Some(rest) = reference.strip_prefix("https://") else {
        return if is_name(reference) {
            Ok((reference, None))
        } else {
            Err(MalformedReference)
        };
    };
    let parts: Vec<&str> = rest.trim_end_matches('/').split('/').collect();
    match parts.as_slice() {
        [_, "certificates" | "secrets", name] if is_name(name) => Ok((name, None)),
        [_, "certificates" | "secrets", name, version] if is_name(name) => Ok((name, Some(version))),
        _ => Err(MalformedReference),
    }
}

/// The vault's host in a reference that is an ID.
pub(super) fn certificate_vault(reference: &str) -> Option<&str> {
    reference.strip_prefix("https://")?.split(['/', ':']).next()
}

/// `host:port`, the host possibly in brackets.
pub(super) fn endpoint(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty() && !host.contains(['/', ' ', '@'])).then(|| (host.to_owned(), port))
}

pub(super) fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_short_label(text: &str) -> bool {
    text.len() <= 40 && is_label(text)
}

pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_port(text: &str) -> bool {
    match text.parse::<u32>() {
        Ok(number) => (1..=65_535).contains(&number),
        Err(_) => text.len() <= 15 && is_label(text),
    }
}

fn is_propagation_timeout(text: &str) -> bool {
    duration::parse(text).is_some_and(|it| (60..=3600).contains(&it.as_secs()))
}

fn is_version(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|it| it.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_keeps_terraforms_rules() {
        assert_eq!(schema().check(), Vec::<String>::new());
    }

    #[test]
    fn a_certificate_is_named_by_name_or_versionless_id() {
        assert_eq!(certificate_name("my-tls-cert").ok(), Some(("my-tls-cert", None)));
        assert_eq!(
            certificate_name("https://kv.vault.azure.net/secrets/web/").ok(),
            Some(("web", None))
        );
        assert_eq!(
            certificate_name("https://kv.vault.azure.net/certificates/web/0123").ok(),
            Some(("web", Some("0123")))
        );
        for bad in [
            "",
            "a_b",
            "https://kv.vault.azure.net/keys/web",
            "http://kv/certificates/web",
        ] {
            assert!(certificate_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        assert_eq!(endpoint("10.0.0.1:443"), Some(("10.0.0.1".to_owned(), 443)));
        assert_eq!(endpoint("[::1]:8443"), Some(("::1".to_owned(), 8443)));
        for bad in ["10.0.0.1", ":443", "a:0", "https://a:1", "a:70000"] {
            assert_eq!(endpoint(bad), None, "{bad}");
        }
    }
}
