//! Sockets that can be told to die: cut, or reset so that the other side sees `ECONNRESET`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How a connection has to end; the handler of a request holds it, and the socket obeys.
#[derive(Clone, Default)]
pub(crate) struct Fate(Arc<AtomicBool>);

impl Fate {
    /// From now on every use of the socket fails, and closing it resets the connection.
    pub(crate) fn reset(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_reset(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A TCP connection with a fate.
pub(crate) struct Socket {
    stream: TcpStream,
    fate: Fate,
}

impl Socket {
    /// This connection, and its fate.
    pub(crate) fn new(stream: TcpStream) -> (Self, Fate) {
        let fate = Fate::default();
        let socket = Self {
            stream,
            fate: fate.clone(),
        };
        (socket, fate)
    }

    fn judge(&self) -> io::Result<()> {
        if self.fate.is_reset() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.fate.is_reset() {
            // Without this the connection merely ends; the other side fails either way.
            let _resets = self.stream.set_zero_linger().is_ok();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.judge()?;
        Pin::new(&mut this.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.judge()?;
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.judge()?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.judge()?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}
