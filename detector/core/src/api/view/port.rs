//! Ports, and what they are granted, have learned and have claimed.

use std::collections::BTreeMap;

use crate::decide::PortStatus;
use detector_common::reason::Reason;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::VmRef;

/// An interface that has a slot in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortView {
    pub name: String,
    pub ifindex: u32,
    pub instance: u32,
    /// `guest`, `uplink`, `bridge`, `trusted`, `device` (macvtaps are on it) or `sandbox`.
    pub role: String,
    /// Name of the bridge that it is a port of; in Open vSwitch of the datapath's device.
    pub bridge: Option<String>,
    /// Name of the device that a macvtap is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    pub status: PortState,
    /// `drop` or `sandbox`, where it is isolated.
    #[serde(default)]
    pub isolation: Option<String>,
    /// Whether a shield is on.
    #[serde(default)]
    pub shield: bool,
    /// Whether the way to the sandbox is open.
    #[serde(default)]
    pub passage: bool,
    /// What it may reach in the sandbox, where that is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<String>>,
    /// Why it is treated so; absent when read from the pins.
    pub why: Option<String>,
    pub since: Option<Timestamp>,
    pub vm: Option<VmRef>,
    pub identities: Vec<IdentityView>,
    /// Absent in lists, and where the maps cannot be read.
    pub counters: Option<CountersView>,
    /// Addresses that it has learned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learned: Vec<LearnedView>,
    /// What is refused goes on all the same, as the configuration says of its bridge or VM.
    #[serde(default)]
    pub observed: bool,
    /// Claims seen without a grant; absent in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sightings: Vec<SightingView>,
}

impl PortView {
    /// Frames from its side that were refused and whose claims are not among those that are shown: a port has
    /// so many places for claims, and later ones take them. Those that were refused because it is isolated,
    /// or asks for what the sandbox does not offer, claim nothing that could be granted.
    pub fn unlisted(&self) -> u64 {
        let told_of = [Reason::PortIsolated, Reason::NotAService].map(Reason::as_str);
        let passes =
            |name: &str| Reason::ALL.iter().any(|one| one.as_str() == name && one.passes());
        let refused = self.counters.iter().flat_map(|counters| &counters.from);
        let missing = refused
            .filter(|(name, _)| !told_of.contains(&name.as_str()) && !passes(name))
            .map(|(name, count)| {
                let listed = self.sightings.iter().filter(|one| one.reason == *name);
                count.saturating_sub(listed.map(|one| one.count).sum())
            });
        missing.sum()
    }
}

/// What is in force on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortState {
    /// Its identity is granted.
    Granted,
    /// No verdict yet: mute.
    Pending,
    /// Quarantined: neither sends nor receives.
    Isolated,
    /// In force since before its source was lost or forgot it.
    Kept,
    /// No guest port: gated, or trusted.
    Gate,
    /// In scope, but no guard is attached to it yet.
    Unguarded,
}

impl PortState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Pending => "pending",
            Self::Isolated => "isolated",
            Self::Kept => "kept",
            Self::Gate => "gate",
            Self::Unguarded => "unguarded",
        }
    }
}

impl From<PortStatus> for PortState {
    fn from(status: PortStatus) -> Self {
        match status {
            PortStatus::Granted => Self::Granted,
            PortStatus::Pending => Self::Pending,
            PortStatus::Isolated => Self::Isolated,
            PortStatus::Kept => Self::Kept,
        }
    }
}

/// A MAC on a VLAN, and the addresses granted to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdentityView {
    pub mac: String,
    /// 0 is untagged.
    pub vlan: u16,
    /// Addresses and prefixes; `any-v4` and `any-v6` for a whole family. With `dhcp` or `first-come`
    /// those among them that are learned.
    pub addresses: Vec<String>,
    pub dhcp_server: bool,
    pub router: bool,
    pub vrrp: bool,
}

/// An address that a port has learned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedView {
    pub mac: String,
    pub vlan: u16,
    pub address: String,
    /// `dhcp`, `first-come`, `lease-file` or `restored`.
    pub origin: String,
    pub since: Option<Timestamp>,
    /// Absent where there is no end.
    pub expires: Option<Timestamp>,
}

/// Frames of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountersView {
    /// All that the interface has carried.
    pub frames: FramesView,
    /// Refused from the port's side by reason; reasons without a frame are left out.
    pub from: BTreeMap<String, u64>,
    /// Refused towards the port's side.
    pub to: BTreeMap<String, u64>,
    /// Events that the ring buffer had no room for.
    pub events_lost: u64,
    /// Events that the port's budget held back.
    pub events_held: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FramesView {
    /// From the port's side, refused ones included.
    pub from: u64,
    /// Towards the port's side, without those that were dropped.
    pub to: u64,
}

/// A claim without a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SightingView {
    pub mac: String,
    pub vlan: u16,
    /// The EtherType, as `0x0806`.
    pub ethertype: String,
    pub address: Option<String>,
    pub reason: String,
    /// The reason in a sentence.
    pub describe: String,
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
    pub count: u64,
}
