//! Answers that faults call by name: status, envelope and text as the services write them.
//!
//! A name that several planes know (`Throttled`) is written in the envelope of the plane it is staged on.

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::super::entra::Refusal;
use super::super::http::{Answer, json as json_answer, whole};
use super::named;

/// The names a fault may use beside those of Azure's own refusals.
const OTHERS: &[&str] = &[
    "html_502",
    "Kubernetes.Conflict",
    "Kubernetes.Forbidden",
    "Kubernetes.Unauthorized",
    "Kubernetes.TooManyRequests",
    "Kubernetes.InternalError",
    "Kubernetes.ServiceUnavailable",
    "Kubernetes.Timeout",
    "Kubernetes.Expired",
];

/// Whether a fault may use this name: Azure's, Kubernetes', `html_502`, and every number of Entra's.
pub(crate) fn is_known(name: &str) -> bool {
    let number = name.strip_prefix("AADSTS");
    let is_number = number.is_some_and(|number| number.parse::<u32>().is_ok());
    is_number || OTHERS.contains(&name) || named::is_known(name)
}

/// All names but Entra's numbers.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    named::names().chain(OTHERS.iter().copied())
}

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
    named::answer(name, plane)
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

/// The answer to a principal that asks too much. A vault does not say how long to wait; the others say it in whole
/// seconds.
pub(crate) fn throttled(plane: &str, code: &str, rest: std::time::Duration) -> Answer {
    let seconds = rest.as_secs() + u64::from(rest.subsec_nanos() > 0);
    let mut answer = match plane {
        "vault" => return named::answer("Throttled", plane),
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
    add(headers, &mut answer);
    answer
}

/// Adds headers that a fault names.
pub(crate) fn add(headers: &std::collections::BTreeMap<String, String>, answer: &mut Answer) {
    for (name, value) in headers {
        let name = header::HeaderName::try_from(name.as_str());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            answer.headers_mut().insert(name, value);
        }
    }
}
