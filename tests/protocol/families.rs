//! What a provider can offer beside managed resources and data sources, over the wire, with [`crate::garden`].

use std::sync::Arc;

use kvtls::framework::{IdentityAttribute, IdentitySchema, Number, Schema, Type, Value};
use kvtls::tfplugin6::dynamic_value;
use kvtls::tfplugin6::generated::provider_client::ProviderClient;
use kvtls::tfplugin6::generated::{self as tf, DynamicValue};

use crate::core::{Core, State, has_errors, summaries};
use crate::example::over_the_wire;
use crate::garden::{Garden, World, bed_schema, key_schema};
use crate::host::{Channel, within};

pub(crate) const BED: &str = "garden_bed";

/// What every bug of the garden ends with, and nothing else.
pub(crate) const REPORTED_AT: &str = "\nhttps://garden.test/issues";

pub(crate) async fn garden() -> (ProviderClient<Channel>, Arc<World>) {
    let world = Arc::new(World::default());
    let channel = over_the_wire(Garden::new(&world)).await;
    (channel.provider(), world)
}

pub(crate) async fn beds() -> (Core, ProviderClient<Channel>, Arc<World>) {
    let (client, world) = garden().await;
    (Core::new(client.clone(), BED, &bed_schema()), client, world)
}

pub(crate) fn bed<const N: usize>(members: [(&str, Value); N]) -> Value {
    let mut bed = bed_schema().nothing();
    bed.set("name", "roses");
    for (name, value) in members {
        bed.set(name, value);
    }
    bed
}

pub(crate) fn of(ty: &Type, value: &Value) -> Option<DynamicValue> {
    Some(DynamicValue {
        msgpack: dynamic_value::encode(ty, value).expect("a value of the type"),
        json: Vec::new(),
    })
}

fn message(schema: &Schema, value: &Value) -> Option<DynamicValue> {
    of(&schema.ty(), value)
}

fn value(ty: &Type, message: Option<&DynamicValue>) -> Value {
    let bytes = message.map(|it| it.msgpack.as_slice()).unwrap_or_default();
    dynamic_value::decode(ty, bytes).expect("a value of the type")
}

pub(crate) fn identity_schema() -> IdentitySchema {
    IdentitySchema::new([
        ("name", IdentityAttribute::required("x")),
        ("id", IdentityAttribute::optional("x")),
    ])
}

pub(crate) fn identity_value(message: Option<&tf::ResourceIdentityData>) -> Value {
    value(
        &identity_schema().ty(),
        message.and_then(|it| it.identity_data.as_ref()),
    )
}

pub(crate) fn roses() -> Value {
    Value::object([("name", Value::from("roses")), ("id", Value::from("bed-roses"))])
}

pub(crate) fn raw(json: &str) -> Option<tf::RawState> {
    Some(tf::RawState {
        json: json.as_bytes().to_vec(),
        ..Default::default()
    })
}

fn may_defer() -> Option<tf::ClientCapabilities> {
    Some(tf::ClientCapabilities {
        deferral_allowed: true,
        ..Default::default()
    })
}

fn reason(deferred: Option<tf::Deferred>) -> tf::deferred::Reason {
    deferred.expect("it is deferred").reason()
}

#[tokio::test]
async fn everything_offered_is_in_schema_and_metadata() {
    let (mut client, _) = garden().await;
    let schema = client
        .get_provider_schema(tf::get_provider_schema::Request {})
        .await
        .expect("an answer")
        .into_inner();
    let capabilities = schema.server_capabilities.expect("capabilities");
    assert!(capabilities.move_resource_state, "a bed takes over plots");
    assert_eq!(
        schema.functions.keys().collect::<Vec<_>>(),
        ["describe", "first", "sum"]
    );
    for function in schema.functions.values() {
        assert!(function.r#return.is_some(), "Terraform crashes without");
    }
    assert!(schema.functions["sum"].variadic_parameter.is_some());
    assert_eq!(schema.functions["describe"].deprecation_message, "Use your eyes.");
    assert!(schema.ephemeral_resource_schemas["garden_key"].block.is_some());
    assert!(schema.list_resource_schemas[BED].block.is_some());
    assert!(
        schema.action_schemas["garden_water"].schema.is_some(),
        "Terraform crashes without"
    );
    assert!(schema.state_store_schemas.is_empty());

    let metadata = client
        .get_metadata(tf::get_metadata::Request {})
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(metadata.functions.len(), 3);
    assert_eq!(metadata.ephemeral_resources[0].type_name, "garden_key");
    assert_eq!(metadata.list_resources[0].type_name, BED);
    assert_eq!(metadata.actions[0].type_name, "garden_water");

    let functions = client
        .get_functions(tf::get_functions::Request {})
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(functions.functions, schema.functions);

    let identities = client
        .get_resource_identity_schemas(tf::get_resource_identity_schemas::Request {})
        .await
        .expect("an answer")
        .into_inner();
    let parts: Vec<(&str, bool, bool)> = identities.identity_schemas[BED]
        .identity_attributes
        .iter()
        .map(|it| (it.name.as_str(), it.required_for_import, it.optional_for_import))
        .collect();
    assert_eq!(parts, [("id", false, true), ("name", true, false)]);
}

#[tokio::test]
async fn blocks_are_blocks_on_the_wire() {
    use tf::schema::nested_block::NestingMode;
    let (mut client, _) = garden().await;
    let schema = client
        .get_provider_schema(tf::get_provider_schema::Request {})
        .await
        .expect("an answer")
        .into_inner();
    let block = schema.resource_schemas[BED].block.clone().expect("a block");
    let shapes: Vec<(&str, NestingMode, i64, i64)> = block
        .block_types
        .iter()
        .map(|it| (it.type_name.as_str(), it.nesting(), it.min_items, it.max_items))
        .collect();
    assert_eq!(
        shapes,
        [
            ("corner", NestingMode::Map, 0, 0),
            ("fence", NestingMode::Single, 0, 0),
            ("guest", NestingMode::Set, 0, 0),
            ("plant", NestingMode::List, 0, 3),
            ("soil", NestingMode::Group, 0, 0),
            ("visitor", NestingMode::List, 0, 0),
        ]
    );
    let computed: Vec<&str> = block
        .block_types
        .iter()
        .filter(|it| it.block.as_ref().is_some_and(|block| block.computed))
        .map(|it| it.type_name.as_str())
        .collect();
    assert_eq!(computed, ["visitor"]);
    assert!(block.attributes.iter().all(|it| it.nested_type.is_none()));
    let fence = block.block_types[1].block.as_ref().expect("a block");
    assert_eq!(fence.block_types[0].type_name, "gate", "blocks hold blocks");
    let deprecated = block.attributes.iter().find(|it| it.deprecated).expect("one is");
    assert_eq!(
        (deprecated.name.as_str(), deprecated.deprecation_message.as_str()),
        ("old_note", "Use `name`.")
    );
}

#[tokio::test]
async fn a_function_is_called_and_says_which_argument_is_wrong() {
    let (mut client, _) = garden().await;
    let number = |text: &str| of(&Type::Number, &Number::parse(text).expect(text).into()).expect("bytes");
    let text = |text: &str| of(&Type::String, &text.into()).expect("bytes");
    let anything = |ty: Type, value: Value| {
        of(&Type::Dynamic, &Value::Dynamic(Box::new(ty), Box::new(value))).expect("bytes")
    };
    let strings = Type::list(Type::String);
    type Row = (
        &'static str,
        Vec<DynamicValue>,
        Result<Value, (Option<i64>, &'static str)>,
    );
    let rows: Vec<Row> = vec![
        ("sum", vec![], Ok(0.into())),
        ("sum", vec![number("1"), number("2")], Ok(3.into())),
        (
            "sum",
            vec![number("1"), number("2.5")],
            Err((Some(1), "whole numbers")),
        ),
        (
            "sum",
            vec![number("9223372036854775807"), number("1")],
            Err((None, "too large")),
        ),
        (
            "sum",
            vec![text("x")],
            Err((Some(0), "not of the parameter's type")),
        ),
        // OpenTofu's null: an empty message.
        (
            "sum",
            vec![DynamicValue::default()],
            Err((Some(0), "must not be null")),
        ),
        ("sum", vec![number("666")], Err((None, "sum was told to"))),
        ("describe", vec![DynamicValue::default()], Ok("null".into())),
        (
            "describe",
            vec![anything(Type::Bool, true.into())],
            Ok("a bool of \"bool\"".into()),
        ),
        ("describe", vec![], Err((None, "takes 1 arguments"))),
        (
            "first",
            vec![of(&strings, &vec!["a", "b"].into()).expect("bytes")],
            Ok("a".into()),
        ),
        (
            "first",
            vec![of(&strings, &Value::List(vec![])).expect("bytes")],
            Err((Some(0), "nothing in it")),
        ),
        (
            "first",
            vec![of(&strings, &Value::Unknown).expect("bytes")],
            Ok(Value::Unknown),
        ),
        ("last", vec![], Err((None, "no function \"last\""))),
    ];
    for (name, arguments, expected) in rows {
        let answer = client
            .call_function(tf::call_function::Request {
                name: name.to_owned(),
                arguments,
            })
            .await
            .expect("no status")
            .into_inner();
        match (answer.error, expected) {
            (None, Ok(expected)) => {
                let ty = if name == "sum" { Type::Number } else { Type::String };
                assert_eq!(value(&ty, answer.result.as_ref()), expected, "{name}");
            }
            (Some(error), Err((argument, words))) => {
                assert_eq!(error.function_argument, argument, "{name}: {}", error.text);
                assert!(error.text.contains(words), "{name}: {}", error.text);
            }
            (error, expected) => panic!("{name}: {error:?} instead of {expected:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_is_not_pure_is_found_at_its_second_call() {
    let (mut client, _) = garden().await;
    let mut told = Vec::new();
    for number in ["777", "776", "777"] {
        let number = Number::parse(number).expect("a number").into();
        let request = tf::call_function::Request {
            name: "sum".to_owned(),
            arguments: vec![of(&Type::Number, &number).expect("bytes")],
        };
        let answer = client.call_function(request).await.expect("no status");
        told.push(answer.into_inner().error.map(|it| it.text));
    }
    let [None, None, Some(last)] = told.as_slice() else {
        panic!("only the last call is wrong: {told:?}");
    };
    assert!(last.contains("sum returned another result than before"), "{last}");
}

pub(crate) async fn open(
    client: &mut ProviderClient<Channel>,
    gate: &str,
) -> tf::open_ephemeral_resource::Response {
    let config = Value::object([("gate", Value::from(gate)), ("token", Value::Null)]);
    client
        .open_ephemeral_resource(tf::open_ephemeral_resource::Request {
            type_name: "garden_key".to_owned(),
            config: message(&key_schema(), &config),
            client_capabilities: may_defer(),
        })
        .await
        .expect("no status")
        .into_inner()
}

#[tokio::test]
async fn an_ephemeral_resource_is_opened_renewed_and_closed() {
    let (mut client, world) = garden().await;
    let opened = open(&mut client, "hurried").await;
    assert_eq!(opened.diagnostics, []);
    let result = value(&key_schema().ty(), opened.result.as_ref());
    assert_eq!(result.get("token"), &Value::from("token of hurried"));
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let due = opened.renew_at.expect("it asked for renewals").seconds;
    assert!(
        (now..now + 60).contains(&due),
        "soon, and not in the past: {due} at {now}"
    );

    let renewed = client
        .renew_ephemeral_resource(tf::renew_ephemeral_resource::Request {
            type_name: "garden_key".to_owned(),
            private: opened.private.clone(),
        })
        .await
        .expect("no status")
        .into_inner();
    assert_eq!(renewed.diagnostics, []);
    let due = renewed.renew_at.expect("again").seconds;
    assert!(due > now + 500, "{due} at {now}");
    assert_ne!(renewed.private, opened.private);

    // Terraform closes with what open kept.
    let closed = client
        .close_ephemeral_resource(tf::close_ephemeral_resource::Request {
            type_name: "garden_key".to_owned(),
            private: opened.private,
        })
        .await
        .expect("no status")
        .into_inner();
    assert_eq!(closed.diagnostics, []);
    assert_eq!(
        world.events(),
        ["opened hurried", "renewed hurried", "closed hurried"]
    );

    let calm = open(&mut client, "calm").await;
    assert_eq!(calm.renew_at, None, "nobody asked for a renewal");
}

#[tokio::test]
async fn what_an_ephemeral_resource_must_not_return_is_a_bug_and_closed_again() {
    for (gate, path, words) in [
        ("changed", ".gate", "neither the configured nor the prior"),
        ("unknown", ".token", "still unknown"),
        ("gone", "", "opened nothing"),
    ] {
        let (mut client, world) = garden().await;
        let opened = open(&mut client, gate).await;
        assert_eq!(
            summaries(&opened.diagnostics),
            [("Bug in the provider".to_owned(), path.to_owned())],
            "{gate}"
        );
        assert!(opened.diagnostics[0].detail.contains(words), "{gate}: {opened:?}");
        assert_eq!(
            value(&key_schema().ty(), opened.result.as_ref()),
            Value::Null,
            "{gate}"
        );
        assert_eq!(
            world.events(),
            [format!("opened {gate}"), format!("closed {gate}")]
        );
    }
}

#[tokio::test]
async fn an_ephemeral_configuration_is_validated() {
    let (mut client, _) = garden().await;
    for (gate, expected) in [
        (Value::from("north"), vec![]),
        (Value::Unknown, vec![]),
        (
            Value::Null,
            vec![("Required attribute is missing".to_owned(), ".gate".to_owned())],
        ),
        (
            "nowhere".into(),
            vec![("There is no such gate".to_owned(), String::new())],
        ),
    ] {
        let config = Value::object([("gate", gate), ("token", Value::Null)]);
        let answer = client
            .validate_ephemeral_resource_config(tf::validate_ephemeral_resource_config::Request {
                type_name: "garden_key".to_owned(),
                config: message(&key_schema(), &config),
            })
            .await
            .expect("no status")
            .into_inner();
        assert_eq!(summaries(&answer.diagnostics), expected);
    }
}

#[tokio::test]
async fn state_moves_here_from_what_is_known_and_from_nothing_else() {
    let (core, mut client, _) = beds().await;
    let plot = r#"{"label":"roses"}"#;
    let own = r#"{"name":"roses","id":"bed-roses"}"#;
    for (provider, type_name, version, json, summary) in [
        ("example.test/acme/orchard", "orchard_plot", 1, plot, None),
        (
            "example.test/acme/orchard",
            "orchard_plot",
            2,
            plot,
            Some("Move between resource types is not possible"),
        ),
        (
            "example.test/acme/orchard",
            "orchard_tree",
            1,
            plot,
            Some("Move between resource types is not possible"),
        ),
        (
            "example.test/other/field",
            "orchard_plot",
            1,
            plot,
            Some("Move between resource types is not possible"),
        ),
        (
            "example.test/acme/orchard",
            "orchard_plot",
            1,
            "[]",
            Some("expected an object"),
        ),
        (
            "example.test/acme/orchard",
            "orchard_plot",
            1,
            "",
            Some("Stored state is not readable"),
        ),
        (
            "registry.opentofu.org/acme/garden",
            BED,
            1,
            own,
            Some("Move between resource types is not possible"),
        ),
    ] {
        let answer = client
            .move_resource_state(tf::move_resource_state::Request {
                source_provider_address: provider.to_owned(),
                source_type_name: type_name.to_owned(),
                source_schema_version: version,
                source_state: raw(json),
                target_type_name: BED.to_owned(),
                ..Default::default()
            })
            .await
            .expect("no status")
            .into_inner();
        match summary {
            Some(summary) => {
                assert_eq!(answer.diagnostics[0].summary, summary, "{provider} {type_name}");
                assert_eq!(answer.target_state, None);
            }
            None => {
                assert_eq!(answer.diagnostics, []);
                let state = core.value(answer.target_state.as_ref());
                assert_eq!(state.get("id"), &Value::from("bed-roses"));
                assert_eq!(state.get("secret"), &Value::Null, "write-only");
                assert_eq!(
                    state.get("plant"),
                    &Value::List(vec![]),
                    "no block is an empty list"
                );
                assert_eq!(identity_value(answer.target_identity.as_ref()), roses());
                assert_eq!(answer.target_private, br#"{"moved":true}"#);
            }
        }
    }
}

#[tokio::test]
async fn another_address_of_the_same_provider_is_no_other_type() {
    let (channel, _) = crate::example::connect().await;
    let mut client = channel.provider();
    for (provider, moved) in [
        ("registry.opentofu.org/acme/example", true),
        ("registry.terraform.io/acme/example", true),
        ("example.test/acme/example", false),
    ] {
        let answer = client
            .move_resource_state(tf::move_resource_state::Request {
                source_provider_address: provider.to_owned(),
                source_type_name: "example_thing".to_owned(),
                source_schema_version: 2,
                source_state: raw(r#"{"name":"shop","id":"shop"}"#),
                target_type_name: "example_thing".to_owned(),
                ..Default::default()
            })
            .await
            .expect("no status")
            .into_inner();
        assert_eq!(answer.target_state.is_some(), moved, "{provider}: {answer:?}");
    }
}

#[tokio::test]
async fn a_configuration_is_generated_that_plans_to_nothing() {
    let (mut core, mut client, _) = beds().await;
    let config = bed([
        ("size", 3.into()),
        ("secret", "s3cret".into()),
        (
            "plant",
            Value::List(vec![Value::object([
                ("kind", Value::from("rose")),
                ("spacing", Value::Null),
                ("label", Value::Null),
            ])]),
        ),
    ]);
    let state = core.run(&config, &State::none()).await;
    let answer = client
        .generate_resource_config(tf::generate_resource_config::Request {
            type_name: BED.to_owned(),
            state: core.message(&state.value),
        })
        .await
        .expect("no status")
        .into_inner();
    assert_eq!(answer.diagnostics, []);
    let generated = core.value(answer.config.as_ref());
    for computed in ["id", "sign", "watered", "secret", "interval"] {
        assert_eq!(
            generated.get(computed),
            &Value::Null,
            "{computed} is not to be configured"
        );
    }
    assert_eq!(generated.get("size"), &Value::from(3));
    let plan = core.plan(&generated, &state).await.expect("a plan");
    assert_eq!(plan.planned, state.value);
}

#[tokio::test]
async fn a_bed_with_blocks_lives_its_whole_life() {
    let (mut core, _, world) = beds().await;
    let plant = |kind: &str| {
        Value::object([
            ("kind", Value::from(kind)),
            ("spacing", Value::Null),
            ("label", Value::Null),
        ])
    };
    let guest = |name: &str| Value::object([("name", Value::from(name))]);
    let config = bed([
        ("plant", Value::List(vec![plant("rose"), plant("mint")])),
        (
            "fence",
            Value::object([("height", Value::from(90)), ("gate", Value::List(vec![]))]),
        ),
        ("guest", Value::Set(vec![guest("Ann"), guest("Bob")])),
        ("secret", "under the mat".into()),
    ]);
    let created = core.run(&config, &State::none()).await;
    assert_eq!(world.events(), ["was told a secret of 13 characters"]);
    let plants = created.value.get("plant").as_list().expect("a list").to_vec();
    assert_eq!(
        plants[1].get("spacing"),
        &Value::from("30cm"),
        "defaults inside blocks"
    );
    assert_eq!(plants[0].get("label"), &Value::from("a rose"));
    assert_eq!(created.value.get("sign"), &Value::from("roses 0"));

    // Other spellings, in sets too, are no change.
    let mut respelt = config.clone();
    respelt.set("name", "ROSES");
    respelt.set("interval", "1440m");
    respelt.set("guest", Value::Set(vec![guest("BOB"), guest("ann")]));
    let plan = core.plan(&respelt, &created).await.expect("a plan");
    assert_eq!(plan.planned, created.value);

    // One more plant: the label of the new one is open, the sign is not affected.
    let mut more = config.clone();
    more.set(
        "plant",
        Value::List(vec![plant("rose"), plant("mint"), plant("sage")]),
    );
    let plan = core.plan(&more, &created).await.expect("a plan");
    assert_eq!(plan.planned.get("sign"), created.value.get("sign"));
    assert!(plan.planned.get("watered").is_unknown());
    let mut larger = config.clone();
    larger.set("size", 4);
    let plan = core.plan(&larger, &created).await.expect("a plan");
    assert!(plan.planned.get("sign").is_unknown(), "it says the size");

    let mut renamed = config.clone();
    renamed.set("name", "tulips");
    let plan = core.plan(&renamed, &created).await.expect("a plan");
    assert_eq!(plan.replaces, [".name"]);
    core.refresh(&created).await.expect("it is there");
}

#[tokio::test]
async fn blocks_of_the_provider_are_filled_where_the_host_knows_them() {
    let bees = |number| Value::List(vec![Value::object([("name", Value::from("bee"))]); number]);
    for (knows, expected) in [(true, bees(1)), (false, bees(0))] {
        let (mut core, mut client, _) = beds().await;
        let capabilities = tf::ClientCapabilities {
            computed_blocks_allowed: knows,
            ..Default::default()
        };
        core.capabilities = Some(capabilities);
        client
            .configure_provider(tf::configure_provider::Request {
                client_capabilities: Some(capabilities),
                ..Default::default()
            })
            .await
            .expect("no status");
        let plan = core.plan(&bed([]), &State::none()).await.expect("a plan");
        assert_eq!(plan.planned.get("visitor").is_unknown(), knows, "{plan:?}");
        let created = core.run(&bed([]), &State::none()).await;
        assert_eq!(created.value.get("visitor"), &expected);
        assert_eq!(core.refresh(&created).await.expect("it is there"), created);
        let plan = core.plan(&bed([]), &created).await.expect("a plan");
        assert_eq!(plan.planned, created.value, "nothing changes");
        let larger = bed([("size", 3.into())]);
        let plan = core.plan(&larger, &created).await.expect("a plan");
        assert_eq!(plan.planned.get("visitor").is_unknown(), knows);
        let changed = core.run(&larger, &created).await;
        assert_eq!(changed.value.get("visitor"), &bees(if knows { 2 } else { 0 }));
    }

    let (core, mut client, _) = beds().await;
    let answer = client
        .validate_resource_config(tf::validate_resource_config::Request {
            type_name: BED.to_owned(),
            config: core.message(&bed([("visitor", bees(1))])),
            client_capabilities: None,
        })
        .await
        .expect("no status")
        .into_inner();
    assert_eq!(
        summaries(&answer.diagnostics),
        [("Attribute is read-only".to_owned(), ".visitor".to_owned())]
    );
}

#[tokio::test]
async fn blocks_are_counted_and_deprecations_told() {
    let (core, mut client, _) = beds().await;
    let plant = Value::object([
        ("kind", Value::from("rose")),
        ("spacing", Value::Null),
        ("label", Value::Null),
    ]);
    for (config, expected) in [
        (bed([("plant", Value::List(vec![plant.clone(); 3]))]), None),
        (
            bed([("plant", Value::List(vec![plant.clone(); 4]))]),
            Some((
                "Number of blocks is not allowed",
                ".plant",
                "at most 3 blocks; got 4.",
            )),
        ),
        (bed([("plant", Value::Unknown)]), None),
        (
            bed([("old_note", "x".into())]),
            Some(("Attribute is deprecated", ".old_note", "Use `name`.")),
        ),
    ] {
        let answer = client
            .validate_resource_config(tf::validate_resource_config::Request {
                type_name: BED.to_owned(),
                config: core.message(&config),
                client_capabilities: None,
            })
            .await
            .expect("no status")
            .into_inner();
        match expected {
            None => assert_eq!(answer.diagnostics, []),
            Some((summary, path, words)) => {
                assert_eq!(
                    summaries(&answer.diagnostics),
                    [(summary.to_owned(), path.to_owned())]
                );
                assert!(answer.diagnostics[0].detail.contains(words), "{answer:?}");
                assert_eq!(has_errors(&answer.diagnostics), summary.contains("blocks"));
            }
        }
    }
}

#[tokio::test]
async fn a_plan_during_apply_gets_what_the_first_plan_kept() {
    let (core, mut client, world) = beds().await;
    let config = bed([]);
    let request = tf::plan_resource_change::Request {
        type_name: BED.to_owned(),
        proposed_new_state: core.message(&config),
        config: core.message(&config),
        planned_private: br#"{"planned":true}"#.to_vec(),
        ..Default::default()
    };
    client.plan_resource_change(request).await.expect("no status");
    assert_eq!(world.events(), ["planned again with what the first plan kept"]);
}

pub(crate) async fn collected<T>(mut stream: tonic::Streaming<T>) -> Vec<T> {
    let mut items = Vec::new();
    while let Some(item) = within("the next item", stream.message())
        .await
        .expect("no status")
    {
        items.push(item);
    }
    items
}

pub(crate) async fn list(
    client: &mut ProviderClient<Channel>,
    prefix: &str,
    include: bool,
    limit: i64,
) -> Vec<tf::list_resource::Event> {
    let config = Value::object([("prefix", Value::from(prefix))]);
    let ty = Type::Object([("prefix".to_owned(), Type::String)].into());
    let answer = client.list_resource(tf::list_resource::Request {
        type_name: BED.to_owned(),
        config: of(&ty, &config),
        include_resource_object: include,
        limit,
    });
    collected(answer.await.expect("a stream").into_inner()).await
}

#[tokio::test]
async fn a_list_finds_at_most_what_is_wanted() {
    let (mut core, mut client, world) = beds().await;
    for name in ["rose", "rosemary", "rowan", "thyme"] {
        core.run(&bed([("name", name.into())]), &State::none()).await;
    }
    let names = |events: &[tf::list_resource::Event]| -> Vec<String> {
        events.iter().map(|event| event.display_name.clone()).collect()
    };
    let found = list(&mut client, "ro", true, 10).await;
    assert_eq!(names(&found), ["rose", "rosemary", "rowan", ""]);
    assert_eq!(found[3].diagnostic[0].summary, "That was all");
    let rose = core.value(found[0].resource_object.as_ref());
    assert_eq!(rose.get("id"), &Value::from("bed-rose"));
    assert_eq!(
        identity_value(found[0].identity.as_ref()).get("name"),
        &Value::from("rose")
    );

    let found = list(&mut client, "ro", false, 2).await;
    assert_eq!(names(&found), ["rose", "rosemary"]);
    assert!(found.iter().all(|event| event.resource_object.is_none()));
    assert_eq!(
        world.events().last().map(String::as_str),
        Some("nobody wants more")
    );

    for (prefix, words) in [
        ("anonymous", "without an identity"),
        ("panic", "list was told to"),
    ] {
        let found = list(&mut client, prefix, false, 0).await;
        assert!(found[0].diagnostic[0].detail.contains(words), "{found:?}");
        assert!(found[0].diagnostic[0].detail.ends_with(REPORTED_AT), "{found:?}");
        assert!(found[0].identity.is_none());
    }
}

#[tokio::test]
async fn a_list_and_an_action_are_validated() {
    let (mut client, _) = garden().await;
    let ty = Type::Object([("prefix".to_owned(), Type::String)].into());
    let answer = client
        .validate_list_resource_config(tf::validate_list_resource_config::Request {
            type_name: BED.to_owned(),
            config: of(&ty, &Value::object([("prefix", Value::from("*"))])),
            ..Default::default()
        })
        .await
        .expect("no status")
        .into_inner();
    assert_eq!(answer.diagnostics[0].summary, "A prefix is no pattern");
    let answer = client
        .validate_action_config(tf::validate_action_config::Request {
            type_name: "garden_water".to_owned(),
            config: None,
        })
        .await
        .expect("no status")
        .into_inner();
    assert_eq!(
        summaries(&answer.diagnostics),
        [("Required attribute is missing".to_owned(), ".bed".to_owned())]
    );
}

pub(crate) fn watering(bed: &str) -> Option<DynamicValue> {
    let ty = Type::Object(
        [
            ("bed".to_owned(), Type::String),
            ("litres".to_owned(), Type::Number),
        ]
        .into(),
    );
    of(
        &ty,
        &Value::object([("bed", Value::from(bed)), ("litres", Value::Null)]),
    )
}

#[tokio::test]
async fn an_action_is_planned_and_tells_how_it_goes() {
    use tf::invoke_action::event::Type as Event;
    let (mut client, world) = garden().await;
    for (bed, expected) in [("roses", None), ("desert", Some("There is no water"))] {
        let planned = client
            .plan_action(tf::plan_action::Request {
                action_type: "garden_water".to_owned(),
                config: watering(bed),
                client_capabilities: may_defer(),
            })
            .await
            .expect("no status")
            .into_inner();
        assert_eq!(
            planned.diagnostics.first().map(|it| it.summary.as_str()),
            expected
        );
        assert_eq!(planned.deferred, None);
    }
    for (bed, said, over) in [
        ("roses", vec!["walking to roses", "pouring"], "Watered"),
        ("careless", vec!["walking to careless", "pouring"], "Watered"),
        ("panic", vec!["walking to panic"], "Bug in the provider"),
    ] {
        let answer = client.invoke_action(tf::invoke_action::Request {
            action_type: "garden_water".to_owned(),
            config: watering(bed),
            client_capabilities: None,
        });
        let events = collected(answer.await.expect("a stream").into_inner()).await;
        let mut sentences = Vec::new();
        let mut ends = Vec::new();
        for event in events {
            match event.r#type.expect("Terraform crashes on an event of no type") {
                Event::Progress(progress) => sentences.push(progress.message),
                Event::Completed(completed) => {
                    let last = &completed.diagnostics[0];
                    let is_bug = last.summary == "Bug in the provider";
                    assert_eq!(last.detail.ends_with(REPORTED_AT), is_bug, "{last:?}");
                    ends.push(last.summary.clone());
                }
            }
        }
        assert_eq!(
            (sentences, ends),
            (
                said.iter().map(ToString::to_string).collect(),
                vec![over.to_owned()]
            )
        );
    }
    assert_eq!(world.events(), ["watered roses", "watered careless"]);
}

#[tokio::test]
async fn what_cannot_be_decided_is_deferred_where_the_host_allows_it() {
    use tf::deferred::Reason;
    let (core, mut client, _) = beds().await;
    let config = bed([("size", Value::Unknown)]);
    let plan = |config: &Value, client_capabilities| tf::plan_resource_change::Request {
        type_name: BED.to_owned(),
        proposed_new_state: core.message(config),
        config: core.message(config),
        client_capabilities,
        ..Default::default()
    };
    for (config, allowed, expected) in [
        (&config, None, None),
        (&config, may_defer(), Some(Reason::ResourceConfigUnknown)),
        (
            &bed([("fault", "defer: no ground".into()), ("old_note", Value::Unknown)]),
            may_defer(),
            Some(Reason::AbsentPrereq),
        ),
        // All is known, as in an apply, in which deferring is an error that the host seems to allow.
        (&bed([("fault", "defer: no ground".into())]), may_defer(), None),
        (&bed([]), may_defer(), None),
    ] {
        let answer = client
            .plan_resource_change(plan(config, allowed))
            .await
            .expect("no status")
            .into_inner();
        assert_eq!(answer.diagnostics, []);
        assert_eq!(answer.deferred.map(|it| it.reason()), expected);
        let planned = core.value(answer.planned_state.as_ref());
        assert!(planned.get("id").is_unknown(), "deferred or not: {planned:?}");
    }

    let mut stored = bed([("fault", "defer: no ground".into())]);
    stored.set("id", "bed-roses");
    let stored = core.message(&stored);
    let answer = client
        .read_resource(tf::read_resource::Request {
            type_name: BED.to_owned(),
            current_state: stored.clone(),
            private: b"{\"kept\":1}".to_vec(),
            client_capabilities: may_defer(),
            ..Default::default()
        })
        .await
        .expect("no status")
        .into_inner();
    assert_eq!(reason(answer.deferred), Reason::AbsentPrereq);
    assert_eq!(
        (answer.new_state, answer.private),
        (stored, b"{\"kept\":1}".to_vec())
    );

    let opened = open(&mut client, "later").await;
    assert_eq!(reason(opened.deferred), Reason::AbsentPrereq);
    let day = Type::Object([("day".to_owned(), Type::String), ("rain".to_owned(), Type::Bool)].into());
    let answer = client
        .read_data_source(tf::read_data_source::Request {
            type_name: "garden_weather".to_owned(),
            config: of(
                &day,
                &Value::object([("day", Value::from("tomorrow")), ("rain", Value::Null)]),
            ),
            client_capabilities: may_defer(),
            ..Default::default()
        })
        .await
        .expect("no status")
        .into_inner();
    assert_eq!(reason(answer.deferred), Reason::AbsentPrereq);
    assert!(value(&day, answer.state.as_ref()).is_unknown());

    // Now the provider block itself is not known yet.
    let climate = Type::Object([("climate".to_owned(), Type::String)].into());
    client
        .configure_provider(tf::configure_provider::Request {
            config: of(&climate, &Value::object([("climate", Value::Unknown)])),
            client_capabilities: may_defer(),
            ..Default::default()
        })
        .await
        .expect("no status");
    let answer = client.plan_resource_change(plan(&bed([]), may_defer())).await;
    assert_eq!(
        reason(answer.expect("no status").into_inner().deferred),
        Reason::ProviderConfigUnknown
    );
    let answer = client
        .import_resource_state(tf::import_resource_state::Request {
            type_name: BED.to_owned(),
            id: "bed-roses".to_owned(),
            client_capabilities: may_defer(),
            ..Default::default()
        })
        .await
        .expect("no status")
        .into_inner();
    assert_eq!(reason(answer.deferred), Reason::ProviderConfigUnknown);
    assert!(
        core.value(answer.imported_resources[0].state.as_ref())
            .is_unknown()
    );
    let answer = client
        .plan_action(tf::plan_action::Request {
            action_type: "garden_water".to_owned(),
            config: watering("roses"),
            client_capabilities: may_defer(),
        })
        .await
        .expect("no status")
        .into_inner();
    assert_eq!(reason(answer.deferred), Reason::ProviderConfigUnknown);
    let answer = client.plan_resource_change(plan(&bed([]), None)).await;
    assert_eq!(
        answer.expect("no status").into_inner().deferred,
        None,
        "only where it is allowed"
    );
}

#[tokio::test]
async fn state_of_a_newer_version_is_refused_in_words() {
    let (mut core, _, _) = beds().await;
    let refused = core
        .upgrade(2, r#"{"name":"roses"}"#)
        .await
        .expect_err("it is newer");
    assert_eq!(refused[0].summary, "Stored by a newer version of the provider");
    assert!(
        refused[0]
            .detail
            .contains("of version 2; this provider knows versions up to 1")
    );
}
