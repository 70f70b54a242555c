//! Managed resources.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::answer::Call;
use super::*;
use crate::framework::identity::{self, Maturity};
use crate::framework::resource::Checkpoint;
use crate::framework::{
    ApplyRequest, PlanRequest, ReadRequest, Resource, Schema, Source, lifecycle, movement, planning,
};
use crate::tfplugin6::dynamic_value::Refinements;

pub(super) fn find(
    provider: &dyn framework::Provider,
    type_name: &str,
) -> Result<Arc<dyn Resource>, Diagnostics> {
    let found = provider
        .resources()
        .iter()
        .find(|resource| resource.type_name() == type_name);
    found.cloned().ok_or_else(|| unknown_type("resource", type_name))
}

/// An identity that came with a request; null if the resource or the host knows none.
fn identity_in(
    resource: &dyn Resource,
    message: Option<&ResourceIdentityData>,
) -> Result<Value, Diagnostics> {
    match resource.identity() {
        Some(identity) => decode::identity(identity.schema(), message),
        None => Ok(Value::Null),
    }
}

/// The identity of `state` as a message; see [`identity::of`].
fn identity_out(
    resource: &dyn Resource,
    state: &Value,
    stored: &Value,
    maturity: Maturity,
) -> Result<Option<ResourceIdentityData>, Diagnostics> {
    let Some(schema) = resource.identity().map(|identity| identity.schema()) else {
        return Ok(None);
    };
    let identity = identity::of(resource, state, stored, maturity)?;
    encode::identity(schema, identity.as_ref())
}

pub(super) async fn validate_resource_config(
    server: &Server,
    request: validate_resource_config::Request,
) -> Reply<validate_resource_config::Response> {
    let provider = server.provider();
    let call = Call::of("ValidateResourceConfig", &request.type_name);
    server
        .answer(call, async move {
            let resource = find(provider.as_ref(), &request.type_name)?;
            let config = decode::config(resource.schema(), request.config.as_ref())?;
            let client = request.client_capabilities.unwrap_or_default();
            let diagnostics =
                lifecycle::validate(resource.as_ref(), &config, client.write_only_attributes_allowed).await;
            Ok(validate_resource_config::Response::default().with(diagnostics))
        })
        .await
}

pub(super) async fn upgrade_resource_state(
    server: &Server,
    request: upgrade_resource_state::Request,
) -> Reply<upgrade_resource_state::Response> {
    let provider = server.provider();
    let call = Call::of("UpgradeResourceState", &request.type_name);
    server
        .answer(call, async move {
            let resource = find(provider.as_ref(), &request.type_name)?;
            let json = decode::stored_state(request.raw_state.as_ref())?;
            let state = lifecycle::upgrade(resource.as_ref(), request.version, json)?;
            Ok(upgrade_resource_state::Response {
                upgraded_state: encode::value(resource.schema(), &state)?,
                ..Default::default()
            })
        })
        .await
}

pub(super) async fn read_resource(
    server: &Server,
    request: read_resource::Request,
) -> Reply<read_resource::Response> {
    let (provider, stop) = (server.provider(), server.stop_signal());
    let call = Call::of("ReadResource", &request.type_name);
    let as_before = read_resource::Response {
        new_state: request.current_state.clone(),
        private: request.private.clone(),
        new_identity: request.current_identity.clone(),
        ..Default::default()
    };
    let unchanged = as_before.clone();
    server
        .answer_or(call, move || as_before, async move {
            let resource = find(provider.as_ref(), &request.type_name)?;
            let schema = resource.schema();
            let state = decode::value(schema, request.current_state.as_ref())?;
            let stored = identity_in(resource.as_ref(), request.current_identity.as_ref())?;
            let own = || resource.deferral(&state);
            if let Some(reason) = deferral(provider.as_ref(), request.client_capabilities.as_ref(), own) {
                return Ok(read_resource::Response {
                    deferred: Some(encode::deferred(reason)),
                    ..unchanged
                });
            }
            let response = lifecycle::read(
                resource.as_ref(),
                ReadRequest {
                    deadline: Deadline::after(resource.timeout("read", &state), stop),
                    state,
                    private: decode::private(&request.private),
                    meta: meta(provider.as_ref(), request.provider_meta.as_ref())?,
                },
                host(request.client_capabilities.as_ref()),
            )
            .await;
            if response.diagnostics.has_errors() {
                return Err(response.diagnostics);
            }
            let answer = read_resource::Response {
                new_state: encode::value(schema, &response.state)?,
                private: encode::private(&response.private),
                new_identity: identity_out(resource.as_ref(), &response.state, &stored, Maturity::Known)?,
                ..Default::default()
            };
            Ok(answer.with(response.diagnostics))
        })
        .await
}

pub(super) async fn plan_resource_change(
    server: &Server,
    request: plan_resource_change::Request,
) -> Reply<plan_resource_change::Response> {
    let (provider, stop) = (server.provider(), server.stop_signal());
    let call = Call::of("PlanResourceChange", &request.type_name);
    server
        .answer(call, async move {
            let resource = find(provider.as_ref(), &request.type_name)?;
            let schema = resource.schema();
            let prior = decode::value(schema, request.prior_state.as_ref())?;
            let proposed = decode::value(schema, request.proposed_new_state.as_ref())?;
            let (config, refinements) = decode::refined(schema, request.config.as_ref())?;
            // On the create leg of a replacement this is the identity that the first leg planned, of an object to come.
            let stored = match prior {
                Value::Null => Value::Null,
                _ => identity_in(resource.as_ref(), request.prior_identity.as_ref())?,
            };
            // All is known during apply, where a deferral is an error although the host says that it allows one.
            let own = || match config.is_wholly_known() {
                true => None,
                false => resource.deferral(&config),
            };
            if let Some(reason) = deferral(provider.as_ref(), request.client_capabilities.as_ref(), own) {
                let planned = planning::propose(schema, &config, &prior, &proposed);
                return Ok(plan_resource_change::Response {
                    planned_state: encode::refined(schema, &planned, &refinements)?,
                    planned_private: request.prior_private,
                    deferred: Some(encode::deferred(reason)),
                    ..Default::default()
                });
            }
            let subject = if proposed.is_null() { &prior } else { &proposed };
            let deadline = Deadline::after(resource.timeout("read", subject), stop);
            let is_create = prior.is_null();
            let response = lifecycle::plan(
                resource.as_ref(),
                PlanRequest {
                    config,
                    deadline,
                    prior,
                    proposed,
                    private: decode::private(&request.prior_private),
                    planned_private: decode::private(&request.planned_private),
                    meta: meta(provider.as_ref(), request.provider_meta.as_ref())?,
                },
                host(request.client_capabilities.as_ref()),
            )
            .await;
            let identity = match response.diagnostics.has_errors() {
                true => None,
                false => {
                    let is_new = is_create || !response.requires_replace.is_empty();
                    let (stored, maturity) = match is_new && !response.planned.is_null() {
                        true => (&Value::Null, Maturity::Planned),
                        false => (&stored, Maturity::Known),
                    };
                    identity_out(resource.as_ref(), &response.planned, stored, maturity)?
                }
            };
            let answer = plan_resource_change::Response {
                planned_state: encode::refined(schema, &response.planned, &refinements)?,
                requires_replace: response.requires_replace.iter().map(encode::path).collect(),
                planned_private: encode::private(&response.private),
                planned_identity: identity,
                ..Default::default()
            };
            Ok(answer.with(response.diagnostics))
        })
        .await
}

pub(super) async fn apply_resource_change(
    server: &Server,
    request: apply_resource_change::Request,
) -> Reply<apply_resource_change::Response> {
    let (provider, stop) = (server.provider(), server.stop_signal());
    let host = server.host(); // the request does not say
    let call = Call::of("ApplyResourceChange", &request.type_name);
    let checkpoint = Checkpoint::default();
    let otherwise = {
        let (provider, checkpoint) = (server.provider(), checkpoint.clone());
        let type_name = request.type_name.clone();
        move || rescued(provider.as_ref(), &type_name, &checkpoint)
    };
    server
        .answer_or(call, otherwise, async move {
            let resource = find(provider.as_ref(), &request.type_name)?;
            let schema = resource.schema();
            let prior = decode::value(schema, request.prior_state.as_ref())?;
            let planned = decode::value(schema, request.planned_state.as_ref())?;
            let stored = identity_in(resource.as_ref(), request.planned_identity.as_ref())?;
            let (operation, subject) = match (&prior, &planned) {
                (Value::Null, _) => ("create", &planned),
                (_, Value::Null) => ("delete", &prior),
                _ => ("update", &planned),
            };
            let deadline = Deadline::after(resource.timeout(operation, subject), stop);
            let response = lifecycle::apply(
                resource.as_ref(),
                ApplyRequest {
                    config: decode::value(schema, request.config.as_ref())?,
                    deadline,
                    prior,
                    planned,
                    private: decode::private(&request.planned_private),
                    meta: meta(provider.as_ref(), request.provider_meta.as_ref())?,
                    checkpoint,
                },
                host,
            )
            .await;
            let mut answer = applied(resource.as_ref(), &response.state, &response.private)?;
            let mut diagnostics = response.diagnostics;
            if !response.state.is_null() {
                match identity_out(resource.as_ref(), &response.state, &stored, Maturity::Known) {
                    Ok(identity) => answer.new_identity = identity,
                    // The object exists: its state is worth more than its identity.
                    Err(faults) if diagnostics.has_errors() => drop(faults),
                    Err(faults) => diagnostics.extend(faults),
                }
            }
            Ok(answer.with(diagnostics))
        })
        .await
}

fn applied(
    resource: &dyn Resource,
    state: &Value,
    private: &framework::resource::Private,
) -> Result<apply_resource_change::Response, Diagnostics> {
    Ok(apply_resource_change::Response {
        new_state: encode::value(resource.schema(), state)?,
        private: encode::private(private),
        ..Default::default()
    })
}

/// What an apply had saved that panicked, or whose answer could not be sent; empty if nothing, which keeps what is
/// stored. State is worth more than its identity, which is left out if it cannot be told.
fn rescued(
    provider: &dyn framework::Provider,
    type_name: &str,
    checkpoint: &Checkpoint,
) -> apply_resource_change::Response {
    let rescued = find(provider, type_name).ok().and_then(|resource| {
        let (state, private) = lifecycle::rescued(resource.as_ref(), checkpoint)?;
        let mut answer = applied(resource.as_ref(), &state, &private).ok()?;
        // The author's code once more, and nobody else catches its panics here.
        let identity = catch_unwind(AssertUnwindSafe(|| {
            identity_out(resource.as_ref(), &state, &Value::Null, Maturity::Known).ok()
        }));
        answer.new_identity = identity.ok().flatten().flatten();
        Some(answer)
    });
    rescued.unwrap_or_default()
}

pub(super) async fn import_resource_state(
    server: &Server,
    request: import_resource_state::Request,
) -> Reply<import_resource_state::Response> {
    let (provider, stop) = (server.provider(), server.stop_signal());
    let call = Call::of("ImportResourceState", &request.type_name);
    server
        .answer(call, async move {
            let resource = find(provider.as_ref(), &request.type_name)?;
            let schema = resource.schema();
            let wanted = identity_in(resource.as_ref(), request.identity.as_ref())?;
            if request.id.is_empty() && wanted.is_null() {
                return Err(no_id().into());
            }
            let own = || resource.deferral(&Value::Null);
            if let Some(reason) = deferral(provider.as_ref(), request.client_capabilities.as_ref(), own) {
                return deferred_import(schema, request.type_name, request.identity, reason);
            }
            let deadline = Deadline::after(resource.timeout("read", &Value::Null), stop);
            let response = match request.id.as_str() {
                "" => identity::import(resource.as_ref(), &wanted, deadline).await,
                id => lifecycle::import(resource.as_ref(), id, deadline).await,
            };
            let mut answer = import_resource_state::Response::default();
            if !response.state.is_null() {
                let identity = match wanted.is_null() {
                    // An import by ID knows of the object only what its ID says; the read that follows knows the rest.
                    true => {
                        identity_out(resource.as_ref(), &response.state, &Value::Null, Maturity::Known).ok()
                    }
                    false => Some(request.identity),
                };
                answer
                    .imported_resources
                    .push(import_resource_state::ImportedResource {
                        type_name: request.type_name,
                        state: encode::value(schema, &response.state)?,
                        private: encode::private(&response.private),
                        identity: identity.flatten(),
                    });
            }
            Ok(answer.with(response.diagnostics))
        })
        .await
}

fn deferred_import(
    schema: &Schema,
    type_name: String,
    identity: Option<ResourceIdentityData>,
    reason: Deferral,
) -> Result<import_resource_state::Response, Diagnostics> {
    Ok(import_resource_state::Response {
        imported_resources: vec![import_resource_state::ImportedResource {
            type_name,
            state: encode::refined(schema, &Value::Unknown, &Refinements::default())?,
            private: Vec::new(),
            identity,
        }],
        deferred: Some(encode::deferred(reason)),
        ..Default::default()
    })
}

fn no_id() -> Diagnostic {
    Diagnostic::error(
        "Import needs an ID",
        "This provider imports by ID, and none was given.",
        "Set `id` in the `import` block.",
    )
}

pub(super) async fn move_resource_state(
    server: &Server,
    request: move_resource_state::Request,
) -> Reply<move_resource_state::Response> {
    let provider = server.provider();
    let call = Call::of("MoveResourceState", &request.target_type_name);
    server
        .answer(call, async move {
            let resource = find(provider.as_ref(), &request.target_type_name)?;
            let identity = request
                .source_identity
                .as_ref()
                .filter(|raw| !raw.json.is_empty());
            let identity = match identity {
                Some(raw) => Some((
                    decode::stored_state(Some(raw))?,
                    request.source_identity_schema_version,
                )),
                None => None,
            };
            let source = Source {
                provider: &request.source_provider_address,
                type_name: &request.source_type_name,
                version: request.source_schema_version,
                state: decode::stored_state(request.source_state.as_ref())?,
                private: &request.source_private,
                identity,
            };
            let moved = movement::take_over(resource.as_ref(), &source)?;
            Ok(move_resource_state::Response {
                target_state: encode::value(resource.schema(), &moved.state)?,
                target_private: encode::private(&moved.private),
                target_identity: identity_out(
                    resource.as_ref(),
                    &moved.state,
                    &Value::Null,
                    Maturity::Known,
                )?,
                diagnostics: Vec::new(),
            })
        })
        .await
}

pub(super) async fn generate_resource_config(
    server: &Server,
    request: generate_resource_config::Request,
) -> Reply<generate_resource_config::Response> {
    let provider = server.provider();
    let call = Call::of("GenerateResourceConfig", &request.type_name);
    server
        .answer(call, async move {
            let resource = find(provider.as_ref(), &request.type_name)?;
            let state = decode::value(resource.schema(), request.state.as_ref())?;
            let config = match state {
                Value::Null => resource.schema().nothing(),
                state => resource.generate_config(&state),
            };
            Ok(generate_resource_config::Response {
                config: encode::value(resource.schema(), &config)?,
                ..Default::default()
            })
        })
        .await
}
