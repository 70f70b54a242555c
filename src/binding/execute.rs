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

use super::desired::{Connection, Desired, ReadSecret, VerifyLevel};
use super::diagnose::{Diagnosis, diagnose, stale_secret};
use super::error::{Cause, StepError};
use super::observation::Seen;
use super::observe::{dialled, mount_messages, published_address};
use super::order::waits_for;
use super::step::{Awaited, Step, object_key};
use super::text::admission;
use super::world::World;
use crate::azure::ids::ClusterId;
use crate::azure::{self, AddonWish, Role};
use crate::k8s::edge::{Endpoint, Served, handshake};
use crate::k8s::{CRD, Error as KubernetesError, Kubernetes, ObjectRef, SECRET, SPC_POD_STATUS};

/// Until when steps may run, and what ends them earlier.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The moment to give up.
    pub until: Instant,
    /// Fires when Terraform asks to stop.
    pub stop: CancellationToken,
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
        self.served.extend(part.served);
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
    /// Runs `steps` into `done`, each once what it waits for is done. After a failure what runs comes to its end, and
    /// nothing more is begun.
    pub async fn run(&self, steps: &[Step], done: &mut Done) {
        let mut waiting: Vec<usize> = (0..steps.len()).collect();
        let mut finished = vec![false; steps.len()];
        let mut running = FuturesUnordered::new();
        loop {
            if done.failure.is_none() {
                let is_free = |index: &usize| {
                    (0..*index).all(|at| finished[at] || !waits_for(&steps[*index], &steps[at]))
                };
                let (free, rest): (Vec<usize>, Vec<usize>) = waiting.into_iter().partition(is_free);
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
            Step::AwaitServed { ingress, hosts } => self.await_served(ingress, hosts, done).await?,
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

    async fn kubernetes(&self) -> Result<Kubernetes, Cause> {
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
    /// object. A kind that the add-on is about to bring is waited for.
    async fn apply(
        &self,
        kubernetes: &Kubernetes,
        object: &ObjectRef,
        manifest: &Value,
    ) -> Result<Value, KubernetesError> {
        let mut force = self.insists(object);
        let mut pause = Duration::from_millis(250);
        loop {
            match kubernetes.apply(object, manifest, force, false).await {
                Err(KubernetesError::NotServed { .. }) => {
                    await_kind(kubernetes, object).await?;
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
            Ok(result) => result.map(|_| ()).map_err(Cause::Kubernetes),
            Err(_) => {
                let messages = mount_messages(&kubernetes, &desired.namespace, &desired.name).await;
                let stale = match reads {
                    true => stale(&kubernetes, &desired.namespace, secrets).await,
                    false => None,
                };
                let names: Vec<&str> = secrets
                    .iter()
                    .map(|awaited| awaited.secret_name.as_str())
                    .collect();
                Err(Cause::TimedOut {
                    waited,
                    what: format!("Secret {} to hold the vault's certificate", names.join(", ")),
                    diagnosis: match stale {
                        Some((name, thumbprint)) if messages.is_empty() => stale_secret(&name, &thumbprint),
                        _ => diagnose(messages.iter().map(String::as_str)),
                    },
                })
            }
        }
    }

    async fn await_served(
        &self,
        ingress: &ObjectRef,
        hosts: &[(String, Awaited)],
        done: &mut Done,
    ) -> Result<(), Cause> {
        let Some(desired) = self.desired else {
            return Ok(());
        };
        let deadline = Instant::now() + desired.verify.timeout;
        let endpoint = match self.endpoint(desired, ingress, deadline).await? {
            Ok(endpoint) => endpoint,
            Err(reason) => {
                done.served = hosts
                    .iter()
                    .map(|(host, _)| (host.clone(), Seen::NotSeen(reason.clone())))
                    .collect();
                return Self::judge_unreachable(desired, hosts, &reason);
            }
        };
        for (host, awaited) in hosts {
            let wanted = match &awaited.thumbprint {
                Some(thumbprint) => Some(thumbprint.clone()),
                None => self.synced_thumbprint(desired, awaited).await?,
            };
            let seen = self
                .await_host(desired, &endpoint, host, wanted.as_deref(), deadline)
                .await;
            let verdict = Self::judge_host(desired, &endpoint, host, wanted.as_deref(), &seen);
            done.served.insert(host.clone(), seen);
            verdict?;
        }
        Ok(())
    }

    /// Where to dial: the configured endpoint, or the address the Ingress publishes, which is waited for.
    async fn endpoint(
        &self,
        desired: &Desired,
        ingress: &ObjectRef,
        deadline: Instant,
    ) -> Result<Result<Endpoint, String>, Cause> {
        if let Some((address, port)) = &desired.verify.endpoint {
            return Ok(Ok(Endpoint {
                address: address.clone(),
                port: *port,
            }));
        }
        let kubernetes = self.kubernetes().await?;
        let published = kubernetes.wait(ingress, |live| live.and_then(published_address));
        match tokio::time::timeout_at(deadline, published).await {
            Ok(address) => Ok(Ok(Endpoint {
                address: address?,
                port: 443,
            })),
            Err(_) => Ok(Err(format!(
                "{ingress} has no address; does a controller serve its class?"
            ))),
        }
    }

    async fn synced_thumbprint(&self, desired: &Desired, awaited: &Awaited) -> Result<Option<String>, Cause> {
        if desired.verify.read_secret == ReadSecret::Never {
            return Ok(None);
        }
        let kubernetes = self.kubernetes().await?;
        let secret = kubernetes
            .secret_certificate(&desired.namespace, &awaited.secret_name)
            .await?;
        Ok(secret
            .and_then(|secret| secret.leaf)
            .map(|leaf| leaf.thumbprint.to_string()))
    }

    /// Asks the edge until it returns the wanted leaf. Without a single answer, `auto` gives up after a fifth of the
    /// time: a runner that cannot reach the edge should not wait for it at every apply.
    async fn await_host(
        &self,
        desired: &Desired,
        endpoint: &Endpoint,
        host: &str,
        wanted: Option<&str>,
        deadline: Instant,
    ) -> Seen<Served> {
        let patience = match desired.verify.level {
            VerifyLevel::Auto => Instant::now() + desired.verify.timeout / 5,
            VerifyLevel::Served | VerifyLevel::Synced | VerifyLevel::None => deadline,
        };
        let mut pause = Duration::from_millis(250);
        loop {
            let answer = handshake(
                endpoint,
                &dialled(host),
                self.world.proxy(),
                Duration::from_secs(5),
            )
            .await;
            let now = Instant::now();
            let seen = match answer {
                Ok(served) => Seen::Known(served),
                Err(error) => Seen::NotSeen(error.to_string()),
            };
            let (is_wanted, patience) = match &seen {
                Seen::Known(served) => (
                    wanted.is_none_or(|wanted| served.leaf.thumbprint.to_string() == wanted),
                    deadline,
                ),
                Seen::NotSeen(_) | Seen::NotAsked => (false, patience.min(deadline)),
            };
            if is_wanted || now + pause > patience {
                return seen;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(4));
        }
    }

    fn judge_host(
        desired: &Desired,
        endpoint: &Endpoint,
        host: &str,
        wanted: Option<&str>,
        seen: &Seen<Served>,
    ) -> Result<(), Cause> {
        match seen {
            Seen::Known(served) => {
                let thumbprint = served.leaf.thumbprint.to_string();
                match wanted {
                    Some(wanted) if wanted != thumbprint => Err(Cause::WrongCertificate {
                        host: host.to_owned(),
                        address: format!("{}:{}", endpoint.address, endpoint.port),
                        subject: served.leaf.subject.clone(),
                        thumbprint,
                        wanted: wanted.to_owned(),
                    }),
                    _ => Ok(()),
                }
            }
            Seen::NotSeen(reason) => {
                Self::judge_unreachable(desired, &[], reason).map_err(|cause| match cause {
                    Cause::EdgeUnreachable { reason, .. } => Cause::EdgeUnreachable {
                        host: host.to_owned(),
                        reason,
                    },
                    other => other,
                })
            }
            Seen::NotAsked => Ok(()),
        }
    }

    fn judge_unreachable(desired: &Desired, hosts: &[(String, Awaited)], reason: &str) -> Result<(), Cause> {
        if desired.verify.level == VerifyLevel::Served {
            let host = hosts.first().map(|(host, _)| host.clone()).unwrap_or_default();
            return Err(Cause::EdgeUnreachable {
                host,
                reason: reason.to_owned(),
            });
        }
        Ok(())
    }
}

/// A Secret that is there and holds another leaf than the awaited one: its name and that leaf's thumbprint.
async fn stale(kubernetes: &Kubernetes, namespace: &str, secrets: &[Awaited]) -> Option<(String, String)> {
    for awaited in secrets {
        let secret = kubernetes
            .secret_certificate(namespace, &awaited.secret_name)
            .await;
        let leaf = secret.ok().flatten().and_then(|secret| secret.leaf);
        let thumbprint = leaf.map(|leaf| leaf.thumbprint.to_string());
        if thumbprint.is_some() && thumbprint != awaited.thumbprint {
            return thumbprint.map(|thumbprint| (awaited.secret_name.clone(), thumbprint));
        }
    }
    None
}

/// Waits until a kind's `CustomResourceDefinition` is established. Who may not look at those is told at once: the pause
/// after it is the wait.
async fn await_kind(kubernetes: &Kubernetes, object: &ObjectRef) -> Result<(), KubernetesError> {
    let definition = CRD.named("", &object.kind.resource());
    let established = kubernetes.wait(&definition, |live| {
        let conditions = live?["status"]["conditions"].as_array()?;
        let established = conditions
            .iter()
            .any(|it| it["type"] == "Established" && it["status"] == "True");
        established.then_some(())
    });
    match established.await {
        Err(KubernetesError::Forbidden { .. }) => Ok(()),
        answer => answer,
    }
}

/// Waits until a Secret holds the awaited leaf. Only its metadata is watched; the Secret itself is read when it
/// changed, and its key is never parsed.
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
        let leaf = secret
            .filter(|secret| secret.has_key)
            .and_then(|secret| secret.leaf);
        let wanted = awaited.thumbprint.as_deref();
        if leaf.is_some_and(|leaf| wanted.is_none_or(|wanted| leaf.thumbprint.to_string() == wanted)) {
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
            Self::AwaitServed { ingress, .. } => format!("verify what {ingress} serves"),
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
