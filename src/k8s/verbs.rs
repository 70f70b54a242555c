//! Get, list, apply, delete.

use http::Method;
use serde_json::{Value, json};

use super::client::{Answer, Ask};
use super::secret::{BARE, BARE_LIST, without_data};
use super::{Error, FIELD_MANAGER, Kind, Kubernetes, ObjectRef, SECRET};

/// A page of a list. The API server's own tools use the same.
const PAGE: &str = "500";

impl Kubernetes {
    /// Reads an object; `None` if there is none, also where the kind itself is not served (its CRD is missing). Of a
    /// Secret only the metadata is read.
    ///
    /// # Errors
    /// Any [`Error`] of reading.
    pub async fn get(&self, object: &ObjectRef) -> Result<Option<Value>, Error> {
        let mut ask = Ask::about("get", Method::GET, object);
        if object.kind == SECRET {
            ask.accept = BARE;
        }
        let answer = self.send(&ask).await?;
        match answer.status {
            200 => parse(&ask, object.kind, &answer).map(Some),
            404 => Ok(None),
            _ => Err(ask.refusal(&answer)),
        }
    }

    /// Lists a kind, in one namespace or in all, with a label selector (empty for all). Each item carries its
    /// `apiVersion` and `kind`. Of Secrets only the metadata is read.
    ///
    /// # Errors
    /// [`Error::NotServed`] where the kind is not served; any other of reading.
    pub async fn list(&self, kind: Kind, namespace: Option<&str>, labels: &str) -> Result<Vec<Value>, Error> {
        let mut all = Vec::new();
        let mut next = String::new();
        loop {
            let mut ask = Ask::about_all("list", kind, namespace);
            ask = ask.query(&[("labelSelector", labels), ("limit", PAGE), ("continue", &next)]);
            if kind == SECRET {
                ask.accept = BARE_LIST;
            }
            let answer = self.send(&ask).await?;
            match answer.status {
                200 => {}
                // The page's snapshot is gone: from the start.
                410 if !next.is_empty() => {
                    all.clear();
                    next.clear();
                    continue;
                }
                _ => return Err(ask.refusal(&answer)),
            }
            let mut page = parse(&ask, kind, &answer)?;
            let items = page
                .get_mut("items")
                .and_then(Value::as_array_mut)
                .map(std::mem::take)
                .unwrap_or_default();
            all.extend(items.into_iter().map(|item| typed(item, kind)));
            next = page
                .pointer("/metadata/continue")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            if next.is_empty() {
                return Ok(all);
            }
        }
    }

    /// Server-side apply as [`FIELD_MANAGER`], with strict field validation. A dry run stores nothing. Gives the object
    /// as the server has it afterwards.
    ///
    /// # Errors
    /// [`Error::Conflict`] names the other managers unless `force`; [`Error::Invalid`], [`Error::NotServed`],
    /// [`Error::NamespaceMissing`], [`Error::Terminating`]; any other of writing.
    pub async fn apply(
        &self,
        object: &ObjectRef,
        manifest: &Value,
        force: bool,
        dry_run: bool,
    ) -> Result<Value, Error> {
        let force = if force { "true" } else { "" };
        let dry_run = if dry_run { "All" } else { "" };
        let mut ask = Ask::about("apply", Method::PATCH, object).query(&[
            ("fieldManager", FIELD_MANAGER),
            ("fieldValidation", "Strict"),
            ("force", force),
            ("dryRun", dry_run),
        ]);
        ask.content_type = "application/apply-patch+yaml"; // JSON is YAML
        ask.body = body(object, manifest).to_string().into_bytes();
        let answer = self.send(&ask).await?;
        match answer.status {
            200 | 201 => parse(&ask, object.kind, &answer),
            _ => Err(ask.refusal(&answer)),
        }
    }

    /// Asks for an object's deletion; `false` if there was none. It stays until what belongs to it is gone, so that
    /// whoever waits for it to go waits for all of it: a Deployment goes after its pods. With a UID only the object that
    /// has it: one that took its name since is left alone ([`Error::Conflict`]).
    ///
    /// # Errors
    /// Any [`Error`] of writing.
    pub async fn delete(&self, object: &ObjectRef, uid: Option<&str>) -> Result<bool, Error> {
        let mut ask = Ask::about("delete", Method::DELETE, object);
        let mut options =
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"});
        if let Some(uid) = uid {
            options["preconditions"] = json!({"uid": uid});
        }
        ask.body = options.to_string().into_bytes();
        let answer = self.send(&ask).await?;
        match answer.status {
            200..=202 => Ok(true),
            // Gone, after a try whose answer was lost: that was us.
            404 => Ok(answer.after_loss),
            _ => Err(ask.refusal(&answer)),
        }
    }
}

fn parse(ask: &Ask<'_>, kind: Kind, answer: &Answer) -> Result<Value, Error> {
    let parsed = if kind == SECRET {
        without_data(&answer.body)
    } else {
        serde_json::from_slice(&answer.body)
    };
    parsed.map_err(|error| ask.unexpected(&format!("the answer is no JSON ({error})")))
}

/// List items come without what the list says once.
fn typed(mut item: Value, kind: Kind) -> Value {
    if let Some(members) = item.as_object_mut() {
        members.insert("apiVersion".to_owned(), Value::String(kind.api_version()));
        members.insert("kind".to_owned(), Value::String(kind.kind.to_owned()));
    }
    item
}

/// What is applied: the manifest under the object's own name, without what the server refuses in an apply.
fn body(object: &ObjectRef, manifest: &Value) -> Value {
    let mut body = typed(manifest.clone(), object.kind);
    if !body.get("metadata").is_some_and(Value::is_object) {
        body["metadata"] = json!({});
    }
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        metadata.insert("name".to_owned(), Value::String(object.name.clone()));
        if let Some(namespace) = &object.namespace {
            metadata.insert("namespace".to_owned(), Value::String(namespace.clone()));
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::super::INGRESS;
    use super::*;

    #[test]
    fn a_manifest_is_applied_under_its_own_name() {
        let applied = body(
            &INGRESS.named("shop", "web"),
            &json!({"metadata": {"managedFields": [], "labels": {}}, "spec": {}}),
        );
        let expected = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": "web", "namespace": "shop", "labels": {}}, "spec": {}});
        assert_eq!(applied, expected);
    }
}
