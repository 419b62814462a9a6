//! The VMs and open findings of a host in pages: one message for a few dozen of them, so that a fleet has about as many keys
//! as hosts, and what changes of one VM does not repeat all others of a large host.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::message::{OpenFinding, VmState};

/// VMs or findings of one page, on average.
const TARGET: usize = 32;
/// Pages of each that a host has at the most.
pub const MOST: u32 = 256;
/// Open findings that a host tells at the most.
const MOST_OPEN: usize = TARGET * MOST as usize;
/// Evidence of a finding that is told.
pub const MOST_EVIDENCE: usize = 32;
/// Characters of a text that is told.
const LONGEST: usize = 200;
/// NICs of a VM, and addresses of a NIC, that are told.
const MOST_NICS: usize = 8;
const MOST_ADDRESSES: usize = 8;

/// Some of a host's VMs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    pub number: u32,
    /// How many pages there are.
    pub of: u32,
    pub vms: Vec<VmState>,
}

impl Page {
    /// The same without addresses, for one that is longer than a message may be.
    pub fn lighter(mut self) -> Self {
        let nics = self.vms.iter_mut().flat_map(|vm| &mut vm.nics);
        nics.for_each(|nic| nic.addresses.clear());
        self
    }
}

/// Some of a host's open findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPage {
    pub number: u32,
    /// How many pages there are.
    pub of: u32,
    pub findings: Vec<OpenFinding>,
}

impl OpenPage {
    /// The same without what explains it, for one that is longer than a message may be.
    pub fn lighter(mut self) -> Self {
        for finding in &mut self.findings {
            finding.evidence.clear();
            finding.next = None;
        }
        self
    }

    /// Whether the same findings are open by it, and need as much to be seen to.
    pub fn is_alike(&self, other: &Self) -> bool {
        fn short(page: &OpenPage) -> impl Iterator<Item = (&str, u8, bool)> {
            page.findings.iter().map(|one| (one.id.as_str(), one.severity as u8, one.settled))
        }
        self.of == other.of && short(self).eq(short(other))
    }
}

/// Divides VMs into pages. A VM stays on its page as long as there are as many of them.
pub fn pages(vms: Vec<VmState>) -> Vec<Page> {
    // UUIDs that people choose begin or end alike, so that all of one counts.
    let divided = divide(vms, |vm| vm.uuid.as_bytes());
    let page = |(number, of, mut vms): (u32, u32, Vec<VmState>)| {
        vms.iter_mut().for_each(bound);
        vms.sort_by_key(|vm| vm.uuid);
        Page { number, of, vms }
    };
    divided.map(page).collect()
}

/// Divides open findings into pages in the same way. Where there are more than a host tells, the less severe are left out.
pub fn open_pages(mut findings: Vec<OpenFinding>) -> Vec<OpenPage> {
    findings.sort_by(|a, b| (Reverse(a.severity), &a.id).cmp(&(Reverse(b.severity), &b.id)));
    findings.truncate(MOST_OPEN);
    let divided = divide(findings, |finding| finding.id.as_bytes());
    let page = |(number, of, mut findings): (u32, u32, Vec<OpenFinding>)| {
        findings.iter_mut().for_each(bound_open);
        OpenPage { number, of, findings }
    };
    divided.map(page).collect()
}

/// Each page with its number, and how many there are: a power of two.
fn divide<T>(all: Vec<T>, name: impl Fn(&T) -> &[u8]) -> impl Iterator<Item = (u32, u32, Vec<T>)> {
    let of = all.len().div_ceil(TARGET).max(1).next_power_of_two();
    let of = u32::try_from(of).unwrap_or(MOST).min(MOST);
    let mut pages: Vec<_> = (0..of).map(|number| (number, of, Vec::new())).collect();
    for one in all {
        // FNV-1a, which is the same everywhere and for ever.
        let mix = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        let hash = name(&one).iter().fold(0x811c_9dc5, mix);
        let number = (hash ^ (hash >> 16)) & (of - 1);
        if let Some((.., page)) = pages.get_mut(number as usize) {
            page.push(one);
        }
    }
    pages.into_iter()
}

fn bound(vm: &mut VmState) {
    let texts = [&mut vm.name, &mut vm.source].into_iter().chain(&mut vm.template);
    texts.for_each(cut);
    vm.nics.truncate(MOST_NICS);
    for nic in &mut vm.nics {
        nic.port.iter_mut().for_each(cut);
        nic.addresses.truncate(MOST_ADDRESSES);
    }
}

fn bound_open(finding: &mut OpenFinding) {
    finding.evidence.truncate(MOST_EVIDENCE);
    let evidence = finding.evidence.iter_mut().flat_map(|(name, value)| [name, value]);
    [&mut finding.title].into_iter().chain(&mut finding.next).chain(evidence).for_each(cut);
}

/// Cuts a text to what is told; what is cut shows it.
pub fn cut(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(at);
        text.push('…');
    }
}
