//! What identities with fewer rights see and may do.

use crate::terraform::Terraform;
use crate::world::{World, is_write};

/// Reader on cluster and vault is enough for a plan: what it may not see keeps its last known value.
#[tokio::test(flavor = "multi_thread")]
async fn s06_a_reader_plans_and_writes_nothing() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();

    let planner = terraform.run_by(&world.visitor("planner"));
    let before = world.now_in_journal().await;
    let plan = planner.plan().await;
    assert_eq!(plan.run.status, Some(0), "no difference\n{}", plan.evidence());
    plan.warning(&["KVTLS-W001"]);
    let writes: Vec<_> = world
        .journal_after(before)
        .await
        .into_iter()
        .filter(is_write)
        .collect();
    assert!(writes.is_empty(), "{writes:#?}");
}

/// Without the right to assign roles, apply fails, says what is missing, and the owner's grant cures it.
#[tokio::test(flavor = "multi_thread")]
async fn s07_a_contributor_is_told_what_is_missing() {
    let world = World::start().await;
    let terraform = Terraform::new(&world.visitor("contributor"), kvtls::sandbox::demo::QUICKSTART);
    let apply = terraform.apply().await.fails_with(&["KVTLS-E501"]);
    apply.error(&["roleAssignments/write", "az role assignment create"]);
}
