//! Tokens of a pod's service account, for the audiences that the driver's `CSIDriver` asks for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use http::Method;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::sandbox::actors::Cluster;
use crate::sandbox::actors::client::{ApiError, Client};
use crate::sandbox::actors::kinds::Kind;
use crate::sandbox::actors::kubelet::DRIVER;
use crate::sandbox::actors::objects::{int, list, moment, name, namespace, text, uid};

/// Tokens that are still good: one is kept until a fifth of its life is left, at most a day.
#[derive(Default)]
pub(in crate::sandbox::actors) struct Tokens(Mutex<HashMap<Wanted, Kept>>);

/// The pod's UID, the account and the audience.
type Wanted = [String; 3];

struct Kept {
    status: Value,
    until: OffsetDateTime,
}

impl Tokens {
    fn find(&self, wanted: &Wanted, now: OffsetDateTime) -> Option<Value> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = tokens.get(wanted)?;
        (kept.until > now).then(|| kept.status.clone())
    }

    fn keep(&self, wanted: Wanted, status: Value, now: OffsetDateTime) {
        let Some(end) = moment(text(&status, "/expirationTimestamp")) else {
            return;
        };
        let life = end - now;
        let until = now + (life * 4_i32 / 5_i32).min(time::Duration::DAY);
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, kept| kept.until > now);
        tokens.insert(wanted, Kept { status, until });
    }
}

/// The value of `csi.storage.k8s.io/serviceAccount.tokens`; empty if the driver asks for none. Whoever holds `client`
/// is the one who asks: the kubelet for a mount, the driver for its rotation, which keeps them.
pub(in crate::sandbox::actors) async fn service_account_tokens(
    cluster: &Cluster,
    client: &Client,
    pod: &Value,
    kept: Option<&Tokens>,
) -> Result<String, ApiError> {
    let Some(driver) = cluster.cache.get(Kind::CsiDriver, "", DRIVER) else {
        return Ok(String::new());
    };
    let mut tokens = Map::new();
    for wanted in list(&driver, "/spec/tokenRequests") {
        let audience = text(wanted, "/audience");
        let mut request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {
                "audiences": [audience],
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name(pod), "uid": uid(pod)},
            },
        });
        if let Some(seconds) = int(wanted, "/expirationSeconds") {
            request["spec"]["expirationSeconds"] = seconds.into();
        }
        let account = match text(pod, "/spec/serviceAccountName") {
            "" => "default",
            account => account,
        };
        let known = [uid(pod), account, audience].map(str::to_owned);
        let now = cluster.clock.now();
        if let Some(status) = kept.and_then(|kept| kept.find(&known, now)) {
            tokens.insert(audience.to_owned(), status);
            continue;
        }
        let path = format!(
            "/api/v1/namespaces/{}/serviceaccounts/{account}/token",
            namespace(pod)
        );
        let answer = client
            .call(Method::POST, &path, Some("application/json"), Some(&request))
            .await?;
        let status = answer["status"].clone();
        if let Some(kept) = kept {
            kept.keep(known, status.clone(), now);
        }
        tokens.insert(audience.to_owned(), status);
    }
    if tokens.is_empty() {
        return Ok(String::new());
    }
    Ok(Value::Object(tokens).to_string())
}
