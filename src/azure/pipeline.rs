//! The one `send` of Azure's planes: tokens, and the api-version that the cloud speaks.
//!
//! What may be sent again depends on what is asked: a read freely; a write only if the service says that it did not
//! take it. A write whose answer was lost is the caller's to resolve, by looking. [`super::sender`] does it.

use std::sync::Arc;
use std::time::Duration;

use azure_core::http::{Method, Request};
use serde_json::Value;
use url::Url;

use super::answer::Answer;
use super::api_versions::ApiVersions;
use super::cloud::Cloud;
use super::credential::Credentials;
use super::sender::{Failure, Sender};
use super::{Error, Secret};

/// Tries of a write whose answer is lost, each looked after by reading.
pub(super) const TRIES_AFTER_LOSS: u32 = 3;

/// Where the tokens of auxiliary tenants go.
const AUXILIARY: &str = "x-ms-authorization-auxiliary";

/// Sends requests of one identity.
#[derive(Debug)]
pub(super) struct Pipeline {
    sender: Arc<Sender>,
    credentials: Credentials,
    versions: ApiVersions,
}

/// One request, and what it is about. Without `Debug`, for an operation's URL is a secret.
#[derive(Clone)]
pub(super) struct Call {
    /// What is attempted, as "read cluster".
    pub(super) operation: &'static str,
    /// On what, for messages.
    pub(super) target: String,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) auth: Auth,
    pub(super) body: Option<Body>,
    pub(super) if_match: Option<String>,
    pub(super) repeat: Repeat,
}

/// What a request carries.
#[derive(Clone)]
pub(super) enum Body {
    Json(Value),
    /// JSON that nobody may see.
    SecretJson(Secret),
    /// `application/x-www-form-urlencoded`, as Entra ID takes it, with a secret in it.
    Form(Secret),
}

/// Whose token goes along.
#[derive(Clone, Debug)]
pub(super) enum Auth {
    /// None.
    Anonymous,
    /// One for a scope, of a tenant other than the configured one if given.
    Token { scope: String, tenant: Option<String> },
}

/// When a call may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Whenever there is a chance: reads, and writes that come to the same when done twice.
    Freely,
    /// Only if it surely had no effect: no connection, or throttled.
    IfNotTaken,
    /// As [`Repeat::Freely`], and while the service says that it is not there yet: a machine's metadata service starts
    /// with the machine.
    WhileStarting,
}

impl Call {
    /// A read.
    pub(super) fn get(operation: &'static str, target: impl Into<String>, url: Url, auth: Auth) -> Self {
        let target = target.into();
        Self {
            operation,
            target,
            method: Method::Get,
            url,
            auth,
            body: None,
            if_match: None,
            repeat: Repeat::Freely,
        }
    }

    /// A write that must not be repeated blindly.
    pub(super) fn write(
        operation: &'static str,
        target: impl Into<String>,
        method: Method,
        url: Url,
        auth: Auth,
    ) -> Self {
        Self {
            method,
            repeat: Repeat::IfNotTaken,
            ..Self::get(operation, target, url, auth)
        }
    }

    /// With a JSON body.
    pub(super) fn body(self, body: Value) -> Self {
        Self {
            body: Some(Body::Json(body)),
            ..self
        }
    }

    /// With a form.
    pub(super) fn form(self, form: Secret) -> Self {
        Self {
            body: Some(Body::Form(form)),
            ..self
        }
    }

    /// With a JSON body that holds a secret.
    pub(super) fn secret_body(self, body: Secret) -> Self {
        Self {
            body: Some(Body::SecretJson(body)),
            ..self
        }
    }

    /// The same without a body, for a question that only wants to know whom to show a token.
    pub(super) fn without_body(self) -> Self {
        Self { body: None, ..self }
    }

    /// Says that sending it twice does no harm.
    pub(super) fn repeatable(self) -> Self {
        Self {
            repeat: Repeat::Freely,
            ..self
        }
    }

    pub(super) fn request(&self) -> Request {
        let mut request = Request::new(self.url.clone(), self.method);
        request.insert_header("accept", "application/json");
        match &self.body {
            Some(Body::Json(body)) => {
                request.insert_header("content-type", "application/json");
                request.set_body(body.to_string());
            }
            Some(Body::SecretJson(body)) => {
                request.insert_header("content-type", "application/json");
                request.set_body(body.expose().to_owned());
            }
            Some(Body::Form(form)) => {
                request.insert_header("content-type", "application/x-www-form-urlencoded");
                request.set_body(form.expose().to_owned());
            }
            None => {}
        }
        if let Some(tag) = &self.if_match {
            request.insert_header("if-match", tag.clone());
        }
        request
    }

    pub(super) fn may_repeat(&self, status: u16) -> bool {
        match status {
            429 => true,
            408 | 500 | 502 | 503 | 504 => self.repeat != Repeat::IfNotTaken,
            404 | 410 => self.repeat == Repeat::WhileStarting,
            _ => false,
        }
    }
}

impl Pipeline {
    pub(super) fn new(sender: Arc<Sender>, credentials: Credentials) -> Self {
        Self {
            sender,
            credentials,
            versions: ApiVersions::default(),
        }
    }

    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Sends a call and gives the answer, of whatever status, once it is the service's last word.
    ///
    /// # Errors
    /// [`Error::Credential`]; [`Error::Unreachable`] if there was no answer.
    pub(super) async fn send(&self, cloud: &Cloud, call: &Call) -> Result<Answer, Error> {
        let answer = self.send_as_spoken(cloud, call).await?;
        if answer.status != 400 || call.method != Method::Get {
            return Ok(answer);
        }
        let refusal = answer.envelope();
        if self.versions.learn(&call.url, &refusal.code, &refusal.message) {
            return self.send_as_spoken(cloud, call).await;
        }
        Ok(answer)
    }

    /// Sends a call in the version that its resource is known to speak.
    async fn send_as_spoken(&self, cloud: &Cloud, call: &Call) -> Result<Answer, Error> {
        let mut call = call.clone();
        call.url = self.versions.spoken(&call.url);
        let mut tries = self.sender.tries(&call);
        let mut renewed = false;
        loop {
            tries.take_turn().await;
            let mut outcome = self.once(cloud, &call).await;
            if matches!(&outcome, Ok(answer) if answer.status == 401) && !renewed && self.renew(&call).await {
                renewed = true;
                outcome = self.once(cloud, &call).await;
            }
            if tries.is_last(&outcome).await {
                return outcome.map_err(Failure::into_error);
            }
        }
    }

    /// Drops the token of a call, if it has one; says whether there was one.
    async fn renew(&self, call: &Call) -> bool {
        match &call.auth {
            Auth::Anonymous => false,
            Auth::Token { scope, tenant } => {
                self.credentials.forget(scope, tenant.as_deref()).await;
                true
            }
        }
    }

    async fn once(&self, cloud: &Cloud, call: &Call) -> Result<Answer, Failure> {
        let mut headers = Vec::new();
        if let Auth::Token { scope, tenant } = &call.auth {
            headers.push((
                "authorization",
                self.bearer(cloud, scope, tenant.as_deref()).await?,
            ));
            if tenant.is_none() && *scope == cloud.resource_manager_scope() {
                let mut others = Vec::new();
                for other in self.credentials.auxiliary_tenants() {
                    others.push(self.bearer(cloud, scope, Some(other)).await?);
                }
                if !others.is_empty() {
                    headers.push((AUXILIARY, others.join(", ")));
                }
            }
        }
        self.sender.once(call, &headers).await
    }

    async fn bearer(&self, cloud: &Cloud, scope: &str, tenant: Option<&str>) -> Result<String, Failure> {
        let token = self.credentials.token(cloud, scope, tenant).await;
        let token = token.map_err(Failure::Credential)?;
        Ok(format!("Bearer {}", token.expose()))
    }
}

/// Any moment up to the given one: callers that failed together do not come back together.
pub(super) fn jitter(most: Duration) -> Duration {
    let mut bytes = [0; 4];
    // Without randomness all wait alike, which is slower, not wrong.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return most;
    }
    most.mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
}

/// Waits between two looks at something that takes its time: what the service asks for, else 5 to 10 s (AKS throttles
/// faster callers).
pub(super) async fn pause(asked: Option<Duration>) {
    let pause = asked.unwrap_or_else(|| Duration::from_secs(5) + jitter(Duration::from_secs(5)));
    tokio::time::sleep(pause.min(Duration::from_secs(120))).await;
}

/// Waits before a write whose answer was lost is made again, longer each time: what broke needs a moment.
pub(super) async fn after_loss(losses: u32) {
    tokio::time::sleep(jitter(Duration::from_secs(1 << losses.min(4)))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_taken_is_sent_again_when_it_is_a_write() {
        let url = Url::parse("https://arm.local/x").unwrap();
        let read = Call::get("read", "x", url.clone(), Auth::Anonymous);
        let write = Call::write("write", "x", Method::Put, url, Auth::Anonymous);
        let rows = [
            (429, true, true),
            (503, true, false),
            (500, true, false),
            (409, false, false),
            (404, false, false),
        ];
        for (status, reads, writes) in rows {
            assert_eq!(
                (read.may_repeat(status), write.may_repeat(status)),
                (reads, writes),
                "{status}"
            );
        }
    }
}
