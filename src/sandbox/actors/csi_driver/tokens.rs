//! Tokens of a pod's service account, for the audiences that the driver's `CSIDriver` asks for.

use http::Method;
use serde_json::{Map, Value, json};

use crate::sandbox::actors::Cluster;
use crate::sandbox::actors::client::{ApiError, Client};
use crate::sandbox::actors::kinds::Kind;
use crate::sandbox::actors::kubelet::DRIVER;
use crate::sandbox::actors::objects::{int, list, name, namespace, text, uid};

/// The value of `csi.storage.k8s.io/serviceAccount.tokens`; empty if the driver asks for none. Whoever holds `client`
/// is the one who asks: the kubelet for a mount, the driver for its rotation.
pub(in crate::sandbox::actors) async fn service_account_tokens(
    cluster: &Cluster,
    client: &Client,
    pod: &Value,
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
        let path = format!(
            "/api/v1/namespaces/{}/serviceaccounts/{account}/token",
            namespace(pod)
        );
        let answer = client
            .call(Method::POST, &path, Some("application/json"), Some(&request))
            .await?;
        tokens.insert(audience.to_owned(), answer["status"].clone());
    }
    if tokens.is_empty() {
        return Ok(String::new());
    }
    Ok(Value::Object(tokens).to_string())
}
