//! What the real API server asks back: whom a token names, who may, what admission says, and what a kubelet serves.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::super::clock::Clock;
use super::super::container_logs::ContainerLogs;
use super::super::http::{Answer, Body, Incoming, json as json_answer, text};
use super::super::kubernetes::{
    AzureRbac, Forwarder, Identity, Judge, access_review, admission_review, forward_to_pod,
};

/// Reads a pod from the API that asks, by namespace and name.
pub(super) type PodOf =
    Arc<dyn Fn(String, String) -> futures_util::future::BoxFuture<'static, Option<Value>> + Send + Sync>;

/// Who answers the API server's questions.
pub(super) struct Hooks {
    /// Judges bearer tokens that the API server did not issue.
    pub(super) entra: Judge,
    /// Tokens that are simply known.
    pub(super) static_tokens: RwLock<BTreeMap<String, Identity>>,
    /// Asked about what RBAC does not allow.
    pub(super) azure: Option<AzureRbac>,
    /// The world's admission rules.
    pub(super) admission: RwLock<Vec<Value>>,
    /// How often admission was asked for.
    pub(super) reviews: AtomicU64,
    /// What containers have said.
    pub(super) logs: ContainerLogs,
    /// Where the kubelet takes the time from.
    pub(super) clock: Clock,
    /// Where ports of pods are.
    pub(super) forwarder: Forwarder,
    pub(super) pod: PodOf,
}

/// Largest body of a question.
const LARGEST: usize = 16 << 20;

/// Serves the hooks until `ends`.
pub(super) fn serve(
    hooks: Arc<Hooks>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    ends: CancellationToken,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = ends.cancelled() => return,
            };
            let Ok((stream, _)) = accepted else { continue };
            let (hooks, tls, ends) = (
                Arc::clone(&hooks),
                TlsAcceptor::from(Arc::clone(&tls)),
                ends.clone(),
            );
            tokio::spawn(async move {
                let Ok(stream) = tls.accept(stream).await else {
                    return;
                };
                let service = service_fn(move |request| {
                    let hooks = Arc::clone(&hooks);
                    async move { Ok::<_, Infallible>(hooks.receive(request).await) }
                });
                let serving = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                tokio::select! {
                    ended = serving => drop(ended),
                    () = ends.cancelled() => {}
                }
            });
        }
    });
    Ok(())
}

impl Hooks {
    async fn receive(&self, request: Request<hyper::body::Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        match Limited::new(body, LARGEST).collect().await {
            Ok(body) => self.answer(Request::from_parts(head, body.to_bytes())).await,
            Err(_) => text(StatusCode::BAD_REQUEST, "the body did not arrive"),
        }
    }

    async fn answer(&self, request: Incoming) -> Answer {
        let path = request.uri().path().to_owned();
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        match parts.as_slice() {
            ["authenticate"] => asked(request.body(), |review| self.authenticate(review)),
            ["authorize"] => asked(request.body(), |review| {
                access_review(self.azure.as_ref(), review)
            }),
            ["admit", hook] => self.admit(request.body(), *hook == "mutate"),
            ["containerLogs", namespace, name, container] => {
                let query = request.uri().query().unwrap_or_default();
                match (self.pod)((*namespace).to_owned(), (*name).to_owned()).await {
                    Some(pod) => {
                        let answer = self.logs.read(&pod, container, query, self.clock.now());
                        answer.unwrap_or_else(|words| text(StatusCode::BAD_REQUEST, words))
                    }
                    None => text(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist")),
                }
            }
            ["portForward", namespace, name, ..] => {
                match (self.pod)((*namespace).to_owned(), (*name).to_owned()).await {
                    Some(pod) => forward_to_pod(request, name, |port| (self.forwarder)(&pod, port)),
                    None => text(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist")),
                }
            }
            _ => text(
                StatusCode::NOT_FOUND,
                format!("sandbox: this kubelet does not serve {path}"),
            ),
        }
    }

    fn admit(&self, body: &Bytes, changes: bool) -> Answer {
        self.reviews.fetch_add(1, Ordering::AcqRel);
        let Ok(review) = serde_json::from_slice::<Value>(body) else {
            return text(StatusCode::BAD_REQUEST, "this is not a review");
        };
        let rules = self.admission.read().unwrap_or_else(PoisonError::into_inner);
        json_answer(StatusCode::OK, &admission_review(&rules, &review, changes))
    }

    fn authenticate(&self, review: &Value) -> Value {
        let token = review
            .pointer("/spec/token")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let tokens = self.static_tokens.read().unwrap_or_else(PoisonError::into_inner);
        let known = tokens.get(token).cloned();
        drop(tokens);
        let Some(user) = known.or_else(|| (self.entra)(token)) else {
            return json!({"authenticated": false});
        };
        let mut status = json!({"authenticated": true, "user": {
            "username": user.name, "uid": user.uid, "groups": user.groups,
        }});
        if let Some(audiences) = review.pointer("/spec/audiences") {
            status["audiences"] = audiences.clone();
        }
        status
    }
}

/// The review with its status filled in.
fn asked(body: &Bytes, judge: impl FnOnce(&Value) -> Value) -> Answer {
    let Ok(review) = serde_json::from_slice::<Value>(body) else {
        return text(StatusCode::BAD_REQUEST, "this is not a review");
    };
    let status = judge(&review);
    let answer = json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "status": status});
    json_answer(StatusCode::OK, &answer)
}
