//! The techniques of MITRE ATT&CK that findings are signs of.

use std::fmt;

/// A technique of ATT&CK for Enterprise, and the tactic that it serves here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Technique {
    /// `T1564`, of a sub-technique `T1564.006`.
    pub id: &'static str,
    pub name: &'static str,
    pub tactic: &'static str,
    pub tactic_name: &'static str,
}

pub(super) const RUN_VIRTUAL_INSTANCE: Technique = Technique {
    id: "T1564.006",
    name: "Run Virtual Instance",
    tactic: "TA0005",
    tactic_name: "Defense Evasion",
};

pub(super) const ADVERSARY_IN_THE_MIDDLE: Technique = Technique {
    id: "T1557",
    name: "Adversary-in-the-Middle",
    tactic: "TA0006",
    tactic_name: "Credential Access",
};

pub(super) const NETWORK_BOUNDARY_BRIDGING: Technique = Technique {
    id: "T1599",
    name: "Network Boundary Bridging",
    tactic: "TA0005",
    tactic_name: "Defense Evasion",
};

pub(super) const IMPAIR_DEFENSES: Technique = Technique {
    id: "T1562",
    name: "Impair Defenses",
    tactic: "TA0005",
    tactic_name: "Defense Evasion",
};

pub(super) const DISABLE_SYSTEM_FIREWALL: Technique = Technique {
    id: "T1562.004",
    name: "Disable or Modify System Firewall",
    tactic: "TA0005",
    tactic_name: "Defense Evasion",
};

pub(super) const DIRECT_NETWORK_FLOOD: Technique = Technique {
    id: "T1498.001",
    name: "Direct Network Flood",
    tactic: "TA0040",
    tactic_name: "Impact",
};

pub(super) const ENDPOINT_DENIAL_OF_SERVICE: Technique = Technique {
    id: "T1499",
    name: "Endpoint Denial of Service",
    tactic: "TA0040",
    tactic_name: "Impact",
};

pub(super) const IMPLANT_INTERNAL_IMAGE: Technique = Technique {
    id: "T1525",
    name: "Implant Internal Image",
    tactic: "TA0003",
    tactic_name: "Persistence",
};

impl fmt::Display for Technique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.name)
    }
}
