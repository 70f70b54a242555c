//! What every request passes: faults on the way in and out, the journal, and `Date` in sandbox time.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, response};
use http_body::{Body as _, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::super::assembly::Running;
use super::super::core::{ACTOR_HEADER, Effect};
use super::super::entra::token_id;
use super::super::faults::{Act, Cut, Facts, Met};
use super::super::http::{Answer, Body, Incoming, text};
use super::super::journal::{InFlight, hash, shown_body};
use super::super::kubernetes::Identity;
use super::super::world::rfc3339;
use super::socket::Fate;
use super::{ACTOR_NAMES, Destination, Port, action, bearer, host, login_client, refusals};

/// A body on its way out; an error cuts the connection.
pub(super) type Served = UnsyncBoxBody<Bytes, io::Error>;

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("a fault cut the connection")]
pub(super) struct Severed;

/// Bodies of requests beyond this are refused: no plane takes more.
const LARGEST_BODY: usize = 16 << 20;
/// Parameters longer than this are signatures.
const LONGEST_PARAMETER: usize = 64;

/// Answers one request.
pub(super) async fn answer(
    running: Arc<Running>,
    port: Port,
    peer: Option<Identity>,
    fate: Fate,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Served>, Severed> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LARGEST_BODY).collect().await else {
        return Ok(served(text(
            StatusCode::PAYLOAD_TOO_LARGE,
            "sandbox: the body is too large",
        )));
    };
    let mut request = Request::from_parts(head, body.to_bytes());
    let destination = Destination::find(&running, &port, &request);
    if matches!(destination, Destination::Control) {
        return Ok(served(destination.answer(&running, request, peer).await));
    }
    let actor = actor(&mut request, peer.as_ref());
    let mut page = Page::open(&running, &destination, &request, peer.as_ref(), actor);
    let met = running.core.faults.meet(&page.facts, running.core.clock.now());
    page.fault = met.as_ref().map(|met| met.id.clone());
    if let Some(met) = &met
        && let Some(answer) = before(&running, met, &mut request, &fate, &page).await?
    {
        return Ok(page.close(answer).await);
    }
    // On a task of its own: a server goes on with what it began when the client hangs up.
    let answering = {
        let (running, destination) = (Arc::clone(&running), destination.clone());
        tokio::spawn(async move { destination.answer(&running, request, peer).await })
    };
    let answer = answering.await.unwrap_or_else(|stopped| {
        let message = format!("sandbox: this is our bug: {stopped}");
        text(StatusCode::INTERNAL_SERVER_ERROR, message)
    });
    match met.as_ref().map(|met| (met, &met.act)) {
        Some((_, Act::Lose { .. })) => Err(Severed),
        Some((_, &Act::Reset(cut))) => Ok(cut_inside(page.close(answer).await, cut, fate).await),
        Some((met, Act::Hold { .. })) => {
            met.hold().await;
            Ok(page.close(answer).await)
        }
        _ => Ok(page.close(answer).await),
    }
}

/// What a fault does before the plane sees the request: an answer in its place, or none and the request goes on.
async fn before(
    running: &Running,
    met: &Met,
    request: &mut Incoming,
    fate: &Fate,
    page: &Page,
) -> Result<Option<Answer>, Severed> {
    match &met.act {
        Act::Status {
            status,
            headers,
            body,
        } => Ok(Some(refusals::literal(*status, headers, body))),
        Act::Named { name, headers } => {
            let login_base = running.core.names.login_base(host(request));
            let now = running.core.clock.now();
            let mut answer = refusals::answer(name, page.facts.plane, &login_base, now);
            refusals::add(headers, &mut answer);
            Ok(Some(answer))
        }
        Act::Throttle { code, rest, .. } => {
            // Spans that are given out are real ones.
            let rest = rest.div_f64(running.core.clock.rate());
            Ok(Some(refusals::throttled(page.facts.plane, code, rest)))
        }
        Act::Lose { answered: false } => Err(Severed),
        Act::Reset(Cut::Before) => {
            fate.reset();
            Err(Severed)
        }
        Act::Delay(delay) => {
            tokio::time::sleep(*delay).await;
            Ok(None)
        }
        Act::Hold { after: false } => {
            met.hold().await;
            Ok(None)
        }
        Act::Outcome(outcome) => {
            request.extensions_mut().insert(outcome.clone());
            Ok(None)
        }
        Act::Hold { after: true } => Ok(None),
        Act::Lose { answered: true } | Act::Reset(Cut::Headers | Cut::Body) => Ok(None),
    }
}

/// The actor that asks; its header ends here.
fn actor(request: &mut Incoming, peer: Option<&Identity>) -> Option<String> {
    let named = request.headers_mut().remove(ACTOR_HEADER);
    let named = named.and_then(|name| name.to_str().ok().map(str::to_owned));
    let is_actor = peer.is_some_and(|peer| peer.name.starts_with(ACTOR_NAMES));
    named.or_else(|| is_actor.then(|| first_word(request.headers())))
}

/// The product in the user agent.
fn first_word(headers: &HeaderMap) -> String {
    let agent = headers
        .get(header::USER_AGENT)
        .and_then(|agent| agent.to_str().ok());
    let agent = agent.unwrap_or("actor");
    agent.split(['/', ' ']).next().unwrap_or(agent).to_owned()
}

/// A journal entry in the making. Dropped before it is closed, it still enters the journal, without an answer: the
/// client went away, or a fault cut the connection.
struct Page {
    running: Arc<Running>,
    facts: Facts,
    fault: Option<String>,
    entry: Value,
    started: Instant,
    _in_flight: InFlight,
}

impl Page {
    fn open(
        running: &Arc<Running>,
        destination: &Destination,
        request: &Incoming,
        peer: Option<&Identity>,
        actor: Option<String>,
    ) -> Self {
        let core = &running.core;
        let plane = destination.plane();
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let method = request.method();
        let in_flight = core.journal.enter(plane);
        let caller = caller(running, destination, request, peer);
        let facts = Facts {
            plane,
            method: method.to_string(),
            path: path.to_owned(),
            action: match plane {
                "arm" => action::arm(method, path),
                "vault" => action::vault(method, path),
                "kubernetes" => action::kubernetes(method, path, query),
                _ => None,
            },
            principal: caller.get("name").and_then(Value::as_str).map(str::to_owned),
            actor,
            cluster: match destination {
                Destination::Cluster(cluster) => Some(cluster.settings.name.clone()),
                Destination::Identity { cluster, .. } => Some(cluster.clone()),
                _ => None,
            },
            dry_run: query.contains("dryRun="),
        };
        let entry = json!({
            "at": rfc3339(core.clock.now()),
            "plane": plane,
            "cluster": facts.cluster,
            "method": facts.method,
            "url": shown_url(&request.uri().to_string()),
            "host": host(request),
            "as": caller,
            "actor": facts.actor,
            "agent": request.headers().get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()),
            "action": facts.action,
            "request": {"headers": shown_headers(request.headers()), "body": shown_body(request.body())},
            "open": in_flight.count,
        });
        Self {
            running: Arc::clone(running),
            facts,
            fault: None,
            entry,
            started: Instant::now(),
            _in_flight: in_flight,
        }
    }

    /// Writes the entry and sends the answer on its way.
    async fn close(mut self, answer: Answer) -> Response<Served> {
        let (mut head, body) = answer.into_parts();
        if !head.headers.contains_key(header::DATE) {
            head.headers
                .insert(header::DATE, http_date(self.running.core.clock.now()));
        }
        let is_whole = body.size_hint().exact().is_some() && head.status != StatusCode::SWITCHING_PROTOCOLS;
        let (shown, body) = if is_whole {
            let bytes = collected(body).await;
            // What actors read is most of the traffic and asked for by nobody; a budget of memory is asked for.
            let is_read_by_actor = self.facts.actor.is_some() && self.facts.method == "GET";
            let shown = if is_read_by_actor {
                json!("sandbox:left out")
            } else {
                shown_body(&bytes)
            };
            (shown, whole(bytes))
        } else {
            (json!("sandbox:streamed"), body.map_err(never).boxed_unsync())
        };
        self.entry["response"] = json!({
            "status": head.status.as_u16(), "headers": shown_headers(&head.headers), "body": shown,
        });
        self.entry["effect"] = json!(effect(&self.facts.method, &head));
        Response::from_parts(head, body)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let mut entry = self.entry.take();
        if entry.get("response").is_none() {
            entry["response"] = Value::Null;
        }
        if let Some(fault) = self.fault.take() {
            entry["fault"] = json!(fault);
        }
        let micros = u32::try_from(self.started.elapsed().as_micros()).unwrap_or(u32::MAX);
        entry["ms"] = json!(f64::from(micros) / 1000.0);
        self.running.core.journal.add(entry);
    }
}

/// Who asks, judged by nobody yet: the holder of the token, or the client certificate.
fn caller(
    running: &Running,
    destination: &Destination,
    request: &Incoming,
    peer: Option<&Identity>,
) -> Value {
    let directory = &running.core.directory;
    if let Some(holder) = directory.holder(bearer(request)) {
        return json!({"name": holder.name, "oid": holder.oid});
    }
    match destination {
        Destination::Login => {
            login_client(directory, request).map_or(Value::Null, |name| json!({"name": name}))
        }
        Destination::Cluster(cluster) => {
            let token = bearer(request);
            let accounts = [(&cluster.user, "clusterUser"), (&cluster.admin, "clusterAdmin")];
            let known = accounts.iter().find(|(account, _)| account.token == token);
            match (peer, known) {
                (Some(peer), _) => json!({"name": peer.name}),
                (None, Some((_, name))) => json!({"name": name}),
                (None, None) => Value::Null,
            }
        }
        _ => Value::Null,
    }
}

fn effect(method: &str, head: &response::Parts) -> &'static str {
    let told = head.extensions.get::<Effect>().copied();
    let effect = told.unwrap_or_else(|| match (method, head.status) {
        (_, status) if !status.is_success() => Effect::None,
        ("PUT" | "POST", StatusCode::CREATED) => Effect::Created,
        ("PUT" | "PATCH", _) => Effect::Updated,
        ("DELETE", StatusCode::NO_CONTENT) | ("DELETE", _) => Effect::Deleted,
        _ => Effect::None,
    });
    match effect {
        Effect::None => "none",
        Effect::Created => "created",
        Effect::Updated => "updated",
        Effect::Deleted => "deleted",
    }
}

fn shown_headers(headers: &HeaderMap) -> Value {
    let shown = headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        let value = match name.as_str() {
            "authorization" | "x-ms-authorization-auxiliary" => {
                let each = value.split(',').map(|one| {
                    let token = one.trim().split_once(' ').map_or("", |(_, token)| token);
                    format!("Bearer {}", token_id(token))
                });
                each.collect::<Vec<_>>().join(", ")
            }
            "x-identity-header" => hash(value.as_bytes()),
            _ => shown_url(&value),
        };
        (name.as_str().to_owned(), json!(value))
    });
    Value::Object(shown.collect())
}

/// An address without the signatures in it.
fn shown_url(url: &str) -> String {
    let Some((path, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, value)) if value.len() > LONGEST_PARAMETER => {
            format!("{name}={}", hash(value.as_bytes()))
        }
        _ => pair.to_owned(),
    });
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// The form of HTTP dates; English whatever the locale.
const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

fn http_date(now: OffsetDateTime) -> HeaderValue {
    let text = now
        .to_offset(time::UtcOffset::UTC)
        .format(HTTP_DATE)
        .unwrap_or_default();
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

async fn collected(body: Body) -> Bytes {
    match body.collect().await {
        Ok(whole) => whole.to_bytes(),
        Err(never) => match never {},
    }
}

fn whole(bytes: Bytes) -> Served {
    Full::new(bytes).map_err(never).boxed_unsync()
}

pub(super) fn served(answer: Answer) -> Response<Served> {
    answer.map(|body| body.map_err(never).boxed_unsync())
}

fn never(never: Infallible) -> io::Error {
    match never {}
}

/// Sends the head, or the head and half of the body, and then resets the connection.
async fn cut_inside(answer: Response<Served>, cut: Cut, fate: Fate) -> Response<Served> {
    let (mut head, body) = answer.into_parts();
    let bytes = body
        .collect()
        .await
        .map(|whole| whole.to_bytes())
        .unwrap_or_default();
    head.headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len().max(1)));
    let kept = if cut == Cut::Headers { 0 } else { bytes.len() / 2 };
    let frames = stream::unfold((0, bytes.slice(..kept), fate), |(step, bytes, fate)| async move {
        match step {
            0 => Some((Ok(Frame::data(bytes.clone())), (1, bytes, fate))),
            1 => {
                // Gives hyper the chance to send what it has.
                tokio::task::yield_now().await;
                fate.reset();
                Some((Err(io::ErrorKind::ConnectionReset.into()), (2, bytes, fate)))
            }
            _ => None,
        }
    });
    Response::from_parts(head, StreamBody::new(frames).boxed_unsync())
}

/// An entry for a connection that the proxy refused.
pub(super) fn refused(running: &Running, target: &str, why: &str) {
    running.core.journal.add(json!({
        "at": rfc3339(running.core.clock.now()), "plane": "proxy", "method": Method::CONNECT.as_str(),
        "url": target, "host": target, "as": null, "actor": null,
        "response": {"status": 403, "headers": {}, "body": why}, "effect": "none", "ms": 0, "open": 0,
    }));
}
