//! `template approve`, `deprecate` and `revoke`: another status in the manifest.

use std::fs;

use anyhow::{Context, Result, bail};
use detector_core::model::TemplateStatus;
use serde::Serialize;

use super::{files::Directory, in_force, now, status};
use crate::{
    cli::{
        Done, Global,
        output::{Output, Text},
    },
    registry::{self, edit},
};

#[derive(Serialize)]
struct Changed {
    template: String,
    file: String,
    was: String,
    status: String,
    serial: Option<u64>,
    /// What the daemon says its status is; null when it does not answer.
    in_force: Option<String>,
    /// VMs that descend from it; null when the daemon does not answer.
    vms: Option<Vec<String>>,
}

pub(super) fn run(
    global: &Global,
    output: &mut Output,
    name: &str,
    to: TemplateStatus,
    reason: Option<&str>,
) -> Result<Done> {
    let directory = Directory::change(global)?;
    let (path, template) = directory.named(name)?;
    let (exact, shown, was) = (template.exact_name(), template.name(), template.status);
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let text =
        edit::with_status(&text, to, reason, now()).with_context(|| path.display().to_string())?;
    // What the daemon would refuse is not written, and neither is another template.
    let after = registry::parse(path, &text, &mut Vec::new())
        .map_err(|why| anyhow::anyhow!("{}: {}", why.place, why.why))?;
    if (after.exact_name(), after.status) != (exact, to) {
        bail!("{}: has changed meanwhile; nothing has been changed", path.display());
    }
    edit::replace(path, &text).with_context(|| {
        format!("{}: cannot be written; nothing has been changed", path.display())
    })?;
    let mut changed = Changed {
        template: shown,
        file: path.display().to_string(),
        was: was.as_str().to_owned(),
        status: to.as_str().to_owned(),
        serial: after.serial,
        in_force: None,
        vms: None,
    };
    if output.is_json() {
        if let Ok(Some(view)) = super::ask_daemon(global, &after.exact_name()) {
            (changed.in_force, changed.vms) = (Some(view.status), Some(view.vms));
        }
        output.json(&changed)?;
        return Ok(Done::Fine);
    }
    output.field("Template", changed.template.as_str())?;
    output.field("Manifest", changed.file.as_str())?;
    let Text(word, tone) = status(&changed.status);
    output.field("Status", Text(format!("{word}, was {}", changed.was), tone))?;
    let subject = (changed.file.as_str(), after.exact_name());
    in_force(global, output, (subject.0, &subject.1), &changed.status)?;
    Ok(Done::Fine)
}
