//! Vaults: control plane and data.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::*;

const NOTHING: Value = Value::Null;

#[tokio::test]
async fn the_first_request_is_challenged_and_the_next_answered() {
    let scene = Scene::new(Pace::Fast);
    let target = "/certificates/my-tls-cert?api-version=2025-07-01";
    let challenged = scene.data("", "GET", "myAKSKeyVault", target, &NOTHING).await;
    assert_eq!(challenged.status, 401);
    let tenant = id_of("/tenants/contoso");
    let told = format!(
        "Bearer authorization=\"https://login.windows.net/{tenant}\", resource=\"https://vault.azure.net\""
    );
    assert_eq!(challenged.header("www-authenticate"), told);
    assert_eq!(challenged.body["error"]["code"], "Unauthorized");
    let bundle = scene
        .data("reader", "GET", "myAKSKeyVault", target, &NOTHING)
        .await;
    assert_eq!(bundle.status, 200, "{}", bundle.body);
    let der = STANDARD.decode(bundle.body["cer"].as_str().unwrap()).unwrap();
    assert_eq!(bundle.body["x5t"], super::super::certificates::x5t(&der));
    assert!(
        bundle.body["id"]
            .as_str()
            .unwrap()
            .starts_with("https://myakskeyvault.vault.azure.net/certificates/my-tls-cert/")
    );
    assert_eq!(bundle.body["policy"]["key_props"]["exportable"], true);
    let slash = scene
        .data(
            "reader",
            "GET",
            "myAKSKeyVault",
            "/certificates/my-tls-cert/?api-version=7.0",
            &NOTHING,
        )
        .await;
    assert_eq!(slash.body["id"], bundle.body["id"]);
    let wrong = scene
        .azure
        .core
        .directory
        .issue(&scene.oid("reader"), ARM_AUDIENCES[0], scene.now());
    let mut request = scene.request(
        "GET",
        target,
        &[("authorization", &format!("Bearer {wrong}"))],
        &NOTHING,
    );
    request
        .headers_mut()
        .insert("host", "myakskeyvault.vault.azure.net".parse().unwrap());
    let refused = read(scene.azure.answer_vault("myAKSKeyVault", request).await).await;
    assert_eq!(refused.status, 401);
    assert!(
        refused.body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("AKV10022")
    );
}

#[tokio::test]
async fn versions_carry_little_and_one_version_no_policy() {
    let scene = Scene::new(Pace::Fast);
    let list = scene
        .data(
            "reader",
            "GET",
            "myAKSKeyVault",
            "/certificates/my-tls-cert/versions?api-version=7.4",
            &NOTHING,
        )
        .await;
    let items = list.body["value"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!(items[0].get("cer"), None);
    assert_eq!(items[0]["attributes"].get("recoveryLevel"), None);
    let version = items[0]["id"]
        .as_str()
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned();
    let target = format!("/certificates/my-tls-cert/{version}?api-version=7.4");
    let one = scene
        .data("reader", "GET", "myAKSKeyVault", &target, &NOTHING)
        .await
        .body;
    assert_eq!((one.get("policy"), one.get("pending")), (None, None));
    let page = "/certificates/my-tls-cert/versions?api-version=7.4&maxresults=1";
    let first = scene
        .data("reader", "GET", "myAKSKeyVault", page, &NOTHING)
        .await
        .body;
    let next = first["nextLink"]
        .as_str()
        .unwrap()
        .replacen("https://myakskeyvault.vault.azure.net", "", 1);
    let second = scene
        .data("reader", "GET", "myAKSKeyVault", &next, &NOTHING)
        .await
        .body;
    assert_ne!(first["value"][0]["id"], second["value"][0]["id"]);
    assert_eq!(second["nextLink"], Value::Null);
}

#[tokio::test]
async fn secrets_are_pfx_or_pem_and_hold_a_key_only_if_it_may_leave() {
    let scene = Scene::new(Pace::Fast);
    let get = async |name: &str| {
        let target = format!("/secrets/{name}?api-version=7.4");
        scene
            .data("owner", "GET", "myAKSKeyVault", &target, &NOTHING)
            .await
    };
    let pfx = get("my-tls-cert").await;
    assert_eq!(pfx.body["contentType"], "application/x-pkcs12");
    let der = STANDARD.decode(pfx.body["value"].as_str().unwrap()).unwrap();
    let store =
        p12_keystore::KeyStore::from_pkcs12(&der, "", p12_keystore::Pkcs12ImportPolicy::Relaxed).unwrap();
    assert_eq!(store.private_key_chain().unwrap().1.certs().len(), 3);
    assert_eq!(
        get("my-tls-cert").await.body["value"],
        pfx.body["value"],
        "the same text each time"
    );
    let pem = get("in-pem").await;
    let text = pem.body["value"].as_str().unwrap();
    assert!(text.starts_with("-----BEGIN PRIVATE KEY-----"));
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 3);
    assert!(
        !get("no-key").await.body["value"]
            .as_str()
            .unwrap()
            .contains("PRIVATE")
    );
    let disabled = get("disabled").await;
    assert_eq!(
        (disabled.status, &disabled.body["error"]["innererror"]["code"]),
        (403, &json!("SecretDisabled"))
    );
    assert_eq!(get("absent").await.code(), "SecretNotFound");
    let markers = scene.azure.core.markers.all();
    assert!(markers.iter().any(|marker| text.contains(marker.as_str())));
}

#[tokio::test]
async fn each_model_and_each_wall_refuses_in_its_words() {
    let scene = Scene::new(Pace::Fast);
    let get = async |name: &str, vault: &str, target: &str| {
        let answer = scene
            .data(name, "GET", vault, &format!("{target}?api-version=7.4"), &NOTHING)
            .await;
        (
            answer.status,
            answer.body["error"]["innererror"]["code"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            answer,
        )
    };
    let (status, inner, answer) = get("reader", "myAKSKeyVault", "/secrets/my-tls-cert").await;
    assert_eq!((status, inner.as_str()), (403, "ForbiddenByRbac"));
    let message = answer.body["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("Action: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'"));
    assert!(message.contains("/providers/microsoft.keyvault/vaults/myakskeyvault/secrets/my-tls-cert'"));
    assert_eq!(get("reader", "old", "/certificates/c").await.0, 200);
    let (status, inner, _) = get("reader", "old", "/certificates").await;
    assert_eq!((status, inner.as_str()), (403, "AccessDenied"), "get is not list");
    assert_eq!(
        get("owner", "old", "/secrets/c").await.1,
        "AccessDenied",
        "roles do not count there"
    );
    let patch = |change: Value| {
        scene
            .azure
            .patch(&json!({"vaults": {"myAKSKeyVault": change}}))
            .unwrap()
    };
    patch(json!({"firewall": {"caller": true}}));
    assert_eq!(
        get("owner", "myAKSKeyVault", "/certificates").await.1,
        "ForbiddenByFirewall"
    );
    patch(json!({"firewall": null, "public_network": false}));
    assert_eq!(
        get("owner", "myAKSKeyVault", "/certificates").await.1,
        "ForbiddenByConnection"
    );
    patch(json!({"public_network": true, "throttle": true}));
    assert_eq!(get("owner", "myAKSKeyVault", "/certificates").await.0, 429);
    patch(json!({"throttle": null}));
    assert_eq!(get("owner", "myAKSKeyVault", "/certificates").await.0, 200);
}

#[tokio::test]
async fn a_certificate_is_created_renewed_deleted_and_recovered() {
    let scene = Scene::new(Pace::Real);
    let call = async |method: &str, target: &str, body: Value| {
        let target = format!("{target}?api-version=7.4");
        scene.data("owner", method, "myAKSKeyVault", &target, &body).await
    };
    let policy = json!({"policy": {"issuer": {"name": "Self"}, "key_props": {"kty": "EC", "crv": "P-256"},
        "x509_props": {"subject": "CN=new.example.com", "sans": {"dns_names": ["new.example.com"]}, "validity_months": 12}}});
    let begun = call("POST", "/certificates/new/create", policy).await;
    assert_eq!((begun.status, &begun.body["status"]), (202, &json!("inProgress")));
    assert!(
        begun
            .header("location")
            .contains("/certificates/new/pending?api-version=7.4&request_id=")
    );
    assert_eq!(call("GET", "/certificates/new", NOTHING).await.status, 404);
    scene.advance(5);
    let done = call("GET", "/certificates/new/pending", NOTHING).await.body;
    assert_eq!(
        done["target"],
        "https://myakskeyvault.vault.azure.net/certificates/new"
    );
    let first = call("GET", "/certificates/new", NOTHING).await.body;
    let renewed = scene
        .azure
        .renew("myakskeyvault", "NEW", &json!({"until": "+10d"}))
        .await
        .unwrap();
    let second = call("GET", "/certificates/new", NOTHING).await.body;
    assert_ne!(first["id"], second["id"]);
    let hash = URL_SAFE_NO_PAD.decode(second["x5t"].as_str().unwrap()).unwrap();
    let hex: String = hash.iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(renewed["thumbprint"], hex);
    assert_eq!(call("DELETE", "/certificates/new", NOTHING).await.status, 200);
    let gone = call("GET", "/certificates/new", NOTHING).await;
    assert_eq!((gone.status, gone.code()), (404, "CertificateNotFound"));
    assert_eq!(
        call("GET", "/deletedcertificates", NOTHING).await.body["value"],
        json!([]),
        "not listed yet"
    );
    let taken = call("POST", "/certificates/new/create", json!({})).await;
    assert_eq!(
        (taken.status, &taken.body["error"]["innererror"]["code"]),
        (409, &json!("ObjectIsDeletedButRecoverable"))
    );
    assert_eq!(
        call("POST", "/deletedcertificates/new/recover", NOTHING)
            .await
            .status,
        200
    );
    assert_eq!(
        call("GET", "/certificates/new", NOTHING).await.body["id"],
        second["id"]
    );
}

#[tokio::test]
async fn a_pem_is_imported() {
    let scene = Scene::new(Pace::Fast);
    let pem = scene
        .data(
            "owner",
            "GET",
            "myAKSKeyVault",
            "/secrets/in-pem?api-version=7.4",
            &NOTHING,
        )
        .await
        .body;
    let body =
        json!({"value": pem["value"], "policy": {"secret_props": {"contentType": "application/x-pem-file"}}});
    let imported = scene
        .data(
            "owner",
            "POST",
            "myAKSKeyVault",
            "/certificates/copy/import?api-version=7.4",
            &body,
        )
        .await;
    assert_eq!(imported.status, 200, "{}", imported.body);
    assert_eq!(imported.body.get("pending"), None);
    assert_eq!(
        imported.body["policy"]["x509_props"]["sans"]["dns_names"],
        json!(["myapp.example.com"])
    );
    let again = scene
        .data(
            "owner",
            "GET",
            "myAKSKeyVault",
            "/secrets/copy?api-version=7.4",
            &NOTHING,
        )
        .await
        .body;
    assert_eq!(again["value"], pem["value"]);
}

#[tokio::test]
async fn a_vault_is_created_with_the_model_of_its_api_version() {
    let scene = Scene::new(Pace::Real);
    let tenant = id_of("/tenants/contoso");
    let body = json!({"location": "eastus", "properties": {"tenantId": tenant, "sku": {"family": "A", "name": "standard"},
        "accessPolicies": [], "networkAcls": {"bypass": "AzureServices", "defaultAction": "Allow"}}});
    for (name, version, rbac) in [
        ("newVault", "2026-02-01", Some(&json!(true))),
        ("oldVault", "2022-07-01", None),
    ] {
        let target = format!(
            "{}?api-version={version}",
            scene.path(&format!("Microsoft.KeyVault/vaults/{name}"))
        );
        let made = scene.put("owner", &target, body.clone()).await;
        assert_eq!(made.status, 200, "{}", made.body);
        assert_eq!(made.body["properties"].get("enableRbacAuthorization"), rbac);
        assert_eq!(made.body["properties"]["provisioningState"], "RegisteringDns");
        assert_eq!(
            made.body["properties"]["vaultUri"],
            format!("https://{name}.vault.azure.net")
        );
        assert_eq!(made.body["properties"].get("networkAcls"), None);
        let soon = scene.get("owner", &target).await.body;
        assert_eq!(
            soon["properties"]["vaultUri"],
            format!("https://{}.vault.azure.net/", name.to_lowercase())
        );
        assert_eq!(soon["properties"]["provisioningState"], "RegisteringDns");
        scene.advance(37);
        assert_eq!(
            scene.get("owner", &target).await.body["properties"]["provisioningState"],
            "Succeeded"
        );
        let taken = scene
            .put("owner", &target.replace(name, "old"), body.clone())
            .await;
        assert_eq!(
            taken.status, 200,
            "a PUT on an existing vault of the same id updates it"
        );
        let deleted = scene.send("owner", "DELETE", &target, &[], &NOTHING).await;
        assert_eq!((deleted.status, &deleted.body), (200, &NOTHING));
        assert_eq!(scene.get("owner", &target).await.status, 404);
        let again = scene.put("owner", &target, body.clone()).await;
        assert_eq!((again.status, again.code()), (409, "ConflictError"));
        let gone = format!(
            "/subscriptions/{}/providers/Microsoft.KeyVault/locations/eastus/deletedVaults/{name}",
            id_of("/subscriptions/main")
        );
        assert_eq!(
            scene
                .get("owner", &format!("{gone}?api-version={version}"))
                .await
                .status,
            200
        );
        let purge = scene
            .send(
                "owner",
                "POST",
                &format!("{gone}/purge?api-version={version}"),
                &[],
                &NOTHING,
            )
            .await;
        assert_eq!((purge.status, purge.header("retry-after")), (202, "5"));
        let poll = purge
            .header("location")
            .replacen("https://management.azure.com", "", 1);
        assert_eq!(scene.get("owner", &poll).await.status, 202);
        scene.advance(37);
        assert_eq!(scene.get("owner", &poll).await.body["status"], "Succeeded");
        assert_eq!(scene.put("owner", &target, body.clone()).await.status, 200);
    }
}

#[tokio::test]
async fn two_writers_of_one_vault_are_one_too_many() {
    let scene = Scene::new(Pace::Fast);
    let target = format!(
        "{}/accessPolicies/add?api-version=2026-02-01",
        scene.path(VAULT).replace("myAKSKeyVault", "old")
    );
    let policy = |oid: &str| json!({"properties": {"accessPolicies": [{"tenantId": "t", "objectId": oid, "permissions": {"secrets": ["get"]}}]}});
    let (first, second) = tokio::join!(
        scene.put("owner", &target, policy("one")),
        scene.put("owner", &target, policy("two"))
    );
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    let loser = if first.status == 409 { first } else { second };
    assert_eq!(loser.code(), "ConflictError");
}
