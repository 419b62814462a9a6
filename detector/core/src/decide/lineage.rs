//! Which template a VM descends from, and what proves it.

mod birth;
mod variables;

use std::{collections::BTreeSet, path::Path};

pub(super) use self::variables::{Origin, Stored};

use self::birth::Birth;
use super::inventory::Merged;
use crate::model::{
    Digest, Evidence, EvidenceLevel, ImageFile, Medium, MediumRole, MediumSource, PowerState,
    Registry, Template, TemplateStatus, Timestamp, Today, Vm, World,
};

/// Whether a template that is in force has the image.
pub fn is_image_in_force(world: &World, role: MediumRole, digest: Digest) -> bool {
    let images = Images::new(world);
    let mut covering = images.with(role, digest).map(|number| &world.registry.templates[number]);
    covering.any(|template| {
        let in_force = leniency(template.status, images.expired(template) == Some(true));
        template.status != TemplateStatus::Draft && in_force >= DEPRECATED
    })
}

/// The registered images, in the order of role and digest.
pub(super) struct Images<'a> {
    registry: &'a Registry,
    today: Today,
    /// Whether there may be others that are not known.
    gap: bool,
    index: Vec<(MediumRole, Digest, usize)>,
}

impl<'a> Images<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        let registry = &world.registry;
        let mut index: Vec<_> = registry
            .templates
            .iter()
            .enumerate()
            .flat_map(|(number, template)| {
                template.images.iter().map(move |image| (image.role, image.sha256, number))
            })
            .collect();
        index.sort_unstable();
        let gap = registry.gap().is_some() || world.births.lost.is_some();
        Self { registry, today: world.today(), gap, index }
    }

    /// The template that a source names. Of several versions, where it does not say which, the
    /// strictest.
    pub(super) fn named(&self, name: &str) -> Option<&'a Template> {
        let namesakes = self.registry.templates.iter().filter(|template| template.is_named(name));
        namesakes.min_by_key(|template| self.order(template))
    }

    /// Those whose profiles count, the strictest first: where several cover a VM it has to be what all
    /// of them ask, but for drafts, which ask nothing of the VMs of others.
    fn asking(&self, of: impl Iterator<Item = &'a Template>) -> Vec<&'a Template> {
        let mut all: Vec<_> = of.collect();
        all.sort_by_key(|template| self.order(template));
        let mut first = true;
        all.retain(|template| {
            std::mem::take(&mut first) || template.status != TemplateStatus::Draft
        });
        all
    }

    /// The templates that an image is part of.
    fn with(&self, role: MediumRole, digest: Digest) -> impl Iterator<Item = usize> {
        let start = self.index.partition_point(|(r, d, _)| (*r, *d) < (role, digest));
        self.index[start..]
            .iter()
            .take_while(move |(r, d, _)| (*r, *d) == (role, digest))
            .map(|(.., number)| *number)
    }

    /// Whether a template that is in force has the image.
    fn admit(&self, role: MediumRole, digest: Digest) -> bool {
        let mut covering = self.with(role, digest).map(|number| &self.registry.templates[number]);
        covering.any(|template| {
            // Where that is not known it takes nothing away.
            let expired = self.expired(template) == Some(true);
            leniency(template.status, expired) >= DEPRECATED
        })
    }

    /// The strictest first, and no two alike that differ in what a verdict says of them.
    fn order(&self, template: &'a Template) -> impl Ord + use<'a> {
        let expires = template.expires.unwrap_or(Timestamp(u64::MAX));
        (self.leniency(template), expires, &template.id, &template.version)
    }

    fn leniency(&self, template: &Template) -> u8 {
        leniency(template.status, self.expired(template) != Some(false))
    }

    fn expired(&self, template: &Template) -> Option<bool> {
        template.expires.map_or(Some(false), |at| self.today.has_come(at))
    }
}

fn leniency(status: TemplateStatus, expired: bool) -> u8 {
    match (status, expired) {
        // A draft says nothing about images that another template has: whoever prepares a new
        // version takes nothing away from the old one.
        (TemplateStatus::Draft, _) => 4,
        (TemplateStatus::Revoked, _) => 0,
        (_, true) => 1,
        (TemplateStatus::Deprecated, _) => DEPRECATED,
        (TemplateStatus::Approved, _) => 3,
    }
}

/// The least leniency with which a template admits anybody.
const DEPRECATED: u8 = 2;

/// Where a VM comes from, as far as it can be told.
pub(super) struct Lineage<'a> {
    pub(super) standing: Standing<'a>,
    pub(super) gaps: Gaps<'a>,
    /// Other templates that cover the same media, where the proven one is the strictest of several
    /// with a different status.
    pub(super) rivals: Vec<&'a Template>,
    /// Every template that covers the media, or that the source may mean; the one that counts first.
    pub(super) covering: Vec<&'a Template>,
    /// A medium whose digest is that of before its VM ran, by a certificate.
    pub(super) certified: Option<&'a Path>,
    /// A disk that was written to, and the device that its manager says it is a snapshot of: what is proven
    /// is what that device is now.
    pub(super) snapshot: Option<(&'a Path, &'a Path)>,
    /// Whether the template stands for what was approved for this VM alone.
    pub(super) born: bool,
    /// The firmware's variables.
    pub(super) stored: Vec<Stored<'a>>,
}

/// How strong the evidence is.
#[derive(Clone, Copy)]
pub(super) enum Standing<'a> {
    /// One template covers every medium by role and by the digest of its base.
    Proven(&'a Template),
    /// A source names the template, which is registered or not.
    Declared(&'a str, Option<&'a Template>),
    /// Evidence that could still prove it is missing.
    Open,
    /// Nothing ties the VM to a template.
    None,
}

/// What stands between a VM and a proof by digest; of each kind the first.
#[derive(Default)]
pub(super) struct Gaps<'a> {
    pub(super) network: Option<&'a Medium>,
    pub(super) remote: Option<(MediumRole, &'a str)>,
    /// A medium whose base is no image of any template.
    pub(super) foreign: Option<(MediumRole, &'a Path, Digest)>,
    /// Every medium is known to some template, but no template covers all.
    pub(super) mixed: bool,
    pub(super) pending: Option<&'a Path>,
    pub(super) unreadable: Option<(&'a Path, &'a str)>,
}

impl<'a> Lineage<'a> {
    pub(super) fn trace(vm: &'a Vm, images: &Images<'a>, world: &'a World) -> Self {
        let mut gaps = Gaps::default();
        let mut candidates: Option<Vec<usize>> = None;
        let mut birth = Birth::of(vm.uuid, world);
        let (mut certified, mut snapshot) = (None, None);
        let stored = vm.media.iter().filter_map(|medium| Stored::of(medium, vm, world)).collect();
        for medium in vm.media.iter().filter(|medium| medium.role != MediumRole::Variables) {
            let file = match &medium.source {
                _ if medium.role == MediumRole::Network => {
                    gaps.network.get_or_insert(medium);
                    continue;
                }
                MediumSource::Remote(what) => {
                    gaps.remote.get_or_insert((medium.role, what));
                    continue;
                }
                MediumSource::File(file) => file,
            };
            let path = file.path.as_path();
            let shown = |file: &ImageFile| {
                let unread = world.unread.get(&vm.uuid).is_some_and(|files| files.contains(file));
                world.evidence.get(file).filter(|_| !unread)
            };
            match shown(file) {
                None | Some(Evidence::Pending) => {
                    gaps.pending.get_or_insert(path);
                }
                Some(Evidence::Unreadable(why)) => {
                    gaps.unreadable.get_or_insert((path, why));
                }
                Some(Evidence::Chain(now)) => {
                    let booted = world.booted.get(&vm.uuid).and_then(|files| files.get(file));
                    let chain = booted.unwrap_or(now);
                    certified = certified.or(chain.at_birth.then_some(path));
                    let mut covering: Vec<_> = images.with(medium.role, chain.digest).collect();
                    // A word about how it was made, where a word is enough.
                    let words = world.policy.evidence == EvidenceLevel::Declared;
                    let origin = file.origin.as_deref().filter(|_| words && covering.is_empty());
                    if let Some(origin) = origin {
                        match shown(origin) {
                            None | Some(Evidence::Pending) => {
                                gaps.pending.get_or_insert(&origin.path);
                                continue;
                            }
                            Some(Evidence::Unreadable(why)) => {
                                gaps.unreadable.get_or_insert((&origin.path, why));
                                continue;
                            }
                            Some(Evidence::Chain(beneath)) => {
                                covering = images.with(medium.role, beneath.digest).collect();
                            }
                        }
                        snapshot = snapshot.or(Some((path, origin.path.as_path())));
                    }
                    let known = covering.is_empty() || images.admit(medium.role, chain.digest);
                    let is_approved = birth.look(medium.role, chain.digest, known);
                    match (covering.is_empty(), is_approved) {
                        (true, true) => birth.excuse((medium.role, path, chain.digest)),
                        (true, false) => {
                            gaps.foreign.get_or_insert((medium.role, path, chain.digest));
                        }
                        (false, _) => {}
                    }
                    // Put in its place while the VM runs: good enough when some template has it.
                    let replaced = booted.is_some() && snapshot.is_none();
                    let admits = |digest| {
                        birth.has(medium.role, digest) || images.admit(medium.role, digest)
                    };
                    if replaced && !admits(now.digest) {
                        gaps.foreign.get_or_insert((medium.role, path, now.digest));
                    }
                    if covering.is_empty() && is_approved {
                        continue;
                    }
                    match &mut candidates {
                        Some(left) => left.retain(|number| covering.contains(number)),
                        None => candidates = Some(covering),
                    }
                }
            }
        }
        let candidates = candidates.map(|numbers| {
            numbers.into_iter().map(|number| &images.registry.templates[number]).collect::<Vec<_>>()
        });
        let exhausted = candidates.as_ref().is_some_and(Vec::is_empty);
        gaps.foreign = gaps.foreign.or(birth.refuted());
        // Drafts say nothing about images that people have approved for it.
        let is_draft = |template: &&Template| template.status == TemplateStatus::Draft;
        let undecided = candidates.as_ref().is_some_and(|all| all.iter().all(is_draft));
        let born = birth.proves(undecided).filter(|_| gaps.foreign.is_none());
        gaps.mixed = exhausted && gaps.foreign.is_none() && born.is_none();

        let covering = born.map_or(candidates.unwrap_or_default(), |template| vec![template]);
        let (proof, rivals) = gaps.proof(vm, covering.clone(), images);
        let declared = vm.declared_template.as_deref();
        let standing = match (proof, declared) {
            (Standing::Proven(template), _) => Standing::Proven(template),
            (Standing::Open, Some(id)) if world.policy.evidence == EvidenceLevel::Declared => {
                Standing::Declared(id, images.named(id))
            }
            (Standing::Open, _) => Standing::Open,
            (_, Some(id)) => Standing::Declared(id, images.named(id)),
            (_, None) => Standing::None,
        };
        let covering = match standing {
            Standing::Proven(_) => images.asking(covering.into_iter()),
            Standing::Declared(name, _) => {
                let all = images.registry.templates.iter();
                images.asking(all.filter(|template| template.is_named(name)))
            }
            Standing::Open | Standing::None => Vec::new(),
        };
        let born = born.is_some();
        Self { standing, gaps, rivals, covering, certified, snapshot, born, stored }
    }

    /// The template that the VM is proven, or said, to descend from.
    pub(super) fn template(&self) -> Option<&'a Template> {
        match self.standing {
            Standing::Proven(template) => Some(template),
            Standing::Declared(_, template) => template,
            Standing::Open | Standing::None => None,
        }
    }

    /// How strong the evidence is, where there is any.
    pub(super) fn level(&self) -> Option<EvidenceLevel> {
        match (self.standing, self.certified) {
            (Standing::Proven(_), _) if self.snapshot.is_some() => Some(EvidenceLevel::Declared),
            (Standing::Proven(_), None) => Some(EvidenceLevel::Digest),
            (Standing::Proven(_), Some(_)) => Some(EvidenceLevel::Certificate),
            (Standing::Declared(..), _) => Some(EvidenceLevel::Declared),
            (Standing::Open | Standing::None, _) => None,
        }
    }

    /// Whether a source's word is all that the policy asks for, and a source has given it.
    pub(super) fn word_suffices(&self, policy: EvidenceLevel) -> bool {
        policy == EvidenceLevel::Declared && matches!(self.standing, Standing::Declared(..))
    }
}

impl Gaps<'_> {
    /// What digests alone say. Contradictory registrations of the same images are no way around a
    /// revocation: of several templates that cover all media, the strictest one counts.
    fn proof<'a>(
        &self,
        vm: &Vm,
        candidates: Vec<&'a Template>,
        images: &Images<'a>,
    ) -> (Standing<'a>, Vec<&'a Template>) {
        let unprovable = self.network.is_some() || self.remote.is_some() || vm.media.is_empty();
        let unmatched = self.foreign.is_some() || self.mixed;
        if unprovable || (unmatched && !images.gap) {
            return (Standing::None, Vec::new());
        }
        // While not every manifest is known, an unknown image may be one of theirs.
        if unmatched || self.pending.is_some() || self.unreadable.is_some() {
            return (Standing::Open, Vec::new());
        }
        let strictest = candidates.iter().min_by_key(|template| images.order(template));
        match strictest.copied() {
            None => (Standing::None, Vec::new()),
            Some(template) => {
                let rank = images.leniency(template);
                let mut rivals = candidates;
                rivals.retain(|rival| {
                    rival.status != TemplateStatus::Draft && images.leniency(rival) != rank
                });
                (Standing::Proven(template), rivals)
            }
        }
    }
}

/// The media to read: those on which a verdict on a VM that runs still hangs, and what there is to know of
/// one that is none.
pub(super) fn wanted(
    inventory: &[Merged<'_>],
    lineages: &[Lineage<'_>],
    world: &World,
) -> BTreeSet<ImageFile> {
    let running = inventory.iter().zip(lineages).filter(|(merged, _)| {
        let power = merged.vm.power;
        power != PowerState::Off
    });
    let hangs = |lineage: &Lineage<'_>, medium: &Medium| match lineage.standing {
        Standing::Open => true,
        Standing::None => false,
        Standing::Proven(_) | Standing::Declared(..) => medium.role == MediumRole::Variables,
    };
    let media = running.flat_map(|(merged, lineage)| {
        merged.vm.media.iter().filter(move |medium| hangs(lineage, medium))
    });
    media
        .filter_map(|medium| match &medium.source {
            MediumSource::File(file) => Some(file),
            MediumSource::Remote(_) => None,
        })
        // Of a snapshot what it is comes first: where it has not been written to, that proves all.
        .filter_map(|file| match (world.evidence.get(file), &file.origin) {
            (None, _) => Some(file),
            (Some(Evidence::Chain(_)), Some(origin))
                if world.policy.evidence == EvidenceLevel::Declared =>
            {
                Some(&**origin)
            }
            (Some(_), _) => None,
        })
        .filter(|file| !world.evidence.contains_key(*file))
        .cloned()
        .collect()
}
