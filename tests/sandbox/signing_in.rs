//! Each way to sign in, judged by the official client of Entra and of the identity endpoints: what it sends is
//! understood, what it reads is there, and what is wrong is refused in words that it passes on.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use azure_core::cloud::CustomConfiguration;
use azure_core::credentials::{AccessToken, TokenCredential};
use azure_core::http::{ClientMethodOptions, ClientOptions, RetryOptions, Transport};
use azure_identity::{
    AzurePipelinesCredential, AzurePipelinesCredentialOptions, ClientAssertion, ClientAssertionCredential,
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kvtls::sandbox::{Mode, Options, Sandbox};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::client::{control, direct, front, read, world_with};

const ARM: &str = "https://management.azure.com/.default";
/// Tells a test that another one runs it, with variables of its own.
const CHILD: &str = "KVTLS_TEST_CHILD";

/// How the client passes on that a machine does not have the identity.
const NOT_ASSIGNED: &str = "The requested identity has not been assigned to this resource";

/// A world with a principal of each kind.
async fn world() -> Sandbox {
    let at = json!([{ "role": "Reader", "scope": "/subscriptions/main" }]);
    let principal = |kind: &str| json!({"type": kind, "assignments": at});
    world_with(Options {
        world: json!({"version": 1, "extends": "default", "principals": {
            "certified": {"type": "app", "certificate": true, "assignments": at},
            "job": principal("github"), "pipeline": principal("pipelines"), "pod": principal("workload"),
            "machine": principal("managed"),
        }}),
        ..Options::default()
    })
    .await
}

/// Options whose transport reaches the world and whose authority is its own.
fn options(authority: &str, client: reqwest::Client) -> ClientOptions {
    let mut cloud = CustomConfiguration::default();
    authority.clone_into(&mut cloud.authority_host);
    ClientOptions {
        transport: Some(Transport::new(Arc::new(client))),
        cloud: Some(Arc::new(cloud.into())),
        retry: RetryOptions::none(),
        ..ClientOptions::default()
    }
}

fn to(world: &Sandbox) -> ClientOptions {
    options(&front(world), direct(world))
}

/// What a token says.
fn claims(token: &AccessToken) -> Value {
    let part = token.token.secret().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// The token is the principal's, and Resource Manager takes it.
async fn is_good(world: &Sandbox, principal: &str, credential: &dyn TokenCredential) {
    let token = credential.get_token(&[ARM], None).await.unwrap();
    let environment = world.environment(principal, Mode::Ports);
    let claims = claims(&token);
    assert_eq!(claims["appid"], environment["ARM_CLIENT_ID"], "{principal}");
    assert!(
        token.expires_on > OffsetDateTime::now_utc() + Duration::minutes(50),
        "{principal}: {}",
        token.expires_on
    );
    let url = format!("{}/subscriptions?api-version=2022-12-01", front(world));
    let request = direct(world).get(url).bearer_auth(token.token.secret());
    let (status, list) = read(request.send().await.unwrap()).await;
    assert_eq!(status, 200, "{principal}: {list}");
}

/// Entra refuses with this number, and the client passes its words on.
async fn is_refused(number: u32, credential: &dyn TokenCredential) {
    let error = credential.get_token(&[ARM], None).await.unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains(&format!("AADSTS{number}:")), "{number}: {text}");
}

fn secret(world: &Sandbox, tenant: &str, client: &str, secret: &str) -> Arc<ClientSecretCredential> {
    let options = ClientSecretCredentialOptions {
        client_options: to(world),
    };
    ClientSecretCredential::new(tenant, client.to_owned(), secret.to_owned().into(), Some(options)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_secret() {
    let world = world().await;
    let environment = world.environment("deployer", Mode::Ports);
    let [tenant, client, good] =
        ["ARM_TENANT_ID", "ARM_CLIENT_ID", "ARM_CLIENT_SECRET"].map(|name| environment[name].as_str());
    is_good(&world, "deployer", &*secret(&world, tenant, client, good)).await;
    let nobody = "11111111-2222-3333-4444-555555555555";
    is_refused(7_000_215, &*secret(&world, tenant, client, "wrong")).await;
    is_refused(700_016, &*secret(&world, tenant, nobody, good)).await;
    is_refused(90_002, &*secret(&world, nobody, client, good)).await;
    // Expired, as a fault: secrets of this world do not.
    let fault = json!({"match": {"plane": "login"}, "times": 1, "do": {"named": "AADSTS7000222"}});
    control(&world, "POST", "/faults", Some(fault)).await;
    is_refused(7_000_222, &*secret(&world, tenant, client, good)).await;
}

/// An assertion as it was handed over.
#[derive(Clone, Debug)]
struct Handed(String);

#[async_trait::async_trait]
impl ClientAssertion for Handed {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        Ok(self.0.clone())
    }
}

fn asserted(world: &Sandbox, principal: &str, assertion: String) -> Arc<ClientAssertionCredential<Handed>> {
    let environment = world.environment(principal, Mode::Ports);
    let options = ClientAssertionCredentialOptions {
        client_options: to(world),
    };
    let [tenant, client] = ["ARM_TENANT_ID", "ARM_CLIENT_ID"].map(|name| environment[name].clone());
    ClientAssertionCredential::new(tenant, client, Handed(assertion), Some(options)).unwrap()
}

/// What a certificate's holder says, signed by its key.
fn signed(world: &Sandbox, from: OffsetDateTime, until: OffsetDateTime) -> String {
    let environment = world.environment("certified", Mode::Ports);
    let pfx = std::fs::read(&environment["ARM_CLIENT_CERTIFICATE_PATH"]).unwrap();
    let password = &environment["ARM_CLIENT_CERTIFICATE_PASSWORD"];
    let store = p12_keystore::KeyStore::from_pkcs12(&pfx, password, p12_keystore::Pkcs12ImportPolicy::Strict)
        .unwrap();
    let (_, chain) = store.private_key_chain().unwrap();
    let thumbprint = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
        chain.certs()[0].as_der(),
    );
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let (client, tenant) = (&environment["ARM_CLIENT_ID"], &environment["ARM_TENANT_ID"]);
    let head = json!({"alg": "RS256", "typ": "JWT", "x5t": URL_SAFE_NO_PAD.encode(thumbprint)});
    let body = json!({
        "aud": format!("{}/{tenant}/oauth2/v2.0/token", front(world)), "iss": client, "sub": client,
        "jti": "6f2c1a34-0000-4000-8000-000000000001", "nbf": from.unix_timestamp(), "exp": until.unix_timestamp(),
    });
    let text = format!("{}.{}", part(&head), part(&body));
    let key = RsaKeyPair::from_pkcs8(chain.key().as_der()).unwrap();
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        text.as_bytes(),
        &mut signature,
    )
    .unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate() {
    let world = world().await;
    let now = OffsetDateTime::now_utc();
    let minutes = Duration::minutes;
    let good = signed(&world, now - minutes(1), now + minutes(9));
    is_good(&world, "certified", &*asserted(&world, "certified", good.clone())).await;
    let expired = signed(&world, now - minutes(30), now - minutes(20));
    is_refused(700_024, &*asserted(&world, "certified", expired)).await;
    // Somebody else's key: the application does not know it.
    is_refused(700_016, &*{
        let options = ClientAssertionCredentialOptions {
            client_options: to(&world),
        };
        let tenant = world.environment("certified", Mode::Ports)["ARM_TENANT_ID"].clone();
        let nobody = "11111111-2222-3333-4444-555555555555".to_owned();
        ClientAssertionCredential::new(tenant, nobody, Handed(good.clone()), Some(options)).unwrap()
    })
    .await;
    let forged = format!("{}AAAA", good.get(..good.len() - 4).unwrap());
    is_refused(700_027, &*asserted(&world, "certified", forged)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_federated_assertion() {
    const ISSUER: &str = "https://token.actions.githubusercontent.com";
    const SUBJECT: &str = "repo:contoso/shop:ref:refs/heads/main";
    const AUDIENCE: &str = "api://AzureADTokenExchange";
    let world = world().await;
    let with = |issuer: &str, subject: &str, audience: &str| {
        asserted(&world, "job", world.assertion(issuer, subject, audience))
    };
    is_good(&world, "job", &*with(ISSUER, SUBJECT, AUDIENCE)).await;
    is_refused(700_211, &*with("https://example.org", SUBJECT, AUDIENCE)).await;
    is_refused(
        700_213,
        &*with(ISSUER, "repo:contoso/other:ref:refs/heads/main", AUDIENCE),
    )
    .await;
    is_refused(700_212, &*with(ISSUER, SUBJECT, "api://other")).await;
    let old = with(ISSUER, SUBJECT, AUDIENCE);
    world.advance(std::time::Duration::from_secs(301)).await.unwrap();
    is_refused(700_024, &*old).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_identity() {
    let world = world().await;
    let environment = world.environment("pod", Mode::Ports);
    let credential = |file: &Path| {
        let options = WorkloadIdentityCredentialOptions {
            credential_options: ClientAssertionCredentialOptions {
                client_options: to(&world),
            },
            client_id: Some(environment["ARM_CLIENT_ID"].clone()),
            tenant_id: Some(environment["ARM_TENANT_ID"].clone()),
            token_file_path: Some(file.to_owned()),
        };
        WorkloadIdentityCredential::new(Some(options)).unwrap()
    };
    let file = Path::new(&environment["AZURE_FEDERATED_TOKEN_FILE"]);
    is_good(&world, "pod", &*credential(file)).await;
    let other = tempfile::NamedTempFile::new().unwrap();
    let assertion = world.assertion(
        "https://example.org",
        "system:serviceaccount:ci:pod",
        "api://AzureADTokenExchange",
    );
    std::fs::write(other.path(), assertion).unwrap();
    is_refused(700_211, &*credential(other.path())).await;
}

/// These two read the process's own variables, so each is asked in a process of its own.
#[tokio::test(flavor = "multi_thread")]
async fn app_services_endpoint_and_azure_pipelines() {
    let world = world().await;
    for principal in ["machine", "pipeline"] {
        let environment = world.environment(principal, Mode::Ports);
        let test = std::env::current_exe().unwrap();
        let run = tokio::process::Command::new(test)
            .args([
                "--exact",
                "signing_in::in_a_process_of_its_own",
                "--ignored",
                "--nocapture",
            ])
            .envs(&environment)
            .env(CHILD, principal)
            .env("KVTLS_TEST_FRONT", front(&world))
            .env("KVTLS_TEST_CA", world.ca_pem())
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&run.stdout),
            String::from_utf8_lossy(&run.stderr)
        );
        assert!(
            run.status.success() && said.contains("1 passed"),
            "{principal}: {said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test above, with the variables of a principal"]
async fn in_a_process_of_its_own() {
    let variables: std::collections::BTreeMap<String, String> = std::env::vars().collect();
    let variable = |name: &str| variables[name].clone();
    let authority = reqwest::Certificate::from_pem(variable("KVTLS_TEST_CA").as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([authority])
        .http1_only()
        .no_proxy();
    let options = options(&variable("KVTLS_TEST_FRONT"), client.build().unwrap());
    let token = if variable(CHILD) == "machine" {
        let credential = |client: &str| {
            let options = ManagedIdentityCredentialOptions {
                user_assigned_id: Some(UserAssignedId::ClientId(client.to_owned())),
                client_options: options.clone(),
            };
            ManagedIdentityCredential::new(Some(options)).unwrap()
        };
        let other = credential("11111111-2222-3333-4444-555555555555");
        let refused = other.get_token(&[ARM], None).await.unwrap_err();
        assert!(format!("{refused:?}").contains(NOT_ASSIGNED), "{refused:?}");
        credential(&variable("ARM_CLIENT_ID"))
            .get_token(&[ARM], None)
            .await
    } else {
        let credential = |token: String| {
            let options = AzurePipelinesCredentialOptions {
                credential_options: ClientAssertionCredentialOptions {
                    client_options: options.clone(),
                },
            };
            AzurePipelinesCredential::new(
                variable("ARM_TENANT_ID"),
                variable("ARM_CLIENT_ID"),
                &variable("ARM_ADO_PIPELINE_SERVICE_CONNECTION_ID"),
                token,
                Some(options),
            )
            .unwrap()
        };
        let refused = credential("wrong".to_owned()).get_token(&[ARM], None).await;
        assert!(format!("{:?}", refused.unwrap_err()).contains("401"));
        credential(variable("SYSTEM_ACCESSTOKEN"))
            .get_token(&[ARM], None)
            .await
    };
    assert_eq!(claims(&token.unwrap())["appid"], variable("ARM_CLIENT_ID"));
}

/// A machine's metadata service has one address everywhere; what is sent there is carried to the world's.
#[derive(Debug)]
struct Carried {
    client: reqwest::Client,
    machine: url::Url,
}

#[async_trait::async_trait]
impl azure_core::http::HttpClient for Carried {
    async fn execute_request(
        &self,
        request: &azure_core::http::Request,
    ) -> azure_core::Result<azure_core::http::AsyncRawResponse> {
        let mut carried = request.clone();
        assert_eq!(request.url().host_str(), Some("169.254.169.254"));
        let mut url = self.machine.clone();
        url.set_path(request.url().path());
        url.set_query(request.url().query());
        *carried.url_mut() = url;
        self.client.execute_request(&carried).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machines_metadata_service() {
    let world = world().await;
    let environment = world.environment("machine", Mode::Ports);
    let carried = Carried {
        client: direct(&world),
        machine: environment["ARM_MSI_ENDPOINT"].parse().unwrap(),
    };
    let client_options = ClientOptions {
        transport: Some(Transport::new(Arc::new(carried))),
        ..to(&world)
    };
    let credential = |id: Option<UserAssignedId>| {
        let options = ManagedIdentityCredentialOptions {
            user_assigned_id: id,
            client_options: client_options.clone(),
        };
        ManagedIdentityCredential::new(Some(options)).unwrap()
    };
    is_good(&world, "machine", &*credential(None)).await;
    let own = UserAssignedId::ClientId(environment["ARM_CLIENT_ID"].clone());
    is_good(&world, "machine", &*credential(Some(own))).await;
    let nobody = UserAssignedId::ClientId("11111111-2222-3333-4444-555555555555".to_owned());
    let refused = credential(Some(nobody))
        .get_token(&[ARM], None)
        .await
        .unwrap_err();
    assert!(format!("{refused:?}").contains(NOT_ASSIGNED), "{refused:?}");
}
