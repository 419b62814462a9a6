use std::{net::SocketAddr, path::Path, process::ExitCode, sync::Arc};

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use super::args::Global;
use crate::{
    config::{self, Config},
    desk::Desk,
    source::{Access, Fleet, Local, Source},
    web,
};

pub(super) fn config(global: &Global) -> Result<Config> {
    match &global.config {
        Some(path) => Config::read(path),
        None if Path::new(config::DEFAULT).exists() => Config::read(config::DEFAULT.as_ref()),
        None => Ok(Config::default()),
    }
}

/// Where the estate comes from.
pub(super) fn source(global: &Global, config: &Config) -> Result<Arc<dyn Source>> {
    if global.local {
        return Ok(Arc::new(Local::new(global.socket.clone())));
    }
    match (&config.local, &config.fleet) {
        (Some(local), _) => Ok(Arc::new(Local::new(local.socket.clone()))),
        (None, Some(fleet)) => Ok(Arc::new(Fleet::new(Access {
            servers: fleet.servers.clone(),
            fleet: fleet.name.clone(),
            monitor: fleet.monitor.clone(),
            credentials: fleet.credentials.clone(),
            authority: fleet.authority.clone(),
        }))),
        (None, None) => bail!(
            "nobody to ask: give --local for this host's daemon, or a configuration with [local] or [fleet]"
        ),
    }
}

pub(super) fn run(global: &Global) -> Result<ExitCode> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .with_ansi(false)
        .init();
    let config = config(global)?;
    let source = source(global, &config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let desk = Desk::new(source, config.separate_networks.clone(), config.settle_seconds);
        tokio::spawn(Arc::clone(&desk).keep());
        let listener = listen(config.listen).await?;
        let Some(metrics) = config.metrics else {
            return web::serve(listener, desk, &config).await;
        };
        let asked = listen(metrics.listen).await?;
        tokio::try_join!(
            web::serve(listener, Arc::clone(&desk), &config),
            web::serve_metrics(asked, desk)
        )
        .map(|((), ())| ())
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}
