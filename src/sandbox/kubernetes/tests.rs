//! The engine as its clients see it: requests in, answers out, in process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::server::Forwarder;
use super::store::Store;
use super::{ApiServer, ApiSettings, Identity};
use crate::sandbox::clock::Clock;
use crate::sandbox::container_logs::ContainerLogs;
use crate::sandbox::http::{Answer, Body};

mod access;
mod apply;
mod custom;
mod deletion;
mod listener;
mod reading;
mod writing;

/// A cluster and the one who asks it.
struct World {
    server: Arc<ApiServer>,
    clock: Clock,
}

/// An answer that has arrived.
#[derive(Debug)]
struct Got {
    code: u16,
    body: Value,
    text: String,
    warnings: Vec<String>,
}

impl Got {
    /// The object, if the answer is a success.
    #[track_caller]
    fn ok(self) -> Value {
        assert!(self.code < 300, "{} {}", self.code, self.text);
        self.body
    }

    /// The message, if the answer is this refusal.
    #[track_caller]
    fn refused(self, code: u16) -> String {
        assert_eq!(self.code, code, "{}", self.text);
        self.body["message"].as_str().unwrap_or_default().to_owned()
    }
}

const MASTERS: &str = "masters-token";

impl World {
    fn new() -> Self {
        Self::forwarding(Arc::new(|_, _| None))
    }

    /// Port-forwards go there.
    fn forwarding(forwarder: Forwarder) -> Self {
        let identity = |name: &str, groups: &[&str]| Identity {
            name: name.to_owned(),
            uid: String::new(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        };
        let clock = Clock::start(1.0);
        let server = ApiServer::new(ApiSettings {
            name: "test".to_owned(),
            version: "1.34.2".to_owned(),
            clock: clock.clone(),
            entra: Arc::new(|token| {
                (token == "entra").then(|| Identity {
                    name: "someone".to_owned(),
                    ..Identity::default()
                })
            }),
            static_tokens: BTreeMap::from([(MASTERS.to_owned(), identity("root", &["system:masters"]))]),
            forwarder,
            logs: ContainerLogs::default(),
            azure: None,
        });
        let world = Self { server, clock };
        world.with_default_accounts()
    }

    /// The revision of the last change.
    fn revision(&self) -> u64 {
        self.server.with_store(Store::revision)
    }

    fn with_default_accounts(self) -> Self {
        let account = json!({"metadata": {"name": "default"}});
        let path = "/api/v1/namespaces/default/serviceaccounts";
        futures_util::FutureExt::now_or_never(self.post(path, &account))
            .unwrap()
            .ok();
        self
    }

    async fn raw(
        &self,
        token: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.server.answer(request.body(body).unwrap(), None).await
    }

    async fn send(
        &self,
        token: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Got {
        let answer = self.raw(token, method, path, headers, body).await;
        let code = answer.status().as_u16();
        let warnings = answer
            .headers()
            .get_all("warning")
            .iter()
            .map(|value| value.to_str().unwrap().to_owned())
            .collect();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_str(&text).unwrap_or_default();
        Got {
            code,
            body,
            text,
            warnings,
        }
    }

    async fn get(&self, path: &str) -> Got {
        self.send(MASTERS, Method::GET, path, &[], Bytes::new()).await
    }

    async fn as_other(&self, token: &str, method: Method, path: &str, body: &Value) -> Got {
        let bytes = if body.is_null() {
            Bytes::new()
        } else {
            Bytes::from(body.to_string())
        };
        self.send(
            token,
            method,
            path,
            &[("content-type", "application/json")],
            bytes,
        )
        .await
    }

    async fn post(&self, path: &str, body: &Value) -> Got {
        let headers = [("content-type", "application/json"), ("user-agent", "tester/1.0")];
        self.send(
            MASTERS,
            Method::POST,
            path,
            &headers,
            Bytes::from(body.to_string()),
        )
        .await
    }

    async fn put(&self, path: &str, body: &Value) -> Got {
        let headers = [("content-type", "application/json"), ("user-agent", "tester/1.0")];
        self.send(
            MASTERS,
            Method::PUT,
            path,
            &headers,
            Bytes::from(body.to_string()),
        )
        .await
    }

    async fn delete(&self, path: &str, options: &Value) -> Got {
        let bytes = if options.is_null() {
            Bytes::new()
        } else {
            Bytes::from(options.to_string())
        };
        self.send(
            MASTERS,
            Method::DELETE,
            path,
            &[("content-type", "application/json")],
            bytes,
        )
        .await
    }

    async fn patch(&self, kind: &str, path: &str, body: &Value) -> Got {
        let media = format!("application/{kind}-patch+json");
        let headers = [("content-type", media.as_str()), ("user-agent", "patcher/1.0")];
        self.send(
            MASTERS,
            Method::PATCH,
            path,
            &headers,
            Bytes::from(body.to_string()),
        )
        .await
    }

    async fn merge(&self, path: &str, body: &Value) -> Got {
        self.patch("merge", path, body).await
    }

    /// Server-side apply; `path` may carry further parameters.
    async fn apply(&self, manager: &str, path: &str, body: &Value) -> Got {
        let mark = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{mark}fieldManager={manager}");
        let headers = [("content-type", "application/apply-patch+yaml")];
        self.send(
            MASTERS,
            Method::PATCH,
            &path,
            &headers,
            Bytes::from(body.to_string()),
        )
        .await
    }
}

/// The events of a watch, one by one.
struct Events {
    body: Body,
    buffer: Vec<u8>,
}

impl Events {
    async fn of(world: &World, path: &str) -> Self {
        let answer = world.raw(MASTERS, Method::GET, path, &[], Bytes::new()).await;
        assert_eq!(answer.status(), 200);
        Self {
            body: answer.into_body(),
            buffer: Vec::new(),
        }
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<_> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(Duration::from_secs(5), self.body.frame())
                .await
                .unwrap()?;
            self.buffer
                .extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    }

    /// The next event as `TYPE name`.
    async fn word(&mut self) -> String {
        let Some(event) = self.next().await else {
            return "end".to_owned();
        };
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        format!("{} {name}", event["type"].as_str().unwrap())
            .trim()
            .to_owned()
    }
}

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, data: Value) -> Value {
    let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    map["data"] = data;
    map
}

fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "web", "image": "nginx:1.27", "ports": [{"containerPort": 80}]}]},
            },
        },
    })
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}})
}
