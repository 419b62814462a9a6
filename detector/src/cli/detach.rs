//! Takes everything off the host.

use std::{io::Write, path::Path};

use anyhow::{Result, bail};
use serde::Serialize;

use super::{
    Done, Global,
    args::DetachArgs,
    ask,
    hook::{DRIVERS, installed},
    output::{Output, Text, Tone},
};
use crate::bpf::{PinnedLink, Remains};

pub(super) fn run(global: &Global, args: &DetachArgs) -> Result<Done> {
    let pins = ask::pins(global)?;
    let found = Remains::find(&pins)?;
    if let Some(pid) = found.holder {
        bail!(
            "the daemon runs (process {pid}) and would put everything back: stop it first, with \
             `systemctl stop detector`. Nothing has been changed"
        );
    }
    let mut output = Output::new(global);
    let removed = args.yes && !found.is_empty();
    let found = if removed { Remains::remove(&pins)? } else { found };
    let asking = |driver: &&str| installed::asking(Path::new(installed::DIRECTORY), driver);
    let hooks = DRIVERS.iter().flat_map(asking);
    let hooks = hooks.map(|path| path.display().to_string()).collect();
    let place = Place { pins: &pins, hooks };
    print(&mut output, &found, &place, removed)?;
    Ok(if removed || found.is_empty() { Done::Fine } else { Done::Report })
}

/// Where it is looked.
pub(super) struct Place<'a> {
    pub(super) pins: &'a Path,
    /// Hooks of libvirt's that would ask a daemon that does not come back.
    pub(super) hooks: Vec<String>,
}

#[derive(Serialize)]
struct Document<'a> {
    /// Whether it has been taken away, or would be.
    removed: bool,
    schemas: Vec<u32>,
    programs: Vec<Program<'a>>,
    maps: usize,
    passages: Vec<&'a str>,
    forwarding: Vec<Entry<'a>>,
    quarantines: usize,
    unknown: Vec<String>,
    hooks: &'a [String],
}

#[derive(Serialize)]
struct Program<'a> {
    interface: &'a str,
    ifindex: u32,
    hook: &'a str,
}

#[derive(Serialize)]
struct Entry<'a> {
    interface: &'a str,
    mac: String,
    vlan: u16,
}

pub(super) fn print<W: Write>(
    output: &mut Output<W>,
    found: &Remains,
    place: &Place<'_>,
    removed: bool,
) -> Result<()> {
    let Place { pins, hooks } = place;
    if output.is_json() {
        return output.json(&document(found, removed, hooks));
    }
    if found.is_empty() {
        output.line("Nothing of this program is on this host.")?;
        return advice(output, hooks);
    }
    let verb = if removed { "Removed" } else { "Would be removed:" };
    output.title(verb)?;
    let schemas: Vec<_> = found.versions.iter().map(ToString::to_string).collect();
    let place = format!("{} (map schema {})", pins.display(), schemas.join(", "));
    output.field("Pins", place)?;
    output.field("Programs", interfaces(found))?;
    output.field("Maps", found.maps.len().to_string())?;
    let passages: Vec<_> = found.passages.values().map(String::as_str).collect();
    output.field("Passages", none_or(passages.join(", ")))?;
    output.field("Forwarding", entries(found))?;
    if found.quarantines > 0 {
        let text = format!("{} end with it", found.quarantines);
        output.field("Quarantines", Text(text, Tone::Attention))?;
    }
    for path in &found.unknown {
        let text = format!("{} is not known, and stays", path.display());
        output.field("Unknown", Text(text, Tone::Attention))?;
    }
    output.line("")?;
    if removed {
        output.line("Nothing is guarded any more. Configuration and state are as they were.")?;
    } else {
        output.line("Nothing has been changed. `detector detach --all --yes` does it.")?;
    }
    advice(output, hooks)
}

fn advice<W: Write>(output: &mut Output<W>, hooks: &[String]) -> Result<()> {
    for hook in hooks {
        let text = format!("{hook} still asks the daemon before each start: remove it too.");
        output.item("", &text)?;
    }
    Ok(())
}

fn document<'a>(found: &'a Remains, removed: bool, hooks: &'a [String]) -> Document<'a> {
    let link = |link: &'a PinnedLink| Program {
        interface: link.interface.as_deref().unwrap_or_default(),
        ifindex: link.ifindex,
        hook: &link.hook,
    };
    let filter = |(ifindex, name): (&u32, &'a String)| {
        ["ingress", "egress"].map(|hook| Program { interface: name, ifindex: *ifindex, hook })
    };
    let links = found.links.iter().map(link);
    Document {
        removed,
        schemas: found.versions.iter().copied().collect(),
        programs: links.chain(found.filters.iter().flat_map(filter)).collect(),
        maps: found.maps.len(),
        passages: found.passages.values().map(String::as_str).collect(),
        forwarding: found
            .forwarding
            .iter()
            .map(|(name, entry)| Entry {
                interface: name,
                mac: entry.mac.to_string(),
                vlan: entry.vlan,
            })
            .collect(),
        quarantines: found.quarantines,
        unknown: found.unknown.iter().map(|path| path.display().to_string()).collect(),
        hooks,
    }
}

/// The interfaces that programs are on, and how many are pinned for such as are gone.
fn interfaces(found: &Remains) -> String {
    let mut names: Vec<_> = found.links.iter().filter_map(|link| link.interface.clone()).collect();
    names.extend(found.filters.values().cloned());
    names.sort();
    names.dedup();
    let gone = found.links.iter().filter(|link| link.interface.is_none()).count();
    if gone > 0 {
        names.push(format!("{gone} of interfaces that are gone"));
    }
    none_or(names.join(", "))
}

fn entries(found: &Remains) -> String {
    let mut all: Vec<_> =
        found.forwarding.iter().map(|(name, entry)| format!("{} on {name}", entry.mac)).collect();
    all.dedup();
    none_or(all.join(", "))
}

fn none_or(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}
