use std::io::Write;

use anyhow::Result;

use crate::{
    api::view::PolicyDiffView,
    cli::{Done, output::Output, vm},
};

/// The VMs that would change state, and why.
pub(in crate::cli) fn print<W: Write>(
    output: &mut Output<W>,
    diff: &PolicyDiffView,
) -> Result<Done> {
    let done = if diff.changes.is_empty() { Done::Fine } else { Done::Report };
    if output.is_json() {
        output.json(diff)?;
        return Ok(done);
    }
    if diff.changes.is_empty() {
        output.line(&format!("The verdict on none of {} VMs would be another one.", diff.vms))?;
        return Ok(done);
    }
    let rows = diff.changes.iter().map(|change| {
        vec![
            change.vm.name.as_str().into(),
            vm::status(change.from),
            vm::status(change.to),
            change.rules.join(", ").into(),
            change.effect.as_str().into(),
        ]
    });
    output.table(&["VM", "FROM", "TO", "BY RULE", "EFFECT"], rows.collect())?;
    for change in diff.changes.iter().filter(|change| !change.why.is_empty()) {
        output.line("")?;
        output.line(&crate::cli::escape::escape(&change.vm.name))?;
        for why in &change.why {
            output.item("  ", &crate::cli::escape::escape(why))?;
        }
    }
    output.line("")?;
    let (changed, all) = (diff.changes.len(), diff.vms);
    if diff.losing > 0 {
        output.line(&format!(
            "{} would lose what they have; the guard would hold {} of them until a person approves \
             (mitigation in the configuration).",
            diff.losing, diff.held
        ))?;
    }
    output.line(&format!("{changed} of {all} VMs. Nothing has been done."))?;
    Ok(done)
}
