//! Server-side apply, case by case as `sandbox.md` 7 lists them.

use super::*;

const INGRESSES: &str = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";

fn config(data: Value) -> Value {
    map("a", data)
}

/// The fields of a manager, as `fieldsV1`.
#[track_caller]
fn owned(object: &Value, manager: &str, operation: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let entry = entries
        .iter()
        .find(|entry| entry["manager"] == manager && entry["operation"] == operation);
    entry.unwrap_or_else(|| panic!("{manager} {operation} owns nothing in {entries:?}"))["fieldsV1"].clone()
}

fn owns(object: &Value, manager: &str) -> bool {
    let entries = object["metadata"]["managedFields"].as_array();
    entries
        .into_iter()
        .flatten()
        .any(|entry| entry["manager"] == manager)
}

fn ingress(secret: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"},
        "spec": {
            "tls": [{"hosts": ["a.example"], "secretName": secret}],
            "rules": [{"host": "a.example", "http": {"paths": [{
                "path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}},
            }]}}],
        },
    })
}

#[tokio::test]
async fn apply_creates() {
    let world = World::new();
    let got = world
        .apply("kvtls", &format!("{MAPS}/a"), &config(json!({"k": "v"})))
        .await;
    assert_eq!(got.code, 201, "{}", got.text);
    let object = got.ok();
    assert_eq!(owned(&object, "kvtls", "Apply"), json!({"f:data": {"f:k": {}}}));
    let entry = &object["metadata"]["managedFields"][0];
    assert_eq!(
        (entry["apiVersion"].as_str(), entry["fieldsType"].as_str()),
        (Some("v1"), Some("FieldsV1"))
    );
    assert!(entry["time"].is_string() && entry.get("subresource").is_none());
}

#[tokio::test]
async fn applying_the_same_again_changes_nothing() {
    let world = World::new();
    let first = world
        .apply("kvtls", &format!("{DEPLOYMENTS}/web"), &deployment("web"))
        .await
        .ok();
    world
        .clock
        .advance_towards(world.clock.now() + Duration::from_secs(100));
    let revision = world.revision();
    let second = world
        .apply("kvtls", &format!("{DEPLOYMENTS}/web"), &deployment("web"))
        .await;
    assert_eq!(second.code, 200);
    assert_eq!(second.ok(), first);
    assert_eq!(world.revision(), revision);
}

#[tokio::test]
async fn list_keys_include_defaults_that_are_not_owned() {
    let world = World::new();
    let object = world
        .apply("kvtls", &format!("{DEPLOYMENTS}/web"), &deployment("web"))
        .await
        .ok();
    assert_eq!(
        owned(&object, "kvtls", "Apply"),
        json!({"f:spec": {"f:selector": {}, "f:template": {
            "f:metadata": {"f:labels": {"f:app": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {
                ".": {}, "f:name": {}, "f:image": {},
                "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
            }}},
        }}})
    );
    assert_eq!(
        object["spec"]["template"]["spec"]["containers"][0]["ports"][0]["protocol"],
        "TCP"
    );
}

#[tokio::test]
async fn a_changed_value_of_another_applier_is_a_conflict() {
    let world = World::new();
    world
        .apply("one", &format!("{MAPS}/a"), &config(json!({"k": "v"})))
        .await
        .ok();
    let got = world
        .apply("two", &format!("{MAPS}/a"), &config(json!({"k": "w"})))
        .await;
    assert_eq!(got.code, 409);
    assert_eq!(got.body["reason"], "Conflict");
    assert_eq!(
        got.body["message"],
        "Apply failed with 1 conflict: conflict with \"one\": .data.k"
    );
    assert_eq!(
        got.body["details"]["causes"],
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.k"}])
    );
}

#[tokio::test]
async fn a_changed_value_of_an_updater_is_a_conflict_that_names_its_version() {
    let world = World::new();
    world.post(INGRESSES, &ingress("old")).await.ok();
    let got = world
        .apply("kvtls", &format!("{INGRESSES}/web"), &ingress("new"))
        .await;
    assert_eq!(got.code, 409);
    assert_eq!(
        got.body["details"]["causes"],
        json!([{
            "reason": "FieldManagerConflict", "field": ".spec.tls",
            "message": "conflict with \"tester\" using networking.k8s.io/v1",
        }])
    );
}

#[tokio::test]
async fn several_conflicts_are_listed_by_manager() {
    let world = World::new();
    world
        .apply("one", &format!("{MAPS}/a"), &config(json!({"k": "v", "l": "v"})))
        .await
        .ok();
    let got = world
        .apply("two", &format!("{MAPS}/a"), &config(json!({"k": "w", "l": "w"})))
        .await;
    let message = got.refused(409);
    assert_eq!(
        message,
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .data.k\n- .data.l"
    );
}

#[tokio::test]
async fn force_takes_the_field() {
    let world = World::new();
    world
        .apply("one", &format!("{MAPS}/a"), &config(json!({"k": "v", "l": "v"})))
        .await
        .ok();
    let object = world
        .apply("two", &format!("{MAPS}/a?force=true"), &config(json!({"k": "w"})))
        .await
        .ok();
    assert_eq!(object["data"], json!({"k": "w", "l": "v"}));
    assert_eq!(owned(&object, "one", "Apply"), json!({"f:data": {"f:l": {}}}));
    assert_eq!(owned(&object, "two", "Apply"), json!({"f:data": {"f:k": {}}}));
}

#[tokio::test]
async fn an_equal_value_is_shared() {
    let world = World::new();
    world
        .apply("one", &format!("{MAPS}/a"), &config(json!({"k": "v"})))
        .await
        .ok();
    let object = world
        .apply("two", &format!("{MAPS}/a"), &config(json!({"k": "v"})))
        .await
        .ok();
    assert_eq!(owned(&object, "one", "Apply"), json!({"f:data": {"f:k": {}}}));
    assert_eq!(owned(&object, "two", "Apply"), json!({"f:data": {"f:k": {}}}));
    // Dropped by one, it stays for the other; dropped by both, it goes.
    let object = world
        .apply(
            "one",
            &format!("{MAPS}/a"),
            &json!({"apiVersion": "v1", "kind": "ConfigMap"}),
        )
        .await
        .ok();
    assert_eq!(object["data"], json!({"k": "v"}));
    assert!(!owns(&object, "one"));
    let object = world
        .apply(
            "two",
            &format!("{MAPS}/a"),
            &json!({"apiVersion": "v1", "kind": "ConfigMap"}),
        )
        .await
        .ok();
    assert_eq!(object.get("data"), None);
    assert!(!owns(&object, "two"));
}

#[tokio::test]
async fn a_field_that_only_the_applier_owned_goes_when_it_is_dropped() {
    let world = World::new();
    world
        .apply(
            "kvtls",
            &format!("{MAPS}/a"),
            &config(json!({"k": "v", "l": "v"})),
        )
        .await
        .ok();
    let object = world
        .apply("kvtls", &format!("{MAPS}/a"), &config(json!({"l": "v"})))
        .await
        .ok();
    assert_eq!(object["data"], json!({"l": "v"}));
}

#[tokio::test]
async fn a_dropped_field_with_a_default_returns_to_it() {
    let world = World::new();
    let mut wanted = deployment("web");
    wanted["spec"]["replicas"] = json!(3);
    let object = world
        .apply("kvtls", &format!("{DEPLOYMENTS}/web"), &wanted)
        .await
        .ok();
    assert_eq!(object["spec"]["replicas"], 3);
    let object = world
        .apply("kvtls", &format!("{DEPLOYMENTS}/web"), &deployment("web"))
        .await
        .ok();
    assert_eq!(object["spec"]["replicas"], 1);
    assert_eq!(object["metadata"]["generation"], 2);
}

#[tokio::test]
async fn a_dropped_struct_goes_as_a_whole_but_not_what_others_own_in_it() {
    let world = World::new();
    let mut wanted = deployment("web");
    wanted["spec"]["template"]["spec"]["containers"][0]["securityContext"] =
        json!({"runAsUser": 1, "privileged": false});
    world
        .apply("kvtls", &format!("{DEPLOYMENTS}/web"), &wanted)
        .await
        .ok();
    let object = world
        .apply("kvtls", &format!("{DEPLOYMENTS}/web"), &deployment("web"))
        .await
        .ok();
    assert_eq!(
        object["spec"]["template"]["spec"]["containers"][0].get("securityContext"),
        None
    );
    world
        .apply("kvtls", &format!("{DEPLOYMENTS}/web"), &wanted)
        .await
        .ok();
    let patch = json!([{"op": "add", "path": "/spec/template/spec/containers/0/securityContext/runAsGroup", "value": 5}]);
    world
        .patch("json", &format!("{DEPLOYMENTS}/web"), &patch)
        .await
        .ok();
    let object = world
        .apply("kvtls", &format!("{DEPLOYMENTS}/web"), &deployment("web"))
        .await
        .ok();
    let context = &object["spec"]["template"]["spec"]["containers"][0]["securityContext"];
    assert_eq!(*context, json!({"runAsGroup": 5}));
}

#[tokio::test]
async fn list_items_merge_by_key_and_keep_their_order() {
    let world = World::new();
    let mut wanted = deployment("web");
    wanted["spec"]["template"]["spec"]["containers"] =
        json!([{"name": "web", "image": "a:1"}, {"name": "side", "image": "b:1"}]);
    world
        .apply("one", &format!("{DEPLOYMENTS}/web"), &wanted)
        .await
        .ok();
    let mut other = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
    other["spec"]["template"]["spec"]["containers"] = json!([{"name": "third", "image": "c:1"}]);
    let object = world
        .apply("two", &format!("{DEPLOYMENTS}/web"), &other)
        .await
        .ok();
    let names = |object: &Value| -> Vec<String> {
        let containers = object["spec"]["template"]["spec"]["containers"]
            .as_array()
            .unwrap();
        containers
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&object), ["web", "side", "third"]);
    wanted["spec"]["template"]["spec"]["containers"] = json!([{"name": "web", "image": "a:1"}]);
    let object = world
        .apply("one", &format!("{DEPLOYMENTS}/web"), &wanted)
        .await
        .ok();
    assert_eq!(names(&object), ["web", "third"]);
}

#[tokio::test]
async fn atomic_lists_are_owned_in_one_piece() {
    let world = World::new();
    let object = world
        .apply("kvtls", &format!("{INGRESSES}/web"), &ingress("s"))
        .await
        .ok();
    assert_eq!(
        owned(&object, "kvtls", "Apply"),
        json!({"f:spec": {"f:rules": {}, "f:tls": {}}})
    );
    let other = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "spec": {"tls": [{"hosts": ["b.example"], "secretName": "b"}]},
    });
    let got = world.apply("other", &format!("{INGRESSES}/web"), &other).await;
    assert_eq!(got.body["details"]["causes"][0]["field"], ".spec.tls");
}

#[tokio::test]
async fn status_is_applied_apart() {
    let world = World::new();
    world
        .apply("kvtls", &format!("{INGRESSES}/web"), &ingress("s"))
        .await
        .ok();
    let status = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"labels": {"x": "y"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}},
    });
    // On the object itself status is passed over, and not owned.
    let object = world
        .apply("edge", &format!("{INGRESSES}/web"), &status)
        .await
        .ok();
    assert_eq!(object["status"], json!({"loadBalancer": {}}));
    assert_eq!(
        owned(&object, "edge", "Apply"),
        json!({"f:metadata": {"f:labels": {"f:x": {}}}})
    );
    let object = world
        .apply("edge", &format!("{INGRESSES}/web/status"), &status)
        .await
        .ok();
    assert_eq!(object["status"]["loadBalancer"]["ingress"][0]["ip"], "1.2.3.4");
    assert_eq!(object["metadata"]["generation"], 1);
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let entry = entries
        .iter()
        .find(|entry| entry["subresource"] == "status")
        .unwrap();
    assert_eq!(
        entry["fieldsV1"],
        json!({"f:status": {"f:loadBalancer": {"f:ingress": {}}}})
    );
}

#[tokio::test]
async fn a_dry_run_answers_and_stores_nothing() {
    let world = World::new();
    let revision = world.revision();
    let object = world
        .apply(
            "kvtls",
            &format!("{MAPS}/a?dryRun=All"),
            &config(json!({"k": "v"})),
        )
        .await
        .ok();
    assert!(object["metadata"]["uid"].is_string() && object["metadata"]["creationTimestamp"].is_string());
    assert_eq!(object["metadata"].get("resourceVersion"), None);
    assert_eq!(world.revision(), revision);
    world.get(&format!("{MAPS}/a")).await.refused(404);
    let path = "/api/v1/namespaces/nowhere/configmaps/a?dryRun=All";
    let message = world.apply("kvtls", path, &config(json!({}))).await.refused(404);
    assert_eq!(message, "namespaces \"nowhere\" not found");
    // On what is there, it answers the outcome, conflicts included.
    world
        .apply("one", &format!("{MAPS}/a"), &config(json!({"k": "v"})))
        .await
        .ok();
    world
        .apply("two", &format!("{MAPS}/a?dryRun=All"), &config(json!({"k": "w"})))
        .await
        .refused(409);
    let forced = format!("{MAPS}/a?dryRun=All&force=true");
    assert_eq!(
        world.apply("two", &forced, &config(json!({"k": "w"}))).await.ok()["data"]["k"],
        "w"
    );
    assert_eq!(world.get(&format!("{MAPS}/a")).await.ok()["data"]["k"], "v");
}

#[tokio::test]
async fn a_stale_version_in_the_body_is_refused() {
    let world = World::new();
    let object = world
        .apply("kvtls", &format!("{MAPS}/a"), &config(json!({"k": "v"})))
        .await
        .ok();
    let mut wanted = config(json!({"k": "w"}));
    wanted["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
    world.apply("kvtls", &format!("{MAPS}/a"), &wanted).await.ok();
    let message = world
        .apply("kvtls", &format!("{MAPS}/a"), &wanted)
        .await
        .refused(409);
    assert!(message.contains("the object has been modified"), "{message}");
}

#[tokio::test]
async fn an_unknown_field_is_the_original_s_500() {
    let world = World::new();
    let mut wanted = deployment("web");
    wanted["spec"]["x"] = json!(1);
    let got = world.apply("kvtls", &format!("{DEPLOYMENTS}/web"), &wanted).await;
    assert_eq!(got.body.get("reason"), None);
    assert_eq!(
        got.refused(500),
        "failed to create typed patch object (/web; apps/v1, Kind=Deployment): .spec.x: field not declared in schema"
    );
}

#[tokio::test]
async fn a_wrong_type_is_the_original_s_500() {
    let world = World::new();
    let mut wanted = deployment("web");
    wanted["spec"]["replicas"] = json!("three");
    let message = world
        .apply("kvtls", &format!("{DEPLOYMENTS}/web"), &wanted)
        .await
        .refused(500);
    assert_eq!(
        message,
        "failed to create typed patch object (/web; apps/v1, Kind=Deployment): .spec.replicas: expected numeric (int or float), got string"
    );
}

#[tokio::test]
async fn a_list_item_without_its_key_is_refused() {
    let world = World::new();
    let mut wanted = deployment("web");
    wanted["spec"]["template"]["spec"]["containers"] = json!([{"image": "a"}]);
    let message = world
        .apply("kvtls", &format!("{DEPLOYMENTS}/web"), &wanted)
        .await
        .refused(500);
    assert!(
        message
            .contains("element 0: associative list with keys has an element that omits key field \"name\""),
        "{message}"
    );
}

#[tokio::test]
async fn a_wrong_name_is_refused() {
    let world = World::new();
    let message = world
        .apply("kvtls", &format!("{MAPS}/b"), &config(json!({})))
        .await
        .refused(400);
    assert_eq!(
        message,
        "the name of the object (a) does not match the name on the URL (b)"
    );
}

#[tokio::test]
async fn the_manager_must_be_named() {
    let world = World::new();
    let headers = [("content-type", "application/apply-patch+yaml")];
    let body = Bytes::from(config(json!({})).to_string());
    let got = world
        .send(MASTERS, Method::PATCH, &format!("{MAPS}/a"), &headers, body)
        .await;
    assert_eq!(got.body["details"]["causes"][0]["field"], "fieldManager");
    got.refused(422);
}

#[tokio::test]
async fn the_body_may_be_yaml_and_must_not_bring_managed_fields() {
    let world = World::new();
    let headers = [("content-type", "application/apply-patch+yaml")];
    let path = format!("{MAPS}/a?fieldManager=x");
    let body = Bytes::from_static(b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: v\n");
    let object = world
        .send(MASTERS, Method::PATCH, &path, &headers, body)
        .await
        .ok();
    assert_eq!(object["data"]["k"], "v");
    let message = world.apply("x", &format!("{MAPS}/a"), &object).await.refused(400);
    assert_eq!(message, "metadata.managedFields must be nil");
}

#[tokio::test]
async fn an_update_takes_fields_without_asking_and_the_next_apply_conflicts() {
    let world = World::new();
    world
        .apply(
            "kvtls",
            &format!("{MAPS}/a"),
            &config(json!({"k": "v", "l": "v"})),
        )
        .await
        .ok();
    let object = world
        .merge(&format!("{MAPS}/a"), &json!({"data": {"k": "w"}}))
        .await
        .ok();
    assert_eq!(owned(&object, "kvtls", "Apply"), json!({"f:data": {"f:l": {}}}));
    assert_eq!(
        owned(&object, "patcher", "Update"),
        json!({"f:data": {"f:k": {}}})
    );
    let got = world
        .apply(
            "kvtls",
            &format!("{MAPS}/a"),
            &config(json!({"k": "v", "l": "v"})),
        )
        .await;
    assert_eq!(
        got.body["details"]["causes"][0]["message"],
        "conflict with \"patcher\" using v1"
    );
}

#[tokio::test]
async fn entries_of_updates_mark_the_maps_they_made() {
    let world = World::new();
    let mut object = deployment("web");
    object["metadata"]["labels"] = json!({"a": "b"});
    let object = world.post(DEPLOYMENTS, &object).await.ok();
    let fields = owned(&object, "tester", "Update");
    assert_eq!(fields["f:metadata"], json!({"f:labels": {".": {}, "f:a": {}}}));
    let spec = &fields["f:spec"];
    assert_eq!(spec.get("."), None);
    assert_eq!(spec["f:selector"], json!({}));
    assert_eq!(
        spec["f:strategy"],
        json!({"f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}, "f:type": {}})
    );
    let pod = &spec["f:template"]["f:spec"];
    assert_eq!(pod["f:securityContext"], json!({}));
    assert_eq!(
        pod["f:containers"],
        json!({"k:{\"name\":\"web\"}": {
            ".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {},
            "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}},
            "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {},
        }})
    );
}

#[tokio::test]
async fn an_update_that_changes_nothing_keeps_version_and_owners() {
    let world = World::new();
    let object = world.post(DEPLOYMENTS, &deployment("web")).await.ok();
    world
        .clock
        .advance_towards(world.clock.now() + Duration::from_secs(100));
    let again = world.put(&format!("{DEPLOYMENTS}/web"), &object).await.ok();
    assert_eq!(again, object);
    let again = world
        .merge(&format!("{DEPLOYMENTS}/web"), &json!({"spec": {"replicas": 1}}))
        .await
        .ok();
    assert_eq!(again, object);
}

#[tokio::test]
async fn status_updates_have_their_own_entry() {
    let world = World::new();
    world.post(DEPLOYMENTS, &deployment("web")).await.ok();
    let status = json!({"status": {"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]}});
    let object = world
        .merge(&format!("{DEPLOYMENTS}/web/status"), &status)
        .await
        .ok();
    assert_eq!(object["metadata"]["generation"], 1);
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let entry = entries
        .iter()
        .find(|entry| entry["subresource"] == "status")
        .unwrap();
    assert_eq!(
        entry["fieldsV1"],
        json!({"f:status": {
            "f:replicas": {},
            "f:conditions": {".": {}, "k:{\"type\":\"Available\"}": {".": {}, "f:type": {}, "f:status": {}}},
        }})
    );
}

#[tokio::test]
async fn labels_and_owner_references_are_owned_one_by_one() {
    let world = World::new();
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u-1"});
    let mut object = config(json!({}));
    object["metadata"]["labels"] = json!({"a": "1"});
    object["metadata"]["ownerReferences"] = json!([owner]);
    object["metadata"]["finalizers"] = json!(["x.io/f"]);
    let object = world.apply("kvtls", &format!("{MAPS}/a"), &object).await.ok();
    assert_eq!(
        owned(&object, "kvtls", "Apply"),
        json!({"f:data": {}, "f:metadata": {
            "f:labels": {"f:a": {}}, "f:ownerReferences": {"k:{\"uid\":\"u-1\"}": {}},
            "f:finalizers": {"v:\"x.io/f\"": {}},
        }})
    );
}

#[tokio::test]
async fn managed_fields_can_be_reset_and_the_next_apply_finds_a_predecessor() {
    let world = World::new();
    world.post(MAPS, &config(json!({"k": "v"}))).await.ok();
    let object = world
        .merge(
            &format!("{MAPS}/a"),
            &json!({"metadata": {"managedFields": [{}]}}),
        )
        .await
        .ok();
    assert_eq!(object["metadata"].get("managedFields"), None);
    let got = world
        .apply("kvtls", &format!("{MAPS}/a"), &config(json!({"k": "w"})))
        .await;
    assert_eq!(
        got.body["details"]["causes"][0]["message"],
        "conflict with \"before-first-apply\" using v1"
    );
}

#[tokio::test]
async fn apply_to_a_custom_kind_merges_parameters_and_replaces_secret_objects() {
    let world = World::new();
    custom::define(&world).await;
    let path = format!("{}/web", custom::CLASSES);
    let class = |parameters: Value, secrets: Value| {
        json!({
            "apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass",
            "spec": {"provider": "azure", "parameters": parameters, "secretObjects": secrets},
        })
    };
    let secrets = json!([{"secretName": "a", "type": "kubernetes.io/tls", "data": [{"objectName": "c", "key": "tls.crt"}]}]);
    let object = world
        .apply("kvtls", &path, &class(json!({"a": "1"}), secrets.clone()))
        .await
        .ok();
    assert_eq!(
        owned(&object, "kvtls", "Apply"),
        json!({"f:spec": {"f:provider": {}, "f:parameters": {"f:a": {}}, "f:secretObjects": {}}})
    );
    let object = world
        .merge(&path, &json!({"spec": {"parameters": {"b": "2"}}}))
        .await
        .ok();
    assert_eq!(object["metadata"]["generation"], 2);
    let object = world
        .apply("kvtls", &path, &class(json!({"c": "3"}), secrets))
        .await
        .ok();
    assert_eq!(object["spec"]["parameters"], json!({"b": "2", "c": "3"}));
    let mut wrong = class(json!({}), json!([]));
    wrong["spec"]["x"] = json!(1);
    let message = world.apply("kvtls", &path, &wrong).await.refused(500);
    assert!(
        message.ends_with("Kind=SecretProviderClass): .spec.x: field not declared in schema"),
        "{message}"
    );
}
