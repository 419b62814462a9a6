//! The enforcer's process: how it is started, and how it starts.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::Stdio,
};

use anyhow::{Context, Result};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use super::{
    EnforceError,
    message::{EVENTS, Hello, VERSION, encode},
    remote::Remote,
    serve::{Server, hand_on},
};
use crate::{
    bpf::{BpfError, KernelEnforcer, Options},
    config::Config,
    part, privilege, rights,
};

/// By this word the program is run as the enforcer's process.
const WORD: &str = "enforce-orders";

/// Runs `detector-part` as the enforcer, with these words behind its own, and waits until what is in force has been
/// taken over. Also where its notices come from.
///
/// # Errors
///
/// Why it has not.
pub fn start(words: &[OsString]) -> Result<(Remote, UnixStream), EnforceError> {
    let failed =
        |error: io::Error| EnforceError(format!("cannot start the enforcer's process: {error}"));
    let (orders, theirs) = UnixStream::pair().map_err(failed)?;
    let (notices, said) = UnixStream::pair().map_err(failed)?;
    let mut command = part::command(WORD, words).map_err(failed)?;
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::from(OwnedFd::from(said)));
    command.spawn().map_err(failed)?;
    // Only the process itself has the other ends from here on.
    drop(command);
    Ok((Remote::greet(orders)?, notices))
}

/// Is the enforcer, for whoever has started this process, until that one is gone.
pub(crate) fn run(config: &Config, load: impl Fn() -> Result<Config> + 'static) -> Result<()> {
    part::begin()?;
    // Kernels before 5.11 count maps as locked memory; where this cannot be raised, it says so when it matters.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    privilege::keep_only(&privilege::OF_ENFORCER).context("cannot give up capabilities")?;
    let (orders, notices) = (way(io::stdin().as_fd())?, way(io::stdout().as_fd())?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(async {
        let mut way = tokio::net::UnixStream::from_std(orders)?;
        let served = open(config).map_err(EnforceError::from).and_then(|ground| {
            let prepared = prepare(ground, config, load, notices);
            prepared.map_err(|error| EnforceError(format!("{error:#}")))
        });
        let (hello, server) = match served {
            Ok(both) => both,
            Err(error) => return greet(&mut way, &Err(error)).await,
        };
        greet(&mut way, &Ok(hello)).await?;
        server.run(way).await.context("what came was no order")
    });
    if let Err(error) = &ended {
        tracing::error!(%error, "the enforcer ends; what is in force stays in force");
    }
    // Nothing is dropped in order, so that no program is detached on the way out.
    std::process::exit(i32::from(ended.is_err()))
}

fn way(fd: std::os::fd::BorrowedFd<'_>) -> Result<UnixStream> {
    let way = UnixStream::from(fd.try_clone_to_owned()?);
    way.set_nonblocking(true)?;
    Ok(way)
}

fn open(config: &Config) -> Result<KernelEnforcer, BpfError> {
    let options = Options { pins: config.paths.pins.clone(), stamp: config.stamp, method: None };
    KernelEnforcer::open(&options)
}

fn prepare(
    mut ground: KernelEnforcer,
    config: &Config,
    load: impl Fn() -> Result<Config> + 'static,
    notices: UnixStream,
) -> Result<(Hello, Server<KernelEnforcer>)> {
    use super::Enforcer;
    let hello = Hello {
        version: VERSION,
        method: format!("{:?}", ground.method()),
        fresh: ground.is_fresh(),
        quarantine_map: ground.quarantine_map()?,
        predecessors: ground.has_predecessors(),
    };
    rights::send(notices.as_fd(), EVENTS, &[ground.events()?.as_fd()])?;
    tokio::spawn(hand_on(ground.signs()?, tokio::net::UnixStream::from_std(notices)?));
    tokio::spawn(ground.follow_logs()?);
    let policy = move || match load() {
        Ok(config) => Ok((config.policy(), config.text)),
        Err(error) => Err(format!("{error:#}")),
    };
    Ok((hello, Server::new(ground, config.policy(), Box::new(policy))?))
}

async fn greet(
    way: &mut tokio::net::UnixStream,
    hello: &Result<Hello, EnforceError>,
) -> Result<()> {
    use tokio::io::AsyncWriteExt;
    let body = encode(hello)?;
    way.write_all(&u32::try_from(body.len())?.to_le_bytes()).await?;
    way.write_all(&body).await?;
    Ok(())
}
