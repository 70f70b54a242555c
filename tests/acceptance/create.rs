//! From nothing to a certificate served.

use serde_json::json;

use crate::terraform::SHOP;
use crate::world::{CERTIFICATE, VAULT, World};

/// What a refresh of one binding that is in sync may ask of the world.
const REFRESH_BUDGET: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn s01_one_apply_serves_what_the_vault_holds() {
    let world = World::start().await;
    let terraform = world.quickstart();

    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    plan.warning(&["KVTLS-W101", "ignore_changes = [key_vault_secrets_provider]"]);
    terraform.apply().await.succeeds();

    assert_eq!(world.served().await, world.in_vault().await);
    let state = terraform.state(SHOP).await.expect("the shop is in the state");
    assert_eq!(state["id"], world.binding_id());
    assert_eq!(state["status"]["phase"], "served", "{state:#}");
    assert_eq!(state["status"]["in_sync"], true, "{state:#}");
    for place in ["vault", "synced", "served"] {
        let thumbprint = &state["status"]["certificates"][CERTIFICATE][place]["thumbprint"];
        assert_eq!(*thumbprint, world.in_vault().await, "{place}: {state:#}");
    }
    assert_eq!(state["addon_state"]["rotation_enabled"], true, "{state:#}");
    assert_eq!(state["grants"][0]["managed"], true, "{state:#}");
    assert_eq!(state["secret_names"][CERTIFICATE], "shop-my-tls-cert");
    terraform.plan_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s01_a_refresh_asks_little_and_writes_nothing() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let before = world.now_in_journal().await;
    terraform
        .command(&["plan", "-json", "-refresh-only"])
        .await
        .succeeds();
    let asked = world.journal_after(before).await;
    let asked: Vec<String> = asked
        .iter()
        .filter(|entry| entry["plane"] != "login" && entry["plane"] != "control")
        .map(|entry| format!("{} {}", text(&entry["method"]), text(&entry["url"])))
        .collect();
    // A credential is asked for with POST.
    let reads = |request: &String| request.starts_with("GET ") || request.contains("Credential");
    assert!(asked.iter().all(reads), "{asked:#?}");
    assert!(
        asked.len() <= REFRESH_BUDGET,
        "{} requests: {asked:#?}",
        asked.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s09_a_renewed_certificate_reaches_the_edge_and_makes_no_difference() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;

    let renewed = world.renew().await;
    terraform.plan_is_empty().await;
    world.advance("3m").await;
    assert_eq!(world.served().await, renewed);
    terraform.plan_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s21_an_access_policy_vault_gets_one_entry_and_keeps_the_others() {
    let other = "11111111-2222-4333-8444-555555555555";
    // In such a vault the deployer, too, reads certificates by a policy.
    let policy = json!([
        { "object_id": other, "secrets": ["get"] },
        { "principal": "deployer", "certificates": ["get"] },
    ]);
    let world = World::with(json!({ "vaults": { VAULT: { "rbac": false, "policies": policy } } })).await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await);

    let state = terraform.state(SHOP).await.expect("the shop is in the state");
    assert_eq!(state["grants"][0]["kind"], "access_policy", "{state:#}");
    let identity = state["addon_identity"]["object_id"]
        .as_str()
        .expect("an identity");
    let holders = world.policy_holders().await;
    assert_eq!(holders.len(), 3, "{holders:?}");
    assert!(holders.iter().any(|holder| holder == identity), "{holders:?}");
    assert!(holders.iter().any(|holder| holder == other), "{holders:?}");
    terraform.plan_is_empty().await;

    terraform.destroy().await.succeeds();
    let left = world.policy_holders().await;
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().any(|holder| holder == other), "{left:?}");
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or_default()
}
