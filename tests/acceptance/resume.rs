//! A creation that stopped half way goes on, whatever Terraform calls it, and nothing that lives is deleted.

use kvtls::sandbox::demo::QUICKSTART;
use kvtls::sandbox::demo::cli::Running;
use serde_json::json;

use crate::terraform::{SHOP, Terraform};
use crate::world::{World, forbidden};

const KINDS: [&str; 3] = ["secretproviderclasses", "deployments", "ingresses"];

fn with_lifecycle(lifecycle: &str) -> String {
    QUICKSTART.replacen(
        "certificates = {",
        &format!("lifecycle {{\n    {lifecycle}\n  }}\n  certificates = {{"),
        1,
    )
}

/// A resource that is replaced whenever the shop is, and insists on having the new one first.
fn with_dependent() -> String {
    format!(
        "{QUICKSTART}\nresource \"terraform_data\" \"dependent\" {{\n  triggers_replace = \
         [kvtls_ingress_binding.shop.instance_id]\n  lifecycle {{\n    create_before_destroy = true\n  }}\n}}\n"
    )
}

/// Refuses the provider's write of this kind, once.
async fn stop_at(world: &World, kind: &str) -> String {
    world
        .fault(json!({
            "match": { "plane": "kubernetes", "method": "PATCH", "path": format!("**/{kind}/*"), "as": "masterclient", "dry_run": false },
            "times": 1,
            "do": { "status": 403, "body": forbidden() },
        }))
        .await
}

/// The binding serves, the state is content, and nobody but Kubernetes itself deleted anything since.
async fn serves(world: &World, terraform: &Terraform, since: u64) {
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
    let deleted: Vec<String> = world
        .journal_after(since)
        .await
        .iter()
        .filter(|entry| entry["method"] == "DELETE" && entry["plane"] == "kubernetes")
        .map(|entry| entry["url"].to_string())
        .collect();
    assert_eq!(deleted, Vec::<String>::new());
    let ours = world.inventory().await;
    let count = |kind: &str| ours.ours.keys().filter(|name| name.starts_with(kind)).count();
    assert_eq!(
        (
            count("SecretProviderClass "),
            count("Deployment "),
            count("Ingress ")
        ),
        (1, 1, 1),
        "no duplicates: {:#?}",
        ours.ours
    );
    assert_eq!(ours.our_grants.len(), 1);
}

async fn ends(world: &World, terraform: &Terraform) {
    terraform.destroy().await.succeeds();
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn s05_after_untaint_the_same_creation_goes_on() {
    let world = World::start().await;
    for kind in KINDS {
        println!("── stopped at {kind}");
        let terraform = world.quickstart();
        let since = world.now_in_journal().await;
        stop_at(&world, kind).await;
        terraform.apply().await.fails_with(&["staged by the test"]);
        terraform.command(&["untaint", SHOP]).await.succeeds();
        terraform.apply().await.succeeds();
        serves(&world, &terraform, since).await;
        ends(&world, &terraform).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s05_a_dependent_that_wants_the_new_one_first_gets_it() {
    let world = World::start().await;
    for kind in KINDS {
        println!("── stopped at {kind}");
        let terraform = Terraform::new(&world.deployer, &with_dependent());
        let since = world.now_in_journal().await;
        stop_at(&world, kind).await;
        terraform.apply().await.fails_with(&["staged by the test"]);
        terraform.apply().await.succeeds();
        serves(&world, &terraform, since).await;
        ends(&world, &terraform).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s05_a_binding_that_must_not_be_destroyed_is_untainted_and_goes_on() {
    let world = World::start().await;
    let terraform = Terraform::new(&world.deployer, &with_lifecycle("prevent_destroy = true"));
    let since = world.now_in_journal().await;
    stop_at(&world, "ingresses").await;
    terraform.apply().await.fails_with(&["staged by the test"]);
    // Tainted, it would be replaced, which is forbidden; the failure named the way out.
    let refused = terraform.apply().await;
    assert_ne!(refused.run.status, Some(0), "{}", refused.evidence());
    terraform.command(&["untaint", SHOP]).await.succeeds();
    terraform.apply().await.succeeds();
    serves(&world, &terraform, since).await;
    terraform.write(QUICKSTART);
    ends(&world, &terraform).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s05_a_creation_goes_on_without_a_refresh() {
    let world = World::start().await;
    for kind in KINDS {
        println!("── stopped at {kind}");
        let terraform = world.quickstart();
        let since = world.now_in_journal().await;
        stop_at(&world, kind).await;
        terraform
            .apply()
            .await
            .fails_with(&["staged by the test", "untaint"]);
        let apply = ["apply", "-json", "-auto-approve", "-refresh=false"];
        terraform.command(&apply).await.succeeds();
        serves(&world, &terraform, since).await;
        ends(&world, &terraform).await;
    }
}

/// kill −9: there is no state at all, and the objects' own marks tell that nobody finished them.
#[tokio::test(flavor = "multi_thread")]
async fn s05_a_creation_that_was_killed_goes_on() {
    let world = World::start().await;
    for kind in ["deployments", "ingresses"] {
        println!("── killed at {kind}");
        let terraform = world.quickstart();
        let since = world.now_in_journal().await;
        let (id, running) = held_at(&world, kind, &terraform).await;
        running.kill().await.expect("the signal is sent");
        let killed = terraform.outcome(running).await;
        assert_ne!(killed.run.status, Some(0), "{}", killed.evidence());
        world.release(&id).await;
        terraform.plan().await.warning(&["KVTLS-W401", "not complete"]);
        terraform.apply().await.succeeds();
        serves(&world, &terraform, since).await;
        ends(&world, &terraform).await;
    }
}

/// An apply whose write of this kind is done and not answered, and the fault that holds it.
async fn held_at(world: &World, kind: &str, terraform: &Terraform) -> (String, Running) {
    let id = world
        .fault(json!({
            "match": { "plane": "kubernetes", "method": "PATCH", "path": format!("**/{kind}/*"), "as": "masterclient", "dry_run": false },
            "times": 1,
            "do": { "hold": "after" },
        }))
        .await;
    let running = terraform.start(&["apply", "-json", "-auto-approve"]);
    world.hit(&id).await;
    (id, running)
}

/// At the second Ctrl-C Terraform leaves, and what the provider returns is lost.
#[tokio::test(flavor = "multi_thread")]
async fn s22_a_creation_that_was_left_by_two_ctrl_c_goes_on() {
    let world = World::start().await;
    let terraform = world.quickstart();
    let since = world.now_in_journal().await;
    let (id, running) = held_at(&world, "deployments", &terraform).await;
    running.interrupt().await.expect("the signal is sent");
    running.interrupt().await.expect("the signal is sent");
    let left = terraform.outcome(running).await;
    assert!(
        left.run.output().contains("Two interrupts received"),
        "{}",
        left.evidence()
    );
    assert_eq!(terraform.state(SHOP).await, None, "the result is lost");
    world.release(&id).await;
    terraform.apply().await.succeeds();
    serves(&world, &terraform, since).await;
    ends(&world, &terraform).await;
}

/// A complete binding that is replaced with the new one first: Terraform tells the new one nothing of the old, so it
/// looks like another state's. It is refused unless that is insisted on, and then the old one deletes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn s05_a_complete_binding_is_replaced_by_its_like_only_on_demand() {
    let world = World::start().await;
    let terraform = Terraform::new(&world.deployer, &with_lifecycle("create_before_destroy = true"));
    terraform.apply().await.succeeds();
    let since = world.now_in_journal().await;
    let replace = [
        "apply",
        "-json",
        "-auto-approve",
        "-replace=kvtls_ingress_binding.shop",
    ];
    let refused = terraform.command(&replace).await.fails_with(&["KVTLS-E402"]);
    refused.error(&["force_conflicts = true"]);
    terraform.plan_is_empty().await;

    let forced = with_lifecycle("create_before_destroy = true").replacen(
        "certificates = {",
        "force_conflicts = true\n  certificates = {",
        1,
    );
    terraform.write(&forced);
    let apply = terraform.command(&replace).await.succeeds();
    apply.warning(&["KVTLS-W422"]);
    serves(&world, &terraform, since).await;
    ends(&world, &terraform).await;
}
