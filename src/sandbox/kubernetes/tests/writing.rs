//! Defaults, validation, admission, patches and optimistic concurrency.

use super::*;

const PODS: &str = "/api/v1/namespaces/default/pods";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const INGRESSES: &str = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
const CLASSES: &str = "/apis/networking.k8s.io/v1/ingressclasses";

fn ingress() -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"rules": [{"host": "a.example", "http": {"paths": [{
        "path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}},
    }]}}]}})
}

#[tokio::test]
async fn a_deployment_gets_its_defaults() {
    let world = World::new();
    let mut object = deployment("web");
    let spec = &mut object["spec"]["template"]["spec"];
    spec["volumes"] = json!([
        {"name": "s", "csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": true, "volumeAttributes": {"secretProviderClass": "x"}}},
        {"name": "t", "secret": {"secretName": "x"}}, {"name": "e"},
    ]);
    spec["serviceAccountName"] = json!("app");
    let object = world.post(DEPLOYMENTS, &object).await.ok();
    let spec = &object["spec"];
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
    );
    assert_eq!(
        (
            &spec["replicas"],
            &spec["revisionHistoryLimit"],
            &spec["progressDeadlineSeconds"]
        ),
        (&json!(1), &json!(10), &json!(600))
    );
    let pod = &spec["template"]["spec"];
    assert_eq!(
        (pod["restartPolicy"].as_str(), pod["dnsPolicy"].as_str()),
        (Some("Always"), Some("ClusterFirst"))
    );
    assert_eq!(
        (pod["schedulerName"].as_str(), pod["serviceAccount"].as_str()),
        (Some("default-scheduler"), Some("app"))
    );
    assert_eq!(
        (&pod["securityContext"], &pod["terminationGracePeriodSeconds"]),
        (&json!({}), &json!(30))
    );
    assert_eq!(pod["volumes"][0]["csi"].get("defaultMode"), None);
    assert_eq!(pod["volumes"][1]["secret"]["defaultMode"], 420);
    assert_eq!(pod["volumes"][2]["emptyDir"], json!({}));
    let container = &pod["containers"][0];
    assert_eq!(
        (container["imagePullPolicy"].as_str(), &container["resources"]),
        (Some("IfNotPresent"), &json!({}))
    );
    assert_eq!(container["terminationMessagePath"], "/dev/termination-log");
    assert_eq!(object["status"], json!({}));
    assert_eq!(object["metadata"]["generation"], 1);
}

#[tokio::test]
async fn a_pod_gets_account_token_and_tolerations() {
    let world = World::new();
    let object = world.post(PODS, &pod("a")).await.ok();
    assert_eq!(object["spec"]["serviceAccountName"], "default");
    assert_eq!(object["spec"]["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!(object["spec"]["containers"][0]["imagePullPolicy"], "Always");
    assert!(
        object["spec"]["volumes"][0]["name"]
            .as_str()
            .unwrap()
            .starts_with("kube-api-access-")
    );
    assert_eq!(
        object["status"],
        json!({"phase": "Pending", "qosClass": "BestEffort"})
    );
    let mut other = pod("b");
    other["spec"]["serviceAccountName"] = json!("nobody");
    assert_eq!(
        world.post(PODS, &other).await.refused(403),
        "pods \"b\" is forbidden: error looking up service account default/nobody: serviceaccount \"nobody\" not found"
    );
}

#[tokio::test]
async fn a_service_gets_an_address_and_keeps_it() {
    let world = World::new();
    let object =
        json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}], "selector": {"app": "web"}}});
    let made = world.post(SERVICES, &object).await.ok();
    let address = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(address.starts_with("10.0."));
    assert_eq!(
        made["spec"]["ports"],
        json!([{"port": 80, "protocol": "TCP", "targetPort": 80}])
    );
    assert_eq!(
        (
            made["spec"]["type"].as_str(),
            made["spec"]["sessionAffinity"].as_str()
        ),
        (Some("ClusterIP"), Some("None"))
    );
    assert_eq!(made["status"], json!({"loadBalancer": {}}));
    let put = world.put(&format!("{SERVICES}/web"), &object).await.ok();
    assert_eq!(put["spec"]["clusterIP"], address.as_str());
    let patch = json!({"spec": {"clusterIP": "10.0.9.9"}});
    let message = world.merge(&format!("{SERVICES}/web"), &patch).await.refused(422);
    assert!(message.contains("may not change once set"), "{message}");
}

#[tokio::test]
async fn the_default_class_is_filled_in() {
    let world = World::new();
    let made = world.post(INGRESSES, &ingress()).await.ok();
    assert_eq!(made["spec"].get("ingressClassName"), None);
    world.delete(&format!("{INGRESSES}/web"), &Value::Null).await.ok();
    let class = json!({
        "metadata": {"name": "nginx", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
        "spec": {"controller": "k8s.io/ingress-nginx"},
    });
    world.post(CLASSES, &class).await.ok();
    let made = world.post(INGRESSES, &ingress()).await.ok();
    assert_eq!(made["spec"]["ingressClassName"], "nginx");
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let world = World::new();
    let web = |change: &dyn Fn(&mut Value)| {
        let mut object = deployment("web");
        change(&mut object);
        object
    };
    let edge = |change: &dyn Fn(&mut Value)| {
        let mut object = ingress();
        change(&mut object);
        object
    };
    let rows: Vec<(&str, Value, &str, &str)> = vec![
        (MAPS, map("A_b", json!({})), "metadata.name", "FieldValueInvalid"),
        (
            MAPS,
            json!({"metadata": {}}),
            "metadata.name",
            "FieldValueRequired",
        ),
        (
            MAPS,
            json!({"metadata": {"name": "a", "labels": {"a": "b c"}}}),
            "metadata.labels",
            "FieldValueInvalid",
        ),
        (
            SERVICES,
            json!({"metadata": {"name": "1a"}, "spec": {"ports": [{"port": 80}]}}),
            "metadata.name",
            "FieldValueInvalid",
        ),
        (
            SERVICES,
            json!({"metadata": {"name": "a"}, "spec": {}}),
            "spec.ports",
            "FieldValueRequired",
        ),
        (
            SERVICES,
            json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 70000}]}}),
            "spec.ports[0].port",
            "FieldValueInvalid",
        ),
        (
            SERVICES,
            json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 1}, {"port": 2, "name": "x"}]}}),
            "spec.ports[0].name",
            "FieldValueRequired",
        ),
        (
            DEPLOYMENTS,
            web(&|o| o["spec"]["selector"] = json!({"matchLabels": {"x": "y"}})),
            "spec.template.metadata.labels",
            "FieldValueInvalid",
        ),
        (
            DEPLOYMENTS,
            web(&|o| o["spec"]["selector"] = Value::Null),
            "spec.selector",
            "FieldValueRequired",
        ),
        (
            DEPLOYMENTS,
            web(&|o| o["spec"]["template"]["spec"]["containers"] = json!([])),
            "spec.template.spec.containers",
            "FieldValueRequired",
        ),
        (
            DEPLOYMENTS,
            web(&|o| {
                o["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
                    json!([{"name": "v", "mountPath": "/v"}])
            }),
            "spec.template.spec.containers[0].volumeMounts[0].name",
            "FieldValueNotFound",
        ),
        (
            DEPLOYMENTS,
            web(&|o| o["spec"]["template"]["spec"]["restartPolicy"] = json!("Never")),
            "spec.template.spec.restartPolicy",
            "FieldValueNotSupported",
        ),
        (
            DEPLOYMENTS,
            web(&|o| {
                o["spec"]["template"]["spec"]["volumes"] = json!([{"name": "v", "csi": {"readOnly": true}}])
            }),
            "spec.template.spec.volumes[0].csi.driver",
            "FieldValueRequired",
        ),
        (
            INGRESSES,
            edge(&|o| o["spec"]["rules"][0]["http"]["paths"][0]["path"] = json!("x")),
            "spec.rules[0].http.paths[0].path",
            "FieldValueInvalid",
        ),
        (
            INGRESSES,
            edge(&|o| o["spec"]["rules"][0]["http"]["paths"][0]["pathType"] = Value::Null),
            "spec.rules[0].http.paths[0].pathType",
            "FieldValueRequired",
        ),
        (
            INGRESSES,
            edge(&|o| o["spec"]["rules"][0]["host"] = json!("1.2.3.4")),
            "spec.rules[0].host",
            "FieldValueInvalid",
        ),
        (
            INGRESSES,
            edge(&|o| o["spec"]["rules"] = json!([])),
            "spec",
            "FieldValueInvalid",
        ),
        (
            INGRESSES,
            edge(&|o| o["spec"]["tls"] = json!([{"secretName": "A_"}])),
            "spec.tls[0].secretName",
            "FieldValueInvalid",
        ),
        (
            SECRETS,
            json!({"metadata": {"name": "a"}, "type": "kubernetes.io/tls", "data": {"tls.crt": "eA=="}}),
            "data[tls.key]",
            "FieldValueRequired",
        ),
        (
            SECRETS,
            json!({"metadata": {"name": "a"}, "data": {"a b": "eA=="}}),
            "data[a b]",
            "FieldValueInvalid",
        ),
    ];
    for (path, object, field, reason) in rows {
        let got = world.post(path, &object).await;
        let causes = got.body["details"]["causes"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let found = causes
            .iter()
            .any(|cause| cause["field"] == field && cause["reason"] == reason);
        assert!(found && got.code == 422, "{field}: {}", got.text);
    }
}

#[tokio::test]
async fn what_may_not_change_does_not() {
    let world = World::new();
    world.post(DEPLOYMENTS, &deployment("web")).await.ok();
    let mut other = deployment("web");
    other["spec"]["selector"]["matchLabels"]["more"] = json!("x");
    other["spec"]["template"]["metadata"]["labels"]["more"] = json!("x");
    let message = world
        .put(&format!("{DEPLOYMENTS}/web"), &other)
        .await
        .refused(422);
    assert!(message.contains("spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"web\",\"more\":\"x\"}}: field is immutable"), "{message}");
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"a": "b"}});
    let made = world.post(SECRETS, &secret).await.ok();
    assert_eq!(
        (
            made["type"].as_str(),
            made["data"]["a"].as_str(),
            made.get("stringData")
        ),
        (Some("Opaque"), Some("Yg=="), None)
    );
    let patch = json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "", "tls.key": ""}});
    let message = world.merge(&format!("{SECRETS}/s"), &patch).await.refused(422);
    assert!(
        message.contains("type: Invalid value: \"kubernetes.io/tls\": field is immutable"),
        "{message}"
    );
    world.post(PODS, &pod("a")).await.ok();
    let message = world
        .merge(&format!("{PODS}/a"), &json!({"spec": {"hostNetwork": true}}))
        .await
        .refused(422);
    assert!(
        message.contains("pod updates may not change fields other than"),
        "{message}"
    );
}

#[tokio::test]
async fn a_stale_put_is_a_conflict() {
    let world = World::new();
    let first = world.post(MAPS, &map("a", json!({}))).await.ok();
    world
        .merge(&format!("{MAPS}/a"), &json!({"data": {"k": "v"}}))
        .await
        .ok();
    let got = world.put(&format!("{MAPS}/a"), &first).await;
    assert_eq!(
        got.refused(409),
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let stale =
        json!({"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"k": "w"}});
    world.merge(&format!("{MAPS}/a"), &stale).await.refused(409);
}

#[tokio::test]
async fn unknown_fields_are_refused_if_asked() {
    let world = World::new();
    let mut object = deployment("web");
    object["spec"]["x"] = json!(1);
    let message = world
        .post(&format!("{DEPLOYMENTS}?fieldValidation=Strict"), &object)
        .await
        .refused(400);
    assert_eq!(
        message,
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"spec.x\""
    );
    object["spec"]["x"] = Value::Null;
    object["spec"]["replicas"] = json!("three");
    let message = world.post(DEPLOYMENTS, &object).await.refused(400);
    assert!(
        message.contains("cannot unmarshal string into Go struct field"),
        "{message}"
    );
}

#[tokio::test]
async fn patches_of_every_kind() {
    let world = World::new();
    world.post(DEPLOYMENTS, &deployment("web")).await.ok();
    let path = format!("{DEPLOYMENTS}/web");
    let test = json!([{"op": "test", "path": "/spec/replicas", "value": 5}, {"op": "replace", "path": "/spec/replicas", "value": 2}]);
    let message = world.patch("json", &path, &test).await.refused(422);
    assert_eq!(
        message,
        "the server rejected our request due to an error in our request"
    );
    let patch = json!([{"op": "test", "path": "/spec/replicas", "value": 1}, {"op": "replace", "path": "/spec/replicas", "value": 2}]);
    let object = world.patch("json", &path, &patch).await.ok();
    assert_eq!(
        (&object["spec"]["replicas"], &object["metadata"]["generation"]),
        (&json!(2), &json!(2))
    );
    let patch =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "nginx:2"}]}}}});
    let object = world.patch("strategic-merge", &path, &patch).await.ok();
    let container = &object["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        (
            container["image"].as_str(),
            container["ports"][0]["containerPort"].as_u64()
        ),
        (Some("nginx:2"), Some(80))
    );
    let half_a_message = Bytes::from_static(b"k8s\0protobuf");
    let headers = [("content-type", "application/vnd.kubernetes.protobuf")];
    world
        .send(MASTERS, Method::POST, DEPLOYMENTS, &headers, half_a_message)
        .await
        .refused(400);
}

#[tokio::test]
async fn scale_is_a_window_on_replicas() {
    let world = World::new();
    world.post(DEPLOYMENTS, &deployment("web")).await.ok();
    let path = format!("{DEPLOYMENTS}/web/scale");
    let scale = world.get(&path).await.ok();
    assert_eq!(
        (scale["kind"].as_str(), &scale["spec"]),
        (Some("Scale"), &json!({"replicas": 1}))
    );
    assert_eq!(scale["status"]["selector"], "app=web");
    assert_eq!(
        world.merge(&path, &json!({"spec": {"replicas": 4}})).await.ok()["spec"]["replicas"],
        4
    );
    assert_eq!(
        world.get(&format!("{DEPLOYMENTS}/web")).await.ok()["spec"]["replicas"],
        4
    );
}

#[tokio::test]
async fn the_world_s_admission_patches_and_denies() {
    let world = World::new();
    world.server.set_admission(vec![
        json!({"kinds": ["Deployment"], "patch": [{"op": "add", "path": "/metadata/labels", "value": {"injected": "yes"}}]}),
        json!({"kinds": ["ConfigMap"], "namespaces": ["default"], "deny": "no maps here"}),
    ]);
    let object = world
        .apply(
            "kvtls",
            &format!("{DEPLOYMENTS}/web?dryRun=All"),
            &deployment("web"),
        )
        .await
        .ok();
    assert_eq!(object["metadata"]["labels"]["injected"], "yes");
    let message = world.post(MAPS, &map("a", json!({}))).await.refused(403);
    assert_eq!(
        message,
        "admission webhook \"validation.gatekeeper.sh\" denied the request: no maps here"
    );
    world.server.set_admission(Vec::new());
    world.post(MAPS, &map("a", json!({}))).await.ok();
}

#[tokio::test]
async fn names_are_generated() {
    let world = World::new();
    let made = world
        .post(MAPS, &json!({"metadata": {"generateName": "a-"}}))
        .await
        .ok();
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("a-") && name.len() == 7, "{name}");
}
