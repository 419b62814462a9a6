//! What a VM boots from becomes a template.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use detector_core::model::{
    Digest, Firmware, FirmwareKind, Image, MediumRole, Posture, SecurityProfile, Template,
    TemplateStatus, TpmKind,
};

use crate::{
    api::{
        Reply, Request,
        view::{PlanView, SightedView},
    },
    cli::{
        Global,
        ask::{ask, config, unexpected},
        output::Output,
        template::{Directory, now},
    },
    registry::{self, edit},
};

/// What has come of it.
pub(super) enum Registered {
    /// What has these digests is approved by whoever runs this.
    Approved(Vec<Digest>),
    /// Several people have to approve it: it admits nobody until then.
    Draft,
    /// Somebody has to sign it first.
    ToSign,
}

/// Writes a manifest with what the daemon has found the VM to boot from, unless templates in force have all of it.
pub(super) fn register(
    global: &Global,
    output: &mut Output,
    plan: &PlanView,
    id: &str,
    reason: &str,
) -> Result<Registered> {
    let images = images(&plan.media)?;
    let digests: Vec<Digest> = images.iter().map(|image| image.sha256).collect();
    let alone = plan.needed <= 1;
    let registered = |digests| match alone {
        true => Registered::Approved(digests),
        false => Registered::Draft,
    };
    if plan.media.iter().all(|medium| medium.known) {
        return Ok(registered(digests));
    }
    let (id, version) = match id.split_once('@') {
        Some((id, version)) => (id, Some(version.to_owned()).filter(|one| !one.is_empty())),
        None => (id, None),
    };
    let status = if alone { TemplateStatus::Approved } else { TemplateStatus::Draft };
    let template = Template {
        version,
        images,
        reason: Some(reason.to_owned()),
        since: Some(now()),
        serial: Some(1),
        profile: profile(&posture(global, plan)?),
        ..Template::new(id, status)
    };
    let manifest = edit::compose(&template);
    let mut rejected = Vec::new();
    let parsed = registry::parse(Path::new("the manifest"), &manifest, &mut rejected);
    if let Some(why) = parsed.err().or_else(|| rejected.pop()) {
        bail!("{}", why.why);
    }
    let directory = Directory::extend(global)?;
    if let [(path, known), ..] = directory.all_named(&template.exact_name())[..] {
        // Whoever was interrupted runs it once more.
        if known.images == template.images && known.status == status {
            return Ok(registered(digests));
        }
        bail!(
            "{} is registered by {}, with other images or another status; give --template {}@VERSION a version \
             that is not there",
            template.name(),
            path.display(),
            template.id
        );
    }
    let place = directory.place_for(&template);
    if config(global)?.registry.require_signature {
        to_sign(output, &place, &manifest)?;
        return Ok(Registered::ToSign);
    }
    edit::create(&place, &manifest).with_context(|| {
        format!("{}: cannot be written; nothing has been changed", place.display())
    })?;
    if !output.is_json() {
        output.field("Manifest", place.display().to_string())?;
    }
    Ok(registered(digests))
}

fn to_sign(output: &mut Output, place: &Path, manifest: &str) -> Result<()> {
    if output.is_json() {
        return output.json(&serde_json::json!({
            "sign": { "file": place.display().to_string(), "manifest": manifest },
        }));
    }
    output.line(manifest.trim_end())?;
    output.line("")?;
    let place = place.display();
    output.field("Next", format!("write this to {place}, and sign it: minisign -S -m {place}"))?;
    output.field("Then", "start the remediation once more")
}

fn images(media: &[SightedView]) -> Result<Vec<Image>> {
    let mut images: Vec<Image> = Vec::new();
    for medium in media {
        let (role, path) = (medium.role, &medium.path);
        if role == MediumRole::Network {
            bail!("the VM may boot from the network, of which nothing can be registered");
        }
        let digest = match (&medium.sha256, &medium.unreadable) {
            (Some(digest), _) => digest.parse::<Digest>()?,
            (None, Some(why)) => bail!("{path}: {why}"),
            (None, None) => bail!("{path} is being read: try again in a moment"),
        };
        let image = Image::new(role, digest);
        if !images.contains(&image) {
            images.push(image);
        }
    }
    if images.is_empty() {
        bail!("its description names nothing that it boots from");
    }
    Ok(images)
}

fn posture(global: &Global, plan: &PlanView) -> Result<Posture> {
    match ask(global, Request::VmShow { name: plan.vm.uuid.to_string() })? {
        Reply::Vm(vm) => {
            vm.posture.ok_or_else(|| anyhow!("the daemon does not say what the VM is like"))
        }
        other => unexpected(&other),
    }
}

/// What the VM is like, as what VMs of its template have to be like.
fn profile(posture: &Posture) -> SecurityProfile {
    let none =
        |list: &Option<Vec<String>>| list.as_ref().filter(|list| list.is_empty()).map(|_| false);
    SecurityProfile {
        firmware: posture.firmware.map(|firmware| match firmware {
            Firmware::Bios => FirmwareKind::Bios,
            Firmware::Efi => FirmwareKind::Efi,
        }),
        secure_boot: posture.secure_boot.filter(|on| *on),
        tpm: posture.tpm.map(|tpm| tpm != TpmKind::Absent).filter(|has| *has),
        host_devices: none(&posture.host_devices),
        shared_memory: none(&posture.shared_memory),
        shared_directories: none(&posture.shared_directories),
        raw_arguments: posture.raw_arguments.filter(|raw| !*raw),
        devices: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_asks_what_the_vm_is_like_and_survives_the_manifest() {
        let posture = Posture {
            firmware: Some(Firmware::Efi),
            secure_boot: Some(true),
            tpm: Some(TpmKind::Emulator),
            host_devices: Some(Vec::new()),
            shared_memory: Some(vec!["ivshmem x".to_owned()]),
            raw_arguments: Some(false),
            ..Posture::default()
        };
        let profile = profile(&posture);
        let expect = SecurityProfile {
            firmware: Some(FirmwareKind::Efi),
            secure_boot: Some(true),
            tpm: Some(true),
            host_devices: Some(false),
            raw_arguments: Some(false),
            ..SecurityProfile::default()
        };
        assert_eq!(profile, expect);
        let images = vec![Image::new(MediumRole::Disk, Digest([7; 32]))];
        let template =
            Template { profile, images, ..Template::new("web", TemplateStatus::Approved) };
        let text = edit::compose(&template);
        let parsed = registry::parse(Path::new("m"), &text, &mut Vec::new()).unwrap();
        assert_eq!((parsed.profile, parsed.images), (expect, template.images), "{text}");
        // Of a VM of which nothing is known nothing is asked.
        assert!(super::profile(&Posture::default()).is_empty());
        assert!(
            !edit::compose(&Template::new("x", TemplateStatus::Draft)).contains("[profile]\n\n[")
        );
    }

    #[test]
    fn what_is_not_known_is_not_registered() {
        let medium = |role, sha256: Option<&str>, unreadable: Option<&str>| SightedView {
            role,
            path: "/images/a".to_owned(),
            sha256: sha256.map(str::to_owned),
            unreadable: unreadable.map(str::to_owned),
            known: false,
        };
        let digest = "07".repeat(32);
        let read = medium(MediumRole::Disk, Some(&digest), None);
        let cases = [
            (vec![], "names nothing"),
            (vec![read.clone(), medium(MediumRole::Disk, None, None)], "is being read"),
            (vec![medium(MediumRole::Disk, None, Some("no such file"))], "no such file"),
            (vec![medium(MediumRole::Network, None, Some("pxe"))], "from the network"),
        ];
        for (media, why) in cases {
            let error = images(&media).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert_eq!(images(&[read.clone(), read]).unwrap().len(), 1);
    }
}
