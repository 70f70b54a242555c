//! The controller that makes Secrets of mounts. It wakes for status objects, not for classes: an edited class reaches
//! its Secret only with the next requeue.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{Generation, is_managed, secret_data, secret_owners, tell};
use crate::sandbox::actors::Cluster;
use crate::sandbox::actors::cache::Topic;
use crate::sandbox::actors::client::{ApiError, Client};
use crate::sandbox::actors::events::Recorder;
use crate::sandbox::actors::kinds::Kind;
use crate::sandbox::actors::objects::{
    is_covered, is_deleting, key, list, name, namespace, owners, text, uid, version,
};
use crate::sandbox::actors::pulse::{Actor, Next, Outcome};

/// From publish to Secret, as measured.
const LAG: Duration = Duration::from_millis(100);
/// Requeue times, as read from the driver.
const AFTER_SUCCESS: Duration = Duration::from_secs(300);
const AFTER_MISSING: Duration = Duration::from_secs(5);
const AFTER_NO_FILES: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_millis(5);
const LONGEST_RETRY: Duration = Duration::from_secs(1000);

/// Looks that are far off happen together, for every moment at which something is due costs a stop of the clock.
fn together(due: OffsetDateTime, pause: Duration) -> OffsetDateTime {
    const SLOT: i64 = 15;
    if pause < AFTER_SUCCESS {
        return due;
    }
    let past = due.unix_timestamp().rem_euclid(SLOT);
    due + time::Duration::seconds(SLOT - past)
}

/// The controller.
pub(in crate::sandbox::actors) struct SecretSync {
    cluster: Arc<Cluster>,
    client: Arc<Client>,
    events: Recorder,
    /// By UID of the status object.
    queue: HashMap<String, Item>,
}

struct Item {
    /// Version of the status object that was last put into the queue.
    seen: u64,
    due: Option<OffsetDateTime>,
    /// When the Secrets get their owners back.
    owners_due: Option<OffsetDateTime>,
    failures: u32,
}

/// How one reconcile ended.
enum End {
    /// Look again after this long.
    Again(Duration),
    /// Nothing to do until the status object changes.
    Rest,
    /// As after success, but the owners are missing and come with the other loop.
    Owners,
    /// Wrong in a way that time may cure: retried, less and less often.
    Failed,
}

impl Actor for SecretSync {
    const NAME: &'static str = "csi driver";
    const TOPICS: &'static [Topic] = &[Topic::Objects(Kind::PodStatus)];

    async fn pass(&mut self) -> Result<Next, ApiError> {
        let mut outcome = Outcome::default();
        let statuses = self.cluster.cache.all(Kind::PodStatus);
        let present: HashSet<_> = statuses.iter().map(|status| uid(status)).collect();
        self.queue.retain(|known, _| present.contains(known.as_str()));
        for status in &statuses {
            let now = self.cluster.clock.now();
            let item = self.queue.entry(uid(status).to_owned()).or_insert(Item {
                seen: 0,
                due: None,
                owners_due: None,
                failures: 0,
            });
            if item.seen != version(status) {
                item.seen = version(status);
                item.due = Some(now + LAG);
            }
            if let Some(due) = item.owners_due {
                if due > now {
                    outcome
                        .next
                        .at(due, || format!("owns the Secrets of {}", key(status)));
                } else {
                    item.owners_due = None;
                    let result = self.own_all(status).await;
                    outcome.note(result);
                }
            }
            let Some(due) = self.queue.get(uid(status)).and_then(|item| item.due) else {
                continue;
            };
            if due > now {
                outcome
                    .next
                    .at(due, || format!("makes the Secrets of {}", key(status)));
                continue;
            }
            match self.reconcile(status).await {
                Ok(end) => self.requeue(status, &end, &mut outcome.next),
                Err(error) => outcome.note(Err(error)),
            }
        }
        outcome.finish()
    }
}

impl SecretSync {
    pub(in crate::sandbox::actors) fn new(cluster: Arc<Cluster>, client: Arc<Client>) -> Self {
        let component = "csi-secrets-store-controller";
        let events = Recorder::new(Arc::clone(&client), cluster.clock.clone(), component, None);
        Self {
            cluster,
            client,
            events,
            queue: HashMap::new(),
        }
    }

    fn requeue(&mut self, status: &Value, end: &End, next: &mut Next) {
        let now = self.cluster.clock.now();
        let Some(item) = self.queue.get_mut(uid(status)) else {
            return;
        };
        let pause = match end {
            End::Rest => None,
            End::Again(pause) => Some(*pause),
            End::Owners => Some(AFTER_SUCCESS),
            End::Failed => Some((FIRST_RETRY * 2_u32.saturating_pow(item.failures)).min(LONGEST_RETRY)),
        };
        if matches!(end, End::Owners) {
            let due = now + AFTER_MISSING;
            item.owners_due = Some(due);
            next.at(due, || format!("owns the Secrets of {}", key(status)));
        }
        item.failures = if matches!(end, End::Failed) {
            (item.failures + 1).min(20)
        } else {
            0
        };
        item.due = pause.map(|pause| together(now + pause, pause));
        if let Some(due) = item.due {
            next.at(due, || format!("makes the Secrets of {}", key(status)));
        }
    }

    async fn reconcile(&self, status: &Value) -> Result<End, ApiError> {
        let space = namespace(status);
        let cache = &self.cluster.cache;
        let Some(pod) = cache.get(Kind::Pod, space, text(status, "/status/podName")) else {
            return Ok(End::Again(AFTER_MISSING));
        };
        if is_deleting(&pod) {
            return Ok(End::Rest);
        }
        let class_name = text(status, "/status/secretProviderClassName");
        let Some(class) = cache.get(Kind::SecretProviderClass, space, class_name) else {
            return Ok(End::Again(AFTER_MISSING));
        };
        if list(&class, "/spec/secretObjects").is_empty() {
            return Ok(End::Rest);
        }
        let Some(mount) = self.cluster.mounts.of(uid(&pod), class_name) else {
            return Ok(End::Again(AFTER_NO_FILES));
        };
        let mut end = End::Again(AFTER_SUCCESS);
        for entry in list(&class, "/spec/secretObjects") {
            if let Some(flaw) = secret_data::flaw(entry) {
                let words = format!(
                    "\"failed to validate secret object in spc\" err={flaw:?} spc=\"{space}/{class_name}\""
                );
                tell(&self.cluster, &pod, 'E', &words);
                end = End::Failed;
                continue;
            }
            let secret_name = text(entry, "/secretName").trim();
            let data = match secret_data::data(entry, &mount.files) {
                Ok(data) => data,
                Err(error) => {
                    let message = format!(
                        "failed to get data in spc {space}/{class_name} for secret {secret_name}, err: {error}"
                    );
                    self.failed(&pod, &message).await?;
                    end = End::Failed;
                    continue;
                }
            };
            let wanted = secret_data::secret(entry, space, &data);
            let found = cache.get(Kind::Secret, space, secret_name);
            let written = match self.cluster.stage.get().forbidden_secret(space) {
                Some(message) => Err(ApiError::Status {
                    code: 403,
                    reason: "Forbidden".into(),
                    message,
                }),
                None => self.write(&pod, found.clone(), wanted).await,
            };
            let secret = match (found, self.cluster.generation) {
                // 1.5 leaves a Secret that exists alone, whoever made it.
                (Some(secret), Generation::Loop) => secret,
                _ => match written {
                    Ok(secret) => secret,
                    // Somebody was faster than our picture of the cluster.
                    Err(error) if error.is_conflict() => {
                        self.client.get(Kind::Secret, space, secret_name).await?;
                        end = End::Failed;
                        continue;
                    }
                    Err(ApiError::Status { code, message, .. }) => {
                        let why = match code {
                            403 => message,
                            _ => "timed out waiting for the condition".to_owned(),
                        };
                        let message = format!(
                            "failed to create Kubernetes secret {secret_name} for spc {space}/{class_name}, err: {why}"
                        );
                        self.failed(&pod, &message).await?;
                        end = End::Again(AFTER_MISSING);
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            // 1.6.0 writes the Secret without its owners; they come back with another loop.
            let owners_later =
                self.cluster.generation == Generation::Overwriting && owners(&secret).is_empty();
            if owners_later && !list(&pod, "/metadata/ownerReferences").is_empty() {
                end = End::Owners;
            } else if is_managed(&secret) {
                self.own(&secret, &pod, status).await?;
            }
        }
        Ok(end)
    }

    /// Makes a Secret, or writes one that exists as the generation does.
    async fn write(
        &self,
        pod: &Value,
        found: Option<Arc<Value>>,
        wanted: Value,
    ) -> Result<Arc<Value>, ApiError> {
        let space = namespace(pod);
        match (found, self.cluster.generation) {
            (None, _) => {
                let created = self.client.create(Kind::Secret, space, wanted).await?;
                let secret = format!(
                    "\"created Kubernetes secret\" secret=\"{space}/{}\"",
                    name(&created)
                );
                tell(&self.cluster, pod, 'I', &secret);
                Ok(created)
            }
            (Some(secret), Generation::Loop) => Ok(secret),
            (Some(_), Generation::Overwriting) => self.client.replace(Kind::Secret, space, wanted).await,
            (Some(secret), Generation::Patching) => {
                let patch = json!({"data": wanted["data"]});
                if secret["data"] == wanted["data"] {
                    return Ok(secret);
                }
                self.client.merge(Kind::Secret, &secret, &patch).await
            }
        }
    }

    /// Gives the Secrets of a status object the owners they lack.
    async fn own_all(&self, status: &Value) -> Result<(), ApiError> {
        let space = namespace(status);
        let cache = &self.cluster.cache;
        let class_name = text(status, "/status/secretProviderClassName");
        let pod = cache.get(Kind::Pod, space, text(status, "/status/podName"));
        let class = cache.get(Kind::SecretProviderClass, space, class_name);
        let (Some(pod), Some(class)) = (pod, class) else {
            return Ok(());
        };
        for entry in list(&class, "/spec/secretObjects") {
            let found = cache.get(Kind::Secret, space, text(entry, "/secretName").trim());
            if let Some(secret) = found.filter(|secret| is_managed(secret)) {
                self.own(&secret, &pod, status).await?;
            }
        }
        Ok(())
    }

    async fn failed(&self, pod: &Value, message: &str) -> Result<(), ApiError> {
        tell(&self.cluster, pod, 'E', &format!("{message:?}"));
        self.events
            .warning(Kind::Pod, pod, "FailedToCreateSecret", message)
            .await
    }

    /// Adds the pod's owners to the Secret's; those of earlier pods stay until garbage collection drops them.
    async fn own(&self, secret: &Value, pod: &Value, status: &Value) -> Result<(), ApiError> {
        let mut all = owners(secret).to_vec();
        for owner in secret_owners(pod, status) {
            // By name, as the driver does: a successor's UID replaces nothing.
            let known = all
                .iter()
                .any(|known| known["kind"] == owner["kind"] && known["name"] == owner["name"]);
            if !known {
                all.push(owner);
            }
        }
        let patch = json!({"metadata": {"ownerReferences": all}});
        if !is_covered(secret, &patch) {
            self.client.merge(Kind::Secret, secret, &patch).await?;
        }
        Ok(())
    }
}
