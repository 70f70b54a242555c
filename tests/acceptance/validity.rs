//! Versions and dates of certificates: what is pinned stays, and what decays under a binding never blocks it.

use kvtls::sandbox::demo::QUICKSTART;
use reqwest::Method;
use serde_json::json;

use crate::terraform::{SHOP, Terraform};
use crate::with;
use crate::world::{CERTIFICATE, VAULT, World};

/// A new version that ends this long from now.
async fn renew_until(world: &World, until: &str) {
    let path = format!("/vaults/{VAULT}/certificates/{CERTIFICATE}/renew");
    world
        .control(Method::POST, &path, json!({ "until": until }))
        .await;
    world.advance("5m").await;
    world.settle().await;
}

/// A certificate that ends while it is bound: a change of something else, its apply and destroy all work, with a warning.
#[tokio::test(flavor = "multi_thread")]
async fn s14_a_bound_certificate_that_expires_blocks_nothing() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    renew_until(&world, "+1h").await;
    terraform.apply().await.succeeds();
    world.advance("2h").await;
    world.settle().await;

    terraform.write(&QUICKSTART.replacen("paths = [{ service", "paths = [{ path = \"/shop\", service", 1));
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    plan.warning(&["expired"]);
    terraform.apply().await.succeeds();
    terraform.destroy().await.succeeds();
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
}

/// Whoever wants a certificate that ends soon to be an error says how soon.
#[tokio::test(flavor = "multi_thread")]
async fn s14_a_limit_makes_an_end_that_is_near_an_error() {
    let world = World::start().await;
    let terraform = Terraform::new(&world.deployer, &with("expiry       = { fail = \"3d\" }"));
    terraform.apply().await.succeeds();
    renew_until(&world, "+2d").await;
    terraform
        .plan()
        .await
        .fails_with(&["KVTLS-E306", "destroy -refresh=false"]);
    // Before it destroys, Terraform plans as ever, and does not say that it will destroy.
    terraform
        .command(&["destroy", "-json", "-auto-approve", "-refresh=false"])
        .await
        .succeeds();
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
}

/// A pinned version stays when the vault has a newer one; that is said, and it is no difference.
#[tokio::test(flavor = "multi_thread")]
async fn s09_a_pinned_version_stays_and_the_newer_one_is_told() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let state = terraform.state(SHOP).await.expect("the shop");
    let version = state["status"]["certificates"][CERTIFICATE]["vault"]["version"].clone();
    let version = version.as_str().expect("a version");
    let pinned = world.in_vault().await;
    let pin = format!("my-tls-cert = {{ version = \"{version}\" }}");
    terraform.write(&QUICKSTART.replacen("my-tls-cert = {}", &pin, 1));
    terraform.apply().await.succeeds();

    let renewed = world.renew().await;
    assert_ne!(renewed, pinned);
    world.advance("5m").await;
    world.settle().await;
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(0), "{}", plan.evidence());
    plan.warning(&["KVTLS-W303"]);
    assert_eq!(world.served().await, pinned);

    // Without the pin it follows again.
    terraform.write(QUICKSTART);
    terraform.apply().await.succeeds();
    world.advance("5m").await;
    world.settle().await;
    assert_eq!(world.served().await, renewed);
}

/// A version that is newly asked for is looked at as a new certificate is, and so is the newest once the pin goes.
#[tokio::test(flavor = "multi_thread")]
async fn s14_a_version_that_is_newly_bound_has_to_be_valid() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let state = terraform.state(SHOP).await.expect("the shop");
    let version = state["status"]["certificates"][CERTIFICATE]["vault"]["version"].clone();
    let pin = format!("my-tls-cert = {{ version = {version} }}");
    terraform.write(&QUICKSTART.replacen("my-tls-cert = {}", &pin, 1));
    terraform.apply().await.succeeds();
    renew_until(&world, "+1h").await;
    world.advance("2h").await;
    world.settle().await;
    let plan = terraform.plan().await;
    assert_eq!(
        plan.run.status,
        Some(0),
        "the pinned one is valid\n{}",
        plan.evidence()
    );

    terraform.write(QUICKSTART);
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(1), "{}", plan.evidence());
    plan.error(&["KVTLS-E303", "pin an older version"]);
}

/// A certificate that ends within thirty days is told, and nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn s14_an_end_that_comes_near_is_told() {
    let world = World::start().await;
    let terraform = Terraform::new(&world.deployer, &with("expiry       = { warn = \"2d\" }"));
    terraform.apply().await.succeeds();
    renew_until(&world, "+3d").await;
    terraform.apply().await.succeeds().says_nothing();
    world.advance("25h").await;
    world.settle().await;
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(0), "{}", plan.evidence());
    plan.warning(&["KVTLS-W301", "ends on"]);
}
