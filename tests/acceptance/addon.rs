//! The add-on is one per cluster, and others own it, too.

use kvtls::sandbox::demo::QUICKSTART;
use reqwest::Method;
use serde_json::{Value, json};

use crate::terraform::Terraform;
use crate::with;
use crate::world::World;

/// The quickstart with a line before its certificates.
/// Another owner writes the cluster as it knows it, without the add-on. The plan tells who usually does that and how to
/// stop it; with that, both converge.
#[tokio::test(flavor = "multi_thread")]
async fn s04_alternating_owners_are_told_how_to_agree() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    // As azurerm does it: the block is not there, so the add-on goes. It can only where no SecretProviderClass is.
    let class = crate::world::SECRET_PROVIDER_CLASS;
    world.kubernetes(Method::DELETE, class, None).await;
    world
        .change_addon(|addon| *addon = json!({ "enabled": false, "config": null }))
        .await;
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    plan.warning(&[
        "KVTLS-W102",
        "lifecycle { ignore_changes = [key_vault_secrets_provider] }",
    ]);
    terraform.apply().await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
    // With the advice followed, the owner leaves the add-on as it finds it.
    world.change_addon(|_| {}).await;
    terraform.plan_is_empty().await;
}

/// Off again with the last one, if it was switched on for it; a foreign SecretProviderClass keeps it on.
#[tokio::test(flavor = "multi_thread")]
async fn s08_the_addon_goes_with_the_last_binding_if_that_is_wished() {
    let world = World::start().await;
    let configuration = with("addon        = { on_destroy = \"disable_if_unused\" }");
    let terraform = Terraform::new(&world.deployer, &configuration);
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
    terraform.destroy().await.succeeds();
    assert_eq!(world.addon().await["enabled"], false, "switched on by it");

    terraform.apply().await.succeeds();
    let foreign = json!({
        "apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass",
        "metadata": { "name": "theirs" }, "spec": { "provider": "azure", "parameters": { "keyvaultName": "other" } },
    });
    let classes = "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/default/secretproviderclasses";
    world
        .kubernetes(Method::POST, classes, Some(("application/json", &foreign)))
        .await;
    terraform.destroy().await.succeeds();
    assert_eq!(world.addon().await["enabled"], true, "somebody else uses it");
    // Whoever did not switch it on leaves it on.
    world
        .kubernetes(Method::DELETE, &format!("{classes}/theirs"), None)
        .await;
    let second = Terraform::new(&world.deployer, &configuration);
    second.apply().await.succeeds();
    second.destroy().await.succeeds();
    assert_eq!(world.addon().await["enabled"], true);
}

/// What one configuration switched on, the last binding of another one switches off: it has read in the cluster that
/// kvtls did it.
#[tokio::test(flavor = "multi_thread")]
async fn s08_the_last_binding_of_another_configuration_switches_the_addon_off() {
    let world = World::start().await;
    let first = world.quickstart();
    first.apply().await.succeeds();
    let second = r#"
resource "kvtls_ingress_binding" "web" {
  name         = "web"
  cluster_id   = "${local.group}/Microsoft.ContainerService/managedClusters/myAKSCluster"
  key_vault_id = "${local.group}/Microsoft.KeyVault/vaults/myAKSKeyVault"
  addon        = { on_destroy = "disable_if_unused" }
  certificates = { my-tls-cert = { hosts = ["myapp.example.com"] } }
  verify       = { level = "synced" }
}
"#;
    let head = &QUICKSTART[..QUICKSTART
        .find("resource \"kvtls_ingress_binding\"")
        .expect("a binding")];
    let second = Terraform::new(&world.deployer, &format!("{head}{second}"));
    second.apply().await.succeeds();
    second.plan_is_empty().await;

    first.destroy().await.succeeds();
    assert_eq!(world.addon().await["enabled"], true, "the other one uses it");
    second.plan_is_empty().await;
    second.destroy().await.succeeds();
    assert_eq!(world.addon().await["enabled"], false, "nobody uses it");
}

/// A SecretProviderClass that appears at the last moment: Azure refuses, and destroy says so and succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn s08_an_addon_that_azure_keeps_is_a_warning() {
    let world = World::start().await;
    let terraform = Terraform::new(
        &world.deployer,
        &with("addon        = { on_destroy = \"disable_if_unused\" }"),
    );
    terraform.apply().await.succeeds();
    let refusal = json!({ "code": "BadRequest", "message": "There are more than 0 Secret Provider Classes in the cluster." });
    world
        .fault(json!({
            "match": { "plane": "arm", "method": "PUT", "path": "**/managedClusters/*", "as": "deployer" },
            "do": { "status": 400, "body": refusal },
        }))
        .await;
    let destroy = terraform.destroy().await.succeeds();
    destroy.warning(&["KVTLS-W104", "Secret Provider Classes"]);
    assert_eq!(world.addon().await["enabled"], true);
}

/// A stopped or failed cluster is not written to; the plan says so already.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_takes_no_changes_is_not_written_to() {
    let world = World::start().await;
    let terraform = world.quickstart();
    for (staged, word) in [
        (json!({ "power": "Stopped" }), "stopped"),
        (json!({ "power": "Running", "state": "Failed" }), "Failed"),
    ] {
        world
            .control(
                Method::PATCH,
                "/world",
                json!({ "clusters": { "myAKSCluster": staged } }),
            )
            .await;
        let plan = terraform.plan().await;
        plan.warning(&["KVTLS-W103", word]);
        let before = world.now_in_journal().await;
        terraform.apply().await.fails_with(&["KVTLS-E102", word]);
        assert_eq!(world.writes_after(before).await, Vec::<String>::new(), "{word}");
    }
}

/// Rotation on and rotation off cannot both be.
#[tokio::test(flavor = "multi_thread")]
async fn s16_bindings_that_disagree_on_rotation_are_told() {
    let world = World::start().await;
    let other = r#"
resource "kvtls_ingress_binding" "other" {
  name         = "other"
  cluster_id   = "${local.group}/Microsoft.ContainerService/managedClusters/myAKSCluster"
  key_vault_id = "${local.group}/Microsoft.KeyVault/vaults/myAKSKeyVault"
  addon        = { rotation_enabled = false }
  certificates = { my-tls-cert = { hosts = ["myapp.example.com"] } }
}
"#;
    let terraform = Terraform::new(&world.deployer, &format!("{QUICKSTART}{other}"));
    let plan = terraform.plan().await.fails_with(&["KVTLS-E104"]);
    plan.error(&["rotation_enabled = true", "rotation_enabled = false"]);
}

/// The same name twice in one configuration: each would take the other's objects over.
#[tokio::test(flavor = "multi_thread")]
async fn two_bindings_of_one_name_are_refused() {
    let world = World::start().await;
    let twin = with("").replacen(
        "\"kvtls_ingress_binding\" \"shop\"",
        "\"kvtls_ingress_binding\" \"twin\"",
        1,
    );
    let start = twin
        .find("resource \"kvtls_ingress_binding\"")
        .expect("a binding");
    let end = twin.find("# For a DNS record").expect("the output");
    let terraform = Terraform::new(&world.deployer, &format!("{QUICKSTART}{}", &twin[start..end]));
    let before = world.now_in_journal().await;
    terraform
        .plan()
        .await
        .fails_with(&["KVTLS-E028", "bindings/shop"]);
    terraform.apply().await.fails_with(&["KVTLS-E028"]);
    assert_eq!(world.writes_after(before).await, Vec::<String>::new());
}

/// Somebody else's operation is waited out by reading; its 409 is not shown.
#[tokio::test(flavor = "multi_thread")]
async fn s16_a_foreign_operation_is_waited_out() {
    let world = World::start().await;
    let operation = json!({ "name": "Upgrading", "for": "5m", "outcome": "Succeeded" });
    world
        .control(Method::POST, "/clusters/myAKSCluster/operation", operation)
        .await;
    let terraform = world.quickstart();
    let before = world.now_in_journal().await;
    terraform.apply().await.succeeds();
    let refused: Vec<Value> = world
        .journal_after(before)
        .await
        .into_iter()
        .filter(|entry| entry["method"] == "PUT" && entry["response"]["status"] == 409)
        .collect();
    assert!(refused.is_empty(), "waited by GET: {refused:#?}");
}

/// An add-on that is on and set otherwise is written, too; the plan says so as well, at first and later.
#[tokio::test(flavor = "multi_thread")]
async fn every_write_to_the_cluster_is_told_in_the_plan() {
    let addon = json!({ "key": "azureKeyvaultSecretsProvider", "enabled": true, "config": { "enableSecretRotation": "false" } });
    let world = World::with(json!({ "clusters": { crate::world::CLUSTER: { "addon": addon } } })).await;
    let told = [
        "KVTLS-W101",
        "will be changed",
        "\"Updating\"",
        "lifecycle { ignore_changes = [key_vault_secrets_provider] }",
    ];
    let terraform = world.quickstart();
    terraform.plan().await.warning(&told);
    terraform.apply().await.succeeds();

    terraform.write(&with("addon        = { rotation_poll_interval = \"5m\" }"));
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    plan.warning(&told);
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
}
