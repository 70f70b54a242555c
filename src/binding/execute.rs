//! Runs steps, those that are independent at the same time, and begins none after one failed. The only writes of the
//! whole provider are here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::desired::{Connection, Desired, ReadSecret};
use super::diagnose::{Diagnosis, diagnose, secret_flaw};
use super::error::{Cause, StepError};
use super::gateway::Problem;
use super::manifests;
use super::observation::Seen;
use super::observe::mount_messages;
use super::order::waits_for;
use super::prove::worse;
use super::step::{Awaited, Step, object_key};
use super::text::admission;
use super::verify::holds;
use super::world::World;
use crate::azure::ids::ClusterId;
use crate::azure::{self, AddonWish, Role};
use crate::k8s::edge::Served;
use crate::k8s::{CRD, Error as KubernetesError, Kubernetes, ObjectRef, SECRET, SPC_POD_STATUS};

/// Until when steps may run, and what ends them earlier.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The moment to give up.
    pub until: Instant,
    /// Fires when Terraform asks to stop.
    pub stop: CancellationToken,
}

impl Limits {
    /// Waits; whether there is time left and nobody asked to stop.
    pub(super) async fn pause(&self, span: Duration) -> bool {
        let after = Instant::now() + span;
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep_until(after.min(self.until)) => after < self.until,
        }
    }
}

/// What running steps led to.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Steps that came to their end, in order.
    pub steps: Vec<Step>,
    /// What the server made of our writes, where that differs from what we sent, by `Kind/name`.
    pub admitted: BTreeMap<String, Value>,
    /// What the edge returned last, by host.
    pub served: BTreeMap<String, Seen<Served>>,
    /// What a Gateway's controller says against it, although it serves.
    pub problems: Vec<Problem>,
    /// Why the add-on could not be switched off, in Azure's words.
    pub addon_kept: Option<String>,
    /// Whether the add-on was off before these steps switched it on.
    pub addon_switched_on: bool,
    /// The step that failed.
    pub failure: Option<StepError>,
    /// Steps that ran beside it and failed as well.
    pub further_failures: Vec<StepError>,
}

impl Done {
    /// Takes over what one step learnt.
    fn absorb(&mut self, part: Self) {
        for (key, admission) in part.admitted {
            if admission.is_null() {
                self.admitted.remove(&key);
            } else {
                self.admitted.insert(key, admission);
            }
        }
        // Of what two edges show for a host, the worse counts.
        for (host, seen) in part.served {
            let seen = match self.served.remove(&host) {
                Some(before) => worse(before, seen, None),
                None => seen,
            };
            self.served.insert(host, seen);
        }
        self.problems.extend(part.problems);
        self.addon_kept = self.addon_kept.take().or(part.addon_kept);
        self.addon_switched_on |= part.addon_switched_on;
    }
}

/// What a step needs beside its own content.
pub struct Executor<'a> {
    /// The clients.
    pub world: &'a World,
    /// The cluster the steps are about.
    pub cluster: &'a ClusterId,
    /// The binding, for waits; `None` when it is being removed.
    pub desired: Option<&'a Desired>,
    /// How the cluster's API is reached.
    pub connection: &'a Connection,
    /// Objects by `Kind/name` that were imported from other hands.
    pub adopted: &'a BTreeSet<String>,
    /// Until when.
    pub limits: &'a Limits,
}

impl Executor<'_> {
    /// Runs `steps` into `done`, each once what it waits for is done, and not too many at once. After a failure what runs
    /// comes to its end, and nothing more is begun.
    pub async fn run(&self, steps: &[Step], done: &mut Done) {
        /// As many as a client of Kubernetes has requests in flight by habit; an API server's fairness takes them as one.
        const AT_ONCE: usize = 8;
        let mut waiting: Vec<usize> = (0..steps.len()).collect();
        let mut finished = vec![false; steps.len()];
        let mut running = FuturesUnordered::new();
        loop {
            if done.failure.is_none() {
                let is_free = |index: &usize| {
                    (0..*index).all(|at| finished[at] || !waits_for(&steps[*index], &steps[at]))
                };
                let (mut free, mut rest): (Vec<usize>, Vec<usize>) = waiting.into_iter().partition(is_free);
                let room = AT_ONCE.saturating_sub(running.len()).min(free.len());
                rest.extend(free.split_off(room));
                rest.sort_unstable();
                waiting = rest;
                for index in free {
                    let part = Done {
                        steps: done.steps.clone(),
                        ..Done::default()
                    };
                    running.push(Box::pin(self.limited(index, &steps[index], part)));
                }
            }
            let Some((index, part, result)) = running.next().await else {
                return;
            };
            done.absorb(part);
            let step = steps[index].clone();
            match result {
                Ok(()) => {
                    finished[index] = true;
                    done.steps.push(step);
                }
                Err(cause) => {
                    info!(step = %step.describe(), "failed");
                    let cluster = self.cluster.clone();
                    let failure = StepError { cluster, step, cause };
                    match done.failure {
                        None => done.failure = Some(failure),
                        Some(_) => done.further_failures.push(failure),
                    }
                }
            }
        }
    }

    /// Runs one step within the limits. `part` holds the steps that were done before it, and what it adds.
    async fn limited(&self, index: usize, step: &Step, mut part: Done) -> (usize, Done, Result<(), Cause>) {
        info!(step = %step.describe(), "starting");
        let begun = Instant::now();
        let result = tokio::select! {
            biased;
            () = self.limits.stop.cancelled() => Err(Cause::Stopped),
            result = tokio::time::timeout_at(self.limits.until, self.step(step, &mut part)) => {
                result.unwrap_or_else(|_| Err(Self::too_late(step, begun.elapsed())))
            }
        };
        (index, part, result)
    }

    fn too_late(step: &Step, waited: Duration) -> Cause {
        Cause::TimedOut {
            waited,
            what: step.describe(),
            diagnosis: Diagnosis {
                cause: "The operation's time was over".to_owned(),
                evidence: String::new(),
                fix: "Raise the value in  timeouts  if the cluster needs longer.".to_owned(),
            },
        }
    }

    async fn step(&self, step: &Step, done: &mut Done) -> Result<(), Cause> {
        let azure = self.world.azure();
        match step {
            Step::SwitchAddon {
                rotation_enabled,
                rotation_poll_interval,
            } => {
                let wish = AddonWish {
                    rotation_enabled: *rotation_enabled,
                    rotation_poll_interval: rotation_poll_interval.clone(),
                };
                azure.ensure_addon(self.cluster, &wish).await?;
            }
            Step::AssignRole {
                scope,
                principal,
                description,
            } => {
                let role = Role::KeyVaultSecretsUser;
                azure.assign_role(scope, role, principal, description).await?;
            }
            Step::Trust {
                identity,
                name,
                issuer,
                subject,
            } => azure.trust(identity, name, issuer, subject).await?,
            Step::Distrust { identity, credential } => azure.distrust(identity, credential).await?,
            Step::DisableAddon => match azure.disable_addon(self.cluster).await {
                Ok(_) => {}
                // Others use it since we looked; Azure refuses for as long as they do.
                Err(error @ azure::Error::Rejected { status: 400, .. }) => {
                    done.addon_kept = Some(error.service_said());
                }
                Err(error) => return Err(error.into()),
            },
            Step::AddAccessPolicy {
                vault,
                tenant,
                principal,
            } => {
                azure
                    .add_access_policy(vault, tenant, principal, &["get"])
                    .await?;
            }
            Step::RemoveRole { id } => {
                azure.remove_role_assignment(id).await?;
            }
            Step::RemoveAccessPolicy {
                vault,
                tenant,
                principal,
            } => {
                azure
                    .remove_access_policy(vault, tenant, principal, &["get"])
                    .await?;
            }
            Step::CreateNamespace { object, manifest } => {
                self.kubernetes()
                    .await?
                    .apply(object, manifest, false, false)
                    .await?;
            }
            Step::Apply { object, manifest, .. } | Step::Finish { object, manifest } => {
                let kubernetes = self.kubernetes().await?;
                let live = self.apply(&kubernetes, object, manifest).await?;
                remember_admitted(&mut done.admitted, object, manifest, &live);
            }
            Step::AwaitSynced { secrets, patience } => self.await_synced(secrets, *patience, done).await?,
            Step::AwaitServed { edge, hosts, .. } => self.await_served(edge, hosts, done).await?,
            Step::Delete { object, uid } => {
                let kubernetes = self.kubernetes().await?;
                kubernetes.delete(object, Some(uid)).await?;
                let gone = |live: Option<&Value>| {
                    live.is_none_or(|live| live["metadata"]["uid"] != uid.as_str())
                        .then_some(())
                };
                kubernetes.wait_metadata(object, gone).await?;
            }
            Step::AwaitGone { object } => {
                let kubernetes = self.kubernetes().await?;
                kubernetes
                    .wait_metadata(object, |live| live.is_none().then_some(()))
                    .await?;
            }
        }
        Ok(())
    }

    pub(super) async fn kubernetes(&self) -> Result<Kubernetes, Cause> {
        let cluster = self
            .world
            .cluster(self.cluster, super::world::Freshness::Shared)
            .await?;
        let Some(cluster) = cluster else {
            return Err(Cause::Azure(azure::Error::NotReady {
                operation: "connect to".to_owned(),
                target: self.cluster.to_string(),
                state: "gone".to_owned(),
            }));
        };
        let connected = self.world.kubernetes(&cluster, self.connection).await;
        connected
            .map(|connected| connected.kubernetes)
            .map_err(Cause::from)
    }

    /// Applies an object. Fields held by people are taken back, because the plan showed so; fields held by other
    /// reconcilers are an error, because they would take them again, unless the practitioner insists or adopts the
    /// object. A kind that the add-on is about to bring is waited for, and a little longer where its definition is there.
    async fn apply(
        &self,
        kubernetes: &Kubernetes,
        object: &ObjectRef,
        manifest: &Value,
    ) -> Result<Value, KubernetesError> {
        /// From a definition that is established to all API servers that serve it; then it is another version's.
        const SERVED_WITHIN: Duration = Duration::from_secs(30);
        let mut established = None;
        let mut force = self.insists(object);
        let mut pause = Duration::from_millis(250);
        loop {
            match kubernetes.apply(object, manifest, force, false).await {
                Err(error @ KubernetesError::NotServed { .. }) => {
                    let is_there = await_kind(kubernetes, object).await?;
                    let since = established.get_or_insert_with(Instant::now);
                    if is_there && since.elapsed() > SERVED_WITHIN {
                        return Err(error);
                    }
                    // Established, and not yet served by the API server that was asked.
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(4));
                }
                Err(KubernetesError::Conflict { managers, .. })
                    if !force && managers.iter().all(|(manager, _)| !is_reconciler(manager)) =>
                {
                    force = true;
                }
                answer => return answer,
            }
        }
    }

    /// Whether fields are taken from whoever holds them.
    fn insists(&self, object: &ObjectRef) -> bool {
        self.desired.is_some_and(|desired| desired.force_conflicts)
            || self.adopted.contains(&object_key(object))
    }

    /// Waits until the pods of a Deployment that was just written are there: while they do not come up, what the old ones
    /// mounted still stands and nothing renews it once they go.
    async fn await_rollout(
        &self,
        kubernetes: &Kubernetes,
        desired: &Desired,
        done: &Done,
    ) -> Result<(), Cause> {
        let deployment = manifests::deployment(desired);
        let written = |step: &Step| matches!(step, Step::Apply { object, .. } if *object == deployment);
        if !done.steps.iter().any(written) {
            return Ok(());
        }
        let rolled = kubernetes.wait(&deployment, |live| {
            live.filter(|live| is_rolled_out(live)).map(|_| ())
        });
        let waited = desired.verify.timeout;
        match tokio::time::timeout(waited, rolled).await {
            Ok(result) => result.map_err(Cause::Kubernetes),
            Err(_) => {
                let messages = mount_messages(kubernetes, &desired.namespace, &desired.name).await;
                Err(Cause::TimedOut {
                    waited,
                    what: format!("the new pods of {deployment}"),
                    diagnosis: diagnose(messages.iter().map(String::as_str)),
                })
            }
        }
    }

    async fn await_synced(&self, secrets: &[Awaited], patience: Duration, done: &Done) -> Result<(), Cause> {
        let Some(desired) = self.desired else {
            return Ok(());
        };
        let kubernetes = self.kubernetes().await?;
        let reads = desired.verify.read_secret != ReadSecret::Never;
        let waits = secrets.iter().map(async |awaited| {
            if reads {
                await_secret(&kubernetes, &desired.namespace, awaited).await
            } else {
                await_mounted(&kubernetes, desired, awaited).await
            }
        });
        let all = futures_util::future::try_join_all(waits);
        let granted = |step: &Step| {
            matches!(
                step,
                Step::AssignRole { .. } | Step::AddAccessPolicy { .. } | Step::Trust { .. }
            )
        };
        let propagation = if done.steps.iter().any(granted) {
            desired.access.propagation
        } else {
            Duration::ZERO
        };
        let waited = desired.verify.timeout + propagation + patience;
        match tokio::time::timeout(waited, all).await {
            Ok(result) => {
                result.map_err(Cause::Kubernetes)?;
                self.await_rollout(&kubernetes, desired, done).await
            }
            Err(_) => {
                let messages = mount_messages(&kubernetes, &desired.namespace, &desired.name).await;
                let flaw = match reads {
                    true => flaw(&kubernetes, &desired.namespace, secrets).await,
                    false => None,
                };
                let names: Vec<&str> = secrets
                    .iter()
                    .map(|awaited| awaited.secret_name.as_str())
                    .collect();
                Err(Cause::TimedOut {
                    waited,
                    what: format!("Secret {} to hold the vault's certificate", names.join(", ")),
                    diagnosis: match flaw {
                        Some(flaw) if messages.is_empty() => flaw,
                        _ => diagnose(messages.iter().map(String::as_str)),
                    },
                })
            }
        }
    }
}

/// Whether a Deployment's pods are all of its newest kind, and ready.
fn is_rolled_out(live: &Value) -> bool {
    let count = |of: &str| live["status"][of].as_u64().unwrap_or_default();
    let wanted = live["spec"]["replicas"].as_u64().unwrap_or(1);
    live["status"]["observedGeneration"] == live["metadata"]["generation"]
        && count("replicas") == wanted
        && count("updatedReplicas") == wanted
        && count("availableReplicas") == wanted
}

/// What is wrong with the first Secret that is there and does not hold what is awaited.
async fn flaw(kubernetes: &Kubernetes, namespace: &str, secrets: &[Awaited]) -> Option<Diagnosis> {
    for awaited in secrets {
        let secret = kubernetes
            .secret_certificate(namespace, &awaited.secret_name)
            .await;
        let secret = secret.ok().flatten();
        let flaw = secret
            .and_then(|secret| secret_flaw(&awaited.secret_name, &secret, awaited.thumbprint.as_deref()));
        if flaw.is_some() {
            return flaw;
        }
    }
    None
}

/// Waits until a kind's `CustomResourceDefinition` is established. False at once where the caller may not look at those:
/// the pause after it is the wait.
async fn await_kind(kubernetes: &Kubernetes, object: &ObjectRef) -> Result<bool, KubernetesError> {
    let definition = CRD.named("", &object.kind.resource());
    let established = kubernetes.wait(&definition, |live| {
        let conditions = live?["status"]["conditions"].as_array()?;
        let established = conditions
            .iter()
            .any(|it| it["type"] == "Established" && it["status"] == "True");
        established.then_some(())
    });
    match established.await {
        Err(KubernetesError::Forbidden { .. }) => Ok(false),
        answer => answer.map(|()| true),
    }
}

/// Waits until a Secret holds the awaited leaf and its key. Only its metadata is watched; the Secret itself is read when
/// it changed.
async fn await_secret(
    kubernetes: &Kubernetes,
    namespace: &str,
    awaited: &Awaited,
) -> Result<(), KubernetesError> {
    let object = SECRET.named(namespace, &awaited.secret_name);
    let mut last = None;
    loop {
        let version = kubernetes
            .wait(&object, |live| {
                let version = live?["metadata"]["resourceVersion"].as_str()?;
                (Some(version) != last.as_deref()).then(|| version.to_owned())
            })
            .await?;
        last = Some(version);
        let secret = kubernetes
            .secret_certificate(namespace, &awaited.secret_name)
            .await?;
        if secret.is_some_and(|secret| holds(&secret, awaited.thumbprint.as_deref())) {
            return Ok(());
        }
    }
}

/// Waits until a Secret is there and the driver says that it has the awaited version mounted. The Secret is not read.
async fn await_mounted(
    kubernetes: &Kubernetes,
    desired: &Desired,
    awaited: &Awaited,
) -> Result<(), KubernetesError> {
    /// Records come with the pods that mount, so there is no one object to watch.
    const LOOK_AGAIN: Duration = Duration::from_secs(2);
    let secret = SECRET.named(&desired.namespace, &awaited.secret_name);
    kubernetes.wait(&secret, |live| live.map(|_| ())).await?;
    let id = format!("secret/{}", awaited.name);
    loop {
        let records = kubernetes
            .list(SPC_POD_STATUS, Some(&desired.namespace), "")
            .await?;
        let is_there = records
            .iter()
            .map(|record| &record["status"])
            .filter(|status| status["secretProviderClassName"] == desired.name.as_str())
            .flat_map(|status| status["objects"].as_array().into_iter().flatten())
            .any(|object| {
                let version = awaited.version.as_deref();
                object["id"] == id.as_str() && version.is_none_or(|version| object["version"] == version)
            });
        if is_there {
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn remember_admitted(
    admitted: &mut BTreeMap<String, Value>,
    object: &ObjectRef,
    manifest: &Value,
    live: &Value,
) {
    // Null: the server took it as it was, and what was remembered is void.
    admitted.insert(object_key(object), admission(live, manifest).unwrap_or_default());
}

/// Field managers that would take a field again: deployment tools and operators, not people.
pub(super) fn is_reconciler(manager: &str) -> bool {
    const RECONCILERS: [&str; 7] = [
        "helm",
        "argocd",
        "flux",
        "kustomize-controller",
        "Terraform",
        "pulumi",
        "kapp",
    ];
    RECONCILERS.iter().any(|known| {
        manager
            .to_ascii_lowercase()
            .starts_with(&known.to_ascii_lowercase())
    })
}

impl Step {
    /// The step in a few words, for logs and receipts.
    pub fn describe(&self) -> String {
        match self {
            Self::SwitchAddon { .. } => "update the cluster's Key Vault add-on".to_owned(),
            Self::AssignRole { principal, .. } => format!("assign Key Vault Secrets User to {}", principal.0),
            Self::AddAccessPolicy { principal, .. } => format!("add an access policy for {}", principal.0),
            Self::Trust {
                identity, subject, ..
            } => format!("let {subject} in as {}", identity.name()),
            Self::Distrust { identity, .. } => {
                format!("remove the federated credential of {}", identity.name())
            }
            Self::DisableAddon => "switch the Key Vault add-on off".to_owned(),
            Self::CreateNamespace { object, .. } => format!("create {object}"),
            Self::Apply { object, .. } => format!("apply {object}"),
            Self::AwaitSynced { .. } => "wait for the Secrets".to_owned(),
            Self::AwaitServed { edge, .. } => format!("verify what {edge} serves"),
            Self::Finish { object, .. } => format!("mark {object} as complete"),
            Self::Delete { object, .. } => format!("delete {object}"),
            Self::AwaitGone { object } => format!("wait until {object} is gone"),
            Self::RemoveRole { .. } => "remove the role assignment".to_owned(),
            Self::RemoveAccessPolicy { principal, .. } => {
                format!("remove the access policy of {}", principal.0)
            }
        }
    }

    /// Whether it changes the world.
    pub fn is_write(&self) -> bool {
        !matches!(
            self,
            Self::AwaitSynced { .. } | Self::AwaitServed { .. } | Self::AwaitGone { .. }
        )
    }
}
