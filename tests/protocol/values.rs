//! Values on the wire as Terraform writes them, made by an encoder that is not ours, and hostile bytes for every RPC.

use kvtls::tfplugin6::generated::provider_client::ProviderClient;
use kvtls::tfplugin6::generated::{self as tf, DynamicValue};
use rmpv::Value as Pack;

use crate::core::has_errors;
use crate::example::{connect, echo_schema, thing_schema};
use crate::host::Channel;

const THING: &str = "example_thing";

fn bytes(value: &Pack) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).expect("memory");
    bytes
}

fn message(value: &Pack) -> Option<DynamicValue> {
    Some(DynamicValue {
        msgpack: bytes(value),
        json: Vec::new(),
    })
}

fn unknown() -> Pack {
    Pack::Ext(0, vec![0])
}

/// A thing with one attribute set, the others nil.
fn thing(name: &str, value: &Pack) -> Pack {
    let attributes = thing_schema().attributes.into_keys().map(|attribute| {
        let value = match attribute.as_str() {
            attribute if attribute == name => value.clone(),
            "name" => "shop".into(),
            _ => Pack::Nil,
        };
        (attribute.into(), value)
    });
    Pack::Map(attributes.collect())
}

/// Plans a create of `config` and returns one attribute of the plan.
async fn planned(client: &mut ProviderClient<Channel>, config: &Pack, name: &str) -> Pack {
    let request = tf::plan_resource_change::Request {
        type_name: THING.to_owned(),
        proposed_new_state: message(config),
        config: message(config),
        ..Default::default()
    };
    let answer = client
        .plan_resource_change(request)
        .await
        .expect("an answer")
        .into_inner();
    assert!(!has_errors(&answer.diagnostics), "{:?}", answer.diagnostics);
    let planned = answer.planned_state.expect("a planned state").msgpack;
    let planned = rmpv::decode::read_value(&mut planned.as_slice()).expect("MessagePack");
    let Pack::Map(attributes) = planned else {
        panic!("not an object: {planned}");
    };
    assert_eq!(
        attributes.len(),
        thing_schema().attributes.len(),
        "exactly all attributes"
    );
    attributes
        .into_iter()
        .find(|(attribute, _)| attribute.as_str() == Some(name))
        .expect("every attribute is there")
        .1
}

#[tokio::test]
async fn a_configured_value_is_planned_as_it_came() {
    let (channel, _) = connect().await;
    let mut client = channel.provider();
    let typed = |json: &str, value: Pack| Pack::Array(vec![Pack::Binary(json.as_bytes().to_vec()), value]);
    for (name, value) in [
        ("amount", Pack::from(7)),
        ("amount", Pack::from(i64::MIN)),
        ("amount", Pack::from(i64::MAX)),
        ("amount", Pack::from(0.5)),
        ("amount", Pack::from("0.1")),
        ("amount", Pack::from("18446744073709551615")),
        ("amount", Pack::from("1000000000000000000000000000000")),
        ("amount", Pack::from("123456789012345678901234567890.123456789")),
        ("amount", unknown()),
        ("note", Pack::from("")),
        ("note", Pack::from("ä\u{0}\n\"")),
        ("note", Pack::from("x".repeat(70_000))),
        ("note", unknown()),
        ("tags", Pack::Array(vec![])),
        ("tags", Pack::Array(vec!["a".into(), "b".into()])),
        ("tags", Pack::Array(vec!["a".into(), unknown()])),
        ("any", typed("\"string\"", unknown())),
        (
            "any",
            typed(
                "[\"tuple\",[\"bool\",\"dynamic\"]]",
                Pack::Array(vec![true.into(), Pack::Nil]),
            ),
        ),
        ("any", unknown()),
        ("any", Pack::Nil),
        ("ports", unknown()),
        ("ports", Pack::Map(vec![])),
    ] {
        let came_back = planned(&mut client, &thing(name, &value), name).await;
        assert_eq!(came_back, value, "{name}");
    }
}

#[tokio::test]
async fn a_refined_unknown_leaves_as_it_came() {
    let (channel, _) = connect().await;
    let mut client = channel.provider();
    let not_null = bytes(&Pack::Map(vec![
        (1.into(), false.into()),
        (2.into(), "pre-".into()),
    ]));
    let refined = Pack::Ext(12, not_null);
    let came_back = planned(&mut client, &thing("note", &refined), "note").await;
    assert_eq!(came_back, refined);
    // In a set nothing has a place, and longer ones Terraform itself would not read.
    let tags = Pack::Array(vec![refined.clone()]);
    let came_back = planned(&mut client, &thing("tags", &tags), "tags").await;
    assert_eq!(came_back, Pack::Array(vec![unknown()]));
    let long = Pack::Ext(12, vec![0x80; 1025]);
    assert_eq!(
        planned(&mut client, &thing("note", &long), "note").await,
        unknown()
    );
}

#[tokio::test]
async fn a_large_message_passes() {
    let (channel, _) = connect().await;
    let mut client = channel.provider();
    let large = Pack::from("x".repeat(8 << 20)); // tonic's own limit is four
    assert_eq!(planned(&mut client, &thing("note", &large), "note").await, large);
}

/// xorshift64*: the same bytes in every run.
fn noise(seed: u64) -> impl FnMut(usize) -> Vec<u8> {
    let mut state = seed;
    move |length| {
        (0..length)
            .map(|_| {
                state ^= state >> 12;
                state ^= state << 25;
                state ^= state >> 27;
                state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()[0]
            })
            .collect()
    }
}

/// Whatever the bytes, the answer is diagnostics: a gRPC status would cost state.
#[tokio::test]
async fn hostile_bytes_are_answered_in_words() {
    let (channel, _) = connect().await;
    let mut client = channel.provider();
    let mut noise = noise(0x5eed);
    let good = bytes(&thing("note", &"x".into()));
    for round in 0..200_usize {
        let hostile = if round % 2 == 0 {
            noise(round)
        } else {
            let mut damaged = good.clone();
            damaged.truncate(good.len() - 1 - round % 20);
            damaged
        };
        let value = Some(DynamicValue {
            msgpack: hostile.clone(),
            json: Vec::new(),
        });
        let type_name = || THING.to_owned();
        let validated = client
            .validate_resource_config(tf::validate_resource_config::Request {
                type_name: type_name(),
                config: value.clone(),
                ..Default::default()
            })
            .await;
        let planned = client
            .plan_resource_change(tf::plan_resource_change::Request {
                type_name: type_name(),
                proposed_new_state: value.clone(),
                config: value.clone(),
                prior_private: hostile.clone(),
                ..Default::default()
            })
            .await;
        let applied = client
            .apply_resource_change(tf::apply_resource_change::Request {
                type_name: type_name(),
                planned_state: value.clone(),
                config: value.clone(),
                planned_private: hostile.clone(),
                ..Default::default()
            })
            .await;
        let read = client
            .read_resource(tf::read_resource::Request {
                type_name: type_name(),
                current_state: value.clone(),
                private: hostile.clone(),
                ..Default::default()
            })
            .await;
        let upgraded = client
            .upgrade_resource_state(tf::upgrade_resource_state::Request {
                type_name: type_name(),
                version: 2,
                raw_state: Some(tf::RawState {
                    json: hostile.clone(),
                    ..Default::default()
                }),
            })
            .await;
        let data = client
            .read_data_source(tf::read_data_source::Request {
                type_name: "example_echo".to_owned(),
                config: value.clone(),
                ..Default::default()
            })
            .await;
        let configured = client
            .configure_provider(tf::configure_provider::Request {
                config: value.clone(),
                ..Default::default()
            })
            .await;
        let refused = [
            has_errors(&validated.expect("no status").into_inner().diagnostics),
            has_errors(&upgraded.expect("no status").into_inner().diagnostics),
        ];
        // An empty message is null, and some noise starts with a nil; what is damaged is always refused.
        assert!(
            round % 2 == 0 || refused == [true, true],
            "round {round}: {hostile:x?}"
        );
        let read = read.expect("no status").into_inner();
        if has_errors(&read.diagnostics) {
            assert_eq!(
                (read.new_state, read.private),
                (value, hostile),
                "a failed read keeps every byte"
            );
        }
        planned.expect("no status");
        applied.expect("no status");
        data.expect("no status");
        configured.expect("no status");
    }
}

#[tokio::test]
async fn an_empty_message_is_null() {
    let (channel, _) = connect().await;
    let mut client = channel.provider();
    let answer = client
        .plan_resource_change(tf::plan_resource_change::Request {
            type_name: THING.to_owned(),
            prior_state: message(&thing("note", &"x".into())),
            proposed_new_state: Some(DynamicValue::default()),
            ..Default::default()
        })
        .await
        .expect("an answer")
        .into_inner();
    assert_eq!(answer.diagnostics, [], "a destroy");
    let nil = message(&Pack::Nil);
    assert_eq!(answer.planned_state, nil);

    // The JSON form is understood as well.
    let text = echo_schema();
    let request = tf::read_data_source::Request {
        type_name: "example_echo".to_owned(),
        config: Some(DynamicValue {
            msgpack: Vec::new(),
            json: br#"{"text":"hello"}"#.to_vec(),
        }),
        ..Default::default()
    };
    let answer = client
        .read_data_source(request)
        .await
        .expect("an answer")
        .into_inner();
    let state = answer.state.expect("a state");
    let said = kvtls::tfplugin6::dynamic_value::decode(&text.ty(), &state.msgpack).expect("a value");
    assert_eq!(said.get("said").as_str(), Some("hello"));
}
