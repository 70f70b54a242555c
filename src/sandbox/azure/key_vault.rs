//! The Key Vault data plane: challenge, firewall, rights, and where each path leads.
//!
//! The first request of a client carries no token; the 401 tells which tenant's, for which resource. Then, in this
//! order: network rules, the token, the api-version, rights by the vault's model, the object.

use std::collections::BTreeMap;

use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::access::Question;
use super::arm::host;
use super::call::{Reply, principals};
use super::certificates::{Certificate, DeletedCertificate};
use super::path::{decode, query};
use super::refusal::Refusal;
use super::{Azure, State};
use crate::sandbox::core::{Caller, Effect, TokenFault};
use crate::sandbox::entra::PrincipalKind;
use crate::sandbox::http::{Answer, Incoming};
use crate::sandbox::world::random_uuid;

/// The resource vault tokens are for.
const RESOURCE: &str = "https://vault.azure.net";

/// Whoever is not one of these is not a vault token's audience: the resource, and its application id.
const AUDIENCES: &[&str] = &[
    RESOURCE,
    "https://vault.azure.net/",
    "cfa8b339-82a2-471a-a3c9-0fc0be7a4093",
];

/// What the data plane speaks; the last is what it recommends.
const VERSIONS: &[&str] = &[
    "7.0",
    "7.1",
    "7.2",
    "7.3",
    "7.4",
    "7.5",
    "7.6",
    "2025-07-01",
    "2026-04-01",
];

/// What a vault holds, and what stands between it and its callers.
#[derive(Default)]
pub(super) struct Objects {
    /// By name in lower case.
    pub(super) certificates: BTreeMap<String, Certificate>,
    pub(super) deleted: BTreeMap<String, DeletedCertificate>,
    /// Whether the firewall keeps callers out, and clusters.
    pub(super) blocks_caller: bool,
    pub(super) blocks_cluster: bool,
    /// Whether only private links lead in.
    pub(super) private_only: bool,
    /// Whether every call is one too many.
    pub(super) throttled: bool,
}

/// A call on a vault's data.
pub(super) struct DataCall {
    pub(super) vault: String,
    pub(super) method: Method,
    /// Path segments, decoded.
    pub(super) path: Vec<String>,
    pub(super) query: Option<String>,
    pub(super) version: String,
    pub(super) body: Value,
    pub(super) caller: Caller,
    /// The vault's address as the caller knows it, without a slash.
    pub(super) base: String,
    pub(super) now: OffsetDateTime,
}

impl DataCall {
    /// A path segment, empty where there is none.
    pub(super) fn segment(&self, index: usize) -> &str {
        self.path.get(index).map(String::as_str).unwrap_or_default()
    }

    /// A decoded member of the query.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        query(self.query.as_deref(), name)
    }
}

/// The right a call needs: RBAC data action, and access policy permission by kind.
struct Need {
    action: &'static str,
    kind: &'static str,
    permission: &'static str,
}

/// The rights table. `None` for paths that are not played.
fn need(method: &Method, path: &[&str]) -> Option<Need> {
    let of = |action, kind, permission| {
        Some(Need {
            action,
            kind,
            permission,
        })
    };
    match (method.as_str(), path) {
        ("GET", ["certificates"] | ["certificates", _, "versions"] | ["deletedcertificates"]) => {
            of("certificates/read", "certificates", "list")
        }
        ("GET", ["certificates", _] | ["certificates", _, _] | ["deletedcertificates", _]) => {
            of("certificates/read", "certificates", "get")
        }
        ("POST", ["certificates", _, "create"] | ["certificates", _, "pending", "merge"]) => {
            of("certificates/create/action", "certificates", "create")
        }
        ("POST", ["certificates", _, "import"]) => of("certificates/import/action", "certificates", "import"),
        ("PATCH", ["certificates", _] | ["certificates", _, _]) => {
            of("certificates/update/action", "certificates", "update")
        }
        ("DELETE", ["certificates", _] | ["certificates", _, "pending"]) => {
            of("certificates/delete", "certificates", "delete")
        }
        ("POST", ["deletedcertificates", _, "recover"]) => {
            of("certificates/recover/action", "certificates", "recover")
        }
        ("DELETE", ["deletedcertificates", _]) => of("certificates/purge/action", "certificates", "purge"),
        ("GET", ["secrets"] | ["secrets", _, "versions"]) => {
            of("secrets/readMetadata/action", "secrets", "list")
        }
        ("GET", ["secrets", _] | ["secrets", _, _]) => of("secrets/getSecret/action", "secrets", "get"),
        ("GET", ["keys"]) => of("keys/read", "keys", "list"),
        ("GET", ["keys", _] | ["keys", _, _]) => of("keys/read", "keys", "get"),
        _ => None,
    }
}

impl Azure {
    /// Answers a call on a vault's data plane.
    pub(crate) async fn answer_vault(&self, vault: &str, request: Incoming) -> Answer {
        let mut challenge = None;
        let answered = match self.admit_to_vault(vault, request, &mut challenge) {
            Ok(call) => self.carry_out_in_vault(&call).await,
            Err(refusal) => Err(refusal),
        };
        let mut answer = match answered {
            Ok(reply) => reply.answer(true),
            Err(refusal) => refusal.answer(),
        };
        let headers = answer.headers_mut();
        headers.insert("x-ms-keyvault-region", HeaderValue::from_static("eastus"));
        headers.insert(
            "x-ms-keyvault-service-version",
            HeaderValue::from_static("1.9.2784.1"),
        );
        headers.insert(
            "x-ms-keyvault-network-info",
            HeaderValue::from_static("conn_type=Ipv4;addr=127.0.0.1;act_addr_fam=InterNetwork;"),
        );
        if let Ok(id) = HeaderValue::from_str(&random_uuid()) {
            headers.insert("x-ms-request-id", id);
        }
        if let Some(challenge) = challenge.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        answer
    }

    /// All that is judged before an object is looked for.
    fn admit_to_vault(
        &self,
        vault: &str,
        request: Incoming,
        challenge: &mut Option<String>,
    ) -> Result<DataCall, Refusal> {
        let (head, body) = request.into_parts();
        let now = self.core.clock.now();
        let asked_as = host(&head.headers, &head.uri);
        let mut state = self.lock();
        let Some(found) = state.vault_named(vault) else {
            return Err(Refusal::vault(
                StatusCode::NOT_FOUND,
                "VaultNotFound",
                format!("sandbox: there is no vault '{vault}'; on Azure its name would not resolve"),
            ));
        };
        let tenant = found.tenant().to_owned();
        let base = self.core.names.login_base(&asked_as);
        let base = base.replacen("login.microsoftonline.com", "login.windows.net", 1);
        let told = format!("Bearer authorization=\"{base}/{tenant}\", resource=\"{RESOURCE}\"");
        let text = head
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let token = text
            .strip_prefix("Bearer ")
            .or(text.strip_prefix("bearer "))
            .unwrap_or_default();
        let judged = self
            .core
            .directory
            .judge(token, |audience| AUDIENCES.contains(&audience), now);
        let caller = judged.map_err(|fault| {
            *challenge = Some(told.clone());
            unauthorized(&fault)
        })?;
        if !caller.tenant.eq_ignore_ascii_case(&tenant) {
            *challenge = Some(told);
            return Err(Refusal::vault(
                StatusCode::UNAUTHORIZED,
                "Unauthorized",
                format!(
                    "AKV10032: Invalid issuer. Expected one of https://sts.windows.net/{tenant}/, found \
                     https://sts.windows.net/{}/.",
                    caller.tenant
                ),
            ));
        }
        let version = query(head.uri.query(), "api-version").unwrap_or_default();
        if !VERSIONS.contains(&version.as_str()) {
            return Err(bad_parameter(&format!(
                "The specified version ({version}) is not recognized. Consider using the latest supported version ({}).",
                VERSIONS.last().unwrap_or(&"")
            )));
        }
        let path = head.uri.path().split('/').filter(|segment| !segment.is_empty());
        let call = DataCall {
            vault: found.name.clone(),
            path: path.map(decode).collect(),
            query: head.uri.query().map(str::to_owned),
            version,
            body: json_body(&body)?,
            caller,
            base: self
                .core
                .names
                .vault_uri(vault, &asked_as)
                .trim_end_matches('/')
                .to_owned(),
            method: head.method,
            now,
        };
        self.may_touch(&mut state, &call)?;
        Ok(call)
    }

    /// Network rules, then rights.
    fn may_touch(&self, state: &mut State, call: &DataCall) -> Result<(), Refusal> {
        let lower: Vec<_> = call
            .path
            .iter()
            .enumerate()
            .map(|(index, segment)| {
                if index == 1 {
                    segment.clone()
                } else {
                    segment.to_ascii_lowercase()
                }
            })
            .collect();
        let words: Vec<_> = lower.iter().map(String::as_str).collect();
        let Some(need) = need(&call.method, &words) else {
            return Err(Refusal::vault(
                StatusCode::NOT_IMPLEMENTED,
                "SandboxNotImplemented",
                format!(
                    "sandbox: {} /{} of a vault is not part of this world",
                    call.method,
                    call.path.join("/")
                ),
            ));
        };
        let kind = self
            .core
            .directory
            .principal_by_oid(&call.caller.oid)
            .map(|principal| principal.kind);
        let from_cluster = kind == Some(PrincipalKind::Managed);
        let who = format!(
            "appid={};oid={};iss=https://sts.windows.net/{}/",
            call.caller.app_id.as_deref().unwrap_or_default(),
            call.caller.oid,
            call.caller.tenant
        );
        let principals = principals(&call.caller);
        let (id, location, rbac, permissions) = {
            let Some(vault) = state.vault_named(&call.vault) else {
                return Ok(());
            };
            network(vault, from_cluster, &who)?;
            let policies = vault.properties["accessPolicies"].as_array();
            let own = policies.into_iter().flatten().filter(|policy| {
                let object = policy["objectId"].as_str().unwrap_or_default();
                principals
                    .iter()
                    .any(|principal| principal.eq_ignore_ascii_case(object))
            });
            let permissions = own
                .flat_map(|policy| policy["permissions"][need.kind].as_array().into_iter().flatten())
                .filter_map(Value::as_str)
                .map(str::to_ascii_lowercase);
            let permissions: Vec<_> = permissions.collect();
            (vault.id(), vault.location.clone(), vault.is_rbac(), permissions)
        };
        if rbac {
            let collection = words
                .first()
                .copied()
                .unwrap_or_default()
                .trim_start_matches("deleted");
            let scope = match call.segment(1) {
                "" => id,
                name => format!("{id}/{collection}/{name}"),
            };
            let action = format!("Microsoft.KeyVault/vaults/{}", need.action);
            let question = Question {
                principals: &principals,
                action: &action,
                scope: &scope,
                data: true,
                now: call.now,
            };
            if state.access.allows(question) {
                return Ok(());
            }
            return Err(by_rbac(&who, &action, &scope, &call.vault, &location));
        }
        if permissions
            .iter()
            .any(|each| each == need.permission || each == "all")
        {
            return Ok(());
        }
        Err(Refusal::vault(
            StatusCode::FORBIDDEN,
            "Forbidden",
            format!(
                "The user, group or application '{who}' does not have {} {} permission on key vault \
                 '{};location={location}'. For help resolving this issue, please see \
                 https://go.microsoft.com/fwlink/?linkid=2125287",
                need.kind, need.permission, call.vault
            ),
        )
        .inner("AccessDenied"))
    }

    async fn carry_out_in_vault(&self, call: &DataCall) -> Result<Reply, Refusal> {
        let collection = call.segment(0).to_ascii_lowercase();
        match collection.as_str() {
            "secrets" => self.secret_call(call).await,
            "keys" => self.key_call(call).await,
            "deletedcertificates" => self.deleted_certificate_call(call).await,
            _ => self.certificate_call(call).await,
        }
        .map(|reply| match call.method {
            Method::GET => reply.effect(Effect::None),
            _ => reply,
        })
    }
}

/// What the vault's network rules say.
fn network(vault: &super::vaults::Vault, from_cluster: bool, who: &str) -> Result<(), Refusal> {
    let forbidden = |message: String, inner| {
        Err(Refusal::vault(StatusCode::FORBIDDEN, "Forbidden", message).inner(inner))
    };
    let (name, location) = (&vault.name, &vault.location);
    if vault.objects.throttled {
        return Err(Refusal::vault(
            StatusCode::TOO_MANY_REQUESTS,
            "Throttled",
            "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached",
        ));
    }
    if vault.objects.private_only || vault.properties["publicNetworkAccess"] == "Disabled" {
        return forbidden(
            format!(
                "Public network access is disabled and request is not from a trusted service nor via an approved \
                 private link.\r\nCaller: {who}\r\nVault: {name};location={location}"
            ),
            "ForbiddenByConnection",
        );
    }
    let rules = &vault.properties["networkAcls"];
    let none = |member: &str| rules[member].as_array().is_none_or(Vec::is_empty);
    let closed = rules["defaultAction"]
        .as_str()
        .is_some_and(|action| action.eq_ignore_ascii_case("Deny"));
    let blocked = match from_cluster {
        true => vault.objects.blocks_cluster || (closed && none("virtualNetworkRules")),
        false => vault.objects.blocks_caller || (closed && none("ipRules")),
    };
    if blocked {
        return forbidden(
            format!(
                "Client address is not authorized and caller is not a trusted service.\r\nClient address: 127.0.0.1 \
                 from unknown subnet\r\nCaller: {who}\r\nVault: {name};location={location}"
            ),
            "ForbiddenByFirewall",
        );
    }
    Ok(())
}

fn by_rbac(who: &str, action: &str, scope: &str, vault: &str, location: &str) -> Refusal {
    Refusal::vault(
        StatusCode::FORBIDDEN,
        "Forbidden",
        format!(
            "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role \
             definitions were changed recently, please observe propagation time.\r\nCaller: {who}\r\nAction: \
             '{action}'\r\nResource: '{}'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: \
             'DeniedWithNoValidRBAC' \r\nVault: {vault};location={location}\r\n",
            scope.to_ascii_lowercase()
        ),
    )
    .inner("ForbiddenByRbac")
}

fn unauthorized(fault: &TokenFault) -> Refusal {
    let message = match fault {
        TokenFault::Missing => "AKV10000: Request is missing a Bearer or PoP token.".to_owned(),
        TokenFault::Audience(found) => {
            format!("AKV10022: Invalid audience. Expected {RESOURCE}, found: {found}.")
        }
        TokenFault::Expired(_) => "AKV10048: Lifetime validation failed. The token is expired.".to_owned(),
        TokenFault::Malformed => "AKV10009: The token is not a well-formed JSON web token.".to_owned(),
        TokenFault::Signature => {
            "AKV10046: Unable to resolve the key used for signature validation.".to_owned()
        }
        TokenFault::Unknown => "AKV10040: The principal of the token does not exist.".to_owned(),
    };
    Refusal::vault(StatusCode::UNAUTHORIZED, "Unauthorized", message)
}

/// 400 `BadParameter`.
pub(super) fn bad_parameter(message: &str) -> Refusal {
    Refusal::vault(StatusCode::BAD_REQUEST, "BadParameter", message)
}

fn json_body(body: &[u8]) -> Result<Value, Refusal> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body)
        .map_err(|error| bad_parameter(&format!("The request body is invalid: {error}")))
}

/// One page of a list, in an order that means nothing and differs from list to list.
pub(super) fn page(call: &DataCall, mut items: Vec<(String, Value)>) -> Value {
    let size = call
        .query("maxresults")
        .and_then(|text| text.parse().ok())
        .unwrap_or(25)
        .clamp(1, 25);
    let token = call.query("$skiptoken").unwrap_or_default();
    let (seed, skip) = match token.split_once('.') {
        Some((seed, skip)) => (seed.to_owned(), skip.parse().unwrap_or(0)),
        None => (random_uuid(), 0_usize),
    };
    items.sort_by_cached_key(|(name, _)| crate::sandbox::world::id_of(&format!("{seed}/{name}")));
    let next = (items.len() > skip + size).then(|| {
        let path = call.path.join("/");
        format!(
            "{}/{path}?api-version={}&$skiptoken={seed}.{}&maxresults={size}",
            call.base,
            call.version,
            skip + size
        )
    });
    let value: Vec<_> = items
        .into_iter()
        .skip(skip)
        .take(size)
        .map(|(_, item)| item)
        .collect();
    json!({"value": value, "nextLink": next})
}
