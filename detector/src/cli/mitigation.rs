//! VMs that would be cut off, and wait for a person.

use std::io::Write;

use anyhow::Result;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::{
    Done, Global,
    ask::{ask, unexpected},
    completions::vms,
    output::{Output, Text, Tone},
};
use crate::api::{
    Reply, Request,
    view::{HeldView, MitigationsView, VmRef},
};

#[derive(Debug, Subcommand)]
pub enum MitigationCommand {
    /// List the VMs that fail the policy and keep what they have, since too many would lose it
    #[command(after_help = "\
Examples:
  detector mitigation list
  detector mitigation list --output json | jq -r '.held[].vm.name'

Exits with 3 while a VM waits for a person.")]
    List,
    /// Have VMs cut off that are held; it does not count towards the limit
    #[command(after_help = "\
Examples:
  detector mitigation list                                     who, and why
  detector mitigation approve web1 web2 --reason 'ticket 42'
  detector mitigation approve --all --reason 'the template is revoked, as in ticket 42'")]
    Approve(Said),
    /// Leave VMs as they are, until they meet the policy or fail something else
    #[command(after_help = "\
Examples:
  detector mitigation reject --all --reason 'the policy was a mistake'
  detector mitigation reject web1 --reason 'replaced on Friday'")]
    Reject(Said),
}

/// What is said of which VMs.
#[derive(Debug, Args)]
pub struct Said {
    /// Names or UUIDs
    #[arg(required_unless_present = "all", conflicts_with = "all", add = ArgValueCompleter::new(vms))]
    vms: Vec<String>,
    /// All that wait now
    #[arg(long)]
    all: bool,
    /// Why, for whoever reads it later
    #[arg(long)]
    reason: String,
}

pub(super) fn run(global: &Global, command: &MitigationCommand) -> Result<Done> {
    let request = match command {
        MitigationCommand::List => Request::MitigationList {},
        MitigationCommand::Approve(Said { vms, all, reason }) => {
            let (vms, all, reason) = (vms.clone(), *all, reason.clone());
            Request::MitigationApprove { vms, all, reason }
        }
        MitigationCommand::Reject(Said { vms, all, reason }) => {
            let (vms, all, reason) = (vms.clone(), *all, reason.clone());
            Request::MitigationReject { vms, all, reason }
        }
    };
    let view = match ask(global, request)? {
        Reply::Mitigations(view) => view,
        other => return unexpected(&other),
    };
    print(&mut Output::new(global), &view)?;
    let waits = view.held.iter().any(|held| held.rejected.is_none());
    let lists = matches!(command, MitigationCommand::List);
    Ok(if waits && lists { Done::Report } else { Done::Fine })
}

pub(super) fn print<W: Write>(output: &mut Output<W>, view: &MitigationsView) -> Result<()> {
    if output.is_json() {
        return output.json(view);
    }
    let limit = match (view.vms, view.percent, view.window_seconds) {
        (Some(vms), Some(percent), Some(seconds)) => {
            let span = humantime::format_duration(std::time::Duration::from_secs(seconds));
            format!("{vms} VMs or {percent} % of them within {span}, whichever is less")
        }
        _ => "none: mitigation.guard is false".to_owned(),
    };
    output.field("Limit", limit)?;
    output.field("Cut off", names(&view.taken))?;
    if let Some(until) = view.blind_until {
        let what = format!("what was cut off before is not known, and counts until {until}");
        output.field("", Text(what, Tone::Attention))?;
    }
    if let Some(why) = &view.unkept {
        let what = format!("nothing more can be written down, nor cut off: {why}");
        output.field("", Text(what, Tone::Bad))?;
    }
    if view.held.is_empty() {
        return output.field("Held", Text("none".into(), Tone::Good));
    }
    output.field("Held", Text(view.held.len().to_string(), Tone::Attention))?;
    output.line("")?;
    let rows = view.held.iter().map(|held| {
        vec![
            held.vm.name.as_str().into(),
            word(held),
            output.ago(held.since).into(),
            held.rules.join(", ").into(),
            held.why.as_str().into(),
        ]
    });
    let rows = rows.collect();
    output.table(&["VM", "", "SINCE", "FAILS", "WHY"], rows)
}

/// What of a held VM is said where it is shown by itself.
pub(super) fn field<W: Write>(output: &mut Output<W>, held: &HeldView) -> Result<()> {
    let text = match &held.rejected {
        Some(word) => Text(
            format!("it keeps what it has by the word of uid {}: {}", word.uid, word.reason),
            Tone::Attention,
        ),
        None => Text(
            "it keeps what it has: too many would be cut off without a person (detector mitigation list)"
                .to_owned(),
            Tone::Bad,
        ),
    };
    output.field("Held", text)
}

fn word(held: &HeldView) -> Text {
    match &held.rejected {
        Some(word) => Text(format!("left by uid {}: {}", word.uid, word.reason), Tone::Attention),
        None => Text("waits".to_owned(), Tone::Bad),
    }
}

fn names(vms: &[VmRef]) -> String {
    if vms.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<_> = vms.iter().map(|vm| vm.name.as_str()).collect();
    format!("{}: {}", names.len(), names.join(", "))
}
