//! User-assigned identities, their federated credentials, and service accounts of a cluster that act as them; what a
//! caller may do, as far as ARM lets it be read.

use kvtls::sandbox::{Mode, Options, Sandbox};
use reqwest::Method;
use serde_json::{Value, json};

use super::arm::Somebody;
use super::client::{control, front, post_token, proxied, read, world, world_with};
use super::kubernetes::{Asker, addon, put};

const IDENTITY: &str = "Microsoft.ManagedIdentity/userAssignedIdentities/workload";
const VERSION: &str = "?api-version=2024-11-30";
const AUDIENCE: &str = "api://AzureADTokenExchange";
const SUBJECT: &str = "system:serviceaccount:default:web";

fn credential_path(name: &str) -> String {
    format!("{IDENTITY}/federatedIdentityCredentials/{name}{VERSION}")
}

fn credential(issuer: &str, subject: &str) -> Value {
    json!({"properties": {"issuer": issuer, "subject": subject, "audiences": [AUDIENCE]}})
}

fn code(body: &Value) -> &str {
    body["error"]["code"].as_str().unwrap_or_default()
}

/// A new identity, which this returns.
async fn identity(deployer: &Somebody) -> Value {
    let target = deployer.path(&format!("{IDENTITY}{VERSION}"));
    let (status, made) = deployer
        .call(Method::PUT, &target, Some(json!({"location": "East US"})))
        .await;
    assert_eq!(status, 201, "{made}");
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_and_its_credentials_come_and_go() {
    let world = world().await;
    let deployer = Somebody::named(&world, "deployer").await;
    let made = identity(&deployer).await;
    assert_eq!(made["location"], "eastus");
    assert_eq!(made["type"], "Microsoft.ManagedIdentity/userAssignedIdentities");
    assert!(made["properties"]["principalId"].is_string(), "{made}");
    let first = deployer.path(&credential_path("first"));
    let body = credential("https://issuer.example", SUBJECT);
    let (status, written) = deployer.call(Method::PUT, &first, Some(body.clone())).await;
    assert_eq!(status, 201, "{written}");
    assert_eq!(written["properties"], body["properties"]);
    let (status, _) = deployer.call(Method::PUT, &first, Some(body.clone())).await;
    assert_eq!(status, 200, "the same again changes nothing");
    let second = deployer.path(&credential_path("second"));
    let (status, twin) = deployer.call(Method::PUT, &second, Some(body)).await;
    assert_eq!((status, code(&twin)), (409, "Conflict"), "{twin}");
    let list = deployer.path(&format!("{IDENTITY}/federatedIdentityCredentials{VERSION}"));
    let (_, listed) = deployer.call(Method::GET, &list, None).await;
    assert_eq!(listed["value"], json!([written]));
    let (status, _) = deployer.call(Method::DELETE, &first, None).await;
    assert_eq!(status, 200);
    let (status, _) = deployer.call(Method::DELETE, &first, None).await;
    assert_eq!(status, 204);
    let (status, gone) = deployer.call(Method::GET, &first, None).await;
    assert_eq!((status, code(&gone)), (404, "ResourceNotFound"), "{gone}");
    let target = deployer.path(&format!("{IDENTITY}{VERSION}"));
    let (status, _) = deployer.call(Method::DELETE, &target, None).await;
    assert_eq!(status, 200);
    let (status, gone) = deployer.call(Method::GET, &target, None).await;
    assert_eq!((status, code(&gone)), (404, "ResourceNotFound"), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_written_one_by_one_and_are_twenty_at_most() {
    let world = world().await;
    let deployer = Somebody::named(&world, "deployer").await;
    identity(&deployer).await;
    let write = async |index: usize| {
        let target = deployer.path(&credential_path(&format!("credential-{index}")));
        let body = credential("https://issuer.example", &format!("subject-{index}"));
        deployer.call(Method::PUT, &target, Some(body)).await
    };
    let together = tokio::join!(write(0), write(1), write(2));
    let answers = [together.0, together.1, together.2];
    let refused = answers.iter().find(|(status, _)| *status == 409).unwrap();
    assert_eq!(
        code(&refused.1),
        "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity"
    );
    for index in 0..20 {
        let (status, body) = write(index).await;
        assert!(matches!(status, 200 | 201), "{body}");
    }
    let (status, refused) = write(20).await;
    assert_eq!(status, 400, "{refused}");
    assert!(refused.to_string().contains("20"), "{refused}");
    let mut next = deployer.path(&format!(
        "{IDENTITY}/federatedIdentityCredentials{VERSION}&$top=8"
    ));
    let mut found = 0;
    loop {
        let (_, page) = deployer.call(Method::GET, &next, None).await;
        found += page["value"].as_array().unwrap().len();
        match page["nextLink"].as_str() {
            Some(link) => link.clone_into(&mut next),
            None => break,
        }
    }
    assert_eq!(found, 20);
}

/// A world whose cluster has an issuer; a service account `web` and its token for Entra.
async fn with_issuer() -> (Sandbox, Asker) {
    let world = world_with(Options {
        world: json!({"version": 1, "extends": "default", "clusters": {"myAKSCluster": {"oidc": true, "workload_identity": true}}}),
        ..Options::default()
    })
    .await;
    let admin = Asker::admin(&world).await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let (status, body) = admin.call(Method::POST, accounts, Some(account)).await;
    assert_eq!(status, 201, "{body}");
    (world, admin)
}

async fn account_token(admin: &Asker, audience: &str) -> String {
    let path = "/api/v1/namespaces/default/serviceaccounts/web/token";
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": [audience]}});
    let (status, body) = admin.call(Method::POST, path, Some(body)).await;
    assert_eq!(status, 201, "{body}");
    body["status"]["token"].as_str().unwrap().to_owned()
}

async fn issuer(deployer: &Somebody) -> String {
    let target = "Microsoft.ContainerService/managedClusters/myAKSCluster?api-version=2026-04-01";
    let (_, cluster) = deployer.call(Method::GET, &deployer.path(target), None).await;
    let issuer = &cluster["properties"]["oidcIssuerProfile"]["issuerURL"];
    issuer.as_str().unwrap().to_owned()
}

/// Asks Entra for a token of this client with an assertion.
async fn exchange(world: &Sandbox, client: &str, assertion: &str) -> (u16, Value) {
    let tenant = &world.environment("deployer", Mode::Ports)["ARM_TENANT_ID"];
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", client),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_assertion", assertion),
        ("scope", "https://vault.azure.net/.default"),
    ];
    post_token(world, tenant, &form).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_acts_as_the_identity_it_is_federated_with() {
    let (world, admin) = with_issuer().await;
    let deployer = Somebody::named(&world, "deployer").await;
    let issuer = issuer(&deployer).await;
    assert!(
        issuer.starts_with("https://eastus.oic.prod-aks.azure.com/") && issuer.ends_with('/'),
        "{issuer}"
    );
    let made = identity(&deployer).await;
    let client = made["properties"]["clientId"].as_str().unwrap();
    let assertion = account_token(&admin, AUDIENCE).await;
    let refused = async |assertion: &str, number: u32| {
        let (status, body) = exchange(&world, client, assertion).await;
        assert_eq!((status, &body["error_codes"]), (401, &json!([number])), "{body}");
    };
    refused(&assertion, 700_211).await;
    let lag = json!({"federated_effect": "10s"});
    control(&world, "PUT", "/lag", Some(lag)).await;
    let target = deployer.path(&credential_path("web"));
    let wrong = credential(&issuer, "system:serviceaccount:default:other");
    deployer.call(Method::PUT, &target, Some(wrong)).await;
    control(&world, "POST", "/clock", Some(json!({"advance": "11s"}))).await;
    refused(&assertion, 700_213).await;
    let right = credential(&issuer, SUBJECT);
    deployer.call(Method::PUT, &target, Some(right)).await;
    refused(&assertion, 700_213).await;
    control(&world, "POST", "/clock", Some(json!({"advance": "11s"}))).await;
    let (status, body) = exchange(&world, client, &assertion).await;
    assert_eq!(status, 200, "{body}");
    refused(&account_token(&admin, "api://other").await, 700_212).await;
    let mut forged = assertion.clone();
    forged.truncate(assertion.len() - 4);
    refused(&format!("{forged}AAAA"), 700_027).await;
    control(&world, "POST", "/clock", Some(json!({"advance": "2h"}))).await;
    refused(&assertion, 700_024).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuers_documents_are_where_its_name_says() {
    let (world, _) = with_issuer().await;
    let deployer = Somebody::named(&world, "deployer").await;
    let issuer = issuer(&deployer).await;
    let get = async |url: &str| read(proxied(&world).get(url).send().await.unwrap()).await;
    let (status, document) = get(&format!("{issuer}.well-known/openid-configuration")).await;
    assert_eq!(status, 200, "{document}");
    assert_eq!(document["issuer"], issuer.as_str());
    let (_, keys) = get(document["jwks_uri"].as_str().unwrap()).await;
    assert_eq!(keys["keys"][0]["alg"], "ES256", "{keys}");
    let rest = issuer.trim_start_matches("https://");
    let url = format!(
        "{}/oidc/aks/{rest}.well-known/openid-configuration",
        front(&world)
    );
    let answer = super::client::direct(&world).get(url).send().await.unwrap();
    assert_eq!(read(answer).await.1, document);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_comes_with_a_put_and_stays() {
    let world = world().await;
    let deployer = Somebody::named(&world, "deployer").await;
    let (status, body) = put(&world, &deployer, json!({"oidcIssuerProfile": {"enabled": true}})).await;
    assert_eq!(status, 200, "{body}");
    let issuer = issuer(&deployer).await;
    let configuration = "/.well-known/openid-configuration";
    let admin = Asker::admin(&world).await;
    let (_, document) = admin.call(Method::GET, configuration, None).await;
    assert_eq!(document["issuer"], issuer.as_str());
    let (status, body) = put(
        &world,
        &deployer,
        json!({"oidcIssuerProfile": {"enabled": false}}),
    )
    .await;
    assert_eq!(status, 400, "{body}");
}

/// A class of the workload identity, and a pod that mounts it.
fn workload(client: &str, tenant: &str) -> [(&'static str, Value); 2] {
    let objects = "array:\n  - |\n    objectName: my-tls-cert\n    objectType: secret\n";
    let class = json!({
        "apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass", "metadata": {"name": "web"},
        "spec": {
            "provider": "azure",
            "parameters": {"keyvaultName": "myAKSKeyVault", "tenantID": tenant, "clientID": client, "objects": objects},
            "secretObjects": [{"secretName": "web", "type": "kubernetes.io/tls", "data": [
                {"objectName": "my-tls-cert", "key": "tls.key"}, {"objectName": "my-tls-cert", "key": "tls.crt"}]}],
        },
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {
            "serviceAccountName": "web",
            "containers": [{"name": "web", "image": "pause", "volumeMounts": [{"name": "store", "mountPath": "/mnt"}]}],
            "volumes": [{"name": "store", "csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": true,
                "volumeAttributes": {"secretProviderClass": "web"}}}],
        },
    });
    [
        (
            "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/default/secretproviderclasses",
            class,
        ),
        ("/api/v1/namespaces/default/pods", pod),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_mounts_with_its_service_account() {
    let (world, admin) = with_issuer().await;
    let deployer = Somebody::named(&world, "deployer").await;
    let (status, body) = put(&world, &deployer, addon(true)).await;
    assert_eq!(status, 200, "{body}");
    let made = identity(&deployer).await;
    let property = |name: &str| made["properties"][name].as_str().unwrap().to_owned();
    for (path, object) in workload(&property("clientId"), &property("tenantId")) {
        let (status, body) = admin.call(Method::POST, path, Some(object)).await;
        assert_eq!(status, 201, "{body}");
    }
    let events = async || {
        control(&world, "POST", "/settle", Some(json!({}))).await;
        let (_, events) = admin
            .call(Method::GET, "/api/v1/namespaces/default/events", None)
            .await;
        let items = events["items"].as_array().unwrap().iter();
        let of_pod = items.filter(|event| event["involvedObject"]["name"] == "web");
        let texts: Vec<_> = of_pod.map(|event| event["message"].to_string()).collect();
        texts.join("\n")
    };
    let failed = events().await;
    assert!(
        failed.contains("ClientAssertionCredential authentication failed") && failed.contains("AADSTS700211"),
        "{failed}"
    );
    let federate = deployer.path(&credential_path("web"));
    let right = credential(&issuer(&deployer).await, SUBJECT);
    deployer.call(Method::PUT, &federate, Some(right)).await;
    control(&world, "POST", "/clock", Some(json!({"advance": "5m"}))).await;
    let failed = events().await;
    assert!(failed.contains("ForbiddenByRbac"), "{failed}");
    let vault = "Microsoft.KeyVault/vaults/myAKSKeyVault/providers/Microsoft.Authorization/roleAssignments";
    let target = format!("{vault}/{}?api-version=2022-04-01", property("clientId"));
    let role = "4633458b-17de-408a-b874-0445c86b69e6";
    let body = json!({"properties": {
        "roleDefinitionId": format!("/subscriptions/{}/providers/Microsoft.Authorization/roleDefinitions/{role}",
            deployer.subscription),
        "principalId": property("principalId"), "principalType": "ServicePrincipal"}});
    let (status, body) = deployer
        .call(Method::PUT, &deployer.path(&target), Some(body))
        .await;
    assert_eq!(status, 201, "{body}");
    control(&world, "POST", "/clock", Some(json!({"advance": "5m"}))).await;
    let (status, secret) = admin
        .call(Method::GET, "/api/v1/namespaces/default/secrets/web", None)
        .await;
    assert_eq!(status, 200, "{secret}: {}", events().await);
    assert_eq!(secret["type"], "kubernetes.io/tls");
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_and_deny_assignments_can_be_read_and_are_judged() {
    let world = world().await;
    let contributor = Somebody::named(&world, "contributor").await;
    let vault = "Microsoft.KeyVault/vaults/myAKSKeyVault";
    let below = |what: &str| {
        contributor.path(&format!(
            "{vault}/providers/Microsoft.Authorization/{what}?api-version=2022-04-01"
        ))
    };
    let (status, permissions) = contributor.call(Method::GET, &below("permissions"), None).await;
    assert_eq!(status, 200, "{permissions}");
    let entries = permissions["value"].as_array().unwrap();
    assert_eq!(entries.len(), 2, "one for each assignment: {permissions}");
    assert!(
        permissions
            .to_string()
            .contains("Microsoft.Authorization/*/Write"),
        "{permissions}"
    );
    let (_, none) = contributor
        .call(Method::GET, &below("denyAssignments"), None)
        .await;
    assert_eq!(none, json!({"value": []}));
    let denial = json!({"deny_assignments": {"stack": {
        "scope": "/vaults/myAKSKeyVault", "principals": ["contributor"], "actions": ["*/write"]}}});
    let (status, patched) = control(&world, "PATCH", "/world", Some(denial)).await;
    assert_eq!(status, 200, "{patched}");
    let (_, listed) = contributor
        .call(Method::GET, &below("denyAssignments"), None)
        .await;
    let shown = &listed["value"][0];
    assert_eq!(shown["properties"]["denyAssignmentName"], "stack");
    assert_eq!(
        shown["properties"]["permissions"][0]["actions"],
        json!(["*/write"])
    );
    let target = format!("{}?api-version=2026-02-01", contributor.path(vault));
    let (status, read) = contributor.call(Method::GET, &target, None).await;
    assert_eq!(status, 200, "reading is not denied: {read}");
    let tags = json!({"tags": {"a": "b"}});
    let (status, denied) = contributor.call(Method::PATCH, &target, Some(tags.clone())).await;
    assert_eq!(
        (status, code(&denied)),
        (403, "DenyAssignmentAuthorizationFailed"),
        "{denied}"
    );
    let owner = Somebody::named(&world, "owner").await;
    let (status, body) = owner.call(Method::PATCH, &target, Some(tags)).await;
    assert_eq!(status, 200, "it is about the contributor alone: {body}");
}
