//! `kvtls_key_vault` against the real CLI: made, changed, found changed, recovered, purged, imported.

use reqwest::Method;
use serde_json::{Value, json};

use crate::terraform::Terraform;
use crate::world::{GROUP, World};

const MAIN: &str = "kvtls_key_vault.main";
const NAME: &str = "kv-shop-test";

/// A configuration with these lines in the vault's block.
fn configuration(world: &World, lines: &str) -> String {
    format!(
        "terraform {{\n  required_providers {{\n    kvtls = {{ source = \"kvtls/kvtls\" }}\n  }}\n}}\n\
         provider \"kvtls\" {{}}\n\
         resource \"kvtls_key_vault\" \"main\" {{\n  name = \"{NAME}\"\n  resource_group_id = \"{}\"\n  \
         location = \"East US\"\n  {lines}\n}}\n",
        group(world)
    )
}

fn group(world: &World) -> String {
    let subscription = world
        .deployer
        .variable("ARM_SUBSCRIPTION_ID")
        .expect("a subscription");
    format!("/subscriptions/{subscription}/resourceGroups/{GROUP}")
}

fn vault_id(world: &World) -> String {
    format!("{}/providers/Microsoft.KeyVault/vaults/{NAME}", group(world))
}

fn terraform(world: &World, lines: &str) -> Terraform {
    Terraform::new(&world.deployer, &configuration(world, lines))
}

async fn call(world: &World, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let path = format!("{path}?api-version=2026-02-01");
    let reply = world
        .owner
        .arm(method, &path, body.as_ref())
        .await
        .expect("ARM answers");
    (reply.status.as_u16(), reply.body)
}

/// The vault as ARM tells it; `None` if there is none.
async fn live(world: &World) -> Option<Value> {
    let (status, body) = call(world, Method::GET, &vault_id(world), None).await;
    (status == 200).then_some(body)
}

/// The deleted vault of the name.
async fn deleted(world: &World) -> Option<Value> {
    let subscription = world
        .deployer
        .variable("ARM_SUBSCRIPTION_ID")
        .expect("a subscription");
    let path = format!(
        "/subscriptions/{subscription}/providers/Microsoft.KeyVault/locations/eastus/deletedVaults/{NAME}"
    );
    let (status, body) = call(world, Method::GET, &path, None).await;
    (status == 200).then_some(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_is_made_changed_found_changed_and_deleted() {
    let world = World::start().await;
    // Its name takes a while to spread, as it does on Azure.
    world
        .control(Method::PUT, "/lag", json!({ "vault_dns": "36s" }))
        .await;
    let terraform = terraform(&world, "tags = { team = \"shop\" }");
    terraform.plan().await;
    terraform.apply().await.succeeds().says_nothing();
    let state = terraform.state(MAIN).await.expect("the vault is in the state");
    assert_eq!(state["id"], vault_id(&world));
    assert_eq!(state["vault_uri"], format!("https://{NAME}.vault.azure.net/"));
    assert_eq!(state["location"], "East US");
    assert_eq!(state["soft_delete_retention_days"], 90);
    assert_eq!(
        state["tenant_id"],
        world.deployer.variable("ARM_TENANT_ID").expect("a tenant")
    );
    let vault = live(&world).await.expect("the vault exists");
    assert_eq!(vault["properties"]["enableRbacAuthorization"], true);
    assert_eq!(vault["properties"]["enablePurgeProtection"], true);
    assert_eq!(vault["properties"]["provisioningState"], "Succeeded");
    terraform.plan_is_empty().await;

    // Somebody adds network rules, which are theirs, and changes what is ours.
    let rules = json!({ "bypass": "AzureServices", "defaultAction": "Allow", "ipRules": [{ "value": "203.0.113.7" }] });
    let change = json!({
        "tags": { "team": "other", "policy": "x" },
        "properties": { "networkAcls": rules, "publicNetworkAccess": "Disabled" },
    });
    let (status, answer) = call(&world, Method::PATCH, &vault_id(&world), Some(change)).await;
    assert_eq!(status, 200, "{answer}");
    terraform
        .plan_shows(&["public_network_access_enabled", "tags.team"])
        .await;
    terraform.apply().await.succeeds();
    let vault = live(&world).await.expect("the vault exists");
    assert_eq!(vault["tags"], json!({ "team": "shop", "policy": "x" }));
    assert_eq!(vault["properties"]["publicNetworkAccess"], "Enabled");
    assert_eq!(
        vault["properties"]["networkAcls"]["ipRules"][0]["value"],
        "203.0.113.7"
    );
    terraform.plan_is_empty().await;

    terraform.write(&configuration(&world, "sku_name = \"premium\""));
    terraform.plan_shows(&["sku_name", "tags"]).await;
    let before = world.now_in_journal().await;
    terraform.apply().await.succeeds();
    let writes: Vec<_> = world
        .journal_after(before)
        .await
        .into_iter()
        .filter(|entry| entry["plane"] == "arm" && entry["method"] != "GET")
        .map(|entry| entry["method"].clone())
        .collect();
    assert_eq!(writes, ["PATCH"], "one change");
    let vault = live(&world).await.expect("the vault exists");
    assert_eq!(vault["properties"]["sku"]["name"], "premium");
    assert_eq!(vault["tags"], json!({ "policy": "x" }));
    assert_eq!(
        vault["properties"]["networkAcls"]["ipRules"][0]["value"],
        "203.0.113.7"
    );
    terraform.plan_is_empty().await;

    terraform.destroy().await.succeeds();
    assert_eq!(live(&world).await, None);
    assert!(deleted(&world).await.is_some(), "it can be recovered");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_azure_never_takes_back_is_refused_in_the_plan() {
    let world = World::start().await;
    let terraform = terraform(&world, "");
    terraform.apply().await.succeeds();
    for (lines, attribute) in [
        ("purge_protection_enabled = false", "purge_protection_enabled"),
        ("soft_delete_retention_days = 7", "soft_delete_retention_days"),
    ] {
        terraform.write(&configuration(&world, lines));
        let plan = terraform.plan().await.fails_with(&["KVTLS-E223", attribute]);
        assert!(
            plan.error(&["KVTLS-E223"]).code.contains(attribute),
            "{}",
            plan.evidence()
        );
    }
    terraform.write(&configuration(&world, "purge_on_destroy = true"));
    terraform
        .validate()
        .await
        .fails_with(&["purge_protection_enabled = false"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_vault_is_recovered_or_named() {
    let world = World::start().await;
    let terraform = terraform(
        &world,
        "soft_delete_retention_days = 7\n  purge_protection_enabled = false",
    );
    terraform.apply().await.succeeds();
    terraform.destroy().await.succeeds();

    let refused =
        "soft_delete_retention_days = 7\n  purge_protection_enabled = false\n  recover_soft_deleted = false";
    terraform.write(&configuration(&world, refused));
    terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E222", "recover_soft_deleted = true", "az keyvault purge"]);
    assert_eq!(terraform.state(MAIN).await, None);

    // Of another retention it cannot become what is planned.
    terraform.write(&configuration(&world, ""));
    terraform.apply().await.fails_with(&["KVTLS-E222", "are 7"]);
    assert!(deleted(&world).await.is_some(), "nothing was changed");

    terraform.write(&configuration(&world, "soft_delete_retention_days = 7"));
    terraform.apply().await.succeeds().warning(&["KVTLS-W222"]);
    let vault = live(&world).await.expect("it is back");
    assert_eq!(vault["properties"]["enablePurgeProtection"], true);
    terraform.plan_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_can_be_purged_with_destroy() {
    let world = World::start().await;
    let lines = "purge_protection_enabled = false\n  purge_on_destroy = true";
    let terraform = terraform(&world, lines);
    terraform.apply().await.succeeds();
    terraform.destroy().await.succeeds().says_nothing();
    assert_eq!((live(&world).await, deleted(&world).await), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_exists_is_imported() {
    let world = World::start().await;
    let first = terraform(&world, "tags = { team = \"shop\" }");
    first.apply().await.succeeds();
    let second = terraform(&world, "tags = { team = \"shop\" }");
    let apply = second.apply().await.fails_with(&["KVTLS-E220", "import {"]);
    apply.error(&[&vault_id(&world)]);
    assert_eq!(second.state(MAIN).await, None);
    second.import(MAIN, &vault_id(&world)).await.succeeds();
    second.plan_is_empty().await;
    let third = terraform(&world, "");
    let absent = vault_id(&world).replace(NAME, "kv-absent");
    for (id, code) in [(NAME, "KVTLS-E020"), (absent.as_str(), "KVTLS-E023")] {
        let import = third.import(MAIN, id).await;
        assert_eq!(import.run.status, Some(1), "{}", import.evidence());
        assert!(import.run.output().contains(code), "{}", import.evidence());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_caller_gets_its_role_and_loses_it() {
    let world = World::start().await;
    let terraform = terraform(&world, "grant_caller = true");
    terraform.apply().await.succeeds();
    let state = terraform.state(MAIN).await.expect("the vault is in the state");
    let grant = state["caller_grant"]["id"]
        .as_str()
        .expect("an assignment")
        .to_owned();
    assert_eq!(state["caller_grant"]["managed"], true);
    let there = async || {
        let all = world
            .owner
            .assignments_at(&vault_id(&world))
            .await
            .expect("assignments");
        all.len()
    };
    assert_eq!(there().await, 1);
    terraform.plan_is_empty().await;

    world.delete_assignment(&grant).await;
    terraform.plan_shows(&["caller_grant"]).await;
    terraform.apply().await.succeeds();
    assert_eq!(there().await, 1);
    terraform.write(&configuration(&world, ""));
    terraform.apply().await.succeeds();
    assert_eq!(there().await, 0);
    terraform.plan_is_empty().await;
}

/// Every write of a vault's life refused once, throttled once, its answer lost once.
#[tokio::test(flavor = "multi_thread")]
async fn s22_faults_leave_a_state_that_is_true_and_the_next_apply_goes_on() {
    let world = World::start().await;
    let refused =
        json!({ "status": 403, "body": { "error": { "code": "AuthorizationFailed", "message": "staged" } } });
    let conflict =
        json!({ "status": 409, "body": { "error": { "code": "ConflictError", "message": "staged" } } });
    let throttled = json!({ "status": 429, "headers": { "retry-after": "1" } });
    let rows = [
        ("PUT", "**/vaults/kv-shop-test", &refused, false),
        ("PUT", "**/vaults/kv-shop-test", &throttled, true),
        (
            "PUT",
            "**/vaults/kv-shop-test",
            &json!({ "lose": "answer" }),
            true,
        ),
        (
            "PUT",
            "**/vaults/kv-shop-test",
            &json!({ "lose": "request" }),
            true,
        ),
        ("PUT", "**/roleAssignments/*", &refused, false),
        ("PATCH", "**/vaults/kv-shop-test", &refused, false),
        ("PATCH", "**/vaults/kv-shop-test", &conflict, true),
        (
            "PATCH",
            "**/vaults/kv-shop-test",
            &json!({ "lose": "answer" }),
            true,
        ),
    ];
    for (method, path, what, succeeds) in rows {
        println!("── {method} {path}: {what}");
        let terraform = terraform(
            &world,
            "grant_caller = true\n  purge_protection_enabled = false\n  purge_on_destroy = true",
        );
        if method == "PATCH" {
            terraform.apply().await.succeeds();
            terraform.write(&configuration(
                &world,
                "grant_caller = true\n  purge_protection_enabled = false\n  purge_on_destroy = true\n  sku_name = \"premium\"",
            ));
        }
        let fault =
            json!({ "match": { "plane": "arm", "method": method, "path": path }, "times": 1, "do": what });
        let fault = world.fault(fault).await;
        let apply = terraform.apply().await;
        assert_eq!(world.hits(&fault).await, 1, "the fault hit\n{}", apply.evidence());
        world.release(&fault).await;
        if succeeds {
            apply.succeeds();
        } else {
            apply.fails_with(&["staged"]);
            let told = terraform.state(MAIN).await.is_some();
            assert_eq!(told, live(&world).await.is_some(), "state and world agree");
            let before = world.now_in_journal().await;
            terraform.apply().await.succeeds();
            let journal = world.journal_after(before).await;
            assert!(
                journal.iter().all(|entry| entry["method"] != "DELETE"),
                "nothing is made anew"
            );
        }
        terraform.plan_is_empty().await;
        terraform.destroy().await.succeeds();
        assert_eq!((live(&world).await, deleted(&world).await), (None, None));
    }
}
