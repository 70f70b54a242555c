//! Judges how far a binding has come. Pure.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};

use super::desired::{Desired, Mode, VerifyLevel};
use super::grant;
use super::manifests;
use super::observation::{Observation, Seen};
use super::step::object_key;
use crate::azure::Cluster;
use crate::k8s::SecretCertificate;
use crate::tls::Leaf;

/// How far a binding has come; later phases include earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing yet.
    Pending,
    /// The add-on is on and its identity may read the vault.
    Azure,
    /// The objects are there, or rendered.
    Objects,
    /// The Secrets hold the vault's certificates.
    Synced,
    /// As [`Phase::Synced`], and the edge could not be asked.
    Unverified,
    /// A handshake returned the vault's certificate.
    Served,
}

/// A binding's status.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// How far it has come.
    pub phase: Phase,
    /// Whether every part holds the vault's current certificate, may still be on the way to it, or is not meant to follow
    /// because rotation is off.
    pub in_sync: bool,
    /// By logical name.
    pub certificates: BTreeMap<String, CertificateStatus>,
}

/// Where a certificate is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CertificateStatus {
    /// In the vault.
    pub vault: Option<Version>,
    /// In the Secret.
    pub synced: Option<Version>,
    /// At the edge; of several hosts the worst.
    pub served: Option<Version>,
}

/// A certificate as seen in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The vault's version, where it is the vault's certificate.
    pub version: Option<String>,
    /// SHA-1, upper-case hex, as the portal shows it.
    pub thumbprint: String,
    /// The end of its validity.
    pub not_after: OffsetDateTime,
}

/// The time a renewal may take beyond the poll interval before it counts as stalled.
const GRACE: Duration = Duration::minutes(5);

/// The status of a binding. What was not seen now keeps its value from `prior`.
pub fn status(
    desired: &Desired,
    seen: &Observation,
    prior: Option<&Status>,
    poll_interval: Duration,
) -> Status {
    let mut certificates = BTreeMap::new();
    for key in desired.certificates.keys() {
        let before = prior.and_then(|prior| prior.certificates.get(key));
        certificates.insert(key.clone(), certificate_status(desired, seen, key, before));
    }
    let lags = |key: &str| may_lag(seen, key, poll_interval);
    let phase = phase(desired, seen, &certificates, lags)
        .unwrap_or_else(|| prior.map_or(Phase::Pending, |it| it.phase));
    let in_sync = certificates
        .iter()
        .all(|(key, status)| is_current(desired, status) || (lags(key) && follows(status)));
    Status {
        phase,
        in_sync,
        certificates,
    }
}

fn certificate_status(
    desired: &Desired,
    seen: &Observation,
    key: &str,
    before: Option<&CertificateStatus>,
) -> CertificateStatus {
    let before = before.cloned().unwrap_or_default();
    let wanted = desired.certificates.get(key);
    let vault = match seen.certificates.get(key) {
        Some(Seen::Known(found)) => found.as_ref().map(|found| Version {
            version: Some(found.version.clone()),
            thumbprint: found.leaf.thumbprint.to_string(),
            not_after: found.leaf.not_after,
        }),
        _ => before.vault.clone(),
    };
    let named = |leaf: &Leaf| located(leaf, vault.as_ref(), &before);
    let served_leaves: Vec<&Seen<_>> = wanted
        .map(|wanted| {
            wanted
                .hosts
                .iter()
                .filter_map(|host| seen.served.get(host))
                .collect()
        })
        .unwrap_or_default();
    let served = if served_leaves.iter().all(|it| it.known().is_none()) {
        before.served.clone()
    } else {
        let versions = served_leaves
            .iter()
            .filter_map(|it| it.known())
            .map(|served| named(&served.leaf));
        let is_vaults = |it: &Version| {
            vault
                .as_ref()
                .is_some_and(|vault| vault.thumbprint == it.thumbprint)
        };
        versions.min_by_key(is_vaults)
    };
    let synced = match wanted.and_then(|wanted| seen.secrets.get(&wanted.secret_name)) {
        Some(Seen::Known(None)) => None,
        // No server takes the certificate with another's key.
        Some(Seen::Known(Some(found))) if found.key_fits == Some(false) => None,
        Some(Seen::Known(Some(found))) => match (&found.leaf, wanted) {
            (Some(leaf), _) => Some(named(leaf)),
            (None, Some(wanted)) => mounted(seen, &wanted.certificate, vault.as_ref(), &before),
            (None, None) => None,
        },
        // What the edge serves came out of the Secret, so a current edge proves a current Secret.
        _ if served.is_some() && served == vault => served.clone(),
        _ => before.synced.clone(),
    };
    CertificateStatus {
        vault,
        synced,
        served,
    }
}

/// Whether a Secret holds the leaf with this thumbprint (any leaf, if there is none to compare with) and its key.
pub fn holds(secret: &SecretCertificate, thumbprint: Option<&str>) -> bool {
    let is_wanted =
        |leaf: &Leaf| thumbprint.is_none_or(|thumbprint| leaf.thumbprint.to_string() == thumbprint);
    secret.leaf.as_ref().is_some_and(is_wanted) && secret.has_key && secret.key_fits != Some(false)
}

/// What a Secret holds that was not read, by the version that the driver has mounted; one that was never seen before is
/// still the last one that was.
fn mounted(
    seen: &Observation,
    certificate: &str,
    vault: Option<&Version>,
    before: &CertificateStatus,
) -> Option<Version> {
    let version = seen.mounted_version(certificate)?;
    let known = vault.into_iter().chain(&before.vault).chain(&before.synced);
    let found = known
        .into_iter()
        .find(|it| it.version.as_deref() == Some(version));
    found.cloned().or_else(|| before.synced.clone())
}

/// A leaf seen somewhere, with the vault's version if it is one that we know.
fn located(leaf: &Leaf, vault: Option<&Version>, before: &CertificateStatus) -> Version {
    let thumbprint = leaf.thumbprint.to_string();
    let known = vault.into_iter().chain(&before.vault).chain(&before.synced);
    let version = known
        .into_iter()
        .find(|it| it.thumbprint == thumbprint)
        .and_then(|it| it.version.clone());
    Version {
        version,
        thumbprint,
        not_after: leaf.not_after,
    }
}

/// Whether every place that matters holds the vault's certificate, as far as both were ever seen.
fn is_current(desired: &Desired, status: &CertificateStatus) -> bool {
    let Some(vault) = &status.vault else { return true };
    let same = |place: &Option<Version>| place.as_ref().is_none_or(|it| it.thumbprint == vault.thumbprint);
    match desired.verify.level {
        VerifyLevel::None => true,
        VerifyLevel::Synced => status.synced.is_some() && same(&status.synced),
        VerifyLevel::Auto | VerifyLevel::Served => {
            // Where no refresh looks at the edge, only the Secret tells.
            let looked = desired.dials_on_refresh();
            status.synced.is_some() && same(&status.synced) && (!looked || same(&status.served))
        }
    }
}

/// Whether an earlier version of a certificate is in its place: the newest is on its way, or nothing brings it while
/// rotation is off, because the driver leaves a Secret alone that is there.
fn may_lag(seen: &Observation, key: &str, poll_interval: Duration) -> bool {
    let Some(found) = seen.certificates.get(key).and_then(Seen::present) else {
        return false;
    };
    let is_young = |created| found.seen_at - created <= poll_interval + GRACE;
    let rotates = |cluster: &Cluster| cluster.addon.rotation_enabled;
    found.created_at.is_some_and(is_young) || !seen.cluster.present().is_none_or(rotates)
}

/// Whether every place holds a certificate of the vault, if not yet its newest: anything else is not on the way.
fn follows(status: &CertificateStatus) -> bool {
    [&status.synced, &status.served]
        .into_iter()
        .flatten()
        .all(|place| place.version.is_some())
        && status.synced.is_some()
}

/// The phase, or nothing if too little was seen to tell.
fn phase(
    desired: &Desired,
    seen: &Observation,
    certificates: &BTreeMap<String, CertificateStatus>,
    lags: impl Fn(&str) -> bool,
) -> Option<Phase> {
    let cluster = seen.cluster.known()?.as_ref();
    if cluster.is_none() {
        return Some(Phase::Pending);
    }
    if seen.identity.why_not().is_some() {
        return None;
    }
    let Some(reader) = grant::reader(&desired.access.identity, seen) else {
        return Some(Phase::Pending);
    };
    let vault = seen.vault.known()?.as_ref();
    let none = Vec::new();
    let assignments = seen.assignments.known().unwrap_or(&none);
    let is_granted =
        vault.is_some_and(|vault| grant::is_complete(desired, vault, assignments, &reader.principal));
    if !is_granted && seen.assignments.why_not().is_none() && desired.access.mode != Mode::Ignore {
        return Some(Phase::Pending);
    }
    if !desired.apply_manifests {
        return Some(Phase::Objects);
    }
    let mut all_there = true;
    for object in manifests::objects(desired) {
        all_there &= seen.objects.get(&object_key(&object))?.known()?.is_some();
    }
    if !all_there {
        return Some(Phase::Azure);
    }
    // A renewal on its way is no step back: the vault's earlier certificate still counts.
    let holds = |place: fn(&CertificateStatus) -> &Option<Version>| {
        certificates.iter().all(|(key, it)| match (place(it), &it.vault) {
            (Some(here), Some(vault)) => {
                here.thumbprint == vault.thumbprint || (here.version.is_some() && lags(key))
            }
            (Some(_), None) => true,
            (None, _) => false,
        })
    };
    if !holds(|it| &it.synced) {
        return Some(Phase::Objects);
    }
    if !desired.has_edge() || matches!(desired.verify.level, VerifyLevel::Synced | VerifyLevel::None) {
        return Some(Phase::Synced);
    }
    if !desired.dials_on_refresh() && seen.served.is_empty() {
        // Nobody looked, so what was proven before stands.
        return None;
    }
    Some(if holds(|it| &it.served) {
        Phase::Served
    } else {
        Phase::Unverified
    })
}

#[cfg(test)]
mod tests;
