//! The Kubernetes API as an actor calls it: plain JSON in and out, under the actor's own user agent.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde_json::{Value, json};
use thiserror::Error;

use super::cache::Cache;
use super::kinds::Kind;
use super::objects::{name, namespace, text, uid};
use super::transport::{Peer, Transport, TransportError};

/// Why a call had no effect, or none that is known.
#[derive(Debug, Error)]
pub(super) enum ApiError {
    /// No answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The API refused.
    #[error("{message}")]
    Status {
        code: u16,
        reason: String,
        message: String,
    },
    /// The answer is not JSON.
    #[error("answer is not JSON: {0}")]
    Body(#[from] serde_json::Error),
}

impl ApiError {
    pub(super) fn is(&self, wanted: u16) -> bool {
        matches!(self, Self::Status { code, .. } if *code == wanted)
    }

    /// Nothing to do any more, rather than something that failed.
    pub(super) fn is_not_found(&self) -> bool {
        self.is(404)
    }

    pub(super) fn is_conflict(&self) -> bool {
        self.is(409)
    }
}

/// How dependents go with their owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delete {
    /// At the object's own pace.
    Graceful,
    /// At its own pace, and only after what belongs to it.
    Foreground,
    /// Now: the kubelet has ended what had to end.
    Now,
}

/// One actor's client. What its writes answer goes into the cache at once.
pub(super) struct Client {
    transport: Transport,
    peer: Peer,
    cache: Arc<Cache>,
}

impl Client {
    pub(super) fn new(transport: Transport, peer: Peer, cache: Arc<Cache>) -> Self {
        Self {
            transport,
            peer,
            cache,
        }
    }

    pub(super) async fn get(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, ApiError> {
        match self
            .call(Method::GET, &kind.path(namespace, name), None, None)
            .await
        {
            Ok(object) => Ok(Some(self.cache.observe(kind, object))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates `object`; `apiVersion` and `kind` are added.
    pub(super) async fn create(
        &self,
        kind: Kind,
        namespace: &str,
        mut object: Value,
    ) -> Result<Arc<Value>, ApiError> {
        let place = kind.place();
        object["apiVersion"] = place.api_version.into();
        object["kind"] = place.kind.into();
        let path = kind.path(namespace, "");
        let made = self
            .call(Method::POST, &path, Some("application/json"), Some(&object))
            .await?;
        Ok(self.cache.observe(kind, made))
    }

    /// Writes `object` over the one of its name, whatever that holds.
    pub(super) async fn replace(
        &self,
        kind: Kind,
        namespace: &str,
        mut object: Value,
    ) -> Result<Arc<Value>, ApiError> {
        let place = kind.place();
        object["apiVersion"] = place.api_version.into();
        object["kind"] = place.kind.into();
        let path = kind.path(namespace, name(&object));
        let written = self
            .call(Method::PUT, &path, Some("application/json"), Some(&object))
            .await?;
        Ok(self.cache.observe(kind, written))
    }

    /// Merges `patch` (RFC 7396) into the object.
    pub(super) async fn merge(
        &self,
        kind: Kind,
        object: &Value,
        patch: &Value,
    ) -> Result<Arc<Value>, ApiError> {
        self.patch(kind, object, "", patch).await
    }

    /// Merges `patch` into the object's status.
    pub(super) async fn merge_status(
        &self,
        kind: Kind,
        object: &Value,
        patch: &Value,
    ) -> Result<Arc<Value>, ApiError> {
        self.patch(kind, object, "/status", patch).await
    }

    async fn patch(
        &self,
        kind: Kind,
        object: &Value,
        subresource: &str,
        patch: &Value,
    ) -> Result<Arc<Value>, ApiError> {
        let path = format!("{}{subresource}", kind.path(namespace(object), name(object)));
        let content = Some("application/merge-patch+json");
        let patched = self.call(Method::PATCH, &path, content, Some(patch)).await?;
        Ok(self.cache.observe(kind, patched))
    }

    /// Deletes exactly this object, not a successor of the same name. That it is gone already is success.
    pub(super) async fn delete(&self, kind: Kind, object: &Value, how: Delete) -> Result<(), ApiError> {
        let policy = if how == Delete::Foreground {
            "Foreground"
        } else {
            "Background"
        };
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1",
            "preconditions": {"uid": uid(object)}, "propagationPolicy": policy});
        if how == Delete::Now {
            options["gracePeriodSeconds"] = 0.into();
        }
        let path = kind.path(namespace(object), name(object));
        let deleted = self
            .call(Method::DELETE, &path, Some("application/json"), Some(&options))
            .await;
        match deleted {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            // The answer does not tell an object that lingers (grace, finalizers) from one that is gone, nor a conflict
            // about a successor from one about a write at the same time: ask.
            _ => {
                let left = self.get(kind, namespace(object), name(object)).await?;
                if left.is_none_or(|left| uid(&left) != uid(object)) {
                    self.cache.forget(kind, object);
                }
                Ok(())
            }
        }
    }

    /// Any call; errors are the API's own `Status`.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        content: Option<&'static str>,
        body: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = self.request(method, path, content, "application/json", body)?;
        let reply = self.transport.send(&self.peer, request).await?;
        if !reply.status.is_success() {
            return Err(refusal(reply.status, &reply.body));
        }
        Ok(serde_json::from_slice(&reply.body)?)
    }

    /// A list of names and versions only.
    pub(super) async fn versions(&self, path: &str) -> Result<Value, ApiError> {
        let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        let request = self.request(Method::GET, path, None, accept, String::new())?;
        let reply = self.transport.send(&self.peer, request).await?;
        if !reply.status.is_success() {
            return Err(refusal(reply.status, &reply.body));
        }
        Ok(serde_json::from_slice(&reply.body)?)
    }

    /// Opens a watch; the answer arrives bit by bit.
    pub(super) async fn watch(&self, path: &str) -> Result<Response<Incoming>, ApiError> {
        let request = self.request(Method::GET, path, None, "application/json", String::new())?;
        let answer = self.transport.open(&self.peer, request).await?;
        if !answer.status().is_success() {
            return Err(refusal(answer.status(), b""));
        }
        Ok(answer)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        content: Option<&'static str>,
        accept: &'static str,
        body: String,
    ) -> Result<Request<Bytes>, ApiError> {
        let host = self.peer.tls_name.as_deref().unwrap_or("localhost");
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://{host}{path}"))
            .header(header::ACCEPT, HeaderValue::from_static(accept));
        if let Some(content) = content {
            request = request.header(header::CONTENT_TYPE, HeaderValue::from_static(content));
        }
        Ok(request.body(Bytes::from(body)).map_err(TransportError::from)?)
    }
}

fn refusal(code: StatusCode, body: &[u8]) -> ApiError {
    let status: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = match text(&status, "/message") {
        "" => String::from_utf8_lossy(body).trim().to_owned(),
        message => message.to_owned(),
    };
    ApiError::Status {
        code: code.as_u16(),
        reason: text(&status, "/reason").to_owned(),
        message: if message.is_empty() {
            code.to_string()
        } else {
            message
        },
    }
}
