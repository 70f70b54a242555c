//! Addresses, the proxy, and faults on the wire.

use std::time::Duration;

use kvtls::sandbox::Filter;
use serde_json::json;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::client::{direct, entries, front, proxied, read, world};

#[tokio::test(flavor = "multi_thread")]
async fn answers_speak_the_address_they_were_asked_by() {
    let world = world().await;
    let url = "https://management.azure.com/metadata/endpoints?api-version=2022-09-01";
    let (status, named) = read(proxied(&world).get(url).send().await.unwrap()).await;
    assert_eq!(status, 200);
    assert_eq!(named["resourceManager"], "https://management.azure.com/");
    assert_eq!(
        named["authentication"]["loginEndpoint"],
        "https://login.microsoftonline.com"
    );

    let url = format!("{}/metadata/endpoints?api-version=2022-09-01", front(&world));
    let (_, ported) = read(direct(&world).get(&url).send().await.unwrap()).await;
    assert_eq!(ported["authentication"]["loginEndpoint"], front(&world));

    let url = format!("{}/metadata/endpoints?api-version=2019-05-01", front(&world));
    let (_, listed) = read(direct(&world).get(&url).send().await.unwrap()).await;
    assert!(listed.is_array(), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_refuses_every_name_of_another_world() {
    let world = world().await;
    let client = proxied(&world);
    for host in [
        "example.org",
        "other.vault.azure.net",
        "10.0.0.1",
        "graph.facebook.com",
    ] {
        let error = client.get(format!("https://{host}/")).send().await.unwrap_err();
        assert!(error.is_connect(), "{error:?}");
    }
    let refused = entries(&world, "proxy");
    assert_eq!(refused.len(), 4);
    assert_eq!(refused[0]["response"]["status"], 403);
    assert_eq!(
        refused[0]["response"]["body"],
        "sandbox: example.org is not part of this world"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_answers_by_name_and_by_port() {
    let world = world().await;
    let by_name = proxied(&world).get("https://myakskeyvault.vault.azure.net/certificates");
    by_name.send().await.unwrap();
    let port = world.ready()["vaults"]["myAKSKeyVault"]
        .as_str()
        .unwrap()
        .to_owned();
    direct(&world)
        .get(format!("{port}/certificates"))
        .send()
        .await
        .unwrap();
    let hosts: Vec<_> = entries(&world, "vault")
        .iter()
        .map(|entry| entry["host"].clone())
        .collect();
    let expected = [
        json!("myakskeyvault.vault.azure.net"),
        json!(port.trim_start_matches("https://")),
    ];
    assert_eq!(hosts, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn control_is_for_loopback_hosts_only() {
    let world = world().await;
    let answer = direct(&world)
        .get(format!("{}/sandbox/markers", front(&world)))
        .header("host", "evil.example");
    let (_, body) = read(answer.send().await.unwrap()).await;
    assert!(body.get("markers").is_none(), "{body}");
    let (_, body) = read(
        proxied(&world)
            .get("https://management.azure.com/sandbox/markers")
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert!(body.get("markers").is_none(), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn graph_is_refused_with_words() {
    let world = world().await;
    let url = "https://graph.microsoft.com/v1.0/servicePrincipals";
    let (status, body) = read(proxied(&world).get(url).send().await.unwrap()).await;
    assert_eq!(status, 403);
    assert!(
        body["error"]["message"].as_str().unwrap().starts_with("sandbox:"),
        "{body}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_fault_answers_in_place_of_the_plane() {
    let world = world().await;
    let fault = json!({"match": {"plane": "arm", "method": "GET"}, "times": 1,
        "do": {"status": 503, "headers": {"retry-after": "7"}, "body": {"error": {"code": "Staged"}}}});
    let id = world.fault(&fault).unwrap();
    let url = format!("{}/subscriptions", front(&world));
    let answer = direct(&world).get(&url).send().await.unwrap();
    assert_eq!(answer.headers()["retry-after"], "7");
    let (status, body) = read(answer).await;
    assert_eq!((status, &body["error"]["code"]), (503, &json!("Staged")));
    let entry = entries(&world, "arm").remove(0);
    assert_eq!((&entry["fault"], &entry["effect"]), (&json!(id), &json!("none")));
    let again = direct(&world).get(&url).send().await.unwrap();
    assert_ne!(again.status().as_u16(), 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_fault_has_the_service_s_own_envelope() {
    let world = world().await;
    let fault = |name: &str| json!({"match": {"plane": "arm"}, "do": {"named": name}});
    let url = format!("{}/subscriptions/s", front(&world));
    world.fault(&fault("EtagMismatch")).unwrap();
    let (status, flat) = read(direct(&world).put(&url).send().await.unwrap()).await;
    assert_eq!((status, &flat["code"]), (409, &json!("EtagMismatch")));
    world.fault(&fault("ResourceGroupNotFound")).unwrap();
    let (status, wrapped) = read(direct(&world).get(&url).send().await.unwrap()).await;
    assert_eq!(
        (status, &wrapped["error"]["code"]),
        (404, &json!("ResourceGroupNotFound"))
    );
    world.fault(&fault("html_502")).unwrap();
    let (status, page) = read(direct(&world).get(&url).send().await.unwrap()).await;
    assert_eq!(status, 502);
    assert!(page.as_str().unwrap().starts_with("<html>"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_a_cut_connection_with_and_without_effect() {
    let world = world().await;
    let url = format!("{}/subscriptions", front(&world));
    for acts in [
        json!({"lose": "answer"}),
        json!({"lose": "request"}),
        json!({"reset": "before"}),
    ] {
        world
            .fault(&json!({"match": {"plane": "arm"}, "do": acts}))
            .unwrap();
        let error = direct(&world).get(&url).send().await.unwrap_err();
        assert!(!error.is_timeout(), "{acts}: {error:?}");
    }
    for cut in ["headers", "body"] {
        world
            .fault(&json!({"match": {"plane": "arm"}, "do": {"reset": cut}}))
            .unwrap();
        let answer = direct(&world).get(&url).send().await.unwrap();
        assert!(answer.bytes().await.is_err(), "{cut}");
    }
    // Cut before an answer was sent: the journal has no answer; cut inside it: the journal has what was meant.
    let answers: Vec<_> = entries(&world, "arm")
        .iter()
        .map(|entry| entry["response"].is_null())
        .collect();
    assert_eq!(answers, [true, true, true, false, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_request_waits_for_the_fault_to_be_deleted() {
    let world = world().await;
    for when in ["before", "after"] {
        let fault = json!({"match": {"plane": "arm", "path": "/subscriptions"}, "do": {"hold": when}});
        let id = world.fault(&fault).unwrap();
        let url = format!("{}/subscriptions", front(&world));
        let request = tokio::spawn(direct(&world).get(url).send());
        let hit = world.fault_hit(&id).await.unwrap();
        assert_eq!(hit["hits"], 1);
        assert!(!request.is_finished());
        assert!(world.release(&id));
        request.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_gives_up_leaves_an_entry_without_an_answer() {
    let world = world().await;
    let fault = json!({"match": {"plane": "arm"}, "do": {"hold": "before"}});
    let id = world.fault(&fault).unwrap();
    let url = format!("{}/subscriptions", front(&world));
    let request = tokio::spawn(direct(&world).get(url).send());
    world.fault_hit(&id).await.unwrap();
    request.abort();
    let url = format!("{}/journal?plane=arm&wait=10000", world.control());
    let (_, journal) = read(direct(&world).get(url).send().await.unwrap()).await;
    assert!(journal["entries"][0]["response"].is_null(), "{journal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_are_sandbox_time() {
    let world = world().await;
    world.advance(Duration::from_secs(3 * 3600)).await.unwrap();
    let url = format!("{}/subscriptions", front(&world));
    let answer = direct(&world).get(url).send().await.unwrap();
    let date = answer.headers()["date"].to_str().unwrap().replace("GMT", "+0000");
    let date = OffsetDateTime::parse(&date, &Rfc2822).unwrap();
    let behind = world.clock().now() - date;
    assert!(behind < time::Duration::seconds(30), "{behind}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_names_the_caller_of_a_cluster() {
    let world = world().await;
    let kubeconfig = std::fs::read(world.dir().join("kubeconfig")).unwrap();
    let kubeconfig: serde_json::Value = serde_json::from_slice(&kubeconfig).unwrap();
    let decode = |text: &serde_json::Value| {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text.as_str().unwrap());
        bytes.unwrap()
    };
    let cluster = &kubeconfig["clusters"][0]["cluster"];
    let authority = decode(&cluster["certificate-authority-data"]);
    let user = &kubeconfig["users"][1]["user"];
    let mut identity = decode(&user["client-certificate-data"]);
    identity.extend(decode(&user["client-key-data"]));
    let client = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&authority).unwrap()])
        .identity(reqwest::Identity::from_pem(&identity).unwrap())
        .no_proxy()
        .build()
        .unwrap();
    let url = format!("{}/version", cluster["server"].as_str().unwrap());
    client.get(url).send().await.unwrap();
    let filter = Filter {
        plane: Some("kubernetes".to_owned()),
        principal: Some("masterclient".to_owned()),
        ..Filter::default()
    };
    assert_eq!(world.journal(&filter).len(), 1);
}
