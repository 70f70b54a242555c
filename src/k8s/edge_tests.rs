//! Handshakes with a listener that presents a throw-away certificate, directly and through a proxy.

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// An edge with an expired, self-signed certificate; its endpoint.
async fn edge() -> Endpoint {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["shop.example.com".to_owned()]).unwrap();
    params.not_after = time::macros::datetime!(2020-01-01 00:00 UTC);
    let certificate = params.self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            acceptor.accept(stream).await.ok();
        }
    });
    Endpoint {
        address: "127.0.0.1".into(),
        port,
    }
}

/// A proxy that connects everything to one endpoint, or refuses.
async fn proxy(to: Option<Endpoint>) -> ProxySettings {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = read_head(&mut stream).await.unwrap();
            assert!(
                head.starts_with("CONNECT edge.example:443 HTTP/1.1\r\n"),
                "{head}"
            );
            assert!(head.contains("Proxy-Authorization: Basic dTpwQHNz\r\n"), "{head}");
            match &to {
                Some(to) => {
                    let mut onward = TcpStream::connect((to.address.as_str(), to.port)).await.unwrap();
                    stream
                        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                        .await
                        .unwrap();
                    tokio::io::copy_bidirectional(&mut stream, &mut onward).await.ok();
                }
                None => stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await.unwrap(),
            }
        }
    });
    ProxySettings {
        https_proxy: Some(format!("http://u:p%40ss@127.0.0.1:{port}")),
        no_proxy: None,
    }
}

#[tokio::test]
async fn a_handshake_shows_even_an_expired_certificate() {
    let served = handshake(
        &edge().await,
        "shop.example.com",
        &ProxySettings::default(),
        PATIENCE,
    )
    .await
    .unwrap();
    assert_eq!(
        (served.leaf.hosts.as_slice(), served.chain_length),
        (["shop.example.com".to_owned()].as_slice(), 1)
    );
}

#[tokio::test]
async fn a_proxy_is_used_unless_it_is_excepted() {
    let endpoint = Endpoint {
        address: "edge.example".into(),
        port: 443,
    };
    let through = proxy(Some(edge().await)).await;
    let served = handshake(&endpoint, "shop.example.com", &through, PATIENCE)
        .await
        .unwrap();
    assert!(served.leaf.covers("shop.example.com"));

    let refusing = proxy(None).await;
    let error = handshake(&endpoint, "shop.example.com", &refusing, PATIENCE)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("403 Forbidden") && !error.contains("p@ss") && !error.contains("p%40ss"),
        "{error}"
    );

    let excepted = ProxySettings {
        no_proxy: Some("127.0.0.0/8".into()),
        ..refusing
    };
    assert!(
        handshake(&edge().await, "shop.example.com", &excepted, PATIENCE)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn what_is_no_edge_is_told_apart() {
    let none = ProxySettings::default();
    let endpoint = edge().await;
    assert!(matches!(
        handshake(&endpoint, "*.example.com", &none, PATIENCE).await,
        Err(EdgeError::Host { .. })
    ));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = Endpoint {
        address: "127.0.0.1".into(),
        port: listener.local_addr().unwrap().port(),
    };
    let outcome = handshake(&silent, "shop.example.com", &none, Duration::from_millis(100)).await;
    assert!(matches!(outcome, Err(EdgeError::Timeout { .. })), "{outcome:?}");

    drop(listener);
    let outcome = handshake(&silent, "shop.example.com", &none, PATIENCE).await;
    assert!(matches!(outcome, Err(EdgeError::Connect { .. })), "{outcome:?}");
}
