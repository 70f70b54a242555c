//! Requests and answers as every plane of the sandbox sees them.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::Value;

/// An answer's body: whole, or streamed.
pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// A request whose body has arrived. Extensions are hyper's own, so that an upgrade remains possible.
pub(crate) type Incoming = Request<Bytes>;

/// An answer.
pub(crate) type Answer = Response<Body>;

/// A body that is all there.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: &Value) -> Answer {
    let mut answer = Response::new(whole(body.to_string()));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// A plain text answer.
pub(crate) fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    let mut answer = Response::new(whole(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}
