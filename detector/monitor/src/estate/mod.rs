//! What is known of all hosts, made from what they tell and from nothing else: whoever hears the same has the same.

mod apply;
mod paged;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use detector_core::{
    fleet::{
        message::{HostState, Time, VmState},
        roll_out::RollOut,
    },
    model::Severity,
};
use uuid::Uuid;

use paged::Paged;

pub use apply::Told;
pub use detector_core::fleet::message::OpenFinding;

/// Pieces of news of one host that are kept.
const MOST_NEWS: usize = 1000;
/// Open findings of one host that are kept, so that none fills the memory of all.
const MOST_FINDINGS: usize = 10_000;

/// All hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Estate {
    pub hosts: BTreeMap<String, Host>,
    /// Why nothing is heard, while nothing is.
    pub lost: Option<String>,
    /// What the whole fleet is offered, by its number.
    pub offered: Option<u64>,
    /// The roll-out that was begun last.
    pub roll_out: Option<RollOut>,
}

/// One host, as it was heard of last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// `None` while only something else of it has been heard.
    pub state: Option<HostState>,
    /// When its state was heard, by the monitor's clock: a host's own may be wrong.
    pub heard: Option<Time>,
    /// Why it does not answer, where that is known.
    pub lost: Option<String>,
    pages: Paged<VmState>,
    /// What is open by what has happened to findings, …
    told: BTreeMap<String, OpenFinding>,
    /// … and as it lists them, which counts where it does.
    open: Paged<OpenFinding>,
    /// What has happened, the latest last.
    pub news: VecDeque<News>,
}

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub at: Time,
    pub vm: Option<Uuid>,
    /// `opened`, `changed`, `acknowledged`, `suppressed`, `closed`, or `status` of a VM.
    pub event: String,
    pub what: String,
    pub severity: Option<Severity>,
}

impl Host {
    /// The VMs that it has said it has, without those of pages of earlier times.
    pub fn vms(&self) -> impl Iterator<Item = &VmState> {
        self.pages.all(self.state.as_ref().map_or(u32::MAX, |state| state.pages))
    }

    /// Its open findings: as it lists them, and where it does not, or not all of that was heard, by what has happened.
    pub fn findings(&self) -> impl Iterator<Item = &OpenFinding> {
        let said = self.state.as_ref().and_then(|state| state.open_pages);
        let listed = said.into_iter().flat_map(|said| self.open.all(said));
        let is_whole = said.is_some_and(|said| self.open.is_whole(said));
        let known: BTreeSet<&str> = match is_whole {
            true => BTreeSet::new(),
            false => listed.clone().map(|finding| finding.id.as_str()).collect(),
        };
        let told = self.told.values();
        listed.chain(told.filter(move |one| !is_whole && !known.contains(one.id.as_str())))
    }

    /// Whether it has not been heard of for so long that it is not well.
    pub fn is_silent(&self, now: Time) -> bool {
        let (Some(state), Some(heard)) = (&self.state, self.heard) else { return true };
        // Once missed may be the way.
        let patience = i64::try_from(state.every.saturating_mul(3)).unwrap_or(i64::MAX);
        now.as_second().saturating_sub(heard.as_second()) > patience
    }

    fn note(&mut self, news: News) {
        if self.news.len() >= MOST_NEWS {
            self.news.pop_front();
        }
        self.news.push_back(news);
    }
}

impl Estate {
    /// Every VM with its host.
    pub fn vms(&self) -> impl Iterator<Item = (&str, &VmState)> {
        self.hosts.iter().flat_map(|(name, host)| host.vms().map(move |vm| (name.as_str(), vm)))
    }

    /// Every open finding with its host.
    pub fn findings(&self) -> impl Iterator<Item = (&str, &OpenFinding)> {
        let of = |(name, host): (_, _)| {
            let (name, host): (&String, &Host) = (name, host);
            host.findings().map(move |finding| (name.as_str(), finding))
        };
        self.hosts.iter().flat_map(of)
    }
}
