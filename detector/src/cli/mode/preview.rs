//! What enforcing would cut.

use std::{collections::BTreeMap, io::Write};

use anyhow::Result;

use super::super::{
    Done, Global,
    ask::{ask, unexpected},
    escape::escape,
    output::Output,
    port::unlisted,
};
use crate::api::{
    Reply, Request,
    view::{ModeView, Preview, PreviewPort},
};

const INCOMPLETE: &str = "This is not all of it: some interfaces have claimed more than is kept (those \
                          marked with !). Grant or mend what is listed, and ask again.";

pub(super) fn run(global: &Global) -> Result<Done> {
    let preview = match ask(global, Request::EnforcePreview {})? {
        Reply::Preview(preview) => preview,
        other => return unexpected(&other),
    };
    let mut output = Output::new(global);
    print(&mut output, &preview)?;
    let nothing = preview.vms.is_empty() && preview.ports.is_empty();
    Ok(if nothing { Done::Fine } else { Done::Report })
}

pub(in crate::cli) fn print<W: Write>(output: &mut Output<W>, preview: &Preview) -> Result<()> {
    if output.is_json() {
        return output.json(preview);
    }
    let would = match preview.mode {
        ModeView::Enforce => "Enforcing cuts",
        ModeView::Observe | ModeView::None => "Enforcing would cut",
    };
    if preview.vms.is_empty() && preview.ports.is_empty() {
        return output.line(&format!("{would} nothing that has been seen so far."));
    }
    if !preview.vms.is_empty() {
        output.heading(&format!("{would} off these VMs"))?;
        let rows = preview.vms.iter().map(|vm| {
            let why = vm.why.first().map_or("", String::as_str);
            vec![
                vm.vm.name.as_str().into(),
                vm.status.as_str().into(),
                vm.effect.as_str().into(),
                why.into(),
            ]
        });
        output.table(&["VM", "STATUS", "EFFECT", "WHY"], rows.collect())?;
    }
    if !preview.ports.is_empty() {
        output.heading(&format!("{would} frames of these interfaces"))?;
        for port in &preview.ports {
            port_of(output, port)?;
        }
        if preview.ports.iter().any(|port| port.unlisted > 0) {
            output.line("")?;
            output.line(INCOMPLETE)?;
        }
    }
    Ok(())
}

fn port_of<W: Write>(output: &mut Output<W>, port: &PreviewPort) -> Result<()> {
    let what = if port.mute { "every frame" } else { "some frames" };
    let vm = port.vm.as_ref().map_or(String::new(), |vm| format!(", VM {}", vm.name));
    let text = format!("{} ({}{vm}): {what}", port.name, port.status.as_str());
    output.line(&escape(&text))?;
    if let Some(why) = port.why.as_ref().filter(|_| port.mute) {
        output.item("  ", &escape(why))?;
    }
    for (way, counts) in [("from it", &port.from), ("to it", &port.to)] {
        if !counts.is_empty() {
            output.item("  ", &format!("{way}, refused so far: {}", counted(counts)))?;
        }
    }
    for claim in &port.claims {
        let address = claim.address.as_ref().map_or(String::new(), |one| format!(" {one}"));
        let vlan = if claim.vlan == 0 { String::new() } else { format!(" VLAN {}", claim.vlan) };
        let text = format!(
            "{}{vlan}{address} {}: {}, {} time{}",
            claim.mac,
            claim.ethertype,
            claim.reason,
            claim.count,
            if claim.count == 1 { "" } else { "s" }
        );
        output.item("  - ", &escape(&text))?;
    }
    if port.unlisted > 0 {
        output.item("  ! ", &unlisted(port.unlisted))?;
    }
    Ok(())
}

fn counted(counts: &BTreeMap<String, u64>) -> String {
    let each: Vec<_> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    each.join(", ")
}
