//! Actions: do something that leaves no state.
//!
//! A configuration triggers an action before or after a change. Planning it may refuse; invoking it reports progress
//! while it runs, and how it ended.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::diagnostic::Diagnostics;
use super::lifecycle::{Operation, in_time};
use super::resource::Deadline;
use super::schema::Schema;
use super::validate;
use super::value::Value;

/// An action.
#[async_trait]
pub trait Action: Send + Sync + 'static {
    /// The full type name.
    fn type_name(&self) -> &'static str;

    /// The schema of its configuration, which is all arguments; the same at every call.
    fn schema(&self) -> &Schema;

    /// Judges the configuration beyond the validators of the schema. Anything in it may be unknown.
    async fn validate(&self, config: &Value) -> Diagnostics {
        let _ = config;
        Diagnostics::new()
    }

    /// Says in a plan what keeps it from being invoked later. Must do nothing; anything may be unknown.
    async fn plan(&self, config: &Value, deadline: Deadline) -> Diagnostics {
        let _ = (config, deadline);
        Diagnostics::new()
    }

    /// Does it. The configuration is wholly known.
    async fn invoke(&self, config: Value, progress: Progress, deadline: Deadline) -> Diagnostics;

    /// How long it may take.
    fn timeout(&self) -> Duration {
        Duration::from_secs(20 * 60)
    }
}

/// Tells the practitioner how an action goes on.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(String) + Send + Sync>);

impl Progress {
    /// Progress whose sentences go to `show`.
    pub fn new(show: impl Fn(String) + Send + Sync + 'static) -> Self {
        Self(Arc::new(show))
    }

    /// Shows one sentence. Does nothing once the action is over, or the host has hung up.
    pub fn report(&self, sentence: impl Into<String>) {
        (self.0)(sentence.into());
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

/// Judges a configuration.
pub async fn validate(action: &dyn Action, config: &Value) -> Diagnostics {
    let own = action.validate(config).await;
    validate::with_own(action.schema(), config, own)
}

/// Plans it.
pub async fn plan(action: &dyn Action, config: &Value, deadline: Deadline) -> Diagnostics {
    match in_time(
        &deadline.clone(),
        Operation::look("plan"),
        action.plan(config, deadline),
    )
    .await
    {
        Ok(diagnostics) => diagnostics,
        Err(overrun) => overrun.into(),
    }
}

/// Invokes it.
pub async fn invoke(
    action: &dyn Action,
    config: Value,
    progress: Progress,
    deadline: Deadline,
) -> Diagnostics {
    let work = action.invoke(config, progress, deadline.clone());
    match in_time(&deadline, Operation::act("action"), work).await {
        Ok(diagnostics) => diagnostics,
        Err(overrun) => overrun.into(),
    }
}
