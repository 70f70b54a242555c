//! How a process lives and ends.

use std::path::Path;

use futures_util::future::join_all;
use kvtls::go_plugin::generated::health::HealthCheckRequest;
use kvtls::go_plugin::generated::health::health_check_response::ServingStatus;
use kvtls::go_plugin::generated::plugin::ConnInfo;
use kvtls::tfplugin6::generated::stop_provider;
use serde_json::Value;
use tokio_stream::wrappers::ReceiverStream;

use crate::handshake::is_served;
use crate::host::{Channel, Handshake, Host, Launch, Plugin, within};

#[tokio::test]
async fn shutdown_ends_it_cleanly_and_leaves_nothing() {
    let host = Host::start(&[]).await;
    assert!(is_served(host.channel()).await);
    let ended = host.shutdown().await;
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.stdout, "", "stdout is the handshake line's alone");
    assert_eq!(ended.stderr, "");
    assert!(ended.left.is_empty(), "{:?}", ended.left);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_open_streams_or_other_connections() {
    let host = Host::start(&[]).await;
    let other = host.plugin().dial().await;
    assert!(is_served(&other).await);

    // What Terraform opens at once, and never ends before Shutdown.
    let (_offers, offered) = tokio::sync::mpsc::channel::<ConnInfo>(1);
    let mut broker = host
        .channel()
        .broker()
        .start_stream(ReceiverStream::new(offered))
        .await
        .unwrap()
        .into_inner();
    let mut stdio = host
        .channel()
        .stdio()
        .stream_stdio(())
        .await
        .unwrap()
        .into_inner();

    let plugin = host.plugin().line().to_owned();
    let ended = host.shutdown().await;
    assert_eq!(ended.code, Some(0), "{plugin}");
    assert!(ended.left.is_empty(), "{:?}", ended.left);
    // Neither stream ever carried anything.
    assert!(!matches!(
        within("the end of the broker", broker.message()).await,
        Ok(Some(_))
    ));
    assert!(!matches!(
        within("the end of stdio", stdio.message()).await,
        Ok(Some(_))
    ));
}

#[tokio::test]
async fn the_broker_ends_with_its_client() {
    let host = Host::start(&[]).await;
    let offers = tokio_stream::iter([ConnInfo::default(), ConnInfo::default()]);
    let mut broker = host
        .channel()
        .broker()
        .start_stream(offers)
        .await
        .unwrap()
        .into_inner();
    let end = within("the end of the broker", broker.message()).await;
    assert!(end.unwrap().is_none());
    assert!(is_served(host.channel()).await);
}

#[tokio::test]
async fn health_is_told_under_the_name_go_plugin_asks_for() {
    let host = Host::start(&[]).await;
    let ask = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let mut health = host.channel().health();
    for known in ["plugin", ""] {
        let answer = health.check(ask(known)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{known:?}");
    }
    let unknown = health.check(ask("nobody")).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    let mut watch = health.watch(ask("plugin")).await.unwrap().into_inner();
    let first = within("a first status", watch.message()).await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
}

#[tokio::test]
async fn two_connections_are_served_and_one_may_leave() {
    let host = Host::start(&[]).await;
    let second = host.plugin().dial().await;
    assert!(is_served(host.channel()).await && is_served(&second).await);
    drop(second);
    assert!(is_served(host.channel()).await);
    assert_eq!(host.shutdown().await.code, Some(0));
}

#[tokio::test]
async fn a_hundred_calls_at_once_are_all_answered() {
    let host = Host::start(&[]).await;
    let calls = (0..100).map(|_| {
        let mut provider = host.provider();
        async move { provider.stop_provider(stop_provider::Request {}).await }
    });
    for answer in within("a hundred answers", join_all(calls)).await {
        answer.unwrap();
    }
}

#[tokio::test]
async fn ctrl_c_is_the_hosts_business() {
    let host = Host::start(&[]).await;
    host.plugin().signal("INT").await;
    assert_eq!(host.stderr(), "");
    // A process that a signal kills does not run again, so an answer after it means it survived.
    assert!(is_served(host.channel()).await);
    assert_eq!(host.shutdown().await.code, Some(0));
}

#[tokio::test]
async fn sigterm_ends_it_and_removes_the_socket() {
    let plugin = Launch::by_terraform().start().await;
    plugin.signal("TERM").await;
    let ended = plugin.ended().await;
    assert_eq!(ended.code, Some(0));
    assert!(ended.left.is_empty(), "{:?}", ended.left);
}

#[tokio::test]
async fn a_host_that_dies_takes_the_plugin_with_it() {
    let plugin = Launch::by_terraform().start().await;
    let channel = plugin.dial().await;
    assert!(is_served(&channel).await);
    drop(channel); // what the kernel does for a killed host
    let ended = plugin.ended().await;
    assert_eq!(ended.code, Some(0));
    assert!(ended.left.is_empty(), "{:?}", ended.left);
}

/// What a person pastes into the other shell.
fn reattach(plugin: &Plugin) -> Value {
    let line = plugin.line();
    let json = line
        .strip_prefix("TF_REATTACH_PROVIDERS='")
        .and_then(|rest| rest.strip_suffix("'\n"));
    let json = json.unwrap_or_else(|| panic!("no assignment: {line}"));
    serde_json::from_str(json).unwrap()
}

async fn dial_reattached(entry: &Value) -> Channel {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let handshake = Handshake {
        core: String::new(),
        app: entry["ProtocolVersion"].to_string(),
        network: text(&entry["Addr"]["Network"]),
        address: text(&entry["Addr"]["String"]),
        transport: text(&entry["Protocol"]),
        certificate: None,
        multiplexed: None,
    };
    Channel::over(handshake.socket().await).await
}

#[tokio::test]
async fn debug_mode_serves_whoever_reattaches_until_ctrl_c() {
    let plugin = Launch::by_hand(&["--debug"]).start().await;
    let providers = reattach(&plugin);
    let entry = &providers["registry.terraform.io/kvtls/kvtls"];
    assert_eq!(entry["Protocol"], "grpc");
    assert_eq!(entry["ProtocolVersion"], 6);
    assert_eq!(entry["Test"], true, "Terraform 1.11 crashes otherwise");
    assert!(entry["Pid"].is_u64());
    let socket = entry["Addr"]["String"].as_str().unwrap().to_owned();
    assert!(Path::new(&socket).exists());
    for _command in 0..3 {
        let channel = dial_reattached(entry).await;
        assert!(is_served(&channel).await);
    }
    plugin.signal("INT").await;
    let ended = plugin.ended().await;
    assert_eq!(ended.code, Some(0));
    assert!(ended.left.is_empty(), "{:?}", ended.left);
}

#[tokio::test]
async fn debug_mode_ignores_what_a_host_would_ask_for() {
    let plugin = Launch::by_terraform().environment(&[("TF_PLUGIN_MAGIC_COOKIE", "")]);
    let plugin = plugin.with_argument("-debug").start().await;
    let providers = reattach(&plugin);
    let channel = dial_reattached(&providers["registry.terraform.io/kvtls/kvtls"]).await;
    assert!(is_served(&channel).await, "no TLS");
    plugin.signal("TERM").await;
    assert_eq!(plugin.ended().await.code, Some(0));
}
