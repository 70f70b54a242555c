//! `DaemonSets`: one pod on each node that takes it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::replica_sets::{is_active, ready_since};
use super::{hash_of, pod_of};
use crate::sandbox::actors::Cluster;
use crate::sandbox::actors::cache::Topic;
use crate::sandbox::actors::client::{ApiError, Client, Delete};
use crate::sandbox::actors::kinds::Kind;
use crate::sandbox::actors::kubelet::schedule::{pinned_node, tolerates};
use crate::sandbox::actors::objects::{
    at, controller_reference, controller_uid, includes, is_covered, is_deleting, list, name, namespace, text,
    uid,
};
use crate::sandbox::actors::pulse::{Actor, Next, Outcome};

/// Names the template of a pod.
const HASH: &str = "controller-revision-hash";

/// The DaemonSet controller.
pub(in crate::sandbox::actors) struct DaemonSets {
    cluster: Arc<Cluster>,
    client: Arc<Client>,
}

impl Actor for DaemonSets {
    const NAME: &'static str = "daemon sets";
    const TOPICS: &'static [Topic] = &[
        Topic::Objects(Kind::DaemonSet),
        Topic::Objects(Kind::Pod),
        Topic::Objects(Kind::Node),
    ];

    async fn pass(&mut self) -> Result<Next, ApiError> {
        let mut outcome = Outcome::default();
        for set in self.cluster.cache.all(Kind::DaemonSet) {
            let result = self.sync(&set).await;
            outcome.note(result);
        }
        outcome.finish()
    }
}

impl DaemonSets {
    pub(in crate::sandbox::actors) fn new(cluster: Arc<Cluster>, client: Arc<Client>) -> Self {
        Self { cluster, client }
    }

    async fn sync(&self, set: &Value) -> Result<(), ApiError> {
        let hash = hash_of(&set["spec"]["template"]);
        let all = self.cluster.cache.within(Kind::Pod, namespace(set));
        let mut pods: Vec<_> = all
            .into_iter()
            .filter(|pod| controller_uid(pod) == uid(set))
            .collect();
        let nodes: Vec<_> = self.cluster.cache.all(Kind::Node);
        let wanted: Vec<_> = nodes.iter().filter(|node| takes(node, set)).collect();
        if !is_deleting(set) {
            for node in &wanted {
                let there = pods.iter().any(|pod| pinned_node(pod) == Some(name(node)));
                if !there {
                    let pod = pod_for(set, node, &hash);
                    pods.push(self.client.create(Kind::Pod, namespace(set), pod).await?);
                }
            }
            self.replace_outdated(&mut pods, &hash).await?;
        }
        self.report(set, &pods, wanted.len(), &hash).await
    }

    /// One at a time: the next only when all others work.
    async fn replace_outdated(&self, pods: &mut Vec<Arc<Value>>, hash: &str) -> Result<(), ApiError> {
        let outdated = |pod: &Value| at(pod, "/metadata/labels")[HASH] != hash;
        let Some(index) = pods.iter().position(|pod| is_active(pod) && outdated(pod)) else {
            return Ok(());
        };
        let others = pods.iter().enumerate().filter(|(other, _)| *other != index);
        if others
            .map(|(_, pod)| pod)
            .all(|pod| ready_since(pod).is_some() && is_active(pod))
        {
            let pod = pods.remove(index);
            self.client.delete(Kind::Pod, &pod, Delete::Graceful).await?;
        }
        Ok(())
    }

    async fn report(
        &self,
        set: &Value,
        pods: &[Arc<Value>],
        wanted: usize,
        hash: &str,
    ) -> Result<(), ApiError> {
        let pods: Vec<_> = pods.iter().filter(|pod| is_active(pod)).collect();
        let ready = pods.iter().filter(|pod| ready_since(pod).is_some()).count();
        let updated = pods
            .iter()
            .filter(|pod| at(pod, "/metadata/labels")[HASH] == hash)
            .count();
        let optional = |count: usize| if count == 0 { Value::Null } else { count.into() };
        let status = json!({"status": {
            "observedGeneration": at(set, "/metadata/generation"), "desiredNumberScheduled": wanted,
            "currentNumberScheduled": pods.len(), "numberMisscheduled": 0, "numberReady": ready,
            "updatedNumberScheduled": optional(updated), "numberAvailable": optional(ready),
            "numberUnavailable": optional(wanted.saturating_sub(ready)),
        }});
        if !is_covered(set, &status) {
            self.client.merge_status(Kind::DaemonSet, set, &status).await?;
        }
        Ok(())
    }
}

pub(super) fn takes(node: &Value, set: &Value) -> bool {
    let spec = &set["spec"]["template"]["spec"];
    includes(at(node, "/metadata/labels"), at(spec, "/nodeSelector"))
        && tolerates(node, list(spec, "/tolerations"))
}

fn pod_for(set: &Value, node: &Value, hash: &str) -> Value {
    let owner = controller_reference("apps/v1", "DaemonSet", set);
    let mut pod = pod_of(
        &set["spec"]["template"],
        namespace(set),
        &format!("{}-", name(set)),
        &owner,
    );
    pod["metadata"]["labels"][HASH] = hash.into();
    pod["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": [text(node, "/metadata/name")]}]}]}}});
    pod
}
