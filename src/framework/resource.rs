//! What a provider author implements.
//!
//! Requests hold values of the resource's schema, always as objects ([`Value::Map`]) with every attribute present,
//! or [`Value::Null`] where Terraform means absence. Responses hold state *and* diagnostics, never one or the other:
//! a failed apply returns what is true.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::action::Action;
use super::deferral::Deferral;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::ephemeral::Ephemeral;
use super::function::Function;
use super::identity::Identity;
use super::list::List;
use super::movement::Mover;
use super::path::AttributePath;
use super::schema::Schema;
use super::value::Value;

/// Fires when Terraform asks to stop (Ctrl-C). Waits must end within five seconds of it and return what is true.
pub type StopSignal = CancellationToken;

/// Until when an operation may run, and the signal that ends it earlier.
#[derive(Clone, Debug)]
pub struct Deadline {
    /// The moment to give up.
    pub until: Instant,
    /// Fires when Terraform asks to stop.
    pub stop: StopSignal,
}

impl Deadline {
    /// A deadline this far from now.
    pub fn after(duration: Duration, stop: StopSignal) -> Self {
        Self {
            until: from_now(duration),
            stop,
        }
    }
}

/// A configuration may ask for a million years; the clock cannot hold them.
fn from_now(duration: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    Instant::now() + duration.min(FAR)
}

/// The root of a provider: its settings and what it offers.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// The schema of the provider block.
    fn schema(&self) -> &Schema;

    /// The schema of the `provider_meta` block, in which a module says something about itself: who wrote it, say. Without,
    /// such a block is refused.
    fn meta_schema(&self) -> Option<&Schema> {
        None
    }

    /// The managed resources.
    fn resources(&self) -> &[Arc<dyn Resource>];

    /// The data sources.
    fn data_sources(&self) -> &[Arc<dyn DataSource>] {
        &[]
    }

    /// The functions.
    fn functions(&self) -> &[Arc<dyn Function>] {
        &[]
    }

    /// The ephemeral resources.
    fn ephemeral_resources(&self) -> &[Arc<dyn Ephemeral>] {
        &[]
    }

    /// The list resources, each for a managed resource of the same name that has an identity.
    fn list_resources(&self) -> &[Arc<dyn List>] {
        &[]
    }

    /// The actions.
    fn actions(&self) -> &[Arc<dyn Action>] {
        &[]
    }

    /// Where bugs of the provider are reported: an address that every diagnostic about one ends with.
    fn issues(&self) -> &'static str {
        ""
    }

    /// Whether everything is put off, because of what is unknown in the provider block; asked only where the host
    /// allows it.
    fn deferral(&self) -> Option<Deferral> {
        None
    }

    /// Judges the provider block beyond the validators of its schema. Anything in it may be unknown.
    async fn validate(&self, config: &Value) -> Diagnostics {
        let _ = config;
        Diagnostics::new()
    }

    /// Takes the settings. Must not connect to anything, must not fail on unknown values; may be called again in
    /// the same process and then replaces the settings as a whole.
    async fn configure(&self, config: Value, terraform_version: &str) -> Diagnostics;
}

/// A managed resource.
#[async_trait]
pub trait Resource: Send + Sync + 'static {
    /// The full type name, for example `notes_note`.
    fn type_name(&self) -> &'static str;

    /// Its schema; the same at every call.
    fn schema(&self) -> &Schema;

    /// Judges the configuration beyond the validators of the schema. Anything in it may be unknown.
    async fn validate(&self, config: &Value) -> Diagnostics {
        let _ = config;
        Diagnostics::new()
    }

    /// Turns state of an older schema version, as JSON, into a value of today's schema.
    ///
    /// # Errors
    /// If there is no upgrade from `version`, or the JSON is not what that version wrote.
    fn upgrade(&self, version: i64, json: &str) -> Result<Value, Diagnostics> {
        let _ = json;
        Err(Diagnostics::from(Diagnostic::error(
            "State is of an unknown version",
            format!(
                "The state of {} was written with schema version {version}.",
                self.type_name()
            ),
            "Use the provider version that wrote it, or a newer one.",
        )))
    }

    /// Sees every stored state of this type before anything else happens with it in this process.
    fn remember(&self, state: &Value) {
        let _ = state;
    }

    /// Reports what is there now.
    async fn read(&self, request: ReadRequest) -> ReadResponse;

    /// Decides the planned state. `proposed` has been through [`super::planning`]; the answer goes through
    /// [`super::contract`]. Must be a function of the request alone: Terraform plans again during apply.
    async fn plan(&self, request: PlanRequest) -> PlanResponse;

    /// Makes the planned state true, and returns what is true afterwards.
    async fn apply(&self, request: ApplyRequest) -> ApplyResponse;

    /// Finds an existing object by its ID; read follows.
    async fn import(&self, id: &str, deadline: Deadline) -> ImportResponse;

    /// What tells one object of this type from all others, for hosts that keep it beside the state.
    fn identity(&self) -> Option<&dyn Identity> {
        None
    }

    /// What takes over state of other resource types. Without, `moved` blocks across types are refused.
    fn mover(&self) -> Option<&dyn Mover> {
        None
    }

    /// Whether planning is put off, for this configuration, or reading, for this state; asked only where the host allows
    /// it, and about a plan only while something in the configuration is unknown: see [`super::deferral`]. An import asks
    /// with null.
    fn deferral(&self, value: &Value) -> Option<Deferral> {
        let _ = value;
        None
    }

    /// The configuration that an object with this state would have been made with.
    fn generate_config(&self, state: &Value) -> Value {
        super::planning::configuration_of(self.schema(), state)
    }

    /// How long `operation` (`create`, `read`, `update`, `delete`) may take for this configuration or state. A plan is
    /// a `read` of the planned state, an import one of null; anything in the value may be unknown.
    fn timeout(&self, operation: &str, value: &Value) -> Duration {
        let _ = (operation, value);
        Duration::from_secs(20 * 60)
    }
}

/// A data source.
#[async_trait]
pub trait DataSource: Send + Sync + 'static {
    /// The full type name.
    fn type_name(&self) -> &'static str;

    /// Its schema; the same at every call.
    fn schema(&self) -> &Schema;

    /// Judges the configuration beyond the validators of the schema.
    async fn validate(&self, config: &Value) -> Diagnostics {
        let _ = config;
        Diagnostics::new()
    }

    /// Whether reading is put off, for this configuration; asked only where the host allows it.
    fn deferral(&self, config: &Value) -> Option<Deferral> {
        let _ = config;
        None
    }

    /// Reads it.
    async fn read(&self, request: ReadDataRequest) -> ReadDataResponse;

    /// How long a read may take for this configuration.
    fn timeout(&self, config: &Value) -> Duration {
        let _ = config;
        Duration::from_secs(5 * 60)
    }
}

/// Private data: bytes a resource keeps beside its state, invisible to the practitioner. Keys are the author's.
pub type Private = BTreeMap<String, serde_json::Value>;

/// See [`Resource::read`].
#[derive(Debug)]
pub struct ReadRequest {
    /// The stored state, never null.
    pub state: Value,
    /// What the last read or apply kept.
    pub private: Private,
    /// What the module says to the provider in its `provider_meta` block; null without one.
    pub meta: Value,
    /// Until when.
    pub deadline: Deadline,
}

/// See [`Resource::read`].
#[derive(Debug)]
pub struct ReadResponse {
    /// What is there; null if it is gone. On an error the stored state stays.
    pub state: Value,
    /// Replaces what was kept.
    pub private: Private,
    /// What to tell.
    pub diagnostics: Diagnostics,
}

impl ReadRequest {
    /// The answer with what is there now, or with why it could not be seen and what was stored. Nothing is kept.
    pub fn answer(self, now: Result<Value, Diagnostics>) -> ReadResponse {
        let (state, diagnostics) = match now {
            Ok(state) => (state, Diagnostics::new()),
            Err(diagnostics) => (self.state, diagnostics),
        };
        ReadResponse {
            state,
            private: Private::new(),
            diagnostics,
        }
    }

    /// The answer that nothing changed.
    pub fn unchanged(self) -> ReadResponse {
        ReadResponse {
            state: self.state,
            private: self.private,
            diagnostics: Diagnostics::new(),
        }
    }
}

/// See [`Resource::plan`].
#[derive(Debug)]
pub struct PlanRequest {
    /// The configuration; null when the resource is to be destroyed.
    pub config: Value,
    /// The state as read; null on create.
    pub prior: Value,
    /// The planned state so far: defaults filled, computed values of a change unknown; null on destroy.
    pub proposed: Value,
    /// What the last read or apply kept; on the create leg of a replacement, what the first plan call kept.
    pub private: Private,
    /// In the plan that a newer Terraform (1.16) asks for once more during apply: what the first plan kept. Else empty.
    pub planned_private: Private,
    /// What the module says to the provider in its `provider_meta` block; null without one.
    pub meta: Value,
    /// Until when.
    pub deadline: Deadline,
}

impl PlanRequest {
    /// Whether nothing is there yet.
    pub fn is_create(&self) -> bool {
        self.prior.is_null()
    }

    /// Whether it is to go.
    pub fn is_destroy(&self) -> bool {
        self.proposed.is_null()
    }

    /// The answer that there can be no such plan.
    pub fn refused(self, diagnostic: Diagnostic) -> PlanResponse {
        PlanResponse {
            planned: self.prior,
            requires_replace: Vec::new(),
            private: self.private,
            diagnostics: Diagnostics::from(diagnostic),
        }
    }

    /// The answer that what is proposed is planned.
    pub fn as_proposed(self) -> PlanResponse {
        PlanResponse {
            planned: self.proposed,
            requires_replace: Vec::new(),
            private: self.private,
            diagnostics: Diagnostics::new(),
        }
    }
}

/// See [`Resource::plan`].
#[derive(Debug)]
pub struct PlanResponse {
    /// The planned state; null on destroy.
    pub planned: Value,
    /// Attributes whose change replaces the resource, in addition to those of the schema.
    pub requires_replace: Vec<AttributePath>,
    /// Comes back in [`ApplyRequest::private`].
    pub private: Private,
    /// What to tell.
    pub diagnostics: Diagnostics,
}

/// See [`Resource::apply`]. `prior` null: create; `planned` null: delete.
#[derive(Debug)]
pub struct ApplyRequest {
    /// The configuration, wholly known; null on delete.
    pub config: Value,
    /// The state before; null on create.
    pub prior: Value,
    /// What was planned; null on delete.
    pub planned: Value,
    /// What the plan kept.
    pub private: Private,
    /// What the module says to the provider in its `provider_meta` block; null without one.
    pub meta: Value,
    /// For what exists already, should this apply not live to answer.
    pub checkpoint: Checkpoint,
    /// Until when.
    pub deadline: Deadline,
}

impl ApplyRequest {
    /// Whether nothing was there before.
    pub fn is_create(&self) -> bool {
        self.prior.is_null()
    }

    /// Whether it is to go.
    pub fn is_destroy(&self) -> bool {
        self.planned.is_null()
    }
}

/// The state so far of an apply that is still at work.
///
/// A resource that has made something saves it here at once. If the apply then panics, sleeps through its deadline, or
/// does not end when it is told to, what was saved last is stored, and nothing that exists is lost.
#[derive(Clone, Default)]
pub struct Checkpoint(Arc<Mutex<Option<(Value, Private)>>>);

impl Checkpoint {
    /// Replaces what was saved. Unknown parts are stored as null.
    pub fn save(&self, state: Value, private: Private) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((state, private));
    }

    /// What was saved last.
    pub fn saved(&self) -> Option<(Value, Private)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Shows no value.
impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint").finish_non_exhaustive()
    }
}

/// See [`Resource::apply`].
#[derive(Debug)]
pub struct ApplyResponse {
    /// What is true now; null if nothing is there. With an error on create, an object here is stored as tainted.
    pub state: Value,
    /// Stored beside it.
    pub private: Private,
    /// What to tell.
    pub diagnostics: Diagnostics,
}

/// See [`Resource::import`].
#[derive(Debug)]
pub struct ImportResponse {
    /// Enough for a read to follow; null with an error.
    pub state: Value,
    /// Handed to that read.
    pub private: Private,
    /// What to tell.
    pub diagnostics: Diagnostics,
}

impl ImportResponse {
    /// The answer that `attribute` is the ID and the read that follows finds the rest, or says that there is nothing. For
    /// resources whose read needs no more.
    pub fn by_id(schema: &Schema, attribute: &str, id: &str) -> Self {
        let mut state = schema.nothing();
        state.set(attribute, id);
        Self::from(Ok(state))
    }
}

/// The object that was found, or why there is none; nothing is handed to the read.
impl From<Result<Value, Diagnostic>> for ImportResponse {
    fn from(found: Result<Value, Diagnostic>) -> Self {
        let (state, diagnostics) = match found {
            Ok(state) => (state, Diagnostics::new()),
            Err(diagnostic) => (Value::Null, Diagnostics::from(diagnostic)),
        };
        Self {
            state,
            private: Private::new(),
            diagnostics,
        }
    }
}

/// See [`DataSource::read`].
#[derive(Debug)]
pub struct ReadDataRequest {
    /// The configuration, wholly known.
    pub config: Value,
    /// What the module says to the provider in its `provider_meta` block; null without one.
    pub meta: Value,
    /// Until when.
    pub deadline: Deadline,
}

/// See [`DataSource::read`].
#[derive(Debug)]
pub struct ReadDataResponse {
    /// The values; never null without an error.
    pub state: Value,
    /// What to tell.
    pub diagnostics: Diagnostics,
}
