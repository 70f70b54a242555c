//! A plugin's process life, as go-plugin's hosts (Terraform, OpenTofu) expect it.
//!
//! [`serve`] is the story, one call per stage: find out who called, open a socket, print the one handshake line, serve
//! gRPC until the host says `Shutdown`. What is served beside go-plugin's own services is the caller's: this room knows
//! no Terraform beyond the names of its variables.
//!
//! Promises:
//! - stdout carries the handshake line and nothing else; everything else goes to stderr;
//! - with AutoMTLS, nobody but the host that started the process gets past the TLS handshake;
//! - the socket file is gone when the process has ended by `Shutdown`, SIGTERM, or because its host died;
//! - nothing slow happens before the handshake line. Terraform starts a provider three times per plan.
//!
//! Next: `handshake` for the beginning, `services` for the end, [`logging`] for what a host shows.

mod auto_mtls;
pub mod generated;
mod handshake;
mod listener;
pub mod logging;
mod services;
mod signals;

use std::convert::Infallible;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::Server;

use handshake::{Call, Identity, Terms};
use listener::Listener;
use signals::Signals;

/// How long calls still running at `Shutdown` may take to end. The host stopped listening to them; it waits two
/// seconds for the process and then kills it, and every one of these milliseconds is added to every Terraform command.
const GRACE: Duration = Duration::from_millis(50);

/// Requests of one Terraform run are few and wait on the network; two threads keep memory and start-up small.
const WORKERS: usize = 2;

/// A plugin: its names, and the gRPC service it is there for.
#[derive(Clone, Debug)]
pub struct Plugin<S> {
    /// The provider's type name, for example `notes`; the executable is `terraform-provider-` and this.
    pub name: &'static str,
    /// The source address, for example `registry.terraform.io/acme/notes`.
    pub address: &'static str,
    /// The version, without `v`.
    pub version: &'static str,
    /// Served beside go-plugin's services. Its constructor sets its own message limits.
    pub service: S,
}

/// Lives the whole life of the process and returns its exit code.
///
/// Started by a host: serves until `Shutdown`, SIGTERM, or some seconds after the host has gone; 0. SIGINT is ignored,
/// because Ctrl-C reaches the whole process group and the host decides what to stop.
/// Started by a person: explains itself on stderr; 1. `--version` and `--help` answer on stdout; 0. `--debug` serves
/// without TLS until SIGINT and prints how to make a host use this very process; 0.
pub fn serve<S>(plugin: Plugin<S>) -> ExitCode
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: NamedService + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    logging::report_panics(plugin.name);
    let identity = Identity {
        name: plugin.name,
        address: plugin.address,
        version: plugin.version,
    };
    match handshake::answer_the_call(&identity, std::env::args_os().skip(1), variable) {
        Call::Inform(text) => say(&mut io::stdout(), &text, ExitCode::SUCCESS),
        Call::Refuse(text) => say(&mut io::stderr(), &text, ExitCode::FAILURE),
        Call::Serve(terms) => match live(&identity, &terms, Routes::new(plugin.service)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => say(&mut io::stderr(), &error.with_causes(), ExitCode::FAILURE),
        },
    }
}

fn live(identity: &Identity, terms: &Terms, routes: Routes) -> Result<(), Error> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(Error::RuntimeNotStarted)?;
    let outcome = runtime.block_on(serve_until_told_to_end(identity, terms, routes));
    runtime.shutdown_background(); // whoever is still at work has nobody left to tell
    outcome
}

async fn serve_until_told_to_end(identity: &Identity, terms: &Terms, routes: Routes) -> Result<(), Error> {
    let mut signals = Signals::listen().map_err(Error::SignalsNotHeard)?;
    let tls = terms
        .client_certificate
        .as_deref()
        .map(auto_mtls::prepare)
        .transpose()?;
    let listener = Listener::open(&terms.socket).map_err(Error::SocketNotOpened)?;
    let line = match terms.is_debug {
        true => handshake::reattach_line(identity, &listener.address()),
        false => handshake::line(
            terms,
            &listener.address(),
            tls.as_ref().map(|tls| &tls.certificate),
        ),
    };
    handshake::print(&line).map_err(Error::HandshakeNotPrinted)?;

    let (stop, address) = (CancellationToken::new(), identity.address);
    let (connections, presence, _socket_file) = listener.accept(tls.map(|tls| tls.acceptor));
    let server = tokio::spawn(
        Server::builder()
            // Of the highest level: it is part of whatever is heard.
            .trace_fn(move |_| tracing::error_span!("plugin", tf_provider_addr = address))
            .add_routes(services::beside(routes, &stop))
            .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned()),
    );
    tokio::select! {
        () = stop.cancelled() => {}
        () = signals.told_to_end(terms.is_debug) => stop.cancel(),
        () = presence.host_gone(), if !terms.is_debug => stop.cancel(),
    }
    match timeout(GRACE, server).await {
        Ok(Ok(Err(failure))) => Err(Error::ServerFailed(failure)),
        _ => Ok(()), // over in time, or cut off: either way the host is no longer interested
    }
}

/// Why a plugin could not live, or ended badly.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("could not start the async runtime")]
    RuntimeNotStarted(#[source] io::Error),
    #[error("could not listen for signals")]
    SignalsNotHeard(#[source] io::Error),
    #[error("could not open a socket for the host")]
    SocketNotOpened(#[source] io::Error),
    #[error("could not print the handshake line: is the host gone?")]
    HandshakeNotPrinted(#[source] io::Error),
    #[error("could not prepare the encrypted connection that the host asked for")]
    TlsNotPrepared(#[from] auto_mtls::Error),
    #[error("the gRPC server failed")]
    ServerFailed(#[source] tonic::transport::Error),
}

impl Error {
    /// The error and everything behind it, on one line.
    fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        format!("[ERROR] {text}\n")
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the environment is go-plugin's half of the handshake"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn say(stream: &mut dyn Write, text: &str, code: ExitCode) -> ExitCode {
    match stream.write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE, // nobody reads: there is nobody else to tell
    }
}
