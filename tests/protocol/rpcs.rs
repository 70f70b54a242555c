//! Every RPC, through the service and a real connection, against the small provider of [`crate::example`].

use std::sync::Arc;

use kvtls::framework::{Attribute, AttributeKind, Schema, Value};
use kvtls::tfplugin6::dynamic_value;
use kvtls::tfplugin6::generated::provider_client::ProviderClient;
use kvtls::tfplugin6::generated::{self as tf, DynamicValue};

use crate::core::{Core, Plan, State, capable, has_errors, summaries};
use crate::example::{World, connect, echo_schema, provider_schema, thing_schema};
use crate::host::{Channel, within};

const THING: &str = "example_thing";

async fn client() -> (ProviderClient<Channel>, Arc<World>) {
    let (channel, world) = connect().await;
    (channel.provider(), world)
}

async fn core() -> (Core, Arc<World>) {
    let (client, world) = client().await;
    (Core::new(client, THING, &thing_schema()), world)
}

/// A configuration: these attributes, the others null.
fn with<const N: usize>(schema: &Schema, members: [(&str, Value); N]) -> Value {
    let mut object = Value::object(schema.attributes.keys().map(|name| (name.as_str(), Value::Null)));
    for (name, value) in members {
        object.set(name, value);
    }
    object
}

fn thing<const N: usize>(members: [(&str, Value); N]) -> Value {
    let mut thing = with(&thing_schema(), members);
    if thing.get("name").is_null() {
        thing.set("name", "shop");
    }
    thing
}

fn faulty(fault: &str) -> Value {
    thing([("fault", Value::from(fault))])
}

fn message(schema: &Schema, value: &Value) -> Option<DynamicValue> {
    Some(DynamicValue {
        msgpack: dynamic_value::encode(&schema.ty(), value).expect("a value of the schema"),
        json: Vec::new(),
    })
}

fn private(state: &[u8]) -> serde_json::Value {
    serde_json::from_slice(state).expect("private data is JSON")
}

fn is_bug(diagnostics: &[tf::Diagnostic], words: &str) -> bool {
    diagnostics.iter().any(|diagnostic| {
        diagnostic.summary == "Bug in the provider"
            && diagnostic.detail.contains(words)
            && diagnostic.detail.ends_with("\nhttps://example.test/issues")
    })
}

fn path(name: &str) -> String {
    format!(".{name}")
}

#[tokio::test]
async fn the_schema_says_what_the_author_said() {
    let (mut client, _) = client().await;
    let answer = client
        .get_provider_schema(tf::get_provider_schema::Request {})
        .await
        .expect("an answer")
        .into_inner();
    let capabilities = answer.server_capabilities.expect("capabilities");
    assert!(capabilities.plan_destroy && capabilities.get_provider_schema_optional);
    assert!(!capabilities.move_resource_state, "it takes over nothing");
    assert!(capabilities.generate_resource_config);
    assert!(answer.provider.expect("a provider schema").block.is_some());
    assert!(answer.data_source_schemas.contains_key("example_echo"));

    let schema = &answer.resource_schemas[THING];
    let block = schema.block.as_ref().expect("a block");
    assert_eq!(
        (schema.version, block.attributes.len()),
        (2, thing_schema().attributes.len())
    );
    for attribute in &block.attributes {
        assert_same(
            &attribute.name,
            attribute,
            &thing_schema().attributes[&attribute.name],
        );
    }
    let types: Vec<(&str, &[u8])> = block
        .attributes
        .iter()
        .filter(|attribute| ["tags", "any", "amount"].contains(&attribute.name.as_str()))
        .map(|attribute| (attribute.name.as_str(), attribute.r#type.as_slice()))
        .collect();
    assert_eq!(
        types,
        [
            ("amount", &b"\"number\""[..]),
            ("any", b"\"dynamic\""),
            ("tags", b"[\"set\",\"string\"]")
        ]
    );
}

fn assert_same(name: &str, wire: &tf::schema::Attribute, ours: &Attribute) {
    use kvtls::framework::{Nesting, Presence};
    let flags = (wire.required, wire.optional, wire.computed);
    let expected = match ours.presence {
        Presence::Required => (true, false, false),
        Presence::Optional => (false, true, false),
        Presence::OptionalComputed => (false, true, true),
        Presence::Computed => (false, false, true),
    };
    assert_eq!(flags, expected, "{name}");
    assert_eq!(wire.write_only, ours.write_only, "{name}");
    assert_eq!(wire.description, ours.description, "{name}");
    match (&ours.kind, &wire.nested_type) {
        (AttributeKind::Value(_), None) => assert!(!wire.r#type.is_empty(), "{name}"),
        (AttributeKind::Nested(nesting, children), Some(object)) => {
            use tf::schema::object::NestingMode;
            let expected = match nesting {
                Nesting::Single => NestingMode::Single,
                Nesting::List => NestingMode::List,
                Nesting::Set => NestingMode::Set,
                Nesting::Map => NestingMode::Map,
            };
            assert_eq!(object.nesting(), expected, "{name}");
            assert!(wire.r#type.is_empty(), "{name}: either type or nested type");
            for child in &object.attributes {
                assert_same(&child.name, child, &children[&child.name]);
            }
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[tokio::test]
async fn metadata_names_the_types() {
    let (mut client, _) = client().await;
    let answer = client
        .get_metadata(tf::get_metadata::Request {})
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(answer.resources[0].type_name, THING);
    assert_eq!(answer.data_sources[0].type_name, "example_echo");
    assert!(answer.server_capabilities.expect("capabilities").plan_destroy);
}

async fn validate(
    client: &mut ProviderClient<Channel>,
    config: &Value,
    client_capabilities: Option<tf::ClientCapabilities>,
) -> Vec<tf::Diagnostic> {
    let request = tf::validate_resource_config::Request {
        type_name: THING.to_owned(),
        config: message(&thing_schema(), config),
        client_capabilities,
    };
    let answer = client.validate_resource_config(request).await;
    answer.expect("an answer").into_inner().diagnostics
}

#[tokio::test]
async fn a_resource_is_validated_by_its_schema_and_by_itself() {
    let (mut client, _) = client().await;
    let long = "x".repeat(21);
    for (config, expected) in [
        (thing([]), vec![]),
        (
            thing([("name", Value::Unknown), ("tags", Value::Unknown)]),
            vec![],
        ),
        (
            thing([("name", Value::from(long))]),
            vec![("Value is not valid".to_owned(), path("name"))],
        ),
        (
            faulty("validate: warns"),
            vec![("Told to warn".to_owned(), path("fault"))],
        ),
        (
            thing([("id", Value::from("mine"))]),
            vec![("Attribute is read-only".to_owned(), path("id"))],
        ),
    ] {
        let found = validate(&mut client, &config, capable()).await;
        assert_eq!(summaries(&found), expected, "{config:?}");
    }
    assert!(is_bug(
        &validate(&mut client, &faulty("validate: panics"), capable()).await,
        "validate was told to"
    ));
}

#[tokio::test]
async fn a_write_only_value_needs_a_terraform_that_keeps_it_out_of_the_state() {
    let (mut client, _) = client().await;
    let config = thing([("password", Value::from("s3cret"))]);
    assert_eq!(validate(&mut client, &config, capable()).await, []);
    let refused = validate(&mut client, &config, None).await;
    assert_eq!(
        summaries(&refused),
        [(
            "Write-only attribute needs a newer Terraform".to_owned(),
            path("password")
        )]
    );
}

#[tokio::test]
async fn the_provider_block_is_validated_and_replaced_as_a_whole() {
    let (mut client, world) = client().await;
    let schema = provider_schema();
    let bad = with(&schema, [("region", Value::from("west"))]);
    let request = tf::validate_provider_config::Request {
        config: message(&schema, &bad),
    };
    let answer = client.validate_provider_config(request).await.expect("an answer");
    assert_eq!(
        summaries(&answer.into_inner().diagnostics),
        [("Value is not valid".to_owned(), path("region"))]
    );

    for config in [
        with(
            &schema,
            [("region", Value::from("north")), ("token", Value::Unknown)],
        ),
        with(&schema, [("token", Value::from("t"))]),
    ] {
        let answer = configure(&mut client, message(&schema, &config)).await;
        assert_eq!(answer, []);
        let settings = world.settings.lock().expect("no panic while held").clone();
        assert_eq!(settings, Some((config, "1.11.4".to_owned())));
    }
    assert_eq!(
        configure(&mut client, None).await,
        [],
        "an absent block sets nothing"
    );
    let settings = world.settings.lock().expect("no panic while held").clone();
    assert_eq!(settings.map(|(config, _)| config), Some(with(&schema, [])));

    let south = with(&schema, [("region", Value::from("south"))]);
    let crashed = configure(&mut client, message(&schema, &south)).await;
    assert!(is_bug(&crashed, "nobody goes south"), "{crashed:?}");
}

async fn configure(
    client: &mut ProviderClient<Channel>,
    config: Option<DynamicValue>,
) -> Vec<tf::Diagnostic> {
    let request = tf::configure_provider::Request {
        terraform_version: "1.11.4".to_owned(),
        config,
        ..Default::default()
    };
    let answer = client.configure_provider(request).await;
    answer.expect("an answer").into_inner().diagnostics
}

#[tokio::test]
async fn a_thing_lives_its_whole_life() {
    let (mut core, world) = core().await;
    let config = thing([
        ("note", Value::from("first")),
        ("password", Value::from("s3cret")),
        (
            "ports",
            Value::object([(
                "web",
                Value::object([("number", Value::from(443)), ("protocol", Value::Null)]),
            )]),
        ),
    ]);

    let created = core.run(&config, &State::none()).await;
    for (name, expected) in [
        ("id", Value::from("shop")),
        ("revision", Value::from(1)),
        ("password", Value::Null),
        ("options", Value::object([("level", Value::from("info"))])),
    ] {
        assert_eq!(created.value.get(name), &expected, "{name}");
    }
    assert_eq!(
        private(&created.private),
        serde_json::json!({"planned": true, "applied": true})
    );

    let read = core.refresh(&created).await.expect("it is there");
    assert_eq!(read, created, "state and private data come back as they were");
    let nothing_to_do = core.plan(&config, &read).await.expect("a plan");
    assert_eq!(
        nothing_to_do.planned, read.value,
        "a set write-only value is no difference"
    );

    let mut changed = config.clone();
    changed.set("note", "second");
    let plan = core.plan(&changed, &read).await.expect("a plan");
    assert_eq!(plan.replaces, Vec::<String>::new());
    assert_eq!(plan.planned.get("id"), &Value::from("shop"), "kept");
    assert_eq!(plan.planned.get("revision"), &Value::Unknown, "recomputed");
    let updated = core.run(&changed, &read).await;
    assert_eq!(updated.value.get("revision"), &Value::from(2));

    let mut renamed = changed.clone();
    renamed.set("name", "store");
    let plan = core.plan(&renamed, &updated).await.expect("a plan");
    assert_eq!(plan.replaces, [path("name")]);

    let gone = core.run(&Value::Null, &updated).await;
    assert_eq!(gone.value, Value::Null);
    assert!(world.things.lock().expect("no panic while held").is_empty());
    let read = core.refresh(&updated).await.expect("an answer");
    assert_eq!(read.value, Value::Null, "what is gone reads as gone");
}

#[tokio::test]
async fn an_unknown_name_is_an_update_and_another_case_is_none() {
    let (mut core, _) = core().await;
    let created = core.run(&thing([]), &State::none()).await;
    let unknown = core
        .plan(&thing([("name", Value::Unknown)]), &created)
        .await
        .expect("a plan");
    assert_eq!(unknown.replaces, Vec::<String>::new());
    let shouted = core
        .plan(&thing([("name", Value::from("SHOP"))]), &created)
        .await
        .expect("a plan");
    assert_eq!(shouted.planned, created.value);
}

#[tokio::test]
async fn a_resource_may_add_a_replacement() {
    let (mut core, _) = core().await;
    let mut config = faulty("plan: replaces for its note");
    let created = core.run(&config, &State::none()).await;
    config.set("note", "new");
    let plan = core.plan(&config, &created).await.expect("a plan");
    assert_eq!(plan.replaces, [path("note")]);
}

#[tokio::test]
async fn stored_state_of_this_version_is_read_leniently_and_remembered() {
    let (mut core, world) = core().await;
    let json = r#"{
        "name": "shop", "id": "shop", "revision": 123456789012345678901234567890,
        "gone": {"in": "this version"}, "tags": ["b", "a"], "password": "s3cret"
    }"#;
    let state = core.upgrade(2, json).await.expect("a state");
    let mut expected = thing([
        ("id", Value::from("shop")),
        ("tags", Value::Set(vec![Value::from("a"), Value::from("b")])),
    ]);
    let exact = kvtls::framework::Number::parse("123456789012345678901234567890").expect("a number");
    expected.set("revision", exact);
    assert_eq!(state, expected);
    let remembered = world.remembered.lock().expect("no panic while held").clone();
    assert_eq!(remembered, [expected]);
}

#[tokio::test]
async fn stored_state_of_an_older_version_is_upgraded() {
    let (mut core, _) = core().await;
    let state = core
        .upgrade(1, r#"{"name":"shop","remark":"old"}"#)
        .await
        .expect("a state");
    assert_eq!(state, thing([("note", Value::from("old"))]));
}

#[tokio::test]
async fn stored_state_that_cannot_be_read_is_refused() {
    let (mut core, world) = core().await;
    for (version, json, summary) in [
        (2, r#"{"name": ["marker"]}"#, "Stored state is not readable"),
        (2, "null", "Bug in the provider"),
        (2, "not JSON", "Stored state is not readable"),
        (2, "", "Stored state is not readable"),
        (0, "{}", "Bug in the provider"), // the example's assertion
    ] {
        let refused = core.upgrade(version, json).await.expect_err(json);
        assert_eq!(refused[0].summary, summary, "{json}");
        assert!(!refused[0].detail.contains("marker"), "{refused:?}");
    }
    assert!(world.remembered.lock().expect("no panic while held").is_empty());
}

#[tokio::test]
async fn an_import_finds_one_object_or_says_why_not() {
    let (mut client, _) = client().await;
    let mut import = async |id: &str| {
        let request = tf::import_resource_state::Request {
            type_name: THING.to_owned(),
            id: id.to_owned(),
            ..Default::default()
        };
        client
            .import_resource_state(request)
            .await
            .expect("an answer")
            .into_inner()
    };
    let found = import("shop").await;
    assert_eq!(found.diagnostics, []);
    let [one] = found.imported_resources.as_slice() else {
        panic!("exactly one: {found:?}");
    };
    assert_eq!(one.type_name, THING);
    assert_eq!(private(&one.private), serde_json::json!({"imported": true}));

    for (id, words) in [("nothing", "found nothing"), ("panic", "import was told to")] {
        let refused = import(id).await;
        assert_eq!(refused.imported_resources, []);
        assert!(is_bug(&refused.diagnostics, words), "{refused:?}");
    }
    assert_eq!(import("").await.diagnostics[0].summary, "Import needs an ID");
}

#[tokio::test]
async fn a_data_source_is_validated_and_read() {
    let (mut client, _) = client().await;
    let schema = echo_schema();
    let request = tf::validate_data_resource_config::Request {
        type_name: "example_echo".to_owned(),
        config: message(&schema, &with(&schema, [])),
    };
    let answer = client.validate_data_resource_config(request).await;
    assert_eq!(
        summaries(&answer.expect("an answer").into_inner().diagnostics),
        [("Required attribute is missing".to_owned(), path("text"))]
    );

    let mut read = async |text: &str| {
        let request = tf::read_data_source::Request {
            type_name: "example_echo".to_owned(),
            config: message(&schema, &with(&schema, [("text", Value::from(text))])),
            ..Default::default()
        };
        client
            .read_data_source(request)
            .await
            .expect("an answer")
            .into_inner()
    };
    let said = read("hello").await;
    assert_eq!(said.diagnostics, []);
    assert_eq!(
        said.state,
        message(
            &schema,
            &with(
                &schema,
                [("text", Value::from("hello")), ("said", Value::from("hello"))]
            )
        )
    );
    for (text, words) in [
        ("nothing", "returned nothing"),
        ("later", "still unknown"),
        ("panic", "echo was told to"),
    ] {
        let refused = read(text).await;
        assert!(is_bug(&refused.diagnostics, words), "{refused:?}");
    }
}

/// Nothing that a handler does may cost Terraform what it has stored.
#[tokio::test]
async fn a_panic_is_a_bug_report_and_the_stored_state_stays() {
    let (mut core, _) = core().await;
    let planned = |config: &Value| Plan {
        planned: config.clone(),
        private: Vec::new(),
        replaces: Vec::new(),
    };
    let stored = |fault: &str| State {
        value: faulty(fault),
        private: b"{\"kept\":1}".to_vec(),
    };

    let read = core
        .refresh(&stored("read: panics"))
        .await
        .expect_err("it panics");
    assert!(is_bug(&read, "read was told to"), "{read:?}");
    let plan = core
        .plan(&faulty("plan: panics"), &State::none())
        .await
        .expect_err("it panics");
    assert!(is_bug(&plan, "plan was told to"), "{plan:?}");

    let config = faulty("apply: panics");
    let before = stored("apply: panics");
    let nothing = Plan {
        planned: Value::Null,
        ..planned(&config)
    };
    for (config, before, plan) in [
        (config.clone(), State::none(), planned(&config)),  // create
        (config.clone(), before.clone(), planned(&config)), // update
        (Value::Null, before, nothing),                     // delete
    ] {
        let applied = core.apply(&config, &before, &plan).await;
        assert!(
            is_bug(&applied.diagnostics, "apply was told to"),
            "{:?}",
            applied.diagnostics
        );
        assert_eq!(applied.state, before);
    }
    core.run(&thing([]), &State::none()).await; // and the provider lives on
}

#[tokio::test]
async fn a_failed_read_keeps_state_and_private_data() {
    let (mut core, _) = core().await;
    let stored = State {
        value: faulty("read: fails"),
        private: b"{\"kept\":1}".to_vec(),
    };
    let refused = core.refresh(&stored).await.expect_err("it fails");
    assert_eq!(refused[0].summary, "Told to fail");
}

#[tokio::test]
async fn a_failed_create_keeps_what_exists_and_none_of_what_is_unknown_or_secret() {
    let (mut core, _) = core().await;
    let mut config = faulty("apply: fails half way");
    config.set("password", "s3cret");
    let plan = core.plan(&config, &State::none()).await.expect("a plan");
    let applied = core.apply(&config, &State::none(), &plan).await;
    assert_eq!(applied.diagnostics[0].summary, "Told to fail");
    assert_eq!(
        applied.diagnostics.len(),
        1,
        "what is unfinished beside an error is no bug"
    );
    for (name, expected) in [
        ("id", Value::from("shop")),
        ("revision", Value::Null),
        ("password", Value::Null),
    ] {
        assert_eq!(applied.state.value.get(name), &expected, "{name}");
    }
    assert_eq!(
        private(&applied.state.private),
        serde_json::json!({"planned": true, "applied": true})
    );
}

#[tokio::test]
async fn a_failed_update_or_delete_without_a_state_keeps_the_stored_one() {
    let (mut core, _) = core().await;
    let stored = State {
        value: faulty("apply: fails"),
        private: b"{\"kept\":1}".to_vec(),
    };
    for config in [faulty("apply: fails"), Value::Null] {
        let plan = core.plan(&config, &stored).await.expect("a plan");
        let applied = core.apply(&config, &stored, &plan).await;
        assert!(has_errors(&applied.diagnostics));
        assert_eq!(applied.state, stored);
    }
}

#[tokio::test]
async fn private_data_that_is_not_ours_is_ignored() {
    let (mut core, _) = core().await;
    let created = core.run(&thing([]), &State::none()).await;
    let foreign = State {
        private: vec![0xff, 0x00, b'{'],
        ..created
    };
    let read = core.refresh(&foreign).await.expect("it is there");
    assert_eq!(read.private, Vec::<u8>::new(), "no private data is no bytes");
}

#[tokio::test]
async fn stop_ends_a_wait_and_the_state_survives() {
    let (channel, world) = connect().await;
    let mut core = Core::new(channel.provider(), THING, &thing_schema());
    let config = faulty("apply: waits");
    let plan = core.plan(&config, &State::none()).await.expect("a plan");
    let applying = tokio::spawn({
        let (config, plan) = (config.clone(), plan.clone());
        async move { core.apply(&config, &State::none(), &plan).await }
    });
    within("the apply to wait", world.waits.notified()).await;
    assert!(!applying.is_finished());
    stop(&channel).await;
    let applied = within("the apply to end", applying).await.expect("no panic");
    assert_eq!(applied.diagnostics[0].summary, "Stopped");
    assert_eq!(applied.state.value.get("id"), &Value::from("shop"));

    // What is stopped stays stopped …
    let mut core = Core::new(channel.provider(), THING, &thing_schema());
    let applied = within(
        "a stopped provider does not wait",
        core.apply(&config, &State::none(), &plan),
    )
    .await;
    assert_eq!(applied.diagnostics[0].summary, "Stopped");

    // … until it is configured again.
    assert_eq!(configure(&mut channel.provider(), None).await, []);
    let applying = tokio::spawn(async move { core.apply(&config, &State::none(), &plan).await });
    within("the apply to wait twice more", async {
        world.waits.notified().await; // left over from the apply that did not wait
        world.waits.notified().await;
    })
    .await;
    assert!(!applying.is_finished(), "a new configuration is a new start");
    stop(&channel).await;
    within("the apply to end", applying).await.expect("no panic");
}

async fn stop(channel: &Channel) {
    let answer = channel
        .provider()
        .stop_provider(tf::stop_provider::Request {})
        .await;
    assert_eq!(answer.expect("an answer").into_inner().error, "");
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_any_more_is_finished() {
    let (channel, world) = connect().await;
    let mut core = Core::new(channel.provider(), THING, &thing_schema());
    let config = faulty("apply: waits for the test");
    let plan = core.plan(&config, &State::none()).await.expect("a plan");
    let applying = tokio::spawn(async move { core.apply(&config, &State::none(), &plan).await });
    within("the apply to wait", world.waits.notified()).await;
    applying.abort();
    assert!(applying.await.expect_err("it is aborted").is_cancelled());
    // An answer on the same connection: by now the server knows.
    let functions = channel
        .provider()
        .get_functions(tf::get_functions::Request {})
        .await;
    functions.expect("an answer");
    world.go_on.notify_one();
    within("the apply to end", world.ended.notified()).await;
}

#[tokio::test]
async fn an_unknown_type_is_refused_in_words() {
    let (mut client, _) = client().await;
    let name = "example_nothing".to_owned();
    let answers = [
        client
            .read_resource(tf::read_resource::Request {
                type_name: name.clone(),
                ..Default::default()
            })
            .await
            .expect("an answer")
            .into_inner()
            .diagnostics,
        client
            .read_data_source(tf::read_data_source::Request {
                type_name: name,
                ..Default::default()
            })
            .await
            .expect("an answer")
            .into_inner()
            .diagnostics,
    ];
    assert_eq!(answers[0][0].summary, "Unknown resource type");
    assert_eq!(answers[1][0].summary, "Unknown data source type");
}

#[tokio::test]
async fn what_is_not_offered_is_refused_politely() {
    let (mut client, _) = client().await;
    let refuses_identity = client
        .upgrade_resource_identity(tf::upgrade_resource_identity::Request {
            type_name: THING.to_owned(),
            raw_identity: Some(tf::RawState {
                json: b"{}".to_vec(),
                ..Default::default()
            }),
            ..Default::default()
        })
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(refuses_identity.diagnostics[0].summary, "Identity is not known");
    let moved = client
        .move_resource_state(tf::move_resource_state::Request {
            source_type_name: "azurerm_thing".to_owned(),
            target_type_name: THING.to_owned(),
            source_state: Some(tf::RawState {
                json: b"{}".to_vec(),
                ..Default::default()
            }),
            ..Default::default()
        })
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(
        moved.diagnostics[0].summary,
        "Move between resource types is not possible"
    );
    assert!(moved.target_state.is_none());

    let functions = client
        .get_functions(tf::get_functions::Request {})
        .await
        .expect("an answer");
    assert!(functions.into_inner().functions.is_empty());
    let identities = client
        .get_resource_identity_schemas(tf::get_resource_identity_schemas::Request {})
        .await
        .expect("an answer");
    assert!(identities.into_inner().identity_schemas.is_empty());
    let called = client
        .call_function(tf::call_function::Request {
            name: "upper".to_owned(),
            arguments: Vec::new(),
        })
        .await
        .expect("an answer");
    let error = called.into_inner().error.expect("an error");
    assert_eq!(error.text, "this provider has no function \"upper\"");

    macro_rules! refused {
        ($summary:expr => $($method:ident($request:path)),* $(,)?) => {$(
            let answer = client.$method(<$request>::default()).await.expect("an answer");
            let diagnostics = answer.into_inner().diagnostics;
            assert_eq!(diagnostics[0].summary, $summary, stringify!($method));
            assert!(has_errors(&diagnostics), stringify!($method));
        )*};
    }
    refused!("Unknown resource type" =>
        validate_resource_config(tf::validate_resource_config::Request),
        upgrade_resource_state(tf::upgrade_resource_state::Request),
        read_resource(tf::read_resource::Request),
        plan_resource_change(tf::plan_resource_change::Request),
        apply_resource_change(tf::apply_resource_change::Request),
        import_resource_state(tf::import_resource_state::Request),
        move_resource_state(tf::move_resource_state::Request),
        generate_resource_config(tf::generate_resource_config::Request),
    );
    refused!("Unknown data source type" =>
        validate_data_resource_config(tf::validate_data_resource_config::Request),
        read_data_source(tf::read_data_source::Request),
    );
    refused!("Unknown ephemeral resource type" =>
        validate_ephemeral_resource_config(tf::validate_ephemeral_resource_config::Request),
        open_ephemeral_resource(tf::open_ephemeral_resource::Request),
        renew_ephemeral_resource(tf::renew_ephemeral_resource::Request),
        close_ephemeral_resource(tf::close_ephemeral_resource::Request),
    );
    refused!("Unknown list resource type" =>
        validate_list_resource_config(tf::validate_list_resource_config::Request),
    );
    refused!("Unknown action type" =>
        plan_action(tf::plan_action::Request),
        validate_action_config(tf::validate_action_config::Request),
    );
    refused!("Not offered by this provider" =>
        validate_state_store_config(tf::validate_state_store::Request),
        configure_state_store(tf::configure_state_store::Request),
        lock_state(tf::lock_state::Request),
        unlock_state(tf::unlock_state::Request),
        get_states(tf::get_states::Request),
        delete_state(tf::delete_state::Request),
    );
    let written = client.write_state_bytes(futures_util::stream::empty()).await;
    let written = written.expect("an answer").into_inner();
    assert_eq!(written.diagnostics[0].summary, "Not offered by this provider");
    let read = client
        .read_state_bytes(tf::read_state_bytes::Request::default())
        .await;
    let read = all(read.expect("a stream").into_inner()).await;
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].diagnostics[0].summary, "Not offered by this provider");
    let listed = client.list_resource(tf::list_resource::Request::default()).await;
    let listed = all(listed.expect("a stream").into_inner()).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].diagnostic[0].summary, "Unknown list resource type");
    let invoked = client.invoke_action(tf::invoke_action::Request::default()).await;
    let invoked = all(invoked.expect("a stream").into_inner()).await;
    let [
        tf::invoke_action::Event {
            r#type: Some(tf::invoke_action::event::Type::Completed(over)),
        },
    ] = invoked.as_slice()
    else {
        panic!("exactly one end: {invoked:?}");
    };
    assert_eq!(over.diagnostics[0].summary, "Unknown action type");
}

/// Everything of a stream.
async fn all<T>(mut stream: tonic::Streaming<T>) -> Vec<T> {
    let mut items = Vec::new();
    while let Some(item) = within("the next item", stream.message())
        .await
        .expect("no status")
    {
        items.push(item);
    }
    items
}
