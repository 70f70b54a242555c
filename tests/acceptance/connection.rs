//! How a cluster's API is reached, and what is said when it is not.

use kvtls::sandbox::demo::QUICKSTART;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::terraform::{SHOP, Terraform};
use crate::with;
use crate::world::{CLUSTER, World};

/// The quickstart with one more line in the binding.
fn entra() -> Value {
    json!({ "entra": true, "azure_rbac": false, "local_accounts": false })
}

async fn is_untouched(world: &World) {
    assert_ne!(world.addon().await["enabled"], true, "nothing was changed");
}

/// Somebody with Reader in Azure and a role in the cluster needs no credential of the cluster: server and CA are
/// remembered.
#[tokio::test(flavor = "multi_thread")]
async fn s06_a_remembered_server_and_a_token_suffice() {
    let world = World::with(json!({
        "clusters": { CLUSTER: entra() },
        "principals": { "planner": { "kubernetes": [{ "cluster": CLUSTER, "cluster_role": "cluster-admin" }] } },
    }))
    .await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();

    let planner = terraform.run_by(&world.visitor("planner"));
    let before = world.now_in_journal().await;
    let plan = planner.plan().await;
    assert_eq!(plan.run.status, Some(0), "no difference\n{}", plan.evidence());
    let blind = plan.warning(&["KVTLS-W001"]);
    assert!(!blind.detail.contains("cluster objects"), "{}", blind.detail);
    let asked = world.journal_after(before).await;
    let urls: Vec<&str> = asked.iter().filter_map(|entry| entry["url"].as_str()).collect();
    assert!(!urls.iter().any(|url| url.contains("Credential")), "{urls:#?}");
    assert!(
        urls.iter().any(|url| url.ends_with("/deployments/shop")),
        "{urls:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_the_cluster_cannot_give_is_told_before_the_first_write() {
    let entra_only = World::with(json!({ "clusters": { CLUSTER: entra() } })).await;
    for (credential, code) in [("admin", "KVTLS-E424"), ("user", "KVTLS-E423")] {
        let line = format!("kubernetes   = {{ credential = \"{credential}\" }}");
        let terraform = Terraform::new(&entra_only.deployer, &with(&line));
        terraform.apply().await.fails_with(&[code, "Nothing was changed"]);
        assert_eq!(terraform.state(SHOP).await, None, "{credential}");
        is_untouched(&entra_only).await;
    }
    let without = World::start().await;
    let terraform = Terraform::new(
        &without.deployer,
        &with("kubernetes   = { credential = \"entra\" }"),
    );
    terraform.apply().await.fails_with(&["KVTLS-E422"]);
    is_untouched(&without).await;
    let admin = Terraform::new(
        &without.deployer,
        &with("kubernetes   = { credential = \"admin\" }"),
    );
    admin.apply().await.succeeds();
    admin.plan_is_empty().await;
}

/// Who is known and may not is told the command of the authorizer that refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_in_the_cluster_is_told_with_its_command() {
    let world = World::with(json!({
        "clusters": { CLUSTER: entra() },
        "principals": { "deployer": { "kubernetes": [] } },
    }))
    .await;
    let terraform = world.quickstart();
    let apply = terraform.apply().await.fails_with(&["KVTLS-E501"]);
    apply.error(&[
        "kubectl create rolebinding kvtls --namespace default",
        "managedClusters/myAKSCluster/namespaces/default",
    ]);
    is_untouched(&world).await;
}

/// A private cluster is told from one that is down, and a proxy in its network leads in.
#[tokio::test(flavor = "multi_thread")]
async fn a_private_cluster_is_reached_through_a_proxy() {
    let world = World::with(json!({ "clusters": { CLUSTER: { "private": true } } })).await;
    let terraform = world.quickstart();
    terraform.apply().await.fails_with(&["KVTLS-E606", "proxy_url"]);
    is_untouched(&world).await;

    let proxy = proxy_to(world.api_server()).await;
    terraform.write(&with(&format!("kubernetes   = {{ proxy_url = \"{proxy}\" }}")));
    terraform.apply().await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
    terraform.destroy().await.succeeds();
}

/// A CONNECT proxy that leads to one place whatever is asked for.
async fn proxy_to(server: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = client.read_u8().await else { return };
                    head.push(byte);
                }
                let Ok(mut inside) = TcpStream::connect(server).await else {
                    return;
                };
                if client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.is_ok() {
                    drop(tokio::io::copy_bidirectional(&mut client, &mut inside).await);
                }
            });
        }
    });
    format!("http://{address}")
}

/// Azure roles are asked for what no role of Kubernetes allows: whoever has none is told the command, whoever has one
/// needs no binding in the cluster.
#[tokio::test(flavor = "multi_thread")]
async fn s15_azure_roles_open_a_cluster_that_asks_azure() {
    let owner = json!({ "role": "Owner", "scope": "/subscriptions/main" });
    let officer = json!({ "role": "Key Vault Certificates Officer", "scope": "/subscriptions/main" });
    let admin = json!({ "role": "Azure Kubernetes Service RBAC Cluster Admin", "scope": format!("/clusters/{CLUSTER}") });
    let world = World::with(json!({
        "clusters": { CLUSTER: { "entra": true, "azure_rbac": true, "local_accounts": false } },
        "principals": {
            "contributor": { "assignments": [owner, officer], "kubernetes": [] },
            "reader": { "assignments": [owner, officer, admin], "kubernetes": [] },
        },
    }))
    .await;
    let without = Terraform::new(&world.visitor("contributor"), QUICKSTART);
    without.apply().await.fails_with(&[
        "KVTLS-E501",
        "create, patch secretproviderclasses.secrets-store.csi.x-k8s.io",
        "Azure Kubernetes Service RBAC",
    ]);
    is_untouched(&world).await;
    let with = Terraform::new(&world.visitor("reader"), QUICKSTART);
    with.apply().await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await);
    with.plan_is_empty().await;
}

/// A role in a cluster of minutes ago may still be on its way: it is waited for. In an older one it is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_in_a_new_cluster_is_waited_for() {
    let refused = json!({ "status": 403, "body": crate::world::forbidden() });
    let denied = json!({ "status": 201, "body": {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "status": { "allowed": false },
    } });
    for (path, answer) in [
        ("**/secretproviderclasses/*", refused),
        ("**/selfsubjectaccessreviews", denied),
    ] {
        let apply = async |age: &str, times: Value| {
            let world = World::with(json!({
                "clusters": { CLUSTER: { "entra": true, "age": age } },
                "principals": { "deployer": { "kubernetes": [{ "cluster": CLUSTER, "cluster_role": "cluster-admin" }] } },
            }))
            .await;
            let terraform = world.quickstart();
            assert_eq!(terraform.plan().await.run.status, Some(2));
            let saved = terraform.directory().join("last.plan").display().to_string();
            let fault = json!({
                "match": { "plane": "kubernetes", "path": path, "as": "deployer" },
                "times": times,
                "do": answer,
            });
            let fault = world.fault(fault).await;
            let apply = terraform.command(&["apply", "-json", &saved]).await;
            (world.hits(&fault).await, apply, world)
        };
        let (hits, old, world) = apply("-2h", Value::Null).await;
        assert_eq!(old.run.status, Some(1), "{}", old.evidence());
        is_untouched(&world).await;

        // Refused as often as the old cluster refused, so only who asks once more is let in.
        let (again, new, world) = apply("-5m", json!(hits)).await;
        new.succeeds();
        assert_eq!(again, hits);
        assert_eq!(world.served().await, world.in_vault().await);
    }
}
