//! Whether the host's clock is believed, and a person's word that it is right.

use std::io::Write;

use anyhow::Result;

use super::{
    Done, Global,
    args::ClockCommand,
    ask::{ask, unexpected},
    output::{Output, Text, Tone},
};
use crate::{
    api::{Reply, Request, view::ClockView},
    clock,
};

pub(super) fn run(global: &Global, command: &ClockCommand) -> Result<Done> {
    let request = match command {
        ClockCommand::Show => Request::ClockShow {},
        ClockCommand::Confirm { reason } => {
            Request::ClockConfirm { says: clock::read().day.0, reason: reason.clone() }
        }
    };
    let clock = match ask(global, request)? {
        Reply::Clock(clock) => clock,
        other => return unexpected(&other),
    };
    print(&mut Output::new(global), &clock)?;
    Ok(if clock.doubted.is_some() { Done::Report } else { Done::Fine })
}

pub(in crate::cli) fn print<W: Write>(output: &mut Output<W>, clock: &ClockView) -> Result<()> {
    if output.is_json() {
        return output.json(clock);
    }
    output.field("Clock", clock.says.to_string())?;
    match clock.doubted {
        None => output.field("Believed", Text("yes".to_owned(), Tone::Good))?,
        Some(since) => {
            let text = format!(
                "no: it was set {}, so that it is {} at the earliest and {} at the latest",
                output.ago(since),
                clock.earliest,
                clock.latest
            );
            output.field("Believed", Text(text, Tone::Attention))?;
        }
    }
    if let Some(word) = &clock.confirmed {
        let text = format!(
            "{} instead of {}, by uid {}: {}",
            word.at, word.instead_of, word.uid, word.reason
        );
        output.field("Confirmed", text)?;
    }
    if clock.doubted.is_some() {
        output.line("")?;
        output.line("It is right:     detector clock confirm --reason '…'")?;
        output.line("It is wrong:     set it right; two minutes later it is believed again")?;
    }
    Ok(())
}
