//! A vault's data over the wire: challenge, certificate, secret, and the role that opens it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::json;

use super::arm::Somebody;
use super::client::{control, proxied, read, token, world};

const VAULT: &str = "https://myakskeyvault.vault.azure.net";

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_a_certificate_and_after_a_role_its_secret() {
    let world = world().await;
    let client = proxied(&world);
    let url = format!("{VAULT}/certificates/my-tls-cert?api-version=2025-07-01");
    let challenged = client.get(&url).send().await.unwrap();
    assert_eq!(challenged.status(), 401);
    let told = challenged.headers()["www-authenticate"].to_str().unwrap();
    assert!(told.contains("resource=\"https://vault.azure.net\""), "{told}");
    let (_, answer) = token(&world, "reader", "https://vault.azure.net/.default").await;
    let token = answer["access_token"].as_str().unwrap().to_owned();
    let get = async |url: String| read(client.get(url).bearer_auth(&token).send().await.unwrap()).await;
    let (status, bundle) = get(url).await;
    assert_eq!(status, 200, "{bundle}");

    let secret = format!("{VAULT}/secrets/my-tls-cert?api-version=7.4");
    let (status, refused) = get(secret.clone()).await;
    assert_eq!(
        (status, &refused["error"]["innererror"]["code"]),
        (403, &json!("ForbiddenByRbac"))
    );
    let message = refused["error"]["message"].as_str().unwrap();
    let oid = message.split("oid=").nth(1).unwrap().split(';').next().unwrap();

    let owner = Somebody::named(&world, "owner").await;
    let assignment = owner.path(
        "Microsoft.KeyVault/vaults/myAKSKeyVault/providers/Microsoft.Authorization/roleAssignments/\
         8c1e5a4e-3a1f-5d59-9f0e-2a7c6f1f4b01?api-version=2022-04-01",
    );
    let role = "/providers/Microsoft.Authorization/roleDefinitions/4633458b-17de-408a-b874-0445c86b69e6";
    let body = json!({"properties": {"roleDefinitionId": role, "principalId": oid, "principalType": "ServicePrincipal"}});
    let (status, made) = owner.call(Method::PUT, &assignment, Some(body)).await;
    assert_eq!(status, 201, "{made}");
    let (status, pfx) = get(secret).await;
    assert_eq!(status, 200, "{pfx}");
    assert_eq!(pfx["contentType"], "application/x-pkcs12");
    let der = STANDARD.decode(pfx["value"].as_str().unwrap()).unwrap();
    let store =
        p12_keystore::KeyStore::from_pkcs12(&der, "", p12_keystore::Pkcs12ImportPolicy::Relaxed).unwrap();
    let (_, chain) = store.private_key_chain().unwrap();
    assert_eq!(chain.certs().len(), 3);
    assert_eq!(
        STANDARD.encode(chain.certs()[0].as_der()),
        bundle["cer"].as_str().unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_another_version() {
    let world = world().await;
    let path = "/vaults/myAKSKeyVault/certificates/my-tls-cert/renew";
    let (status, renewed) = control(&world, "POST", path, Some(json!({"until": "+30d"}))).await;
    assert_eq!(status, 200, "{renewed}");
    let (_, shown) = control(
        &world,
        "GET",
        "/world?pointer=/vaults/myAKSKeyVault/certificates/my-tls-cert",
        None,
    )
    .await;
    let versions = shown.as_array().unwrap();
    assert_eq!(versions.len(), 2);
    assert_eq!(versions[1]["version"], renewed["version"]);
    assert_eq!(versions[1]["thumbprint"], renewed["thumbprint"]);
}
