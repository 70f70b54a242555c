//! Answers that faults call by name: status, envelope and text as the services write them.
//!
//! One table per envelope; a name that several planes know (`Throttled`) is written in the envelope of the plane it
//! is staged on.

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::super::entra::Refusal;
use super::super::http::{Answer, json as json_answer, whole};

/// The names a fault may use, beside `AADSTS` numbers.
pub(crate) const NAMES: &[&str] = &[
    "EtagMismatch",
    "OperationNotAllowed",
    "Throttled",
    "SubscriptionRequestsThrottled",
    "ResourceRequestsThrottled",
    "PreconditionFailed",
    "AuthorizationFailed",
    "LinkedAuthorizationFailed",
    "ResourceNotFound",
    "ResourceGroupNotFound",
    "SubscriptionNotFound",
    "ScopeLocked",
    "RequestDisallowedByPolicy",
    "MissingSubscriptionRegistration",
    "InternalServerError",
    "ServiceUnavailable",
    "GatewayTimeout",
    "ConflictError",
    "PrincipalNotFound",
    "RoleAssignmentExists",
    "ForbiddenByRbac",
    "AccessDenied",
    "ForbiddenByFirewall",
    "ForbiddenByConnection",
    "ObjectIsDeletedButRecoverable",
    "ObjectIsBeingDeleted",
    "ObjectIsBeingRecovered",
    "html_502",
    "Kubernetes.Conflict",
    "Kubernetes.Forbidden",
    "Kubernetes.Unauthorized",
    "Kubernetes.TooManyRequests",
    "Kubernetes.InternalError",
    "Kubernetes.ServiceUnavailable",
    "Kubernetes.Timeout",
    "Kubernetes.Expired",
    "AADSTS7000215",
    "AADSTS700016",
    "AADSTS90002",
    "AADSTS90033",
    "AADSTS50196",
];

/// The answer of this name on this plane.
pub(crate) fn answer(name: &str, plane: &str, login_base: &str, now: OffsetDateTime) -> Answer {
    if name == "html_502" {
        return gateway_page();
    }
    if let Some(number) = name.strip_prefix("AADSTS").and_then(|number| number.parse().ok()) {
        return Refusal::staged(number).answer(login_base, now);
    }
    if let Some(reason) = name.strip_prefix("Kubernetes.") {
        return kubernetes(reason);
    }
    if plane == "vault" {
        return vault(name);
    }
    arm(name)
}

fn gateway_page() -> Answer {
    const PAGE: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad \
                        Gateway</h1></center>\r\n<hr><center>Microsoft-Azure-Application-Gateway/v2</center>\r\n\
                        </body>\r\n</html>\r\n";
    let mut answer = Answer::new(whole(PAGE));
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    let html = HeaderValue::from_static("text/html");
    answer.headers_mut().insert(header::CONTENT_TYPE, html);
    answer
}

/// ARM's front end wraps its errors; the AKS provider writes some flat.
fn arm(name: &str) -> Answer {
    const STAGED: &str = "Staged by a fault of the sandbox.";
    let wrapped = |status: u16, message: &str| (status, json!({"error": {"code": name, "message": message}}));
    let flat = |status: u16, code: &str, message: &str, subcode: &str| {
        let body = json!({"code": code, "details": null, "message": message, "subcode": subcode});
        (status, body)
    };
    let (status, body) = match name {
        "EtagMismatch" => flat(
            409,
            name,
            "Operation is not allowed: the cluster was changed by another operation in the meantime. Staged by a \
             fault of the sandbox.",
            "PutManagedClusterAndComponents_FailedPrecondition",
        ),
        "OperationNotAllowed" => flat(
            409,
            name,
            "Operation is not allowed: Another operation (Updating) is in progress, please wait for it to finish \
             before starting a new operation. See https://aka.ms/aks-pending-operation for more details",
            "",
        ),
        "Throttled" => flat(
            429,
            name,
            "The request is being throttled. Staged by a fault of the sandbox.",
            "",
        ),
        "SubscriptionRequestsThrottled" | "ResourceRequestsThrottled" => wrapped(
            429,
            "Number of requests exceeded the limit. Please retry after 7 seconds.",
        ),
        "PreconditionFailed" => wrapped(412, STAGED),
        "AuthorizationFailed" | "LinkedAuthorizationFailed" => wrapped(
            403,
            "The client does not have authorization to perform this action over this scope or the scope is invalid. \
             If access was recently granted, please refresh your credentials.",
        ),
        "RequestDisallowedByPolicy" => wrapped(403, STAGED),
        "ResourceNotFound" | "ResourceGroupNotFound" | "SubscriptionNotFound" => wrapped(404, STAGED),
        "PrincipalNotFound" => wrapped(400, STAGED),
        "ScopeLocked" | "MissingSubscriptionRegistration" | "ConflictError" | "RoleAssignmentExists" => {
            wrapped(409, STAGED)
        }
        "InternalServerError" => wrapped(500, STAGED),
        "GatewayTimeout" => wrapped(504, STAGED),
        _ => wrapped(503, STAGED),
    };
    let mut answer = json_answer(StatusCode::from_u16(status).unwrap_or_default(), &body);
    if status == 429 {
        let after = HeaderValue::from_static("7");
        answer.headers_mut().insert(header::RETRY_AFTER, after);
    }
    answer
        .headers_mut()
        .insert("x-ms-failure-cause", HeaderValue::from_static("gateway"));
    answer
}

/// The answer to a principal that asks too much. A vault does not say how long to wait; the others say it in whole
/// seconds.
pub(crate) fn throttled(plane: &str, code: &str, rest: std::time::Duration) -> Answer {
    let seconds = rest.as_secs() + u64::from(rest.subsec_nanos() > 0);
    let mut answer = match plane {
        "vault" => return vault("Throttled"),
        "kubernetes" => kubernetes("TooManyRequests"),
        _ => {
            let message =
                format!("Number of requests exceeded the limit. Please retry after {seconds} seconds.");
            let error = json!({"code": code, "message": message});
            // The AKS provider writes its own flat.
            let body = if code == "Throttled" {
                error
            } else {
                json!({"error": error})
            };
            json_answer(StatusCode::TOO_MANY_REQUESTS, &body)
        }
    };
    answer
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    answer
}

/// A vault names the reason inside; its 429 has no `Retry-After`.
fn vault(name: &str) -> Answer {
    let (status, code, message) = match name {
        "ForbiddenByRbac" => (
            403,
            "Forbidden",
            "Caller is not authorized to perform action on resource.",
        ),
        "AccessDenied" => (
            403,
            "Forbidden",
            "The user, group or application does not have permission.",
        ),
        "ForbiddenByFirewall" => (
            403,
            "Forbidden",
            "Client address is not authorized and caller is not a trusted service.",
        ),
        "ForbiddenByConnection" => (
            403,
            "Forbidden",
            "Public network access is disabled and request is not from a trusted service nor via an approved private link.",
        ),
        "ObjectIsDeletedButRecoverable" | "ObjectIsBeingDeleted" | "ObjectIsBeingRecovered" => (
            409,
            "Conflict",
            "The object is in a state in which this cannot be done.",
        ),
        "Throttled" => (
            429,
            "Throttled",
            "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached",
        ),
        _ => (
            503,
            "ServiceUnavailable",
            "The service is temporarily unavailable.",
        ),
    };
    let mut error = json!({"code": code, "message": message});
    if matches!(status, 403 | 409) {
        error["innererror"] = json!({"code": name});
    }
    json_answer(
        StatusCode::from_u16(status).unwrap_or_default(),
        &json!({"error": error}),
    )
}

fn kubernetes(reason: &str) -> Answer {
    let status: u16 = match reason {
        "Unauthorized" => 401,
        "Forbidden" => 403,
        "Conflict" => 409,
        "Expired" => 410,
        "TooManyRequests" => 429,
        "ServiceUnavailable" => 503,
        "Timeout" => 504,
        _ => 500,
    };
    let mut body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "staged by a fault of the sandbox", "reason": reason, "code": status,
    });
    if status == 429 {
        body["details"] = json!({"retryAfterSeconds": 1});
    }
    let mut answer = json_answer(StatusCode::from_u16(status).unwrap_or_default(), &body);
    if status == 429 {
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// An answer written out in a fault. A text body goes out as text, anything else as JSON.
pub(crate) fn literal(
    status: u16,
    headers: &std::collections::BTreeMap<String, String>,
    body: &Value,
) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = match body {
        Value::Null => {
            let mut answer = Answer::new(whole(Vec::new()));
            *answer.status_mut() = status;
            answer
        }
        Value::String(text) => super::super::http::text(status, text.clone()),
        body => json_answer(status, body),
    };
    for (name, value) in headers {
        let name = header::HeaderName::try_from(name.as_str());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}
