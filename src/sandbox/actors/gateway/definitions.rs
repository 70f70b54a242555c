//! The definitions of Gateway API's standard channel, with the members that are played here: field names, defaults,
//! required members, allowed words and list keys as the bundle has them, no descriptions and no CEL rules.

use serde_json::{Value, json};

const GROUP: &str = "gateway.networking.k8s.io";

/// The definitions of a bundle (`1.3.0`), as AKS installs them.
pub(crate) fn definitions(bundle: &str) -> Vec<Value> {
    let (major, minor) = number(bundle);
    let newer = (major, minor) >= (1, 5);
    let v1_and_beta = [("v1", true), ("v1beta1", false)];
    let grants = if newer {
        [("v1beta1", true), ("v1", false)].as_slice()
    } else {
        [("v1beta1", true)].as_slice()
    };
    let mut all = vec![
        definition(
            bundle,
            ["GatewayClass", "gatewayclasses", "gc"],
            false,
            &v1_and_beta,
            &class(),
        ),
        definition(
            bundle,
            ["Gateway", "gateways", "gtw"],
            true,
            &v1_and_beta,
            &gateway(newer),
        ),
        definition(
            bundle,
            ["HTTPRoute", "httproutes", ""],
            true,
            &v1_and_beta,
            &route(),
        ),
        definition(
            bundle,
            ["ReferenceGrant", "referencegrants", "refgrant"],
            true,
            grants,
            &grant(),
        ),
    ];
    if newer {
        all.push(definition(
            bundle,
            ["ListenerSet", "listenersets", "lset"],
            true,
            &[("v1", true)],
            &listener_set(),
        ));
    }
    all
}

fn number(bundle: &str) -> (u32, u32) {
    let mut parts = bundle.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn definition(
    bundle: &str,
    [kind, plural, short]: [&str; 3],
    namespaced: bool,
    versions: &[(&str, bool)],
    schema: &Value,
) -> Value {
    let has_status = schema["properties"].get("status").is_some();
    let versions: Vec<_> = versions
        .iter()
        .map(|(name, storage)| {
            let mut version = json!({"name": name, "served": true, "storage": storage,
                "schema": {"openAPIV3Schema": schema}});
            if has_status {
                version["subresources"] = json!({"status": {}});
            }
            version
        })
        .collect();
    let mut names = json!({"kind": kind, "listKind": format!("{kind}List"), "plural": plural,
        "singular": kind.to_ascii_lowercase(), "categories": ["gateway-api"]});
    if !short.is_empty() {
        names["shortNames"] = json!([short]);
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}"), "annotations": {
            "gateway.networking.k8s.io/bundle-version": format!("v{bundle}"),
            "gateway.networking.k8s.io/channel": "standard",
            "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api/pull/3328",
        }},
        "spec": {"group": GROUP, "scope": if namespaced { "Namespaced" } else { "Cluster" },
            "names": names, "versions": versions},
    })
}

fn text() -> Value {
    json!({"type": "string"})
}

fn word(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

fn or(mut schema: Value, default: impl Into<Value>) -> Value {
    schema["default"] = default.into();
    schema
}

fn whole_number() -> Value {
    json!({"type": "integer"})
}

fn texts() -> Value {
    json!({"type": "object", "additionalProperties": text()})
}

fn object(properties: &Value, required: &[&str]) -> Value {
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn atomic(items: &Value) -> Value {
    json!({"type": "array", "items": items, "x-kubernetes-list-type": "atomic"})
}

fn keyed(items: &Value, key: &str) -> Value {
    json!({"type": "array", "items": items, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]})
}

fn whole(spec: &Value, status: Option<&Value>) -> Value {
    let mut schema = object(
        &json!({"apiVersion": text(), "kind": text(), "metadata": {"type": "object"}, "spec": spec}),
        &["spec"],
    );
    if let Some(status) = status {
        schema["properties"]["status"] = status.clone();
    }
    schema
}

fn conditions() -> Value {
    let condition = object(
        &json!({"type": text(), "status": word(&["True", "False", "Unknown"]), "reason": text(), "message": text(),
            "observedGeneration": whole_number(), "lastTransitionTime": text()}),
        &["type", "status", "reason", "message", "lastTransitionTime"],
    );
    keyed(&condition, "type")
}

fn class() -> Value {
    let spec = object(
        &json!({"controllerName": text(), "description": text(), "parametersRef": object(
            &json!({"group": text(), "kind": text(), "name": text(), "namespace": text()}), &["group", "kind", "name"])}),
        &["controllerName"],
    );
    whole(&spec, Some(&object(&json!({"conditions": conditions()}), &[])))
}

fn selector() -> Value {
    let expression = object(
        &json!({"key": text(), "operator": text(), "values": atomic(&text())}),
        &["key", "operator"],
    );
    let mut selector = object(
        &json!({"matchLabels": texts(), "matchExpressions": atomic(&expression)}),
        &[],
    );
    selector["x-kubernetes-map-type"] = "atomic".into();
    selector
}

fn listener(of_set: bool) -> Value {
    let reference = object(
        &json!({"group": or(text(), ""), "kind": or(text(), "Secret"), "name": text(), "namespace": text()}),
        &["name"],
    );
    let tls = object(
        &json!({"mode": or(word(&["Terminate", "Passthrough"]), "Terminate"),
            "certificateRefs": atomic(&reference), "options": texts()}),
        &[],
    );
    let namespaces = or(
        object(
            &json!({"from": or(word(&["All", "Selector", "Same"]), "Same"), "selector": selector()}),
            &[],
        ),
        json!({"from": "Same"}),
    );
    let kinds = atomic(&object(
        &json!({"group": or(text(), GROUP), "kind": text()}),
        &["kind"],
    ));
    let allowed = or(
        object(&json!({"namespaces": namespaces, "kinds": kinds}), &[]),
        json!({"namespaces": {"from": "Same"}}),
    );
    // A set's listener may leave its port to the protocol, a Gateway's may not.
    let required: &[&str] = if of_set {
        &["name", "protocol"]
    } else {
        &["name", "port", "protocol"]
    };
    object(
        &json!({"name": text(), "hostname": text(), "port": whole_number(), "protocol": text(), "tls": tls,
            "allowedRoutes": allowed}),
        required,
    )
}

fn listener_status() -> Value {
    let kinds = atomic(&object(
        &json!({"group": or(text(), GROUP), "kind": text()}),
        &["kind"],
    ));
    let status = object(
        &json!({"name": text(), "attachedRoutes": whole_number(), "supportedKinds": kinds, "conditions": conditions(),
            "port": whole_number()}),
        &["name", "attachedRoutes", "conditions"],
    );
    keyed(&status, "name")
}

fn gateway(newer: bool) -> Value {
    let address = object(&json!({"type": or(text(), "IPAddress"), "value": text()}), &[]);
    let infrastructure = object(
        &json!({"labels": texts(), "annotations": texts(), "parametersRef": object(
            &json!({"group": text(), "kind": text(), "name": text()}), &["group", "kind", "name"])}),
        &[],
    );
    let mut spec = object(
        &json!({"gatewayClassName": text(), "listeners": keyed(&listener(false), "name"),
            "addresses": atomic(&address), "infrastructure": infrastructure}),
        &["gatewayClassName", "listeners"],
    );
    let mut status = object(
        &json!({"addresses": atomic(&address), "conditions": conditions(), "listeners": listener_status()}),
        &[],
    );
    if newer {
        let from = or(word(&["All", "Selector", "Same", "None"]), "None");
        let namespaces = or(
            object(&json!({"from": from, "selector": selector()}), &[]),
            json!({"from": "None"}),
        );
        spec["properties"]["allowedListeners"] = object(&json!({"namespaces": namespaces}), &[]);
        status["properties"]["attachedListenerSets"] = whole_number();
    }
    whole(&spec, Some(&status))
}

fn listener_set() -> Value {
    let parent = object(
        &json!({"group": or(text(), GROUP), "kind": or(text(), "Gateway"), "name": text(), "namespace": text()}),
        &["name"],
    );
    let spec = object(
        &json!({"parentRef": parent, "listeners": keyed(&listener(true), "name")}),
        &["parentRef", "listeners"],
    );
    let status = object(
        &json!({"conditions": conditions(), "listeners": listener_status()}),
        &[],
    );
    whole(&spec, Some(&status))
}

fn parent_reference() -> Value {
    object(
        &json!({"group": or(text(), GROUP), "kind": or(text(), "Gateway"), "name": text(), "namespace": text(),
            "sectionName": text(), "port": whole_number()}),
        &["name"],
    )
}

fn route() -> Value {
    let matching = object(
        &json!({
            "path": or(object(&json!({"type": or(word(&["Exact", "PathPrefix", "RegularExpression"]), "PathPrefix"),
                "value": or(text(), "/")}), &[]), json!({"type": "PathPrefix", "value": "/"})),
            "method": text(),
        }),
        &[],
    );
    let redirect = object(
        &json!({"scheme": word(&["http", "https"]), "hostname": text(), "port": whole_number(),
            "statusCode": or(json!({"type": "integer"}), 302)}),
        &[],
    );
    let filter = object(
        &json!({"type": word(&["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "RequestRedirect",
            "URLRewrite", "ExtensionRef"]), "requestRedirect": redirect}),
        &["type"],
    );
    let backend = object(
        &json!({"group": or(text(), ""), "kind": or(text(), "Service"), "name": text(), "namespace": text(),
            "port": whole_number(), "weight": or(whole_number(), 1)}),
        &["name"],
    );
    let rule = object(
        &json!({"name": text(), "backendRefs": atomic(&backend), "filters": atomic(&filter),
            "matches": or(atomic(&matching), json!([{"path": {"type": "PathPrefix", "value": "/"}}]))}),
        &[],
    );
    let spec = object(
        &json!({"parentRefs": atomic(&parent_reference()), "hostnames": atomic(&text()),
            "rules": or(atomic(&rule), json!([{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}]))}),
        &[],
    );
    let parent = object(
        &json!({"parentRef": parent_reference(), "controllerName": text(), "conditions": conditions()}),
        &["parentRef", "controllerName", "conditions"],
    );
    whole(
        &spec,
        Some(&object(&json!({"parents": atomic(&parent)}), &["parents"])),
    )
}

fn grant() -> Value {
    let from = object(
        &json!({"group": text(), "kind": text(), "namespace": text()}),
        &["group", "kind", "namespace"],
    );
    let to = object(
        &json!({"group": text(), "kind": text(), "name": text()}),
        &["group", "kind"],
    );
    let spec = object(
        &json!({"from": atomic(&from), "to": atomic(&to)}),
        &["from", "to"],
    );
    whole(&spec, None)
}
