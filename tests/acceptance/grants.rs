//! Who may read the vault: as little as asked for, nothing that is there already, nothing that others need.

use kvtls::sandbox::demo::QUICKSTART;
use reqwest::Method;
use serde_json::{Value, json};

use crate::terraform::{SHOP, Terraform};
use crate::with;
use crate::world::{VAULT, World};

const SECRETS_USER: &str = "4633458b-17de-408a-b874-0445c86b69e6";

/// The quickstart with a line before its certificates.
fn grants(state: &Value) -> &[Value] {
    state["grants"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A grant on the one certificate, then on the vault, then on the certificate again: what is new comes first, what is
/// old goes.
#[tokio::test(flavor = "multi_thread")]
async fn s21_the_scope_of_a_grant_changes_and_nothing_is_left_behind() {
    let world = World::start().await;
    let terraform = Terraform::new(
        &world.deployer,
        &with("access       = { scope = \"certificate\" }"),
    );
    terraform.apply().await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await);
    let state = terraform.state(SHOP).await.expect("the shop");
    let narrow = format!("{}/secrets/my-tls-cert", world.vault_id());
    assert_eq!(grants(&state).len(), 1, "{state:#}");
    assert_eq!(grants(&state)[0]["scope"], narrow, "{state:#}");
    terraform.plan_is_empty().await;

    for (line, scope) in [
        ("access       = { scope = \"vault\" }", world.vault_id()),
        ("access       = { scope = \"certificate\" }", narrow),
    ] {
        terraform.write(&with(line));
        terraform.apply().await.succeeds();
        let state = terraform.state(SHOP).await.expect("the shop");
        assert_eq!(grants(&state).len(), 1, "{scope}: {state:#}");
        assert_eq!(grants(&state)[0]["scope"], scope, "{state:#}");
        let all = world.look("/world?pointer=/assignments").await.to_string();
        assert_eq!(all.matches("kvtls-").count() + ours(&world).await, 1, "{all}");
        terraform.plan_is_empty().await;
    }
    terraform.destroy().await.succeeds();
    assert_eq!(ours(&world).await, 0);
}

/// How many assignments at the vault or below it say that kvtls made them.
async fn ours(world: &World) -> usize {
    let path = format!(
        "{}/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01",
        world.vault_id()
    );
    let list = world.arm(&path).await;
    let all = list["value"].as_array().cloned().unwrap_or_default();
    all.iter()
        .filter(|it| text(&it["properties"]["description"]).starts_with("kvtls: "))
        .count()
}

/// An access policy is always about the whole vault.
#[tokio::test(flavor = "multi_thread")]
async fn s21_a_model_that_does_not_fit_the_vault_fails_the_plan() {
    let policies = json!([{ "principal": "deployer", "certificates": ["get"] }]);
    let world = World::with(json!({ "vaults": { VAULT: { "rbac": false, "policies": policies } } })).await;
    for (line, code) in [
        ("access       = { scope = \"certificate\" }", "KVTLS-E205"),
        ("access       = { model = \"rbac\" }", "KVTLS-E204"),
    ] {
        let terraform = Terraform::new(&world.deployer, &with(line));
        let plan = terraform.plan().await;
        assert_eq!(plan.run.status, Some(1), "{}", plan.evidence());
        plan.error(&[code]);
    }
}

/// Access policies first, then roles: the plan shows the new grant, and the old policy goes.
#[tokio::test(flavor = "multi_thread")]
async fn s21_a_vault_that_changes_its_model_is_granted_anew() {
    let policies = json!([{ "principal": "deployer", "certificates": ["get"] }]);
    let world = World::with(json!({ "vaults": { VAULT: { "rbac": false, "policies": policies } } })).await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let state = terraform.state(SHOP).await.expect("the shop");
    assert_eq!(grants(&state)[0]["kind"], "access_policy", "{state:#}");

    let path = format!("{}?api-version=2024-11-01", world.vault_id());
    let flip = json!({ "properties": { "enableRbacAuthorization": true } });
    let patched = world
        .owner
        .arm(Method::PATCH, &path, Some(&flip))
        .await
        .expect("ARM answers");
    assert!(patched.status.is_success(), "{patched:?}");
    terraform.plan_shows(&["grants"]).await;
    terraform.apply().await.succeeds();
    let state = terraform.state(SHOP).await.expect("the shop");
    assert_eq!(grants(&state).len(), 1, "{state:#}");
    assert_eq!(grants(&state)[0]["kind"], "role_assignment", "{state:#}");
    let identity = text(&state["addon_identity"]["object_id"]).to_owned();
    let holders = world.policy_holders().await;
    assert!(!holders.contains(&identity), "{holders:?}");
    terraform.plan_is_empty().await;
}

/// The journal's order when the vault changes: grant, switch, verify, revoke.
#[tokio::test(flavor = "multi_thread")]
async fn s21_another_vault_is_granted_before_the_switch_and_the_old_one_revoked_at_the_end() {
    let other = json!({ "vaults": { "otherVault": {
        "resource_group": "myResourceGroup",
        "certificates": { "my-tls-cert": { "hosts": ["myapp.example.com"], "versions": [{ "from": "-1d", "until": "+90d" }] } },
    } } });
    let world = World::with(other).await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    terraform.write(&QUICKSTART.replacen("vaults/myAKSKeyVault", "vaults/otherVault", 1));
    let before = world.now_in_journal().await;
    terraform.apply().await.succeeds();
    let writes = world.writes_after(before).await;
    let at = |method: &str, part: &str| {
        let found = writes
            .iter()
            .position(|it| it.starts_with(method) && it.contains(part));
        found.unwrap_or_else(|| panic!("{method} {part}: {writes:#?}"))
    };
    let granted = at("PUT", "roleAssignments");
    let switched = at("PATCH", "secretproviderclasses");
    let rolled = at("PATCH", "deployments");
    let revoked = at("DELETE", "roleAssignments");
    assert!(
        granted < switched && switched < rolled && rolled < revoked,
        "{writes:#?}"
    );
    assert_eq!(
        revoked,
        writes.len() - 1,
        "nothing is written after it: {writes:#?}"
    );
}

/// Where nobody can see who else reads from the vault that is left, its access policy stays, with the command for it.
#[tokio::test(flavor = "multi_thread")]
async fn s21_the_policy_of_a_vault_that_was_left_stays_with_a_word() {
    let vault = || {
        json!({
            "resource_group": "myResourceGroup",
            "rbac": false,
            "policies": [{ "principal": "deployer", "certificates": ["get"] }],
            "certificates": { "my-tls-cert": { "hosts": ["myapp.example.com"], "versions": [{ "from": "-1d", "until": "+90d" }] } },
        })
    };
    let world = World::with(json!({ "vaults": { VAULT: vault(), "otherVault": vault() } })).await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    world.hide_classes().await;
    terraform.write(&QUICKSTART.replacen("vaults/myAKSKeyVault", "vaults/otherVault", 1));
    let apply = terraform.apply().await.succeeds();
    apply.warning(&[
        "KVTLS-W402",
        "SecretProviderClasses could not be read",
        "az keyvault delete-policy --name myAKSKeyVault --object-id ",
    ]);
    let state = terraform.state(SHOP).await.expect("the shop");
    let identity = text(&state["addon_identity"]["object_id"]).to_owned();
    assert!(world.policy_holders().await.contains(&identity));
}

/// A grant takes minutes until it has an effect: what is waited for is the pods' mount.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_grant_is_waited_for_at_the_vault() {
    let world = World::start().await;
    world
        .control(Method::PUT, "/lag", json!({ "role_effect": "8m" }))
        .await;
    let terraform = Terraform::new(&world.deployer, &with("verify       = { timeout = \"30s\" }"));
    terraform.apply().await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await);
}

/// The same assignment by somebody else, made between our look and our write: found, and not ours.
#[tokio::test(flavor = "multi_thread")]
async fn an_equal_assignment_is_found_and_not_owned() {
    let world = World::with(json!({ "clusters": { "myAKSCluster": { "addon": {
        "enabled": true, "config": { "enableSecretRotation": "true", "rotationPollInterval": "2m" } } } } }))
    .await;
    let identity = text(&world.addon().await["identity"]["objectId"]).to_owned();
    let put = json!({ "plane": "arm", "method": "PUT", "path": "**/roleAssignments/*", "as": "deployer" });
    let held = world
        .fault(json!({ "match": put, "times": 1, "do": { "hold": "before" } }))
        .await;
    let terraform = world.quickstart();
    let running = terraform.start(&["apply", "-json", "-auto-approve"]);
    world.hit(&held).await;
    world.assign(&world.vault_id(), SECRETS_USER, &identity).await;
    world.release(&held).await;
    terraform.outcome(running).await.succeeds();
    let state = terraform.state(SHOP).await.expect("the shop");
    assert_eq!(grants(&state).len(), 1, "{state:#}");
    assert_eq!(grants(&state)[0]["managed"], false, "{state:#}");
    terraform.plan_is_empty().await;
    terraform.destroy().await.succeeds();
    let all = world.look("/world?pointer=/assignments").await.to_string();
    assert!(all.contains(&identity), "it stays: {all}");
}

/// The quickstart as its owners left it: the add-on is on, and `require` writes nothing.
fn required() -> String {
    with("addon        = { mode = \"require\" }\n  access       = { mode = \"require\" }")
}

/// What a role is called does not count; what its definition allows does, patterns and exceptions included.
#[tokio::test(flavor = "multi_thread")]
async fn s07_a_custom_role_counts_for_what_it_allows() {
    let on = json!({ "enabled": true, "config": { "enableSecretRotation": "true", "rotationPollInterval": "2m" } });
    for (excepted, reads) in [("delete", true), ("getSecret/action", false)] {
        let world = World::with(json!({
            "clusters": { "myAKSCluster": { "addon": on } },
            "roles": { "Vault consumer": {
                "id": "0b7a5a1e-6f1c-4a37-9a0e-3a8b0a1e0001",
                "data_actions": ["Microsoft.KeyVault/vaults/*"],
                "not_data_actions": [format!("Microsoft.KeyVault/vaults/secrets/{excepted}")],
            } },
        }))
        .await;
        let identity = text(&world.addon().await["identity"]["objectId"]).to_owned();
        let role = "0b7a5a1e-6f1c-4a37-9a0e-3a8b0a1e0001";
        world.assign(&world.group_id(), role, &identity).await;
        let terraform = Terraform::new(&world.deployer, &required());
        let apply = terraform.apply().await;
        if !reads {
            apply.fails_with(&["KVTLS-E203"]);
            continue;
        }
        apply.succeeds();
        let state = terraform.state(SHOP).await.expect("the shop");
        assert_eq!(grants(&state).len(), 1, "{state:#}");
        assert_eq!(grants(&state)[0]["managed"], false, "{state:#}");
        assert_eq!(grants(&state)[0]["role"], role, "{state:#}");
        assert_eq!(world.served().await, world.in_vault().await);
        terraform.plan_is_empty().await;
    }
}

/// What a group of the identity was given counts as given to the identity.
#[tokio::test(flavor = "multi_thread")]
async fn s07_a_grant_to_a_group_counts() {
    let world = World::with(json!({
        "clusters": { "myAKSCluster": { "oidc": true, "workload_identity": true } },
        "principals": { "readers": { "type": "group", "assignments": [
            { "role": "Key Vault Secrets User", "scope": "/subscriptions/main" },
        ] } },
        "identities": { "reader": { "resource_group": "myResourceGroup", "groups": ["readers"] } },
    }))
    .await;
    let line = "access       = { mode = \"require\", identity = \"workload\", identity_id = \
                \"${local.group}/Microsoft.ManagedIdentity/userAssignedIdentities/reader\" }";
    let terraform = Terraform::new(&world.deployer, &with(line));
    terraform.apply().await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await);
    assert_eq!(ours(&world).await, 0, "nothing was granted");
    terraform.plan_is_empty().await;
}

/// A principal that Entra never shows ends the apply in less than two minutes.
#[tokio::test(flavor = "multi_thread")]
async fn a_principal_that_does_not_exist_is_not_waited_for_long() {
    let world = World::start().await;
    let fault = json!({
        "match": { "plane": "arm", "method": "PUT", "path": "**/roleAssignments/*", "as": "deployer" },
        "times": 50,
        "do": { "status": 400, "headers": { "x-ms-retry-after-ms": "100" }, "body": { "error": {
            "code": "PrincipalNotFound", "message": "Principal 11 does not exist in the directory." } } },
    });
    let id = world.fault(fault).await;
    let terraform = world.quickstart();
    terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E017", "PrincipalNotFound"]);
    // At ten seconds between two tries at the most.
    let tries = world.hits(&id).await;
    assert!((2..=12).contains(&tries), "{tries}");
}

/// One binding goes while another one of the same vault comes: whoever is left can read.
#[tokio::test(flavor = "multi_thread")]
async fn s08_one_goes_while_another_comes_and_the_grant_is_there() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let renamed = QUICKSTART
        .replacen(
            "\"kvtls_ingress_binding\" \"shop\"",
            "\"kvtls_ingress_binding\" \"next\"",
            1,
        )
        .replacen("name         = \"shop\"", "name         = \"next\"", 1)
        .replace("kvtls_ingress_binding.shop.", "kvtls_ingress_binding.next.")
        .replacen(
            "certificates = {",
            "verify       = { level = \"synced\" }\n  certificates = {",
            1,
        );
    terraform.write(&renamed);
    terraform.apply().await.succeeds();
    assert_eq!(ours(&world).await, 1, "somebody still reads");
    // The new Ingress has its address a moment later, and the configuration hands it out.
    world.settle().await;
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
    terraform.destroy().await.succeeds();
    assert_eq!(ours(&world).await, 0, "nobody reads");
}
