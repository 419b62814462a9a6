//! The text of one manifest.

use std::path::{Path, PathBuf};

use detector_core::model::{
    Digest, Image, ImageFormat, MediumRole, Rejected, SecurityProfile, Template, TemplateStatus,
    Timestamp,
};
use serde::Deserialize;
use toml::Spanned;

use crate::config::text::{Place, one_line};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestKeys {
    id: Spanned<String>,
    version: Option<Spanned<String>>,
    os: Option<Spanned<String>>,
    status: TemplateStatus,
    reason: Option<Spanned<String>>,
    since: Option<Spanned<Moment>>,
    expires: Option<Spanned<Moment>>,
    serial: Option<u64>,
    /// How many there are, so that a manifest that is cut off between two of them is none.
    images: Option<Spanned<usize>>,
    profile: Option<Spanned<SecurityProfile>>,
    #[serde(default)]
    image: Vec<Spanned<toml::Value>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Moment {
    Datetime(toml::value::Datetime),
    Text(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageKeys {
    role: ImageRole,
    sha256: Digest,
    format: Option<ImageFormat>,
    path: Option<PathBuf>,
}

/// What a template can have an image for: everything but the network.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ImageRole {
    Disk,
    Cdrom,
    Floppy,
    Kernel,
    Initrd,
    Firmware,
}

impl From<ImageRole> for MediumRole {
    fn from(role: ImageRole) -> Self {
        match role {
            ImageRole::Disk => Self::Disk,
            ImageRole::Cdrom => Self::Cdrom,
            ImageRole::Floppy => Self::Floppy,
            ImageRole::Kernel => Self::Kernel,
            ImageRole::Initrd => Self::Initrd,
            ImageRole::Firmware => Self::Firmware,
        }
    }
}

/// Parses the text of a manifest; `path` is for messages. Images that are refused are added to
/// `rejected`, and the rest holds.
pub(crate) fn parse(
    path: &Path,
    text: &str,
    rejected: &mut Vec<Rejected>,
) -> Result<Template, Rejected> {
    let refuse =
        |span, why: String| Rejected { place: Place::of(path, text, span).to_string(), why };
    let keys: ManifestKeys =
        toml::from_str(text).map_err(|error| refuse(error.span(), one_line(error.message())))?;
    if !is_id(keys.id.get_ref()) {
        return Err(refuse(
            Some(keys.id.span()),
            format!(
                "{:?} is no template id; expected 1 to 128 letters, digits and . _ + : @ / -",
                keys.id.get_ref()
            ),
        ));
    }
    for (label, most) in [(&keys.version, 256), (&keys.os, 256), (&keys.reason, 1024)] {
        let Some(label) = label else { continue };
        if label.get_ref().len() > most || label.get_ref().chars().any(char::is_control) {
            let why = format!("expected at most {most} bytes on one line");
            return Err(refuse(Some(label.span()), why));
        }
    }
    let moment = |given: &Option<Spanned<Moment>>| {
        let given = given.as_ref();
        let moment =
            given.map(|at| moment(at.get_ref()).map_err(|why| refuse(Some(at.span()), why)));
        moment.transpose()
    };
    let (since, expires) = (moment(&keys.since)?, moment(&keys.expires)?);
    if let Some(profile) = &keys.profile
        && let Some(kind) = profile.get_ref().devices.iter().flatten().find(|kind| !is_kind(kind))
    {
        let why = format!(
            "{kind:?} is no kind of device; expected the name of libvirt's element for it, such as \
             \"disk\" or \"interface\""
        );
        return Err(refuse(Some(profile.span()), why));
    }
    let mut images = Vec::new();
    let first = keys.image.first().map(Spanned::span);
    for entry in keys.image {
        let span = entry.span();
        match image(entry.into_inner()) {
            Ok(image) => images.push(image),
            Err(why) => rejected.push(refuse(Some(span), format!("image: {why}"))),
        }
    }
    if images.is_empty() {
        let why = "no image in it is usable, so that it approves nothing; \
                   expected [[image]] entries with role and sha256";
        return Err(refuse(None, why.to_owned()));
    }
    if let Some(announced) = &keys.images {
        is_whole(*announced.get_ref(), &images)
            .map_err(|why| refuse(Some(announced.span()), why))?;
        let profile = keys.profile.as_ref().map(Spanned::span);
        if let Some((profile, first)) = profile.zip(first)
            && profile.start > first.start
        {
            let why = "with `images` it is expected before the first [[image]], so that no profile is \
                       lost with the end of the file";
            return Err(refuse(Some(profile), why.to_owned()));
        }
    }
    Ok(Template {
        id: keys.id.into_inner(),
        version: keys.version.map(Spanned::into_inner),
        os: keys.os.map(Spanned::into_inner),
        status: keys.status,
        reason: keys.reason.map(Spanned::into_inner),
        since,
        expires,
        images,
        profile: keys.profile.map(Spanned::into_inner).unwrap_or_default(),
        serial: keys.serial,
        signed_by: None,
    })
}

fn is_whole(announced: usize, usable: &[Image]) -> Result<(), String> {
    let there = usable.len();
    if announced == there {
        return Ok(());
    }
    Err(format!(
        "{announced} images are announced, and {there} usable ones are there; expected the whole manifest, \
         with the number of its [[image]] entries here"
    ))
}

fn image(entry: toml::Value) -> Result<Image, String> {
    let ImageKeys { role, sha256, format, path } =
        entry.try_into().map_err(|error: toml::de::Error| one_line(error.message()))?;
    if let Some(path) = path.as_deref().filter(|path| !path.is_absolute()) {
        return Err(format!(
            "{path:?} depends on who reads it; expected a path that begins with /"
        ));
    }
    Ok(Image { role: role.into(), sha256, format, path })
}

fn is_id(id: &str) -> bool {
    let usable = |byte: u8| byte.is_ascii_alphanumeric() || b"._+:@/-".contains(&byte);
    (1..=128).contains(&id.len()) && id.bytes().all(usable)
}

fn is_kind(kind: &str) -> bool {
    let usable = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=32).contains(&kind.len()) && kind.bytes().all(usable)
}

fn moment(given: &Moment) -> Result<Timestamp, String> {
    let text = match given {
        Moment::Datetime(datetime) => datetime.to_string(),
        Moment::Text(text) => text.clone(),
    };
    let moment = text.parse::<jiff::Timestamp>().ok();
    moment.and_then(|moment| u64::try_from(moment.as_millisecond()).ok()).map(Timestamp).ok_or_else(
        || {
            format!(
                "{text:?} is no moment; expected RFC 3339 with an offset, \
                 such as 2027-06-30T00:00:00Z"
            )
        },
    )
}
