//! The controller that makes Secrets of mounts. It wakes for status objects, not for classes: an edited class reaches
//! its Secret only with the next requeue.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{is_managed, secret_data, secret_owners};
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
    failures: u32,
}

/// How one reconcile ended.
enum End {
    /// Look again after this long.
    Again(Duration),
    /// Nothing to do until the status object changes.
    Rest,
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
                failures: 0,
            });
            if item.seen != version(status) {
                item.seen = version(status);
                item.due = Some(now + LAG);
            }
            let Some(due) = item.due else { continue };
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
            End::Failed => Some((FIRST_RETRY * 2_u32.saturating_pow(item.failures)).min(LONGEST_RETRY)),
        };
        item.failures = if matches!(end, End::Failed) {
            (item.failures + 1).min(20)
        } else {
            0
        };
        item.due = pause.map(|pause| now + pause);
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
                tracing::debug!(
                    class = class_name,
                    flaw,
                    "csi-secrets-store: failed to validate secret object"
                );
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
            let secret = match cache.get(Kind::Secret, space, secret_name) {
                // 1.5 leaves a Secret that exists alone, whoever made it.
                Some(secret) => secret,
                None => match self
                    .client
                    .create(Kind::Secret, space, secret_data::secret(entry, space, &data))
                    .await
                {
                    Ok(secret) => secret,
                    // Somebody was faster than our picture of the cluster.
                    Err(error) if error.is_conflict() => {
                        self.client.get(Kind::Secret, space, secret_name).await?;
                        end = End::Failed;
                        continue;
                    }
                    Err(ApiError::Status { .. }) => {
                        let message = format!(
                            "failed to create Kubernetes secret {secret_name} for spc {space}/{class_name}, err: timed \
                             out waiting for the condition"
                        );
                        self.failed(&pod, &message).await?;
                        end = End::Again(AFTER_MISSING);
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            if is_managed(&secret) {
                self.own(&secret, &pod, status).await?;
            }
        }
        Ok(end)
    }

    async fn failed(&self, pod: &Value, message: &str) -> Result<(), ApiError> {
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
        tracing::debug!(secret = name(secret), "csi-secrets-store: secret is in place");
        Ok(())
    }
}
