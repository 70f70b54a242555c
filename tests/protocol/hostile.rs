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

/// A call whose body is these bytes, whatever they are.
async fn raw_call(channel: &Channel, method: &str, bytes: Vec<u8>) -> tonic::Code {
    use http_body_util::{BodyExt as _, Full};
    use tonic::codegen::Service as _;
    let request = http::Request::post(format!("http://localhost/tfplugin6.Provider/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(Full::new(bytes::Bytes::from(bytes))))
        .unwrap();
    let mut channel = channel.clone();
    let response = within("an answer", channel.call(request))
        .await
        .expect("an answer");
    let at_once = response.headers().get("grpc-status").cloned();
    let body = within("its end", response.into_body().collect())
        .await
        .expect("an end");
    let status = at_once.or_else(|| body.trailers().and_then(|it| it.get("grpc-status").cloned()));
    tonic::Code::from_bytes(status.expect("a status").as_bytes())
}

#[tokio::test]
async fn messages_that_are_none_are_refused_and_forgotten() {
    let host = Host::start(&[]).await;
    let framed = |length: u32, body: &[u8]| [&[0][..], &length.to_be_bytes(), body].concat();
    for (what, bytes) in [
        ("more than is allowed", framed(u32::MAX, b"x")),
        ("more than follows", framed(100, b"x")),
        ("no frame", b"\x00\x00".to_vec()),
        (
            "compressed with nothing",
            [&[1][..], &1_u32.to_be_bytes(), b"x"].concat(),
        ),
        ("no protobuf", framed(4, b"\xff\xff\xff\xff")),
        ("a length beyond the message", framed(3, b"\x0a\xff\x7f")),
        ("a group without end", framed(1, b"\x0b")),
        ("a name that is not text", framed(4, b"\x0a\x02\xff\xfe")),
    ] {
        let code = raw_call(host.channel(), "ReadResource", bytes).await;
        assert_ne!(code, tonic::Code::Ok, "{what}");
        assert!(is_served(host.channel()).await, "after {what}");
    }
    // Unknown fields are for a newer protocol, and no error.
    let newer = framed(4, b"\xfa\x3f\x01x");
    assert_eq!(
        raw_call(host.channel(), "ReadResource", newer).await,
        tonic::Code::Ok
    );
    let code = raw_call(host.channel(), "NoSuchCall", framed(0, b"")).await;
    assert_eq!(code, tonic::Code::Unimplemented);
    assert_eq!(host.stderr(), "");
    assert_eq!(host.shutdown().await.code, Some(0));
}

#[tokio::test]
async fn calls_before_configure_are_answered_in_words() {
    use kvtls::framework::Provider as _;
    use kvtls::tfplugin6::{dynamic_value, generated as tf};
    let host = Host::start(&[]).await;
    let provider = kvtls::provider::Kvtls::with_environment(Default::default());
    for resource in provider.resources() {
        let type_name = resource.type_name().to_owned();
        let ty = resource.schema().ty();
        let value = |value| {
            Some(tf::DynamicValue {
                msgpack: dynamic_value::encode(&ty, value).unwrap(),
                json: Vec::new(),
            })
        };
        let nothing = value(&resource.schema().nothing());
        let read = host
            .provider()
            .read_resource(tf::read_resource::Request {
                type_name: type_name.clone(),
                current_state: nothing.clone(),
                ..Default::default()
            })
            .await
            .expect("no status")
            .into_inner();
        assert_eq!(read.new_state, nothing, "what is stored stays");
        let plan = host
            .provider()
            .plan_resource_change(tf::plan_resource_change::Request {
                type_name: type_name.clone(),
                config: nothing.clone(),
                proposed_new_state: nothing.clone(),
                ..Default::default()
            })
            .await
            .expect("no status")
            .into_inner();
        let apply = host
            .provider()
            .apply_resource_change(tf::apply_resource_change::Request {
                type_name: type_name.clone(),
                config: nothing.clone(),
                planned_state: nothing.clone(),
                ..Default::default()
            })
            .await
            .expect("no status")
            .into_inner();
        let import = host
            .provider()
            .import_resource_state(tf::import_resource_state::Request {
                type_name: type_name.clone(),
                id: "x".to_owned(),
                ..Default::default()
            })
            .await
            .expect("no status")
            .into_inner();
        for diagnostics in [
            read.diagnostics,
            plan.diagnostics,
            apply.diagnostics,
            import.diagnostics,
        ] {
            let bugs = diagnostics
                .iter()
                .filter(|it| it.detail.contains("ended without an answer"));
            assert_eq!(bugs.count(), 0, "{type_name}: {diagnostics:?}");
        }
    }
    assert_eq!(host.stderr(), "");
}

/// What the process holds: descriptors, and memory in KiB.
fn held(plugin: &Plugin) -> (usize, u64) {
    let folder = format!("/proc/{}", plugin.id());
    let descriptors = std::fs::read_dir(format!("{folder}/fd")).expect("Linux").count();
    let status = std::fs::read_to_string(format!("{folder}/status")).expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory = line.and_then(|line| line.trim().split(' ').next()?.parse().ok());
    (descriptors, memory.expect("a size"))
}

#[tokio::test]
async fn hundreds_of_calls_and_connections_leave_nothing_behind() {
    use futures_util::future::join_all;
    use kvtls::tfplugin6::generated::{DynamicValue, validate_provider_config};
    let plugin = Launch::by_terraform().start().await;
    let channel = plugin.dial().await;
    let storm = async || {
        let calls = (0..300).map(|_| {
            let mut provider = channel.provider();
            async move {
                let request = validate_provider_config::Request {
                    config: Some(DynamicValue {
                        msgpack: vec![0xc1; 4096],
                        json: Vec::new(),
                    }),
                };
                provider.validate_provider_config(request).await
            }
        });
        for answer in within("hundreds of answers", join_all(calls)).await {
            assert_eq!(answer.expect("no status").into_inner().diagnostics.len(), 1);
        }
        for _ in 0..20 {
            assert!(is_served(&plugin.dial().await).await);
        }
    };
    storm().await;
    let (descriptors, memory) = held(&plugin);
    for _ in 0..3 {
        storm().await;
    }
    within("connections to close", async {
        while held(&plugin).0 > descriptors {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let after = held(&plugin).1;
    assert!(after < memory + 8 * 1024, "{memory} KiB, then {after} KiB");
    channel.shutdown().await;
    assert_eq!(plugin.ended().await.code, Some(0));
}
