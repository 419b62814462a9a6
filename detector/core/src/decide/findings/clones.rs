//! Frames that come in from outside under the MAC of a VM on this host.

use std::time::Duration;

use detector_common::{port::Role, reason::Reason};

use super::{Facts, Found, claims::listed_vm, finding, pair};
use crate::{
    decide::text::{explain, quoted, show_port},
    model::{FindingKind, Severity, Subject},
};

/// How long after its last frame a clone stays a finding.
const CLONE_QUIET: Duration = Duration::from_secs(600);

pub(super) fn report(facts: &Facts<'_>, found: &mut Found) {
    let world = facts.world;
    for (ifindex, seen) in &world.seen {
        let (Some(link), Some(held)) =
            (world.links.get(ifindex), world.observed.interfaces.get(ifindex))
        else {
            continue;
        };
        for seen in seen.iter().filter(|seen| {
            seen.instance == held.slot.instance
                && seen.claim.reason == Reason::MacOfLocalGuest as u8
                && world.now < seen.last + CLONE_QUIET
        }) {
            found.wake_at(seen.last + CLONE_QUIET);
            let mac = seen.claim.mac;
            let owner = facts.decision.owners_of(mac).last();
            let owner = owner.and_then(|uuid| listed_vm(world, uuid));
            let (subject, whose, next) = match owner {
                Some(vm) => {
                    (Subject::Vm(vm.uuid), format!("of VM {}", quoted(&vm.name)), explain(vm))
                }
                // Its VM is on no list any more, and what is in force stays.
                None => {
                    let subject = Subject::Port { ifindex: *ifindex, instance: seen.instance };
                    (subject, mac.to_string(), show_port(&link.name))
                }
            };
            let title = format!(
                "Frames come in from outside under the MAC {whose}, which is granted on this host: \
                 a clone, or the network hands its own frames back."
            );
            let by = if held.slot.role() == Role::Uplink { "uplink" } else { "device" };
            let evidence = vec![
                pair(by, &link.name),
                pair("mac", mac),
                pair("vlan", seen.claim.vlan),
                pair("frames", seen.count),
            ];
            let key = (FindingKind::MacClone, subject);
            found.add(finding(key, Severity::High, title, evidence, Some(next), seen.first));
        }
    }
}
