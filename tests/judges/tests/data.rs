//! The Key Vault clients of today's SDK, by Azure's names and with its own check of the challenge.

use std::time::Duration;

use azure_core::error::ErrorKind;
use azure_core::http::poller::PollerOptions;
use azure_core::http::{RequestContent, StatusCode};
use azure_security_keyvault_certificates::models::CertificateClientCreateCertificateOptions;
use azure_security_keyvault_certificates::{CertificateClient, CertificateClientOptions, ResourceExt as _};
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};
use futures::TryStreamExt as _;
use judges::{World, client_options, secret_credential};
use serde_json::{Value, json};

const VAULT: &str = "https://myakskeyvault.vault.azure.net/";

async fn certificates(world: &World, principal: &str) -> CertificateClient {
    let options = CertificateClientOptions {
        client_options: client_options(world, "names").await,
        ..Default::default()
    };
    let credential = secret_credential(world, principal, "names").await;
    CertificateClient::new(VAULT, credential, Some(options)).unwrap()
}

async fn secrets(world: &World, principal: &str) -> SecretClient {
    let options = SecretClientOptions {
        client_options: client_options(world, "names").await,
        ..Default::default()
    };
    let credential = secret_credential(world, principal, "names").await;
    SecretClient::new(VAULT, credential, Some(options)).unwrap()
}

fn body<T>(value: &Value) -> RequestContent<T> {
    bytes::Bytes::from(value.to_string()).into()
}

/// Status and code of a refusal.
fn refusal(error: &azure_core::Error) -> (StatusCode, String) {
    match error.kind() {
        ErrorKind::HttpResponse {
            status, error_code, ..
        } => (*status, error_code.clone().unwrap_or_default()),
        other => panic!("{other:?}: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_security_keyvault_certificates() {
    let world = World::start("certificates").await;
    let client = certificates(&world, "deployer").await;
    let read = client
        .get_certificate("my-tls-cert", None)
        .await
        .unwrap()
        .into_model()
        .unwrap();
    assert!(read.cer.is_some() && read.policy.is_some());
    assert_eq!(read.resource_id().unwrap().name, "my-tls-cert");

    let policy_asked = json!({"policy": {"issuer": {"name": "Self"}, "key_props": {"kty": "EC", "crv": "P-256"},
        "x509_props": {"subject": "CN=judged.example.com", "sans": {"dns_names": ["judged.example.com"]}}}});
    let options = || CertificateClientCreateCertificateOptions {
        method_options: PollerOptions {
            frequency: azure_core::time::Duration::seconds(1),
            ..Default::default()
        },
    };
    let create = async || {
        let poller = client
            .begin_create_certificate("judged", body(&policy_asked), Some(options()))
            .unwrap();
        poller.await.unwrap().into_model().unwrap()
    };
    let first = create().await;
    create().await;
    let versions: Vec<_> = client
        .list_certificate_properties_versions("judged", None)
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(versions.len(), 2);
    assert!(versions.iter().all(|version| version.x509_thumbprint.is_some()));
    let all: Vec<_> = client
        .list_certificate_properties(None)
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert!(all.len() >= 7, "{}", all.len());
    let policy = client
        .get_certificate_policy("judged", None)
        .await
        .unwrap()
        .into_model()
        .unwrap();
    assert_eq!(policy.issuer_parameters.unwrap().name.as_deref(), Some("Self"));
    let version = first.resource_id().unwrap().version.unwrap();
    let update = json!({"attributes": {"enabled": false}, "tags": {"a": "b"}});
    let options =
        azure_security_keyvault_certificates::models::CertificateClientUpdateCertificatePropertiesOptions {
            certificate_version: Some(version),
            ..Default::default()
        };
    let updated = client
        .update_certificate_properties("judged", body(&update), Some(options))
        .await
        .unwrap()
        .into_model()
        .unwrap();
    assert_eq!(updated.attributes.unwrap().enabled, Some(false));

    let deleted = client
        .delete_certificate("judged", None)
        .await
        .unwrap()
        .into_model()
        .unwrap();
    assert!(deleted.deleted_date.is_some());
    let gone = client.get_certificate("judged", None).await.unwrap_err();
    assert_eq!(
        refusal(&gone),
        (StatusCode::NotFound, "CertificateNotFound".to_owned())
    );
    let taken = client
        .begin_create_certificate("judged", body(&policy_asked), None)
        .unwrap()
        .await
        .err()
        .unwrap();
    assert_eq!(refusal(&taken).0, StatusCode::Conflict);
    let lingering: Vec<_> = client
        .list_deleted_certificate_properties(None)
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(lingering.len(), 1);
    client.recover_deleted_certificate("judged", None).await.unwrap();
    client.get_certificate("judged", None).await.unwrap();
    client.delete_certificate("judged", None).await.unwrap();
    client.purge_deleted_certificate("judged", None).await.unwrap();
    let purged = client.get_deleted_certificate("judged", None).await.unwrap_err();
    assert_eq!(refusal(&purged).0, StatusCode::NotFound);

    // The SDK's own short code is lost where a message has line breaks, as Azure's has here; its long form is whole.
    let refused = secrets(&world, "owner")
        .await
        .get_secret("wildcard", None)
        .await
        .unwrap_err();
    assert_eq!(refusal(&refused).0, StatusCode::Forbidden);
    let detail = azure_core::error::ErrorResponse::try_from(refused)
        .unwrap()
        .error
        .unwrap();
    assert_eq!(detail.code.as_deref(), Some("Forbidden"));
    assert_eq!(
        detail.inner_error.unwrap().code.as_deref(),
        Some("ForbiddenByRbac")
    );

    let reader = certificates(&world, "reader").await;
    reader.get_certificate("my-tls-cert", None).await.unwrap();
    let refused = reader.delete_certificate("my-tls-cert", None).await.unwrap_err();
    assert_eq!(refusal(&refused).0, StatusCode::Forbidden);
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_security_keyvault_secrets() {
    let world = World::start("secrets").await;
    // The owner gives itself the right that reading values needs.
    let environment = world.environment("owner", "ports").await;
    let token = world
        .token("owner", "https://management.azure.com/.default")
        .await;
    let oid = claim(&token, "oid");
    let subscription = &environment["ARM_SUBSCRIPTION_ID"];
    let url = format!(
        "{}/subscriptions/{subscription}/resourceGroups/myResourceGroup/providers/Microsoft.KeyVault/vaults/myAKSKeyVault\
         /providers/Microsoft.Authorization/roleAssignments/7d2d3a5e-2c2b-4b58-9f1d-0f6f1d7f8a11?api-version=2022-04-01",
        world.front()
    );
    let role = format!(
        "/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/\
         b86a8fe4-44ce-4948-aee5-eccb2c155cd7"
    );
    let wanted = json!({"properties": {"roleDefinitionId": role, "principalId": oid, "principalType": "ServicePrincipal"}});
    let http = world.http("ports").await;
    let answer = http
        .put(url)
        .bearer_auth(token)
        .body(wanted.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 201);

    let client = secrets(&world, "owner").await;
    for (name, kind) in [
        ("wildcard", "application/x-pem-file"),
        ("my-tls-cert", "application/x-pkcs12"),
    ] {
        let secret = client.get_secret(name, None).await.unwrap().into_model().unwrap();
        assert_eq!(secret.content_type.as_deref(), Some(kind));
        assert_eq!(secret.managed, Some(true));
        assert!(secret.kid.is_some() && secret.value.is_some());
    }
    let all: Vec<_> = client
        .list_secret_properties(None)
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert!(all.len() >= 6 && all.iter().all(|secret| secret.managed == Some(true)));
    let missing = client.get_secret("no-such", None).await.unwrap_err();
    assert_eq!(
        refusal(&missing),
        (StatusCode::NotFound, "SecretNotFound".to_owned())
    );
    let disabled = client.get_secret("disabled", None).await.unwrap_err();
    assert_eq!(refusal(&disabled).0, StatusCode::Forbidden);
    tokio::time::timeout(Duration::from_secs(30), async {
        // The SDK asks for a token where the challenge says, and only for the vault's own domain.
        secrets(&world, "stranger")
            .await
            .get_secret("wildcard", None)
            .await
            .unwrap_err()
    })
    .await
    .unwrap();
}

/// A claim of a token, unverified.
fn claim(token: &str, name: &str) -> String {
    let part = token.split('.').nth(1).unwrap();
    let bytes = azure_core::base64::decode_url_safe(part).unwrap();
    let claims: Value = serde_json::from_slice(&bytes).unwrap();
    claims[name].as_str().unwrap().to_owned()
}
