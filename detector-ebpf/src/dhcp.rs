//! What ports learn from DHCP and DHCPv6: requests are noted where they come from, replies are read
//! where they are delivered.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::bpf_skb_load_bytes,
    macros::map,
    maps::{Array, PerCpuArray},
};
use detector_common::{
    addr::{Address, Station},
    claim::Family,
    frame::{COPY_BYTES, COPY_SLACK, Copied, opaque},
    learned::{Origin, Owner, Transaction, expiry, is_learnable, key},
    lease::{self, Act, Exchange, MAX_ADDRESSES},
    maps::{self, TRANSACTIONS_PER_PORT},
    port::{GrantKey, PortSlot, Role, flags},
    verdict::Grants,
};

use crate::{
    learned::{forget, kept, now, take},
    lookup::{self, MapGrants},
    skb::Skb,
};

#[map]
static DHCP_TRANSACTIONS: Array<Transaction> =
    Array::pinned(maps::MAX_PORTS * TRANSACTIONS_PER_PORT, 0);

/// Where a message is read, since it does not fit the stack.
#[map]
static MESSAGE: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

#[repr(C)]
struct Scratch {
    frame: [u8; COPY_BYTES + COPY_SLACK],
    /// Bytes of the frame that were copied.
    length: u64,
    exchange: Exchange,
}

/// A DHCP client of the port has said something, and it was let through.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn learn_request(skb: *mut __sk_buff) -> i32 {
    let skb = Skb::new(skb);
    if let Some(slot) = lookup::port(skb.ifindex())
        && let Some(exchange) = read(&skb)
    {
        let now = now();
        if exchange.is(Act::Asks) {
            begin(transaction(slot, exchange, now), slot.id);
        } else if exchange.is(Act::GivesUp) {
            give_up(slot, exchange, now);
        }
    }
    0
}

/// Whether the frame of the claim that is kept asks a server to prolong the lease of the address that it
/// comes from. Whoever has come from another host, or was there before, has no other way to show that it
/// has one.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn renews(skb: *mut __sk_buff) -> i32 {
    let skb = Skb::new(skb);
    if let Some(exchange) = read(&skb)
        && let Some((claim, _)) = kept()
    {
        let address = lease::renewed(exchange);
        return i32::from(address != 0 && address == claim.source.v4_word());
    }
    0
}

/// Something was let through to a port that learns from DHCP servers.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn learn_reply(skb: *mut __sk_buff) -> i32 {
    let skb = Skb::new(skb);
    if lease::may_be_dhcp(skb.frame())
        && let Some(slot) = lookup::port(skb.ifindex())
        && let Some(settings) = lookup::settings()
        && let Some(exchange) = read(&skb)
        && (exchange.is(Act::Leases) || exchange.is(Act::Refuses))
        && is_from_server(&skb)
    {
        let now = now();
        let reply = transaction(slot, exchange, now);
        if let Some(wanted) = answered(&reply, slot.id, now, settings.hz) {
            let station = Station::from_word(exchange.client);
            if exchange.is(Act::Leases) {
                take_leases(slot, exchange, now, settings.hz);
            } else if wanted != 0 {
                forget(slot, &key(slot, station, Address::mapped_word(wanted)), station, now);
            }
        }
    }
    0
}

#[inline(always)]
fn take_leases(slot: &PortSlot, exchange: &Exchange, now: u64, hz: u32) {
    let station = Station::from_word(exchange.client);
    let mut number = opaque(0);
    while number < MAX_ADDRESSES {
        if let Some(lease) = exchange.lease(number) {
            let key = key(slot, station, lease.address);
            if lease.seconds == 0 {
                forget(slot, &key, station, now);
            } else if is_learnable(lease.address) {
                let owner = Owner {
                    expires: expiry(lease.seconds, now, hz),
                    since: now,
                    station: station.word(),
                    ifindex: slot.ifindex,
                    instance: slot.instance,
                    place: 0,
                    origin: Origin::Dhcp as u32,
                };
                take(slot, &key, owner, now, true);
            }
        }
        number += 1;
    }
}

#[inline(always)]
fn give_up(slot: &PortSlot, exchange: &Exchange, now: u64) {
    let station = Station::from_word(exchange.client);
    let mut number = opaque(0);
    while number < MAX_ADDRESSES {
        if let Some(lease) = exchange.lease(number) {
            forget(slot, &key(slot, station, lease.address), station, now);
        }
        number += 1;
    }
}

/// What a message says of its transaction.
#[inline(always)]
fn transaction(slot: &PortSlot, exchange: &Exchange, now: u64) -> Transaction {
    Transaction {
        station: exchange.client,
        begun: now,
        id: exchange.id,
        wanted: exchange.wanted,
        instance: slot.instance,
        family: exchange.family,
    }
}

/// Notes what a client has begun. The oldest of the port's own makes room.
#[inline(never)]
fn begin(new: Transaction, id: u16) {
    let first = u32::from(id) * TRANSACTIONS_PER_PORT;
    let (mut best, mut oldest) = (first, u64::MAX);
    let mut left = opaque(TRANSACTIONS_PER_PORT as usize) as u32;
    while left > 0 {
        left -= 1;
        let Some(entry) = DHCP_TRANSACTIONS.get(first + left) else { break };
        let same = (entry.id, entry.family) == (new.id, new.family);
        let age = if entry.instance != new.instance || (same && entry.station == new.station) {
            0
        } else {
            entry.begun
        };
        if age < oldest {
            (best, oldest) = (first + left, age);
        }
    }
    if let Some(entry) = DHCP_TRANSACTIONS.get_ptr_mut(best) {
        // SAFETY: a living map value; a race can only mix up transactions of this port, of which
        // neither is answered then.
        unsafe { *entry = new };
    }
}

/// Whether the port has begun the transaction of this reply: the address that it named then, or 0.
#[inline(always)]
fn answered(reply: &Transaction, id: u16, now: u64, hz: u32) -> Option<u32> {
    let first = u32::from(id) * TRANSACTIONS_PER_PORT;
    let mut left = opaque(TRANSACTIONS_PER_PORT as usize) as u32;
    while left > 0 {
        left -= 1;
        let entry = DHCP_TRANSACTIONS.get(first + left)?;
        if entry.is_answered_by(reply, now, hz) {
            return Some(entry.wanted);
        }
    }
    None
}

/// Whether a frame on its way to a port comes from where a DHCP server may be: the host itself, an
/// uplink, an interface that is trusted, or a port with that role. In observe mode any other's comes by too.
#[inline(always)]
fn is_from_server(skb: &Skb) -> bool {
    let source = skb.ingress_ifindex();
    if source == 0 {
        return true;
    }
    let Some(slot) = lookup::port(source) else { return false };
    match slot.role() {
        Role::Uplink | Role::Trusted => true,
        // What comes in by a port on a device of its own comes from beyond the host.
        Role::GuestOnDevice => source == skb.ifindex(),
        Role::Guest if slot.has(flags::DHCP_SERVER) => true,
        Role::Guest if slot.has(flags::MORE_GRANTS) => {
            let Some(header) = skb.frame().window::<14>(0) else { return false };
            let key = GrantKey {
                ifindex: slot.ifindex,
                instance: slot.instance,
                mac: header.mac::<6>().mac(),
                vlan: skb.tag().vlan(),
                address: [0; 16],
            };
            MapGrants.grant(&key).is_some_and(|grant| grant.flags & flags::DHCP_SERVER != 0)
        }
        Role::Guest | Role::Vacant | Role::Bridge | Role::Sandbox => false,
    }
}

/// Reads the message in a frame.
#[inline(always)]
fn read(skb: &Skb) -> Option<&'static Exchange> {
    let scratch = MESSAGE.get_ptr_mut(0)?;
    // SAFETY: this CPU's own, and no program of ours interrupts another here.
    let scratch = unsafe { &mut *scratch };
    scratch.exchange = Exchange::NOTHING;
    let length = skb.length().min(COPY_BYTES as u32) as usize;
    if length == 0 || skb.is_in_segments() {
        return None;
    }
    // The verifier has to see that the length is neither nothing nor more than there is room for.
    let length = (opaque(length - 1) & (COPY_BYTES - 1)) + 1;
    // SAFETY: `length` bytes of the frame are copied to where there is room for them.
    let copied = unsafe {
        let (from, to) = (skb.raw().cast(), scratch.frame.as_mut_ptr().cast());
        bpf_skb_load_bytes(from, 0, to, length as u32)
    };
    if copied != 0 {
        return None;
    }
    scratch.length = length as u64;
    match locate(u32::from(skb.tag().vlan())) {
        V4 => read_v4(),
        V6 => read_v6(),
        _ => 0,
    };
    Some(&scratch.exchange)
}

const V4: i32 = Family::V4 as i32;
const V6: i32 = Family::V6 as i32;

/// [`lease::locate`], and the two that read on, each as a global function.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn locate(tag: u32) -> i32 {
    with_message(|frame, exchange| lease::locate(frame, tag as u16, exchange) as i32)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn read_v4() -> i32 {
    with_message(|frame, exchange| {
        lease::read_v4(frame, exchange);
        0
    })
}

#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn read_v6() -> i32 {
    with_message(|frame, exchange| {
        lease::read_v6(frame, exchange);
        0
    })
}

#[inline(always)]
fn with_message(read: impl FnOnce(Copied<'_>, &mut Exchange) -> i32) -> i32 {
    let Some(scratch) = MESSAGE.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own, and no program of ours interrupts another here.
    let scratch = unsafe { &mut *scratch };
    read(Copied::new(&scratch.frame, scratch.length as usize), &mut scratch.exchange)
}
