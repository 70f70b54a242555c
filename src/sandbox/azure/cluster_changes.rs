//! How a change of a cluster begins and ends: operations, and what their end does.

use http::StatusCode;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::call::{Call, Reply};
use super::cluster_document;
use super::managed_clusters::ManagedCluster;
use super::operations::{Operation, Work, hurried, signature};
use super::path::same;
use super::refusal::Refusal;
use super::tree;
use super::{Azure, State};
use crate::sandbox::core::{ClusterSettings, StagedOutcome};
use crate::sandbox::world::rfc3339;

/// An operation that somebody outside of this world begins.
pub(crate) struct Foreign<'a> {
    /// What `provisioningState` says meanwhile: `Upgrading`.
    pub(crate) name: &'a str,
    /// The node pool it is on, if not on the cluster.
    pub(crate) pool: Option<&'a str>,
    pub(crate) lasts: std::time::Duration,
    /// How it ends.
    pub(crate) outcome: &'a str,
}

impl Azure {
    /// Lets somebody else begin an operation on a cluster.
    pub(crate) fn foreign_operation(&self, cluster: &str, foreign: &Foreign<'_>) -> Result<Value, String> {
        let now = self.core.clock.now();
        let mut state = self.lock();
        let found = state.clusters.values_mut().find(|each| same(&each.name, cluster));
        let cluster = found.ok_or_else(|| format!("there is no cluster '{cluster}'"))?;
        if cluster.operation.is_some() || cluster.pool_operation.is_some() {
            return Err(format!("an operation on {} is in progress already", cluster.name));
        }
        let id = Uuid::new_v4();
        let work = match foreign.pool {
            Some(pool) => {
                let mut pools = cluster.document["properties"]["agentPoolProfiles"]
                    .as_array()
                    .into_iter()
                    .flatten();
                if !pools.any(|each| each["name"] == pool) {
                    return Err(format!("{} has no node pool '{pool}'", cluster.name));
                }
                cluster.pool_operation = Some((id, pool.to_owned()));
                Work::Pool(pool.to_owned())
            }
            None => {
                cluster.operation = Some(id);
                foreign.name.clone_into(&mut cluster.state);
                Work::Update
            }
        };
        let operation = Operation {
            id,
            work,
            cluster: cluster.id().to_ascii_lowercase(),
            subscription: cluster.subscription.clone(),
            location: cluster.location().to_owned(),
            signature: signature(now),
            started: now,
            due: now + foreign.lasts,
            staged: Some(StagedOutcome {
                status: foreign.outcome.to_owned(),
                error: None,
            }),
            ended: None,
        };
        let due = operation.due;
        self.wake_at(
            due,
            format!("somebody else's operation on cluster {}", cluster.name),
        );
        state.operations.insert(id, operation);
        Ok(json!({"id": id.to_string(), "due": rfc3339(due)}))
    }

    /// Registers an operation and lets it end by the clock.
    pub(super) fn begin(
        &self,
        state: &mut State,
        call: &Call,
        key: &str,
        work: Work,
        lag: &str,
    ) -> Operation {
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
        // What is long in it is what must not be told; the rest is a time and a version.
        for value in operation.signature.split('&').filter(|value| value.len() > 64) {
            self.core
                .markers
                .secret(value.split_once('=').map_or(value, |(_, secret)| secret));
        }
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
            .header(
                "azure-asyncoperation",
                format!("{base}{}", operation.target("operations")),
            )
            .header("x-ms-operation-identifier", identifier);
        hurried(reply, self.core.pace)
    }

    /// A poll of an operation, or of its result.
    pub(super) fn operation_call(&self, call: &Call, collection: &str) -> Result<Reply, Refusal> {
        let state = self.lock();
        let found = call
            .name(1)
            .parse::<Uuid>()
            .ok()
            .and_then(|id| state.operations.get(&id));
        match found {
            Some(operation) => operation.polled(call, collection, self.core.pace),
            None => Err(Refusal::provider(
                StatusCode::NOT_FOUND,
                "NotFound",
                format!("The operation '{}' could not be found.", call.name(1)),
            )),
        }
    }

    /// What a cluster plane is made from.
    pub(super) fn settings(&self, cluster: &ManagedCluster, world: Value) -> ClusterSettings {
        let profile = &cluster.document["properties"]["aadProfile"];
        let tenant = profile["tenantID"].as_str().map(str::to_owned);
        let own = || self.tenant_of(&cluster.subscription);
        ClusterSettings {
            name: cluster.name.clone(),
            location: cluster.location().to_owned(),
            version: tree::text(&cluster.document, "properties.currentKubernetesVersion").to_owned(),
            entra_tenant: (profile["managed"] == true).then(|| tenant.unwrap_or_else(own)),
            local_accounts: cluster.document["properties"]["disableLocalAccounts"] != true,
            issuer: cluster.issuer(),
            world,
            addon: cluster.addon_state(),
        }
    }

    /// Ends every operation that is due.
    pub(super) fn end_operations(&self, state: &mut State, now: OffsetDateTime) {
        loop {
            let running = state
                .operations
                .values_mut()
                .filter(|operation| operation.ended.is_none());
            let Some(operation) = running
                .min_by_key(|operation| operation.due)
                .filter(|next| next.due <= now)
            else {
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
            Work::Start => tree::set(
                &mut cluster.document,
                "properties.powerState.code",
                json!("Running"),
            ),
            Work::Stop => tree::set(
                &mut cluster.document,
                "properties.powerState.code",
                json!("Stopped"),
            ),
            _ => {}
        }
        self.reconcile(cluster);
    }

    /// Gives the add-on and app routing the identities they should have, and tells the cluster's actors.
    pub(super) fn reconcile(&self, cluster: &mut ManagedCluster) {
        let wanted = cluster_document::addon_enabled(&cluster.document) == Some(true);
        if wanted && cluster.addon.is_none() {
            cluster.generation += 1;
            let name = format!(
                "{}-{}",
                cluster_document::ADDON.to_ascii_lowercase(),
                cluster.name
            );
            cluster.addon = Some(self.make_identity(&name, &cluster.subscription));
        } else if !wanted && let Some(gone) = cluster.addon.take() {
            self.end_identity(&gone);
        }
        let wanted = cluster.document["properties"]["ingressProfile"]["webAppRouting"]["enabled"] == true;
        if wanted && cluster.routing.is_none() {
            let name = format!("webapprouting-{}", cluster.name);
            cluster.routing = Some(self.make_identity(&name, &cluster.subscription));
        } else if !wanted && let Some(gone) = cluster.routing.take() {
            self.end_identity(&gone);
        }
        if let Some(plane) = self.core.clusters.get(&cluster.name) {
            let addon = cluster.addon_state();
            plane
                .addon
                .send_if_modified(|known| std::mem::replace(known, addon.clone()) != addon);
            let local = cluster.document["properties"]["disableLocalAccounts"] != true;
            plane.set_local_accounts(local);
            plane.set_issuer(&self.core.directory, cluster.issuer());
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
