//! Whoever vouches for a workload: the endpoints where GitHub Actions and Azure Pipelines give out assertions, and the
//! token that a Kubernetes node puts into a pod.
//!
//! Their issuers have the names they have in real life; all of them sign with Entra's key, for the world has no reason
//! to keep them apart.

use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;
use url::form_urlencoded;

use super::super::http::{Answer, Incoming, json as json_answer, text};
use super::super::world::id_of;
use super::{Directory, Federated, Principal};

/// Where the endpoints are, below the front.
const PLACE: &str = "/oidc/";
/// What assertions for Entra are for.
pub(super) const AUDIENCE: &str = "api://AzureADTokenExchange";
/// What Azure Pipelines' endpoint speaks.
const PIPELINES_VERSION: &str = "7.1";
/// How long a pod's token lives.
const POD: time::Duration = time::Duration::hours(1);

/// Who vouches for a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voucher {
    GitHub,
    Pipelines,
    Kubernetes,
}

impl Voucher {
    /// By the `type` of a world file.
    pub(super) fn of_type(word: &str) -> Option<Self> {
        match word {
            "github" => Some(Self::GitHub),
            "pipelines" => Some(Self::Pipelines),
            "workload" => Some(Self::Kubernetes),
            _ => None,
        }
    }

    /// The federated credential of a principal whose world file gives none.
    pub(super) fn usual(self, name: &str, tenant: &str) -> Federated {
        let (issuer, subject) = match self {
            Self::GitHub => (
                "https://token.actions.githubusercontent.com".to_owned(),
                "repo:contoso/shop:ref:refs/heads/main".to_owned(),
            ),
            Self::Pipelines => (
                format!("https://vstoken.dev.azure.com/{}", id_of("/devops/contoso")),
                format!("sc://contoso/shop/{name}"),
            ),
            Self::Kubernetes => (
                format!(
                    "https://eastus.oic.prod-aks.azure.com/{tenant}/{}/",
                    id_of("/oidc/ci")
                ),
                format!("system:serviceaccount:ci:{name}"),
            ),
        };
        Federated {
            issuer,
            subject,
            audience: AUDIENCE.to_owned(),
        }
    }
}

/// What a job must show where assertions are given out.
pub(crate) fn request_token(name: &str) -> String {
    format!(
        "kvtls-request-{}",
        id_of(&format!("/principals/{name}/request_token"))
    )
}

/// The service connection of a principal in Azure Pipelines.
pub(crate) fn service_connection(name: &str) -> String {
    id_of(&format!("/principals/{name}/service_connection"))
}

/// Where a principal's job asks, below the front.
pub(crate) fn request_path(principal: &Principal) -> Option<String> {
    let kind = match principal.voucher? {
        // Real ones have a query already, so that clients append to it.
        Voucher::GitHub => return Some(format!("{PLACE}github/{}/token?api-version=2.0", principal.name)),
        Voucher::Pipelines => "pipelines",
        Voucher::Kubernetes => return None,
    };
    Some(format!("{PLACE}{kind}/{}/oidctoken", principal.name))
}

impl Directory {
    /// Answers where assertions are given out; `None` for another path.
    pub(crate) fn vouch(&self, request: &Incoming) -> Option<Answer> {
        let path = request.uri().path().strip_prefix(PLACE)?;
        let mut segments = path.split('/');
        let (kind, name, last) = (segments.next()?, segments.next()?, segments.next()?);
        let (voucher, last_wanted) = match kind {
            "github" => (Voucher::GitHub, "token"),
            "pipelines" => (Voucher::Pipelines, "oidctoken"),
            _ => return None,
        };
        if last != last_wanted {
            return None;
        }
        let principal = self
            .principal_by_name(name)
            .filter(|principal| principal.voucher == Some(voucher));
        let Some(principal) = principal else {
            let words = format!("sandbox: no job of {kind} runs as '{name}'");
            return Some(text(StatusCode::NOT_FOUND, words));
        };
        let shown = request.headers().get(header::AUTHORIZATION);
        let shown = shown.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = shown.split_once(' ').map_or("", |(_, token)| token.trim());
        let is_allowed = token == request_token(&principal.name);
        Some(match voucher {
            Voucher::GitHub => self.github(&principal, request, is_allowed),
            Voucher::Pipelines => self.pipelines(&principal, request, is_allowed),
            Voucher::Kubernetes => return None,
        })
    }

    fn github(&self, principal: &Principal, request: &Incoming, is_allowed: bool) -> Answer {
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "");
        }
        if !is_allowed {
            let body = json!({"source": "actions-run-service", "statusCode": 401, "errorMessage": "invalid runtime token"});
            return json_answer(StatusCode::UNAUTHORIZED, &body);
        }
        let audience =
            parameter(request, "audience").unwrap_or_else(|| "https://github.com/contoso".to_owned());
        let value = self.vouched(principal, &audience);
        json_answer(StatusCode::OK, &json!({"count": value.len(), "value": value}))
    }

    fn pipelines(&self, principal: &Principal, request: &Incoming, is_allowed: bool) -> Answer {
        if request.method() != Method::POST {
            return text(StatusCode::METHOD_NOT_ALLOWED, "");
        }
        let refused = |status: StatusCode, message: String| {
            let body = json!({
                "$id": "1", "innerException": null, "message": message, "errorCode": 0, "eventId": 3000,
                "typeKey": "VssRequestException",
            });
            json_answer(status, &body)
        };
        if !is_allowed {
            // A page for people, unless the client says that it is none.
            if !request.headers().contains_key("x-tfs-fedauthredirect") {
                let mut answer = text(StatusCode::FOUND, "");
                let page = HeaderValue::from_static("https://spsprodeus21.vssps.visualstudio.com/_signin");
                answer.headers_mut().insert(header::LOCATION, page);
                return answer;
            }
            return refused(
                StatusCode::UNAUTHORIZED,
                "TF400813: The user is not authorized to access this resource.".to_owned(),
            );
        }
        if parameter(request, "api-version").as_deref() != Some(PIPELINES_VERSION) {
            return refused(
                StatusCode::BAD_REQUEST,
                format!("sandbox: api-version {PIPELINES_VERSION} is played."),
            );
        }
        let connection = parameter(request, "serviceConnectionId").unwrap_or_default();
        if connection != service_connection(&principal.name) {
            let message = format!(
                "Service connection with id {connection} was not found, or is not authorized for use."
            );
            return refused(StatusCode::NOT_FOUND, message);
        }
        let audience = parameter(request, "audience").unwrap_or_else(|| AUDIENCE.to_owned());
        json_answer(
            StatusCode::OK,
            &json!({"oidcToken": self.vouched(principal, &audience)}),
        )
    }

    fn vouched(&self, principal: &Principal, audience: &str) -> String {
        let credential = principal.federated.first();
        credential.map_or_else(String::new, |credential| {
            self.assertion(&credential.issuer, &credential.subject, audience)
        })
    }

    /// The token that a node puts into the pod of a principal that Kubernetes vouches for.
    pub(crate) fn pod_token(&self, principal: &Principal) -> Option<String> {
        let credential = principal.federated.first()?;
        let is_pod = principal.voucher == Some(Voucher::Kubernetes);
        is_pod.then(|| {
            self.assertion_of_life(&credential.issuer, &credential.subject, &credential.audience, POD)
        })
    }
}

fn parameter(request: &Incoming, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (_, value) = pairs.find(|(found, _)| found == name)?;
    Some(value.into_owned()).filter(|value| !value.is_empty())
}
