//! Who may do what, and how it is asked.

use super::*;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

async fn bind(world: &World, subject: Value, role: &str, namespace: &str) {
    let binding = json!({
        "metadata": {"name": format!("b-{role}-{namespace}")}, "subjects": [subject],
        "roleRef": {"kind": "ClusterRole", "name": role},
    });
    let path = if namespace.is_empty() {
        format!("{RBAC}/clusterrolebindings")
    } else {
        format!("{RBAC}/namespaces/{namespace}/rolebindings")
    };
    world.post(&path, &binding).await.ok();
}

fn someone() -> Value {
    json!({"kind": "User", "name": "someone"})
}

#[tokio::test]
async fn nobody_is_anonymous() {
    let world = World::new();
    for token in ["", "wrong"] {
        let got = world
            .send(token, Method::GET, "/api/v1/pods", &[], Bytes::new())
            .await;
        assert_eq!(got.body["reason"], "Unauthorized");
        assert_eq!(got.refused(401), "Unauthorized");
    }
}

#[tokio::test]
async fn a_refusal_says_who_what_and_where() {
    let world = World::new();
    let asked = |method, path: &'static str| world.as_other("entra", method, path, &Value::Null);
    let got = asked(Method::GET, DEPLOYMENTS).await;
    assert_eq!(
        got.body["details"],
        json!({"group": "apps", "kind": "deployments"})
    );
    assert_eq!(
        got.refused(403),
        "deployments.apps is forbidden: User \"someone\" cannot list resource \"deployments\" in API group \"apps\" in the namespace \"default\""
    );
    assert_eq!(
        asked(Method::DELETE, "/api/v1/nodes/n1").await.refused(403),
        "nodes \"n1\" is forbidden: User \"someone\" cannot delete resource \"nodes\" in API group \"\" at the cluster scope"
    );
    assert_eq!(
        asked(Method::GET, "/metrics").await.refused(403),
        "forbidden: User \"someone\" cannot get path \"/metrics\""
    );
    asked(Method::GET, "/apis").await.ok();
    asked(Method::GET, "/version").await.ok();
    asked(Method::GET, "/openapi/v3").await.ok();
}

#[tokio::test]
async fn bindings_grant_in_their_namespace() {
    let world = World::new();
    bind(&world, someone(), "edit", "default").await;
    let ask = |method, path: &'static str, body| {
        let world = &world;
        async move { world.as_other("entra", method, path, &body).await.code }
    };
    assert_eq!(
        ask(Method::GET, "/api/v1/namespaces/default/secrets", Value::Null).await,
        200
    );
    assert_eq!(ask(Method::POST, MAPS, map("a", json!({}))).await, 201);
    assert_eq!(
        ask(Method::GET, "/api/v1/namespaces/kube-system/secrets", Value::Null).await,
        403
    );
    assert_eq!(ask(Method::GET, "/api/v1/secrets", Value::Null).await, 403);
    bind(
        &world,
        json!({"kind": "Group", "name": "system:authenticated"}),
        "view",
        "",
    )
    .await;
    assert_eq!(ask(Method::GET, "/api/v1/pods", Value::Null).await, 200);
    assert_eq!(ask(Method::GET, "/api/v1/secrets", Value::Null).await, 403);
}

#[tokio::test]
async fn resource_names_and_subresources_are_told_apart() {
    let world = World::new();
    let role = json!({"metadata": {"name": "narrow"}, "rules": [
        {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["web"], "verbs": ["get", "patch"]},
        {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get"]},
    ]});
    world.post(&format!("{RBAC}/clusterroles"), &role).await.ok();
    bind(&world, someone(), "narrow", "").await;
    world.post(DEPLOYMENTS, &deployment("web")).await.ok();
    world.post(DEPLOYMENTS, &deployment("other")).await.ok();
    let ask = |path: String| {
        let world = &world;
        async move {
            world
                .as_other("entra", Method::GET, &path, &Value::Null)
                .await
                .code
        }
    };
    assert_eq!(ask(format!("{DEPLOYMENTS}/web")).await, 200);
    assert_eq!(ask(format!("{DEPLOYMENTS}/other")).await, 403);
    assert_eq!(ask(DEPLOYMENTS.to_owned()).await, 403);
    assert_eq!(ask(format!("{DEPLOYMENTS}/other/scale")).await, 200);
    assert_eq!(ask(format!("{DEPLOYMENTS}/web/status")).await, 403);
}

#[tokio::test]
async fn reviews_answer_what_requests_would() {
    let world = World::new();
    bind(&world, someone(), "edit", "default").await;
    let review = |verb: &str, namespace: &str| {
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {
            "resourceAttributes": {"verb": verb, "group": "networking.k8s.io", "resource": "ingresses", "namespace": namespace},
        }})
    };
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let got = world
        .as_other("entra", Method::POST, path, &review("patch", "default"))
        .await;
    assert_eq!(got.code, 201);
    let status = got.ok()["status"].clone();
    assert_eq!(status["allowed"], true);
    assert!(
        status["reason"]
            .as_str()
            .unwrap()
            .starts_with("RBAC: allowed by RoleBinding \"b-edit-default/default\" of ClusterRole \"edit\"")
    );
    let got = world
        .as_other("entra", Method::POST, path, &review("patch", "kube-system"))
        .await;
    assert_eq!(got.ok()["status"], json!({"allowed": false}));
    let other = json!({"spec": {"user": "someone", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}});
    let got = world
        .post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &other)
        .await;
    assert_eq!(got.ok()["status"]["allowed"], true);
    let got = world
        .as_other(
            "entra",
            Method::POST,
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            &json!({}),
        )
        .await;
    assert_eq!(
        got.ok()["status"]["userInfo"],
        json!({"username": "someone", "groups": ["system:authenticated"]})
    );
    let rules = json!({"spec": {"namespace": "default"}});
    let got = world
        .as_other(
            "entra",
            Method::POST,
            "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
            &rules,
        )
        .await;
    assert!(!got.ok()["status"]["resourceRules"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn service_account_tokens_are_issued_judged_and_end() {
    let world = World::new();
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let got = world
        .post(path, &json!({"spec": {"expirationSeconds": 600}}))
        .await;
    assert_eq!(got.code, 201, "{}", got.text);
    let token = got.body["status"]["token"].as_str().unwrap().to_owned();
    bind(
        &world,
        json!({"kind": "ServiceAccount", "name": "default", "namespace": "default"}),
        "view",
        "",
    )
    .await;
    let ask = || world.as_other(&token, Method::GET, "/api/v1/pods", &Value::Null);
    ask().await.ok();
    let review = json!({"spec": {"token": token}});
    let review = world
        .post("/apis/authentication.k8s.io/v1/tokenreviews", &review)
        .await
        .ok();
    assert_eq!(
        review["status"]["user"]["username"],
        "system:serviceaccount:default:default"
    );
    assert_eq!(review["status"]["authenticated"], true);
    let keys = world.get("/openid/v1/jwks").await.ok();
    assert_eq!(keys["keys"][0]["crv"], "P-256");
    let foreign = json!({"spec": {"audiences": ["api://AzureADTokenExchange"]}});
    let foreign = world.post(path, &foreign).await.ok()["status"]["token"]
        .as_str()
        .unwrap()
        .to_owned();
    world
        .as_other(&foreign, Method::GET, "/api/v1/pods", &Value::Null)
        .await
        .refused(401);
    world
        .clock
        .advance_towards(world.clock.now() + Duration::from_secs(601));
    ask().await.refused(401);
}

#[tokio::test]
async fn a_client_certificate_names_its_user() {
    let world = World::new();
    let peer = Identity {
        name: "admin".to_owned(),
        uid: String::new(),
        groups: vec!["system:masters".to_owned()],
    };
    let request = Request::builder().uri("/api/v1/pods").body(Bytes::new()).unwrap();
    assert_eq!(world.server.answer(request, Some(peer)).await.status(), 200);
}
