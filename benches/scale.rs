//! The embedded Kubernetes API and the actors behind it, with two hundred bindings.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use reqwest::{Certificate, Client, Identity, Method};
use serde_json::{Value, json};

use crate::show;
use crate::world::{CLUSTER, VAULT, World};

const BINDINGS: usize = 200;
/// Objects of one binding are made one after another, so many bindings at a time.
const AT_A_TIME: usize = 10;
const REQUESTS: usize = 400;
const WATCHERS: usize = 50;
const NAMESPACE: &str = "namespaces/default";

/// The API, asked as its administrator by certificate.
struct Api {
    client: Client,
    server: String,
}

/// Measures and prints.
pub(crate) async fn measure() {
    let world = open().await;
    let api = Api::of(&world);
    let identity = world.addon().await["identity"].clone();
    world.grant(&identity["objectId"]).await;
    world.settle().await;

    let start = Instant::now();
    create(&api, &world, &identity).await;
    while served(&world).await < BINDINGS {
        assert!(
            start.elapsed() < Duration::from_secs(900),
            "{} hosts are served",
            served(&world).await
        );
        world.settle().await;
    }
    show(
        &format!("sandbox: {BINDINGS} bindings made, until all are served"),
        &format!("{:.1} s", start.elapsed().as_secs_f64()),
        "20 s",
    );
    let bytes = world.look("/world").await["rss_bytes"]
        .as_u64()
        .unwrap_or_default();
    show(
        &format!("sandbox: resident memory with {BINDINGS} bindings (this process)"),
        &format!("{:.1} MB", bytes as f64 / 1e6),
        "160 MB",
    );

    let before = world.now_in_journal().await;
    for number in 0..REQUESTS {
        let path = format!("/apis/apps/v1/{NAMESPACE}/deployments/b{}", number % BINDINGS);
        api.ask(Method::GET, &path, None).await;
        let path = format!(
            "/apis/networking.k8s.io/v1/{NAMESPACE}/ingresses/b{}",
            number % BINDINGS
        );
        api.apply(&path, &ingress(number % BINDINGS)).await;
    }
    let entries = world.journal_after(before).await;
    for (method, title, budget) in [("GET", "GET", "1 ms"), ("PATCH", "server-side apply", "3 ms")] {
        let of = |entry: &&Value| entry["plane"] == "kubernetes" && entry["method"] == method;
        show(
            &format!("embedded API: {title} of one object, p95"),
            &format!("{:.2} ms", p95(entries.iter().filter(of))),
            budget,
        );
    }
    let fan_out = fan_out(&api).await;
    show(
        &format!("embedded API: a change reaches {WATCHERS} watches"),
        &format!("{:.1} ms", fan_out.as_secs_f64() * 1e3),
        "10 ms",
    );

    let before = world.now_in_journal().await;
    let start = Instant::now();
    for _ in 0..24 {
        world.advance("1h").await;
    }
    show(
        &format!("sandbox: advance 24h with {BINDINGS} mounts, nothing renewed"),
        &format!("{:.1} s", start.elapsed().as_secs_f64()),
        "5 s",
    );
    let path = format!("/journal?after={before}&plane=vault&actors=true");
    let journal = world.look(&path).await;
    let fetched = journal["entries"].as_array().cloned().unwrap_or_default();
    show(
        "Key Vault: GET of a secret by the provider, p95",
        &format!("{:.2} ms", p95(fetched.iter())),
        "1 ms",
    );
}

/// A world with a certificate for each binding, and the add-on with rotation.
async fn open() -> World {
    let certificate = |number: usize| {
        let host = format!("b{number}.example.com");
        let of = json!({"hosts": [host], "key": "P-256", "versions": [{"from": "-2d", "until": "+300d"}]});
        (format!("b{number}"), of)
    };
    let certificates: BTreeMap<_, _> = (0..BINDINGS).map(certificate).collect();
    let addon = json!({"key": "azureKeyvaultSecretsProvider", "enabled": true,
        "config": {"enableSecretRotation": "true", "rotationPollInterval": "2m"}});
    let world = World::with(json!({
        "vaults": {VAULT: {"certificates": certificates}}, "clusters": {CLUSTER: {"addon": addon}},
    }));
    let world = world.await;
    world.advance("1m").await;
    world
}

async fn create(api: &Api, world: &World, identity: &Value) {
    let tenant = world.deployer.variable("ARM_TENANT_ID").expect("a tenant");
    let workers = (0..AT_A_TIME).map(|first| async move {
        for number in (first..BINDINGS).step_by(AT_A_TIME) {
            for (path, object) in [
                (
                    "apis/secrets-store.csi.x-k8s.io/v1",
                    class(number, tenant, &identity["clientId"]),
                ),
                ("apis/apps/v1", deployment(number)),
                ("apis/networking.k8s.io/v1", ingress(number)),
            ] {
                let plural = match object["kind"].as_str().unwrap_or_default() {
                    "SecretProviderClass" => "secretproviderclasses",
                    "Deployment" => "deployments",
                    _ => "ingresses",
                };
                let path = format!("/{path}/{NAMESPACE}/{plural}/b{number}");
                api.apply(&path, &object).await;
            }
        }
    });
    join_all(workers).await;
}

fn class(number: usize, tenant: &str, client: &Value) -> Value {
    let objects = format!("array:\n  - |\n    objectName: b{number}\n    objectType: secret\n");
    let data = json!([{"objectName": format!("b{number}"), "key": "tls.crt"}, {"objectName": format!("b{number}"), "key": "tls.key"}]);
    json!({
        "apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass", "metadata": {"name": format!("b{number}")},
        "spec": {
            "provider": "azure",
            "parameters": {"keyvaultName": VAULT, "tenantID": tenant, "useVMManagedIdentity": "true",
                "userAssignedIdentityID": client, "objects": objects},
            "secretObjects": [{"secretName": format!("b{number}"), "type": "kubernetes.io/tls", "data": data}],
        },
    })
}

fn deployment(number: usize) -> Value {
    let name = format!("b{number}");
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {
                "containers": [{"name": "sync", "image": "pause", "volumeMounts": [{"name": "store", "mountPath": "/mnt", "readOnly": true}]}],
                "volumes": [{"name": "store", "csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": true,
                    "volumeAttributes": {"secretProviderClass": name}}}],
            },
        }},
    })
}

fn ingress(number: usize) -> Value {
    let (name, host) = (format!("b{number}"), format!("b{number}.example.com"));
    let backend = json!({"service": {"name": "shop", "port": {"number": 80}}});
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name},
        "spec": {
            "ingressClassName": "nginx", "tls": [{"hosts": [host], "secretName": name}],
            "rules": [{"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
        },
    })
}

/// How many of the hosts are served with their certificate.
async fn served(world: &World) -> usize {
    let edges = world.look("/edges").await;
    let hosts = edges[format!("{CLUSTER}/nginx")]["hosts"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let is = |host: &&Value| {
        host["secret"].is_string() && host["host"].as_str().is_some_and(|host| host.starts_with('b'))
    };
    hosts.iter().filter(is).count()
}

/// From a write until every watch has shown it.
async fn fan_out(api: &Api) -> Duration {
    let url = format!("{}/api/v1/{NAMESPACE}/configmaps?watch=true", api.server);
    let opened = (0..WATCHERS).map(|_| async { api.client.get(&url).send().await.expect("a watch") });
    let watches = join_all(opened).await;
    let seen = watches.into_iter().map(|mut watch| async move {
        let mut text = String::new();
        while !text.contains("fan-out") {
            let chunk = watch.chunk().await.expect("a watch goes on").expect("an event");
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
        Instant::now()
    });
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "fan-out"}});
    let write = async {
        api.ask(
            Method::POST,
            &format!("/api/v1/{NAMESPACE}/configmaps"),
            Some(&map),
        )
        .await;
        Instant::now()
    };
    let (written, seen) = tokio::join!(write, join_all(seen));
    let last = seen.into_iter().max().expect("a watch");
    last.saturating_duration_since(written)
}

fn p95<'a>(entries: impl Iterator<Item = &'a Value>) -> f64 {
    let mut times: Vec<_> = entries.filter_map(|entry| entry["ms"].as_f64()).collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() * 95 / 100).copied().unwrap_or_default()
}

impl Api {
    fn of(world: &World) -> Self {
        let path = world.deployer.variable("KUBECONFIG").expect("a kubeconfig");
        let text = std::fs::read_to_string(path).expect("a kubeconfig");
        let config: Value = serde_json::from_str(&text).expect("JSON");
        let users = config["users"].as_array().cloned().unwrap_or_default();
        let admin = format!("{CLUSTER}-admin");
        let user = users
            .iter()
            .find(|user| user["name"] == admin.as_str())
            .expect("an administrator");
        let data = |value: &Value| {
            STANDARD
                .decode(value.as_str().unwrap_or_default())
                .expect("base64")
        };
        let pair = [
            data(&user["user"]["client-certificate-data"]),
            data(&user["user"]["client-key-data"]),
        ];
        let cluster = &config["clusters"][0]["cluster"];
        let authority = data(&cluster["certificate-authority-data"]);
        let client = Client::builder()
            .tls_certs_only([Certificate::from_pem(&authority).expect("an authority")])
            .identity(Identity::from_pem(&pair.concat()).expect("a pair"))
            .no_proxy()
            .http1_only();
        Self {
            client: client.build().expect("a client"),
            server: cluster["server"].as_str().expect("a server").to_owned(),
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) {
        let mut request = self.client.request(method, format!("{}{path}", self.server));
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let answer = request.send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.bytes().await.expect("a body");
    }

    async fn apply(&self, path: &str, object: &Value) {
        let url = format!("{}{path}?fieldManager=bench&force=true", self.server);
        let request = self
            .client
            .patch(url)
            .header("content-type", "application/apply-patch+yaml");
        let answer = request.body(object.to_string()).send().await.expect("an answer");
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        assert!(status.is_success(), "{path}: {status} {text}");
    }
}
