use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use detector_core::model::{Digest, Registry, Rejected, Template, TemplateStatus};
use sha2::{Digest as _, Sha256};

pub(crate) use parse::parse;

use super::{serials::Serials, signature::Trust};
use crate::config::text::{Place, read_text};

mod parse;

/// A manifest is a page of text; what is larger is not one.
pub(super) const MAX_BYTES: u64 = 1 << 20;

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
    trust: Trust,
    /// Where signatures are required, and there is a state directory.
    serials: Option<Serials>,
}

/// A manifest that has been read.
struct Read {
    template: Template,
    /// Of the whole text.
    sha256: Digest,
}

impl Manifests {
    pub fn new(dir: &Path) -> Self {
        let last = BTreeMap::new();
        Self { dir: dir.to_owned(), last, trust: Trust::default(), serials: None }
    }

    /// Takes manifests by the signatures on them. Where those are required and `state` names the state
    /// directory, an older manifest does not come back. Blocks.
    pub fn trusting(mut self, trust: Trust, state: Option<&Path>) -> Self {
        self.serials = state.filter(|_| trust.is_required()).map(Serials::open);
        self.trust = trust;
        self
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

    /// What the files last said, in the order of their names.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &Template)> {
        self.last.iter().map(|(path, template)| (path.as_path(), template))
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
        let mut read = Vec::new();
        for path in files.into_iter().take(MAX_FILES) {
            let known = rejected.len();
            let outcome = self.parse_file(&path, rejected);
            if outcome.is_ok() {
                incomplete = incomplete.or_else(|| rejected.get(known).map(told));
            }
            read.push((path, outcome));
        }
        // All are known before one is judged: the latest manifest may be in the last file.
        if let Some(serials) = &mut self.serials {
            let taken = read.iter().filter_map(|(_, outcome)| outcome.as_ref().ok());
            taken.for_each(|read| serials.note(&read.template, read.sha256));
        }
        for (path, outcome) in read {
            let serials = self.serials.as_ref();
            let outcome = outcome.and_then(|Read { template, sha256 }| {
                let latest = serials.map_or(Ok(()), |serials| serials.check(&template, sha256));
                let place = || Place::of(&path, "", None).to_string();
                latest.map(|()| template).map_err(|why| Rejected { place: place(), why })
            });
            let template = outcome.or_else(|mut refusal| {
                let last = before.remove(&path);
                let last = last.filter(|last| serials.is_none_or(|known| known.is_latest(last)));
                if last.is_some() {
                    refusal.why.push_str(". What the file said before stays in force");
                } else {
                    incomplete = incomplete.take().or_else(|| Some(told(&refusal)));
                }
                rejected.push(refusal);
                last.ok_or(())
            });
            if let Ok(template) = template {
                self.last.insert(path, template);
            }
        }
        if let Some(Err(unsaved)) = self.serials.as_mut().map(Serials::save) {
            rejected.push(unsaved);
        }
        incomplete
    }

    /// Reads one manifest. Images that are refused are added to `rejected`, the rest of it holds.
    fn parse_file(&self, path: &Path, rejected: &mut Vec<Rejected>) -> Result<Read, Rejected> {
        let refuse = |why| Rejected { place: Place::of(path, "", None).to_string(), why };
        let text = read_text(path, MAX_BYTES).map_err(|why| refuse(why.to_string()))?;
        let signed_by = self.trust.signer(path, &text).map_err(refuse)?;
        let template = Template { signed_by, ..parse(path, &text, rejected)? };
        Ok(Read { template, sha256: Digest(Sha256::digest(text.as_bytes()).into()) })
    }

    /// Of several manifests with one id and version the strictest holds, and of those the first in the
    /// order of file names.
    fn without_duplicates(&self, rejected: &mut Vec<Rejected>) -> Vec<Template> {
        type Key<'a> = (&'a str, Option<&'a str>);
        let mut holders: BTreeMap<Key<'_>, (&Path, &Template)> = BTreeMap::new();
        for (path, template) in &self.last {
            let key = (template.id.as_str(), template.version.as_deref());
            let strictness =
                |one: &Template| (leniency(one.status), one.expires.is_none(), one.expires);
            let held = holders.get(&key);
            if held.is_none_or(|(_, holder)| strictness(template) < strictness(holder)) {
                holders.insert(key, (path, template));
            }
        }
        let mut templates = Vec::new();
        for (path, template) in &self.last {
            let key = (template.id.as_str(), template.version.as_deref());
            match holders.get(&key) {
                Some((holder, _)) if *holder != path => rejected.push(Rejected {
                    place: Place::of(path, "", None).to_string(),
                    why: format!(
                        "the id {:?}, version {:?}, is taken by {holder:?}; expected an id or \
                         version of its own",
                        template.id,
                        template.version.as_deref().unwrap_or("none")
                    ),
                }),
                _ => templates.push(template.clone()),
            }
        }
        templates
    }
}

/// A draft beside another manifest takes nothing away from it.
fn leniency(status: TemplateStatus) -> u8 {
    match status {
        TemplateStatus::Revoked => 0,
        TemplateStatus::Deprecated => 1,
        TemplateStatus::Approved => 2,
        TemplateStatus::Draft => 3,
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

#[cfg(test)]
mod tests;
