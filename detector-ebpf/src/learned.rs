//! Addresses that ports learn: the only owner of these maps.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::generated::bpf_jiffies64,
    macros::map,
    maps::{Array, HashMap, PerCpuArray},
};
use detector_common::{
    addr::{Address, Station},
    frame::opaque,
    learned::{FIRST_COME_SECONDS, Holding, Origin, Owner, OwnerKey, Place, is_learnable, key},
    maps::{self, LEARNED_PER_PORT},
    parse::Claim,
    port::{PortSlot, flags},
    reason::Reason,
    verdict,
};

use crate::lookup;

/// `-EEXIST`: what an insertion answers where the key is there.
const EXISTS: i32 = -17;

const NO_PREALLOC: u32 = aya_ebpf::bindings::BPF_F_NO_PREALLOC;

#[map]
static ADDRESS_OWNERS: HashMap<OwnerKey, Owner> = HashMap::pinned(maps::MAX_OWNERS, NO_PREALLOC);

#[map]
static LEARNED: Array<Place> = Array::pinned(maps::MAX_PORTS * LEARNED_PER_PORT, 0);

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
    let reason = match lookup::port(ifindex) {
        Some(slot) => ask(slot, Station::from_word(station), Address::from_words(high, low)),
        None => Reason::AddressNotLeased,
    };
    reason as i32
}

#[inline(always)]
fn ask(slot: &PortSlot, station: Station, address: Address) -> Reason {
    let first_come = slot.has(flags::FIRST_COME) || address.is_link_local();
    let now = now();
    let Some(settings) = lookup::settings() else { return Reason::AddressNotLeased };
    let lifetime = FIRST_COME_SECONDS * u64::from(settings.hz);
    let key = key(slot, station, address);
    if let Some(owner) = ADDRESS_OWNERS.get_ptr_mut(&key) {
        // SAFETY: a living map value.
        match unsafe { (*owner).holding(slot.instance, station, now) } {
            Holding::Own => {
                // SAFETY: as above; aligned words.
                let (origin, place) = unsafe { ((*owner).origin, (*owner).place) };
                // It may have come first under a rule that holds no more.
                if origin == Origin::FirstCome as u32 && !first_come {
                    return Reason::AddressNotLeased;
                }
                let extends = first_come && Origin::is_claim(origin);
                // Of two that two CPUs learn at once for one place, the first has lost it.
                if !stands_for(place, &key) {
                    let _ = ADDRESS_OWNERS.remove(&key);
                    return Reason::LearnedFull;
                }
                // SAFETY: as above; one aligned word.
                unsafe {
                    if extends && (*owner).expires - now < lifetime / 2 {
                        (*owner).expires = now + lifetime;
                    }
                }
                return Reason::Granted;
            }
            Holding::Other => return Reason::AddressTaken,
            Holding::Over => {}
        }
    }
    let (origin, lasts) = if first_come {
        (Origin::FirstCome as u32, lifetime)
    } else {
        let origin = match slot.has(flags::ARRIVED) {
            true => Origin::Migrated as u32,
            false => Origin::Observed as u32,
        };
        let lends = slot.has(flags::ARRIVED) || !lookup::drops(slot, settings);
        (origin, if lends { u64::from(slot.lends()) * u64::from(settings.hz) } else { 0 })
    };
    if lasts == 0 || !is_learnable(address) {
        return Reason::AddressNotLeased;
    }
    let owner = Owner {
        expires: now + lasts,
        since: now,
        station: station.word(),
        ifindex: slot.ifindex,
        instance: slot.instance,
        place: 0,
        origin,
    };
    take(slot, &key, owner, now, false)
}

/// Makes a station of the port the owner of an address, if there is place for it. A server's word
/// takes it from whoever only claims it; never from the network itself, and never from the holder of a
/// lease that lasts: who asks a server chooses as whom it asks.
#[inline(never)]
pub(crate) fn take(
    slot: &PortSlot,
    key: &OwnerKey,
    owner: Owner,
    now: u64,
    served: bool,
) -> Reason {
    let station = Station::from_word(owner.station);
    if let Some(known) = ADDRESS_OWNERS.get_ptr_mut(key) {
        // SAFETY: a living map value.
        let (holding, origin) =
            unsafe { ((*known).holding(slot.instance, station, now), (*known).origin) };
        match holding {
            Holding::Own => {
                // SAFETY: as above; aligned words.
                unsafe {
                    (*known).expires = owner.expires;
                    (*known).origin = owner.origin;
                }
                return Reason::Granted;
            }
            Holding::Other if !served || !Origin::is_claim(origin) => {
                return Reason::AddressTaken;
            }
            Holding::Other | Holding::Over => {
                let _ = ADDRESS_OWNERS.remove(key);
            }
        }
    }
    let first = u32::from(slot.id) * LEARNED_PER_PORT;
    let mut left = opaque(LEARNED_PER_PORT as usize) as u32;
    while left > 0 {
        left -= 1;
        let number = first + left;
        let Some(place) = LEARNED.get_ptr_mut(number) else { break };
        if !is_free(place, number, slot.instance, now) {
            continue;
        }
        // SAFETY: a living map value of this port. CPUs may race for it: then one of two addresses is
        // in no place, and goes when it is asked for, or when the daemon looks around.
        unsafe {
            *place = Place { key: *key, instance: slot.instance, pad: 0 };
        }
        let owner = Owner { place: number, ..owner };
        return match ADDRESS_OWNERS.insert(key, &owner, u64::from(BPF_NOEXIST)) {
            Ok(()) => Reason::Granted,
            // Another port was faster.
            Err(EXISTS) => Reason::AddressTaken,
            // The host has no room or memory left for it: nobody has the address.
            Err(_) => Reason::LearnedFull,
        };
    }
    Reason::LearnedFull
}

/// Whether a place stands for this address.
#[inline(always)]
fn stands_for(place: u32, key: &OwnerKey) -> bool {
    let Some(place) = LEARNED.get(place) else { return false };
    let ([high, low], [own_high, own_low]) = (key.address.words(), place.key.address.words());
    (high ^ own_high) | (low ^ own_low) == 0
        && (key.scope, key.vlan) == (place.key.scope, place.key.vlan)
}

/// Whether a place stands for no address of this port any more. One whose time is over is cleared
/// away.
#[inline(always)]
fn is_free(place: *mut Place, number: u32, instance: u32, now: u64) -> bool {
    // SAFETY: a living map value.
    let held = unsafe { &*place };
    if held.instance != instance {
        return true;
    }
    let Some(owner) = ADDRESS_OWNERS.get_ptr(&held.key) else { return true };
    // SAFETY: a living map value.
    let (at, expires) = unsafe { ((*owner).place, (*owner).expires) };
    if at != number {
        return true;
    }
    if expires > now {
        return false;
    }
    let _ = ADDRESS_OWNERS.remove(&held.key);
    true
}

/// Takes an address from the station of the port, if it has it.
#[inline(never)]
pub(crate) fn forget(slot: &PortSlot, key: &OwnerKey, station: Station, now: u64) {
    let Some(owner) = ADDRESS_OWNERS.get_ptr(key) else { return };
    // SAFETY: a living map value.
    if !matches!(unsafe { (*owner).holding(slot.instance, station, now) }, Holding::Other) {
        // Its place is free without it.
        let _ = ADDRESS_OWNERS.remove(key);
    }
}

#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: no arguments, no effects.
    unsafe { bpf_jiffies64() }
}
