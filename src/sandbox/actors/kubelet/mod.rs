//! The nodes: registers them, runs their pods as far as anything can be seen of that through the API, and has the CSI
//! driver mount what they need. Nothing is executed.

mod nodes;
mod pods;
mod probes;
pub(super) mod schedule;
mod volumes;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use self::pods::Life;
use self::volumes::Volumes;
use super::Cluster;
use super::cache::Topic;
use super::client::{ApiError, Client};
use super::csi_driver::CsiDriver;
use super::events::Recorder;
use super::kinds::Kind;
use super::objects::{condition, flag, is_covered, is_deleting, is_true, list, name, text, uid};
use super::pulse::{Actor, Next, Outcome};

/// The driver whose volumes are played.
pub(super) const DRIVER: &str = "secrets-store.csi.k8s.io";

/// How often the kubelet looks after a pod without a reason: a minute with jitter, as measured.
const POD_SYNC: Duration = Duration::from_secs(75);

/// All kubelets of the cluster.
pub(super) struct Kubelet {
    cluster: Arc<Cluster>,
    client: Arc<Client>,
    /// One recorder per node, because an event names its host.
    events: Vec<Arc<Recorder>>,
    volumes: Volumes,
    /// What each pod has been through, by UID.
    lives: HashMap<String, Life>,
    addresses: u16,
    /// When everything mounted was last published again.
    republished: Option<OffsetDateTime>,
}

impl Actor for Kubelet {
    const NAME: &'static str = "kubelet";
    const TOPICS: &'static [Topic] = &[
        Topic::Objects(Kind::Node),
        Topic::Objects(Kind::Pod),
        Topic::Objects(Kind::Secret),
        Topic::Objects(Kind::ConfigMap),
        Topic::Objects(Kind::CsiNode),
        Topic::Objects(Kind::CsiDriver),
        Topic::Mounts,
        Topic::Staged,
    ];

    async fn pass(&mut self) -> Result<Next, ApiError> {
        let mut outcome = Outcome::default();
        for index in 0..self.cluster.nodes {
            let result = self.register(index).await;
            outcome.note(result);
        }
        let pods = self.cluster.cache.all(Kind::Pod);
        self.bury(&pods);
        // A node that is not ready leaves its pods as they are.
        if self.cluster.stage.get().node_not_ready {
            return outcome.finish();
        }
        self.republish(&pods, &mut outcome.next);
        for pod in &pods {
            if let Some(node) = self.node_index(text(pod, "/spec/nodeName")) {
                let result = self.sync(pod, node, &mut outcome.next).await;
                outcome.note(result);
            }
        }
        outcome.finish()
    }
}

impl Kubelet {
    pub(super) fn new(cluster: Arc<Cluster>, client: Arc<Client>, driver: Arc<CsiDriver>) -> Self {
        let recorder = |index| {
            let host = Some(nodes::name_of(index));
            Arc::new(Recorder::new(
                Arc::clone(&client),
                cluster.clock.clone(),
                "kubelet",
                host,
            ))
        };
        Self {
            events: (0..cluster.nodes).map(recorder).collect(),
            volumes: Volumes::new(Arc::clone(&cluster), Arc::clone(&client), driver),
            cluster,
            client,
            lives: HashMap::new(),
            addresses: 0,
            republished: None,
        }
    }

    fn node_index(&self, node: &str) -> Option<usize> {
        (0..self.cluster.nodes).find(|index| nodes::name_of(*index) == node)
    }

    /// Makes sure that node and `CSINode` exist, and that the latter lists the drivers that run there.
    async fn register(&self, index: usize) -> Result<(), ApiError> {
        let node_name = nodes::name_of(index);
        let cache = &self.cluster.cache;
        let node = match cache.get(Kind::Node, "", &node_name) {
            Some(node) => node,
            None => {
                let node = nodes::node(&self.cluster.name, index);
                self.client.create(Kind::Node, "", node).await?
            }
        };
        let staged = self.cluster.stage.get();
        let ready = !staged.node_not_ready;
        if condition(&node, "Ready").is_none() || is_true(&node, "Ready") != ready {
            let status = nodes::status(index, ready, self.cluster.kubelet, self.cluster.clock.now());
            self.client.merge_status(Kind::Node, &node, &status).await?;
        }
        if ready {
            self.lift_first_taint(&node).await?;
        }
        let there = !staged.no_driver_on_node && self.runs(&node_name, "secrets-store");
        let drivers = nodes::drivers(&node_name, there);
        match cache.get(Kind::CsiNode, "", &node_name) {
            Some(csi_node) => {
                let patch = json!({"spec": {"drivers": drivers}});
                if !same_drivers(&csi_node, &patch) {
                    self.client.merge(Kind::CsiNode, &csi_node, &patch).await?;
                }
            }
            None => {
                let owner = json!({"apiVersion": "v1", "kind": "Node", "name": node_name, "uid": uid(&node)});
                let csi_node = json!({"metadata": {"name": node_name, "ownerReferences": [owner]},
                    "spec": {"drivers": drivers}});
                self.client.create(Kind::CsiNode, "", csi_node).await?;
            }
        }
        Ok(())
    }

    /// Takes away the taint that every new node gets from admission: what the node lifecycle controller does once a
    /// node is ready.
    async fn lift_first_taint(&self, node: &Value) -> Result<(), ApiError> {
        let taints = list(node, "/spec/taints");
        let (first, others): (Vec<_>, Vec<_>) = taints.iter().partition(|taint| {
            taint["key"] == "node.kubernetes.io/not-ready" && taint["effect"] == "NoSchedule"
        });
        if first.is_empty() {
            return Ok(());
        }
        let others = if others.is_empty() {
            Value::Null
        } else {
            json!(others)
        };
        let patch = json!({"spec": {"taints": others}});
        self.client.merge(Kind::Node, node, &patch).await.map(|_| ())
    }

    /// Has the driver publish again what is mounted, if it wants that, with every sync of the pods.
    fn republish(&mut self, pods: &[Arc<Value>], next: &mut Next) {
        let driver = self.cluster.cache.get(Kind::CsiDriver, "", DRIVER);
        if !driver.is_some_and(|driver| flag(&driver, "/spec/requiresRepublish")) {
            self.republished = None;
            return;
        }
        let now = self.cluster.clock.now();
        let last = *self.republished.get_or_insert(now);
        if last + POD_SYNC <= now {
            self.republished = Some(now);
            for pod in pods.iter().filter(|pod| !is_deleting(pod)) {
                self.volumes.publish_again(pod);
            }
        }
        let due = self.republished.unwrap_or(now) + POD_SYNC;
        next.at(due, || "publishes what is mounted again".into());
    }

    /// Whether a ready pod on the node has a container of this name.
    fn runs(&self, node: &str, container: &str) -> bool {
        runs(&self.cluster, node, container)
    }

    /// Forgets pods that are gone.
    fn bury(&mut self, pods: &[Arc<Value>]) {
        let present: HashSet<_> = pods.iter().map(|pod| uid(pod)).collect();
        let mut gone: Vec<_> = self.lives.keys().cloned().collect();
        gone.retain(|known| !present.contains(known.as_str()));
        for pod in gone {
            self.lives.remove(&pod);
            self.volumes.release(&pod);
            self.cluster.logs.forget(&pod);
        }
    }
}

/// Whether a ready pod on the node has a container of this name: how a driver or provider is known to be there.
pub(super) fn runs(cluster: &Cluster, node: &str, container: &str) -> bool {
    let pods = cluster.cache.within(Kind::Pod, "kube-system");
    pods.iter().any(|pod| runs_in(pod, node, container))
}

/// Whether this is a ready pod on the node with a container of this name.
pub(super) fn runs_in(pod: &Value, node: &str, container: &str) -> bool {
    let mut containers = list(pod, "/spec/containers").iter();
    text(pod, "/spec/nodeName") == node
        && is_true(pod, "Ready")
        && containers.any(|held| name_of(held) == container)
}

fn name_of(container: &Value) -> &str {
    text(container, "/name")
}

/// The API leaves out empty members of the entries, so names are what is compared.
fn same_drivers(csi_node: &Value, patch: &Value) -> bool {
    let names = |object: &Value| -> Vec<String> {
        list(object, "/spec/drivers")
            .iter()
            .map(|driver| name_of(driver).to_owned())
            .collect()
    };
    is_covered(csi_node, patch) || names(csi_node) == names(patch)
}

/// The name of a pod's object, for messages.
fn pod_name(pod: &Value) -> String {
    format!("{}/{}", super::objects::namespace(pod), name(pod))
}
