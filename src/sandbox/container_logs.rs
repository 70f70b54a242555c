//! What the containers of a cluster have said, and the answer to whoever asks for it.
//!
//! One writer for both planes: the embedded API answers `pods/NAME/log` with [`ContainerLogs::read`], and a node's
//! kubelet whatever a real API server asks it for. Nothing runs in a container, so the lines are those of the actors
//! that play it.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

use super::http::{Answer, whole};

/// Lines that are kept of each container; a node keeps 10 MB.
const KEPT: usize = 2000;

/// The logs of one cluster; clones share them.
#[derive(Clone)]
pub(crate) struct ContainerLogs(Arc<Inner>);

struct Inner {
    logs: Mutex<HashMap<Container, Log>>,
    grown: watch::Sender<()>,
}

/// A pod's UID and a container's name.
type Container = (String, String);

#[derive(Default)]
struct Log {
    lines: VecDeque<Line>,
    /// How many lines were forgotten.
    forgotten: usize,
}

/// What a container said, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    at: OffsetDateTime,
    text: String,
}

/// What is asked of a log, by the parameters that API server and kubelet share.
#[derive(Default)]
struct Wanted {
    follow: bool,
    previous: bool,
    timestamps: bool,
    tail: Option<usize>,
    since: Option<OffsetDateTime>,
    bytes: Option<usize>,
}

impl Default for ContainerLogs {
    fn default() -> Self {
        Self(Arc::new(Inner {
            logs: Mutex::default(),
            grown: watch::Sender::new(()),
        }))
    }
}

impl ContainerLogs {
    /// Adds to what a container of the pod with this UID has said.
    pub(crate) fn say(&self, pod: &str, container: &str, at: OffsetDateTime, text: &str) {
        let mut logs = self.lock();
        let log = logs.entry((pod.to_owned(), container.to_owned())).or_default();
        for text in text.lines() {
            let text = text.to_owned();
            log.lines.push_back(Line { at, text });
        }
        while log.lines.len() > KEPT {
            log.lines.pop_front();
            log.forgotten += 1;
        }
        drop(logs);
        self.0.grown.send_replace(());
    }

    /// The pod with this UID is gone; whoever follows its logs is at their end.
    pub(crate) fn forget(&self, pod: &str) {
        self.lock().retain(|(of, _), _| of != pod);
        self.0.grown.send_replace(());
    }

    /// The lines of a container as text, by the query of the request: `follow`, `previous`, `timestamps`, `tailLines`,
    /// `sinceSeconds`, `sinceTime`, `limitBytes`.
    ///
    /// # Errors
    /// The kubelet's words for 400: the container has not started, or never ran before.
    pub(crate) fn read(
        &self,
        pod: &Value,
        container: &str,
        query: &str,
        now: OffsetDateTime,
    ) -> Result<Answer, String> {
        let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let name = text("/metadata/name");
        let wanted = Wanted::parse(query, now)?;
        if wanted.previous {
            return Err(format!(
                "previous terminated container {container:?} in pod {name:?} not found"
            ));
        }
        let statuses = pod.pointer("/status/containerStatuses").and_then(Value::as_array);
        let mut statuses = statuses.into_iter().flatten();
        let status = statuses.find(|status| status["name"] == container);
        let state = status.map(|status| &status["state"]);
        if state.is_none_or(|state| state.get("running").is_none()) {
            let reason = state.and_then(|state| state.pointer("/waiting/reason")?.as_str());
            let reason = reason.unwrap_or("ContainerCreating");
            return Err(format!(
                "container {container:?} in pod {name:?} is waiting to start: {reason}"
            ));
        }
        let key = (text("/metadata/uid").to_owned(), container.to_owned());
        let mut grown = self.0.grown.subscribe();
        grown.mark_unchanged();
        let (first, at) = self.first(&key, &wanted);
        let mut answer = Response::new(if wanted.follow {
            self.stream(key, wanted.timestamps, first, at, grown)
        } else {
            whole(first)
        });
        let plain = HeaderValue::from_static("text/plain");
        answer.headers_mut().insert(header::CONTENT_TYPE, plain);
        Ok(answer)
    }

    /// What there is already, and the number of the line that comes next.
    fn first(&self, key: &Container, wanted: &Wanted) -> (String, usize) {
        let logs = self.lock();
        let Some(log) = logs.get(key) else {
            return Default::default();
        };
        let since = |line: &&Line| wanted.since.is_none_or(|since| line.at >= since);
        let lines: Vec<_> = log.lines.iter().filter(since).collect();
        let skipped = wanted.tail.map_or(0, |tail| lines.len().saturating_sub(tail));
        let mut text = String::new();
        for line in lines.into_iter().skip(skipped) {
            line.print(wanted.timestamps, &mut text);
        }
        if let Some(mut end) = wanted.bytes.filter(|bytes| *bytes < text.len()) {
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
        }
        (text, log.forgotten + log.lines.len())
    }

    /// The lines from a number on, until the pod is gone.
    fn stream(
        &self,
        key: Container,
        timestamps: bool,
        first: String,
        at: usize,
        grown: watch::Receiver<()>,
    ) -> super::http::Body {
        let logs = self.clone();
        let frames = stream::unfold((first, at, grown), move |(mut text, mut at, mut grown)| {
            let (logs, key) = (logs.clone(), key.clone());
            async move {
                while text.is_empty() {
                    grown.changed().await.ok()?;
                    at = logs.continued(&key, at, timestamps, &mut text)?;
                }
                let frame = Frame::data(Bytes::from(std::mem::take(&mut text)));
                Some((Ok::<_, Infallible>(frame), (text, at, grown)))
            }
        });
        StreamBody::new(frames).boxed()
    }

    fn continued(&self, key: &Container, at: usize, timestamps: bool, text: &mut String) -> Option<usize> {
        let logs = self.lock();
        let log = logs.get(key)?;
        for line in log.lines.iter().skip(at.saturating_sub(log.forgotten)) {
            line.print(timestamps, text);
        }
        Some(log.forgotten + log.lines.len())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Container, Log>> {
        self.0.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn print(&self, timestamp: bool, text: &mut String) {
        let stamp = timestamp.then(|| self.at.format(&Rfc3339).unwrap_or_default());
        // A text takes everything that is written to it.
        let _written = match stamp {
            Some(stamp) => writeln!(text, "{stamp} {}", self.text),
            None => writeln!(text, "{}", self.text),
        };
    }
}

impl Wanted {
    fn parse(query: &str, now: OffsetDateTime) -> Result<Self, String> {
        let mut wanted = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let number = || {
                let number = value.parse::<u32>();
                number.map_err(|error| format!("Invalid value: {value:?} of {name}: {error}"))
            };
            let truth = !matches!(&*value, "false" | "0");
            match &*name {
                "follow" => wanted.follow = truth,
                "previous" => wanted.previous = truth,
                "timestamps" => wanted.timestamps = truth,
                "tailLines" => wanted.tail = usize::try_from(number()?).ok(),
                "limitBytes" => wanted.bytes = usize::try_from(number()?).ok(),
                "sinceSeconds" => {
                    wanted.since = Some(now - time::Duration::seconds(i64::from(number()?)));
                }
                "sinceTime" => {
                    let moment = OffsetDateTime::parse(&value, &Rfc3339);
                    wanted.since = Some(moment.map_err(|error| format!("sinceTime: {error}"))?);
                }
                _ => {}
            }
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOON: OffsetDateTime = time::macros::datetime!(2025-01-01 12:00 UTC);

    fn pod(state: &str) -> Value {
        json!({"metadata": {"name": "p", "uid": "u"},
            "status": {"containerStatuses": [{"name": "c", "state": {state: {"reason": "ErrImagePull"}}}]}})
    }

    async fn text(logs: &ContainerLogs, query: &str) -> String {
        let now = NOON + time::Duration::seconds(10);
        let answer = logs.read(&pod("running"), "c", query, now).unwrap();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_log_is_cut_as_the_query_says() {
        let logs = ContainerLogs::default();
        assert_eq!(text(&logs, "").await, "");
        for (second, line) in ["one", "two", "three"].into_iter().enumerate() {
            let at = NOON + time::Duration::seconds(i64::try_from(second).unwrap());
            logs.say("u", "c", at, line);
        }
        assert_eq!(text(&logs, "").await, "one\ntwo\nthree\n");
        assert_eq!(text(&logs, "tailLines=1").await, "three\n");
        assert_eq!(text(&logs, "sinceSeconds=9").await, "two\nthree\n");
        assert_eq!(text(&logs, "limitBytes=5").await, "one\nt");
        assert_eq!(
            text(&logs, "timestamps=true&sinceTime=2025-01-01T12:00:02Z").await,
            "2025-01-01T12:00:02Z three\n"
        );
    }

    #[tokio::test]
    async fn who_follows_gets_what_comes_until_the_pod_is_gone() {
        let logs = ContainerLogs::default();
        logs.say("u", "c", NOON, "one");
        let answer = logs.read(&pod("running"), "c", "follow=true", NOON).unwrap();
        let mut body = answer.into_body();
        let mut seen = Vec::new();
        for word in ["one", "two", "three"] {
            if !seen.is_empty() {
                logs.say("u", "c", NOON, word);
            }
            let frame = body.frame().await.unwrap().unwrap();
            seen.push(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap());
        }
        assert_eq!(seen, ["one\n", "two\n", "three\n"]);
        logs.forget("u");
        assert!(body.frame().await.is_none());
    }

    #[test]
    fn what_has_not_run_says_so() {
        let logs = ContainerLogs::default();
        let words = |state: &str, query: &str| logs.read(&pod(state), "c", query, NOON).err().unwrap();
        assert_eq!(
            words("waiting", ""),
            "container \"c\" in pod \"p\" is waiting to start: ErrImagePull"
        );
        assert_eq!(
            words("running", "previous=true"),
            "previous terminated container \"c\" in pod \"p\" not found"
        );
        assert!(words("running", "tailLines=x").contains("tailLines"));
    }
}
