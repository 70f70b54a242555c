//! Tokens: what they say, how long they are good, and how Entra refuses.

use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kvtls::sandbox::{Mode, Options};
use serde_json::{Value, json};

use super::client::{direct, front, post_token, proxied, read, token, world, world_with};

const ARM: &str = "https://management.azure.com/.default";

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_says_who_holds_it_in_the_words_of_version_1() {
    let world = world().await;
    let environment = world.environment("deployer", Mode::Names);
    let (status, body) = token(&world, "deployer", ARM).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(
        (&body["expires_in"], &body["ext_expires_in"]),
        (&json!(3599), &json!(3599))
    );
    let claims = part(body["access_token"].as_str().unwrap(), 1);
    let tenant = &environment["ARM_TENANT_ID"];
    assert_eq!(claims["aud"], "https://management.azure.com");
    assert_eq!(claims["iss"], format!("https://sts.windows.net/{tenant}/"));
    assert_eq!((&claims["tid"], &claims["ver"]), (&json!(tenant), &json!("1.0")));
    assert_eq!(claims["appid"], environment["ARM_CLIENT_ID"].as_str());
    assert_eq!(claims["oid"], claims["sub"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_key_verifies_the_token() {
    let world = world().await;
    let (_, body) = token(&world, "reader", ARM).await;
    let token = body["access_token"].as_str().unwrap();
    let tenant = &world.environment("reader", Mode::Ports)["ARM_TENANT_ID"];
    let url = format!("{}/{tenant}/v2.0/.well-known/openid-configuration", front(&world));
    let (_, discovery) = read(direct(&world).get(url).send().await.unwrap()).await;
    let url = discovery["jwks_uri"].as_str().unwrap();
    let (_, keys) = read(direct(&world).get(url).send().await.unwrap()).await;
    let key = &keys["keys"][0];
    assert_eq!(part(token, 0)["kid"], key["kid"]);
    let decode = |text: &Value| URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap();
    let point = [vec![4], decode(&key["x"]), decode(&key["y"])].concat();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(signed.as_bytes(), &signature)
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_speaks_the_address_it_was_asked_by() {
    let world = world().await;
    let url = "https://login.microsoftonline.com/common/discovery/instance?api-version=1.1";
    let (status, instance) = read(proxied(&world).get(url).send().await.unwrap()).await;
    assert_eq!(status, 200);
    assert_eq!(
        instance["tenant_discovery_endpoint"],
        "https://login.microsoftonline.com/common/.well-known/openid-configuration"
    );
    let aliases = instance["metadata"][0]["aliases"].as_array().unwrap();
    assert!(aliases.contains(&json!("login.windows.net")));
}

#[tokio::test(flavor = "multi_thread")]
async fn entra_refuses_in_its_own_words() {
    let world = world().await;
    let environment = world.environment("deployer", Mode::Ports);
    let (tenant, client) = (&environment["ARM_TENANT_ID"], &environment["ARM_CLIENT_ID"]);
    let secret = environment["ARM_CLIENT_SECRET"].as_str();
    let nobody = "11111111-2222-3333-4444-555555555555";
    for (tenant, client, secret, scope, status, error, number) in [
        (
            tenant.as_str(),
            client.as_str(),
            "wrong",
            ARM,
            401,
            "invalid_client",
            7_000_215,
        ),
        (tenant, nobody, secret, ARM, 400, "unauthorized_client", 700_016),
        (nobody, client, secret, ARM, 400, "invalid_request", 90_002),
        (
            tenant,
            client,
            secret,
            "https://example.org/.default",
            400,
            "invalid_resource",
            500_011,
        ),
        (
            tenant,
            client,
            secret,
            "https://management.azure.com",
            400,
            "invalid_scope",
            70_011,
        ),
        (tenant, client, "", ARM, 401, "invalid_client", 7_000_218),
    ] {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", client),
            ("client_secret", secret),
            ("scope", scope),
        ];
        let (answered, body) = post_token(&world, tenant, &form).await;
        assert_eq!(answered, status, "{body}");
        assert_eq!(
            (&body["error"], &body["error_codes"]),
            (&json!(error), &json!([number]))
        );
        let description = body["error_description"].as_str().unwrap();
        assert!(
            description.starts_with(&format!("AADSTS{number}: ")),
            "{description}"
        );
        for member in ["timestamp", "trace_id", "correlation_id"] {
            assert!(body[member].is_string(), "{body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_expires_in_sandbox_time() {
    let world = world().await;
    let (_, body) = token(&world, "deployer", ARM).await;
    let token = body["access_token"].as_str().unwrap();
    let url = format!("{}/subscriptions?api-version=2022-12-01", front(&world));
    let ask = || direct(&world).get(&url).bearer_auth(token).send();
    let (fresh, _) = read(ask().await.unwrap()).await;
    assert_eq!(fresh, 200);
    world.advance(Duration::from_secs(3599)).await.unwrap();
    let (_, stale) = read(ask().await.unwrap()).await;
    assert!(stale.to_string().contains("xpired"), "{stale}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_federated_assertion_stands_in_for_a_secret() {
    const ISSUER: &str = "https://token.actions.githubusercontent.com";
    const SUBJECT: &str = "repo:contoso/shop:environment:production";
    const AUDIENCE: &str = "api://AzureADTokenExchange";
    let options = Options {
        world: json!({"version": 1, "extends": "default", "principals": {"pipeline": {
            "type": "github", "federated": [{"issuer": ISSUER, "subject": SUBJECT}],
        }}}),
        ..Options::default()
    };
    let world = world_with(options).await;
    let environment = world.environment("pipeline", Mode::Ports);
    assert!(!environment.contains_key("ARM_CLIENT_SECRET"));
    let post = async |assertion: &str| {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", environment["ARM_CLIENT_ID"].as_str()),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", assertion),
            ("scope", ARM),
        ];
        post_token(&world, &environment["ARM_TENANT_ID"], &form).await
    };
    let good = world.assertion(ISSUER, SUBJECT, AUDIENCE);
    assert_eq!(post(&good).await.0, 200);
    for (issuer, subject, audience, number) in [
        ("https://example.org", SUBJECT, AUDIENCE, 700_211),
        (
            ISSUER,
            "repo:contoso/other:ref:refs/heads/main",
            AUDIENCE,
            700_213,
        ),
        (ISSUER, SUBJECT, "api://other", 700_212),
    ] {
        let (status, body) = post(&world.assertion(issuer, subject, audience)).await;
        assert_eq!((status, &body["error_codes"]), (401, &json!([number])), "{body}");
    }
    let forged = format!("{}AAAA", good.get(..good.len() - 4).unwrap());
    assert_eq!(post(&forged).await.1["error_codes"], json!([700_027]));
    world.advance(Duration::from_secs(301)).await.unwrap();
    assert_eq!(post(&good).await.1["error_codes"], json!([700_024]));
}

/// Member names and types of a value.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| (name.clone(), shape(member)))
            .collect(),
        Value::Array(items) => items.first().map(shape).into_iter().collect(),
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        Value::Bool(_) => "bool".into(),
        Value::Null => Value::Null,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_their_documents_look_as_recorded() {
    let world = world().await;
    let recorded: Value =
        serde_json::from_str(include_str!("recordings/entra-client-credentials.json")).unwrap();
    let answers = recorded["interactions"].as_array().unwrap();
    let body = |index: usize| &answers[index]["response"]["body"];
    let environment = world.environment("deployer", Mode::Ports);
    let tenant = &environment["ARM_TENANT_ID"];
    let login = "https://login.microsoftonline.com";
    let get = async |url: String| read(proxied(&world).get(url).send().await.unwrap()).await.1;
    let document = get(format!("{login}/{tenant}/v2.0/.well-known/openid-configuration")).await;
    assert_eq!(shape(&document), shape(body(0)));
    let discovery = get(format!("{login}/common/discovery/instance?api-version=1.1")).await;
    assert_eq!(shape(&discovery), shape(body(1)));
    let (status, token) = token(&world, "deployer", "https://management.azure.com/.default").await;
    assert_eq!(status, 200);
    assert_eq!(shape(&token), shape(body(2)));
}
