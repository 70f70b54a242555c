//! `kvtls_cluster_addon` against the real CLI: the add-on with its owner, and bindings that only require it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::terraform::Terraform;
use crate::world::World;

const MAIN: &str = "kvtls_cluster_addon.main";
const CLASSES: &str = "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/default/secretproviderclasses";
/// The requests of the cluster's writes.
const CLUSTER_PATH: &str = "**/managedClusters/*";

fn cluster_id(world: &World) -> String {
    format!(
        "{}/providers/Microsoft.ContainerService/managedClusters/myAKSCluster",
        world.group_id()
    )
}

/// A configuration with these lines in the add-on's block.
fn configuration(world: &World, lines: &str) -> String {
    format!(
        "terraform {{\n  required_providers {{\n    kvtls = {{ source = \"kvtls/kvtls\" }}\n  }}\n}}\n\
         provider \"kvtls\" {{}}\n\
         resource \"kvtls_cluster_addon\" \"main\" {{\n  cluster_id = \"{}\"\n  {lines}\n}}\n",
        cluster_id(world)
    )
}

/// The same with a binding that requires the add-on.
fn with_binding(world: &World, lines: &str, addon: &str) -> String {
    format!(
        "{}resource \"kvtls_ingress_binding\" \"shop\" {{\n  name = \"shop\"\n  cluster_id = kvtls_cluster_addon.main.id\n  \
         key_vault_id = \"{}\"\n  addon = {addon}\n  certificates = {{ my-tls-cert = {{}} }}\n  ingress = {{\n    \
         class_name = \"nginx\"\n    rules = [{{ host = \"myapp.example.com\", paths = [{{ service = \
         \"my-app-service\", port = 80 }}] }}]\n  }}\n}}\n",
        configuration(world, lines),
        world.vault_id()
    )
}

fn terraform(world: &World, lines: &str) -> Terraform {
    Terraform::new(&world.deployer, &configuration(world, lines))
}

/// Switches the add-on off as its owner.
async fn switch_off(world: &World) {
    world
        .change_addon(|addon| *addon = json!({ "enabled": false, "config": null }))
        .await;
}

/// Switches it on as its owner, with an interval.
async fn switch_on(world: &World, interval: &str) {
    let config = json!({ "enableSecretRotation": "true", "rotationPollInterval": interval });
    world
        .change_addon(|addon| *addon = json!({ "enabled": true, "config": config }))
        .await;
}

/// A SecretProviderClass of somebody else.
async fn foreign_class(world: &World) {
    let class = json!({
        "apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass",
        "metadata": { "name": "theirs" }, "spec": { "provider": "azure", "parameters": { "keyvaultName": "other" } },
    });
    let made = world
        .kubernetes(Method::POST, CLASSES, Some(("application/json", &class)))
        .await;
    assert!(made.status.is_success(), "{made:?}");
}

/// Owner and binding in one apply: the binding requires what the resource makes, and the plan does not complain of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_and_a_binding_that_requires_it_come_in_one_apply() {
    let world = World::start().await;
    let both = with_binding(
        &world,
        "on_destroy = \"disable_if_unused\"",
        "{ mode = \"require\" }",
    );
    let terraform = Terraform::new(&world.deployer, &both);
    let plan = terraform.plan().await;
    plan.warning(&[
        "KVTLS-W101",
        "lifecycle { ignore_changes = [key_vault_secrets_provider] }",
    ]);
    assert!(!plan.evidence().contains("KVTLS-E103"), "{}", plan.evidence());
    let before = world.now_in_journal().await;
    let apply = terraform.apply().await.succeeds();
    assert!(!apply.evidence().contains("KVTLS-E103"), "{}", apply.evidence());
    let writes = world.writes_after(before).await;
    let of_cluster = writes.iter().filter(|write| write.ends_with("/myAKSCluster"));
    assert_eq!(of_cluster.count(), 1, "one update of the cluster: {writes:#?}");
    let state = terraform.state(MAIN).await.expect("the add-on is in the state");
    let addon = world.addon().await;
    assert_eq!(state["id"], cluster_id(&world));
    assert_eq!(state["identity"]["object_id"], addon["identity"]["objectId"]);
    assert_eq!(state["identity"]["client_id"], addon["identity"]["clientId"]);
    assert_eq!(state["provisioning_state"], "Succeeded");
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;

    // The binding goes first, and with it the last SecretProviderClass.
    terraform.destroy().await.succeeds().says_nothing();
    assert_eq!(world.addon().await["enabled"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_that_wishes_something_else_is_told() {
    let world = World::start().await;
    let both = with_binding(
        &world,
        "rotation_poll_interval = \"5m\"",
        "{ rotation_poll_interval = \"2m\" }",
    );
    let terraform = Terraform::new(&world.deployer, &both);
    let plan = terraform.plan().await.fails_with(&["KVTLS-E104"]);
    plan.error(&["kvtls_cluster_addon", "\"5m\"", "\"2m\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interval_is_changed_and_another_spelling_is_no_change() {
    let world = World::start().await;
    let terraform = terraform(&world, "rotation_poll_interval = \"2m\"");
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
    terraform.write(&configuration(&world, "rotation_poll_interval = \"120s\""));
    terraform.plan_is_empty().await;
    terraform.write(&configuration(&world, "rotation_poll_interval = \"5m\""));
    terraform
        .plan_shows(&["rotation_poll_interval", "provisioning_state"])
        .await;
    terraform.apply().await.succeeds();
    assert_eq!(world.addon().await["config"]["rotationPollInterval"], "5m");
    terraform.plan_is_empty().await;

    // Somebody changes it: drift. Not written any more, it is nobody's and stays.
    switch_on(&world, "10m").await;
    terraform
        .plan_shows(&["rotation_poll_interval", "provisioning_state"])
        .await;
    terraform.write(&configuration(&world, "rotation_enabled = true"));
    let before = world.now_in_journal().await;
    terraform.apply().await.succeeds();
    assert_eq!(world.writes_after(before).await, Vec::<String>::new());
    assert_eq!(world.addon().await["config"]["rotationPollInterval"], "10m");
    terraform.plan_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_behind_our_back_it_is_switched_on_again() {
    let world = World::start().await;
    let terraform = terraform(&world, "");
    terraform.apply().await.succeeds();
    let first = terraform.state(MAIN).await.expect("a state")["identity"].clone();
    switch_off(&world).await;
    let plan = terraform.plan_shows(&["identity", "provisioning_state"]).await;
    plan.warning(&["KVTLS-W102", "ignore_changes"]);
    terraform.apply().await.succeeds();
    assert_eq!(world.addon().await["enabled"], true);
    let second = terraform.state(MAIN).await.expect("a state")["identity"].clone();
    assert!(second["object_id"].is_string() && second != first, "{second}");
    terraform.plan_is_empty().await;

    // With its cluster it is gone, and destroy has nothing to do.
    world.delete_cluster().await;
    terraform.plan().await.warning(&["KVTLS-E101"]);
    terraform.apply().await.fails_with(&["KVTLS-E101"]);
    terraform.destroy().await.succeeds();
    assert_eq!(terraform.state(MAIN).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_right_is_taken_without_a_write_and_imported_with_its_interval() {
    let world = World::start().await;
    let importing = terraform(&world, "");
    let import = importing.import(MAIN, &cluster_id(&world)).await;
    assert!(
        import.run.output().contains("KVTLS-E023"),
        "off, there is nothing to import\n{}",
        import.evidence()
    );
    switch_on(&world, "7m").await;
    let before = world.now_in_journal().await;
    let created = terraform(&world, "");
    created.plan().await;
    created.apply().await.succeeds().says_nothing();
    created.plan_is_empty().await;
    importing.import(MAIN, &cluster_id(&world)).await.succeeds();
    importing.plan_is_empty().await;
    importing.apply().await.succeeds();
    // By default it stays on.
    importing.destroy().await.succeeds().says_nothing();
    assert_eq!(world.writes_after(before).await, Vec::<String>::new());
    let addon = world.addon().await;
    assert_eq!(addon["enabled"], true);
    assert_eq!(addon["config"]["rotationPollInterval"], "7m");
    let wrong = importing.import(MAIN, "myAKSCluster").await;
    assert!(wrong.run.output().contains("KVTLS-E020"), "{}", wrong.evidence());
}

#[tokio::test(flavor = "multi_thread")]
async fn destroy_switches_off_what_nobody_uses_and_says_who_uses_it() {
    let world = World::start().await;
    let disable = terraform(&world, "on_destroy = \"disable\"");
    disable.apply().await.succeeds();
    disable.destroy().await.succeeds().says_nothing();
    assert_eq!(world.addon().await["enabled"], false);

    disable.apply().await.succeeds();
    foreign_class(&world).await;
    let refused = disable.destroy().await.fails_with(&["KVTLS-E106"]);
    refused.error(&["Secret Provider Classes", "kubectl get secretproviderclass -A"]);
    assert!(disable.state(MAIN).await.is_some(), "it is still managed");
    assert_eq!(world.addon().await["enabled"], true);
    disable.plan_is_empty().await;

    disable.write(&configuration(&world, "on_destroy = \"disable_if_unused\""));
    disable.plan_shows(&["on_destroy"]).await;
    let before = world.now_in_journal().await;
    disable.apply().await.succeeds();
    let destroy = disable.destroy().await.succeeds();
    destroy.warning(&["KVTLS-W104", "default/theirs"]);
    assert_eq!(world.writes_after(before).await, Vec::<String>::new());
    assert_eq!(disable.state(MAIN).await, None);
    assert_eq!(world.addon().await["enabled"], true);
}

/// A SecretProviderClass that appears at the last moment, and a cluster that cannot be asked: left on, and said.
#[tokio::test(flavor = "multi_thread")]
async fn an_addon_that_cannot_go_is_left_on_with_a_warning() {
    let world = World::start().await;
    let terraform = terraform(&world, "on_destroy = \"disable_if_unused\"");
    terraform.apply().await.succeeds();
    let refusal = json!({ "code": "BadRequest", "message": "There are more than 0 Secret Provider Classes in the cluster." });
    let fault = world
        .fault(json!({
            "match": { "plane": "arm", "method": "PUT", "path": CLUSTER_PATH, "as": "deployer" },
            "do": { "status": 400, "body": refusal },
        }))
        .await;
    let destroy = terraform.destroy().await.succeeds();
    destroy.warning(&["KVTLS-W104", "Secret Provider Classes"]);
    assert_eq!(world.hits(&fault).await, 1);
    world.release(&fault).await;

    terraform.apply().await.succeeds();
    stage(&world, json!({ "power": "Stopped" })).await;
    let destroy = terraform.destroy().await.succeeds();
    destroy.warning(&["KVTLS-W104", "stopped"]);
    assert_eq!(world.addon().await["enabled"], true);
}

async fn stage(world: &World, members: Value) {
    let change = json!({ "clusters": { "myAKSCluster": members } });
    world.control(Method::PATCH, "/world", change).await;
}

/// A stopped or failed cluster is not written to; the plan says so, and nothing enters the state.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_takes_no_changes_is_not_written_to() {
    let world = World::start().await;
    let terraform = terraform(&world, "");
    for (staged, word) in [
        (json!({ "power": "Stopped" }), "stopped"),
        (json!({ "power": "Running", "state": "Failed" }), "Failed"),
    ] {
        stage(&world, staged).await;
        let plan = terraform.plan().await;
        plan.warning(&["KVTLS-W103", word]);
        let before = world.now_in_journal().await;
        terraform.apply().await.fails_with(&["KVTLS-E102", word]);
        assert_eq!(world.writes_after(before).await, Vec::<String>::new(), "{word}");
        assert_eq!(terraform.state(MAIN).await, None, "{word}");
    }
}

/// The write refused, its answer lost, its request lost: state and world agree, and the next apply goes on.
#[tokio::test(flavor = "multi_thread")]
async fn s22_faults_of_the_write_converge() {
    let world = World::start().await;
    let refused =
        json!({ "status": 403, "body": { "error": { "code": "AuthorizationFailed", "message": "staged" } } });
    let conflict =
        json!({ "status": 409, "body": { "error": { "code": "OperationNotAllowed", "message": "staged" } } });
    for (what, succeeds) in [
        (&json!({ "lose": "answer" }), true),
        (&json!({ "lose": "request" }), true),
        (&conflict, true),
        (&refused, false),
    ] {
        println!("── {what}");
        let terraform = terraform(&world, "on_destroy = \"disable\"");
        let fault = json!({
            "match": { "plane": "arm", "method": "PUT", "path": CLUSTER_PATH, "as": "deployer" }, "times": 1, "do": what,
        });
        let fault = world.fault(fault).await;
        let apply = terraform.apply().await;
        assert_eq!(world.hits(&fault).await, 1, "the fault hit\n{}", apply.evidence());
        world.release(&fault).await;
        if succeeds {
            apply.succeeds();
        } else {
            apply.fails_with(&["KVTLS-E501", "Azure Kubernetes Service Contributor Role"]);
            assert_eq!(terraform.state(MAIN).await, None, "nothing was made");
            terraform.apply().await.succeeds();
        }
        terraform.plan_is_empty().await;
        terraform.destroy().await.succeeds();
        assert_eq!(world.addon().await["enabled"], false);
    }
}

/// A creation whose time is over goes on where it was; the add-on is not switched off in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_ran_out_of_time_is_completed() {
    let world = World::start().await;
    let terraform = terraform(
        &world,
        "on_destroy = \"disable\"\n  timeouts = { create = \"3s\" }",
    );
    let write = json!({ "plane": "arm", "method": "PUT", "path": CLUSTER_PATH, "as": "deployer" });
    let fault = world
        .fault(json!({ "match": write, "times": 1, "do": { "hold": "after" } }))
        .await;
    terraform.apply().await.fails_with(&["KVTLS-E224"]);
    world.release(&fault).await;
    let state = terraform.resource(MAIN).await.expect("it is kept");
    assert_eq!(state["tainted"], true, "{state}");
    world.operations_end().await;
    let before = world.now_in_journal().await;
    terraform.write(&configuration(&world, "on_destroy = \"disable\""));
    terraform.apply().await.succeeds();
    assert_eq!(world.writes_after(before).await, Vec::<String>::new());
    assert_eq!(world.addon().await["enabled"], true);
    terraform.plan_is_empty().await;
}
