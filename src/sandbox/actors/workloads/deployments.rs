//! Deployments: a ReplicaSet per template, sized step by step, and conditions that say how far it is.

use std::sync::Arc;

use serde_json::{Value, json};
use time::Duration;

use super::rollout::{Count, Strategy};
use super::{counter, hash_of};
use crate::sandbox::actors::Cluster;
use crate::sandbox::actors::cache::Topic;
use crate::sandbox::actors::client::{ApiError, Client, Delete};
use crate::sandbox::actors::events::Recorder;
use crate::sandbox::actors::kinds::Kind;
use crate::sandbox::actors::objects::{
    at, condition, controller_reference, controller_uid, entries, int, is_covered, is_deleting, list, moment,
    name, namespace, set_condition, stamp, text, uid,
};
use crate::sandbox::actors::pulse::{Actor, Next, Outcome};

/// Names the template of a ReplicaSet and its pods.
const HASH: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";

/// The Deployment controller.
pub(in crate::sandbox::actors) struct Deployments {
    cluster: Arc<Cluster>,
    client: Arc<Client>,
    events: Recorder,
}

impl Actor for Deployments {
    const NAME: &'static str = "deployments";
    const TOPICS: &'static [Topic] = &[Topic::Objects(Kind::Deployment), Topic::Objects(Kind::ReplicaSet)];

    async fn pass(&mut self) -> Result<Next, ApiError> {
        let mut outcome = Outcome::default();
        let sets = self.cluster.cache.all(Kind::ReplicaSet);
        for deployment in self.cluster.cache.all(Kind::Deployment) {
            if !is_deleting(&deployment) {
                let result = self.sync(&deployment, &sets, &mut outcome.next).await;
                outcome.note(result);
            }
        }
        outcome.finish()
    }
}

impl Deployments {
    pub(in crate::sandbox::actors) fn new(cluster: Arc<Cluster>, client: Arc<Client>) -> Self {
        let events = Recorder::new(
            Arc::clone(&client),
            cluster.clock.clone(),
            "deployment-controller",
            None,
        );
        Self {
            cluster,
            client,
            events,
        }
    }

    async fn sync(&self, deployment: &Value, sets: &[Arc<Value>], next: &mut Next) -> Result<(), ApiError> {
        let hash = hash_of(&deployment["spec"]["template"]);
        let mut old: Vec<_> = sets
            .iter()
            .filter(|set| controller_uid(set) == uid(deployment) && !is_deleting(set))
            .cloned()
            .collect();
        old.sort_by_key(|set| revision(set));
        let newest = old.last().map_or(0, |set| revision(set));
        let position = old
            .iter()
            .position(|set| at(set, "/metadata/labels")[HASH] == hash.as_str());
        let strategy = Strategy::of(deployment);
        let (new, created) = match position.map(|index| old.remove(index)) {
            // Going back to an earlier template makes its ReplicaSet the newest again.
            Some(new) if revision(&new) < newest => {
                let patch = json!({"metadata": {"annotations": {REVISION: (newest + 1).to_string()}}});
                (self.client.merge(Kind::ReplicaSet, &new, &patch).await?, false)
            }
            Some(new) => (new, false),
            None => {
                let counts: Vec<_> = old.iter().map(|set| count(set)).collect();
                let (size, _) = strategy.step(Count::default(), &counts);
                let set = replica_set(deployment, &hash, newest + 1, size);
                let made = self
                    .client
                    .create(Kind::ReplicaSet, namespace(deployment), set)
                    .await?;
                self.scaled(deployment, &made, 0, size).await?;
                (made, true)
            }
        };
        let revision = revision(&new).to_string();
        let annotation = json!({"metadata": {"annotations": {REVISION: revision}}});
        if !is_covered(deployment, &annotation) {
            self.client
                .merge(Kind::Deployment, deployment, &annotation)
                .await?;
        }
        let new = if flag_paused(deployment) {
            new
        } else {
            self.resize(deployment, strategy, new, &mut old).await?
        };
        self.prune(deployment, &old).await?;
        self.report(deployment, strategy, &new, &old, created, next).await
    }

    async fn resize(
        &self,
        deployment: &Value,
        strategy: Strategy,
        new: Arc<Value>,
        old: &mut [Arc<Value>],
    ) -> Result<Arc<Value>, ApiError> {
        let counts: Vec<_> = old.iter().map(|set| count(set)).collect();
        let (size, sizes) = strategy.step(count(&new), &counts);
        for (set, size) in old.iter_mut().zip(sizes) {
            if count(set).wanted != size {
                *set = self.scale(deployment, set, size).await?;
            }
        }
        if count(&new).wanted == size {
            return Ok(new);
        }
        self.scale(deployment, &new, size).await
    }

    async fn scale(&self, deployment: &Value, set: &Value, size: usize) -> Result<Arc<Value>, ApiError> {
        let patch = json!({"spec": {"replicas": size}});
        let scaled = self.client.merge(Kind::ReplicaSet, set, &patch).await?;
        self.scaled(deployment, &scaled, count(set).wanted, size).await?;
        Ok(scaled)
    }

    async fn scaled(&self, deployment: &Value, set: &Value, from: usize, to: usize) -> Result<(), ApiError> {
        let direction = if to > from { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {} from {from} to {to}", name(set));
        self.events
            .normal(Kind::Deployment, deployment, "ScalingReplicaSet", &message)
            .await
    }

    /// Removes the oldest empty `ReplicaSets` beyond the history limit.
    async fn prune(&self, deployment: &Value, old: &[Arc<Value>]) -> Result<(), ApiError> {
        let limit = int(deployment, "/spec/revisionHistoryLimit")
            .map_or(10, |limit| usize::try_from(limit).unwrap_or(10));
        let surplus = old.len().saturating_sub(limit);
        let empty = old
            .iter()
            .filter(|set| count(set).wanted == 0 && count(set).present == 0);
        for set in empty.take(surplus) {
            self.client
                .delete(Kind::ReplicaSet, set, Delete::Graceful)
                .await?;
        }
        Ok(())
    }

    async fn report(
        &self,
        deployment: &Value,
        strategy: Strategy,
        new: &Value,
        old: &[Arc<Value>],
        created: bool,
        next: &mut Next,
    ) -> Result<(), ApiError> {
        let now = self.cluster.clock.now();
        let all = || old.iter().map(|set| &**set).chain([new]);
        let total: usize = all().map(|set| count(set).present).sum();
        let ready: usize = all().map(|set| number(set, "/status/readyReplicas")).sum();
        let available: usize = all().map(|set| count(set).available).sum();
        let updated = count(new).present;
        let mut conditions = list(deployment, "/status/conditions").to_vec();
        let enough = available + strategy.max_unavailable.min(strategy.replicas) >= strategy.replicas;
        let words = if enough {
            [
                "Available",
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
            ]
        } else {
            [
                "Available",
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            ]
        };
        set_condition(&mut conditions, now, true, words);

        let complete = updated == strategy.replicas && total == updated && available == updated;
        let moved = updated > number(deployment, "/status/updatedReplicas")
            || ready > number(deployment, "/status/readyReplicas")
            || available > number(deployment, "/status/availableReplicas")
            || total < number(deployment, "/status/replicas");
        self.progress(deployment, new, &mut conditions, [complete, created, moved], next);

        conditions.retain(|condition| condition["type"] != "ReplicaFailure");
        if let Some(failure) = all().find_map(|set| condition(set, "ReplicaFailure")) {
            let old = condition(deployment, "ReplicaFailure").cloned();
            conditions.extend(old);
            let (reason, message) = (text(failure, "/reason"), text(failure, "/message"));
            set_condition(
                &mut conditions,
                now,
                true,
                ["ReplicaFailure", "True", reason, message],
            );
        }
        let status = json!({"status": {
            "observedGeneration": at(deployment, "/metadata/generation"),
            "replicas": counter(total), "updatedReplicas": counter(updated), "readyReplicas": counter(ready),
            "availableReplicas": counter(available),
            "unavailableReplicas": counter(strategy.replicas.max(total).saturating_sub(available)),
            "conditions": conditions,
        }});
        if !is_covered(deployment, &status) {
            self.client
                .merge_status(Kind::Deployment, deployment, &status)
                .await?;
        }
        Ok(())
    }

    /// The Progressing condition, and the moment at which patience ends.
    fn progress(
        &self,
        deployment: &Value,
        new: &Value,
        conditions: &mut Vec<Value>,
        [complete, created, moved]: [bool; 3],
        next: &mut Next,
    ) {
        let now = self.cluster.clock.now();
        let set = name(new);
        let before = condition(deployment, "Progressing");
        let reason = before.map_or("", |before| text(before, "/reason"));
        let words = |status, reason, message: &str| [status, reason, message].map(str::to_owned);
        let [status, reason, message] = if complete {
            let message = format!("ReplicaSet \"{set}\" has successfully progressed.");
            words("True", "NewReplicaSetAvailable", &message)
        } else if created {
            words(
                "True",
                "NewReplicaSetCreated",
                &format!("Created new replica set \"{set}\""),
            )
        } else if moved || reason.is_empty() {
            words(
                "True",
                "ReplicaSetUpdated",
                &format!("ReplicaSet \"{set}\" is progressing."),
            )
        } else if reason == "NewReplicaSetAvailable" || reason == "ProgressDeadlineExceeded" {
            // A rollout that ended, well or badly, is not judged again because a pod came or went.
            return;
        } else {
            let since = before
                .and_then(|before| moment(text(before, "/lastUpdateTime")))
                .unwrap_or(now);
            let patience = int(deployment, "/spec/progressDeadlineSeconds").unwrap_or(600);
            let deadline = since + Duration::seconds(patience);
            if deadline > now {
                next.at(deadline, || {
                    format!(
                        "progress deadline of {}/{}",
                        namespace(deployment),
                        name(deployment)
                    )
                });
                return;
            }
            let message = format!("ReplicaSet \"{set}\" has timed out progressing.");
            words("False", "ProgressDeadlineExceeded", &message)
        };
        set_condition(conditions, now, true, ["Progressing", &status, &reason, &message]);
        if moved || created {
            let progressing = conditions
                .iter_mut()
                .find(|condition| condition["type"] == "Progressing");
            if let Some(progressing) = progressing {
                progressing["lastUpdateTime"] = stamp(now).into();
            }
        }
        if !complete && status == "True" {
            let patience = int(deployment, "/spec/progressDeadlineSeconds").unwrap_or(600);
            next.at(now + Duration::seconds(patience), || {
                format!(
                    "progress deadline of {}/{}",
                    namespace(deployment),
                    name(deployment)
                )
            });
        }
    }
}

fn flag_paused(deployment: &Value) -> bool {
    at(deployment, "/spec/paused") == true
}

pub(super) fn revision(set: &Value) -> u64 {
    at(set, "/metadata/annotations")[REVISION]
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

pub(super) fn number(object: &Value, pointer: &str) -> usize {
    int(object, pointer).map_or(0, |count| usize::try_from(count).unwrap_or(0))
}

pub(super) fn count(set: &Value) -> Count {
    Count {
        wanted: number(set, "/spec/replicas"),
        present: number(set, "/status/replicas"),
        available: number(set, "/status/availableReplicas"),
    }
}

fn replica_set(deployment: &Value, hash: &str, revision: u64, size: usize) -> Value {
    let mut template = deployment["spec"]["template"].clone();
    template["metadata"]["labels"][HASH] = hash.into();
    let mut selector = deployment["spec"]["selector"].clone();
    selector["matchLabels"][HASH] = hash.into();
    let mut annotations = json!({REVISION: revision.to_string()});
    for (key, value) in entries(deployment, "/metadata/annotations") {
        if key != REVISION && key != "kubectl.kubernetes.io/last-applied-configuration" {
            annotations[key.as_str()] = value.clone();
        }
    }
    let mut spec = json!({"replicas": size, "selector": selector, "template": template});
    if let Some(seconds) = int(deployment, "/spec/minReadySeconds").filter(|seconds| *seconds > 0) {
        spec["minReadySeconds"] = seconds.into();
    }
    json!({
        "metadata": {
            "name": format!("{}-{hash}", name(deployment)), "namespace": namespace(deployment),
            "labels": template["metadata"]["labels"], "annotations": annotations,
            "ownerReferences": [controller_reference("apps/v1", "Deployment", deployment)],
        },
        "spec": spec,
    })
}
