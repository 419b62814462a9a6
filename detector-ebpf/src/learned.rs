//! Addresses that ports learn: the only owner of these maps.

use core::ptr::NonNull;

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::generated::bpf_jiffies64,
    macros::map,
    maps::{Array, HashMap, PerCpuArray},
};
use detector_common::{
    addr::{Address, Station},
    learned::{
        self, Living, Owner, OwnerKey, Place, Refused, Router, RouterKey, Table, Transaction,
    },
    maps::{self, LEARNED_PER_PORT},
    parse::Claim,
    port::{PortSlot, flags},
    reason::Reason,
    verdict,
};

use crate::{dhcp, lookup};

/// `-EEXIST`: what an insertion answers where the key is there.
const EXISTS: i32 = -17;

const NO_PREALLOC: u32 = aya_ebpf::bindings::BPF_F_NO_PREALLOC;

#[map]
static ADDRESS_OWNERS: HashMap<OwnerKey, Owner> = HashMap::pinned(maps::MAX_OWNERS, NO_PREALLOC);

#[map]
static LEARNED: Array<Place> = Array::pinned(maps::MAX_PORTS * LEARNED_PER_PORT, 0);

#[map]
static ROUTERS: HashMap<RouterKey, Router> = HashMap::pinned(maps::MAX_ROUTERS, NO_PREALLOC);

#[map]
static CLAIM: PerCpuArray<Kept> = PerCpuArray::with_max_entries(1, 0);

#[repr(C)]
struct Kept {
    claim: Claim,
    reason: Reason,
}

/// Keeps a claim and a verdict for [`kept`], since two functions that need much stack must not call
/// each other.
#[inline(always)]
pub(crate) fn keep(claim: Claim, reason: Reason) {
    if let Some(entry) = CLAIM.get_ptr_mut(0) {
        // SAFETY: this CPU's own, and no program of ours interrupts another here.
        unsafe {
            (*entry).claim = claim;
            (*entry).reason = reason;
        }
    }
}

/// What was kept last on this CPU.
#[inline(always)]
pub(crate) fn kept() -> Option<(&'static mut Claim, Reason)> {
    let entry = CLAIM.get_ptr_mut(0)?;
    // SAFETY: this CPU's own; `keep` has written both.
    unsafe { Some((&mut (*entry).claim, (*entry).reason)) }
}

/// The last word on a claim of a port that learns.
#[inline(always)]
pub(crate) fn settle(slot: &PortSlot, claim: &mut Claim) -> Reason {
    let ifindex = slot.ifindex;
    verdict::settle(claim, |station, address| {
        const TAKEN: i32 = Reason::AddressTaken as i32;
        const FULL: i32 = Reason::LearnedFull as i32;
        let [high, low] = address.words();
        match learned(ifindex, station.word(), high, low) {
            0 => Reason::Granted,
            TAKEN => Reason::AddressTaken,
            FULL => Reason::LearnedFull,
            _ => Reason::AddressNotLeased,
        }
    })
}

/// Whether a station of the port has the address, or gets it by coming first: a reason's code. A
/// global function: the verifier walks it once and on its own.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn learned(ifindex: u32, station: u64, high: u64, low: u64) -> i32 {
    let (Some(slot), Some(settings)) = (lookup::port(ifindex), lookup::settings()) else {
        return Reason::AddressNotLeased as i32;
    };
    let (station, address) = (Station::from_word(station), Address::from_words(high, low));
    learned::ask(&mut Maps, slot, settings, now(), station, address) as i32
}

/// A router that has this address has been named where the port of this slot is, until then. A global
/// function: the verifier walks it once and on its own.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn protect(ifindex: u32, vlan: u32, high: u64, low: u64, expires: u64) -> i32 {
    let Some(slot) = lookup::port(ifindex) else { return 0 };
    let address = Address::from_words(high, low);
    let key = OwnerKey { address, scope: slot.scope(), vlan: vlan as u16, pad: 0 };
    let plays = |owner| lookup::port(owner).is_some_and(|slot| slot.has(flags::ROUTES));
    learned::protect(&mut Maps, &key, now(), expires, plays);
    0
}

/// The maps as [`learned`] has them; those of transactions are `dhcp`'s.
pub(crate) struct Maps;

impl Table for Maps {
    #[inline(always)]
    fn owner(&mut self, key: &OwnerKey) -> Option<Living<'_, Owner>> {
        living(ADDRESS_OWNERS.get_ptr_mut(key))
    }

    #[inline(always)]
    fn insert(&mut self, key: &OwnerKey, owner: &Owner) -> Result<(), Refused> {
        match ADDRESS_OWNERS.insert(key, owner, u64::from(BPF_NOEXIST)) {
            Ok(()) => Ok(()),
            Err(EXISTS) => Err(Refused::Exists),
            Err(_) => Err(Refused::NoRoom),
        }
    }

    #[inline(always)]
    fn remove(&mut self, key: &OwnerKey) {
        let _ = ADDRESS_OWNERS.remove(key);
    }

    #[inline(always)]
    fn place(&mut self, number: u32) -> Option<Living<'_, Place>> {
        living(LEARNED.get_ptr_mut(number))
    }

    #[inline(always)]
    fn transaction(&mut self, number: u32) -> Option<Living<'_, Transaction>> {
        living(dhcp::transaction(number))
    }

    #[inline(always)]
    fn router(&mut self, key: &RouterKey) -> Option<Living<'_, Router>> {
        living(ROUTERS.get_ptr_mut(key))
    }

    #[inline(always)]
    fn put_router(&mut self, key: &RouterKey, router: &Router) -> bool {
        ROUTERS.insert(key, router, 0).is_ok()
    }
}

#[inline(always)]
fn living<'a, T: Copy>(value: Option<*mut T>) -> Option<Living<'a, T>> {
    // SAFETY: a map value: it is not freed while a program runs (RCU), and its fields are aligned.
    value.and_then(NonNull::new).map(|at| unsafe { Living::from_raw(at) })
}

#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: no arguments, no effects.
    unsafe { bpf_jiffies64() }
}
