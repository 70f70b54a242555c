//! ARM's front-end: what every call goes through before a resource provider sees it.
//!
//! In this order, as ARM does it: the token, the subscription, the path, the api-version, the caller's rights, the
//! resource group, locks and policies. What ARM itself refuses carries `x-ms-failure-cause: gateway`.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::access::Question;
use super::call::{Call, Reply};
use super::denials::denied;
use super::path::{ArmPath, query, same};
use super::refusal::Refusal;
use super::routes::{Route, Target, route};
use super::{Azure, State, versions};
use crate::sandbox::core::{Caller, StagedOutcome, TokenFault};
use crate::sandbox::http::{Answer, Incoming};
use crate::sandbox::world::{random_uuid, rfc3339};

impl Azure {
    /// Answers a call to ARM, whose token the front has judged.
    pub(crate) async fn answer_arm(&self, request: Incoming, caller: Result<Caller, TokenFault>) -> Answer {
        let now = self.core.clock.now();
        let headers = request.headers().clone();
        let answered = match self.admit(request, caller, now) {
            Ok((call, route)) => {
                let charset = !matches!(
                    route.target,
                    Target::Clusters | Target::Operations(_) | Target::Credentials(_)
                );
                self.carry_out(&call, &route)
                    .await
                    .map(|reply| reply.answer(charset))
            }
            Err(refusal) => Err(refusal),
        };
        let mut answer = answered.unwrap_or_else(|refusal| refusal.answer());
        mark_with_ids(answer.headers_mut(), &headers, now);
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.challenge(answer.headers_mut());
        }
        answer
    }

    /// Everything that is judged before a resource provider is asked.
    fn admit(
        &self,
        request: Incoming,
        caller: Result<Caller, TokenFault>,
        now: OffsetDateTime,
    ) -> Result<(Call, Route), Refusal> {
        let caller = caller.map_err(|fault| unauthenticated(&fault, now))?;
        let (head, body) = request.into_parts();
        let path = ArmPath::parse(head.uri.path())
            .ok_or_else(|| Refusal::unplayed(&format!("the path '{}'", head.uri.path())))?;
        if let Some(subscription) = &path.subscription {
            self.known_subscription(subscription)?;
        }
        let route = route(&path, &head.method)
            .ok_or_else(|| Refusal::unplayed(&format!("{} of '{}'", head.method, head.uri.path())))?;
        let version = query(head.uri.query(), "api-version").unwrap_or_default();
        if !matches!(route.target, Target::Operations(_)) {
            let kind = path.rest.first().map(String::as_str).unwrap_or_default();
            versions::check(route.family, &version, kind, self.accepts_retired)?;
        }
        let call = Call {
            target: head
                .uri
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default(),
            query: head.uri.query().map(str::to_owned),
            version,
            body: parse(&head.method, &body)?,
            asked_as: host(&head.headers, &head.uri),
            outcome: head.extensions.get::<StagedOutcome>().cloned(),
            method: head.method,
            headers: head.headers,
            path,
            caller,
            now,
        };
        let state = self.lock();
        authorised(&state, &call, &route)?;
        self.registered(&call)?;
        surroundings(&state, &call, &route)?;
        drop(state);
        Ok((call, route))
    }

    /// Hands the call to whoever plays its resource provider.
    async fn carry_out(&self, call: &Call, route: &Route) -> Result<Reply, Refusal> {
        match route.target {
            Target::Clusters => self.cluster_call(call).await,
            Target::Pools => self.pool_call(call),
            Target::Power => self.power_call(call),
            Target::Credentials(admin) => self.credential_call(call, admin),
            Target::Operations(collection) => self.operation_call(call, collection),
            Target::Vaults => self.vault_call(call).await,
            Target::AccessPolicies => self.access_policy_call(call).await,
            Target::DeletedVaults => self.deleted_vault_call(call),
            Target::Purges => self.purge_call(call),
            Target::VaultNames => self.name_call(call),
            Target::Assignments => self.assignment_call(call),
            Target::Definitions => self.any_definition_call(call),
            Target::Surroundings => self.surrounding_call(call),
            Target::Permissions => Ok(self.permission_call(call)),
            Target::Denials => self.denial_call(call),
            Target::Identities => self.identity_call(call),
            Target::IdentityCredentials => self.credential_of_identity_call(call).await,
            Target::Absent => Err(Refusal::provider(
                StatusCode::NOT_FOUND,
                "NotFound",
                format!("The resource '{}' was not found.", call.path.id()),
            )),
        }
    }

    fn known_subscription(&self, subscription: &str) -> Result<(), Refusal> {
        if self
            .subscriptions
            .iter()
            .any(|known| same(&known.id, subscription))
        {
            return Ok(());
        }
        Err(Refusal::gateway(
            StatusCode::NOT_FOUND,
            "SubscriptionNotFound",
            format!("The subscription '{subscription}' could not be found."),
        ))
    }

    /// A write needs its resource provider registered.
    fn registered(&self, call: &Call) -> Result<(), Refusal> {
        let namespace = call.path.namespace.as_str();
        let found = self
            .subscriptions
            .iter()
            .find(|known| same(&known.id, call.subscription()));
        let lacks = found.is_some_and(|found| !found.is_registered(namespace));
        // Authorization is registered everywhere.
        let exempt = namespace.is_empty() || same(namespace, "Microsoft.Authorization");
        if call.method != Method::PUT || exempt || !lacks {
            return Ok(());
        }
        Err(Refusal::gateway(
            StatusCode::CONFLICT,
            "MissingSubscriptionRegistration",
            format!(
                "The subscription is not registered to use namespace '{namespace}'. See https://aka.ms/rps-not-found for \
                 how to register subscriptions."
            ),
        )
        .with(json!({"details": [{
            "code": "MissingSubscriptionRegistration",
            "target": namespace,
            "message": format!("The subscription is not registered to use namespace '{namespace}'. See \
                https://aka.ms/rps-not-found for how to register subscriptions."),
        }]})))
    }

    fn challenge(&self, headers: &mut HeaderMap) {
        let tenant = self
            .core
            .directory
            .tenants()
            .first()
            .map(|tenant| tenant.id.clone())
            .unwrap_or_default();
        let challenge = format!(
            "Bearer authorization_uri=\"https://login.windows.net/{tenant}\", error=\"invalid_token\", \
             error_description=\"The authentication failed because of missing 'Authorization' header.\""
        );
        if let Ok(challenge) = HeaderValue::from_str(&challenge) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
    }
}

/// The address the caller used.
pub(super) fn host(headers: &HeaderMap, uri: &http::Uri) -> String {
    let named = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    named
        .or(uri.authority().map(http::uri::Authority::as_str))
        .unwrap_or_default()
        .to_owned()
}

/// The body as JSON; writes of resources need one.
fn parse(method: &Method, body: &[u8]) -> Result<Value, Refusal> {
    if body.is_empty() && !matches!(*method, Method::PUT | Method::PATCH) {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body).map_err(|error| {
        Refusal::gateway(
            StatusCode::BAD_REQUEST,
            "InvalidRequestContent",
            format!("The request content was invalid and could not be deserialized: '{error}'."),
        )
    })
}

/// The ids every answer of ARM carries.
fn mark_with_ids(answer: &mut HeaderMap, request: &HeaderMap, now: OffsetDateTime) {
    let id = random_uuid();
    let asked = |name: &str| request.get(name).cloned();
    let fresh = |text: String| HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("unknown"));
    let correlation = asked("x-ms-correlation-request-id").unwrap_or_else(|| fresh(id.clone()));
    let stamp = rfc3339(now).replace(['-', ':'], "");
    answer.insert("x-ms-request-id", fresh(id.clone()));
    answer.insert("x-ms-correlation-request-id", correlation);
    answer.insert("x-ms-routing-request-id", fresh(format!("EASTUS:{stamp}:{id}")));
    let echoed = asked("x-ms-return-client-request-id").is_some_and(|value| value.as_bytes() == b"true");
    if let (true, Some(client)) = (echoed, asked("x-ms-client-request-id")) {
        answer.insert("x-ms-client-request-id", client);
    }
}

/// 401, and why.
fn unauthenticated(fault: &TokenFault, now: OffsetDateTime) -> Refusal {
    let (code, message) = match fault {
        TokenFault::Missing => (
            "AuthenticationFailed",
            "Authentication failed. The 'Authorization' header is missing.".to_owned(),
        ),
        TokenFault::Malformed | TokenFault::Signature => (
            "InvalidAuthenticationToken",
            "The access token is invalid.".to_owned(),
        ),
        TokenFault::Expired(at) => {
            let at = OffsetDateTime::from_unix_timestamp(*at).unwrap_or(now);
            let message = format!(
                "The access token expiry UTC time '{}' is earlier than current UTC time '{}'.",
                rfc3339(at),
                rfc3339(now)
            );
            ("ExpiredAuthenticationToken", message)
        }
        TokenFault::Audience(audience) => {
            let message = format!(
                "The access token has been obtained for wrong audience or resource '{audience}'. It should exactly \
                 match with one of the allowed audiences \
                 'https://management.core.windows.net/','https://management.core.windows.net',\
                 'https://management.azure.com/','https://management.azure.com'."
            );
            ("InvalidAuthenticationTokenAudience", message)
        }
        TokenFault::Unknown => (
            "InvalidAuthenticationToken",
            "The received access token is not valid: its principal does not exist in the directory."
                .to_owned(),
        ),
    };
    Refusal::gateway(StatusCode::UNAUTHORIZED, code, message)
}

/// 403, with principal, action and scope.
pub(super) fn forbidden(caller: &Caller, action: &str, scope: &str) -> Refusal {
    Refusal::gateway(
        StatusCode::FORBIDDEN,
        "AuthorizationFailed",
        format!(
            "The client '{}' with object id '{}' does not have authorization to perform action '{action}' over scope \
             '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials.",
            caller.app_id.as_deref().unwrap_or(&caller.oid),
            caller.oid
        ),
    )
}

fn authorised(state: &State, call: &Call, route: &Route) -> Result<(), Refusal> {
    let Some(action) = &route.action else {
        return Ok(());
    };
    let principals = call.principals();
    let question = Question {
        principals: &principals,
        action,
        scope: &route.scope,
        data: false,
        now: call.now,
    };
    match state.access.denied(question) {
        Some(denial) if state.access.grants(question) => Err(denied(call, &denial, action, &route.scope)),
        None if state.access.grants(question) => Ok(()),
        _ => Err(forbidden(&call.caller, action, &route.scope)),
    }
}

/// The resource group, its lock and its policies; the resource an extension resource belongs to.
fn surroundings(state: &State, call: &Call, route: &Route) -> Result<(), Refusal> {
    let Some(group) = &call.path.group else {
        return Ok(());
    };
    let makes_group = route.target == Target::Surroundings && call.method == Method::PUT;
    let found = state.group(call.subscription(), group);
    let Some(found) = found else {
        if makes_group {
            return Ok(());
        }
        return Err(Refusal::gateway(
            StatusCode::NOT_FOUND,
            "ResourceGroupNotFound",
            format!("Resource group '{group}' could not be found."),
        ));
    };
    if matches!(
        route.target,
        Target::Assignments | Target::Definitions | Target::Permissions | Target::Denials
    ) {
        state.scope_exists(&call.path.scope)?;
    }
    let id = call.path.id();
    let group_id = format!(
        "/subscriptions/{}/resourceGroups/{}",
        call.subscription(),
        found.name
    );
    let (deletes, writes) = (call.method == Method::DELETE, call.method != Method::GET);
    let locked = match found.lock.as_deref() {
        Some("ReadOnly") => writes,
        Some(_) => deletes,
        None => false,
    };
    if locked {
        let verb = if deletes { "delete" } else { "write" };
        return Err(Refusal::gateway(
            StatusCode::CONFLICT,
            "ScopeLocked",
            format!(
                "The scope '{id}' cannot perform {verb} operation because following scope(s) are locked: '{group_id}'. \
                 Please remove the lock and try again."
            ),
        ));
    }
    let denying = found
        .policy_deny
        .as_ref()
        .filter(|_| matches!(call.method, Method::PUT | Method::PATCH));
    if let Some(policy) = denying {
        let name = call.path.names().last().copied().unwrap_or_default();
        let assignment = format!("{group_id}/providers/Microsoft.Authorization/policyAssignments/{policy}");
        return Err(Refusal::gateway(
            StatusCode::FORBIDDEN,
            "RequestDisallowedByPolicy",
            format!(
                "Resource '{name}' was disallowed by policy. Policy identifiers: \
                 '[{{\"policyAssignment\":{{\"name\":\"{policy}\",\"id\":\"{assignment}\"}}}}]'."
            ),
        )
        .with(json!({
            "target": name,
            "additionalInfo": [{
                "type": "PolicyViolation",
                "info": {"policyAssignmentDisplayName": policy, "policyAssignmentId": assignment},
            }],
        })));
    }
    Ok(())
}
