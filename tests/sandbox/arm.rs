//! ARM over the wire: a cluster's add-on from the token to the kubeconfig, and each vault answer by its address.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kvtls::sandbox::{Mode, Sandbox};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::client::{control, direct, entries, front, proxied, read, token, world};

/// Somebody with a token for ARM.
pub(crate) struct Somebody {
    client: Client,
    base: String,
    token: String,
    pub(crate) subscription: String,
}

impl Somebody {
    /// By Azure's names.
    pub(crate) async fn named(world: &Sandbox, principal: &str) -> Self {
        Self::at(
            world,
            principal,
            proxied(world),
            "https://management.azure.com".to_owned(),
        )
        .await
    }

    async fn at(world: &Sandbox, principal: &str, client: Client, base: String) -> Self {
        let (_, answer) = token(world, principal, "https://management.azure.com/.default").await;
        let environment: BTreeMap<String, String> = world.environment(principal, Mode::Ports);
        Self {
            client,
            base,
            token: answer["access_token"].as_str().unwrap().to_owned(),
            subscription: environment["ARM_SUBSCRIPTION_ID"].clone(),
        }
    }

    /// `/subscriptions/…/resourceGroups/myResourceGroup/providers/…`.
    pub(crate) fn path(&self, below: &str) -> String {
        let subscription = &self.subscription;
        format!("/subscriptions/{subscription}/resourceGroups/myResourceGroup/providers/{below}")
    }

    pub(crate) async fn call(&self, method: Method, target: &str, body: Option<Value>) -> (u16, Value) {
        let (status, _, body) = self.call_with_headers(method, target, body).await;
        (status, body)
    }

    pub(crate) async fn call_with_headers(
        &self,
        method: Method,
        target: &str,
        body: Option<Value>,
    ) -> (u16, reqwest::header::HeaderMap, Value) {
        let url = if target.starts_with("https") {
            target.to_owned()
        } else {
            format!("{}{target}", self.base)
        };
        let mut request = self.client.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let headers = answer.headers().clone();
        let (status, body) = read(answer).await;
        (status, headers, body)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_addon_comes_on_and_its_identity_with_it() {
    let world = world().await;
    let deployer = Somebody::named(&world, "deployer").await;
    let cluster =
        deployer.path("Microsoft.ContainerService/managedClusters/myAKSCluster?api-version=2026-04-01");
    let (status, mut body) = deployer.call(Method::GET, &cluster, None).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["properties"].get("addonProfiles"), None);
    body["properties"]["addonProfiles"] =
        json!({"azureKeyvaultSecretsProvider": {"enabled": true, "config": null}});
    let (status, headers, put) = deployer
        .call_with_headers(Method::PUT, &cluster, Some(body))
        .await;
    assert_eq!(status, 200, "{put}");
    assert_eq!(headers["x-ms-retry-after-ms"], "50");
    let operation = headers["azure-asyncoperation"].to_str().unwrap().to_owned();
    let (_, running) = deployer.call(Method::GET, &operation, None).await;
    assert_eq!(running["status"], "InProgress");
    let (_, moved) = control(&world, "POST", "/clock", Some(json!({"advance": "3s"}))).await;
    assert!(moved["fired"].to_string().contains("myAKSCluster"), "{moved}");
    let (_, ended) = deployer.call(Method::GET, &operation, None).await;
    assert_eq!(ended["status"], "Succeeded");
    let (_, after) = deployer.call(Method::GET, &cluster, None).await;
    let identity = &after["properties"]["addonProfiles"]["azureKeyvaultSecretsProvider"]["identity"];
    assert!(identity["clientId"].is_string(), "{after}");
    let (_, shown) = control(&world, "GET", "/world?pointer=/clusters/myAKSCluster", None).await;
    assert_eq!(shown["addon"]["client_id"], identity["clientId"]);
    let journal = serde_json::to_string(&entries(&world, "arm")).unwrap();
    let signature = operation.split("&c=").nth(1).unwrap();
    assert!(
        !journal.contains(signature),
        "operation addresses are credentials"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubeconfig_speaks_the_address_it_was_asked_by() {
    let world = world().await;
    let target = "Microsoft.ContainerService/managedClusters/myAKSCluster/listClusterUserCredential?api-version=2026-04-01";
    let named = Somebody::named(&world, "deployer").await;
    let ported = Somebody::at(&world, "deployer", direct(&world), front(&world)).await;
    for (who, server) in [
        (named, "server: https://myakscluster-dns-"),
        (ported, "server: https://127.0.0.1:"),
    ] {
        let (status, body) = who.call(Method::POST, &who.path(target), None).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(body["kubeconfigs"][0]["name"], "clusterUser");
        let yaml = STANDARD
            .decode(body["kubeconfigs"][0]["value"].as_str().unwrap())
            .unwrap();
        let yaml = String::from_utf8(yaml).unwrap();
        assert!(yaml.contains(server), "{yaml}");
        assert!(yaml.contains("clusterUser_myResourceGroup_myAKSCluster"));
        assert!(yaml.contains("client-key-data: "));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_those_of_the_world_file() {
    let world = world().await;
    for (name, status) in [
        ("owner", 200),
        ("reader", 200),
        ("planner", 200),
        ("stranger", 403),
    ] {
        let somebody = Somebody::named(&world, name).await;
        let vault = somebody.path("Microsoft.KeyVault/vaults/myAKSKeyVault?api-version=2026-02-01");
        let (found, body) = somebody.call(Method::GET, &vault, None).await;
        assert_eq!(found, status, "{name}: {body}");
    }
    let denied = entries(&world, "arm").pop().unwrap();
    assert_eq!(denied["action"], "Microsoft.KeyVault/vaults/read");
    assert_eq!(denied["effect"], "none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubeconfig_looks_as_recorded() {
    let world = world().await;
    let recorded: Value =
        serde_json::from_str(include_str!("recordings/aks-list-cluster-user-credential.json")).unwrap();
    let answer = &recorded["interactions"][0]["response"];
    let target = "Microsoft.ContainerService/managedClusters/myAKSCluster/listClusterUserCredential?api-version=2026-01-01";
    let deployer = Somebody::named(&world, "deployer").await;
    let (status, headers, body) = deployer
        .call_with_headers(Method::POST, &deployer.path(target), None)
        .await;
    assert_eq!(Some(u64::from(status)), answer["status"].as_u64());
    for name in answer["headers"].as_object().unwrap().keys() {
        assert!(headers.contains_key(name), "{name} is missing");
    }
    assert_eq!(headers["content-type"], "application/json");
    // The members of a YAML document, in their order, without what they hold.
    let outline = |body: &Value| -> Vec<String> {
        let value = body["kubeconfigs"][0]["value"].as_str().unwrap();
        let yaml = String::from_utf8(STANDARD.decode(value).unwrap()).unwrap();
        let members = yaml.lines().filter_map(|line| line.split_once(':'));
        members.map(|(member, _)| member.to_owned()).collect()
    };
    assert_eq!(outline(&body), outline(&answer["body"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_operation_keeps_a_cluster_busy_until_it_ends() {
    let world = world().await;
    let deployer = Somebody::named(&world, "deployer").await;
    let cluster =
        deployer.path("Microsoft.ContainerService/managedClusters/myAKSCluster?api-version=2026-04-01");
    let (_, before) = deployer.call(Method::GET, &cluster, None).await;
    let operation = json!({"name": "Upgrading", "for": "5m"});
    let (status, begun) = control(
        &world,
        "POST",
        "/clusters/myAKSCluster/operation",
        Some(operation),
    )
    .await;
    assert_eq!(status, 200, "{begun}");
    let (_, during) = deployer.call(Method::GET, &cluster, None).await;
    assert_eq!(during["properties"]["provisioningState"], "Upgrading");
    let (status, refused) = deployer.call(Method::PUT, &cluster, Some(before.clone())).await;
    assert_eq!((status, &refused["code"]), (409, &json!("OperationNotAllowed")));
    assert!(refused["message"].as_str().unwrap().contains("(Upgrading)"));
    control(&world, "POST", "/clock", Some(json!({"advance": "6m"}))).await;
    let (_, after) = deployer.call(Method::GET, &cluster, None).await;
    assert_eq!(after["properties"]["provisioningState"], "Succeeded");
    assert_ne!(after["eTag"], before["eTag"]);
    let pool = json!({"pool": "nodepool1", "for": "1m"});
    let (status, begun) = control(&world, "POST", "/clusters/myAKSCluster/operation", Some(pool)).await;
    assert_eq!(status, 200, "{begun}");
    let (status, refused) = deployer.call(Method::PUT, &cluster, Some(after)).await;
    assert_eq!(status, 409, "pools keep the cluster busy as well: {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_not_registered_takes_no_writes() {
    let world = super::client::world_with(kvtls::sandbox::Options {
        world: json!({"version": 1, "extends": "default",
            "subscriptions": {"main": {"registered": ["Microsoft.ContainerService"]}}}),
        ..kvtls::sandbox::Options::default()
    })
    .await;
    let deployer = Somebody::named(&world, "deployer").await;
    let vault = deployer.path("Microsoft.KeyVault/vaults/fresh-vault?api-version=2026-02-01");
    let body = json!({"location": "eastus", "properties": {}});
    let (status, refused) = deployer.call(Method::PUT, &vault, Some(body)).await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (409, &json!("MissingSubscriptionRegistration")),
        "{refused}"
    );
}
