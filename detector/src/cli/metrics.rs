use std::io::Write;

use anyhow::{Result, anyhow};

use super::{
    Done, Global,
    ask::{try_ask, unexpected},
    output::Output,
    pins,
};
use crate::{
    api::{
        Reply, Request,
        view::{MetricsView, PortMetrics},
    },
    metrics,
};

pub(super) fn run(global: &Global) -> Result<Done> {
    let view = match try_ask(global, Request::Metrics {})? {
        Ok(Reply::Metrics(view)) => *view,
        Ok(other) => return unexpected(&other),
        Err(error) => pinned(pins::instead(global, error)?),
    };
    let mut output = Output::new(global);
    if output.is_json() {
        output.json(&view)?;
        return Ok(Done::Fine);
    }
    let text = metrics::text(&view).map_err(|error| anyhow!("metrics: {error}"))?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(Done::Fine)
}

/// What the pinned maps count, without the daemon.
fn pinned(pinned: pins::Pinned) -> MetricsView {
    let metered = |port: crate::api::view::PortView| {
        let (name, role) = (port.name, port.role);
        Some(PortMetrics { name, role, counters: port.counters? })
    };
    MetricsView {
        daemon: None,
        enforces: pinned.enforces,
        quarantines: pinned.quarantines.len(),
        ports: pinned.ports.into_iter().filter_map(metered).collect(),
    }
}
