//! What helps to find out who is behind a finding: whose process holds the tap or runs the VM, who made
//! the NIC by its MAC, and what the first frame was.

use std::{collections::BTreeSet, net::Ipv6Addr};

use detector_common::{addr::Mac, claim::Family, reason::Reason};

use super::{claims::kind_of_claim, frame::layers, pair, processes::user};
use crate::{
    decide::{
        Decision, ProcessOwner,
        text::{bounded, moment, quoted},
    },
    model::{DhcpPrint, Finding, FindingKind, RefusedFrame, Seen, Subject, VmProcess, World},
};

/// The evidence about ports that is often known only some time after the finding, by name: people are told
/// again when there is some.
pub const ENRICHED: [&str; 3] = ["process", "first frame", "dhcp client"];

/// What a line of the first frame is called.
const LAYER: &str = "layer";

/// Processes, and MACs, that a finding lists.
const LISTED: usize = 2;

/// The bit of a MAC that says nobody has registered it (IEEE 802, clause 8.4).
const LOCAL: u8 = 0x02;
/// What QEMU and libvirt give to NICs.
const QEMU: [u8; 3] = [0x52, 0x54, 0x00];

/// Adds what is known to a finding about a port or a VM.
pub(super) fn enrich(finding: &mut Finding, world: &World, decision: &Decision) {
    let evidence = &mut finding.evidence;
    match finding.key.subject {
        Subject::Port { ifindex, instance } => {
            let Some(link) = world.links.get(&ifindex) else { return };
            let holds = |process: &&VmProcess| {
                let mut taps = process.holds.taps.iter();
                taps.any(|tap| tap.name == link.name && tap.here != Some(false))
            };
            let holders = world.processes.found.values().filter(holds);
            evidence.extend(holders.take(LISTED).map(|process| pair("process", owner(process))));
            let seen = world.seen.get(&ifindex).map_or(&[][..], Vec::as_slice);
            let mut own: Vec<_> = seen.iter().filter(|seen| seen.instance == instance).collect();
            own.sort_by_key(|seen| {
                (seen.first, seen.claim.mac, seen.claim.vlan, seen.claim.address)
            });
            let macs: BTreeSet<Mac> = own.iter().map(|seen| seen.claim.mac).collect();
            evidence.extend(
                macs.iter()
                    .take(LISTED)
                    .map(|mac| pair("vendor", format!("{mac}: {}", vendor(*mac)))),
            );
            // The first of those that the finding is about, rather than what came before.
            let kind = finding.key.kind;
            let is_of_it = |seen: &&&Seen| {
                Reason::from_code(seen.claim.reason).and_then(kind_of_claim) == Some(kind)
            };
            if let Some(seen) = own.iter().find(is_of_it).or(own.first()) {
                evidence.push(pair("first frame", frame(seen, world)));
                let frames = world.frames.get(&ifindex).map_or(&[][..], Vec::as_slice);
                let is_its =
                    |frame: &&RefusedFrame| frame.instance == instance && frame.claim == seen.claim;
                let lines = frames.iter().find(is_its).map(layers).unwrap_or_default();
                evidence.extend(lines.iter().map(|line| pair(LAYER, line)));
            }
            let heard = world.overheard.get(&(ifindex, instance));
            evidence.extend(heard.map(|heard| pair("dhcp client", client(heard))));
        }
        Subject::Vm(uuid) if finding.key.kind == FindingKind::RogueVm => {
            let runs = |process: &&VmProcess| {
                decision.processes.get(&process.id) == Some(&ProcessOwner::Vm(uuid))
            };
            let runners = world.processes.found.values().filter(runs);
            evidence.extend(runners.take(LISTED).map(|process| pair("process", owner(process))));
        }
        _ => {}
    }
}

fn owner(process: &VmProcess) -> String {
    let (pid, user) = (process.id.pid, user(process));
    // A command line is whatever somebody has typed: without it one knows whom to ask, too.
    format!("{pid} of {user}, {}: {}", quoted(&process.exe), bounded(&process.command))
}

/// Who has registered the MAC, as far as anybody has.
fn vendor(mac: Mac) -> String {
    if mac.0[..3] == QEMU {
        return "QEMU or KVM (as libvirt and QEMU choose them)".to_owned();
    }
    if mac.0[0] & LOCAL != 0 {
        return "nobody's, locally administered".to_owned();
    }
    let digits: String = mac.0.iter().map(|byte| format!("{byte:02X}")).collect();
    match oui_data::lookup(&digits) {
        Some(record) => record.organization().to_owned(),
        None => "not registered".to_owned(),
    }
}

/// The first frame of a port in words, as far as a sighting keeps it.
fn frame(seen: &Seen, world: &World) -> String {
    let claim = &seen.claim;
    let what = match claim.ethertype {
        0x0800 => "an IPv4 packet".to_owned(),
        0x0806 => "an ARP packet".to_owned(),
        0x8035 => "a RARP packet".to_owned(),
        0x86dd => "an IPv6 packet".to_owned(),
        other if other < 0x0600 => "an 802.3 frame".to_owned(),
        other => format!("a frame of EtherType {other:#06x}"),
    };
    let address = match Family::from_code(claim.family) {
        Family::None => String::new(),
        Family::V4 | Family::V6 => {
            format!(" under address {}", Ipv6Addr::from(claim.address).to_canonical())
        }
    };
    let vlan = if claim.vlan == 0 { String::new() } else { format!(" on VLAN {}", claim.vlan) };
    let reason = Reason::from_code(claim.reason).map_or("unknown", Reason::as_str);
    let at = moment(world.skew.day(seen.first));
    format!("{what} from {}{address}{vlan} at {at}: {reason}", claim.mac)
}

/// What tells one DHCP client from another.
fn client(print: &DhcpPrint) -> String {
    let options: Vec<_> = print.options.iter().map(u8::to_string).collect();
    let vendor = print.vendor.iter().map(|vendor| format!(", vendor class {}", quoted(vendor)));
    let host = print.host.iter().map(|host| format!(", calls itself {}", quoted(host)));
    let rest: String = vendor.chain(host).collect();
    format!("wants options {}{rest}", bounded(&options.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendors() {
        let cases = [
            ("52:54:00:12:34:56", "QEMU"),
            ("00:00:00:12:34:56", "XEROX"),
            ("00:50:56:12:34:56", "VMware"),
            ("02:00:00:00:00:01", "locally administered"),
        ];
        for (mac, expect) in cases {
            let said = vendor(mac.parse().unwrap());
            assert!(said.contains(expect), "{mac}: {said}");
        }
    }
}
