//! What a DHCP or DHCPv6 message asks for and grants: RFC 2131, RFC 2132 and RFC 8415.
//!
//! A frame is read from a copy of its beginning, of which every length may lie. What is not read to
//! its end, or says one thing twice, teaches nothing.

mod locate;
mod routers;
pub mod v4;
pub mod v6;

#[cfg(test)]
mod tests;

use crate::{
    addr::Address,
    claim::Family,
    frame::{Copied, opaque},
};

pub use locate::{locate, may_be_dhcp};
pub use routers::{Advertised, advertised, may_be_advertisement, routers};
pub use v4::renewed;

/// Addresses of one message that are read; a power of two. Clients ask for one or two.
pub const MAX_ADDRESSES: usize = 4;

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
    /// The message's type: option 53 of DHCP, the first byte of DHCPv6.
    kind: u32,
    /// Option 51.
    seconds: u32,
    /// Option 52.
    overload: u32,
    /// Where the message begins.
    at: u32,
    /// Where it ends.
    end: u32,
    /// 1 when it goes to a server.
    by_client: u32,
    /// Where the option that lists routers has its value, and how many bytes that is.
    routers: u32,
    routers_bytes: u32,
    /// The same of the option that lists routes.
    routes: u32,
    routes_bytes: u32,
    /// Where the next option begins.
    option: u32,
    /// Where the field ends that is being read; in DHCPv6 the association, 0 outside of one.
    limit: u32,
    /// The fields that are still to be read, as option 52 has them.
    fields: u32,
    /// 1 in the message's own field.
    in_message: u32,
}

const _: () = assert!(size_of::<Exchange>() == 184);

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
        at: 0,
        end: 0,
        by_client: 0,
        routers: 0,
        routers_bytes: 0,
        routes: 0,
        routes_bytes: 0,
        option: 0,
        limit: 0,
        fields: 0,
        in_message: 0,
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

/// What has come of reading one more option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Reading {
    GoesOn = 0,
    /// The message was read to its end.
    Whole = 1,
    /// It teaches nothing.
    Broken = 2,
}

/// Reads options by `next`, which returns a [`Reading`] code, at most so many. Whether the message was read to
/// its end.
#[inline(always)]
pub fn read_options(most: usize, mut next: impl FnMut() -> i32) -> bool {
    let mut left = opaque(most);
    while left > 0 {
        left -= 1;
        let reading = next();
        if reading != Reading::GoesOn as i32 {
            return reading == Reading::Whole as i32;
        }
    }
    false
}

/// Reads the frame into `found`, which is [`Exchange::NOTHING`] before. `tag` is the VLAN that its
/// metadata names, 0 for none. What cannot be understood leaves no act.
pub fn read(frame: Copied<'_>, tag: u16, found: &mut Exchange) {
    match locate(frame, tag, found) {
        Family::V4 => {
            if v4::begin(frame, found)
                && read_options(v4::MAX_OPTIONS, || v4::next(frame, found) as i32)
            {
                v4::finish(frame, found);
            }
        }
        Family::V6 => {
            if v6::begin(frame, found)
                && read_options(v6::MAX_OPTIONS, || v6::next(frame, found) as i32)
            {
                v6::finish(found);
            }
        }
        Family::None => {}
    }
}
