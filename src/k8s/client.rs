//! One request: token, repetition, wiping.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;

use super::{Error, Kind, ObjectRef, TokenSource, status};

/// How often a request is sent at most.
const TRIES: u32 = 5;
/// No new try after this long: a server that hangs has had its chance.
const PATIENCE: Duration = Duration::from_secs(30);
/// The API server's own limit for a request is 60 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(65);

/// A connection to one API server. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Kubernetes {
    client: kube::Client,
    server: Arc<str>,
    token: Option<Arc<dyn TokenSource>>,
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubernetes")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// What is asked.
pub(super) struct Ask<'a> {
    pub(super) verb: &'static str,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
    pub(super) accept: &'static str,
    /// On what, for messages.
    pub(super) subject: String,
    pub(super) object: Option<&'a ObjectRef>,
}

/// What was answered, of any status.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
    /// Whether an earlier try got no answer, so that it may have had its effect.
    pub(super) after_loss: bool,
}

pub(super) const JSON: &str = "application/json";

impl<'a> Ask<'a> {
    pub(super) fn about(verb: &'static str, method: Method, object: &'a ObjectRef) -> Self {
        Self {
            object: Some(object),
            ..Self::new(verb, method, object.path(), object.to_string())
        }
    }

    pub(super) fn about_all(verb: &'static str, kind: Kind, namespace: Option<&str>) -> Self {
        let subject = match namespace {
            Some(namespace) => format!("{} in namespace \"{namespace}\"", kind.plural),
            None => kind.plural.to_owned(),
        };
        Self::new(verb, Method::GET, kind.collection_path(namespace), subject)
    }

    fn new(verb: &'static str, method: Method, path: String, subject: String) -> Self {
        Self {
            verb,
            method,
            path,
            content_type: JSON,
            body: Vec::new(),
            accept: JSON,
            subject,
            object: None,
        }
    }

    pub(super) fn query(mut self, pairs: &[(&str, &str)]) -> Self {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(pairs.iter().filter(|(_, value)| !value.is_empty()));
        let query = query.finish();
        if !query.is_empty() {
            self.path = format!("{}?{query}", self.path);
        }
        self
    }

    pub(super) fn refusal(&self, answer: &Answer) -> Error {
        status::error(self.verb, &self.subject, self.object, answer.status, &answer.body)
    }

    pub(super) fn unexpected(&self, reason: &str) -> Error {
        Error::Unexpected {
            operation: self.verb.to_owned(),
            object: self.subject.clone(),
            status: 0,
            message: reason.to_owned(),
        }
    }
}

/// Where a try failed.
enum Failure {
    Token(String),
    NoAnswer(Arc<dyn StdError + Send + Sync>),
}

impl Kubernetes {
    pub(super) fn new(client: kube::Client, server: String, token: Option<Arc<dyn TokenSource>>) -> Self {
        Self {
            client,
            server: server.into(),
            token,
        }
    }

    /// The API server's URL.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Sends a request that comes to the same when sent twice (all of ours do: reads, applies, deletes) and gives the
    /// answer of whatever status, once it is the server's last word.
    pub(super) async fn send(&self, ask: &Ask<'_>) -> Result<Answer, Error> {
        let begun = Instant::now();
        let mut after_loss = false;
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = match tokio::time::timeout(ANSWER_TIMEOUT, Box::pin(self.whole(ask))).await {
                Ok(outcome) => outcome,
                Err(elapsed) => Err(Failure::NoAnswer(Arc::new(elapsed))),
            };
            let patient = begun.elapsed() < PATIENCE;
            let again = tries < TRIES && patient;
            let asked = match &outcome {
                // Refused unseen, and asked to come again: a server that says when is believed, however often. So it
                // answers for seconds where a definition was just established and its storage is not ready yet.
                Ok((head, _)) if patient && head.status == 429 && head.retry_after.is_some() => {
                    head.retry_after
                }
                Ok((head, _)) if again && [429, 503, 504].contains(&head.status) => head.retry_after,
                Err(Failure::NoAnswer(_)) if again => {
                    after_loss = true;
                    None
                }
                _ => {
                    return match outcome {
                        Ok((head, body)) => Ok(Answer {
                            status: head.status,
                            body,
                            after_loss,
                        }),
                        Err(failure) => Err(self.unreachable(ask, failure)),
                    };
                }
            };
            let pause = asked.unwrap_or_else(|| Duration::from_millis(200) * 2_u32.pow(tries.min(5)));
            tracing::debug!(
                verb = ask.verb,
                subject = ask.subject,
                tries,
                ?pause,
                "will ask again"
            );
            tokio::time::sleep(pause.min(PATIENCE)).await;
        }
    }

    async fn whole(&self, ask: &Ask<'_>) -> Result<(Head, Bytes), Failure> {
        let response = self.open(ask).await?;
        let head = Head {
            status: response.status().as_u16(),
            retry_after: retry_after(response.headers()),
        };
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|error| Failure::NoAnswer(Arc::new(error)))?;
        Ok((head, body.to_bytes()))
    }

    /// Sends a request once and gives the answer while its body still comes: for watches.
    pub(super) async fn stream(&self, ask: &Ask<'_>) -> Result<Response<Body>, Error> {
        match tokio::time::timeout(ANSWER_TIMEOUT, Box::pin(self.open(ask))).await {
            Ok(outcome) => outcome.map_err(|failure| self.unreachable(ask, failure)),
            Err(elapsed) => Err(self.unreachable(ask, Failure::NoAnswer(Arc::new(elapsed)))),
        }
    }

    async fn open(&self, ask: &Ask<'_>) -> Result<Response<Body>, Failure> {
        let mut request = Request::new(Body::from(ask.body.clone()));
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = ask
            .path
            .parse()
            .map_err(|error: http::uri::InvalidUri| Failure::NoAnswer(Arc::new(error)))?;
        request
            .headers_mut()
            .insert(ACCEPT, HeaderValue::from_static(ask.accept));
        if !ask.body.is_empty() {
            request
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(ask.content_type));
        }
        if let Some(header) = self.bearer().await? {
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        self.client
            .send(request)
            .await
            .map_err(|error| Failure::NoAnswer(Arc::new(error)))
    }

    async fn bearer(&self) -> Result<Option<HeaderValue>, Failure> {
        let Some(source) = &self.token else {
            return Ok(None);
        };
        let token = source.token().await.map_err(Failure::Token)?;
        let header = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut header = header
            .ok()
            .ok_or_else(|| Failure::Token("the token cannot be sent in a header".to_owned()))?;
        header.set_sensitive(true);
        Ok(Some(header))
    }

    /// The header that says who asks, where it is a token.
    pub(super) async fn authorization(
        &self,
        verb: &'static str,
        object: &ObjectRef,
    ) -> Result<Option<HeaderValue>, Error> {
        let ask = Ask::about(verb, Method::GET, object);
        self.bearer()
            .await
            .map_err(|failure| self.unreachable(&ask, failure))
    }

    pub(super) fn client(&self) -> &kube::Client {
        &self.client
    }

    fn unreachable(&self, ask: &Ask<'_>, failure: Failure) -> Error {
        let (operation, object) = (ask.verb.to_owned(), ask.subject.clone());
        match failure {
            Failure::Token(message) => Error::Unauthorized {
                operation,
                object,
                message,
            },
            Failure::NoAnswer(source) => Error::Unreachable {
                operation,
                object,
                server: self.server.to_string(),
                source,
            },
        }
    }
}

struct Head {
    status: u16,
    retry_after: Option<Duration>,
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
        .map(Duration::from_secs)
}

/// Overwrites a body nobody else holds (best effort: what hyper read it into is out of reach).
pub(super) fn wipe(body: Bytes) {
    if let Ok(mut bytes) = body.try_into_mut() {
        bytes.fill(0);
        std::hint::black_box(&bytes);
    }
}
