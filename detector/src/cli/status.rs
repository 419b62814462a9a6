use std::io::Write;

use anyhow::Result;

use super::{
    Done, Global,
    ask::{ask, unexpected},
    finding::{self, Detail},
    mode,
    output::{Output, Text, Tone},
};
use crate::api::{Reply, Request, view::Status};

pub(super) fn run(global: &Global) -> Result<Done> {
    let status = match ask(global, Request::Status {})? {
        Reply::Status(status) => status,
        other => return unexpected(&other),
    };
    let mut output = Output::new(global);
    print(&mut output, &status)?;
    Ok(if status.findings.is_empty() { Done::Fine } else { Done::Report })
}

pub(super) fn print<W: Write>(output: &mut Output<W>, status: &Status) -> Result<()> {
    if output.is_json() {
        return output.json(status);
    }
    match &status.mode_detail {
        Some(detail) => mode::print(output, detail)?,
        None => output.field("Mode", Text("none yet".into(), Tone::Attention))?,
    }
    output
        .field("Daemon", format!("{}, started {}", status.version, output.ago(status.started)))?;
    let network = [(status.bridges, "bridge"), (status.uplinks, "uplink")]
        .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }));
    output.field("Network", network.join(", "))?;
    output.field("Ports", counts(&status.ports))?;
    output.field("VMs", counts(&status.vms))?;
    let tone = if status.quarantines == 0 { Tone::Plain } else { Tone::Attention };
    output.field("Quarantined", Text(status.quarantines.to_string(), tone))?;
    if status.held > 0 {
        let held = format!(
            "{}: they fail the policy and keep what they have (detector mitigation list)",
            status.held
        );
        output.field("Held", Text(held, Tone::Bad))?;
    }
    output.field("Templates", status.templates.to_string())?;
    for source in &status.sources {
        let text = match &source.why {
            None => Text(
                format!(
                    "{}: {} VM{}",
                    source.name,
                    source.vms,
                    if source.vms == 1 { "" } else { "s" }
                ),
                Tone::Plain,
            ),
            Some(why) => {
                let since = source.since.map(|at| output.ago(at)).unwrap_or_default();
                Text(format!("{}: lost {since}: {why}", source.name), Tone::Bad)
            }
        };
        output.field("Source", text)?;
    }
    if status.findings.is_empty() {
        return output.field("Findings", Text("none".into(), Tone::Good));
    }
    output.field("Findings", Text(status.findings.len().to_string(), Tone::Attention))?;
    output.line("")?;
    finding::table(output, &status.findings, Detail::Next)
}

fn counts(counts: &std::collections::BTreeMap<String, usize>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let each: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    each.join(", ")
}
