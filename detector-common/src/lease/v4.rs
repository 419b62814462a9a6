//! DHCP: RFC 2131 and the options of RFC 2132.

use super::{Act, Exchange, Reading};
use crate::{
    addr::{Address, Station},
    claim::Family,
    frame::Copied,
};

const BOOT_REQUEST: u8 = 1;
const BOOT_REPLY: u8 = 2;
const MAGIC: u32 = 0x6382_5363;
/// Length of the fixed part with the magic cookie.
const FIXED: usize = 240;
/// The fields that options may overflow into.
const SNAME: (u32, u32) = (44, 108);
const FILE: (u32, u32) = (108, 236);
/// Options that are read, pads included.
pub const MAX_OPTIONS: usize = 80;

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

/// Reads what lies before the options of the message that [`locate`](super::locate()) has found. False when it
/// is not one of DHCP.
#[inline(always)]
pub fn begin(frame: Copied<'_>, found: &mut Exchange) -> bool {
    let (at, end) = (found.at as usize, found.end as usize);
    if at + FIXED > end {
        return false;
    }
    let first = frame.window::<34>(at);
    let operation = if found.by_client != 0 { BOOT_REQUEST } else { BOOT_REPLY };
    let ethernet = first.u16::<1>() == 0x0106;
    let magic = frame.window::<4>(at + FIXED - 4).u32::<0>();
    if first.u8::<0>() != operation || !ethernet || magic != MAGIC {
        return false;
    }
    found.family = Family::V4 as u32;
    found.id = first.u32::<4>();
    let vlan = Station::from_word(found.client).vlan();
    found.client = first.mac::<28>().on_vlan(vlan).word();
    found.option = (at + FIXED) as u32;
    found.limit = end as u32;
    found.in_message = 1;
    true
}

/// What the message does, of which every option has been read.
#[inline(always)]
pub fn finish(frame: Copied<'_>, found: &mut Exchange) {
    let by_client = found.by_client != 0;
    let first = frame.window::<20>(found.at as usize);
    let (current, yours) = (first.v4::<12>(), first.v4::<16>());
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
    let asks = said.family == Family::V4 as u32 && said.is(Act::Asks) && said.kind == REQUEST;
    if asks && said.options & named == 0 { said.wanted } else { 0 }
}

/// Reads the next option, in the message's own field or in one that it overflows into. Nothing comes of a
/// message whose options do not end as they should, or of which one that matters comes twice.
#[inline(always)]
pub fn next(frame: Copied<'_>, found: &mut Exchange) -> Reading {
    let (at, end) = (found.option as usize, found.limit as usize);
    let option = frame.window::<6>(at);
    let code = if at < end { option.u8::<0>() } else { END };
    if code == PAD {
        found.option += 1;
        return Reading::GoesOn;
    }
    if code == END {
        return next_field(found);
    }
    if at + 2 > end {
        return Reading::Broken;
    }
    let length = usize::from(option.u8::<1>());
    if at + 2 + length > end {
        return Reading::Broken;
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
            return Reading::Broken;
        }
        found.options |= bit;
        match code {
            MESSAGE_TYPE => found.kind = u32::from(option.u8::<2>()),
            // Only the message's own field says which others there are.
            OVERLOAD if found.in_message == 1 => found.overload = u32::from(option.u8::<2>()),
            LEASE_TIME => found.seconds = option.u32::<2>(),
            REQUESTED_ADDRESS => found.wanted = option.v4::<2>(),
            _ => {}
        }
    }
    found.option = (at + 2 + length) as u32;
    Reading::GoesOn
}

/// Goes on to the next field that has options: what the overload option says (RFC 2132, section 9.3).
#[inline(always)]
fn next_field(found: &mut Exchange) -> Reading {
    if found.in_message == 1 {
        found.in_message = 0;
        found.fields = found.overload;
    }
    let (from, to) = if found.fields & 1 != 0 {
        found.fields &= !1;
        FILE
    } else if found.fields & 2 != 0 {
        found.fields &= !2;
        SNAME
    } else {
        return Reading::Whole;
    };
    found.option = found.at + from;
    found.limit = found.at + to;
    Reading::GoesOn
}
