//! Ethernet II with up to two VLAN tags.

use super::{Claim, Reach};
use crate::{frame::Frame, reason::Reason};

const DOT1Q: u16 = 0x8100;
const DOT1AD: u16 = 0x88a8;
const VID_MASK: u16 = 0x0fff;
/// Values of the type field from here on are EtherTypes; below are lengths of 802.3 frames.
const FIRST_ETHERTYPE: u16 = 0x0600;

/// The outermost tag, where the network stack has moved it from the frame into its metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetaTag {
    pub present: bool,
    /// Priority and VLAN id, as in the tag.
    pub tci: u16,
}

/// Reads addresses, tags and EtherType; returns the offset of the payload. At most two tags are
/// read, and at most one of them may name a VLAN: the same identity must not be expressible in more
/// ways than are compared.
#[inline(always)]
pub(super) fn parse<R: Reach>(
    frame: Frame<'_>,
    tag: MetaTag,
    claim: &mut Claim,
) -> Result<usize, Reason> {
    let header = frame.window::<14>(0).ok_or(Reason::Truncated)?;
    let destination = header.mac::<0>();
    let vlan = if tag.present { tag.tci & VID_MASK } else { 0 };
    claim.station = header.mac::<6>().on_vlan(vlan);
    claim.ethertype = header.u16::<12>();

    if !claim.station.is_valid_source() {
        return Err(Reason::SourceMacInvalid);
    }
    if destination.is_bridge_link_local() {
        return Err(Reason::LinkLocalDestination);
    }
    if !R::WHOLE {
        // A tag or a length is no EtherType that is read on.
        return Ok(14);
    }
    let payload = if is_tag(claim.ethertype) { skip_tags(frame, tag, claim)? } else { 14 };
    if claim.ethertype < FIRST_ETHERTYPE { Err(Reason::Llc) } else { Ok(payload) }
}

fn skip_tags(frame: Frame<'_>, tag: MetaTag, claim: &mut Claim) -> Result<usize, Reason> {
    let inner = frame.window::<4>(14).ok_or(Reason::Truncated)?;
    join_vlan(claim, inner.u16::<0>())?;
    claim.ethertype = inner.u16::<2>();
    if !is_tag(claim.ethertype) {
        return Ok(18);
    }
    if tag.present {
        return Err(Reason::VlanTags);
    }
    let innermost = frame.window::<4>(18).ok_or(Reason::Truncated)?;
    join_vlan(claim, innermost.u16::<0>())?;
    claim.ethertype = innermost.u16::<2>();
    if is_tag(claim.ethertype) { Err(Reason::VlanTags) } else { Ok(22) }
}

fn join_vlan(claim: &mut Claim, tci: u16) -> Result<(), Reason> {
    match (claim.station.vlan(), tci & VID_MASK) {
        (_, 0) => Ok(()),
        (0, vid) => {
            claim.station = claim.station.on_vlan(vid);
            Ok(())
        }
        _ => Err(Reason::VlanTags),
    }
}

const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, DOT1Q | DOT1AD | 0x9100 | 0x9200)
}
