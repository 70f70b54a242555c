//! `login.microsoftonline.com`: the token endpoint, discovery documents, and how it refuses.

use std::collections::BTreeMap;

use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use time::OffsetDateTime;
use url::form_urlencoded;

use super::super::http::{Answer, Incoming, json as json_answer};
use super::super::world::rfc3339;
use super::registered::Flaw;
use super::{AKS_AUDIENCE, ARM_AUDIENCES, Directory, LIFETIME, Principal, Tenant, claims_of};

/// An OAuth error: status, `error`, AADSTS number, text.
pub(crate) struct Refusal {
    status: StatusCode,
    error: &'static str,
    number: u32,
    text: String,
}

impl Refusal {
    fn new(status: u16, error: &'static str, number: u32, text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST),
            error,
            number,
            text: text.into(),
        }
    }

    /// The refusal of this number with placeholder words, for staged faults.
    pub(crate) fn staged(number: u32) -> Self {
        match number {
            7_000_215 => bad_secret("<staged>"),
            700_016 => unknown_app("<staged>", "Contoso"),
            90_002 => unknown_tenant("<staged>"),
            50_196 => Self::new(
                400,
                "invalid_grant",
                50_196,
                "The server terminated an operation because it encountered a client request loop.",
            ),
            70_021 | 700_211..=700_213 => {
                let part = match number {
                    700_211 => " issuer",
                    700_212 => " audience",
                    700_213 => " subject",
                    _ => "",
                };
                let text = format!(
                    "No matching federated identity record found for presented assertion{part} '<staged>'. Please check \
                     your federated identity credential Subject, Audience and Issuer against the presented assertion."
                );
                Self::new(401, "invalid_client", number, text)
            }
            700_024 => Self::new(
                401,
                "invalid_client",
                700_024,
                "Client assertion is not within its valid time range. Current time: <now>, expiry time of assertion <then>.",
            ),
            90_033 => Self::new(
                503,
                "temporarily_unavailable",
                90_033,
                "A transient error has occurred. Please try again.",
            ),
            _ => Self::new(
                400,
                "invalid_request",
                number,
                "Staged by a fault of the sandbox.",
            ),
        }
    }

    /// As Entra writes it.
    pub(crate) fn answer(&self, login_base: &str, now: OffsetDateTime) -> Answer {
        let trace = super::super::world::random_uuid();
        let correlation = super::super::world::random_uuid();
        let stamp = rfc3339(now).replace('T', " ");
        let description = format!(
            "AADSTS{}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {stamp}",
            self.number, self.text
        );
        let body = json!({
            "error": self.error,
            "error_description": description,
            "error_codes": [self.number],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("{login_base}/error?code={}", self.number),
        });
        json_answer(self.status, &body)
    }
}

fn bad_secret(app: &str) -> Refusal {
    let text = format!(
        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not \
         the client secret ID, for a secret added to app '{app}'."
    );
    Refusal::new(401, "invalid_client", 7_000_215, text)
}

fn unknown_app(app: &str, tenant: &str) -> Refusal {
    let text = format!(
        "Application with identifier '{app}' was not found in the directory '{tenant}'. This can happen if the \
         application has not been installed by the administrator of the tenant or consented to by any user in the \
         tenant. You may have sent your authentication request to the wrong tenant."
    );
    Refusal::new(400, "unauthorized_client", 700_016, text)
}

fn unknown_tenant(tenant: &str) -> Refusal {
    let text = format!(
        "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the \
         correct cloud. Check with your subscription administrator, this may happen if there are no active \
         subscriptions for the tenant."
    );
    Refusal::new(400, "invalid_request", 90_002, text)
}

impl Directory {
    /// Answers what is sent to the authority. `base` is its own address as the caller knows it.
    pub(crate) fn answer(&self, request: &Incoming, base: &str) -> Answer {
        let now = self.0.clock.now();
        let path = request.uri().path().trim_matches('/').to_owned();
        let (tenant, rest) = path.split_once('/').unwrap_or((path.as_str(), ""));
        let answered = match (request.method(), rest) {
            (&Method::GET, "discovery/instance") => Ok(instance_discovery(base)),
            (&Method::GET, "v2.0/.well-known/openid-configuration") => self.discovery(tenant, base, true),
            (&Method::GET, ".well-known/openid-configuration") => self.discovery(tenant, base, false),
            (&Method::GET, "discovery/v2.0/keys" | "discovery/keys") => Ok(self.jwks()),
            (&Method::POST, "oauth2/v2.0/token") => self.token(tenant, request, "scope", now),
            (&Method::POST, "oauth2/token") => self.token(tenant, request, "resource", now),
            _ => {
                let text = format!(
                    "sandbox: {} {} is not imitated.",
                    request.method(),
                    request.uri().path()
                );
                Err(Refusal::new(404, "invalid_request", 900_561, text))
            }
        };
        match answered {
            Ok(body) => {
                let mut answer = json_answer(StatusCode::OK, &body);
                let kind = HeaderValue::from_static("application/json; charset=utf-8");
                answer.headers_mut().insert(header::CONTENT_TYPE, kind);
                let store = HeaderValue::from_static("no-store, no-cache");
                answer.headers_mut().insert(header::CACHE_CONTROL, store);
                answer
            }
            Err(refusal) => refusal.answer(base, now),
        }
    }

    fn token(
        &self,
        tenant: &str,
        request: &Incoming,
        audience_field: &'static str,
        now: OffsetDateTime,
    ) -> Result<Value, Refusal> {
        let known = self.tenant(tenant).ok_or_else(|| unknown_tenant(tenant))?;
        let form: BTreeMap<_, _> = form_urlencoded::parse(request.body()).into_owned().collect();
        let field = |name: &str| {
            form.get(name)
                .map(String::as_str)
                .filter(|value| !value.is_empty())
        };
        let needed = |name: &'static str| {
            field(name).ok_or_else(|| {
                let text = format!("The request body must contain the following parameter: '{name}'.");
                Refusal::new(400, "invalid_request", 900_144, text)
            })
        };
        let grant = needed("grant_type")?;
        if grant != "client_credentials" {
            let text = format!("The app requested an unsupported grant type '{grant}'.");
            return Err(Refusal::new(400, "unsupported_grant_type", 70_003, text));
        }
        let client_id = needed("client_id")?;
        let audience = audience(needed(audience_field)?, audience_field)?;
        let app = self
            .principal_by_client_id(client_id)
            .filter(|principal| principal.tenant == known.id || principal.also_in.contains(&known.id))
            .ok_or_else(|| unknown_app(client_id, &known.name))?;
        match (field("client_secret"), field("client_assertion")) {
            (Some(secret), _) if app.secret.as_deref() == Some(secret) => {}
            (Some(_), _) => return Err(bad_secret(client_id)),
            (None, Some(assertion)) => {
                self.judge_assertion(&app, assertion, &endpoints(known, request), now)?;
            }
            (None, None) => {
                let text = "The request body must contain the following parameter: 'client_assertion' or \
                            'client_secret'.";
                return Err(Refusal::new(401, "invalid_client", 7_000_218, text));
            }
        }
        let mut body = json!({
            "token_type": "Bearer",
            "expires_in": LIFETIME,
            "ext_expires_in": LIFETIME,
            "access_token": self.issue_in(&known.id, &app, &audience, now),
        });
        if audience_field == "resource" {
            // The old endpoint writes numbers as text, and moments beside the span.
            let expires = now.unix_timestamp() + i64::from(LIFETIME);
            body["expires_in"] = json!(LIFETIME.to_string());
            body["ext_expires_in"] = json!(LIFETIME.to_string());
            body["expires_on"] = json!(expires.to_string());
            body["not_before"] = json!(now.unix_timestamp().to_string());
            body["resource"] = json!(audience);
        }
        Ok(body)
    }

    /// A federated assertion: known issuer, right signature, in time, and expected by the application.
    fn judge_assertion(
        &self,
        app: &Principal,
        assertion: &str,
        endpoints: &[String],
        now: OffsetDateTime,
    ) -> Result<(), Refusal> {
        let refuse = |number, text: String| Err(Refusal::new(401, "invalid_client", number, text));
        let Some(claims) = claims_of(assertion) else {
            return refuse(50_027, "JWT token is invalid or malformed.".to_owned());
        };
        let claim = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        let (issuer, subject) = (claim("iss"), claim("sub"));
        // Its own statement, not one of another issuer. Whoever makes one reads a real clock.
        if app.client_id.as_deref() == Some(issuer) {
            return own_statement(app, assertion, endpoints, self.0.clock.real_now());
        }
        let audiences: Vec<_> = match claims.get("aud") {
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            _ => vec![claim("aud")],
        };
        let of_issuer: Vec<_> = app.federated.iter().filter(|one| one.issuer == issuer).collect();
        if of_issuer.is_empty() {
            let text = format!(
                "No matching federated identity record found for presented assertion issuer '{issuer}'. Please check \
                 your federated identity credential Subject, Audience and Issuer against the presented assertion."
            );
            return refuse(700_211, text);
        }
        let Some(matching) = of_issuer.into_iter().find(|one| one.subject == subject) else {
            let text = format!(
                "No matching federated identity record found for presented assertion subject '{subject}'. Please \
                 check your federated identity credential Subject, Audience and Issuer against the presented \
                 assertion."
            );
            return refuse(700_213, text);
        };
        if !audiences.contains(&matching.audience.as_str()) {
            let text = format!(
                "No matching federated identity record found for presented assertion audience '{}'. Please check \
                 your federated identity credential Subject, Audience and Issuer against the presented assertion.",
                audiences.join(",")
            );
            return refuse(700_212, text);
        }
        let expires = claims.get("exp").and_then(Value::as_i64).unwrap_or_default();
        if now.unix_timestamp() >= expires {
            return out_of_time(now, expires);
        }
        if !self.is_signed_by(issuer, assertion) {
            return refuse(
                700_027,
                "Client assertion failed signature validation.".to_owned(),
            );
        }
        Ok(())
    }

    fn discovery(&self, tenant: &str, base: &str, v2: bool) -> Result<Value, Refusal> {
        let id = match self.tenant(tenant) {
            Some(tenant) => tenant.id.as_str(),
            None if matches!(tenant, "common" | "organizations") => "{tenantid}",
            None => return Err(unknown_tenant(tenant)),
        };
        let endpoint = |name: &str| match v2 {
            true => format!("{base}/{tenant}/oauth2/v2.0/{name}"),
            false => format!("{base}/{tenant}/oauth2/{name}"),
        };
        let issuer = match v2 {
            true => format!("{base}/{id}/v2.0"),
            false => format!("https://sts.windows.net/{id}/"),
        };
        Ok(json!({
            "token_endpoint": endpoint("token"),
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
            "jwks_uri": format!("{base}/{tenant}/discovery/v2.0/keys"),
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "issuer": issuer,
            "request_uri_parameter_supported": false,
            "userinfo_endpoint": "https://graph.microsoft.com/oidc/userinfo",
            "authorization_endpoint": endpoint("authorize"),
            "device_authorization_endpoint": endpoint("devicecode"),
            "http_logout_supported": true,
            "frontchannel_logout_supported": true,
            "end_session_endpoint": endpoint("logout"),
            "claims_supported": [
                "sub", "iss", "cloud_instance_name", "cloud_instance_host_name", "cloud_graph_host_name",
                "msgraph_host", "aud", "exp", "iat", "auth_time", "acr", "nonce", "preferred_username", "name", "tid",
                "ver", "at_hash", "c_hash", "email"
            ],
            "kerberos_endpoint": format!("{base}/{tenant}/kerberos"),
            "tenant_region_scope": "NA",
            "cloud_instance_name": "microsoftonline.com",
            "cloud_graph_host_name": "graph.windows.net",
            "msgraph_host": "graph.microsoft.com",
            "rbac_url": "https://pas.windows.net",
        }))
    }
}

/// What a statement of an application may be made for: the endpoint under every name it has, and the tenant's issuer.
fn endpoints(tenant: &Tenant, request: &Incoming) -> Vec<String> {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let hosts = [
        "login.microsoftonline.com",
        "login.windows.net",
        "sts.windows.net",
    ];
    let hosts = hosts.into_iter().chain(host);
    let tenants = [tenant.id.as_str(), tenant.name.as_str()];
    let pairs = hosts.flat_map(|host| tenants.map(|tenant| format!("https://{host}/{tenant}")));
    let paths = ["/oauth2/v2.0/token", "/oauth2/token", "/v2.0"];
    pairs
        .flat_map(|base| paths.map(|path| format!("{base}{path}")))
        .collect()
}

/// `private_key_jwt`: a statement that an application signs with the key of a certificate it has registered.
fn own_statement(
    app: &Principal,
    assertion: &str,
    endpoints: &[String],
    now: OffsetDateTime,
) -> Result<(), Refusal> {
    let refuse = |number, text: String| Err(Refusal::new(401, "invalid_client", number, text));
    let client_id = app.client_id.as_deref().unwrap_or_default();
    let Some(certificate) = &app.certificate else {
        let text = format!(
            "Client assertion failed signature validation. The application '{client_id}' has no certificate."
        );
        return refuse(700_027, text);
    };
    match certificate.judge(assertion, client_id, endpoints, now) {
        Ok(()) => Ok(()),
        Err(Flaw::Signature(why)) => {
            let text = format!(
                "The certificate used to sign the client assertion is not registered on application. [Reason - {why}]"
            );
            refuse(700_027, text)
        }
        Err(Flaw::Claims(why)) => refuse(50_012, format!("Authentication failed. {why}")),
        Err(Flaw::Time(expires)) => out_of_time(now, expires),
    }
}

fn out_of_time(now: OffsetDateTime, expires: i64) -> Result<(), Refusal> {
    let stamp = |at| OffsetDateTime::from_unix_timestamp(at).map_or_else(|_| String::new(), rfc3339);
    let text = format!(
        "Client assertion is not within its valid time range. Current time: {}, expiry time of assertion {}.",
        rfc3339(now),
        stamp(expires)
    );
    Err(Refusal::new(401, "invalid_client", 700_024, text))
}

/// The audience a token gets for a scope or resource, as version 1 tokens write it.
fn audience(asked: &str, field: &str) -> Result<String, Refusal> {
    let resource = if field == "resource" {
        asked
    } else {
        let scopes: Vec<_> = asked.split(' ').filter(|scope| !scope.is_empty()).collect();
        let [scope] = scopes.as_slice() else {
            let text =
                format!("The provided request must include a single resource; '{asked}' is not valid.");
            return Err(Refusal::new(400, "invalid_scope", 28_000, text));
        };
        scope.strip_suffix("/.default").ok_or_else(|| {
            let text = format!(
                "The provided value for the input parameter 'scope' is not valid. The scope {scope} is not valid."
            );
            Refusal::new(400, "invalid_scope", 70_011, text)
        })?
    };
    let bare = resource.trim_end_matches('/');
    let known = ARM_AUDIENCES.contains(&resource)
        || bare == AKS_AUDIENCE
        || bare.starts_with("https://vault.")
        || bare.starts_with("https://graph.microsoft.com")
        || bare.starts_with("https://127.0.0.1:")
        || bare.starts_with("https://localhost:")
        || bare == "api://AzureADTokenExchange";
    if !known {
        let text = format!(
            "The resource principal named {resource} was not found in the tenant named Contoso. This can happen if \
             the application has not been installed by the administrator of the tenant or consented to by any user \
             in the tenant. You might have sent your authentication request to the wrong tenant."
        );
        return Err(Refusal::new(400, "invalid_resource", 500_011, text));
    }
    Ok(resource.to_owned())
}

fn instance_discovery(base: &str) -> Value {
    let host = base.trim_start_matches("https://");
    let mut aliases = vec![
        "login.microsoftonline.com",
        "login.windows.net",
        "login.microsoft.com",
        "sts.windows.net",
    ];
    if !aliases.contains(&host) {
        aliases = vec![host];
    }
    let cache = if aliases.len() > 1 {
        "login.windows.net"
    } else {
        host
    };
    json!({
        "tenant_discovery_endpoint": format!("{base}/common/.well-known/openid-configuration"),
        "api-version": "1.1",
        "metadata": [{"preferred_network": host, "preferred_cache": cache, "aliases": aliases}],
    })
}

/// A token of the identity endpoint: IMDS writes numbers as text.
pub(crate) fn imds_body(
    directory: &Directory,
    principal: &Principal,
    resource: &str,
    now: OffsetDateTime,
) -> Value {
    let expires = now.unix_timestamp() + i64::from(LIFETIME);
    json!({
        "access_token": directory.issue(&principal.object_id, resource, now),
        "client_id": principal.client_id,
        "expires_in": LIFETIME.to_string(),
        "expires_on": expires.to_string(),
        "ext_expires_in": LIFETIME.to_string(),
        "not_before": now.unix_timestamp().to_string(),
        "resource": resource,
        "token_type": "Bearer",
    })
}
