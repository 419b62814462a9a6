//! The VMs of a host in pages: one message for a few dozen of them, so that a fleet has about as many keys as hosts, and
//! what changes of one VM does not repeat all others of a large host.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::message::VmState;

/// VMs of one page, on average.
const TARGET: usize = 32;
/// Pages of a host at the most.
pub const MOST: u32 = 256;
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

/// Divides VMs into pages. A VM stays on its page as long as there are as many of them.
pub fn pages(vms: Vec<VmState>) -> Vec<Page> {
    let of = vms.len().div_ceil(TARGET).max(1).next_power_of_two();
    let of = u32::try_from(of).unwrap_or(MOST).min(MOST);
    let mut pages: Vec<_> = (0..of).map(|number| Page { number, of, vms: Vec::new() }).collect();
    for vm in vms {
        let number = page_of(vm.uuid, of) as usize;
        if let Some(page) = pages.get_mut(number) {
            page.vms.push(bounded(vm));
        }
    }
    pages.iter_mut().for_each(|page| page.vms.sort_by_key(|vm| vm.uuid));
    pages
}

/// `of` is a power of two. UUIDs that people choose begin or end alike, so that all of it counts.
fn page_of(vm: Uuid, of: u32) -> u32 {
    // FNV-1a, which is the same everywhere and for ever.
    let mix = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let hash = vm.as_bytes().iter().fold(0x811c_9dc5, mix);
    (hash ^ (hash >> 16)) & (of - 1)
}

fn bounded(mut vm: VmState) -> VmState {
    let texts = [&mut vm.name, &mut vm.source].into_iter().chain(&mut vm.template);
    texts.for_each(cut);
    vm.nics.truncate(MOST_NICS);
    for nic in &mut vm.nics {
        nic.port.iter_mut().for_each(cut);
        nic.addresses.truncate(MOST_ADDRESSES);
    }
    vm
}

/// Cuts a text to what is told; what is cut shows it.
pub fn cut(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(at);
        text.push('…');
    }
}
