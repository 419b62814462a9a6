//! As much of a DHCP client as a guest needs to get its address (RFC 2131).

use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use detector_guest::{Mac, udp};

use crate::nic::Nic;

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;

const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
const CLIENT: u16 = 68;
const SERVER: u16 = 67;

/// Where the options begin, in the message and in the frame.
const OPTIONS: usize = 240;
const HEADERS: usize = 42;

/// What a server has leased, and the MAC that it was sent from.
pub(crate) struct Lease {
    pub(crate) address: Ipv4Addr,
    pub(crate) server: Mac,
}

/// Asks until a server leases an address.
pub(crate) fn lease(nic: &mut Nic) -> io::Result<Lease> {
    loop {
        nic.send(&message(nic.mac(), DISCOVER, None))?;
        let Some(offer) = answer(nic, OFFER)? else { continue };
        nic.send(&message(nic.mac(), REQUEST, Some(&offer)))?;
        if let Some(lease) = answer(nic, ACK)? {
            return Ok(Lease { address: lease.address, server: lease.mac });
        }
    }
}

struct Answer {
    address: Ipv4Addr,
    /// The server's identifier (option 54).
    identifier: [u8; 4],
    mac: Mac,
}

fn message(mac: Mac, kind: u8, offer: Option<&Answer>) -> Vec<u8> {
    let mut message = vec![0; OPTIONS];
    // A request, Ethernet, six bytes of address; the answer is to be broadcast.
    message[..3].copy_from_slice(&[1, 1, 6]);
    message[4..8].copy_from_slice(&mac[2..]);
    message[10] = 0x80;
    message[28..34].copy_from_slice(&mac);
    message[236..].copy_from_slice(&COOKIE);
    message.extend([53, 1, kind]);
    if let Some(offer) = offer {
        message.extend([50, 4]);
        message.extend(offer.address.octets());
        message.extend([54, 4]);
        message.extend(offer.identifier);
    }
    message.push(255);
    udp((mac, Ipv4Addr::UNSPECIFIED, CLIENT), ([0xff; 6], Ipv4Addr::BROADCAST, SERVER), &message)
}

/// Waits a moment for an answer of that kind.
fn answer(nic: &mut Nic, kind: u8) -> io::Result<Option<Answer>> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        let mac = nic.mac();
        let Some(frame) = nic.receive(Duration::from_millis(200))? else { continue };
        if let Some(answer) = parse(&frame, mac, kind) {
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

/// Frames of a lab are well-formed; what is not is somebody else's.
fn parse(frame: &[u8], mac: Mac, kind: u8) -> Option<Answer> {
    if frame.get(12..14)? != [8, 0] || frame.get(23)? != &17 || frame.get(36..38)? != [0, 68] {
        return None;
    }
    let message = frame.get(HEADERS..)?;
    if message.get(28..34)? != mac || message.get(236..240)? != COOKIE {
        return None;
    }
    let mut options = message.get(OPTIONS..)?;
    let (mut says, mut identifier) = (None, None);
    while let [code, length, rest @ ..] = options {
        let Some(value) = rest.get(..usize::from(*length)) else { break };
        match code {
            53 => says = value.first().copied(),
            54 => identifier = value.try_into().ok(),
            255 => break,
            _ => {}
        }
        options = &rest[value.len()..];
    }
    let yours: [u8; 4] = message.get(16..20)?.try_into().ok()?;
    (says == Some(kind)).then_some(())?;
    Some(Answer {
        address: yours.into(),
        identifier: identifier?,
        mac: frame.get(6..12)?.try_into().ok()?,
    })
}
