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

use crate::{
    addr::{Address, Station},
    claim::{ClaimRecord, Family},
    frame::{Frame, Window},
    reason::Reason,
};

pub use ethernet::MetaTag;
pub use ipv4::is_nobodys as is_nobodys_v4;

/// Numbers of protocols above IPv4 and IPv6 that one glance tells apart.
mod protocol {
    pub(super) const TCP: u8 = 6;
    pub(super) const UDP: u8 = 17;
    /// Routers of multicast speak it (RFC 7761); snooping bridges take its sender for one.
    pub(super) const PIM: u8 = 103;
    pub(super) const VRRP: u8 = 112;

    /// The role that speaking a protocol takes, as a bit of [`crate::port::flags`].
    #[inline(always)]
    pub(super) const fn role(protocol: u8) -> u32 {
        match protocol {
            PIM => crate::port::flags::ROUTER,
            VRRP => crate::port::flags::VRRP,
            _ => 0,
        }
    }
}

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
    /// The Ethernet source, on the VLAN of the frame.
    pub station: Station,
    /// The EtherType behind all tags; 0 as long as none was read.
    pub ethertype: u16,
    /// Which kind of source address the frame claims to come from; none where none is needed: an ARP
    /// probe, duplicate address detection, a DHCP discover.
    pub family: Family,
    pub source: Address,
    /// An address that the frame asserts besides its source, the target of a neighbour
    /// advertisement or of duplicate address detection; unspecified where there is none.
    pub target: Address,
    /// Bits [`DHCP_SERVER`](crate::port::flags::DHCP_SERVER),
    /// [`DHCP_CLIENT`](crate::port::flags::DHCP_CLIENT),
    /// [`ROUTER`](crate::port::flags::ROUTER) and [`VRRP`](crate::port::flags::VRRP): the roles that
    /// the sender plays.
    pub roles: u32,
}

impl Claim {
    /// The claim as maps and events keep it.
    #[inline(always)]
    pub fn record(&self, reason: Reason) -> ClaimRecord {
        let refused_target = matches!(reason, Reason::NdTarget);
        let address = if refused_target { self.target } else { self.source };
        let family = if refused_target { Family::V6 } else { self.family };
        ClaimRecord::new(address, self.station, self.ethertype, family, reason)
    }

    #[inline(always)]
    fn set_v4(&mut self, source: u32) {
        self.family = Family::V4;
        self.source = Address::mapped_word(source);
    }

    #[inline(always)]
    fn set_v6(&mut self, source: Address) {
        self.family = Family::V6;
        self.source = source;
    }
}

/// How far the parser goes, and what becomes of a claim. There is one parser; the kernel compiles it
/// twice.
pub trait Reach {
    /// Whether everything is read. If not, the parser reads what nearly every frame consists of: at
    /// most the tag in metadata, then ARP, or IPv4 without options, or IPv6 without extension
    /// headers, and nothing above that asserts more. A claim is then the one that [`Whole`] reads; an
    /// error says only that [`Whole`] must be asked.
    const WHOLE: bool;
    /// What follows from a claim.
    type Verdict;

    /// What follows from a claim that has been read. Each protocol has this code for itself, where
    /// the compiler knows what kind of claim it can be.
    fn accept(&self, claim: &Claim) -> Self::Verdict;
}

/// Reads everything that can assert an identity. An error is the reason for which the frame is
/// dropped whatever is granted.
pub struct Whole;

impl Reach for Whole {
    const WHOLE: bool = true;
    type Verdict = ();

    #[inline(always)]
    fn accept(&self, _: &Claim) {}
}

/// The error of a short reach where [`Whole`] reads on; nobody sees it.
const ASK_WHOLE: Reason = Reason::Truncated;

/// A window at an offset that is a constant to the compiler unless everything is read.
#[inline(always)]
fn window<R: Reach, const N: usize>(frame: Frame<'_>, at: usize) -> Option<Window<'_, N>> {
    if R::WHOLE { frame.window_behind(at) } else { frame.window(at) }
}

/// Reads what `frame` asserts into `claim`, as far as it can be read.
#[inline(always)]
pub fn parse<R: Reach>(
    frame: Frame<'_>,
    tag: MetaTag,
    claim: &mut Claim,
    reach: &R,
) -> Result<R::Verdict, Reason> {
    let mut payload = ethernet::parse::<R>(frame, tag, claim)?;
    if R::WHOLE {
        payload = frame.forget(payload);
    }
    match claim.ethertype {
        ethertype::IPV4 => {
            ipv4::parse::<R>(frame, payload, claim)?;
            Ok(reach.accept(claim))
        }
        ethertype::IPV6 => {
            ipv6::parse::<R>(frame, payload, claim)?;
            Ok(reach.accept(claim))
        }
        ethertype::ARP => {
            arp::parse(frame, payload, claim)?;
            Ok(reach.accept(claim))
        }
        _ if !R::WHOLE => Err(ASK_WHOLE),
        ethertype::RARP => {
            arp::parse_reverse(frame, payload, claim)?;
            Ok(reach.accept(claim))
        }
        _ => Err(Reason::EtherTypeUnknown),
    }
}

#[cfg(test)]
mod tests;
