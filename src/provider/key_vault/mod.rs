//! `kvtls_key_vault`: a vault, made or recovered, changed in its own fields only, and deleted.

mod apply;
mod schema;
mod state;

use std::time::Duration;

use async_trait::async_trait;

use super::Configured;
use super::explain::vaults as explain;
use super::explain::{Changed, blind_spots};
use super::operation::{Halt, Unfinished, resuming, within};
use crate::azure::ids::VaultId;
use crate::framework::{
    ApplyRequest, ApplyResponse, Deadline, Diagnostic, Diagnostics, ImportResponse, PlanRequest,
    PlanResponse, ReadRequest, ReadResponse, Resource, Schema, Value,
};

/// The resource.
pub struct KeyVaultResource {
    schema: Schema,
    configured: Configured,
    unfinished: Unfinished,
}

impl KeyVaultResource {
    /// The resource, over the world that the provider block describes.
    pub fn new(configured: Configured) -> Self {
        Self {
            schema: schema::schema(),
            configured,
            unfinished: Unfinished::default(),
        }
    }
}

#[async_trait]
impl Resource for KeyVaultResource {
    fn type_name(&self) -> &'static str {
        "kvtls_key_vault"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        schema::contradictions(config)
    }

    fn remember(&self, state: &Value) {
        self.unfinished
            .remember(state.get("id").as_str(), is_unfinished(state));
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
        if let Some(diagnostic) = self.configured.other_id(&request, "resource_group_id") {
            return request.refused(diagnostic);
        }
        let mut planned = request.proposed.clone();
        let resumes = request.is_create() && schema::id(&planned).is_some_and(|id| self.unfinished.has(&id));
        let diagnostics = if request.is_create() {
            plan_create(&request.config, &mut planned);
            Diagnostics::new()
        } else {
            plan_update(&request, &mut planned)
        };
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

impl KeyVaultResource {
    async fn read_now(&self, request: &ReadRequest) -> Result<Value, Diagnostics> {
        let (Some(world), Some(id)) = (self.configured.world(), request.state.get("id").as_str()) else {
            return Ok(request.state.clone());
        };
        let Ok(vault_id) = VaultId::parse(id) else {
            return Ok(request.state.clone());
        };
        let grant = request.state.get("caller_grant").get("id").as_str();
        let azure = world.azure();
        let reading = async {
            let vault = azure.key_vault(&vault_id).await?;
            let granted = match grant.filter(|_| vault.is_some()) {
                // One that may not be looked at is taken to be there.
                Some(grant) => azure.role_assignment_exists(grant).await.unwrap_or(true),
                None => true,
            };
            Ok((vault, granted))
        };
        match within(&request.deadline, reading).await {
            Ok((None, _)) => Ok(Value::Null),
            Ok((Some(vault), granted)) => {
                let mut state = state::observed(&request.state, id, &vault);
                if is_unfinished(&request.state) {
                    state.set("vault_uri", Value::Null);
                }
                if !granted {
                    state.set("caller_grant", Value::Null);
                }
                Ok(state)
            }
            Err(Halt::Azure(error)) if error.is_forbidden() => {
                let spot = ("vault".to_owned(), error.service_said());
                Err(Diagnostics::from(blind_spots(
                    &[spot],
                    self.configured.blind_plan_fails(),
                )))
            }
            Err(halt) => Err(Diagnostics::from(explain::halted(
                &halt,
                "read the vault",
                &Changed::nothing(),
            ))),
        }
    }

    async fn import_now(&self, id: &str, deadline: &Deadline) -> Result<Value, Diagnostic> {
        let world = self.configured.need()?;
        let vault_id = VaultId::parse(id)
            .map_err(|error| explain::bad_import_id(id, "a Key Vault's resource ID", &error.to_string()))?;
        let vault = within(deadline, world.azure().key_vault(&vault_id))
            .await
            .map_err(|halt| explain::halted(&halt, "read the vault", &Changed::nothing()))?
            .ok_or_else(|| explain::nothing_to_import("Key Vault", id))?;
        let group = format!(
            "/subscriptions/{}/resourceGroups/{}",
            vault_id.subscription(),
            vault_id.resource_group()
        );
        let empty = self.schema.nothing();
        Ok(state::imported(&empty, id, &group, vault_id.name(), &vault))
    }
}

/// Whether the creation that made this state did not come to its end.
fn is_unfinished(state: &Value) -> bool {
    state.get("vault_uri").is_null()
}

fn plan_create(config: &Value, planned: &mut Value) {
    for name in ["id", "vault_uri"] {
        planned.set(name, Value::Unknown);
    }
    if config.get("tenant_id").is_null() {
        planned.set("tenant_id", Value::Unknown);
    }
    let grant = match planned.get("grant_caller").as_bool() {
        Some(false) => Value::Null,
        _ => Value::Unknown,
    };
    planned.set("caller_grant", grant);
}

fn plan_update(request: &PlanRequest, planned: &mut Value) -> Diagnostics {
    let prior = &request.prior;
    planned.set("id", prior.get("id").clone());
    let uri = match prior.get("vault_uri") {
        // An unfinished creation that somebody untainted is completed.
        Value::Null => Value::Unknown,
        uri => uri.clone(),
    };
    planned.set("vault_uri", uri);
    if request.config.get("tenant_id").is_null() {
        planned.set("tenant_id", prior.get("tenant_id").clone());
    }
    let had = prior.get("caller_grant");
    let grant = match planned.get("grant_caller").as_bool() {
        Some(false) => Value::Null,
        Some(true) if !had.is_null() => had.clone(),
        _ => Value::Unknown,
    };
    planned.set("caller_grant", grant);
    let mut diagnostics = Diagnostics::new();
    let is = |value: &Value| value.get("purge_protection_enabled").as_bool();
    if is(prior) == Some(true) && is(planned) == Some(false) {
        diagnostics.push(explain::one_way(
            "purge_protection_enabled",
            "the vault has purge protection, which Azure never takes away again",
            "Set  purge_protection_enabled = true. For a vault without it, make one of another name.",
        ));
    }
    let days = |value: &Value| value.get("soft_delete_retention_days").as_i64();
    if let (Some(before), Some(after)) = (days(prior), days(planned))
        && before != after
    {
        diagnostics.push(explain::one_way(
            "soft_delete_retention_days",
            &format!("the vault was made with {before} days, and Azure does not change that"),
            &format!("Set  soft_delete_retention_days = {before}."),
        ));
    }
    diagnostics
}
