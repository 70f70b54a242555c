//! Ephemeral resources: values that exist while a run needs them, and are stored nowhere.
//!
//! A life is open, any number of renews, close. Terraform opens in a plan and again in an apply, never while the
//! configuration is unknown, and closes once per open, also after failures.
//!
//! **Close gets the private data of open**, not of the last renew: what close needs is decided by then, or is looked
//! up. Renew gets the private data of the latest open or renew.

use std::time::Duration;

use async_trait::async_trait;

use super::contract;
use super::deferral::Deferral;
use super::diagnostic::Diagnostics;
use super::lifecycle::{Operation, in_time};
use super::resource::{Deadline, Private};
use super::schema::Schema;
use super::validate;
use super::value::Value;

/// The least time between two renewals. A renewal that is due at once is due again at once, and Terraform would do
/// nothing else.
pub const SOONEST_RENEWAL: Duration = Duration::from_secs(1);

/// An ephemeral resource.
#[async_trait]
pub trait Ephemeral: Send + Sync + 'static {
    /// The full type name.
    fn type_name(&self) -> &'static str;

    /// Its schema; the same at every call. Nothing in it is write-only: nothing of it is stored.
    fn schema(&self) -> &Schema;

    /// Judges the configuration beyond the validators of the schema. Anything in it may be unknown.
    async fn validate(&self, config: &Value) -> Diagnostics {
        let _ = config;
        Diagnostics::new()
    }

    /// Whether opening is put off, for this configuration; asked only where the host allows it.
    fn deferral(&self, config: &Value) -> Option<Deferral> {
        let _ = config;
        None
    }

    /// Makes the values. The configuration is wholly known, and so must the result be.
    async fn open(&self, request: OpenRequest) -> OpenResponse;

    /// Keeps the values alive; called as often as [`OpenResponse::renew_after`] asks for it.
    async fn renew(&self, request: RenewRequest) -> RenewResponse {
        RenewResponse {
            renew_after: None,
            private: request.private,
            diagnostics: Diagnostics::new(),
        }
    }

    /// Ends the values. Must succeed if they have ended already, and be fast.
    async fn close(&self, request: CloseRequest) -> Diagnostics {
        let _ = request;
        Diagnostics::new()
    }

    /// How long each of open, renew and close may take.
    fn timeout(&self) -> Duration {
        Duration::from_secs(5 * 60)
    }
}

/// See [`Ephemeral::open`].
#[derive(Debug)]
pub struct OpenRequest {
    /// Wholly known.
    pub config: Value,
    /// Until when.
    pub deadline: Deadline,
}

/// See [`Ephemeral::open`].
#[derive(Debug)]
pub struct OpenResponse {
    /// The configuration with its computed values filled in; null with an error.
    pub result: Value,
    /// When [`Ephemeral::renew`] is due, from now; `None` if never. Sooner than [`SOONEST_RENEWAL`] counts as that.
    pub renew_after: Option<Duration>,
    /// Handed to renew and to close.
    pub private: Private,
    /// What to tell.
    pub diagnostics: Diagnostics,
}

/// See [`Ephemeral::renew`].
#[derive(Debug)]
pub struct RenewRequest {
    /// What the latest open or renew kept.
    pub private: Private,
    /// Until when.
    pub deadline: Deadline,
}

/// See [`Ephemeral::renew`].
#[derive(Debug)]
pub struct RenewResponse {
    /// When the next one is due, from now; `None` if never. Sooner than [`SOONEST_RENEWAL`] counts as that.
    pub renew_after: Option<Duration>,
    /// Handed to the next renew, not to close.
    pub private: Private,
    /// What to tell; an error ends renewing, and shows when Terraform closes.
    pub diagnostics: Diagnostics,
}

/// See [`Ephemeral::close`].
#[derive(Debug)]
pub struct CloseRequest {
    /// What open kept.
    pub private: Private,
    /// Until when.
    pub deadline: Deadline,
}

/// Judges a configuration.
pub async fn validate(ephemeral: &dyn Ephemeral, config: &Value) -> Diagnostics {
    let own = ephemeral.validate(config).await;
    validate::with_own(ephemeral.schema(), config, own)
}

/// Opens, and lets no result out that Terraform would refuse, or take and stumble over later.
pub async fn open(ephemeral: &dyn Ephemeral, request: OpenRequest) -> OpenResponse {
    let schema = ephemeral.schema();
    let (config, deadline) = (request.config.clone(), request.deadline.clone());
    let mut response = match in_time(&deadline, Operation::act("open"), ephemeral.open(request)).await {
        Ok(response) => response,
        Err(overrun) => failed(overrun.into()),
    };
    if response.diagnostics.has_errors() {
        response.result = Value::Null;
        return response;
    }
    response
        .diagnostics
        .extend(contract::check_open(schema, &config, &response.result));
    response.renew_after = response.renew_after.map(|after| after.max(SOONEST_RENEWAL));
    if response.diagnostics.has_errors() {
        // It is open: Terraform will not close what it never got.
        let private = std::mem::take(&mut response.private);
        let closed = close(ephemeral, CloseRequest { private, deadline }).await;
        response.diagnostics.extend(closed);
        response.result = Value::Null;
        response.renew_after = None;
    }
    response
}

fn failed(diagnostics: Diagnostics) -> OpenResponse {
    OpenResponse {
        result: Value::Null,
        renew_after: None,
        private: Private::new(),
        diagnostics,
    }
}

/// Renews.
pub async fn renew(ephemeral: &dyn Ephemeral, request: RenewRequest) -> RenewResponse {
    let (private, deadline) = (request.private.clone(), request.deadline.clone());
    let mut response = match in_time(&deadline, Operation::act("renewal"), ephemeral.renew(request)).await {
        Ok(response) => response,
        Err(overrun) => RenewResponse {
            renew_after: None,
            private,
            diagnostics: overrun.into(),
        },
    };
    response.renew_after = match response.diagnostics.has_errors() {
        true => None,
        false => response.renew_after.map(|after| after.max(SOONEST_RENEWAL)),
    };
    response
}

/// Closes.
pub async fn close(ephemeral: &dyn Ephemeral, request: CloseRequest) -> Diagnostics {
    let deadline = request.deadline.clone();
    match in_time(&deadline, Operation::act("close"), ephemeral.close(request)).await {
        Ok(diagnostics) => diagnostics,
        Err(overrun) => overrun.into(),
    }
}
