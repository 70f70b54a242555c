//! Reviews: questions that are answered and not stored, and requests for tokens.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::access::{self, Deed};
use super::authentication;
use super::refusal::{Outcome, Refusal};
use super::request::{Call, stamp};
use super::server::{ApiServer, Identity};
use super::store::{meta, text_at};
use crate::sandbox::http::{Answer, json as answer_json};

/// Answers a review or a token request; `None` if the call is neither.
pub(super) fn answer(server: &ApiServer, call: &Call) -> Option<Outcome<Answer>> {
    let target = &call.target;
    let work: fn(&ApiServer, &Call, &Value) -> Outcome<Value> = match (
        target.group.as_str(),
        target.resource.as_str(),
        target.subresource.as_str(),
    ) {
        ("authentication.k8s.io", "selfsubjectreviews", _) => self_review,
        ("authentication.k8s.io", "tokenreviews", _) => token_review,
        ("authorization.k8s.io", "selfsubjectaccessreviews", _) => self_access,
        ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews", _) => access_of_others,
        ("authorization.k8s.io", "selfsubjectrulesreviews", _) => self_rules,
        ("", "serviceaccounts", "token") => token_request,
        _ => return None,
    };
    if call.method != Method::POST {
        return Some(Err(Refusal::method_not_allowed()));
    }
    let answer = call.json().and_then(|body| work(server, call, &body));
    Some(answer.map(|object| answer_json(StatusCode::CREATED, &object)))
}

fn user_json(user: &Identity) -> Value {
    let mut json = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        json["uid"] = Value::from(user.uid.as_str());
    }
    json
}

fn answered(kind: &str, group: &str, body: &Value, status: &Value) -> Value {
    let mut object = json!({
        "kind": kind, "apiVersion": format!("{group}/v1"), "metadata": {"creationTimestamp": null}, "status": status,
    });
    if let Some(spec) = body.get("spec") {
        object["spec"] = spec.clone();
    }
    object
}

fn self_review(_server: &ApiServer, call: &Call, _body: &Value) -> Outcome<Value> {
    let status = json!({"userInfo": user_json(&call.user)});
    let mut object = answered(
        "SelfSubjectReview",
        "authentication.k8s.io",
        &Value::Null,
        &status,
    );
    object["metadata"]["creationTimestamp"] = Value::from(call.stamp());
    Ok(object)
}

fn token_review(server: &ApiServer, _call: &Call, body: &Value) -> Outcome<Value> {
    let status = match server.judge(text_at(body, &["spec", "token"])) {
        Some(user) => {
            let user = authentication::complete(user);
            let audiences = body
                .pointer("/spec/audiences")
                .cloned()
                .unwrap_or_else(|| json!([server.issuer()]));
            json!({"authenticated": true, "user": user_json(&user), "audiences": audiences})
        }
        None => json!({"user": {}, "error": "[invalid bearer token, token lookup failed]"}),
    };
    Ok(answered("TokenReview", "authentication.k8s.io", body, &status))
}

fn judged(server: &ApiServer, user: &Identity, spec: &Value) -> Outcome<Value> {
    let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
    let deed =
        Deed::asked(spec).ok_or_else(|| Refusal::bad_request(format!("spec.resourceAttributes: {why}")))?;
    Ok(
        match server.with_store(|store| access::allowed(store, user, &deed)) {
            Ok(reason) if reason.is_empty() => json!({"allowed": true}),
            Ok(reason) => json!({"allowed": true, "reason": reason}),
            Err(Some(reason)) => json!({"allowed": false, "reason": reason}),
            Err(None) => json!({"allowed": false}),
        },
    )
}

fn self_access(server: &ApiServer, call: &Call, body: &Value) -> Outcome<Value> {
    let status = judged(server, &call.user, &body["spec"])?;
    Ok(answered(
        "SelfSubjectAccessReview",
        "authorization.k8s.io",
        body,
        &status,
    ))
}

fn access_of_others(server: &ApiServer, call: &Call, body: &Value) -> Outcome<Value> {
    let spec = &body["spec"];
    let groups = spec.get("groups").and_then(Value::as_array);
    let user = Identity {
        name: text_at(spec, &["user"]).to_owned(),
        uid: text_at(spec, &["uid"]).to_owned(),
        groups: groups
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    };
    let status = judged(server, &user, spec)?;
    let local = call.target.resource == "localsubjectaccessreviews";
    let kind = if local {
        "LocalSubjectAccessReview"
    } else {
        "SubjectAccessReview"
    };
    Ok(answered(kind, "authorization.k8s.io", body, &status))
}

fn self_rules(server: &ApiServer, call: &Call, body: &Value) -> Outcome<Value> {
    let namespace = text_at(body, &["spec", "namespace"]);
    let masters = call.user.groups.iter().any(|group| group == "system:masters");
    let rules = if masters {
        vec![
            json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}),
            json!({"verbs": ["*"], "nonResourceURLs": ["*"]}),
        ]
    } else {
        server.with_store(|store| access::rules(store, &call.user, namespace))
    };
    let (paths, resources): (Vec<_>, Vec<_>) = rules
        .into_iter()
        .partition(|rule| rule.get("nonResourceURLs").is_some());
    let status = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
    Ok(answered(
        "SelfSubjectRulesReview",
        "authorization.k8s.io",
        body,
        &status,
    ))
}

fn token_request(server: &ApiServer, call: &Call, body: &Value) -> Outcome<Value> {
    let (namespace, name) = (call.target.place(), call.target.name.as_str());
    let account = server.with_store(|store| store.get_at("", "serviceaccounts", namespace, name));
    let account = account.ok_or_else(|| Refusal::not_found("serviceaccounts", name))?;
    let spec = body.get("spec").cloned().unwrap_or_default();
    let seconds = spec
        .get("expirationSeconds")
        .and_then(Value::as_i64)
        .unwrap_or(3600);
    if seconds < 600 {
        let why = "may not specify a duration less than 10 minutes";
        let cause = super::refusal::Cause::invalid("spec.expirationSeconds", &Value::from(seconds), why);
        return Err(Refusal::invalid(
            "TokenRequest.authentication.k8s.io",
            "",
            &[cause],
        ));
    }
    let audiences = match spec.get("audiences").and_then(Value::as_array) {
        Some(list) if !list.is_empty() => list.clone(),
        _ => vec![Value::from(server.issuer())],
    };
    let now = server.now();
    let expiry = now + time::Duration::seconds(seconds);
    let mut own = json!({
        "namespace": namespace, "serviceaccount": {"name": name, "uid": meta(&account, "uid")},
    });
    if let Some(bound) = spec.get("boundObjectRef").filter(|bound| bound["kind"] == "Pod") {
        own["pod"] = json!({"name": bound["name"], "uid": bound["uid"]});
    }
    let claims = json!({
        "aud": audiences, "exp": expiry.unix_timestamp(), "iat": now.unix_timestamp(), "nbf": now.unix_timestamp(),
        "iss": server.issuer(), "jti": uuid::Uuid::new_v4().to_string(), "kubernetes.io": own,
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
    });
    let token = server
        .issue(&claims)
        .ok_or_else(|| Refusal::internal("the server has no key to sign with"))?;
    let mut wanted = json!({"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": null});
    if let Some(bound) = spec.get("boundObjectRef") {
        wanted["boundObjectRef"] = bound.clone();
    }
    Ok(json!({
        "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": stamp(now)},
        "spec": wanted, "status": {"token": token, "expirationTimestamp": stamp(expiry)},
    }))
}
