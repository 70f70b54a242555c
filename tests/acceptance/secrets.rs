//! The Secrets: what others do to them is noticed, told, and mended.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::terraform::Terraform;
use crate::with;
use crate::world::{CERTIFICATE, CLUSTER, HOST, SECRET, World};

const MERGE: &str = "application/merge-patch+json";

/// A certificate for the host that is not the vault's, and its key, as a Secret holds them.
fn foreign() -> (String, String) {
    let pair = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![HOST.to_owned()]).expect("a host");
    let made = params.self_signed(&pair).expect("a certificate");
    (STANDARD.encode(made.pem()), STANDARD.encode(pair.serialize_pem()))
}

async fn change(world: &World, data: Value) {
    let path = format!("{SECRET}?fieldManager=kubectl-edit");
    let patch = json!({ "data": data });
    let changed = world
        .kubernetes(Method::PATCH, &path, Some((MERGE, &patch)))
        .await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    world.settle().await;
}

async fn remove(world: &World) {
    let gone = world.kubernetes(Method::DELETE, SECRET, None).await;
    assert_eq!(gone.status, StatusCode::OK, "{gone:?}");
    world.settle().await;
}

/// Nothing rotates, and the driver looks after what it made only when it is asked to: who mends is Terraform.
async fn without_rotation(driver: &str) -> (World, Terraform) {
    let world = World::with(json!({ "clusters": { CLUSTER: { "driver": driver } } })).await;
    let lines = "addon = { rotation_enabled = false }\n  verify = { timeout = \"45s\" }";
    let terraform = Terraform::new(&world.deployer, &with(lines));
    terraform.apply().await.succeeds();
    // The driver's own next look is minutes away, in real time.
    world.control(Method::POST, "/clock", json!({ "rate": 2 })).await;
    (world, terraform)
}

/// Whatever happens to it, and however often under one version of the vault's: the plan shows that the binding is not in
/// sync and nothing else, and apply restarts the pods, so that the Secret is written again.
#[tokio::test(flavor = "multi_thread")]
async fn s10_a_secret_that_is_replaced_or_deleted_is_written_again() {
    let (world, terraform) = without_rotation("1.6.1").await;
    let (certificate, key) = foreign();
    let both = json!({ "tls.crt": certificate, "tls.key": key });
    let rows = [
        ("replaced", Some(both.clone())),
        ("replaced again", Some(both)),
        ("its key replaced", Some(json!({ "tls.key": key }))),
        (
            "no certificate any more",
            Some(json!({ "tls.crt": STANDARD.encode("nothing") })),
        ),
        ("deleted", None),
        ("deleted again", None),
    ];
    for (what, data) in rows {
        println!("── {what}");
        match data {
            Some(data) => change(&world, data).await,
            None => remove(&world).await,
        }
        terraform.plan_shows(&[]).await;
        terraform.apply().await.succeeds();
        world.settle().await;
        assert_eq!(world.served().await, world.in_vault().await, "{what}");
        terraform.plan_is_empty().await;
    }
}

/// A driver that leaves alone what exists writes neither certificate nor key again: that is said, with the way out.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_key_or_certificate_that_stays_is_told() {
    let (world, terraform) = without_rotation("1.5.6").await;
    let lines = "addon = { rotation_enabled = false }\n  verify = { timeout = \"5s\" }";
    terraform.write(&with(lines));
    terraform.apply().await.succeeds();
    let (certificate, key) = foreign();
    change(&world, json!({ "tls.key": key })).await;
    let apply = terraform.apply().await;
    let words = [
        "KVTLS-E601",
        "the key of another one",
        "kubectl delete secret shop-my-tls-cert",
    ];
    apply.fails_with(&words);
    change(&world, json!({ "tls.crt": certificate, "tls.key": key })).await;
    terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E601", "still holds another certificate"]);
    remove(&world).await;
    terraform.apply().await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
}

/// Where the Secret is read at every refresh and nothing is dialled, the Secret alone has to tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_reads_the_secret_sees_a_foreign_key() {
    let world = World::with(json!({ "clusters": { CLUSTER: { "driver": "1.6.1" } } })).await;
    let lines =
        "addon = { rotation_enabled = false }\n  verify = { level = \"synced\", read_secret = \"always\" }";
    // Nobody waits for the edge, so its address, which an output tells, may come later.
    let configuration = with(lines);
    let (binding, _) = configuration.split_once("output ").expect("an output");
    let terraform = Terraform::new(&world.deployer, binding);
    terraform.apply().await.succeeds();
    world.settle().await;
    terraform.plan_is_empty().await;
    world.control(Method::POST, "/clock", json!({ "rate": 2 })).await;
    change(&world, json!({ "tls.key": foreign().1 })).await;
    terraform.plan_shows(&[]).await;
    terraform.apply().await.succeeds();
    let state = terraform.state(crate::terraform::SHOP).await.expect("the shop");
    let synced = &state["status"]["certificates"][CERTIFICATE]["synced"]["thumbprint"];
    assert_eq!(*synced, world.in_vault().await);
    terraform.plan_is_empty().await;
}
