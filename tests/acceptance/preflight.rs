//! What identities with fewer rights see and may do: found out before the first write, all of it at once.

use kvtls::sandbox::demo::QUICKSTART;
use serde_json::{Value, json};

use crate::terraform::{SHOP, Terraform};
use crate::world::{World, is_write};

const SECRETS_USER: &str = "4633458b-17de-408a-b874-0445c86b69e6";

/// The quickstart with a second binding beside the first.
fn two() -> String {
    let other = r#"
resource "kvtls_ingress_binding" "other" {
  name         = "other"
  cluster_id   = "${local.group}/Microsoft.ContainerService/managedClusters/myAKSCluster"
  key_vault_id = "${local.group}/Microsoft.KeyVault/vaults/myAKSKeyVault"
  certificates = { my-tls-cert = { hosts = ["myapp.example.com"] } }
  verify       = { level = "synced" }
}
"#;
    format!("{QUICKSTART}{other}")
}

/// Reader on cluster and vault is enough for a plan: what it may not see keeps its last known value.
#[tokio::test(flavor = "multi_thread")]
async fn s06_a_reader_plans_and_writes_nothing() {
    let world = World::start().await;
    let terraform = Terraform::new(&world.deployer, &two());
    terraform.apply().await.succeeds();

    let planner = terraform.run_by(&world.visitor("planner"));
    let before = world.now_in_journal().await;
    let plan = planner.plan().await;
    assert_eq!(plan.run.status, Some(0), "no difference\n{}", plan.evidence());
    // One summary for all bindings, so that the CLI groups them into one warning.
    let summaries: Vec<&str> = plan.diagnostics.iter().map(|it| it.summary.as_str()).collect();
    assert_eq!(summaries.len(), 2, "{}", plan.evidence());
    assert_eq!(summaries[0], summaries[1], "{}", plan.evidence());
    plan.warning(&["KVTLS-W001"]);
    let writes: Vec<Value> = world
        .journal_after(before)
        .await
        .into_iter()
        .filter(is_write)
        .collect();
    assert!(writes.is_empty(), "{writes:#?}");

    let strict = terraform
        .run_by(&world.visitor("planner"))
        .with("KVTLS_BLIND_PLAN", "error");
    let plan = strict.plan().await;
    assert_eq!(plan.run.status, Some(1), "{}", plan.evidence());
    plan.error(&["KVTLS-E029", "blind_plan"]);
}

/// A plan of the reader's, with a change in it, applies under somebody who may.
#[tokio::test(flavor = "multi_thread")]
async fn s06_a_readers_saved_plan_applies_under_a_writer() {
    let world = World::start().await;
    let planner = Terraform::new(&world.visitor("planner"), QUICKSTART);
    let plan = planner.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    plan.warning(&["KVTLS-E501", "managedClusters/write"]);
    let saved = planner.directory().join("last.plan");

    let writer = Terraform::new(&world.deployer, QUICKSTART);
    let path = saved.display().to_string();
    writer
        .command(&["apply", "-json", "-auto-approve", &path])
        .await
        .succeeds();
    assert_eq!(world.served().await, world.in_vault().await);
    writer.plan_is_empty().await;
}

/// Without the right to assign roles nothing is written; one error names everything that is missing. The owner's grant
/// at the resource group cures it, and nobody assigns another one.
#[tokio::test(flavor = "multi_thread")]
async fn s07_a_contributor_is_told_what_is_missing_before_the_first_write() {
    let contributor = json!({ "principals": { "contributor": { "assignments": [
        { "role": "Contributor", "scope": "/subscriptions/main" },
    ] } } });
    let world = World::with(contributor).await;
    let terraform = Terraform::new(&world.visitor("contributor"), QUICKSTART);
    let words = [
        "KVTLS-E501",
        "Microsoft.Authorization/roleAssignments/write",
        "az role assignment create --role \"Key Vault Secrets User\"",
        "mode = \"require\"",
        "certificates/read",
    ];
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    plan.warning(&words);

    let before = world.now_in_journal().await;
    let apply = terraform.apply().await.fails_with(&words);
    let errors = apply
        .diagnostics
        .iter()
        .filter(|it| it.severity == "error")
        .count();
    assert_eq!(errors, 1, "all in one\n{}", apply.evidence());
    assert_eq!(world.writes_after(before).await, Vec::<String>::new());
    assert!(terraform.state(SHOP).await.is_none(), "nothing in state");

    // The owner switches the add-on on and grants its identity, at the resource group.
    world
        .change_addon(|addon| {
            *addon = json!({ "enabled": true, "config": { "enableSecretRotation": "true", "rotationPollInterval": "2m" } });
        })
        .await;
    let identity = world.addon().await["identity"]["objectId"].clone();
    world
        .assign(
            &world.group_id(),
            SECRETS_USER,
            identity.as_str().expect("an identity"),
        )
        .await;
    let before = world.now_in_journal().await;
    terraform.apply().await.succeeds();
    let writes = world.writes_after(before).await;
    assert!(
        !writes
            .iter()
            .any(|it| it.contains("roleAssignments") || it.contains("managedClusters")),
        "{writes:#?}"
    );
    let state = terraform.state(SHOP).await.expect("the shop");
    assert_eq!(state["grants"][0]["managed"], false, "{state:#}");
    assert_eq!(world.served().await, world.in_vault().await);
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(0), "{}", plan.evidence());
}

/// Rights in the cluster and rights in Azure, in one list.
#[tokio::test(flavor = "multi_thread")]
async fn s07_rights_in_the_cluster_are_in_the_same_list() {
    let members = json!({
        "clusters": { "myAKSCluster": { "entra": true } },
        "principals": { "contributor": { "kubernetes": [{ "cluster": "myAKSCluster", "cluster_role": "view" }] } },
    });
    let world = World::with(members).await;
    let terraform = Terraform::new(&world.visitor("contributor"), QUICKSTART);
    let before = world.now_in_journal().await;
    let apply = terraform.apply().await.fails_with(&[
        "KVTLS-E501",
        "roleAssignments/write",
        "create, patch secretproviderclasses.secrets-store.csi.x-k8s.io in namespace \"default\"",
        "create, patch ingresses.networking.k8s.io",
        "secrets in namespace \"default\"",
    ]);
    assert_eq!(world.writes_after(before).await, Vec::<String>::new());
    assert_eq!(
        apply
            .diagnostics
            .iter()
            .filter(|it| it.severity == "error")
            .count(),
        1,
        "{}",
        apply.evidence()
    );
}

/// The namespace and the Gateway's kinds are rights like the others.
#[tokio::test(flavor = "multi_thread")]
async fn s07_the_namespace_and_the_gateway_are_in_the_list() {
    let members = json!({
        "clusters": { "myAKSCluster": { "entra": true } },
        "principals": { "contributor": {
            "assignments": [{ "role": "Owner", "scope": "/subscriptions/main" }],
            "kubernetes": [{ "cluster": "myAKSCluster", "cluster_role": "view" }],
        } },
    });
    let world = World::with(members).await;
    let configuration = crate::gateway::quickstart_with(
        r#"namespace        = "web"
  create_namespace = true
  gateway = {
    class_name = "approuting-istio"
    rules      = [{ host = "myapp.example.com", paths = [{ service = "my-app-service", port = 80 }] }]
  }"#,
    );
    let terraform = Terraform::new(&world.visitor("contributor"), &configuration);
    let before = world.now_in_journal().await;
    terraform.apply().await.fails_with(&[
        "KVTLS-E501",
        "create, patch namespaces everywhere, to make the namespace",
        "kubectl create namespace web",
        "create, patch gateways.gateway.networking.k8s.io in namespace \"web\"",
        "create, patch httproutes.gateway.networking.k8s.io",
        "gateways.gateway.networking.k8s.io,httproutes.gateway.networking.k8s.io",
    ]);
    assert_eq!(world.writes_after(before).await, Vec::<String>::new());
}

/// An owner may do everything, but for what is denied.
#[tokio::test(flavor = "multi_thread")]
async fn s07_a_deny_assignment_counts_as_a_missing_right() {
    let denied = json!({ "deny_assignments": { "stack": {
        "scope": "/clusters/myAKSCluster",
        "actions": ["Microsoft.ContainerService/managedClusters/write"],
    } } });
    let world = World::with(denied).await;
    let terraform = world.quickstart();
    let before = world.now_in_journal().await;
    terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E501", "managedClusters/write", "az aks enable-addons"]);
    assert_eq!(world.writes_after(before).await, Vec::<String>::new());
}

/// A job that only looks for drift, and plans nothing, is told what it could not see.
#[tokio::test(flavor = "multi_thread")]
async fn s06_a_refresh_that_sees_little_says_so() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let looks = ["plan", "-refresh-only", "-json"];
    let planner = terraform.run_by(&world.visitor("planner"));
    let plan = planner.command(&looks).await.succeeds();
    plan.warning(&["KVTLS-W001"]);
    let strict = planner.with("KVTLS_BLIND_PLAN", "error");
    strict.command(&looks).await.fails_with(&["KVTLS-E029"]);
}
