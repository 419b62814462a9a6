//! DHCPv6: RFC 8415.

use super::{Act, Exchange, MAX_ADDRESSES};
use crate::{
    claim::Family,
    frame::{Copied, opaque},
};

const SOLICIT: u8 = 1;
const REQUEST: u8 = 3;
const RENEW: u8 = 5;
const REBIND: u8 = 6;
const REPLY: u8 = 7;
const RELEASE: u8 = 8;
const DECLINE: u8 = 9;

/// Kind and transaction.
const HEADER: usize = 4;
/// Code and length.
const OPTION: usize = 4;
const CLIENT_ID: u16 = 1;
const SERVER_ID: u16 = 2;
const IA_NA: u16 = 3;
const IA_TA: u16 = 4;
const IA_ADDRESS: u16 = 5;
/// Options that are read, those inside of others included.
const MAX_OPTIONS: usize = 48;

/// Reads the message that [`locate`](super::locate()) has found.
#[inline(always)]
pub fn read(frame: Copied<'_>, found: &mut Exchange) {
    let (at, end) = (found.at as usize, found.end as usize);
    let by_client = found.by_client != 0;
    if at + HEADER > end {
        return;
    }
    let header = frame.window::<HEADER>(at);
    found.family = Family::V6 as u32;
    found.id = header.u32::<0>() & 0x00ff_ffff;
    let act = match header.u8::<0>() {
        // What a CONFIRM asks is whether addresses fit the link, not whose they are.
        SOLICIT | REQUEST | RENEW | REBIND if by_client => Act::Asks,
        RELEASE | DECLINE if by_client => Act::GivesUp,
        REPLY if !by_client => Act::Leases,
        _ => return,
    };
    let whole = read_options(frame, at + HEADER, end, found);
    let both = 1 << CLIENT_ID | 1 << SERVER_ID;
    let complete = by_client || found.options & both == both;
    if whole && complete {
        found.act = act as u32;
    }
}

/// Reads the addresses of each association, whose options lie within its own. False when lengths
/// contradict each other, or there are more addresses than are kept.
#[inline(always)]
fn read_options(frame: Copied<'_>, at: usize, end: usize, found: &mut Exchange) -> bool {
    let mut at = at;
    // Where the association ends that is being read; 0 outside of one.
    let mut association = 0;
    let mut left = opaque(MAX_OPTIONS);
    while left > 0 {
        left -= 1;
        at = frame.forget(at);
        association = frame.forget(association);
        if at == association {
            association = 0;
        }
        if at == end {
            return association == 0;
        }
        if at + OPTION > end {
            return false;
        }
        let option = frame.window::<28>(at);
        let code = option.u16::<0>();
        let next = at + OPTION + usize::from(option.u16::<2>());
        let limit = if association == 0 { end } else { association };
        if next > limit {
            return false;
        }
        let value = at + OPTION;
        match code {
            CLIENT_ID | SERVER_ID if association == 0 => {
                found.options |= 1_u32 << (code & 3);
                at = next;
            }
            // Step in: behind the identifier, and the two times that IA_TA has not.
            IA_NA | IA_TA if association == 0 => {
                at = value + if code == IA_NA { 12 } else { 4 };
                if at > next {
                    return false;
                }
                association = next;
            }
            IA_ADDRESS if association != 0 => {
                if value + 24 > next || found.count as usize >= MAX_ADDRESSES {
                    return false;
                }
                found.add(option.v6::<4>(), option.u32::<24>());
                at = next;
            }
            _ => at = next,
        }
    }
    false
}
