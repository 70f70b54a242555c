//! Gateways, routes and listener sets, judged by their conditions and by what is served.

use http::Method;
use serde_json::{Value, json};

use super::rig::{HOST, Rig};
use super::{CLASSES, DEPLOYMENTS, SECRETS, class, deployment, subject};
use crate::sandbox::actors::gateway_definitions;

const GROUP: &str = "/apis/gateway.networking.k8s.io";
const EDGE: &str = "127.0.1.2";

fn path(space: &str, plural: &str) -> String {
    let version = if plural == "referencegrants" {
        "v1beta1"
    } else {
        "v1"
    };
    format!("{GROUP}/{version}/namespaces/{space}/{plural}")
}

fn gateway(space: &str, name: &str, listeners: &Value) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": name, "namespace": space},
        "spec": {"gatewayClassName": "approuting-istio", "listeners": listeners}})
}

fn https(secret: &Value) -> Value {
    json!({"name": "https", "hostname": HOST, "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [secret]}})
}

fn route(name: &str, parent: &Value, rules: &Value) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"parentRefs": [parent], "hostnames": [HOST], "rules": rules}})
}

fn to_app() -> Value {
    json!([{"backendRefs": [{"name": "app", "port": 80}]}])
}

/// `Type=Status/Reason` of conditions that are judged for the object's own generation.
fn conditions(object: &Value, of: &Value) -> Vec<String> {
    let generation = &object["metadata"]["generation"];
    let all = of["conditions"].as_array().into_iter().flatten();
    all.filter(|condition| condition["observedGeneration"] == *generation)
        .map(|condition| {
            let word = |member: &str| condition[member].as_str().unwrap_or_default().to_owned();
            format!("{}={}/{}", word("type"), word("status"), word("reason"))
        })
        .collect()
}

/// A cluster with the bundle, a certificate in Secret `default/ingress-tls` and a Service with an endpoint.
async fn with_secret(bundle: &str) -> Rig {
    let rig = Rig::start().await;
    for definition in gateway_definitions(bundle) {
        rig.create(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            definition,
        )
        .await;
    }
    rig.enable().await;
    rig.create(CLASSES, class()).await;
    rig.create(DEPLOYMENTS, deployment()).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app", "namespace": "default"},
        "spec": {"selector": {"app": "holder"}, "ports": [{"port": 80}]}});
    rig.create("/api/v1/namespaces/default/services", service).await;
    settled(&rig).await;
    rig
}

async fn settled(rig: &Rig) {
    rig.settle().await;
    rig.advance(1).await;
}

#[tokio::test]
async fn a_gateway_serves_its_secret_and_says_so() {
    let rig = with_secret("1.3.0").await;
    let http = json!({"name": "http", "hostname": HOST, "port": 80, "protocol": "HTTP"});
    let listeners = json!([https(&json!({"name": "ingress-tls"})), http]);
    rig.create(
        &path("default", "gateways"),
        gateway("default", "web", &listeners),
    )
    .await;
    let redirect = json!([{"filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}]}]);
    for (name, section, rules) in [("app", "https", to_app()), ("redirect", "http", redirect)] {
        let parent = json!({"name": "web", "sectionName": section});
        rig.create(&path("default", "httproutes"), route(name, &parent, &rules))
            .await;
    }
    settled(&rig).await;

    let class = rig
        .get(&format!("{GROUP}/v1/gatewayclasses/approuting-istio"))
        .await;
    assert_eq!(conditions(&class, &class["status"]), ["Accepted=True/Accepted"]);
    let web = rig.get(&format!("{}/web", path("default", "gateways"))).await;
    assert_eq!(
        conditions(&web, &web["status"]),
        ["Accepted=True/Accepted", "Programmed=True/Programmed"]
    );
    assert_eq!(
        web["status"]["addresses"],
        json!([{"type": "IPAddress", "value": EDGE}])
    );
    let listener = &web["status"]["listeners"][0];
    assert_eq!(listener["attachedRoutes"], 1);
    assert_eq!(
        conditions(&web, listener),
        [
            "Accepted=True/Accepted",
            "Conflicted=False/NoConflicts",
            "Programmed=True/Programmed",
            "ResolvedRefs=True/ResolvedRefs"
        ]
    );
    let app = rig.get(&format!("{}/app", path("default", "httproutes"))).await;
    let parent = &app["status"]["parents"][0];
    assert_eq!(parent["controllerName"], "istio.aks.azure.com/gateway-controller");
    assert_eq!(
        conditions(&app, parent),
        ["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"]
    );

    let (leaf, answer) = rig.visit_at(EDGE, HOST).await.unwrap();
    assert_eq!(subject(&leaf), format!("CN={HOST}"));
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("default/app:80"),
        "{answer}"
    );
    let plain = rig.visit_plain(EDGE, HOST).await;
    assert!(
        plain.starts_with("HTTP/1.1 301") && plain.contains(&format!("https://{HOST}/")),
        "{plain}"
    );
    assert_eq!(
        rig.edges.by_host(HOST),
        rig.edges.by_address(EDGE.parse().unwrap())
    );

    // What Istio brings along goes with the Gateway.
    let pods = rig.items("/api/v1/namespaces/default/pods").await;
    assert!(
        pods.iter()
            .any(|pod| pod["metadata"]["labels"]["gateway.networking.k8s.io/gateway-name"] == "web")
    );
    rig.call(
        Method::DELETE,
        &format!("{}/web", path("default", "gateways")),
        None,
    )
    .await;
    settled(&rig).await;
    assert_eq!(
        rig.get(&format!("{DEPLOYMENTS}/web-approuting-istio")).await,
        Value::Null
    );
    rig.visit_at(EDGE, HOST).await.unwrap_err();
}

#[tokio::test]
async fn a_listener_without_a_certificate_says_why_and_refuses_handshakes() {
    let rig = with_secret("1.3.0").await;
    let listeners = json!([
        https(&json!({"name": "no-such"})),
        {"name": "text", "hostname": "b.example.com", "port": 443, "protocol": "HTTPS",
            "tls": {"certificateRefs": [{"name": "malformed"}]}},
        {"name": "twice", "hostname": HOST, "port": 443, "protocol": "HTTPS",
            "tls": {"certificateRefs": [{"name": "ingress-tls"}]}},
    ]);
    let malformed = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "malformed", "namespace": "default"}, "data": {"tls.crt": "YQ==", "tls.key": "YQ=="}});
    rig.create(SECRETS, malformed).await;
    rig.create(
        &path("default", "gateways"),
        gateway("default", "web", &listeners),
    )
    .await;
    for (name, parent) in [
        ("nowhere", json!({"name": "web", "sectionName": "no-such"})),
        ("elsewhere", json!({"name": "web", "sectionName": "text"})),
        ("unknown", json!({"name": "no-such"})),
    ] {
        let rules = json!([{"backendRefs": [{"name": "no-such", "port": 80}]}]);
        rig.create(&path("default", "httproutes"), route(name, &parent, &rules))
            .await;
    }
    settled(&rig).await;
    let web = rig.get(&format!("{}/web", path("default", "gateways"))).await;
    assert_eq!(
        conditions(&web, &web["status"]),
        ["Accepted=False/ListenersNotValid", "Programmed=False/Invalid"]
    );
    let listeners = &web["status"]["listeners"];
    for index in [0, 1] {
        let said = conditions(&web, &listeners[index]);
        assert!(
            said.contains(&"ResolvedRefs=False/InvalidCertificateRef".to_owned()),
            "{said:?}"
        );
        assert!(said.contains(&"Programmed=False/Invalid".to_owned()), "{said:?}");
    }
    let said = conditions(&web, &listeners[2]);
    assert!(
        said.contains(&"Conflicted=True/HostnameConflict".to_owned()),
        "{said:?}"
    );
    rig.visit_at(EDGE, HOST).await.unwrap_err();

    let parents = async |name: &str| {
        let route = rig
            .get(&format!("{}/{name}", path("default", "httproutes")))
            .await;
        conditions(&route, &route["status"]["parents"][0])
    };
    assert_eq!(
        parents("nowhere").await,
        [
            "Accepted=False/NoMatchingParent",
            "ResolvedRefs=False/BackendNotFound"
        ]
    );
    assert_eq!(
        parents("elsewhere").await[0],
        "Accepted=False/NoMatchingListenerHostname"
    );
    assert_eq!(parents("unknown").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_certificate_of_another_namespace_needs_a_grant_there() {
    let rig = with_secret("1.3.0").await;
    let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "infra"}});
    rig.create("/api/v1/namespaces", space).await;
    let mut listener = https(&json!({"name": "ingress-tls", "namespace": "default"}));
    listener["allowedRoutes"] = json!({"namespaces": {"from": "All"}});
    rig.create(
        &path("infra", "gateways"),
        gateway("infra", "shared", &json!([listener])),
    )
    .await;
    let parent = json!({"name": "shared", "namespace": "infra"});
    rig.create(&path("default", "httproutes"), route("app", &parent, &to_app()))
        .await;
    settled(&rig).await;
    let shared = async || {
        let shared = rig.get(&format!("{}/shared", path("infra", "gateways"))).await;
        conditions(&shared, &shared["status"]["listeners"][0])
    };
    assert!(
        shared()
            .await
            .contains(&"ResolvedRefs=False/RefNotPermitted".to_owned())
    );
    rig.visit_at(EDGE, HOST).await.unwrap_err();

    let grant = |secret: &str| {
        json!({"apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
            "metadata": {"name": secret, "namespace": "default"},
            "spec": {"from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "infra"}],
                "to": [{"group": "", "kind": "Secret", "name": secret}]}})
    };
    rig.create(&path("default", "referencegrants"), grant("another"))
        .await;
    settled(&rig).await;
    assert!(
        shared()
            .await
            .contains(&"ResolvedRefs=False/RefNotPermitted".to_owned())
    );
    rig.create(&path("default", "referencegrants"), grant("ingress-tls"))
        .await;
    settled(&rig).await;
    assert!(
        shared()
            .await
            .contains(&"ResolvedRefs=True/ResolvedRefs".to_owned())
    );
    assert_eq!(
        subject(&rig.visit_at(EDGE, HOST).await.unwrap().0),
        format!("CN={HOST}")
    );
}

#[tokio::test]
async fn a_listener_set_hangs_on_a_gateway_that_lets_it() {
    let rig = with_secret("1.5.1").await;
    let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "infra"}});
    rig.create("/api/v1/namespaces", space).await;
    let plain = json!([{"name": "http", "port": 80, "protocol": "HTTP"}]);
    rig.create(&path("infra", "gateways"), gateway("infra", "shared", &plain))
        .await;
    let set = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "ListenerSet",
        "metadata": {"name": "app", "namespace": "default"},
        "spec": {"parentRef": {"name": "shared", "namespace": "infra"},
            "listeners": [https(&json!({"name": "ingress-tls"}))]}});
    rig.create(&path("default", "listenersets"), set).await;
    let parent = json!({"kind": "ListenerSet", "name": "app", "sectionName": "https"});
    rig.create(&path("default", "httproutes"), route("app", &parent, &to_app()))
        .await;
    settled(&rig).await;
    let of = async |plural: &str| rig.get(&format!("{}/app", path("default", plural))).await;
    let set = of("listenersets").await;
    assert_eq!(
        conditions(&set, &set["status"]),
        ["Accepted=False/NotAllowed", "Programmed=False/NotAllowed"]
    );
    rig.visit_at(EDGE, HOST).await.unwrap_err();

    let shared = rig.get(&format!("{}/shared", path("infra", "gateways"))).await;
    let mut allowing = shared.clone();
    allowing["spec"]["allowedListeners"] = json!({"namespaces": {"from": "All"}});
    let (status, _) = rig
        .call(
            Method::PUT,
            &format!("{}/shared", path("infra", "gateways")),
            Some(&allowing),
        )
        .await;
    assert!(status.is_success());
    settled(&rig).await;
    let set = of("listenersets").await;
    assert_eq!(
        conditions(&set, &set["status"]),
        ["Accepted=True/Accepted", "Programmed=True/Programmed"]
    );
    assert_eq!(set["status"]["listeners"][0]["attachedRoutes"], 1);
    let route = of("httproutes").await;
    assert_eq!(
        conditions(&route, &route["status"]["parents"][0])[0],
        "Accepted=True/Accepted"
    );
    let shared = rig.get(&format!("{}/shared", path("infra", "gateways"))).await;
    assert_eq!(shared["status"]["attachedListenerSets"], 1);
    assert_eq!(
        subject(&rig.visit_at(EDGE, HOST).await.unwrap().0),
        format!("CN={HOST}")
    );
}
