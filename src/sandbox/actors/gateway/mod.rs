//! The Gateway controller: serves what Gateways of its class, ListenerSets on them and HTTPRoutes say, and tells in
//! their conditions what came of it.
//!
//! One edge serves all Gateways of its class at one address; ports are told apart by protocol only.

mod definitions;
mod judge;

use std::sync::Arc;

use serde_json::{Value, json};
use time::OffsetDateTime;

pub(crate) use self::definitions::definitions;
use self::judge::{GROUP, Judge};
use super::Cluster;
use super::cache::Topic;
use super::client::{ApiError, Client};
use super::edge::{Edge, GATEWAY_CLASS};
use super::kinds::Kind;
use super::objects::{at, controller_reference, is_covered, is_deleting, list, name, namespace, text};
use super::pulse::{Actor, Next, Outcome};

/// Label of what belongs to a Gateway: the Gateway's name.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// The controller behind one edge.
pub(super) struct Gateways {
    cluster: Arc<Cluster>,
    client: Arc<Client>,
    edge: Arc<Edge>,
    /// Whether its class has been installed; if somebody deletes it later, it stays away.
    installed: bool,
    /// When a changed plan takes effect.
    due: Option<OffsetDateTime>,
}

impl Actor for Gateways {
    const NAME: &'static str = "gateway";
    const TOPICS: &'static [Topic] = &[
        Topic::Objects(Kind::GatewayClass),
        Topic::Objects(Kind::Gateway),
        Topic::Objects(Kind::HttpRoute),
        Topic::Objects(Kind::ReferenceGrant),
        Topic::Objects(Kind::ListenerSet),
        Topic::Objects(Kind::Namespace),
        Topic::Objects(Kind::Secret),
        Topic::Objects(Kind::Service),
        Topic::Objects(Kind::EndpointSlice),
        Topic::Objects(Kind::Deployment),
        Topic::Objects(Kind::CustomResourceDefinition),
        Topic::Edges,
    ];

    async fn pass(&mut self) -> Result<Next, ApiError> {
        let mut outcome = Outcome::default();
        let definition = format!("gatewayclasses.{GROUP}");
        let cache = Arc::clone(&self.cluster.cache);
        if cache
            .get(Kind::CustomResourceDefinition, "", &definition)
            .is_none()
        {
            return outcome.finish();
        }
        self.install_class().await?;
        let now = self.cluster.clock.now();
        let settings = self.edge.settings.borrow().clone();
        let judge = Judge {
            cache: &cache,
            controller: &self.edge.controller,
            address: settings.publish_address.then_some(self.edge.address.as_str()),
            accepts_listener_sets: settings.accepts_listener_sets,
            now,
        };
        self.accept_classes(&judge, &mut outcome).await;
        let judgement = judge.judge();
        for gateway in &judgement.gateways {
            let result = self.provision(gateway).await;
            outcome.note(result);
        }
        if self.edge.served().plan == judgement.plan {
            self.due = None;
        } else {
            let lag = settings
                .reload_lag
                .unwrap_or_else(|| self.cluster.lags.get("edge_reload"));
            let due = *self.due.get_or_insert(now + lag);
            if due > now {
                let name = self.edge.name.clone();
                outcome.next.at(due, || format!("edge {name} reloads"));
                return outcome.finish();
            }
            self.due = None;
            self.edge.reload(&self.cluster, judgement.plan);
        }
        for (kind, object, status) in &judgement.statuses {
            let patch = json!({ "status": status });
            if !is_covered(object, &patch) {
                let result = self.client.merge_status(*kind, object, &patch).await;
                outcome.note(result.map(drop));
            }
        }
        outcome.finish()
    }
}

impl Gateways {
    /// `objects` are the world's own: a class among them is not installed a second time.
    pub(super) fn new(
        cluster: Arc<Cluster>,
        client: Arc<Client>,
        edge: Arc<Edge>,
        objects: &[Value],
    ) -> Self {
        Self {
            cluster,
            client,
            installed: objects.iter().any(|object| {
                text(object, "/kind") == "GatewayClass" && text(object, "/metadata/name") == edge.class
            }),
            edge,
            due: None,
        }
    }

    async fn install_class(&mut self) -> Result<(), ApiError> {
        if self.installed || self.edge.class.is_empty() {
            return Ok(());
        }
        let known = self.cluster.cache.get(Kind::GatewayClass, "", &self.edge.class);
        if known.is_none() {
            let class = json!({"metadata": {"name": self.edge.class}, "spec": {"controllerName": self.edge.controller}});
            match self.client.create(Kind::GatewayClass, "", class).await {
                Err(error) if error.is_conflict() => {}
                other => drop(other?),
            }
        }
        self.installed = true;
        Ok(())
    }

    async fn accept_classes(&self, judge: &Judge<'_>, outcome: &mut Outcome) {
        for class in self.cluster.cache.all(Kind::GatewayClass) {
            if text(&class, "/spec/controllerName") != self.edge.controller || is_deleting(&class) {
                continue;
            }
            let conditions = judge.conditions(
                list(&class, "/status/conditions"),
                &class,
                &[["Accepted", "True", "Accepted", "Handled by Istio controller"]],
            );
            let patch = json!({"status": {"conditions": conditions}});
            if !is_covered(&class, &patch) {
                let result = self.client.merge_status(Kind::GatewayClass, &class, &patch).await;
                outcome.note(result.map(drop));
            }
        }
    }

    /// What Istio brings along for each Gateway: the pods that serve it, and the Service in front of them.
    async fn provision(&self, gateway: &Value) -> Result<(), ApiError> {
        let space = namespace(gateway);
        let class = text(gateway, "/spec/gatewayClassName");
        let own = format!("{}-{class}", name(gateway));
        let identity = json!({GATEWAY_NAME: name(gateway), GATEWAY_CLASS: class});
        let mut metadata = json!({"name": own, "labels": at(gateway, "/spec/infrastructure/labels").clone(),
            "annotations": at(gateway, "/spec/infrastructure/annotations").clone(),
            "ownerReferences": [controller_reference("gateway.networking.k8s.io/v1", "Gateway", gateway)]});
        for member in ["labels", "annotations"] {
            if !metadata[member].is_object() {
                metadata[member] = json!({});
            }
        }
        for (label, value) in identity.as_object().into_iter().flatten() {
            metadata["labels"][label] = value.clone();
        }
        let mut ports =
            vec![json!({"name": "status-port", "port": 15021, "protocol": "TCP", "targetPort": 15021})];
        for listener in list(gateway, "/spec/listeners") {
            let port = &listener["port"];
            if !ports.iter().any(|known| known["port"] == *port) {
                let name = format!("{}-{port}", text(listener, "/protocol").to_lowercase());
                ports.push(json!({"name": name, "port": port, "protocol": "TCP", "targetPort": port}));
            }
        }
        let service = json!({"metadata": metadata,
            "spec": {"type": "LoadBalancer", "selector": identity, "ports": ports}});
        self.ensure(Kind::Service, space, service).await?;
        let container = json!({"name": "istio-proxy", "image": "mcr.microsoft.com/oss/v2/istio/proxyv2:v1.27.3",
            "ports": [{"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"}]});
        let deployment = json!({"metadata": metadata, "spec": {"replicas": 1, "selector": {"matchLabels": identity},
            "template": {"metadata": {"labels": identity}, "spec": {"containers": [container]}}}});
        self.ensure(Kind::Deployment, space, deployment).await
    }

    async fn ensure(&self, kind: Kind, space: &str, object: Value) -> Result<(), ApiError> {
        match self.cluster.cache.get(kind, space, name(&object)) {
            None => drop(self.client.create(kind, space, object).await?),
            Some(have) if is_deleting(&have) => {}
            // Only what a change of the Gateway moves.
            Some(have) => {
                let mut patch = json!({"metadata": {"labels": object["metadata"]["labels"],
                    "annotations": object["metadata"]["annotations"]}});
                if kind == Kind::Service && ports(&have) != ports(&object) {
                    patch["spec"] = json!({"ports": object["spec"]["ports"]});
                }
                if !is_covered(&have, &patch) {
                    self.client.merge(kind, &have, &patch).await?;
                }
            }
        }
        Ok(())
    }
}

fn ports(service: &Value) -> Vec<&Value> {
    list(service, "/spec/ports")
        .iter()
        .map(|port| &port["port"])
        .collect()
}
