//! The proof of what is served: by which way, and what is said when it cannot be had.

use reqwest::Method;
use serde_json::json;

use crate::gateway::{ingress, own_gateway, quickstart_with, thumbprint_at};
use crate::terraform::{SHOP, Terraform};
use crate::world::{SECRET, World};

fn verified(verify: &str, edge: &str) -> String {
    quickstart_with(&format!("verify = {{ {verify} }}\n  {edge}"))
}

async fn edge(world: &World, name: &str, settings: serde_json::Value) {
    world
        .control(Method::PATCH, &format!("/edges/{name}"), settings)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s18_an_edge_that_cannot_be_reached_warns_fails_or_is_asked_through_its_pod() {
    let world = World::start().await;
    edge(&world, "nginx", json!({ "reachable": false })).await;
    let terraform = Terraform::new(&world.deployer, &verified("timeout = \"5s\"", &ingress()));
    let apply = terraform.apply().await;
    // What the pod serves explains, and proves nothing about the address.
    apply.warning(&["KVTLS-W601", "through the API server"]);
    apply.succeeds();
    let state = terraform.state(SHOP).await.expect("the shop");
    assert_eq!(state["status"]["phase"], "unverified", "{state:#}");
    terraform.plan_is_empty().await;

    terraform.write(&verified("level = \"served\", timeout = \"2s\"", &ingress()));
    terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E603", "via = \"tunnel\""]);

    terraform.write(&verified("level = \"served\", via = \"tunnel\"", &ingress()));
    terraform.apply().await.succeeds();
    let state = terraform.state(SHOP).await.expect("the shop");
    assert_eq!(state["status"]["phase"], "served", "{state:#}");
    terraform.plan_is_empty().await;

    // No refresh tunnels, and still a renewal that works makes no difference.
    let renewed = world.renew().await;
    terraform.plan_is_empty().await;
    world.advance("30m").await;
    terraform.plan_is_empty().await;
    assert_eq!(thumbprint_at(&world, "nginx").await, renewed);
}

/// Who may not read the vault takes the Secret's word for what is to be served, and the Secret may change meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn s21_what_the_secret_holds_by_now_is_what_the_edge_has_to_serve() {
    const INGRESSES: &str = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    let other = json!({ "vaults": { "otherVault": {
        "resource_group": "myResourceGroup",
        "certificates": { "my-tls-cert": { "hosts": ["myapp.example.com"], "versions": [{ "from": "-1d", "until": "+90d" }] } },
    } } });
    let world = World::with(other).await;
    let written = verified("level = \"served\", timeout = \"60s\"", &ingress());
    let terraform = Terraform::new(&world.deployer, &written);
    terraform.apply().await.succeeds();
    let before = world.served().await;

    // The Secret stays as it is, and the edge out of reach, until the provider has looked at both.
    let write = json!({ "plane": "kubernetes", "actor": "*", "method": "PATCH", "path": SECRET });
    let stays = world
        .fault(json!({ "match": write, "times": null, "do": { "status": 500, "body": {} } }))
        .await;
    edge(&world, "nginx", json!({ "reachable": false })).await;
    terraform.write(&written.replacen("vaults/myAKSKeyVault", "vaults/otherVault", 1));
    let mut seen = world.now_in_journal().await;
    let running = terraform.start(&["apply", "-json", "-auto-approve"]);
    for path in [INGRESSES, SECRET] {
        let asked = format!("/journal?after={seen}&method=GET&as=masterclient&path={path}&wait=60000");
        let entries = world.look(&asked).await;
        seen = entries["entries"][0]["n"].as_u64().expect("it is asked for");
    }
    world.release(&stays).await;
    world.advance("5m").await;
    edge(&world, "nginx", json!({ "reachable": true })).await;
    terraform.outcome(running).await.succeeds();
    assert_ne!(world.served().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn s18_a_gateways_pods_are_asked_through_the_api_server_as_well() {
    let world = World::start().await;
    edge(&world, "approuting-istio", json!({ "reachable": false })).await;
    let written = verified("level = \"served\", via = \"tunnel\"", &own_gateway());
    let terraform = Terraform::new(&world.deployer, &written);
    terraform.apply().await.succeeds();
    let state = terraform.state(SHOP).await.expect("the shop");
    assert_eq!(state["status"]["phase"], "served", "{state:#}");
    terraform.plan_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s18_the_controllers_own_certificate_is_an_error_that_says_so() {
    let world = World::start().await;
    // A controller that does not get to the Ingress.
    edge(&world, "nginx", json!({ "reload_lag": "600m" })).await;
    let written = verified("endpoint = \"127.0.1.1:443\", timeout = \"3s\"", &ingress());
    let terraform = Terraform::new(&world.deployer, &written);
    let apply = terraform.apply().await;
    apply.fails_with(&[
        "KVTLS-E602",
        "Kubernetes Ingress Controller Fake Certificate",
        "controller's own certificate",
        "\"k8s.io/ingress-nginx\"",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn f_dns_is_a_way_and_a_refresh_need_not_look() {
    let world = World::start().await;
    let terraform = Terraform::new(
        &world.deployer,
        &verified("level = \"served\", via = \"dns\"", &ingress()),
    );
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;

    terraform.write(&verified("on_refresh = false", &ingress()));
    terraform.apply().await.succeeds();
    let state = terraform.state(SHOP).await.expect("the shop");
    assert_eq!(state["status"]["phase"], "served", "{state:#}");
    edge(&world, "nginx", json!({ "reachable": false })).await;
    terraform.plan_is_empty().await;
    let state = terraform.state(SHOP).await.expect("the shop");
    assert_eq!(state["status"]["phase"], "served", "{state:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f_no_pod_to_ask_is_said() {
    let world = World::with(json!({ "extends": "agic" })).await;
    let edge = ingress().replacen("\"nginx\"", "\"azure-application-gateway\"", 1);
    let written = verified("level = \"served\", via = \"tunnel\", timeout = \"1s\"", &edge);
    let terraform = Terraform::new(&world.deployer, &written);
    terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E603", "no pods are known", "azure/application-gateway"]);
}
