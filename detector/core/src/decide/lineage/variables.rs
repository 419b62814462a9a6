//! Where the firmware's stored variables come from: boot entries, and the keys that secure boot goes by.
//!
//! They are the guest's to write, so that no digest covers them once it has run. What counts is what the
//! file was when the VM began to run for the first time: the image that its template's variables are made
//! from, by digest or by a certificate of birth.

use std::path::Path;

use super::Lineage;
use crate::model::{Digest, Evidence, Medium, MediumRole, MediumSource, Vm, World};

/// What is known of a file with variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::decide) enum Stored<'a> {
    /// The file, its digest, and whether that is the one of before its VM ran for the first time.
    Read(&'a Path, Digest, bool),
    Pending(&'a Path),
    Unreadable(&'a Path, &'a str),
    /// Not on this host.
    Elsewhere(&'a str),
}

/// Where a VM's variables come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::decide) enum Origin<'a> {
    /// Its firmware stores none.
    None,
    /// The file is an image of its template.
    Template(&'a Path),
    /// It was, before the VM ran for the first time; nobody but the VM has changed it since.
    Certificate(&'a Path),
    /// It is not known yet; why.
    Open(&'a str),
    /// Nothing ties them to its template; what they are.
    Foreign(Option<(&'a Path, Digest)>),
}

impl<'a> Stored<'a> {
    pub(super) fn of(medium: &'a Medium, vm: &Vm, world: &'a World) -> Option<Self> {
        if medium.role != MediumRole::Variables {
            return None;
        }
        let file = match &medium.source {
            MediumSource::Remote(what) => return Some(Self::Elsewhere(what)),
            MediumSource::File(file) => file,
        };
        let path = file.path.as_path();
        let unread = world.unread.get(&vm.uuid).is_some_and(|files| files.contains(file));
        Some(match world.evidence.get(file).filter(|_| !unread) {
            None | Some(Evidence::Pending) => Self::Pending(path),
            Some(Evidence::Unreadable(why)) => Self::Unreadable(path, why),
            Some(Evidence::Chain(now)) => {
                let booted = world.booted.get(&vm.uuid).and_then(|files| files.get(file));
                let chain = booted.unwrap_or(now);
                Self::Read(path, chain.digest, chain.at_birth)
            }
        })
    }
}

impl<'a> Lineage<'a> {
    /// Where the VM's variables come from: of several the worst. `None` where nobody says whether there are
    /// any.
    pub(in crate::decide) fn variables(&self, vm: &Vm) -> Option<Origin<'a>> {
        match (vm.posture.stored_variables, self.stored.as_slice()) {
            (None, []) => None,
            (Some(false), []) => Some(Origin::None),
            (Some(true), []) => Some(Origin::Foreign(None)),
            (_, stored) => stored.iter().map(|one| self.origin(*one)).max(),
        }
    }

    fn origin(&self, stored: Stored<'a>) -> Origin<'a> {
        let (path, digest, at_birth) = match stored {
            Stored::Read(path, digest, at_birth) => (path, digest, at_birth),
            Stored::Pending(_) => return Origin::Open("they are being read"),
            Stored::Unreadable(_, why) => return Origin::Open(why),
            Stored::Elsewhere(_) => return Origin::Foreign(None),
        };
        let Some(template) = self.template() else {
            return Origin::Open("no template is known to compare them with");
        };
        let images = template.images.iter().filter(|image| image.role == MediumRole::Firmware);
        match (images.map(|image| image.sha256).any(|image| image == digest), at_birth) {
            (false, _) => Origin::Foreign(Some((path, digest))),
            (true, false) => Origin::Template(path),
            (true, true) => Origin::Certificate(path),
        }
    }
}
