//! Who may do what, and role assignments.

use super::*;

const SECRETS_USER: &str = "4633458b-17de-408a-b874-0445c86b69e6";
const CERTIFICATE_USER: &str = "db79e9a7-68ee-4b58-9aeb-b90e7c24fcba";
const NAME: &str = "11111111-2222-3333-4444-555555555555";

fn target(scene: &Scene, name: &str) -> String {
    let vault = scene.path(VAULT);
    format!("{vault}/providers/Microsoft.Authorization/roleAssignments/{name}?api-version=2022-04-01")
}

fn body(role: &str, principal: &str) -> Value {
    let id = format!("/providers/Microsoft.Authorization/roleDefinitions/{role}");
    json!({"properties": {"roleDefinitionId": id, "principalId": principal, "principalType": "ServicePrincipal",
                          "description": "ours"}})
}

#[tokio::test]
async fn rights_decide_who_may_do_what() {
    let scene = Scene::new(Pace::Fast);
    let vault = format!("{}?api-version=2026-02-01", scene.path(VAULT));
    let credential = scene.cluster().replace("?", "/listClusterUserCredential?");
    let list = target(&scene, "");
    let list = list.replace("roleAssignments/?", "roleAssignments?");
    let put = json!({"location": "eastus", "properties": {}});
    // A credential needs a running cluster: 503 says that the right was there.
    for (name, method, target, status) in [
        ("reader", "GET", scene.cluster(), 200),
        ("reader", "PUT", scene.cluster(), 403),
        ("reader", "POST", credential.clone(), 403),
        ("reader", "GET", vault.clone(), 200),
        ("reader", "PATCH", vault.clone(), 403),
        ("reader", "GET", list.clone(), 200),
        ("member", "GET", scene.cluster(), 200),
        ("member", "PUT", scene.cluster(), 403),
        ("custom", "GET", scene.cluster(), 200),
        ("custom", "PUT", scene.cluster(), 200),
        ("custom", "GET", vault.clone(), 403),
        ("contributor", "POST", credential.clone(), 503),
        ("contributor", "GET", vault.clone(), 200),
        ("owner", "POST", credential, 503),
        ("stranger", "GET", vault, 403),
        ("stranger", "GET", list, 403),
    ] {
        scene.advance(3);
        let answer = scene.send(name, method, &target, &[], &put).await;
        assert_eq!(answer.status, status, "{name} {method} {target}: {}", answer.body);
    }
    for (name, role, status) in [
        ("contributor", SECRETS_USER, 403),
        ("granter", CERTIFICATE_USER, 403),
        ("granter", SECRETS_USER, 201),
    ] {
        let answer = scene
            .put(name, &target(&scene, NAME), body(role, &scene.oid("stranger")))
            .await;
        assert_eq!(answer.status, status, "{name} {role}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_refusal_names_principal_action_and_scope() {
    let scene = Scene::new(Pace::Fast);
    let answer = scene
        .put(
            "reader",
            &target(&scene, NAME),
            body(SECRETS_USER, &scene.oid("stranger")),
        )
        .await;
    let message = answer.body["error"]["message"].as_str().unwrap();
    assert!(message.contains(&scene.oid("reader")));
    assert!(message.contains("'Microsoft.Authorization/roleAssignments/write'"));
    assert!(message.contains(&format!(
        "{}/providers/Microsoft.Authorization/roleAssignments/{NAME}",
        scene.path(VAULT)
    )));
}

#[tokio::test]
async fn an_assignment_is_made_once_found_and_taken_away() {
    let scene = Scene::new(Pace::Fast);
    let stranger = scene.oid("stranger");
    let made = scene
        .put("owner", &target(&scene, NAME), body(SECRETS_USER, &stranger))
        .await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(made.body["properties"]["createdBy"], Value::Null);
    assert_eq!(made.body["properties"]["description"], "ours");
    let again = scene
        .put("owner", &target(&scene, NAME), body(SECRETS_USER, &stranger))
        .await;
    assert_eq!(again.status, 200);
    let other = "22222222-2222-3333-4444-555555555555";
    let twin = scene
        .put("owner", &target(&scene, other), body(SECRETS_USER, &stranger))
        .await;
    assert_eq!((twin.status, twin.code()), (409, "RoleAssignmentExists"));
    let reused = scene
        .put(
            "owner",
            &target(&scene, NAME),
            body(SECRETS_USER, &scene.oid("reader")),
        )
        .await;
    assert_eq!(
        (reused.status, reused.code()),
        (400, "RoleAssignmentUpdateNotPermitted")
    );
    let elsewhere = target(&scene, NAME).replace(VAULT, AKS);
    let taken = scene
        .put("owner", &elsewhere, body(SECRETS_USER, &stranger))
        .await;
    assert_eq!(taken.status, 409);
    let list = target(&scene, "").replace("roleAssignments/?", "roleAssignments?");
    let own = scene
        .get(
            "owner",
            &format!("{list}&$filter=principalId%20eq%20%27{stranger}%27"),
        )
        .await;
    assert_eq!(own.body["value"].as_array().unwrap().len(), 1);
    let at_scope = scene.get("owner", &format!("{list}&$filter=atScope()")).await;
    assert!(
        at_scope.body["value"].as_array().unwrap().len() > 3,
        "inherited ones too"
    );
    let member = scene.oid("member");
    let assigned = scene
        .get("owner", &format!("{list}&$filter=assignedTo(%27{member}%27)"))
        .await;
    assert_eq!(assigned.body["value"][0]["properties"]["principalType"], "Group");
    let deleted = scene
        .send("owner", "DELETE", &target(&scene, NAME), &[], &Value::Null)
        .await;
    assert_eq!((deleted.status, &deleted.body["name"]), (200, &json!(NAME)));
    let nothing = scene
        .send("owner", "DELETE", &target(&scene, NAME), &[], &Value::Null)
        .await;
    assert_eq!((nothing.status, &nothing.body), (204, &Value::Null));
    let missing = scene.get("owner", &target(&scene, NAME)).await;
    assert_eq!((missing.status, missing.code()), (404, "RoleAssignmentNotFound"));
}

#[tokio::test]
async fn young_principals_are_not_found_without_their_type() {
    let scene = Scene::new(Pace::Fast);
    let tenant = scene.caller("owner").tenant;
    let young = scene.azure.core.directory.add_managed_identity("young", &tenant);
    let mut asked = body(SECRETS_USER, &young.object_id);
    asked["properties"]
        .as_object_mut()
        .unwrap()
        .remove("principalType");
    let refused = scene.put("owner", &target(&scene, NAME), asked.clone()).await;
    assert_eq!((refused.status, refused.code()), (400, "PrincipalNotFound"));
    assert!(
        refused.body["error"]["message"]
            .as_str()
            .unwrap()
            .contains(&young.object_id.replace('-', ""))
    );
    scene.advance(121);
    let made = scene.put("owner", &target(&scene, NAME), asked).await;
    assert_eq!(
        (made.status, &made.body["properties"]["principalType"]),
        (201, &json!("ServicePrincipal"))
    );
}

#[tokio::test]
async fn grants_take_effect_late_in_both_directions() {
    let scene = Scene::new(Pace::Real);
    let read = async || {
        scene
            .data(
                "stranger",
                "GET",
                "myAKSKeyVault",
                "/secrets/in-pem?api-version=7.4",
                &Value::Null,
            )
            .await
    };
    scene
        .put(
            "owner",
            &target(&scene, NAME),
            body(SECRETS_USER, &scene.oid("stranger")),
        )
        .await;
    assert_eq!(read().await.status, 403);
    scene.advance(181);
    assert_eq!(read().await.status, 200);
    scene
        .send("owner", "DELETE", &target(&scene, NAME), &[], &Value::Null)
        .await;
    assert_eq!(read().await.status, 200);
    scene.advance(181);
    assert_eq!(read().await.status, 403);
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let scene = Scene::new(Pace::Fast);
    for index in 0..60 {
        let name = format!("00000000-0000-0000-0000-{index:012}");
        let principal = format!("10000000-0000-0000-0000-{index:012}");
        assert_eq!(
            scene
                .put("owner", &target(&scene, &name), body(SECRETS_USER, &principal))
                .await
                .status,
            201
        );
    }
    let mut next = target(&scene, "").replace("roleAssignments/?", "roleAssignments?");
    let (mut pages, mut seen) = (0, std::collections::BTreeSet::new());
    while !next.is_empty() {
        let page = scene.get("owner", &next).await.body;
        seen.extend(
            page["value"]
                .as_array()
                .unwrap()
                .iter()
                .map(|each| each["id"].to_string()),
        );
        pages += 1;
        next = page["nextLink"]
            .as_str()
            .unwrap_or_default()
            .replacen("https://management.azure.com", "", 1);
    }
    assert_eq!(pages, 2);
    assert!(seen.len() >= 60);
}

#[tokio::test]
async fn definitions_are_found_by_name_and_id() {
    let scene = Scene::new(Pace::Fast);
    let base = format!(
        "{}/providers/Microsoft.Authorization/roleDefinitions",
        scene.path(VAULT)
    );
    let query = "api-version=2022-04-01&$filter=roleName%20eq%20%27Key%20Vault%20Secrets%20User%27";
    let found = scene.get("owner", &format!("{base}?{query}")).await;
    assert_eq!(found.body["value"][0]["name"], SECRETS_USER);
    let one = scene
        .get("owner", &format!("{base}/{SECRETS_USER}?api-version=2022-04-01"))
        .await;
    assert_eq!(one.body["properties"]["roleName"], "Key Vault Secrets User");
    let none = scene
        .get("owner", &format!("{base}/{NAME}?api-version=2022-04-01"))
        .await;
    assert_eq!((none.status, none.code()), (404, "RoleDefinitionDoesNotExist"));
}
