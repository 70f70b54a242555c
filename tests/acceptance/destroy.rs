//! Destroy leaves nothing of ours and everything of others'.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::world::{SECRET, World};

#[tokio::test(flavor = "multi_thread")]
async fn s24_destroy_leaves_nothing_of_ours_and_everything_of_others() {
    let world = World::start().await;
    let before = world.inventory().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    assert!(!world.inventory().await.all_ours().is_empty());

    terraform.destroy().await.succeeds();
    world.settle().await;
    let after = world.inventory().await;
    assert_eq!(after.all_ours(), Vec::<String>::new());
    assert_eq!(after.missing_since(&before), Vec::<String>::new());
    assert_eq!(
        world.kubernetes(Method::GET, SECRET, None).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        world.addon().await["enabled"],
        true,
        "the add-on is shared and stays"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s24_a_destroy_of_what_is_gone_already_is_quiet() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let ours = [
        crate::world::INGRESS,
        crate::world::DEPLOYMENT,
        crate::world::SECRET_PROVIDER_CLASS,
    ];
    for path in ours {
        world.kubernetes(Method::DELETE, path, None).await;
    }
    world.settle().await;
    terraform.destroy().await.succeeds();
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
}

/// Two bindings of one vault on one cluster share the grant: the first to go leaves it.
#[tokio::test(flavor = "multi_thread")]
async fn s08_the_grant_stays_as_long_as_somebody_needs_it() {
    let world = World::start().await;
    let other = r#"
resource "kvtls_ingress_binding" "other" {
  name         = "other"
  cluster_id   = kvtls_ingress_binding.shop.cluster_id
  key_vault_id = kvtls_ingress_binding.shop.key_vault_id
  certificates = { my-tls-cert = { hosts = ["myapp.example.com"] } }
  verify       = { level = "synced" }
}
"#;
    let quickstart = kvtls::sandbox::demo::QUICKSTART;
    let terraform = crate::terraform::Terraform::new(&world.deployer, &format!("{quickstart}{other}"));
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
    assert_eq!(world.inventory().await.our_grants.len(), 1);

    terraform.write(quickstart);
    terraform.apply().await.succeeds();
    assert_eq!(
        world.inventory().await.our_grants.len(),
        1,
        "the shop still needs it"
    );
    terraform.plan_is_empty().await;
    terraform.destroy().await.succeeds();
    assert_eq!(world.inventory().await.our_grants.len(), 0);
}

/// A SecretProviderClass that somebody made by hand uses the same vault with the same identity: the grant stays.
#[tokio::test(flavor = "multi_thread")]
async fn s24_a_hand_made_secret_provider_class_keeps_the_grant() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let state = terraform
        .state(crate::terraform::SHOP)
        .await
        .expect("the shop is in the state");
    let by_hand = json!({
        "apiVersion": "secrets-store.csi.x-k8s.io/v1",
        "kind": "SecretProviderClass",
        "metadata": { "name": "by-hand", "namespace": "default" },
        "spec": { "provider": "azure", "parameters": {
            "keyvaultName": crate::world::VAULT,
            "userAssignedIdentityID": state["addon_identity"]["client_id"],
            "useVMManagedIdentity": "true",
        } },
    });
    let classes = "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/default/secretproviderclasses";
    let made = world
        .kubernetes(Method::POST, classes, Some(("application/json", &by_hand)))
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    terraform.destroy().await.succeeds();
    assert_eq!(world.inventory().await.our_grants.len(), 1);
    let still = world
        .kubernetes(Method::GET, &format!("{classes}/by-hand"), None)
        .await;
    assert_eq!(still.status, StatusCode::OK);
}

/// Where it cannot be seen who else needs a grant, it stays, and the command that takes it away is told.
#[tokio::test(flavor = "multi_thread")]
async fn s24_a_grant_that_others_may_need_stays_with_a_word() {
    let policies = json!([{ "principal": "deployer", "certificates": ["get"] }]);
    let by_policy = json!({ "vaults": { crate::world::VAULT: { "rbac": false, "policies": policies } } });
    for (members, command) in [
        (json!({}), "az role assignment delete --ids /subscriptions/"),
        (
            by_policy,
            "az keyvault delete-policy --name myAKSKeyVault --object-id ",
        ),
    ] {
        let world = World::with(members).await;
        let terraform = world.quickstart();
        terraform.apply().await.succeeds();
        world.hide_classes().await;
        let destroy = terraform.destroy().await.succeeds();
        destroy.warning(&["KVTLS-W402", command]);
        assert_eq!(world.inventory().await.ours.len(), 0);
    }
}

/// The driver's record of a mount outlives its pod until the garbage collector comes to it.
#[tokio::test(flavor = "multi_thread")]
async fn s24_the_record_of_a_pod_that_is_gone_does_not_hold_a_binding() {
    const RECORDS: &str =
        "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/default/secretproviderclasspodstatuses";
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let record = json!({
        "apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClassPodStatus",
        "metadata": { "name": "gone-default-shop", "namespace": "default" },
        "status": { "podName": "gone", "secretProviderClassName": "shop", "mounted": true },
    });
    let made = world
        .kubernetes(Method::POST, RECORDS, Some(("application/json", &record)))
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    terraform.destroy().await.succeeds();
    assert_eq!(world.inventory().await.ours.len(), 0);
}

/// A vault that somebody deleted is in nobody's way: not of a plan that changes nothing, and not of destroy.
#[tokio::test(flavor = "multi_thread")]
async fn s24_a_vault_that_is_gone_does_not_hold_a_binding() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let path = format!("{}?api-version=2024-11-01", world.vault_id());
    let gone = world
        .owner
        .arm(Method::DELETE, &path, None)
        .await
        .expect("ARM answers");
    assert!(gone.status.is_success(), "{gone:?}");
    let plan = terraform.plan().await;
    assert_ne!(plan.run.status, Some(1), "{}", plan.evidence());
    plan.warning(&["KVTLS-E201"]);
    terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E201", "Nothing was changed"]);
    terraform.destroy().await.succeeds();
    assert_eq!(world.inventory().await.ours.len(), 0);
}
