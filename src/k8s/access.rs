//! May we, before we try: the API server's own answer to what the caller may do.

use http::Method;
use serde_json::{Value, json};

use super::client::Ask;
use super::{Error, Kind, Kubernetes};

/// A verb on a kind in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Right {
    /// As RBAC writes it, `patch`; `*` for every verb.
    pub verb: &'static str,
    /// The kind; every kind of every group if there is none.
    pub kind: Option<Kind>,
    /// The namespace; all of them together if there is none.
    pub namespace: Option<String>,
}

impl Kubernetes {
    /// Whether the caller has a right.
    ///
    /// # Errors
    /// Those of reading. Nothing is stored by asking.
    pub async fn may(&self, right: &Right) -> Result<bool, Error> {
        const REVIEWS: Kind = Kind {
            group: "authorization.k8s.io",
            version: "v1",
            kind: "SelfSubjectAccessReview",
            plural: "selfsubjectaccessreviews",
            namespaced: false,
        };
        let mut ask = Ask::about_all("review", REVIEWS, None);
        ask.method = Method::POST;
        let attributes = json!({
            "namespace": right.namespace,
            "verb": right.verb,
            "group": right.kind.map_or("*", |kind| kind.group),
            "resource": right.kind.map_or("*", |kind| kind.plural),
        });
        let review = json!({
            "apiVersion": REVIEWS.api_version(),
            "kind": REVIEWS.kind,
            "spec": { "resourceAttributes": attributes },
        });
        ask.body = review.to_string().into_bytes();
        let answer = self.send(&ask).await?;
        if !(200..300).contains(&answer.status) {
            return Err(ask.refusal(&answer));
        }
        let body: Value = serde_json::from_slice(&answer.body)
            .map_err(|error| ask.unexpected(&format!("the answer is no JSON ({error})")))?;
        Ok(body.pointer("/status/allowed").and_then(Value::as_bool) == Some(true))
    }
}
