//! What those who are quarantined may reach in the sandbox: whom a frame is for, or from, as a key of
//! `SERVICES`. Nothing is remembered from one frame to the next: what comes from a service's address and
//! port is taken for its answer.

use crate::{addr::Address, frame::Frame, layout, parse::ethertype};

const DOT1Q: u16 = 0x8100;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Of IPv4: more fragments, and the offset of this one.
const FRAGMENTED: u16 = 0x3fff;
/// The least that TCP, UDP and ICMP have, as far as it is read here.
const UPPER: usize = 8;

/// Key of `SERVICES`: an address, and what it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct Service {
    /// IPv4 is IPv4-mapped.
    pub address: Address,
    /// Port in the lower half, the protocol above it: one word, so that the kernel need not take it apart.
    what: u64,
}

layout!(Service, size 24, address @ 0, what @ 16);

/// What an address is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// Its link-layer address, by ARP or Neighbour Discovery.
    Neighbour,
    /// A port.
    Tcp(u16),
    Udp(u16),
    /// A type of message.
    Icmp(u8),
    IcmpV6(u8),
}

impl Service {
    pub const fn new(address: Address, asked: Asked) -> Self {
        match asked {
            Asked::Neighbour => Self::of(address, 0, 0),
            Asked::Tcp(port) => Self::of(address, TCP, port),
            Asked::Udp(port) => Self::of(address, UDP, port),
            Asked::Icmp(kind) => Self::of(address, ICMP, kind as u16),
            Asked::IcmpV6(kind) => Self::of(address, ICMPV6, kind as u16),
        }
    }

    /// What it is asked for; `None` of a key that this release does not write.
    pub const fn asked(self) -> Option<Asked> {
        let (port, low) = (self.what as u16, self.what as u8);
        match self.what >> 16 {
            0 if port == 0 => Some(Asked::Neighbour),
            6 => Some(Asked::Tcp(port)),
            17 => Some(Asked::Udp(port)),
            1 => Some(Asked::Icmp(low)),
            58 => Some(Asked::IcmpV6(low)),
            _ => None,
        }
    }

    /// The key as it is written down: the address, and what it is asked for as one number.
    pub const fn raw(self) -> ([u8; 16], u64) {
        (self.address.bytes(), self.what)
    }

    pub const fn from_raw(address: [u8; 16], what: u64) -> Self {
        Self { address: Address::from_bytes(address), what }
    }

    #[inline(always)]
    const fn of(address: Address, protocol: u8, port: u16) -> Self {
        Self { address, what: (protocol as u64) << 16 | port as u64 }
    }
}

/// Whom a frame from a guest is for (`outwards`), or whom one to a guest is from. `None` where that cannot
/// be told for certain: of fragments, behind IPv6 extension headers, of other protocols, and of what ends
/// too early.
#[inline(always)]
pub fn other_end(frame: Frame<'_>, outwards: bool) -> Option<Service> {
    let header = frame.window::<14>(0)?;
    let (mut kind, mut at) = (header.u16::<12>(), 14);
    if kind == DOT1Q {
        kind = frame.window::<4>(14)?.u16::<2>();
        at = 18;
    }
    // From here on one walk is enough for the verifier.
    at = frame.forget(at);
    match kind {
        ethertype::ARP => of_arp(frame, at, outwards),
        ethertype::IPV4 => of_v4(frame, at, outwards),
        ethertype::IPV6 => of_v6(frame, at, outwards),
        _ => None,
    }
}

#[inline(always)]
fn of_arp(frame: Frame<'_>, at: usize, outwards: bool) -> Option<Service> {
    let packet = frame.window_behind::<28>(at)?;
    let (hardware, lengths) = (packet.u16::<0>(), packet.u16::<4>());
    if hardware != 1 || packet.u16::<2>() != ethertype::IPV4 || lengths != 0x0604 {
        return None;
    }
    let word = if outwards { packet.v4::<24>() } else { packet.v4::<14>() };
    Some(Service::of(Address::mapped_word(word), 0, 0))
}

#[inline(always)]
fn of_v4(frame: Frame<'_>, at: usize, outwards: bool) -> Option<Service> {
    let header = frame.window_behind::<20>(at)?;
    let first = header.u8::<0>();
    let length = usize::from(first & 0x0f) * 4;
    let too_short = usize::from(header.u16::<2>()) < length + UPPER;
    if first >> 4 != 4 || length < 20 || too_short || header.u16::<6>() & FRAGMENTED != 0 {
        return None;
    }
    let word = if outwards { header.v4::<16>() } else { header.v4::<12>() };
    let protocol = header.u8::<9>();
    let upper = frame.window_behind::<UPPER>(frame.forget(at + length))?;
    let port = match protocol {
        TCP | UDP if outwards => upper.u16::<2>(),
        TCP | UDP => upper.u16::<0>(),
        ICMP => u16::from(upper.u8::<0>()),
        _ => return None,
    };
    Some(Service::of(Address::mapped_word(word), protocol, port))
}

#[inline(always)]
fn of_v6(frame: Frame<'_>, at: usize, outwards: bool) -> Option<Service> {
    let header = frame.window_behind::<40>(at)?;
    if header.u8::<0>() >> 4 != 6 || usize::from(header.u16::<4>()) < UPPER {
        return None;
    }
    let address = if outwards { header.v6::<24>() } else { header.v6::<8>() };
    let protocol = header.u8::<6>();
    let upper = frame.window_behind::<UPPER>(at + 40)?;
    let port = match protocol {
        TCP | UDP if outwards => upper.u16::<2>(),
        TCP | UDP => upper.u16::<0>(),
        ICMPV6 => match upper.u8::<0>() {
            NEIGHBOUR_SOLICITATION if outwards => return sought(frame, at, address),
            NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT => {
                return Some(Service::of(address, 0, 0));
            }
            kind => u16::from(kind),
        },
        _ => return None,
    };
    Some(Service::of(address, protocol, port))
}

/// Whose link-layer address is asked for. It is asked of itself, or of everybody who may be it.
#[inline(always)]
fn sought(frame: Frame<'_>, at: usize, to: Address) -> Option<Service> {
    let target = frame.window_behind::<24>(at + 40)?.v6::<8>();
    if to.is_v6_multicast() || to == target { Some(Service::of(target, 0, 0)) } else { None }
}

#[cfg(test)]
mod tests;
