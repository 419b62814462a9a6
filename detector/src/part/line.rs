//! The command line of `detector-part`, which the daemon writes and nobody else.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{curb, keep, listen, name, scan};
use crate::{
    config::Places,
    enforcer, escape,
    logging::{self, LogFormat},
    registry,
    remediate::provision,
};

/// One process of the daemon, which starts it; on its own it does nothing.
#[derive(Debug, Parser)]
#[command(name = super::PROGRAM, version)]
struct Line {
    #[command(subcommand)]
    word: Word,
    #[command(flatten)]
    given: Given,
}

/// What every part is told.
#[derive(Debug, Args)]
pub(crate) struct Given {
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[arg(long, global = true)]
    socket: Option<PathBuf>,
    #[arg(long, global = true)]
    pins: Option<PathBuf>,
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(crate) log: LogFormat,
    /// Do the work, and leave it to others to start that again.
    #[arg(long, global = true)]
    pub(crate) once: bool,
}

impl Given {
    pub(crate) fn places(self) -> Places {
        let Self { config, socket, pins, .. } = self;
        Places { config, socket, pins }
    }
}

/// Which part; the names are what `ps` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
enum Word {
    /// Carry orders out
    EnforceOrders,
    /// Look through processes
    ScanProcesses,
    /// Listen to ports
    ListenToPorts,
    /// Keep processes from running on
    CurbProcesses {
        /// The process of the daemon
        #[arg(long)]
        daemon: u32,
    },
    /// Read what is handed over
    ReadImages,
    /// See to one provisioner
    SuperviseProvisioner,
}

/// What has a part read the same configuration, and log as the daemon does.
pub(crate) fn words(places: &Places, log: LogFormat) -> Vec<OsString> {
    let log = log.to_possible_value().map_or_else(OsString::new, |value| value.get_name().into());
    let mut words: Vec<OsString> = vec!["--log".into(), log];
    let named =
        [("--config", &places.config), ("--pins", &places.pins), ("--socket", &places.socket)];
    for (name, place) in named {
        words.extend(place.iter().flat_map(|place| [name.into(), place.clone().into_os_string()]));
    }
    words
}

/// Runs `detector-part`.
pub fn main() -> ExitCode {
    name();
    match carry_out(Line::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {}", super::PROGRAM, escape::escape(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn carry_out(line: Line) -> Result<()> {
    let Line { word, given } = line;
    let (log, once) = (given.log, given.once);
    match word {
        // These know no configuration, and log nothing.
        Word::ReadImages => return registry::serve_reader().context("no images are read"),
        Word::SuperviseProvisioner => {
            return provision::supervise().context("nothing is provisioned");
        }
        _ => {}
    }
    logging::begin(log);
    let places = given.places();
    match word {
        Word::EnforceOrders => {
            let config = places.load()?;
            enforcer::part::run(&config, move || Ok(places.load()?))
        }
        Word::ScanProcesses if once => scan::scan(&places.load()?),
        Word::ListenToPorts if once => listen::listen(&places.load()?),
        Word::CurbProcesses { daemon } if once => curb::curb(&places.load()?, daemon),
        Word::ScanProcesses => keep(&scan::NEEDED),
        Word::CurbProcesses { .. } => keep(&curb::NEEDED),
        Word::ListenToPorts => keep(&listen::NEEDED),
        Word::ReadImages | Word::SuperviseProvisioner => Ok(()),
    }
}
