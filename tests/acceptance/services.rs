//! The Services that the rules name: told while they are missing, taken as they are once they are there.

use std::fs::OpenOptions;
use std::process::Command;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::gateway::{at_shared, ingress, own_gateway, quickstart_with, shared_gateway};
use crate::terraform::{SHOP, Terraform};
use crate::world::World;

const SERVICES: &str = "/api/v1/namespaces/default/services";

/// The edges that a Service can be named by.
fn edges() -> [String; 3] {
    [ingress(), own_gateway(), at_shared("reference")]
}

async fn with_shared_gateway() -> World {
    let world = World::start().await;
    let plain = json!([{ "name": "http", "port": 8080, "protocol": "HTTP" }]);
    shared_gateway(&world, json!({ "listeners": plain })).await;
    world
}

async fn make(world: &World, name: &str, port: u16) {
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "selector": { "app": "my-app" }, "ports": [{ "name": "web", "port": port, "targetPort": 80 }] } });
    let made = world
        .kubernetes(Method::POST, SERVICES, Some(("application/json", &service)))
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
}

/// A typo is no reason to fail a plan, since the same apply could make the Service; apply writes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn s13_a_service_that_is_not_there_stops_apply_before_the_first_write() {
    let world = with_shared_gateway().await;
    for edge in edges() {
        let rows = [
            (
                edge.replace("my-app-service", "my-ap-service"),
                "KVTLS-E415",
                "\"my-ap-service\"",
            ),
            (
                edge.replace("port = 80 ", "port = 8080 "),
                "KVTLS-E416",
                "It has: 80",
            ),
        ];
        for (written, code, words) in rows {
            let terraform = Terraform::new(&world.deployer, &quickstart_with(&written));
            let plan = terraform.plan().await;
            assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
            plan.warning(&[code, words]);
            let before = world.now_in_journal().await;
            terraform
                .apply()
                .await
                .fails_with(&[code, words, "Nothing was changed"]);
            assert_eq!(world.writes_after(before).await, Vec::<String>::new());
        }
    }
}

/// A sibling makes the Service after the plan and before the binding's turn.
async fn a_sibling_makes_it(edge: &str) {
    let world = World::start().await;
    let configuration = quickstart_with(&edge.replace("my-app-service", "late")).replacen(
        "name         = \"shop\"",
        "name         = \"shop\"\n  depends_on   = [terraform_data.service]",
        1,
    );
    let terraform = Terraform::new(&world.deployer, &configuration);
    // The sibling's work is this test's: a pipe tells when it is its turn, and when it is done.
    let pipe = terraform.beside().join("turn");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .expect("mkfifo runs")
            .success()
    );
    let sibling = format!(
        "\nresource \"terraform_data\" \"service\" {{\n  provisioner \"local-exec\" {{\n    command = \"cat '{}'\"\n  }}\n}}\n",
        pipe.display()
    );
    terraform.write(&(configuration + &sibling));
    let plan = terraform.plan().await;
    plan.warning(&["KVTLS-E415", "\"late\"", "depend on it"]);
    let running = terraform.start(&["apply", "-json", "-auto-approve"]);
    let turn = tokio::task::spawn_blocking(move || OpenOptions::new().write(true).open(pipe));
    let turn = turn.await.expect("it ends").expect("the pipe opens");
    make(&world, "late", 80).await;
    drop(turn);
    terraform.outcome(running).await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s13_a_service_that_a_sibling_makes_is_there_in_time_for_an_ingress() {
    a_sibling_makes_it(&ingress()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s13_a_service_that_a_sibling_makes_is_there_in_time_for_a_gateway() {
    a_sibling_makes_it(&own_gateway()).await;
}

/// What a rule names for the first time is judged like a new binding's; what it named before never stops anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_goes_later_blocks_nothing_and_a_new_one_has_to_be_there() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let before = world.now_in_journal().await;
    terraform.plan_is_empty().await;
    let looked = |entry: &Value| entry["url"].as_str().is_some_and(|url| url.contains("/services"));
    let asked = world.journal_after(before).await;
    assert!(
        !asked.iter().any(looked),
        "a refresh asks for no Service: {asked:#?}"
    );

    let gone = format!("{SERVICES}/my-app-service");
    world.kubernetes(Method::DELETE, &gone, None).await;
    let relabelled = ingress().replace("class_name", "labels = { team = \"web\" }\n    class_name");
    terraform.write(&quickstart_with(&relabelled));
    let plan = terraform.plan().await;
    plan.warning(&["KVTLS-W415", "my-app-service"]);
    terraform.apply().await.succeeds().warning(&["KVTLS-W415"]);
    assert_eq!(world.served().await, world.in_vault().await);

    terraform.write(&quickstart_with(&ingress().replace("my-app-service", "other")));
    let plan = terraform.plan().await;
    plan.warning(&["KVTLS-E415", "\"other\""]);
    terraform.apply().await.fails_with(&["KVTLS-E415"]);
    make(&world, "other", 80).await;
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
    let state = terraform.state(SHOP).await.expect("the shop");
    assert_eq!(state["status"]["phase"], "served", "{state:#}");
}
