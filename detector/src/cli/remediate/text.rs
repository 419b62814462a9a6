//! What people see of remediations.

use std::io::Write;

use anyhow::Result;
use detector_core::remediate::{Outcome, Stage};

use super::List;
use crate::{
    api::view::{PlanView, RemediationView, SightedView, StepView},
    cli::{
        escape::escape,
        output::{Output, Text, Tone},
    },
};

pub(in crate::cli) fn plan<W: Write>(output: &mut Output<W>, plan: &PlanView) -> Result<()> {
    if output.is_json() {
        return output.json(plan);
    }
    output.field("VM", format!("{} ({})", plan.vm.name, plan.vm.uuid))?;
    output.field("Outcome", outcome(&plan.outcome))?;
    output.field("Approvals", approvals(plan.needed))?;
    media(output, &plan.media)?;
    if !plan.alike.is_empty() {
        let names: Vec<_> = plan.alike.iter().map(|vm| vm.name.as_str()).collect();
        output.field("Alike", names.join(", "))?;
    }
    output.heading("Steps")?;
    for (number, step) in (1..).zip(&plan.steps) {
        let prefix = format!("{number:>2}  {:<11} ", step.step);
        output.item(&prefix, &escape(&step.effect))?;
    }
    if !plan.left_out.is_empty() {
        output.heading("Left out")?;
        for why in &plan.left_out {
            output.item("", &escape(why))?;
        }
    }
    Ok(())
}

pub(in crate::cli) fn list<W: Write>(
    output: &mut Output<W>,
    remediations: &[RemediationView],
) -> Result<()> {
    if output.is_json() {
        return output.json(&List { remediations });
    }
    let rows: Vec<_> = remediations
        .iter()
        .map(|view| {
            let current = view.steps.iter().find(|step| step.state != "done");
            vec![
                view.vm.name.as_str().into(),
                view.outcome.as_str().into(),
                stage(view.stage),
                current.map_or("-", |step| &step.step).into(),
                output.ago(view.started.at).into(),
                waits(view).unwrap_or("-").into(),
            ]
        })
        .collect();
    output.table(&["VM", "OUTCOME", "STAGE", "STEP", "STARTED", "WAITS FOR"], rows)
}

/// What somebody has just changed.
pub(super) fn brief<W: Write>(output: &mut Output<W>, view: &RemediationView) -> Result<()> {
    output.field("VM", format!("{} ({})", view.vm.name, view.vm.uuid))?;
    output.field("Outcome", outcome(&view.outcome))?;
    output.field("Stage", stage(view.stage))?;
    output.field("Next", format!("detector remediate status {} --watch", view.vm.uuid))
}

pub(in crate::cli) fn show<W: Write>(output: &mut Output<W>, view: &RemediationView) -> Result<()> {
    if output.is_json() {
        return output.json(&List { remediations: std::slice::from_ref(view) });
    }
    output.field("VM", format!("{} ({})", view.vm.name, view.vm.uuid))?;
    output.field("Outcome", outcome(&view.outcome))?;
    output.field("Stage", stage(view.stage))?;
    let started = &view.started;
    let when = output.ago(started.at);
    output.field("Started", format!("{when} by uid {}: {}", started.uid, started.reason))?;
    for line in view.waits.iter().flat_map(|waits| waits.lines()) {
        output.field("Waits for", Text(line.to_owned(), Tone::Attention))?;
    }
    if let Some(successor) = &view.successor {
        output.field("Successor", format!("{} ({})", successor.name, successor.uuid))?;
    }
    media(output, &view.media)?;
    output.field("Approvals", format!("{} of {}", view.counted.len(), approvals(view.needed)))?;
    for approval in &view.approvals {
        let by = &approval.by;
        let when = output.ago(by.at);
        output.field("Approved", format!("{when} by uid {}: {}", by.uid, by.reason))?;
        for digest in &approval.sha256 {
            output.field("", format!("sha256 {digest}"))?;
        }
    }
    output.heading("Steps")?;
    for one in &view.steps {
        step(output, one)?;
    }
    if !view.history.is_empty() {
        output.heading("History")?;
    }
    for event in &view.history {
        let who = event.uid.map_or_else(|| "daemon".to_owned(), |uid| format!("uid {uid}"));
        let prefix = format!("{}  {who:<9} ", event.at.strftime("%F %T UTC"));
        output.item(&prefix, &escape(&event.what))?;
    }
    Ok(())
}

fn step<W: Write>(output: &mut Output<W>, step: &StepView) -> Result<()> {
    let tone = match step.state.as_str() {
        "done" => Tone::Good,
        "begun" => Tone::Attention,
        "failed" => Tone::Bad,
        _ => Tone::Plain,
    };
    let percent = step.percent.map_or_else(String::new, |percent| format!("{percent} % "));
    let word = output.toned(&format!("{:<8}", step.state), tone);
    let said = if step.note.is_empty() { &step.effect } else { &step.note };
    output.item(&format!("{:<11} {word} {percent}", step.step), &escape(said))
}

fn media<W: Write>(output: &mut Output<W>, media: &[SightedView]) -> Result<()> {
    for medium in media {
        let (role, path) = (medium.role.as_str(), &medium.path);
        let (said, tone) = match (&medium.sha256, &medium.unreadable) {
            (Some(digest), _) if medium.known => {
                (format!("sha256 {digest}, an image of a template"), Tone::Good)
            }
            (Some(digest), _) => {
                (format!("sha256 {digest}, which no template in force has"), Tone::Attention)
            }
            (None, Some(why)) => (format!("cannot be read: {why}"), Tone::Bad),
            (None, None) => ("has not been read yet".to_owned(), Tone::Attention),
        };
        output.field("Boots from", Text(format!("{role} {path}: {said}"), tone))?;
    }
    Ok(())
}

fn approvals(needed: u8) -> String {
    match needed {
        0 | 1 => "1".to_owned(),
        needed => format!("{needed}, none by who has started it"),
    }
}

fn outcome(outcome: &Outcome) -> String {
    let word = outcome.as_str();
    match outcome {
        Outcome::Patched { provisioner: None } => word.to_owned(),
        Outcome::Patched { provisioner: Some(by) } => format!("{word} by {by}"),
        Outcome::Template { template } | Outcome::Replaced { template } => {
            format!("{word} {template}")
        }
    }
}

fn stage(stage: Stage) -> Text {
    let tone = match stage {
        Stage::Released | Stage::Replaced => Tone::Good,
        Stage::Rejected | Stage::Aborted => Tone::Bad,
        _ => Tone::Attention,
    };
    Text(stage.as_str().to_owned(), tone)
}

/// The first line of what it waits for.
fn waits(view: &RemediationView) -> Option<&str> {
    view.waits.as_deref().and_then(|waits| waits.lines().next())
}
