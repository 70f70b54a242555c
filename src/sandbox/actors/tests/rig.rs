//! An API server on loopback, a vault and an identity endpoint just big enough, and the actors between them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use p12_keystore::{EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey, PrivateKeyChain};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::sandbox::actors::{ActorSettings, Actors, Edges};
use crate::sandbox::certificates::{Authority, CertificateSpec, ChainShape, Issuers, KeyKind, ServerLeaf};
use crate::sandbox::clock::Clock;
use crate::sandbox::container_logs::ContainerLogs;
use crate::sandbox::core::AddonState;
use crate::sandbox::http::{Answer, json as json_answer};
use crate::sandbox::kubernetes::{ApiServer, ApiSettings, Identity};
use crate::sandbox::lag::{Lags, Pace};

const CLUSTER: &str = "myAKSCluster";
const VAULT_HOST: &str = "myakskeyvault.vault.azure.net";
pub(super) const HOST: &str = "myapp.example.com";
pub(super) const CERTIFICATE: &str = "my-tls-cert";

/// A vault and the identity endpoint of a node.
pub(super) struct Azure {
    pub(super) granted: AtomicBool,
    /// Whether the vault takes requests and never answers.
    pub(super) hangs: AtomicBool,
    /// Requests to the vault that carried a token.
    pub(super) fetches: AtomicUsize,
    /// Version and PFX of the one certificate's secret, newest last.
    versions: Mutex<Vec<(String, String)>>,
}

impl Azure {
    fn vault(&self, request: &Request<Incoming>) -> Answer {
        let Some(token) = request.headers().get(header::AUTHORIZATION) else {
            let mut answer = json_answer(
                StatusCode::UNAUTHORIZED,
                &json!({"error": {"code": "Unauthorized"}}),
            );
            let words = r#"Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net""#;
            answer
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, words.parse().unwrap());
            return answer;
        };
        assert_eq!(token, "Bearer a-token");
        self.fetches.fetch_add(1, Ordering::SeqCst);
        if !self.granted.load(Ordering::SeqCst) {
            let body = json!({"error": {"code": "Forbidden",
                "message": "Caller is not authorized to perform action on resource.\r\nCaller: appid=c;oid=o",
                "innererror": {"code": "ForbiddenByRbac"}}});
            return json_answer(StatusCode::FORBIDDEN, &body);
        }
        let versions = self.versions.lock().unwrap();
        let mut parts = request.uri().path().trim_matches('/').split('/').skip(1);
        let (name, version) = (parts.next().unwrap_or_default(), parts.next());
        let found = match version {
            None => versions.last(),
            Some(wanted) => versions.iter().find(|(version, _)| version == wanted),
        };
        match found.filter(|_| name == CERTIFICATE) {
            Some((version, pfx)) => {
                let id = format!("https://{VAULT_HOST}/secrets/{name}/{version}");
                let kid = format!("https://{VAULT_HOST}/keys/{name}/{version}");
                let body = json!({"value": pfx, "id": id, "kid": kid, "contentType": "application/x-pkcs12",
                    "attributes": {"enabled": true}});
                json_answer(StatusCode::OK, &body)
            }
            None => {
                let message = format!("A secret with (name/id) {name} was not found in this key vault.");
                let body = json!({"error": {"code": "SecretNotFound", "message": message}});
                json_answer(StatusCode::NOT_FOUND, &body)
            }
        }
    }

    fn identity(request: &Request<Incoming>) -> Answer {
        assert_eq!(request.headers()["metadata"], "true");
        let query = request.uri().query().unwrap_or_default();
        if !query.contains("client_id=the-client") {
            let body = json!({"error": "invalid_request", "error_description": "Identity not found"});
            return json_answer(StatusCode::BAD_REQUEST, &body);
        }
        let body = json!({"access_token": "a-token", "expires_on": "32503680000", "token_type": "Bearer"});
        json_answer(StatusCode::OK, &body)
    }
}

/// All of it, running.
pub(super) struct Rig {
    pub(super) clock: Clock,
    pub(super) azure: Arc<Azure>,
    pub(super) addon: watch::Sender<AddonState>,
    pub(super) actors: Actors,
    pub(super) edges: Edges,
    api: Arc<ApiServer>,
    issuers: Issuers,
    _servers: JoinSet<()>,
}

pub(super) fn enabled() -> AddonState {
    AddonState {
        enabled: true,
        rotation: true,
        poll_interval: Some(Duration::from_secs(120)),
        ..AddonState::default()
    }
}

impl Rig {
    pub(super) async fn start() -> Self {
        Self::start_with("1.5.6").await
    }

    /// With a driver of this version.
    pub(super) async fn start_with(driver: &str) -> Self {
        // All but stands still, so that only the tests move it.
        let clock = Clock::start(0.001);
        let now = clock.now();
        let mut servers = JoinSet::new();
        let authority = Authority::new("kubernetes", now).unwrap();
        let logs = ContainerLogs::default();
        let api = ApiServer::new(ApiSettings {
            name: CLUSTER.into(),
            version: "1.34.2".into(),
            clock: clock.clone(),
            entra: Arc::new(|_| None),
            static_tokens: Default::default(),
            forwarder: Arc::new(|_, _| None),
            logs: logs.clone(),
            azure: None,
        });
        let server = {
            let api = Arc::clone(&api);
            let leaf = authority.server_leaf(&["api.sandbox.test".into()]).unwrap();
            listen(&mut servers, Some(leaf), move |request| {
                let api = Arc::clone(&api);
                async move { api.answer(collected(request).await, Some(admin())).await }
            })
            .await
        };
        let client = authority
            .client_certificate("kvtls-sandbox:actors", &["system:masters"])
            .unwrap();
        let azure = Arc::new(Azure {
            granted: AtomicBool::new(true),
            hangs: AtomicBool::new(false),
            fetches: AtomicUsize::new(0),
            versions: Mutex::default(),
        });
        let front = Authority::new("front", now).unwrap();
        let leaf = front.server_leaf(&[VAULT_HOST.into()]).unwrap();
        let vault = {
            let azure = Arc::clone(&azure);
            listen(&mut servers, Some(leaf), move |request| {
                let azure = Arc::clone(&azure);
                async move {
                    if azure.hangs.load(Ordering::SeqCst) {
                        std::future::pending::<()>().await;
                    }
                    azure.vault(&request)
                }
            })
            .await
        };
        let identity = listen(&mut servers, None, |request| {
            std::future::ready(Azure::identity(&request))
        })
        .await;
        let mut front_roots = rustls::RootCertStore::empty();
        front_roots.add(front.der().clone()).unwrap();
        let edges = Edges::new();
        let edge = json!({"name": "nginx", "kind": "ingress", "class": "nginx", "controller": "k8s.io/ingress-nginx",
            "address": "127.0.1.1", "reachable": true, "publish_address": true});
        edges.add(&edge, CLUSTER);
        let edge = json!({"name": "istio", "kind": "gateway", "class": "approuting-istio", "address": "127.0.1.2",
            "accepts_listener_sets": true});
        edges.add(&edge, CLUSTER);
        let (addon, addon_states) = watch::channel(AddonState::default());
        let actors = Actors::start(ActorSettings {
            cluster: CLUSTER.into(),
            server,
            server_name: "api.sandbox.test".into(),
            ca_pem: authority.pem().into(),
            client_certificate_pem: client.certificate_pem,
            client_key_pem: client.key_pem,
            clock: clock.clone(),
            lags: Lags::of(Pace::Fast),
            driver: driver.into(),
            nodes: 1,
            kubelet: None,
            logs,
            identity_endpoint: format!("http://{identity}/clusters/{CLUSTER}"),
            vault_suffix: ".vault.azure.net".into(),
            address_of: Arc::new(move |host| (host == VAULT_HOST).then_some(vault)),
            front_roots: Arc::new(front_roots),
            edges: edges.clone(),
            addon: addon_states,
            objects: Vec::new(),
            staged: Value::Null,
            managed: false,
        });
        let rig = Self {
            clock,
            azure,
            addon,
            actors,
            edges,
            api,
            issuers: Issuers::new(now).unwrap(),
            _servers: servers,
        };
        rig.issue("v1").await;
        rig.settle().await;
        rig
    }

    /// A new version of the certificate in the vault.
    pub(super) async fn issue(&self, version: &str) -> Vec<u8> {
        let now = OffsetDateTime::now_utc();
        let issued = self.issuers.issue_vault_certificate(CertificateSpec {
            common_name: None,
            hosts: vec![HOST.into()],
            key: KeyKind::parse("P-256").unwrap(),
            chain: ChainShape::Full,
            issuer: "Contoso".into(),
            from: now - time::Duration::days(1),
            until: now + time::Duration::days(90),
            reuse: None,
        });
        let material = issued.get().await.unwrap();
        let certificates = material
            .chain_ders
            .iter()
            .map(|der| p12_keystore::Certificate::from_der(der).unwrap());
        let key = PrivateKey::from_der(&material.key_pkcs8).unwrap();
        let mut store = KeyStore::new();
        store.add_entry(
            "a",
            KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new(vec![1], key, certificates)),
        );
        let pfx = store
            .writer("")
            .encryption_algorithm(EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc)
            .mac_algorithm(MacAlgorithm::HmacSha1)
            .write()
            .unwrap();
        let mut versions = self.azure.versions.lock().unwrap();
        versions.push((version.to_owned(), STANDARD.encode(pfx)));
        material.leaf_der.clone()
    }

    pub(super) async fn settle(&self) {
        if let Err(busy) = self.actors.settle(Duration::from_secs(20)).await {
            panic!("still busy: {busy:?}");
        }
    }

    /// Moves the clock, settling after each moment at which something was due.
    pub(super) async fn advance(&self, seconds: u64) {
        let until = self.clock.now() + Duration::from_secs(seconds);
        loop {
            let fired = self.clock.advance_towards(until);
            self.settle().await;
            if fired.is_empty() {
                return;
            }
        }
    }

    pub(super) fn compact(&self) {
        let _revision = self.api.compact();
    }

    /// Enables the add-on and waits until the driver runs.
    pub(super) async fn enable(&self) {
        self.addon.send_replace(enabled());
        self.settle().await;
        self.advance(3).await;
    }

    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let content = if method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, content)
            .header(header::USER_AGENT, "test")
            .body(Bytes::from(body))
            .unwrap();
        let (head, body) = self.api.answer(request, Some(admin())).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (head.status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    pub(super) async fn create(&self, path: &str, object: Value) -> Value {
        let (status, made) = self.call(Method::POST, path, Some(&object)).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        made
    }

    /// The object, or null.
    pub(super) async fn get(&self, path: &str) -> Value {
        let (status, found) = self.call(Method::GET, path, None).await;
        if status == StatusCode::NOT_FOUND {
            Value::Null
        } else {
            found
        }
    }

    pub(super) async fn items(&self, path: &str) -> Vec<Value> {
        self.get(path).await["items"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// Messages of all events with this reason.
    pub(super) async fn events(&self, reason: &str) -> Vec<Value> {
        let mut all = self.items("/api/v1/namespaces/default/events").await;
        all.retain(|event| event["reason"] == reason);
        all
    }

    /// The certificate the edge shows for a host, and what it answers to a GET.
    pub(super) async fn visit(&self, host: &str) -> (Vec<u8>, String) {
        self.visit_at("127.0.1.1", host).await.unwrap()
    }

    /// The same of the edge with this address, or why no handshake came about.
    pub(super) async fn visit_at(&self, edge: &str, host: &str) -> Result<(Vec<u8>, String), std::io::Error> {
        let address = self.edges.by_address(edge.parse().unwrap()).unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let settings = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anything))
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let mut stream = TlsConnector::from(Arc::new(settings))
            .connect(name, stream)
            .await?;
        let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The server may end without a closing alert.
        drop(stream.read_to_end(&mut answer).await);
        Ok((leaf, String::from_utf8_lossy(&answer).into_owned()))
    }

    /// What the edge with this address answers to a plain GET.
    pub(super) async fn visit_plain(&self, edge: &str, host: &str) -> String {
        let address = self.edges.by_address(edge.parse().unwrap()).unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn admin() -> Identity {
    Identity {
        name: "admin".into(),
        uid: String::new(),
        groups: vec!["system:masters".into()],
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

async fn collected(request: Request<Incoming>) -> Request<Bytes> {
    let (parts, body) = request.into_parts();
    Request::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

async fn listen<F, A>(servers: &mut JoinSet<()>, leaf: Option<ServerLeaf>, answer: F) -> SocketAddr
where
    F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = leaf.map(|leaf| {
        let settings = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(leaf.chain, leaf.key)
            .unwrap();
        TlsAcceptor::from(Arc::new(settings))
    });
    let answer = Arc::new(answer);
    servers.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
            connections.spawn(async move {
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                match acceptor {
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            drop(
                                http1::Builder::new()
                                    .serve_connection(TokioIo::new(stream), service)
                                    .await,
                            );
                        }
                    }
                    None => drop(
                        http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    ),
                }
            });
        }
    });
    address
}

/// Takes any certificate: the tests look at it themselves.
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
