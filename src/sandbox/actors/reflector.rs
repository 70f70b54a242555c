//! Keeps the cache of one kind equal to the API: list, then watch from there; when the server has forgotten that
//! moment (410), list again.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::Value;

use super::cache::{Bell, Cache, Topic};
use super::client::{ApiError, Client};
use super::kinds::Kind;
use super::objects::{int, is_deleting, list, text};

/// How long to wait, really, before trying an API again that does not answer.
pub(super) struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(25);
    const LONGEST: Duration = Duration::from_secs(3);

    pub(super) fn new() -> Self {
        Self(Self::FIRST)
    }

    pub(super) fn reset(&mut self) {
        self.0 = Self::FIRST;
    }

    pub(super) async fn pause(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Self::LONGEST);
    }
}

/// How a watch ended.
enum End {
    /// The server closed it, as it does now and then; go on from the same version.
    Closed,
    /// The server has forgotten that version.
    Expired,
}

/// Reflects one kind until dropped.
pub(super) async fn reflect(kind: Kind, client: Arc<Client>, cache: Arc<Cache>, bell: Arc<Bell>) {
    let mut backoff = Backoff::new();
    loop {
        let definitions = bell.count(&[Topic::Objects(Kind::CustomResourceDefinition)]);
        match client
            .call(http::Method::GET, &kind.path("", ""), None, None)
            .await
        {
            Ok(mut answer) => {
                backoff.reset();
                let mut version = text(&answer, "/metadata/resourceVersion").to_owned();
                let items = answer["items"]
                    .as_array_mut()
                    .map(std::mem::take)
                    .unwrap_or_default();
                cache.replace(kind, items);
                follow(kind, &client, &cache, &mut version, &mut backoff).await;
            }
            Err(error) if error.is_not_found() && kind.is_custom() => {
                cache.replace(kind, Vec::new());
                // A definition may be established a moment before its kind is served.
                if is_defined(kind, &cache) {
                    backoff.pause().await;
                    continue;
                }
                let mut rung = bell.listen();
                while bell.count(&[Topic::Objects(Kind::CustomResourceDefinition)]) == definitions {
                    if rung.changed().await.is_err() {
                        return;
                    }
                }
            }
            Err(_) => backoff.pause().await,
        }
    }
}

/// Whether a definition, as far as is known here, says that the kind is served.
fn is_defined(kind: Kind, cache: &Cache) -> bool {
    let place = kind.place();
    let (group, version) = place.api_version.split_once('/').unwrap_or_default();
    let name = format!("{}.{group}", place.plural);
    let definition = cache.get(Kind::CustomResourceDefinition, "", &name);
    definition.is_some_and(|definition| {
        let mut versions = list(&definition, "/spec/versions").iter();
        !is_deleting(&definition) && versions.any(|known| known["name"] == version && known["served"] == true)
    })
}

/// Watches until a new list is needed.
async fn follow(kind: Kind, client: &Client, cache: &Cache, version: &mut String, backoff: &mut Backoff) {
    loop {
        match watch(kind, client, cache, version).await {
            Ok(End::Closed) => backoff.reset(),
            Ok(End::Expired) => return,
            Err(error) if error.is(410) || error.is_not_found() => return,
            Err(_) => {}
        }
        // Also after an orderly end: a server that closes at once must not keep us spinning.
        backoff.pause().await;
    }
}

async fn watch(kind: Kind, client: &Client, cache: &Cache, version: &mut String) -> Result<End, ApiError> {
    let path = format!(
        "{}?watch=true&allowWatchBookmarks=true&resourceVersion={version}",
        kind.path("", "")
    );
    let mut body = client.watch(&path).await?.into_body();
    let mut buffer = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(super::transport::TransportError::from)?.into_data() else {
            continue;
        };
        buffer.extend_from_slice(&data);
        let mut done = 0;
        while let Some(length) = buffer[done..].iter().position(|byte| *byte == b'\n') {
            let event: Value = serde_json::from_slice(&buffer[done..done + length])?;
            done += length + 1;
            if let Some(end) = accept(kind, cache, version, event) {
                return Ok(end);
            }
        }
        buffer.drain(..done);
    }
    Ok(End::Closed)
}

fn accept(kind: Kind, cache: &Cache, version: &mut String, mut event: Value) -> Option<End> {
    let object = event["object"].take();
    if event["type"] == "ERROR" {
        let expired = int(&object, "/code") == Some(410);
        return Some(if expired { End::Expired } else { End::Closed });
    }
    *version = text(&object, "/metadata/resourceVersion").to_owned();
    match event["type"].as_str() {
        Some("ADDED" | "MODIFIED") => drop(cache.observe(kind, object)),
        Some("DELETED") => cache.forget(kind, &object),
        _ => {}
    }
    None
}

/// What of the cache is not as the API would list it now; nothing when it is. An unchanged store version answers for all
/// kinds at once.
pub(super) async fn behind(
    client: &Client,
    cache: &Cache,
    known: &mut Option<String>,
) -> Result<Option<String>, ApiError> {
    let probe = client.versions("/api/v1/namespaces?limit=1").await?;
    let now = text(&probe, "/metadata/resourceVersion").to_owned();
    if known.as_ref() == Some(&now) {
        return Ok(None);
    }
    for kind in Kind::ALL {
        let difference = match client.versions(&kind.path("", "")).await {
            Ok(answer) => cache.difference(kind, list(&answer, "/items")),
            Err(error) if error.is_not_found() && kind.is_custom() => cache.difference(kind, &[]),
            Err(error) => return Err(error),
        };
        if difference.is_some() {
            return Ok(difference);
        }
    }
    *known = Some(now);
    Ok(None)
}
