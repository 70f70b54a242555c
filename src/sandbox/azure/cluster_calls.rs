//! Calls on managed clusters: read, create, change, tag, delete, start and stop.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::access::Question;
use super::call::{Call, Reply};
use super::cluster_document as document;
use super::cluster_template::{self as template, Birth};
use super::managed_clusters::{KUBERNETES, ManagedCluster, issuer_url};
use super::operations::{Work, preconditions};
use super::path::last_segment;
use super::refusal::Refusal;
use super::tree;
use super::{Azure, State};
use crate::sandbox::core::Effect;

impl Azure {
    /// Calls on one cluster, or on all of a scope.
    pub(super) async fn cluster_call(&self, call: &Call) -> Result<Reply, Refusal> {
        match call.method {
            Method::GET if call.path.is_named() => self.get_cluster(call),
            Method::GET => Ok(self.list_clusters(call)),
            Method::PUT => self.put_cluster(call).await,
            Method::PATCH => self.patch_cluster(call),
            Method::DELETE => self.delete_cluster(call),
            _ => Err(Refusal::unplayed("this method on a managed cluster")),
        }
    }

    fn get_cluster(&self, call: &Call) -> Result<Reply, Refusal> {
        let state = self.lock();
        let cluster = state.cluster(call)?;
        Ok(reads(Reply::ok(self.shown(cluster, call))))
    }

    fn list_clusters(&self, call: &Call) -> Reply {
        let state = self.lock();
        let value: Vec<_> = state
            .clusters
            .values()
            .filter(|cluster| cluster.subscription.eq_ignore_ascii_case(call.subscription()))
            .filter(|cluster| call.group().is_empty() || cluster.group.eq_ignore_ascii_case(call.group()))
            .map(|cluster| self.shown(cluster, call))
            .collect();
        reads(Reply::ok(json!({"value": value})))
    }

    /// The cluster as this caller sees it.
    fn shown(&self, cluster: &ManagedCluster, call: &Call) -> Value {
        cluster.body(&call.version, &self.core.names.cluster_fqdn(&cluster.name))
    }

    async fn put_cluster(&self, call: &Call) -> Result<Reply, Refusal> {
        let known = self.lock().cluster(call).is_ok();
        if !known {
            return self.create_cluster(call).await;
        }
        let classes = self.blocking_classes(call).await;
        let mut state = self.lock();
        let cluster = state.cluster(call)?;
        preconditions(
            &call.headers,
            true,
            cluster.etag.map(|tag| tag.to_string()).as_deref(),
        )?;
        may_change(cluster)?;
        self.linked_scopes(&state, cluster, call)?;
        let merged = document::put(&cluster.document, &call.body, &cluster.extra)?;
        if classes > 0 {
            return Err(Refusal::aks(
                StatusCode::BAD_REQUEST,
                "BadRequest",
                "AzureKeyvaultSecretsProvider addon cannot be disabled due to more than 0 Secret Provider Classes",
            ));
        }
        let before = document::addon_enabled(&cluster.document).unwrap_or(false);
        let after = document::addon_enabled(&merged).unwrap_or(false);
        let lag = match (before, after) {
            (false, true) => "aks_enable",
            (true, false) => "aks_disable",
            _ => "aks_update",
        };
        let key = cluster.id().to_ascii_lowercase();
        let Some(cluster) = state.clusters.get_mut(&key) else {
            return Err(Refusal::unplayed("a cluster that vanished"));
        };
        cluster.document = merged;
        "Updating".clone_into(&mut cluster.state);
        let operation = self.begin(&mut state, call, &key, Work::Update, lag);
        let cluster = state.cluster(call)?;
        let reply = Reply::ok(self.shown(cluster, call));
        Ok(self.with_operation(writes(reply), &operation, call))
    }

    async fn create_cluster(&self, call: &Call) -> Result<Reply, Refusal> {
        preconditions(&call.headers, true, None)?;
        let body = document::writable(&call.body)?;
        let location = call.location()?;
        let asked = tree::text(&body, "properties.kubernetesVersion");
        let kubernetes = match asked.split('.').count() {
            3 => asked.to_owned(),
            2 => format!("{asked}.2"),
            _ => KUBERNETES.to_owned(),
        };
        let cluster = self.born(call, &location, &kubernetes, &body);
        let key = cluster.id().to_ascii_lowercase();
        let settings = self.settings(&cluster, Value::Null);
        let operation = {
            let mut state = self.lock();
            if state.clusters.contains_key(&key) {
                return Err(in_progress("Creating"));
            }
            state.clusters.insert(key.clone(), cluster);
            self.begin(&mut state, call, &key, Work::Create, "aks_create")
        };
        if let Err(error) = self.core.clusters.open(settings).await {
            tracing::warn!(%error, "a cluster made through ARM has no Kubernetes API");
        }
        let state = self.lock();
        let cluster = state.cluster(call)?;
        let reply = Reply::new(StatusCode::CREATED, self.shown(cluster, call));
        Ok(self.with_operation(writes(reply), &operation, call))
    }

    /// A cluster that is being created.
    fn born(&self, call: &Call, location: &str, kubernetes: &str, body: &Value) -> ManagedCluster {
        let (subscription, group, name) = (call.subscription(), call.group(), call.name(0));
        let tenant = self.tenant_of(subscription);
        let kubelet = self.make_identity(&format!("{name}-agentpool"), subscription);
        let mut document = template::fresh(&Birth {
            name,
            subscription,
            group,
            location,
            kubernetes,
            nodes: 3,
            suffix: &Uuid::new_v4().simple().to_string()[..8],
            kubelet: Value::Null,
        });
        let mut own = body.clone();
        drop(tree::take(&mut own, "location"));
        drop(tree::take(&mut own, "properties.kubernetesVersion"));
        let addons = tree::take(&mut own, "properties.addonProfiles");
        if let Some(Value::Array(pools)) = tree::take(&mut own, "properties.agentPoolProfiles") {
            let pools: Vec<_> = pools
                .iter()
                .map(|pool| template::pool(pool, kubernetes))
                .collect();
            tree::set(&mut document, "properties.agentPoolProfiles", json!(pools));
        }
        tree::merge(&mut document, &own);
        if tree::text(&document, "identity.type").contains("SystemAssigned") {
            let own = self.make_identity(name, subscription);
            tree::set(&mut document, "identity.principalId", json!(own.object_id));
            tree::set(&mut document, "identity.tenantId", json!(tenant));
        }
        if let Some(addons) = addons.filter(|addons| addons.as_object().is_some_and(|map| !map.is_empty())) {
            tree::set(&mut document, "properties.addonProfiles", addons);
        }
        let mut cluster = ManagedCluster {
            name: name.to_owned(),
            subscription: subscription.to_owned(),
            group: group.to_owned(),
            document,
            extra: Value::Null,
            linked: Vec::new(),
            state: "Creating".to_owned(),
            etag: None,
            pool_etags: Vec::new(),
            operation: None,
            pool_operation: None,
            addon: None,
            routing: None,
            kubelet,
            issuer: issuer_url(location, &tenant, &Uuid::new_v4().to_string()),
            generation: 0,
        };
        cluster.show_kubelet();
        cluster
    }

    fn patch_cluster(&self, call: &Call) -> Result<Reply, Refusal> {
        let mut state = self.lock();
        let cluster = state.cluster(call)?;
        preconditions(
            &call.headers,
            false,
            cluster.etag.map(|tag| tag.to_string()).as_deref(),
        )?;
        may_change(cluster)?;
        let only_tags = call
            .body
            .as_object()
            .is_some_and(|body| body.keys().all(|key| key == "tags"));
        if !only_tags {
            return Err(Refusal::aks(
                StatusCode::BAD_REQUEST,
                "BadRequest",
                "Only tags may be changed with PATCH on a managed cluster.",
            ));
        }
        let key = cluster.id().to_ascii_lowercase();
        if let Some(cluster) = state.clusters.get_mut(&key) {
            tree::set(&mut cluster.document, "tags", call.body["tags"].clone());
            "Updating".clone_into(&mut cluster.state);
        }
        let operation = self.begin(&mut state, call, &key, Work::Update, "aks_update");
        let cluster = state.cluster(call)?;
        let reply = Reply::ok(self.shown(cluster, call));
        Ok(self.with_operation(writes(reply), &operation, call))
    }

    fn delete_cluster(&self, call: &Call) -> Result<Reply, Refusal> {
        let mut state = self.lock();
        let Ok(cluster) = state.cluster(call) else {
            return Ok(Reply::empty(StatusCode::NO_CONTENT).effect(Effect::None));
        };
        preconditions(
            &call.headers,
            false,
            cluster.etag.map(|tag| tag.to_string()).as_deref(),
        )?;
        if cluster.operation.is_some() {
            return Err(in_progress(&cluster.state));
        }
        let key = cluster.id().to_ascii_lowercase();
        if let Some(cluster) = state.clusters.get_mut(&key) {
            "Deleting".clone_into(&mut cluster.state);
        }
        let operation = self.begin(&mut state, call, &key, Work::Delete, "aks_update");
        let base = self.core.names.arm_base(&call.asked_as);
        let reply = Reply::empty(StatusCode::ACCEPTED)
            .header(
                "location",
                format!("{base}{}", operation.target("operationresults")),
            )
            .header("x-ms-ratelimit-remaining-subscription-deletes", "14999");
        Ok(self.with_operation(reply, &operation, call))
    }

    /// `start` and `stop`.
    pub(super) fn power_call(&self, call: &Call) -> Result<Reply, Refusal> {
        let start = last_segment(&call.path.id()).eq_ignore_ascii_case("start");
        let mut state = self.lock();
        let cluster = state.cluster(call)?;
        if !cluster.is_settled() {
            return Err(in_progress(&cluster.state));
        }
        let (work, word) = if start {
            (Work::Start, "Starting")
        } else {
            (Work::Stop, "Stopping")
        };
        if cluster.is_stopped() != start {
            let power = if start { "Running" } else { "Stopped" };
            return Err(Refusal::aks(
                StatusCode::BAD_REQUEST,
                "BadRequest",
                format!(
                    "managed cluster is in Provisioning State({}) and Power State({power}), {} cannot be performed",
                    cluster.state,
                    word.to_ascii_lowercase()
                ),
            ));
        }
        let key = cluster.id().to_ascii_lowercase();
        if let Some(cluster) = state.clusters.get_mut(&key) {
            word.clone_into(&mut cluster.state);
        }
        let operation = self.begin(&mut state, call, &key, work, "aks_update");
        let base = self.core.names.arm_base(&call.asked_as);
        let reply = Reply::empty(StatusCode::ACCEPTED)
            .header(
                "location",
                format!("{base}{}", operation.target("operationresults")),
            )
            .effect(Effect::Updated);
        Ok(self.with_operation(reply, &operation, call))
    }

    /// How many SecretProviderClasses stand in the way of what this call wants: the cluster's own API is asked.
    async fn blocking_classes(&self, call: &Call) -> usize {
        let name = {
            let state = self.lock();
            let Ok(cluster) = state.cluster(call) else {
                return 0;
            };
            let disables = document::addon_enabled(&cluster.document) == Some(true)
                && document::addon_enabled(&call.body) == Some(false);
            if !disables {
                return 0;
            }
            cluster.name.clone()
        };
        let Some(plane) = self.core.clusters.get(&name) else {
            return 0;
        };
        let path = "/apis/secrets-store.csi.x-k8s.io/v1/secretproviderclasses";
        let (status, list) = plane.ask(Method::GET, path, None).await;
        let items = list["items"].as_array().map_or(0, Vec::len);
        if status.is_success() { items } else { 0 }
    }

    /// A PUT needs rights on what the cluster is linked to.
    fn linked_scopes(&self, state: &State, cluster: &ManagedCluster, call: &Call) -> Result<(), Refusal> {
        let principals = call.principals();
        for (scope, action) in &cluster.linked {
            let question = Question {
                principals: &principals,
                action,
                scope,
                data: false,
                now: call.now,
            };
            if !state.access.allows(question) {
                let caller = &call.caller;
                return Err(Refusal::gateway(
                    StatusCode::FORBIDDEN,
                    "LinkedAuthorizationFailed",
                    format!(
                        "The client '{}' with object id '{}' has permission to perform action \
                         'Microsoft.ContainerService/managedClusters/write' on scope '{}'; however, it does not have \
                         permission to perform action '{action}' on the linked scope(s) '{scope}' or the linked \
                         scope(s) are invalid.",
                        caller.app_id.as_deref().unwrap_or(&caller.oid),
                        caller.oid,
                        call.path.id()
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// Refuses a change while something is going on, or while the cluster is stopped.
pub(super) fn may_change(cluster: &ManagedCluster) -> Result<(), Refusal> {
    if cluster.pool_operation.is_some() {
        return Err(in_progress("Updating"));
    }
    if !cluster.is_settled() {
        return Err(in_progress(&cluster.state));
    }
    if cluster.is_stopped() {
        return Err(Refusal::aks(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            format!(
                "managed cluster is in Provisioning State({}) and Power State(Stopped), updating cannot be performed",
                cluster.state
            ),
        ));
    }
    Ok(())
}

pub(super) fn in_progress(what: &str) -> Refusal {
    Refusal::aks(
        StatusCode::CONFLICT,
        "OperationNotAllowed",
        format!(
            "Operation is not allowed: Another operation ({what}) is in progress, please wait for it to finish before \
             starting a new operation. See https://aka.ms/aks-pending-operation for more details"
        ),
    )
}

/// The counters AKS answers carry; 0 on success is what it sends.
fn reads(reply: Reply) -> Reply {
    reply.header("x-ms-ratelimit-remaining-subscription-global-reads", "0")
}

fn writes(reply: Reply) -> Reply {
    reply
        .header("x-ms-ratelimit-remaining-subscription-global-writes", "0")
        .header("x-ms-ratelimit-remaining-subscription-writes", "0")
}
