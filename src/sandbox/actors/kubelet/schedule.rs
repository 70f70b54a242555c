//! Puts pods on nodes: by selector, taints and readiness, then where fewest are.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use crate::sandbox::actors::Cluster;
use crate::sandbox::actors::cache::Topic;
use crate::sandbox::actors::client::{ApiError, Client};
use crate::sandbox::actors::events::Recorder;
use crate::sandbox::actors::kinds::Kind;
use crate::sandbox::actors::objects::{
    at, condition, flag, includes, is_deleting, is_true, key, list, name, namespace, set_condition, text, uid,
};
use crate::sandbox::actors::pulse::{Actor, Next, Outcome};

/// The scheduler.
pub(in crate::sandbox::actors) struct Scheduler {
    cluster: Arc<Cluster>,
    client: Arc<Client>,
    events: Recorder,
}

impl Actor for Scheduler {
    const NAME: &'static str = "scheduler";
    const TOPICS: &'static [Topic] = &[
        Topic::Objects(Kind::Pod),
        Topic::Objects(Kind::Node),
        Topic::Staged,
    ];

    async fn pass(&mut self) -> Result<Next, ApiError> {
        let mut outcome = Outcome::default();
        let nodes = self.cluster.cache.all(Kind::Node);
        let pods = self.cluster.cache.all(Kind::Pod);
        let mut load: BTreeMap<String, usize> = BTreeMap::new();
        for pod in &pods {
            *load.entry(text(pod, "/spec/nodeName").to_owned()).or_default() += 1;
        }
        for pod in pods {
            if text(&pod, "/spec/nodeName").is_empty() && !is_deleting(&pod) {
                let result = self.place(&pod, &nodes, &mut load).await;
                outcome.note(result);
            }
        }
        outcome.finish()
    }
}

impl Scheduler {
    pub(in crate::sandbox::actors) fn new(cluster: Arc<Cluster>, client: Arc<Client>) -> Self {
        let events = Recorder::new(
            Arc::clone(&client),
            cluster.clock.clone(),
            "default-scheduler",
            None,
        );
        Self {
            cluster,
            client,
            events,
        }
    }

    async fn place(
        &self,
        pod: &Value,
        nodes: &[Arc<Value>],
        load: &mut BTreeMap<String, usize>,
    ) -> Result<(), ApiError> {
        // A DaemonSet's pods have their node, and are not what a full cluster lacks room for.
        if let Some(why) = &self.cluster.stage.get().unschedulable
            && pinned_node(pod).is_none()
        {
            return self.refuse(pod, &full(nodes.len(), why)).await;
        }
        let fits = nodes.iter().filter(|node| obstacle(node, pod).is_none());
        let least = fits.min_by_key(|node| load.get(name(node)).copied().unwrap_or(0));
        let Some(node) = least else {
            return self.refuse(pod, &refusal(nodes, pod)).await;
        };
        self.bind(pod, name(node)).await?;
        *load.entry(name(node).to_owned()).or_default() += 1;
        let message = format!("Successfully assigned {} to {}", key(pod), name(node));
        self.events.normal(Kind::Pod, pod, "Scheduled", &message).await
    }

    async fn bind(&self, pod: &Value, node: &str) -> Result<(), ApiError> {
        let binding = json!({"apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": name(pod), "namespace": namespace(pod), "uid": uid(pod)},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
        let path = format!("{}/binding", Kind::Pod.path(namespace(pod), name(pod)));
        let content = Some("application/json");
        match self
            .client
            .call(Method::POST, &path, content, Some(&binding))
            .await
        {
            Ok(_) => {
                self.client.get(Kind::Pod, namespace(pod), name(pod)).await?;
            }
            // The embedded API has no bindings; there the field itself may be set, which a real one forbids.
            Err(error) if error.is(404) || error.is(405) || error.is(501) => {
                let now = self.cluster.clock.now();
                let patch = json!({"spec": {"nodeName": node}});
                let bound = self.client.merge(Kind::Pod, pod, &patch).await?;
                let mut conditions = list(&bound, "/status/conditions").to_vec();
                set_condition(&mut conditions, now, false, ["PodScheduled", "True", "", ""]);
                let status = json!({"status": {"conditions": conditions}});
                self.client.merge_status(Kind::Pod, &bound, &status).await?;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn refuse(&self, pod: &Value, message: &str) -> Result<(), ApiError> {
        let known = condition(pod, "PodScheduled").is_some_and(|known| known["message"] == message);
        if known {
            return Ok(());
        }
        let mut conditions = list(pod, "/status/conditions").to_vec();
        let now = self.cluster.clock.now();
        set_condition(
            &mut conditions,
            now,
            false,
            ["PodScheduled", "False", "Unschedulable", message],
        );
        let status = json!({"status": {"conditions": conditions}});
        self.client.merge_status(Kind::Pod, pod, &status).await?;
        self.events
            .warning(Kind::Pod, pod, "FailedScheduling", message)
            .await
    }
}

/// Why a node does not take a pod, in the scheduler's words.
fn obstacle(node: &Value, pod: &Value) -> Option<String> {
    let spec = at(pod, "/spec");
    if flag(node, "/spec/unschedulable") {
        return Some("node(s) were unschedulable".into());
    }
    let pinned = pinned_node(pod).is_none_or(|pinned| pinned == name(node));
    if !pinned || !includes(at(node, "/metadata/labels"), at(spec, "/nodeSelector")) {
        return Some("node(s) didn't match Pod's node affinity/selector".into());
    }
    let tolerations = list(spec, "/tolerations");
    if let Some(taint) = untolerated(node, tolerations) {
        let value = text(taint, "/value");
        return Some(format!(
            "node(s) had untolerated taint {{{}: {value}}}",
            text(taint, "/key")
        ));
    }
    if !is_true(node, "Ready")
        && !tolerations
            .iter()
            .any(|toleration| text(toleration, "/key").is_empty())
    {
        return Some("node(s) had untolerated taint {node.kubernetes.io/not-ready: }".into());
    }
    None
}

fn refusal(nodes: &[Arc<Value>], pod: &Value) -> String {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for node in nodes {
        if let Some(reason) = obstacle(node, pod) {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    let total = nodes.len();
    if reasons.is_empty() {
        return "no nodes available to schedule pods".into();
    }
    let words: Vec<_> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    unavailable(total, &words.join(", "))
}

/// Every node has the same reason.
fn full(total: usize, why: &str) -> String {
    unavailable(total, &format!("{total} {why}"))
}

fn unavailable(total: usize, why: &str) -> String {
    format!(
        "0/{total} nodes are available: {why}. preemption: 0/{total} nodes are available: {total} Preemption is not \
         helpful for scheduling."
    )
}

/// The node a pod's affinity names, as a DaemonSet's pods have it.
pub(in crate::sandbox::actors) fn pinned_node(pod: &Value) -> Option<&str> {
    let terms = list(
        pod,
        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms",
    );
    let fields = terms.iter().flat_map(|term| list(term, "/matchFields"));
    let mut named = fields.filter(|field| field["key"] == "metadata.name");
    named.find_map(|field| list(field, "/values").first()?.as_str())
}

/// Whether these tolerations bear all of a node's taints.
pub(in crate::sandbox::actors) fn tolerates(node: &Value, tolerations: &[Value]) -> bool {
    untolerated(node, tolerations).is_none()
}

fn untolerated<'a>(node: &'a Value, tolerations: &[Value]) -> Option<&'a Value> {
    let hard = list(node, "/spec/taints")
        .iter()
        .filter(|taint| taint["effect"] != "PreferNoSchedule");
    let mut unborne = hard.filter(|taint| {
        !tolerations.iter().any(|toleration| {
            let (key, effect) = (text(toleration, "/key"), text(toleration, "/effect"));
            let exists = text(toleration, "/operator") == "Exists";
            (key == text(taint, "/key") || (key.is_empty() && exists))
                && (effect.is_empty() || effect == text(taint, "/effect"))
                && (exists || text(toleration, "/value") == text(taint, "/value"))
        })
    });
    unborne.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Value {
        json!({"metadata": {"name": "n", "labels": {"kubernetes.io/os": "linux"}},
            "spec": {"taints": [{"key": "CriticalAddonsOnly", "value": "true", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    }

    #[test]
    fn an_untolerated_taint_is_named() {
        let nodes = [Arc::new(node())];
        assert_eq!(
            refusal(&nodes, &json!({"spec": {}})),
            "0/1 nodes are available: 1 node(s) had untolerated taint {CriticalAddonsOnly: true}. preemption: 0/1 \
             nodes are available: 1 Preemption is not helpful for scheduling."
        );
        let bears = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
        assert_eq!(obstacle(&nodes[0], &bears), None);
    }

    #[test]
    fn a_selector_nobody_matches_is_named() {
        let pod = json!({"spec": {"nodeSelector": {"kubernetes.io/os": "windows"}}});
        assert!(
            refusal(&[Arc::new(node())], &pod)
                .contains("1 node(s) didn't match Pod's node affinity/selector")
        );
    }
}
