//! Ethernet II with up to two VLAN tags.

use super::{Claim, Reach};
use crate::{addr::Station, frame::Frame, reason::Reason};

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

impl MetaTag {
    /// A tag of this type (host order) and content. One that names a VLAN otherwise than as 802.1Q gets
    /// the reserved VLAN id (IEEE 802.1Q, table 9-2), which nobody is granted.
    #[inline(always)]
    pub const fn of(protocol: u16, tci: u16) -> Self {
        let foreign = protocol != DOT1Q && tci & VID_MASK != 0;
        Self { present: true, tci: if foreign { VID_MASK } else { tci } }
    }

    /// The VLAN that it names; 0 for none.
    #[inline(always)]
    pub const fn vlan(self) -> u16 {
        if self.present { self.tci & VID_MASK } else { 0 }
    }
}

impl Claim {
    /// Reads the source MAC and the VLAN of the tag in metadata, and nothing that follows.
    #[inline(always)]
    pub fn read_station(&mut self, frame: Frame<'_>, tag: MetaTag) -> Result<(), Reason> {
        self.read_header(frame, tag).map(|_| ())
    }

    /// The same; returns the destination.
    #[inline(always)]
    fn read_header(&mut self, frame: Frame<'_>, tag: MetaTag) -> Result<Station, Reason> {
        let header = frame.window::<14>(0).ok_or(Reason::Truncated)?;
        self.station = header.mac::<6>().on_vlan(tag.vlan());
        self.ethertype = header.u16::<12>();
        Ok(header.mac::<0>())
    }
}

/// Reads addresses, tags and EtherType; returns the offset of the payload. At most two tags are read,
/// and only the outermost may name a VLAN, as 802.1Q: a bridge takes a frame with any other tag in
/// front for an untagged one.
#[inline(always)]
pub(super) fn parse<R: Reach>(
    frame: Frame<'_>,
    tag: MetaTag,
    claim: &mut Claim,
) -> Result<usize, Reason> {
    let destination = claim.read_header(frame, tag)?;
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
    let first = frame.window::<4>(14).ok_or(Reason::Truncated)?;
    let vlan = first.u16::<0>() & VID_MASK;
    if vlan != 0 {
        if tag.present || claim.ethertype != DOT1Q {
            return Err(Reason::VlanTags);
        }
        claim.station = claim.station.on_vlan(vlan);
    }
    claim.ethertype = first.u16::<2>();
    if !is_tag(claim.ethertype) {
        return Ok(18);
    }
    if tag.present {
        return Err(Reason::VlanTags);
    }
    let second = frame.window::<4>(18).ok_or(Reason::Truncated)?;
    claim.ethertype = second.u16::<2>();
    if second.u16::<0>() & VID_MASK != 0 || is_tag(claim.ethertype) {
        return Err(Reason::VlanTags);
    }
    Ok(22)
}

const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, DOT1Q | DOT1AD | 0x9100 | 0x9200)
}
