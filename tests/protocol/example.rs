//! A small provider, written as a user of the framework would write one, that misbehaves on request.
//!
//! It manages things in memory. The attribute `fault` of a thing says what goes wrong and in which step, for example
//! `"apply: panics"`; without it, all goes well.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tonic::transport::Server;

use kvtls::framework::resource::Private;
use kvtls::framework::validate::{length_between, one_of};
use kvtls::framework::{
    ApplyRequest, ApplyResponse, Attribute, AttributePath, DataSource, Deadline, Diagnostic, Diagnostics,
    ImportResponse, Nesting, PlanRequest, PlanResponse, Presence, Provider, ReadDataRequest,
    ReadDataResponse, ReadRequest, ReadResponse, Resource, Schema, Type, Value,
};

use crate::host::{Channel, within};

/// What the provider and the test both see.
#[derive(Default)]
pub(crate) struct World {
    /// Things by ID.
    pub(crate) things: Mutex<BTreeMap<String, Value>>,
    /// Stored states shown to the resource.
    pub(crate) remembered: Mutex<Vec<Value>>,
    /// Settings, as given last.
    pub(crate) settings: Mutex<Option<(Value, String)>>,
    /// An apply has begun to wait.
    pub(crate) waits: Notify,
    /// Lets the one go on that waits for the test.
    pub(crate) go_on: Notify,
    /// It went on to its end.
    pub(crate) ended: Notify,
}

/// The provider.
struct Example {
    schema: Schema,
    resources: Vec<Arc<dyn Resource>>,
    data_sources: Vec<Arc<dyn DataSource>>,
    world: Arc<World>,
}

/// Serves the provider within this process and connects to it.
pub(crate) async fn connect() -> (Channel, Arc<World>) {
    let world = Arc::new(World::default());
    let provider = Example {
        schema: provider_schema(),
        resources: vec![Arc::new(Thing {
            schema: thing_schema(),
            world: Arc::clone(&world),
        })],
        data_sources: vec![Arc::new(Echo {
            schema: echo_schema(),
        })],
        world: Arc::clone(&world),
    };
    (over_the_wire(provider).await, world)
}

/// Serves any provider within this process and connects to it.
pub(crate) async fn over_the_wire(provider: impl Provider) -> Channel {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let incoming = futures_util::stream::iter([Ok::<_, std::io::Error>(theirs)]);
    let incoming = futures_util::StreamExt::chain(incoming, futures_util::stream::pending());
    let service = kvtls::tfplugin6::service(provider);
    tokio::spawn(
        Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming),
    );
    within("the connection", Channel::over(Box::new(ours))).await
}

/// The schema of the provider block.
pub(crate) fn provider_schema() -> Schema {
    Schema::new(
        "An example.",
        [
            (
                "region",
                Attribute::string(Presence::Optional, "Where.").valid(one_of(&["north", "south"])),
            ),
            (
                "token",
                Attribute::string(Presence::Optional, "A secret.").sensitive(),
            ),
        ],
    )
}

/// The schema of `example_thing`.
pub(crate) fn thing_schema() -> Schema {
    let same_case = |left: &Value, right: &Value| match (left.as_str(), right.as_str()) {
        (Some(left), Some(right)) => left.eq_ignore_ascii_case(right),
        _ => false,
    };
    let port = Attribute::nested(
        Nesting::Map,
        Presence::Optional,
        "Ports by name.",
        [
            ("number", Attribute::number(Presence::Required, "The port.")),
            (
                "protocol",
                Attribute::string(Presence::OptionalComputed, "The protocol.").default("TCP"),
            ),
        ],
    );
    let options = Attribute::nested(
        Nesting::Single,
        Presence::OptionalComputed,
        "Options.",
        [(
            "level",
            Attribute::string(Presence::OptionalComputed, "How loud.").default("info"),
        )],
    );
    Schema::new(
        "A thing.",
        [
            (
                "name",
                Attribute::string(Presence::Required, "Its name.")
                    .requires_replace()
                    .equal_by(same_case)
                    .valid(length_between(1, 20)),
            ),
            ("note", Attribute::string(Presence::Optional, "A note.")),
            ("fault", Attribute::string(Presence::Optional, "What goes wrong.")),
            ("amount", Attribute::number(Presence::Optional, "How much.")),
            (
                "any",
                Attribute::value(Type::Dynamic, Presence::Optional, "Anything."),
            ),
            (
                "tags",
                Attribute::value(Type::set(Type::String), Presence::Optional, "Tags."),
            ),
            (
                "password",
                Attribute::string(Presence::Optional, "Used, not stored.").write_only(),
            ),
            ("ports", port),
            ("options", options),
            (
                "id",
                Attribute::string(Presence::Computed, "Its ID.").keeps_prior(),
            ),
            (
                "revision",
                Attribute::number(Presence::Computed, "Counts updates."),
            ),
        ],
    )
    .version(2)
}

/// The schema of `example_echo`.
pub(crate) fn echo_schema() -> Schema {
    Schema::new(
        "Says what it is told.",
        [
            ("text", Attribute::string(Presence::Required, "What to say.")),
            ("said", Attribute::string(Presence::Computed, "What was said.")),
        ],
    )
}

#[tonic::async_trait]
impl Provider for Example {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn resources(&self) -> &[Arc<dyn Resource>] {
        &self.resources
    }

    fn data_sources(&self) -> &[Arc<dyn DataSource>] {
        &self.data_sources
    }

    fn issues(&self) -> &'static str {
        "https://example.test/issues"
    }

    async fn configure(&self, config: Value, terraform_version: &str) -> Diagnostics {
        assert_ne!(config.get("region").as_str(), Some("south"), "nobody goes south");
        *self.world.settings.lock().expect("no panic while held") =
            Some((config, terraform_version.to_owned()));
        Diagnostics::new()
    }
}

struct Thing {
    schema: Schema,
    world: Arc<World>,
}

fn fault(value: &Value) -> &str {
    value.get("fault").as_str().unwrap_or_default()
}

fn failure(words: &str) -> Diagnostics {
    Diagnostic::error(words, "The example was told to fail.", "Tell it otherwise.").into()
}

impl Thing {
    fn make(&self, planned: &Value) -> Value {
        let mut things = self.world.things.lock().expect("no panic while held");
        let id = planned.get("name").as_str().unwrap_or_default().to_lowercase();
        let revision = things
            .get(&id)
            .and_then(|thing| thing.get("revision").as_i64())
            .unwrap_or(0)
            + 1;
        let mut thing = planned.clone();
        thing.set("id", id.as_str());
        thing.set("revision", revision);
        things.insert(id, thing.clone());
        thing
    }
}

#[tonic::async_trait]
impl Resource for Thing {
    fn type_name(&self) -> &'static str {
        "example_thing"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        match fault(config) {
            "validate: panics" => panic!("validate was told to"),
            "validate: warns" => Diagnostic::warning("Told to warn", "It was.", "")
                .at(AttributePath::of("fault"))
                .into(),
            _ => Diagnostics::new(),
        }
    }

    fn upgrade(&self, version: i64, json: &str) -> Result<Value, Diagnostics> {
        assert_eq!(version, 1, "the example knows one older version");
        // Version 1 had no ports and called the note a remark.
        let mut upgraded =
            Value::from_json(&self.schema.ty(), json).map_err(|error| failure(&error.to_string()))?;
        let old: BTreeMap<String, serde_json::Value> = serde_json::from_str(json).expect("an object");
        let remark = old.get("remark").and_then(serde_json::Value::as_str);
        upgraded.set("note", remark.map(str::to_owned));
        Ok(upgraded)
    }

    fn remember(&self, state: &Value) {
        let mut remembered = self.world.remembered.lock().expect("no panic while held");
        remembered.push(state.clone());
    }

    async fn read(&self, request: ReadRequest) -> ReadResponse {
        let mut response = request.unchanged();
        match fault(&response.state) {
            "read: panics" => panic!("read was told to"),
            "read: fails" => {
                response.state = Value::Null;
                response.private = Private::new();
                response.diagnostics = failure("Told to fail");
            }
            "read: is unknown" => response.state.set("revision", Value::Unknown),
            "read: other case" => {
                let shouted = response
                    .state
                    .get("name")
                    .as_str()
                    .unwrap_or_default()
                    .to_uppercase();
                response.state.set("name", shouted);
            }
            _ => {
                let things = self.world.things.lock().expect("no panic while held");
                let id = response.state.get("id").as_str().unwrap_or_default();
                response.state = things.get(id).cloned().unwrap_or(Value::Null);
            }
        }
        response
    }

    async fn plan(&self, request: PlanRequest) -> PlanResponse {
        let wanted = if request.is_destroy() {
            request.prior.clone()
        } else {
            request.config.clone()
        };
        let is_update = !request.is_create() && !request.is_destroy();
        let mut response = request.as_proposed();
        response.private.insert("planned".to_owned(), true.into());
        match fault(&wanted) {
            "plan: panics" => panic!("plan was told to"),
            "plan: fails" => response.diagnostics = failure("Told to fail"),
            "plan: invents a note" => response.planned.set("note", "invented"),
            "plan: renames" => response.planned.set("name", "another"),
            "plan: returns the password" => response.planned.set("password", "s3cret"),
            "plan: plans nothing" => response.planned = Value::Null,
            "plan: survives" => response.planned = wanted.clone(),
            "plan: replaces for nothing" => response.requires_replace.push(AttributePath::of("nothing")),
            "plan: replaces for its note" if is_update => {
                response.requires_replace.push(AttributePath::of("note"));
            }
            _ => {}
        }
        response
    }

    async fn apply(&self, request: ApplyRequest) -> ApplyResponse {
        let mut response = ApplyResponse {
            state: Value::Null,
            private: request.private,
            diagnostics: Diagnostics::new(),
        };
        let subject = if request.planned.is_null() {
            &request.prior
        } else {
            &request.planned
        };
        let fault = fault(subject).to_owned();
        if fault == "apply: panics" {
            panic!("apply was told to");
        }
        if fault == "apply: fails" {
            response.diagnostics = failure("Told to fail");
            return response;
        }
        if request.planned.is_null() {
            let mut things = self.world.things.lock().expect("no panic while held");
            if let Some(id) = request.prior.get("id").as_str() {
                things.remove(id);
            }
            if fault == "apply: survives" {
                response.state = request.prior;
            }
            return response;
        }
        response.private.insert("applied".to_owned(), true.into());
        response.state = self.make(&request.planned);
        match fault.as_str() {
            "apply: fails half way" => {
                response.state.set("revision", Value::Unknown);
                response
                    .state
                    .set("password", request.config.get("password").clone());
                response.diagnostics = failure("Told to fail");
            }
            "apply: returns nothing" => response.state = Value::Null,
            "apply: leaves an unknown" => response.state.set("revision", Value::Unknown),
            "apply: changes the note" => response.state.set("note", "another"),
            "apply: returns the password" => response.state.set("password", "s3cret"),
            "apply: shouts" => response
                .state
                .set("name", subject_name(&response.state).to_uppercase()),
            "apply: forgets the note" => {
                response.state.as_map_mut().expect("an object").remove("note");
            }
            "apply: writes a bool" => response.state.set("id", true),
            "apply: waits" => {
                self.world.waits.notify_one();
                request.deadline.stop.cancelled().await;
                response.diagnostics = failure("Stopped");
            }
            "apply: waits for the test" => {
                self.world.waits.notify_one();
                self.world.go_on.notified().await;
                self.world.ended.notify_one();
            }
            _ => {}
        }
        response
    }

    async fn import(&self, id: &str, _deadline: Deadline) -> ImportResponse {
        assert_ne!(id, "panic", "import was told to");
        let mut state = Value::object(
            self.schema
                .attributes
                .keys()
                .map(|name| (name.as_str(), Value::Null)),
        );
        state.set("id", id);
        let nothing = id == "nothing";
        ImportResponse {
            state: if nothing { Value::Null } else { state },
            private: Private::from([("imported".to_owned(), true.into())]),
            diagnostics: Diagnostics::new(),
        }
    }
}

fn subject_name(state: &Value) -> &str {
    state.get("name").as_str().unwrap_or_default()
}

struct Echo {
    schema: Schema,
}

#[tonic::async_trait]
impl DataSource for Echo {
    fn type_name(&self) -> &'static str {
        "example_echo"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    async fn read(&self, request: ReadDataRequest) -> ReadDataResponse {
        let config = request.config;
        let text = config.get("text").as_str().unwrap_or_default().to_owned();
        assert_ne!(text, "panic", "echo was told to");
        let mut state = config;
        state.set("said", text.as_str());
        if text == "nothing" {
            state = Value::Null;
        }
        if text == "later" {
            state.set("said", Value::Unknown);
        }
        ReadDataResponse {
            state,
            diagnostics: Diagnostics::new(),
        }
    }
}
