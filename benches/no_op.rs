//! A provider with one resource that does nothing. `beside/main.go` is the same with the framework for Go.

use std::process::ExitCode;
use std::sync::Arc;

use kvtls::framework::resource::Private;
use kvtls::framework::{
    ApplyRequest, ApplyResponse, Attribute, Deadline, Diagnostics, ImportResponse, PlanRequest, PlanResponse,
    Presence, Provider, ReadRequest, ReadResponse, Resource, Schema, Type, Value,
};
use kvtls::go_plugin::{self, Plugin};

/// The type of the resource.
pub(crate) const TYPE: &str = "noop_thing";

/// Serves it as a plugin's process.
pub(crate) fn serve() -> ExitCode {
    go_plugin::serve(Plugin {
        name: "noop",
        address: "example.test/acme/noop",
        version: "0.0.0",
        service: kvtls::tfplugin6::service(NoOp {
            schema: Schema::new("x", []),
            resources: vec![Arc::new(Thing(schema()))],
        }),
    })
}

/// The schema of the resource.
pub(crate) fn schema() -> Schema {
    Schema::new(
        "x",
        [
            ("name", Attribute::string(Presence::Required, "x")),
            ("size", Attribute::number(Presence::Optional, "x")),
            (
                "tags",
                Attribute::value(Type::map(Type::String), Presence::Optional, "x"),
            ),
            ("id", Attribute::string(Presence::Computed, "x")),
        ],
    )
}

/// A state of the usual size.
pub(crate) fn state(schema: &Schema) -> Value {
    let mut state = schema.nothing();
    state.set("name", "shop");
    state.set("size", 3);
    state.set(
        "tags",
        Value::object([("owner", Value::from("ann")), ("stage", Value::from("test"))]),
    );
    state.set("id", "0123456789abcdef");
    state
}

struct NoOp {
    schema: Schema,
    resources: Vec<Arc<dyn Resource>>,
}

#[tonic::async_trait]
impl Provider for NoOp {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn resources(&self) -> &[Arc<dyn Resource>] {
        &self.resources
    }

    async fn configure(&self, _: Value, _: &str) -> Diagnostics {
        Diagnostics::new()
    }
}

struct Thing(Schema);

#[tonic::async_trait]
impl Resource for Thing {
    fn type_name(&self) -> &'static str {
        TYPE
    }

    fn schema(&self) -> &Schema {
        &self.0
    }

    async fn read(&self, request: ReadRequest) -> ReadResponse {
        request.unchanged()
    }

    async fn plan(&self, request: PlanRequest) -> PlanResponse {
        request.as_proposed()
    }

    async fn apply(&self, request: ApplyRequest) -> ApplyResponse {
        ApplyResponse {
            state: request.planned,
            private: request.private,
            diagnostics: Diagnostics::new(),
        }
    }

    async fn import(&self, _: &str, _: Deadline) -> ImportResponse {
        ImportResponse {
            state: self.0.nothing(),
            private: Private::new(),
            diagnostics: Diagnostics::new(),
        }
    }
}
