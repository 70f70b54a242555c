//! Gateway API: a Gateway of one's own, listeners at somebody else's, and the way from Ingress to Gateway.

use kvtls::sandbox::demo::QUICKSTART;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::probe::Probe;
use crate::terraform::{SHOP, Terraform};
use crate::world::{CLUSTER, HOST, INGRESS, World};

const GATEWAYS: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/default/gateways";
const SHARED: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/infra/gateways/shared";
const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes";
const APPLY: &str = "application/apply-patch+yaml";

const RULES: &str =
    "rules = [{ host = \"myapp.example.com\", paths = [{ service = \"my-app-service\", port = 80 }] }]";

/// The quickstart's Ingress.
pub(crate) fn ingress() -> String {
    format!("ingress = {{\n    class_name = \"nginx\"\n    {RULES}\n  }}")
}

pub(crate) fn own_gateway() -> String {
    format!("gateway = {{\n    class_name = \"approuting-istio\"\n    {RULES}\n  }}")
}

pub(crate) fn at_shared(attach: &str) -> String {
    format!(
        "gateway = {{\n    parent = {{ namespace = \"infra\", name = \"shared\", attach = \"{attach}\" }}\n    {RULES}\n  }}"
    )
}

/// The quickstart with these lines in place of its Ingress.
pub(crate) fn quickstart_with(lines: &str) -> String {
    let (before, rest) = QUICKSTART.split_once("ingress = {").expect("an ingress");
    let (_, after) = rest.split_once("\n  }").expect("its end");
    format!("{before}{lines}{after}")
}

/// A cluster whose Gateway API has ListenerSets, and a controller that plays them.
fn with_listener_sets() -> Value {
    let edges = json!([
        { "name": "nginx", "kind": "ingress", "class": "nginx", "controller": "k8s.io/ingress-nginx",
            "address": "127.0.1.1", "reachable": true },
        { "name": "approuting-istio", "kind": "gateway", "class": "approuting-istio",
            "controller": "istio.aks.azure.com/gateway-controller", "address": "127.0.1.2", "reachable": true,
            "accepts_listener_sets": true },
    ]);
    json!({ "clusters": { CLUSTER: { "gateway_api": "1.5.1", "edges": edges } } })
}

/// Load balancers that publish host names.
fn with_host_names() -> Value {
    let edges = json!([
        { "name": "nginx", "kind": "ingress", "class": "nginx", "controller": "k8s.io/ingress-nginx",
            "address": "ingress.elb.example", "reachable": true },
        { "name": "approuting-istio", "kind": "gateway", "class": "approuting-istio",
            "controller": "istio.aks.azure.com/gateway-controller", "address": "gateway.elb.example", "reachable": true },
    ]);
    json!({ "clusters": { CLUSTER: { "edges": edges } } })
}

/// Somebody else's Gateway in namespace `infra`.
pub(crate) async fn shared_gateway(world: &World, spec: Value) {
    let space = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "infra" } });
    let made = world
        .kubernetes(
            Method::PATCH,
            "/api/v1/namespaces/infra?fieldManager=platform",
            Some((APPLY, &space)),
        )
        .await;
    assert!(made.status.is_success(), "{made:?}");
    let mut spec = spec;
    spec["gatewayClassName"] = json!("approuting-istio");
    let gateway = json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": { "name": "shared", "namespace": "infra" }, "spec": spec });
    let made = world
        .kubernetes(
            Method::PATCH,
            &format!("{SHARED}?fieldManager=platform&force=true"),
            Some((APPLY, &gateway)),
        )
        .await;
    assert!(made.status.is_success(), "{made:?}");
    world.settle().await;
}

/// What others wrote on the Gateway, its controller's status aside.
async fn written_on(world: &World, path: &str) -> (Value, Vec<Value>) {
    let gateway = world.kubernetes(Method::GET, path, None).await.body;
    let fields = gateway["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let fields = fields
        .into_iter()
        .filter(|entry| entry["subresource"] != "status");
    (gateway["spec"].clone(), fields.collect())
}

async fn is_there(world: &World, path: &str) -> bool {
    world.kubernetes(Method::GET, path, None).await.status == StatusCode::OK
}

/// What the edge of this name serves for the host.
pub(crate) async fn thumbprint_at(world: &World, edge: &str) -> Value {
    let edges = world.look("/edges").await;
    let hosts = edges[format!("{CLUSTER}/{edge}")]["hosts"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let found = hosts.into_iter().find(|host| host["host"] == HOST);
    found.map_or(Value::Null, |host| host["thumbprint"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn s19_a_published_host_name_is_asked_and_handed_out() {
    let world = World::with(with_host_names()).await;
    world.settle().await;
    let both = quickstart_with(&format!("{}\n  {}", ingress(), own_gateway()));
    let terraform = Terraform::new(&world.deployer, &both);
    terraform.apply().await.succeeds();
    let state = terraform.state(SHOP).await.expect("the shop");
    assert_eq!(state["status"]["phase"], "served", "{state:#}");
    let addresses = json!({ "ingress": "ingress.elb.example", "gateway": "gateway.elb.example" });
    assert_eq!(state["addresses"], addresses, "{state:#}");
    let gateway = world
        .kubernetes(Method::GET, &format!("{GATEWAYS}/shop"), None)
        .await;
    let published = json!([{ "type": "Hostname", "value": "gateway.elb.example" }]);
    assert_eq!(gateway.body["status"]["addresses"], published);
    terraform.plan_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s19_a_gateway_of_ones_own_serves_redirects_drifts_and_goes() {
    let world = World::start().await;
    world.settle().await;
    let before = world.inventory().await;
    let terraform = Terraform::new(&world.deployer, &quickstart_with(&own_gateway()));
    terraform.apply().await.succeeds();
    assert_eq!(
        thumbprint_at(&world, "approuting-istio").await,
        world.in_vault().await
    );
    assert_eq!(world.served().await, world.in_vault().await);
    let state = terraform.state(SHOP).await.expect("the shop");
    assert_eq!(state["status"]["phase"], "served", "{state:#}");
    assert_eq!(state["addresses"]["gateway"], "127.0.1.2", "{state:#}");
    for key in ["Gateway/shop", "HTTPRoute/shop", "HTTPRoute/shop-redirect"] {
        assert!(state["manifests"][key].is_string(), "{key}: {state:#}");
    }
    terraform.plan_is_empty().await;

    // Somebody opens a port and somebody else deletes a route.
    let live = world
        .kubernetes(Method::GET, &format!("{GATEWAYS}/shop"), None)
        .await
        .body;
    let mut listeners = live["spec"]["listeners"].clone();
    listeners[0]["port"] = json!(8443);
    let edit = json!({ "spec": { "listeners": listeners } });
    let edited = world
        .kubernetes(
            Method::PATCH,
            &format!("{GATEWAYS}/shop?fieldManager=kubectl-edit"),
            Some(("application/merge-patch+json", &edit)),
        )
        .await;
    assert!(edited.status.is_success(), "{edited:?}");
    world
        .kubernetes(Method::DELETE, &format!("{ROUTES}/shop"), None)
        .await;
    world.settle().await;
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    plan.warning(&["KVTLS-W207", "Gateway default/shop", "kubectl-edit"]);
    terraform.apply().await.succeeds();
    let live = world
        .kubernetes(Method::GET, &format!("{GATEWAYS}/shop"), None)
        .await
        .body;
    assert_eq!(live["spec"]["listeners"][0]["port"], 443, "{live:#}");
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;

    let second = Terraform::new(&world.deployer, &quickstart_with(&own_gateway()));
    second.import(SHOP, &world.binding_id()).await.succeeds();
    second.plan_is_empty().await;

    terraform.destroy().await.succeeds();
    world.settle().await;
    let after = world.inventory().await;
    assert_eq!(after.all_ours(), Vec::<String>::new());
    assert_eq!(after.missing_since(&before), Vec::<String>::new());
}

/// The example in the repository, as it stands there.
#[tokio::test(flavor = "multi_thread")]
async fn s19_the_example_serves_through_its_gateway() {
    let world = World::start().await;
    let terraform = Terraform::new(&world.deployer, include_str!("../../examples/gateway/main.tf"));
    terraform.apply().await.succeeds();
    assert_eq!(
        thumbprint_at(&world, "approuting-istio").await,
        world.in_vault().await
    );
    terraform.plan_is_empty().await;

    // Another name: the new Gateway is there and serves before the old one goes.
    let renamed = include_str!("../../examples/gateway/main.tf").replacen(
        "class_name = \"approuting-istio\"",
        "class_name = \"approuting-istio\"\n    name = \"front\"\n    addresses = [\"127.0.1.2\"]\n    \
         infrastructure = { annotations = { internal = \"yes\" } }",
        1,
    );
    terraform.write(&renamed);
    terraform.apply().await.succeeds();
    let front = world
        .kubernetes(Method::GET, &format!("{GATEWAYS}/front"), None)
        .await
        .body;
    let asked = json!([{ "type": "IPAddress", "value": "127.0.1.2" }]);
    assert_eq!(front["spec"]["addresses"], asked, "{front:#}");
    let service = "/api/v1/namespaces/default/services/front-approuting-istio";
    let service = world.kubernetes(Method::GET, service, None).await.body;
    assert_eq!(
        service["metadata"]["annotations"]["internal"], "yes",
        "{service:#}"
    );
    assert!(!is_there(&world, &format!("{GATEWAYS}/shop")).await);
    assert_eq!(
        thumbprint_at(&world, "approuting-istio").await,
        world.in_vault().await
    );
    terraform.plan_is_empty().await;
    terraform.destroy().await.succeeds();
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn s19_a_listener_set_joins_a_foreign_gateway_that_is_never_written() {
    let world = World::with(with_listener_sets()).await;
    let plain = json!([{ "name": "http", "port": 8080, "protocol": "HTTP" }]);
    shared_gateway(&world, json!({ "listeners": plain })).await;
    let terraform = Terraform::new(&world.deployer, &quickstart_with(&at_shared("listener_set")));
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    plan.warning(&["KVTLS-E434", "allowedListeners"]);
    let before = world.inventory().await;
    terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E434", "allowedListeners"]);
    assert_eq!(world.inventory().await, before, "nothing was written");

    let allowing = json!({ "listeners": plain, "allowedListeners": { "namespaces": { "from": "All" } } });
    shared_gateway(&world, allowing).await;
    let written = written_on(&world, SHARED).await;
    terraform.apply().await.succeeds();
    assert_eq!(
        thumbprint_at(&world, "approuting-istio").await,
        world.in_vault().await
    );
    let state = terraform.state(SHOP).await.expect("the shop");
    assert_eq!(state["addresses"]["gateway"], "127.0.1.2", "{state:#}");
    assert_eq!(state["status"]["phase"], "served", "{state:#}");
    terraform.plan_is_empty().await;

    let second = Terraform::new(&world.deployer, &quickstart_with(&at_shared("listener_set")));
    second.import(SHOP, &world.binding_id()).await.succeeds();
    second.plan_is_empty().await;

    terraform.destroy().await.succeeds();
    world.settle().await;
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
    assert_eq!(
        written_on(&world, SHARED).await,
        written,
        "the foreign Gateway is as it was"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s19_by_reference_the_owner_decides_and_the_grant_permits() {
    let world = World::start().await;
    let listener = |secret: &str| {
        json!({ "listeners": [{ "name": "https", "hostname": "*.example.com", "port": 443, "protocol": "HTTPS",
            "tls": { "certificateRefs": [{ "name": secret, "namespace": "default" }] },
            "allowedRoutes": { "namespaces": { "from": "All" } } }] })
    };
    shared_gateway(&world, listener("somebody-elses")).await;
    let verified = format!("verify = {{ timeout = \"10s\" }}\n  {}", at_shared("reference"));
    let terraform = Terraform::new(&world.deployer, &quickstart_with(&verified));
    // The owner has not written the Secret yet, and is told how.
    let apply = terraform.apply().await;
    apply.fails_with(&["KVTLS-E621", "name: shop-my-tls-cert, namespace: default"]);

    shared_gateway(&world, listener("shop-my-tls-cert")).await;
    let written = written_on(&world, SHARED).await;
    terraform.command(&["untaint", SHOP]).await.succeeds();
    terraform.apply().await.succeeds();
    assert_eq!(
        thumbprint_at(&world, "approuting-istio").await,
        world.in_vault().await
    );
    let grant = "/apis/gateway.networking.k8s.io/v1beta1/namespaces/default/referencegrants/shop";
    let grant = world.kubernetes(Method::GET, grant, None).await.body;
    assert_eq!(
        grant["spec"]["to"],
        json!([{ "group": "", "kind": "Secret", "name": "shop-my-tls-cert" }])
    );
    terraform.plan_is_empty().await;
    terraform.destroy().await.succeeds();
    world.settle().await;
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
    assert_eq!(
        written_on(&world, SHARED).await,
        written,
        "the foreign Gateway is as it was"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn s19_from_ingress_to_gateway_no_handshake_fails() {
    let world = World::start().await;
    let terraform = Terraform::new(&world.deployer, &quickstart_with(&ingress()));
    terraform.apply().await.succeeds();
    let probe = Probe::start(&world, world.in_vault().await);

    terraform.write(&quickstart_with(&format!("{}\n  {}", ingress(), own_gateway())));
    terraform.apply().await.succeeds();
    let state = terraform.state(SHOP).await.expect("the shop");
    assert_eq!(state["addresses"]["ingress"], "127.0.1.1", "{state:#}");
    assert_eq!(state["addresses"]["gateway"], "127.0.1.2", "{state:#}");
    assert_eq!(state["status"]["phase"], "served", "{state:#}");
    terraform.plan_is_empty().await;

    world
        .control(
            Method::PATCH,
            "/world",
            json!({ "dns": { HOST: "approuting-istio" } }),
        )
        .await;
    terraform.write(&quickstart_with(&own_gateway()));
    terraform.apply().await.succeeds();
    assert!(!is_there(&world, INGRESS).await, "the Ingress is gone");
    assert_eq!(probe.failures().await, Vec::<String>::new());
    let state = terraform.state(SHOP).await.expect("the shop");
    assert_eq!(state["addresses"]["ingress"], Value::Null, "{state:#}");
    terraform.plan_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_what_gateway_api_lacks_warns_in_the_plan_and_stops_apply_before_its_first_write() {
    let world = World::with(json!({ "clusters": { CLUSTER: { "gateway_api": null, "edges": [] } } })).await;
    world.settle().await;
    let before = world.inventory().await;
    let terraform = Terraform::new(&world.deployer, &quickstart_with(&own_gateway()));
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    plan.warning(&["KVTLS-E431", "--enable-gateway-api"]);
    terraform.apply().await.fails_with(&["KVTLS-E431"]);
    assert_eq!(world.inventory().await, before, "nothing was written");

    let world = World::start().await;
    let unknown = quickstart_with(&own_gateway()).replacen("approuting-istio", "istioo", 1);
    let terraform = Terraform::new(&world.deployer, &unknown);
    terraform.apply().await.fails_with(&["KVTLS-E432", "istioo"]);
    terraform.write(&quickstart_with(&at_shared("reference")));
    terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E433", "infra/shared"]);
    shared_gateway(
        &world,
        json!({ "listeners": [{ "name": "http", "port": 80, "protocol": "HTTP" }] }),
    )
    .await;
    terraform.write(&quickstart_with(&at_shared("listener_set")));
    terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E435", "attach = \"reference\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn f_contradictions_of_a_gateway_are_told_on_the_attribute() {
    let world = World::start().await;
    let rows = [
        (format!("gateway = {{ {RULES} }}"), "exactly one of class_name and parent must be set; none is set"),
        (
            own_gateway().replacen("class_name", "parent = { namespace = \"infra\", name = \"shared\" }\n    class_name", 1),
            "class_name and parent are set. class_name makes",
        ),
        (
            at_shared("listener_set").replacen("parent", "addresses = [\"10.0.0.1\"]\n    parent", 1),
            "parent and addresses are set. With parent the Gateway is somebody else's",
        ),
        (
            own_gateway().replacen(
                "class_name",
                "listeners = { web = { host = \"other.example.com\" } }\n    class_name",
                1,
            ),
            "Host has no listener",
        ),
        (
            own_gateway().replacen(
                "class_name",
                "listeners = { web = { host = \"myapp.example.com\", certificate = \"other\" } }\n    class_name",
                1,
            ),
            "Listener names no certificate",
        ),
    ];
    for (lines, summary) in rows {
        let terraform = Terraform::new(&world.deployer, &quickstart_with(&lines));
        let validated = terraform.command(&["validate", "-json"]).await;
        validated.fails_with(&[summary]);
    }
}
