use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use detector_core::model::{
    Digest, Image, MediumRole, Registry, Rejected, Template, TemplateStatus, Timestamp,
};
use serde::Deserialize;
use toml::Spanned;

use crate::config::text::{Place, one_line, read_text};

/// A manifest is a page of text; what is larger is not one.
const MAX_BYTES: u64 = 1 << 20;

/// More manifests than this are a mistake, and each is read again at every reload.
const MAX_FILES: usize = 4096;

/// The directory of template manifests, and what each of them last said.
///
/// A manifest that turns unreadable keeps the meaning that it had, and so do all of them when the
/// directory does: an editor's half-written file must not revoke a template. Removing a manifest
/// does.
#[derive(Debug)]
pub struct Manifests {
    dir: PathBuf,
    last: BTreeMap<PathBuf, Template>,
}

impl Manifests {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), last: BTreeMap::new() }
    }

    /// Reads every `*.toml` of the directory, in the order of their names; blocks.
    pub fn reload(&mut self) -> Registry {
        let mut rejected = Vec::new();
        let (mut lost, mut incomplete) = (None, None);
        match list(&self.dir) {
            Ok(files) => incomplete = self.read(files, &mut rejected),
            Err(why) => {
                rejected.push(Rejected {
                    place: Place::of(&self.dir, "", None).to_string(),
                    why: format!(
                        "cannot be read: {why}; expected the directory of template manifests. \
                         The templates known before stay in force ({})",
                        self.last.len()
                    ),
                });
                lost = Some(why.to_string());
            }
        }
        let before = rejected.len();
        let templates = self.without_duplicates(&mut rejected);
        let incomplete = incomplete.or_else(|| rejected.get(before).map(told));
        Registry { templates, rejected, lost, incomplete }
    }

    /// Returns the first thing that was refused without anything in its place.
    fn read(&mut self, files: Vec<PathBuf>, rejected: &mut Vec<Rejected>) -> Option<String> {
        let mut before = std::mem::take(&mut self.last);
        let mut incomplete = None;
        let surplus = files.len().saturating_sub(MAX_FILES);
        if surplus > 0 {
            rejected.push(Rejected {
                place: Place::of(&self.dir, "", None).to_string(),
                why: format!("{surplus} manifests are left out; expected at most {MAX_FILES}"),
            });
            incomplete = rejected.last().map(told);
        }
        for path in files.into_iter().take(MAX_FILES) {
            let known = rejected.len();
            let mut kept = false;
            let template = parse_file(&path, rejected).or_else(|mut refusal| {
                let last = before.remove(&path);
                kept = last.is_some();
                if kept {
                    refusal.why.push_str(". What the file said before stays in force");
                }
                rejected.push(refusal);
                last.ok_or(())
            });
            if !kept {
                incomplete = incomplete.or_else(|| rejected.get(known).map(told));
            }
            if let Ok(template) = template {
                self.last.insert(path, template);
            }
        }
        incomplete
    }

    /// Of several manifests with one id the first in the order of file names holds.
    fn without_duplicates(&self, rejected: &mut Vec<Rejected>) -> Vec<Template> {
        let mut holders: BTreeMap<&str, &Path> = BTreeMap::new();
        let mut templates = Vec::new();
        for (path, template) in &self.last {
            match holders.get(template.id.as_str()) {
                None => {
                    holders.insert(&template.id, path);
                    templates.push(template.clone());
                }
                Some(holder) => rejected.push(Rejected {
                    place: Place::of(path, "", None).to_string(),
                    why: format!(
                        "the id {:?} is taken by {holder:?}; expected an id of its own",
                        template.id
                    ),
                }),
            }
        }
        templates
    }
}

fn told(rejected: &Rejected) -> String {
    format!("{}: {}", rejected.place, rejected.why)
}

fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestKeys {
    id: Spanned<String>,
    version: Option<Spanned<String>>,
    os: Option<Spanned<String>>,
    status: TemplateStatus,
    expires: Option<Spanned<Expiry>>,
    #[serde(default)]
    image: Vec<Spanned<toml::Value>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Expiry {
    Datetime(toml::value::Datetime),
    Text(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageKeys {
    role: ImageRole,
    sha256: Digest,
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

/// Reads one manifest. Images that are refused are added to `rejected`, the rest of it holds.
fn parse_file(path: &Path, rejected: &mut Vec<Rejected>) -> Result<Template, Rejected> {
    let text = read_text(path, MAX_BYTES).map_err(|why| Rejected {
        place: Place::of(path, "", None).to_string(),
        why: why.to_string(),
    })?;
    parse(path, &text, rejected)
}

fn parse(path: &Path, text: &str, rejected: &mut Vec<Rejected>) -> Result<Template, Rejected> {
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
    for label in [&keys.version, &keys.os].into_iter().flatten() {
        let shown = label.get_ref();
        if shown.len() > 256 || shown.chars().any(char::is_control) {
            let why = "expected at most 256 bytes on one line".to_owned();
            return Err(refuse(Some(label.span()), why));
        }
    }
    let expires = match &keys.expires {
        None => None,
        Some(expiry) => {
            Some(moment(expiry.get_ref()).map_err(|why| refuse(Some(expiry.span()), why))?)
        }
    };
    let mut images = Vec::new();
    for entry in keys.image {
        let span = entry.span();
        match entry.into_inner().try_into::<ImageKeys>() {
            Ok(ImageKeys { role, sha256 }) => images.push(Image { role: role.into(), sha256 }),
            Err(error) => {
                rejected.push(refuse(Some(span), format!("image: {}", one_line(error.message()))));
            }
        }
    }
    if images.is_empty() {
        let why = "no image in it is usable, so that it approves nothing; \
                   expected [[image]] entries with role and sha256";
        return Err(refuse(None, why.to_owned()));
    }
    Ok(Template {
        id: keys.id.into_inner(),
        version: keys.version.map(Spanned::into_inner),
        os: keys.os.map(Spanned::into_inner),
        status: keys.status,
        expires,
        images,
    })
}

fn is_id(id: &str) -> bool {
    let usable = |byte: u8| byte.is_ascii_alphanumeric() || b"._+:@/-".contains(&byte);
    (1..=128).contains(&id.len()) && id.bytes().all(usable)
}

fn moment(expiry: &Expiry) -> Result<Timestamp, String> {
    let text = match expiry {
        Expiry::Datetime(datetime) => datetime.to_string(),
        Expiry::Text(text) => text.clone(),
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

#[cfg(test)]
mod tests;
