//! Keys, tokens, secrets and signed addresses appear nowhere.

use std::path::Path;

use kvtls::sandbox::demo::QUICKSTART;
use reqwest::Method;
use serde_json::json;

use crate::terraform::Terraform;
use crate::with;
use crate::world::{CLUSTER, World};

#[tokio::test(flavor = "multi_thread")]
async fn s23_no_secret_is_in_state_plan_trace_log_or_diagnostic() {
    is_clean(&World::start().await, QUICKSTART, "masterclient").await;
}

/// By a token of Entra, also through a tunnel.
#[tokio::test(flavor = "multi_thread")]
async fn s23_no_token_of_entra_for_the_cluster_appears() {
    let entra = json!({ "entra": true, "azure_rbac": false, "local_accounts": false });
    let world = World::with(json!({ "clusters": { CLUSTER: entra } })).await;
    let tunnel = with("verify = { level = \"served\", via = \"tunnel\" }");
    is_clean(&world, &tunnel, "deployer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s23_no_credential_of_the_clusters_admin_appears() {
    let admin = with("kubernetes = { credential = \"admin\" }");
    is_clean(&World::start().await, &admin, "masterclient").await;
}

/// Plans, fails, applies and destroys, and searches all that was printed and kept. `caller` is who asks the cluster.
async fn is_clean(world: &World, configuration: &str, caller: &str) {
    let terraform = Terraform::new(&world.deployer, configuration).with("TF_LOG", "trace");
    let log = terraform.beside().join("trace.log");
    let terraform = terraform.with("TF_LOG_PATH", &log.display().to_string());
    let mut printed = String::new();
    // A failure in the middle, so that errors are searched, too.
    world
        .fault(json!({
            "match": { "plane": "kubernetes", "method": "PATCH", "path": "**/ingresses/*", "as": caller, "dry_run": false },
            "times": 1,
            "do": { "status": 403 },
        }))
        .await;
    printed.push_str(&terraform.plan().await.run.output());
    printed.push_str(
        &terraform
            .command(&["show", "-json", "last.plan"])
            .await
            .run
            .output(),
    );
    printed.push_str(&terraform.apply().await.run.output());
    printed.push_str(&terraform.apply().await.succeeds().run.output());
    printed.push_str(&terraform.command(&["show", "-json"]).await.run.output());
    let state = read(&terraform.directory().join("terraform.tfstate"));
    printed.push_str(&terraform.destroy().await.succeeds().run.output());
    let log = read(&log);

    let markers = world
        .deployer
        .control(Method::GET, "/markers", None)
        .await
        .expect("markers");
    let markers = strings(&markers);
    assert!(
        markers.len() > 20,
        "markers of keys and tokens: {}",
        markers.len()
    );
    assert!(log.contains("kvtls"), "the log holds the provider's lines");
    let journal = world.look("/journal").await.to_string();
    for (place, text) in [
        ("output", &printed),
        ("state", &state),
        ("log", &log),
        ("journal", &journal),
    ] {
        let found = markers
            .iter()
            .filter(|marker| text.contains(marker.as_str()))
            .count();
        assert_eq!(found, 0, "{found} secrets in the {place}");
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All strings of a JSON value, however it is arranged.
fn strings(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::String(text) => vec![text.clone()],
        serde_json::Value::Array(list) => list.iter().flat_map(strings).collect(),
        serde_json::Value::Object(members) => members.values().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}
