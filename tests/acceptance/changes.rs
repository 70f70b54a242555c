//! Changes of a binding that serves: what is new comes first, what is old goes, what is not ours stays.

use kvtls::sandbox::demo::QUICKSTART;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::probe::Probe;
use crate::terraform::{SHOP, Terraform};
use crate::world::{CLUSTER, INGRESS, SECRET, World};

/// The quickstart with one text put in place of another.
fn changed(from: &str, to: &str) -> String {
    assert!(QUICKSTART.contains(from), "the quickstart has {from}");
    QUICKSTART.replacen(from, to, 1)
}

async fn is_there(world: &World, path: &str) -> bool {
    world.kubernetes(Method::GET, path, None).await.status == StatusCode::OK
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_ingress_leaves_nothing_behind_even_if_the_first_try_fails() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let probe = Probe::start(&world, world.in_vault().await);

    // Nothing listens there, and it has to be proven: the new Ingress is made, the old one not yet removed.
    let renamed = changed(
        "class_name = \"nginx\"",
        "class_name = \"nginx\"\n    name       = \"web\"",
    );
    let failing = renamed.replacen(
        "certificates = {",
        "verify       = { level = \"served\", endpoint = \"127.0.0.1:1\", timeout = \"1s\" }\n  certificates = {",
        1,
    );
    terraform.write(&failing);
    terraform.apply().await.fails_with(&["KVTLS-E603"]);
    assert!(
        is_there(&world, INGRESS).await,
        "the old one serves until the new one is proven"
    );

    terraform.write(&renamed);
    terraform.apply().await.succeeds();
    assert!(!is_there(&world, INGRESS).await, "the old one is gone");
    world.settle().await;
    assert_eq!(probe.failures().await, Vec::<String>::new());
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
    terraform.destroy().await.succeeds();
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
}

/// ingress-nginx's webhook takes no second Ingress for a host and a path, so the new one cannot come first. What serves
/// stays, and the message says how to go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_that_the_controllers_webhook_refuses_leaves_the_old_ingress_serving() {
    let world = World::with(json!({ "clusters": { CLUSTER: { "admission": ["ingress-nginx"] } } })).await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
    let probe = Probe::start(&world, world.in_vault().await);
    let name = |name: &str| {
        changed(
            "class_name = \"nginx\"",
            &format!("class_name = \"nginx\"\n    name       = \"{name}\""),
        )
    };
    terraform.write(&name("web"));
    terraform
        .plan()
        .await
        .warning(&["KVTLS-W421", "is already defined in ingress default/shop"]);
    let apply = terraform.apply().await;
    let words = ["KVTLS-E417", "default/shop", "still serves", "gateway"];
    apply.fails_with(&words);
    assert!(is_there(&world, INGRESS).await, "the old one serves");
    terraform.write(&name("shop"));
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
    assert_eq!(probe.failures().await, Vec::<String>::new());

    // Somebody else's Ingress holds the host: the same words name it.
    let other = Terraform::new(
        &world.deployer,
        &changed("name         = \"shop\"", "name         = \"other\""),
    );
    other.apply().await.fails_with(&["KVTLS-E417", "default/shop"]);
    other.destroy().await.succeeds();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_secret_takes_the_old_one_with_it() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    terraform.write(&changed(
        "my-tls-cert = {}",
        "my-tls-cert = { secret_name = \"web-tls\" }",
    ));
    terraform.apply().await.succeeds();
    assert!(
        !is_there(&world, SECRET).await,
        "the old Secret and its key are gone"
    );
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_secret_is_refused_and_destroy_leaves_it() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let secrets = "/api/v1/namespaces/default/secrets";
    let theirs = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "mine" }, "stringData": { "a": "b" } });
    let made = world
        .kubernetes(Method::POST, secrets, Some(("application/json", &theirs)))
        .await;
    assert_eq!(made.status, StatusCode::CREATED);

    terraform.write(&changed(
        "my-tls-cert = {}",
        "my-tls-cert = { secret_name = \"mine\" }",
    ));
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(1), "{}", plan.evidence());
    plan.error(&["KVTLS-E403", "mine"]);
    // Before it destroys, Terraform plans what is written.
    terraform.write(QUICKSTART);
    terraform.destroy().await.succeeds();
    assert!(is_there(&world, &format!("{secrets}/mine")).await);
}

/// What a change newly relies on is looked at when it is planned, as it is for a creation.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_change_relies_on_is_looked_at_in_its_plan() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let theirs = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": { "name": "theirs" },
        "spec": { "defaultBackend": { "service": { "name": "shop", "port": { "number": 80 } } } },
    });
    let ingresses = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    let made = world
        .kubernetes(Method::POST, ingresses, Some(("application/json", &theirs)))
        .await;
    assert_eq!(made.status, StatusCode::CREATED);

    let class = "class_name = \"nginx\"";
    let with = |line: &str| changed(class, &format!("{class}\n    {line}"));
    let gateway = "gateway      = { class_name = \"istioo\", rules = [{ host = \"myapp.example.com\", paths = [{ service = \"my-app\", port = 80 }] }] }\n  certificates = {";
    for (configuration, status, code) in [
        (with("name = \"theirs\""), 1, "KVTLS-E401"),
        (changed(class, "class_name = \"nginxx\""), 2, "KVTLS-E414"),
        (changed("certificates = {", gateway), 2, "KVTLS-E432"),
    ] {
        terraform.write(&configuration);
        let plan = terraform.plan().await;
        assert_eq!(plan.run.status, Some(status), "{code}: {}", plan.evidence());
        let told = plan.diagnostics.iter().any(|it| it.detail.contains(code));
        assert!(told, "{code}: {}", plan.evidence());
        let before = world.now_in_journal().await;
        terraform.apply().await.fails_with(&[code]);
        assert_eq!(world.writes_after(before).await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s21_another_vault_is_granted_served_from_and_the_old_grant_revoked() {
    let other = json!({ "vaults": { "otherVault": {
        "resource_group": "myResourceGroup",
        "certificates": { "my-tls-cert": { "hosts": ["myapp.example.com"], "versions": [{ "from": "-1d", "until": "+90d" }] } },
    } } });
    let world = World::with(other).await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let before = terraform.state(SHOP).await.expect("the shop");

    terraform.write(&changed("vaults/myAKSKeyVault", "vaults/otherVault"));
    terraform.apply().await.succeeds();
    let after = terraform.state(SHOP).await.expect("the shop");
    assert_eq!(grants(&after).len(), 1, "{after:#}");
    assert!(
        text(&after["grants"][0]["scope"]).ends_with("otherVault"),
        "{after:#}"
    );
    let all = world.look("/world?pointer=/assignments").await.to_string();
    assert!(
        all.contains(text(&after["grants"][0]["id"])),
        "the new grant is there"
    );
    assert!(
        !all.contains(text(&before["grants"][0]["id"])),
        "the old grant is gone"
    );
    terraform.destroy().await.succeeds();
    let all = world.look("/world?pointer=/assignments").await.to_string();
    assert!(!all.contains("kvtls: "), "{all}");
}

fn grants(state: &Value) -> &[Value] {
    state["grants"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// An ID that is known only during apply, and then names another cluster: an error in words of ours, nothing written, and
/// the next plan shows what that takes.
#[tokio::test(flavor = "multi_thread")]
async fn s03_an_id_that_turns_out_to_be_another_cluster_changes_nothing() {
    let other = json!({ "clusters": { "otherCluster": { "resource_group": "myResourceGroup" } } });
    let world = World::with(other).await;
    let follows = |cluster: &str| {
        let id = "\"${local.group}/Microsoft.ContainerService/managedClusters/myAKSCluster\"";
        let source = format!(
            "resource \"terraform_data\" \"cluster\" {{\n  input = \
             \"${{local.group}}/Microsoft.ContainerService/managedClusters/{cluster}\"\n}}\n"
        );
        let binding = changed(id, "terraform_data.cluster.output");
        format!("{binding}\n{source}")
    };
    let terraform = Terraform::new(&world.deployer, &follows("myAKSCluster"));
    terraform.apply().await.succeeds();
    let before = terraform.state(SHOP).await.expect("the shop");
    terraform.plan_is_empty().await;

    terraform.write(&follows("otherCluster"));
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    let writes = world.now_in_journal().await;
    let apply = terraform.apply().await.fails_with(&[
        "KVTLS-E024",
        "myAKSCluster",
        "otherCluster",
        "Plan and apply again",
    ]);
    assert_eq!(apply.diagnostics.len(), 1, "{}", apply.evidence());
    assert!(
        apply.diagnostics[0].code.contains("cluster_id"),
        "{}",
        apply.evidence()
    );
    assert_eq!(world.writes_after(writes).await, Vec::<String>::new());
    assert_eq!(terraform.state(SHOP).await, Some(before), "as it was");

    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    let changes = terraform.changes().await;
    let actions: Vec<_> = changes
        .iter()
        .filter(|change| change.address == SHOP)
        .flat_map(|change| change.actions.clone())
        .collect();
    assert_eq!(actions, ["delete", "create"], "{changes:#?}");
    // As it was written before, there is nothing to do.
    terraform.write(&follows("myAKSCluster"));
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
}

/// A replacement on demand, and one of a binding that somebody tainted.
#[tokio::test(flavor = "multi_thread")]
async fn s05_a_replacement_serves_again() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let replace = [
        "apply",
        "-json",
        "-auto-approve",
        "-replace=kvtls_ingress_binding.shop",
    ];
    terraform.command(&replace).await.succeeds();
    serves(&world, &terraform).await;
    terraform
        .command(&["taint", "kvtls_ingress_binding.shop"])
        .await
        .succeeds();
    terraform.apply().await.succeeds();
    serves(&world, &terraform).await;
    terraform.destroy().await.succeeds();
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
}

async fn serves(world: &World, terraform: &Terraform) {
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
}

/// Somebody strips our mark: the plan says so, or destroy would leave the object.
#[tokio::test(flavor = "multi_thread")]
async fn s10_a_lost_mark_is_drift() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let strip = json!({ "metadata": { "annotations": { "kvtls.io/instance": null } } });
    let patch = Some(("application/merge-patch+json", &strip));
    assert_eq!(
        world.kubernetes(Method::PATCH, INGRESS, patch).await.status,
        StatusCode::OK
    );
    terraform.plan_shows(&["manifests.Ingress/shop"]).await;
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_required_and_missing_stops_apply_before_the_first_write() {
    let world = World::start().await;
    let rows = [
        ("addon        = { mode = \"require\" }", "KVTLS-E103"),
        ("access       = { mode = \"require\" }", "KVTLS-E203"),
    ];
    for (line, code) in rows {
        let configuration = changed("certificates = {", &format!("{line}\n  certificates = {{"));
        let terraform = Terraform::new(&world.deployer, &configuration);
        terraform.apply().await.fails_with(&[code]);
        assert_ne!(world.addon().await["enabled"], true, "{code}");
        assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new(), "{code}");
    }
    let terraform = Terraform::new(&world.deployer, &changed("\"nginx\"", "\"ngnix\""));
    terraform.apply().await.fails_with(&["KVTLS-E414"]);
}

/// The add-on is one per cluster: two wishes cannot both come true.
#[tokio::test(flavor = "multi_thread")]
async fn s16_two_bindings_that_disagree_are_told() {
    let world = World::start().await;
    let start = QUICKSTART
        .find("resource \"kvtls_ingress_binding\"")
        .expect("a binding");
    let end = QUICKSTART.find("# For a DNS record").expect("the output");
    let wish = |interval: &str| {
        let line =
            format!("addon        = {{ rotation_poll_interval = \"{interval}\" }}\n  certificates = {{");
        QUICKSTART[start..end].replacen("certificates = {", &line, 1)
    };
    let other = wish("9m").replace("\"shop\"", "\"other\"");
    let configuration = format!(
        "{}{}{other}{}",
        &QUICKSTART[..start],
        wish("3m"),
        &QUICKSTART[end..]
    );
    let terraform = Terraform::new(&world.deployer, &configuration);
    terraform
        .plan()
        .await
        .fails_with(&["KVTLS-E104"])
        .error(&["3m", "9m"]);
}

/// Without rotation nobody renews a Secret that exists. That is said and blocks nothing, and with rotation it follows.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_without_rotation_is_decay() {
    let world = World::start().await;
    let still = "addon        = { rotation_enabled = false }\n  certificates = {";
    let still = changed("certificates = {", still);
    let terraform = Terraform::new(&world.deployer, &still);
    terraform.apply().await.succeeds();
    let served = world.served().await;
    world.renew().await;
    world.advance("1h").await;
    world.settle().await;
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(0), "{}", plan.evidence());
    plan.warning(&["KVTLS-W304", "rotation_enabled = true", "kubectl delete secret"]);

    terraform.write(&still.replacen("paths = [{ service", "paths = [{ path = \"/shop\", service", 1));
    terraform.apply().await.succeeds();
    assert_eq!(world.served().await, served);
    terraform.write(QUICKSTART);
    terraform.apply().await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
}

/// Another certificate in place of one that is there does not come without rotation; the error tells it apart from a mount
/// that fails.
#[tokio::test(flavor = "multi_thread")]
async fn another_certificate_without_rotation_is_told_apart_from_a_mount_that_fails() {
    let other = json!({ "hosts": ["myapp.example.com"], "versions": [{ "from": "-1d", "until": "+90d" }] });
    let world =
        World::with(json!({ "vaults": { crate::world::VAULT: { "certificates": { "other": other } } } }))
            .await;
    let line = "addon        = { rotation_enabled = false }\n  verify       = { timeout = \"1s\" }\n  certificates = {";
    let still = changed("certificates = {", line);
    let terraform = Terraform::new(&world.deployer, &still);
    terraform.apply().await.succeeds();
    terraform.write(&still.replacen("my-tls-cert = {}", "my-tls-cert = { certificate = \"other\" }", 1));
    let apply = terraform.apply().await.fails_with(&["KVTLS-E601"]);
    apply.error(&["still holds another certificate", "rotation_enabled = true"]);
    let plan = terraform.plan().await;
    assert_eq!(
        plan.run.status,
        Some(2),
        "it is not forgotten\n{}",
        plan.evidence()
    );
}

/// A name that the plan did not know, and that turns out to be another, takes a replacement that nobody was shown.
#[tokio::test(flavor = "multi_thread")]
async fn s03_a_name_that_turns_out_to_be_another_changes_nothing() {
    let world = World::start().await;
    for (from, to, first, then) in [
        (
            "name         = \"shop\"",
            "name = terraform_data.it.output",
            "shop",
            "store",
        ),
        (
            "certificates = {",
            "namespace = terraform_data.it.output\n  certificates = {",
            "default",
            "kube-system",
        ),
    ] {
        let follows = |value: &str| {
            let binding = changed(from, to);
            format!("{binding}\nresource \"terraform_data\" \"it\" {{\n  input = \"{value}\"\n}}\n")
        };
        let terraform = Terraform::new(&world.deployer, &follows(first));
        terraform.apply().await.succeeds();
        terraform.write(&follows(then));
        let before = world.now_in_journal().await;
        let apply = terraform.apply().await.fails_with(&["KVTLS-E024", then]);
        assert_eq!(apply.diagnostics.len(), 1, "{}", apply.evidence());
        assert_eq!(world.writes_after(before).await, Vec::<String>::new());
        terraform.write(&follows(first));
        terraform.destroy().await.succeeds();
    }
}

/// A Secret belongs to one binding. Where its name moves from one to another, nobody deletes what the other serves from.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_another_binding_is_left_alone() {
    let world = World::start().await;
    let other = |secret: &str| {
        format!(
            "{}\nresource \"kvtls_ingress_binding\" \"other\" {{\n  name = \"other\"\n  cluster_id = kvtls_ingress_binding.shop.cluster_id\n  \
             key_vault_id = kvtls_ingress_binding.shop.key_vault_id\n  certificates = {{ my-tls-cert = {{ hosts = [\"myapp.example.com\"]{secret} }} }}\n  \
             verify = {{ level = \"synced\" }}\n}}\n",
            QUICKSTART
        )
    };
    let shared = ", secret_name = \"shop-my-tls-cert\"";
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    terraform.write(&other(shared));
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(1), "{}", plan.evidence());
    plan.error(&["KVTLS-E418", "default/shop"]);

    // The shop's goes to another name, and the other takes the name that it had.
    terraform.write(&other(""));
    terraform.apply().await.succeeds();
    let moved = other(shared).replacen(
        "my-tls-cert = {}",
        "my-tls-cert = { secret_name = \"web-tls\" }",
        1,
    );
    terraform.write(&moved.replacen(
        "certificates = {",
        "create_namespace = false\n  certificates = {",
        1,
    ));
    terraform
        .command(&["apply", "-json", "-auto-approve", &format!("-target={SHOP}")])
        .await
        .succeeds();
    assert!(!is_there(&world, SECRET).await, "the shop's old one is gone");
    terraform.apply().await.succeeds();
    assert!(is_there(&world, SECRET).await, "and the other's is there");
    terraform.plan_is_empty().await;
}

/// A renamed resource without a `moved` block would be created and destroyed at once, over the same objects.
#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_was_renamed_needs_its_moved_block() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let renamed = QUICKSTART.replace(
        "\"kvtls_ingress_binding\" \"shop\"",
        "\"kvtls_ingress_binding\" \"web\"",
    );
    let renamed = renamed.replace("kvtls_ingress_binding.shop", "kvtls_ingress_binding.web");
    terraform.write(&renamed);
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(1), "{}", plan.evidence());
    plan.error(&["KVTLS-E027", "moved {"]);
    terraform.write(&format!(
        "{renamed}\nmoved {{\n  from = {SHOP}\n  to   = kvtls_ingress_binding.web\n}}\n"
    ));
    let plan = terraform.plan().await;
    assert_ne!(plan.run.status, Some(1), "{}", plan.evidence());
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
}

/// A second resource for a binding that is complete takes nothing from the first, also where both are written.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_resource_for_a_binding_takes_nothing_over() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let second = QUICKSTART
        .split("resource \"kvtls_ingress_binding\" \"shop\" {")
        .nth(1)
        .expect("the binding");
    let second = second.split("\n}\n").next().expect("its body");
    let first = changed("paths = [{ service", "paths = [{ path = \"/shop\", service");
    terraform.write(&format!(
        "{first}\nresource \"kvtls_ingress_binding\" \"second\" {{{second}\n}}\n"
    ));
    terraform.apply().await.fails_with(&["KVTLS-E402"]);
    terraform.write(&first);
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
    assert_eq!(world.served().await, world.in_vault().await);
}

/// Pods that do not come up are no success, although the old ones still hold the Secret.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_does_not_come_up_is_told() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let nowhere = "sync         = { node_selector = { disk = \"none\" } }\n  verify       = { timeout = \"5s\" }\n  certificates = {";
    terraform.write(&changed("certificates = {", nowhere));
    let apply = terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E601", "new pods of Deployment default/shop"]);
    apply.error(&["node"]);
    assert_eq!(world.served().await, world.in_vault().await, "the old pods stay");
    terraform.write(QUICKSTART);
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
}
