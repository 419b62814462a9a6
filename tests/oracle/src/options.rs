//! The options of a DHCP message (RFC 2132), in their own field and in those that it overflows into. What
//! cannot be read to its end has none.

use std::net::Ipv4Addr;

const MAGIC: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
const OVERLOAD: u8 = 52;
/// Options that matter, and the lengths of their values.
const LENGTHS: [(u8, usize); 5] = [(50, 4), (51, 4), (OVERLOAD, 1), (53, 1), (54, 4)];
/// Options, pads and ends that are read.
const MOST: usize = 80;

pub(crate) type Options<'a> = Vec<(u8, &'a [u8])>;

/// The address of which a client prolongs its lease, which it may say from the address itself though
/// nobody has seen it leased: a request that names the address as its own, and neither a server nor another
/// address (RFC 2131, section 4.3.2).
pub(crate) fn renewed(message: &[u8]) -> Option<Ipv4Addr> {
    if message.len() < 240 || message[..3] != [1, 1, 6] || message[236..240] != MAGIC {
        return None;
    }
    let all = of(message)?;
    let options = that_matter(&all)?;
    let value = |wanted| options.iter().find(|(code, _)| *code == wanted).map(|(_, value)| *value);
    let asks = value(53) == Some(&[3]) && value(50).is_none() && value(54).is_none();
    let own = Ipv4Addr::new(message[12], message[13], message[14], message[15]);
    (asks && !own.is_unspecified()).then_some(own)
}

/// Those that matter; `None` where one comes twice, or has another length than it is defined with.
pub(crate) fn that_matter<'a>(all: &Options<'a>) -> Option<Options<'a>> {
    for (code, length) in LENGTHS {
        let values: Vec<_> = all.iter().filter(|(one, _)| *one == code).collect();
        if values.len() > 1 || values.iter().any(|(_, value)| value.len() != length) {
            return None;
        }
    }
    let matters = |(code, _): &&(u8, &[u8])| LENGTHS.iter().any(|(one, _)| one == code);
    Some(all.iter().filter(matters).copied().collect())
}

/// All options, in the order of RFC 2132, section 9.3.
pub(crate) fn of(message: &[u8]) -> Option<Options<'_>> {
    let mut found = Vec::new();
    let mut steps = 0;
    field(&message[240..], &mut found, &mut steps)?;
    let overload = found.iter().find(|(code, value)| *code == OVERLOAD && value.len() == 1);
    let overload = overload.map_or(0, |(_, value)| value[0]);
    if overload & 1 != 0 {
        field(&message[108..236], &mut found, &mut steps)?;
    }
    if overload & 2 != 0 {
        field(&message[44..108], &mut found, &mut steps)?;
    }
    Some(found)
}

fn field<'a>(bytes: &'a [u8], found: &mut Options<'a>, steps: &mut usize) -> Option<()> {
    let mut rest = bytes;
    loop {
        *steps += 1;
        if *steps > MOST {
            return None;
        }
        match rest {
            [] | [255, ..] => return Some(()),
            [0, after @ ..] => rest = after,
            [code, length, after @ ..] => {
                let (value, after) = after.split_at_checked(usize::from(*length))?;
                found.push((*code, value));
                rest = after;
            }
            [_] => return None,
        }
    }
}
