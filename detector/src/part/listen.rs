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

use super::{Said, begin, hear, lines, say, settle, start};
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

/// What ports are to be listened to.
#[derive(Debug)]
pub(crate) struct Ear(Sender<Option<Vec<PortLife>>>);

impl Ear {
    /// These, and no others.
    pub(crate) fn listen_to(&self, ports: Vec<PortLife>) {
        // Where nobody is left who listens, that has been told.
        let _ = self.0.send(Some(ports));
    }
}

impl Listener {
    pub(crate) fn start(words: &[OsString]) -> io::Result<Self> {
        let (wanted, heard) = start(WORD, words)?;
        Ok(Self { wanted, heard })
    }

    /// Hands on what is heard, on a thread of its own, until nobody wants to know.
    pub(crate) fn follow(self, tell: impl Fn(Heard) -> bool + Send + 'static) -> io::Result<Ear> {
        let Self { mut wanted, heard } = self;
        let (sender, ports) = channel::<Option<Vec<PortLife>>>();
        thread::Builder::new().name("overhear-ports".to_owned()).spawn(move || {
            let mut list = Vec::new();
            for news in ports {
                // Who begins anew has to be told again.
                list = news.unwrap_or(list);
                let line = serde_json::to_vec(&list).unwrap_or_default();
                if wanted.write_all(&line).and_then(|()| wanted.write_all(b"\n")).is_err() {
                    return;
                }
            }
        })?;
        let again = sender.clone();
        thread::Builder::new().name("overhear".to_owned()).spawn(move || {
            let mut heard = lines(heard);
            while let Some(said) = hear::<Said<(PortLife, DhcpPrint)>>(&mut heard) {
                let news = match said {
                    Said::Begun => {
                        let _ = again.send(None);
                        Heard::Deaf(None)
                    }
                    Said::Ended(how) => {
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
        Ok(Ear(sender))
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
