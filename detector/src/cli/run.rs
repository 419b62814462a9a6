use std::{ffi::OsString, io::IsTerminal};

use anyhow::{Result, anyhow};
use clap::ValueEnum;
use detector_common::settings::Mode;
use tracing_subscriber::{EnvFilter, fmt};

use super::{
    Done, Global,
    args::{LogFormat, ModeArg, PartArgs, RunArgs},
    ask::config,
};
use crate::{config::Config, daemon::lifecycle, enforcer::part as enforcer_part};

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
    begin_log(args.log);
    let again = global.clone();
    lifecycle::run(
        &config,
        mode,
        Box::new(move || self::config(&again)),
        &words(global, args.log),
    )?;
    Ok(Done::Fine)
}

fn begin_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = fmt().with_writer(std::io::stderr).with_env_filter(filter);
    match format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
    }
}

/// What has a process of the daemon read the same configuration, and log as it does.
fn words(global: &Global, log: LogFormat) -> Vec<OsString> {
    let log = log.to_possible_value().map_or_else(OsString::new, |value| value.get_name().into());
    let mut words: Vec<OsString> = vec!["--log".into(), log];
    let places =
        [("--config", &global.config), ("--pins", &global.pins), ("--socket", &global.socket)];
    for (name, place) in places {
        words.extend(place.iter().flat_map(|place| [name.into(), place.clone().into_os_string()]));
    }
    words
}

/// Is the enforcer's process of a daemon.
pub(super) fn enforce_orders(global: &Global, args: &PartArgs) -> Result<Done> {
    let config = config(global)?;
    begin_log(args.log);
    let again = global.clone();
    enforcer_part::run(&config, move || self::config(&again))?;
    Ok(Done::Fine)
}

/// Is another process of a daemon.
pub(super) fn part(
    global: &Global,
    args: &PartArgs,
    run: fn(&Config) -> Result<()>,
) -> Result<Done> {
    begin_log(args.log);
    run(&config(global)?)?;
    Ok(Done::Fine)
}
