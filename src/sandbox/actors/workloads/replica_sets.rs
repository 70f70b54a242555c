//! `ReplicaSets`: as many pods as asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{counter, pod_of};
use crate::sandbox::actors::Cluster;
use crate::sandbox::actors::cache::Topic;
use crate::sandbox::actors::client::{ApiError, Client, Delete};
use crate::sandbox::actors::events::Recorder;
use crate::sandbox::actors::kinds::Kind;
use crate::sandbox::actors::objects::{
    at, condition, controller_reference, controller_uid, int, is_covered, is_deleting, is_true, key, list,
    moment, name, namespace, set_condition, text, uid,
};
use crate::sandbox::actors::pulse::{Actor, Next, Outcome};

/// The ReplicaSet controller.
pub(in crate::sandbox::actors) struct ReplicaSets {
    cluster: Arc<Cluster>,
    client: Arc<Client>,
    events: Recorder,
    /// Refused creations by the set's UID: how often in a row, and when to try again.
    refused: HashMap<String, (u32, OffsetDateTime)>,
}

impl Actor for ReplicaSets {
    const NAME: &'static str = "replica sets";
    const TOPICS: &'static [Topic] = &[Topic::Objects(Kind::ReplicaSet), Topic::Objects(Kind::Pod)];

    async fn pass(&mut self) -> Result<Next, ApiError> {
        let mut outcome = Outcome::default();
        let mut pods: HashMap<String, Vec<Arc<Value>>> = HashMap::new();
        for pod in self.cluster.cache.all(Kind::Pod) {
            pods.entry(controller_uid(&pod).to_owned()).or_default().push(pod);
        }
        for set in self.cluster.cache.all(Kind::ReplicaSet) {
            let pods = pods.remove(uid(&set)).unwrap_or_default();
            let result = self.sync(&set, pods, &mut outcome.next).await;
            outcome.note(result);
        }
        outcome.finish()
    }
}

impl ReplicaSets {
    pub(in crate::sandbox::actors) fn new(cluster: Arc<Cluster>, client: Arc<Client>) -> Self {
        let events = Recorder::new(
            Arc::clone(&client),
            cluster.clock.clone(),
            "replicaset-controller",
            None,
        );
        Self {
            cluster,
            client,
            events,
            refused: HashMap::new(),
        }
    }

    async fn sync(
        &mut self,
        set: &Value,
        mut pods: Vec<Arc<Value>>,
        next: &mut Next,
    ) -> Result<(), ApiError> {
        pods.retain(|pod| is_active(pod));
        let wanted = int(set, "/spec/replicas").map_or(1, |count| usize::try_from(count).unwrap_or(0));
        let mut failure =
            condition(set, "ReplicaFailure").map(|failure| text(failure, "/message").to_owned());
        if !is_deleting(set) {
            if pods.len() < wanted {
                failure = self.grow(set, &mut pods, wanted, failure, next).await?;
            } else {
                self.refused.remove(uid(set));
                failure = None;
                self.shrink(set, &mut pods, wanted).await?;
            }
        }
        self.report(set, &pods, failure, next).await
    }

    /// Creates what is missing; says why that is not possible.
    async fn grow(
        &mut self,
        set: &Value,
        pods: &mut Vec<Arc<Value>>,
        wanted: usize,
        failure: Option<String>,
        next: &mut Next,
    ) -> Result<Option<String>, ApiError> {
        let now = self.cluster.clock.now();
        let refused = self.refused.get(uid(set)).copied();
        if let Some((_, again)) = refused.filter(|(_, again)| *again > now) {
            next.at(again, || format!("creates pods of {}", key(set)));
            return Ok(failure);
        }
        while pods.len() < wanted {
            let owner = controller_reference("apps/v1", "ReplicaSet", set);
            let pod = pod_of(
                &set["spec"]["template"],
                namespace(set),
                &format!("{}-", name(set)),
                &owner,
            );
            match self.client.create(Kind::Pod, namespace(set), pod).await {
                Ok(pod) => {
                    let message = format!("Created pod: {}", name(&pod));
                    pods.push(pod);
                    self.events
                        .normal(Kind::ReplicaSet, set, "SuccessfulCreate", &message)
                        .await?;
                }
                Err(ApiError::Status { message, .. }) => {
                    let times = refused.map_or(0, |(times, _)| times) + 1;
                    let pause = Duration::from_millis(10 << times.min(16));
                    self.refused.insert(uid(set).to_owned(), (times, now + pause));
                    next.at(now + pause, || format!("creates pods of {}", key(set)));
                    let words = format!("Error creating: {message}");
                    self.events
                        .warning(Kind::ReplicaSet, set, "FailedCreate", &words)
                        .await?;
                    return Ok(Some(message));
                }
                Err(error) => return Err(error),
            }
        }
        self.refused.remove(uid(set));
        Ok(None)
    }

    /// Deletes what is too much, the least useful first.
    async fn shrink(&self, set: &Value, pods: &mut Vec<Arc<Value>>, wanted: usize) -> Result<(), ApiError> {
        pods.sort_by_key(|pod| {
            let assigned = !text(pod, "/spec/nodeName").is_empty();
            (
                assigned,
                is_true(pod, "Ready"),
                std::cmp::Reverse(text(pod, "/metadata/creationTimestamp").to_owned()),
            )
        });
        while pods.len() > wanted {
            let pod = pods.remove(0);
            self.client.delete(Kind::Pod, &pod, Delete::Graceful).await?;
            let message = format!("Deleted pod: {}", name(&pod));
            self.events
                .normal(Kind::ReplicaSet, set, "SuccessfulDelete", &message)
                .await?;
        }
        Ok(())
    }

    async fn report(
        &self,
        set: &Value,
        pods: &[Arc<Value>],
        failure: Option<String>,
        next: &mut Next,
    ) -> Result<(), ApiError> {
        let now = self.cluster.clock.now();
        let patience = time::Duration::seconds(int(set, "/spec/minReadySeconds").unwrap_or(0));
        let ready: Vec<_> = pods.iter().filter_map(|pod| ready_since(pod)).collect();
        let mut available = 0;
        for since in &ready {
            if *since + patience <= now {
                available += 1;
            } else {
                next.at(*since + patience, || {
                    format!("pods of {} become available", key(set))
                });
            }
        }
        let mut conditions = list(set, "/status/conditions").to_vec();
        match failure {
            Some(message) => {
                let words = ["ReplicaFailure", "True", "FailedCreate", &message];
                set_condition(&mut conditions, now, false, words);
            }
            None => conditions.retain(|condition| condition["type"] != "ReplicaFailure"),
        }
        let conditions = if conditions.is_empty() {
            Value::Null
        } else {
            conditions.into()
        };
        let status = json!({"status": {
            "observedGeneration": at(set, "/metadata/generation"), "replicas": pods.len(),
            "fullyLabeledReplicas": counter(pods.len()), "readyReplicas": counter(ready.len()),
            "availableReplicas": counter(available), "conditions": conditions,
        }});
        if !is_covered(set, &status) {
            self.client.merge_status(Kind::ReplicaSet, set, &status).await?;
        }
        Ok(())
    }
}

/// Whether a pod counts: it is neither ending nor ended.
pub(super) fn is_active(pod: &Value) -> bool {
    !is_deleting(pod) && !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// Since when a pod has been ready, if it is.
pub(super) fn ready_since(pod: &Value) -> Option<OffsetDateTime> {
    let ready = condition(pod, "Ready").filter(|ready| ready["status"] == "True")?;
    Some(moment(text(ready, "/lastTransitionTime")).unwrap_or(OffsetDateTime::UNIX_EPOCH))
}
