//! The instance metadata service as a cluster's nodes see it: tokens of the identities that are on the nodes.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Azure;
use super::path::{query, same};
use crate::sandbox::core::ManagedIdentity;
use crate::sandbox::entra::imds_body;
use crate::sandbox::http::{Answer, Incoming, json as json_answer};

impl Azure {
    /// Answers a request to the identity endpoint of a cluster's nodes.
    pub(crate) async fn answer_identity(&self, cluster: &str, request: Incoming) -> Answer {
        match self.identity_token(cluster, &request) {
            Ok(body) => json_answer(StatusCode::OK, &body),
            Err((status, description)) => {
                let error = if status == StatusCode::NOT_FOUND {
                    "not_found"
                } else {
                    "invalid_request"
                };
                json_answer(status, &json!({"error": error, "error_description": description}))
            }
        }
    }

    fn identity_token(&self, cluster: &str, request: &Incoming) -> Result<Value, (StatusCode, String)> {
        let bad = |text: &str| (StatusCode::BAD_REQUEST, text.to_owned());
        let path = request.uri().path().trim_end_matches('/');
        if request.method() != Method::GET || !path.ends_with("/metadata/identity/oauth2/token") {
            let text = format!(
                "sandbox: {} {path} of the metadata service is not part of this world",
                request.method()
            );
            return Err((StatusCode::NOT_FOUND, text));
        }
        let metadata = request
            .headers()
            .get("metadata")
            .and_then(|value| value.to_str().ok());
        if !metadata.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Err(bad("Required metadata header not specified"));
        }
        let parameter = |name: &str| query(request.uri().query(), name).filter(|value| !value.is_empty());
        if parameter("api-version").is_none() {
            return Err(bad("Required query variable 'api-version' is missing"));
        }
        let resource =
            parameter("resource").ok_or_else(|| bad("Required query variable 'resource' is missing"))?;
        let on_nodes: Vec<ManagedIdentity> = {
            let state = self.lock();
            let found = state.clusters.values().find(|each| same(&each.name, cluster));
            let found = found.ok_or_else(|| {
                (
                    StatusCode::NOT_FOUND,
                    format!("sandbox: there is no cluster '{cluster}'"),
                )
            })?;
            found.node_identities().cloned().collect()
        };
        let identity = match (
            parameter("client_id"),
            parameter("object_id").or_else(|| parameter("principal_id")),
        ) {
            (Some(client), _) => on_nodes
                .iter()
                .find(|identity| same(&identity.client_id, &client)),
            (None, Some(object)) => on_nodes
                .iter()
                .find(|identity| same(&identity.object_id, &object)),
            (None, None) if on_nodes.len() > 1 => {
                return Err(bad(
                    "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in \
                     the token request",
                ));
            }
            (None, None) => on_nodes.first(),
        };
        let identity = identity.ok_or_else(|| bad("Identity not found"))?;
        let principal = self.core.directory.principal_by_oid(&identity.object_id);
        let principal = principal.ok_or_else(|| bad("Identity not found"))?;
        // Either spelling of a resource is that resource.
        let resource = resource.trim_end_matches('/');
        Ok(imds_body(
            &self.core.directory,
            &principal,
            resource,
            self.core.clock.now(),
        ))
    }
}
