mod add;
mod change;
mod files;
mod hash;
mod identify;
mod rehash;

use std::{io::Write, path::Path};

use anyhow::{Result, bail};
use detector_core::model::{SecurityProfile, TemplateStatus, Timestamp};
use serde::Serialize;

pub(super) use self::files::Directory;
use super::{
    Done, Global,
    args::TemplateCommand,
    ask::{config, try_ask, unexpected},
    escape::escape,
    output::{Output, Text, Tone},
};
use crate::api::{CallError, Reply, Request, view::TemplateView};

pub(super) fn run(global: &Global, command: &TemplateCommand) -> Result<Done> {
    let mut output = Output::new(global);
    let mut change = |name: &str, to, reason: Option<&String>| {
        change::run(global, &mut output, name, to, reason.map(String::as_str))
    };
    match command {
        TemplateCommand::Approve { template, reason } => {
            return change(template, TemplateStatus::Approved, reason.as_ref());
        }
        TemplateCommand::Deprecate { template, reason } => {
            return change(template, TemplateStatus::Deprecated, reason.as_ref());
        }
        TemplateCommand::Revoke { template, reason } => {
            return change(template, TemplateStatus::Revoked, Some(reason));
        }
        TemplateCommand::Add(wanted) => return add::run(global, &mut output, wanted),
        TemplateCommand::Verify { what, format } => {
            return verify(global, &mut output, what.as_deref(), format.as_deref());
        }
        TemplateCommand::List => match try_ask(global, Request::TemplateList {})? {
            Ok(Reply::Templates(templates)) => list(&mut output, &templates)?,
            Ok(other) => return unexpected(&other),
            Err(error) => {
                let directory = instead(global, error)?;
                let templates = directory.registry.templates.iter();
                let views: Vec<_> = templates.map(view).collect();
                list(&mut output, &views)?;
            }
        },
        TemplateCommand::Show { id } => {
            match try_ask(global, Request::TemplateShow { id: id.clone() })? {
                Ok(Reply::Template(template)) => show(&mut output, &template)?,
                Ok(other) => return unexpected(&other),
                Err(error) => show(&mut output, &view(instead(global, error)?.named(id)?.1))?,
            }
        }
    }
    Ok(Done::Fine)
}

/// A template by its name, or an image by its path.
fn verify(
    global: &Global,
    output: &mut Output,
    what: Option<&Path>,
    format: Option<&str>,
) -> Result<Done> {
    let directory = Directory::read(global)?;
    let Some(what) = what else { return rehash::run(output, &directory, None) };
    match what.to_str() {
        Some(name) if format.is_none() && !directory.all_named(name).is_empty() => {
            rehash::run(output, &directory, Some(name))
        }
        Some(name) if !what.exists() => bail!(
            "there is no template and no file {name:?}; `detector template list` shows the templates"
        ),
        _ => identify::run(output, &directory.registry, what, format),
    }
}

/// Reads the manifests in place of a daemon that does not answer, and says so. One that has refused is
/// not gone round.
fn instead(global: &Global, error: CallError) -> Result<Directory> {
    if !is_away(&error) {
        return Err(error.into());
    }
    let why = format!("{:#}", anyhow::Error::from(error));
    eprintln!("detector: {}; this is what the manifests say", escape(&why));
    Directory::read(global)
}

fn is_away(error: &CallError) -> bool {
    matches!(error, CallError::Unreachable { .. } | CallError::Broken(_))
}

fn view(template: &detector_core::model::Template) -> TemplateView {
    TemplateView::of(template, Vec::new(), now())
}

/// What the daemon makes of a template; `None` when it does not answer.
fn ask_daemon(global: &Global, name: &str) -> Result<Option<TemplateView>> {
    match try_ask(global, Request::TemplateShow { id: name.to_owned() })? {
        Ok(Reply::Template(template)) => Ok(Some(*template)),
        Ok(other) => unexpected(&other),
        Err(error) if is_away(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Says what a change has come to, as the daemon sees it.
fn in_force(
    global: &Global,
    output: &mut Output,
    (file, name): (&str, &str),
    wanted: &str,
) -> Result<()> {
    if config(global)?.registry.require_signature {
        output.field("Next", format!("minisign -S -m {file}"))?;
    }
    let vms = |view: &TemplateView| match &view.vms[..] {
        [] => "no VM descends from it".to_owned(),
        vms => format!("its VMs: {}", vms.join(", ")),
    };
    match ask_daemon(global, name) {
        Ok(Some(view)) if view.status == wanted || view.status == "expired" => {
            output.field("In force", format!("{}; {}", view.status, vms(&view)))
        }
        Ok(Some(view)) => {
            let why = "the daemon has not taken the manifest (`detector finding list`)";
            let text = format!("still {}: {why}; {}", view.status, vms(&view));
            output.field("In force", Text(text, Tone::Attention))
        }
        Ok(None) => {
            let text = "once the daemon runs: it does not answer now".to_owned();
            output.field("In force", Text(text, Tone::Attention))
        }
        Err(error) => {
            let text = format!("not known: {error:#}");
            output.field("In force", Text(text, Tone::Attention))
        }
    }
}

pub(super) fn now() -> Timestamp {
    let now = jiff::Timestamp::now().as_millisecond();
    Timestamp(u64::try_from(now).unwrap_or(0))
}

pub(super) fn list<W: Write>(output: &mut Output<W>, templates: &[TemplateView]) -> Result<()> {
    if output.is_json() {
        #[derive(Serialize)]
        struct List<'a> {
            templates: &'a [TemplateView],
        }
        return output.json(&List { templates });
    }
    let rows = templates
        .iter()
        .map(|template| {
            vec![
                template.id.as_str().into(),
                template.version.as_deref().unwrap_or("-").into(),
                template.os.as_deref().unwrap_or("-").into(),
                status(&template.status),
                template.expires.map_or_else(|| "never".to_owned(), |at| at.to_string()).into(),
                template.images.len().to_string().into(),
                template.vms.len().to_string().into(),
            ]
        })
        .collect();
    output.table(&["ID", "VERSION", "OS", "STATUS", "EXPIRES", "IMAGES", "VMS"], rows)
}

pub(super) fn show<W: Write>(output: &mut Output<W>, template: &TemplateView) -> Result<()> {
    if output.is_json() {
        return output.json(template);
    }
    output.field("Template", template.id.as_str())?;
    output.field("Version", template.version.as_deref().unwrap_or("-"))?;
    output.field("OS", template.os.as_deref().unwrap_or("-"))?;
    let Text(mut word, tone) = status(&template.status);
    if let Some(since) = template.since {
        word.push_str(&format!(" since {}", output.when(since)));
    }
    output.field("Status", Text(word, tone))?;
    if let Some(reason) = &template.reason {
        output.field("Reason", reason.as_str())?;
    }
    if let Some(expires) = template.expires {
        output.field("Expires", expires.to_string())?;
    }
    if let Some(key) = &template.signed_by {
        output.field("Signed by", key.as_str())?;
    }
    for image in &template.images {
        let format = image.format.map(|format| format.as_str().to_owned());
        let sha256 = Some(format!("sha256 {}", image.sha256));
        let parts = [Some(image.role.as_str().to_owned()), format, sha256, image.path.clone()];
        output.field("Image", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))?;
    }
    if !template.profile.is_empty() {
        output.field("Profile", profile(&template.profile))?;
    }
    let vms = if template.vms.is_empty() { "none".to_owned() } else { template.vms.join(", ") };
    output.field("VMs", vms)
}

/// What a profile says, as its manifest does.
fn profile(profile: &SecurityProfile) -> String {
    let Ok(serde_json::Value::Object(keys)) = serde_json::to_value(profile) else {
        return String::new();
    };
    let said = keys.iter().map(|(key, value)| match value {
        serde_json::Value::String(word) => format!("{key} {word}"),
        serde_json::Value::Array(words) => {
            let words: Vec<_> = words.iter().filter_map(serde_json::Value::as_str).collect();
            format!("{key} {}", if words.is_empty() { "none".to_owned() } else { words.join(" ") })
        }
        other => format!("{key} {other}"),
    });
    said.collect::<Vec<_>>().join(", ")
}

pub(super) fn status(status: &str) -> Text {
    let tone = match status {
        "approved" => Tone::Good,
        "deprecated" | "draft" => Tone::Attention,
        _ => Tone::Bad,
    };
    Text(status.to_owned(), tone)
}
