//! `kvtls_ingress_binding`: five short methods; what they decide stands in the files beside.

mod adopt;
mod apply;
mod config;
mod gateway;
mod import;
mod import_gateway;
mod memory;
pub(super) mod objects;
mod plan;
pub(super) mod schema;
mod state;

use std::time::Duration;

use async_trait::async_trait;

use self::memory::Memories;
use self::state::Kept;
use super::wishes::Wishes;
use super::{Configured, explain};
use crate::binding::converge::refresh;
use crate::framework::{
    ApplyRequest, ApplyResponse, Deadline, Diagnostics, ImportResponse, PlanRequest, PlanResponse,
    ReadRequest, ReadResponse, Resource, Schema, Value,
};

/// The resource.
pub struct IngressBinding {
    schema: Schema,
    configured: Configured,
    memories: Memories,
    wishes: Wishes,
}

impl IngressBinding {
    /// The resource, over the world that the provider block describes.
    pub(super) fn new(configured: Configured, wishes: Wishes) -> Self {
        Self {
            schema: schema::schema(),
            configured,
            memories: Memories::default(),
            wishes,
        }
    }
}

#[async_trait]
impl Resource for IngressBinding {
    fn type_name(&self) -> &'static str {
        "kvtls_ingress_binding"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        config::contradictions(config)
    }

    fn remember(&self, state: &Value) {
        self.memories.remember(state);
    }

    async fn read(&self, request: ReadRequest) -> ReadResponse {
        self.configured.refreshes();
        let kept = Kept::read(&request.private);
        match self.read_now(&request, kept).await {
            Ok((state, kept, spots)) => {
                let private = kept.map_or_else(Default::default, |kept| kept.write());
                let fails = self.configured.blind_plan_fails();
                let blind = (!spots.is_empty()).then(|| explain::blind_spots(&spots, fails));
                ReadResponse {
                    state,
                    private,
                    diagnostics: blind.into_iter().collect(),
                }
            }
            Err(diagnostics) => ReadResponse {
                state: request.state,
                private: request.private,
                diagnostics,
            },
        }
    }

    async fn plan(&self, request: PlanRequest) -> PlanResponse {
        plan::plan(self, request).await
    }

    async fn apply(&self, request: ApplyRequest) -> ApplyResponse {
        if request.planned.is_null() {
            apply::delete(self, request).await
        } else {
            apply::write(self, request).await
        }
    }

    async fn import(&self, id: &str, deadline: Deadline) -> ImportResponse {
        let imported = async {
            let world = self.configured.need()?;
            let defaults = self.configured.defaults().unwrap_or_default();
            import::import(&world, &defaults, id).await
        };
        let result = tokio::select! {
            result = tokio::time::timeout_at(deadline.until, imported) => result,
            () = deadline.stop.cancelled() => Ok(Err(stopped())),
        };
        let failed = match result {
            Ok(Ok(imported)) => {
                return ImportResponse {
                    state: imported.state,
                    private: imported.kept.write(),
                    diagnostics: imported.diagnostics,
                };
            }
            Ok(Err(diagnostic)) => diagnostic,
            Err(_) => too_late(),
        };
        ImportResponse {
            state: Value::Null,
            private: Default::default(),
            diagnostics: Diagnostics::from(failed),
        }
    }

    fn timeout(&self, operation: &str, value: &Value) -> Duration {
        schema::TIMEOUTS.of(operation, value)
    }
}

impl IngressBinding {
    /// The state as it is now, what to keep beside it, and what could not be seen; null if the cluster is gone.
    async fn read_now(
        &self,
        request: &ReadRequest,
        mut kept: Kept,
    ) -> Result<(Value, Option<Kept>, Vec<(String, String)>), Diagnostics> {
        let Some(world) = self.configured.world() else {
            return Ok((request.state.clone(), Some(kept), Vec::new()));
        };
        let Some(desired) = config::parse(&request.state, &self.configured.defaults().unwrap_or_default())?
        else {
            return Ok((request.state.clone(), Some(kept), Vec::new()));
        };
        if let Some(server) = &kept.server {
            world.remember_server(&desired.cluster, server.clone());
        }
        let observing = async {
            kept.cloud_name = world.cloud_name().await?;
            let retired = state::retired(&desired, &request.state);
            refresh(&world, &desired, &retired).await
        };
        let seen = tokio::select! {
            seen = tokio::time::timeout_at(request.deadline.until, observing) => seen,
            () = request.deadline.stop.cancelled() => return Err(Diagnostics::from(stopped())),
        };
        let seen = match seen {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => {
                return Err(Diagnostics::from(explain::azure_error(
                    &error,
                    &explain::Changed::nothing(),
                )));
            }
            Err(_) => return Err(Diagnostics::from(too_late())),
        };
        if seen.cluster.is_absent() {
            return Ok((Value::Null, None, Vec::new()));
        }
        self.memories.saw(&desired.id(), &seen);
        let state = state::observed(&request.state, &request.state, &desired, &seen, &mut kept);
        Ok((state, Some(kept), seen.blind_spots()))
    }
}

fn stopped() -> crate::framework::Diagnostic {
    crate::framework::Diagnostic::error(
        "Operation was stopped",
        "Terraform was asked to stop before the binding was read. Nothing was changed.",
        "Run it again.",
    )
    .code("KVTLS-E604")
}

fn too_late() -> crate::framework::Diagnostic {
    crate::framework::Diagnostic::error(
        "Binding could not be read in time",
        "The operation's time was over before Azure and the cluster had answered. Nothing was changed.",
        "Raise  timeouts.read, or look why the cluster answers slowly.",
    )
    .code("KVTLS-E022")
}
