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
    gate,
    learned::{self, ADVERTISED_SECONDS, Transaction},
    lease::{self, Act, Exchange, v4, v6},
    maps::{self, TRANSACTIONS_PER_PORT},
    port::PortSlot,
};

use crate::{
    learned::{Maps, kept, now, protect},
    lookup::{self, MapGrants},
    skb::Skb,
    stamp,
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
        learned::heard(&mut Maps, slot, exchange, now());
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
        && is_from_server(&skb, slot)
    {
        let leases = learned::told(&mut Maps, slot, exchange, now(), settings.hz);
        if leases {
            name_routers(slot.ifindex);
        }
    }
    0
}

/// The message that was read last leases something to a client of this port: the routers that it names are
/// nobody's for as long.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn name_routers(ifindex: u32) -> i32 {
    let Some(settings) = lookup::settings() else { return 0 };
    with_message(|frame, said| {
        let Some(lease) = said.lease(0) else { return 0 };
        let expires = learned::expiry(lease.seconds, now(), settings.hz);
        let vlan = Station::from_word(said.client).vlan();
        lease::routers(frame, said, |router| {
            let [high, low] = Address::mapped_word(router).words();
            protect(ifindex, u32::from(vlan), high, low, expires);
        });
        0
    })
}

/// Something was let through to a port that learns, which may be a router's word of itself: its link-local
/// address is nobody else's.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn learn_router(skb: *mut __sk_buff) -> i32 {
    let skb = Skb::new(skb);
    if lease::may_be_advertisement(skb.frame())
        && let Some(slot) = lookup::port(skb.ifindex())
        && let Some(settings) = lookup::settings()
        && (slot.is_sandboxed()
            || gate::may_route(skb.ingress_ifindex(), slot, lookup::port, || stamp::read(&skb)))
        && let Some((frame, _)) = copy(&skb)
        && let Some(said) = lease::advertised(frame, skb.tag().vlan())
    {
        let seconds = u32::from(said.seconds).max(ADVERTISED_SECONDS);
        let expires = learned::expiry(seconds, now(), settings.hz);
        let [high, low] = said.router.words();
        protect(slot.ifindex, u32::from(said.vlan), high, low, expires);
    }
    0
}

/// An entry of the map.
#[inline(always)]
pub(crate) fn transaction(number: u32) -> Option<*mut Transaction> {
    DHCP_TRANSACTIONS.get_ptr_mut(number)
}

/// See [`gate::may_serve`]. What was let through to a port in the sandbox comes from what is offered there.
#[inline(always)]
fn is_from_server(skb: &Skb, to: &PortSlot) -> bool {
    if to.is_sandboxed() {
        return true;
    }
    let sender = || {
        let header = skb.frame().window::<14>(0)?;
        Some(header.mac::<6>().on_vlan(skb.tag().vlan()))
    };
    let vetting = || stamp::read(skb);
    gate::may_serve(skb.ingress_ifindex(), to, lookup::port, sender, vetting, &MapGrants)
}

/// Reads the message in a frame.
#[inline(always)]
fn read(skb: &Skb) -> Option<&'static Exchange> {
    let (_, exchange) = copy(skb)?;
    match locate(u32::from(skb.tag().vlan())) {
        V4 => read_v4(),
        V6 => read_v6(),
        _ => 0,
    };
    Some(exchange)
}

/// Copies the beginning of a frame to where it is read, and forgets what was read before.
#[inline(always)]
fn copy(skb: &Skb) -> Option<(Copied<'static>, &'static Exchange)> {
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
    Some((Copied::new(&scratch.frame, length), &scratch.exchange))
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
    let begun = with_message(|frame, exchange| i32::from(v4::begin(frame, exchange)));
    if begun != 0 && lease::read_options(v4::MAX_OPTIONS, || next_v4()) {
        with_message(|frame, exchange| {
            v4::finish(frame, exchange);
            0
        });
    }
    0
}

/// One option. A global function too: the verifier walks it once, and not for each option that there may be.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn next_v4() -> i32 {
    with_message(|frame, exchange| v4::next(frame, exchange) as i32)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn read_v6() -> i32 {
    let begun = with_message(|frame, exchange| i32::from(v6::begin(frame, exchange)));
    if begun != 0 && lease::read_options(v6::MAX_OPTIONS, || next_v6()) {
        with_message(|_, exchange| {
            v6::finish(exchange);
            0
        });
    }
    0
}

/// One option.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn next_v6() -> i32 {
    with_message(|frame, exchange| v6::next(frame, exchange) as i32)
}

#[inline(always)]
fn with_message(read: impl FnOnce(Copied<'_>, &mut Exchange) -> i32) -> i32 {
    let Some(scratch) = MESSAGE.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own, and no program of ours interrupts another here.
    let scratch = unsafe { &mut *scratch };
    read(Copied::new(&scratch.frame, scratch.length as usize), &mut scratch.exchange)
}
