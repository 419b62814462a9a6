//! `template verify`: whether the images that manifests record are still the same.

use std::path::Path;

use anyhow::Result;
use detector_core::model::{Digest, Image, Template};
use serde::Serialize;

use super::{files::Directory, hash};
use crate::{
    cli::{
        Done,
        output::{Output, Text, Tone},
    },
    registry,
};

/// The format in which nothing lies beneath a file.
const WHOLE: &str = "raw";

#[derive(Serialize)]
struct Report {
    images: Vec<Checked>,
    /// Manifests, or entries of them, that are refused.
    refused: Vec<String>,
}

#[derive(Serialize)]
struct Checked {
    template: String,
    role: String,
    path: Option<String>,
    sha256: String,
    /// What the file has now.
    found: Option<String>,
    outcome: Outcome,
    /// Why it cannot be read.
    why: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Same,
    Different,
    Unreadable,
    /// The manifest does not say where the image is.
    NotRecorded,
}

/// Looks at one template, or at all.
pub(super) fn run(output: &mut Output, directory: &Directory, name: Option<&str>) -> Result<Done> {
    let templates: Vec<&Template> = match name {
        Some(name) => directory.all_named(name).into_iter().map(|(_, one)| one).collect(),
        None => directory.registry.templates.iter().collect(),
    };
    let images = templates
        .iter()
        .flat_map(|template| template.images.iter().map(|image| check(template, image)))
        .collect();
    let refused = directory
        .registry
        .rejected
        .iter()
        .filter(|_| name.is_none())
        .map(|rejected| format!("{}: {}", rejected.place, rejected.why))
        .collect();
    let report = Report { images, refused };
    if output.is_json() {
        output.json(&report)?;
    } else {
        print(output, &report)?;
    }
    let fine = |one: &Checked| matches!(one.outcome, Outcome::Same | Outcome::NotRecorded);
    let all_fine = report.images.iter().all(fine) && report.refused.is_empty();
    Ok(if all_fine { Done::Fine } else { Done::Report })
}

fn print(output: &mut Output, report: &Report) -> Result<()> {
    let rows = report.images.iter().map(|image| {
        let (word, tone) = match image.outcome {
            Outcome::Same => ("same", Tone::Good),
            Outcome::Different => ("different", Tone::Bad),
            Outcome::Unreadable => ("unreadable", Tone::Bad),
            Outcome::NotRecorded => ("not recorded", Tone::Attention),
        };
        let found = image.found.as_ref().map(|found| format!("it has sha256 {found}"));
        vec![
            image.template.as_str().into(),
            image.role.as_str().into(),
            Text(word.to_owned(), tone),
            image.path.as_deref().unwrap_or("-").into(),
            image.why.clone().or(found).unwrap_or_default().into(),
        ]
    });
    output.table(&["TEMPLATE", "IMAGE", "OUTCOME", "PATH", "WHY"], rows.collect())
}

fn check(template: &Template, image: &Image) -> Checked {
    let (mut found, mut why) = (None, None);
    let outcome = match &image.path {
        None => Outcome::NotRecorded,
        Some(path) => match digest(path) {
            Ok(digest) if digest == image.sha256 => Outcome::Same,
            Ok(digest) => {
                found = Some(digest.to_string());
                Outcome::Different
            }
            Err(error) => {
                why = Some(format!("{error:#}"));
                Outcome::Unreadable
            }
        },
    };
    Checked {
        template: template.name(),
        role: image.role.as_str().to_owned(),
        path: image.path.as_ref().map(|path| path.display().to_string()),
        sha256: image.sha256.to_string(),
        found,
        outcome,
        why,
    }
}

/// Of the file itself, whatever it says lies beneath it.
fn digest(path: &Path) -> Result<Digest> {
    let (_, size) = registry::base(path, Some(WHOLE))?;
    Ok(hash::digest(path, Some(WHOLE), size)?.digest)
}
