use std::io::Write;

use anyhow::Result;

use super::{
    Done, Global,
    ask::{ask, unexpected},
    output::{Output, Text, Tone},
};
use crate::api::{
    Reply, Request,
    view::{Health, health},
};

pub(super) fn run(global: &Global) -> Result<Done> {
    let status = match ask(global, Request::Status {})? {
        Reply::Status(status) => status,
        other => return unexpected(&other),
    };
    let health = health(&status);
    print(&mut Output::new(global), &health)?;
    Ok(if health.is_healthy() { Done::Fine } else { Done::Report })
}

pub(super) fn print<W: Write>(output: &mut Output<W>, health: &Health) -> Result<()> {
    if output.is_json() {
        return output.json(health);
    }
    let tone = if health.is_healthy() { Tone::Good } else { Tone::Bad };
    output.field("Health", Text(health.status.clone(), tone))?;
    output.field("Mode", health.mode.clone())?;
    for trouble in &health.degraded {
        let next = trouble.next.as_ref().map(|next| format!(" Next: {next}")).unwrap_or_default();
        output.field(&trouble.part, Text(format!("{}{next}", trouble.why), Tone::Attention))?;
    }
    Ok(())
}
