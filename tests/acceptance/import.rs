//! A binding that a state does not know is taken in by its ID.

use crate::terraform::SHOP;
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn f_import_by_id_then_a_plan_that_is_empty() {
    let world = World::start().await;
    let first = world.quickstart();
    first.apply().await.succeeds();
    let made = first.state(SHOP).await.expect("the shop is in the state");

    let second = world.quickstart();
    second.import(SHOP, &world.binding_id()).await.succeeds();
    let taken = second.state(SHOP).await.expect("the shop is in the state");
    for attribute in ["id", "instance_id", "secret_names", "manifests", "addon_state"] {
        assert_eq!(taken[attribute], made[attribute], "{attribute}");
    }
    second.plan_is_empty().await;
    second.destroy().await.succeeds();
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn f_an_id_that_is_none_is_refused_with_an_example() {
    let world = World::start().await;
    let terraform = world.quickstart();
    let import = terraform.import(SHOP, "shop").await;
    assert_ne!(import.run.status, Some(0), "{}", import.evidence());
    assert!(
        import.run.output().contains("/namespaces/"),
        "{}",
        import.evidence()
    );
}

/// A complete binding that this state does not know is never taken over silently.
#[tokio::test(flavor = "multi_thread")]
async fn f_a_binding_of_another_state_is_an_error_that_prints_the_import_block() {
    let world = World::start().await;
    world.quickstart().apply().await.succeeds();
    let stranger = world.quickstart();
    let before = world.inventory().await;
    stranger
        .apply()
        .await
        .fails_with(&["import", &world.binding_id()]);
    assert_eq!(world.inventory().await, before, "nothing was written");
}
