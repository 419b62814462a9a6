use std::io::IsTerminal;

use anyhow::{Result, anyhow};
use detector_common::settings::Mode;
use tracing_subscriber::{EnvFilter, fmt};

use super::{
    Done, Global,
    args::{LogFormat, ModeArg, RunArgs},
    ask::config,
};
use crate::daemon::lifecycle;

pub(super) fn run(global: &Global, args: &RunArgs) -> Result<Done> {
    follow(global, args).map_err(|error| {
        anyhow!("{error:#}\nNo daemon was started. What was in force stays in force.")
    })
}

fn follow(global: &Global, args: &RunArgs) -> Result<Done> {
    let config = config(global)?;
    let mode = args.mode.map(|mode| match mode {
        ModeArg::Observe => Mode::Observe,
        ModeArg::Enforce => Mode::Enforce,
    });
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = fmt().with_writer(std::io::stderr).with_env_filter(filter);
    match args.log {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
    }
    let again = global.clone();
    lifecycle::run(&config, mode, Box::new(move || self::config(&again)))?;
    Ok(Done::Fine)
}
