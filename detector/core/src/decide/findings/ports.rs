//! Findings about ports: of no VM, of several, or speaking under foreign identities.

use std::{collections::BTreeMap, net::Ipv6Addr, time::Duration};

use detector_common::{
    addr::{Address, Mac, Station},
    claim::Family,
    reason::Reason,
};

use super::{Facts, Found, finding, floods, learning, pair, vms};
use crate::{
    decide::{
        PortStatus,
        ports::{Port, held_macs},
        text::{quoted, show_port},
    },
    model::{FindingKind, Health, Seen, Severity, Subject, Vm},
    reconcile::{Identity, InterfacePlan, PortPlan},
};

/// How long after its last frame a foreign identity stays a finding.
pub(super) const FOREIGN_QUIET: Duration = Duration::from_secs(600);

/// The most claims of one port that a finding lists.
pub(super) const LISTED_CLAIMS: usize = 4;

pub(super) fn report(facts: &Facts<'_>, found: &mut Found) {
    let mut owners = None;
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
        floods::report(port, facts, found);
        let speaks = matches!(status, Some(PortStatus::Granted | PortStatus::Kept));
        match facts.world.seen.get(&port.link.ifindex) {
            Some(seen) if speaks && !seen.is_empty() => {
                learning::report(port, seen, facts, found);
                let owners = owners.get_or_insert_with(|| owners_of_macs(facts));
                foreign(port, seen, owners, facts, found);
            }
            _ => {}
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

/// A port that speaks under what is not its own. Its own traffic goes on.
fn foreign(
    port: &Port<'_>,
    seen: &[Seen],
    owners: &BTreeMap<Mac, &Vm>,
    facts: &Facts<'_>,
    found: &mut Found,
) {
    let now = facts.world.now;
    let identities = match facts.decision.desired.interfaces.get(&port.link.ifindex) {
        Some((_, InterfacePlan::Guest(PortPlan::Granted(identities)))) => identities.as_slice(),
        _ => &[],
    };
    let own = port.claimants.first().map(|number| facts.vms[*number].merged.vm.uuid);
    let mut claims: Vec<&Seen> = seen
        .iter()
        .filter(|seen| seen.instance == port.instance && is_foreign(seen, identities))
        .filter(|seen| !learning::is_own(seen, port, facts.world))
        .filter(|seen| now < seen.last + FOREIGN_QUIET)
        .collect();
    // Should the map of sightings be read in another order, the finding is the same.
    claims.sort_by_key(|seen| (seen.first, seen.claim.mac, seen.claim.vlan, seen.claim.address));
    let (Some(first), Some(last)) = (claims.first(), claims.iter().map(|seen| seen.last).max())
    else {
        return;
    };
    found.wake_at(last + FOREIGN_QUIET);

    let victim = claims
        .iter()
        .find_map(|seen| owners.get(&seen.claim.mac).filter(|vm| Some(vm.uuid) != own));
    let name = quoted(&port.link.name);
    let (severity, title) = match victim {
        Some(vm) => {
            let title = format!("Port {name} sends under the MAC of VM {}.", quoted(&vm.name));
            (Severity::High, title)
        }
        None => {
            let what = "a spoof, or something nested behind it";
            (Severity::Medium, format!("Port {name} sends under what is not its own: {what}."))
        }
    };
    let mut evidence = vec![pair("port", &port.link.name)];
    evidence.extend(victim.map(|vm| pair("owner", vm.uuid)));
    evidence.extend(claims.iter().take(LISTED_CLAIMS).map(|seen| pair("claim", describe(seen))));
    if claims.len() > LISTED_CLAIMS {
        evidence.push(pair("more", claims.len() - LISTED_CLAIMS));
    }
    let key = (FindingKind::ForeignIdentity, subject(port));
    found.add(finding(
        key,
        severity,
        title,
        evidence,
        Some(show_port(&port.link.name)),
        first.first,
    ));
}

/// Whether the claim was refused for whose it is, and would be refused again.
fn is_foreign(seen: &Seen, granted: &[Identity]) -> bool {
    let claim = &seen.claim;
    let is_virtual = Station::new(claim.mac, 0).is_virtual_router();
    let identity = granted
        .iter()
        .find(|own| own.vlan == claim.vlan && (own.mac == claim.mac || (own.vrrp && is_virtual)));
    match Reason::from_code(claim.reason) {
        Some(Reason::MacNotGranted | Reason::VlanNotGranted) => identity.is_none(),
        Some(
            Reason::ArpSenderAddress | Reason::Ipv4Source | Reason::Ipv6Source | Reason::NdTarget,
        ) => identity.is_none_or(|identity| !grants(identity, claim.address)),
        Some(Reason::RouterRole) => identity.is_none_or(|identity| !identity.router),
        Some(Reason::DhcpServerRole) => identity.is_none_or(|identity| !identity.dhcp_server),
        Some(Reason::AddressNotLeased) => identity.is_none_or(|one| one.learns.is_some()),
        Some(Reason::VrrpRole) => identity.is_none_or(|identity| !identity.vrrp),
        Some(Reason::ArpSenderMac | Reason::NdLinkLayer | Reason::DhcpClientMac) => true,
        _ => false,
    }
}

fn grants(identity: &Identity, address: Address) -> bool {
    identity.is_within(Ipv6Addr::from(address).to_canonical())
}

pub(super) fn owners_of_macs<'a>(facts: &Facts<'a>) -> BTreeMap<Mac, &'a Vm> {
    let vms = facts.vms.iter().map(|judged| &*judged.merged.vm);
    vms.flat_map(|vm| vm.nics.iter().map(move |nic| (nic.mac, vm))).collect()
}

pub(super) fn describe(seen: &Seen) -> String {
    let claim = &seen.claim;
    let address = match Family::from_code(claim.family) {
        Family::None => String::new(),
        Family::V4 | Family::V6 => {
            format!(" address {}", Ipv6Addr::from(claim.address).to_canonical())
        }
    };
    let reason = Reason::from_code(claim.reason).map_or("unknown", Reason::as_str);
    let count = seen.count;
    format!("mac {} vlan {}{address}: {reason}, {count} frames", claim.mac, claim.vlan)
}

pub(super) fn subject(port: &Port<'_>) -> Subject {
    Subject::Port { ifindex: port.link.ifindex, instance: port.instance }
}
