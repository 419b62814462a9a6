use std::io::Write;

use anyhow::Result;
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

fn show<W: Write>(output: &mut Output<W>, template: &TemplateView) -> Result<()> {
    if output.is_json() {
        return output.json(template);
    }
    output.field("Template", template.id.as_str())?;
    output.field("Version", template.version.as_deref().unwrap_or("-"))?;
    output.field("OS", template.os.as_deref().unwrap_or("-"))?;
    output.field("Status", status(&template.status))?;
    if let Some(expires) = template.expires {
        output.field("Expires", expires.to_string())?;
    }
    for image in &template.images {
        output.field("Image", format!("{} sha256 {}", image.role.as_str(), image.sha256))?;
    }
    let vms = if template.vms.is_empty() { "none".to_owned() } else { template.vms.join(", ") };
    output.field("VMs", vms)
}

pub(super) fn status(status: &str) -> Text {
    let tone = match status {
        "approved" => Tone::Good,
        "deprecated" => Tone::Attention,
        _ => Tone::Bad,
    };
    Text(status.to_owned(), tone)
}
