//! Events as the components of a node and of the control plane report them: one object per cause, counted up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::{ApiError, Client};
use super::kinds::Kind;
use super::objects::{name, namespace, stamp, text, uid};
use crate::sandbox::clock::Clock;

/// Longest message the API takes.
const LONGEST: usize = 1024;

/// Name and count of each event so far, by what makes two reports the same: object, reason, message.
type Known = HashMap<(String, String, String), (String, u64)>;

/// One component's recorder.
pub(super) struct Recorder {
    client: Arc<Client>,
    clock: Clock,
    component: &'static str,
    host: Option<String>,
    known: Mutex<Known>,
}

impl Recorder {
    pub(super) fn new(
        client: Arc<Client>,
        clock: Clock,
        component: &'static str,
        host: Option<String>,
    ) -> Self {
        Self {
            client,
            clock,
            component,
            host,
            known: Mutex::default(),
        }
    }

    pub(super) async fn warning(
        &self,
        kind: Kind,
        object: &Value,
        reason: &str,
        message: &str,
    ) -> Result<(), ApiError> {
        self.record(kind, object, ["Warning", reason, message]).await
    }

    pub(super) async fn normal(
        &self,
        kind: Kind,
        object: &Value,
        reason: &str,
        message: &str,
    ) -> Result<(), ApiError> {
        self.record(kind, object, ["Normal", reason, message]).await
    }

    async fn record(
        &self,
        kind: Kind,
        object: &Value,
        [level, reason, message]: [&str; 3],
    ) -> Result<(), ApiError> {
        let message = cut(message, LONGEST);
        let same = (uid(object).to_owned(), reason.to_owned(), message.to_owned());
        let space = match namespace(object) {
            "" => "default",
            space => space,
        };
        let path = format!("/api/v1/namespaces/{space}/events");
        let now = stamp(self.clock.now());
        let known = self.lock().get(&same).cloned();
        if let Some((event, count)) = known {
            let count = count + 1;
            let patch = json!({"count": count, "lastTimestamp": now});
            let content = Some("application/merge-patch+json");
            let path = format!("{path}/{event}");
            match self
                .client
                .call(Method::PATCH, &path, content, Some(&patch))
                .await
            {
                Ok(_) => {
                    self.lock().insert(same, (event, count));
                    return Ok(());
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let (suffix, _) = Uuid::new_v4().as_u64_pair();
        let event = format!("{}.{suffix:016x}", name(object));
        let place = kind.place();
        let mut source = json!({"component": self.component});
        if let Some(host) = &self.host {
            source["host"] = host.as_str().into();
        }
        let body = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": event, "namespace": space},
            "involvedObject": {"apiVersion": place.api_version, "kind": place.kind, "name": name(object),
                "namespace": namespace(object), "uid": uid(object),
                "resourceVersion": text(object, "/metadata/resourceVersion")},
            "type": level, "reason": reason, "message": message, "source": source,
            "reportingComponent": self.component, "reportingInstance": self.host.as_deref().unwrap_or_default(),
            "firstTimestamp": now, "lastTimestamp": now, "count": 1,
        });
        match self
            .client
            .call(Method::POST, &path, Some("application/json"), Some(&body))
            .await
        {
            Ok(_) => {
                self.lock().insert(same, (event, 1));
                Ok(())
            }
            // Its namespace is ending or gone: real recorders drop the event too.
            Err(error) if error.is_not_found() || error.is(403) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// At most `longest` bytes, without splitting a character.
fn cut(text: &str, longest: usize) -> &str {
    let mut end = longest.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn a_message_is_cut_between_characters() {
        assert_eq!(cut("abc", 10), "abc");
        assert_eq!(cut("aé", 2), "a");
    }
}
