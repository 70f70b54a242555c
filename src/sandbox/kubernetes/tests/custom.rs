//! Custom resource definitions, before, during and after.

use super::*;

pub(super) const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub(super) const CLASSES: &str =
    "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/default/secretproviderclasses";
const OLD_CLASSES: &str =
    "/apis/secrets-store.csi.x-k8s.io/v1alpha1/namespaces/default/secretproviderclasses";

fn definition() -> Value {
    let text = json!({"type": "string"});
    let texts = json!({"type": "object", "additionalProperties": text});
    let data = json!({"type": "array", "items": {"type": "object", "properties": {"objectName": text, "key": text}}});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "apiVersion": text, "kind": text, "metadata": {"type": "object"},
        "spec": {"type": "object", "properties": {
            "provider": text, "parameters": texts,
            "secretObjects": {"type": "array", "items": {"type": "object", "properties": {
                "secretName": text, "type": text, "labels": texts, "annotations": texts, "data": data,
            }}},
        }},
        "status": {"type": "object", "properties": {"byPod": {"type": "array", "items": {
            "type": "object", "properties": {"id": text, "namespace": text},
        }}}},
    }}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "secretproviderclasses.secrets-store.csi.x-k8s.io"},
        "spec": {
            "group": "secrets-store.csi.x-k8s.io", "scope": "Namespaced",
            "names": {"kind": "SecretProviderClass", "listKind": "SecretProviderClassList", "plural": "secretproviderclasses", "singular": "secretproviderclass"},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": schema},
                {"name": "v1alpha1", "served": true, "storage": false, "deprecated": true, "schema": schema,
                 "deprecationWarning": "secrets-store.csi.x-k8s.io/v1alpha1 is deprecated. Use secrets-store.csi.x-k8s.io/v1 instead."},
            ],
        },
    })
}

pub(super) async fn define(world: &World) -> Value {
    world.post(CRDS, &definition()).await.ok()
}

fn class(version: &str) -> Value {
    json!({
        "apiVersion": format!("secrets-store.csi.x-k8s.io/{version}"), "kind": "SecretProviderClass",
        "metadata": {"name": "web"}, "spec": {"provider": "azure", "parameters": {"a": "b"}},
    })
}

#[tokio::test]
async fn a_kind_is_served_while_it_is_defined() {
    let world = World::new();
    let before = world.get(CLASSES).await;
    assert_eq!((before.code, before.text.as_str()), (404, "404 page not found\n"));
    let made = define(&world).await;
    let conditions = made["status"]["conditions"].as_array().unwrap();
    assert!(
        conditions
            .iter()
            .any(|one| one["type"] == "Established" && one["status"] == "True")
    );
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    let group = world.get("/apis/secrets-store.csi.x-k8s.io").await.ok();
    assert_eq!(group["preferredVersion"]["version"], "v1");
    world.post(CLASSES, &class("v1")).await.ok();
    let mut events = Events::of(&world, &format!("{CLASSES}?watch=1")).await;
    assert_eq!(events.word().await, "ADDED web");
    world
        .delete(
            &format!("{CRDS}/secretproviderclasses.secrets-store.csi.x-k8s.io"),
            &Value::Null,
        )
        .await
        .ok();
    assert_eq!(events.word().await, "DELETED web");
    assert_eq!(events.word().await, "end");
    assert_eq!(world.get(CLASSES).await.text, "404 page not found\n");
    let left = world.server.with_store(|store| {
        store
            .all("secrets-store.csi.x-k8s.io", "secretproviderclasses")
            .count()
    });
    assert_eq!(left, 0);
}

#[tokio::test]
async fn both_versions_show_the_same_object_and_the_old_one_warns() {
    let world = World::new();
    define(&world).await;
    let made = world.post(OLD_CLASSES, &class("v1alpha1")).await;
    assert_eq!(
        made.warnings,
        [
            "299 - \"secrets-store.csi.x-k8s.io/v1alpha1 is deprecated. Use secrets-store.csi.x-k8s.io/v1 instead.\""
        ]
    );
    assert_eq!(made.ok()["apiVersion"], "secrets-store.csi.x-k8s.io/v1alpha1");
    let new = world.get(&format!("{CLASSES}/web")).await;
    assert!(new.warnings.is_empty());
    assert_eq!(new.ok()["apiVersion"], "secrets-store.csi.x-k8s.io/v1");
}

#[tokio::test]
async fn unknown_fields_of_custom_objects_are_pruned_warned_of_or_refused() {
    let world = World::new();
    define(&world).await;
    let mut object = class("v1");
    object["spec"]["extra"] = json!({"x": 1});
    let message = world
        .post(&format!("{CLASSES}?fieldValidation=Strict"), &object)
        .await
        .refused(400);
    assert!(
        message.contains("strict decoding error: unknown field \"spec.extra\""),
        "{message}"
    );
    let made = world.post(CLASSES, &object).await;
    assert_eq!(made.warnings, ["299 - \"unknown field \\\"spec.extra\\\"\""]);
    assert_eq!(made.ok()["spec"].get("extra"), None);
}

#[tokio::test]
async fn custom_objects_of_a_wrong_type_are_invalid() {
    let world = World::new();
    define(&world).await;
    let mut object = class("v1");
    object["spec"]["provider"] = json!(5);
    let got = world.post(CLASSES, &object).await;
    assert_eq!(got.body["details"]["causes"][0]["field"], "spec.provider");
    let message = got.refused(422);
    assert!(
        message.contains("spec.provider in body must be of type string"),
        "{message}"
    );
}

#[tokio::test]
async fn without_a_status_subresource_any_change_counts() {
    let world = World::new();
    define(&world).await;
    let made = world.post(CLASSES, &class("v1")).await.ok();
    assert_eq!(made["metadata"]["generation"], 1);
    let labelled = world
        .merge(
            &format!("{CLASSES}/web"),
            &json!({"metadata": {"labels": {"a": "b"}}}),
        )
        .await
        .ok();
    assert_eq!(labelled["metadata"]["generation"], 1);
    let changed = json!({"status": {"byPod": [{"id": "x", "namespace": "y"}]}});
    let changed = world.merge(&format!("{CLASSES}/web"), &changed).await.ok();
    assert_eq!(changed["metadata"]["generation"], 2);
    world
        .merge(&format!("{CLASSES}/web/status"), &json!({}))
        .await
        .refused(404);
}

#[tokio::test]
async fn custom_objects_take_no_strategic_patch_and_need_a_version_to_be_put() {
    let world = World::new();
    define(&world).await;
    world.post(CLASSES, &class("v1")).await.ok();
    world
        .patch("strategic-merge", &format!("{CLASSES}/web"), &json!({}))
        .await
        .refused(415);
    let message = world
        .put(&format!("{CLASSES}/web"), &class("v1"))
        .await
        .refused(422);
    assert!(
        message.contains("metadata.resourceVersion: Invalid value: 0: must be specified for an update"),
        "{message}"
    );
}
