//! The socket the host dials: a Unix socket, or loopback TCP where there is none or its path would be too long.
//!
//! Every connection gets its own task for the TLS handshake. Whoever sends garbage, or nothing, loses its own
//! connection and disturbs nobody else's.

use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// How long a peer may take for its TLS handshake. The host needs milliseconds.
const TLS_PATIENCE: Duration = Duration::from_secs(10);

/// What a failed `accept` waits before the next one; it fails when descriptors run out, and they come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// How long the host may take to dial; it gives a plugin 60 seconds to start, so be as patient with it.
const FIRST_DIAL: Duration = Duration::from_secs(60);

/// How long the host may stay away once it has hung up. It never comes back in practice: it has crashed.
const LAST_HANGUP: Duration = Duration::from_secs(5);

/// Connections that are ready but not yet served; the host opens one.
const READY: usize = 16;

/// Where the host wants us to listen.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(unix),
    expect(
        dead_code,
        reason = "a Unix socket is wished for; loopback TCP has neither folder nor group"
    )
)]
pub(super) struct SocketWish {
    /// Directory for the Unix socket.
    pub(super) directory: PathBuf,
    /// A group, by name or number, that may connect to the Unix socket too.
    pub(super) group: Option<String>,
    /// Ports to try, in order, on 127.0.0.1.
    pub(super) ports: RangeInclusive<u16>,
}

/// Where we listen, in go-plugin's words.
#[derive(Clone, Debug)]
pub(super) struct Address {
    /// `unix` or `tcp`; hosts crash on anything else.
    pub(super) network: &'static str,
    /// A path, or `127.0.0.1:` and a port.
    pub(super) text: String,
}

/// A socket that is open: whoever dials it from now on is queued.
pub(super) struct Listener {
    socket: Socket,
    address: Address,
    file: SocketFile,
}

enum Socket {
    #[cfg(unix)]
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Removes the socket file when dropped; holds nothing for TCP.
pub(super) struct SocketFile(Option<PathBuf>);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            std::fs::remove_file(path).ok(); // gone already, or no longer ours to remove
        }
    }
}

impl Listener {
    /// Opens a Unix socket as wished, or else the first free port. Needs a runtime.
    ///
    /// A Unix path that is too long for the kernel, or a directory that cannot be written, is no reason to fail: hosts
    /// take TCP on every platform. A group that cannot be set is one, because somebody relies on it.
    pub(super) fn open(wish: &SocketWish) -> io::Result<Self> {
        #[cfg(unix)]
        {
            match Self::open_unix(wish) {
                Err(error) if wish.group.is_none() => {
                    tracing::warn!(error = %error, "no Unix socket in the directory for it; using loopback TCP");
                }
                decided => return decided,
            }
        }
        Self::open_tcp(&wish.ports)
    }

    #[cfg(unix)]
    fn open_unix(wish: &SocketWish) -> io::Result<Self> {
        let path = wish
            .directory
            .join(format!("plugin{}", uuid::Uuid::new_v4().simple()));
        // The handshake line is text with fields between bars and one line long.
        let text = path
            .to_str()
            .filter(|text| !text.contains(['|', '\n']))
            .map(str::to_owned)
            .ok_or(io::ErrorKind::InvalidFilename)?;
        let socket = UnixListener::bind(&path)?;
        let file = SocketFile(Some(path.clone()));
        if let Some(group) = &wish.group {
            share(&path, group)?;
        }
        let network = "unix";
        Ok(Self {
            socket: Socket::Unix(socket),
            address: Address { network, text },
            file,
        })
    }

    fn open_tcp(ports: &RangeInclusive<u16>) -> io::Result<Self> {
        let mut outcome = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
        for port in ports.clone() {
            outcome = std::net::TcpListener::bind(("127.0.0.1", port));
            if outcome.is_ok() {
                break;
            }
        }
        let socket = outcome?;
        socket.set_nonblocking(true)?;
        let text = socket.local_addr()?.to_string();
        let network = "tcp";
        Ok(Self {
            socket: Socket::Tcp(TcpListener::from_std(socket)?),
            address: Address { network, text },
            file: SocketFile(None),
        })
    }

    /// Where this listens.
    pub(super) fn address(&self) -> Address {
        self.address.clone()
    }

    /// Accepts from now on. Keep the file as long as the socket is to be found.
    pub(super) fn accept(
        self,
        tls: Option<TlsAcceptor>,
    ) -> (ReceiverStream<io::Result<Connection>>, Presence, SocketFile) {
        let (ready, connections) = mpsc::channel(READY);
        let (open, presence) = watch::channel(0);
        tokio::spawn(accept_until_unwanted(self.socket, tls, Door { ready, open }));
        let presence = Presence {
            open: presence,
            first_dial: FIRST_DIAL,
            last_hangup: LAST_HANGUP,
        };
        (ReceiverStream::new(connections), presence, self.file)
    }
}

impl Socket {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            #[cfg(unix)]
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
            Self::Tcp(listener) => {
                let stream = listener.accept().await?.0;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// Where accepted connections go.
#[derive(Clone)]
struct Door {
    ready: mpsc::Sender<io::Result<Connection>>,
    open: watch::Sender<usize>,
}

async fn accept_until_unwanted(socket: Socket, tls: Option<TlsAcceptor>, door: Door) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = door.ready.closed() => return,
        };
        match accepted {
            Ok(stream) => {
                tokio::spawn(admit(stream, tls.clone(), door.clone()));
            }
            Err(error) => {
                tracing::warn!(error = %error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn admit(stream: Box<dyn Stream>, tls: Option<TlsAcceptor>, door: Door) {
    let stream: Box<dyn Stream> = match tls {
        None => stream,
        Some(tls) => match timeout(TLS_PATIENCE, tls.accept(stream)).await {
            Ok(Ok(encrypted)) => Box::new(encrypted),
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "a connection was refused: not the host that started this plugin");
                return;
            }
            Err(_elapsed) => return,
        },
    };
    let connection = Connection {
        stream,
        counted: Counted::new(door.open),
    };
    door.ready.send(Ok(connection)).await.ok(); // nobody takes it: the server is stopping
}

/// Bytes in both directions.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection whose peer is the host, if there is TLS to tell.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    #[expect(dead_code, reason = "counts by being dropped with the connection")]
    counted: Counted,
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// One open connection.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(open: watch::Sender<usize>) -> Self {
        open.send_modify(|count| *count += 1);
        Self(open)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// How many connections are open, and how long none may be.
pub(super) struct Presence {
    open: watch::Receiver<usize>,
    first_dial: Duration,
    last_hangup: Duration,
}

impl Presence {
    /// Returns when the host has not dialled, or has hung up and not come back. A killed host cannot say `Shutdown`;
    /// without this its plugins would stay for ever.
    pub(super) async fn host_gone(mut self) {
        let mut patience = self.first_dial;
        loop {
            let came = matches!(
                timeout(patience, self.open.wait_for(|open| *open > 0)).await,
                Ok(Ok(_))
            );
            if !came {
                return;
            }
            let left = self.open.wait_for(|open| *open == 0).await.is_ok();
            if !left {
                return; // nobody accepts any more
            }
            patience = self.last_hangup;
        }
    }
}

/// Lets the members of `group` connect.
#[cfg(unix)]
fn share(path: &std::path::Path, group: &str) -> io::Result<()> {
    use std::os::unix::fs::{PermissionsExt, chown};
    let id = match group.parse() {
        Ok(id) => id,
        Err(_) => group_id(&std::fs::read_to_string("/etc/group")?, group)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no group {group:?}")))?,
    };
    chown(path, None, Some(id))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
}

/// The number of `group` in the text of `/etc/group`: lines of `name:password:number:members`.
#[cfg(unix)]
fn group_id(text: &str, group: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(directory: PathBuf) -> SocketWish {
        SocketWish {
            directory,
            group: None,
            ports: 10_000..=25_000,
        }
    }

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let text = "root:x:0:\nstaffing:x:7:\nstaff:x:50:ann,bob\nbroken\n";
        assert_eq!(group_id(text, "staff"), Some(50));
        assert_eq!(group_id(text, "sta"), None);
        assert_eq!(group_id(text, "broken"), None);
    }

    #[tokio::test]
    async fn the_socket_file_lives_as_long_as_its_guard() {
        let directory = tempfile::tempdir().unwrap();
        let listener = Listener::open(&wish(directory.path().to_owned())).unwrap();
        let path = PathBuf::from(listener.address().text);
        assert_eq!(listener.address().network, "unix");
        let (_connections, _presence, file) = listener.accept(None);
        assert!(path.exists());
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_directory_that_is_too_long_or_missing_means_tcp() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("x".repeat(120));
        std::fs::create_dir(&long).unwrap();
        for unusable in [long, directory.path().join("missing")] {
            let listener = Listener::open(&wish(unusable)).unwrap();
            assert_eq!(listener.address().network, "tcp");
            assert!(listener.address().text.starts_with("127.0.0.1:"));
        }
    }

    #[tokio::test]
    async fn taken_ports_are_skipped_and_no_free_port_is_an_error() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(Listener::open_tcp(&(port..=port)).is_err());
        let next = Listener::open_tcp(&(port..=u16::MAX)).unwrap();
        assert_ne!(next.address().text, format!("127.0.0.1:{port}"));
    }

    #[tokio::test]
    async fn an_unknown_group_is_an_error_and_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut wish = wish(directory.path().to_owned());
        wish.group = Some("no such group".to_owned());
        assert!(Listener::open(&wish).is_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    fn presence(open: &watch::Sender<usize>, first_dial: Duration) -> Presence {
        Presence {
            open: open.subscribe(),
            first_dial,
            last_hangup: Duration::ZERO,
        }
    }

    #[tokio::test]
    async fn a_host_that_never_comes_is_gone() {
        let (open, _) = watch::channel(0);
        presence(&open, Duration::ZERO).host_gone().await;
    }

    #[tokio::test]
    async fn a_host_is_gone_with_its_last_connection() {
        let (open, _) = watch::channel(0);
        let mut gone = Box::pin(presence(&open, Duration::MAX).host_gone());
        let first = Counted::new(open.clone());
        assert!(futures_util::poll!(&mut gone).is_pending());
        let second = Counted::new(open.clone());
        drop(first);
        assert!(futures_util::poll!(&mut gone).is_pending(), "one is still open");
        drop(second);
        gone.await;
    }
}
