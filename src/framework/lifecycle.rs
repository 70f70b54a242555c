//! Runs the steps of a resource's life, and lets nothing out that Terraform would refuse or lose.
//!
//! Each function asks the resource and then guards its answer:
//!
//! - what breaks a rule of [`super::contract`] becomes a diagnostic that says which attribute broke which rule;
//! - what is returned beside an error can still be stored: unknown leftovers become null;
//! - who sleeps through the deadline is abandoned, thirty seconds late;
//! - who was told to stop and goes on is abandoned after five seconds. An apply is so only once it has saved a
//!   [`Checkpoint`], which is then the answer.
//!
//! What an empty answer means beside an error is Terraform's rule: after a failed update or delete it keeps the prior
//! state and private data, after a failed create it stores nothing.

use std::future::Future;
use std::time::Duration;

use super::contract;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::path::AttributePath;
use super::planning;
use super::resource::{
    ApplyRequest, ApplyResponse, Checkpoint, DataSource, Deadline, ImportResponse, PlanRequest, PlanResponse,
    Private, Provider, ReadDataRequest, ReadDataResponse, ReadRequest, ReadResponse, Resource,
};
use super::schema::Schema;
use super::validate;
use super::value::Value;

/// How long past its deadline an operation is waited for. It has then ignored the deadline; what it would still report
/// is lost, but Terraform is not kept waiting for ever.
const GRACE: Duration = Duration::from_secs(30);

/// How long an operation may go on once it was told to stop. The practitioner is waiting, and a second Ctrl-C loses
/// everything.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// An operation, and what is left behind where it is abandoned.
#[derive(Clone, Copy)]
pub(super) struct Operation {
    name: &'static str,
    left: &'static str,
}

impl Operation {
    /// One that changes nothing in the world.
    pub(super) const fn look(name: &'static str) -> Self {
        Self {
            name,
            left: "It only looks: nothing was changed, and what is stored is what was stored before.",
        }
    }

    /// One that changes something of which Terraform keeps no state.
    pub(super) const fn act(name: &'static str) -> Self {
        Self {
            name,
            left: "What it did until then stays done.",
        }
    }

    const APPLY: Self = Self {
        name: "apply",
        left: "What it had saved until then is stored; without that, what was stored before. What it changed since is not \
               in the state.",
    };
}

/// What the host can do, where an answer depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// It knows blocks that the provider writes: Terraform since 1.16.
    pub computed_blocks: bool,
}

impl Host {
    fn adapt(self, schema: &Schema, value: &mut Value) {
        if !self.computed_blocks {
            planning::drop_computed_blocks(schema, value);
        }
    }
}

/// Judges a provider block.
pub async fn validate_provider(provider: &dyn Provider, config: &Value) -> Diagnostics {
    let own = provider.validate(config).await;
    validate::with_own(provider.schema(), config, own)
}

/// Judges a resource's configuration. Write-only attributes are an error if Terraform does not know of them.
pub async fn validate(resource: &dyn Resource, config: &Value, write_only_allowed: bool) -> Diagnostics {
    let mut own = Diagnostics::new();
    if !write_only_allowed {
        own.extend(validate::write_only_unsupported(resource.schema(), config));
    }
    own.extend(resource.validate(config).await);
    validate::with_own(resource.schema(), config, own)
}

/// Judges a data source's configuration.
pub async fn validate_data(source: &dyn DataSource, config: &Value) -> Diagnostics {
    let own = source.validate(config).await;
    validate::with_own(source.schema(), config, own)
}

/// Turns stored state, as JSON of schema version `version`, into a value of today's schema, and shows it to the
/// resource.
///
/// # Errors
/// If the state cannot be read, or the resource has no upgrade for it.
pub fn upgrade(resource: &dyn Resource, version: i64, json: &str) -> Result<Value, Diagnostics> {
    let schema = resource.schema();
    if version > schema.version {
        return Err(newer(resource, "state", version, schema.version));
    }
    let mut state = if version == schema.version {
        Value::from_json(&schema.ty(), json).map_err(|error| unreadable(resource, &error.to_string()))?
    } else {
        resource.upgrade(version, json)?
    };
    planning::settle(schema, &mut state);
    let faults = contract::check_upgrade(schema, &state);
    if faults.has_errors() {
        return Err(faults);
    }
    resource.remember(&state);
    Ok(state)
}

/// What is stored was written by a newer version of the provider.
pub(super) fn newer(resource: &dyn Resource, what: &str, version: i64, known: i64) -> Diagnostics {
    Diagnostic::error(
        "Stored by a newer version of the provider",
        format!(
            "The stored {what} of a {} is of version {version}; this provider knows versions up to {known}.",
            resource.type_name()
        ),
        "Use the provider version that wrote it, or a newer one.",
    )
    .into()
}

fn unreadable(resource: &dyn Resource, why: &str) -> Diagnostic {
    Diagnostic::error(
        "Stored state is not readable",
        format!(
            "The stored state of a {} does not fit its schema: {why}.",
            resource.type_name()
        ),
        "Restore the state from a backup, or remove the resource from it and import it again.",
    )
}

/// What is there now. Beside an error the stored state and its private data stay as they were.
pub async fn read(resource: &dyn Resource, request: ReadRequest, host: Host) -> ReadResponse {
    let schema = resource.schema();
    let (stored, private, deadline) = (
        request.state.clone(),
        request.private.clone(),
        request.deadline.clone(),
    );
    let mut response = match in_time(&deadline, Operation::look("read"), resource.read(request)).await {
        Ok(response) => response,
        Err(overrun) => ReadResponse {
            state: Value::Null,
            private: private.clone(),
            diagnostics: overrun.into(),
        },
    };
    planning::settle(schema, &mut response.state);
    host.adapt(schema, &mut response.state);
    planning::keep_spelling(schema, &stored, &mut response.state);
    if !response.diagnostics.has_errors() {
        response
            .diagnostics
            .extend(contract::check_read(schema, &response.state));
    }
    if response.diagnostics.has_errors() {
        response.state = stored;
        response.private = private;
    }
    response
}

/// The planned state. `request.proposed` is what Terraform proposes; the resource sees it after [`planning`].
pub async fn plan(resource: &dyn Resource, mut request: PlanRequest, host: Host) -> PlanResponse {
    let schema = resource.schema();
    request.proposed = planning::propose(schema, &request.config, &request.prior, &request.proposed);
    host.adapt(schema, &mut request.proposed);
    let (config, prior, deadline) = (
        request.config.clone(),
        request.prior.clone(),
        request.deadline.clone(),
    );
    let mut response = match in_time(&deadline, Operation::look("plan"), resource.plan(request)).await {
        Ok(response) => response,
        Err(overrun) => return failed_plan(overrun.into()),
    };
    if response.diagnostics.has_errors() {
        return failed_plan(response.diagnostics);
    }
    planning::settle(schema, &mut response.planned);
    host.adapt(schema, &mut response.planned);
    response
        .diagnostics
        .extend(contract::check_plan(schema, &config, &prior, &response.planned));
    response.diagnostics.extend(contract::check_replacements(
        &prior,
        &response.planned,
        &response.requires_replace,
    ));
    if response.diagnostics.has_errors() {
        return failed_plan(response.diagnostics);
    }
    response.requires_replace = all_replacements(schema, &prior, &response);
    for (path, reason) in planning::reasons(schema, &response.requires_replace) {
        tracing::info!(tf_attribute_path = %path, tf_replace_reason = reason, "planned a replacement");
    }
    response
}

fn failed_plan(diagnostics: Diagnostics) -> PlanResponse {
    PlanResponse {
        planned: Value::Null,
        requires_replace: Vec::new(),
        private: Default::default(),
        diagnostics,
    }
}

fn all_replacements(schema: &Schema, prior: &Value, response: &PlanResponse) -> Vec<AttributePath> {
    if prior.is_null() || response.planned.is_null() {
        return Vec::new();
    }
    let mut paths = planning::replacements(schema, prior, &response.planned);
    paths.extend(response.requires_replace.iter().cloned());
    paths.sort();
    paths.dedup();
    paths
}

/// Makes the plan true. The state that comes back can always be stored, whatever the resource returned.
pub async fn apply(resource: &dyn Resource, request: ApplyRequest, host: Host) -> ApplyResponse {
    let schema = resource.schema();
    let (planned, deadline) = (request.planned.clone(), request.deadline.clone());
    let checkpoint = request.checkpoint.clone();
    let work = by_deadline(&deadline, Operation::APPLY, resource.apply(request));
    let answer = tokio::select! {
        answer = work => answer,
        () = stopped_and_saved(&deadline, &checkpoint) => Err(stopped_late(Operation::APPLY)),
    };
    let mut response = match answer {
        Ok(response) => {
            if !response.state.is_null() {
                // Whatever goes wrong with the answer from here on, the object is not lost.
                checkpoint.save(response.state.clone(), response.private.clone());
            }
            response
        }
        Err(overrun) => {
            let (state, private) = checkpoint.saved().unwrap_or_default();
            ApplyResponse {
                state,
                private,
                diagnostics: overrun.into(),
            }
        }
    };
    planning::settle(schema, &mut response.state);
    host.adapt(schema, &mut response.state);
    planning::keep_spelling(schema, &planned, &mut response.state);
    if !response.diagnostics.has_errors() {
        response
            .diagnostics
            .extend(contract::check_apply(schema, &planned, &response.state));
    }
    response.state = contract::repair(schema, &response.state);
    response
}

/// What an apply had saved that panicked, or whose answer could not be sent, as it can be stored.
pub fn rescued(resource: &dyn Resource, checkpoint: &Checkpoint) -> Option<(Value, Private)> {
    let (state, private) = checkpoint.saved()?;
    Some((contract::repair(resource.schema(), &state), private))
}

/// Returns when the apply was told to stop, has had its time since, and has saved a state that can be answered with.
/// Without one it is waited for: an answer without a state would lose what it made.
async fn stopped_and_saved(deadline: &Deadline, checkpoint: &Checkpoint) {
    stopped_long_ago(deadline).await;
    if checkpoint.saved().is_none() {
        std::future::pending::<()>().await;
    }
}

async fn stopped_long_ago(deadline: &Deadline) {
    deadline.stop.cancelled().await;
    tokio::time::sleep(STOP_PATIENCE).await;
}

fn stopped_late(Operation { name, left }: Operation) -> Diagnostic {
    Diagnostic::error(
        "Stopped before it was done",
        format!(
            "The {name} did not end within {} seconds of being told to stop, and was abandoned. {left}",
            STOP_PATIENCE.as_secs()
        ),
        "Run the same command again: it goes on from what is there.",
    )
}

/// Finds an existing object by its ID.
pub async fn import(resource: &dyn Resource, id: &str, deadline: Deadline) -> ImportResponse {
    imported(resource, &deadline.clone(), resource.import(id, deadline)).await
}

/// What `work` found, if it can be stored.
pub(super) async fn imported(
    resource: &dyn Resource,
    deadline: &Deadline,
    work: impl Future<Output = ImportResponse>,
) -> ImportResponse {
    let schema = resource.schema();
    let mut response = match in_time(deadline, Operation::look("import"), work).await {
        Ok(response) => response,
        Err(overrun) => ImportResponse {
            state: Value::Null,
            private: Default::default(),
            diagnostics: overrun.into(),
        },
    };
    planning::settle(schema, &mut response.state);
    if !response.diagnostics.has_errors() {
        response
            .diagnostics
            .extend(contract::check_import(schema, &response.state));
    }
    if response.diagnostics.has_errors() {
        response.state = Value::Null;
    }
    response
}

/// Reads a data source.
pub async fn read_data(source: &dyn DataSource, request: ReadDataRequest, host: Host) -> ReadDataResponse {
    let deadline = request.deadline.clone();
    let mut response = match in_time(&deadline, Operation::look("read"), source.read(request)).await {
        Ok(response) => response,
        Err(overrun) => ReadDataResponse {
            state: Value::Null,
            diagnostics: overrun.into(),
        },
    };
    planning::settle(source.schema(), &mut response.state);
    host.adapt(source.schema(), &mut response.state);
    if !response.diagnostics.has_errors() {
        response
            .diagnostics
            .extend(contract::check_data(source.schema(), &response.state));
    }
    if response.diagnostics.has_errors() {
        response.state = Value::Null;
    }
    response
}

/// The answer, unless it is more than [`GRACE`] late, or takes longer than [`STOP_PATIENCE`] once it was told to stop.
pub(super) async fn in_time<T>(
    deadline: &Deadline,
    operation: Operation,
    work: impl Future<Output = T>,
) -> Result<T, Diagnostic> {
    tokio::select! {
        answer = by_deadline(deadline, operation, work) => answer,
        () = stopped_long_ago(deadline) => Err(stopped_late(operation)),
    }
}

async fn by_deadline<T>(
    deadline: &Deadline,
    Operation { name, left }: Operation,
    work: impl Future<Output = T>,
) -> Result<T, Diagnostic> {
    match tokio::time::timeout_at(deadline.until + GRACE, work).await {
        Ok(answer) => Ok(answer),
        Err(_elapsed) => Err(Diagnostic::bug(format!(
            "The {name} did not end by its deadline, nor {} seconds later, and was abandoned. {left}",
            GRACE.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests;
