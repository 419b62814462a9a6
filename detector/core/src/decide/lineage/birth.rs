//! What people have approved for one VM alone, after its remediation.

use std::path::Path;

use uuid::Uuid;

use crate::model::{Digest, MediumRole, Template, World};

/// Follows the media of a VM, and says whether what was approved for it covers them.
pub(super) struct Birth<'a> {
    template: Option<&'a Template>,
    /// Whether every medium so far is what was approved.
    covers: bool,
    /// The first medium that no template has and that was approved.
    excused: Option<(MediumRole, &'a Path, Digest)>,
}

impl<'a> Birth<'a> {
    pub(super) fn of(vm: Uuid, world: &'a World) -> Self {
        Self { template: world.births.held.get(&vm), covers: true, excused: None }
    }

    pub(super) fn has(&self, role: MediumRole, digest: Digest) -> bool {
        let images = self.template.map_or(&[][..], |template| &template.images);
        images.iter().any(|image| image.role == role && image.sha256 == digest)
    }

    /// Looks at a medium, and says whether it was approved. What a template has that is not in force any more is
    /// not.
    pub(super) fn look(&mut self, role: MediumRole, digest: Digest, in_force: bool) -> bool {
        let has = in_force && self.has(role, digest);
        self.covers &= has;
        has
    }

    /// No template has the medium, and it was approved.
    pub(super) fn excuse(&mut self, medium: (MediumRole, &'a Path, Digest)) {
        self.excused.get_or_insert(medium);
    }

    /// What is foreign after all: with something beside it that was not approved.
    pub(super) fn refuted(&self) -> Option<(MediumRole, &'a Path, Digest)> {
        self.excused.filter(|_| !self.covers)
    }

    /// The template that stands for what was approved, where no other one proves the VM.
    pub(super) fn proves(&self, undecided: bool) -> Option<&'a Template> {
        let needed = self.excused.is_some() || undecided;
        self.template.filter(|_| needed && self.covers)
    }
}
