//! A cluster's API over the wire: what the world file and ARM decide there, and port-forwards to an edge.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kvtls::sandbox::{Options, Sandbox};
use reqwest::{Certificate, Client, Identity, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::arm::Somebody;
use super::client::{control, direct, read, world, world_with};

const CLUSTER: &str = "Microsoft.ContainerService/managedClusters/myAKSCluster";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const CLASSES: &str = "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/default/secretproviderclasses";

/// Somebody who asks a cluster's API.
pub(crate) struct Asker {
    client: Client,
    server: String,
    token: Option<String>,
}

impl Asker {
    /// By what a kubeconfig of ARM holds: certificate, or token.
    async fn admins(world: &Sandbox, deployer: &Somebody) -> [Self; 2] {
        let target = format!("{CLUSTER}/listClusterAdminCredential?api-version=2026-04-01");
        let (status, body) = deployer.call(Method::POST, &deployer.path(&target), None).await;
        assert_eq!(status, 200, "{body}");
        let yaml = decoded(body["kubeconfigs"][0]["value"].as_str().unwrap());
        let yaml = String::from_utf8(yaml).unwrap();
        let found = |name: &str| {
            let line = yaml.lines().find_map(|line| line.trim().strip_prefix(name));
            line.unwrap().trim().to_owned()
        };
        let builder = || {
            let authority = decoded(&found("certificate-authority-data:"));
            let authority = Certificate::from_pem(&authority).unwrap();
            Client::builder()
                .tls_certs_only([authority])
                .no_proxy()
                .http1_only()
        };
        let pair = [
            decoded(&found("client-certificate-data:")),
            decoded(&found("client-key-data:")),
        ];
        let identity = Identity::from_pem(&pair.concat()).unwrap();
        let server = world.ready()["clusters"]["myAKSCluster"]["server"].clone();
        let server = server.as_str().unwrap();
        let asker = |client: reqwest::ClientBuilder, token| Self {
            client: client.build().unwrap(),
            server: server.to_owned(),
            token,
        };
        [
            asker(builder().identity(identity), None),
            asker(builder(), Some(found("token:"))),
        ]
    }

    pub(crate) async fn admin(world: &Sandbox) -> Self {
        let deployer = Somebody::named(world, "deployer").await;
        let [by_certificate, _] = Self::admins(world, &deployer).await;
        by_certificate
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.server));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        read(request.send().await.unwrap()).await
    }
}

fn decoded(base64: &str) -> Vec<u8> {
    STANDARD.decode(base64).unwrap()
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

/// The cluster, read, changed at these places and written.
pub(crate) async fn put(world: &Sandbox, deployer: &Somebody, properties: Value) -> (u16, Value) {
    let target = deployer.path(&format!("{CLUSTER}?api-version=2026-04-01"));
    let (status, mut body) = deployer.call(Method::GET, &target, None).await;
    assert_eq!(status, 200, "{body}");
    json_patch::merge(&mut body["properties"], &properties);
    let answer = deployer.call(Method::PUT, &target, Some(body)).await;
    let (_, moved) = control(world, "POST", "/clock", Some(json!({"advance": "5s"}))).await;
    assert!(moved.get("now").is_some(), "{moved}");
    answer
}

pub(crate) fn addon(enabled: bool) -> Value {
    json!({"addonProfiles": {"azureKeyvaultSecretsProvider": {"enabled": enabled, "config": null}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_addon_stays_on_while_a_secret_provider_class_exists() {
    let world = world().await;
    let deployer = Somebody::named(&world, "deployer").await;
    let (status, body) = put(&world, &deployer, addon(true)).await;
    assert_eq!(status, 200, "{body}");
    let admin = Asker::admin(&world).await;
    let class = json!({
        "apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass",
        "metadata": {"name": "web"}, "spec": {"provider": "azure"},
    });
    let (status, made) = admin.call(Method::POST, CLASSES, Some(class)).await;
    assert_eq!(status, 201, "{made}");

    let (status, refused) = put(&world, &deployer, addon(false)).await;
    assert_eq!(status, 400, "{refused}");
    assert!(refused.to_string().contains("\"BadRequest\""), "{refused}");
    let recorded =
        "AzureKeyvaultSecretsProvider addon cannot be disabled due to more than 0 Secret Provider Classes";
    assert!(refused.to_string().contains(recorded), "{refused}");
    let enabled = "/world?pointer=/clusters/myAKSCluster/addon/enabled";
    assert_eq!(control(&world, "GET", enabled, None).await.1, true);

    let (status, gone) = admin.call(Method::DELETE, &format!("{CLASSES}/web"), None).await;
    assert_eq!(status, 200, "{gone}");
    let (status, body) = put(&world, &deployer, addon(false)).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(control(&world, "GET", enabled, None).await.1, false);
}

#[tokio::test(flavor = "multi_thread")]
async fn admission_rules_refuse_and_change_objects_and_are_live() {
    let rules = json!([
        {"kinds": ["ConfigMap"], "namespaces": ["default"], "deny": "no maps here"},
        {"kinds": ["Namespace"], "patch": [{"op": "add", "path": "/metadata/annotations", "value": {"owner": "platform"}}]},
    ]);
    let world = world_with(Options {
        world: json!({"version": 1, "extends": "default", "clusters": {"myAKSCluster": {"admission": rules}}}),
        ..Options::default()
    })
    .await;
    let admin = Asker::admin(&world).await;
    let (status, refused) = admin.call(Method::POST, MAPS, Some(map("a"))).await;
    assert_eq!(status, 403, "{refused}");
    assert_eq!(
        refused["message"],
        "admission webhook \"validation.gatekeeper.sh\" denied the request: no maps here"
    );
    let space = json!({"metadata": {"name": "shop"}});
    let (status, changed) = admin.call(Method::POST, "/api/v1/namespaces", Some(space)).await;
    assert_eq!(status, 201, "{changed}");
    assert_eq!(changed["metadata"]["annotations"]["owner"], "platform");

    let none = json!({"clusters": {"myAKSCluster": {"admission": null}}});
    let (status, body) = control(&world, "PATCH", "/world", Some(none)).await;
    assert_eq!(status, 200, "{body}");
    let (status, made) = admin.call(Method::POST, MAPS, Some(map("a"))).await;
    assert_eq!(status, 201, "{made}");
    let deny = json!({"clusters": {"myAKSCluster": {"admission": [{"deny": "closed"}]}}});
    control(&world, "PATCH", "/world", Some(deny)).await;
    let (status, refused) = admin.call(Method::POST, MAPS, Some(map("b"))).await;
    assert_eq!(status, 403, "{refused}");
    let guarded = json!({"clusters": {"myAKSCluster": {"admission": ["safeguards"]}}});
    let (status, body) = control(&world, "PATCH", "/world", Some(guarded)).await;
    assert_eq!(status, 200, "{body}");
    const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = |probes: Value| {
        let mut container = json!({"name": "c", "image": "pause"});
        json_patch::merge(&mut container, &probes);
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "guarded"}, "spec": {
            "replicas": 0, "selector": {"matchLabels": {"app": "guarded"}},
            "template": {"metadata": {"labels": {"app": "guarded"}}, "spec": {"containers": [container]}},
        }})
    };
    let (status, refused) = admin
        .call(Method::POST, DEPLOYMENTS, Some(deployment(json!({}))))
        .await;
    let message = refused["message"].as_str().unwrap_or_default();
    assert!(
        status == 403 && message.contains("has no <livenessProbe>"),
        "{refused}"
    );
    let probe = json!({"exec": {"command": ["true"]}});
    let probes = json!({"livenessProbe": probe, "readinessProbe": probe});
    let (status, made) = admin
        .call(Method::POST, DEPLOYMENTS, Some(deployment(probes)))
        .await;
    assert_eq!(status, 201, "{made}");
    let spec = &made["spec"]["template"]["spec"];
    assert!(
        spec["containers"][0]["resources"]["requests"]["cpu"].is_string(),
        "{spec}"
    );
    assert!(spec["topologySpreadConstraints"].is_array(), "{spec}");
    let unplayed = json!({"clusters": {"myAKSCluster": {"admission": ["guards"]}}});
    let (status, refused) = control(&world, "PATCH", "/world", Some(unplayed)).await;
    assert_eq!(
        (status, refused["error"]["pointer"].as_str()),
        (400, Some("/clusters/myAKSCluster/admission/0"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn local_accounts_end_and_come_back_through_arm() {
    let world = world_with(Options {
        world: json!({"version": 1, "extends": "default", "clusters": {"myAKSCluster": {"entra": true}}}),
        ..Options::default()
    })
    .await;
    let deployer = Somebody::named(&world, "deployer").await;
    let askers = Asker::admins(&world, &deployer).await;
    for (off, status) in [(false, 200), (true, 401), (false, 200)] {
        let (put, body) = put(&world, &deployer, json!({"disableLocalAccounts": off})).await;
        assert_eq!(put, 200, "{body}");
        for asker in &askers {
            let (answered, body) = asker.call(Method::GET, MAPS, None).await;
            assert_eq!(
                answered,
                status,
                "token {}, off {off}: {body}",
                asker.token.is_some()
            );
        }
        let target = format!("{CLUSTER}/listClusterAdminCredential?api-version=2026-04-01");
        let (given, body) = deployer.call(Method::POST, &deployer.path(&target), None).await;
        assert_eq!(given, if off { 400 } else { 200 }, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_world_without_local_accounts_takes_only_entra() {
    let world = world_with(Options {
        world: json!({"version": 1, "extends": "entra"}),
        ..Options::default()
    })
    .await;
    let kubeconfig: Value =
        serde_json::from_str(&std::fs::read_to_string(world.dir().join("kubeconfig")).unwrap()).unwrap();
    let users = kubeconfig["users"].as_array().unwrap();
    assert_eq!(users.len(), 1, "{users:?}");
    let authority = &kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"];
    let authority = Certificate::from_pem(&decoded(authority.as_str().unwrap())).unwrap();
    let client = Client::builder().tls_certs_only([authority]).no_proxy();
    let asker = Asker {
        client: client.build().unwrap(),
        server: kubeconfig["clusters"][0]["cluster"]["server"]
            .as_str()
            .unwrap()
            .to_owned(),
        token: users[0]["user"]["token"].as_str().map(str::to_owned),
    };
    let (status, body) = asker.call(Method::GET, MAPS, None).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_revision_is_gone() {
    let world = world().await;
    let admin = Asker::admin(&world).await;
    let (_, list) = admin.call(Method::GET, MAPS, None).await;
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap();
    let exact = format!("{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact");
    admin.call(Method::POST, MAPS, Some(map("a"))).await;
    assert_eq!(admin.call(Method::GET, &exact, None).await.0, 200);
    let (status, compacted) = control(&world, "POST", "/clusters/myAKSCluster/compact", None).await;
    assert_eq!(status, 200, "{compacted}");
    assert!(compacted["revision"].as_u64().unwrap() > revision.parse().unwrap());
    let (status, expired) = admin.call(Method::GET, &exact, None).await;
    assert_eq!((status, &expired["reason"]), (410, &json!("Expired")));
    let (status, unknown) = control(&world, "POST", "/clusters/nowhere/compact", None).await;
    assert_eq!(status, 404, "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_forward_to_the_controller_reaches_its_edge() {
    let world = world().await;
    let (status, settled) = control(&world, "POST", "/clock", Some(json!({"advance": "10s"}))).await;
    assert_eq!(status, 200, "{settled}");
    let kubeconfig = Kubeconfig::read_from(world.dir().join("kubeconfig")).unwrap();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    config.proxy_url = None;
    let pods: kube::Api<Pod> =
        kube::Api::namespaced(kube::Client::try_from(config).unwrap(), "ingress-nginx");
    let found = pods.list(&ListParams::default()).await.unwrap();
    let name = found.items[0].metadata.name.clone().unwrap();
    let mut forward = pods.portforward(&name, &[80]).await.unwrap();
    let mut stream = forward.take_stream(80).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: nobody.example\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    assert!(page.starts_with("HTTP/1.1 404"), "{page}");
    assert!(page.contains("nginx"), "{page}");

    // The same page as at the edge's own socket.
    let socket = world.ready()["edges"]["myAKSCluster/nginx"]["socket"].clone();
    let url = format!("http://{}/", socket.as_str().unwrap());
    assert_eq!(direct(&world).get(url).send().await.unwrap().status(), 404);
}
