//! A device that macvtaps of guests are on. The host speaks by it too, and other programs know no frame of
//! its by the stamp: nothing is judged but what bears on the macvtaps.

use detector_common::{
    gate::Vetting,
    parse::Claim,
    port::{GrantKey, flags},
    reason::Reason,
    verdict::Grants,
};

use super::gate::{is_of_local_guest, refuse, settle};
use crate::{
    Outcome,
    lookup::{self, MapGrants},
    skb::Skb,
    stamp,
};

/// Frames from outside: those that come under the MAC of a guest on this host are nobody's.
#[inline(always)]
pub(crate) fn ingress(skb: &Skb) -> Outcome {
    let mut claim = Claim::default();
    match claim.read_station(skb.frame(), skb.tag()) {
        // In bridge mode the kernel hands a neighbour's unicast in here: that one's guard has stamped it.
        Ok(()) if !is_from_guest(skb) && is_of_local_guest(skb, &claim) => {
            refuse(skb, &claim, Reason::MacOfLocalGuest)
        }
        _ => Outcome::Next,
    }
}

/// Frames that leave the host by a device out of which only known senders speak: guests whose guard has
/// stamped what they send, and those that the daemon knows by their MAC. Until they are listed all do.
#[inline(always)]
pub(crate) fn egress(skb: &Skb) -> Outcome {
    if is_from_guest(skb) {
        stamp::clear(skb);
        return Outcome::Next;
    }
    let Some(slot) = lookup::port(skb.ifindex()) else { return Outcome::Next };
    if !slot.has(flags::MORE_GRANTS) {
        return Outcome::Next;
    }
    let Some(header) = skb.frame().window::<14>(0) else {
        return settle(skb, Reason::Unvetted);
    };
    let key = GrantKey {
        ifindex: slot.ifindex,
        instance: slot.instance,
        mac: header.mac::<6>().mac(),
        vlan: 0,
        address: [0; 16],
    };
    let known = MapGrants.grant(&key).is_some();
    settle(skb, if known { Reason::HostOwn } else { Reason::Unvetted })
}

/// Whether the guard of a macvtap has let the frame go on.
#[inline(always)]
fn is_from_guest(skb: &Skb) -> bool {
    !matches!(stamp::read(skb), Vetting::Unvetted)
}
