//! A minimal plugin host: plays Terraform against the built executable.
//!
//! It starts the process with the magic cookie and a certificate of Terraform's kind (self-signed, P-521, `CA:TRUE`),
//! reads the handshake line, dials with mutual TLS and hands out gRPC clients. [`Host`] is the well-behaved one;
//! [`Launch`] and [`Plugin`] are its parts, for tests that misbehave.
//!
//! Every wait has a deadline, and what fails says what the process had printed. A process is ended, by its ID, when
//! its [`Plugin`] is dropped.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P521_SHA512,
};
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response, Uri};

use kvtls::go_plugin::generated::health::health_client::HealthClient;
use kvtls::go_plugin::generated::plugin::Empty;
use kvtls::go_plugin::generated::plugin::grpc_broker_client::GrpcBrokerClient;
use kvtls::go_plugin::generated::plugin::grpc_controller_client::GrpcControllerClient;
use kvtls::go_plugin::generated::plugin::grpc_stdio_client::GrpcStdioClient;
use kvtls::tfplugin6::generated::provider_client::ProviderClient;

/// What Terraform 1.11 sets, as a person may read it in its source.
const COOKIE: (&str, &str) = (
    "TF_PLUGIN_MAGIC_COOKIE",
    "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2",
);

/// How long anything may take before a test gives up on it. Far beyond what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a host accepts in one message.
const MESSAGE_LIMIT: usize = 256 << 20;

/// Waits for `future`, or fails naming `what`.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_elapsed) => panic!("gave up waiting: {what}"),
    }
}

/// A host with one connection, as Terraform has it.
pub(crate) struct Host {
    plugin: Plugin,
    channel: Channel,
}

impl Host {
    /// Starts the provider as Terraform does, with `environment` on top, and connects to it.
    pub(crate) async fn start(environment: &[(&str, &str)]) -> Self {
        let plugin = Launch::by_terraform().environment(environment).start().await;
        let channel = plugin.dial().await;
        Self { plugin, channel }
    }

    /// A client of the provider service, on the one connection.
    pub(crate) fn provider(&self) -> ProviderClient<Channel> {
        self.channel.provider()
    }

    /// The connection, for the other services.
    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The process.
    pub(crate) fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// What it printed on stderr so far.
    pub(crate) fn stderr(&self) -> String {
        self.plugin.stderr()
    }

    /// Says `Shutdown`, hangs up and waits for the process, as Terraform does; but never kills it.
    pub(crate) async fn shutdown(self) -> Ended {
        self.channel.shutdown().await;
        drop(self.channel);
        self.plugin.ended().await
    }
}

/// How to start the process.
pub(crate) struct Launch {
    pub(crate) executable: PathBuf,
    pub(crate) arguments: Vec<String>,
    environment: BTreeMap<OsString, OsString>,
    identity: Identity,
    temporary: TempDir,
}

impl Launch {
    /// As a person in a shell would.
    pub(crate) fn by_hand(arguments: &[&str]) -> Self {
        let temporary = tempfile::Builder::new()
            .prefix("kvtls")
            .tempdir()
            .expect("a temporary directory");
        let directory = temporary.path().to_str().expect("a readable name").to_owned();
        Self {
            executable: env!("CARGO_BIN_EXE_terraform-provider-kvtls").into(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            environment: BTreeMap::from([("TMPDIR".into(), directory.into())]),
            identity: Identity::new(),
            temporary,
        }
    }

    /// As Terraform does: cookie, protocol versions, ports, AutoMTLS.
    pub(crate) fn by_terraform() -> Self {
        let launch = Self::by_hand(&[]);
        let pem = launch.identity.pem.clone();
        launch.environment(&[
            COOKIE,
            ("PLUGIN_PROTOCOL_VERSIONS", "5,6"),
            ("PLUGIN_MIN_PORT", "10000"),
            ("PLUGIN_MAX_PORT", "25000"),
            ("PLUGIN_CLIENT_CERT", &pem),
        ])
    }

    /// The same with these variables set; an empty value unsets one.
    pub(crate) fn environment(mut self, variables: &[(&str, &str)]) -> Self {
        for (name, value) in variables {
            match value.is_empty() {
                true => self.environment.remove(OsStr::new(name)),
                false => self.environment.insert(name.into(), value.into()),
            };
        }
        self
    }

    /// The same with a variable that is no text.
    pub(crate) fn with_bytes(mut self, name: &[u8], value: &[u8]) -> Self {
        let bytes = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
        self.environment.insert(bytes(name), bytes(value));
        self
    }

    /// The same with one more argument.
    pub(crate) fn with_argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// The process's own temporary directory, where its socket goes.
    pub(crate) fn directory(&self) -> &Path {
        self.temporary.path()
    }

    /// Starts the process and reads its first line of stdout.
    pub(crate) async fn start(self) -> Plugin {
        let mut plugin = self.spawn();
        let mut stdout = BufReader::new(plugin.child.stdout.take().expect("stdout is a pipe"));
        let mut line = String::new();
        within("the first line on stdout", stdout.read_line(&mut line))
            .await
            .expect("stdout is readable");
        assert!(!line.is_empty(), "no line on stdout; stderr: {}", plugin.stderr());
        plugin.line = line;
        plugin.stdout = Some(collect(stdout, Arc::default()));
        plugin
    }

    /// Starts the process and waits until it ends by itself.
    pub(crate) async fn run(self) -> Ended {
        let mut plugin = self.spawn();
        let stdout = plugin.child.stdout.take().expect("stdout is a pipe");
        plugin.stdout = Some(collect(stdout, Arc::default()));
        plugin.ended().await
    }

    fn spawn(self) -> Plugin {
        let mut child = Command::new(&self.executable)
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the built executable starts");
        let errors = Arc::default();
        let stderr = child.stderr.take().expect("stderr is a pipe");
        Plugin {
            child,
            line: String::new(),
            stdout: None,
            stderr: collect(stderr, Arc::clone(&errors)),
            errors,
            identity: self.identity,
            temporary: self.temporary,
        }
    }
}

/// Reads `pipe` to its end, in the background.
fn collect(
    mut pipe: impl AsyncRead + Send + Unpin + 'static,
    into: Arc<Mutex<Vec<u8>>>,
) -> JoinHandle<String> {
    tokio::spawn(async move {
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
            into.lock()
                .expect("no panic while held")
                .extend_from_slice(&chunk[..length]);
        }
        text(&into)
    })
}

fn text(bytes: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&bytes.lock().expect("no panic while held")).into_owned()
}

/// A running process.
pub(crate) struct Plugin {
    child: Child,
    line: String,
    stdout: Option<JoinHandle<String>>,
    stderr: JoinHandle<String>,
    errors: Arc<Mutex<Vec<u8>>>,
    identity: Identity,
    temporary: TempDir,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Everything on stdout after the handshake line.
    pub(crate) stdout: String,
    /// Everything on stderr.
    pub(crate) stderr: String,
    /// Names of what it left in its temporary directory.
    pub(crate) left: Vec<String>,
}

impl Plugin {
    /// The first line on stdout, with its newline.
    pub(crate) fn line(&self) -> &str {
        &self.line
    }

    /// The handshake line, taken apart.
    pub(crate) fn handshake(&self) -> Handshake {
        Handshake::parse(&self.line)
    }

    /// The certificate with which the process lets its host in.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The ID of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// What it printed on stderr so far.
    pub(crate) fn stderr(&self) -> String {
        text(&self.errors)
    }

    /// Waits until stderr contains `words`.
    pub(crate) async fn says(&self, words: &str) {
        within(&format!("{words:?} on stderr"), async {
            while !self.stderr().contains(words) {
                assert!(!self.stderr.is_finished(), "it ended without: {}", self.stderr());
                tokio::time::sleep(Duration::from_millis(1)).await; // between two looks at a condition
            }
        })
        .await;
    }

    /// Sends a signal, by name without `SIG`.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("/bin/kill").args(["-s", name, &id]).status().await;
        assert!(sent.expect("kill starts").success());
    }

    /// Connects as the host that started it; without TLS if the handshake line names no certificate.
    pub(crate) async fn dial(&self) -> Channel {
        let handshake = self.handshake();
        let socket = handshake.socket().await;
        match &handshake.certificate {
            None => Channel::over(socket).await,
            Some(server) => {
                let config = client_config(server, Some(self.identity.key()), rustls::ALL_VERSIONS);
                Channel::over(Box::new(
                    encrypt(socket, config)
                        .await
                        .expect("the plugin lets its host in"),
                ))
                .await
            }
        }
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(mut self) -> Ended {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let Ok(Ok(status)) = status else {
            panic!("it does not end; stderr: {}", self.stderr());
        };
        let stdout = match self.stdout {
            Some(task) => within("the end of stdout", task)
                .await
                .expect("read without panic"),
            None => String::new(),
        };
        let left = std::fs::read_dir(self.temporary.path()).expect("readable");
        Ended {
            code: status.code(),
            stdout,
            stderr: within("the end of stderr", self.stderr)
                .await
                .expect("read without panic"),
            left: left
                .map(|entry| {
                    entry
                        .expect("readable")
                        .file_name()
                        .to_string_lossy()
                        .into_owned()
                })
                .collect(),
        }
    }
}

/// The fields of the handshake line.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// go-plugin's version.
    pub(crate) core: String,
    /// The provider protocol's version.
    pub(crate) app: String,
    /// `unix` or `tcp`.
    pub(crate) network: String,
    /// A path, or host and port.
    pub(crate) address: String,
    /// `grpc`.
    pub(crate) transport: String,
    /// The server's certificate, if there is TLS.
    pub(crate) certificate: Option<CertificateDer<'static>>,
    /// Whether the broker is multiplexed, if the line says so.
    pub(crate) multiplexed: Option<String>,
}

impl Handshake {
    fn parse(line: &str) -> Self {
        let line = line.strip_suffix('\n').expect("a whole line");
        let mut fields = line.split('|').map(str::to_owned);
        let mut next = || {
            fields
                .next()
                .unwrap_or_else(|| panic!("too few fields in {line:?}"))
        };
        Self {
            core: next(),
            app: next(),
            network: next(),
            address: next(),
            transport: next(),
            certificate: Some(next()).filter(|text| !text.is_empty()).map(|text| {
                // Go decodes as strictly: standard alphabet, no padding.
                CertificateDer::from(STANDARD_NO_PAD.decode(text).expect("base64 without padding"))
            }),
            multiplexed: fields.next(),
        }
    }

    /// Dials, without TLS.
    pub(crate) async fn socket(&self) -> Socket {
        let dialled: std::io::Result<Socket> = match self.network.as_str() {
            "unix" => UnixStream::connect(&self.address)
                .await
                .map(|socket| Box::new(socket) as Socket),
            "tcp" => TcpStream::connect(&self.address)
                .await
                .map(|socket| Box::new(socket) as Socket),
            other => panic!("unknown network {other:?}"),
        };
        dialled.expect("the plugin listens before it prints the line")
    }
}

/// Bytes in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Any kind of connection.
pub(crate) type Socket = Box<dyn Stream>;

/// TLS on `socket`, as a host does it: the one certificate is the only root, and its name must be `localhost`.
///
/// In TLS 1.3 a client is done before the server has judged it: whether it was let in shows at the first read.
pub(crate) async fn encrypt(socket: Socket, config: ClientConfig) -> std::io::Result<Socket> {
    let name = ServerName::try_from("localhost").expect("a valid name");
    let encrypted = TlsConnector::from(Arc::new(config)).connect(name, socket);
    Ok(Box::new(within("the TLS handshake", encrypted).await?))
}

/// Trusts `server` only and presents `key`, if any, whatever the server asks for.
pub(crate) fn client_config(
    server: &CertificateDer<'static>,
    key: Option<CertifiedKey>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(server.clone()).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .expect("the provider knows them")
        .with_root_certificates(roots);
    let mut config = match key {
        Some(key) => config.with_client_cert_resolver(Arc::new(Presents(Arc::new(key)))),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[derive(Debug)]
struct Presents(Arc<CertifiedKey>);

impl ResolvesClientCert for Presents {
    fn resolve(&self, _roots: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A host's certificate and key.
pub(crate) struct Identity {
    pem: String,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    /// One like Terraform 1.11 makes.
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, "localhost");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "HashiCorp");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyAgreement,
            KeyUsagePurpose::KeyCertSign,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
        }
    }

    /// Both, as TLS wants them.
    pub(crate) fn key(&self) -> CertifiedKey {
        self.with_key_of(self)
    }

    /// This certificate, with a key that is not its own.
    pub(crate) fn with_key_of(&self, other: &Self) -> CertifiedKey {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(other.key.clone()));
        let key = aws_lc_rs::sign::any_ecdsa_type(&key).expect("an ECDSA key");
        CertifiedKey::new(vec![self.certificate.clone()], key)
    }
}

/// One HTTP/2 connection. Clones share it; it is closed with the last one.
#[derive(Clone)]
pub(crate) struct Channel(SendRequest<Body>);

impl Channel {
    /// Speaks HTTP/2 on `socket`.
    pub(crate) async fn over(socket: Socket) -> Self {
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
        let (sender, connection) = within("the HTTP/2 handshake", handshake).await.expect("HTTP/2");
        tokio::spawn(connection); // ends with the connection; whoever uses it sees why
        Self(sender)
    }

    /// A client of the provider service.
    pub(crate) fn provider(&self) -> ProviderClient<Self> {
        ProviderClient::with_origin(self.clone(), origin())
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT)
    }

    /// A client of go-plugin's controller.
    pub(crate) fn controller(&self) -> GrpcControllerClient<Self> {
        GrpcControllerClient::with_origin(self.clone(), origin())
    }

    /// A client of go-plugin's broker.
    pub(crate) fn broker(&self) -> GrpcBrokerClient<Self> {
        GrpcBrokerClient::with_origin(self.clone(), origin())
    }

    /// A client of go-plugin's stdio.
    pub(crate) fn stdio(&self) -> GrpcStdioClient<Self> {
        GrpcStdioClient::with_origin(self.clone(), origin())
    }

    /// A client of the health service.
    pub(crate) fn health(&self) -> HealthClient<Self> {
        HealthClient::with_origin(self.clone(), origin())
    }

    /// Asks the plugin to end. An answer is due.
    pub(crate) async fn shutdown(&self) {
        let answer = within("the answer to Shutdown", async {
            self.controller().shutdown(Empty {}).await
        })
        .await;
        answer.expect("Shutdown is answered");
    }
}

/// As Go's client puts it.
pub(crate) fn origin() -> Uri {
    Uri::from_static("http://unused")
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
