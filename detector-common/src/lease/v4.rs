//! DHCP: RFC 2131 and the options of RFC 2132.

use super::{Act, Exchange};
use crate::{
    addr::{Address, Station},
    claim::Family,
    frame::{Copied, opaque},
};

const BOOT_REQUEST: u8 = 1;
const BOOT_REPLY: u8 = 2;
const MAGIC: u32 = 0x6382_5363;
/// Length of the fixed part with the magic cookie.
const FIXED: usize = 240;
/// The fields that options may overflow into.
const SNAME: (usize, usize) = (44, 108);
const FILE: (usize, usize) = (108, 236);
/// Options that are read, pads included.
const MAX_OPTIONS: usize = 80;

const PAD: u8 = 0;
const END: u8 = 255;
const ROUTERS: u8 = 3;
const CLASSLESS_ROUTES: u8 = 121;
const REQUESTED_ADDRESS: u8 = 50;
const LEASE_TIME: u8 = 51;
const OVERLOAD: u8 = 52;
const MESSAGE_TYPE: u8 = 53;
const SERVER_ID: u8 = 54;

const DISCOVER: u32 = 1;
const REQUEST: u32 = 3;
const DECLINE: u32 = 4;
const ACK: u32 = 5;
const NAK: u32 = 6;
const RELEASE: u32 = 7;

const fn bit(option: u8) -> u32 {
    1 << (option - REQUESTED_ADDRESS)
}

/// Reads the message that [`locate`](super::locate()) has found.
#[inline(always)]
pub fn read(frame: Copied<'_>, found: &mut Exchange) {
    let (at, end) = (found.at as usize, found.end as usize);
    let by_client = found.by_client != 0;
    if at + FIXED > end {
        return;
    }
    let first = frame.window::<34>(at);
    let operation = if by_client { BOOT_REQUEST } else { BOOT_REPLY };
    let ethernet = first.u16::<1>() == 0x0106;
    let magic = frame.window::<4>(at + FIXED - 4).u32::<0>();
    if first.u8::<0>() != operation || !ethernet || magic != MAGIC {
        return;
    }
    found.family = Family::V4 as u32;
    found.id = first.u32::<4>();
    let vlan = Station::from_word(found.client).vlan();
    found.client = first.mac::<28>().on_vlan(vlan).word();
    let (current, yours) = (first.v4::<12>(), first.v4::<16>());
    if !read_options(frame, at, end, found) {
        return;
    }
    let has = |option| found.options & bit(option) != 0;
    let kind = if has(MESSAGE_TYPE) { found.kind } else { 0 };
    let act = match kind {
        DISCOVER | REQUEST if by_client => {
            // Who renews names the address only here.
            if found.wanted == 0 {
                found.wanted = current;
            }
            Act::Asks
        }
        RELEASE if by_client => {
            found.add(Address::mapped_word(current), 0);
            Act::GivesUp
        }
        DECLINE if by_client => {
            found.add(Address::mapped_word(found.wanted), 0);
            Act::GivesUp
        }
        // The answer to an INFORM has neither an address nor a lease time.
        ACK if !by_client && has(SERVER_ID) && has(LEASE_TIME) && yours != 0 => {
            let seconds = found.seconds;
            found.add(Address::mapped_word(yours), seconds);
            Act::Leases
        }
        NAK if !by_client && has(SERVER_ID) => Act::Refuses,
        _ => Act::None,
    };
    found.act = act as u32;
}

/// The address of which a client prolongs its lease, speaking under it (RFC 2131, section 4.3.2: RENEWING and
/// REBINDING). Such a message names it in `ciaddr` only, and no server. 0 for any other message.
#[inline(always)]
pub const fn renewed(said: &Exchange) -> u32 {
    let named = bit(REQUESTED_ADDRESS) | bit(SERVER_ID);
    if said.is(Act::Asks) && said.kind == REQUEST && said.options & named == 0 {
        said.wanted
    } else {
        0
    }
}

/// Reads the options, in the message's own field and in those that it overflows into. False when they
/// do not end as they should, or one that matters comes twice.
#[inline(always)]
fn read_options(frame: Copied<'_>, message: usize, end: usize, found: &mut Exchange) -> bool {
    let (mut at, mut end) = (message + FIXED, end);
    // The fields that are still to be read: what the overload option says (RFC 2132, section 9.3).
    let mut fields = 0;
    let mut in_message = 1;
    let mut left = opaque(MAX_OPTIONS);
    while left > 0 {
        left -= 1;
        at = frame.forget(at);
        end = frame.forget(end);
        fields = frame.forget(fields);
        in_message = frame.forget(in_message);
        let option = frame.window::<6>(at);
        let code = if at < end { option.u8::<0>() } else { END };
        if code == PAD {
            at += 1;
            continue;
        }
        if code == END {
            if in_message == 1 {
                in_message = 0;
                fields = found.overload as usize;
            }
            let (from, to) = if fields & 1 != 0 {
                fields &= !1;
                FILE
            } else if fields & 2 != 0 {
                fields &= !2;
                SNAME
            } else {
                return true;
            };
            at = message + from;
            end = message + to;
            continue;
        }
        if at + 2 > end {
            return false;
        }
        let length = usize::from(option.u8::<1>());
        if at + 2 + length > end {
            return false;
        }
        if code == ROUTERS && found.routers_bytes == 0 {
            (found.routers, found.routers_bytes) = ((at + 2) as u32, length as u32);
        }
        if code == CLASSLESS_ROUTES && found.routes_bytes == 0 {
            (found.routes, found.routes_bytes) = ((at + 2) as u32, length as u32);
        }
        if matches!(code, REQUESTED_ADDRESS..=SERVER_ID) {
            let bit = 1_u32 << ((code - REQUESTED_ADDRESS) & 7);
            let wanted = if matches!(code, OVERLOAD | MESSAGE_TYPE) { 1 } else { 4 };
            if found.options & bit != 0 || length != wanted {
                return false;
            }
            found.options |= bit;
            match code {
                MESSAGE_TYPE => found.kind = u32::from(option.u8::<2>()),
                // Only the message's own field says which others there are.
                OVERLOAD if in_message == 1 => found.overload = u32::from(option.u8::<2>()),
                LEASE_TIME => found.seconds = option.u32::<2>(),
                REQUESTED_ADDRESS => found.wanted = option.v4::<2>(),
                _ => {}
            }
        }
        at += 2 + length;
    }
    false
}
