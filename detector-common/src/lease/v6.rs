//! DHCPv6: RFC 8415.

use super::{Act, Exchange, MAX_ADDRESSES, Reading};
use crate::{claim::Family, frame::Copied};

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
pub const MAX_OPTIONS: usize = 48;

/// Reads what lies before the options of the message that [`locate`](super::locate()) has found. False when it
/// is none that matters here.
#[inline(always)]
pub fn begin(frame: Copied<'_>, found: &mut Exchange) -> bool {
    let (at, end) = (found.at as usize, found.end as usize);
    if at + HEADER > end {
        return false;
    }
    let header = frame.window::<HEADER>(at);
    found.family = Family::V6 as u32;
    found.id = header.u32::<0>() & 0x00ff_ffff;
    found.kind = u32::from(header.u8::<0>());
    found.option = (at + HEADER) as u32;
    does(found) != Act::None
}

/// What the message does, of which every option has been read.
#[inline(always)]
pub fn finish(found: &mut Exchange) {
    let both = 1 << CLIENT_ID | 1 << SERVER_ID;
    if found.by_client != 0 || found.options & both == both {
        found.act = does(found) as u32;
    }
}

/// What a message of this kind does.
#[inline(always)]
fn does(found: &Exchange) -> Act {
    let by_client = found.by_client != 0;
    match found.kind as u8 {
        // What a CONFIRM asks is whether addresses fit the link, not whose they are.
        SOLICIT | REQUEST | RENEW | REBIND if by_client => Act::Asks,
        RELEASE | DECLINE if by_client => Act::GivesUp,
        REPLY if !by_client => Act::Leases,
        _ => Act::None,
    }
}

/// Reads the next option: of the message, or of an association, whose options lie within its own. Nothing comes
/// of a message where lengths contradict each other, or that has more addresses than are kept.
#[inline(always)]
pub fn next(frame: Copied<'_>, found: &mut Exchange) -> Reading {
    let (at, end) = (found.option as usize, found.end as usize);
    // Where the association ends that is being read; 0 outside of one.
    if found.limit == found.option {
        found.limit = 0;
    }
    let association = found.limit as usize;
    if at == end {
        return if association == 0 { Reading::Whole } else { Reading::Broken };
    }
    if at + OPTION > end {
        return Reading::Broken;
    }
    let option = frame.window::<28>(at);
    let code = option.u16::<0>();
    let next = at + OPTION + usize::from(option.u16::<2>());
    let limit = if association == 0 { end } else { association };
    if next > limit {
        return Reading::Broken;
    }
    let value = at + OPTION;
    found.option = next as u32;
    match code {
        CLIENT_ID | SERVER_ID if association == 0 => found.options |= 1_u32 << (code & 3),
        // Step in: behind the identifier, and the two times that IA_TA has not.
        IA_NA | IA_TA if association == 0 => {
            let inner = value + if code == IA_NA { 12 } else { 4 };
            if inner > next {
                return Reading::Broken;
            }
            found.option = inner as u32;
            found.limit = next as u32;
        }
        IA_ADDRESS if association != 0 => {
            if value + 24 > next || found.count as usize >= MAX_ADDRESSES {
                return Reading::Broken;
            }
            found.add(option.v6::<4>(), option.u32::<24>());
        }
        _ => {}
    }
    Reading::GoesOn
}
