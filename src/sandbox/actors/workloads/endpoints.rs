//! `EndpointSlices` of Services with a selector.

use std::sync::Arc;

use serde_json::{Value, json};

use super::hash_of;
use super::replica_sets::ready_since;
use crate::sandbox::actors::Cluster;
use crate::sandbox::actors::cache::Topic;
use crate::sandbox::actors::client::{ApiError, Client};
use crate::sandbox::actors::kinds::Kind;
use crate::sandbox::actors::objects::{
    at, controller_reference, entries, includes, is_covered, is_deleting, list, name, namespace, text, uid,
};
use crate::sandbox::actors::pulse::{Actor, Next, Outcome};

/// The EndpointSlice controller.
pub(in crate::sandbox::actors) struct Endpoints {
    cluster: Arc<Cluster>,
    client: Arc<Client>,
}

impl Actor for Endpoints {
    const NAME: &'static str = "endpoints";
    const TOPICS: &'static [Topic] = &[
        Topic::Objects(Kind::Service),
        Topic::Objects(Kind::Pod),
        Topic::Objects(Kind::EndpointSlice),
    ];

    async fn pass(&mut self) -> Result<Next, ApiError> {
        let mut outcome = Outcome::default();
        for service in self.cluster.cache.all(Kind::Service) {
            if !is_deleting(&service) && entries(&service, "/spec/selector").next().is_some() {
                let result = self.sync(&service).await;
                outcome.note(result);
            }
        }
        outcome.finish()
    }
}

impl Endpoints {
    pub(in crate::sandbox::actors) fn new(cluster: Arc<Cluster>, client: Arc<Client>) -> Self {
        Self { cluster, client }
    }

    async fn sync(&self, service: &Value) -> Result<(), ApiError> {
        let pods = self.cluster.cache.within(Kind::Pod, namespace(service));
        let selected: Vec<_> = pods
            .iter()
            .filter(|pod| includes(at(pod, "/metadata/labels"), at(service, "/spec/selector")))
            .filter(|pod| !text(pod, "/status/podIP").is_empty())
            .collect();
        let endpoints: Vec<_> = selected.iter().map(|pod| endpoint(pod)).collect();
        let ports: Vec<_> = list(service, "/spec/ports")
            .iter()
            .map(|port| {
                json!({"name": text(port, "/name"), "protocol": protocol(port),
                    "port": target(port, selected.first().map(|pod| &***pod))})
            })
            .collect();
        let slice_name = format!("{}-{}", name(service), &hash_of(&uid(service).into())[..5]);
        let content = json!({"endpoints": endpoints, "ports": ports});
        match self
            .cluster
            .cache
            .get(Kind::EndpointSlice, namespace(service), &slice_name)
        {
            Some(slice) if is_covered(&slice, &content) => Ok(()),
            Some(slice) => {
                self.client.merge(Kind::EndpointSlice, &slice, &content).await?;
                Ok(())
            }
            None => {
                let mut slice = content;
                slice["addressType"] = "IPv4".into();
                slice["metadata"] = json!({
                    "name": slice_name, "namespace": namespace(service), "generateName": format!("{}-", name(service)),
                    "labels": {"kubernetes.io/service-name": name(service),
                        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
                    "ownerReferences": [controller_reference("v1", "Service", service)],
                });
                self.client
                    .create(Kind::EndpointSlice, namespace(service), slice)
                    .await?;
                Ok(())
            }
        }
    }
}

fn endpoint(pod: &Value) -> Value {
    let ready = ready_since(pod).is_some();
    json!({
        "addresses": [text(pod, "/status/podIP")],
        "conditions": {"ready": ready && !is_deleting(pod), "serving": ready, "terminating": is_deleting(pod)},
        "nodeName": text(pod, "/spec/nodeName"),
        "targetRef": {"kind": "Pod", "namespace": namespace(pod), "name": name(pod), "uid": uid(pod)},
    })
}

fn protocol(port: &Value) -> &str {
    match text(port, "/protocol") {
        "" => "TCP",
        protocol => protocol,
    }
}

/// The port on the pod: a number, a container's named port, or the Service's own number.
fn target(port: &Value, pod: Option<&Value>) -> Value {
    match at(port, "/targetPort") {
        Value::String(named) => {
            let containers = pod.map_or(&[][..], |pod| list(pod, "/spec/containers"));
            let ports = containers.iter().flat_map(|container| list(container, "/ports"));
            let found = ports
                .filter(|port| port["name"] == named.as_str())
                .find_map(|port| port.get("containerPort"));
            found.cloned().unwrap_or_else(|| port["port"].clone())
        }
        Value::Number(number) if number.as_u64() != Some(0) => number.clone().into(),
        _ => port["port"].clone(),
    }
}
