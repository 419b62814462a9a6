//! Devices that macvtaps are on, and that are not what they were configured to be.

use super::{Facts, Found, finding, pair};
use crate::{
    decide::{
        devices::{is_to_be_closed, obstacle},
        text::{quoted, show_port},
    },
    model::{FindingKind, Severity, Subject},
    reconcile::InterfacePlan,
};

pub(super) fn report(facts: &Facts<'_>, found: &mut Found) {
    let world = facts.world;
    for (ifindex, (name, plan)) in &facts.decision.desired.interfaces {
        let (InterfacePlan::Device(_), Some(device)) = (plan, world.links.get(ifindex)) else {
            continue;
        };
        let Some(port) = obstacle(device, world).filter(|_| is_to_be_closed(device, world)) else {
            continue;
        };
        let held = world.observed.interfaces.get(ifindex);
        let instance = held.map_or(0, |held| held.slot.instance);
        let title = format!(
            "Device {} stays open to all senders: {} on it is bridged, and speaks under any MAC.",
            quoted(name),
            quoted(&port.name)
        );
        let key = (FindingKind::EnforcementImpaired, Subject::Port { ifindex: *ifindex, instance });
        let evidence = vec![pair("device", name), pair("network.closed_devices", "not in force")];
        found.add(finding(
            key,
            Severity::Medium,
            title,
            evidence,
            Some(show_port(name)),
            world.now,
        ));
    }
}
