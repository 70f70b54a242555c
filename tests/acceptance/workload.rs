//! The sync pods read as a user-assigned identity that trusts their service account.

use kvtls::sandbox::demo::QUICKSTART;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::terraform::{SHOP, Terraform};
use crate::world::World;

const VERSION: &str = "api-version=2024-11-30";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

/// A world whose cluster has an issuer, with an identity that reads nothing yet.
async fn world() -> World {
    let members = json!({
        "clusters": { "myAKSCluster": { "oidc": true, "workload_identity": true } },
        "identities": { "reader": { "resource_group": "myResourceGroup" } },
    });
    World::with(members).await
}

fn identity_id(world: &World) -> String {
    format!(
        "{}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/reader",
        world.group_id()
    )
}

fn access(more: &str) -> String {
    format!(
        "access = {{ identity = \"workload\", identity_id = \
         \"${{local.group}}/Microsoft.ManagedIdentity/userAssignedIdentities/reader\"{more} }}"
    )
}

fn configuration(more: &str) -> String {
    let line = access(more);
    QUICKSTART.replacen("certificates = {", &format!("{line}\n  certificates = {{"), 1)
}

/// More bindings beside the quickstart's, without an edge.
fn others(names: &[&str], more: &str) -> String {
    let one = |name: &&str| {
        format!(
            r#"
resource "kvtls_ingress_binding" "{name}" {{
  name         = "{name}"
  cluster_id   = "${{local.group}}/Microsoft.ContainerService/managedClusters/myAKSCluster"
  key_vault_id = "${{local.group}}/Microsoft.KeyVault/vaults/myAKSKeyVault"
  {}
  certificates = {{ my-tls-cert = {{ hosts = ["myapp.example.com"] }} }}
  verify       = {{ level = "synced" }}
}}
"#,
            access(more)
        )
    };
    names.iter().map(one).collect()
}

async fn credentials(world: &World) -> Vec<Value> {
    let path = format!("{}/federatedIdentityCredentials?{VERSION}", identity_id(world));
    world.arm(&path).await["value"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// Credential and account are made, the lag is waited out, the certificate is served, and all of it goes again.
#[tokio::test(flavor = "multi_thread")]
async fn s20_a_workload_identity_reads_the_vault() {
    let world = world().await;
    world
        .control(
            Method::PUT,
            "/lag",
            json!({ "federated_effect": "2m", "role_effect": "3m" }),
        )
        .await;
    let terraform = Terraform::new(&world.deployer, &configuration(""));
    terraform.apply().await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await);
    let state = terraform.state(SHOP).await.expect("the shop");
    let kinds: Vec<&str> = state["grants"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|grant| grant["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["role_assignment", "federated_credential"], "{state:#}");
    assert!(state["manifests"]["ServiceAccount/shop"].is_string(), "{state:#}");
    let found = credentials(&world).await;
    assert_eq!(
        found[0]["properties"]["subject"],
        "system:serviceaccount:default:shop"
    );
    terraform.plan_is_empty().await;

    // Somebody takes the trust away: the plan shows it, apply brings it back.
    let id = found[0]["id"].as_str().expect("an ID");
    let deleted = world
        .owner
        .arm(Method::DELETE, &format!("{id}?{VERSION}"), None)
        .await
        .expect("ARM answers");
    assert!(deleted.status.is_success(), "{deleted:?}");
    terraform.plan_shows(&["grants"]).await;
    terraform.apply().await.succeeds();
    assert_eq!(credentials(&world).await.len(), 1);

    terraform.destroy().await.succeeds();
    assert_eq!(credentials(&world).await, Vec::<Value>::new());
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
    assert_eq!(
        world
            .kubernetes(Method::GET, &format!("{ACCOUNTS}/shop"), None)
            .await
            .status,
        StatusCode::NOT_FOUND
    );
}

/// Five bindings of one identity: five credentials, written one after the other, and one grant.
#[tokio::test(flavor = "multi_thread")]
async fn s20_five_bindings_use_one_identity() {
    let world = world().await;
    let four = others(&["one", "two", "three", "four"], "");
    let terraform = Terraform::new(&world.deployer, &format!("{}{four}", configuration("")));
    let before = world.now_in_journal().await;
    terraform.apply().await.succeeds();
    assert_eq!(credentials(&world).await.len(), 5);
    assert_eq!(world.inventory().await.our_grants.len(), 1);
    let refused: Vec<Value> = world
        .journal_after(before)
        .await
        .into_iter()
        .filter(|entry| entry["plane"] == "arm" && entry["response"]["status"] == 409)
        .collect();
    assert!(refused.is_empty(), "one at a time: {refused:#?}");
    terraform.plan_is_empty().await;
    terraform.destroy().await.succeeds();
    assert_eq!(credentials(&world).await, Vec::<Value>::new());
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
}

/// An account that is there is used and stays; two bindings of it need one credential.
#[tokio::test(flavor = "multi_thread")]
async fn s20_a_service_account_that_is_there_is_used_and_not_owned() {
    let world = world().await;
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "theirs" } });
    world
        .kubernetes(Method::POST, ACCOUNTS, Some(("application/json", &account)))
        .await;
    let more = ", service_account_name = \"theirs\"";
    let terraform = Terraform::new(
        &world.deployer,
        &format!("{}{}", configuration(more), others(&["other"], more)),
    );
    terraform.apply().await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await);
    assert_eq!(credentials(&world).await.len(), 1);
    terraform.plan_is_empty().await;
    terraform.destroy().await.succeeds();
    assert_eq!(credentials(&world).await, Vec::<Value>::new());
    let left = world
        .kubernetes(Method::GET, &format!("{ACCOUNTS}/theirs"), None)
        .await;
    assert_eq!(left.status, StatusCode::OK, "{left:?}");
    assert!(!left.body.to_string().contains("kvtls"), "{left:?}");
}

/// A binding that leaves the service account it made: it goes, unless others run as it, and then that is said.
#[tokio::test(flavor = "multi_thread")]
async fn s20_a_service_account_that_others_use_stays() {
    let world = world().await;
    let terraform = Terraform::new(&world.deployer, &configuration(""));
    terraform.apply().await.succeeds();
    let theirs = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "theirs" },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": { "app": "theirs" } },
            "template": {
                "metadata": { "labels": { "app": "theirs" } },
                "spec": { "serviceAccountName": "shop", "containers": [{ "name": "a", "image": "registry.example/a:1" }] },
            },
        },
    });
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let made = world
        .kubernetes(Method::POST, deployments, Some(("application/json", &theirs)))
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");

    terraform.write(&configuration(", service_account_name = \"web\""));
    let apply = terraform.apply().await.succeeds();
    apply.warning(&["KVTLS-W425", "default/shop", "Deployment/theirs"]);
    assert_eq!(account(&world, "shop").await, StatusCode::OK);
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;

    // Nobody uses the next one.
    terraform.write(&configuration(", service_account_name = \"mail\""));
    terraform.apply().await.succeeds().says_nothing();
    assert_eq!(account(&world, "web").await, StatusCode::NOT_FOUND);
    terraform.plan_is_empty().await;
    terraform.destroy().await.succeeds();
    assert_eq!(account(&world, "mail").await, StatusCode::NOT_FOUND);
    assert_eq!(account(&world, "shop").await, StatusCode::OK);
}

async fn account(world: &World, name: &str) -> StatusCode {
    let path = format!("{ACCOUNTS}/{name}");
    world.kubernetes(Method::GET, &path, None).await.status
}

/// One more than an identity can have is an error before the first write.
#[tokio::test(flavor = "multi_thread")]
async fn s20_the_twenty_first_credential_is_a_clear_error() {
    let world = world().await;
    for index in 0..20 {
        let path = format!(
            "{}/federatedIdentityCredentials/credential-{index}?{VERSION}",
            identity_id(&world)
        );
        let body = json!({ "properties": {
            "issuer": "https://issuer.example", "subject": format!("s{index}"), "audiences": ["api://AzureADTokenExchange"],
        } });
        let put = world
            .owner
            .arm(Method::PUT, &path, Some(&body))
            .await
            .expect("ARM answers");
        assert!(put.status.is_success(), "{put:?}");
    }
    let terraform = Terraform::new(&world.deployer, &configuration(""));
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(1), "{}", plan.evidence());
    plan.error(&["KVTLS-E209", "20 federated credentials"]);
    let before = world.now_in_journal().await;
    terraform.apply().await.fails_with(&["KVTLS-E209"]);
    assert_eq!(world.writes_after(before).await, Vec::<String>::new());
}

/// `require` changes nothing, and says what is missing.
#[tokio::test(flavor = "multi_thread")]
async fn s20_a_required_trust_that_is_missing_stops_apply() {
    let world = world().await;
    let terraform = Terraform::new(
        &world.deployer,
        &configuration(", federated_credential = \"require\""),
    );
    terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E208", "system:serviceaccount:default:shop"]);
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
    let plain = World::start().await;
    let terraform = Terraform::new(&plain.deployer, &configuration(""));
    terraform.plan().await.warning(&["KVTLS-E206"]);
}
