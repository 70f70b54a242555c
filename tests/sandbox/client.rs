//! A started world and HTTP clients for it, in both modes.

use kvtls::sandbox::{Filter, Mode, Options, Sandbox};
use reqwest::{Certificate, Client, Proxy, Response};
use serde_json::Value;

/// A started default world.
pub(crate) async fn world() -> Sandbox {
    world_with(Options::default()).await
}

/// A started world.
pub(crate) async fn world_with(options: Options) -> Sandbox {
    Sandbox::start(options).await.unwrap()
}

/// A client that knows the run's authority and uses no proxy.
pub(crate) fn direct(world: &Sandbox) -> Client {
    builder(world.ca_pem()).no_proxy().build().unwrap()
}

/// A client that reaches the world by Azure's names.
pub(crate) fn proxied(world: &Sandbox) -> Client {
    let environment = world.environment("deployer", Mode::Names);
    let proxy = Proxy::https(&environment["HTTPS_PROXY"]).unwrap();
    builder(world.ca_pem()).no_proxy().proxy(proxy).build().unwrap()
}

fn builder(ca: &str) -> reqwest::ClientBuilder {
    let authority = Certificate::from_pem(ca.as_bytes()).unwrap();
    Client::builder().tls_certs_only([authority]).http1_only()
}

/// The front, without a slash.
pub(crate) fn front(world: &Sandbox) -> String {
    world.ready()["front"].as_str().unwrap().to_owned()
}

/// An answer as status and JSON.
pub(crate) async fn read(answer: Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (status, body)
}

/// Calls the control API.
pub(crate) async fn control(world: &Sandbox, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let url = format!("{}{path}", world.control());
    let mut request = direct(world).request(method.parse().unwrap(), url);
    if let Some(body) = body {
        request = request.body(body.to_string());
    }
    read(request.send().await.unwrap()).await
}

/// Asks for a token with the client secret of this principal.
pub(crate) async fn token(world: &Sandbox, principal: &str, scope: &str) -> (u16, Value) {
    let environment = world.environment(principal, Mode::Ports);
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &environment["ARM_CLIENT_ID"]),
        ("client_secret", &environment["ARM_CLIENT_SECRET"]),
        ("scope", scope),
    ];
    post_token(world, &environment["ARM_TENANT_ID"], &form).await
}

/// Posts a form to the token endpoint of this tenant.
pub(crate) async fn post_token(world: &Sandbox, tenant: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let url = format!("{}/{tenant}/oauth2/v2.0/token", front(world));
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let request = direct(world)
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body);
    read(request.send().await.unwrap()).await
}

/// The journal's entries of one plane.
pub(crate) fn entries(world: &Sandbox, plane: &str) -> Vec<Value> {
    world.journal(&Filter {
        plane: Some(plane.to_owned()),
        ..Filter::default()
    })
}
