//! A provider that offers everything the framework can, written as a user of it would write one. It gardens in memory.
//!
//! `garden_bed` is a managed resource with blocks, an identity, and state taken over from `orchard_plot`; `garden_key`
//! is ephemeral; `garden_bed` is also listed; `garden_water` is an action; `sum`, `describe` and `first` are functions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kvtls::framework::resource::Private;
use kvtls::framework::{
    Action, ApplyRequest, ApplyResponse, Attribute, CloseRequest, DataSource, Deadline, Deferral, Diagnostic,
    Diagnostics, Ephemeral, Found, Function, FunctionError, Identity, IdentityAttribute, IdentitySchema,
    ImportResponse, List, ListRequest, Listed, Moved, Mover, Nesting, Number, OpenRequest, OpenResponse,
    Parameter, PlanRequest, PlanResponse, Presence, Progress, Provider, ReadDataRequest, ReadDataResponse,
    ReadRequest, ReadResponse, RenewRequest, RenewResponse, Resource, Schema, Signature, Source, Type, Value,
    equality,
};

/// What grows, and what happened.
#[derive(Default)]
pub(crate) struct World {
    beds: Mutex<BTreeMap<String, Value>>,
    events: Mutex<Vec<String>>,
    pub(crate) waits: tokio::sync::Notify,
}

impl World {
    /// Everything that happened so far.
    pub(crate) fn events(&self) -> Vec<String> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn happened(&self, event: impl Into<String>) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(event.into());
    }

    /// A module that names its gardener is remembered with what it asked for.
    fn heard(&self, meta: &Value, what: &str) {
        if let Some(gardener) = meta.get("gardener").as_str() {
            self.happened(format!("{gardener}: {what}"));
        }
    }

    /// For who does not listen to a stop either.
    async fn sleeps(&self) {
        self.waits.notify_one();
        std::future::pending().await
    }

    fn beds(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Value>> {
        self.beds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The provider.
pub(crate) struct Garden {
    pub(crate) schema: Schema,
    meta: Schema,
    pub(crate) resources: Vec<Arc<dyn Resource>>,
    pub(crate) data_sources: Vec<Arc<dyn DataSource>>,
    pub(crate) functions: Vec<Arc<dyn Function>>,
    pub(crate) ephemerals: Vec<Arc<dyn Ephemeral>>,
    lists: Vec<Arc<dyn List>>,
    actions: Vec<Arc<dyn Action>>,
    /// The climate is not known yet.
    undecided: Mutex<bool>,
}

impl Garden {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        let identity = BedIdentity {
            schema: IdentitySchema::new([
                ("name", IdentityAttribute::required("The name of the bed.")),
                ("id", IdentityAttribute::optional("Its number.")),
            ]),
            world: Arc::clone(world),
        };
        Self {
            schema: Schema::new(
                "A garden.",
                [(
                    "climate",
                    Attribute::string(Presence::Optional, "How it is there."),
                )],
            ),
            meta: Schema::new(
                "What a module says of itself.",
                [(
                    "gardener",
                    Attribute::string(Presence::Optional, "Who planned it."),
                )],
            ),
            resources: vec![Arc::new(Bed {
                schema: bed_schema(),
                identity,
                world: Arc::clone(world),
            })],
            data_sources: vec![Arc::new(Weather {
                schema: Schema::new(
                    "The weather.",
                    [
                        ("day", Attribute::string(Presence::Optional, "When.")),
                        ("rain", Attribute::bool(Presence::Computed, "Whether it rains.")),
                    ],
                ),
                world: Arc::clone(world),
            })],
            functions: functions(),
            ephemerals: vec![Arc::new(Key {
                schema: key_schema(),
                world: Arc::clone(world),
            })],
            lists: vec![Arc::new(Beds {
                schema: Schema::new(
                    "Beds by name.",
                    [(
                        "prefix",
                        Attribute::string(Presence::Optional, "How names begin."),
                    )],
                ),
                world: Arc::clone(world),
            })],
            actions: vec![Arc::new(Water {
                schema: Schema::new(
                    "Waters a bed.",
                    [
                        ("bed", Attribute::string(Presence::Required, "Which one.")),
                        ("litres", Attribute::number(Presence::Optional, "How much.")),
                    ],
                ),
                world: Arc::clone(world),
            })],
            undecided: Mutex::new(false),
        }
    }
}

/// The schema of `garden_bed`.
pub(crate) fn bed_schema() -> Schema {
    let plant = [
        ("kind", Attribute::string(Presence::Required, "What grows.")),
        (
            "spacing",
            Attribute::string(Presence::OptionalComputed, "Between two.").default("30cm"),
        ),
        (
            "label",
            Attribute::string(Presence::Computed, "What its label says."),
        ),
    ];
    let gate = [("width", Attribute::number(Presence::Optional, "In centimetres."))];
    Schema::new(
        "A bed.",
        [
            (
                "name",
                Attribute::string(Presence::Required, "Its name.")
                    .replaces_because("A bed is marked with its name.")
                    .equal_by(equality::without_case),
            ),
            (
                "interval",
                Attribute::string(Presence::OptionalComputed, "Between two waterings.")
                    .default("24h")
                    .equal_by(equality::same_duration),
            ),
            ("fault", Attribute::string(Presence::Optional, "What goes wrong.")),
            (
                "secret",
                Attribute::string(Presence::Optional, "Where the key is.").write_only(),
            ),
            (
                "secret_version",
                Attribute::number(Presence::Optional, "Raised when the secret changes."),
            ),
            ("size", Attribute::number(Presence::Optional, "Square metres.")),
            (
                "sign",
                Attribute::string(Presence::Computed, "What the sign says.").computed_from(&["name", "size"]),
            ),
            (
                "id",
                Attribute::string(Presence::Computed, "Its number.").keeps_prior(),
            ),
            (
                "watered",
                Attribute::number(Presence::Computed, "How often it was changed."),
            ),
            (
                "old_note",
                Attribute::string(Presence::Optional, "A note.").deprecated("Use `name`."),
            ),
            (
                "plant",
                Attribute::blocks(Nesting::List, "What grows there.", plant).between(0, 3),
            ),
            (
                "fence",
                Attribute::blocks(
                    Nesting::Single,
                    "What is around it.",
                    [
                        ("height", Attribute::number(Presence::Required, "In centimetres.")),
                        ("gate", Attribute::blocks(Nesting::List, "The ways in.", gate)),
                    ],
                ),
            ),
            (
                "corner",
                Attribute::blocks(
                    Nesting::Map,
                    "The corners.",
                    [(
                        "stone",
                        Attribute::bool(Presence::Optional, "Whether a stone is there."),
                    )],
                ),
            ),
            (
                "guest",
                Attribute::blocks(
                    Nesting::Set,
                    "Who may come.",
                    [(
                        "name",
                        Attribute::string(Presence::Required, "Who.").equal_by(equality::without_case),
                    )],
                ),
            ),
            (
                "visitor",
                Attribute::blocks(
                    Nesting::List,
                    "Who came by.",
                    [("name", Attribute::string(Presence::Computed, "Who."))],
                )
                .computed(),
            ),
            (
                "soil",
                Attribute::group(
                    "What it is made of.",
                    [("sand", Attribute::number(Presence::Optional, "Percent."))],
                ),
            ),
        ],
    )
    .version(1)
}

/// The schema of `garden_key`.
pub(crate) fn key_schema() -> Schema {
    Schema::new(
        "A key to the garden.",
        [
            ("gate", Attribute::string(Presence::Required, "Which gate.")),
            (
                "token",
                Attribute::string(Presence::Computed, "Opens it.").sensitive(),
            ),
        ],
    )
}

#[tonic::async_trait]
impl Provider for Garden {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn meta_schema(&self) -> Option<&Schema> {
        Some(&self.meta)
    }

    fn resources(&self) -> &[Arc<dyn Resource>] {
        &self.resources
    }

    fn data_sources(&self) -> &[Arc<dyn DataSource>] {
        &self.data_sources
    }

    fn functions(&self) -> &[Arc<dyn Function>] {
        &self.functions
    }

    fn ephemeral_resources(&self) -> &[Arc<dyn Ephemeral>] {
        &self.ephemerals
    }

    fn list_resources(&self) -> &[Arc<dyn List>] {
        &self.lists
    }

    fn actions(&self) -> &[Arc<dyn Action>] {
        &self.actions
    }

    fn issues(&self) -> &'static str {
        "https://garden.test/issues"
    }

    fn deferral(&self) -> Option<Deferral> {
        let undecided = *self.undecided.lock().unwrap_or_else(PoisonError::into_inner);
        undecided.then_some(Deferral::ProviderConfigUnknown)
    }

    async fn configure(&self, config: Value, _terraform_version: &str) -> Diagnostics {
        *self.undecided.lock().unwrap_or_else(PoisonError::into_inner) = config.get("climate").is_unknown();
        Diagnostics::new()
    }
}

struct Bed {
    schema: Schema,
    identity: BedIdentity,
    world: Arc<World>,
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).as_str().unwrap_or_default()
}

fn failure(words: &str) -> Diagnostics {
    Diagnostic::error(words, "The garden was told to fail.", "Tell it otherwise.").into()
}

/// Fills in what only the garden knows.
fn grown(planned: &Value, id: &str, watered: i64) -> Value {
    let mut bed = planned.clone();
    bed.set("id", id);
    bed.set("watered", watered);
    let bees = (0..watered).map(|_| Value::object([("name", Value::from("bee"))]));
    bed.set("visitor", Value::List(bees.collect()));
    if bed.get("sign").is_unknown() {
        let size = bed.get("size").as_i64().unwrap_or_default();
        bed.set("sign", format!("{} {size}", text(planned, "name")));
    }
    if let Some(Value::List(plants)) = bed.as_map_mut().and_then(|bed| bed.get_mut("plant")) {
        for plant in plants {
            let label = format!("a {}", text(plant, "kind"));
            plant.set("label", label);
        }
    }
    bed
}

#[tonic::async_trait]
impl Resource for Bed {
    fn type_name(&self) -> &'static str {
        "garden_bed"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn identity(&self) -> Option<&dyn Identity> {
        Some(&self.identity)
    }

    fn mover(&self) -> Option<&dyn Mover> {
        Some(self)
    }

    fn deferral(&self, value: &Value) -> Option<Deferral> {
        let unknown = value.get("size").is_unknown();
        let absent = text(value, "fault") == "defer: no ground";
        match (unknown, absent) {
            (true, _) => Some(Deferral::ResourceConfigUnknown),
            (_, true) => Some(Deferral::AbsentPrerequisite),
            _ => None,
        }
    }

    async fn read(&self, request: ReadRequest) -> ReadResponse {
        self.world.heard(&request.meta, "a look");
        if text(&request.state, "fault") == "read: sleeps" {
            self.world.sleeps().await;
        }
        let mut response = request.unchanged();
        let found = self.world.beds().get(text(&response.state, "id")).cloned();
        if let (Some(found), "read: another object") = (&found, text(&response.state, "fault")) {
            let mut another = found.clone();
            another.set("name", "another");
            response.state = another;
            return response;
        }
        response.state = found.unwrap_or(Value::Null);
        response
    }

    async fn plan(&self, request: PlanRequest) -> PlanResponse {
        if !request.planned_private.is_empty() {
            self.world.happened("planned again with what the first plan kept");
        }
        self.world.heard(&request.meta, "a plan");
        if text(&request.config, "fault") == "plan: sleeps" {
            self.world.sleeps().await;
        }
        let mut response = request.as_proposed();
        response.private.insert("planned".to_owned(), true.into());
        response
    }

    async fn apply(&self, request: ApplyRequest) -> ApplyResponse {
        self.world.heard(&request.meta, "a change");
        let mut response = ApplyResponse {
            state: Value::Null,
            private: request.private.clone(),
            diagnostics: Diagnostics::new(),
        };
        if request.is_destroy() {
            self.world.beds().remove(text(&request.prior, "id"));
            return response;
        }
        if let Some(secret) = request.config.get("secret").as_str() {
            self.world
                .happened(format!("was told a secret of {} characters", secret.len()));
        }
        let id = match request.is_create() {
            true => format!("bed-{}", text(&request.planned, "name").to_lowercase()),
            false => text(&request.prior, "id").to_owned(),
        };
        let watered = request.prior.get("watered").as_i64().unwrap_or_default() + 1;
        response.state = grown(&request.planned, &id, watered);
        self.world.beds().insert(id, response.state.clone());
        match text(&request.planned, "fault") {
            "apply: panics after it was saved" | NO_IDENTITY | PANICKING_IDENTITY => {
                request
                    .checkpoint
                    .save(response.state.clone(), response.private.clone());
                panic!("the spade broke");
            }
            "apply: sleeps after it was saved" => {
                request
                    .checkpoint
                    .save(response.state.clone(), response.private.clone());
                self.world.sleeps().await;
            }
            "apply: another identity" => {
                response.state.set("id", "bed-another");
            }
            _ => {}
        }
        response
    }

    async fn import(&self, id: &str, _deadline: Deadline) -> ImportResponse {
        if id == "asleep" {
            self.world.sleeps().await;
        }
        ImportResponse::by_id(&self.schema, "id", id)
    }
}

impl Mover for Bed {
    fn take_over(&self, source: &Source<'_>) -> Result<Moved, Diagnostics> {
        let is_plot = source.provider.ends_with("/acme/orchard") && source.type_name == "orchard_plot";
        if !is_plot || source.version > 1 {
            return Err(kvtls::framework::movement::not_possible(self, source));
        }
        let ty = Type::Object(BTreeMap::from([("label".to_owned(), Type::String)]));
        let plot = Value::from_json(&ty, source.state).map_err(|error| failure(&error.to_string()))?;
        let mut state = self.schema.nothing();
        state.set("name", plot.get("label").clone());
        state.set("interval", "24h");
        state.set("id", format!("bed-{}", text(&plot, "label")));
        state.set("secret", "left over from the orchard");
        Ok(Moved {
            state,
            private: Private::from([("moved".to_owned(), true.into())]),
        })
    }
}

/// Faults of an apply that was saved, and whose identity cannot be told.
pub(crate) const NO_IDENTITY: &str = "apply: panics, and has no identity";
pub(crate) const PANICKING_IDENTITY: &str = "apply: panics, and so does its identity";
pub(crate) const PANICKING_IDENTITY_ONLY: &str = "apply: is well, and its identity panics";

struct BedIdentity {
    schema: IdentitySchema,
    world: Arc<World>,
}

#[tonic::async_trait]
impl Identity for BedIdentity {
    fn schema(&self) -> &IdentitySchema {
        &self.schema
    }

    fn of(&self, state: &Value) -> Value {
        let exists = !state.get("id").is_unknown();
        match text(state, "fault") {
            NO_IDENTITY if exists => Value::object([("name", Value::Null), ("id", Value::Null)]),
            PANICKING_IDENTITY | PANICKING_IDENTITY_ONLY if exists => panic!("the label fell off"),
            _ => Value::object([
                ("name", state.get("name").clone()),
                ("id", state.get("id").clone()),
            ]),
        }
    }

    async fn import(&self, identity: &Value, _deadline: Deadline) -> ImportResponse {
        let id = format!("bed-{}", text(identity, "name"));
        let found = self.world.beds().get(&id).cloned();
        ImportResponse {
            diagnostics: match found {
                None => failure("There is no such bed"),
                Some(_) => Diagnostics::new(),
            },
            state: found.unwrap_or(Value::Null),
            private: Private::new(),
        }
    }

    fn upgrade(&self, version: i64, json: &str) -> Result<Value, Diagnostics> {
        assert_eq!(version, -1, "the garden knows one older version");
        Value::from_json(&self.schema.ty(), json).map_err(|error| failure(&error.to_string()))
    }
}

pub(crate) struct Weather {
    pub(crate) schema: Schema,
    pub(crate) world: Arc<World>,
}

#[tonic::async_trait]
impl DataSource for Weather {
    fn type_name(&self) -> &'static str {
        "garden_weather"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn deferral(&self, config: &Value) -> Option<Deferral> {
        (text(config, "day") == "tomorrow").then_some(Deferral::AbsentPrerequisite)
    }

    async fn read(&self, request: ReadDataRequest) -> ReadDataResponse {
        self.world.heard(&request.meta, "the weather");
        if text(&request.config, "day") == "asleep" {
            self.world.sleeps().await;
        }
        let mut state = request.config;
        state.set("rain", true);
        ReadDataResponse {
            state,
            diagnostics: Diagnostics::new(),
        }
    }
}

pub(crate) struct Key {
    pub(crate) schema: Schema,
    pub(crate) world: Arc<World>,
}

#[tonic::async_trait]
impl Ephemeral for Key {
    fn type_name(&self) -> &'static str {
        "garden_key"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        match text(config, "gate") {
            "nowhere" => failure("There is no such gate"),
            _ => Diagnostics::new(),
        }
    }

    fn deferral(&self, config: &Value) -> Option<Deferral> {
        (text(config, "gate") == "later").then_some(Deferral::AbsentPrerequisite)
    }

    async fn open(&self, request: OpenRequest) -> OpenResponse {
        let gate = text(&request.config, "gate").to_owned();
        self.world.happened(format!("opened {gate}"));
        let mut result = request.config;
        result.set("token", format!("token of {gate}"));
        match gate.as_str() {
            "changed" => result.set("gate", "another"),
            "unknown" => result.set("token", Value::Unknown),
            "gone" => result = Value::Null,
            "asleep" => self.world.sleeps().await,
            _ => {}
        }
        OpenResponse {
            result,
            renew_after: (gate == "hurried").then_some(Duration::ZERO),
            private: Private::from([("lease".to_owned(), gate.into())]),
            diagnostics: Diagnostics::new(),
        }
    }

    async fn renew(&self, request: RenewRequest) -> RenewResponse {
        let lease = request
            .private
            .get("lease")
            .and_then(|it| it.as_str())
            .unwrap_or_default();
        self.world.happened(format!("renewed {lease}"));
        RenewResponse {
            renew_after: Some(Duration::from_secs(600)),
            private: Private::from([("lease".to_owned(), format!("{lease}, renewed").into())]),
            diagnostics: Diagnostics::new(),
        }
    }

    async fn close(&self, request: CloseRequest) -> Diagnostics {
        let lease = request
            .private
            .get("lease")
            .and_then(|it| it.as_str())
            .unwrap_or_default();
        self.world.happened(format!("closed {lease}"));
        Diagnostics::new()
    }
}

struct Beds {
    schema: Schema,
    world: Arc<World>,
}

#[tonic::async_trait]
impl List for Beds {
    fn type_name(&self) -> &'static str {
        "garden_bed"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    async fn validate(&self, config: &Value) -> Diagnostics {
        match text(config, "prefix") {
            "*" => failure("A prefix is no pattern"),
            _ => Diagnostics::new(),
        }
    }

    async fn list(&self, request: ListRequest, mut found: Found) -> Diagnostics {
        let prefix = text(&request.config, "prefix");
        assert_ne!(prefix, "panic", "list was told to");
        if prefix == "asleep" {
            self.world.sleeps().await;
        }
        let beds: Vec<Value> = self.world.beds().values().cloned().collect();
        for bed in beds.iter().filter(|bed| text(bed, "name").starts_with(prefix)) {
            let identity = Value::object([("name", bed.get("name").clone()), ("id", bed.get("id").clone())]);
            let listed = Listed {
                identity: Some(identity),
                name: text(bed, "name").to_owned(),
                resource: Some(bed.clone()),
                diagnostics: Diagnostics::new(),
            };
            self.world.happened(format!("found {}", text(bed, "name")));
            if !found.send(listed).await {
                self.world.happened("nobody wants more");
                return Diagnostics::new();
            }
        }
        if prefix == "anonymous" {
            found.send(Listed::default()).await;
        }
        Diagnostic::warning("That was all", "There are no more beds.", "").into()
    }
}

struct Water {
    schema: Schema,
    world: Arc<World>,
}

#[tonic::async_trait]
impl Action for Water {
    fn type_name(&self) -> &'static str {
        "garden_water"
    }

    fn schema(&self) -> &Schema {
        &self.schema
    }

    async fn plan(&self, config: &Value, _deadline: Deadline) -> Diagnostics {
        match text(config, "bed") {
            "desert" => failure("There is no water"),
            _ => Diagnostics::new(),
        }
    }

    async fn invoke(&self, config: Value, progress: Progress, deadline: Deadline) -> Diagnostics {
        let bed = text(&config, "bed");
        progress.report(format!("walking to {bed}"));
        assert_ne!(bed, "panic", "water was told to");
        if bed == "asleep" {
            self.world.sleeps().await;
        }
        if bed == "far" {
            self.world.waits.notify_one();
            deadline.stop.cancelled().await;
            return failure("Stopped");
        }
        if bed == "careless" {
            let kept = progress.clone();
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(kept);
            });
        }
        progress.report("pouring");
        self.world.happened(format!("watered {bed}"));
        Diagnostic::warning("Watered", "It is wet now.", "").into()
    }
}

struct Sum(Signature, AtomicI64);
struct Describe(Signature);
struct First(Signature);

fn functions() -> Vec<Arc<dyn Function>> {
    let mut sum = Signature::new("Adds numbers.", Vec::new(), Type::Number);
    sum.variadic = Some(Parameter::new("numbers", Type::Number, "What to add."));
    let anything = Parameter {
        allow_null: true,
        allow_unknown: true,
        ..Parameter::new("anything", Type::Dynamic, "What to describe.")
    };
    let mut describe = Signature::new("Says what something is.", vec![anything], Type::String);
    describe.deprecation = "Use your eyes.".to_owned();
    let parts = Parameter::new("parts", Type::list(Type::String), "Where to look.");
    vec![
        Arc::new(Sum(sum, AtomicI64::default())),
        Arc::new(Describe(describe)),
        Arc::new(First(Signature::new(
            "The first part.",
            vec![parts],
            Type::String,
        ))),
    ]
}

impl Function for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn call(&self, arguments: &[Value]) -> Result<Value, FunctionError> {
        let mut sum = 0_i64;
        for (position, argument) in arguments.iter().enumerate() {
            let number = argument
                .as_i64()
                .ok_or_else(|| FunctionError::of_argument(position, "Only whole numbers are added."))?;
            sum = sum
                .checked_add(number)
                .ok_or_else(|| FunctionError::new("The sum is too large."))?;
        }
        assert_ne!(sum, 666, "sum was told to");
        if sum == 777 {
            // It is not pure, as it was told.
            sum += self.1.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Number::from(sum).into())
    }
}

impl Function for Describe {
    fn name(&self) -> &'static str {
        "describe"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn call(&self, arguments: &[Value]) -> Result<Value, FunctionError> {
        match arguments {
            [Value::Dynamic(ty, value)] => Ok(format!("{} of {}", value.kind(), ty.to_json()).into()),
            [value] => Ok(value.kind().into()),
            _ => Err(FunctionError::new("One thing at a time.")),
        }
    }
}

impl Function for First {
    fn name(&self) -> &'static str {
        "first"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn call(&self, arguments: &[Value]) -> Result<Value, FunctionError> {
        let first = arguments
            .first()
            .and_then(Value::as_list)
            .and_then(|parts| parts.first());
        first
            .cloned()
            .ok_or_else(|| FunctionError::of_argument(0, "There is nothing in it."))
    }
}
