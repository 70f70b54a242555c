//! Mistakes are told where they are, with an example of what is right.

use kvtls::sandbox::demo::QUICKSTART;

use crate::terraform::{Diagnostic, Terraform};
use crate::world::{World, is_write};

/// What is written instead of what in the quickstart, which attribute is to blame, and words of the error.
type Row = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// Wrong whatever the world is like: `terraform validate` finds them.
const CONTRADICTIONS: &[Row] = &[
    (
        r#""${local.group}/Microsoft.ContainerService/managedClusters/myAKSCluster""#,
        r#""myAKSCluster""#,
        "cluster_id",
        &["/subscriptions/", "managedClusters"],
    ),
    (
        r#""${local.group}/Microsoft.ContainerService/managedClusters/myAKSCluster""#,
        r#""/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/g/providers/Microsoft.KeyVault/vaults/v""#,
        "cluster_id",
        &["managedClusters"],
    ),
    (
        r#""${local.group}/Microsoft.KeyVault/vaults/myAKSKeyVault""#,
        r#""https://myakskeyvault.vault.azure.net/""#,
        "key_vault_id",
        &["/subscriptions/", "vaults"],
    ),
    (
        r#"name         = "shop""#,
        r#"name = "My_Shop""#,
        "name",
        &["DNS label", "\"shop\""],
    ),
    (
        r#"name         = "shop""#,
        "name = \"shop\"\n  namespace = \"not a name\"",
        "namespace",
        &[],
    ),
    (
        r#"name         = "shop""#,
        "name = \"shop\"\n  sync = { resources = { cpu_request = \"50m\" } }",
        "sync",
        &[
            "sync.resources.cpu_request is 50m, and cpu_limit is 20m",
            "KVTLS-E002",
        ],
    ),
    (
        r#"host = "myapp.example.com""#,
        r#"host = "https://myapp.example.com""#,
        "rules",
        &["myapp.example.com"],
    ),
    (
        r#"host = "myapp.example.com""#,
        r#"host = "MyApp.example.com""#,
        "rules",
        &["lower"],
    ),
    (
        r#"host = "myapp.example.com""#,
        r#"host = "*.*.example.com""#,
        "rules",
        &[],
    ),
    (
        "certificates = { my-tls-cert = {} }",
        r#"certificates = { my-tls-cert = { hosts = ["my app"] } }"#,
        "certificates",
        &["myapp.example.com"],
    ),
    (
        "certificates = { my-tls-cert = {} }",
        r#"certificates = { one = { secret_name = "same", hosts = ["a.example.com"] }, two = { secret_name = "same", hosts = ["b.example.com"] } }"#,
        "secret_name",
        &["same"],
    ),
    (
        "certificates = { my-tls-cert = {} }",
        "certificates = {}",
        "certificates",
        &[],
    ),
    (
        "certificates = { my-tls-cert = {} }",
        "certificates = { my-tls-cert = {} }\n  addon = { rotation_poll_interval = \"soon\" }",
        "addon",
        &["2m"],
    ),
    (
        "certificates = { my-tls-cert = {} }",
        "certificates = { my-tls-cert = {} }\n  addon = { rotation_poll_interval = \"10s\" }",
        "addon",
        &["one minute", "2m"],
    ),
    (
        "certificates = { my-tls-cert = {} }",
        "certificates = { my-tls-cert = {} }\n  addon = { mode = \"maybe\" }",
        "addon",
        &["ensure", "require", "ignore"],
    ),
    (
        "certificates = { my-tls-cert = {} }",
        "certificates = { my-tls-cert = {} }\n  verify = { timeout = \"5 minutes\" }",
        "verify",
        &["5m"],
    ),
    (
        "certificates = { my-tls-cert = {} }",
        "certificates = { my-tls-cert = {} }\n  verify = { endpoint = \"no-port\" }",
        "verify",
        &["a host and a port"],
    ),
    (
        "certificates = { my-tls-cert = {} }",
        "certificates = { my-tls-cert = {} }\n  timeouts = { create = \"later\" }",
        "timeouts",
        &["45m"],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn b_contradictions_are_told_in_validate_on_their_attribute() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.validate().await.succeeds();
    let before = world.now_in_journal().await;
    let mut wanting = Vec::new();
    for (right, wrong, attribute, words) in CONTRADICTIONS {
        terraform.write(&changed(right, wrong));
        let validate = terraform.validate().await;
        let told = validate.diagnostics.iter().any(|error: &Diagnostic| {
            let text = format!("{}\n{}", error.summary, error.detail);
            // Terraform finds the line of a top-level attribute only; what lies deeper is named in the text.
            (error.code.contains(attribute) || text.contains(attribute))
                && text.contains("KVTLS-E00")
                && words.iter().all(|word| text.contains(word))
        });
        if !told {
            wanting.push(format!(
                "{wrong}\nwants an error on {attribute} with {words:?}\n{}",
                validate.evidence()
            ));
        }
    }
    assert!(wanting.is_empty(), "{}", wanting.join("\n\n"));
    assert_eq!(world.journal_after(before).await.len(), 0, "validate asks nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn b_a_cluster_that_does_not_exist_is_an_error_on_its_id() {
    let world = World::start().await;
    let terraform = Terraform::new(
        &world.deployer,
        &changed("managedClusters/myAKSCluster", "managedClusters/other"),
    );
    let plan = terraform.plan().await.fails_with(&["other"]);
    assert!(
        plan.error(&["other"]).code.contains("cluster_id"),
        "{}",
        plan.evidence()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn b_a_vault_that_does_not_exist_is_an_error_on_its_id() {
    let world = World::start().await;
    let terraform = Terraform::new(&world.deployer, &changed("vaults/myAKSKeyVault", "vaults/other"));
    let plan = terraform.plan().await.fails_with(&["other"]);
    assert!(
        plan.error(&["other"]).code.contains("key_vault_id"),
        "{}",
        plan.evidence()
    );
}

/// A sibling of the same apply may make it, so the plan only warns; apply stops before its first write.
#[tokio::test(flavor = "multi_thread")]
async fn s13_a_certificate_that_does_not_exist_stops_apply_before_the_first_write() {
    let world = World::start().await;
    let terraform = Terraform::new(
        &world.deployer,
        &changed("my-tls-cert = {}", "no-such-cert = {}")
            .replace("certificates[\"my-tls-cert\"]", "certificates[\"no-such-cert\"]"),
    );
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    plan.warning(&["no-such-cert"]);
    let before = world.now_in_journal().await;
    terraform.apply().await.fails_with(&["no-such-cert"]);
    let writes: Vec<_> = world
        .journal_after(before)
        .await
        .into_iter()
        .filter(is_write)
        .collect();
    assert_eq!(writes, Vec::<serde_json::Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn s12_a_host_that_the_certificate_does_not_cover_is_an_error_in_the_plan() {
    let world = World::start().await;
    let terraform = Terraform::new(&world.deployer, &changed("myapp.example.com", "a.b.example.com"));
    let plan = terraform.plan().await.fails_with(&["a.b.example.com"]);
    plan.error(&["a.b.example.com", "myapp.example.com"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s14_an_expired_certificate_is_not_bound_anew() {
    let world = World::start().await;
    let terraform = Terraform::new(
        &world.deployer,
        &changed("my-tls-cert = {}", "my-tls-cert = { certificate = \"expired\" }"),
    );
    terraform.plan().await.fails_with(&["KVTLS-E303", "expired"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn b_missing_credentials_name_what_was_tried_in_order() {
    let world = World::start().await;
    let terraform = world.quickstart().without("ARM_CLIENT_SECRET");
    let apply = terraform.apply().await.fails_with(&["ARM_CLIENT_SECRET"]);
    let error = apply.error(&["ARM_CLIENT_SECRET"]);
    let text = error.detail.to_lowercase();
    let tried = [text.find("client secret"), text.find("cli")];
    assert!(
        tried.iter().all(Option::is_some),
        "client secret and CLI were tried\n{}",
        apply.evidence()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn b_a_refused_secret_says_what_entra_said() {
    let world = World::start().await;
    let terraform = world.quickstart().with("ARM_CLIENT_SECRET", "not-the-secret");
    let apply = terraform.apply().await.fails_with(&["AADSTS7000215"]);
    assert!(
        !apply.run.output().contains("not-the-secret"),
        "{}",
        apply.evidence()
    );
}

fn changed(right: &str, wrong: &str) -> String {
    assert!(QUICKSTART.contains(right), "the quickstart has {right}");
    QUICKSTART.replace(right, wrong)
}
