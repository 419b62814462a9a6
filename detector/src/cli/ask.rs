//! Talking to the daemon.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, anyhow, bail};

use super::Global;
use crate::{
    api::{CallError, Client, Reply, Request, client::TIMEOUT},
    config::{Config, DEFAULT_PATH, Paths, Places},
    daemon::actions::is_recorded,
};

/// The configuration that the command line names, with its paths replaced by those given.
pub(super) fn config(global: &Global) -> Result<Config> {
    Ok(places(global).load()?)
}

/// What the command line says of it.
pub(super) fn places(global: &Global) -> Places {
    let Global { config, socket, pins, .. } = global.clone();
    Places { config, socket, pins }
}

/// Where the daemon listens. The configuration is not read where the command line says it.
pub(super) fn socket(global: &Global) -> Result<PathBuf> {
    match &global.socket {
        Some(socket) => Ok(socket.clone()),
        None => place(global, "socket", |paths| paths.socket),
    }
}

/// Where maps are pinned. The configuration is not read where the command line says it.
pub(super) fn pins(global: &Global) -> Result<PathBuf> {
    match &global.pins {
        Some(pins) => Ok(pins.clone()),
        None => place(global, "pins", |paths| paths.pins),
    }
}

/// One of the configured paths. A slip elsewhere in the configuration does not keep anybody from asking a daemon
/// that runs on.
fn place(global: &Global, key: &str, of: impl Fn(Paths) -> PathBuf) -> Result<PathBuf> {
    config(global).map(|config| of(config.paths)).or_else(|error| {
        let Some(table) = table(global) else { return Err(error) };
        Ok(named(&table, key).unwrap_or_else(|| of(Paths::default())))
    })
}

/// The paths that a configuration names which cannot be used, as far as it can be read.
pub(super) fn paths(global: &Global) -> Paths {
    let mut paths = Paths::default();
    if let Some(table) = table(global) {
        let places = [("pins", &mut paths.pins), ("state", &mut paths.state)];
        for (key, path) in places {
            *path = named(&table, key).unwrap_or_else(|| path.clone());
        }
    }
    paths
}

fn table(global: &Global) -> Option<toml::Table> {
    Config::table(global.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH)))
}

fn named(table: &toml::Table, key: &str) -> Option<PathBuf> {
    table.get("paths").and_then(|paths| paths.get(key)?.as_str()).map(PathBuf::from)
}

/// Asks the daemon.
pub(super) fn ask(global: &Global, request: Request) -> Result<Reply> {
    match try_ask(global, request)? {
        Ok(reply) => Ok(reply),
        Err(error) => Err(complaint(error)),
    }
}

/// Asks the daemon something that may take so long.
pub(super) fn ask_patiently(global: &Global, request: Request, timeout: Duration) -> Result<Reply> {
    let socket = socket(global)?;
    let asked = Client::connect(&socket, timeout).and_then(|mut client| client.call(request));
    asked.map_err(complaint)
}

/// What to say of a daemon that could not be asked, or has refused.
pub(super) fn complaint(error: CallError) -> anyhow::Error {
    let way_out = way_out(&error);
    anyhow!("{:#}{way_out}", anyhow::Error::from(error))
}

/// What to do about a daemon that cannot be asked.
fn way_out(error: &CallError) -> &'static str {
    match error {
        CallError::Unreachable { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            ". Only root and those whom `api.group` or `[roles]` name may ask it"
        }
        CallError::Unreachable { .. } => {
            ". Is it running? `detector run` starts it; until then what was in force stays in \
             force, `detector port list`, `detector explain` and `detector quarantine list` show it, \
             and `detector quarantine add` cuts ports and MACs off"
        }
        _ => "",
    }
}

/// What is done is on record before, and its outcome before the answer: a slow disk may hold up both.
const RECORDED: Duration = Duration::from_secs(30);

/// Asks the daemon; that it does not answer is for the caller to judge.
pub(super) fn try_ask(global: &Global, request: Request) -> Result<Result<Reply, CallError>> {
    let socket = socket(global)?;
    let timeout = if is_recorded(&request) { RECORDED } else { TIMEOUT };
    Ok(Client::connect(&socket, timeout).and_then(|mut client| client.call(request)))
}

/// A reply that is not the one to this request.
pub(super) fn unexpected<T>(reply: &Reply) -> Result<T> {
    let debug = format!("{reply:?}");
    let kind = debug.split(['(', ' ']).next().unwrap_or_default();
    bail!("the daemon answered with {kind}, which is no answer to this request")
}
