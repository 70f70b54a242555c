//! Many bindings of one cluster and one vault.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use crate::bindings::bindings;
use crate::terraform::Terraform;
use crate::world::World;

/// Requests of ours after an entry of the journal that fit.
fn count(entries: &[Value], method: &str, part: &str) -> usize {
    let fits = |entry: &&Value| {
        entry["method"] == method && entry["url"].as_str().is_some_and(|url| url.contains(part))
    };
    entries.iter().filter(fits).count()
}

async fn grants_of_ours(world: &World) -> usize {
    world.inventory().await.our_grants.len()
}

/// Ten bindings of one grant: one write of the cluster, one assignment. One goes and nine still rotate; the rest goes at
/// once and takes the assignment along, and the add-on stays on.
#[tokio::test(flavor = "multi_thread")]
async fn s08_ten_bindings_share_the_grant_and_the_addon() {
    let world = World::start().await;
    let terraform = Terraform::new(&world.deployer, &bindings(10, ""));
    let before = world.now_in_journal().await;
    terraform.apply().await.succeeds();
    let entries = world.journal_after(before).await;
    assert_eq!(count(&entries, "PUT", "/managedClusters/"), 1, "one cluster PUT");
    assert_eq!(
        count(&entries, "PUT", "/roleAssignments/"),
        1,
        "one assignment PUT"
    );
    println!("requests of ten creations: {}", entries.len());
    terraform.plan_is_empty().await;

    terraform.write(&bindings(9, ""));
    terraform.apply().await.succeeds();
    assert_eq!(grants_of_ours(&world).await, 1, "nine still read");
    let renewed = world.renew().await;
    world.advance("3m").await;
    world.settle().await;
    terraform
        .command(&["apply", "-json", "-auto-approve", "-refresh-only"])
        .await
        .succeeds();
    for index in 0..9 {
        let address = format!("kvtls_ingress_binding.all[\"b{index:02}\"]");
        let state = terraform.state(&address).await.expect("a binding");
        let synced = &state["status"]["certificates"]["my-tls-cert"]["synced"]["thumbprint"];
        assert_eq!(*synced, renewed, "{address}: {state:#}");
    }

    terraform.destroy().await.succeeds();
    assert_eq!(grants_of_ours(&world).await, 0, "nobody reads any more");
    assert_eq!(world.addon().await["enabled"], true);
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
}

/// Fifty at once, while somebody else's node pool operation runs.
#[tokio::test(flavor = "multi_thread")]
async fn s16_fifty_bindings_make_one_write_each_of_cluster_and_grant() {
    let world = World::start().await;
    let operation = json!({ "name": "Upgrading", "for": "4m", "outcome": "Succeeded", "pool": "nodepool1" });
    let started = world
        .control(Method::POST, "/clusters/myAKSCluster/operation", operation)
        .await;
    println!("operation: {started}");
    let terraform = Terraform::new(&world.deployer, &bindings(50, ""));
    let before = world.now_in_journal().await;
    let start = Instant::now();
    terraform.apply().await.succeeds();
    println!("fifty creations took {:?}", start.elapsed());
    let entries = world.journal_after(before).await;
    let taken = entries.iter().filter(|entry| {
        entry["method"] == "PUT"
            && entry["url"]
                .as_str()
                .is_some_and(|url| url.contains("/managedClusters/"))
            && entry["response"]["status"]
                .as_u64()
                .is_some_and(|status| status < 300)
    });
    assert_eq!(taken.count(), 1, "one cluster PUT");
    assert_eq!(
        count(&entries, "PUT", "/roleAssignments/"),
        1,
        "one assignment PUT"
    );
    println!("requests of fifty creations: {}", entries.len());

    let before = world.now_in_journal().await;
    let start = Instant::now();
    terraform.plan_is_empty().await;
    let entries = world.journal_after(before).await;
    println!(
        "a plan of fifty: {} requests, {:?}",
        entries.len(),
        start.elapsed()
    );
    assert_eq!(
        count(&entries, "GET", "/vaults/myAKSKeyVault?"),
        1,
        "the vault is read once"
    );
    assert_eq!(
        count(&entries, "GET", "/roleAssignments?"),
        1,
        "assignments are read once"
    );
}
