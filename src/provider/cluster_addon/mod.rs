//! `kvtls_cluster_addon`: the Key Vault add-on of a cluster, for whoever owns the cluster.

mod apply;
mod schema;
mod state;

use std::time::Duration;

use async_trait::async_trait;

use super::Configured;
use super::explain::addon as explain;
use super::explain::vaults::{bad_import_id, nothing_to_import};
use super::explain::{Changed, blind_spots};
use super::operation::{Halt, Unfinished, resuming, within};
use super::wishes::{OWNER, Wishes};
use crate::azure::Cluster;
use crate::azure::ids::ClusterId;
use crate::binding::world::Freshness;
use crate::framework::{
    ApplyRequest, ApplyResponse, AttributePath, Deadline, Diagnostic, Diagnostics, ImportResponse,
    PlanRequest, PlanResponse, ReadRequest, ReadResponse, Resource, Schema, Severity, Value,
};

/// The resource.
pub struct ClusterAddonResource {
    schema: Schema,
    configured: Configured,
    wishes: Wishes,
    unfinished: Unfinished,
}

impl ClusterAddonResource {
    /// The resource, over the world that the provider block describes, with what others wish for the same add-ons.
    pub(super) fn new(configured: Configured, wishes: Wishes) -> Self {
        Self {
            schema: schema::schema(),
            configured,
            wishes,
            unfinished: Unfinished::default(),
        }
    }
}

#[async_trait]
impl Resource for ClusterAddonResource {
    fn type_name(&self) -> &'static str {
        "kvtls_cluster_addon"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn remember(&self, state: &Value) {
        self.unfinished
            .remember(state.get("id").as_str(), state.get("identity").is_null());
    }

    async fn read(&self, request: ReadRequest) -> ReadResponse {
        self.configured.refreshes();
        let now = self.read_now(&request).await;
        request.answer(now)
    }

    async fn plan(&self, request: PlanRequest) -> PlanResponse {
        if request.is_destroy() {
            return PlanResponse {
                private: Default::default(),
                ..request.as_proposed()
            };
        }
        let other = self.configured.other_id(&request, "cluster_id");
        if let Some(diagnostic) = other.or_else(|| self.disagreement(&request.proposed)) {
            return request.refused(diagnostic);
        }
        let mut planned = request.proposed.clone();
        let prior = &request.prior;
        let will_write = request.is_create() || state::will_write(prior, &planned);
        if request.is_create() {
            let id = planned.get("cluster_id").clone();
            planned.set("id", id);
            planned.set("identity", Value::Unknown);
        } else {
            planned.set("id", prior.get("id").clone());
            let identity = match prior.get("identity") {
                Value::Null => Value::Unknown,
                identity => identity.clone(),
            };
            planned.set("identity", identity);
        }
        let provisioning = match will_write {
            true => Value::Unknown,
            false => prior.get("provisioning_state").clone(),
        };
        planned.set("provisioning_state", provisioning);
        let diagnostics = if will_write {
            self.forecast(&request, &planned).await
        } else {
            Diagnostics::new()
        };
        let id = planned.get("id").as_str();
        let resumes = request.is_create() && id.is_some_and(|id| self.unfinished.has(id));
        PlanResponse {
            planned,
            requires_replace: Vec::new(),
            private: resuming(resumes),
            diagnostics,
        }
    }

    async fn apply(&self, request: ApplyRequest) -> ApplyResponse {
        if request.planned.is_null() {
            apply::delete(self, request).await
        } else {
            apply::write(self, request).await
        }
    }

    async fn import(&self, id: &str, deadline: Deadline) -> ImportResponse {
        self.import_now(id, &deadline).await.into()
    }

    fn timeout(&self, operation: &str, value: &Value) -> Duration {
        schema::TIMEOUTS.of(operation, value)
    }
}

impl ClusterAddonResource {
    /// Somebody else of this run who wishes something else of the same add-on.
    fn disagreement(&self, planned: &Value) -> Option<Diagnostic> {
        let (cluster, wish) = (state::cluster_id(planned)?, state::wish(planned)?);
        let clash = self.wishes.add(self.configured.run(), &cluster, OWNER, wish)?;
        let at = if clash.own.starts_with("rotation_enabled") {
            "rotation_enabled"
        } else {
            "rotation_poll_interval"
        };
        Some(super::explain::wishes_disagree(OWNER, &clash).at(AttributePath::of(at)))
    }

    /// What apply is going to find and do, by what is true now. It says something and changes no planned value.
    async fn forecast(&self, request: &PlanRequest, planned: &Value) -> Diagnostics {
        let mut diagnostics = Diagnostics::new();
        let (Some(world), Some(id)) = (self.configured.world(), state::cluster_id(planned)) else {
            return diagnostics;
        };
        let cluster = match world.cluster(&id, Freshness::Shared).await {
            Ok(Some(cluster)) => cluster,
            Ok(None) => {
                // A warning: destroy plans, too, and then nothing is to be made.
                let mut missing = super::explain::vaults::no_cluster(&id);
                missing.severity = Severity::Warning;
                return Diagnostics::from(missing);
            }
            Err(error) if error.is_forbidden() => {
                return Diagnostics::from(self.not_seen(&error.service_said()));
            }
            Err(error) => {
                return Diagnostics::from(super::explain::azure_error(&error, &Changed::nothing()));
            }
        };
        let wish = state::wish(planned);
        if wish.as_ref().is_some_and(|wish| wish.is_met_by(&cluster.addon)) {
            return diagnostics;
        }
        let has_drifted = !request.is_create() && request.prior.get("identity").is_null();
        match wish {
            Some(_) if has_drifted => diagnostics.push(explain::was_switched_off(&id)),
            Some(wish) => diagnostics.push(explain::will_be_set(&id, &wish, cluster.addon.enabled)),
            None => {}
        }
        let state = Cluster::not_ready(&cluster);
        diagnostics.extend(state.map(|state| explain::not_ready(&id, &state)));
        diagnostics
    }

    fn not_seen(&self, why: &str) -> Diagnostic {
        let spot = ("cluster".to_owned(), why.to_owned());
        blind_spots(&[spot], self.configured.blind_plan_fails())
    }

    async fn read_now(&self, request: &ReadRequest) -> Result<Value, Diagnostics> {
        let (Some(world), Some(id)) = (self.configured.world(), state::cluster_id(&request.state)) else {
            return Ok(request.state.clone());
        };
        match within(&request.deadline, world.cluster(&id, Freshness::Shared)).await {
            Ok(None) => Ok(Value::Null),
            Ok(Some(cluster)) => Ok(state::observed(&request.state, &cluster)),
            Err(Halt::Azure(error)) if error.is_forbidden() => {
                Err(Diagnostics::from(self.not_seen(&error.service_said())))
            }
            Err(halt) => Err(Diagnostics::from(explain::halted(
                &halt,
                &id,
                "read the cluster",
                &Changed::nothing(),
            ))),
        }
    }

    async fn import_now(&self, id: &str, deadline: &Deadline) -> Result<Value, Diagnostic> {
        let world = self.configured.need()?;
        let cluster_id = ClusterId::parse(id).map_err(|error| {
            let mut diagnostic = bad_import_id(id, "an AKS cluster's resource ID", &error.to_string());
            diagnostic.fix = "Take it from  az aks show --query id.".to_owned();
            diagnostic
        })?;
        let cluster = within(deadline, world.cluster(&cluster_id, Freshness::Shared))
            .await
            .map_err(|halt| explain::halted(&halt, &cluster_id, "read the cluster", &Changed::nothing()))?
            .ok_or_else(|| nothing_to_import("Cluster", id))?;
        if !cluster.addon.enabled {
            return Err(explain::is_off(&cluster_id));
        }
        let mut state = self.schema.nothing();
        state.set("cluster_id", id);
        state.set("id", id);
        state.set("on_destroy", "leave");
        Ok(state::observed(&state, &cluster))
    }
}
