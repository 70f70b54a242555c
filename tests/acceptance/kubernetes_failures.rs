//! What the cluster's API can answer while a binding is read, changed or removed, row by row: what is said compared with
//! `kubernetes_failures/*.txt` (`UPDATE_EXPECT=1` writes them anew), the state compared with the world, and applied
//! again. Below the tables, what takes more than one answer to stage.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::failures::{ALWAYS, Request, attributes, play};
use crate::gateway::{own_gateway, quickstart_with};
use crate::terraform::{SHOP, Terraform};
use crate::with;
use crate::world::{DEPLOYMENT, INGRESS, SECRET_PROVIDER_CLASS, World};

const READ_ANYTHING: Request = ("kubernetes", "GET", "**");
const READ_INGRESS: Request = ("kubernetes", "GET", "**/ingresses/*");
const APPLY_CLASS: Request = ("kubernetes", "PATCH", "**/secretproviderclasses/*");
const APPLY_DEPLOYMENT: Request = ("kubernetes", "PATCH", "**/deployments/*");
const APPLY_INGRESS: Request = ("kubernetes", "PATCH", "**/ingresses/*");
const DELETE_INGRESS: Request = ("kubernetes", "DELETE", "**/ingresses/*");
const LIST_MOUNTS: Request = ("kubernetes", "GET", "**/secretproviderclasspodstatuses");

/// A refusal in Kubernetes' own form.
fn refusal(code: u16, reason: &str, message: &str) -> Value {
    json!({ "status": code, "body": {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": message,
    } })
}

/// The same with the number of seconds after which to come again.
fn later(code: u16, reason: &str, message: &str) -> Value {
    let mut refusal = refusal(code, reason, message);
    refusal["headers"] = json!({ "Retry-After": "1" });
    refusal
}

fn conflict(manager: &str) -> Value {
    let message = format!("Apply failed with 1 conflict: conflict with \"{manager}\" using v1: .spec.rules");
    let mut refusal = refusal(409, "Conflict", &message);
    refusal["body"]["details"] = json!({ "causes": [{ "reason": "FieldManagerConflict", "field": ".spec.rules",
        "message": format!("conflict with \"{manager}\" using v1") }] });
    refusal
}

const NOBODY: &str = "User \"deployer\" cannot patch resource \"ingresses\" in API group \"networking.k8s.io\" in the \
                      namespace \"default\"";
const NOWHERE: &str = "the server could not find the requested resource";

#[tokio::test(flavor = "multi_thread")]
#[rustfmt::skip]
async fn f_what_is_applied_to_the_cluster() {
    let forbidden = format!("ingresses.networking.k8s.io \"shop\" is forbidden: {NOBODY}");
    let by_azure = format!("{forbidden}: User does not have access to the resource in Azure. Update role assignment to allow access.");
    let rows = [
        ("credential", APPLY_INGRESS, ALWAYS, refusal(401, "Unauthorized", "Unauthorized")),
        ("rights", APPLY_INGRESS, ALWAYS, refusal(403, "Forbidden", &forbidden)),
        ("rights", APPLY_INGRESS, ALWAYS, refusal(403, "Forbidden", &by_azure)),
        ("policy", APPLY_INGRESS, ALWAYS, refusal(403, "Forbidden", "admission webhook \"policy.example.com\" denied the request: no")),
        ("kind", APPLY_CLASS, ALWAYS, refusal(404, "NotFound", NOWHERE)),
        ("kind", APPLY_CLASS, 1, refusal(404, "NotFound", NOWHERE)),
        ("owners", APPLY_INGRESS, ALWAYS, conflict("argocd-controller")),
        ("owners", APPLY_INGRESS, 1, conflict("kubectl-edit")),
        ("schema", APPLY_INGRESS, ALWAYS, refusal(422, "Invalid", "Ingress \"shop\" is invalid: spec.rules: Required value")),
        ("load", APPLY_DEPLOYMENT, 1, later(429, "TooManyRequests", "Too many requests, please try again later.")),
        ("load", APPLY_DEPLOYMENT, 3, later(429, "TooManyRequests", "Too many requests, please try again later.")),
        ("server", APPLY_DEPLOYMENT, 1, refusal(500, "InternalError", "Internal error occurred: etcdserver: leader changed")),
        ("server", APPLY_INGRESS, ALWAYS, refusal(500, "InternalError", "Internal error occurred: failed calling webhook \"validate.nginx.ingress.kubernetes.io\": no endpoints available")),
        ("server", APPLY_DEPLOYMENT, 1, refusal(503, "ServiceUnavailable", "apiserver not ready")),
        ("server", APPLY_INGRESS, ALWAYS, refusal(503, "ServiceUnavailable", "apiserver not ready")),
        ("server", APPLY_INGRESS, 1, refusal(504, "Timeout", "Timeout: request did not complete within the allotted timeout")),
        ("network", APPLY_DEPLOYMENT, 1, json!({ "lose": "answer" })),
        ("network", APPLY_INGRESS, 1, json!({ "lose": "request" })),
        ("network", APPLY_INGRESS, ALWAYS, json!({ "lose": "answer" })),
        ("network", APPLY_INGRESS, ALWAYS, json!({ "reset": "before" })),
        ("network", READ_ANYTHING, ALWAYS, json!({ "reset": "before" })),
    ];
    let world = World::start().await;
    // Every object carries the label, so that each row changes them all.
    let configuration = |row: usize| {
        let labelled = format!("provider \"kvtls\" {{\n  default_labels = {{ row = \"r{row}\" }}\n}}");
        with("verify = { level = \"none\" }").replacen("provider \"kvtls\" {}", &labelled, 1)
    };
    let terraform = Terraform::new(&world.deployer, &configuration(0));
    terraform.apply().await.succeeds();
    let agrees = async || {
        let state = attributes(&terraform);
        let objects = [("SecretProviderClass/shop", SECRET_PROVIDER_CLASS), ("Deployment/shop", DEPLOYMENT), ("Ingress/shop", INGRESS)];
        for (key, path) in objects {
            let live = world.kubernetes(Method::GET, path, None).await.body;
            let row = live["metadata"]["labels"]["row"].as_str().expect("a label").to_owned();
            let told = state["manifests"][key].as_str().expect("a manifest");
            assert!(told.contains(&format!("row: {row}\n")), "{key} is of row {row}: {told}");
        }
    };
    let work = async |row: usize| terraform.write(&configuration(1 + row));
    play(&world, &terraform, ("kubernetes_failures/apply", "apply"), &rows, work, agrees).await;
}

#[tokio::test(flavor = "multi_thread")]
#[rustfmt::skip]
async fn f_what_a_refresh_reads_of_the_cluster() {
    let forbidden = format!("ingresses.networking.k8s.io \"shop\" is forbidden: {}", NOBODY.replace("patch", "get"));
    let rows = [
        ("credential", READ_INGRESS, ALWAYS, refusal(401, "Unauthorized", "Unauthorized")),
        ("rights", READ_INGRESS, ALWAYS, refusal(403, "Forbidden", &forbidden)),
        ("load", READ_INGRESS, 1, later(429, "TooManyRequests", "Too many requests, please try again later.")),
        ("server", READ_INGRESS, ALWAYS, refusal(500, "InternalError", "Internal error occurred: etcdserver: request timed out")),
        ("server", READ_INGRESS, 1, refusal(503, "ServiceUnavailable", "apiserver not ready")),
        ("network", READ_INGRESS, 1, json!({ "reset": "before" })),
        ("network", READ_ANYTHING, ALWAYS, json!({ "reset": "before" })),
    ];
    let world = World::start().await;
    let terraform = world.quickstart();
    terraform.apply().await.succeeds();
    let nothing = async || {};
    play(&world, &terraform, ("kubernetes_failures/refresh", "plan"), &rows, async |_| {}, nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
#[rustfmt::skip]
async fn f_a_removal_from_the_cluster() {
    let forbidden = format!("ingresses.networking.k8s.io \"shop\" is forbidden: {}", NOBODY.replace("patch", "delete"));
    let mounts = "secretproviderclasspodstatuses.secrets-store.csi.x-k8s.io is forbidden: User \"deployer\" cannot list";
    let rows = [
        ("rights", LIST_MOUNTS, ALWAYS, refusal(403, "Forbidden", mounts)),
        ("rights", DELETE_INGRESS, ALWAYS, refusal(403, "Forbidden", &forbidden)),
        ("server", DELETE_INGRESS, ALWAYS, refusal(500, "InternalError", "Internal error occurred: etcdserver: leader changed")),
        ("network", DELETE_INGRESS, 1, json!({ "lose": "answer" })),
        ("network", READ_ANYTHING, ALWAYS, json!({ "reset": "before" })),
    ];
    let world = World::start().await;
    let terraform = Terraform::new(&world.deployer, &with("verify = { level = \"none\" }"));
    let agrees = async || {
        let ours = world.inventory().await.all_ours();
        let state = attributes(&terraform);
        let is_there = ours.iter().any(|it| it.contains("Ingress default/shop"));
        assert_eq!(state["manifests"]["Ingress/shop"].is_string(), is_there, "{ours:?} {state:#}");
    };
    let work = async |_| { terraform.apply().await.succeeds(); };
    play(&world, &terraform, ("kubernetes_failures/removal", "destroy"), &rows, work, agrees).await;
    assert_eq!(world.inventory().await.all_ours(), Vec::<String>::new());
}

/// Each of a binding's names taken by somebody else: told in the plan, and nothing is written.
#[tokio::test(flavor = "multi_thread")]
async fn f_objects_of_others_under_our_names_are_left_alone() {
    let world = World::start().await;
    let ingress = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": { "name": "shop", "labels": { "app.kubernetes.io/managed-by": "Helm" } },
        "spec": { "ingressClassName": "nginx", "rules": [{ "host": "other.example.com" }] } });
    let path = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    let made = world
        .kubernetes(Method::POST, path, Some(("application/json", &ingress)))
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    world.settle().await;
    let before = world.inventory().await;
    let terraform = world.quickstart();
    let words = ["KVTLS-E401", "Ingress default/shop", "\"Helm\""];
    terraform.plan().await.fails_with(&words);
    let since = world.now_in_journal().await;
    terraform.apply().await.fails_with(&words);
    assert_eq!(world.writes_after(since).await, Vec::<String>::new());
    assert_eq!(world.inventory().await, before);
    assert!(terraform.state(SHOP).await.is_none());
}

/// A namespace that is on its way out still exists, so only the first write meets it.
#[tokio::test(flavor = "multi_thread")]
async fn f_a_namespace_that_is_being_deleted_takes_nothing_new() {
    let space = |finalizers: Value| {
        json!({ "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "keeps", "finalizers": finalizers } })
    };
    let world = World::start().await;
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "going" } });
    let json_body = "application/json";
    world
        .kubernetes(Method::POST, "/api/v1/namespaces", Some((json_body, &namespace)))
        .await;
    let kept = space(json!(["example.com/keeps"]));
    let maps = "/api/v1/namespaces/going/configmaps";
    let made = world
        .kubernetes(Method::POST, maps, Some((json_body, &kept)))
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    world
        .kubernetes(Method::DELETE, "/api/v1/namespaces/going", None)
        .await;
    world.settle().await;

    let configuration =
        with("namespace = \"going\"\n  create_namespace = true\n  verify = { level = \"none\" }");
    let terraform = Terraform::new(&world.deployer, &configuration);
    terraform
        .apply()
        .await
        .fails_with(&["KVTLS-E411", "Wait until it is gone"]);
    assert_eq!(world.inventory().await.all_ours().len(), 1, "the grant alone");
    let free = json!({ "metadata": { "finalizers": null } });
    let path = format!("{maps}/keeps");
    world
        .kubernetes(
            Method::PATCH,
            &path,
            Some(("application/merge-patch+json", &free)),
        )
        .await;
    world.settle().await;
    terraform.apply().await.succeeds();
    // Nothing was proven, so the address, which is an output, may have come after the apply.
    world.settle().await;
    terraform.apply().await.succeeds();
    terraform.plan_is_empty().await;
}

/// A Gateway that serves the certificate while its controller has something against the route.
#[tokio::test(flavor = "multi_thread")]
async fn f_what_a_gateways_controller_complains_of_is_told_although_it_serves() {
    let world = World::start().await;
    let terraform = Terraform::new(&world.deployer, &quickstart_with(&own_gateway()));
    terraform.apply().await.succeeds();
    let service = "/api/v1/namespaces/default/services/my-app-service";
    world.kubernetes(Method::DELETE, service, None).await;
    world.settle().await;
    let labelled = own_gateway().replacen("rules", "labels = { team = \"web\" }\n    rules", 1);
    terraform.write(&quickstart_with(&labelled));
    let apply = terraform.apply().await.succeeds();
    apply.warning(&["KVTLS-W621", "HTTPRoute default/shop", "BackendNotFound"]);
    assert_eq!(world.served().await, world.in_vault().await);
}
