//! Bringing VMs back that were cut off.

pub(super) mod args;
mod register;
pub(super) mod text;

use anyhow::{Result, bail};
use detector_core::remediate::Outcome;
use serde::Serialize;

use self::args::{OutcomeArg, RemediateCommand, Way};
use super::{
    Done, Global,
    ask::{ask, unexpected},
    output::Output,
};
use crate::api::{
    Reply, Request,
    view::{PlanView, RemediationView},
};

pub(super) fn run(global: &Global, command: &RemediateCommand) -> Result<Done> {
    let mut output = Output::new(global);
    match command {
        RemediateCommand::Plan { vm, way } => {
            let plan = plan(global, vm, outcome(way)?)?;
            text::plan(&mut output, &plan)?;
        }
        RemediateCommand::Start { vm, way, reason } => {
            return start(global, &mut output, vm, &outcome(way)?, reason);
        }
        RemediateCommand::Status { vm } => {
            let views = remediations(global, Request::RemediateStatus { vm: vm.clone() })?;
            match (&views[..], vm) {
                ([one], Some(_)) => text::show(&mut output, one)?,
                _ => text::list(&mut output, &views)?,
            }
        }
        RemediateCommand::Approve { vm, sha256, reason } => {
            let (vm, digests, reason) = (vm.clone(), sha256.clone(), reason.clone());
            changed(global, &mut output, Request::RemediateApprove { vm, digests, reason })?;
        }
        RemediateCommand::Abort { vm, reason } => {
            let (vm, reason) = (vm.clone(), reason.clone());
            changed(global, &mut output, Request::RemediateAbort { vm, reason })?;
        }
        RemediateCommand::Reject { vm, reason } => {
            let (vm, reason) = (vm.clone(), reason.clone());
            changed(global, &mut output, Request::RemediateReject { vm, reason })?;
        }
    }
    Ok(Done::Fine)
}

fn outcome(way: &Way) -> Result<Outcome> {
    let Way { outcome, template, provisioner } = way.clone();
    Ok(match (outcome, template, provisioner) {
        (OutcomeArg::Patched, None, provisioner) => Outcome::Patched { provisioner },
        (OutcomeArg::Patched, Some(_), _) => {
            bail!("--template is for --outcome template and --outcome replaced")
        }
        (_, _, Some(_)) => bail!("--provisioner is for --outcome patched"),
        (OutcomeArg::Template, Some(template), None) => Outcome::Template { template },
        (OutcomeArg::Replaced, Some(template), None) => Outcome::Replaced { template },
        (_, None, None) => bail!("this outcome needs --template ID"),
    })
}

fn start(
    global: &Global,
    output: &mut Output,
    vm: &str,
    outcome: &Outcome,
    reason: &str,
) -> Result<Done> {
    let mut request = Request::RemediateStart {
        vm: vm.to_owned(),
        outcome: outcome.clone(),
        reason: reason.to_owned(),
        digests: Vec::new(),
        alike: false,
    };
    if let Outcome::Template { template } = outcome {
        let plan = plan(global, vm, outcome.clone())?;
        let approved = match register::register(global, output, &plan, template, reason)? {
            register::Registered::Approved(digests) => digests,
            register::Registered::Draft => Vec::new(),
            register::Registered::ToSign => return Ok(Done::Report),
        };
        if let Request::RemediateStart { digests, alike, .. } = &mut request {
            (*digests, *alike) = (approved, true);
        }
    }
    changed(global, output, request)?;
    Ok(Done::Fine)
}

fn plan(global: &Global, vm: &str, outcome: Outcome) -> Result<PlanView> {
    match ask(global, Request::RemediatePlan { vm: vm.to_owned(), outcome })? {
        Reply::RemediationPlan(plan) => Ok(*plan),
        other => unexpected(&other),
    }
}

fn changed(global: &Global, output: &mut Output, request: Request) -> Result<()> {
    let views = remediations(global, request)?;
    if output.is_json() {
        return text::list(output, &views);
    }
    for (number, view) in views.iter().enumerate() {
        if number > 0 {
            output.line("")?;
        }
        text::brief(output, view)?;
    }
    Ok(())
}

fn remediations(global: &Global, request: Request) -> Result<Vec<RemediationView>> {
    match ask(global, request)? {
        Reply::Remediations(views) => Ok(views),
        other => unexpected(&other),
    }
}

/// As JSON has it.
#[derive(Serialize)]
struct List<'a> {
    remediations: &'a [RemediationView],
}
