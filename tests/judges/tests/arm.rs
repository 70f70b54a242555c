//! Generated clients of ARM, by loopback ports.

use std::sync::Arc;

use azure_core_021::{TransportOptions, Url};
use azure_mgmt_authorization::package_2022_04_01 as authorization;
use azure_mgmt_keyvault::package_preview_2022_02 as keyvault;
use azure_mgmt_msi::package_2023_01_31 as msi;
use futures::StreamExt as _;
use judges::{OldToken, OldTransport, World, refusal};
use serde_json::{Value, json};
use uuid::Uuid;

const GROUP: &str = "myResourceGroup";
const SECRETS_USER: &str = "4633458b-17de-408a-b874-0445c86b69e6";

/// What every generated client is built from.
struct Who {
    credential: Arc<OldToken>,
    transport: TransportOptions,
    endpoint: Url,
    subscription: String,
    tenant: String,
}

async fn who(world: &World, principal: &str) -> Who {
    let environment = world.environment(principal, "ports").await;
    let token = world
        .token(principal, "https://management.azure.com/.default")
        .await;
    Who {
        credential: Arc::new(OldToken(token)),
        transport: TransportOptions::new(Arc::new(OldTransport(world.http("ports").await))),
        endpoint: Url::parse(world.front()).unwrap(),
        subscription: environment["ARM_SUBSCRIPTION_ID"].clone(),
        tenant: environment["ARM_TENANT_ID"].clone(),
    }
}

macro_rules! client {
    ($who:expr, $package:ident) => {
        $package::Client::builder($who.credential.clone())
            .endpoint($who.endpoint.clone())
            .transport($who.transport.clone())
            .retry(azure_core_021::RetryOptions::none())
            .build()
            .unwrap()
    };
}

fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn guid(name: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_mgmt_msi() {
    let world = World::start("msi").await;
    let deployer = who(&world, "deployer").await;
    let client = client!(deployer, msi);
    let subscription = deployer.subscription.as_str();
    let identities = client.user_assigned_identities_client();
    let location = || msi::models::TrackedResource::new("eastus".to_owned());
    let made = identities
        .create_or_update(
            subscription,
            GROUP,
            "workload",
            msi::models::Identity::new(location()),
        )
        .await
        .unwrap();
    let properties = made.properties.unwrap();
    assert_eq!(properties.tenant_id.as_deref(), Some(deployer.tenant.as_str()));
    assert!(properties.client_id.is_some() && properties.principal_id.is_some());
    let update = of::<msi::models::IdentityUpdate>(json!({"tags": {"a": "b"}}));
    let updated = identities
        .update(subscription, GROUP, "workload", update)
        .await
        .unwrap();
    assert_eq!(updated.tracked_resource.tags, Some(json!({"a": "b"})));
    let mut pages = identities
        .list_by_resource_group(subscription, GROUP)
        .into_stream();
    assert_eq!(pages.next().await.unwrap().unwrap().value.len(), 1);
    let mut pages = identities.list_by_subscription(subscription).into_stream();
    assert_eq!(pages.next().await.unwrap().unwrap().value.len(), 1);

    let credentials = client.federated_identity_credentials_client();
    let credential = |subject: &str| msi::models::FederatedIdentityCredential {
        properties: Some(msi::models::FederatedIdentityCredentialProperties::new(
            "https://issuer.example".to_owned(),
            subject.to_owned(),
            vec!["api://AzureADTokenExchange".to_owned()],
        )),
        ..Default::default()
    };
    let write = async |name: &str, subject: &str| {
        credentials
            .create_or_update(subscription, GROUP, "workload", name, credential(subject))
            .await
    };
    let written = write("first", "one").await.unwrap();
    assert_eq!(written.properties.unwrap().subject, "one");
    let twin = write("second", "one").await.unwrap_err();
    assert_eq!(refusal(&twin), (409, "Conflict".to_owned()));
    write("second", "two").await.unwrap();
    let mut pages = credentials.list(subscription, GROUP, "workload").into_stream();
    assert_eq!(pages.next().await.unwrap().unwrap().value.len(), 2);
    let read = credentials
        .get(subscription, GROUP, "workload", "second")
        .await
        .unwrap();
    assert_eq!(read.properties.unwrap().subject, "two");
    credentials
        .delete(subscription, GROUP, "workload", "second")
        .send()
        .await
        .unwrap();
    let gone = credentials
        .get(subscription, GROUP, "workload", "second")
        .await
        .unwrap_err();
    assert_eq!(refusal(&gone).0, 404);

    identities
        .delete(subscription, GROUP, "workload")
        .send()
        .await
        .unwrap();
    let gone = identities.get(subscription, GROUP, "workload").await.unwrap_err();
    assert_eq!(refusal(&gone), (404, "ResourceNotFound".to_owned()));
    let reader = client!(who(&world, "reader").await, msi);
    let refused = reader
        .user_assigned_identities_client()
        .create_or_update(
            subscription,
            GROUP,
            "x-y-z",
            msi::models::Identity::new(location()),
        )
        .await
        .unwrap_err();
    assert_eq!(refusal(&refused), (403, "AuthorizationFailed".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_mgmt_authorization() {
    let world = World::start("authorization").await;
    let owner = who(&world, "owner").await;
    let client = client!(owner, authorization);
    let subscription = format!("subscriptions/{}", owner.subscription);
    let vault =
        format!("{subscription}/resourceGroups/{GROUP}/providers/Microsoft.KeyVault/vaults/myAKSKeyVault");

    let definitions = client.role_definitions_client();
    let role = definitions.get(&subscription, SECRETS_USER).await.unwrap();
    assert_eq!(
        role.properties.unwrap().role_name.as_deref(),
        Some("Key Vault Secrets User")
    );
    let mut pages = definitions
        .list(&vault)
        .filter("roleName eq 'Key Vault Reader'")
        .into_stream();
    assert_eq!(pages.next().await.unwrap().unwrap().value.len(), 1);
    let custom = |name: &str| {
        of::<authorization::models::RoleDefinition>(json!({"properties": {
            "roleName": name, "type": "CustomRole", "description": "x",
            "assignableScopes": [format!("/{subscription}")],
            "permissions": [{"actions": ["Microsoft.KeyVault/vaults/read"], "notActions": []}]}}))
    };
    let name = guid("custom");
    let made = definitions
        .create_or_update(&subscription, &name, custom("Mine"))
        .await
        .unwrap();
    let role_id = made.id.unwrap();
    let built_in = definitions
        .create_or_update(&subscription, SECRETS_USER, custom("Mine too"))
        .await
        .unwrap_err();
    assert_eq!(refusal(&built_in).0, 400);

    let assignments = client.role_assignments_client();
    let stranger = who(&world, "stranger").await;
    let oid = claim(&stranger.credential.0, "oid");
    let wanted = |principal: &str| {
        of::<authorization::models::RoleAssignmentCreateParameters>(json!({"properties": {
            "roleDefinitionId": role_id, "principalId": principal, "principalType": "ServicePrincipal"}}))
    };
    let assignment = guid("assignment");
    let made = assignments
        .create(&vault, &assignment, wanted(&oid))
        .await
        .unwrap();
    assert_eq!(made.properties.unwrap().principal_id, oid);
    let twin = assignments
        .create(&vault, guid("twin"), wanted(&oid))
        .await
        .unwrap_err();
    assert_eq!(refusal(&twin), (409, "RoleAssignmentExists".to_owned()));
    let nobody = assignments
        .create(&vault, &assignment, wanted(&guid("nobody")))
        .await
        .unwrap_err();
    assert_eq!(
        refusal(&nobody),
        (400, "RoleAssignmentUpdateNotPermitted".to_owned())
    );
    let mut pages = assignments
        .list_for_scope(&vault)
        .filter(format!("principalId eq '{oid}'"))
        .into_stream();
    assert_eq!(pages.next().await.unwrap().unwrap().value.len(), 1);
    let read = assignments.get(&vault, &assignment).await.unwrap();
    assert!(read.properties.unwrap().created_on.is_some());
    let in_use = definitions.delete(&subscription, &name).send().await.unwrap_err();
    assert_eq!(refusal(&in_use).0, 400);
    assignments.delete(&vault, &assignment).send().await.unwrap();
    let gone = assignments.get(&vault, &assignment).await.unwrap_err();
    assert_eq!(refusal(&gone).0, 404);
    definitions.delete(&subscription, &name).send().await.unwrap();
    let gone = definitions.get(&subscription, &name).await.unwrap_err();
    assert_eq!(refusal(&gone), (404, "RoleDefinitionDoesNotExist".to_owned()));

    let permissions = client.permissions_client();
    let mut pages = permissions
        .list_for_resource_group(GROUP, &owner.subscription)
        .into_stream();
    let own = pages.next().await.unwrap().unwrap();
    assert_eq!(own.value[0].actions, ["*"]);
    let denials = client.deny_assignments_client();
    let mut pages = denials.list_for_scope(&vault).into_stream();
    assert_eq!(pages.next().await.unwrap().unwrap().value.len(), 0);
    let contributor = client!(who(&world, "contributor").await, authorization);
    let refused = contributor
        .role_assignments_client()
        .create(&vault, &assignment, wanted(&oid))
        .await
        .unwrap_err();
    assert_eq!(refusal(&refused), (403, "AuthorizationFailed".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_mgmt_keyvault() {
    let world = World::start("keyvault").await;
    let deployer = who(&world, "deployer").await;
    let client = client!(deployer, keyvault);
    let subscription = deployer.subscription.as_str();
    let vaults = client.vaults_client();
    let free = vaults
        .check_name_availability(
            of::<keyvault::models::VaultCheckNameAvailabilityParameters>(json!({
            "name": "judged-vault", "type": "Microsoft.KeyVault/vaults"})),
            subscription,
        )
        .await
        .unwrap();
    assert_eq!(free.name_available, Some(true));
    let wanted =
        of::<keyvault::models::VaultCreateOrUpdateParameters>(json!({"location": "eastus", "properties": {
        "tenantId": deployer.tenant, "sku": {"family": "A", "name": "standard"}, "accessPolicies": []}}));
    let made = vaults
        .create_or_update(GROUP, "judged-vault", wanted, subscription)
        .send()
        .await
        .unwrap();
    drop(made);
    let read = vaults.get(GROUP, "judged-vault", subscription).await.unwrap();
    // An api-version before 2026 means access policies unless something else is said.
    assert_ne!(read.properties.enable_rbac_authorization, Some(true));
    assert!(read.properties.vault_uri.unwrap().ends_with('/'));
    let patch = of::<keyvault::models::VaultPatchParameters>(json!({"tags": {"a": "b"}}));
    let patched = vaults
        .update(GROUP, "judged-vault", patch, subscription)
        .await
        .unwrap();
    assert_eq!(patched.tags, Some(json!({"a": "b"})));
    let policies = |permissions: Value| {
        of::<keyvault::models::VaultAccessPolicyParameters>(json!({"properties": {"accessPolicies": [{
            "tenantId": deployer.tenant, "objectId": guid("somebody"), "permissions": permissions}]}}))
    };
    for (kind, permissions, left) in [
        ("add", json!({"secrets": ["get"]}), 1),
        ("add", json!({"certificates": ["get", "list"]}), 1),
        (
            "remove",
            json!({"secrets": ["get"], "certificates": ["get", "list"]}),
            0,
        ),
    ] {
        vaults
            .update_access_policy(GROUP, "judged-vault", kind, policies(permissions), subscription)
            .send()
            .await
            .unwrap();
        let read = vaults.get(GROUP, "judged-vault", subscription).await.unwrap();
        assert_eq!(read.properties.access_policies.len(), left, "{kind}");
    }
    let mut pages = vaults.list_by_resource_group(GROUP, subscription).into_stream();
    assert_eq!(pages.next().await.unwrap().unwrap().value.len(), 2);
    vaults
        .delete(GROUP, "judged-vault", subscription)
        .send()
        .await
        .unwrap();
    let gone = vaults.get(GROUP, "judged-vault", subscription).await.unwrap_err();
    assert_eq!(refusal(&gone), (404, "ResourceNotFound".to_owned()));
    let deleted = vaults
        .get_deleted("judged-vault", "eastus", subscription)
        .await
        .unwrap();
    assert!(deleted.properties.unwrap().scheduled_purge_date.is_some());
    let mut pages = vaults.list_deleted(subscription).into_stream();
    assert_eq!(pages.next().await.unwrap().unwrap().value.len(), 1);
    vaults
        .purge_deleted("judged-vault", "eastus", subscription)
        .send()
        .await
        .unwrap();
    let planner = client!(who(&world, "planner").await, keyvault);
    let refused = planner
        .vaults_client()
        .delete(GROUP, "myAKSKeyVault", subscription)
        .send()
        .await
        .unwrap_err();
    assert_eq!(refusal(&refused), (403, "AuthorizationFailed".to_owned()));
}

/// A claim of a token, unverified.
fn claim(token: &str, name: &str) -> String {
    let part = token.split('.').nth(1).unwrap();
    let bytes = azure_core::base64::decode_url_safe(part).unwrap();
    let claims: Value = serde_json::from_slice(&bytes).unwrap();
    claims[name].as_str().unwrap().to_owned()
}
