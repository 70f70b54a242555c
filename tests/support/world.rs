//! A world for one test: the sandbox in this process, at sixty times the speed of real time.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use kvtls::sandbox::demo::QUICKSTART;
use kvtls::sandbox::demo::cli::Scratch;
use kvtls::sandbox::demo::inventory::Inventory;
use kvtls::sandbox::demo::visitor::{Environment, Reply, Visitor};
use kvtls::sandbox::{ControlPlaneKind, Mode, Options, Sandbox};
use reqwest::Method;
use serde_json::{Value, json};

use crate::terraform::Terraform;

pub(crate) const GROUP: &str = "myResourceGroup";
pub(crate) const CLUSTER: &str = "myAKSCluster";
pub(crate) const VAULT: &str = "myAKSKeyVault";
pub(crate) const CERTIFICATE: &str = "my-tls-cert";
pub(crate) const HOST: &str = "myapp.example.com";
pub(crate) const SECRET_PROVIDER_CLASS: &str =
    "/apis/secrets-store.csi.x-k8s.io/v1/namespaces/default/secretproviderclasses/shop";
pub(crate) const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/shop";
pub(crate) const INGRESS: &str = "/apis/networking.k8s.io/v1/namespaces/default/ingresses/shop";
pub(crate) const SECRET: &str = "/api/v1/namespaces/default/secrets/shop-my-tls-cert";

/// How many times as fast as real time the world runs.
const RATE: f64 = 60.0;

/// The world and the two principals that every test needs.
pub(crate) struct World {
    sandbox: Sandbox,
    pub(crate) deployer: Visitor,
    /// The cluster's owner, for what happens behind Terraform's back.
    pub(crate) owner: Visitor,
    _scratch: Scratch,
}

impl World {
    /// The default world.
    pub(crate) async fn start() -> Self {
        Self::with(json!({})).await
    }

    /// The default world with these members merged in.
    pub(crate) async fn with(members: Value) -> Self {
        let scratch = Scratch::new("world").expect("a temporary folder");
        let sandbox = open(scratch.path(), members).await;
        let visitor = |name: &str| Visitor::new(environment(&sandbox, name)).expect("a visitor");
        let (deployer, owner) = (visitor("deployer"), visitor("owner"));
        Self {
            sandbox,
            deployer,
            owner,
            _scratch: scratch,
        }
    }

    /// Another principal.
    pub(crate) fn visitor(&self, name: &str) -> Visitor {
        Visitor::new(environment(&self.sandbox, name)).expect("a visitor")
    }

    /// A working directory with the quickstart.
    pub(crate) fn quickstart(&self) -> Terraform {
        Terraform::new(&self.deployer, QUICKSTART)
    }

    /// The vault's ID.
    pub(crate) fn vault_id(&self) -> String {
        self.id("Microsoft.KeyVault/vaults", VAULT)
    }

    /// The binding's ID.
    pub(crate) fn binding_id(&self) -> String {
        let cluster = self.id("Microsoft.ContainerService/managedClusters", CLUSTER);
        format!("{cluster}/namespaces/default/bindings/shop")
    }

    /// Where the cluster's API server listens: host and port.
    pub(crate) fn api_server(&self) -> String {
        let ready = self.sandbox.ready();
        let server = ready["clusters"][CLUSTER]["server"].as_str().expect("a server");
        server
            .trim_start_matches("https://")
            .trim_end_matches('/')
            .to_owned()
    }

    /// Lets an identity read the vault's secrets, as the owner.
    pub(crate) async fn grant(&self, object_id: &Value) {
        let subscription = self
            .deployer
            .variable("ARM_SUBSCRIPTION_ID")
            .expect("a subscription");
        let role = "4633458b-17de-408a-b874-0445c86b69e6";
        let role =
            format!("/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}");
        let path = format!(
            "{}/providers/Microsoft.Authorization/roleAssignments/11111111-2222-4333-8444-666666666666?api-version=2022-04-01",
            self.vault_id()
        );
        let body = json!({ "properties": { "roleDefinitionId": role, "principalId": object_id, "principalType": "ServicePrincipal" } });
        let made = self
            .owner
            .arm(Method::PUT, &path, Some(&body))
            .await
            .expect("ARM answers");
        assert!(made.status.is_success(), "{made:?}");
    }

    /// Deletes the cluster, as the owner.
    pub(crate) async fn delete_cluster(&self) {
        let path = self.owner.cluster_path(GROUP, CLUSTER).expect("a path");
        let deleted = self
            .owner
            .arm(Method::DELETE, &path, None)
            .await
            .expect("ARM answers");
        assert!(deleted.status.is_success(), "{deleted:?}");
        for _ in 0..30 {
            let found = self
                .owner
                .arm(Method::GET, &path, None)
                .await
                .expect("ARM answers");
            if found.status == reqwest::StatusCode::NOT_FOUND {
                return;
            }
            self.advance("1m").await;
        }
        panic!("the cluster does not go");
    }

    fn id(&self, kind: &str, name: &str) -> String {
        let subscription = self
            .deployer
            .variable("ARM_SUBSCRIPTION_ID")
            .expect("a subscription");
        format!("/subscriptions/{subscription}/resourceGroups/{GROUP}/providers/{kind}/{name}")
    }

    /// Calls the control API.
    pub(crate) async fn control(&self, method: Method, path: &str, body: Value) -> Value {
        let answer = self.deployer.control(method, path, Some(&body)).await;
        answer.unwrap_or_else(|error| panic!("control API: {error}"))
    }

    /// Reads through the control API.
    pub(crate) async fn look(&self, path: &str) -> Value {
        let answer = self.deployer.control(Method::GET, path, None).await;
        answer.unwrap_or_else(|error| panic!("control API: {error}"))
    }

    /// Stages a fault and returns its ID.
    pub(crate) async fn fault(&self, fault: Value) -> String {
        let made = self.control(Method::POST, "/faults", fault).await;
        made["id"].as_str().expect("a fault has an id").to_owned()
    }

    /// From now on the cluster's user may not list the SecretProviderClasses of all namespaces.
    pub(crate) async fn hide_classes(&self) {
        self.fault(json!({
            "match": {
                "plane": "kubernetes",
                "method": "GET",
                "path": "/apis/secrets-store.csi.x-k8s.io/v1/secretproviderclasses",
                "as": "masterclient",
            },
            "times": Value::Null,
            "do": { "status": 403, "body": forbidden() },
        }))
        .await;
    }

    /// Waits until a fault has hit.
    pub(crate) async fn hit(&self, fault: &str) {
        let state = self.look(&format!("/faults/{fault}?wait=hit")).await;
        assert!(state["hits"].as_u64().is_some_and(|hits| hits > 0), "{state}");
    }

    /// How often a fault has hit.
    pub(crate) async fn hits(&self, fault: &str) -> u64 {
        self.look(&format!("/faults/{fault}")).await["hits"]
            .as_u64()
            .unwrap_or_default()
    }

    /// Ends a fault; a request that it holds goes on.
    pub(crate) async fn release(&self, fault: &str) {
        let path = format!("/faults/{fault}");
        self.deployer
            .control(Method::DELETE, &path, None)
            .await
            .expect("the fault ends");
    }

    /// Waits until nobody has work that is due.
    pub(crate) async fn settle(&self) {
        self.control(Method::POST, "/settle", json!({ "timeout": "30s" }))
            .await;
    }

    /// Moves the clock, and lets everybody do what is due then.
    pub(crate) async fn advance(&self, by: &str) {
        self.control(Method::POST, "/clock", json!({ "advance": by }))
            .await;
    }

    /// The number of the newest journal entry.
    pub(crate) async fn now_in_journal(&self) -> u64 {
        self.look("/journal?after=18446744073709551614").await["next"]
            .as_u64()
            .expect("a number")
    }

    /// What was asked after that entry, the world's own actors left out.
    pub(crate) async fn journal_after(&self, number: u64) -> Vec<Value> {
        let journal = self.look(&format!("/journal?after={number}")).await;
        journal["entries"].as_array().cloned().unwrap_or_default()
    }

    /// The Kubernetes API, as the cluster's administrator.
    pub(crate) async fn kubernetes(&self, method: Method, path: &str, body: Option<(&str, &Value)>) -> Reply {
        let reply = self.owner.kubernetes(CLUSTER, method, path, body).await;
        reply.unwrap_or_else(|error| panic!("Kubernetes: {error}"))
    }

    /// What cluster and vault hold.
    pub(crate) async fn inventory(&self) -> Inventory {
        let taken = Inventory::take(&self.deployer, CLUSTER, &self.vault_id()).await;
        taken.unwrap_or_else(|error| panic!("inventory: {error}"))
    }

    /// The thumbprint that the edge serves for the host of the quickstart.
    pub(crate) async fn served(&self) -> String {
        let served = self.deployer.edge(HOST).await;
        served
            .unwrap_or_else(|error| panic!("edge: {error}"))
            .leaf
            .thumbprint
            .to_string()
    }

    /// The thumbprint of the newest version in the vault.
    pub(crate) async fn in_vault(&self) -> String {
        let thumbprint = self.deployer.vault_thumbprint(VAULT, CERTIFICATE).await;
        thumbprint.unwrap_or_else(|error| panic!("vault: {error}"))
    }

    /// A new version of the certificate; its thumbprint.
    pub(crate) async fn renew(&self) -> String {
        let path = format!("/vaults/{VAULT}/certificates/{CERTIFICATE}/renew");
        let renewed = self.control(Method::POST, &path, json!({})).await;
        renewed["thumbprint"].as_str().expect("a thumbprint").to_owned()
    }

    /// The add-on profile, as ARM tells it to the owner.
    pub(crate) async fn addon(&self) -> Value {
        let cluster = self.cluster().await;
        cluster["properties"]["addonProfiles"][addon_key(&cluster)].clone()
    }

    async fn cluster(&self) -> Value {
        let path = self.owner.cluster_path(GROUP, CLUSTER).expect("a path");
        self.owner
            .arm(Method::GET, &path, None)
            .await
            .expect("ARM answers")
            .body
    }

    /// Changes the add-on profile as the cluster's owner, and waits for the operation.
    pub(crate) async fn change_addon(&self, change: impl FnOnce(&mut Value)) {
        let path = self.owner.cluster_path(GROUP, CLUSTER).expect("a path");
        let mut cluster = self.cluster().await;
        let key = addon_key(&cluster);
        change(&mut cluster["properties"]["addonProfiles"][&key]);
        let put = self
            .owner
            .arm(Method::PUT, &path, Some(&cluster))
            .await
            .expect("ARM answers");
        assert!(put.status.is_success(), "{put:?}");
        self.operations_end().await;
    }

    /// Moves the clock until no operation is under way on the cluster.
    pub(crate) async fn operations_end(&self) {
        for _ in 0..20 {
            if self.cluster().await["properties"]["provisioningState"] == "Succeeded" {
                return;
            }
            self.advance("1m").await;
        }
        panic!(
            "the cluster's operation does not end: {}",
            self.cluster().await["properties"]["provisioningState"]
        );
    }

    /// The object IDs in the vault's access policies.
    pub(crate) async fn policy_holders(&self) -> Vec<String> {
        let path = format!("{}?api-version=2024-11-01", self.vault_id());
        let vault = self
            .owner
            .arm(Method::GET, &path, None)
            .await
            .expect("ARM answers")
            .body;
        let policies = vault["properties"]["accessPolicies"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        policies
            .iter()
            .filter_map(|policy| policy["objectId"].as_str().map(str::to_owned))
            .collect()
    }

    /// Assigns a role to a principal, by object ID, as the owner.
    pub(crate) async fn assign(&self, scope: &str, role: &str, object_id: &str) {
        let name = "7c1f0c9e-4a50-4ef0-9f0a-0d2f5f1c9a01";
        let path = format!(
            "{scope}/providers/Microsoft.Authorization/roleAssignments/{name}?api-version=2022-04-01"
        );
        let definition = format!("/providers/Microsoft.Authorization/roleDefinitions/{role}");
        let body = json!({ "properties": {
            "roleDefinitionId": definition, "principalId": object_id, "principalType": "ServicePrincipal",
        } });
        let put = self
            .owner
            .arm(Method::PUT, &path, Some(&body))
            .await
            .expect("ARM answers");
        assert!(put.status.is_success(), "{put:?}");
    }

    /// Reads something of ARM as the owner.
    pub(crate) async fn arm(&self, path: &str) -> Value {
        self.owner
            .arm(Method::GET, path, None)
            .await
            .expect("ARM answers")
            .body
    }

    /// The resource group's ID.
    pub(crate) fn group_id(&self) -> String {
        let vault = self.vault_id();
        vault.split("/providers/").next().unwrap_or_default().to_owned()
    }

    /// What was written to ARM and to the cluster after that entry, by anybody but the world's own actors.
    pub(crate) async fn writes_after(&self, number: u64) -> Vec<String> {
        let entries = self.journal_after(number).await;
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let path = |url: String| url.split('?').next().unwrap_or_default().to_owned();
        entries
            .iter()
            .filter(|entry| is_write(entry))
            .map(|entry| format!("{} {}", text(entry, "method"), path(text(entry, "url"))))
            .collect()
    }

    /// Removes a role assignment or whatever else has this ID, as the owner.
    pub(crate) async fn delete_assignment(&self, id: &str) {
        let path = format!("{id}?api-version=2022-04-01");
        let deleted = self
            .owner
            .arm(Method::DELETE, &path, None)
            .await
            .expect("ARM answers");
        assert!(deleted.status.is_success(), "{deleted:?}");
    }

    /// Everything that is true of the shop, in the words of its state, so that a test can compare the two.
    pub(crate) async fn truth(&self) -> BTreeMap<&'static str, bool> {
        let inventory = self.inventory().await;
        let there = |name: &str| inventory.ours.contains_key(name);
        let addon = self.addon().await;
        BTreeMap::from([
            (
                "SecretProviderClass/shop",
                there("SecretProviderClass default/shop"),
            ),
            ("Deployment/shop", there("Deployment default/shop")),
            ("Ingress/shop", there("Ingress default/shop")),
            ("grant", !inventory.our_grants.is_empty()),
            ("add-on", addon["enabled"] == true),
        ])
    }
}

/// The same, as a state tells it.
pub(crate) fn told(state: &Value) -> BTreeMap<&'static str, bool> {
    let object = |name: &str| state["manifests"][name].is_string();
    BTreeMap::from([
        ("SecretProviderClass/shop", object("SecretProviderClass/shop")),
        ("Deployment/shop", object("Deployment/shop")),
        ("Ingress/shop", object("Ingress/shop")),
        (
            "grant",
            state["grants"]
                .as_array()
                .is_some_and(|grants| !grants.is_empty()),
        ),
        ("add-on", state["addon_state"]["enabled"] == true),
    ])
}

fn addon_key(cluster: &Value) -> String {
    let profiles = cluster["properties"]["addonProfiles"].as_object();
    let mut names = profiles.into_iter().flat_map(|profiles| profiles.keys());
    let found = names.find(|name| name.eq_ignore_ascii_case("azureKeyvaultSecretsProvider"));
    found
        .cloned()
        .unwrap_or_else(|| "azureKeyvaultSecretsProvider".to_owned())
}

async fn open(dir: &Path, members: Value) -> Sandbox {
    let mut world = json!({ "version": 1, "extends": "default" });
    for (name, value) in members.as_object().into_iter().flatten() {
        world[name] = value.clone();
    }
    let dir = Some(dir.join("dir"));
    let started = Sandbox::start(Options {
        world,
        dir,
        rate: RATE,
        control_plane: control_plane(),
        ..Options::default()
    })
    .await;
    let sandbox = started.unwrap_or_else(|error| panic!("the sandbox does not start: {error:?}"));
    if control_plane() != ControlPlaneKind::Embedded {
        // Definitions of custom resources take a moment there, and what needs them comes after. Where a world's own
        // trouble keeps it busy, the test begins all the same.
        let _busy = sandbox.settle(Duration::from_secs(30)).await;
    }
    sandbox
}

/// `KVTLS_CONTROL_PLANE`, which `cargo control-plane` sets: with `real` every world has a kube-apiserver, and one that
/// served another world before is as good and there at once; with `controllers` it has one of its own, and a
/// kube-controller-manager.
#[expect(clippy::disallowed_methods, reason = "the tests' one variable")]
fn control_plane() -> ControlPlaneKind {
    match std::env::var("KVTLS_CONTROL_PLANE").as_deref() {
        Ok("real") => ControlPlaneKind::Shared,
        Ok("controllers") => ControlPlaneKind::Real,
        _ => ControlPlaneKind::Embedded,
    }
}

fn environment(sandbox: &Sandbox, principal: &str) -> Environment {
    sandbox.environment(principal, Mode::Names)
}

/// A 403 of a cluster's API, in a body of its own.
pub(crate) fn forbidden() -> Value {
    json!({ "kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "staged by the test" })
}

/// Whether a request changed something in the world, or was to.
pub(crate) fn is_write(entry: &Value) -> bool {
    let reads = ["login", "control"].iter().any(|plane| entry["plane"] == *plane);
    // Reviews are questions that are asked with POST, and a dry run stores nothing.
    let question = entry["url"].as_str().is_some_and(|url| {
        ["reviews", "Credential", "dryRun=All"]
            .iter()
            .any(|part| url.contains(part))
    });
    !reads && !question && entry["method"] != "GET"
}
