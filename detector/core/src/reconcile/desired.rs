use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use detector_common::{
    addr::Mac,
    learned::{Origin, OwnerKey},
    services::Service,
};
use ipnet::{Ipv4Net, Ipv6Net};

use crate::model::{ModeRecord, Quarantine, QuarantineTarget, Timestamp};

/// The state that the host should be in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    pub mode: Option<ModeRecord>,
    /// Interfaces in scope, by ifindex.
    pub interfaces: BTreeMap<u32, (String, InterfacePlan)>,
    /// The sandbox's bridge, where it is to be made.
    pub make_sandbox: Option<String>,
    /// Interfaces on which what is refused goes on though the host enforces, by ifindex.
    pub observed: BTreeSet<u32>,
    /// Interfaces in a datapath of Open vSwitch, by ifindex.
    pub switched: BTreeSet<u32>,
    /// Guest ports of which what they send comes back from outside by design (VEPA), by ifindex: their MACs
    /// cannot be defended there.
    pub reflected: BTreeSet<u32>,
    /// Guest ports whose VM is between two hosts, by ifindex: what is granted stays granted, but the
    /// MACs may be here or beyond an uplink, so that neither is defended against the other.
    pub in_transit: BTreeSet<u32>,
    /// Addresses that no port may learn.
    pub protected: BTreeSet<OwnerKey>,
    /// What ports in the sandbox may reach there, where that is limited.
    pub services: BTreeSet<Service>,
    /// Every quarantine, those in force included: one that is missing here is lifted.
    pub quarantines: BTreeMap<QuarantineTarget, Quarantine>,
    /// Guest ports that get a shield, where they take one, by ifindex.
    pub shields: BTreeSet<u32>,
}

/// What an interface should be to the kernel programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfacePlan {
    Guest(PortPlan),
    /// Gated, and a source that is vetted.
    Uplink,
    /// A bridge device: gated.
    Bridge,
    /// The bridge device of the sandbox: cut off from the host.
    Sandbox,
    /// Nothing runs on it; the host may route its frames into a guarded bridge.
    Trusted,
    Device(DevicePlan),
}

/// What a device that macvtaps are on should be: frames from outside under their MACs are dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DevicePlan {
    /// Whether the host may route its frames into a guarded bridge.
    pub trusted: bool,
    /// The MACs that speak out of it besides guests whose frames are vetted; `None` where all do.
    pub senders: Option<BTreeSet<Mac>>,
}

/// What a guest port should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortPlan {
    /// Leave in force what is in force for this instance; a new instance is mute.
    Keep,
    /// Mute.
    Pending,
    /// Neither sends nor receives, but with the sandbox.
    Isolated(Isolation),
    /// Sends and receives under these identities. Sorted by MAC and VLAN, never empty.
    Granted(Vec<Identity>),
}

/// How a port is isolated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolation {
    pub by: Isolator,
    /// With what it may speak to the sandbox; `None` cuts it off from that too.
    pub sandbox: Option<Sandbox>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolator {
    /// By verdict: carried out in enforce mode.
    Verdict,
    /// By a person: carried out in every mode.
    Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// As in [`PortPlan::Granted`].
    pub identities: Vec<Identity>,
    /// ifindex of the bridge that a passage leads to; `None` while the isolation is not carried out.
    pub bridge: Option<u32>,
    /// Whether it is to be reached what [`Desired::services`] names, and nothing else.
    pub limited: bool,
}

impl Isolation {
    /// One that drops everything.
    pub const fn drop(by: Isolator) -> Self {
        Self { by, sandbox: None }
    }
}

/// One MAC on one VLAN, with the addresses it may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub mac: Mac,
    /// 0 is untagged.
    pub vlan: u16,
    pub v4: AddressSet<Ipv4Net>,
    pub v6: AddressSet<Ipv6Net>,
    /// How addresses are learned; `v4` and `v6` are then what they have to be within.
    pub learns: Option<Learning>,
    pub dhcp_server: bool,
    pub router: bool,
    /// It may speak for virtual routers too, under their MACs and with its own addresses.
    pub vrrp: bool,
}

impl Identity {
    /// Whether the address is one of those that it may use, or learn.
    pub fn is_within(&self, address: IpAddr) -> bool {
        match (address, &self.v4, &self.v6) {
            (IpAddr::V4(_), AddressSet::Any, _) | (IpAddr::V6(_), _, AddressSet::Any) => true,
            (IpAddr::V4(address), AddressSet::Only(nets), _) => {
                nets.iter().any(|net| net.contains(&address))
            }
            (IpAddr::V6(address), _, AddressSet::Only(nets)) => {
                nets.iter().any(|net| net.contains(&address))
            }
        }
    }
}

/// How an identity learns addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learning {
    pub rule: LearningRule,
    /// ifindex of the bridge, or of the device that a macvtap is on.
    pub scope: u32,
    /// What it has already when it begins.
    pub seeds: Vec<Seed>,
    /// Whether it is lent what it speaks under, where that is nobody's.
    pub lends: Option<Lending>,
}

/// How addresses are lent to an identity that has them from a DHCP server otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lending {
    /// Whether its VM has come from another host. Otherwise it is lent while frames are only observed.
    pub arrived: bool,
    pub seconds: u32,
}

impl Learning {
    /// One that knows nothing yet.
    pub fn new(rule: LearningRule) -> Self {
        Self { rule, scope: 0, seeds: Vec::new(), lends: None }
    }
}

/// Ordered from the laxer to the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LearningRule {
    FirstCome,
    Dhcp,
}

/// An address that is known before it is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    pub address: IpAddr,
    pub origin: Origin,
    pub expires: Option<Timestamp>,
}

/// The addresses of one family that an identity may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressSet<Net> {
    Any,
    /// Sorted; empty grants none. The link-local address formed from the MAC is always granted.
    Only(Vec<Net>),
}
