//! Listens to what ports without a VM ask DHCP for, for which it takes the right to packet sockets.

use std::{
    ffi::OsString,
    io::{self, Write},
    process::{ChildStdin, ChildStdout},
    sync::mpsc::{Sender, channel},
    thread,
};

use anyhow::{Context, Result};
use caps::Capability;
use detector_core::model::DhcpPrint;

use super::{begin, hear, lines, say, settle, start};
use crate::{
    config::Config,
    net::overhear::{self, PortLife},
    sandbox,
};

/// By this word the program is run as this part.
pub(crate) const WORD: &str = "listen-to-ports";

const NEEDED: [Capability; 1] = [Capability::CAP_NET_RAW];

/// The listener, in a process of its own.
pub(crate) struct Listener {
    wanted: ChildStdin,
    heard: ChildStdout,
}

impl Listener {
    pub(crate) fn start(words: &[OsString]) -> io::Result<Self> {
        let (wanted, heard) = start(WORD, words)?;
        Ok(Self { wanted, heard })
    }

    /// Hands on what is heard, on a thread of its own, until nobody listens. Where nobody is left who listens to
    /// ports, less is known of who is behind one.
    pub(crate) fn follow(
        self,
        tell: impl Fn(PortLife, DhcpPrint) -> bool + Send + 'static,
    ) -> io::Result<Sender<Vec<PortLife>>> {
        let Self { mut wanted, heard } = self;
        let (sender, ports) = channel::<Vec<PortLife>>();
        thread::Builder::new().name("overhear-ports".to_owned()).spawn(move || {
            for list in ports {
                let line = serde_json::to_vec(&list).unwrap_or_default();
                if wanted.write_all(&line).and_then(|()| wanted.write_all(b"\n")).is_err() {
                    return;
                }
            }
        })?;
        thread::Builder::new().name("overhear".to_owned()).spawn(move || {
            let mut heard = lines(heard);
            while let Some((port, print)) = hear::<(PortLife, DhcpPrint)>(&mut heard) {
                if !tell(port, print) {
                    return;
                }
            }
        })?;
        Ok(sender)
    }
}

/// Is this part, until the daemon has gone.
pub(crate) fn listen(config: &Config) -> Result<()> {
    begin()?;
    settle(config, &NEEDED, sandbox::only_listen)?;
    let ports = overhear::spawn(|port, print| say(&(port, print)))
        .context("cannot start to listen to ports")?;
    let mut wanted = io::stdin().lock();
    while let Some(list) = hear::<Vec<PortLife>>(&mut wanted) {
        if ports.send(list).is_err() {
            break;
        }
    }
    Ok(())
}
