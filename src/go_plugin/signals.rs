//! Which signals end the process, and which do not.

use std::io;

/// Listens from its creation on, so that no Ctrl-C is lost between start-up and serving.
#[cfg(unix)]
pub(super) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Takes SIGINT and SIGTERM away from their defaults. Needs a runtime.
    pub(super) fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Returns on SIGTERM, and on SIGINT if `on_interrupt`.
    pub(super) async fn told_to_end(&mut self, on_interrupt: bool) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => if on_interrupt { return },
            }
        }
    }
}

/// Listens from its creation on, so that no Ctrl-C is lost between start-up and serving.
#[cfg(windows)]
pub(super) struct Signals {
    interrupt: tokio::signal::windows::CtrlC,
}

#[cfg(windows)]
impl Signals {
    /// Takes Ctrl-C away from its default. Needs a runtime.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: tokio::signal::windows::ctrl_c()?,
        })
    }

    /// Returns on Ctrl-C if `on_interrupt`, else never.
    pub(super) async fn told_to_end(&mut self, on_interrupt: bool) {
        loop {
            self.interrupt.recv().await;
            if on_interrupt {
                return;
            }
        }
    }
}
