//! Who is answered, and with which line.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use kvtls::tfplugin6::generated::stop_provider;

use crate::host::{Channel, Host, Launch, within};

/// Whether the provider service answers.
pub(crate) async fn is_served(channel: &Channel) -> bool {
    let mut provider = channel.provider();
    within("an answer", provider.stop_provider(stop_provider::Request {}))
        .await
        .is_ok()
}

#[tokio::test]
async fn a_person_gets_words_on_stderr_and_exit_code_one() {
    for wrong in [&[][..], &[("TF_PLUGIN_MAGIC_COOKIE", "not the cookie")]] {
        let ended = Launch::by_hand(&[]).environment(wrong).run().await;
        assert_eq!(ended.code, Some(1));
        assert_eq!(ended.stdout, "");
        assert!(
            ended.stderr.contains("Terraform or OpenTofu starts it"),
            "{}",
            ended.stderr
        );
        assert!(
            ended.stderr.contains(env!("CARGO_PKG_VERSION")),
            "{}",
            ended.stderr
        );
        assert!(ended.left.is_empty(), "{:?}", ended.left);
    }
}

#[tokio::test]
async fn version_and_help_answer_on_stdout() {
    for (option, words) in [
        ("--version", env!("CARGO_PKG_VERSION")),
        ("--help", "TF_REATTACH_PROVIDERS"),
    ] {
        let ended = Launch::by_hand(&[option]).run().await;
        assert_eq!(ended.code, Some(0));
        assert!(ended.stdout.contains(words), "{}", ended.stdout);
        assert_eq!(ended.stderr, "");
    }
}

#[tokio::test]
async fn the_line_names_protocol_socket_and_certificate() {
    let host = Host::start(&[]).await;
    let handshake = host.plugin().handshake();
    assert_eq!(handshake.core, "1");
    assert_eq!(handshake.app, "6");
    assert_eq!(handshake.network, "unix");
    assert_eq!(handshake.transport, "grpc");
    assert_eq!(handshake.multiplexed, None);
    let socket = std::fs::metadata(&handshake.address).expect("the socket file is there");
    assert!(socket.file_type().is_socket());
    // Hosts take up to 50 characters for "no certificate".
    let certificate = handshake.certificate.expect("TLS was asked for");
    assert!(certificate.len() > 50);
    assert!(is_served(host.channel()).await);
}

#[tokio::test]
async fn no_two_processes_share_a_certificate() {
    let (one, other) = (Host::start(&[]).await, Host::start(&[]).await);
    assert_ne!(
        one.plugin().handshake().certificate,
        other.plugin().handshake().certificate
    );
}

#[tokio::test]
async fn without_a_client_certificate_there_is_no_tls() {
    let host = Host::start(&[("PLUGIN_CLIENT_CERT", "")]).await;
    assert_eq!(host.plugin().handshake().certificate, None);
    assert!(host.plugin().line().ends_with("|grpc|\n"));
    assert!(is_served(host.channel()).await);
    assert_eq!(host.shutdown().await.code, Some(0));
}

#[tokio::test]
async fn an_unreadable_client_certificate_is_an_error_and_not_a_plain_connection() {
    let ended = Launch::by_terraform()
        .environment(&[("PLUGIN_CLIENT_CERT", "not PEM")])
        .run()
        .await;
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.stdout, "");
    assert!(
        ended.stderr.contains("the host's certificate could not be read"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn whatever_versions_are_offered_six_is_the_answer() {
    for offered in ["6,5", "6", "5", "7", "nonsense", ""] {
        let host = Host::start(&[("PLUGIN_PROTOCOL_VERSIONS", offered)]).await;
        assert_eq!(host.plugin().handshake().app, "6", "offered {offered:?}");
    }
}

#[tokio::test]
async fn a_variable_that_is_no_text_keeps_nobody_from_starting() {
    let plugin = Launch::by_terraform()
        .with_bytes(b"SOMEBODYS", b"\xff\xfe")
        .with_bytes(b"NAMELESS_\xff", b"x")
        .with_bytes(b"TF_LOG_PROVIDER_KVTLS_TLS", b"\xff")
        .with_bytes(b"ARM_CLIENT_ID", b"\xff")
        .start()
        .await;
    assert!(is_served(&plugin.dial().await).await, "{}", plugin.stderr());
}

#[tokio::test]
async fn only_hosts_that_know_of_multiplexing_hear_of_it() {
    let host = Host::start(&[("PLUGIN_MULTIPLEX_GRPC", "true")]).await;
    assert_eq!(host.plugin().handshake().multiplexed.as_deref(), Some("false"));
    assert!(is_served(host.channel()).await);
}

#[tokio::test]
async fn the_socket_goes_where_the_host_wants_it() {
    let directory = tempfile::tempdir().unwrap();
    let host = Host::start(&[("PLUGIN_UNIX_SOCKET_DIR", directory.path().to_str().unwrap())]).await;
    let address = host.plugin().handshake().address;
    assert!(
        address.starts_with(directory.path().to_str().unwrap()),
        "{address}"
    );
    assert_eq!(host.shutdown().await.code, Some(0));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_directory_too_long_for_a_socket_means_loopback_tcp() {
    let launch = Launch::by_terraform();
    let long = launch.directory().join("x".repeat(120));
    std::fs::create_dir(&long).unwrap();
    let plugin = launch
        .environment(&[("TMPDIR", long.to_str().unwrap())])
        .start()
        .await;
    let handshake = plugin.handshake();
    assert_eq!(handshake.network, "tcp");
    let port = handshake
        .address
        .strip_prefix("127.0.0.1:")
        .expect("loopback only");
    assert!((10_000..=25_000).contains(&port.parse::<u16>().unwrap()));
    let channel = plugin.dial().await;
    assert!(is_served(&channel).await);
    channel.shutdown().await;
    assert_eq!(plugin.ended().await.code, Some(0));
}

#[tokio::test]
async fn a_socket_group_may_connect_and_others_may_not() {
    let own = std::process::Command::new("id").arg("-g").output().unwrap();
    let group = String::from_utf8(own.stdout).unwrap();
    let host = Host::start(&[("PLUGIN_UNIX_SOCKET_GROUP", group.trim())]).await;
    let socket = std::fs::metadata(host.plugin().handshake().address).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o660);
    assert!(is_served(host.channel()).await);
}
