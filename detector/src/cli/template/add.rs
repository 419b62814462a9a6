//! `template add`: images become a manifest.

use std::path::{Path, PathBuf, absolute};

use anyhow::{Context, Result, bail};
use detector_core::model::{Image, ImageFormat, MediumRole, Template, TemplateStatus, Timestamp};
use serde::Serialize;

use super::{files::Directory, hash, in_force, now};
use crate::{
    api::view::TemplateView,
    cli::{Done, Global, args::TemplateAdd, output::Output},
    registry::{self, ChainError, edit},
};

#[derive(Serialize)]
struct Added {
    template: TemplateView,
    /// Where the manifest has been written; null where it has not.
    file: Option<String>,
    manifest: String,
}

pub(super) fn run(global: &Global, output: &mut Output, wanted: &TemplateAdd) -> Result<Done> {
    // Hashing takes minutes: what is wrong is said before, and nobody is locked out meanwhile.
    let mut template = described(wanted)?;
    template.images.push(Image::new(MediumRole::Disk, detector_core::model::Digest([0; 32])));
    check(&template)?;
    template.images.clear();
    refuse_known(&Directory::read(global)?, &template)?;
    for (role, path) in images(wanted) {
        template.images.push(image(role, path, !wanted.no_paths)?);
    }
    let manifest = edit::compose(&template);
    check(&template)?;

    let mut file = None;
    if !wanted.dry_run {
        let directory = Directory::extend(global)?;
        refuse_known(&directory, &template)?;
        let place = directory.place_for(&template);
        edit::create(&place, &manifest).with_context(|| {
            format!("{}: cannot be written; nothing has been changed", place.display())
        })?;
        file = Some(place.display().to_string());
    }
    let view = TemplateView::of(&template, Vec::new(), now());
    let added = Added { template: view, file, manifest };
    print(global, output, &added)?;
    Ok(Done::Fine)
}

fn print(global: &Global, output: &mut Output, added: &Added) -> Result<()> {
    if output.is_json() {
        return output.json(added);
    }
    let Some(file) = &added.file else {
        return output.line(added.manifest.trim_end());
    };
    output.field("Manifest", file.as_str())?;
    super::show(output, &added.template)?;
    let name = added.template.name();
    if added.template.status == "draft" {
        output.field("Next", format!("detector template approve {name}"))?;
    }
    in_force(global, output, (file, &name), &added.template.status)
}

fn described(wanted: &TemplateAdd) -> Result<Template> {
    let status = if wanted.approve { TemplateStatus::Approved } else { TemplateStatus::Draft };
    let expires = wanted
        .expires
        .map(|at| u64::try_from(at.as_millisecond()).map(Timestamp))
        .transpose()
        .context("--expires: a moment before 1970 is no end of an approval")?;
    if images(wanted).next().is_none() {
        bail!("a template without images approves nothing; expected --disk PATH or another image");
    }
    Ok(Template {
        version: wanted.version.clone(),
        os: wanted.os.clone(),
        reason: wanted.reason.clone(),
        since: Some(now()),
        expires,
        serial: Some(1),
        ..Template::new(&wanted.id, status)
    })
}

/// Whether the daemon would take it, by the daemon's own rules.
fn check(template: &Template) -> Result<()> {
    let mut rejected = Vec::new();
    let text = edit::compose(template);
    let parsed = registry::parse(Path::new("the manifest"), &text, &mut rejected);
    if let Some(why) = parsed.err().or_else(|| rejected.pop()) {
        bail!("{}", why.why);
    }
    Ok(())
}

fn refuse_known(directory: &Directory, template: &Template) -> Result<()> {
    if let [(path, _), ..] = directory.all_named(&template.exact_name())[..] {
        bail!(
            "{} is registered by {}; a new version needs another --version",
            template.name(),
            path.display()
        );
    }
    Ok(())
}

fn images(wanted: &TemplateAdd) -> impl Iterator<Item = (MediumRole, &PathBuf)> {
    let given = [
        (MediumRole::Disk, &wanted.disk),
        (MediumRole::Cdrom, &wanted.cdrom),
        (MediumRole::Floppy, &wanted.floppy),
        (MediumRole::Kernel, &wanted.kernel),
        (MediumRole::Initrd, &wanted.initrd),
        (MediumRole::Firmware, &wanted.firmware),
    ];
    given.into_iter().flat_map(|(role, paths)| paths.iter().map(move |path| (role, path)))
}

fn image(role: MediumRole, path: &Path, record: bool) -> Result<Image> {
    let (layers, size) = match registry::base(path, None) {
        Err(ChainError::Ambiguous(path)) => bail!(
            "{} is an overlay, and VMs of it are known by the image beneath; expected an image that \
             stands alone: add the one beneath, or flatten it (qemu-img convert -O qcow2)",
            path.display()
        ),
        other => other?,
    };
    let found = layers.last().map(|layer| layer.format.as_str());
    let chain = hash::digest(path, found, size)?;
    let format = match (role, found) {
        (MediumRole::Disk, Some("qcow2")) => Some(ImageFormat::Qcow2),
        (MediumRole::Disk, _) => Some(ImageFormat::Raw),
        _ => None,
    };
    let kept = absolute(path).with_context(|| format!("{}: where is it?", path.display()))?;
    if record && kept.to_str().is_none() {
        bail!(
            "{}: its name is not UTF-8, so that no manifest can record it; rename it, or leave it \
             out by --no-paths",
            path.display()
        );
    }
    Ok(Image { format, path: record.then_some(kept), ..Image::new(role, chain.digest) })
}
