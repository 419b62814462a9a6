//! What a DHCP or DHCPv6 message asks for and grants: RFC 2131, RFC 2132 and RFC 8415.
//!
//! A frame is read from a copy of its beginning, of which every length may lie. What is not read to
//! its end, or says one thing twice, teaches nothing.

mod locate;
mod v4;
mod v6;

#[cfg(test)]
mod tests;

use crate::{
    addr::{Address, Station},
    claim::Family,
    frame::forget,
};

pub use locate::may_be_dhcp;

/// The beginning of a frame that is read; a power of two. Servers send messages of at most 576 bytes
/// unless a client asks for more (RFC 2131, section 2).
pub const FRAME_BYTES: usize = 1024;

/// Addresses of one message that are read; a power of two. Clients ask for one or two.
pub const MAX_ADDRESSES: usize = 4;

/// A copy of the beginning of a frame.
#[derive(Clone, Copy)]
pub struct Bytes<'a> {
    bytes: &'a [u8; FRAME_BYTES],
    length: usize,
}

impl<'a> Bytes<'a> {
    /// The first `length` bytes are the frame's.
    #[inline(always)]
    pub const fn new(bytes: &'a [u8; FRAME_BYTES], length: usize) -> Self {
        Self { bytes, length }
    }

    /// See [`forget`].
    #[inline(always)]
    fn forget(self, value: usize) -> usize {
        forget(value, self.length)
    }

    #[inline(always)]
    fn u8(self, at: usize) -> u8 {
        self.bytes[at & (FRAME_BYTES - 1)]
    }

    #[inline(always)]
    fn u16(self, at: usize) -> u16 {
        u16::from_be_bytes([self.u8(at), self.u8(at + 1)])
    }

    #[inline(always)]
    fn u32(self, at: usize) -> u32 {
        u32::from(self.u16(at)) << 16 | u32::from(self.u16(at + 2))
    }

    /// Four bytes as they lie in memory.
    #[inline(always)]
    fn word(self, at: usize) -> u32 {
        self.u32(at).to_be()
    }

    #[inline(always)]
    fn address(self, at: usize) -> Address {
        let half = |at| (u64::from(self.u32(at)) << 32 | u64::from(self.u32(at + 4))).to_be();
        Address::from_words(half(at), half(at + 8))
    }

    #[inline(always)]
    fn station(self, at: usize) -> Station {
        let last = self.u16(at + 4).to_be();
        Station::from_parts(self.word(at), last)
    }
}

/// What a message does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Act {
    /// Nothing that matters here.
    #[default]
    None = 0,
    /// A client asks for a lease, or to prolong one.
    Asks = 1,
    /// A client gives addresses up.
    GivesUp = 2,
    /// A server leases addresses, or ends leases: those of no seconds.
    Leases = 3,
    /// A server refuses what the client wanted, which ends.
    Refuses = 4,
}

/// An address and how long it is leased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Lease {
    pub address: Address,
    pub seconds: u32,
    pub pad: u32,
}

/// What was read of a message. Plain fields that are always there, so that the kernel can keep it in
/// a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Exchange {
    pub leases: [Lease; MAX_ADDRESSES],
    /// The client: its hardware address as the message has it, or in DHCPv6, which has none, the
    /// other end's of the frame; on the VLAN of the frame.
    pub client: u64,
    /// The client's number of the transaction.
    pub id: u32,
    /// The IPv4 address that a client names; 0 for none.
    pub wanted: u32,
    /// How many of `leases` there are.
    pub count: u32,
    /// A [`Family`] code.
    pub family: u32,
    /// An [`Act`] code.
    pub act: u32,
    /// A bit for each option that was read.
    options: u32,
    /// The DHCP message type (option 53).
    kind: u32,
    /// Option 51.
    seconds: u32,
    /// Option 52.
    overload: u32,
    pad: u32,
}

const _: () = assert!(size_of::<Exchange>() == 144);

impl Exchange {
    pub const NOTHING: Self = Self {
        leases: [Lease { address: Address::UNSPECIFIED, seconds: 0, pad: 0 }; MAX_ADDRESSES],
        client: 0,
        id: 0,
        wanted: 0,
        count: 0,
        family: Family::None as u32,
        act: Act::None as u32,
        options: 0,
        kind: 0,
        seconds: 0,
        overload: 0,
        pad: 0,
    };

    pub const fn is(&self, act: Act) -> bool {
        self.act == act as u32
    }

    /// The lease of this number, if there is one.
    #[inline(always)]
    pub fn lease(&self, number: usize) -> Option<Lease> {
        if number < self.count as usize && number < MAX_ADDRESSES {
            Some(self.leases[number & (MAX_ADDRESSES - 1)])
        } else {
            None
        }
    }

    #[inline(always)]
    fn add(&mut self, address: Address, seconds: u32) {
        let at = self.count as usize & (MAX_ADDRESSES - 1);
        self.leases[at] = Lease { address, seconds, pad: 0 };
        self.count += 1;
    }
}

/// Reads the frame into `found`, which is [`Exchange::NOTHING`] before. `tag` is the VLAN that its
/// metadata names, 0 for none. What cannot be understood leaves no act.
#[inline(always)]
pub fn read(frame: Bytes<'_>, tag: u16, found: &mut Exchange) {
    let Some(datagram) = locate::locate(frame, tag) else { return };
    match (datagram.family, datagram.to) {
        (Family::V4, locate::SERVER) => v4::read(frame, datagram, true, found),
        (Family::V4, locate::CLIENT) => v4::read(frame, datagram, false, found),
        (Family::V6, locate::V6_SERVER) => v6::read(frame, datagram, true, found),
        (Family::V6, locate::V6_CLIENT) => v6::read(frame, datagram, false, found),
        _ => {}
    }
}
