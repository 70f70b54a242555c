//! An answer of a resource that would break a rule of Terraform never leaves: each row is one way to misbehave, and
//! what the practitioner reads instead.

use kvtls::framework::Value;
use kvtls::tfplugin6::generated::Diagnostic;

use crate::core::{Core, Plan, State, has_errors, summaries};
use crate::example::{connect, thing_schema};

async fn core() -> Core {
    let (channel, _) = connect().await;
    Core::new(channel.provider(), "example_thing", &thing_schema())
}

fn faulty(fault: &str) -> Value {
    let mut thing = Value::object(
        thing_schema()
            .attributes
            .keys()
            .map(|name| (name.as_str(), Value::Null)),
    );
    thing.set("name", "shop");
    thing.set("fault", fault);
    thing
}

fn assert_bug(fault: &str, diagnostics: &[Diagnostic], path: &str, words: &str) {
    assert_eq!(
        summaries(diagnostics),
        [("Bug in the provider".to_owned(), path.to_owned())],
        "{fault}: {diagnostics:?}"
    );
    let detail = &diagnostics[0].detail;
    assert!(detail.contains(words), "{fault}: {detail}");
    assert!(!detail.contains("s3cret"), "{fault}: {detail}");
}

#[tokio::test]
async fn a_plan_that_breaks_a_rule_is_refused() {
    let mut core = core().await;
    for (fault, path, words) in [
        (
            "plan: invents a note",
            ".note",
            "the configuration leaves it null",
        ),
        ("plan: renames", ".name", "neither the configured nor the prior"),
        ("plan: plans nothing", "", "although the configuration wants"),
        ("plan: replaces for nothing", ".nothing", "does not exist"),
    ] {
        let refused = core.plan(&faulty(fault), &State::none()).await.expect_err(fault);
        assert_bug(fault, &refused, path, words);
    }
    let stored = State {
        value: faulty("plan: survives"),
        private: Vec::new(),
    };
    let refused = core.plan(&Value::Null, &stored).await.expect_err("a destroy");
    assert_bug("plan: survives", &refused, "", "destroy is not null");
}

#[tokio::test]
async fn a_failed_plan_says_only_why_it_failed() {
    let mut core = core().await;
    let refused = core
        .plan(&faulty("plan: fails"), &State::none())
        .await
        .expect_err("it fails");
    assert_eq!(summaries(&refused), [("Told to fail".to_owned(), String::new())]);
}

#[tokio::test]
async fn a_state_that_breaks_a_rule_is_a_bug_and_still_stored() {
    let mut core = core().await;
    for (fault, path, words) in [
        ("apply: leaves an unknown", ".revision", "still unknown"),
        ("apply: changes the note", ".note", "null and is set after apply"),
        ("apply: forgets the note", ".note", "is missing"),
        (
            "apply: writes a bool",
            ".id",
            "a bool was returned where a string belongs",
        ),
    ] {
        let config = faulty(fault);
        let plan = core.plan(&config, &State::none()).await.expect("a plan");
        let applied = core.apply(&config, &State::none(), &plan).await;
        let first = &applied.diagnostics[..1];
        assert_bug(fault, first, path, words);
        assert_eq!(
            applied.state.value.get("name").as_str(),
            Some("shop"),
            "{fault}: what exists is stored"
        );
    }
}

#[tokio::test]
async fn an_absence_that_breaks_a_rule_is_a_bug_and_loses_nothing() {
    let mut core = core().await;
    let config = faulty("apply: returns nothing");
    let plan = core.plan(&config, &State::none()).await.expect("a plan");
    let created = core.apply(&config, &State::none(), &plan).await;
    assert_bug("create", &created.diagnostics, "", "no state after an apply");

    let stored = State {
        value: plan_made_known(&plan),
        private: b"{\"kept\":1}".to_vec(),
    };
    let plan = core.plan(&config, &stored).await.expect("a plan");
    let updated = core.apply(&config, &stored, &plan).await;
    assert_bug("update", &updated.diagnostics, "", "no state after an apply");
    assert_eq!(updated.state, stored);

    let mut stored = stored;
    stored.value.set("fault", "apply: survives");
    let plan = core.plan(&Value::Null, &stored).await.expect("a plan");
    let deleted = core.apply(&Value::Null, &stored, &plan).await;
    assert_bug("delete", &deleted.diagnostics, "", "still a state after a delete");
    assert_eq!(deleted.state.value, stored.value);
}

fn plan_made_known(plan: &Plan) -> Value {
    let mut known = plan.planned.clone();
    known.set("id", "shop");
    known.set("revision", 1);
    known
}

#[tokio::test]
async fn a_read_that_breaks_a_rule_keeps_what_is_stored() {
    let mut core = core().await;
    let stored = State {
        value: faulty("read: is unknown"),
        private: b"{\"kept\":1}".to_vec(),
    };
    let refused = core.refresh(&stored).await.expect_err("it is unknown");
    assert_bug("read", &refused, ".revision", "still unknown");
}

#[tokio::test]
async fn a_write_only_value_that_is_returned_goes_no_further() {
    let mut core = core().await;
    for fault in ["plan: returns the password", "apply: returns the password"] {
        let mut config = faulty(fault);
        config.set("password", "s3cret");
        let state = core.run(&config, &State::none()).await;
        assert_eq!(state.value.get("password"), &Value::Null, "{fault}");
    }
}

#[tokio::test]
async fn another_spelling_of_the_same_is_no_drift_and_no_fault() {
    let mut core = core().await;
    let created = core.run(&faulty("apply: shouts"), &State::none()).await;
    assert_eq!(created.value.get("name").as_str(), Some("shop"));
    let mut stored = created;
    stored.value.set("fault", "read: other case");
    let read = core.refresh(&stored).await.expect("it is there");
    assert_eq!(read, stored);
}

#[tokio::test]
async fn a_warning_alone_stops_nothing() {
    let mut core = core().await;
    let plan = core.plan(&faulty("validate: warns"), &State::none()).await;
    assert!(plan.is_ok());
    let applied = core
        .apply(&faulty("none"), &State::none(), &plan.expect("a plan"))
        .await;
    assert!(!has_errors(&applied.diagnostics));
}
