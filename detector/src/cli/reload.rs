use std::io::Write;

use anyhow::{Result, bail};

use super::{
    Done, Global,
    ask::{ask, unexpected},
    output::{Output, Text, Tone},
};
use crate::api::{Reply, Request, view::Reloaded};

pub(super) fn run(global: &Global) -> Result<Done> {
    let reloaded = match ask(global, Request::Reload {})? {
        Reply::Reloaded(reloaded) => reloaded,
        other => return unexpected(&other),
    };
    let mut output = Output::new(global);
    if let Some(why) = &reloaded.refused
        && !output.is_json()
    {
        bail!("{why}\nNothing has changed: what held before still holds.");
    }
    print(&mut output, &reloaded)?;
    if reloaded.refused.is_some() {
        bail!("the configuration is not used");
    }
    let complete = reloaded.kept.is_empty() && reloaded.trouble.is_empty();
    Ok(if complete { Done::Fine } else { Done::Report })
}

pub(super) fn print<W: Write>(output: &mut Output<W>, reloaded: &Reloaded) -> Result<()> {
    if output.is_json() {
        return output.json(reloaded);
    }
    let changed = match reloaded.changed.as_slice() {
        [] => "nothing".to_owned(),
        keys => keys.join(", "),
    };
    output.field("Changed", changed)?;
    for kept in &reloaded.kept {
        let end = if kept.restart { "; it holds from the next start on" } else { "" };
        let text = format!("{}: {}{end}", kept.key, kept.why);
        output.field("Kept", Text(text, Tone::Attention))?;
    }
    output.field("Templates", reloaded.templates.to_string())?;
    output.field("Rules", reloaded.rules.to_string())?;
    output.field("Inventory", format!("{} VMs", reloaded.vms))?;
    for trouble in &reloaded.trouble {
        output.field("Not used", Text(trouble.clone(), Tone::Bad))?;
    }
    Ok(())
}
