//! What the brain and the enforcer's process say to each other: one frame each, with its length in front.
//!
//! The brain sends an [`Order`] and waits for its [`Answer`]. Signs of tampering, for which nobody has asked, come on
//! another way, and before the first of them the ring buffer of events, which the brain reads by itself. Only plain
//! values cross.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use detector_common::{
    addr::Mac,
    claim::ClaimRecord,
    learned::{Origin, OwnerKey},
    port::{Grant, GrantKey, PortSlot, PrefixKey},
    reason::Reason,
    services::Service,
};
use detector_core::{
    model::{
        Digest, Learned, Observed, ObservedInterface, ObservedMode, Passage, Quarantine, Seen,
        Shield, Ticks, Timestamp,
    },
    reconcile::Action,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio_util::codec::LengthDelimitedCodec;

use super::{Counts, EnforceError, Frames, Recheck, Sign, raw::Raw};

/// Of these messages: both sides are of one release, or else one of them has been replaced.
pub const VERSION: u32 = 5;

/// The longest order in bytes. The grants of one port with a list of some 100,000 addresses fit.
pub const LONGEST_ORDER: usize = 16 << 20;
/// The longest answer: that of a host with all ports, each with all that it may have learned.
pub const LONGEST_ANSWER: usize = 256 << 20;
/// About so many bytes are told at a time of what is held: ports with long lists may hold more than any answer has.
pub const PORTION: usize = 4 << 20;

/// Comes with the ring buffer of events.
pub(super) const EVENTS: u8 = b'e';

/// What the enforcer says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub version: u32,
    /// How programs are attached.
    pub method: String,
    /// Whether nothing was pinned here before.
    pub fresh: bool,
    pub quarantine_map: u32,
    pub predecessors: bool,
}

/// What the brain wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    Observe,
    Execute(Action),
    TicksAfter(u64),
    Recheck,
    RecheckFor(BTreeSet<Sign>),
    Resync,
    Seen,
    Learned,
    LearnedBy(u32),
    OwnerOf(Raw<OwnerKey>),
    IsRouter(Raw<OwnerKey>),
    Counts(u32),
    Refused(u32),
    EndPredecessors,
    /// The configuration has been read again, a text with this digest, and is to be read there too.
    Reload(Option<Digest>),
}

/// What has come of an order.
pub type Answered = Result<Answer, EnforceError>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Done,
    Observed(Box<Difference>),
    Ticks(Ticks),
    /// And the processor time that it took.
    Recheck(Recheck, Duration),
    Seen(BTreeMap<u32, Vec<SeenClaim>>),
    Learned(BTreeMap<u32, Vec<LearnedAddress>>),
    LearnedBy(Vec<LearnedAddress>),
    Owner(Option<u32>),
    Router(bool),
    Counts(Option<CountedFrames>),
    Refused(Option<u64>),
}

/// From what was observed last to what is observed now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    gone: Vec<u32>,
    held: Vec<(u32, Held)>,
    quarantines: Option<Vec<Quarantine>>,
    protected: Option<Vec<Raw<OwnerKey>>>,
    services: Option<Vec<Raw<Service>>>,
    routers: Option<Vec<Raw<OwnerKey>>>,
    mode: Vec<ObservedMode>,
    /// More interfaces have changed: ask again.
    more: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    slot: Raw<PortSlot>,
    grants: Vec<(Raw<GrantKey>, Raw<Grant>)>,
    prefixes: Vec<(Raw<PrefixKey>, u8, Raw<Grant>)>,
    forwarding: Vec<([u8; 6], u16)>,
    defended: Vec<([u8; 6], u16)>,
    shield: Shield,
    passage: Option<Passage>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenClaim {
    instance: u32,
    claim: Raw<ClaimRecord>,
    first: Timestamp,
    last: Timestamp,
    count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedAddress {
    instance: u32,
    scope: u32,
    mac: [u8; 6],
    vlan: u16,
    address: std::net::IpAddr,
    origin: u32,
    since: Timestamp,
    expires: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedFrames {
    frames: (u64, u64),
    from: Vec<(u8, u64)>,
    to: Vec<(u8, u64)>,
    events_lost: u64,
    events_held: u64,
}

/// How frames are told apart.
pub fn frames(longest: usize) -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().little_endian().max_frame_length(longest).new_codec()
}

pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, EnforceError> {
    rmp_serde::to_vec_named(message)
        .map_err(|error| EnforceError(format!("it cannot be said: {error}")))
}

pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, EnforceError> {
    rmp_serde::from_slice(bytes)
        .map_err(|error| EnforceError(format!("it cannot be understood: {error}")))
}

impl Difference {
    /// Leads from `before` to `now`, or as far as about so many bytes do.
    pub fn between(before: &Observed, now: &Observed, most: usize) -> Self {
        let gone = before.interfaces.keys().filter(|ifindex| !now.interfaces.contains_key(ifindex));
        let changed = now.interfaces.iter();
        let mut changed =
            changed.filter(|(ifindex, held)| before.interfaces.get(ifindex) != Some(held));
        let (mut held, mut weight) = (Vec::new(), 0);
        for (ifindex, one) in changed.by_ref() {
            held.push((*ifindex, one.into()));
            weight += about(one);
            if weight >= most {
                break;
            }
        }
        let keys = |keys: &BTreeSet<OwnerKey>| keys.iter().copied().map(Raw).collect();
        Self {
            gone: gone.copied().collect(),
            held,
            quarantines: (before.quarantines != now.quarantines)
                .then(|| now.quarantines.values().cloned().collect()),
            protected: (before.protected != now.protected).then(|| keys(&now.protected)),
            services: (before.services != now.services)
                .then(|| now.services.iter().copied().map(Raw).collect()),
            routers: (before.routers != now.routers).then(|| keys(&now.routers)),
            mode: now.mode.iter().cloned().collect(),
            more: changed.next().is_some(),
        }
    }

    /// Whether it leads all the way.
    pub fn is_whole(&self) -> bool {
        !self.more
    }

    pub fn apply(self, to: &mut Observed) {
        for ifindex in self.gone {
            to.interfaces.remove(&ifindex);
        }
        to.interfaces.extend(self.held.into_iter().map(|(ifindex, held)| (ifindex, held.into())));
        if let Some(all) = self.quarantines {
            to.quarantines = all.into_iter().map(|one| (one.target, one)).collect();
        }
        let keys = |keys: Vec<Raw<OwnerKey>>| keys.into_iter().map(|key| key.0).collect();
        if let Some(protected) = self.protected {
            to.protected = keys(protected);
        }
        if let Some(services) = self.services {
            to.services = services.into_iter().map(|service| service.0).collect();
        }
        if let Some(routers) = self.routers {
            to.routers = keys(routers);
        }
        to.mode = self.mode.into_iter().next();
    }
}

/// How many bytes an interface takes to be told of.
fn about(held: &ObservedInterface) -> usize {
    let stations = held.forwarding.len() + held.defended.len();
    256 + 64 * held.grants.len() + 72 * held.prefixes.len() + 16 * stations
}

fn stations(of: &BTreeSet<(Mac, u16)>) -> Vec<([u8; 6], u16)> {
    of.iter().map(|(mac, vlan)| (mac.0, *vlan)).collect()
}

impl From<&ObservedInterface> for Held {
    fn from(from: &ObservedInterface) -> Self {
        let prefixes = from.prefixes.iter();
        Self {
            slot: Raw(from.slot),
            grants: from.grants.iter().map(|(key, grant)| (Raw(*key), Raw(*grant))).collect(),
            prefixes: prefixes
                .map(|((key, bits), grant)| (Raw(*key), *bits, Raw(*grant)))
                .collect(),
            forwarding: stations(&from.forwarding),
            defended: stations(&from.defended),
            shield: from.shield,
            passage: from.passage,
        }
    }
}

impl From<Held> for ObservedInterface {
    fn from(from: Held) -> Self {
        let stations = |list: Vec<([u8; 6], u16)>| {
            list.into_iter().map(|(mac, vlan)| (Mac(mac), vlan)).collect()
        };
        let prefixes = from.prefixes.into_iter();
        Self {
            slot: from.slot.0,
            grants: from.grants.into_iter().map(|(key, grant)| (key.0, grant.0)).collect(),
            prefixes: prefixes.map(|(key, bits, grant)| ((key.0, bits), grant.0)).collect(),
            forwarding: stations(from.forwarding),
            defended: stations(from.defended),
            shield: from.shield,
            passage: from.passage,
        }
    }
}

impl From<Seen> for SeenClaim {
    fn from(from: Seen) -> Self {
        let Seen { instance, claim, first, last, count } = from;
        Self { instance, claim: Raw(claim), first, last, count }
    }
}

impl From<SeenClaim> for Seen {
    fn from(from: SeenClaim) -> Self {
        let SeenClaim { instance, claim, first, last, count } = from;
        Self { instance, claim: claim.0, first, last, count }
    }
}

impl From<Learned> for LearnedAddress {
    fn from(from: Learned) -> Self {
        let Learned { instance, scope, mac, vlan, address, origin, since, expires } = from;
        let origin = origin as u32;
        Self { instance, scope, mac: mac.0, vlan, address, origin, since, expires }
    }
}

impl From<LearnedAddress> for Learned {
    fn from(from: LearnedAddress) -> Self {
        let LearnedAddress { instance, scope, mac, vlan, address, origin, since, expires } = from;
        let origin = Origin::from_code(origin);
        Self { instance, scope, mac: Mac(mac), vlan, address, origin, since, expires }
    }
}

impl From<Counts> for CountedFrames {
    fn from(from: Counts) -> Self {
        let codes = |counts: BTreeMap<Reason, u64>| {
            counts.into_iter().map(|(reason, count)| (reason as u8, count)).collect()
        };
        Self {
            frames: (from.frames.from, from.frames.to),
            from: codes(from.from),
            to: codes(from.to),
            events_lost: from.events_lost,
            events_held: from.events_held,
        }
    }
}

impl From<CountedFrames> for Counts {
    fn from(from: CountedFrames) -> Self {
        let reasons = |codes: Vec<(u8, u64)>| {
            let known = codes.into_iter();
            known.filter_map(|(code, count)| Some((Reason::from_code(code)?, count))).collect()
        };
        Self {
            frames: Frames { from: from.frames.0, to: from.frames.1 },
            from: reasons(from.from),
            to: reasons(from.to),
            events_lost: from.events_lost,
            events_held: from.events_held,
        }
    }
}
