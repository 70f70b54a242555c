//! What others changed is seen, told, and taken back.

use std::pin::Pin;

use reqwest::Method;
use serde_json::{Value, json};

use crate::terraform::Terraform;
use crate::world::{DEPLOYMENT, INGRESS, SECRET_PROVIDER_CLASS, World};

/// One thing that somebody does, and what the plan shows of it.
struct Row {
    what: &'static str,
    done: for<'a> fn(&'a World) -> Pin<Box<dyn Future<Output = ()> + 'a>>,
    shown: &'static [&'static str],
    /// Words of the warning that says who or why; empty if the plan says nothing.
    warned: &'static [&'static str],
}

const AZURE: &[Row] = &[
    Row {
        what: "rotation off",
        done: |world| {
            Box::pin(world.change_addon(|addon| addon["config"]["enableSecretRotation"] = json!("false")))
        },
        shown: &["addon_state.rotation_enabled"],
        warned: &["KVTLS-W102"],
    },
    Row {
        what: "grant gone",
        done: |world| Box::pin(remove_grant(world)),
        shown: &["grants"],
        warned: &[],
    },
];

const KUBERNETES: &[Row] = &[
    Row {
        what: "SecretProviderClass edited",
        done: |world| {
            Box::pin(edit(
                world,
                SECRET_PROVIDER_CLASS,
                json!({ "spec": { "parameters": { "tenantId": "other" } } }),
            ))
        },
        shown: &["manifests.SecretProviderClass/shop"],
        warned: &["KVTLS-W207", "kubectl-edit", "Field .spec.parameters.tenantId."],
    },
    Row {
        what: "Deployment edited",
        done: |world| Box::pin(edit(world, DEPLOYMENT, json!({ "spec": { "replicas": 0 } }))),
        shown: &["manifests.Deployment/shop"],
        warned: &["KVTLS-W207", "kubectl-edit", "Field .spec.replicas."],
    },
    Row {
        what: "Ingress edited",
        done: |world| {
            let tls = json!([{ "hosts": ["myapp.example.com"], "secretName": "old-secret" }]);
            Box::pin(edit(world, INGRESS, json!({ "spec": { "tls": tls } })))
        },
        shown: &["manifests.Ingress/shop"],
        warned: &["KVTLS-W207", "kubectl-edit", "Field .spec.tls."],
    },
    Row {
        what: "Label edited",
        done: |world| {
            let labels = json!({ "app.kubernetes.io/managed-by": "somebody" });
            Box::pin(edit(world, INGRESS, json!({ "metadata": { "labels": labels } })))
        },
        shown: &["manifests.Ingress/shop"],
        warned: &[
            "KVTLS-W207",
            "kubectl-edit",
            "Field .metadata.labels.app.kubernetes.io/managed-by.",
        ],
    },
    Row {
        what: "SecretProviderClass deleted",
        done: |world| Box::pin(delete(world, SECRET_PROVIDER_CLASS)),
        shown: &["manifests.SecretProviderClass/shop"],
        warned: &[],
    },
    Row {
        what: "Deployment deleted",
        done: |world| Box::pin(delete(world, DEPLOYMENT)),
        shown: &["manifests.Deployment/shop"],
        warned: &[],
    },
    Row {
        what: "Ingress deleted",
        done: |world| Box::pin(delete(world, INGRESS)),
        // A new Ingress publishes its address anew.
        shown: &["addresses", "manifests.Ingress/shop"],
        warned: &[],
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn s10_drift_in_azure_is_shown_and_taken_back() {
    every(AZURE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s10_drift_in_the_cluster_is_shown_and_taken_back() {
    every(KUBERNETES).await;
}

/// The add-on cannot be switched off while a SecretProviderClass exists, so whoever does it deletes that first; the
/// driver goes, and everything that depends on it with it.
#[tokio::test(flavor = "multi_thread")]
async fn s10_an_add_on_that_was_switched_off_is_switched_on_again() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    delete(&world, SECRET_PROVIDER_CLASS).await;
    world.settle().await;
    world.change_addon(|addon| addon["enabled"] = json!(false)).await;
    world.settle().await;

    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    plan.warning(&["KVTLS-W1"]);
    let changes = terraform.changes().await;
    assert_eq!(changes.len(), 1, "{changes:#?}");
    assert!(changes[0].paths.contains("addon_state.enabled"), "{changes:#?}");
    terraform.apply().await.succeeds();
    assert_eq!(world.addon().await["enabled"], true);
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
}

async fn every(rows: &[Row]) {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    for row in rows {
        println!("── {}", row.what);
        (row.done)(&world).await;
        world.settle().await;
        is_taken_back(&world, &terraform, row).await;
    }
}

async fn is_taken_back(world: &World, terraform: &Terraform, row: &Row) {
    let plan = terraform.plan_shows(row.shown).await;
    if !row.warned.is_empty() {
        plan.warning(row.warned);
    }
    terraform.apply().await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await, "{}", row.what);
    terraform.plan_is_empty().await;
}

async fn remove_grant(world: &World) {
    let grants = world.inventory().await.our_grants;
    assert_eq!(grants.len(), 1, "{grants:?}");
    world.delete_assignment(&grants[0]).await;
}

async fn edit(world: &World, path: &str, patch: Value) {
    let path = format!("{path}?fieldManager=kubectl-edit");
    let body = Some(("application/merge-patch+json", &patch));
    let edited = world.kubernetes(Method::PATCH, &path, body).await;
    assert!(edited.status.is_success(), "{edited:?}");
}

async fn delete(world: &World, path: &str) {
    let path = format!("{path}?propagationPolicy=Background");
    let deleted = world.kubernetes(Method::DELETE, &path, None).await;
    assert!(deleted.status.is_success(), "{deleted:?}");
}
