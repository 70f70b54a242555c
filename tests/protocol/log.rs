//! What the host's log gets to read.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::host::{Launch, Plugin, within};

/// Makes the plugin log a warning, whatever it serves: somebody knocks who speaks no TLS, and is shown out.
async fn knock(plugin: &Plugin) {
    let mut socket = plugin.handshake().socket().await;
    socket.write_all(b"not TLS at all").await.unwrap();
    let mut alert = Vec::new();
    within("the server to hang up", socket.read_to_end(&mut alert))
        .await
        .ok();
}

#[tokio::test]
async fn every_line_is_json_that_does_not_crash_the_host() {
    let plugin = Launch::by_terraform()
        .environment(&[("TF_LOG", "TRACE")])
        .start()
        .await;
    knock(&plugin).await;
    plugin.says("a connection was refused").await;
    plugin.dial().await.shutdown().await;
    let ended = plugin.ended().await;
    for line in ended.stderr.lines() {
        let parsed: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["@level", "@message", "@module", "@timestamp"] {
            assert!(parsed[key].is_string(), "{key} in {line}");
        }
    }
    assert_eq!(ended.stdout, "");
}

#[tokio::test]
async fn the_providers_own_level_comes_first() {
    let own = [
        ("TF_LOG", "OFF"),
        ("TF_LOG_PROVIDER", "ERROR"),
        ("TF_LOG_PROVIDER_KVTLS", "WARN"),
    ];
    let plugin = Launch::by_terraform().environment(&own).start().await;
    knock(&plugin).await;
    plugin.says(r#""@level":"warn""#).await;
}

#[tokio::test]
async fn nothing_is_said_below_the_level_or_without_one() {
    for quiet in [
        &[][..],
        &[("TF_LOG", "ERROR")],
        &[("TF_LOG", "TRACE"), ("TF_LOG_PROVIDER", "off")],
    ] {
        let plugin = Launch::by_terraform().environment(quiet).start().await;
        knock(&plugin).await;
        plugin.dial().await.shutdown().await;
        assert_eq!(plugin.ended().await.stderr, "", "{quiet:?}");
    }
}
