//! Long-running operations of AKS, and the opaque addresses under which they are asked for.

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::call::{Call, Reply, stamp};
use super::refusal::Refusal;
use crate::sandbox::core::StagedOutcome;
use crate::sandbox::lag::Pace;

/// What an operation does to its cluster when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Create,
    Update,
    Delete,
    Start,
    Stop,
    /// On the node pool of this name.
    Pool(String),
}

/// A long-running operation.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) id: Uuid,
    pub(super) work: Work,
    /// The cluster's id.
    pub(super) cluster: String,
    pub(super) subscription: String,
    pub(super) location: String,
    /// The secret part of its address.
    pub(super) signature: String,
    pub(super) started: OffsetDateTime,
    pub(super) due: OffsetDateTime,
    pub(super) staged: Option<StagedOutcome>,
    pub(super) ended: Option<Ended>,
}

/// How an operation ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) at: OffsetDateTime,
    pub(super) status: String,
    pub(super) error: Option<Value>,
}

/// The api-version AKS writes into operation addresses, whatever the caller's was.
const VERSION: &str = "2025-03-01";

impl Operation {
    /// How it has to end: succeeding, unless staged otherwise.
    pub(super) fn verdict(&self) -> Ended {
        let at = self.due;
        let Some(staged) = &self.staged else {
            return Ended {
                at,
                status: "Succeeded".to_owned(),
                error: None,
            };
        };
        let worded = |code: &str, message: &str| Some(json!({"code": code, "message": message}));
        match staged.status.as_str() {
            "Succeeded" => Ended { at, status: "Succeeded".to_owned(), error: staged.error.clone() },
            "NotLatestOperation" => Ended {
                at,
                status: "Succeeded".to_owned(),
                error: staged.error.clone().or_else(|| {
                    worded(
                        "NotLatestOperation",
                        "Cannot proceed with the operation. Either the operation has been preempted by another one, \
                         or the information needed by the operation failed to be saved (or hasn't been saved yet).",
                    )
                }),
            },
            status => Ended {
                at,
                status: status.to_owned(),
                error: staged.error.clone().or_else(|| {
                    worded(
                        "InternalOperationError",
                        "Internal server error. Please see https://aka.ms/aks-internal-server-error for more details.",
                    )
                }),
            },
        }
    }

    /// Its address below the ARM base.
    pub(super) fn target(&self, collection: &str) -> String {
        format!(
            "/subscriptions/{}/providers/Microsoft.ContainerService/locations/{}/{collection}/{}?{}",
            self.subscription, self.location, self.id, self.signature
        )
    }

    /// Its state as ARM shows it.
    pub(super) fn body(&self) -> Value {
        let mut body = json!({
            "name": swapped(self.id).to_string(),
            "status": self.ended.as_ref().map_or("InProgress", |ended| ended.status.as_str()),
            "startTime": stamp(self.started, 7),
        });
        if let (Some(body), Some(ended)) = (body.as_object_mut(), &self.ended) {
            body.insert("endTime".to_owned(), json!(stamp(ended.at, 7)));
            if let Some(error) = &ended.error {
                body.insert("error".to_owned(), error.clone());
            }
        }
        body
    }

    /// The answer to a poll, which must use the address exactly as it was given out.
    pub(super) fn polled(&self, call: &Call, collection: &str, pace: Pace) -> Result<Reply, Refusal> {
        if call.target != self.target(collection) {
            return Err(Refusal::gateway(
                StatusCode::FORBIDDEN,
                "SandboxOperationUrlAltered",
                "sandbox: the address of an operation is opaque and must be sent back byte for byte",
            ));
        }
        if collection == "operations" {
            let reply =
                Reply::ok(self.body()).header("x-ms-ratelimit-remaining-subscription-global-reads", "16499");
            return Ok(hurried(reply, pace));
        }
        // The result: nothing until the end, then nothing to show of a deleted cluster.
        let status = if self.ended.is_some() {
            StatusCode::NO_CONTENT
        } else {
            StatusCode::ACCEPTED
        };
        Ok(hurried(Reply::empty(status), pace))
    }
}

/// At a fast pace answers say so, in milliseconds; AKS itself sends no such header.
pub(super) fn hurried(reply: Reply, pace: Pace) -> Reply {
    match pace {
        Pace::Fast => reply.header("x-ms-retry-after-ms", "50"),
        Pace::Real => reply,
    }
}

/// The query of a new operation's address: about 4 KB, of which nothing can be told.
pub(super) fn signature(now: OffsetDateTime) -> String {
    // Ticks since the year 1, as .NET counts them.
    let ticks = now.unix_timestamp_nanos() / 100 + 621_355_968_000_000_000;
    let random = |length: usize| {
        let mut text = String::new();
        while text.len() < length {
            text.push_str(&Uuid::new_v4().simple().to_string());
        }
        text.truncate(length);
        text
    };
    format!(
        "api-version={VERSION}&t={ticks}&c=MII{}&s={}&h={}",
        random(3400),
        random(342),
        random(43)
    )
}

/// The same GUID as another byte order reads it, which is how AKS names its operations.
fn swapped(id: Uuid) -> Uuid {
    let (first, second, third, rest) = id.as_fields();
    Uuid::from_fields(first.swap_bytes(), second.swap_bytes(), third.swap_bytes(), rest)
}

/// True if this request asks for another representation than the tag it names: `If-Match` and `If-None-Match`.
///
/// The whole table, for a resource that is there (`Some(tag)`) or not:
///
/// | Header | Absent | Present |
/// |---|---|---|
/// | none, `""` | goes on | goes on |
/// | `If-Match: *` | PUT 412 | goes on |
/// | `If-Match: tag` | PUT 412 | goes on if it is this tag, else 412 |
/// | `If-None-Match: *` | goes on | PUT 412 |
/// | both, or another `If-None-Match` | 400 | 400 |
pub(super) fn preconditions(headers: &HeaderMap, is_put: bool, tag: Option<&str>) -> Result<(), Refusal> {
    let header = |name: &str| {
        let text = headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        text.trim().trim_start_matches("W/").trim_matches('"').to_owned()
    };
    let failed = |message: &str| {
        Err(Refusal::aks(
            StatusCode::PRECONDITION_FAILED,
            "PreconditionFailed",
            message,
        ))
    };
    let wanted = header("if-match");
    let unwanted = header("if-none-match");
    if !unwanted.is_empty() && (!wanted.is_empty() || unwanted != "*") {
        return Err(Refusal::aks(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "Only one of the headers If-Match and If-None-Match may be given, and If-None-Match only as '*'.",
        ));
    }
    match tag {
        None if is_put && !wanted.is_empty() => failed(
            "Resource not found but ETag header is provided. If this is a request to create, please do not provide \
             ETag.",
        ),
        Some(_) if is_put && unwanted == "*" => {
            failed("Resource already exists but If-None-Match '*' is provided.")
        }
        Some(tag) if !wanted.is_empty() && wanted != "*" && wanted != tag => failed(
            "The ETag provided does not match the current ETag of the resource. Please get the resource and try again.",
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_etag_table() {
        for (name, value, put, tag, expected) in [
            ("if-match", "", true, None, Ok(())),
            ("if-match", "*", true, None, Err(412)),
            ("if-match", "one", true, None, Err(412)),
            ("if-match", "*", false, None, Ok(())),
            ("if-match", "*", true, Some("one"), Ok(())),
            ("if-match", "one", true, Some("one"), Ok(())),
            ("if-match", "\"one\"", true, Some("one"), Ok(())),
            ("if-match", "two", true, Some("one"), Err(412)),
            ("if-match", "two", false, Some("one"), Err(412)),
            ("if-none-match", "*", true, None, Ok(())),
            ("if-none-match", "*", true, Some("one"), Err(412)),
            ("if-none-match", "one", true, Some("one"), Err(400)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            let found = preconditions(&headers, put, tag).map_err(|refusal| refusal.status.as_u16());
            assert_eq!(found, expected, "{name}: {value}, put {put}, tag {tag:?}");
        }
        let mut both = HeaderMap::new();
        both.insert("if-match", HeaderValue::from_static("*"));
        both.insert("if-none-match", HeaderValue::from_static("*"));
        assert_eq!(preconditions(&both, true, None).unwrap_err().status, 400);
    }

    #[test]
    fn an_operations_name_is_its_id_in_another_byte_order() {
        let id: Uuid = "b56fdb60-ae82-47c9-aa0e-3d27cc25015c".parse().unwrap();
        assert_eq!(swapped(id).to_string(), "60db6fb5-82ae-c947-aa0e-3d27cc25015c");
    }

    #[test]
    fn addresses_are_long_and_never_the_same() {
        let now = OffsetDateTime::UNIX_EPOCH;
        assert!(signature(now).len() > 3800);
        assert_ne!(signature(now), signature(now));
    }
}
