//! Ingress and its controllers, told apart by what their class says.

use kvtls::sandbox::demo::QUICKSTART;
use reqwest::Method;
use serde_json::{Value, json};

use crate::gateway::quickstart_with;
use crate::terraform::{SHOP, Terraform};
use crate::world::{CLUSTER, HOST, INGRESS, World};

const RULE: &str = "{ host = \"myapp.example.com\", paths = [{ service = \"my-app-service\", port = 80 }] }";

fn with_class(class: &str, lines: &str) -> String {
    quickstart_with(&format!(
        "ingress = {{\n    class_name = \"{class}\"\n    rules = [{RULE}]\n    {lines}\n  }}"
    ))
}

async fn annotations(world: &World) -> Value {
    let live = world.kubernetes(Method::GET, INGRESS, None).await.body;
    live["metadata"]["annotations"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn f_a_redirect_is_written_as_the_controller_reads_it() {
    let world = World::start().await;
    let terraform = Terraform::new(&world.deployer, &with_class("nginx", "ssl_redirect = false"));
    terraform.apply().await.succeeds();
    let name = "nginx.ingress.kubernetes.io/ssl-redirect";
    assert_eq!(annotations(&world).await[name], "false");
    terraform.plan_is_empty().await;
    terraform.write(&with_class("nginx", "ssl_redirect = true"));
    terraform.apply().await.succeeds();
    assert_eq!(annotations(&world).await[name], "true");
    terraform.plan_is_empty().await;
    let second = Terraform::new(&world.deployer, &with_class("nginx", "ssl_redirect = true"));
    second.import(SHOP, &world.binding_id()).await.succeeds();
    second.plan_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_application_gateway_has_its_own_annotation_and_takes_its_time() {
    let world = World::with(json!({ "extends": "agic" })).await;
    let written = with_class("azure-application-gateway", "ssl_redirect = true");
    let terraform = Terraform::new(&world.deployer, &written);
    let plan = terraform.plan().await;
    assert!(!plan.run.output().contains("KVTLS-W431"), "{}", plan.evidence());
    terraform.apply().await.succeeds();
    let annotations = annotations(&world).await;
    assert_eq!(
        annotations["appgw.ingress.kubernetes.io/ssl-redirect"], "true",
        "{annotations}"
    );
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_both_controllers_named_haproxy_have_their_own_annotation() {
    for (controller, name) in [
        (
            "haproxy.org/ingress-controller/haproxy",
            "haproxy.org/ssl-redirect",
        ),
        (
            "haproxy-ingress.github.io/controller",
            "haproxy-ingress.github.io/ssl-redirect",
        ),
    ] {
        let edges = json!([{ "name": "haproxy", "kind": "ingress", "class": "haproxy", "controller": controller,
            "address": "127.0.1.1" }]);
        let world = World::with(json!({ "clusters": { CLUSTER: { "edges": edges } } })).await;
        let terraform = Terraform::new(&world.deployer, &with_class("haproxy", "ssl_redirect = false"));
        terraform.apply().await.succeeds();
        let annotations = annotations(&world).await;
        assert_eq!(annotations[name], "false", "{annotations}");
        assert_eq!(world.served().await, world.in_vault().await);
        terraform.plan_is_empty().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f_a_redirect_that_is_no_annotation_is_refused_with_the_way_it_is_done() {
    let world = World::with(json!({ "extends": "traefik" })).await;
    world.settle().await;
    let before = world.inventory().await;
    let terraform = Terraform::new(&world.deployer, &with_class("traefik", "ssl_redirect = true"));
    terraform.apply().await.fails_with(&["KVTLS-E405", "entry point"]);
    assert_eq!(world.inventory().await, before, "nothing was written");
    // Without a class the cluster's default decides, and it is Traefik, too.
    let default = with_class("traefik", "ssl_redirect = true").replacen("class_name = \"traefik\"", "", 1);
    terraform.write(&default);
    terraform.apply().await.fails_with(&["KVTLS-E405", "entry point"]);
    terraform.write(&with_class("traefik", ""));
    terraform.apply().await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;

    let edges = json!([{ "name": "edge", "kind": "ingress", "class": "edge", "controller": "example.com/edge",
        "address": "127.0.1.1" }]);
    let world = World::with(json!({ "clusters": { CLUSTER: { "edges": edges } } })).await;
    let terraform = Terraform::new(&world.deployer, &with_class("edge", "ssl_redirect = true"));
    terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E405", "example.com/edge", "ingress.annotations"]);
}

/// A world whose one Ingress controller is this.
async fn with_controller(class: &str, controller: &str) -> World {
    let edges = json!([{ "name": "edge", "kind": "ingress", "class": class, "controller": controller,
        "address": "127.0.1.1" }]);
    World::with(json!({ "clusters": { CLUSTER: { "edges": edges } } })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn f_application_routing_is_told_as_nginx_is_and_has_an_end() {
    let class = "webapprouting.kubernetes.azure.com";
    let world = with_controller(class, "webapprouting.kubernetes.azure.com/nginx").await;
    let terraform = Terraform::new(&world.deployer, &with_class(class, "ssl_redirect = true"));
    let plan = terraform.plan().await;
    plan.warning(&["KVTLS-W431", "November 2026"]);
    terraform.apply().await.succeeds();
    let annotations = annotations(&world).await;
    assert_eq!(
        annotations["nginx.ingress.kubernetes.io/ssl-redirect"], "true",
        "{annotations}"
    );
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_application_gateway_for_containers_redirects_elsewhere_and_is_warned_about() {
    let class = "azure-alb-external";
    let world = with_controller(class, "alb.networking.azure.io/alb-controller").await;
    let terraform = Terraform::new(&world.deployer, &with_class(class, "ssl_redirect = true"));
    terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E405", "IngressExtension"]);
    terraform.write(&with_class(class, ""));
    let plan = terraform.plan().await;
    plan.warning(&["KVTLS-W431", "Secrets Store CSI"]);
    terraform.apply().await.succeeds();
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_a_retired_controller_is_told_once_with_the_way_out() {
    let world = World::start().await;
    let terraform = Terraform::new(&world.deployer, &with_class("nginx", ""));
    let plan = terraform.plan().await;
    plan.warning(&["KVTLS-W431", "March 2026", "docs/guides/gateway.md"]);
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f_hosts_of_another_secret_stand_beside_ours() {
    let world = World::start().await;
    let rules = format!(
        "rules = [{RULE}, {{ host = \"api.example.com\", paths = [{{ service = \"my-app-service\", port = 80 }}] }}]"
    );
    let uncovered = quickstart_with(&format!(
        "ingress = {{\n    class_name = \"nginx\"\n    {rules}\n  }}"
    ))
    .replacen(
        "my-tls-cert = {}",
        &format!("my-tls-cert = {{ hosts = [\"{HOST}\"] }}"),
        1,
    );
    let terraform = Terraform::new(&world.deployer, &uncovered);
    terraform
        .apply()
        .await
        .fails_with(&["Host has no certificate", "api.example.com"]);

    let lines = format!(
        "ingress = {{\n    class_name = \"nginx\"\n    {rules}\n    extra_tls = [{{ hosts = [\"api.example.com\"], secret_name = \"api-tls\" }}]\n  }}"
    );
    terraform.write(&quickstart_with(&lines));
    terraform.apply().await.succeeds();
    let live = world.kubernetes(Method::GET, INGRESS, None).await.body;
    let tls = json!([
        { "hosts": [HOST], "secretName": "shop-my-tls-cert" },
        { "hosts": ["api.example.com"], "secretName": "api-tls" },
    ]);
    assert_eq!(live["spec"]["tls"], tls);
    assert_eq!(world.served().await, world.in_vault().await);
    terraform.plan_is_empty().await;
    let second = Terraform::new(&world.deployer, &quickstart_with(&lines));
    second.import(SHOP, &world.binding_id()).await.succeeds();
    second.plan_is_empty().await;

    let both = lines.replacen(
        "hosts = [\"api.example.com\"]",
        &format!("hosts = [\"{HOST}\"]"),
        1,
    );
    let twice = quickstart_with(&both).replacen(
        "my-tls-cert = {}",
        &format!("my-tls-cert = {{ hosts = [\"{HOST}\"] }}"),
        1,
    );
    terraform.write(&twice);
    terraform.plan().await.fails_with(&["Host has two certificates"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn f_application_routings_own_key_vault_annotations_are_refused() {
    let world = World::start().await;
    for name in [
        "tls-cert-keyvault-uri",
        "tls-cert-keyvault-managed",
        "tls-cert-service-account",
    ] {
        let lines = format!("annotations = {{ \"kubernetes.azure.com/{name}\" = \"x\" }}");
        let terraform = Terraform::new(&world.deployer, &with_class("nginx", &lines));
        let validated = terraform.command(&["validate", "-json"]).await;
        validated.fails_with(&["Key is reserved", name]);
    }
}

/// Without a class, and without one that is the default, nobody may take the Ingress; the plan says so.
#[tokio::test(flavor = "multi_thread")]
async fn f_an_ingress_of_no_class_is_told_where_none_is_the_default() {
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    terraform.write(&QUICKSTART.replacen("class_name = \"nginx\"", "", 1));
    let plan = terraform.plan().await;
    assert_eq!(plan.run.status, Some(2), "{}", plan.evidence());
    plan.warning(&["KVTLS-W414", "kubectl get ingressclass"]);
}
