//! Several certificates and many hosts in one binding.

use reqwest::Method;
use serde_json::{Value, json};

use crate::gateway::quickstart_with;
use crate::terraform::{SHOP, Terraform};
use crate::world::{CERTIFICATE, CLUSTER, HOST, VAULT, World};

const API: &str = "api.example.com";

fn rules(hosts: &[String]) -> String {
    let rule = |host: &String| {
        format!("{{ host = \"{host}\", paths = [{{ service = \"my-app-service\", port = 80 }}] }}")
    };
    format!(
        "rules = [{}]",
        hosts.iter().map(rule).collect::<Vec<_>>().join(", ")
    )
}

/// The quickstart with these certificates, and an Ingress and a Gateway side by side for these hosts.
fn both_edges(certificates: &str, hosts: &[String]) -> String {
    let rules = rules(hosts);
    quickstart_with(&format!(
        "ingress = {{\n    class_name = \"nginx\"\n    {rules}\n  }}\n  gateway = {{\n    class_name = \
         \"approuting-istio\"\n    {rules}\n  }}"
    ))
    .replacen(
        "certificates = { my-tls-cert = {} }",
        &format!("certificates = {{ {certificates} }}"),
        1,
    )
}

/// What an edge serves for a host.
async fn at(world: &World, edge: &str, host: &str) -> Value {
    let edges = world.look("/edges").await;
    let hosts = edges[format!("{CLUSTER}/{edge}")]["hosts"].as_array().cloned();
    let found = hosts
        .unwrap_or_default()
        .into_iter()
        .find(|it| it["host"] == host);
    found.map_or(Value::Null, |it| it["thumbprint"].clone())
}

async fn newest(world: &World, certificate: &str) -> String {
    let thumbprint = world.deployer.vault_thumbprint(VAULT, certificate).await;
    thumbprint.expect("the vault has it")
}

/// Each host is served by its own certificate, at both edges; a renewal of one leaves the other as it is.
#[tokio::test(flavor = "multi_thread")]
async fn f_two_certificates_serve_their_own_hosts_and_are_renewed_apart() {
    let world = World::start().await;
    let certificates = format!(
        "{CERTIFICATE} = {{ hosts = [\"{HOST}\"] }}, api = {{ certificate = \"wildcard\", hosts = [\"{API}\"] }}"
    );
    let configuration = both_edges(&certificates, &[HOST.to_owned(), API.to_owned()]);
    let terraform = Terraform::new(&world.deployer, &configuration);
    terraform.apply().await.succeeds();
    let is_served = async || {
        let (shop, api) = (world.in_vault().await, newest(&world, "wildcard").await);
        assert_ne!(shop, api);
        for edge in ["nginx", "approuting-istio"] {
            assert_eq!(at(&world, edge, HOST).await, shop, "{edge}");
            assert_eq!(at(&world, edge, API).await, api, "{edge}");
        }
        let state = terraform.state(SHOP).await.expect("the shop");
        assert_eq!(state["status"]["phase"], "served", "{state:#}");
        for (key, thumbprint) in [(CERTIFICATE, shop), ("api", api)] {
            let status = &state["status"]["certificates"][key];
            for place in ["vault", "synced", "served"] {
                assert_eq!(
                    status[place]["thumbprint"], thumbprint,
                    "{key} {place}: {state:#}"
                );
            }
        }
    };
    is_served().await;
    terraform.plan_is_empty().await;

    let before = world.in_vault().await;
    let path = format!("/vaults/{VAULT}/certificates/wildcard/renew");
    world.control(Method::POST, &path, json!({})).await;
    terraform.plan_is_empty().await;
    world.advance("3m").await;
    world.settle().await;
    terraform.plan_is_empty().await;
    terraform
        .command(&["apply", "-json", "-auto-approve", "-refresh-only"])
        .await
        .succeeds();
    is_served().await;
    assert_eq!(world.in_vault().await, before, "the other one was not renewed");

    // One goes, and with it its Secret.
    let one = both_edges(&format!("{CERTIFICATE} = {{}}"), &[HOST.to_owned()]);
    terraform.write(&one);
    terraform.apply().await.succeeds();
    assert_eq!(at(&world, "nginx", HOST).await, before);
    terraform.plan_is_empty().await;
    terraform.destroy().await.succeeds();
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
}

/// Routes wait for their Gateway and not for one another: as many as are let go at once stand at the API server together.
#[tokio::test(flavor = "multi_thread")]
async fn f_the_routes_of_many_hosts_are_applied_at_the_same_time() {
    /// How many steps the executor has under way.
    const AT_ONCE: u64 = 8;
    let world = World::start().await;
    let hosts: Vec<String> = (0..20).map(|index| format!("h{index}.example.com")).collect();
    let lines = format!(
        "gateway = {{\n    class_name = \"approuting-istio\"\n    {}\n  }}",
        rules(&hosts)
    );
    let configuration = quickstart_with(&lines).replacen("my-tls-cert = {}", "wildcard = {}", 1);
    let terraform = Terraform::new(&world.deployer, &configuration);
    let held =
        json!({ "plane": "kubernetes", "method": "PATCH", "path": "**/httproutes/*", "dry_run": false });
    let fault = world
        .fault(json!({ "match": held, "times": null, "do": { "hold": "before" } }))
        .await;
    let before = world.now_in_journal().await;
    let running = terraform.start(&["apply", "-json", "-auto-approve"]);
    world.hit(&fault).await;
    let together = async {
        while world.hits(&fault).await < AT_ONCE {
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(std::time::Duration::from_secs(30), together)
        .await
        .is_err()
    {
        let held = world.look(&format!("/faults/{fault}")).await;
        let writes = world.writes_after(before).await;
        panic!("they do not come together: {held:#}, after {writes:#?}");
    }
    let writes = world.writes_after(before).await;
    assert!(
        writes.iter().any(|it| it.ends_with("/gateways/shop")),
        "{writes:?}"
    );
    world.settle().await;
    assert_eq!(world.hits(&fault).await, AT_ONCE, "and no more at once");
    world.release(&fault).await;
    terraform.outcome(running).await.succeeds();
    for host in ["h0.example.com", "h19.example.com"] {
        assert_eq!(
            at(&world, "approuting-istio", host).await,
            newest(&world, "wildcard").await
        );
    }
    terraform.plan_is_empty().await;
}
