//! What strangers on the socket cannot do: get in, or keep the host out.

use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::handshake::is_served;
use crate::host::{Channel, Host, Identity, Launch, Plugin, client_config, encrypt, within};

/// Whether somebody with this certificate and key gets as far as a first byte from the server.
async fn is_let_in(
    plugin: &Plugin,
    key: Option<rustls::sign::CertifiedKey>,
    version: &'static rustls::SupportedProtocolVersion,
) -> bool {
    let handshake = plugin.handshake();
    let config = client_config(&handshake.certificate.clone().expect("TLS"), key, &[version]);
    let Ok(mut socket) = encrypt(handshake.socket().await, config).await else {
        return false;
    };
    // An HTTP/2 server speaks first: its settings.
    matches!(
        within("the server's first byte", socket.read_u8()).await,
        Ok(_settings)
    )
}

#[tokio::test]
async fn only_the_holder_of_the_hosts_key_is_let_in() {
    let plugin = Launch::by_terraform().start().await;
    let (host, stranger) = (plugin.identity(), Identity::new());
    for version in [&TLS13, &TLS12] {
        assert!(!is_let_in(&plugin, None, version).await, "nobody");
        assert!(
            !is_let_in(&plugin, Some(stranger.key()), version).await,
            "a stranger"
        );
        assert!(
            !is_let_in(&plugin, Some(host.with_key_of(&stranger)), version).await,
            "a copied certificate"
        );
        assert!(
            !is_let_in(&plugin, Some(stranger.with_key_of(host)), version).await,
            "another certificate"
        );
        assert!(is_let_in(&plugin, Some(host.key()), version).await, "the host");
    }
    assert!(is_served(&plugin.dial().await).await);
}

#[tokio::test]
async fn plain_http2_does_not_get_around_tls() {
    let plugin = Launch::by_terraform().start().await;
    let channel = Channel::over(plugin.handshake().socket().await).await;
    assert!(!is_served(&channel).await);
    assert!(is_served(&plugin.dial().await).await);
}

/// Sends `bytes` and waits until the server hangs up on it.
async fn send_and_be_dropped(plugin: &Plugin, bytes: &[u8]) {
    let mut socket = plugin.handshake().socket().await;
    let talk = async {
        if socket.write_all(bytes).await.is_ok() {
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).await.ok(); // an alert, a GOAWAY or nothing
        }
    };
    within("the server to hang up", talk).await;
}

const GARBAGE: [&[u8]; 4] = [
    &[0; 4096],
    &[0xff; 64],
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
];

#[tokio::test]
async fn garbage_before_tls_costs_only_its_own_connection() {
    let plugin = Launch::by_terraform().start().await;
    let host = plugin.dial().await;
    for bytes in GARBAGE {
        send_and_be_dropped(&plugin, bytes).await;
        assert!(is_served(&host).await, "the connection there was");
        assert!(is_served(&plugin.dial().await).await, "a new connection");
    }
}

#[tokio::test]
async fn garbage_without_tls_costs_only_its_own_connection() {
    let host = Host::start(&[("PLUGIN_CLIENT_CERT", "")]).await;
    for bytes in GARBAGE {
        send_and_be_dropped(host.plugin(), bytes).await;
        assert!(is_served(host.channel()).await, "the connection there was");
        assert!(is_served(&host.plugin().dial().await).await, "a new connection");
    }
    assert_eq!(host.shutdown().await.code, Some(0));
}

#[tokio::test]
async fn a_crowd_that_says_nothing_keeps_nobody_out() {
    for environment in [&[][..], &[("PLUGIN_CLIENT_CERT", "")]] {
        let plugin = Launch::by_terraform().environment(environment).start().await;
        let mut crowd = Vec::new();
        for _ in 0..100 {
            crowd.push(plugin.handshake().socket().await);
        }
        let host = plugin.dial().await;
        assert!(is_served(&host).await);
        host.shutdown().await;
        assert_eq!(plugin.ended().await.code, Some(0), "nor does it delay the end");
        drop(crowd);
    }
}
