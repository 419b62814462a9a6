//! `template verify IMAGE`: which template an image matches.

use std::path::Path;

use anyhow::Result;
use detector_core::model::{Digest, Registry};
use serde::Serialize;

use super::{hash, now, status};
use crate::{
    api::view::standing,
    cli::{
        Done,
        output::{Output, Text, Tone},
    },
    registry,
};

#[derive(Serialize)]
struct Verified {
    path: String,
    /// Top first, the base last.
    layers: Vec<String>,
    sha256: Digest,
    matches: Vec<Match>,
}

#[derive(Serialize)]
struct Match {
    template: String,
    role: String,
    /// `draft`, `approved`, `deprecated`, `revoked` or `expired`.
    status: String,
}

pub(super) fn run(
    output: &mut Output,
    registry: &Registry,
    path: &Path,
    format: Option<&str>,
) -> Result<Done> {
    let (_, size) = registry::base(path, format)?;
    let chain = hash::digest(path, format, size)?;
    let verified = Verified {
        path: path.display().to_string(),
        layers: chain
            .overlays
            .iter()
            .chain([&chain.base])
            .map(|layer| format!("{} ({})", layer.path.display(), layer.format))
            .collect(),
        sha256: chain.digest,
        matches: matches(registry, chain.digest),
    };
    print(output, &verified)?;
    let in_force = |found: &Match| matches!(found.status.as_str(), "approved" | "deprecated");
    Ok(if verified.matches.iter().any(in_force) { Done::Fine } else { Done::Report })
}

fn print(output: &mut Output, verified: &Verified) -> Result<()> {
    if output.is_json() {
        return output.json(verified);
    }
    output.field("Image", verified.path.as_str())?;
    for layer in verified.layers.iter().skip(1) {
        output.field("On", layer.as_str())?;
    }
    output.field("SHA-256", verified.sha256.to_string())?;
    for found in &verified.matches {
        let Text(text, tone) = status(&found.status);
        let text = format!("{} as {}, {text}", found.template, found.role);
        output.field("Template", Text(text, tone))?;
    }
    if verified.matches.is_empty() {
        output.field("Template", Text("none matches".to_owned(), Tone::Bad))?;
    }
    Ok(())
}

fn matches(registry: &Registry, digest: Digest) -> Vec<Match> {
    let now = now();
    let images = registry
        .templates
        .iter()
        .flat_map(|template| template.images.iter().map(move |image| (template, image)));
    images
        .filter(|(_, image)| image.sha256 == digest)
        .map(|(template, image)| Match {
            template: template.name(),
            role: image.role.as_str().to_owned(),
            status: standing(template, now).to_owned(),
        })
        .collect()
}
