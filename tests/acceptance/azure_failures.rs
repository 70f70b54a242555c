//! Every failure of Azure's that the service's documentation or a report tells of, row by row: injected, what is said
//! compared with `azure_failures/*.txt` (`UPDATE_EXPECT=1` writes them anew), the state compared with the world, and
//! applied again.
//!
//! Rows of one table share a world and a binding, one after the other. A row names the part of the reference, the request
//! it meets, how often (`ALWAYS`: as long as the command runs), and what the service answers.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::failures::{ALWAYS, Request, attributes, play};
use crate::terraform::Terraform;
use crate::with;
use crate::world::{VAULT, World};

const READ_CLUSTER: Request = ("arm", "GET", "**/managedClusters/*");
const WRITE_CLUSTER: Request = ("arm", "PUT", "**/managedClusters/*");
const READ_OPERATION: Request = ("arm", "GET", "**/operations/*");
const GET_CREDENTIAL: Request = ("arm", "POST", "**/listClusterUserCredential");
const LIST_ROLES: Request = ("arm", "GET", "**/roleAssignments");
const ASSIGN: Request = ("arm", "PUT", "**/roleAssignments/*");
const UNASSIGN: Request = ("arm", "DELETE", "**/roleAssignments/*");
const READ_VAULT: Request = ("arm", "GET", "**/vaults/*");
const MAKE_VAULT: Request = ("arm", "PUT", "**/vaults/*");
const CHANGE_VAULT: Request = ("arm", "PATCH", "**/vaults/*");
const READ_CERTIFICATE: Request = ("vault", "GET", "**/certificates/my-tls-cert");
const MAKE_CERTIFICATE: Request = ("vault", "POST", "**/certificates/web/create");

const HEAD: &str = "terraform {\n  required_providers {\n    kvtls = { source = \"kvtls/kvtls\" }\n  }\n}\n\
                    provider \"kvtls\" {}\n";

/// As the service says it.
fn named(name: &str) -> Value {
    json!({ "named": name })
}

/// The same, and that one may come back at once: what is asked again many times is asked again soon.
fn soon(name: &str) -> Value {
    json!({ "named": name, "headers": { "x-ms-retry-after-ms": "20" } })
}

/// A bucket that is empty for a second.
fn throttle(code: &str) -> Value {
    json!({ "throttle": { "code": code, "retry_after": 1 } })
}

/// An operation that is taken and ends so.
fn outcome(status: &str, code: &str) -> Value {
    json!({ "outcome": status, "error": { "code": code, "message": "staged by the test" } })
}

#[tokio::test(flavor = "multi_thread")]
#[rustfmt::skip]
async fn f_the_addons_update() {
    let rows = [
        ("1.7", WRITE_CLUSTER, 1, named("OperationNotAllowed")),
        ("1.7", WRITE_CLUSTER, ALWAYS, soon("OperationNotAllowed")),
        ("1.7", WRITE_CLUSTER, 1, named("EtagMismatch")),
        ("1.7", WRITE_CLUSTER, 1, named("PreconditionFailed")),
        ("1.7", WRITE_CLUSTER, 1, named("PreconditionFailedAbsent")),
        ("1.7", WRITE_CLUSTER, ALWAYS, named("ClusterStopped")),
        ("1.7", WRITE_CLUSTER, ALWAYS, named("AuthorizationFailed")),
        ("1.7", WRITE_CLUSTER, ALWAYS, named("LinkedAuthorizationFailed")),
        ("1.7", WRITE_CLUSTER, ALWAYS, named("ResourceNotFound")),
        ("1.7", WRITE_CLUSTER, ALWAYS, named("ResourceGroupNotFound")),
        ("1.7", WRITE_CLUSTER, ALWAYS, named("SubscriptionNotFound")),
        ("1.7", WRITE_CLUSTER, 1, throttle("Throttled")),
        ("1.7", WRITE_CLUSTER, ALWAYS, soon("Throttled")),
        ("1.7", WRITE_CLUSTER, ALWAYS, outcome("Failed", "ResourceOperationFailure")),
        ("1.7", WRITE_CLUSTER, ALWAYS, outcome("Failed", "OriginalEtagNotExpect")),
        ("1.7", WRITE_CLUSTER, ALWAYS, outcome("Canceled", "Canceled")),
        ("1.7", WRITE_CLUSTER, ALWAYS, outcome("Succeeded", "NotLatestOperation")),
        ("6", WRITE_CLUSTER, 1, throttle("SubscriptionRequestsThrottled")),
        ("6", WRITE_CLUSTER, ALWAYS, named("DenyAssignmentAuthorizationFailed")),
        ("6", WRITE_CLUSTER, ALWAYS, named("RequestDisallowedByPolicy")),
        ("6", WRITE_CLUSTER, ALWAYS, named("PolicyTokenRequired")),
        ("6", WRITE_CLUSTER, ALWAYS, named("ScopeLocked")),
        ("6", WRITE_CLUSTER, ALWAYS, named("MissingSubscriptionRegistration")),
        ("6", WRITE_CLUSTER, 1, named("ExpiredAuthenticationToken")),
        ("6", WRITE_CLUSTER, 1, named("InternalServerError")),
        ("6", WRITE_CLUSTER, 1, named("GatewayTimeout")),
        ("6", WRITE_CLUSTER, ALWAYS, named("html_502")),
        ("6", READ_OPERATION, 1, named("html_502")),
        ("6", READ_OPERATION, 1, named("ResourceNotFound")),
    ];
    let world = World::start().await;
    let configuration = |interval: usize| with(&format!("addon = {{ rotation_poll_interval = \"{interval}m\" }}\n  verify = {{ level = \"none\" }}"));
    let terraform = Terraform::new(&world.deployer, &configuration(2));
    terraform.apply().await.succeeds();
    let agrees = async || {
        let state = attributes(&terraform);
        let live = &world.addon().await["config"]["rotationPollInterval"];
        assert_eq!(state["addon_state"]["rotation_poll_interval"], *live, "{state:#}");
    };
    let work = async |row: usize| terraform.write(&configuration(3 + row));
    play(&world, &terraform, ("azure_failures/addon", "apply"), &rows, work, agrees).await;
}

#[tokio::test(flavor = "multi_thread")]
#[rustfmt::skip]
async fn f_what_a_refresh_reads_of_azure() {
    let rows = [
        ("1.7", READ_CLUSTER, ALWAYS, named("ResourceNotFound")),
        ("1.7", READ_CLUSTER, ALWAYS, named("ResourceGroupNotFound")),
        ("1.7", READ_CLUSTER, ALWAYS, named("SubscriptionNotFound")),
        ("1.7", READ_CLUSTER, ALWAYS, named("AuthorizationFailed")),
        ("1.7", READ_CLUSTER, 1, throttle("ResourceRequestsThrottled")),
        ("1.7", READ_CLUSTER, ALWAYS, soon("SubscriptionRequestsThrottled")),
        ("1.7", GET_CREDENTIAL, ALWAYS, named("AuthorizationFailed")),
        ("1.7", GET_CREDENTIAL, ALWAYS, named("StaticCredentialNotAllowed")),
        ("4", LIST_ROLES, ALWAYS, named("AuthorizationFailed")),
        ("6", READ_VAULT, ALWAYS, named("ResourceNotFound")),
        ("6", READ_VAULT, ALWAYS, named("AuthorizationFailed")),
        ("6", READ_CLUSTER, 1, named("ExpiredAuthenticationToken")),
        ("6", READ_CLUSTER, ALWAYS, named("ExpiredAuthenticationToken")),
        ("6", READ_CLUSTER, 1, named("InternalServerError")),
        ("6", READ_CLUSTER, 1, named("GatewayTimeout")),
        ("6", READ_CLUSTER, 1, named("ServiceUnavailable")),
        ("6", READ_CLUSTER, 1, named("html_502")),
        ("6", READ_CLUSTER, ALWAYS, soon("html_502")),
        ("6", READ_CLUSTER, 1, named("NoRegisteredProviderFound")),
        ("3.3", READ_CERTIFICATE, 1, named("Unauthorized")),
        ("3.3", READ_CERTIFICATE, ALWAYS, named("Unauthorized")),
        ("3.3", READ_CERTIFICATE, ALWAYS, named("InvalidIssuer")),
        ("3.3", READ_CERTIFICATE, ALWAYS, named("ForbiddenByRbac")),
        ("3.3", READ_CERTIFICATE, ALWAYS, named("AccessDenied")),
        ("3.3", READ_CERTIFICATE, ALWAYS, named("ForbiddenByFirewall")),
        ("3.3", READ_CERTIFICATE, ALWAYS, named("ForbiddenByConnection")),
        ("3.3", READ_CERTIFICATE, ALWAYS, named("ForbiddenByPolicy")),
        ("3.3", READ_CERTIFICATE, ALWAYS, named("CertificateNotFound")),
        ("3.3", READ_CERTIFICATE, 1, named("ThrottledByVault")),
        ("3.3", READ_CERTIFICATE, ALWAYS, soon("Throttled")),
        ("3.3", READ_CERTIFICATE, 1, named("InternalServerError")),
    ];
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let nothing = async || {};
    play(&world, &terraform, ("azure_failures/refresh", "plan"), &rows, async |_| {}, nothing).await;
}

/// Nothing is there yet, so nothing is known from earlier.
#[tokio::test(flavor = "multi_thread")]
#[rustfmt::skip]
async fn f_what_a_first_plan_reads_of_azure() {
    let rows = [
        ("1.7", READ_CLUSTER, ALWAYS, named("ResourceNotFound")),
        ("1.7", READ_CLUSTER, ALWAYS, named("SubscriptionNotFound")),
        ("1.7", READ_CLUSTER, ALWAYS, named("AuthorizationFailed")),
        ("3.3", READ_CERTIFICATE, ALWAYS, named("InvalidIssuer")),
        ("3.3", READ_CERTIFICATE, ALWAYS, named("ForbiddenByRbac")),
        ("3.3", READ_CERTIFICATE, ALWAYS, named("AccessDenied")),
        ("3.3", READ_CERTIFICATE, ALWAYS, named("ForbiddenByFirewall")),
        ("3.3", READ_CERTIFICATE, ALWAYS, named("ForbiddenByConnection")),
        ("3.3", READ_CERTIFICATE, ALWAYS, named("ForbiddenByPolicy")),
        ("3.3", READ_CERTIFICATE, ALWAYS, named("CertificateNotFound")),
    ];
    let world = World::start().await;
    let terraform = world.quickstart();
    let nothing = async || {};
    play(&world, &terraform, ("azure_failures/first_plan", "plan"), &rows, async |_| {}, nothing).await;
    let before = world.now_in_journal().await;
    assert_eq!(world.writes_after(before).await, Vec::<String>::new());
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
#[rustfmt::skip]
async fn f_a_grant() {
    let rows = [
        ("4", ASSIGN, ALWAYS, named("RoleAssignmentExists")),
        ("4", ASSIGN, ALWAYS, named("RoleAssignmentUpdateNotPermitted")),
        ("4", ASSIGN, 1, named("RoleAssignmentHashConflict")),
        ("4", ASSIGN, ALWAYS, named("RoleAssignmentHashConflict")),
        ("4", ASSIGN, 1, soon("PrincipalNotFound")),
        ("4", ASSIGN, ALWAYS, soon("PrincipalNotFound")),
        ("4", ASSIGN, ALWAYS, named("InvalidPrincipalId")),
        ("4", ASSIGN, ALWAYS, named("RoleDefinitionDoesNotExist")),
        ("4", ASSIGN, ALWAYS, named("RoleAssignmentLimitExceeded")),
        ("4", ASSIGN, ALWAYS, named("AuthorizationFailed")),
        ("4", UNASSIGN, ALWAYS, named("AuthorizationFailed")),
        ("6", ASSIGN, ALWAYS, named("DenyAssignmentAuthorizationFailed")),
        ("6", ASSIGN, ALWAYS, named("RequestDisallowedByPolicy")),
        ("6", ASSIGN, ALWAYS, named("ScopeLocked")),
        ("6", ASSIGN, 1, throttle("SubscriptionRequestsThrottled")),
        ("6", ASSIGN, 1, named("InternalServerError")),
        ("6", ASSIGN, ALWAYS, named("html_502")),
        ("6", UNASSIGN, ALWAYS, named("ScopeLocked")),
        ("6", UNASSIGN, 1, named("InternalServerError")),
        ("6", UNASSIGN, ALWAYS, named("html_502")),
    ];
    let world = World::start().await;
    let configuration = |row: usize| {
        let scope = if row.is_multiple_of(2) { "certificate" } else { "vault" };
        with(&format!("access = {{ scope = \"{scope}\" }}\n  verify = {{ level = \"none\" }}"))
    };
    let terraform = Terraform::new(&world.deployer, &configuration(1));
    terraform.apply().await.succeeds();
    let agrees = async || assert_eq!(grants_told(&terraform), grants_there(&world).await);
    let work = async |row: usize| terraform.write(&configuration(row));
    play(&world, &terraform, ("azure_failures/grant", "apply"), &rows, work, agrees).await;
}

/// The grant is the last thing that goes.
#[tokio::test(flavor = "multi_thread")]
#[rustfmt::skip]
async fn f_a_removal() {
    let rows = [
        ("4", UNASSIGN, ALWAYS, named("AuthorizationFailed")),
        ("6", UNASSIGN, ALWAYS, named("ScopeLocked")),
    ];
    let world = World::start().await;
    let terraform = Terraform::new(&world.deployer, &with("verify = { level = \"none\" }"));
    let agrees = async || assert_eq!(grants_told(&terraform), grants_there(&world).await);
    let work = async |_| { terraform.apply().await.succeeds(); };
    play(&world, &terraform, ("azure_failures/removal", "destroy"), &rows, work, agrees).await;
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
#[rustfmt::skip]
async fn f_a_certificates_new_version() {
    let rows = [
        ("3.3", MAKE_CERTIFICATE, 1, named("Unauthorized")),
        ("3.3", MAKE_CERTIFICATE, ALWAYS, named("InvalidIssuer")),
        ("3.3", MAKE_CERTIFICATE, ALWAYS, named("ForbiddenByRbac")),
        ("3.3", MAKE_CERTIFICATE, ALWAYS, named("AccessDenied")),
        ("3.3", MAKE_CERTIFICATE, ALWAYS, named("ForbiddenByFirewall")),
        ("3.3", MAKE_CERTIFICATE, ALWAYS, named("ForbiddenByConnection")),
        ("3.3", MAKE_CERTIFICATE, ALWAYS, named("ForbiddenByPolicy")),
        ("3.3", MAKE_CERTIFICATE, ALWAYS, named("BadParameter")),
        ("3.3", MAKE_CERTIFICATE, 1, named("ObjectIsBeingDeleted")),
        ("3.3", MAKE_CERTIFICATE, 1, named("ObjectIsBeingRecovered")),
        ("3.3", MAKE_CERTIFICATE, 1, named("Throttled")),
        ("3.3", MAKE_CERTIFICATE, ALWAYS, soon("ThrottledByVault")),
        ("3.3", MAKE_CERTIFICATE, 1, named("InternalServerError")),
        ("6", MAKE_CERTIFICATE, ALWAYS, named("html_502")),
    ];
    let world = World::start().await;
    let configuration = |row: usize| format!(
        "{HEAD}resource \"kvtls_certificate\" \"web\" {{\n  key_vault_id = \"{}\"\n  name = \"web\"\n  policy = {{ hosts = \
         [\"web.example.com\"], key_type = \"EC\" }}\n  renew_trigger = \"{row}\"\n}}\n", world.vault_id());
    let terraform = Terraform::new(&world.deployer, &configuration(0));
    terraform.apply().await.succeeds();
    let agrees = async || {
        let live = world.deployer.vault(VAULT, Method::GET, "/certificates/web", None).await.expect("the vault answers");
        let newest = live.body["id"].as_str().and_then(|id| id.rsplit('/').next()).expect("a version").to_owned();
        assert_eq!(attributes(&terraform)["version"], newest);
    };
    let work = async |row: usize| terraform.write(&configuration(1 + row));
    play(&world, &terraform, ("azure_failures/certificate", "apply"), &rows, work, agrees).await;
}

const VAULT_NAME: &str = "kv-failures";

#[rustfmt::skip]
fn vault_with(world: &World, lines: &str) -> String {
    format!("{HEAD}resource \"kvtls_key_vault\" \"main\" {{\n  name = \"{VAULT_NAME}\"\n  resource_group_id = \"{}\"\n  \
             location = \"eastus\"\n  purge_protection_enabled = false\n  purge_on_destroy = true\n  {lines}\n}}\n", world.group_id())
}

/// The tags of the vault in state and world.
async fn vaults_agree(world: &World, terraform: &Terraform) {
    let path = format!(
        "{}/providers/Microsoft.KeyVault/vaults/{VAULT_NAME}?api-version=2024-11-01",
        world.group_id()
    );
    let live = &world.arm(&path).await["tags"]["row"];
    assert_eq!(attributes(terraform)["tags"]["row"], *live);
}

#[tokio::test(flavor = "multi_thread")]
#[rustfmt::skip]
async fn f_a_vaults_change() {
    let rows = [
        ("2", CHANGE_VAULT, 1, named("ConflictError")),
        ("2", CHANGE_VAULT, ALWAYS, soon("ConflictError")),
        ("2", CHANGE_VAULT, ALWAYS, named("InsufficientPermissions")),
        ("6", CHANGE_VAULT, ALWAYS, named("AuthorizationFailed")),
        ("6", CHANGE_VAULT, ALWAYS, named("DenyAssignmentAuthorizationFailed")),
        ("6", CHANGE_VAULT, ALWAYS, named("RequestDisallowedByPolicy")),
        ("6", CHANGE_VAULT, ALWAYS, named("PolicyTokenRequired")),
        ("6", CHANGE_VAULT, ALWAYS, named("ScopeLocked")),
        ("6", CHANGE_VAULT, ALWAYS, soon("SubscriptionRequestsThrottled")),
        ("6", CHANGE_VAULT, 1, named("InternalServerError")),
        ("6", CHANGE_VAULT, ALWAYS, soon("html_502")),
    ];
    let world = World::start().await;
    let configuration = |row: usize| vault_with(&world, &format!("tags = {{ row = \"{row}\" }}"));
    let terraform = Terraform::new(&world.deployer, &configuration(0));
    terraform.apply().await.succeeds();
    let agrees = async || vaults_agree(&world, &terraform).await;
    let work = async |row: usize| terraform.write(&configuration(1 + row));
    play(&world, &terraform, ("azure_failures/vault", "apply"), &rows, work, agrees).await;
}

#[tokio::test(flavor = "multi_thread")]
#[rustfmt::skip]
async fn f_a_vaults_creation() {
    let rows = [
        ("2", MAKE_VAULT, ALWAYS, named("VaultAlreadyExists")),
        ("6", MAKE_VAULT, ALWAYS, named("MissingSubscriptionRegistration")),
        ("6", MAKE_VAULT, ALWAYS, named("RequestDisallowedByPolicy")),
        ("6", MAKE_VAULT, ALWAYS, named("html_502")),
    ];
    let world = World::start().await;
    let terraform = Terraform::new(&world.deployer, &vault_with(&world, "tags = { row = \"0\" }"));
    let agrees = async || vaults_agree(&world, &terraform).await;
    let work = async |_| { terraform.destroy().await.succeeds(); };
    play(&world, &terraform, ("azure_failures/vault_creation", "apply"), &rows, work, agrees).await;
}

/// The IDs of the grants that the state says are managed here.
fn grants_told(terraform: &Terraform) -> BTreeSet<String> {
    let state = attributes(terraform);
    let grants = state["grants"].as_array().cloned().unwrap_or_default();
    let managed = grants.iter().filter(|grant| grant["managed"] == true);
    managed
        .filter_map(|grant| Some(grant["id"].as_str()?.to_lowercase()))
        .collect()
}

/// The IDs of the grants at the vault or below it that say kvtls made them.
async fn grants_there(world: &World) -> BTreeSet<String> {
    let path = format!(
        "{}/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01",
        world.vault_id()
    );
    let list = world.arm(&path).await;
    let all = list["value"].as_array().cloned().unwrap_or_default();
    let ours = all.iter().filter(|it| {
        let description = it["properties"]["description"].as_str().unwrap_or_default();
        description.starts_with("kvtls: ")
    });
    ours.filter_map(|it| Some(it["id"].as_str()?.to_lowercase()))
        .collect()
}
