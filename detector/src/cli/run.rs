use anyhow::{Result, anyhow};
use detector_common::settings::Mode;

use super::{
    Done, Global,
    args::{ModeArg, RunArgs},
    ask::places,
};
use crate::{daemon::lifecycle, fleet::store::configured, logging, part};

pub(super) fn run(global: &Global, args: &RunArgs) -> Result<Done> {
    follow(global, args).map_err(|error| {
        anyhow!("{error:#}\nNo daemon was started. What was in force stays in force.")
    })
}

fn follow(global: &Global, args: &RunArgs) -> Result<Done> {
    let places = places(global);
    let config = configured(&places, true)?;
    let mode = args.mode.map(|mode| match mode {
        ModeArg::Observe => Mode::Observe,
        ModeArg::Enforce => Mode::Enforce,
    });
    logging::begin(args.log);
    let words = part::words(&places, args.log);
    lifecycle::run(&config, mode, Box::new(move || configured(&places, false)), &words)?;
    Ok(Done::Fine)
}
