use std::io::Write;

use anyhow::Result;

use super::{
    Done, Global,
    ask::{try_ask, unexpected},
    escape::escape,
    finding::{self, Detail},
    output::{Output, Text, Tone},
    pins, port, quarantine, vm,
};
use crate::api::{Reply, Request, view::Explanation};

pub(super) fn run(global: &Global, subject: &str) -> Result<Done> {
    let explanation = match try_ask(global, Request::Explain { subject: subject.to_owned() })? {
        Ok(Reply::Explanation(explanation)) => *explanation,
        Ok(other) => return unexpected(&other),
        Err(error) => pins::instead(global, error)?.explain(subject)?,
    };
    let mut output = Output::new(global);
    print(&mut output, &explanation)?;
    let fine = matches!(explanation.status.as_str(), "approved" | "granted" | "gate" | "off");
    Ok(if fine { Done::Fine } else { Done::Report })
}

/// What, why, since when, on what evidence, and what would change it; for one screen.
pub(super) fn print<W: Write>(output: &mut Output<W>, explanation: &Explanation) -> Result<()> {
    if output.is_json() {
        return output.json(explanation);
    }
    let tone = match explanation.status.as_str() {
        "approved" | "granted" | "gate" | "off" => Tone::Good,
        "pending" | "kept" | "unguarded" => Tone::Attention,
        _ => Tone::Bad,
    };
    let kind = match explanation.kind.as_str() {
        "vm" => "VM",
        "mac" => "MAC",
        _ => "Port",
    };
    output.field(kind, explanation.subject.as_str())?;
    let since = explanation.since.map(|at| format!(" since {}", output.when(at)));
    let status = format!("{}{}", explanation.status, since.unwrap_or_default());
    output.field("Status", Text(status, tone))?;
    output.field("Why", explanation.summary.as_str())?;
    if let Some(vm) = &explanation.vm {
        if explanation.kind != "vm" {
            output.field("VM", format!("{} ({})", vm.name, vm.uuid))?;
        }
        output.field("Template", vm.template_name().unwrap_or_else(|| "none".to_owned()))?;
        if !vm.rules.is_empty() {
            output.field("Decided by", vm.rules.join(", "))?;
        }
    }
    for held in &explanation.quarantines {
        let mut text = format!(
            "{} {}, by {}, since {}",
            quarantine::kind(&held.target),
            held.name,
            held.cause,
            output.when(held.since)
        );
        if !explanation.summary.contains(held.note.trim_end_matches('…')) {
            text.push_str(&format!(": {}", held.note));
        }
        output.field("Quarantine", Text(text, Tone::Bad))?;
    }
    if let Some(described) = &explanation.vm {
        vm::requirements(output, &described.requirements)?;
        vm::media(output, &described.media)?;
    }
    for view in &explanation.ports {
        let status = output.toned(view.status.as_str(), port::state(view.status).1);
        output.heading(&format!("Port {}: {status}", escape(&view.name)))?;
        // What a quarantine says is said above.
        let is_told = |why: &&str| {
            *why == explanation.summary
                || explanation.quarantines.iter().any(|held| why.contains(&held.note))
        };
        if let Some(why) = view.why.as_deref().filter(|why| !is_told(why)) {
            output.field("Why", why)?;
        }
        port::identities(output, &view.identities)?;
        port::learned(output, &view.learned)?;
        port::services(output, view.services.as_deref())?;
        if let Some(counted) = &view.counters {
            port::counters(output, counted)?;
        }
        port::sightings(output, &view.sightings)?;
    }
    if !explanation.findings.is_empty() {
        output.heading("Findings")?;
        finding::table(output, &explanation.findings, Detail::Title)?;
    }
    if !explanation.remedies.is_empty() {
        output.heading("What would change it")?;
        for (number, remedy) in explanation.remedies.iter().enumerate() {
            output.item(&format!("  {}. ", number + 1), &escape(&remedy.what))?;
            if let Some(command) = &remedy.command {
                output.line(&format!("       {}", escape(command)))?;
            }
        }
    }
    Ok(())
}
