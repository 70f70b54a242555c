//! What is there, at one moment, and what could not be seen.
//!
//! Plain immutable values: no clients, no keys. Not seeing something is an answer of its own, so that a reader
//! without rights plans nothing instead of planning nonsense.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use time::OffsetDateTime;

use super::desired::Desired;
use crate::azure::{Cluster, FederatedCredential, ManagedIdentity, RoleAssignment, Vault, VaultCertificate};
use crate::k8s::edge::Served;
use crate::k8s::{ApiServer, SecretCertificate};

/// Why something was not seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// For the practitioner.
    pub why: String,
    /// Whether the service said that the caller lacks a right.
    pub refused: bool,
}

impl From<String> for Unseen {
    fn from(why: String) -> Self {
        Self { why, refused: false }
    }
}

/// Something looked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen<T> {
    /// It was read.
    Known(T),
    /// It could not be read.
    NotSeen(Unseen),
    /// Nobody asked, because it was not needed.
    NotAsked,
}

impl<T> Seen<T> {
    /// What was read, if it was.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::NotSeen(_) | Self::NotAsked => None,
        }
    }

    /// Why it was not seen, if it was asked for.
    pub fn why_not(&self) -> Option<&str> {
        match self {
            Self::NotSeen(unseen) => Some(&unseen.why),
            Self::Known(_) | Self::NotAsked => None,
        }
    }

    /// Whether it was not seen because the caller lacks a right.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::NotSeen(Unseen { refused: true, .. }))
    }
}

impl<T> Seen<Option<T>> {
    /// What is there, if it was read and is there.
    pub fn present(&self) -> Option<&T> {
        self.known().and_then(Option::as_ref)
    }

    /// Whether it was read and is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Known(None))
    }
}

/// Gateway API in a cluster, as far as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayApi {
    /// Whether it is installed; true if nobody asked.
    pub served: bool,
    /// Whether ListenerSets are; true if nobody asked.
    pub listener_sets: bool,
    /// The class.
    pub class: Option<Value>,
    /// Somebody else's Gateway.
    pub parent: Option<Value>,
}

/// The world around one binding.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// When, by the clock of whoever answered last.
    pub taken_at: OffsetDateTime,
    /// The cluster in Azure.
    pub cluster: Seen<Option<Cluster>>,
    /// The vault in Azure.
    pub vault: Seen<Option<Vault>>,
    /// Role assignments of the reading identity at the vault, above and below it.
    pub assignments: Seen<Vec<RoleAssignment>>,
    /// The workload identity, if one reads.
    pub identity: Seen<Option<ManagedIdentity>>,
    /// Whom that identity trusts.
    pub federated: Seen<Vec<FederatedCredential>>,
    /// Who runs as a service account, as `Kind/name`, by account, for those where it was needed.
    pub account_users: BTreeMap<String, Seen<BTreeSet<String>>>,
    /// The vault's certificates, by logical name.
    pub certificates: BTreeMap<String, Seen<Option<VaultCertificate>>>,
    /// The newest versions of certificates that are bound to another one, by logical name, where they could be read.
    pub newest: BTreeMap<String, VaultCertificate>,
    /// Whether the namespace exists.
    pub namespace: Seen<bool>,
    /// Objects by `Kind/name`.
    pub objects: BTreeMap<String, Seen<Option<Value>>>,
    /// The controller of the Ingress class, if it was needed.
    pub controller: Seen<Option<String>>,
    /// What there is of Gateway API, if it was needed.
    pub gateway: Seen<GatewayApi>,
    /// Of the Services of the namespace those that matter, if it was needed.
    pub services: Seen<Arc<Vec<Value>>>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Seen<Option<SecretCertificate>>>,
    /// Other bindings' and hand-made SecretProviderClasses of the whole cluster, if it was needed.
    pub other_classes: Seen<Vec<Value>>,
    /// Who mounts the binding's SecretProviderClass, if it was needed.
    pub mounts: Seen<Vec<Mount>>,
    /// Where the cluster's API is, if that and a token suffice to reach it again.
    pub server: Option<ApiServer>,
    /// What a handshake returned, by host.
    pub served: BTreeMap<String, Seen<Served>>,
}

/// A pod that has the binding's SecretProviderClass mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The pod.
    pub pod: String,
    /// Whether it is one of the sync Deployment's.
    pub ours: bool,
    /// Versions that it has, by the driver's ID of an object, as `secret/my-tls-cert`.
    pub versions: BTreeMap<String, String>,
}

impl Observation {
    /// Nothing seen yet.
    pub fn blind(taken_at: OffsetDateTime) -> Self {
        Self {
            taken_at,
            cluster: Seen::NotAsked,
            vault: Seen::NotAsked,
            assignments: Seen::NotAsked,
            identity: Seen::NotAsked,
            federated: Seen::NotAsked,
            account_users: BTreeMap::new(),
            certificates: BTreeMap::new(),
            newest: BTreeMap::new(),
            namespace: Seen::NotAsked,
            objects: BTreeMap::new(),
            controller: Seen::NotAsked,
            gateway: Seen::NotAsked,
            services: Seen::NotAsked,
            secrets: BTreeMap::new(),
            other_classes: Seen::NotAsked,
            mounts: Seen::NotAsked,
            server: None,
            served: BTreeMap::new(),
        }
    }

    /// An object, if it was read and is there.
    pub fn object(&self, key: &str) -> Option<&Value> {
        self.objects.get(key).and_then(Seen::present)
    }

    /// Another SecretProviderClass of the binding's namespace that makes a Secret of this name, as far as they were read.
    pub fn holder_of(&self, desired: &Desired, secret: &str) -> Option<&str> {
        let classes = self.other_classes.known()?.iter();
        let holds = |class: &&Value| {
            let made = class["spec"]["secretObjects"].as_array().into_iter().flatten();
            class["metadata"]["namespace"] == desired.namespace.as_str()
                && class["metadata"]["name"] != desired.name.as_str()
                && made.into_iter().any(|object| object["secretName"] == secret)
        };
        classes
            .filter(holds)
            .find_map(|class| class["metadata"]["name"].as_str())
    }

    /// The version of a vault's certificate that the driver has mounted; of several mounts the first.
    pub fn mounted_version(&self, certificate: &str) -> Option<&str> {
        let id = format!("secret/{certificate}");
        let mounts = self.mounts.known()?.iter();
        mounts
            .filter_map(|mount| mount.versions.get(&id).map(String::as_str))
            .next()
    }

    /// Whether the cluster, and of its objects all that were asked for, could be seen.
    pub fn cluster_was_seen(&self) -> bool {
        self.cluster.present().is_some() && self.objects.values().all(|object| object.why_not().is_none())
    }

    /// Everything that was asked for and not seen: what, and why.
    pub fn blind_spots(&self) -> Vec<(String, String)> {
        let mut spots = Vec::new();
        let mut add = |what: &str, why: Option<&str>| {
            if let Some(why) = why {
                spots.push((what.to_owned(), why.to_owned()));
            }
        };
        add("cluster", self.cluster.why_not());
        add("vault", self.vault.why_not());
        add("role assignments", self.assignments.why_not());
        add("managed identity", self.identity.why_not());
        add("federated credentials", self.federated.why_not());
        for seen in self.certificates.values() {
            add("vault certificates", seen.why_not());
        }
        add("namespace", self.namespace.why_not());
        for seen in self.objects.values() {
            add("cluster objects", seen.why_not());
        }
        for seen in self.secrets.values() {
            add("Secrets", seen.why_not());
        }
        spots.sort();
        spots.dedup();
        spots
    }
}
