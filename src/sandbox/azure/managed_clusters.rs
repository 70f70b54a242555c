//! Managed clusters: their state, and the calls that read and change it.
//!
//! A change is stored at once and shown at once, but its effect comes when its operation ends: only then does the
//! add-on have its identity, the tags change, and the cluster's actors hear of it.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::access::Question;
use super::call::Call;
use super::call::Reply;
use super::cluster_document::{self as document, Birth};
use super::operations::{Operation, Work, hurried, preconditions, signature};
use super::path::last_segment;
use super::refusal::Refusal;
use super::{Azure, State};
use crate::sandbox::core::{AddonState, ClusterSettings, Effect, ManagedIdentity};

/// The version of a cluster whose creator named none.
pub(super) const KUBERNETES: &str = "1.34.2";

/// The first api-version whose answers hold eTags.
const ETAGS_SINCE: &str = "2024-09";

/// A managed cluster.
pub(super) struct ManagedCluster {
    pub(super) name: String,
    pub(super) subscription: String,
    pub(super) group: String,
    /// What ARM stores: without id, name, type, tags of change, and states.
    pub(super) document: Value,
    /// Members the world file added, which a PUT must send back.
    pub(super) extra: Value,
    /// Scopes and actions a PUT needs besides its own.
    pub(super) linked: Vec<(String, String)>,
    /// `provisioningState`.
    pub(super) state: String,
    pub(super) etag: Option<Uuid>,
    /// In the order of the pools.
    pub(super) pool_etags: Vec<Uuid>,
    pub(super) operation: Option<Uuid>,
    pub(super) pool_operation: Option<(Uuid, String)>,
    /// The add-on's identity, on the nodes.
    pub(super) addon: Option<ManagedIdentity>,
    /// App routing's identity, on the nodes.
    pub(super) routing: Option<ManagedIdentity>,
    pub(super) kubelet: ManagedIdentity,
    /// How many identities the add-on has had.
    pub(super) generation: u32,
}

impl ManagedCluster {
    /// Its id, spelled as AKS spells it.
    pub(super) fn id(&self) -> String {
        format!(
            "/subscriptions/{}/resourcegroups/{}/providers/Microsoft.ContainerService/managedClusters/{}",
            self.subscription, self.group, self.name
        )
    }

    pub(super) fn location(&self) -> &str {
        document::text(&self.document, "location")
    }

    pub(super) fn is_stopped(&self) -> bool {
        document::text(&self.document, "properties.powerState.code") == "Stopped"
    }

    /// True if nothing is going on.
    fn is_settled(&self) -> bool {
        self.operation.is_none() && is_terminal(&self.state)
    }

    /// An identity in the node resource group, as ARM shows it.
    fn identity(&self, name: &str, identity: &ManagedIdentity) -> Value {
        json!({
            "resourceId": format!(
                "/subscriptions/{}/resourcegroups/{}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}",
                self.subscription,
                document::text(&self.document, "properties.nodeResourceGroup"),
            ),
            "clientId": identity.client_id,
            "objectId": identity.object_id,
        })
    }

    /// The cluster as this api-version shows it.
    pub(super) fn body(&self, version: &str, fqdn: &str) -> Value {
        let mut body = self.document.clone();
        let settled = self.is_settled();
        let creating = self.state == "Creating";
        let properties = "properties.provisioningState";
        document::set(&mut body, properties, json!(self.state));
        if !fqdn.is_empty() {
            let portal = fqdn.replacen(".hcp.", ".portal.hcp.", 1);
            document::set(&mut body, "properties.fqdn", json!(fqdn));
            document::set(&mut body, "properties.azurePortalFQDN", json!(portal));
        }
        let etags = version >= ETAGS_SINCE;
        let tags = self.pool_etags.iter().filter(|_| etags && !creating);
        let mut tags = tags.map(Uuid::to_string);
        let pool_state = |name: &Value| match &self.pool_operation {
            Some((_, busy)) if name.as_str() == Some(busy) => "Updating",
            _ => self.state.as_str(),
        };
        for pool in document::list_mut(&mut body, "properties.agentPoolProfiles") {
            let state = pool_state(&pool["name"]).to_owned();
            document::set(pool, "provisioningState", json!(state));
            if !settled && pool.get("nodeLabels").is_none() {
                document::set(pool, "nodeLabels", json!({}));
            }
            if let Some(tag) = tags.next() {
                document::set(pool, "eTag", json!(tag));
            }
        }
        if creating {
            drop(document::take(&mut body, "properties.identityProfile"));
            let ips = "properties.networkProfile.loadBalancerProfile.effectiveOutboundIPs";
            drop(document::take(&mut body, ips));
        }
        self.show_identities(&mut body, settled);
        document::set(&mut body, "id", json!(self.id()));
        document::set(&mut body, "name", json!(self.name));
        document::set(&mut body, "type", json!("Microsoft.ContainerService/ManagedClusters"));
        if let Some(tag) = self.etag.filter(|_| etags && !creating) {
            document::set(&mut body, "eTag", json!(tag.to_string()));
        }
        body
    }

    /// Identities show only while nothing is going on.
    fn show_identities(&self, body: &mut Value, settled: bool) {
        if let (true, Some(identity)) = (settled, &self.addon)
            && let Some((key, entry)) = document::addon(&self.document)
            && entry["enabled"] == true
        {
            let name = format!("{}-{}", document::ADDON.to_ascii_lowercase(), self.name);
            let path = format!("properties.addonProfiles.{key}.identity");
            document::set(body, &path, self.identity(&name, identity));
        }
        let path = "properties.ingressProfile.webAppRouting";
        if document::at(body, path).is_some_and(Value::is_object) {
            let shown = match (settled, &self.routing) {
                (true, Some(identity)) => self.identity(&format!("webapprouting-{}", self.name), identity),
                _ => Value::Null,
            };
            document::set(body, &format!("{path}.identity"), shown);
        }
    }

    /// The add-on as the cluster's actors have to know it.
    pub(super) fn addon_state(&self) -> AddonState {
        let entry = document::addon(&self.document).map_or(Value::Null, |(_, entry)| entry.clone());
        AddonState {
            enabled: entry["enabled"] == true,
            identity: self.addon.clone(),
            rotation: entry["config"]["enableSecretRotation"] == "true",
            poll_interval: entry["config"]["rotationPollInterval"].as_str().and_then(go_duration),
        }
    }

    /// The identities on its nodes.
    pub(super) fn node_identities(&self) -> impl Iterator<Item = &ManagedIdentity> {
        std::iter::once(&self.kubelet).chain(&self.addon).chain(&self.routing)
    }

    /// New tags after a change of the cluster.
    pub(super) fn retag(&mut self) {
        let pools = self.document["properties"]["agentPoolProfiles"].as_array().map_or(0, Vec::len);
        self.etag = Some(Uuid::new_v4());
        self.pool_etags = (0..pools).map(|_| Uuid::new_v4()).collect();
    }
}

/// Whether a `provisioningState` is one in which nothing is going on.
pub(super) fn is_terminal(state: &str) -> bool {
    matches!(state, "Succeeded" | "Failed" | "Canceled")
}

/// Parses Go's durations: `2m`, `1h30m`, `90s`.
pub(super) fn go_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let letters = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match rest.get(..letters)? {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number * unit).ok()?;
        rest = rest.get(letters..)?;
    }
    (!text.is_empty()).then_some(total)
}

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
        preconditions(&call.headers, true, cluster.etag.map(|tag| tag.to_string()).as_deref())?;
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
        let location = document::text(&body, "location").replace(' ', "").to_ascii_lowercase();
        if location.is_empty() {
            return Err(Refusal::gateway(
                StatusCode::BAD_REQUEST,
                "LocationRequired",
                "The location property is required for this definition.",
            ));
        }
        let asked = document::text(&body, "properties.kubernetesVersion");
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
        let kubelet = self.make_identity(
            &format!("{name}-agentpool"),
            &format!("/subscriptions/{subscription}/{group}/{name}/{}", Uuid::new_v4()),
            call.now,
        );
        let mut document = document::fresh(&Birth {
            name,
            subscription,
            group,
            location,
            tenant: &tenant,
            kubernetes,
            nodes: 3,
            suffix: &Uuid::new_v4().simple().to_string()[..8],
            kubelet: Value::Null,
        });
        let mut own = body.clone();
        drop(document::take(&mut own, "location"));
        drop(document::take(&mut own, "properties.kubernetesVersion"));
        let addons = document::take(&mut own, "properties.addonProfiles");
        if let Some(Value::Array(pools)) = document::take(&mut own, "properties.agentPoolProfiles") {
            let pools: Vec<_> = pools.iter().map(|pool| document::pool(pool, kubernetes)).collect();
            document::set(&mut document, "properties.agentPoolProfiles", json!(pools));
        }
        document::merge(&mut document, &own);
        if let Some(addons) = addons.filter(|addons| addons.as_object().is_some_and(|map| !map.is_empty())) {
            document::set(&mut document, "properties.addonProfiles", addons);
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
            generation: 0,
        };
        let shown = cluster.identity(&format!("{name}-agentpool"), &cluster.kubelet);
        document::set(&mut cluster.document, "properties.identityProfile.kubeletidentity", shown);
        cluster
    }

    fn patch_cluster(&self, call: &Call) -> Result<Reply, Refusal> {
        let mut state = self.lock();
        let cluster = state.cluster(call)?;
        preconditions(&call.headers, false, cluster.etag.map(|tag| tag.to_string()).as_deref())?;
        may_change(cluster)?;
        let only_tags = call.body.as_object().is_some_and(|body| body.keys().all(|key| key == "tags"));
        if !only_tags {
            return Err(Refusal::aks(
                StatusCode::BAD_REQUEST,
                "BadRequest",
                "Only tags may be changed with PATCH on a managed cluster.",
            ));
        }
        let key = cluster.id().to_ascii_lowercase();
        if let Some(cluster) = state.clusters.get_mut(&key) {
            document::set(&mut cluster.document, "tags", call.body["tags"].clone());
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
        preconditions(&call.headers, false, cluster.etag.map(|tag| tag.to_string()).as_deref())?;
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
            .header("location", format!("{base}{}", operation.target("operationresults")))
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
        let (work, word) = if start { (Work::Start, "Starting") } else { (Work::Stop, "Stopping") };
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
            .header("location", format!("{base}{}", operation.target("operationresults")))
            .effect(Effect::Updated);
        Ok(self.with_operation(reply, &operation, call))
    }

    /// Registers an operation and lets it end by the clock.
    pub(super) fn begin(&self, state: &mut State, call: &Call, key: &str, work: Work, lag: &str) -> Operation {
        let lag = self.core.lags.get(lag);
        let id = Uuid::new_v4();
        let (location, name) = state.clusters.get(key).map_or_else(Default::default, |cluster| {
            (cluster.location().to_owned(), cluster.name.clone())
        });
        let operation = Operation {
            id,
            work,
            cluster: key.to_owned(),
            subscription: call.subscription().to_owned(),
            location,
            signature: signature(call.now),
            started: call.now,
            due: call.now + lag,
            staged: call.outcome.clone(),
            ended: None,
        };
        self.mark("operation address", &operation.signature);
        if let Some(cluster) = state.clusters.get_mut(key) {
            match &operation.work {
                Work::Pool(pool) => cluster.pool_operation = Some((id, pool.clone())),
                _ => cluster.operation = Some(id),
            }
        }
        state.operations.insert(id, operation.clone());
        self.wake_at(operation.due, format!("operation on cluster {name}"));
        operation
    }

    /// Adds the header under which an operation can be asked for.
    pub(super) fn with_operation(&self, reply: Reply, operation: &Operation, call: &Call) -> Reply {
        let base = self.core.names.arm_base(&call.asked_as);
        let caller = &call.caller;
        let identifier = format!(
            "appId={},tenantId={},objectId={}/{}/{}",
            caller.app_id.as_deref().unwrap_or_default(),
            caller.tenant,
            caller.oid,
            operation.location,
            operation.id
        );
        let reply = reply
            .header("azure-asyncoperation", format!("{base}{}", operation.target("operations")))
            .header("x-ms-operation-identifier", identifier);
        hurried(reply, self.core.pace)
    }

    /// A poll of an operation, or of its result.
    pub(super) fn operation_call(&self, call: &Call, collection: &str) -> Result<Reply, Refusal> {
        let state = self.lock();
        let found = call.name(1).parse::<Uuid>().ok().and_then(|id| state.operations.get(&id));
        match found {
            Some(operation) => operation.polled(call, collection, self.core.pace),
            None => Err(Refusal::provider(
                StatusCode::NOT_FOUND,
                "NotFound",
                format!("The operation '{}' could not be found.", call.name(1)),
            )),
        }
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
            let question = Question { principals: &principals, action, scope, data: false, now: call.now };
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

    /// What a cluster plane is made from.
    pub(super) fn settings(&self, cluster: &ManagedCluster, world: Value) -> ClusterSettings {
        let profile = &cluster.document["properties"]["aadProfile"];
        let tenant = profile["tenantID"].as_str().map(str::to_owned);
        let own = || self.tenant_of(&cluster.subscription);
        ClusterSettings {
            name: cluster.name.clone(),
            location: cluster.location().to_owned(),
            version: document::text(&cluster.document, "properties.currentKubernetesVersion").to_owned(),
            entra_tenant: (profile["managed"] == true).then(|| tenant.unwrap_or_else(own)),
            local_accounts: cluster.document["properties"]["disableLocalAccounts"] != true,
            world,
            addon: cluster.addon_state(),
        }
    }

    /// Ends every operation that is due.
    pub(super) fn end_operations(&self, state: &mut State, now: OffsetDateTime) {
        loop {
            let running = state.operations.values_mut().filter(|operation| operation.ended.is_none());
            let Some(operation) = running.min_by_key(|operation| operation.due).filter(|next| next.due <= now) else {
                return;
            };
            operation.ended = Some(operation.verdict());
            let operation = operation.clone();
            self.end(state, &operation);
        }
    }

    fn end(&self, state: &mut State, operation: &Operation) {
        let ended = operation.verdict();
        let succeeded = ended.status == "Succeeded";
        if operation.work == Work::Delete && succeeded {
            if let Some(gone) = state.clusters.remove(&operation.cluster) {
                self.bury(state, &gone, ended.at);
            }
            return;
        }
        let Some(cluster) = state.clusters.get_mut(&operation.cluster) else {
            return;
        };
        if let Work::Pool(pool) = &operation.work {
            cluster.pool_operation = None;
            let pools = cluster.document["properties"]["agentPoolProfiles"].as_array();
            let at = pools.and_then(|pools| pools.iter().position(|each| each["name"] == **pool));
            if let Some(tag) = at.and_then(|at| cluster.pool_etags.get_mut(at)) {
                *tag = Uuid::new_v4();
            }
            return;
        }
        cluster.operation = None;
        ended.status.clone_into(&mut cluster.state);
        cluster.retag();
        if !succeeded {
            return;
        }
        match operation.work {
            Work::Start => document::set(&mut cluster.document, "properties.powerState.code", json!("Running")),
            Work::Stop => document::set(&mut cluster.document, "properties.powerState.code", json!("Stopped")),
            _ => {}
        }
        self.reconcile(cluster, ended.at);
    }

    /// Gives the add-on and app routing the identities they should have, and tells the cluster's actors.
    pub(super) fn reconcile(&self, cluster: &mut ManagedCluster, now: OffsetDateTime) {
        let wanted = document::addon_enabled(&cluster.document) == Some(true);
        if wanted && cluster.addon.is_none() {
            cluster.generation += 1;
            let name = format!("{}-{}", document::ADDON.to_ascii_lowercase(), cluster.name);
            let path = format!("{}/{name}/{}", cluster.id(), cluster.generation);
            cluster.addon = Some(self.make_identity(&name, &path, now));
        } else if !wanted && let Some(gone) = cluster.addon.take() {
            self.end_identity(&gone);
        }
        let wanted = cluster.document["properties"]["ingressProfile"]["webAppRouting"]["enabled"] == true;
        if wanted && cluster.routing.is_none() {
            let name = format!("webapprouting-{}", cluster.name);
            let path = format!("{}/{name}", cluster.id());
            cluster.routing = Some(self.make_identity(&name, &path, now));
        } else if !wanted && let Some(gone) = cluster.routing.take() {
            self.end_identity(&gone);
        }
        if let Some(plane) = self.core.clusters.get(&cluster.name) {
            let addon = cluster.addon_state();
            plane.addon.send_if_modified(|known| std::mem::replace(known, addon.clone()) != addon);
            let local = cluster.document["properties"]["disableLocalAccounts"] != true;
            plane.local_accounts.send_if_modified(|known| std::mem::replace(known, local) != local);
        }
    }

    /// What is left to do when a cluster is gone.
    fn bury(&self, state: &mut State, gone: &ManagedCluster, now: OffsetDateTime) {
        for identity in gone.node_identities() {
            self.end_identity(identity);
        }
        state.access.remove_below(&gone.id(), now);
        self.core.clusters.close(&gone.name);
    }
}

impl State {
    /// The cluster of this path.
    pub(super) fn cluster(&self, call: &Call) -> Result<&ManagedCluster, Refusal> {
        let key = format!(
            "/subscriptions/{}/resourcegroups/{}/providers/microsoft.containerservice/managedclusters/{}",
            call.subscription(),
            call.group(),
            call.name(0)
        );
        self.clusters.get(&key.to_ascii_lowercase()).ok_or_else(|| {
            Refusal::resource_not_found("Microsoft.ContainerService/managedClusters", call.name(0), call.group())
        })
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

fn in_progress(what: &str) -> Refusal {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations() {
        for (text, seconds) in [("2m", Some(120)), ("1h30m", Some(5400)), ("90s", Some(90)), ("", None), ("2", None)] {
            assert_eq!(go_duration(text), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
