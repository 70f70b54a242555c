//! What tells one object from all others, over the wire, with [`crate::garden`].

use kvtls::framework::Value;
use kvtls::tfplugin6::generated as tf;

use crate::core::{State, summaries};
use crate::families::{BED, bed, beds, identity_schema, identity_value, of, raw, roses};

fn identity(name: Value, id: Value) -> Option<tf::ResourceIdentityData> {
    let value = Value::object([("name", name), ("id", id)]);
    Some(tf::ResourceIdentityData {
        identity_data: of(&identity_schema().ty(), &value),
    })
}

#[tokio::test]
async fn an_identity_is_planned_kept_and_never_changes() {
    let (core, mut client, _) = beds().await;
    let config = bed([]);
    let plan =
        |prior: Value, prior_identity, proposed: Value, config: Value| tf::plan_resource_change::Request {
            type_name: BED.to_owned(),
            prior_state: core.message(&prior),
            proposed_new_state: core.message(&proposed),
            config: core.message(&config),
            prior_identity,
            ..Default::default()
        };
    let planned = client
        .plan_resource_change(plan(Value::Null, None, config.clone(), config.clone()))
        .await
        .expect("no status")
        .into_inner();
    assert_eq!(planned.diagnostics, []);
    assert_eq!(
        planned.planned_identity, None,
        "a part of it is known after the create only"
    );

    let apply = |prior: Value, planned: &Value, identity| tf::apply_resource_change::Request {
        type_name: BED.to_owned(),
        prior_state: core.message(&prior),
        planned_state: core.message(planned),
        config: core.message(&config),
        planned_identity: identity,
        ..Default::default()
    };
    let planned_state = core.value(planned.planned_state.as_ref());
    let applied = client
        .apply_resource_change(apply(Value::Null, &planned_state, planned.planned_identity))
        .await
        .expect("no status")
        .into_inner();
    assert_eq!(applied.diagnostics, []);
    assert_eq!(identity_value(applied.new_identity.as_ref()), roses());
    let state = core.value(applied.new_state.as_ref());

    let read = |state: &Value, identity| tf::read_resource::Request {
        type_name: BED.to_owned(),
        current_state: core.message(state),
        current_identity: identity,
        ..Default::default()
    };
    for stored in [
        None,
        applied.new_identity.clone(),
        identity("roses".into(), Value::Null),
    ] {
        let answer = client
            .read_resource(read(&state, stored))
            .await
            .expect("no status")
            .into_inner();
        assert_eq!(answer.diagnostics, []);
        assert_eq!(identity_value(answer.new_identity.as_ref()), roses());
    }
    let mut faulty = state.clone();
    faulty.set("fault", "read: another object");
    let stored = applied.new_identity.clone();
    let answer = client
        .read_resource(read(&faulty, stored.clone()))
        .await
        .expect("no status")
        .into_inner();
    assert_eq!(
        summaries(&answer.diagnostics),
        [("Bug in the provider".to_owned(), ".name".to_owned())]
    );
    assert!(
        answer.diagnostics[0]
            .detail
            .contains("identity of an object changed")
    );
    assert_eq!(answer.new_identity, stored, "what is stored stays");

    // An update keeps it, a replacement is of another object, a destroy returns it.
    let mut renamed = config.clone();
    renamed.set("name", "tulips");
    let mut proposed = state.clone();
    proposed.set("name", "tulips");
    let answer = client
        .plan_resource_change(plan(state.clone(), stored.clone(), proposed, renamed))
        .await
        .expect("no status")
        .into_inner();
    assert_eq!(answer.diagnostics, []);
    assert_eq!(answer.requires_replace.len(), 1);
    assert_eq!(
        identity_value(answer.planned_identity.as_ref()).get("name"),
        &Value::from("tulips")
    );
    let answer = client
        .plan_resource_change(plan(state.clone(), stored.clone(), Value::Null, Value::Null))
        .await
        .expect("no status")
        .into_inner();
    assert_eq!(answer.planned_identity, stored);

    // An apply that returns another object is a bug, and its state is stored all the same.
    let mut wrong = state.clone();
    wrong.set("fault", "apply: another identity");
    let mut planned = wrong.clone();
    planned.set("watered", Value::Unknown);
    planned.set("id", Value::Unknown);
    let answer = client
        .apply_resource_change(apply(wrong, &planned, stored))
        .await
        .expect("no status")
        .into_inner();
    assert_eq!(
        summaries(&answer.diagnostics),
        [("Bug in the provider".to_owned(), ".id".to_owned())]
    );
    assert_eq!(
        core.value(answer.new_state.as_ref()).get("id"),
        &Value::from("bed-another")
    );
}

#[tokio::test]
async fn an_import_by_identity_finds_what_an_id_finds() {
    let (mut core, mut client, _) = beds().await;
    core.run(&bed([]), &State::none()).await;
    let mut import = async |id: &str, identity| {
        client
            .import_resource_state(tf::import_resource_state::Request {
                type_name: BED.to_owned(),
                id: id.to_owned(),
                identity,
                ..Default::default()
            })
            .await
            .expect("no status")
            .into_inner()
    };
    let wanted = identity("roses".into(), Value::Null);
    let found = import("", wanted.clone()).await;
    assert_eq!(found.diagnostics, []);
    let [imported] = found.imported_resources.as_slice() else {
        panic!("one object: {found:?}")
    };
    assert_eq!(
        core.value(imported.state.as_ref()).get("id"),
        &Value::from("bed-roses")
    );
    assert_eq!(imported.identity, wanted);

    let found = import("bed-roses", None).await;
    assert_eq!(found.diagnostics, []);
    assert_eq!(found.imported_resources.len(), 1);

    for (identity, summary, path) in [
        (
            identity("thistles".into(), Value::Null),
            "There is no such bed",
            "",
        ),
        (
            identity(Value::Null, "bed-roses".into()),
            "Import needs a whole identity",
            ".name",
        ),
        (None, "Import needs an ID", ""),
    ] {
        let refused = import("", identity).await;
        assert_eq!(
            summaries(&refused.diagnostics),
            [(summary.to_owned(), path.to_owned())]
        );
        assert!(refused.imported_resources.is_empty());
    }
}

#[tokio::test]
async fn a_stored_identity_is_upgraded() {
    let (_, mut client, _) = beds().await;
    let json = r#"{"name":"roses","id":"bed-roses"}"#;
    for (version, json, expected) in [
        (0, json, Ok(())),
        (-1, json, Ok(())),
        (0, "[]", Err("Stored identity is not readable")),
        (0, "{}", Err("Bug in the provider")),
        (1, json, Err("Stored by a newer version of the provider")),
    ] {
        let answer = client
            .upgrade_resource_identity(tf::upgrade_resource_identity::Request {
                type_name: BED.to_owned(),
                version,
                raw_identity: raw(json),
            })
            .await
            .expect("no status")
            .into_inner();
        match expected {
            Ok(()) => assert_eq!(identity_value(answer.upgraded_identity.as_ref()), roses()),
            Err(summary) => assert_eq!(answer.diagnostics[0].summary, summary, "{version} {json}"),
        }
    }
}
