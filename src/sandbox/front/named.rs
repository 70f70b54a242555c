//! The refusals of Azure that a fault calls by name: status, envelope and words, as recorded, reported or documented.
//!
//! What is in angle brackets stands for what a real answer would name.

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::super::http::{Answer, json as json_answer};

/// Who speaks, and so in which envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Envelope {
    /// ARM's front end: wrapped, and marked as its own.
    Gateway,
    /// A resource provider: wrapped.
    Provider,
    /// AKS: flat.
    Flat,
    /// A vault's data: wrapped, perhaps with the reason inside.
    Vault,
}

/// A refusal.
struct Named {
    /// As a fault calls it.
    name: &'static str,
    envelope: Envelope,
    status: u16,
    code: &'static str,
    message: &'static str,
    /// More: `subcode` of a flat one, `innererror.code` of a vault's.
    inner: &'static str,
    /// Seconds of `Retry-After`.
    retry_after: Option<u16>,
}

const fn row(
    name: &'static str,
    envelope: Envelope,
    status: u16,
    code: &'static str,
    message: &'static str,
) -> Named {
    Named {
        name,
        envelope,
        status,
        code,
        message,
        inner: "",
        retry_after: None,
    }
}

impl Named {
    const fn inner(self, inner: &'static str) -> Self {
        Self { inner, ..self }
    }

    const fn retry_after(self, seconds: u16) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }

    fn body(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if self.envelope == Flat {
            error["details"] = Value::Null;
            error["subcode"] = json!(self.inner);
            return error;
        }
        if !self.inner.is_empty() {
            error["innererror"] = json!({"code": self.inner});
        }
        match self.code {
            "RequestDisallowedByPolicy" => {
                error["target"] = json!("<resource>");
                error["additionalInfo"] = json!([{"type": "PolicyViolation", "info": {
                    "policyAssignmentDisplayName": "<assignment>",
                    "policyAssignmentId": "<scope>/providers/Microsoft.Authorization/policyAssignments/<assignment>"}}]);
            }
            "MissingSubscriptionRegistration" => {
                error["details"] =
                    json!([{"code": self.code, "target": "Microsoft.KeyVault", "message": self.message}]);
            }
            _ => {}
        }
        json!({"error": error})
    }

    fn answer(&self) -> Answer {
        let mut answer = json_answer(
            StatusCode::from_u16(self.status).unwrap_or_default(),
            &self.body(),
        );
        let headers = answer.headers_mut();
        if self.envelope != Flat {
            let kind = HeaderValue::from_static("application/json; charset=utf-8");
            headers.insert(header::CONTENT_TYPE, kind);
        }
        if self.envelope == Gateway {
            headers.insert("x-ms-failure-cause", HeaderValue::from_static("gateway"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }
}

use Envelope::{Flat, Gateway, Provider, Vault};

/// What is not a table's own is said as an unavailable service says it.
const UNAVAILABLE: Named = row(
    "ServiceUnavailable",
    Gateway,
    503,
    "ServiceUnavailable",
    "The service is temporarily unavailable. Please try again later.",
);

/// ARM, AKS, Key Vault's control plane, role assignments, managed identities.
#[rustfmt::skip]
const ARM: &[Named] = &[
    row("EtagMismatch", Flat, 409, "EtagMismatch", "Operation is not allowed: Another operation is in progress")
        .inner("PutManagedClusterAndComponents_FailedPrecondition"),
    row("OperationNotAllowed", Flat, 409, "OperationNotAllowed",
        "Operation is not allowed: Another operation (Updating) is in progress, please wait for it to finish before \
         starting a new operation. See https://aka.ms/aks-pending-operation for more details"),
    row("PreconditionFailed", Flat, 412, "PreconditionFailed",
        "The provided ETag does not match the current ETag of the managed cluster."),
    row("PreconditionFailedAbsent", Flat, 412, "PreconditionFailed",
        "Resource not found but ETag header is provided. If this is a request to create, please do not provide ETag."),
    row("AddonInUse", Flat, 400, "BadRequest",
        "AzureKeyvaultSecretsProvider addon cannot be disabled due to more than 0 Secret Provider Classes"),
    row("StaticCredentialNotAllowed", Flat, 400, "BadRequest",
        "Getting static credential is not allowed because this cluster is set to disable local accounts."),
    row("ClusterStopped", Flat, 400, "BadRequest",
        "managed cluster is in Provisioning State(Succeeded) and Power State(Stopped), updating cannot be performed"),
    row("RunCommandBlockedByAzurePolicy", Flat, 400, "RunCommandBlockedByAzurePolicy",
        "Run command is blocked by external resource, please check the error message for more details. details: AKS \
         runCommand feature is blocked by Azure Policy applied to this cluster, to fix this issue you will need to run \
         `kubectl get k8sazurecustomcontainerallowedimages -o yaml` find policy assignment by `azure-policy-assignment-id` \
         annotation, then fix the policy.").inner("PodCreateBlockedByAzurePolicy"),
    row("Throttled", Flat, 429, "Throttled",
        "The request is being throttled. Please retry after the time given in the Retry-After header.").retry_after(7),
    row("SubscriptionRequestsThrottled", Gateway, 429, "SubscriptionRequestsThrottled",
        "Number of requests for subscription '<sub>' and operation \
         'PUT/SUBSCRIPTIONS/RESOURCEGROUPS/PROVIDERS/MICROSOFT.CONTAINERSERVICE/MANAGEDCLUSTERS' exceeded the backend \
         storage limit. Please try again after '7' seconds.").retry_after(7),
    row("ResourceRequestsThrottled", Gateway, 429, "ResourceRequestsThrottled",
        "Number of requests for action 'Microsoft.ContainerService/managedClusters/read' exceeded the limit of '50' for \
         time interval '00:05:00'. Please try again after '7' seconds.").retry_after(7),
    row("AuthorizationFailed", Gateway, 403, "AuthorizationFailed",
        "The client '<app>' with object id '<oid>' does not have authorization to perform action \
         'Microsoft.ContainerService/managedClusters/write' over scope '<scope>' or the scope is invalid. If access was \
         recently granted, please refresh your credentials."),
    row("LinkedAuthorizationFailed", Gateway, 403, "LinkedAuthorizationFailed",
        "The client '<app>' with object id '<oid>' has permission to perform action \
         'Microsoft.ContainerService/managedClusters/write' on scope '<scope>'; however, it does not have permission to \
         perform action 'Microsoft.OperationalInsights/workspaces/sharedkeys/read' on the linked scope(s) '<id>' or the \
         linked scope(s) are invalid."),
    row("DenyAssignmentAuthorizationFailed", Gateway, 403, "DenyAssignmentAuthorizationFailed",
        "The client '<app>' with object id '<oid>' has permission to perform action \
         'Microsoft.Authorization/roleAssignments/write' on scope '<scope>'; however, the access is denied because of the \
         deny assignment with name '<name>' and Id '<id>' at scope '<scope>'."),
    row("RequestDisallowedByPolicy", Gateway, 403, "RequestDisallowedByPolicy",
        "Resource '<resource>' was disallowed by policy. Policy identifiers: \
         '[{\"policyAssignment\":{\"name\":\"<assignment>\",\"id\":\"<scope>/providers/Microsoft.Authorization/policyAssignments/<assignment>\"}}]'."),
    row("PolicyTokenRequired", Gateway, 403, "PolicyTokenRequired",
        "The request needs a policy token, which was not presented."),
    row("ResourceNotFound", Gateway, 404, "ResourceNotFound",
        "The Resource '<type>/<name>' under resource group '<group>' was not found. For more details please go to \
         https://aka.ms/ARMResourceNotFoundFix"),
    row("ResourceGroupNotFound", Gateway, 404, "ResourceGroupNotFound",
        "Resource group '<group>' could not be found."),
    row("SubscriptionNotFound", Gateway, 404, "SubscriptionNotFound",
        "The subscription '<sub>' could not be found."),
    row("ScopeLocked", Gateway, 409, "ScopeLocked",
        "The scope '<scope>' cannot perform write operation because following scope(s) are locked: '<group>'. Please \
         remove the lock and try again."),
    row("MissingSubscriptionRegistration", Gateway, 409, "MissingSubscriptionRegistration",
        "The subscription is not registered to use namespace 'Microsoft.KeyVault'. See https://aka.ms/rps-not-found for \
         how to register subscriptions."),
    row("NoRegisteredProviderFound", Gateway, 400, "NoRegisteredProviderFound",
        "No registered resource provider found for location 'eastus' and API version '2024-09-02-preview' for type \
         'managedClusters'. The supported api-versions are '2024-09-01, 2026-04-01'. The supported locations are 'eastus'."),
    row("ExpiredAuthenticationToken", Gateway, 401, "ExpiredAuthenticationToken",
        "The access token expiry UTC time '<then>' is earlier than current UTC time '<now>'."),
    row("ConflictError", Provider, 409, "ConflictError",
        "A conflict occurred that prevented the operation from completing. The operation failed because the Key Vault \
         '<name>' changed from the point the operation began. This can happen if parallel operations are being performed on \
         the Key Vault. To prevent this error, serialize the operations so that only one operation is performed on the Key \
         Vault at a time. Follow this link for more information: https://go.microsoft.com/fwlink/?linkid=2147741"),
    row("InsufficientPermissions", Provider, 403, "InsufficientPermissions",
        "Caller is not allowed to change permission model. For more information on how to change the permissions model \
         follow this link: https://go.microsoft.com/fwlink/?linkid=2155160. Details: oid=<oid>; \
         action=Microsoft.Authorization/roleAssignments/write; resource=<vault>; decision=NotAllowed;"),
    row("VaultAlreadyExists", Provider, 409, "VaultAlreadyExists",
        "The vault name '<name>' is already in use. Vault names are globally unique so it is possible that the name is \
         already taken. If you are sure that the vault name was not taken then it is possible that a vault with the same \
         name was recently deleted but not purged after being placed in a recoverable state."),
    row("PrincipalNotFound", Provider, 400, "PrincipalNotFound",
        "Principal <id> does not exist in the directory <tenant>. Check that you have the correct principal ID. If you are \
         creating this principal and then immediately assigning a role, this error might be related to a replication delay. \
         In this case, set the role assignment principalType property to a value, such as ServicePrincipal, User, or Group. \
          See https://aka.ms/docs-principaltype"),
    row("InvalidPrincipalId", Provider, 400, "InvalidPrincipalId",
        "The Principal ID '<id>' is not valid. Principal ID must be a GUID."),
    row("RoleAssignmentExists", Provider, 409, "RoleAssignmentExists", "The role assignment already exists."),
    row("RoleAssignmentUpdateNotPermitted", Provider, 400, "RoleAssignmentUpdateNotPermitted",
        "Tenant ID, application ID, principal ID, and scope are not allowed to be updated."),
    row("RoleAssignmentHashConflict", Provider, 409, "Conflict",
        "A hash conflict was encountered for the role Assignment ID. Please use a new Guid."),
    row("RoleAssignmentNotFound", Provider, 404, "RoleAssignmentNotFound",
        "The role assignment '<name>' is not found."),
    row("RoleDefinitionDoesNotExist", Provider, 404, "RoleDefinitionDoesNotExist",
        "The specified role definition with ID '<id>' does not exist."),
    row("RoleAssignmentLimitExceeded", Provider, 400, "RoleAssignmentLimitExceeded",
        "The number of role assignments exceeds the limit of '4000'."),
    row("ConcurrentFederatedIdentityCredentialsWrites", Provider, 409,
        "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity",
        "Too many Federated Identity Credentials are written concurrently for the managed identity '<id>'. Concurrent \
         Federated Identity Credentials writes under the same managed identity are not supported."),
    row("TooManyFederatedIdentityCredentials", Provider, 400, "BadRequest",
        "Too many Federated Identity Credentials for the managed identity '<id>': the maximum is 20."),
    row("InternalServerError", Provider, 500, "InternalServerError",
        "The server encountered an internal error. Please retry the request."),
    row("GatewayTimeout", Gateway, 504, "GatewayTimeout",
        "The gateway did not receive a response from '<provider>' within the specified time period."),
    UNAVAILABLE,
];

/// Key Vault's data plane. Its 429 has no `Retry-After`.
#[rustfmt::skip]
const VAULT: &[Named] = &[
    row("Unauthorized", Vault, 401, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token."),
    row("InvalidIssuer", Vault, 401, "Unauthorized",
        "AKV10032: Invalid issuer. Expected one of https://sts.windows.net/<tenant>/, found \
         https://sts.windows.net/<other>/."),
    row("ForbiddenByRbac", Vault, 403, "Forbidden",
        "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role \
         definitions were changed recently, please observe propagation time.\r\nCaller: \
         appid=<app>;oid=<oid>;iss=https://sts.windows.net/<tenant>/\r\nAction: \
         'Microsoft.KeyVault/vaults/certificates/read'\r\nResource: '<vault>/certificates/<name>'\r\nAssignment: (not \
         found)\r\nDenyAssignmentId: null\r\nDecisionReason: 'DeniedWithNoValidRBAC' \r\nVault: \
         <vault>;location=eastus\r\n").inner("ForbiddenByRbac"),
    row("AccessDenied", Vault, 403, "Forbidden",
        "The user, group or application 'appid=<app>;oid=<oid>;iss=https://sts.windows.net/<tenant>/' does not have \
         certificates get permission on key vault '<vault>;location=eastus'. For help resolving this issue, please see \
         https://go.microsoft.com/fwlink/?linkid=2125287").inner("AccessDenied"),
    row("ForbiddenByFirewall", Vault, 403, "Forbidden",
        "Client address is not authorized and caller is not a trusted service.\r\nClient address: <ip>\r\nCaller: \
         appid=<app>;oid=<oid>;iss=https://sts.windows.net/<tenant>/\r\nVault: <vault>;location=eastus")
        .inner("ForbiddenByFirewall"),
    row("ForbiddenByConnection", Vault, 403, "Forbidden",
        "Public network access is disabled and request is not from a trusted service nor via an approved private \
         link.\r\nCaller: appid=<app>;oid=<oid>;iss=https://sts.windows.net/<tenant>/\r\nVault: <vault>;location=eastus")
        .inner("ForbiddenByConnection"),
    row("ForbiddenByPolicy", Vault, 403, "Forbidden",
        "The policy requires the caller 'appid=<app>;oid=<oid>;iss=https://sts.windows.net/<tenant>/' to use on-behalf-of \
         (OBO) flow. For more information on OBO, please see https://go.microsoft.com/fwlink/?linkid=2152310")
        .inner("ForbiddenByPolicy"),
    row("SecretDisabled", Vault, 403, "Forbidden",
        "Operation get is not allowed on a disabled secret.").inner("SecretDisabled"),
    row("CertificateNotFound", Vault, 404, "CertificateNotFound",
        "A certificate with (name/id) <name> was not found in this key vault. If you recently deleted this certificate you \
         may be able to recover it using the correct recovery command. For help resolving this issue, please see \
         https://go.microsoft.com/fwlink/?linkid=2125182"),
    row("SecretNotFound", Vault, 404, "SecretNotFound",
        "A secret with (name/id) <name> was not found in this key vault. If you recently deleted this secret you may be able \
         to recover it using the correct recovery command. For help resolving this issue, please see \
         https://go.microsoft.com/fwlink/?linkid=2125182"),
    row("KeyNotFound", Vault, 404, "KeyNotFound",
        "A key with (name/id) <name> was not found in this key vault. If you recently deleted this key you may be able to \
         recover it using the correct recovery command. For help resolving this issue, please see \
         https://go.microsoft.com/fwlink/?linkid=2125182"),
    row("PendingCertificateNotFound", Vault, 404, "PendingCertificateNotFound", "Pending certificate not found: <name>"),
    row("BadParameter", Vault, 400, "BadParameter",
        "Property policy has invalid value: the certificate does not match its pending request."),
    row("ObjectIsDeletedButRecoverable", Vault, 409, "Conflict",
        "Certificate <name> is currently in a deleted but recoverable state, and its name cannot be reused; in this state, \
         the certificate can only be recovered or purged.").inner("ObjectIsDeletedButRecoverable"),
    row("ObjectIsBeingDeleted", Vault, 409, "Conflict",
        "Certificate <name> is currently being deleted.").inner("ObjectIsBeingDeleted"),
    row("ObjectIsBeingRecovered", Vault, 409, "Conflict",
        "Certificate <name> is currently being recovered.").inner("ObjectIsBeingRecovered"),
    row("Throttled", Vault, 429, "Throttled",
        "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached"),
    row("ThrottledByVault", Vault, 429, "Throttled",
        "Request was not processed because too many requests were received. Reason: VaultOperationLimitReached"),
    row("InternalServerError", Vault, 500, "InternalError", "An internal error has occurred. Please retry the request."),
    row("ServiceUnavailable", Vault, 503, "ServiceUnavailable", "The service is temporarily unavailable."),
];

/// All names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ARM.iter().chain(VAULT).map(|row| row.name)
}

/// Whether a fault may use this name.
pub(super) fn is_known(name: &str) -> bool {
    names().any(|known| known == name)
}

/// The answer of this name on this plane; a name of the other plane is answered in its own envelope.
pub(super) fn answer(name: &str, plane: &str) -> Answer {
    let (first, second) = if plane == "vault" {
        (VAULT, ARM)
    } else {
        (ARM, VAULT)
    };
    let found = first.iter().chain(second).find(|row| row.name == name);
    found.unwrap_or(&UNAVAILABLE).answer()
}
