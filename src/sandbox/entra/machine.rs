//! The machine that commands of this world run on: its metadata service and App Service's identity endpoint. Every
//! `managed` principal of the world file is on it.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::super::http::{Answer, Incoming, json as json_answer, text};
use super::super::world::id_of;
use super::{Directory, Principal, imds_body};

/// Where virtual machines ask.
pub(crate) const METADATA_SERVICE: &str = "/metadata/identity/oauth2/token";
/// Where App Service's processes ask.
pub(crate) const APP_SERVICE: &str = "/msi/token";

/// What App Service's processes show.
pub(crate) fn identity_header() -> String {
    id_of("/machine/identity_header")
}

impl Directory {
    /// Answers at one of the machine's endpoints; `None` for another path.
    pub(crate) fn answer_machine(&self, request: &Incoming) -> Option<Answer> {
        let is_app_service = match request.uri().path() {
            METADATA_SERVICE => false,
            APP_SERVICE => true,
            _ => return None,
        };
        if request.method() != Method::GET {
            return Some(text(StatusCode::METHOD_NOT_ALLOWED, ""));
        }
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        if is_app_service && header("x-identity-header") != Some(identity_header().as_str()) {
            let body = json!({"statusCode": 403, "message": "The X-IDENTITY-HEADER is missing or wrong."});
            return Some(json_answer(StatusCode::FORBIDDEN, &body));
        }
        if !is_app_service && !header("metadata").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Some(refused("Required metadata header not specified"));
        }
        Some(match self.machine_token(request, is_app_service) {
            Ok(body) => json_answer(StatusCode::OK, &body),
            Err(words) => refused(words),
        })
    }

    fn machine_token(&self, request: &Incoming, is_app_service: bool) -> Result<Value, &'static str> {
        let query = request.uri().query().unwrap_or_default();
        let parameter = |name: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            let value = pairs
                .find(|(found, _)| found == name)
                .map(|(_, value)| value.into_owned());
            value.filter(|value| !value.is_empty())
        };
        parameter("api-version").ok_or("Required query variable 'api-version' is missing")?;
        let resource = parameter("resource").ok_or("Required query variable 'resource' is missing")?;
        let present: Vec<Principal> = self
            .principals()
            .into_iter()
            .filter(|principal| principal.on_machine)
            .collect();
        let wanted = (
            parameter("client_id"),
            parameter("object_id").or_else(|| parameter("principal_id")),
        );
        let found = match &wanted {
            (Some(client), _) => present.iter().find(|one| {
                one.client_id
                    .as_deref()
                    .is_some_and(|id| id.eq_ignore_ascii_case(client))
            }),
            (None, Some(object)) => present
                .iter()
                .find(|one| one.object_id.eq_ignore_ascii_case(object)),
            (None, None) if present.len() > 1 => {
                return Err(
                    "Multiple user assigned identities exist, please specify the clientId / resourceId of the \
                            identity in the token request",
                );
            }
            (None, None) => present.first(),
        };
        let principal = found.ok_or("Identity not found")?;
        let resource = resource.trim_end_matches('/');
        let mut body = imds_body(self, principal, resource, self.0.clock.now());
        if is_app_service && let Some(members) = body.as_object_mut() {
            // App Service says only when it ends.
            members
                .retain(|name, _| !matches!(name.as_str(), "expires_in" | "ext_expires_in" | "not_before"));
        }
        Ok(body)
    }
}

fn refused(words: &str) -> Answer {
    let body = json!({"error": "invalid_request", "error_description": words});
    json_answer(StatusCode::BAD_REQUEST, &body)
}
