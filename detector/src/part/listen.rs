//! Listens to what ports without a VM ask DHCP for, for which it takes the right to packet sockets.

use std::{
    ffi::OsString,
    io,
    process::{ChildStdin, ChildStdout},
    thread,
};

use anyhow::{Context, Result};
use caps::Capability;
use detector_core::model::DhcpPrint;

use super::{List, Said, begin, brief, hear, lines, list_for, say, settle, start};
use crate::{
    config::Config,
    net::overhear::{self, PortLife},
    sandbox,
};

/// By this word the program is run as this part.
const WORD: &str = "listen-to-ports";

pub(super) const NEEDED: [Capability; 1] = [Capability::CAP_NET_RAW];

/// What comes of listening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Print(PortLife, DhcpPrint),
    /// Whether nobody listens now, and why.
    Deaf(Option<String>),
}

/// The listener, in a process of its own.
pub(crate) struct Listener {
    wanted: ChildStdin,
    heard: ChildStdout,
}

/// Those that are to be listened to.
pub(crate) type Ports = List<Vec<PortLife>>;

impl Listener {
    pub(crate) fn start(words: &[OsString]) -> io::Result<Self> {
        let (wanted, heard) = start(WORD, words)?;
        Ok(Self { wanted, heard })
    }

    /// Hands on what is heard, on a thread of its own, until nobody wants to know.
    pub(crate) fn follow(self, tell: impl Fn(Heard) -> bool + Send + 'static) -> io::Result<Ports> {
        let Self { wanted, heard } = self;
        let ports = list_for("overhear-ports", wanted)?;
        let again: Ports = List::clone(&ports);
        thread::Builder::new().name("overhear".to_owned()).spawn(move || {
            let mut heard = lines(heard);
            while let Some(said) = hear::<Said<(PortLife, DhcpPrint)>>(&mut heard) {
                let news = match said {
                    Said::Begun => {
                        // Who begins anew has to be told again.
                        again.ring();
                        Heard::Deaf(None)
                    }
                    Said::Ended(how) => {
                        let how = brief(&how);
                        tracing::warn!(how, "the process that listens to ports");
                        Heard::Deaf(Some(format!("the process that listens {how}")))
                    }
                    Said::Told((port, print)) => Heard::Print(port, print),
                };
                if !tell(news) {
                    return;
                }
            }
            tracing::error!("nobody is left who listens to ports");
            tell(Heard::Deaf(Some("whoever starts the process that listens has ended".to_owned())));
        })?;
        Ok(ports)
    }
}

/// Is this part, until the daemon has gone.
pub(super) fn listen(config: &Config) -> Result<()> {
    begin()?;
    settle(config, &NEEDED, sandbox::only_listen)?;
    let ports = overhear::spawn(|port, print| say(&Said::Told((port, print))))
        .context("cannot start to listen to ports")?;
    say(&Said::<()>::Begun);
    let mut wanted = io::stdin().lock();
    while let Some(list) = hear::<Vec<PortLife>>(&mut wanted) {
        if ports.send(list).is_err() {
            break;
        }
    }
    Ok(())
}
