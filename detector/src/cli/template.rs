use std::io::Write;

use anyhow::Result;
use detector_core::model::SecurityProfile;
use serde::Serialize;

use super::{
    Done, Global,
    args::TemplateCommand,
    ask::{ask, unexpected},
    output::{Output, Text, Tone},
    verify,
};
use crate::api::{Reply, Request, view::TemplateView};

pub(super) fn run(global: &Global, command: &TemplateCommand) -> Result<Done> {
    let mut output = Output::new(global);
    match command {
        TemplateCommand::List => match ask(global, Request::TemplateList {})? {
            Reply::Templates(templates) => list(&mut output, &templates)?,
            other => return unexpected(&other),
        },
        TemplateCommand::Show { id } => {
            match ask(global, Request::TemplateShow { id: id.clone() })? {
                Reply::Template(template) => show(&mut output, &template)?,
                other => return unexpected(&other),
            }
        }
        TemplateCommand::Verify { path, format } => {
            return verify::run(global, &mut output, path, format.as_deref());
        }
    }
    Ok(Done::Fine)
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
