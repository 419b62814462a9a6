use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use detector_common::{addr::Mac, claim::ClaimRecord};
use uuid::Uuid;

use super::{
    Adoption, Births, Chain, DhcpPrint, Evidence, FindingKind, FleetStanding, GuestClaims,
    ImageFile, KnownLease, Learned, Link, Load, ModeRecord, NicSettings, Observed, Policy,
    Processes, Recorded, Registry, Rejected, Skew, Timestamp, Today, Vm,
};
use crate::decide::policy::Rulebook;

/// Everything that a decision depends on.
#[derive(Clone, Debug)]
pub struct World {
    /// A time that only grows: by it everything is paced, and everything has happened since.
    pub now: Timestamp,
    /// From there to the time of day, which somebody may set.
    pub skew: Skew,
    pub policy: Policy,
    /// The rules by which VMs may join networks.
    pub rules: Rulebook,
    pub registry: Registry,
    /// What is approved for single VMs.
    pub births: Births,
    /// Inventory sources by name (`qemu:///system`, `/etc/detector/inventory.toml`).
    pub sources: BTreeMap<String, Source>,
    /// Interfaces by ifindex.
    pub links: BTreeMap<u32, Link>,
    /// What reading each medium has shown.
    pub evidence: BTreeMap<ImageFile, Evidence>,
    /// Media that have not been read since the VM began to run: what they showed for another VM
    /// proves nothing for this one.
    pub unread: BTreeMap<Uuid, BTreeSet<ImageFile>>,
    /// What media showed when the VM began to run, where they show something else by now. Both count:
    /// the hypervisor has the one open, and opens the other next time.
    pub booted: BTreeMap<Uuid, BTreeMap<ImageFile, Chain>>,
    /// Media that have been read and cannot be read any more, and why.
    pub disturbed: BTreeMap<ImageFile, String>,
    pub observed: Observed,
    /// The mode that somebody has asked for, until it is in force.
    pub asked: Option<ModeRecord>,
    /// Addresses that ports have learned, by ifindex.
    pub learned: BTreeMap<u32, Vec<Learned>>,
    /// Leases that are known from elsewhere, for ports that are about to learn.
    pub leases: Vec<KnownLease>,
    pub adoption: Adoption,
    /// Why it is not known, or not in force, what was quarantined before the maps were made. Nothing new
    /// is admitted meanwhile.
    pub quarantines_lost: Option<String>,
    /// The host's own addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// The gateways that the host itself uses.
    pub gateways: BTreeSet<IpAddr>,
    /// Claims without a grant, by ifindex; of each port only the latest few.
    pub seen: BTreeMap<u32, Vec<Seen>>,
    /// How frames of such claims began, by ifindex; of each port the very first, and the latest few. Not known of what
    /// was refused before the daemon's start.
    pub frames: BTreeMap<u32, Vec<RefusedFrame>>,
    /// How many frames of each guest port are refused, by ifindex.
    pub loads: BTreeMap<u32, Load>,
    /// What ports without a VM ask DHCP servers for, by ifindex and instance.
    pub overheard: BTreeMap<(u32, u32), DhcpPrint>,
    /// When each guest port without a VM, and each interface of a VM on no bridge, was first noticed
    /// to be so, by ifindex and instance (0 while it has none). One without an entry counts as
    /// noticed now.
    pub noticed: BTreeMap<(u32, u32), Timestamp>,
    /// Processes that are VMs, or may be.
    pub processes: Processes,
    pub graces: Graces,
    /// What verdicts have taken away, as far as it is written down.
    pub recorded: Recorded,
    /// VMs that their managers were asked to suspend or to shut down.
    pub stopped: BTreeSet<Uuid>,
    /// What VMs have done lately, as findings said.
    pub conduct: BTreeMap<Uuid, BTreeSet<FindingKind>>,
    /// What guests say of themselves, as far as they do.
    pub guests: BTreeMap<Uuid, GuestClaims>,
    pub fleet: FleetStanding,
}

/// Since when VMs that are denied have a grace period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graces {
    pub begun: BTreeMap<Uuid, Timestamp>,
    /// Why that cannot be read, or kept, when it cannot: then there is none, or every restart would begin
    /// it anew.
    pub lost: Option<Rejected>,
}

impl World {
    /// What dates in manifests are compared with.
    pub fn today(&self) -> Today {
        self.skew.today(self.now)
    }
}

/// An inventory source and what it last said. What a lost source said stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub health: Health,
    pub vms: BTreeMap<Uuid, Vm>,
    /// VMs whose latest description was refused: what was known of them stays, and nothing new is admitted
    /// by it.
    pub outdated: BTreeSet<Uuid>,
    /// Settings for NICs that other sources list, by MAC.
    pub overlays: BTreeMap<Mac, NicSettings>,
    /// NICs that it may have settings for which cannot be read.
    pub unsettled: Unsettled,
    pub rejected: Vec<Rejected>,
}

impl Source {
    /// Forgets which NICs speak through the interface of this name. For a source that reports what
    /// runs now: when an interface goes, a later one of the same name is another port, and only
    /// the source's next word can say whose.
    pub fn forget_port(&mut self, name: &str) {
        for nic in self.vms.values_mut().flat_map(|vm| &mut vm.nics) {
            if nic.port.as_deref() == Some(name) {
                nic.port = None;
            }
        }
    }
}

/// NICs whose settings are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsettled {
    Nics(BTreeSet<Mac>),
    /// Whose they are cannot be read either.
    Any,
}

impl Default for Unsettled {
    fn default() -> Self {
        Self::Nics(BTreeSet::new())
    }
}

impl Unsettled {
    pub fn contains(&self, nic: Mac) -> bool {
        match self {
            Self::Nics(nics) => nics.contains(&nic),
            Self::Any => true,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Healthy,
    /// It does not answer.
    Lost {
        since: Timestamp,
        why: String,
    },
}

/// The first frame of a claim without a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedFrame {
    pub instance: u32,
    pub claim: ClaimRecord,
    /// Its beginning, as the guest has sent it but for a tag that the network stack has moved into the metadata.
    pub head: Vec<u8>,
}

/// A claim that a port made without a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub instance: u32,
    pub claim: ClaimRecord,
    pub first: Timestamp,
    pub last: Timestamp,
    pub count: u64,
}
