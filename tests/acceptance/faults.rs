//! Half done is a result: whatever fails, the state tells the truth and the next apply goes on.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::terraform::{SHOP, Terraform};
use crate::world::{World, forbidden, told};

/// Every write of a create, in its order: plane, method, path.
const WRITES: &[Write] = &[
    ("arm", "PUT", "**/managedClusters/*"),
    ("arm", "PUT", "**/roleAssignments/*"),
    ("kubernetes", "PATCH", "**/secretproviderclasses/*"),
    ("kubernetes", "PATCH", "**/deployments/*"),
    ("kubernetes", "PATCH", "**/ingresses/*"),
];

type Write = (&'static str, &'static str, &'static str);

/// Matches this write when the provider makes it, not when one of the cluster's own controllers does.
fn by_us((plane, method, path): &Write) -> Value {
    let account = if *plane == "kubernetes" {
        "masterclient"
    } else {
        "deployer"
    };
    // A plan sends the same as a dry run.
    json!({ "plane": plane, "method": method, "path": path, "as": account, "dry_run": false })
}

/// Errors that no repetition cures.
#[tokio::test(flavor = "multi_thread")]
async fn s05_a_refused_write_leaves_a_state_that_is_true_and_the_next_apply_goes_on() {
    let world = World::start().await;
    for write in WRITES {
        println!("── {write:?} refused");
        let terraform = world.quickstart();
        let body = if write.0 == "kubernetes" {
            forbidden()
        } else {
            json!({ "error": { "code": "Staged", "message": "staged by the test" } })
        };
        let fault = json!({ "match": by_us(write), "times": 1, "do": { "status": 403, "body": body } });
        let id = world.fault(fault).await;
        let apply = terraform.apply().await;
        assert_eq!(world.hits(&id).await, 1, "the fault hit\n{}", apply.evidence());
        apply.fails_with(&["staged by the test"]);
        world.release(&id).await;
        converges(&world, &terraform).await;
    }
}

/// The write is done, its answer never arrives.
#[tokio::test(flavor = "multi_thread")]
async fn s22_a_lost_answer_is_survived() {
    let world = World::start().await;
    for write in WRITES {
        println!("── {write:?} loses its answer");
        let terraform = world.quickstart();
        let fault = json!({ "match": by_us(write), "times": 1, "do": { "lose": "answer" } });
        let id = world.fault(fault).await;
        let apply = terraform.apply().await;
        assert_eq!(world.hits(&id).await, 1, "the fault hit\n{}", apply.evidence());
        world.release(&id).await;
        converges(&world, &terraform).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s22_a_throttled_or_failing_service_is_asked_again() {
    let world = World::start().await;
    let terraform = world.quickstart();
    for (plane, path) in [
        ("arm", "**/managedClusters/*"),
        ("arm", "**/vaults/*"),
        ("kubernetes", "**/ingresses/*"),
    ] {
        for status in [429, 503] {
            world
                .fault(json!({
                    "match": { "plane": plane, "path": path },
                    "times": 1,
                    "do": { "status": status, "headers": { "retry-after": "1" } },
                }))
                .await;
        }
    }
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s22_a_failed_operation_is_told_in_arms_words() {
    let world = World::start().await;
    let terraform = world.quickstart();
    let error = json!({ "code": "QuotaExceeded", "message": "staged by the test" });
    let id = world
        .fault(json!({
            "match": { "plane": "arm", "method": "PUT", "path": "**/managedClusters/*", "as": "deployer" },
            "times": 1,
            "do": { "outcome": "Failed", "error": error },
        }))
        .await;
    terraform
        .apply()
        .await
        .fails_with(&["QuotaExceeded", "staged by the test"]);
    world.release(&id).await;
    // A failed cluster is not written to; its owner has to bring it back first.
    world
        .control(
            reqwest::Method::PATCH,
            "/world",
            json!({ "clusters": { "myAKSCluster": { "state": "Succeeded" } } }),
        )
        .await;
    converges(&world, &terraform).await;
}

/// Ctrl-C while ARM holds the request: the provider comes back soon, and what it returns is true.
#[tokio::test(flavor = "multi_thread")]
async fn s22_ctrl_c_returns_soon_with_a_state_that_is_true() {
    let world = World::start().await;
    for write in [WRITES[0], WRITES[3]] {
        println!("── Ctrl-C during {write:?}");
        let terraform = world.quickstart();
        let fault = json!({ "match": by_us(&write), "times": 1, "do": { "hold": "after" } });
        let id = world.fault(fault).await;
        let running = terraform.start(&["apply", "-json", "-auto-approve"]);
        world.hit(&id).await;
        running.interrupt().await.expect("the signal is sent");
        let since = Instant::now();
        let apply = terraform.outcome(running).await;
        let took = since.elapsed();
        assert_ne!(apply.run.status, Some(0), "{}", apply.evidence());
        assert!(
            took < Duration::from_secs(30),
            "it hangs: {took:?}\n{}",
            apply.evidence()
        );
        println!("   returned after {took:?}");
        world.release(&id).await;
        converges(&world, &terraform).await;
    }
}

/// Compares state and world, applies again, and takes everything down for the next row.
async fn converges(world: &World, terraform: &Terraform) {
    world.operations_end().await;
    world.settle().await;
    state_is_true(world, terraform).await;
    terraform.apply().await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
    terraform.destroy().await.succeeds();
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
}

/// What was made is in the state. Without a state nothing may have been made, but what is shared and stays anyway.
async fn state_is_true(world: &World, terraform: &Terraform) {
    let truth = world.truth().await;
    let Some(state) = terraform.state(SHOP).await else {
        for (what, there) in truth {
            assert!(
                !there || what == "add-on" || what == "grant",
                "{what} exists and is in no state"
            );
        }
        return;
    };
    let told = told(&state);
    for (what, there) in &truth {
        assert!(
            told[what] == *there || lagging(what, &state),
            "{what}: {there} in the world\n{state:#}"
        );
    }
}

/// The add-on is switched by an operation that may end after the provider was told to stop.
fn lagging(what: &str, state: &Value) -> bool {
    what == "add-on" && state["status"]["phase"] != "served"
}
