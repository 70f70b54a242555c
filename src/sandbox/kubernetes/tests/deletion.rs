//! Deletion: preconditions, finalizers, grace, namespaces.

use super::*;

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn a_deletion_answers_success_and_is_final() {
    let world = World::new();
    let made = world.post(MAPS, &map("a", json!({}))).await.ok();
    let gone = world.delete(&format!("{MAPS}/a"), &Value::Null).await.ok();
    assert_eq!(
        (gone["kind"].as_str(), gone["status"].as_str()),
        (Some("Status"), Some("Success"))
    );
    assert_eq!(
        gone["details"],
        json!({"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]})
    );
    world
        .delete(&format!("{MAPS}/a"), &Value::Null)
        .await
        .refused(404);
}

#[tokio::test]
async fn preconditions_hold() {
    let world = World::new();
    let made = world.post(MAPS, &map("a", json!({}))).await.ok();
    let path = format!("{MAPS}/a");
    let wrong = json!({"preconditions": {"uid": "other"}});
    let message = world.delete(&path, &wrong).await.refused(409);
    assert!(
        message.contains("Precondition failed: UID in precondition: other, UID in object meta:"),
        "{message}"
    );
    world
        .delete(&path, &json!({"preconditions": {"resourceVersion": "1"}}))
        .await
        .refused(409);
    world
        .delete(&path, &json!({"preconditions": {"uid": made["metadata"]["uid"]}}))
        .await
        .ok();
}

#[tokio::test]
async fn finalizers_hold_an_object_until_they_are_gone() {
    let world = World::new();
    let mut object = map("a", json!({}));
    object["metadata"]["finalizers"] = json!(["x.io/hold"]);
    world.post(MAPS, &object).await.ok();
    let marked = world.delete(&format!("{MAPS}/a"), &Value::Null).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    let more = json!({"metadata": {"finalizers": ["x.io/hold", "x.io/more"]}});
    let message = world.merge(&format!("{MAPS}/a"), &more).await.refused(422);
    assert!(
        message.contains("no new finalizers can be added if the object is being deleted"),
        "{message}"
    );
    world
        .merge(&format!("{MAPS}/a"), &json!({"metadata": {"finalizers": null}}))
        .await
        .ok();
    world.get(&format!("{MAPS}/a")).await.refused(404);
}

#[tokio::test]
async fn foreground_and_orphan_are_finalizers_of_the_garbage_collector() {
    let world = World::new();
    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        world.post(DEPLOYMENTS, &deployment("web")).await.ok();
        let marked = world
            .delete(
                &format!("{DEPLOYMENTS}/web"),
                &json!({"propagationPolicy": policy}),
            )
            .await
            .ok();
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
        assert_eq!(marked["metadata"]["generation"], 2);
        world
            .merge(
                &format!("{DEPLOYMENTS}/web"),
                &json!({"metadata": {"finalizers": []}}),
            )
            .await
            .ok();
        world.get(&format!("{DEPLOYMENTS}/web")).await.refused(404);
    }
    world.post(DEPLOYMENTS, &deployment("web")).await.ok();
    world
        .delete(
            &format!("{DEPLOYMENTS}/web?propagationPolicy=Background"),
            &Value::Null,
        )
        .await
        .ok();
    world.get(&format!("{DEPLOYMENTS}/web")).await.refused(404);
}

#[tokio::test]
async fn a_scheduled_pod_stays_until_its_kubelet_ends_it() {
    let world = World::new();
    world.post(PODS, &pod("a")).await.ok();
    world.post(PODS, &pod("b")).await.ok();
    let binding = json!({"target": {"kind": "Node", "name": "n1"}});
    assert_eq!(world.post(&format!("{PODS}/a/binding"), &binding).await.code, 201);
    world
        .post(&format!("{PODS}/a/binding"), &binding)
        .await
        .refused(409);
    world.delete(&format!("{PODS}/b"), &Value::Null).await.ok();
    world.get(&format!("{PODS}/b")).await.refused(404);
    let marked = world.delete(&format!("{PODS}/a"), &Value::Null).await.ok();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    world.get(&format!("{PODS}/a")).await.ok();
    world
        .delete(&format!("{PODS}/a"), &json!({"gracePeriodSeconds": 0}))
        .await
        .ok();
    world.get(&format!("{PODS}/a")).await.refused(404);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selection() {
    let world = World::new();
    for name in ["a", "b"] {
        let mut object = map(name, json!({}));
        object["metadata"]["labels"] = json!({"name": name});
        world.post(MAPS, &object).await.ok();
    }
    let gone = world
        .delete(&format!("{MAPS}?labelSelector=name%3Da"), &Value::Null)
        .await
        .ok();
    assert_eq!(gone["items"][0]["metadata"]["name"], "a");
    world.get(&format!("{MAPS}/a")).await.refused(404);
    world.get(&format!("{MAPS}/b")).await.ok();
}

#[tokio::test]
async fn a_namespace_terminates_until_it_is_finalized() {
    let world = World::new();
    let made = world
        .post("/api/v1/namespaces", &json!({"metadata": {"name": "x"}}))
        .await
        .ok();
    assert_eq!(made["status"]["phase"], "Active");
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "x");
    let maps = "/api/v1/namespaces/x/configmaps";
    world.post(maps, &map("a", json!({}))).await.ok();
    let marked = world.delete("/api/v1/namespaces/x", &Value::Null).await.ok();
    assert_eq!(marked["status"]["phase"], "Terminating");
    let got = world.post(maps, &map("b", json!({}))).await;
    assert_eq!(got.body["details"]["causes"][0]["reason"], "NamespaceTerminating");
    assert_eq!(
        got.refused(403),
        "configmaps \"b\" is forbidden: unable to create new content in namespace x because it is being terminated"
    );
    let mut object = world.get("/api/v1/namespaces/x").await.ok();
    object["spec"]["finalizers"] = json!([]);
    world.put("/api/v1/namespaces/x/finalize", &object).await.ok();
    world.get("/api/v1/namespaces/x").await.refused(404);
    let message = world.post(maps, &map("b", json!({}))).await.refused(404);
    assert_eq!(message, "namespaces \"x\" not found");
    let message = world
        .delete("/api/v1/namespaces/default", &Value::Null)
        .await
        .refused(403);
    assert!(
        message.ends_with("this namespace may not be deleted"),
        "{message}"
    );
}

#[tokio::test]
async fn a_dry_deletion_deletes_nothing() {
    let world = World::new();
    world.post(MAPS, &map("a", json!({}))).await.ok();
    world
        .delete(&format!("{MAPS}/a?dryRun=All"), &Value::Null)
        .await
        .ok();
    world.get(&format!("{MAPS}/a")).await.ok();
}
