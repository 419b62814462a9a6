use std::{collections::BTreeSet, path::PathBuf};

use super::Means;
use crate::{
    decide::{Outcome as Met, Requirement, VmDecision, VmStatus},
    model::{Digest, Image, MediumRole, PowerState, Quarantine, Timestamp},
};

/// What is to be seen of a VM that is remediated.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    pub now: Timestamp,
    pub means: &'a Means,
    /// `None` of a VM that no source lists.
    pub power: Option<PowerState>,
    /// Whether it has a way out that no guard can be on.
    pub unguarded: bool,
    /// The quarantine on the VM itself.
    pub quarantine: Option<&'a Quarantine>,
    /// What it boots from.
    pub media: &'a [SightedMedium],
    /// Whether any of that is being read.
    pub reading: bool,
    /// The verdict on it, or on the VM that has taken its place.
    pub verdict: Option<&'a VmDecision>,
    /// Whether the VM that is judged runs.
    pub runs: bool,
}

/// Something that the VM boots from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SightedMedium {
    pub role: MediumRole,
    pub path: PathBuf,
    pub shown: Shown,
    /// The VM writes to it, and there is no layer beneath: while it runs, its digest says nothing.
    pub own: bool,
    /// A template that is in force has it.
    pub known: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The digest of its base.
    Digest(Digest),
    /// It has not been read yet.
    Pending,
    /// It cannot be read, and why.
    Unreadable(String),
}

impl Sight<'_> {
    /// Every medium with its digest.
    ///
    /// # Errors
    ///
    /// What keeps people from knowing what they would approve.
    pub(super) fn images(&self) -> Result<Vec<Image>, String> {
        if self.power.is_none() {
            return Err("no inventory lists the VM at present".to_owned());
        }
        if self.media.is_empty() {
            return Err("its description names nothing that it boots from".to_owned());
        }
        if self.reading {
            return Err("what it boots from is being read".to_owned());
        }
        let runs = self.power != Some(PowerState::Off);
        let image = |medium: &SightedMedium| {
            let path = &medium.path;
            match &medium.shown {
                Shown::Pending => Err(format!("{path:?} has not been read yet")),
                Shown::Unreadable(why) => Err(why.clone()),
                Shown::Digest(_) if runs && medium.own && !medium.known => Err(format!(
                    "the VM runs and writes to {path:?}: shut it down, and approve what is there then"
                )),
                Shown::Digest(digest) => Ok(Image::new(medium.role, *digest)),
            }
        };
        self.media.iter().map(image).collect()
    }

    /// The digests that no template in force has.
    pub(super) fn foreign(&self) -> BTreeSet<Digest> {
        let foreign = self.media.iter().filter(|medium| !medium.known);
        foreign
            .filter_map(|medium| match &medium.shown {
                Shown::Digest(digest) => Some(*digest),
                Shown::Pending | Shown::Unreadable(_) => None,
            })
            .collect()
    }

    /// Whether the VM runs and meets every requirement, by what has been read.
    pub(super) fn passes(&self) -> bool {
        let approved = self.verdict.is_some_and(|verdict| verdict.verdict == VmStatus::Approved);
        approved && self.runs && !self.reading
    }

    /// What the verdict lacks, in the words of the policy.
    pub(super) fn missing(&self) -> Vec<String> {
        let requirements = self.verdict.map_or(&[][..], |verdict| &verdict.requirements);
        let open = requirements.iter().filter(|one| one.outcome != Met::Met);
        open.map(say).collect()
    }
}

fn say(requirement: &Requirement) -> String {
    let Requirement { id, outcome, sentence, finding, remedy } = requirement;
    let mark = match outcome {
        Met::Unknown => "is not known yet",
        Met::Failed | Met::Met => "is not met",
    };
    let words = [sentence.as_str(), finding, remedy];
    let mut said: Vec<&str> = Vec::new();
    for word in words.into_iter().filter(|word| !word.is_empty()) {
        if !said.contains(&word) {
            said.push(word);
        }
    }
    format!("{id} {mark}: {}", said.join(" "))
}
