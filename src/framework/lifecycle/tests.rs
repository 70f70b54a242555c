//! What happens to a resource that does not keep its time, or answers with what cannot be kept. The rest of the life
//! is in `tests/protocol/rpcs.rs`, through the wire.

use async_trait::async_trait;
use tokio::time::Instant;

use super::*;
use crate::framework::resource::{Private, StopSignal};
use crate::framework::{Attribute, Presence};

/// Answers with its own state, or never.
struct Slow {
    schema: Schema,
    answers: bool,
}

impl Slow {
    fn new(answers: bool) -> Self {
        Self {
            schema: Schema::new("x", [("id", Attribute::string(Presence::OptionalComputed, "x"))]),
            answers,
        }
    }

    async fn wait(&self) {
        if !self.answers {
            std::future::pending::<()>().await;
        }
    }
}

fn state() -> Value {
    Value::object([("id", Value::from("a"))])
}

fn kept() -> Private {
    Private::from([("kept".to_owned(), true.into())])
}

/// The deadline was a minute ago, and so was the end of the grace that follows it.
fn long_ago() -> Deadline {
    Deadline {
        until: Instant::now()
            .checked_sub(GRACE * 2)
            .expect("the machine has run for a minute"),
        stop: StopSignal::new(),
    }
}

#[async_trait]
impl Resource for Slow {
    fn type_name(&self) -> &'static str {
        "slow"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    async fn read(&self, request: ReadRequest) -> ReadResponse {
        self.wait().await;
        request.unchanged()
    }

    async fn plan(&self, request: PlanRequest) -> PlanResponse {
        self.wait().await;
        request.as_proposed()
    }

    async fn apply(&self, request: ApplyRequest) -> ApplyResponse {
        self.wait().await;
        ApplyResponse {
            state: request.planned,
            private: request.private,
            diagnostics: Diagnostics::new(),
        }
    }

    async fn import(&self, _id: &str, _deadline: Deadline) -> ImportResponse {
        self.wait().await;
        ImportResponse {
            state: state(),
            private: kept(),
            diagnostics: Diagnostics::new(),
        }
    }
}

#[async_trait]
impl DataSource for Slow {
    fn type_name(&self) -> &'static str {
        "slow"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    async fn read(&self, request: ReadDataRequest) -> ReadDataResponse {
        self.wait().await;
        ReadDataResponse {
            state: request.config,
            diagnostics: Diagnostics::new(),
        }
    }
}

/// State and diagnostics of every operation.
async fn everything(slow: &Slow) -> Vec<(&'static str, Value, Diagnostics)> {
    let read_request = ReadRequest {
        state: state(),
        private: kept(),
        meta: Value::Null,
        deadline: long_ago(),
    };
    let plan_request = PlanRequest {
        config: state(),
        prior: state(),
        proposed: state(),
        private: kept(),
        planned_private: Private::new(),
        meta: Value::Null,
        deadline: long_ago(),
    };
    let apply_request = ApplyRequest {
        config: state(),
        prior: state(),
        planned: state(),
        private: kept(),
        meta: Value::Null,
        checkpoint: Checkpoint::default(),
        deadline: long_ago(),
    };
    let read = read(slow, read_request, Host::default()).await;
    assert_eq!(read.private, kept(), "a read keeps private data whatever happens");
    let plan = plan(slow, plan_request, Host::default()).await;
    let apply = apply(slow, apply_request, Host::default()).await;
    let import = import(slow, "a", long_ago()).await;
    let data_request = ReadDataRequest {
        config: state(),
        meta: Value::Null,
        deadline: long_ago(),
    };
    let data = read_data(slow, data_request, Host::default()).await;
    vec![
        ("read", read.state, read.diagnostics),
        ("plan", plan.planned, plan.diagnostics),
        ("apply", apply.state, apply.diagnostics),
        ("import", import.state, import.diagnostics),
        ("read", data.state, data.diagnostics),
    ]
}

#[tokio::test]
async fn who_sleeps_through_the_deadline_is_abandoned_in_words() {
    for (position, (operation, left, diagnostics)) in
        everything(&Slow::new(false)).await.into_iter().enumerate()
    {
        let words = format!("The {operation} did not end by its deadline, nor 30 seconds later");
        assert!(
            diagnostics
                .iter()
                .any(|diagnostic| diagnostic.detail.starts_with(&words)),
            "{operation}: {diagnostics:?}"
        );
        // Only a read answers with the stored state; elsewhere its absence makes Terraform keep it.
        let expected = if position == 0 { state() } else { Value::Null };
        assert_eq!(left, expected, "{operation}");
    }
}

#[test]
fn what_is_said_of_the_abandoned_has_no_holes() {
    for operation in [
        Operation::look("read"),
        Operation::act("action"),
        Operation::APPLY,
    ] {
        let detail = stopped_late(operation).detail;
        assert!(!detail.contains("  "), "{detail}");
    }
}

#[tokio::test]
async fn who_is_late_but_answers_is_heard() {
    for (operation, answer, diagnostics) in everything(&Slow::new(true)).await {
        assert_eq!(answer, state(), "{operation}");
        assert!(diagnostics.is_empty(), "{operation}: {diagnostics:?}");
    }
}
