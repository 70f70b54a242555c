//! The front-end, and a cluster's life.

use super::*;
use crate::sandbox::core::StagedOutcome;

fn enable(key: &str) -> Value {
    json!({"location": "eastus", "properties": {"addonProfiles": {key: {
        "enabled": true, "config": {"enableSecretRotation": "true", "rotationPollInterval": "2m"}}}}})
}

fn addon(body: &Value) -> Value {
    body["properties"]["addonProfiles"]["azureKeyvaultSecretsProvider"].clone()
}

#[tokio::test]
async fn the_addon_is_enabled_rotated_disabled_and_comes_back_with_another_identity() {
    let scene = Scene::new(Pace::Real);
    let before = scene.get("owner", &scene.cluster()).await;
    assert_eq!(before.status, 200);
    let mut body = before.body.clone();
    body["properties"]["addonProfiles"] =
        enable("azureKeyvaultSecretsProvider")["properties"]["addonProfiles"].clone();
    let put = scene.put("owner", &scene.cluster(), body.clone()).await;
    assert_eq!(put.status, 200, "{}", put.body);
    assert_eq!(put.body["properties"]["provisioningState"], "Updating");
    assert_eq!(put.body["eTag"], before.body["eTag"]);
    assert_eq!(put.header("x-ms-retry-after-ms"), "");
    assert_eq!(addon(&put.body).get("identity"), None);
    let target = put
        .header("azure-asyncoperation")
        .strip_prefix("https://management.azure.com")
        .unwrap()
        .to_owned();
    assert!(target.len() > 3500);
    let running = scene.get("stranger", &target).await;
    assert_eq!(
        (running.status, &running.body["status"]),
        (200, &json!("InProgress"))
    );
    scene.advance(121);
    let ended = scene.get("owner", &target).await;
    assert_eq!(ended.body["status"], "Succeeded");
    let altered = scene.get("owner", &target.replace("&h=", "&H=")).await;
    assert_eq!(altered.status, 403);

    let after = scene.get("owner", &scene.cluster()).await;
    let first = addon(&after.body)["identity"].clone();
    assert!(
        first["resourceId"]
            .as_str()
            .unwrap()
            .contains("/resourcegroups/MC_myResourceGroup_myAKSCluster_eastus/")
    );
    assert_ne!(after.body["eTag"], before.body["eTag"]);

    let mut rotated = after.body.clone();
    rotated["properties"]["addonProfiles"]["azureKeyvaultSecretsProvider"]["config"]["rotationPollInterval"] =
        json!("1h");
    let put = scene.put("owner", &scene.cluster(), rotated).await;
    assert_eq!(
        addon(&put.body).get("identity"),
        None,
        "hidden while something is going on"
    );
    scene.advance(105);
    assert_eq!(
        addon(&scene.get("owner", &scene.cluster()).await.body)["identity"],
        first
    );

    let off = json!({"properties": {"addonProfiles": {"azurekeyvaultsecretsprovider": {"enabled": false}}}});
    scene.put("owner", &scene.cluster(), off).await;
    scene.advance(108);
    let disabled = scene.get("owner", &scene.cluster()).await;
    assert_eq!(addon(&disabled.body), json!({"enabled": false, "config": null}));
    let gone = first["objectId"].as_str().unwrap();
    assert_eq!(
        scene
            .azure
            .core
            .directory
            .principal_by_oid(gone)
            .map(|one| one.name),
        None
    );

    scene
        .put("owner", &scene.cluster(), enable("azureKeyvaultSecretsProvider"))
        .await;
    scene.advance(121);
    let again = addon(&scene.get("owner", &scene.cluster()).await.body)["identity"].clone();
    assert_ne!(again["objectId"], first["objectId"]);
}

#[tokio::test]
async fn extra_members_stay_while_they_are_sent_back() {
    let scene = Scene::new(Pace::Fast);
    let before = scene.get("owner", &scene.cluster()).await.body;
    assert_eq!(before["properties"]["futureProfile"]["mode"], "On");
    let put = scene.put("owner", &scene.cluster(), before.clone()).await;
    assert_eq!(put.header("x-ms-retry-after-ms"), "50");
    scene.advance(3);
    let kept = scene.get("owner", &scene.cluster()).await.body;
    assert_eq!(
        kept["properties"],
        before["properties"].clone().tap(|p| retagged(p, &kept))
    );
    scene
        .put(
            "owner",
            &scene.cluster(),
            json!({"location": "eastus", "properties": {}}),
        )
        .await;
    scene.advance(3);
    let lost = scene.get("owner", &scene.cluster()).await.body;
    assert_eq!(lost["properties"].get("futureProfile"), None);
    assert_eq!(lost["properties"]["dnsPrefix"], before["properties"]["dnsPrefix"]);
}

/// Pool tags change with every operation.
fn retagged(properties: &mut Value, now: &Value) {
    properties["agentPoolProfiles"][0]["eTag"] = now["properties"]["agentPoolProfiles"][0]["eTag"].clone();
}

trait Tap: Sized {
    fn tap(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}
impl Tap for Value {}

#[tokio::test]
async fn a_put_during_an_operation_gets_a_flat_409() {
    let scene = Scene::new(Pace::Real);
    scene
        .put("owner", &scene.cluster(), enable("azureKeyvaultSecretsProvider"))
        .await;
    let second = scene
        .put("owner", &scene.cluster(), enable("azureKeyvaultSecretsProvider"))
        .await;
    assert_eq!(second.status, 409);
    assert_eq!(second.body["code"], "OperationNotAllowed");
    assert!(
        second.body["message"]
            .as_str()
            .unwrap()
            .contains("Another operation (Updating) is in progress")
    );
    assert_eq!(second.header("content-type"), "application/json");
    scene.advance(121);
    assert_eq!(
        scene
            .put("owner", &scene.cluster(), enable("azureKeyvaultSecretsProvider"))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn tags_decide_on_writes() {
    let scene = Scene::new(Pace::Fast);
    let tag = scene.get("owner", &scene.cluster()).await.body["eTag"]
        .as_str()
        .unwrap()
        .to_owned();
    let absent = scene.cluster().replace("myAKSCluster", "absent");
    let body = json!({"location": "eastus", "properties": {}});
    for (method, target, header, value, status) in [
        (
            "PUT",
            scene.cluster(),
            "if-match",
            "00000000-0000-0000-0000-000000000000",
            412,
        ),
        ("PUT", scene.cluster(), "if-none-match", "*", 412),
        ("PUT", scene.cluster(), "if-none-match", "x", 400),
        ("PUT", absent.clone(), "if-match", "*", 412),
        ("PATCH", absent.clone(), "if-match", "*", 404),
        ("DELETE", absent, "if-match", "*", 204),
        ("PUT", scene.cluster(), "if-match", tag.as_str(), 200),
    ] {
        let answer = scene
            .send("owner", method, &target, &[(header, value)], &body)
            .await;
        assert_eq!(
            answer.status, status,
            "{method} {header}: {value}: {}",
            answer.body
        );
    }
    scene.advance(3);
    let stale = scene
        .send("owner", "PUT", &scene.cluster(), &[("if-match", &tag)], &body)
        .await;
    assert_eq!((stale.status, stale.code()), (412, "PreconditionFailed"));
}

#[tokio::test]
async fn operations_end_as_faults_say() {
    let scene = Scene::new(Pace::Fast);
    for (outcome, status, state, enabled) in [
        ("Failed", "Failed", "Failed", false),
        ("NotLatestOperation", "Succeeded", "Succeeded", true),
    ] {
        let mut request = scene.request(
            "PUT",
            &scene.cluster(),
            &[],
            &enable("azureKeyvaultSecretsProvider"),
        );
        request.extensions_mut().insert(StagedOutcome {
            status: outcome.to_owned(),
            error: None,
        });
        let put = read(scene.azure.answer_arm(request, Ok(scene.caller("owner"))).await).await;
        assert_eq!(put.status, 200, "{}", put.body);
        let target = put
            .header("azure-asyncoperation")
            .replacen("https://management.azure.com", "", 1);
        scene.advance(3);
        let ended = scene.get("owner", &target).await.body;
        assert_eq!(ended["status"], status);
        assert!(ended["error"]["code"].is_string());
        let cluster = scene.get("owner", &scene.cluster()).await.body;
        assert_eq!(cluster["properties"]["provisioningState"], state);
        assert_eq!(addon(&cluster).get("identity").is_some(), enabled);
    }
}

#[tokio::test]
async fn stopped_and_busy_clusters_take_no_change() {
    let scene = Scene::new(Pace::Fast);
    let patch = |change: Value| {
        scene
            .azure
            .patch(&json!({"clusters": {"myAKSCluster": change}}))
            .unwrap()
    };
    patch(json!({"state": "RotatingServiceAccountSigningKeysInternal"}));
    let busy = scene
        .put("owner", &scene.cluster(), enable("azureKeyvaultSecretsProvider"))
        .await;
    assert_eq!((busy.status, busy.code()), (409, "OperationNotAllowed"));
    patch(json!({"state": "Succeeded", "power": "Stopped"}));
    let stopped = scene
        .put("owner", &scene.cluster(), enable("azureKeyvaultSecretsProvider"))
        .await;
    assert_eq!(stopped.status, 400);
    patch(json!({"state": "Failed", "power": "Running"}));
    let failed = scene
        .put("owner", &scene.cluster(), enable("azureKeyvaultSecretsProvider"))
        .await;
    assert_eq!(failed.status, 200, "{}", failed.body);
}

#[tokio::test]
async fn a_cluster_is_made_and_deleted() {
    let scene = Scene::new(Pace::Fast);
    let target = scene.cluster().replace("myAKSCluster", "fresh");
    let body = json!({"location": "East US", "properties": {"dnsPrefix": "fresh", "addonProfiles": {}},
                      "identity": {"type": "SystemAssigned"}});
    let made = scene.put("owner", &target, body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(made.body["properties"]["provisioningState"], "Creating");
    assert_eq!(made.body.get("eTag"), None);
    assert_eq!(made.body["properties"].get("addonProfiles"), None);
    scene.advance(3);
    let ready = scene.get("owner", &target).await;
    assert_eq!(ready.body["properties"]["provisioningState"], "Succeeded");
    assert!(ready.body["eTag"].is_string());
    let deleted = scene.send("owner", "DELETE", &target, &[], &Value::Null).await;
    assert_eq!(deleted.status, 202);
    assert!(deleted.header("location").contains("/operationresults/"));
    scene.advance(3);
    assert_eq!(scene.get("owner", &target).await.status, 404);
    let polled = deleted
        .header("azure-asyncoperation")
        .replacen("https://management.azure.com", "", 1);
    assert_eq!(scene.get("owner", &polled).await.body["status"], "Succeeded");
}

#[tokio::test]
async fn the_front_end_refuses_as_arm_does() {
    let scene = Scene::new(Pace::Fast);
    let subscription = id_of("/subscriptions/main");
    let cluster = scene.cluster();
    for (name, target, status, code, gateway) in [
        ("", cluster.clone(), 401, "AuthenticationFailed", true),
        (
            "owner",
            cluster.replace("myAKSCluster", "x"),
            404,
            "ResourceNotFound",
            true,
        ),
        (
            "owner",
            cluster.replace("myResourceGroup", "x"),
            404,
            "ResourceGroupNotFound",
            true,
        ),
        (
            "owner",
            cluster.replace(&subscription, "x"),
            404,
            "SubscriptionNotFound",
            true,
        ),
        (
            "owner",
            cluster.replace("2026-04-01", "2023-01-01"),
            400,
            "NoRegisteredProviderFound",
            true,
        ),
        (
            "owner",
            cluster.replace("?api-version=2026-04-01", ""),
            400,
            "MissingApiVersionParameter",
            true,
        ),
        (
            "owner",
            scene.path("Microsoft.Web/sites/x?api-version=1"),
            501,
            "SandboxNotImplemented",
            true,
        ),
        ("stranger", cluster, 403, "AuthorizationFailed", true),
    ] {
        let answer = scene.get(name, &target).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{target}");
        assert_eq!(
            answer.header("x-ms-failure-cause") == "gateway",
            gateway,
            "{target}"
        );
        assert!(!answer.header("x-ms-request-id").is_empty());
    }
    let headers = [
        ("x-ms-correlation-request-id", "c"),
        ("x-ms-client-request-id", "q"),
        ("x-ms-return-client-request-id", "true"),
    ];
    let answer = scene
        .send("owner", "GET", &scene.cluster(), &headers, &Value::Null)
        .await;
    assert_eq!(
        (
            answer.header("x-ms-correlation-request-id"),
            answer.header("x-ms-client-request-id")
        ),
        ("c", "q")
    );
    let upper = scene
        .cluster()
        .replace("resourceGroups", "RESOURCEGROUPS")
        .replace("managedClusters", "MANAGEDCLUSTERS");
    assert_eq!(scene.get("owner", &upper).await.status, 200);
}

#[tokio::test]
async fn locks_policies_and_linked_scopes_stand_in_the_way() {
    let mut world = world();
    let workspace =
        "/subscriptions/other/resourceGroups/x/providers/Microsoft.OperationalInsights/workspaces/w";
    world["clusters"]["myAKSCluster"]["linked"] = json!([workspace]);
    let scene = Scene::of(&world, Pace::Fast);
    let body = enable("azureKeyvaultSecretsProvider");
    let linked = scene.put("owner", &scene.cluster(), body.clone()).await;
    assert_eq!((linked.status, linked.code()), (403, "LinkedAuthorizationFailed"));
    let group = |change: Value| {
        scene
            .azure
            .patch(&json!({"resource_groups": {"myResourceGroup": change}}))
            .unwrap()
    };
    group(json!({"lock": "ReadOnly"}));
    let locked = scene.put("owner", &scene.cluster(), body.clone()).await;
    assert_eq!((locked.status, locked.code()), (409, "ScopeLocked"));
    group(json!({"lock": null, "policy_deny": "no-changes"}));
    let denied = scene.put("owner", &scene.cluster(), body).await;
    assert_eq!((denied.status, denied.code()), (403, "RequestDisallowedByPolicy"));
    assert_eq!(
        denied.body["error"]["additionalInfo"][0]["type"],
        "PolicyViolation"
    );
}

#[tokio::test]
async fn nodes_get_tokens_for_their_own_identities_only() {
    let scene = Scene::new(Pace::Fast);
    let ask = async |query: &str, metadata: bool| {
        let target = format!("/metadata/identity/oauth2/token?api-version=2018-02-01{query}");
        let headers: &[(&str, &str)] = if metadata { &[("metadata", "true")] } else { &[] };
        let request = scene.request("GET", &target, headers, &Value::Null);
        read(scene.azure.answer_identity("myAKSCluster", request).await).await
    };
    let resource = "&resource=https%3A%2F%2Fvault.azure.net";
    assert_eq!(ask(resource, false).await.status, 400);
    assert_eq!(
        ask(resource, true).await.status,
        200,
        "the kubelet's is the only one"
    );
    scene
        .put("owner", &scene.cluster(), enable("azureKeyvaultSecretsProvider"))
        .await;
    scene.advance(3);
    let client = addon(&scene.get("owner", &scene.cluster()).await.body)["identity"]["clientId"].clone();
    let both = ask(resource, true).await;
    assert!(
        both.body["error_description"]
            .as_str()
            .unwrap()
            .starts_with("Multiple user assigned identities exist")
    );
    let token = ask(
        &format!("{resource}&client_id={}", client.as_str().unwrap()),
        true,
    )
    .await;
    assert_eq!(token.body["client_id"], client);
    assert_eq!(token.body["resource"], "https://vault.azure.net");
    let foreign = ask(&format!("{resource}&client_id={}", scene.oid("owner")), true).await;
    assert_eq!(foreign.body["error_description"], "Identity not found");
}
