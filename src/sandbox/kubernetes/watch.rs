//! Lists and watches.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::kinds::{Kind, Version};
use super::refusal::{Cause, Outcome, Refusal};
use super::request::{Call, Form};
use super::selectors::Selector;
use super::server::ApiServer;
use super::shaping::prune;
use super::store::{Happened, Object, Place, Store, meta, set_meta};
use super::table::Columns;
use crate::sandbox::http::Answer;

/// How often, really, an idle watch says how far it got.
const BOOKMARK: Duration = Duration::from_secs(60);
/// How long a watch lives if nobody says; the original picks 30 to 60 minutes.
const LIFETIME: Duration = Duration::from_secs(2700);

/// An object in the version and form that was asked for.
pub(super) fn shown(kind: &Kind, version: &Version, object: &Value, partial: bool) -> Value {
    if partial {
        return json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": object.get("metadata").cloned().unwrap_or_default(),
        });
    }
    let mut object = object.clone();
    object["apiVersion"] = Value::from(kind.api_version(&version.name));
    object["kind"] = Value::from(kind.kind.as_str());
    if kind.custom && version.name != kind.storage {
        // A version shows what it declares.
        prune(&version.of, &mut object);
    }
    object
}

fn selector(call: &Call, kind: &Kind) -> Outcome<Selector> {
    if !call.target.name.is_empty() {
        return Ok(Selector::name(&call.target.name));
    }
    Selector::parse(
        kind,
        call.query.get("labelSelector"),
        call.query.get("fieldSelector"),
    )
}

fn revision_asked(call: &Call) -> Outcome<Option<u64>> {
    match call.query.get("resourceVersion") {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_ignored: std::num::ParseIntError| {
            let why = format!("invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax");
            Refusal::new(400, "BadRequest", why)
        }),
    }
}

/// `resourceVersionMatch` says how a version is meant, so it needs one; initial events need it.
fn check_match(call: &Call, watches: bool) -> Outcome<()> {
    let matching = call.query.get("resourceVersionMatch");
    let initial = !call.query.get("sendInitialEvents").is_empty();
    let why = if watches && initial && matching != "NotOlderThan" {
        "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
    } else if watches && !initial && !matching.is_empty() {
        "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
    } else if !watches && !matching.is_empty() && call.query.get("resourceVersion").is_empty() {
        "resourceVersionMatch is forbidden unless resourceVersion is provided"
    } else {
        return Ok(());
    };
    let cause = Cause::forbidden("resourceVersionMatch", why);
    Err(Refusal::invalid("ListOptions.meta.k8s.io", "", &[cause]))
}

fn too_old(asked: u64, oldest: u64) -> Refusal {
    Refusal::expired(format!("too old resource version: {asked} ({oldest})"))
}

/// Answers a list.
pub(super) fn list(store: &Store, call: &Call, kind: &Kind, version: &Version) -> Outcome<Value> {
    check_match(call, false)?;
    let selector = selector(call, kind)?;
    let asked = revision_asked(call)?;
    let mut revision = store.revision();
    let mut start: Option<Place> = None;
    let mut past = None;
    match call.query.get("continue") {
        "" => {
            if let Some(asked) = asked.filter(|asked| *asked > revision) {
                let message = format!("Too large resource version: {asked}, current: {revision}");
                let causes =
                    json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
                return Err(Refusal::new(504, "Timeout", message)
                    .with_detail("causes", causes)
                    .with_detail("retryAfterSeconds", Value::from(1)));
            }
            if call.query.get("resourceVersionMatch") == "Exact"
                && let Some(asked) = asked
            {
                if asked < store.forgotten() {
                    return Err(too_old(asked, store.forgotten()));
                }
                revision = asked;
                past = Some(store.as_of(kind, asked));
            }
        }
        token => {
            let (at, namespace, name) = parse_token(token)
                .ok_or_else(|| Refusal::bad_request("continue key is not valid: illegal base64 data"))?;
            if at < store.forgotten() {
                return Err(Refusal::expired(
                    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results.",
                ));
            }
            revision = at;
            past = Some(store.as_of(kind, at));
            start = Some((namespace, name));
        }
    }
    let current;
    let objects: Box<dyn Iterator<Item = (&Place, &Object)>> = if let Some(past) = &past {
        current = past;
        Box::new(current.iter())
    } else {
        Box::new(store.all(&kind.group, &kind.plural))
    };
    let place = call.target.place();
    let mut matching = objects
        .filter(|((namespace, _), _)| place.is_empty() || namespace == place)
        .filter(|(at, _)| start.as_ref().is_none_or(|start| *at > start))
        .filter(|(_, object)| selector.covers(object));
    let limit = call
        .query
        .get("limit")
        .parse::<usize>()
        .ok()
        .filter(|limit| *limit > 0)
        .unwrap_or(usize::MAX);
    if call.form() == Form::Metadata {
        return Err(Refusal::not_acceptable(format!(
            "you requested PartialObjectMetadata, but the requested object is a list ({})",
            kind.go_type("List")
        )));
    }
    let partial = call.partial();
    let (mut items, mut last) = (Vec::new(), None);
    for (at, object) in matching.by_ref().take(limit) {
        let mut item = shown(kind, version, object, partial);
        // The list says what its items are.
        if let Some(members) = item.as_object_mut().filter(|_| !partial && !kind.custom) {
            members.remove("apiVersion");
            members.remove("kind");
        }
        items.push(item);
        last = Some(at.clone());
    }
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    let remaining = matching.count();
    if let Some((namespace, name)) = last.filter(|_| remaining > 0) {
        metadata["continue"] = Value::from(STANDARD.encode(json!([revision, namespace, name]).to_string()));
        // A selection is not counted.
        if call.query.get("labelSelector").is_empty() && call.query.get("fieldSelector").is_empty() {
            metadata["remainingItemCount"] = Value::from(remaining);
        }
    }
    if kind.custom && !partial && metadata.get("continue").is_none() {
        metadata["continue"] = Value::from("");
    }
    if call.form() == Form::Table {
        let columns = Columns::of(store, kind, version, call.now);
        return Ok(columns.table(items.iter(), &metadata, true));
    }
    let (kind_name, api_version) = if partial {
        (
            "PartialObjectMetadataList".to_owned(),
            "meta.k8s.io/v1".to_owned(),
        )
    } else {
        (kind.list_kind.clone(), kind.api_version(&version.name))
    };
    Ok(json!({"kind": kind_name, "apiVersion": api_version, "metadata": metadata, "items": items}))
}

fn parse_token(token: &str) -> Option<(u64, String, String)> {
    serde_json::from_slice(&STANDARD.decode(token).ok()?).ok()
}

/// A watch under way.
struct Watch {
    server: Arc<ApiServer>,
    kind: Arc<Kind>,
    version: Version,
    selector: Selector,
    place: String,
    partial: bool,
    /// Rows instead of objects; the columns are told once.
    table: Option<Columns>,
    told_columns: bool,
    bookmarks: bool,
    /// The revision up to which everything was told.
    told: u64,
    until: Instant,
    next_bookmark: Instant,
    changed: tokio::sync::watch::Receiver<u64>,
    /// What is to be sent first.
    pending: Vec<u8>,
    ended: bool,
}

/// Answers a watch with a body that does not end by itself.
pub(super) fn watch(
    server: &Arc<ApiServer>,
    call: &Call,
    kind: &Arc<Kind>,
    version: &Version,
) -> Outcome<Answer> {
    check_match(call, true)?;
    let selector = selector(call, kind)?;
    let asked = revision_asked(call)?;
    let place = call.target.place().to_owned();
    let partial = call.partial();
    let initial = call.query.flag("sendInitialEvents");
    let changed = server.subscribe();
    let mut pending = Vec::new();
    let table = (call.form() == Form::Table)
        .then(|| server.with_store(|store| Columns::of(store, kind, version, call.now)));
    let mut told_columns = false;
    let told = server.with_store(|store| {
        let from_now = asked.is_none_or(|asked| asked == 0);
        if let Some(asked) = asked.filter(|_| !from_now && !initial)
            && asked < store.forgotten()
        {
            let refusal = too_old(asked, store.forgotten());
            write_event(&mut pending, "ERROR", &refusal.status());
            return u64::MAX;
        }
        let wanted = call.query.get("sendInitialEvents") != "false" && from_now;
        if wanted || initial {
            for ((namespace, _), object) in store.all(&kind.group, &kind.plural) {
                if (place.is_empty() || *namespace == place) && selector.covers(object) {
                    let object = shown(kind, version, object, partial);
                    let object = row(table.as_ref(), &mut told_columns, object);
                    write_event(&mut pending, "ADDED", &object);
                }
            }
            if initial {
                let annotations = json!({"k8s.io/initial-events-end": "true"});
                let bookmark = bookmark(kind, version, store.revision(), partial, Some(annotations));
                let bookmark = row(table.as_ref(), &mut told_columns, bookmark);
                write_event(&mut pending, "BOOKMARK", &bookmark);
            }
            return store.revision();
        }
        if from_now {
            store.revision()
        } else {
            asked.unwrap_or_default()
        }
    });
    let lifetime = call
        .query
        .get("timeoutSeconds")
        .parse()
        .ok()
        .filter(|seconds| *seconds > 0);
    let now = Instant::now();
    let watch = Watch {
        server: Arc::clone(server),
        kind: Arc::clone(kind),
        version: version.clone(),
        selector,
        place,
        partial,
        table,
        told_columns,
        bookmarks: call.query.flag("allowWatchBookmarks"),
        told,
        until: now + lifetime.map_or(LIFETIME, Duration::from_secs),
        next_bookmark: now + BOOKMARK,
        changed,
        pending,
        ended: false,
    };
    let frames = stream::unfold(watch, |mut watch| async move {
        let bytes = watch.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), watch))
    });
    let mut answer = Response::new(StreamBody::new(frames).boxed());
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(answer)
}

impl Watch {
    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.told == u64::MAX {
                // Expired: the error is all there is.
                self.ended = true;
            } else {
                self.changed.borrow_and_update();
                self.collect();
            }
            if !self.pending.is_empty() {
                return Some(Bytes::from(std::mem::take(&mut self.pending)));
            }
            if self.ended {
                return None;
            }
            tokio::select! {
                changed = self.changed.changed() => if changed.is_err() { return None },
                () = tokio::time::sleep_until(self.until) => return None,
                () = tokio::time::sleep_until(self.next_bookmark) => {
                    self.next_bookmark = Instant::now() + BOOKMARK;
                    if self.bookmarks {
                        let event = bookmark(&self.kind, &self.version, self.told, self.partial, None);
                        let event = row(self.table.as_ref(), &mut self.told_columns, event);
                        write_event(&mut self.pending, "BOOKMARK", &event);
                    }
                }
            }
        }
    }

    /// Takes over what changed since it last looked.
    fn collect(&mut self) {
        let server = Arc::clone(&self.server);
        server.with_store(|store| {
            if self.told < store.forgotten() {
                let refusal = too_old(self.told, store.forgotten());
                write_event(&mut self.pending, "ERROR", &refusal.status());
                self.ended = true;
                return;
            }
            for change in store.changes_after(self.told) {
                let (group, plural) = &change.collection;
                let (namespace, _) = &change.place;
                if !self.kind.is(group, plural) || !(self.place.is_empty() || *namespace == self.place) {
                    continue;
                }
                let before = change
                    .before
                    .as_ref()
                    .is_some_and(|object| self.selector.covers(object));
                let after = change.happened != Happened::Deleted && self.selector.covers(&change.object);
                let event = match (before, after) {
                    (false, true) => "ADDED",
                    (true, true) => "MODIFIED",
                    (true, false) => "DELETED",
                    (false, false) => continue,
                };
                let mut object = shown(&self.kind, &self.version, &change.object, self.partial);
                // What left the selection is told as it was, at the version of the change.
                if let (true, false, Some(was), true) = (
                    before,
                    after,
                    &change.before,
                    change.happened != Happened::Deleted,
                ) {
                    let version = meta(&object, "resourceVersion").to_owned();
                    object = shown(&self.kind, &self.version, was, self.partial);
                    set_meta(&mut object, "resourceVersion", version);
                }
                let object = row(self.table.as_ref(), &mut self.told_columns, object);
                write_event(&mut self.pending, event, &object);
            }
            self.told = self.told.max(store.revision());
            if store.kinds.find(&self.kind.group, &self.kind.plural).is_none() {
                self.ended = true;
            }
        });
    }
}

fn bookmark(
    kind: &Kind,
    version: &Version,
    revision: u64,
    partial: bool,
    annotations: Option<Value>,
) -> Value {
    let mut metadata = BTreeMap::from([("resourceVersion", Value::from(revision.to_string()))]);
    if let Some(annotations) = annotations {
        metadata.insert("annotations", annotations);
    }
    let object = json!({"metadata": metadata});
    shown(kind, version, &object, partial)
}

/// The object, or a table of it alone.
fn row(table: Option<&Columns>, told: &mut bool, object: Value) -> Value {
    let Some(columns) = table else {
        return object;
    };
    let metadata = json!({"resourceVersion": meta(&object, "resourceVersion")});
    let first = !std::mem::replace(told, true);
    columns.table(std::iter::once(&object), &metadata, first)
}

fn write_event(into: &mut Vec<u8>, event: &str, object: &Value) {
    let line = json!({"type": event, "object": object}).to_string();
    into.extend_from_slice(line.as_bytes());
    into.push(b'\n');
}

/// Every object that a deletion of a collection is about.
pub(super) fn selected(store: &Store, call: &Call, kind: &Kind) -> Outcome<Vec<Object>> {
    let selector = selector(call, kind)?;
    let place = call.target.place();
    Ok(store
        .all(&kind.group, &kind.plural)
        .filter(|(_, object)| {
            (place.is_empty() || meta(object, "namespace") == place) && selector.covers(object)
        })
        .map(|(_, object)| Arc::clone(object))
        .collect())
}
