//! `template verify`: which template an image matches.

use std::{fs, io::IsTerminal, path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use detector_core::model::{Chain, Digest, Evidence, ImageFile, Registry, Timestamp};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{
    Done, Global,
    ask::config,
    output::{Output, Text, Tone},
    template::status,
};
use crate::{
    api::view::standing,
    registry::{self, Gatherer, Manifests},
};

/// How often the progress bar moves.
const PROGRESS: Duration = Duration::from_millis(100);

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
    /// `approved`, `deprecated`, `revoked` or `expired`.
    status: String,
}

pub(super) fn run(
    global: &Global,
    output: &mut Output,
    path: &Path,
    format: Option<&str>,
) -> Result<Done> {
    let templates = config(global)?.paths.templates;
    let (_, size) = registry::base(path, format)?;
    let chain = digest(path, format, size)?;
    let registry = Manifests::new(&templates).reload();
    for rejected in &registry.rejected {
        let text = format!("{}: {}", rejected.place, rejected.why);
        eprintln!("detector: {}", super::escape::escape(&text));
    }
    let verified = Verified {
        path: path.display().to_string(),
        layers: chain
            .overlays
            .iter()
            .chain([&chain.base])
            .map(|layer| format!("{} ({})", layer.path.display(), layer.format))
            .collect(),
        sha256: chain.digest,
        matches: matches(&registry, chain.digest),
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

fn now() -> Timestamp {
    let now = jiff::Timestamp::now().as_millisecond();
    Timestamp(u64::try_from(now).unwrap_or(0))
}

/// Reads the image as the daemon does. The cache is not shared with it: here the point is to read.
fn digest(path: &Path, format: Option<&str>, size: u64) -> Result<Chain> {
    let scratch = scratch()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let evidence = runtime.block_on(async {
        let gatherer = Gatherer::open(&scratch.0);
        let file = ImageFile::new(path, format);
        let reading = gatherer.gather(&file);
        tokio::pin!(reading);
        let bar = bar(size);
        let before = bytes_read();
        loop {
            tokio::select! {
                evidence = &mut reading => {
                    bar.finish_and_clear();
                    return evidence;
                }
                () = tokio::time::sleep(PROGRESS) => bar.set_position(bytes_read() - before),
            }
        }
    });
    match evidence {
        Evidence::Chain(chain) => Ok(chain),
        Evidence::Unreadable(why) => bail!("{why}"),
        Evidence::Pending => bail!("the image has not been read"),
    }
}

fn bar(size: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(
        "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta_precise}",
    );
    ProgressBar::new(size).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// What this process has read so far (proc(5), `rchar`).
fn bytes_read() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// A directory that goes when the process ends.
struct Scratch(std::path::PathBuf);

fn scratch() -> Result<Scratch> {
    let path = std::env::temp_dir().join(format!("detector-verify-{}", std::process::id()));
    fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(Scratch(path))
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
