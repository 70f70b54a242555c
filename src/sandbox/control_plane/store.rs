//! What etcd holds, read and put back over its JSON gateway.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Where kube-apiserver keeps everything: `/registry/`, and the first key behind it, both in base64.
const REGISTRY: (&str, &str) = ("L3JlZ2lzdHJ5Lw==", "L3JlZ2lzdHJ5MA==");
/// How keys start, in base64, that the API server writes again and again: `/registry/leases/`,
/// `/registry/masterleases/` and `/registry/apiregistration.k8s.io/`.
const ITS_OWN: &[&str] = &[
    "L3JlZ2lzdHJ5L2xlYXNlcy",
    "L3JlZ2lzdHJ5L21hc3RlcmxlYXNlcy",
    "L3JlZ2lzdHJ5L2FwaXJlZ2lzdHJhdGlvbi",
];

/// Keys with their values and the revision of the last change, all as the gateway writes them.
pub(super) type Content = BTreeMap<String, (String, String)>;

/// An etcd on loopback.
pub(super) struct Store(SocketAddr);

impl Store {
    /// The one that answers clients on this port.
    pub(super) fn at(port: u16) -> Self {
        Self(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// Everything of kube-apiserver.
    ///
    /// # Errors
    /// Words to show.
    pub(super) async fn content(&self) -> Result<Content, String> {
        let (key, end) = REGISTRY;
        let answer = self
            .ask("/v3/kv/range", &json!({"key": key, "range_end": end}))
            .await?;
        let pairs = answer["kvs"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(pairs
            .map(|pair| {
                (
                    text(&pair["key"]),
                    (text(&pair["value"]), text(&pair["mod_revision"])),
                )
            })
            .collect())
    }

    /// Takes back every change since `before`, at once.
    ///
    /// # Errors
    /// Words to show.
    pub(super) async fn restore(&self, before: &Content) -> Result<(), String> {
        let now = self.content().await?;
        let gone = now.keys().filter(|key| !before.contains_key(*key));
        let mut changes: Vec<_> = gone
            .map(|key| json!({"request_delete_range": {"key": key}}))
            .collect();
        for (key, (value, revision)) in before {
            let own = ITS_OWN.iter().any(|start| key.starts_with(start));
            let same = now.get(key).is_some_and(|(_, of)| of == revision);
            let put_back = now.get(key).is_some_and(|(content, _)| content == value);
            if !own && !same && !put_back {
                changes.push(json!({"request_put": {"key": key, "value": value}}));
            }
        }
        if !changes.is_empty() {
            self.ask("/v3/kv/txn", &json!({"success": changes})).await?;
        }
        Ok(())
    }

    async fn ask(&self, path: &str, body: &Value) -> Result<Value, String> {
        let words = |error: &dyn std::error::Error| format!("etcd {path}: {error}");
        let stream = TcpStream::connect(self.0).await.map_err(|error| words(&error))?;
        let (mut sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| words(&error))?;
        // Its errors also reach whoever waits for the answer.
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, self.0.to_string())
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| words(&error))?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| words(&error))?;
        let status = answer.status();
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(|error| words(&error))?;
        let body = body.to_bytes();
        if !status.is_success() {
            return Err(format!(
                "etcd {path}: {status} {}",
                String::from_utf8_lossy(&body)
            ));
        }
        serde_json::from_slice(&body).map_err(|error| words(&error))
    }
}
