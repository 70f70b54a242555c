//! The Key Vault add-on of a cluster that others own: read, change our entry only, write back behind the tag.

use std::sync::LazyLock;
use std::time::Duration;

use azure_core::http::Method;
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::cluster::{Addon, AddonOutcome, AddonWish, Cluster};
use super::locks::Locks;
use super::managed_clusters::parse;
use super::pipeline::{Call, after_loss, jitter, pause};
use super::{Azure, ClusterId, Error};

/// The entry's name. Some tools write it in other cases: it is found without case and written back as found.
const KEY: &str = "azureKeyvaultSecretsProvider";
/// The entry's settings, all of them text.
pub(super) const ROTATION: &str = "enableSecretRotation";
pub(super) const INTERVAL: &str = "rotationPollInterval";
/// What AKS means where it says nothing.
const DEFAULT_INTERVAL: &str = "2m";

/// Writes that were refused because of others before it is reported. AKS takes 20 in a burst, then one a minute.
const REFUSED_WRITES: u32 = 15;
/// Writes that were taken, or may have been, before one more is the last. More than one only if somebody undoes it at
/// once, or answers are lost.
const TAKEN_WRITES: u32 = 3;

/// One lock a cluster for the whole process: ten bindings make one write.
static LOCKS: LazyLock<Locks<ClusterId>> = LazyLock::new(Locks::default);

impl AddonWish {
    /// Whether the add-on is as wished. Intervals are compared as durations, and no interval is the default one. An
    /// add-on without an identity is not: its last update ended before it got one.
    pub fn is_met_by(&self, addon: &Addon) -> bool {
        let interval_fits = self.rotation_poll_interval.as_deref().is_none_or(|wished| {
            let live = addon
                .rotation_poll_interval
                .as_deref()
                .unwrap_or(DEFAULT_INTERVAL);
            crate::duration::same(wished, live)
        });
        let is_whole = addon.enabled && addon.identity.is_some();
        is_whole && addon.rotation_enabled == self.rotation_enabled && interval_fits
    }
}

/// What is to become of the add-on.
enum Change<'a> {
    On(&'a AddonWish),
    Off,
}

impl Change<'_> {
    fn operation(&self) -> &'static str {
        match self {
            Self::On(_) => "update the Key Vault add-on",
            Self::Off => "switch off the Key Vault add-on",
        }
    }

    fn is_met_by(&self, addon: &Addon) -> bool {
        match self {
            Self::On(wish) => wish.is_met_by(addon),
            Self::Off => !addon.enabled,
        }
    }

    /// Whether nothing more is to come of an add-on that is as wished.
    fn is_settled(&self, addon: &Addon) -> bool {
        match self {
            Self::On(_) => addon.identity.is_some(),
            Self::Off => true,
        }
    }
}

impl Cluster {
    /// Why a change of the cluster would be refused or would have to wait, in words; none if it can be made now.
    pub fn not_ready(&self) -> Option<String> {
        match readiness(self) {
            Readiness::Ready => None,
            Readiness::Busy => Some(format!(
                "in the provisioning state \"{}\"",
                self.provisioning_state
            )),
            Readiness::Refused(state) => Some(state),
        }
    }
}

/// What may be done with a cluster in its state.
#[derive(Debug, PartialEq, Eq)]
enum Readiness {
    Ready,
    /// Something is under way; look again.
    Busy,
    /// Not to be written to; the state in words.
    Refused(String),
}

fn readiness(cluster: &Cluster) -> Readiness {
    let state = cluster.provisioning_state.to_ascii_lowercase();
    let stopped = cluster
        .power
        .as_deref()
        .is_some_and(|power| power.eq_ignore_ascii_case("stopped"));
    match state.as_str() {
        "deleting" => Readiness::Refused("being deleted".to_owned()),
        "failed" => Readiness::Refused(
            "in the provisioning state \"Failed\"; a write would reconcile all of it".to_owned(),
        ),
        "succeeded" | "canceled" if stopped => {
            Readiness::Refused("stopped; it takes changes only while it runs".to_owned())
        }
        "succeeded" | "canceled" => Readiness::Ready,
        // An open set: whatever else Azure calls it, it passes.
        _ => Readiness::Busy,
    }
}

impl Azure {
    /// Sees to it that the add-on is on and as wished, with its identity known. Already so: nothing is written. Other
    /// tools' operations are waited out by reading. The caller bounds the wait by dropping it; a write that was taken
    /// goes on without us.
    ///
    /// # Errors
    /// [`Error::NotReady`] if the cluster is failed, stopped or being deleted and a write would be needed;
    /// [`Error::Conflict`] if others kept writing; [`Error::OperationFailed`]; those of reading and writing.
    pub async fn ensure_addon(&self, id: &ClusterId, wish: &AddonWish) -> Result<AddonOutcome, Error> {
        self.change_addon(id, &Change::On(wish)).await
    }

    /// Sees to it that the add-on is off. Waiting and bounds are those of [`Azure::ensure_addon`].
    ///
    /// # Errors
    /// As [`Azure::ensure_addon`]; [`Error::Rejected`] with status 400 while a SecretProviderClass exists anywhere in the
    /// cluster.
    pub async fn disable_addon(&self, id: &ClusterId) -> Result<AddonOutcome, Error> {
        self.change_addon(id, &Change::Off).await
    }

    async fn change_addon(&self, id: &ClusterId, change: &Change<'_>) -> Result<AddonOutcome, Error> {
        let _alone = LOCKS.hold(id.clone()).await;
        let (mut taken, mut refused) = (0, 0);
        let mut lost = None;
        loop {
            let answer = self.cluster_answer(id).await?;
            let body = answer.json()?;
            let cluster = parse(id, &body).map_err(|reason| answer.unexpected(&reason))?;
            let met = change.is_met_by(&cluster.addon);
            match readiness(&cluster) {
                _ if met && change.is_settled(&cluster.addon) => {
                    return Ok(AddonOutcome {
                        written: taken > 0,
                        cluster,
                    });
                }
                Readiness::Busy => {
                    tracing::info!(
                        cluster = id.name(),
                        state = cluster.provisioning_state,
                        "waiting for another operation"
                    );
                    pause(answer.retry_after()).await;
                }
                // On, as wished and without an identity: AKS has not got it yet, or never will. Both are the caller's to tell.
                _ if met => {
                    return Ok(AddonOutcome {
                        written: taken > 0,
                        cluster,
                    });
                }
                Readiness::Refused(state) => {
                    return Err(Error::NotReady {
                        operation: change.operation().to_owned(),
                        target: format!("cluster {}", id.name()),
                        state,
                    });
                }
                Readiness::Ready if taken > TAKEN_WRITES => {
                    let undone = "the add-on was written several times and is still not as wished";
                    return Err(lost.unwrap_or_else(|| answer.unexpected(undone)));
                }
                Readiness::Ready => match self.write_addon(id, &body, &cluster, change).await? {
                    Written::Done => taken += 1,
                    Written::Unknown(error) => {
                        taken += 1;
                        lost = Some(error);
                        after_loss(taken).await;
                    }
                    Written::Refused(error, _) if refused >= REFUSED_WRITES => return Err(error),
                    Written::Refused(_, asked) => {
                        refused += 1;
                        // AKS refuses for an agent pool's operation too, which the cluster's state does not show. The
                        // first time it is most often a tag that has just moved.
                        let own = match refused {
                            1 => Some(jitter(Duration::from_secs(2))),
                            2 | 3 => None,
                            _ => Some(Duration::from_secs(u64::from(refused) * 5)),
                        };
                        pause(asked.or(own)).await;
                    }
                },
            }
        }
    }

    async fn write_addon(
        &self,
        id: &ClusterId,
        live: &Value,
        cluster: &Cluster,
        change: &Change<'_>,
    ) -> Result<Written, Error> {
        let (url, auth) = (self.cluster_url(id, "").await?, self.arm_auth().await?);
        let operation = change.operation();
        let body = match change {
            Change::On(wish) => wished_body(live, wish),
            Change::Off => off_body(live),
        };
        let mut call = Call::write(operation, id.name(), Method::Put, url, auth).body(body);
        call.if_match.clone_from(&cluster.etag);
        tracing::info!(cluster = id.name(), "writing the Key Vault add-on");
        let answer: Answer = match self.send(&call).await {
            Ok(answer) => answer,
            // It may have arrived: the next look at the cluster tells.
            Err(error @ Error::Unreachable { .. }) => {
                tracing::warn!(
                    cluster = id.name(),
                    cause = error.service_said(),
                    "no answer to the write; looking at the cluster"
                );
                return Ok(Written::Unknown(error));
            }
            Err(error) => return Err(error),
        };
        if answer.is_doubtful() {
            return Ok(Written::Unknown(answer.refusal()));
        }
        if !answer.is_success() {
            return match answer.refusal() {
                error @ Error::Conflict { .. } => Ok(Written::Refused(error, answer.retry_after())),
                error => Err(error),
            };
        }
        self.until_done(&call, &answer).await?;
        Ok(Written::Done)
    }
}

/// How a write ended.
enum Written {
    Done,
    /// No answer, or none that tells; it may have happened.
    Unknown(Error),
    /// Somebody else is at it; how long the service asks to wait.
    Refused(Error, Option<Duration>),
}

/// The add-on's entry and the spelling of its key.
pub(super) fn find(properties: &Value) -> Option<(&String, &Value)> {
    let profiles = properties.get("addonProfiles")?.as_object()?;
    profiles.iter().find(|(name, _)| name.eq_ignore_ascii_case(KEY))
}

/// The cluster as it is, without what is read-only, and with our entry off.
fn off_body(live: &Value) -> Value {
    let mut body = writable(live);
    let key = live.get("properties").and_then(find).map(|(key, _)| key.clone());
    if let (Some(key), Some(profiles)) = (key, body.pointer_mut("/properties/addonProfiles")) {
        profiles[key] = json!({"enabled": false, "config": null});
    }
    body
}

/// The cluster as it is, without what is read-only, and with our entry as wished.
fn wished_body(live: &Value, wish: &AddonWish) -> Value {
    let mut body = writable(live);
    let (key, mut config) = match live.get("properties").and_then(find) {
        Some((key, entry)) => (
            key.clone(),
            entry
                .get("config")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default(),
        ),
        None => (KEY.to_owned(), Map::new()),
    };
    set(&mut config, ROTATION, Some(wish.rotation_enabled.to_string()));
    set(&mut config, INTERVAL, wish.rotation_poll_interval.clone());
    if let Some(properties) = body.get_mut("properties").and_then(Value::as_object_mut) {
        let profiles = properties.entry("addonProfiles").or_insert(Value::Null);
        if !profiles.is_object() {
            *profiles = json!({});
        }
        profiles[key] = json!({"enabled": true, "config": config});
    }
    body
}

/// Sets a text under the spelling found. Without one it stays as it is, or becomes the default if there is none: AKS
/// takes a config as a whole, so it is sent as a whole.
fn set(config: &mut Map<String, Value>, key: &str, wished: Option<String>) {
    let found = config.keys().find(|name| name.eq_ignore_ascii_case(key)).cloned();
    match (found, wished) {
        (Some(found), Some(wished)) => config.insert(found, Value::String(wished)),
        (None, wished) => config.insert(
            key.to_owned(),
            Value::String(wished.unwrap_or_else(|| DEFAULT_INTERVAL.to_owned())),
        ),
        (Some(_), None) => None,
    };
}

/// Members that the service alone writes, as its published description marks them. `*` is every member of an object
/// or every element of a list.
const READ_ONLY: [&str; 27] = [
    "/id",
    "/name",
    "/type",
    "/systemData",
    "/eTag",
    "/identity/principalId",
    "/identity/tenantId",
    "/properties/provisioningState",
    "/properties/powerState",
    "/properties/maxAgentPools",
    "/properties/currentKubernetesVersion",
    "/properties/fqdn",
    "/properties/privateFQDN",
    "/properties/azurePortalFQDN",
    "/properties/resourceUID",
    "/properties/status/provisioningError",
    "/properties/agentPoolProfiles/*/eTag",
    "/properties/agentPoolProfiles/*/currentOrchestratorVersion",
    "/properties/agentPoolProfiles/*/provisioningState",
    "/properties/agentPoolProfiles/*/status",
    "/properties/agentPoolProfiles/*/nodeImageVersion",
    "/properties/agentPoolProfiles/*/localDNSProfile/state",
    "/properties/addonProfiles/*/identity",
    "/properties/ingressProfile/webAppRouting/identity",
    "/properties/oidcIssuerProfile/issuerURL",
    "/properties/networkProfile/*/effectiveOutboundIPs",
    "/properties/privateLinkResources/*/privateLinkServiceID",
];
const READ_ONLY_IN_POD_IDENTITIES: [&str; 2] = [
    "/properties/podIdentityProfile/userAssignedIdentities/*/provisioningState",
    "/properties/podIdentityProfile/userAssignedIdentities/*/provisioningInfo",
];

/// A resource without its read-only members.
fn writable(live: &Value) -> Value {
    let mut body = live.clone();
    for path in READ_ONLY.iter().chain(&READ_ONLY_IN_POD_IDENTITIES) {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        remove(&mut body, &segments);
    }
    // Identities are named by key; what is below is read-only.
    if let Some(Value::Object(identities)) = body.pointer_mut("/identity/userAssignedIdentities") {
        identities.values_mut().for_each(|value| *value = json!({}));
    }
    body
}

fn remove(value: &mut Value, path: &[&str]) {
    match (value, path) {
        (Value::Object(members), [last]) => {
            members.remove(*last);
        }
        (Value::Object(members), ["*", rest @ ..]) => {
            members.values_mut().for_each(|member| remove(member, rest))
        }
        (Value::Array(elements), ["*", rest @ ..]) => {
            elements.iter_mut().for_each(|element| remove(element, rest))
        }
        (Value::Object(members), [first, rest @ ..]) => {
            if let Some(member) = members.get_mut(*first) {
                remove(member, rest);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
#[path = "addon_tests.rs"]
mod tests;
