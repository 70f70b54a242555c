//! The API server: what happens to a request, from its path to its answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::watch as signal;

use super::access::AzureRbac;
use super::authentication::Authenticator;
use super::kinds::{Kind, Version};
use super::refusal::{Outcome, Refusal};
use super::request::{Call, Form, Query};
use super::store::Store;
use super::table::Columns;
use super::writes::{Reply, Write};
use super::{access, authentication, bootstrap, discovery, open_api, reviews, stream, swagger, watch};
use crate::sandbox::clock::Clock;
use crate::sandbox::container_logs::ContainerLogs;
use crate::sandbox::http::{Answer, Incoming, json as answer_json, text, whole};

/// Judges bearer tokens of somebody else's issue.
pub(crate) type Judge = Arc<dyn Fn(&str) -> Option<Identity> + Send + Sync>;

/// Says where a port of this pod is, if anything listens there.
pub(crate) type Forwarder = Arc<dyn Fn(&Value, u16) -> Option<SocketAddr> + Send + Sync>;

/// What an API server is made from.
pub(crate) struct ApiSettings {
    /// The cluster's name; appears in nothing but texts.
    pub(crate) name: String,
    /// The Kubernetes version it says it is, without the `v`.
    pub(crate) version: String,
    /// Where it takes the time from.
    pub(crate) clock: Clock,
    /// Judges bearer tokens that are not its own.
    pub(crate) entra: Judge,
    /// Tokens that are simply known.
    pub(crate) static_tokens: BTreeMap<String, Identity>,
    /// Where port-forwards go.
    pub(crate) forwarder: Forwarder,
    /// What containers have said.
    pub(crate) logs: ContainerLogs,
    /// Asked about what RBAC does not allow.
    pub(crate) azure: Option<AzureRbac>,
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The user name that RBAC binds.
    pub(crate) name: String,
    /// Empty if there is none.
    pub(crate) uid: String,
    /// Without `system:authenticated`, which is added.
    pub(crate) groups: Vec<String>,
}

/// A Kubernetes API server in this process.
pub(crate) struct ApiServer {
    me: Weak<Self>,
    name: String,
    version: String,
    clock: Clock,
    store: Mutex<Store>,
    authenticator: Mutex<Authenticator>,
    /// Carries the revision to watches.
    changed: signal::Sender<u64>,
    forwarder: Forwarder,
    logs: ContainerLogs,
}

impl ApiServer {
    /// A cluster with nothing in it but what every cluster has.
    pub(crate) fn new(settings: ApiSettings) -> Arc<Self> {
        let (changed, _) = signal::channel(0);
        let authenticator = Authenticator::new(settings.entra, settings.static_tokens);
        let server = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            name: settings.name,
            version: settings.version,
            clock: settings.clock,
            store: Mutex::new(Store::new()),
            authenticator: Mutex::new(authenticator),
            changed,
            forwarder: settings.forwarder,
            logs: settings.logs,
        });
        bootstrap::fill(&server);
        server.change(|store| store.azure = settings.azure);
        server
    }

    /// Replaces the world's admission rules, each `{kinds?, namespaces?, patch | deny}`.
    pub(crate) fn set_admission(&self, rules: Vec<Value>) {
        self.change(|store| store.admission = rules);
    }

    /// Replaces the tokens that are simply known.
    pub(crate) fn set_static_tokens(&self, tokens: BTreeMap<String, Identity>) {
        guard(&self.authenticator).set_static_tokens(tokens);
    }

    /// Who issues service account tokens from now on.
    pub(crate) fn set_issuer(&self, issuer: Option<String>) {
        guard(&self.authenticator).set_issuer(issuer);
    }

    /// Who issues service account tokens.
    pub(crate) fn issuer(&self) -> String {
        guard(&self.authenticator).issuer().to_owned()
    }

    /// Says whether this server signed a token; a server that is gone signed none.
    pub(crate) fn signed(&self) -> impl Fn(&str) -> bool + Send + Sync + 'static {
        let me = Weak::clone(&self.me);
        move |token| {
            me.upgrade()
                .is_some_and(|server| guard(&server.authenticator).signed(token))
        }
    }

    /// The issuer's document below `/.well-known`.
    fn issuer_document(&self) -> Value {
        super::issuer_document(&self.issuer())
    }

    /// The keys that verify its service account tokens.
    pub(crate) fn issuer_keys(&self) -> Value {
        guard(&self.authenticator).jwks()
    }

    /// Ends the window of remembered changes, as compaction does. A watch from before this revision gets 410.
    pub(crate) fn compact(&self) -> u64 {
        self.change(|store| {
            store.forget();
            store.revision()
        })
    }

    /// Answers a request; `peer` is whom a client certificate names.
    pub(crate) async fn answer(&self, request: Incoming, peer: Option<Identity>) -> Answer {
        let Some(me) = self.me.upgrade() else {
            return Refusal::internal("the server is gone").answer();
        };
        // Nothing below waits: a request is answered at one revision, and what lasts longer is in the body.
        let mut answer = me
            .respond(request, peer)
            .unwrap_or_else(|refusal| refusal.answer());
        let headers = answer.headers_mut();
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-cache, private"),
        );
        if let Ok(id) = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()) {
            headers.insert("audit-id", id);
        }
        answer
    }

    fn respond(self: &Arc<Self>, mut request: Incoming, peer: Option<Identity>) -> Outcome<Answer> {
        let user = self
            .authenticate(&request, peer)
            .ok_or_else(Refusal::unauthorized)?;
        let path = request.uri().path().to_owned();
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let body = std::mem::take(request.body_mut());
        let call = Call::new(
            request.method(),
            &path,
            query,
            request.headers(),
            body,
            user,
            self.clock.now(),
        );
        if call.target.resource.is_empty() {
            return self.respond_beside(&call);
        }
        self.with_store(|store| access::authorize(store, &call))?;
        if let Some(answer) = reviews::answer(self, &call) {
            return answer;
        }
        let (kind, version) = self.kind_of(&call)?;
        let mut answer = self.dispatch(request, &call, &kind, &version)?;
        if let Some(words) = &version.deprecated {
            warn(&mut answer, words);
        }
        Ok(answer)
    }

    fn authenticate(&self, request: &Incoming, peer: Option<Identity>) -> Option<Identity> {
        let bearer = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let user = match bearer.and_then(|value| value.strip_prefix("Bearer ")) {
            Some(token) => self.judge(token.trim())?,
            None => peer?,
        };
        Some(authentication::complete(user))
    }

    /// Whom a bearer token names.
    pub(super) fn judge(&self, token: &str) -> Option<Identity> {
        let authenticator = guard(&self.authenticator);
        let now = self.clock.now();
        let alive = |namespace: &str, name: &str, uid: &str| {
            self.with_store(|store| {
                let found = store.get_at("", "serviceaccounts", namespace, name);
                found.is_some_and(|account| super::store::meta(&account, "uid") == uid)
            })
        };
        authenticator.judge(token, now, alive)
    }

    /// A token for a service account; `None` if the server has no key.
    pub(super) fn issue(&self, claims: &Value) -> Option<String> {
        guard(&self.authenticator).issue(claims)
    }

    /// Paths that name no resource.
    fn respond_beside(&self, call: &Call) -> Outcome<Answer> {
        self.with_store(|store| access::authorize_path(store, call))?;
        let path = call.path.trim_end_matches('/');
        match path {
            "" => {
                let paths = [
                    "/api",
                    "/api/v1",
                    "/apis",
                    "/healthz",
                    "/livez",
                    "/openapi/v2",
                    "/openapi/v3",
                    "/readyz",
                    "/version",
                ];
                return Ok(answer_json(StatusCode::OK, &json!({"paths": paths})));
            }
            "/healthz" | "/livez" | "/readyz" => return Ok(text(StatusCode::OK, "ok")),
            "/version" => return Ok(answer_json(StatusCode::OK, &discovery::version(&self.version))),
            "/openid/v1/jwks" => return Ok(answer_json(StatusCode::OK, &self.issuer_keys())),
            "/.well-known/openid-configuration" => {
                return Ok(answer_json(StatusCode::OK, &self.issuer_document()));
            }
            _ => {}
        }
        if let Some(document) = self.with_store(|store| open_api::answer(store, path)) {
            if path == "/openapi/v2" && !call.takes_json() && call.accept.contains("proto-openapi") {
                let mut answer = Answer::new(whole(swagger::encode(&document)));
                let media = HeaderValue::from_static(swagger::MEDIA);
                answer.headers_mut().insert(header::CONTENT_TYPE, media);
                return Ok(answer);
            }
            return Ok(answer_json(StatusCode::OK, &document));
        }
        let found = self.with_store(|store| discovery::answer(&store.kinds, path, &call.accept, &self.name));
        let (value, media) = found.unwrap_or_else(|| {
            let group = match path.split('/').nth(1) {
                Some("api") => Some(""),
                Some("apis") => path.split('/').nth(2),
                _ => None,
            };
            Err(group.map_or_else(Refusal::no_such_path, |group| self.nothing_at(group)))
        })?;
        let mut answer = answer_json(StatusCode::OK, &value);
        answer
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        Ok(answer)
    }

    /// Built-in groups say that they lack something; paths of all others are nobody's.
    fn nothing_at(&self, group: &str) -> Refusal {
        if self.with_store(|store| store.kinds.has_built_in(group)) {
            Refusal::no_such_resource()
        } else {
            Refusal::no_such_path()
        }
    }

    fn kind_of(&self, call: &Call) -> Outcome<(Arc<Kind>, Version)> {
        let target = &call.target;
        let kind = self.with_store(|store| store.kinds.find(&target.group, &target.resource));
        let kind = kind.ok_or_else(|| self.nothing_at(&target.group))?;
        let version = kind
            .version(&target.version)
            .cloned()
            .ok_or_else(|| self.nothing_at(&target.group))?;
        if !kind.namespaced && !target.place().is_empty() {
            return Err(Refusal::no_such_path());
        }
        Ok((kind, version))
    }

    fn dispatch(
        self: &Arc<Self>,
        request: Incoming,
        call: &Call,
        kind: &Arc<Kind>,
        version: &Version,
    ) -> Outcome<Answer> {
        let target = &call.target;
        match target.subresource.as_str() {
            "" => {}
            "status" if version.status => {}
            "finalize" if kind.is("", "namespaces") => {}
            "scale" if version.scale.is_some() => return self.scale(call, kind, version),
            "portforward" if kind.is("", "pods") => {
                let found = self.with_store(|store| store.get(kind, target.place(), &target.name));
                let pod = found.ok_or_else(|| Refusal::not_found("pods", &target.name))?;
                return stream::port_forward(request, call, |port| (self.forwarder)(&pod, port));
            }
            "binding" if kind.is("", "pods") => return self.bind(call, kind),
            "log" if kind.is("", "pods") => return self.log(&request, call, kind),
            word @ ("exec" | "attach" | "eviction" | "proxy") if kind.is("", "pods") => {
                return Err(Refusal::not_played(&format!(
                    "{word} is not played; nothing runs in these pods"
                )));
            }
            _ => return Err(Refusal::no_such_path()),
        }
        let named = !target.name.is_empty();
        let plain = target.subresource.is_empty();
        if !call.takes_what_there_is() {
            let known = call.formats();
            let why = format!("406: Not Acceptable\n\nAvailable representations: {known}");
            return Err(Refusal::not_acceptable(why).with_no_details());
        }
        match (call.method.as_str(), named) {
            ("GET", false) if call.query.flag("watch") => watch::watch(self, call, kind, version),
            ("GET", true) => {
                let object = self.with_store(|store| store.get(kind, target.place(), &target.name));
                let object = object.ok_or_else(|| Refusal::not_found(&kind.resource(), &target.name))?;
                if call.form() == Form::MetadataList {
                    return Err(Refusal::not_acceptable(format!(
                        "you requested PartialObjectMetadataList, but the requested object is not a list ({})",
                        kind.go_type("")
                    )));
                }
                if call.form() == Form::Table {
                    let columns = self.with_store(|store| Columns::of(store, kind, version, call.now));
                    let metadata = json!({"resourceVersion": super::store::meta(&object, "resourceVersion")});
                    let table = columns.table(std::iter::once(&*object), &metadata, true);
                    return Ok(answer_json(StatusCode::OK, &table));
                }
                Ok(answer_json(
                    StatusCode::OK,
                    &watch::shown(kind, version, &object, call.partial()),
                ))
            }
            ("GET", false) => {
                let list = self.with_store(|store| watch::list(store, call, kind, version))?;
                Ok(answer_json(StatusCode::OK, &list))
            }
            ("POST", false) if !kind.namespaced || !target.place().is_empty() => {
                self.write(call, kind, version, |write| write.create())
            }
            ("PUT", true) => self.write(call, kind, version, |write| write.update()),
            ("PATCH", true) if target.subresource != "finalize" => {
                self.write(call, kind, version, |write| write.patch())
            }
            ("DELETE", true) if plain => self.write(call, kind, version, |write| write.delete()),
            ("DELETE", false) if !kind.is("", "namespaces") => {
                self.write(call, kind, version, |write| write.delete_collection())
            }
            _ => Err(Refusal::method_not_allowed()),
        }
    }

    fn write(
        &self,
        call: &Call,
        kind: &Arc<Kind>,
        version: &Version,
        work: impl FnOnce(Write<'_>) -> Outcome<Reply>,
    ) -> Outcome<Answer> {
        let reply = self.change(|store| work(Write::new(store, call, kind, version)))?;
        let code = StatusCode::from_u16(reply.code).unwrap_or(StatusCode::OK);
        let mut answer = answer_json(code, &reply.object);
        for words in &reply.warnings {
            warn(&mut answer, words);
        }
        Ok(answer)
    }

    /// GET, PUT and PATCH of `scale`: a small object that stands for two numbers of another.
    fn scale(&self, call: &Call, kind: &Arc<Kind>, version: &Version) -> Outcome<Answer> {
        let object = self.change(|store| super::scale::answer(store, call, kind, version))?;
        Ok(answer_json(StatusCode::OK, &object))
    }

    /// GET of `log`: the container is named, or the only one.
    fn log(&self, request: &Incoming, call: &Call, kind: &Kind) -> Outcome<Answer> {
        if call.method != http::Method::GET {
            return Err(Refusal::method_not_allowed());
        }
        let name = call.target.name.as_str();
        let pod = self.with_store(|store| store.get(kind, call.target.place(), name));
        let pod = pod.ok_or_else(|| Refusal::not_found("pods", name))?;
        let names = |list: &str| -> Vec<String> {
            let containers = pod["spec"][list].as_array().into_iter().flatten();
            containers
                .filter_map(|one| one["name"].as_str())
                .map(str::to_owned)
                .collect()
        };
        let (containers, first) = (names("containers"), names("initContainers"));
        let container = match (call.query.get("container"), containers.as_slice()) {
            ("", [only]) => only.as_str(),
            ("", all) => {
                let others = match first.join(" ") {
                    others if others.is_empty() => others,
                    others => format!(" or one of the init containers: [{others}]"),
                };
                let all = all.join(" ");
                return Err(Refusal::bad_request(format!(
                    "a container name must be specified for pod {name}, choose one of: [{all}]{others}"
                )));
            }
            (asked, _) => asked,
        };
        if !containers.iter().chain(&first).any(|known| known == container) {
            return Err(Refusal::bad_request(format!(
                "container {container} is not valid for pod {name}"
            )));
        }
        if super::store::text_at(&pod, &["spec", "nodeName"]).is_empty() {
            return Ok(text(StatusCode::OK, ""));
        }
        let query = request.uri().query().unwrap_or_default();
        let answer = self.logs.read(&pod, container, query, self.clock.now());
        answer.map_err(Refusal::bad_request)
    }

    /// POST of `binding`: a scheduler's decision.
    fn bind(&self, call: &Call, kind: &Kind) -> Outcome<Answer> {
        if call.method != http::Method::POST {
            return Err(Refusal::method_not_allowed());
        }
        let (body, name) = (call.json()?, &call.target.name);
        let node = super::store::text_at(&body, &["target", "name"]);
        self.change(|store| {
            let pod = store
                .get(kind, call.target.place(), name)
                .ok_or_else(|| Refusal::not_found("pods", name))?;
            let taken = super::store::text_at(&pod, &["spec", "nodeName"]);
            if !taken.is_empty() {
                let why = format!("pod {name} is already assigned to node {taken:?}");
                return Err(Refusal::conflict("pods/binding", name, &why));
            }
            let mut pod = (*pod).clone();
            pod["spec"]["nodeName"] = Value::from(node);
            let scheduled = json!({
                "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": call.stamp(),
            });
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let others = conditions.into_iter().filter(|one| one["type"] != "PodScheduled");
            pod["status"]["conditions"] = Value::from_iter(others.chain([scheduled]));
            store.put(kind, pod);
            Ok(())
        })?;
        let success =
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok(answer_json(StatusCode::CREATED, &success))
    }

    /// Looks at the cluster at one revision.
    pub(super) fn with_store<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&guard(&self.store))
    }

    /// Changes the cluster, and tells the watches.
    pub(super) fn change<T>(&self, work: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = guard(&self.store);
        let result = work(&mut store);
        let revision = store.revision();
        drop(store);
        self.changed
            .send_if_modified(|told| std::mem::replace(told, revision) != revision);
        result
    }

    /// Rings with every change.
    pub(super) fn subscribe(&self) -> signal::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Sandbox time.
    pub(super) fn now(&self) -> time::OffsetDateTime {
        self.clock.now()
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a `Warning` header.
fn warn(answer: &mut Answer, words: &str) {
    let quoted = words.replace('\\', "\\\\").replace('"', "\\\"");
    if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
        answer.headers_mut().append(header::WARNING, value);
    }
}
