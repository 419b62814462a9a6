//! Whether the way out of each bridge is known, before anybody enforces.

use std::collections::BTreeMap;

use detector_core::{
    decide::{Class, classify},
    model::{Link, LinkKind},
};

use super::{Finding, Patient, fine, unknown, warning};
use crate::net;

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let links = match net::links() {
        Ok(links) => links.into_iter().map(|link| (link.ifindex, link)).collect(),
        Err(error) => return vec![unknown(error.to_string(), "run it as root")],
    };
    judge(&links, &patient.config.policy())
}

pub(super) fn judge(
    links: &BTreeMap<u32, Link>,
    policy: &detector_core::model::Policy,
) -> Vec<Finding> {
    let classes = classify(links, policy);
    let bridges: Vec<_> = classes
        .iter()
        .filter(|(_, class)| *class == Class::Bridge)
        .map(|(link, _)| *link)
        .collect();
    if bridges.is_empty() {
        return vec![warning(
            "no bridge is in scope, so that no port is guarded",
            "name the bridges of VMs as `network.bridges`; they may be made later, too",
        )];
    }
    let ports = |bridge: &Link, wanted: Class| -> Vec<&Link> {
        let of_bridge = classes
            .iter()
            .filter(|(link, class)| link.master == Some(bridge.ifindex) && *class == wanted);
        of_bridge.map(|(link, _)| *link).collect()
    };
    let mut found = Vec::new();
    for bridge in bridges {
        let name = &bridge.name;
        // A guest's port is a tap, a veth or a macvtap; anything else may well be the way out.
        let odd: Vec<_> = ports(bridge, Class::Guest)
            .into_iter()
            .filter(|port| !matches!(port.kind, LinkKind::Tap | LinkKind::Veth | LinkKind::Macvtap))
            .map(|port| port.name.as_str())
            .collect();
        let uplinks: Vec<_> =
            ports(bridge, Class::Uplink).iter().map(|port| port.name.as_str()).collect();
        found.push(match (odd.as_slice(), uplinks.as_slice()) {
            ([], []) => warning(
                format!("{name} has no uplink: guests on it are cut off from the outside by enforcing, unless the host routes"),
                "if an interface leads out, name it as `network.uplinks`; else there is nothing to do",
            ),
            ([], uplinks) => fine(format!("{name}: {} leads out", uplinks.join(", "))),
            (odd, _) => warning(
                format!("{name}: {} is taken for a guest's port, since nobody has named it an uplink", odd.join(", ")),
                "name it as `network.uplinks` if it leads out; enforcing would cut off what comes in by it",
            ),
        });
    }
    found
}
