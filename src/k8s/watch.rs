//! Waiting for an object, by watch.
//!
//! One list gives the state and the version to watch from; each event is judged; an ended watch is resumed, one that is
//! too far behind begins anew. A kind that is not served yet, and a caller that may not watch, are looked after by
//! reading now and then.

use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;

use super::client::Ask;
use super::secret::{BARE, BARE_LIST, without_data};
use super::{Error, Kubernetes, ObjectRef, SECRET};

/// The server ends a watch after this long, so a connection that died unnoticed costs no more.
const WATCH_SECONDS: &str = "290";
/// And we do, should the server not.
const SILENCE: Duration = Duration::from_secs(300);
/// Between two looks where there is no watch.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Reads that failed in a row, each after its own repetitions, before the wait gives up.
const FAILED_READS: u32 = 3;

/// What is waited for, and how much of it is asked for.
struct Watched<'a> {
    object: &'a ObjectRef,
    metadata_only: bool,
}

/// How a watch ended without the judge being content.
enum Ended {
    /// Go on from where it was.
    Resume,
    /// Read anew.
    Restart,
    /// There is none to be had.
    Impossible,
}

impl Kubernetes {
    /// Waits until `judge` is content with the object, and gives what it says. The judge sees the object as it is now,
    /// then after each change; `None` while there is none. Of a Secret it sees the metadata. The caller bounds the wait
    /// by dropping it.
    ///
    /// # Errors
    /// [`Error::Forbidden`], [`Error::Unauthorized`]; [`Error::Unreachable`] after several reads in a row failed.
    pub async fn wait<T>(
        &self,
        object: &ObjectRef,
        judge: impl FnMut(Option<&Value>) -> Option<T> + Send,
    ) -> Result<T, Error> {
        self.wait_for(
            &Watched {
                object,
                metadata_only: object.kind == SECRET,
            },
            judge,
        )
        .await
    }

    /// As [`Kubernetes::wait`] of an object's metadata alone: less to carry, and never a Secret's data.
    ///
    /// # Errors
    /// As [`Kubernetes::wait`].
    pub async fn wait_metadata<T>(
        &self,
        object: &ObjectRef,
        judge: impl FnMut(Option<&Value>) -> Option<T> + Send,
    ) -> Result<T, Error> {
        self.wait_for(
            &Watched {
                object,
                metadata_only: true,
            },
            judge,
        )
        .await
    }

    async fn wait_for<T>(
        &self,
        watched: &Watched<'_>,
        mut judge: impl FnMut(Option<&Value>) -> Option<T> + Send,
    ) -> Result<T, Error> {
        let object = watched.object;
        let mut failed = 0;
        loop {
            let (found, version) = match self.look(watched).await {
                Ok(look) => look,
                Err(error @ (Error::Unreachable { .. } | Error::Unexpected { .. }))
                    if failed < FAILED_READS =>
                {
                    failed += 1;
                    tracing::debug!(%object, %error, failed, "will look again");
                    tokio::time::sleep(LOOK_AGAIN).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            failed = 0;
            if let Some(verdict) = judge(found.as_ref()) {
                return Ok(verdict);
            }
            let Some(mut version) = version else {
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            };
            loop {
                let begun = Instant::now();
                let ended = match self.watch(watched, &mut version, &mut judge).await? {
                    Ok(verdict) => return Ok(verdict),
                    Err(ended) => ended,
                };
                // A server that ends watches at once must not be asked in a circle.
                if matches!(ended, Ended::Impossible) || begun.elapsed() < LOOK_AGAIN {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                if !matches!(ended, Ended::Resume) {
                    break;
                }
            }
        }
    }

    /// The object as it is, and the version to watch from; no version where the kind is not served.
    async fn look(&self, watched: &Watched<'_>) -> Result<(Option<Value>, Option<String>), Error> {
        let object = watched.object;
        let ask = watched.ask("list", &[]);
        let answer = self.send(&ask).await?;
        if answer.status == 404 {
            return Ok((None, None));
        }
        if answer.status != 200 {
            return Err(ask.refusal(&answer));
        }
        let parsed = decode(object, &answer.body);
        let mut list = parsed.map_err(|error| ask.unexpected(&format!("the answer is no JSON ({error})")))?;
        let version = list
            .pointer("/metadata/resourceVersion")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let items = list
            .get_mut("items")
            .and_then(Value::as_array_mut)
            .map(std::mem::take)
            .unwrap_or_default();
        Ok((items.into_iter().next().map(|item| named(item, object)), version))
    }

    /// Watches until the judge is content (`Ok(Ok)`) or the watch ends.
    async fn watch<T>(
        &self,
        watched: &Watched<'_>,
        version: &mut String,
        judge: &mut (impl FnMut(Option<&Value>) -> Option<T> + Send),
    ) -> Result<Result<T, Ended>, Error> {
        let query = [
            ("watch", "true"),
            ("resourceVersion", version.as_str()),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", WATCH_SECONDS),
        ];
        let object = watched.object;
        let ask = watched.ask("watch", &query);
        let response = match self.stream(&ask).await {
            Ok(response) => response,
            Err(Error::Unreachable { .. }) => return Ok(Err(Ended::Impossible)),
            Err(error) => return Err(error),
        };
        match response.status().as_u16() {
            200 => {}
            410 => return Ok(Err(Ended::Restart)),
            status => {
                tracing::debug!(%object, status, "no watch; looking now and then");
                return Ok(Err(Ended::Impossible));
            }
        }
        let mut lines = Lines {
            body: response.into_body(),
            pending: Vec::new(),
        };
        while let Some(mut line) = lines.next().await {
            let event = decode(object, &line);
            line.fill(0);
            let Ok(mut event) = event else {
                return Ok(Err(Ended::Restart));
            };
            let seen = event.get_mut("object").map(Value::take).unwrap_or_default();
            if let Some(at) = seen.pointer("/metadata/resourceVersion").and_then(Value::as_str) {
                at.clone_into(version);
            }
            let verdict = match event.get("type").and_then(Value::as_str) {
                Some("ADDED" | "MODIFIED") => judge(Some(&named(seen, object))),
                Some("DELETED") => judge(None),
                Some("BOOKMARK") => None,
                // Too far behind, most often.
                _ => return Ok(Err(Ended::Restart)),
            };
            if let Some(verdict) = verdict {
                return Ok(Ok(verdict));
            }
        }
        Ok(Err(if lines.broken() {
            Ended::Impossible
        } else {
            Ended::Resume
        }))
    }
}

impl<'a> Watched<'a> {
    fn ask(&self, verb: &'static str, query: &[(&str, &str)]) -> Ask<'a> {
        let object = self.object;
        let selector = format!("metadata.name={}", object.name);
        let mut pairs = vec![("fieldSelector", selector.as_str())];
        pairs.extend_from_slice(query);
        let mut ask = Ask::about_all(verb, object.kind, object.namespace.as_deref()).query(&pairs);
        ask.object = Some(object);
        ask.subject = object.to_string();
        if self.metadata_only {
            ask.accept = if verb == "list" { BARE_LIST } else { BARE };
        }
        ask
    }
}

/// Secrets are parsed without their data; everything else as it is.
fn decode(object: &ObjectRef, bytes: &[u8]) -> Result<Value, serde_json::Error> {
    if object.kind == SECRET {
        without_data(bytes)
    } else {
        serde_json::from_slice(bytes)
    }
}

/// List items and partial metadata come without the object's own kind.
fn named(mut item: Value, object: &ObjectRef) -> Value {
    if let Some(members) = item.as_object_mut() {
        members.insert("apiVersion".to_owned(), Value::String(object.kind.api_version()));
        members.insert("kind".to_owned(), Value::String(object.kind.kind.to_owned()));
    }
    item
}

/// The lines of a body that is still coming.
struct Lines {
    body: Body,
    pending: Vec<u8>,
}

impl Lines {
    /// The next line; `None` when the body has ended, broke, or was silent for too long.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                if line.iter().any(|byte| !byte.is_ascii_whitespace()) {
                    return Some(line);
                }
                continue;
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame())
                .await
                .ok()??
                .ok()?;
            if let Ok(data) = frame.into_data() {
                self.pending.extend_from_slice(&data);
            }
        }
    }

    /// Whether a line was begun and not ended.
    fn broken(&self) -> bool {
        !self.pending.is_empty()
    }
}
