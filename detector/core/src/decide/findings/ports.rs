//! Findings about ports: of no VM, or of several.

use detector_common::addr::Mac;

use super::{
    Facts, Found,
    claims::{self, LISTED_CLAIMS, Speaker, describe},
    finding, pair, vms,
};
use crate::{
    decide::{
        PortStatus,
        ports::{Port, held_macs},
        text::{quoted, show_port},
    },
    model::{FindingKind, Health, Severity, Subject},
};

pub(super) fn report(facts: &Facts<'_>, found: &mut Found) {
    for port in facts.ports {
        let status = facts.decision.ports.get(&port.link.ifindex).map(|decision| decision.status);
        match port.claimants[..] {
            [] => orphan(port, status == Some(PortStatus::Kept), facts, found),
            [_] => {}
            _ => shared(port, facts, found),
        }
        if !port.contested.is_empty() {
            contested(port, facts, found);
        }
        if let Some(speaker) = Speaker::new(port.link.ifindex, facts.world, facts.decision) {
            claims::report(&speaker, found);
        }
    }
}

/// A port that no source names, once it has had the time to be named.
fn orphan(port: &Port<'_>, kept: bool, facts: &Facts<'_>, found: &mut Found) {
    let world = facts.world;
    let noticed = world.noticed.get(&(port.link.ifindex, port.instance));
    let noticed = noticed.copied().unwrap_or(world.now);
    let due = noticed + world.policy.unknown_port_grace;
    if world.now < due {
        found.wake_at(due);
        return;
    }
    let any_lost = world.sources.values().any(|source| source.health != Health::Healthy);
    if kept && any_lost {
        // The finding about the lost source says all there is to say.
        return;
    }
    let name = quoted(&port.link.name);
    let (kind, severity, title) = if kept {
        let title = format!("The VM in force on port {name} is listed by no source any more.");
        (FindingKind::VmVanished, Severity::Medium, title)
    } else {
        let place = if port.link.master.is_some() { " on a guarded bridge" } else { "" };
        let title = format!("Port {name}{place} belongs to no VM.");
        (FindingKind::UnknownPort, Severity::High, title)
    };
    let mut evidence = vec![pair("port", &port.link.name)];
    let bridge = port.link.master.and_then(|master| world.links.get(&master));
    evidence.extend(bridge.map(|bridge| pair("bridge", &bridge.name)));
    let device = port.link.lower.and_then(|lower| world.links.get(&lower));
    evidence.extend(device.map(|device| pair("device", &device.name)));
    evidence.extend(port.observed.into_iter().flat_map(held_macs).map(|mac| pair("mac", mac)));
    if let Some(seen) = world.seen.get(&port.link.ifindex) {
        let own = seen.iter().filter(|seen| seen.instance == port.instance).take(LISTED_CLAIMS);
        evidence.extend(own.map(|seen| pair("claim", describe(seen))));
    }
    let next = Some(show_port(&port.link.name));
    found.add(finding((kind, subject(port)), severity, title, evidence, next, noticed));
}

fn shared(port: &Port<'_>, facts: &Facts<'_>, found: &mut Found) {
    let vms = port.claimants.iter().map(|number| {
        let vm = &facts.vms[*number].merged.vm;
        pair("vm", format!("{} {}", vm.uuid, quoted(&vm.name)))
    });
    found.add(finding(
        (FindingKind::Conflict, subject(port)),
        Severity::Medium,
        format!("Several VMs are listed with port {}.", quoted(&port.link.name)),
        std::iter::once(pair("port", &port.link.name)).chain(vms).collect(),
        Some(show_port(&port.link.name)),
        facts.world.now,
    ));
}

fn contested(port: &Port<'_>, facts: &Facts<'_>, found: &mut Found) {
    let [only] = port.claimants[..] else { return };
    let vm = &facts.vms[only].merged.vm;
    let name = quoted(&port.link.name);
    let told =
        |mac: &Mac| pair("mac", format!("{mac} is claimed for another port than {name} too"));
    let evidence = port.contested.iter().map(told).collect();
    found.add(vms::conflict(vm, evidence, facts.world.now));
}

pub(super) fn subject(port: &Port<'_>) -> Subject {
    Subject::Port { ifindex: port.link.ifindex, instance: port.instance }
}
