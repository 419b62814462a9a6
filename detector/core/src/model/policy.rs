use std::{net::IpAddr, time::Duration};

use detector_common::{addr::Mac, quarantine::QuarantineMode, settings::Mode};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{AdoptionRules, BlastLimits, Curb, FloodLimits};

/// What the administrator has configured about verdicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What a host is put into at its first start.
    pub mode: Mode,
    /// Where frames are only observed though the host enforces.
    pub modes: Vec<ModeRule>,
    /// The weakest evidence of lineage that admits a VM.
    pub evidence: EvidenceLevel,
    /// The rule for NICs whose source lists no addresses. A NIC with addresses has `Exact`.
    pub default_rule: AddressRule,
    /// Bridges in scope, as patterns: `*` and `?` stand for any characters and any one, a leading
    /// `!` excludes; the last pattern that matches a name settles it.
    pub bridges: Vec<String>,
    /// Interfaces that lead out of the host, as patterns. Physical devices always do.
    pub uplinks: Vec<String>,
    /// Interfaces whose frames the host may route into a guarded bridge, as patterns.
    pub trusted: Vec<String>,
    /// Addresses that no port may learn, besides the host's own: gateways, virtual routers.
    pub protected: Vec<IpAddr>,
    /// Devices with macvtaps out of which only known senders speak, as patterns.
    pub closed_devices: Vec<String>,
    /// Those that the host does not know by its own devices.
    pub known_senders: Vec<Mac>,
    pub adoption: AdoptionRules,
    /// How long a port may belong to no VM before that is a finding.
    pub unknown_port_grace: Duration,
    pub flood: FloodLimits,
    /// The mode of quarantines by verdict, and of those by people who do not say which.
    pub quarantine: QuarantineMode,
    /// There is no sandbox without.
    pub sandbox: Option<SandboxRules>,
    /// What becomes of VMs in force whose template is revoked.
    pub revoked: Revoked,
    /// How long they keep what is in force, from the revocation on.
    pub revoked_grace: Duration,
    /// How much verdicts may take away without a person; anything, where it is absent.
    pub blast: Option<BlastLimits>,
    /// How VMs are shut down that the policy wants to be off.
    pub shut_down: ShutDown,
    /// How VMs that no inventory knows are kept from running on, if they are.
    pub curb: Option<Curb>,
}

/// How a VM is shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutDown {
    /// How long its guest may take.
    pub grace: Duration,
    /// Whether its power is taken then.
    pub force: bool,
}

/// The sandbox, and what those who are quarantined may be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxRules {
    /// Its bridge, by name.
    pub bridge: String,
    /// Whether the bridge is made where there is none.
    pub create: bool,
    /// How they have addresses: never `Exact`, since nobody lists any for them.
    pub rule: AddressRule,
    /// What those have to be within; empty for anywhere.
    pub addresses: Vec<IpNet>,
    /// Addresses of what is offered there: none of theirs, where addresses are learned.
    pub protected: Vec<IpAddr>,
    /// What they may reach there; everything, where nothing is said of it.
    pub services: Option<Vec<SandboxService>>,
}

/// Something that is offered in the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SandboxService {
    pub address: IpAddr,
    pub kind: ServiceKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// A port.
    Tcp(u16),
    Udp(u16),
    /// It answers to echo requests.
    Icmp,
    /// A DHCP or DHCPv6 server.
    Dhcp,
    /// A way to others that are named: it is found, and may advertise itself.
    Router,
}

impl SandboxRules {
    /// Whoever comes first has an address, so that nobody passes for another or for what is protected.
    pub fn new(bridge: impl Into<String>) -> Self {
        let (addresses, protected) = (Vec::new(), Vec::new());
        let (bridge, create, rule) = (bridge.into(), false, AddressRule::FirstCome);
        Self { bridge, create, rule, addresses, protected, services: None }
    }
}

/// The mode of a bridge or of a VM, within what the mode of the host allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeRule {
    pub of: ModeScope,
    pub mode: Mode,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModeScope {
    /// Bridges by name: `*` and `?` stand for any characters and any one.
    Bridge(String),
    /// A VM by name or UUID.
    Vm(String),
}

/// What a revocation does to VMs whose grants are in force. Nobody new is admitted in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Revoked {
    /// They are denied, once the grace period is over.
    Quarantine,
    /// They keep what is in force, with a finding.
    Finding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceLevel {
    /// The inventory says so.
    Declared,
    /// A certificate says so: of the digest of its disk before it ran for the first time.
    Certificate,
    /// A digest of what the VM boots from proves it.
    Digest,
}

/// How the addresses of a NIC are granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressRule {
    /// The listed addresses.
    Exact,
    /// Any address in the listed prefixes.
    Prefix,
    /// Any address: the MAC alone is checked.
    Any,
    /// What a trusted DHCP server leases, until the lease ends (RFC 7513), within the listed
    /// prefixes if there are any.
    Dhcp,
    /// Who claims an address first has it (RFC 6620), within the listed prefixes if there are any.
    FirstCome,
}

impl AddressRule {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Prefix => "prefix",
            Self::Any => "any",
            Self::Dhcp => "dhcp",
            Self::FirstCome => "first-come",
        }
    }
}
