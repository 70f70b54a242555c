//! The data sources against the real CLI.

use serde_json::json;

use crate::terraform::Terraform;
use crate::world::{CERTIFICATE, HOST, VAULT, World};

const CERT: &str = "data.kvtls_certificate.it";

fn certificate(world: &World, lines: &str) -> Terraform {
    let configuration = format!(
        "terraform {{\n  required_providers {{\n    kvtls = {{ source = \"kvtls/kvtls\" }}\n  }}\n}}\n\
         provider \"kvtls\" {{}}\n\
         data \"kvtls_certificate\" \"it\" {{\n  key_vault_id = \"{}\"\n  {lines}\n}}\n\
         output \"ends\" {{\n  value = data.kvtls_certificate.it.not_after\n}}\n",
        world.vault_id()
    );
    Terraform::new(&world.deployer, &configuration)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_tells_its_public_facts() {
    let world = World::start().await;
    let terraform = certificate(&world, &format!("name = \"{CERTIFICATE}\""));
    terraform.apply().await.succeeds().says_nothing();
    let state = terraform.state(CERT).await.expect("it was read");
    assert_eq!(state["thumbprint"], world.in_vault().await);
    assert_eq!(state["hosts"], json!([HOST]));
    assert_eq!(
        (&state["key_type"], &state["content_type"]),
        (&json!("RSA"), &json!("pfx"))
    );
    assert_eq!(
        (&state["enabled"], &state["exportable"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(state["version"], state["latest_version"]);
    let host = VAULT.to_ascii_lowercase();
    assert_eq!(
        state["versionless_secret_id"],
        format!("https://{host}.vault.azure.net/secrets/{CERTIFICATE}")
    );

    let old = state["version"].as_str().expect("a version").to_owned();
    let renewed = world.renew().await;
    terraform.apply().await.succeeds();
    let state = terraform.state(CERT).await.expect("it was read");
    assert_eq!(state["thumbprint"], renewed);
    let pinned = certificate(
        &world,
        &format!("name = \"{CERTIFICATE}\"\n  version = \"{old}\""),
    );
    pinned.apply().await.succeeds();
    let pinned = pinned.state(CERT).await.expect("it was read");
    assert_eq!(
        (&pinned["version"], &pinned["latest_version"]),
        (&json!(old), &state["version"])
    );
    assert_ne!(pinned["thumbprint"], renewed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_there_is_an_error_on_its_name() {
    let world = World::start().await;
    let terraform = certificate(&world, "name = \"absent\"");
    let plan = terraform.plan().await.fails_with(&["KVTLS-E301", "\"absent\""]);
    assert!(
        plan.error(&["KVTLS-E301"]).code.contains("name"),
        "{}",
        plan.evidence()
    );
    let version = "0".repeat(32);
    let lines = format!("name = \"{CERTIFICATE}\"\n  version = \"{version}\"");
    let plan = certificate(&world, &lines)
        .plan()
        .await
        .fails_with(&["KVTLS-E301", &version]);
    assert!(
        plan.error(&["KVTLS-E301"]).code.contains("version"),
        "{}",
        plan.evidence()
    );
    // Owner has no rights on what a vault holds.
    let terraform = certificate(&world, &format!("name = \"{CERTIFICATE}\""));
    std::fs::write(terraform.directory().join("terraform.tfstate"), "").expect("an empty state");
    terraform
        .run_by(&world.owner)
        .plan()
        .await
        .fails_with(&["KVTLS-E501", "Key Vault Reader"]);
}
