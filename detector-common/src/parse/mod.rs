//! From frame to claim.
//!
//! What is not fully understood is refused with a reason: a claim that is `Ok` has been read in
//! every layer that can assert an identity.

mod arp;
mod dhcp;
mod ethernet;
mod ipv4;
mod ipv6;
mod nd;

use crate::{addr::Mac, claim::ClaimRecord, claim::Family, frame::Frame, reason::Reason};

pub use ethernet::MetaTag;

/// EtherTypes that are understood.
pub mod ethertype {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const RARP: u16 = 0x8035;
    pub const IPV6: u16 = 0x86dd;
}

/// What a frame asserts about its sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    pub mac: Mac,
    /// VLAN id; 0 for untagged and priority-tagged frames.
    pub vlan: u16,
    /// The EtherType behind all tags; 0 as long as none was read.
    pub ethertype: u16,
    pub source: Source,
    /// An address that the frame asserts besides its source: the target of a neighbour
    /// advertisement or of duplicate address detection.
    pub target: Option<[u8; 16]>,
    /// Bits [`DHCP_SERVER`](crate::port::flags::DHCP_SERVER) and
    /// [`ROUTER`](crate::port::flags::ROUTER): the roles that the sender plays.
    pub roles: u32,
}

/// The protocol address that a frame claims to come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// None, where none is needed: an ARP probe, duplicate address detection, a DHCP discover.
    #[default]
    None,
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Claim {
    /// The claim as maps and events keep it.
    #[inline(always)]
    pub fn record(&self, reason: Reason) -> ClaimRecord {
        let (family, address) = match (self.source, self.target, reason) {
            (_, Some(target), Reason::NdTarget) => (Family::V6, target),
            (Source::None, _, _) => (Family::None, [0; 16]),
            (Source::V4(v4), _, _) => (Family::V4, crate::addr::mapped(v4)),
            (Source::V6(v6), _, _) => (Family::V6, v6),
        };
        ClaimRecord {
            address,
            mac: self.mac,
            vlan: self.vlan,
            ethertype: self.ethertype,
            family: family as u8,
            reason: reason as u8,
        }
    }
}

/// Reads what `frame` asserts into `claim`, as far as it can be read. An error is the reason for
/// which the frame is dropped whatever is granted.
#[inline(always)]
pub fn parse(frame: Frame<'_>, tag: MetaTag, claim: &mut Claim) -> Result<(), Reason> {
    let payload = ethernet::parse(frame, tag, claim)?;
    match claim.ethertype {
        ethertype::IPV4 => ipv4::parse(frame, payload, claim),
        ethertype::IPV6 => ipv6::parse(frame, payload, claim),
        ethertype::ARP => arp::parse(frame, payload, claim),
        ethertype::RARP => arp::parse_reverse(frame, payload, claim),
        _ => Err(Reason::EtherTypeUnknown),
    }
}

#[cfg(test)]
mod tests;
