//! The control API: what no API of Azure or Kubernetes can do to a world.
//!
//! `https://127.0.0.1:P/sandbox/…`, JSON both ways, no token: the world is fake. Unknown members and parameters are
//! refused with 400 and a pointer, so that a typing mistake in a test is not a silent pass.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::assembly::{PATIENCE, Running};
use super::azure::Foreign;
use super::clock::Due;
use super::core::{PatchError, Plane, WorldError};
use super::environment::Mode;
use super::http::{Answer, Incoming, json as json_answer};
use super::journal::Filter;
use super::world::{duration, rfc3339, shown};

/// A request that cannot be answered.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    pointer: Option<String>,
    /// Members beside `error`.
    more: Map<String, Value>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            pointer: None,
            more: Map::new(),
        }
    }

    fn bad(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            pointer: Some(pointer.into()),
            ..Self::new(StatusCode::BAD_REQUEST, "Invalid", message)
        }
    }

    fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "NotPossible", message)
    }

    fn busy(busy: &[String]) -> Self {
        let mut refusal = Self::new(StatusCode::GATEWAY_TIMEOUT, "Busy", "the world does not settle");
        refusal.more.insert("idle".to_owned(), json!(false));
        refusal.more.insert("busy".to_owned(), json!(busy));
        refusal
    }

    fn answer(self) -> Answer {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(pointer) = self.pointer {
            error["pointer"] = json!(pointer);
        }
        let mut body = Value::Object(self.more);
        body["error"] = error;
        json_answer(self.status, &body)
    }
}

impl From<WorldError> for Refusal {
    fn from(error: WorldError) -> Self {
        Self::bad(error.pointer, error.message)
    }
}

impl From<PatchError> for Refusal {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::NotLive(pointer) => Self {
                pointer: Some(pointer),
                ..Self::new(
                    StatusCode::CONFLICT,
                    "NotLive",
                    "cannot change while the world runs",
                )
            },
            PatchError::Invalid(errors) => {
                let all: Vec<_> = errors
                    .iter()
                    .map(|error| json!({"pointer": error.pointer, "message": error.message}))
                    .collect();
                let first = errors.into_iter().next();
                let mut refusal = first.map_or_else(|| Self::bad("", "is not a world"), Self::from);
                refusal.more.insert("errors".to_owned(), json!(all));
                refusal
            }
        }
    }
}

/// Answers a request whose path starts with `/sandbox`.
pub(crate) async fn answer(running: &Running, request: Incoming) -> Answer {
    match route(running, &request).await {
        Ok(body) => json_answer(StatusCode::OK, &body),
        Err(refusal) => refusal.answer(),
    }
}

async fn route(running: &Running, request: &Incoming) -> Result<Value, Refusal> {
    let path = request
        .uri()
        .path()
        .trim_start_matches("/sandbox")
        .trim_matches('/')
        .to_owned();
    let segments: Vec<_> = path.split('/').collect();
    match (request.method(), segments.as_slice()) {
        (&Method::GET, [""] | ["ready"]) => Ok(running.ready()),
        (&Method::GET, ["world"]) => world(running, request),
        (&Method::PATCH, ["world"]) => {
            running.patch(&Value::Object(body(request)?))?;
            Ok(running.describe())
        }
        (&Method::GET, ["journal"]) => journal(running, request).await,
        (method, ["faults", rest @ ..]) => faults(running, method, rest, request).await,
        (&Method::GET, ["clock"]) => Ok(clock(running, &[])),
        (&Method::POST, ["clock"]) => move_clock(running, request).await,
        (&Method::GET, ["lag"]) => Ok(lags(running)),
        (&Method::PUT, ["lag"]) => set_lags(running, request),
        (&Method::POST, ["settle"]) => settle(running, request).await,
        (&Method::POST, ["vaults", vault, "certificates", name, "renew"]) => {
            let how = Value::Object(known(body(request)?, &["hosts", "until", "enabled"])?);
            let renewed = running.azure.renew(vault, name, &how).await;
            renewed.map_err(|error| Refusal::bad("", error.to_string()))
        }
        (&Method::POST, ["clusters", name, "compact"]) => {
            known(body(request)?, &[])?;
            let cluster = running.core.clusters.get(name);
            let cluster = cluster.ok_or_else(|| Refusal::not_found(format!("there is no cluster {name}")))?;
            match &cluster.api {
                Plane::Embedded(api) => Ok(json!({"revision": api.compact()})),
                Plane::Real(_) => Err(Refusal::conflict(
                    "the window of a real API server cannot be ended",
                )),
            }
        }
        (&Method::POST, ["clusters", name, "operation"]) => operation(running, name, request),
        (&Method::GET, ["edges"]) => Ok(running.edges.describe()),
        (&Method::PATCH, ["edges", name @ ..]) => patch_edge(running, &name.join("/"), request),
        (&Method::GET, ["markers"]) => Ok(json!({"markers": running.core.markers.all()})),
        (&Method::GET, ["environment"]) => environment(running, request),
        (&Method::POST, ["stop"]) => {
            running.stop_requested.cancel();
            Ok(json!({"stopping": true}))
        }
        (method, _) => Err(Refusal::not_found(format!(
            "the control API has no {method} /sandbox/{path}"
        ))),
    }
}

fn world(running: &Running, request: &Incoming) -> Result<Value, Refusal> {
    let query = query(request, &["pointer"])?;
    let world = running.describe();
    match query.get("pointer") {
        None => Ok(world),
        Some(pointer) => {
            let found = world.pointer(pointer).cloned();
            found.ok_or_else(|| Refusal::not_found(format!("there is nothing at {pointer}")))
        }
    }
}

async fn journal(running: &Running, request: &Incoming) -> Result<Value, Refusal> {
    let mut query = query(
        request,
        &["after", "plane", "method", "path", "as", "actors", "wait"],
    )?;
    let number = |text: &str| {
        text.parse::<u64>()
            .map_err(|error| Refusal::bad("", error.to_string()))
    };
    let filter = Filter {
        after: query.get("after").map_or(Ok(0), |after| number(after))?,
        plane: query.remove("plane"),
        method: query.remove("method"),
        path: query.remove("path"),
        principal: query.remove("as"),
        actors: query.get("actors").is_some_and(|actors| actors == "true"),
    };
    let journal = &running.core.journal;
    let (entries, next) = match query.get("wait") {
        Some(wait) => journal.wait(&filter, Duration::from_millis(number(wait)?)).await,
        None => journal.entries(&filter),
    };
    let entries: Vec<_> = entries.iter().map(|entry| Value::clone(entry)).collect();
    Ok(json!({"entries": entries, "next": next}))
}

async fn faults(
    running: &Running,
    method: &Method,
    rest: &[&str],
    request: &Incoming,
) -> Result<Value, Refusal> {
    let faults = &running.core.faults;
    let unknown = |id: &str| Refusal::not_found(format!("there is no fault {id}"));
    match (method, rest) {
        (&Method::POST, []) => {
            let id = faults.add(&Value::Object(body(request)?))?;
            Ok(faults.get(&id).unwrap_or_else(|| json!({"id": id})))
        }
        (&Method::GET, []) => Ok(json!({"faults": faults.all()})),
        (&Method::DELETE, []) => {
            faults.delete(None);
            Ok(json!({"faults": []}))
        }
        (&Method::GET, [id]) => match query(request, &["wait"])?.get("wait").map(String::as_str) {
            None => faults.get(id).ok_or_else(|| unknown(id)),
            Some("hit") => faults.hit(id).await.ok_or_else(|| unknown(id)),
            Some(_) => Err(Refusal::bad("", "wait must be hit")),
        },
        (&Method::DELETE, [id]) => {
            let fault = faults.get(id).ok_or_else(|| unknown(id))?;
            faults.delete(Some(id));
            Ok(fault)
        }
        _ => Err(Refusal::not_found("the control API has nothing there")),
    }
}

fn clock(running: &Running, fired: &[Due]) -> Value {
    let list = |due: &[Due]| -> Vec<_> {
        due.iter()
            .map(|due| json!({"at": rfc3339(due.at), "what": due.what}))
            .collect()
    };
    let clock = &running.core.clock;
    json!({
        "now": rfc3339(clock.now()),
        "real": rfc3339(clock.real_now()),
        "rate": clock.rate(),
        "fired": list(fired),
        "due": list(&clock.due()),
    })
}

async fn move_clock(running: &Running, request: &Incoming) -> Result<Value, Refusal> {
    let body = known(body(request)?, &["advance", "rate", "settle"])?;
    let settle = match body.get("settle") {
        None => true,
        Some(Value::Bool(settle)) => *settle,
        Some(_) => return Err(Refusal::bad("/settle", "must be true or false")),
    };
    let clock_now = running.core.clock.now();
    if let Some(rate) = body.get("rate") {
        let rate = rate.as_f64().filter(|rate| (0.001..=100_000.0).contains(rate));
        let rate = rate.ok_or_else(|| Refusal::bad("/rate", "must be a number from 0.001 to 100000"))?;
        running.core.clock.set_rate(rate);
    }
    let until = match body
        .get("advance")
        .map(|advance| advance.as_str().unwrap_or_default())
    {
        None => None,
        Some("next") => running.core.clock.next_due(),
        Some(text) => {
            let span = duration(text)
                .ok_or_else(|| Refusal::bad("/advance", "must be next or a duration like 10m"))?;
            Some(clock_now + span)
        }
    };
    let fired = match until {
        Some(until) => running
            .advance(until, settle)
            .await
            .map_err(|busy| Refusal::busy(&busy))?,
        None => Vec::new(),
    };
    Ok(clock(running, &fired))
}

fn lags(running: &Running) -> Value {
    let table = running.core.lags.all();
    let shown = table.into_iter().map(|(name, lag)| (name, json!(shown(lag))));
    Value::Object(shown.collect())
}

fn set_lags(running: &Running, request: &Incoming) -> Result<Value, Refusal> {
    let table = running.core.lags.all();
    let mut parsed = BTreeMap::new();
    for (name, lag) in body(request)? {
        let pointer = format!("/{name}");
        if !table.contains_key(&name) {
            return Err(Refusal::bad(pointer, "is not a lag"));
        }
        let lag = lag.as_str().and_then(duration);
        let lag = lag.ok_or_else(|| Refusal::bad(pointer, "must be a duration like 10s"))?;
        parsed.insert(name, lag);
    }
    for (name, lag) in parsed {
        running.core.lags.set(&name, lag);
    }
    Ok(lags(running))
}

async fn settle(running: &Running, request: &Incoming) -> Result<Value, Refusal> {
    let body = known(body(request)?, &["timeout"])?;
    let patience = match body.get("timeout") {
        None => PATIENCE,
        Some(text) => {
            let span = text.as_str().and_then(duration);
            span.ok_or_else(|| Refusal::bad("/timeout", "must be a duration like 5s"))?
        }
    };
    running
        .settle(patience)
        .await
        .map_err(|busy| Refusal::busy(&busy))?;
    Ok(json!({"idle": true, "busy": []}))
}

/// Somebody else's operation on a cluster, or on one of its node pools.
fn operation(running: &Running, cluster: &str, request: &Incoming) -> Result<Value, Refusal> {
    let body = known(body(request)?, &["name", "for", "outcome", "pool"])?;
    let text = |member: &str| match body.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(Refusal::bad(format!("/{member}"), "must be text")),
    };
    let lasts = text("for")?.unwrap_or("5m");
    let lasts = duration(lasts).ok_or_else(|| Refusal::bad("/for", "must be a duration like 5m"))?;
    let outcome = text("outcome")?.unwrap_or("Succeeded");
    if !["Succeeded", "Failed", "Canceled"].contains(&outcome) {
        return Err(Refusal::bad("/outcome", "must be Succeeded, Failed or Canceled"));
    }
    let foreign = Foreign {
        name: text("name")?.unwrap_or("Updating"),
        pool: text("pool")?,
        lasts,
        outcome,
    };
    let begun = running.azure.foreign_operation(cluster, &foreign);
    begun.map_err(|error| Refusal::bad("", error))
}

/// `NAME` or `CLUSTER/NAME`.
fn patch_edge(running: &Running, name: &str, request: &Incoming) -> Result<Value, Refusal> {
    let members = [
        "reachable",
        "publish_address",
        "accepts_listener_sets",
        "reload_lag",
    ];
    let merge = Value::Object(known(body(request)?, &members)?);
    let described = running.edges.describe();
    let known = described
        .as_object()
        .is_some_and(|edges| edges.keys().any(|full| is_edge(full, name)));
    if !known {
        return Err(Refusal::not_found(format!("there is no edge {name}")));
    }
    let patched = running.edges.patch(name, &merge);
    patched.map_err(|error| Refusal::bad("", error))?;
    let described = running.edges.describe();
    let edge = described.as_object().and_then(|edges| {
        let (_, edge) = edges.iter().find(|(full, _)| is_edge(full, name))?;
        Some(edge.clone())
    });
    Ok(edge.unwrap_or_default())
}

fn is_edge(full: &str, name: &str) -> bool {
    full == name || full.rsplit('/').next() == Some(name)
}

fn environment(running: &Running, request: &Incoming) -> Result<Value, Refusal> {
    let query = query(request, &["as", "mode"])?;
    let mode = match query.get("mode").map(String::as_str) {
        None | Some("names") => Mode::Names,
        Some("ports") => Mode::Ports,
        Some(_) => return Err(Refusal::bad("", "mode must be names or ports")),
    };
    let name = query.get("as").map_or("deployer", String::as_str);
    let environment = running.environment(name, mode);
    environment
        .map(|environment| json!(environment))
        .ok_or_else(|| Refusal::not_found(format!("there is no principal {name}")))
}

/// The body's members; none without a body.
fn body(request: &Incoming) -> Result<Map<String, Value>, Refusal> {
    if request.body().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(request.body()) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Refusal::bad("", "must be an object")),
        Err(error) => Err(Refusal::bad("", error.to_string())),
    }
}

fn known(members: Map<String, Value>, names: &[&str]) -> Result<Map<String, Value>, Refusal> {
    match members.keys().find(|name| !names.contains(&name.as_str())) {
        Some(unknown) => Err(Refusal::bad(format!("/{unknown}"), "is not known")),
        None => Ok(members),
    }
}

fn query(request: &Incoming, names: &[&str]) -> Result<BTreeMap<String, String>, Refusal> {
    let text = request.uri().query().unwrap_or_default();
    let pairs: BTreeMap<_, _> = url::form_urlencoded::parse(text.as_bytes())
        .into_owned()
        .collect();
    match pairs.keys().find(|name| !names.contains(&name.as_str())) {
        Some(unknown) => Err(Refusal::bad("", format!("the parameter {unknown} is not known"))),
        None => Ok(pairs),
    }
}
