//! Every refusal of Azure that the provider has words for can be staged by name: status, envelope, text.

use kvtls::sandbox::Sandbox;
use reqwest::Method;
use serde_json::{Value, json};

use super::arm::Somebody;
use super::client::{control, post_token, proxied, read, world};

/// What a caller gets for whom the fault of this name is staged.
struct Refused {
    status: u16,
    retry_after: Option<String>,
    is_gateway: bool,
    body: Value,
}

async fn refused(world: &Sandbox, deployer: &Somebody, plane: &str, name: &str) -> Refused {
    let fault = json!({"match": {"plane": plane}, "times": 1, "do": {"named": name}});
    let (status, staged) = control(world, "POST", "/faults", Some(fault)).await;
    assert_eq!(status, 200, "{name}: {staged}");
    if plane == "login" {
        let (status, body) = post_token(world, "any", &[]).await;
        return Refused {
            status,
            retry_after: None,
            is_gateway: false,
            body,
        };
    }
    let (status, headers, body) = if plane == "arm" {
        let cluster = "Microsoft.ContainerService/managedClusters/myAKSCluster?api-version=2026-04-01";
        deployer
            .call_with_headers(Method::GET, &deployer.path(cluster), None)
            .await
    } else {
        let answer = proxied(world)
            .get("https://myakskeyvault.vault.azure.net/certificates?api-version=7.4")
            .send()
            .await
            .unwrap();
        let headers = answer.headers().clone();
        let (status, body) = read(answer).await;
        (status, headers, body)
    };
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    Refused {
        status,
        retry_after: text("retry-after"),
        is_gateway: text("x-ms-failure-cause").is_some(),
        body,
    }
}

/// Who answers, and so how it looks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Voice {
    Gateway,
    Provider,
    Flat,
}

#[tokio::test(flavor = "multi_thread")]
#[rustfmt::skip]
async fn each_documented_refusal_has_its_envelope() {
    use Voice::{Flat, Gateway, Provider};
    let world = world().await;
    let deployer = Somebody::named(&world, "deployer").await;
    // Plane, name, status, voice, code, code inside or subcode, whether it says when to come back.
    let rows: &[(&str, &str, u16, Voice, &str, &str, bool)] = &[
        // azure-apis 1.7
        ("arm", "OperationNotAllowed", 409, Flat, "OperationNotAllowed", "", false),
        ("arm", "EtagMismatch", 409, Flat, "EtagMismatch", "PutManagedClusterAndComponents_FailedPrecondition", false),
        ("arm", "PreconditionFailed", 412, Flat, "PreconditionFailed", "", false),
        ("arm", "PreconditionFailedAbsent", 412, Flat, "PreconditionFailed", "", false),
        ("arm", "AddonInUse", 400, Flat, "BadRequest", "", false),
        ("arm", "StaticCredentialNotAllowed", 400, Flat, "BadRequest", "", false),
        ("arm", "AuthorizationFailed", 403, Gateway, "AuthorizationFailed", "", false),
        ("arm", "LinkedAuthorizationFailed", 403, Gateway, "LinkedAuthorizationFailed", "", false),
        ("arm", "ResourceNotFound", 404, Gateway, "ResourceNotFound", "", false),
        ("arm", "ResourceGroupNotFound", 404, Gateway, "ResourceGroupNotFound", "", false),
        ("arm", "SubscriptionNotFound", 404, Gateway, "SubscriptionNotFound", "", false),
        ("arm", "Throttled", 429, Flat, "Throttled", "", true),
        ("arm", "SubscriptionRequestsThrottled", 429, Gateway, "SubscriptionRequestsThrottled", "", true),
        ("arm", "ResourceRequestsThrottled", 429, Gateway, "ResourceRequestsThrottled", "", true),
        // 2
        ("arm", "ConflictError", 409, Provider, "ConflictError", "", false),
        ("arm", "InsufficientPermissions", 403, Provider, "InsufficientPermissions", "", false),
        // 3.3
        ("vault", "Unauthorized", 401, Provider, "Unauthorized", "", false),
        ("vault", "InvalidIssuer", 401, Provider, "Unauthorized", "", false),
        ("vault", "ForbiddenByRbac", 403, Provider, "Forbidden", "ForbiddenByRbac", false),
        ("vault", "AccessDenied", 403, Provider, "Forbidden", "AccessDenied", false),
        ("vault", "ForbiddenByFirewall", 403, Provider, "Forbidden", "ForbiddenByFirewall", false),
        ("vault", "ForbiddenByConnection", 403, Provider, "Forbidden", "ForbiddenByConnection", false),
        ("vault", "ForbiddenByPolicy", 403, Provider, "Forbidden", "ForbiddenByPolicy", false),
        ("vault", "CertificateNotFound", 404, Provider, "CertificateNotFound", "", false),
        ("vault", "SecretNotFound", 404, Provider, "SecretNotFound", "", false),
        ("vault", "KeyNotFound", 404, Provider, "KeyNotFound", "", false),
        ("vault", "ObjectIsDeletedButRecoverable", 409, Provider, "Conflict", "ObjectIsDeletedButRecoverable", false),
        ("vault", "ObjectIsBeingDeleted", 409, Provider, "Conflict", "ObjectIsBeingDeleted", false),
        ("vault", "ObjectIsBeingRecovered", 409, Provider, "Conflict", "ObjectIsBeingRecovered", false),
        ("vault", "Throttled", 429, Provider, "Throttled", "", false),
        ("vault", "ThrottledByVault", 429, Provider, "Throttled", "", false),
        // 4
        ("arm", "RoleAssignmentExists", 409, Provider, "RoleAssignmentExists", "", false),
        ("arm", "RoleAssignmentUpdateNotPermitted", 400, Provider, "RoleAssignmentUpdateNotPermitted", "", false),
        ("arm", "RoleAssignmentHashConflict", 409, Provider, "Conflict", "", false),
        ("arm", "RoleAssignmentNotFound", 404, Provider, "RoleAssignmentNotFound", "", false),
        ("arm", "PrincipalNotFound", 400, Provider, "PrincipalNotFound", "", false),
        ("arm", "InvalidPrincipalId", 400, Provider, "InvalidPrincipalId", "", false),
        ("arm", "RoleDefinitionDoesNotExist", 404, Provider, "RoleDefinitionDoesNotExist", "", false),
        ("arm", "DenyAssignmentAuthorizationFailed", 403, Gateway, "DenyAssignmentAuthorizationFailed", "", false),
        ("arm", "ConcurrentFederatedIdentityCredentialsWrites", 409, Provider,
            "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity", "", false),
        // 6
        ("arm", "RequestDisallowedByPolicy", 403, Gateway, "RequestDisallowedByPolicy", "", false),
        ("arm", "PolicyTokenRequired", 403, Gateway, "PolicyTokenRequired", "", false),
        ("arm", "ScopeLocked", 409, Gateway, "ScopeLocked", "", false),
        ("arm", "MissingSubscriptionRegistration", 409, Gateway, "MissingSubscriptionRegistration", "", false),
        ("arm", "NoRegisteredProviderFound", 400, Gateway, "NoRegisteredProviderFound", "", false),
        ("arm", "InternalServerError", 500, Provider, "InternalServerError", "", false),
        ("arm", "ServiceUnavailable", 503, Gateway, "ServiceUnavailable", "", false),
        ("arm", "GatewayTimeout", 504, Gateway, "GatewayTimeout", "", false),
    ];
    for (plane, name, status, voice, code, inner, comes_back) in rows {
        let refused = refused(&world, &deployer, plane, name).await;
        assert_eq!(refused.status, *status, "{name}: {}", refused.body);
        let flat = refused.body.get("error").is_none();
        assert_eq!(flat, *voice == Flat, "{name}: {}", refused.body);
        assert_eq!(refused.is_gateway, *voice == Gateway, "{name}");
        let error = if flat { &refused.body } else { &refused.body["error"] };
        assert_eq!(error["code"], *code, "{name}");
        let shown = if flat { &error["subcode"] } else { &error["innererror"]["code"] };
        assert_eq!(shown.as_str().unwrap_or_default(), *inner, "{name}");
        assert!(!error["message"].as_str().unwrap().contains("Staged"), "{name}: {error}");
        assert_eq!(refused.retry_after.is_some(), *comes_back, "{name}");
    }
    for number in [7_000_215, 700_016, 90_002, 70_021, 700_211, 700_213, 700_024] {
        let refused = refused(&world, &deployer, "login", &format!("AADSTS{number}")).await;
        assert_eq!(refused.body["error_codes"], json!([number]), "{}", refused.body);
        assert!(matches!(refused.status, 400 | 401), "{number}: {}", refused.status);
    }
    let page = refused(&world, &deployer, "arm", "html_502").await;
    assert!(page.status == 502 && page.body.as_str().unwrap().starts_with("<html>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_reported_is_what_can_be_staged() {
    let world = world().await;
    let deployer = Somebody::named(&world, "deployer").await;
    let reported: Value =
        serde_json::from_str(include_str!("recordings/errors-reported-in-issues.json")).unwrap();
    let names = [
        ("aks-etag-mismatch", "arm", "EtagMismatch"),
        ("aks-operation-not-allowed", "arm", "OperationNotAllowed"),
        ("aks-disable-addon-with-spc", "arm", "AddonInUse"),
        (
            "aks-admin-credential-local-accounts-disabled",
            "arm",
            "StaticCredentialNotAllowed",
        ),
        (
            "aks-run-command-blocked-by-policy",
            "arm",
            "RunCommandBlockedByAzurePolicy",
        ),
        (
            "aks-precondition-failed-absent",
            "arm",
            "PreconditionFailedAbsent",
        ),
        ("arm-authorization-failed", "arm", "AuthorizationFailed"),
        (
            "arm-linked-authorization-failed",
            "arm",
            "LinkedAuthorizationFailed",
        ),
        ("arm-resource-not-found", "arm", "ResourceNotFound"),
        (
            "arm-subscription-throttled",
            "arm",
            "SubscriptionRequestsThrottled",
        ),
        ("arm-resource-throttled", "arm", "ResourceRequestsThrottled"),
        ("kv-management-conflict", "arm", "ConflictError"),
        ("kv-permission-model-change", "arm", "InsufficientPermissions"),
        ("kv-data-rbac-forbidden", "vault", "ForbiddenByRbac"),
        ("kv-data-policy-forbidden", "vault", "AccessDenied"),
        ("kv-data-policy-obo", "vault", "ForbiddenByPolicy"),
        ("kv-data-firewall", "vault", "ForbiddenByFirewall"),
        ("kv-data-certificate-not-found", "vault", "CertificateNotFound"),
        (
            "kv-data-deleted-but-recoverable",
            "vault",
            "ObjectIsDeletedButRecoverable",
        ),
        ("kv-data-throttled", "vault", "Throttled"),
        ("role-assignment-exists", "arm", "RoleAssignmentExists"),
        ("principal-not-found", "arm", "PrincipalNotFound"),
        (
            "role-assignment-update-not-permitted",
            "arm",
            "RoleAssignmentUpdateNotPermitted",
        ),
        ("api-version-retired", "arm", "NoRegisteredProviderFound"),
    ];
    for (reported_as, plane, name) in names {
        let all = reported["errors"].as_array().unwrap();
        let report = all.iter().find(|report| report["name"] == reported_as).unwrap();
        let refused = refused(&world, &deployer, plane, name).await;
        if let Some(status) = report["status"].as_u64() {
            assert_eq!(u64::from(refused.status), status, "{name}");
        }
        let (theirs, ours) = match report["body"].get("error") {
            Some(error) => (error, &refused.body["error"]),
            None => (&report["body"], &refused.body),
        };
        assert_eq!(ours["code"], theirs["code"], "{name}: {ours}");
        for member in ["innererror", "subcode"] {
            if let Some(value) = theirs.get(member) {
                assert_eq!(&ours[member], value, "{name}");
            }
        }
        // Up to the first thing that depends on whom it was said to.
        let message = theirs["message"].as_str().unwrap();
        let fixed: String = message
            .chars()
            .take_while(|letter| !"<'(".contains(*letter))
            .collect();
        assert!(
            ours["message"].as_str().unwrap().starts_with(&fixed),
            "{name}: {ours}"
        );
    }
}
