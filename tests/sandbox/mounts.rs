//! The diagnosis table's rows that Azure causes, each by its cause in a whole world: which object says what.

use kvtls::sandbox::{Options, Sandbox};
use reqwest::Method;
use serde_json::{Value, json};

use super::arm::Somebody;
use super::client::{control, world_with};
use super::kubernetes::{Asker, addon, put};

const CLASSES: &str = "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/default/secretproviderclasses";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn tables() -> Value {
    let certificate =
        json!({"hosts": ["a.example.com"], "key": "P-256", "versions": [{"from": "-2d", "until": "+60d"}]});
    let with = |more: Value| {
        let mut vault =
            json!({"resource_group": "myResourceGroup", "rbac": true, "certificates": {"c": certificate}});
        json_patch::merge(&mut vault, &more);
        vault
    };
    json!({
        "version": 1, "extends": "default",
        "tenants": {"fabrikam": {}},
        "clusters": {"myAKSCluster": {"oidc": true}},
        "vaults": {
            "with-policies": with(json!({"rbac": false})),
            "walled": with(json!({"firewall": {"cluster": true}})),
            "private-only": with(json!({"public_network": false})),
            "busy": with(json!({"throttle": true})),
            "foreign": with(json!({"tenant": "fabrikam"})),
            "odd": with(json!({"certificates": {
                "modern": {"hosts": ["a.example.com"], "key": "P-256", "content": "pfx-modern"},
                "keyless": {"hosts": ["a.example.com"], "key": "P-256", "exportable": false},
            }})),
        },
    })
}

/// The cluster with its add-on on, whose identity may read the secrets of every vault here.
async fn scene() -> (Sandbox, Asker, String, String) {
    let world = world_with(Options {
        world: tables(),
        ..Options::default()
    })
    .await;
    let deployer = Somebody::named(&world, "deployer").await;
    let (status, body) = put(&world, &deployer, addon(true)).await;
    assert_eq!(status, 200, "{body}");
    let target = "Microsoft.ContainerService/managedClusters/myAKSCluster?api-version=2026-04-01";
    let (_, cluster) = deployer.call(Method::GET, &deployer.path(target), None).await;
    let identity = cluster["properties"]["addonProfiles"]["azureKeyvaultSecretsProvider"]["identity"].clone();
    let subscription = &deployer.subscription;
    let role = format!(
        "/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/\
         4633458b-17de-408a-b874-0445c86b69e6"
    );
    let target = format!(
        "/subscriptions/{subscription}/resourceGroups/myResourceGroup/providers/Microsoft.Authorization/roleAssignments\
         /11111111-2222-4333-8444-555555555555?api-version=2022-04-01"
    );
    let body = json!({"properties": {"roleDefinitionId": role, "principalId": identity["objectId"],
        "principalType": "ServicePrincipal"}});
    let (status, made) = deployer.call(Method::PUT, &target, Some(body)).await;
    assert_eq!(status, 201, "{made}");
    let admin = Asker::admin(&world).await;
    let tenant = world.environment("deployer", kvtls::sandbox::Mode::Ports)["ARM_TENANT_ID"].clone();
    let client = identity["clientId"].as_str().unwrap().to_owned();
    (world, admin, tenant, client)
}

fn class(name: &str, parameters: &Value, objects: &str) -> Value {
    let mut class = json!({
        "apiVersion": "secrets-store.csi.x-k8s.io/v1", "kind": "SecretProviderClass", "metadata": {"name": name},
        "spec": {"provider": "azure", "parameters": parameters},
    });
    class["spec"]["parameters"]["objects"] = objects.into();
    class
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "containers": [{"name": "c", "image": "pause", "volumeMounts": [{"name": "store", "mountPath": "/mnt"}]}],
            "volumes": [{"name": "store", "csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": true,
                "volumeAttributes": {"secretProviderClass": name}}}],
        },
    })
}

fn object(name: &str, kind: &str) -> String {
    format!("array:\n  - |\n    objectName: {name}\n    objectType: {kind}\n")
}

/// What the events of this reason say of a pod.
async fn said(admin: &Asker, reason: &str, pod: &str) -> String {
    let (_, events) = admin
        .call(Method::GET, "/api/v1/namespaces/default/events", None)
        .await;
    let items = events["items"].as_array().unwrap().iter();
    let own = items.filter(|event| event["involvedObject"]["name"] == pod && event["reason"] == reason);
    own.map(|event| event["message"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_cause_in_azure_shows_on_the_pod() {
    let (world, admin, tenant, client) = scene().await;
    let node = |vault: &str| {
        json!({"keyvaultName": vault, "tenantID": tenant, "useVMManagedIdentity": "true",
            "userAssignedIdentityID": client})
    };
    let workload = |client: &str, tenant: &str| json!({"keyvaultName": "myAKSKeyVault", "tenantID": tenant, "clientID": client});
    let mut unnamed = node("myAKSKeyVault");
    unnamed["userAssignedIdentityID"] = "".into();
    let nobody = "00000000-0000-4000-8000-000000000001";
    let elsewhere = "00000000-0000-4000-8000-000000000002";
    // Row, parameters, object, key fragment.
    let rows = [
        (
            6,
            node("with-policies"),
            object("c", "secret"),
            "does not have secrets get permission",
        ),
        (7, node("walled"), object("c", "secret"), "ForbiddenByFirewall"),
        (
            8,
            node("private-only"),
            object("c", "secret"),
            "ForbiddenByConnection",
        ),
        (
            9,
            node("myAKSKeyVault"),
            object("disabled", "secret"),
            "SecretDisabled",
        ),
        (
            11,
            unnamed,
            object("wildcard", "secret"),
            "Multiple user assigned identities exist, please specify the clientId",
        ),
        (
            13,
            workload(nobody, &tenant),
            object("wildcard", "secret"),
            "AADSTS700016",
        ),
        (
            16,
            workload(nobody, elsewhere),
            object("wildcard", "secret"),
            "isn't configured to acquire tokens for tenant",
        ),
        (
            17,
            node("foreign"),
            object("c", "secret"),
            "AKV10032: Invalid issuer",
        ),
        (
            26,
            node("odd"),
            object("modern", "secret"),
            "pkcs12: unknown digest algorithm",
        ),
        (43, node("busy"), object("c", "secret"), "RESPONSE 429"),
    ];
    for (row, parameters, objects, _) in &rows {
        let name = format!("row-{row}");
        admin
            .call(Method::POST, CLASSES, Some(class(&name, parameters, objects)))
            .await;
        admin.call(Method::POST, PODS, Some(pod(&name))).await;
    }
    let mut by_secret = pod("row-19");
    by_secret["spec"]["volumes"][0]["csi"]["nodePublishSecretRef"] = json!({"name": "credential"});
    let parameters = json!({"keyvaultName": "myAKSKeyVault", "tenantID": tenant});
    let with_secret = class("row-19", &parameters, &object("wildcard", "secret"));
    admin.call(Method::POST, CLASSES, Some(with_secret)).await;
    admin.call(Method::POST, PODS, Some(by_secret)).await;
    let (status, settled) = control(&world, "POST", "/settle", Some(json!({"timeout": "20s"}))).await;
    assert_eq!(status, 200, "{settled}");
    for (row, _, _, words) in &rows {
        let message = said(&admin, "FailedMount", &format!("row-{row}")).await;
        assert!(message.contains(words), "row {row}: {message}");
    }
    let message = said(&admin, "FailedMount", "row-19").await;
    assert!(
        message.contains("fetching NodePublishSecretRef default/credential failed"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_without_a_key_or_a_pod_is_told_or_is_not() {
    let (world, admin, tenant, client) = scene().await;
    let parameters = |vault: &str| {
        json!({"keyvaultName": vault, "tenantID": tenant, "useVMManagedIdentity": "true",
            "userAssignedIdentityID": client})
    };
    let tls = |secret: &str, name: &str| {
        json!([{"secretName": secret, "type": "kubernetes.io/tls", "data": [
            {"objectName": name, "key": "tls.key"}, {"objectName": name, "key": "tls.crt"}]}])
    };
    // 29: no private key in what is mounted.
    let mut keyless = class("row-29", &parameters("odd"), &object("keyless", "secret"));
    keyless["spec"]["secretObjects"] = tls("s29", "keyless");
    // 35: nobody mounts it.
    let mut unused = class(
        "row-35",
        &parameters("myAKSKeyVault"),
        &object("wildcard", "secret"),
    );
    unused["spec"]["secretObjects"] = tls("s35", "wildcard");
    // 36: mounted, and rotation is off.
    let mut still = class(
        "row-36",
        &parameters("myAKSKeyVault"),
        &object("wildcard", "secret"),
    );
    still["spec"]["secretObjects"] = tls("s36", "wildcard");
    for class in [keyless, unused, still] {
        let (status, made) = admin.call(Method::POST, CLASSES, Some(class)).await;
        assert_eq!(status, 201, "{made}");
    }
    for name in ["row-29", "row-36"] {
        admin.call(Method::POST, PODS, Some(pod(name))).await;
    }
    control(&world, "POST", "/clock", Some(json!({"advance": "2s"}))).await;
    let message = said(&admin, "FailedToCreateSecret", "row-29").await;
    assert!(!message.is_empty(), "the key is missing and somebody says so");
    let secret = async |name: &str| {
        let path = format!("/api/v1/namespaces/default/secrets/{name}");
        admin.call(Method::GET, &path, None).await
    };
    assert_eq!(secret("s35").await.0, 404);
    let (status, before) = secret("s36").await;
    assert_eq!(status, 200, "{before}");
    let renewed = control(
        &world,
        "POST",
        "/vaults/myAKSKeyVault/certificates/wildcard/renew",
        Some(json!({})),
    )
    .await;
    assert_eq!(renewed.0, 200, "{}", renewed.1);
    control(&world, "POST", "/clock", Some(json!({"advance": "1h"}))).await;
    assert_eq!(secret("s36").await.1["data"], before["data"]);
    for name in ["row-35", "row-36"] {
        for reason in ["FailedToCreateSecret", "FailedMount", "MountRotationFailed"] {
            assert_eq!(said(&admin, reason, name).await, "", "{name} {reason}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_at_a_mount_says_what_was_done() {
    let (world, admin, tenant, client) = scene().await;
    let node = json!({"keyvaultName": "with-logs", "tenantID": tenant, "useVMManagedIdentity": "true",
        "userAssignedIdentityID": client});
    let mut good = node.clone();
    good["keyvaultName"] = "myAKSKeyVault".into();
    for (name, parameters) in [("good", good), ("bad", node)] {
        let class = class(name, &parameters, &object("wildcard", "secret"));
        let (status, made) = admin.call(Method::POST, CLASSES, Some(class)).await;
        assert_eq!(status, 201, "{made}");
        admin.call(Method::POST, PODS, Some(pod(name))).await;
    }
    control(&world, "POST", "/clock", Some(json!({"advance": "2s"}))).await;
    let log = async |path: String| {
        let (status, text) = admin.call(Method::GET, &path, None).await;
        (status, text.to_string())
    };
    let (status, text) = log(format!("{PODS}/good/log")).await;
    assert!(
        status == 200 && text.contains("/mnt/wildcard has"),
        "{status} {text}"
    );
    let (status, text) = log(format!("{PODS}/bad/log")).await;
    assert!(
        status == 400 && text.contains("is waiting to start: ContainerCreating"),
        "{status} {text}"
    );
    const SYSTEM: &str = "/api/v1/namespaces/kube-system/pods";
    let (_, pods) = admin.call(Method::GET, SYSTEM, None).await;
    for (container, words) in [
        (
            "secrets-store",
            [
                "node publish volume complete",
                "failed to mount secrets store object content",
            ],
        ),
        ("provider-azure-installer", ["fetched object", "no such host"]),
    ] {
        let runs = |pod: &&Value| pod["spec"]["containers"].to_string().contains(container);
        let found = pods["items"].as_array().unwrap().iter().find(runs).unwrap();
        let name = found["metadata"]["name"].as_str().unwrap();
        let (status, text) = log(format!("{SYSTEM}/{name}/log?container={container}")).await;
        assert_eq!(status, 200, "{text}");
        for word in words {
            assert!(text.contains(word), "{container} does not say {word}: {text}");
        }
    }
}
