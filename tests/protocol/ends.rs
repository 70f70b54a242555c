//! How calls end that do not end well: in a panic, or not at all. With [`crate::garden`].

use kvtls::framework::{Type, Value};
use kvtls::tfplugin6::generated as tf;

use crate::core::{Core, State};
use crate::families::{BED, REPORTED_AT, bed, beds, collected, garden, list, of, open, watering};
use crate::garden::{NO_IDENTITY, PANICKING_IDENTITY, PANICKING_IDENTITY_ONLY, World, bed_schema};
use crate::host::within;

#[tokio::test]
async fn what_an_apply_had_saved_survives_its_panic() {
    let (mut core, _, _) = beds().await;
    let config = bed([("fault", "apply: panics after it was saved".into())]);
    let plan = core.plan(&config, &State::none()).await.expect("a plan");
    let applied = core.apply(&config, &State::none(), &plan).await;
    assert_eq!(applied.diagnostics[0].summary, "Bug in the provider");
    assert!(applied.diagnostics[0].detail.contains("the spade broke"));
    assert!(
        applied.diagnostics[0].detail.ends_with(REPORTED_AT),
        "{applied:?}"
    );
    assert_eq!(applied.state.value.get("id"), &Value::from("bed-roses"));
    assert_eq!(applied.state.private, br#"{"planned":true}"#);
}

#[tokio::test]
async fn an_object_is_kept_whose_identity_cannot_be_told() {
    for (fault, words) in [
        (NO_IDENTITY, "the spade broke"),
        (PANICKING_IDENTITY, "the spade broke"),
        (PANICKING_IDENTITY_ONLY, "the label fell off"),
    ] {
        let (mut core, _, _) = beds().await;
        let config = bed([("fault", fault.into())]);
        let plan = core.plan(&config, &State::none()).await.expect("a plan");
        let applied = core.apply(&config, &State::none(), &plan).await;
        assert!(
            applied.diagnostics[0].detail.contains(words),
            "{fault}: {applied:?}"
        );
        assert_eq!(
            applied.state.value.get("id"),
            &Value::from("bed-roses"),
            "{fault}: {applied:?}"
        );
        assert_eq!(applied.state.private, br#"{"planned":true}"#, "{fault}");
    }
}

/// A call that is under way, once it has begun to sleep; what it answers.
async fn asleep<T: Send + 'static>(
    world: &World,
    call: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let call = tokio::spawn(call);
    within("the call to sleep", world.waits.notified()).await;
    call
}

#[tokio::test]
async fn whoever_does_not_listen_is_abandoned_five_seconds_after_a_stop() {
    let (mut core, mut client, world) = beds().await;
    let mut stored = bed([("fault", "read: sleeps".into()), ("id", "bed-roses".into())]);
    stored.set("sign", "roses 0");
    stored.set("watered", 1);
    let stored = State {
        value: stored,
        private: br#"{"kept":true}"#.to_vec(),
    };
    let mut planning = Core::new(client.clone(), BED, &bed_schema());
    let config = bed([("fault", "plan: sleeps".into())]);
    let mut calls: Vec<tokio::task::JoinHandle<Vec<tf::Diagnostic>>> = Vec::new();
    calls.push(
        asleep(&world, async move {
            core.refresh(&stored).await.expect_err("what is stored stays")
        })
        .await,
    );
    calls.push(
        asleep(&world, async move {
            planning.plan(&config, &State::none()).await.expect_err("no plan")
        })
        .await,
    );
    let mut importing = client.clone();
    calls.push(
        asleep(&world, async move {
            let request = tf::import_resource_state::Request {
                type_name: BED.to_owned(),
                id: "asleep".to_owned(),
                ..Default::default()
            };
            let answer = importing.import_resource_state(request).await;
            answer.expect("no status").into_inner().diagnostics
        })
        .await,
    );
    let mut reading = client.clone();
    calls.push(
        asleep(&world, async move {
            let day =
                Type::Object([("day".to_owned(), Type::String), ("rain".to_owned(), Type::Bool)].into());
            let asked = Value::object([("day", Value::from("asleep")), ("rain", Value::Null)]);
            let request = tf::read_data_source::Request {
                type_name: "garden_weather".to_owned(),
                config: of(&day, &asked),
                ..Default::default()
            };
            let answer = reading.read_data_source(request).await;
            answer.expect("no status").into_inner().diagnostics
        })
        .await,
    );
    let mut opening = client.clone();
    calls.push(
        asleep(
            &world,
            async move { open(&mut opening, "asleep").await.diagnostics },
        )
        .await,
    );
    let mut listing = client.clone();
    calls.push(
        asleep(&world, async move {
            let found = list(&mut listing, "asleep", false, 0).await;
            found.into_iter().flat_map(|event| event.diagnostic).collect()
        })
        .await,
    );
    let mut watering_it = client.clone();
    calls.push(
        asleep(&world, async move {
            use tf::invoke_action::event::Type as Event;
            let answer = watering_it.invoke_action(tf::invoke_action::Request {
                action_type: "garden_water".to_owned(),
                config: watering("asleep"),
                client_capabilities: None,
            });
            let events = collected(answer.await.expect("a stream").into_inner()).await;
            let last = events.into_iter().next_back().and_then(|event| event.r#type);
            let Some(Event::Completed(over)) = last else {
                panic!("an end: {last:?}")
            };
            over.diagnostics
        })
        .await,
    );

    client
        .stop_provider(tf::stop_provider::Request {})
        .await
        .expect("an answer");
    let names = ["read", "plan", "import", "read", "open", "list", "action"];
    for (name, call) in names.into_iter().zip(calls) {
        let diagnostics = within(name, call).await.expect("no panic");
        assert_eq!(diagnostics[0].summary, "Stopped before it was done", "{name}");
        let words = format!("The {name} did not end within 5 seconds of being told to stop");
        assert!(diagnostics[0].detail.starts_with(&words), "{diagnostics:?}");
    }
}

#[tokio::test]
async fn what_an_apply_had_saved_is_the_answer_five_seconds_after_a_stop() {
    let (mut core, mut client, world) = beds().await;
    let config = bed([("fault", "apply: sleeps after it was saved".into())]);
    let plan = core.plan(&config, &State::none()).await.expect("a plan");
    let applying = tokio::spawn(async move { core.apply(&config, &State::none(), &plan).await });
    within("the apply to sleep", world.waits.notified()).await;
    let begun = std::time::Instant::now();
    client
        .stop_provider(tf::stop_provider::Request {})
        .await
        .expect("an answer");
    let applied = within("the apply to be abandoned", applying)
        .await
        .expect("no panic");
    assert!(
        begun.elapsed() >= std::time::Duration::from_secs(4),
        "it has its time"
    );
    assert_eq!(applied.diagnostics[0].summary, "Stopped before it was done");
    assert_eq!(applied.state.value.get("id"), &Value::from("bed-roses"));
}

#[tokio::test]
async fn a_stop_reaches_an_action() {
    use tf::invoke_action::event::Type as Event;
    let (mut client, world) = garden().await;
    let answer = client.invoke_action(tf::invoke_action::Request {
        action_type: "garden_water".to_owned(),
        config: watering("far"),
        client_capabilities: None,
    });
    let mut events = answer.await.expect("a stream").into_inner();
    let first = within("progress", events.message())
        .await
        .expect("no status")
        .expect("an event");
    assert!(matches!(first.r#type, Some(Event::Progress(_))));
    within("the action to wait", world.waits.notified()).await;
    client
        .stop_provider(tf::stop_provider::Request {})
        .await
        .expect("an answer");
    let last = within("the end", events.message())
        .await
        .expect("no status")
        .expect("an event");
    let Some(Event::Completed(over)) = last.r#type else {
        panic!("an end: {last:?}")
    };
    assert_eq!(over.diagnostics[0].summary, "Stopped");
}
