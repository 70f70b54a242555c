//! Judges the world before the first write. Pure.
//!
//! Findings have five classes. **A** contradictions are found when the configuration is parsed. Here: **B** a fact
//! that no sibling of the same apply can cure fails the plan already when it is newly bound; **C** a sibling may cure
//! it, so the plan warns and apply fails before its first write; **E** decay of what already serves warns and never
//! blocks. **D**, the caller's rights, is found by asking: see [`super::preflight`].

use std::collections::BTreeSet;

use serde_json::Value;
use time::OffsetDateTime;

use super::backends::{self, Backend};
use super::controllers::{Redirect, redirect};
use super::desired::{Desired, Expiry, GrantScope, Identity, Mode, Port};
use super::gateway::{Attach, Parent};
use super::grant;
use super::manifests;
use super::observation::{Observation, Seen};
use super::plan::{Owned, addon_wish};
use super::preflight::Missing;
use super::step::object_key;
use super::workload;
use crate::azure::{MOST_CREDENTIALS, VaultCertificate};
use crate::k8s::{ObjectRef, SECRET_PROVIDER_CLASS};

/// Something worth telling before anything is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// The cluster's ID leads nowhere.
    ClusterMissing,
    /// The vault's ID leads nowhere.
    VaultMissing {
        /// Whether the binding was made with this same vault and access.
        bound: bool,
    },
    /// The vault trusts another tenant than the cluster's identities live in.
    OtherTenant {
        /// The vault's tenant.
        vault: String,
        /// The cluster's tenant.
        cluster: String,
        /// Whether the binding was made with this same vault and access.
        bound: bool,
    },
    /// The add-on has to be on already, and is not as wished.
    AddonNotAsRequired {
        /// Whether it is on at all.
        enabled: bool,
    },
    /// The add-on's identity has to be allowed already, and is not.
    GrantMissing {
        /// The identity; none while the add-on is off.
        principal_id: Option<String>,
        /// Whether the vault uses roles.
        rbac: bool,
    },
    /// The vault has no such certificate.
    CertificateMissing {
        /// Logical name.
        key: String,
        /// Name in the vault.
        certificate: String,
    },
    /// Something is wrong with a certificate that exists.
    CertificateUnfit {
        /// Logical name.
        key: String,
        /// Name in the vault.
        certificate: String,
        /// Its version.
        version: String,
        /// What.
        flaw: Flaw,
        /// Whether it already served under this binding, so that it only decays.
        bound: bool,
    },
    /// A certificate does not cover a host.
    HostNotCovered {
        /// Logical name.
        key: String,
        /// Name in the vault.
        certificate: String,
        /// Position in `hosts`.
        index: usize,
        /// The host.
        host: String,
        /// What it covers.
        covers: Vec<String>,
        /// Whether it already served under this binding.
        bound: bool,
    },
    /// An object of that name exists and nobody says it is ours.
    Foreign {
        /// Which.
        object: ObjectRef,
        /// Who manages it, if it says so.
        managed_by: Option<String>,
    },
    /// An object of that name belongs to a complete binding that this state does not know.
    AlreadyBound {
        /// Which.
        object: ObjectRef,
        /// The binding's ID, to import.
        binding: String,
        /// Whether it is this very binding: then a state that is read later in this run may still know it.
        same: bool,
    },
    /// Objects of this very binding, complete and unknown to this state, that the practitioner insists on.
    TakenOver {
        /// Which.
        objects: Vec<ObjectRef>,
    },
    /// Objects of this very binding, unknown to this state, which a creation left that came to no end.
    Unfinished,
    /// The Secret exists and was not made by the driver.
    ForeignSecret {
        /// Logical name.
        key: String,
        /// The Secret.
        secret_name: String,
    },
    /// Another SecretProviderClass makes a Secret of the same name, and each would take it from the other.
    SecretShared {
        /// Logical name.
        key: String,
        /// The Secret.
        secret_name: String,
        /// The other SecretProviderClass.
        class: String,
        /// Whether the binding had this Secret before.
        bound: bool,
    },
    /// The namespace does not exist.
    NamespaceMissing,
    /// The Ingress class does not exist.
    ClassMissing {
        /// Its name.
        class: String,
    },
    /// A Service that a rule names does not exist, or does not listen on that port.
    ServiceUnfit {
        /// Where it is named.
        backend: Box<Backend>,
        /// The ports that it has; `None` if there is no such Service.
        ports: Option<Vec<String>>,
        /// Whether this binding named it before, or comes before it, so that nothing is stopped.
        bound: bool,
    },
    /// The Ingress names no class, and the cluster has none that is its default.
    NoDefaultClass,
    /// The caller lacks rights.
    RightsMissing(Box<Missing>),
    /// The vault has another permission model than was asked for.
    OtherModel {
        /// Whether it uses roles.
        rbac: bool,
        /// Whether the binding was made with this same vault and access.
        bound: bool,
    },
    /// Grants on single certificates need roles, and the vault uses access policies.
    ScopeNeedsRoles {
        /// Whether the binding was made with this same vault and access.
        bound: bool,
    },
    /// The workload identity's ID leads nowhere.
    IdentityMissing,
    /// The cluster issues no tokens that an identity could trust.
    NoIssuer {
        /// Whether the binding was made with this same vault and access.
        bound: bool,
    },
    /// The identity has to trust the service account already, and does not.
    TrustMissing,
    /// The identity trusts as many as it can.
    TrustFull {
        /// How many.
        count: usize,
        /// Whether the binding was made with this same vault and access.
        bound: bool,
    },
    /// The vault has a newer version than the one that is pinned.
    NewerVersion {
        /// Logical name.
        key: String,
        /// The pinned version.
        version: String,
        /// The newest version.
        newest: String,
    },
    /// The cluster is in a state in which a change of it waits, or is refused.
    ClusterNotReady {
        /// Its state, in words.
        state: String,
    },
    /// `ssl_redirect` is set and we do not know how this controller is told.
    RedirectUnknown {
        /// The controller.
        controller: Option<String>,
        /// How it is told, where that is no annotation.
        instead: Option<&'static str>,
    },
    /// The cluster does not know Gateway API.
    GatewayApiMissing,
    /// The Gateway class does not exist.
    GatewayClassMissing {
        /// Its name.
        class: String,
    },
    /// Somebody else's Gateway does not exist.
    GatewayMissing {
        /// Which.
        gateway: ObjectRef,
    },
    /// A ListenerSet is wished, and nothing takes it.
    ListenerSetsRefused {
        /// The Gateway.
        gateway: ObjectRef,
        /// Whether the cluster knows the kind at all.
        served: bool,
    },
}

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Past its end.
    Expired(OffsetDateTime),
    /// Not yet valid.
    NotYetValid(OffsetDateTime),
    /// Switched off in the vault.
    Disabled,
    /// Its key cannot leave the vault.
    NotExportable,
    /// Ends within `expiry.warn`.
    EndsSoon(OffsetDateTime),
    /// Ends within `expiry.fail`.
    EndsTooSoon(OffsetDateTime),
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Fails the plan.
    Fact,
    /// Warns in the plan, fails apply before the first write.
    Curable,
    /// Warns.
    Decay,
}

impl Finding {
    /// Its class.
    pub fn class(&self) -> Class {
        match self {
            // Only who asked for it is stopped.
            Self::CertificateUnfit {
                flaw: Flaw::EndsTooSoon(_),
                ..
            } => Class::Fact,
            Self::CertificateUnfit { bound: true, .. }
            | Self::HostNotCovered { bound: true, .. }
            | Self::TakenOver { .. }
            | Self::ServiceUnfit { bound: true, .. }
            | Self::SecretShared { bound: true, .. }
            | Self::Unfinished
            // Some controllers take an Ingress of no class.
            | Self::NoDefaultClass
            | Self::CertificateUnfit {
                flaw: Flaw::EndsSoon(_),
                ..
            } => Class::Decay,
            Self::AddonNotAsRequired { .. }
            | Self::GrantMissing { .. }
            | Self::CertificateMissing { .. }
            | Self::ClassMissing { .. }
            | Self::GatewayApiMissing
            | Self::GatewayClassMissing { .. }
            | Self::GatewayMissing { .. }
            | Self::ListenerSetsRefused { .. }
            | Self::AlreadyBound { same: true, .. }
            | Self::NamespaceMissing
            | Self::ServiceUnfit { .. }
            | Self::RightsMissing(_)
            | Self::IdentityMissing
            | Self::TrustMissing
            // What has served is not in the way of a plan, which comes before a removal, too.
            | Self::VaultMissing { bound: true }
            | Self::OtherTenant { bound: true, .. }
            | Self::OtherModel { bound: true, .. }
            | Self::ScopeNeedsRoles { bound: true }
            | Self::NoIssuer { bound: true }
            | Self::TrustFull { bound: true, .. } => Class::Curable,
            Self::NewerVersion { .. } | Self::ClusterNotReady { .. } => Class::Decay,
            Self::ClusterMissing
            | Self::VaultMissing { .. }
            | Self::OtherTenant { .. }
            | Self::CertificateUnfit { .. }
            | Self::HostNotCovered { .. }
            | Self::Foreign { .. }
            | Self::AlreadyBound { .. }
            | Self::ForeignSecret { .. }
            | Self::SecretShared { .. }
            | Self::OtherModel { .. }
            | Self::ScopeNeedsRoles { .. }
            | Self::NoIssuer { .. }
            | Self::TrustFull { .. }
            | Self::RedirectUnknown { .. } => Class::Fact,
        }
    }
}

/// What of this binding is already known to the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Stamps of this and earlier creations of the binding, whose objects may be taken over.
    pub instances: BTreeSet<String>,
    /// Certificates that were bound before with the same vault, name, version and hosts.
    pub bound: BTreeSet<String>,
    /// Services and their ports that the binding's rules named before.
    pub backends: Vec<(String, Port)>,
    /// Whether the binding was made with this same vault and access.
    pub access: bool,
    /// Secrets that the binding had before.
    pub secrets: BTreeSet<String>,
    /// Objects by `Kind/name` that were imported from other hands.
    pub adopted: BTreeSet<String>,
}

/// What is to be told before a binding is removed: others may live on what would go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Pods that are not ours mount its SecretProviderClass: nothing may be removed.
    InUse {
        /// The SecretProviderClass.
        class: ObjectRef,
        /// The pods.
        pods: Vec<String>,
    },
    /// It could not be seen who mounts it.
    UseUnseen {
        /// The SecretProviderClass.
        class: ObjectRef,
        /// Why not.
        why: String,
    },
}

/// Looks before anything is removed.
pub fn judge_absent(owned: &Owned, seen: &Observation) -> Option<Hold> {
    let class = SECRET_PROVIDER_CLASS.named(&owned.namespace, &owned.name);
    let is_ours =
        |live: &Value| manifests::annotation(live, manifests::INSTANCE) == Some(owned.instance.as_str());
    if !seen.object(&object_key(&class)).is_some_and(is_ours) {
        return None;
    }
    match &seen.mounts {
        Seen::Known(mounts) => {
            let others = mounts.iter().filter(|mount| !mount.ours);
            let pods: Vec<String> = others.map(|mount| mount.pod.clone()).collect();
            (!pods.is_empty()).then_some(Hold::InUse { class, pods })
        }
        Seen::NotSeen(unseen) => Some(Hold::UseUnseen {
            class,
            why: unseen.why.clone(),
        }),
        Seen::NotAsked => None,
    }
}

/// Everything worth telling, in the order of the attributes.
pub fn judge(desired: &Desired, seen: &Observation, known: &Known) -> Vec<Finding> {
    let mut findings = Vec::new();
    if seen.cluster.is_absent() {
        findings.push(Finding::ClusterMissing);
    }
    if seen.vault.is_absent() {
        findings.push(Finding::VaultMissing { bound: known.access });
    }
    judge_access(desired, seen, known.access, &mut findings);
    for key in desired.certificates.keys() {
        judge_certificate(desired, seen, known, key, &mut findings);
    }
    if seen.namespace == Seen::Known(false) && !desired.create_namespace {
        findings.push(Finding::NamespaceMissing);
    }
    judge_objects(desired, seen, known, &mut findings);
    judge_controller(desired, seen, &mut findings);
    judge_gateway(desired, seen, &mut findings);
    backends::judge(desired, seen, known, &mut findings);
    findings
}

fn judge_access(desired: &Desired, seen: &Observation, bound: bool, findings: &mut Vec<Finding>) {
    let (Some(cluster), Some(vault)) = (seen.cluster.present(), seen.vault.present()) else {
        return;
    };
    // A workload identity can live in the vault's tenant.
    if let Some(tenant) = &cluster.tenant_id
        && desired.access.identity == Identity::Addon
        && !tenant.eq_ignore_ascii_case(&vault.tenant_id)
    {
        findings.push(Finding::OtherTenant {
            vault: vault.tenant_id.clone(),
            cluster: tenant.clone(),
            bound,
        });
    }
    if desired.addon.mode != Mode::Ensure && !cluster.addon.enabled
        || desired.addon.mode == Mode::Require && !addon_wish(desired).is_met_by(&cluster.addon)
    {
        findings.push(Finding::AddonNotAsRequired {
            enabled: cluster.addon.enabled,
        });
    }
    if desired.access.mode != Mode::Ignore {
        if desired.access.rbac.is_some_and(|wanted| wanted != vault.rbac) {
            findings.push(Finding::OtherModel {
                rbac: vault.rbac,
                bound,
            });
        }
        if desired.access.scope == GrantScope::Certificate && !vault.rbac {
            findings.push(Finding::ScopeNeedsRoles { bound });
        }
    }
    judge_workload(desired, seen, bound, findings);
    if desired.access.mode == Mode::Require && seen.assignments.why_not().is_none() {
        let principal = grant::principal(&desired.access.identity, seen);
        let none = Vec::new();
        let assignments = seen.assignments.known().unwrap_or(&none);
        let granted = principal
            .as_ref()
            .is_some_and(|principal| grant::is_complete(desired, vault, assignments, principal));
        if !granted {
            // An identity that does not exist yet cannot have been granted anything.
            let principal_id = principal.map(|principal| principal.0);
            findings.push(Finding::GrantMissing {
                principal_id,
                rbac: vault.rbac,
            });
        }
    }
}

fn judge_workload(desired: &Desired, seen: &Observation, bound: bool, findings: &mut Vec<Finding>) {
    let Some(wanted) = desired.access.workload() else {
        return;
    };
    if seen.identity.is_absent() {
        findings.push(Finding::IdentityMissing);
        return;
    }
    let (Some(cluster), true) = (seen.cluster.present(), wanted.federated != Mode::Ignore) else {
        return;
    };
    if cluster.oidc_issuer.is_none() {
        findings.push(Finding::NoIssuer { bound });
    } else if let Some(all) = seen.federated.known()
        && workload::trust(desired, seen).is_none()
    {
        match wanted.federated {
            Mode::Require => findings.push(Finding::TrustMissing),
            Mode::Ensure if all.len() >= MOST_CREDENTIALS => {
                findings.push(Finding::TrustFull {
                    count: all.len(),
                    bound,
                });
            }
            Mode::Ensure | Mode::Ignore => {}
        }
    }
}

fn judge_certificate(
    desired: &Desired,
    seen: &Observation,
    known: &Known,
    key: &str,
    findings: &mut Vec<Finding>,
) {
    let Some(wanted) = desired.certificates.get(key) else {
        return;
    };
    let Some(found) = seen.certificates.get(key).and_then(Seen::known) else {
        return;
    };
    let Some(found) = found else {
        findings.push(Finding::CertificateMissing {
            key: key.to_owned(),
            certificate: wanted.certificate.clone(),
        });
        return;
    };
    let bound = known.bound.contains(key);
    if let (Some(version), Some(newest)) = (&wanted.version, seen.newest.get(key))
        && newest.version != *version
    {
        findings.push(Finding::NewerVersion {
            key: key.to_owned(),
            version: version.clone(),
            newest: newest.version.clone(),
        });
    }
    for flaw in flaws(found, &desired.expiry) {
        findings.push(Finding::CertificateUnfit {
            key: key.to_owned(),
            certificate: wanted.certificate.clone(),
            version: found.version.clone(),
            flaw,
            bound,
        });
    }
    for (index, host) in wanted
        .hosts
        .iter()
        .enumerate()
        .filter(|(_, host)| !found.leaf.covers(host))
    {
        findings.push(Finding::HostNotCovered {
            key: key.to_owned(),
            certificate: wanted.certificate.clone(),
            index,
            host: host.clone(),
            covers: found.leaf.hosts.clone(),
            bound,
        });
    }
}

fn flaws(found: &VaultCertificate, expiry: &Expiry) -> Vec<Flaw> {
    let now = found.seen_at;
    let mut flaws = Vec::new();
    if !found.enabled {
        flaws.push(Flaw::Disabled);
    }
    if found.exportable == Some(false) {
        flaws.push(Flaw::NotExportable);
    }
    if found.leaf.not_before > now {
        flaws.push(Flaw::NotYetValid(found.leaf.not_before));
    }
    if expiry.fail.is_some_and(|fail| found.leaf.not_after - now < fail) {
        flaws.push(Flaw::EndsTooSoon(found.leaf.not_after));
    } else if found.leaf.is_expired_at(now) {
        flaws.push(Flaw::Expired(found.leaf.not_after));
    } else if found.leaf.not_after - now < expiry.warn {
        flaws.push(Flaw::EndsSoon(found.leaf.not_after));
    }
    flaws
}

fn judge_objects(desired: &Desired, seen: &Observation, known: &Known, findings: &mut Vec<Finding>) {
    let objects = manifests::objects(desired);
    let class = seen.object(&object_key(&objects[0]));
    let unfinished =
        class.and_then(|live| manifests::annotation(live, manifests::PHASE)) == Some(manifests::UNFINISHED);
    let mut taken_over = Vec::new();
    let mut left_behind = false;
    for object in objects {
        let Some(live) = seen.object(&object_key(&object)) else {
            continue;
        };
        if known.adopted.contains(&object_key(&object)) {
            continue;
        }
        match ownership(desired, live, known, unfinished) {
            Ownership::Ours => {}
            Ownership::Unfinished => left_behind = true,
            Ownership::OtherBinding(binding) => {
                let same = binding.eq_ignore_ascii_case(&desired.id());
                if same && desired.force_conflicts {
                    taken_over.push(object);
                    continue;
                }
                findings.push(Finding::AlreadyBound {
                    object,
                    binding,
                    same,
                });
            }
            Ownership::Foreign(managed_by) => findings.push(Finding::Foreign { object, managed_by }),
        }
    }
    if left_behind {
        findings.push(Finding::Unfinished);
    }
    if !taken_over.is_empty() {
        findings.push(Finding::TakenOver { objects: taken_over });
    }
    for (key, certificate) in &desired.certificates {
        let secret = seen.secrets.get(&certificate.secret_name).and_then(Seen::present);
        let known = known.secrets.contains(&certificate.secret_name);
        if let Some(class) = seen.holder_of(desired, &certificate.secret_name) {
            findings.push(Finding::SecretShared {
                key: key.clone(),
                secret_name: certificate.secret_name.clone(),
                class: class.to_owned(),
                bound: known,
            });
        }
        if secret.is_some_and(|secret| !secret.managed) && !known {
            findings.push(Finding::ForeignSecret {
                key: key.clone(),
                secret_name: certificate.secret_name.clone(),
            });
        }
    }
}

fn judge_controller(desired: &Desired, seen: &Observation, findings: &mut Vec<Finding>) {
    let (Some(wanted), Seen::Known(controller)) = (&desired.ingress, &seen.controller) else {
        return;
    };
    if let (None, Some(class)) = (controller, &wanted.class_name) {
        findings.push(Finding::ClassMissing { class: class.clone() });
        return;
    }
    if controller.is_none() {
        findings.push(Finding::NoDefaultClass);
    }
    let instead = match controller.as_deref().map(redirect) {
        Some(Some(Redirect::Annotation(_))) => return,
        Some(Some(Redirect::Elsewhere(how))) => Some(how),
        Some(None) | None => None,
    };
    if wanted.ssl_redirect.is_some() {
        findings.push(Finding::RedirectUnknown {
            controller: controller.clone(),
            instead,
        });
    }
}

fn judge_gateway(desired: &Desired, seen: &Observation, findings: &mut Vec<Finding>) {
    let (Some(wanted), Seen::Known(api)) = (&desired.gateway, &seen.gateway) else {
        return;
    };
    if !api.served {
        findings.push(Finding::GatewayApiMissing);
        return;
    }
    let (namespace, attach) = match &wanted.parent {
        Parent::Own { class } => {
            if api.class.is_none() {
                findings.push(Finding::GatewayClassMissing { class: class.clone() });
            }
            return;
        }
        Parent::Foreign {
            namespace, attach, ..
        } => (namespace, attach),
    };
    let gateway = wanted.publisher(&desired.namespace);
    let Some(live) = &api.parent else {
        findings.push(Finding::GatewayMissing { gateway });
        return;
    };
    if *attach == Attach::Reference {
        return;
    }
    // Whether a selector takes in the namespace is the controller's to say.
    let lets_in = match live["spec"]["allowedListeners"]["namespaces"]["from"].as_str() {
        Some("All" | "Selector") => true,
        Some("Same") => *namespace == desired.namespace,
        _ => false,
    };
    if !api.listener_sets || !lets_in {
        findings.push(Finding::ListenerSetsRefused {
            gateway,
            served: api.listener_sets,
        });
    }
}

enum Ownership {
    Ours,
    /// Of this binding, by a creation that this state knows nothing of and that came to no end.
    Unfinished,
    OtherBinding(String),
    Foreign(Option<String>),
}

fn ownership(desired: &Desired, live: &Value, known: &Known, unfinished: bool) -> Ownership {
    let binding = manifests::annotation(live, manifests::BINDING);
    let instance = manifests::annotation(live, manifests::INSTANCE);
    let same_binding = binding.is_some_and(|binding| binding.eq_ignore_ascii_case(&desired.id()));
    // A mark that somebody stripped from an object of a binding that this state knows is set again.
    let known_instance = match instance {
        Some(instance) => known.instances.contains(instance),
        None => !known.instances.is_empty(),
    };
    match binding {
        _ if same_binding && known_instance => Ownership::Ours,
        _ if same_binding && unfinished => Ownership::Unfinished,
        Some(binding) => Ownership::OtherBinding(binding.to_owned()),
        None => {
            let label = live["metadata"]["labels"][manifests::MANAGED_BY.0].as_str();
            // The stamps of an object that this state knows can be lost to a careless edit; the label alone is not
            // enough to take over what we do not know.
            if label == Some(manifests::MANAGED_BY.1) && !known.instances.is_empty() {
                Ownership::Ours
            } else {
                Ownership::Foreign(label.map(str::to_owned))
            }
        }
    }
}

#[cfg(test)]
mod tests;
