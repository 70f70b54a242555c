//! List resources: find what exists, one by one.
//!
//! `terraform query` asks, and stops asking at its limit. What is found is told apart by its identity, so a list
//! resource needs a managed resource of the same name that has one.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::contract;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::identity::Maturity;
use super::lifecycle::{Operation, in_time};
use super::planning;
use super::resource::{Deadline, Resource};
use super::schema::Schema;
use super::validate;
use super::value::Value;

/// A list resource.
#[async_trait]
pub trait List: Send + Sync + 'static {
    /// The full type name; that of the managed resource whose objects it finds.
    fn type_name(&self) -> &'static str;

    /// The schema of its configuration, which is all arguments; the same at every call.
    fn schema(&self) -> &Schema;

    /// Judges the configuration beyond the validators of the schema. Anything in it may be unknown.
    async fn validate(&self, config: &Value) -> Diagnostics {
        let _ = config;
        Diagnostics::new()
    }

    /// Finds objects and hands each to `found`, until there are no more or [`Found::send`] says that nobody wants more.
    async fn list(&self, request: ListRequest, found: Found) -> Diagnostics;

    /// How long a list may take.
    fn timeout(&self) -> Duration {
        Duration::from_secs(20 * 60)
    }
}

/// See [`List::list`].
#[derive(Debug)]
pub struct ListRequest {
    /// What to look for.
    pub config: Value,
    /// Whether [`Listed::resource`] is wanted; without, it need not be fetched.
    pub include_resource: bool,
    /// Until when.
    pub deadline: Deadline,
}

/// One object that was found.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// Which one it is, wholly known.
    pub identity: Option<Value>,
    /// How to call it in a list.
    pub name: String,
    /// Its state, if that was asked for.
    pub resource: Option<Value>,
    /// What to tell about it.
    pub diagnostics: Diagnostics,
}

/// Takes what is found.
#[derive(Debug)]
pub struct Found {
    to: mpsc::Sender<Listed>,
    wanted: u64,
    include_resource: bool,
    guard: Guard,
}

impl Found {
    /// Hands over one object. Returns whether another one is wanted: not after the limit, and not once the host hung up.
    pub async fn send(&mut self, mut listed: Listed) -> bool {
        if self.wanted == 0 {
            return false;
        }
        if !self.include_resource {
            listed.resource = None;
        }
        let listed = self.guard.judge(listed);
        self.wanted -= 1;
        self.to.send(listed).await.is_ok() && self.wanted > 0
    }
}

/// The schemas that what is found must fit.
#[derive(Debug)]
struct Guard {
    schema: Schema,
    identity: super::identity::IdentitySchema,
}

impl Guard {
    /// The same, unless it breaks a rule: then only the diagnostics that say so.
    fn judge(&self, mut listed: Listed) -> Listed {
        let mut faults = match &listed.identity {
            Some(identity) => {
                contract::check_identity(&self.identity, &Value::Null, identity, Maturity::Known)
            }
            None => Diagnostic::bug("A list resource found an object without an identity.").into(),
        };
        if let Some(state) = &mut listed.resource {
            planning::null_write_only(&self.schema, state);
            faults.extend(contract::check_import(&self.schema, state));
        }
        if faults.has_errors() && !listed.diagnostics.has_errors() {
            listed.diagnostics.extend(faults);
        }
        if listed.diagnostics.has_errors() {
            listed.identity = None;
            listed.resource = None;
        }
        listed
    }
}

/// Judges a configuration.
pub async fn validate(list: &dyn List, config: &Value) -> Diagnostics {
    let own = list.validate(config).await;
    validate::with_own(list.schema(), config, own)
}

/// Lists into `to`: at most `limit` objects of `resource`, then one more item if there is something to tell.
pub async fn list(
    list: &dyn List,
    resource: Option<&dyn Resource>,
    request: ListRequest,
    limit: u64,
    to: mpsc::Sender<Listed>,
) {
    let tell = |diagnostics: Diagnostics| Listed {
        diagnostics,
        ..Listed::default()
    };
    let Some((resource, identity)) = resource.and_then(|it| Some((it, it.identity()?))) else {
        let bug = Diagnostic::bug(format!(
            "There is no resource {} with an identity, which a list resource needs.",
            list.type_name()
        ));
        to.send(tell(bug.into())).await.ok(); // nobody listens any more
        return;
    };
    let found = Found {
        to: to.clone(),
        wanted: limit,
        include_resource: request.include_resource,
        guard: Guard {
            schema: resource.schema().clone(),
            identity: identity.schema().clone(),
        },
    };
    let deadline = request.deadline.clone();
    let diagnostics = match in_time(&deadline, Operation::look("list"), list.list(request, found)).await {
        Ok(diagnostics) => diagnostics,
        Err(overrun) => overrun.into(),
    };
    if !diagnostics.is_empty() {
        to.send(tell(diagnostics)).await.ok(); // nobody listens any more
    }
}
