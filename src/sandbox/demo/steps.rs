//! The story, step by step: what is done, and what has to be seen then.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::FutureExt as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::changes::{Change, changes};
use super::cli::Run;
use super::inventory::Inventory;
use super::story::{Evidence, Step, Story};
use super::visitor::{VisitError, Visitor};

const GROUP: &str = "myResourceGroup";
const CLUSTER: &str = "myAKSCluster";
const VAULT: &str = "myAKSKeyVault";
const CERTIFICATE: &str = "my-tls-cert";
const HOST: &str = "myapp.example.com";
const INGRESS: &str = "/apis/networking.k8s.io/v1/namespaces/default/ingresses/shop";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/shop";
const SECRET: &str = "/api/v1/namespaces/default/secrets/shop-my-tls-cert";
/// The add-on's key in a managed cluster; ARM answers it in more than one spelling.
const ADDON: &str = "azureKeyvaultSecretsProvider";

/// Poll interval (2 m) and what the kubelet and the edge need on top, in minutes of sandbox time.
const RENEWAL_MINUTES: u32 = 7;
/// Real time that anything here may take at the sandbox's fast pace.
const PATIENCE: Duration = Duration::from_secs(60);

/// The story.
pub(super) const STEPS: &[Step] = &[
    Step {
        title: "What will happen",
        run: |story| first_plan(story).boxed_local(),
    },
    Step {
        title: "One apply",
        run: |story| apply(story).boxed_local(),
    },
    Step {
        title: "HTTPS with the vault's certificate",
        run: |story| served(story).boxed_local(),
    },
    Step {
        title: "A second plan has nothing to do",
        run: |story| empty_plan(story).boxed_local(),
    },
    Step {
        title: "The certificate is renewed in the vault",
        run: |story| renewal(story).boxed_local(),
    },
    Step {
        title: "Three changes behind Terraform's back",
        run: |story| meddle(story).boxed_local(),
    },
    Step {
        title: "The plan shows exactly those",
        run: |story| drift(story).boxed_local(),
    },
    Step {
        title: "Apply takes them back",
        run: |story| restore(story).boxed_local(),
    },
    Step {
        title: "Destroy",
        run: |story| destroy(story).boxed_local(),
    },
    Step {
        title: "What is left",
        run: |story| what_is_left(story).boxed_local(),
    },
];

/// What cluster and vault hold now.
pub(super) async fn inventory(visitor: &Visitor) -> Result<Inventory, VisitError> {
    Inventory::take(visitor, CLUSTER, &vault_id(visitor)?).await
}

fn vault_id(visitor: &Visitor) -> Result<String, VisitError> {
    let subscription = visitor.variable("ARM_SUBSCRIPTION_ID")?;
    Ok(format!(
        "/subscriptions/{subscription}/resourceGroups/{GROUP}/providers/Microsoft.KeyVault/vaults/{VAULT}"
    ))
}

async fn first_plan(story: &mut Story) -> Result<(), Evidence> {
    let run = story.terraform(&["plan", "-no-color", "-out=first.plan"]).await?;
    Evidence::unless(run.succeeded(), "a plan without an error", || shown(&run))?;
    Evidence::unless(
        run.output().contains("KVTLS-W101"),
        "warning W101, the add-on will be switched on",
        || shown(&run),
    )?;
    let planned = planned(story, "first.plan").await?;
    let creates = matches!(planned.as_slice(), [change] if change.actions == ["create"]);
    Evidence::unless(creates, "one resource to create", || format!("{planned:#?}"))?;
    story
        .voice
        .seen("one resource to create, and a warning about the shared add-on");
    Ok(())
}

async fn apply(story: &mut Story) -> Result<(), Evidence> {
    let run = story.terraform(&["apply", "-no-color", "first.plan"]).await?;
    Evidence::unless(run.succeeded(), "an apply without an error", || shown(&run))?;
    let addon = addon(&story.deployer).await?;
    let on = addon["enabled"] == true && addon["config"]["enableSecretRotation"] == "true";
    Evidence::unless(on, "the add-on on, with rotation", || addon.to_string())?;
    story.voice.seen("ARM: the add-on is on, with rotation");
    let now = inventory(&story.deployer).await?;
    Evidence::unless(
        now.our_grants.len() == 1,
        "one role assignment of ours at the vault",
        || format!("{now:#?}"),
    )?;
    story.voice.seen("ARM: its identity may read the vault");
    let secret = story
        .deployer
        .kubernetes(CLUSTER, Method::GET, SECRET, None)
        .await?;
    Evidence::unless(
        secret.status == StatusCode::OK,
        "the Secret shop-my-tls-cert",
        || format!("{secret:?}"),
    )?;
    story.voice.seen("Kubernetes: the Secret is there");
    Ok(())
}

async fn served(story: &mut Story) -> Result<(), Evidence> {
    story.voice.command(&format!("curl https://{HOST}/"));
    let served = story.deployer.edge(HOST).await?;
    for line in served.body.lines().take(5) {
        story.voice.line(&format!("  {line}"));
    }
    let vault = story.deployer.vault_thumbprint(VAULT, CERTIFICATE).await?;
    story
        .voice
        .line(&format!("  subject             {}", served.leaf.subject));
    story
        .voice
        .line(&format!("  valid until         {}", served.leaf.not_after.date()));
    story
        .voice
        .line(&format!("  thumbprint served   {}", served.leaf.thumbprint));
    story.voice.line(&format!("  thumbprint in vault {vault}"));
    let same = served.leaf.thumbprint.as_str() == vault;
    Evidence::unless(same, "the vault's certificate at the edge", || {
        format!("{served:?}")
    })?;
    Evidence::unless(
        served.status.is_success(),
        "an answer of the Service behind it",
        || format!("{served:?}"),
    )?;
    story.voice.seen("the edge serves what the vault holds");
    Ok(())
}

async fn empty_plan(story: &mut Story) -> Result<(), Evidence> {
    let run = story
        .terraform(&["plan", "-no-color", "-detailed-exitcode"])
        .await?;
    Evidence::unless(run.succeeded(), "exit status 0: no changes", || shown(&run))?;
    let warnings = run.warnings();
    Evidence::unless(warnings.is_empty(), "no warning", || warnings.join("\n"))?;
    story.voice.seen("no changes, no warning");
    Ok(())
}

async fn renewal(story: &mut Story) -> Result<(), Evidence> {
    let before = story.deployer.vault_thumbprint(VAULT, CERTIFICATE).await?;
    let path = format!("/vaults/{VAULT}/certificates/{CERTIFICATE}/renew");
    story.voice.command(&format!("curl -X POST $KVTLS_SANDBOX{path}"));
    let renewed = story
        .deployer
        .control(Method::POST, &path, Some(&json!({})))
        .await?;
    story.voice.line(&format!("  {renewed}"));
    let new = renewed["thumbprint"].as_str().unwrap_or_default().to_owned();
    Evidence::unless(
        !new.is_empty() && new != before,
        "a new version in the vault",
        || renewed.to_string(),
    )?;
    let mut at_edge = String::new();
    for minute in 1..=RENEWAL_MINUTES {
        let advance = json!({ "advance": "1m" });
        story
            .voice
            .command(&format!("curl -X POST $KVTLS_SANDBOX/clock -d '{advance}'"));
        story
            .deployer
            .control(Method::POST, "/clock", Some(&advance))
            .await?;
        let served = story.deployer.edge(HOST).await?;
        at_edge = served.leaf.thumbprint.to_string();
        story
            .voice
            .line(&format!("  {minute} min later the edge serves {at_edge}"));
        if at_edge == new {
            break;
        }
    }
    Evidence::unless(at_edge == new, &format!("{new} at the edge"), || at_edge.clone())?;
    story
        .voice
        .seen("the renewed certificate reached the edge, without Terraform");
    empty_plan(story).await
}

async fn meddle(story: &mut Story) -> Result<(), Evidence> {
    switch_rotation_off(story).await?;
    edit_ingress(story).await?;
    delete_deployment(story).await?;
    story
        .deployer
        .control(Method::POST, "/settle", Some(&json!({ "timeout": "20s" })))
        .await?;
    Ok(())
}

/// As the cluster's owner, with an ordinary PUT of the whole cluster.
async fn switch_rotation_off(story: &mut Story) -> Result<(), Evidence> {
    let path = story.owner.cluster_path(GROUP, CLUSTER)?;
    let mut cluster = story.owner.arm(Method::GET, &path, None).await?.body;
    let key = addon_key(&cluster);
    cluster["properties"]["addonProfiles"][&key]["config"]["enableSecretRotation"] = json!("false");
    story
        .voice
        .command(&format!("PUT {path}   (as owner: enableSecretRotation = false)"));
    let put = story.owner.arm(Method::PUT, &path, Some(&cluster)).await?;
    story.voice.line(&format!("  {}", put.status));
    Evidence::unless(put.status.is_success(), "the PUT accepted", || {
        put.body.to_string()
    })?;
    let owner = story.owner.clone();
    let done = story
        .until("the cluster is updating", PATIENCE, || async {
            let cluster = owner.arm(Method::GET, &path, None).await.ok()?.body;
            (cluster["properties"]["provisioningState"] == "Succeeded").then_some(cluster)
        })
        .await?;
    let addon = addon_of(&done.unwrap_or_default());
    let off = addon["config"]["enableSecretRotation"] == "false";
    Evidence::unless(off, "rotation off", || addon.to_string())?;
    story
        .voice
        .seen("1. rotation was switched off by the cluster's owner");
    Ok(())
}

/// As somebody with `kubectl edit`.
async fn edit_ingress(story: &mut Story) -> Result<(), Evidence> {
    let path = format!("{INGRESS}?fieldManager=kubectl-edit");
    let edit = json!({ "spec": { "tls": [{ "hosts": [HOST], "secretName": "old-secret" }] } });
    story.voice.command(&format!("PATCH {path} {edit}"));
    let body = Some(("application/merge-patch+json", &edit));
    let patched = story
        .owner
        .kubernetes(CLUSTER, Method::PATCH, &path, body)
        .await?;
    story.voice.line(&format!("  {}", patched.status));
    Evidence::unless(patched.status.is_success(), "the Ingress edited", || {
        patched.body.to_string()
    })?;
    story
        .voice
        .seen("2. the Ingress was pointed at another Secret by kubectl-edit");
    Ok(())
}

async fn delete_deployment(story: &mut Story) -> Result<(), Evidence> {
    let path = format!("{DEPLOYMENT}?propagationPolicy=Background");
    story.voice.command(&format!("DELETE {path}"));
    let deleted = story
        .owner
        .kubernetes(CLUSTER, Method::DELETE, &path, None)
        .await?;
    story.voice.line(&format!("  {}", deleted.status));
    Evidence::unless(deleted.status.is_success(), "the Deployment deleted", || {
        deleted.body.to_string()
    })?;
    story.voice.seen("3. the Deployment was deleted");
    Ok(())
}

async fn drift(story: &mut Story) -> Result<(), Evidence> {
    let run = story
        .terraform(&["plan", "-no-color", "-detailed-exitcode", "-out=drift.plan"])
        .await?;
    Evidence::unless(run.status == Some(2), "exit status 2: there are changes", || {
        shown(&run)
    })?;
    let planned = planned(story, "drift.plan").await?;
    let expected = BTreeSet::from([
        "addon_state.rotation_enabled",
        "manifests.Deployment/shop",
        "manifests.Ingress/shop",
    ]);
    let exactly =
        matches!(planned.as_slice(), [change] if change.actions == ["update"] && told(change) == expected);
    Evidence::unless(
        exactly,
        &format!("an update in place of exactly {expected:?}"),
        || format!("{planned:#?}"),
    )?;
    for path in expected {
        story.voice.seen(&format!("the plan takes back {path}"));
    }
    Ok(())
}

/// What a change is about; the status that follows from it aside.
fn told(change: &Change) -> BTreeSet<&str> {
    let paths = change.paths.iter().map(String::as_str);
    paths
        .filter(|path| *path != "status" && !path.starts_with("status."))
        .collect()
}

async fn restore(story: &mut Story) -> Result<(), Evidence> {
    let run = story.terraform(&["apply", "-no-color", "drift.plan"]).await?;
    Evidence::unless(run.succeeded(), "an apply without an error", || shown(&run))?;
    let served = story.deployer.edge(HOST).await?;
    let vault = story.deployer.vault_thumbprint(VAULT, CERTIFICATE).await?;
    let same = served.leaf.thumbprint.as_str() == vault;
    Evidence::unless(same, "the vault's certificate at the edge", || {
        format!("{served:?}")
    })?;
    story.voice.seen("the edge serves what the vault holds");
    empty_plan(story).await
}

async fn destroy(story: &mut Story) -> Result<(), Evidence> {
    let run = story
        .terraform(&["destroy", "-no-color", "-auto-approve"])
        .await?;
    Evidence::unless(run.succeeded(), "a destroy without an error", || shown(&run))
}

async fn what_is_left(story: &mut Story) -> Result<(), Evidence> {
    let now = inventory(&story.deployer).await?;
    let ours = now.all_ours();
    let secret = story
        .deployer
        .kubernetes(CLUSTER, Method::GET, SECRET, None)
        .await?;
    let nothing = ours.is_empty() && secret.status == StatusCode::NOT_FOUND;
    Evidence::unless(nothing, "nothing of ours left", || {
        format!("{ours:#?}\n{secret:?}")
    })?;
    story
        .voice
        .seen("of ours: no object in the cluster, no Secret, no role assignment at the vault");
    let missing = now.missing_since(&story.before);
    Evidence::unless(missing.is_empty(), "everything of others as it was", || {
        format!("missing: {missing:#?}")
    })?;
    let addon = addon(&story.deployer).await?;
    Evidence::unless(addon["enabled"] == true, "the shared add-on still on", || {
        addon.to_string()
    })?;
    story.voice.seen(&format!(
        "of others: all {} objects that were there before",
        story.before.others.len()
    ));
    story
        .voice
        .seen("the add-on stays on: it belongs to the cluster, and others may use it by now");
    Ok(())
}

async fn planned(story: &Story, file: &str) -> Result<Vec<Change>, Evidence> {
    Ok(changes(
        &story.ask_terraform(&["show", "-json", file]).await?.json(),
    ))
}

async fn addon(visitor: &Visitor) -> Result<Value, Evidence> {
    let path = visitor.cluster_path(GROUP, CLUSTER)?;
    Ok(addon_of(&visitor.arm(Method::GET, &path, None).await?.body))
}

fn addon_of(cluster: &Value) -> Value {
    cluster["properties"]["addonProfiles"][addon_key(cluster)].clone()
}

fn addon_key(cluster: &Value) -> String {
    let profiles = cluster["properties"]["addonProfiles"].as_object();
    let mut names = profiles.into_iter().flat_map(|profiles| profiles.keys());
    names
        .find(|name| name.eq_ignore_ascii_case(ADDON))
        .cloned()
        .unwrap_or_else(|| ADDON.to_owned())
}

fn shown(run: &Run) -> String {
    format!(
        "$ {}   (in {}, exit status {:?})\n{}",
        run.command,
        run.directory.display(),
        run.status,
        run.output()
    )
}
