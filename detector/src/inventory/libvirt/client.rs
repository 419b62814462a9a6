use std::{io, time::Duration};

use virt::{connect::Connect, error::Error};

use super::{events, session::KEEPALIVE, watchdog::Watchdog};

/// A connection of whoever has libvirt change something. A call may take as long as libvirt likes, and whoever makes
/// it waits; that it takes too long is told from another thread.
pub(crate) struct Client {
    connection: Connect,
    watchdog: Watchdog,
}

impl Client {
    /// Connects. `hangs` is told of each call that takes longer than `patience`, while it does.
    ///
    /// # Errors
    ///
    /// A sentence: there is no such libvirt, or it does not let this user change anything.
    pub(crate) fn open(
        uri: &str,
        patience: Duration,
        hangs: impl Fn(String) + Send + 'static,
    ) -> Result<Self, String> {
        let watchdog = Watchdog::spawn(patience, hangs, || {}).map_err(|error: io::Error| {
            format!("nobody would notice that libvirt hangs: {error}")
        })?;
        events::run_loop()?;
        let connection = watchdog
            .call("connect", || {
                let connection = Connect::open(Some(uri))?;
                if let Err(error) = connection.set_keep_alive(KEEPALIVE.0, KEEPALIVE.1) {
                    tracing::debug!(%error, "no keep-alive");
                }
                Ok(connection)
            })
            .map_err(|error: Error| format!("{uri} does not answer: {error}"))?;
        Ok(Self { connection, watchdog })
    }

    /// Makes a call, of which `what` says for people what libvirt is asked to do.
    pub(crate) fn call<T>(&self, what: &str, call: impl FnOnce(&Connect) -> T) -> T {
        self.watchdog.call(what, || call(&self.connection))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let Self { connection, watchdog } = self;
        if let Err(error) = watchdog.call("close the connection", || connection.close()) {
            tracing::debug!(%error, "closing libvirt");
        }
    }
}
