//! From what is written to what is wanted. Unknown values end here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::gateway;
use super::objects;
use super::schema::{certificate_name, certificate_vault, endpoint};
use crate::azure::ids::{ClusterId, IdError, IdentityId, VaultId};
use crate::binding::desired::{
    Access, AddonPolicy, Certificate, Desired, Expiry, ExtraTls, GrantScope, Identity, Ingress, Mode,
    PathRule, Port, Rule, Verify, VerifyLevel, Via, Workload, binding_id,
};
use crate::framework::duration;
use crate::framework::object::{Known, Reader};
use crate::framework::{AttributePath, Diagnostic, Diagnostics, Value};
use crate::provider::Defaults;
use crate::provider::ids::invalid_id;

/// Fills in what the configuration leaves to us, as far as it is known. `planned` has every attribute.
pub(super) fn fill(config: &Value, planned: &mut Value) {
    let name = planned.get("name").clone();
    let rule_hosts = rule_hosts(config);
    let alone = config
        .get("certificates")
        .as_map()
        .is_some_and(|all| all.len() == 1);
    let written = config.get("certificates").clone();
    if let Some(certificates) = member(planned, "certificates").and_then(Value::as_map_mut) {
        for (key, certificate) in certificates {
            let Some(members) = certificate.as_map_mut() else {
                continue;
            };
            let written = written.get(key);
            let or = |attribute: &str, default: Value| {
                let value = written.get(attribute);
                if value.is_null() { default } else { value.clone() }
            };
            members.insert(
                "certificate".to_owned(),
                or("certificate", Value::from(key.as_str())),
            );
            let hosts = if alone {
                rule_hosts.clone()
            } else {
                Value::List(Vec::new())
            };
            members.insert("hosts".to_owned(), or("hosts", hosts));
            let secret_name = match &name {
                Value::String(name) => Value::from(format!("{name}-{key}")),
                _ => Value::Unknown,
            };
            members.insert("secret_name".to_owned(), or("secret_name", secret_name));
        }
    }
    let account = match planned.get("access").get("identity").as_str() {
        Some("workload") => match config.get("access").get("service_account_name") {
            Value::Null => name.clone(),
            written => written.clone(),
        },
        Some(_) => config.get("access").get("service_account_name").clone(),
        None => Value::Unknown,
    };
    if let Some(access) = member(planned, "access").and_then(Value::as_map_mut) {
        access.insert("service_account_name".to_owned(), account);
    }
    // Nothing is proven of what is only rendered.
    if config.get("apply_manifests").as_bool() == Some(false)
        && config.get("verify").get("level").is_null()
        && let Some(verify) = member(planned, "verify").and_then(Value::as_map_mut)
    {
        verify.insert("level".to_owned(), Value::from("none"));
    }
    let ingress_name = config.get("ingress").get("name").clone();
    if let Some(ingress) = member(planned, "ingress").and_then(Value::as_map_mut) {
        ingress.insert(
            "name".to_owned(),
            if ingress_name.is_null() {
                name
            } else {
                ingress_name
            },
        );
    }
    gateway::fill(config, planned);
}

pub(super) fn member<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    value.as_map_mut().and_then(|members| members.get_mut(name))
}

/// The hosts of all rules and listeners, each once; unknown if it is not known which there are.
fn rule_hosts(config: &Value) -> Value {
    let mut hosts: Vec<Value> = Vec::new();
    for (edge, member) in [
        ("ingress", "rules"),
        ("gateway", "listeners"),
        ("gateway", "rules"),
    ] {
        let things: Vec<&Value> = match config.get(edge).get(member) {
            Value::Null if !config.get(edge).is_unknown() => continue,
            Value::List(items) => items.iter().collect(),
            Value::Map(members) => members.values().collect(),
            _ => return Value::Unknown,
        };
        for thing in things {
            let host = thing.get("host").clone();
            if !hosts.contains(&host) && !is_extra(config, &host) {
                hosts.push(host);
            }
        }
    }
    Value::List(hosts)
}

/// Whether somebody else's Secret serves this host.
fn is_extra(config: &Value, host: &Value) -> bool {
    let extra = config
        .get("ingress")
        .get("extra_tls")
        .as_list()
        .unwrap_or_default();
    let mut hosts = extra
        .iter()
        .flat_map(|entry| entry.get("hosts").as_list().unwrap_or_default());
    hosts.any(|known| known == host && !host.is_unknown())
}

/// The binding's ID, if all of it is known.
pub(super) fn id(value: &Value) -> Option<String> {
    let text = |name: &str| value.get(name).as_str();
    Some(binding_id(text("cluster_id")?, text("namespace")?, text("name")?))
}

/// What is wanted, if everything is known; nothing if something is unknown.
///
/// # Errors
/// If a value contradicts another.
pub(super) fn parse(planned: &Value, defaults: &Defaults) -> Result<Option<Desired>, Diagnostics> {
    const CONFIGURED: [&str; 16] = [
        "name",
        "cluster_id",
        "key_vault_id",
        "namespace",
        "certificates",
        "addon",
        "access",
        "ingress",
        "gateway",
        "verify",
        "expiry",
        "create_namespace",
        "sync",
        "apply_manifests",
        "force_conflicts",
        "kubernetes",
    ];
    if CONFIGURED.iter().any(|name| !planned.get(name).is_wholly_known()) {
        return Ok(None);
    }
    let contradictions = contradictions(planned);
    if contradictions.has_errors() {
        return Err(contradictions);
    }
    desired(&Reader::root(planned), defaults)
        .map(Some)
        .map_err(Diagnostics::from)
}

fn desired(root: &Reader<'_>, defaults: &Defaults) -> Result<Desired, Diagnostic> {
    let invalid = |name: &str, error: &IdError| invalid_id(error, &AttributePath::of(name));
    let mut certificates = BTreeMap::new();
    for (key, certificate) in root.map("certificates")? {
        let reference = certificate.string("certificate")?;
        certificates.insert(
            key.to_owned(),
            Certificate {
                certificate: certificate_name(reference)
                    .map_or(reference, |(name, _)| name)
                    .to_owned(),
                version: certificate.opt_string("version")?.map(str::to_owned),
                hosts: certificate.strings("hosts")?,
                secret_name: certificate.string("secret_name")?.to_owned(),
            },
        );
    }
    let addon = root.object("addon")?;
    let verify = root.object("verify")?;
    let ingress = root
        .opt_object("ingress")?
        .map(|ingress| read_ingress(&ingress))
        .transpose()?;
    let certificate_of = |host: &str| {
        let has = |certificate: &Certificate| certificate.hosts.iter().any(|known| known == host);
        let mut having = certificates.iter().filter(|(_, certificate)| has(certificate));
        having.next().map(|(key, _)| key.clone())
    };
    let gateway = root
        .opt_object("gateway")?
        .map(|gateway| gateway::read(&gateway, certificate_of))
        .transpose()?;
    let apply_manifests = root.opt_bool("apply_manifests")?.unwrap_or(true);
    Ok(Desired {
        name: root.string("name")?.to_owned(),
        cluster: ClusterId::parse(root.string("cluster_id")?)
            .map_err(|error| invalid("cluster_id", &error))?,
        vault: VaultId::parse(root.string("key_vault_id")?)
            .map_err(|error| invalid("key_vault_id", &error))?,
        namespace: root.string("namespace")?.to_owned(),
        certificates,
        addon: AddonPolicy {
            mode: mode(addon.string("mode")?),
            rotation_enabled: addon.bool("rotation_enabled")?,
            rotation_poll_interval: addon.opt_string("rotation_poll_interval")?.map(str::to_owned),
            disable_if_unused: addon.string("on_destroy")? == "disable_if_unused",
        },
        access: read_access(&root.object("access")?)?,
        ingress,
        gateway,
        verify: Verify {
            level: match verify.string("level")? {
                // Nothing can be proven of what is not applied.
                _ if !apply_manifests => VerifyLevel::None,
                "served" => VerifyLevel::Served,
                "synced" => VerifyLevel::Synced,
                "none" => VerifyLevel::None,
                _ => VerifyLevel::Auto,
            },
            // States from before these attributes have none of them.
            via: match verify.opt_string("via")? {
                Some("address") => Via::Address,
                Some("dns") => Via::Dns,
                Some("tunnel") => Via::Tunnel,
                _ => Via::Auto,
            },
            endpoint: verify.opt_string("endpoint")?.and_then(endpoint),
            on_refresh: verify.opt_bool("on_refresh")?.unwrap_or(true),
            timeout: duration::parse(verify.string("timeout")?).unwrap_or(Duration::from_secs(300)),
            read_secret: objects::read_read_secret(&verify)?,
        },
        expiry: read_expiry(&root.object("expiry")?)?,
        create_namespace: root.opt_bool("create_namespace")?.unwrap_or(false),
        sync: objects::read_sync(root)?,
        default_labels: defaults.labels.clone(),
        apply_manifests,
        force_conflicts: root.opt_bool("force_conflicts")?.unwrap_or(false),
        connection: objects::read_kubernetes(root.opt_object("kubernetes")?.as_ref(), &defaults.connection)?,
    })
}

fn read_expiry(expiry: &Reader<'_>) -> Result<Expiry, Diagnostic> {
    Ok(Expiry {
        warn: duration::parse(expiry.string("warn")?).unwrap_or(Duration::from_secs(30 * 24 * 3600)),
        fail: expiry.opt_string("fail")?.and_then(duration::parse),
    })
}

fn read_access(access: &Reader<'_>) -> Result<Access, Diagnostic> {
    Ok(Access {
        mode: mode(access.string("mode")?),
        rbac: match access.string("model")? {
            "rbac" => Some(true),
            "access_policy" => Some(false),
            _ => None,
        },
        scope: match access.string("scope")? {
            "certificate" => GrantScope::Certificate,
            _ => GrantScope::Vault,
        },
        propagation: duration::parse(access.string("propagation_timeout")?)
            .unwrap_or(Duration::from_secs(600)),
        identity: identity(access)?,
    })
}

/// Whose rights read the vault.
pub(super) fn identity(access: &Reader<'_>) -> Result<Identity, Diagnostic> {
    if access.opt_string("identity")? != Some("workload") {
        return Ok(Identity::Addon);
    }
    let id = IdentityId::parse(access.string("identity_id")?)
        .map_err(|error| invalid_id(&error, &access.path().attribute("identity_id")))?;
    Ok(Identity::Workload(Workload {
        id,
        service_account: access.string("service_account_name")?.to_owned(),
        federated: mode(access.string("federated_credential")?),
    }))
}

fn mode(text: &str) -> Mode {
    match text {
        "require" => Mode::Require,
        "ignore" => Mode::Ignore,
        _ => Mode::Ensure,
    }
}

/// The rules of an `ingress` or a `gateway`.
pub(super) fn read_rules(edge: &Reader<'_>) -> Result<Vec<Rule>, Diagnostic> {
    let mut rules = Vec::new();
    for rule in edge.list("rules")? {
        let mut paths = Vec::new();
        for path in rule.list("paths")? {
            let port = path.string("port")?;
            paths.push(PathRule {
                path: path.string("path")?.to_owned(),
                path_type: path.string("path_type")?.to_owned(),
                service: path.string("service")?.to_owned(),
                port: port
                    .parse()
                    .map_or_else(|_| Port::Name(port.to_owned()), Port::Number),
            });
        }
        rules.push(Rule {
            host: rule.string("host")?.to_owned(),
            paths,
        });
    }
    Ok(rules)
}

fn read_ingress(ingress: &Reader<'_>) -> Result<Ingress, Diagnostic> {
    let mut extra_tls = Vec::new();
    if !ingress.at("extra_tls").is_null() {
        for entry in ingress.list("extra_tls")? {
            extra_tls.push(ExtraTls {
                hosts: entry.strings("hosts")?,
                secret_name: entry.string("secret_name")?.to_owned(),
            });
        }
    }
    Ok(Ingress {
        name: ingress.string("name")?.to_owned(),
        class_name: ingress.opt_string("class_name")?.map(str::to_owned),
        rules: read_rules(ingress)?,
        extra_tls,
        ssl_redirect: ingress.opt_bool("ssl_redirect")?,
        annotations: ingress.string_map("annotations")?,
        labels: ingress.string_map("labels")?,
    })
}

/// Contradictions within the configuration, as far as it is known. Works on a configuration and on a planned state.
pub(super) fn contradictions(value: &Value) -> Diagnostics {
    let root = Reader::root(value);
    let mut diagnostics = Diagnostics::new();
    let certificates = root.known_map("certificates").known().unwrap_or_default();
    secret_names(&root, &certificates, &mut diagnostics);
    vault_references(&root, &certificates, &mut diagnostics);
    hosts(&root, &certificates, &mut diagnostics);
    if let Known::Known(gateway) = root.known_object("gateway") {
        let keys: BTreeSet<&str> = certificates.iter().map(|(key, _)| *key).collect();
        let known = root.known_map("certificates").known().map(|_| &keys);
        gateway::contradictions(&gateway, known, &mut diagnostics);
    }
    versions(&certificates, &mut diagnostics);
    workload(&root, &mut diagnostics);
    rendering(&root, &mut diagnostics);
    objects::contradictions(&root, &mut diagnostics);
    diagnostics
}

/// An ID with a version stops rotation, so `version` has to say the same.
fn versions(certificates: &[(&str, Reader<'_>)], diagnostics: &mut Diagnostics) {
    for (_, certificate) in certificates {
        let reference = certificate.known_string("certificate").known();
        let Some((_, Some(named))) = reference.and_then(|text| certificate_name(text).ok()) else {
            continue;
        };
        let pinned = match certificate.known_string("version") {
            Known::Known(version) => Some(version),
            Known::Null => None,
            Known::Unknown => continue,
        };
        if pinned != Some(named) {
            diagnostics.push(
                Diagnostic::error(
                    "Certificate ID has a version",
                    "With a version the certificate would never be renewed in the cluster.",
                    format!(
                        "Use the versionless ID (azurerm: versionless_id or versionless_secret_id), or pin it on purpose with  \
                         version = \"{named}\"."
                    ),
                )
                .at(certificate.path().attribute("certificate")),
            );
        }
    }
}

/// What only a workload identity has.
fn workload(root: &Reader<'_>, diagnostics: &mut Diagnostics) {
    let Known::Known(access) = root.known_object("access") else {
        return;
    };
    let is_workload = match access.known_string("identity") {
        Known::Known(identity) => identity == "workload",
        Known::Null => false,
        Known::Unknown => return,
    };
    if is_workload {
        if matches!(access.known_string("identity_id"), Known::Null) {
            diagnostics.push(
                Diagnostic::error(
                    "Identity is needed",
                    "access.identity is \"workload\", and no identity is named.",
                    "Add  identity_id = azurerm_user_assigned_identity.main.id.",
                )
                .at(access.path().attribute("identity_id")),
            );
        }
        return;
    }
    for name in ["identity_id", "service_account_name", "federated_credential"] {
        if let Known::Known(text) = access.known_string(name)
            && text != "ensure"
        {
            diagnostics.push(
                Diagnostic::error(
                    "Setting is for workload identity only",
                    format!("access.{name} has no effect while the add-on's own identity reads the vault."),
                    format!("Remove {name}, or set  identity = \"workload\"."),
                )
                .at(access.path().attribute(name)),
            );
        }
    }
}

/// What only an applied binding can have.
fn rendering(root: &Reader<'_>, diagnostics: &mut Diagnostics) {
    if root.known_bool("apply_manifests").known() != Some(false) {
        return;
    }
    if root.known_bool("create_namespace").known() == Some(true) {
        diagnostics.push(
            Diagnostic::error(
                "Namespace cannot be created",
                "With  apply_manifests = false  nothing is written to the cluster, and no namespace either.",
                "Let whoever applies the manifests make the namespace, and leave  create_namespace  out.",
            )
            .at(AttributePath::of("create_namespace")),
        );
    }
    let level = match root.known_object("verify") {
        Known::Known(verify) => verify.known_string("level").known(),
        Known::Null | Known::Unknown => None,
    };
    if level.is_some_and(|level| level != "none") {
        diagnostics.push(
            Diagnostic::error(
                "Nothing can be verified",
                "With  apply_manifests = false  the cluster is not asked, so no certificate can be proven.",
                "Set  verify = { level = \"none\" }, or leave the level out.",
            )
            .at(AttributePath::of("verify").attribute("level")),
        );
    }
}

fn secret_names(root: &Reader<'_>, certificates: &[(&str, Reader<'_>)], diagnostics: &mut Diagnostics) {
    let name = root.known_string("name").known();
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for (key, certificate) in certificates {
        let secret_name = match certificate.known_string("secret_name") {
            Known::Known(text) => text.to_owned(),
            Known::Null => match name {
                Some(name) => format!("{name}-{key}"),
                None => continue,
            },
            Known::Unknown => continue,
        };
        if let Some(other) = seen.insert(secret_name.clone(), key) {
            diagnostics.push(
                Diagnostic::error(
                    "Secret name is used twice",
                    format!("Certificates \"{other}\" and \"{key}\" would both be written to Secret \"{secret_name}\"."),
                    "Give each its own, for example  secret_name = \"shop-api-tls\".",
                )
                .at(certificate.path().attribute("secret_name")),
            );
        }
    }
}

fn vault_references(root: &Reader<'_>, certificates: &[(&str, Reader<'_>)], diagnostics: &mut Diagnostics) {
    let vault = root
        .known_string("key_vault_id")
        .known()
        .and_then(|text| VaultId::parse(text).ok());
    let Some(vault) = vault else { return };
    for (_, certificate) in certificates {
        let reference = certificate.known_string("certificate").known();
        let Some(host) = reference.and_then(certificate_vault) else {
            continue;
        };
        if !host
            .split('.')
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(vault.name()))
        {
            diagnostics.push(
                Diagnostic::error(
                    "Certificate is in another vault",
                    format!(
                        "The ID points to {host}; this binding reads vault \"{}\".",
                        vault.name()
                    ),
                    "Use one binding per vault.",
                )
                .at(certificate.path().attribute("certificate")),
            );
        }
    }
}

fn hosts(root: &Reader<'_>, certificates: &[(&str, Reader<'_>)], diagnostics: &mut Diagnostics) {
    let has_edge = !root.at("ingress").is_null() || !root.at("gateway").is_null();
    let mut covered: BTreeMap<&str, &str> = BTreeMap::new();
    let mut complete = true;
    for (key, certificate) in certificates {
        match certificate.known_list("hosts") {
            Known::Known(items) => {
                for item in &items {
                    let Known::Known(host) = item.as_known_string() else {
                        complete = false;
                        continue;
                    };
                    if let Some(other) = covered.insert(host, key) {
                        diagnostics.push(
                            Diagnostic::error(
                                "Host has two certificates",
                                format!("\"{host}\" stands in \"{other}\" and in \"{key}\"."),
                                "Leave it in one of them.",
                            )
                            .at(item.path().clone()),
                        );
                    }
                }
            }
            Known::Null if certificates.len() == 1 => complete = false,
            Known::Null if has_edge => diagnostics.push(
                Diagnostic::error(
                    "Hosts are needed",
                    format!(
                        "With several certificates, each must say which hosts it serves; \"{key}\" does not."
                    ),
                    "Add  hosts = [\"myapp.example.com\"].",
                )
                .at(certificate.path().attribute("hosts")),
            ),
            Known::Null => {}
            Known::Unknown => complete = false,
        }
    }
    if complete && root.known_map("certificates").known().is_some() {
        rules_are_covered(root, &covered, diagnostics);
    }
}

fn rules_are_covered(root: &Reader<'_>, covered: &BTreeMap<&str, &str>, diagnostics: &mut Diagnostics) {
    let mut edges = Vec::new();
    let mut extra = BTreeSet::new();
    if let Known::Known(ingress) = root.known_object("ingress") {
        let Some(others) = extra_hosts(&ingress, covered, diagnostics) else {
            return;
        };
        extra = others;
        let rules = ingress.known_list("rules").known().unwrap_or_default();
        edges.extend(rules.iter().filter_map(|rule| match rule.known_string("host") {
            Known::Known(host) => Some((host, rule.at("host"))),
            Known::Null | Known::Unknown => None,
        }));
    }
    edges.retain(|(host, _)| !extra.contains(host));
    if let Known::Known(gateway) = root.known_object("gateway") {
        edges.extend(gateway::hosts(&gateway));
    }
    let mut seen = BTreeSet::new();
    for (host, at) in edges {
        if !covered.contains_key(host) && seen.insert(host) {
            diagnostics.push(
                Diagnostic::error(
                    "Host has no certificate",
                    format!("No certificate would be served for \"{host}\", or the controller's own."),
                    format!("Add \"{host}\" to the hosts of a certificate, or remove it here."),
                )
                .at(at.path().clone()),
            );
        }
    }
}

/// The hosts that Secrets of others serve; nothing if it is not known which. One that a certificate has, too, is an
/// error.
fn extra_hosts<'a>(
    ingress: &Reader<'a>,
    covered: &BTreeMap<&str, &str>,
    diagnostics: &mut Diagnostics,
) -> Option<BTreeSet<&'a str>> {
    let mut extra = BTreeSet::new();
    let entries = match ingress.known_list("extra_tls") {
        Known::Known(entries) => entries,
        Known::Null => return Some(extra),
        Known::Unknown => return None,
    };
    for entry in entries {
        for item in entry.known_list("hosts").known()? {
            let Known::Known(host) = item.as_known_string() else {
                return None;
            };
            if let Some(key) = covered.get(host) {
                diagnostics.push(
                    Diagnostic::error(
                        "Host has two certificates",
                        format!("\"{host}\" stands in extra_tls and in \"{key}\"."),
                        "Leave it in one of them.",
                    )
                    .at(item.path().clone()),
                );
            }
            extra.insert(host);
        }
    }
    Some(extra)
}

#[cfg(test)]
mod tests;
