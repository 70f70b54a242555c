//! Numbers and names of the protocol, written down a second time where a slip would go unnoticed longest.
//!
//! Our own client cannot notice: it is generated from the same files. So names are typed as paths, and messages as
//! bytes: a field is its number times eight plus its kind (0 a number, 2 a length and that many bytes).

use std::error::Error;

use kvtls::go_plugin::generated::plugin::{ConnInfo, StdioData};
use kvtls::tfplugin6::generated as tf;
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::host::{Host, origin, within};

const METHODS: [&str; 36] = [
    "ApplyResourceChange",
    "CallFunction",
    "CloseEphemeralResource",
    "ConfigureProvider",
    "ConfigureStateStore",
    "DeleteState",
    "GenerateResourceConfig",
    "GetFunctions",
    "GetMetadata",
    "GetProviderSchema",
    "GetResourceIdentitySchemas",
    "GetStates",
    "ImportResourceState",
    "InvokeAction",
    "ListResource",
    "LockState",
    "MoveResourceState",
    "OpenEphemeralResource",
    "PlanAction",
    "PlanResourceChange",
    "ReadDataSource",
    "ReadResource",
    "ReadStateBytes",
    "RenewEphemeralResource",
    "StopProvider",
    "UnlockState",
    "UpgradeResourceIdentity",
    "UpgradeResourceState",
    "ValidateActionConfig",
    "ValidateDataResourceConfig",
    "ValidateEphemeralResourceConfig",
    "ValidateListResourceConfig",
    "ValidateProviderConfig",
    "ValidateResourceConfig",
    "ValidateStateStoreConfig",
    "WriteStateBytes",
];

/// Calls a method by its path, with an empty message.
async fn call(host: &Host, path: &str) -> Result<(), Status> {
    let mut grpc = Grpc::with_origin(host.channel().clone(), origin());
    within("readiness", grpc.ready()).await.unwrap();
    let path = PathAndQuery::try_from(path).unwrap();
    let codec = ProstCodec::<(), ()>::default();
    within("an answer", grpc.unary(Request::new(()), path, codec))
        .await
        .map(drop)
}

/// Whether the server found the method. It answers UNIMPLEMENTED without a word where there is none; a method that
/// refuses says so. (An error with a source is the connection's, not an answer.)
fn is_found(answer: &Result<(), Status>) -> Option<bool> {
    match answer {
        Ok(()) => Some(true),
        Err(status) if status.source().is_some() => None,
        Err(status) => Some(status.code() != Code::Unimplemented || !status.message().is_empty()),
    }
}

#[tokio::test]
async fn every_method_is_found_under_its_name() {
    let host = Host::start(&[]).await;
    for method in METHODS {
        let answer = call(&host, &format!("/tfplugin6.Provider/{method}")).await;
        assert_eq!(is_found(&answer), Some(true), "{method}: {answer:?}");
    }
    for unknown in [
        "/tfplugin6.Provider/ValidateStateStore",
        "/tfplugin5.Provider/GetSchema",
    ] {
        let answer = call(&host, unknown).await;
        assert_eq!(is_found(&answer), Some(false), "{unknown}: {answer:?}");
    }
}

#[tokio::test]
async fn go_plugins_methods_are_found_under_their_names() {
    let host = Host::start(&[]).await;
    // The broker ends with its client. Stdio never says anything, so it is not called like this.
    for method in [
        "/grpc.health.v1.Health/Check",
        "/plugin.GRPCBroker/StartStream",
        "/plugin.GRPCController/Shutdown",
    ] {
        let answer = call(&host, method).await;
        assert_eq!(is_found(&answer), Some(true), "{method}: {answer:?}");
    }
}

#[test]
fn messages_are_these_bytes() {
    let value = || {
        Some(tf::DynamicValue {
            msgpack: vec![0xc0],
            json: Vec::new(),
        })
    };
    let capabilities = tf::ServerCapabilities {
        plan_destroy: true,
        get_provider_schema_optional: true,
        move_resource_state: true,
        generate_resource_config: true,
    };
    let path = tf::AttributePath {
        steps: vec![tf::attribute_path::Step {
            selector: Some(tf::attribute_path::step::Selector::ElementKeyInt(1)),
        }],
    };
    let diagnostic = tf::Diagnostic {
        severity: tf::diagnostic::Severity::Warning.into(),
        summary: "s".to_owned(),
        detail: "d".to_owned(),
        attribute: Some(path.clone()),
    };
    let planned = tf::plan_resource_change::Response {
        planned_state: value(),
        requires_replace: vec![path],
        planned_private: vec![7],
        ..Default::default()
    };
    let plan = tf::plan_resource_change::Request {
        type_name: "t".to_owned(),
        prior_state: value(),
        proposed_new_state: value(),
        config: value(),
        prior_private: vec![7],
        ..Default::default()
    };
    let attribute = tf::schema::Attribute {
        name: "n".to_owned(),
        r#type: b"t".to_vec(),
        write_only: true,
        nested_type: Some(tf::schema::Object {
            nesting: tf::schema::object::NestingMode::Map.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let function_error = tf::FunctionError {
        text: String::new(),
        function_argument: Some(0),
    };
    let stopped = tf::stop_provider::Response {
        error: "e".to_owned(),
    };
    let imported = tf::import_resource_state::ImportedResource {
        type_name: "t".to_owned(),
        state: value(),
        private: vec![7],
        ..Default::default()
    };
    let stdio = StdioData {
        channel: 2,
        data: vec![7],
    };
    let offer = ConnInfo {
        service_id: 1,
        network: "n".to_owned(),
        address: "a".to_owned(),
        knock: None,
    };
    let rows = [
        (
            "capabilities",
            capabilities.encode_to_vec(),
            "08 01 10 01 18 01 20 01",
        ),
        (
            "diagnostic",
            diagnostic.encode_to_vec(),
            "08 02 12 01 73 1a 01 64 22 04 0a 02 18 01",
        ),
        (
            "plan answer",
            planned.encode_to_vec(),
            "0a 03 0a 01 c0 12 04 0a 02 18 01 1a 01 07",
        ),
        (
            "plan request",
            plan.encode_to_vec(),
            "0a 01 74 12 03 0a 01 c0 1a 03 0a 01 c0 22 03 0a 01 c0 2a 01 07",
        ),
        (
            "attribute",
            attribute.encode_to_vec(),
            "0a 01 6e 12 01 74 52 02 18 04 58 01",
        ),
        (
            "argument 0 of a function is there",
            function_error.encode_to_vec(),
            "10 00",
        ),
        ("stop answer", stopped.encode_to_vec(), "0a 01 65"),
        (
            "imported",
            imported.encode_to_vec(),
            "0a 01 74 12 03 0a 01 c0 1a 01 07",
        ),
        ("stdio", stdio.encode_to_vec(), "08 02 12 01 07"),
        ("broker", offer.encode_to_vec(), "08 01 12 01 6e 1a 01 61"),
    ];
    for (what, bytes, expected) in rows {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex.join(" "), expected, "{what}");
    }
}

#[test]
fn debug_shows_no_configuration_and_no_state() {
    let value = tf::DynamicValue {
        msgpack: b"hunter2".to_vec(),
        json: Vec::new(),
    };
    let state = tf::RawState {
        json: b"hunter2".to_vec(),
        ..Default::default()
    };
    assert_eq!(
        format!("{value:?} {state:?}"),
        "DynamicValue(7 bytes) RawState(7 bytes)"
    );
}
