//! Decides which steps turn the observed world into the desired one.
//!
//! Pure: no I/O, no clock, no randomness. Order is part of the decision: the grant comes before whatever reads the
//! vault, and the Ingress comes after the Secrets, so that a failure half way never leaves a host without a
//! certificate. What cannot be decided yet (the add-on's identity exists only once it is on) is left to the next
//! pass: [`Plan::complete`] says whether one is needed.
//!
//! Next: [`super::execute`] runs the steps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::accounts;
use super::desired::{Connection, Desired, Identity, Mode, VerifyLevel};
use super::gateway::{self, Parent};
use super::grant::{self, GrantKind};
use super::manifests::{self, Facts};
use super::observation::{Observation, Seen};
use super::revoke::revocations;
use super::step::{Awaited, Step, object_key};
use super::text::{shown, without_bookkeeping, yield_to_autoscaler};
use super::verify::holds;
use super::workload;
use crate::azure::AddonWish;
use crate::azure::ids::{ClusterId, VaultId};
use crate::duration;
use crate::k8s::{Kind, ObjectRef, SECRET, SERVICE_ACCOUNT, SecretCertificate};

/// What to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// Whether these steps suffice; if not, observe and plan again after them.
    pub complete: bool,
}

/// Everything beyond wish and world that a decision needs, all of it from earlier answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// This creation's stamp.
    pub instance: String,
    /// What the server made of our last write, by `Kind/name`.
    pub admitted: BTreeMap<String, Value>,
    /// Objects of this binding that it no longer wants, for example an Ingress under its old name.
    pub retired: Vec<ObjectRef>,
    /// Of certificates that are bound as they were before, by logical name, the thumbprints that the state knows as those
    /// of the vault's versions.
    pub bound: BTreeMap<String, BTreeSet<String>>,
    /// Whether the identity was known to be granted.
    pub granted: bool,
    /// The name of the cloud as the driver's Azure provider wants it.
    pub cloud_name: Option<String>,
    /// Objects by `Kind/name` that were imported from other hands and not yet written.
    pub adopted: BTreeSet<String>,
    /// Whether kvtls is known to have switched the add-on on.
    pub switched_addon_on: bool,
}

/// What an absent binding still owns.
#[derive(Clone, Debug, PartialEq)]
pub struct Owned {
    /// The cluster.
    pub cluster: ClusterId,
    /// The vault.
    pub vault: VaultId,
    /// The namespace.
    pub namespace: String,
    /// The binding's name.
    pub name: String,
    /// Only objects with this stamp are ours.
    pub instance: String,
    /// The objects, by the state.
    pub objects: Vec<ObjectRef>,
    /// The Secrets that go with them.
    pub secrets: Vec<String>,
    /// Grants that kvtls made.
    pub grants: Vec<OwnedGrant>,
    /// Who reads the vault.
    pub identity: Identity,
    /// Whether the add-on goes, too, if nobody uses it any more.
    pub disables_addon: bool,
    /// Whether objects were applied at all, and not only rendered.
    pub applied: bool,
    /// How the cluster's API is reached.
    pub connection: Connection,
}

/// A grant that kvtls made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedGrant {
    /// What it is.
    pub kind: GrantKind,
    /// The assignment's or credential's ID; for a policy the vault's.
    pub id: String,
    /// Where it holds.
    pub scope: String,
    /// Whom it was for.
    pub principal_id: String,
}

/// The wish for the add-on.
pub fn addon_wish(desired: &Desired) -> AddonWish {
    AddonWish {
        rotation_enabled: desired.addon.rotation_enabled,
        rotation_poll_interval: desired.addon.rotation_poll_interval.clone(),
    }
}

/// The steps for a binding that is to be there.
pub fn plan(desired: &Desired, seen: &Observation, memory: &Memory) -> Plan {
    let mut steps = Vec::new();
    let addon = seen.cluster.present().map(|cluster| &cluster.addon);
    if desired.addon.mode == Mode::Ensure && addon.is_some_and(|addon| !addon_wish(desired).is_met_by(addon))
    {
        steps.push(Step::SwitchAddon {
            rotation_enabled: desired.addon.rotation_enabled,
            rotation_poll_interval: desired.addon.rotation_poll_interval.clone(),
        });
    }
    let reader = grant::reader(&desired.access.identity, seen);
    let (Some(reader), Some(vault)) = (reader, seen.vault.present()) else {
        return Plan {
            steps,
            complete: false,
        };
    };
    let none = Vec::new();
    let assignments = seen.assignments.known().unwrap_or(&none);
    // A grant that is known from before and only cannot be read now is not made again.
    let unseen = seen.assignments.why_not().is_some() && memory.granted;
    if desired.create_namespace && seen.namespace == Seen::Known(false) {
        let (object, manifest) = manifests::namespace(desired);
        steps.push(Step::CreateNamespace { object, manifest });
    }
    let blind = seen.objects.values().any(|object| object.why_not().is_some());
    if blind {
        return Plan {
            steps,
            complete: false,
        };
    }
    if desired.access.mode == Mode::Ensure && !unseen {
        let missing = grant::missing(desired, vault, assignments, &reader.principal);
        steps.extend(missing.into_iter().map(|scope| {
            let principal = reader.principal.clone();
            if vault.rbac {
                let description = grant::description(&desired.cluster);
                Step::AssignRole {
                    scope,
                    principal,
                    description,
                }
            } else {
                Step::AddAccessPolicy {
                    vault: desired.vault.clone(),
                    tenant: vault.tenant_id.clone(),
                    principal,
                }
            }
        }));
    }
    steps.extend(workload::trust_step(desired, seen));
    if !desired.apply_manifests {
        return Plan {
            steps,
            complete: true,
        };
    }
    let facts = Facts {
        client_id: reader.client_id.clone(),
        tenant_id: vault.tenant_id.clone(),
        cloud_name: memory.cloud_name.clone(),
    };
    Objects {
        desired,
        seen,
        memory,
        facts,
    }
    .push_steps(&mut steps);
    Plan {
        steps,
        complete: true,
    }
}

/// The part of a plan that concerns the cluster's objects.
struct Objects<'a> {
    desired: &'a Desired,
    seen: &'a Observation,
    memory: &'a Memory,
    facts: Facts,
}

impl Objects<'_> {
    fn push_steps(&self, steps: &mut Vec<Step>) {
        let class = manifests::secret_provider_class(self.desired);
        let class_manifest = manifests::secret_provider_class_manifest(self.desired, &self.facts);
        let class_manifest = manifests::with_addon_note(class_manifest, self.memory.switched_addon_on);
        let live_class = self.seen.object(&object_key(&class));
        let finished = live_class.and_then(|live| manifests::annotation(live, manifests::PHASE))
            == Some(manifests::FINISHED);
        let phase = if finished {
            manifests::FINISHED
        } else {
            manifests::UNFINISHED
        };
        let marked = manifests::with_phase(class_manifest.clone(), phase, &self.desired.vault);
        self.push_apply(steps, &class, &marked);

        self.push_account(steps);
        let deployment = manifests::deployment(self.desired);
        let mounted = manifests::deployment_manifest(self.desired);
        let inputs = self.inputs(&class_manifest, self.seen.object(&object_key(&deployment)));
        self.push_apply(steps, &deployment, &manifests::with_inputs(mounted, &inputs));

        let proves = self.desired.verify.level != VerifyLevel::None;
        if proves {
            steps.push(Step::AwaitSynced {
                secrets: self.awaited(),
                patience: self.poll_interval(),
            });
        }
        self.push_edges(steps);
        for object in &self.memory.retired {
            let needed = if object.kind == SERVICE_ACCOUNT {
                !accounts::is_unused(self.seen, &object.name, &self.desired.name)
            } else {
                object.kind == SECRET && self.seen.holder_of(self.desired, &object.name).is_some()
            };
            if let Some(live) = self.seen.object(&object_key(object))
                && self.is_ours(object, live)
                && !needed
            {
                steps.push(Step::Delete {
                    object: object.clone(),
                    uid: uid(live),
                });
            }
        }
        if !finished {
            let manifest = self.stamp(manifests::with_phase(
                class_manifest,
                manifests::FINISHED,
                &self.desired.vault,
            ));
            steps.push(Step::Finish {
                object: class,
                manifest,
            });
        }
    }

    /// The Ingress, then the Gateway's objects, each proven before anything old goes.
    fn push_edges(&self, steps: &mut Vec<Step>) {
        let proves = matches!(self.desired.verify.level, VerifyLevel::Auto | VerifyLevel::Served);
        if let Some(wanted) = &self.desired.ingress {
            let edge = manifests::ingress(self.desired, &wanted.name);
            let controller = self.seen.controller.present().map(String::as_str);
            let manifest = manifests::ingress_manifest(self.desired, wanted, controller);
            self.push_apply(steps, &edge, &manifest);
            if proves {
                steps.push(Step::AwaitServed {
                    edge,
                    controller: controller.map(str::to_owned),
                    hosts: self.awaited_hosts(|_| true),
                });
            }
        }
        if let Some(wanted) = &self.desired.gateway {
            for (object, manifest) in gateway::objects(self.desired) {
                self.push_apply(steps, &object, &manifest);
            }
            if proves {
                let hosts = self.awaited_hosts(|host| wanted.rules.iter().any(|rule| rule.host == host));
                steps.push(Step::AwaitServed {
                    edge: wanted.publisher(&self.desired.namespace),
                    controller: match &wanted.parent {
                        Parent::Own { class } => Some(class.clone()),
                        Parent::Foreign { .. } => None,
                    },
                    hosts,
                });
            }
        }
    }

    /// Applies an object unless it is as wished. A difference in bookkeeping alone is applied too, silently.
    fn push_apply(&self, steps: &mut Vec<Step>, object: &ObjectRef, manifest: &Value) {
        let key = object_key(object);
        let mut wanted = self.stamp(manifest.clone());
        if let Some(live) = self.seen.object(&key) {
            yield_to_autoscaler(&mut wanted, live);
        }
        let bookkeeping = match self.seen.object(&key) {
            None => false,
            Some(live) => {
                let visible = without_bookkeeping(&wanted);
                let same = shown(live, &visible, self.memory.admitted.get(&key)) == visible;
                if same && super::text::project(live, &stamps(&wanted)) == stamps(&wanted) {
                    return;
                }
                same
            }
        };
        steps.push(Step::Apply {
            object: object.clone(),
            manifest: wanted,
            bookkeeping,
            is_new: self.seen.object(&key).is_none(),
        });
    }

    /// The service account of the sync pods, unless somebody else's is there.
    fn push_account(&self, steps: &mut Vec<Step>) {
        let workload = self
            .desired
            .access
            .workload()
            .zip(workload::account(self.desired));
        let Some((workload, account)) = workload else {
            return;
        };
        let live = self.seen.object(&object_key(&account));
        if live.is_none_or(|live| workload::is_own(self.desired, live)) {
            let manifest = workload::account_manifest(self.desired, workload, &self.facts.client_id.0);
            self.push_apply(steps, &account, &manifest);
        }
    }

    /// Whether a retired object carries our mark: the instance's, or on a Secret the label that our
    /// SecretProviderClass gave it.
    fn is_ours(&self, object: &ObjectRef, live: &Value) -> bool {
        if object.kind == SECRET {
            return live["metadata"]["labels"][manifests::MANAGED_BY.0] == manifests::MANAGED_BY.1;
        }
        manifests::annotation(live, manifests::INSTANCE) == Some(self.memory.instance.as_str())
    }

    /// How long a Secret that is there already may stay behind: the driver looks again after this time, if it rotates.
    fn poll_interval(&self) -> Duration {
        /// The driver's own.
        const DEFAULT: Duration = Duration::from_secs(2 * 60);
        if !self.desired.addon.rotation_enabled {
            return Duration::ZERO;
        }
        let addon = self.seen.cluster.present().map(|cluster| &cluster.addon);
        let interval = addon.and_then(|addon| addon.rotation_poll_interval.as_deref());
        interval.and_then(duration::parse).unwrap_or(DEFAULT)
    }

    fn stamp(&self, manifest: Value) -> Value {
        manifests::stamped(manifest, &self.desired.id(), &self.memory.instance)
    }

    /// The hash of the mount's inputs. A live mount keeps its restart token, unless a Secret is not the vault's: then the
    /// pods are replaced by a new token. It follows from the one before and the vault's versions, so that a Secret that
    /// goes wrong twice under one version is mended twice.
    fn inputs(&self, class: &Value, deployment: Option<&Value>) -> String {
        let hash = manifests::inputs(class, None);
        let live = deployment
            .and_then(|live| live["spec"]["template"]["metadata"]["annotations"][manifests::INPUTS].as_str());
        let Some(live) = live else { return hash };
        if live.split('.').next() == Some(hash.as_str()) && self.is_stale() {
            let before: Vec<&str> = self.vault_versions().chain([live]).collect();
            return format!(
                "{hash}.{}",
                manifests::inputs(&Value::Null, Some(&before.join(",")))
            );
        }
        match live.split_once('.') {
            Some((live_hash, token)) if live_hash == hash => format!("{hash}.{token}"),
            _ => hash,
        }
    }

    fn is_stale(&self) -> bool {
        self.awaited().iter().any(|awaited| {
            let Some(wanted) = awaited.thumbprint.as_deref() else {
                return false;
            };
            match self.seen.secrets.get(&awaited.secret_name) {
                // The driver would make it again by itself, in its own time.
                Some(Seen::Known(None)) => true,
                Some(Seen::Known(Some(secret))) if secret.was_read() => !holds(secret, Some(wanted)),
                _ => {
                    let mounted = self.seen.mounted_version(&awaited.name);
                    mounted.is_some_and(|mounted| Some(mounted) != awaited.version.as_deref())
                }
            }
        })
    }

    fn vault_versions(&self) -> impl Iterator<Item = &str> {
        self.seen
            .certificates
            .values()
            .filter_map(|seen| seen.present().map(|found| found.version.as_str()))
    }

    fn awaited(&self) -> Vec<Awaited> {
        self.desired
            .certificates
            .keys()
            .filter_map(|key| self.awaited_of(key))
            .collect()
    }

    fn awaited_of(&self, key: &str) -> Option<Awaited> {
        let certificate = self.desired.certificates.get(key)?;
        let found = self.seen.certificates.get(key).and_then(Seen::present);
        let found = found.filter(|_| !self.stays_behind(key, &certificate.secret_name));
        Some(Awaited {
            certificate: key.to_owned(),
            secret_name: certificate.secret_name.clone(),
            name: certificate.certificate.clone(),
            version: found.map(|found| found.version.clone()),
            thumbprint: found.map(|found| found.leaf.thumbprint.to_string()),
        })
    }

    /// Whether a Secret keeps what it holds, whatever the vault has by now: without rotation the driver leaves alone what
    /// is there. What never came out of the vault does not stay.
    fn stays_behind(&self, key: &str, secret: &str) -> bool {
        let rotates = match self.desired.addon.mode {
            Mode::Ensure => self.desired.addon.rotation_enabled,
            Mode::Require | Mode::Ignore => {
                let cluster = self.seen.cluster.present();
                cluster.is_none_or(|cluster| cluster.addon.rotation_enabled)
            }
        };
        let known = self.memory.bound.get(key);
        let is_vaults = |secret: &SecretCertificate| {
            let thumbprint = secret.leaf.as_ref().map(|leaf| leaf.thumbprint.to_string());
            !secret.was_read()
                || holds(secret, None)
                    && known
                        .zip(thumbprint)
                        .is_some_and(|(known, it)| known.contains(&it))
        };
        let secret = self.seen.secrets.get(secret).and_then(Seen::present);
        !rotates && known.is_some() && secret.is_some_and(is_vaults)
    }

    fn awaited_hosts(&self, is_asked: impl Fn(&str) -> bool) -> Vec<(String, Awaited)> {
        self.desired
            .hosts()
            .filter(|(host, _)| is_asked(host))
            .filter_map(|(host, key)| Some((host.to_owned(), self.awaited_of(key)?)))
            .collect()
    }
}

/// The bookkeeping annotations of a manifest, as a mask.
fn stamps(manifest: &Value) -> Value {
    let only = |metadata: &Value| {
        let kept: serde_json::Map<String, Value> = metadata["annotations"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| name.starts_with(manifests::BOOKKEEPING))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        serde_json::json!({ "annotations": kept })
    };
    let mut mask = serde_json::json!({ "metadata": only(&manifest["metadata"]) });
    if manifest["spec"]["template"]["metadata"].is_object() {
        mask["spec"] = serde_json::json!({ "template": { "metadata": only(&manifest["spec"]["template"]["metadata"]) } });
    }
    mask
}

fn uid(live: &Value) -> String {
    live["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

/// The steps for a binding that is to be gone. The grant is decided in a pass of its own, after our
/// SecretProviderClass is gone, so that of two bindings destroyed at once the last one revokes.
pub fn plan_absent(owned: &Owned, seen: &Observation) -> Plan {
    let mut steps = Vec::new();
    let rank = |kind: &Kind| match kind.kind {
        "Ingress" | "HTTPRoute" => 0,
        "Gateway" | "ListenerSet" | "ReferenceGrant" => 1,
        "Deployment" => 2,
        // Its pods are gone by then; others' may use it still.
        "ServiceAccount" => 3,
        _ => 4,
    };
    let mut objects: Vec<(&ObjectRef, &Value)> = owned
        .objects
        .iter()
        .filter_map(|object| seen.object(&object_key(object)).map(|live| (object, live)))
        .filter(|(_, live)| manifests::annotation(live, manifests::INSTANCE) == Some(owned.instance.as_str()))
        .filter(|(object, _)| {
            object.kind != SERVICE_ACCOUNT || accounts::is_unused(seen, &object.name, &owned.name)
        })
        .collect();
    objects.sort_by_key(|(object, _)| rank(&object.kind));
    let removes_mount = objects.iter().any(|(object, _)| object.kind.kind == "Deployment");
    for (object, live) in &objects {
        if rank(&object.kind) < 4 {
            steps.push(Step::Delete {
                object: (*object).clone(),
                uid: uid(live),
            });
        }
    }
    if removes_mount {
        // Kubernetes removes the Secrets with the ReplicaSet that owned the mount.
        let managed = owned.secrets.iter().filter(|name| {
            seen.secrets
                .get(*name)
                .and_then(Seen::present)
                .is_some_and(|secret| secret.managed)
        });
        steps.extend(managed.map(|name| Step::AwaitGone {
            object: SECRET.named(&owned.namespace, name),
        }));
    }
    for (object, live) in &objects {
        if rank(&object.kind) == 4 {
            steps.push(Step::Delete {
                object: (*object).clone(),
                uid: uid(live),
            });
        }
    }
    if !steps.is_empty() {
        return Plan {
            steps,
            complete: false,
        };
    }
    Plan {
        steps: revocations(owned, seen),
        complete: true,
    }
}

#[cfg(test)]
mod tests;
