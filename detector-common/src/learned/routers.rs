//! Routers that somebody who is trusted has named: a DHCP server to its client, or a router itself. Nobody may
//! learn their addresses for as long, but who plays the router.
//!
//! They are entries of `ADDRESS_OWNERS` like what the daemon protects, with an end. Each network, a bridge
//! and VLAN, has so many places in `ROUTERS`, and each place stands for at most one entry, so that servers
//! that name ever others cannot fill the table.

use super::{Origin, Owner, OwnerKey, Table, is_learnable};
use crate::{
    addr::Address,
    frame::{forget, opaque},
    layout,
    port::{PortSlot, flags},
};

/// Routers of a network that are protected at a time.
pub const ROUTERS_PER_NETWORK: u16 = 8;
/// How long a router that advertises itself is protected at the least: it does so again within half an
/// hour (RFC 4861, section 6.2.1), also one that is nobody's default.
pub const ADVERTISED_SECONDS: u32 = 1800;

/// Key of `ROUTERS`: a place of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct RouterKey {
    /// As in [`OwnerKey`].
    pub scope: u32,
    pub vlan: u16,
    /// Below [`ROUTERS_PER_NETWORK`].
    pub number: u16,
}

layout!(RouterKey, size 8, scope @ 0, vlan @ 4, number @ 6);

/// Value of `ROUTERS`: the address that the place stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Router {
    pub address: Address,
}

layout!(Router, size 16, address @ 0);

/// A router has been named that has this address, until then. What is leased to somebody, or held by a
/// port that `plays` the router, by its interface, stays with it; what somebody has only claimed does not.
#[inline(always)]
pub fn protect<T: Table>(
    table: &mut T,
    key: &OwnerKey,
    now: u64,
    expires: u64,
    plays: impl FnOnce(u32) -> bool,
) {
    if expires <= now || !is_learnable(key.address) {
        return;
    }
    if let Some(known) = table.owner(key) {
        let owner = known.get();
        let lasts = owner.expires > now;
        if lasts && owner.is_protected() {
            // What the daemon protects never ends.
            if owner.expires < expires {
                known.prolong(expires);
            }
            return;
        }
        if lasts && (Origin::is_lease(owner.origin) || plays(owner.ifindex)) {
            return;
        }
    }
    let number = place(table, key, now);
    if number >= ROUTERS_PER_NETWORK {
        return;
    }
    // What no place stands for would be bounded by nothing.
    if !table.put_router(&at(key, number), &Router { address: key.address }) {
        return;
    }
    table.remove(key);
    let owner = Owner { expires, since: now, origin: Origin::Router as u32, ..Owner::PROTECTED };
    // Whoever was faster has named the same.
    let _ = table.insert(key, &owner);
}

/// Whether an address that somebody has named as a router's may become the port's all the same.
#[inline(always)]
pub(super) const fn gives_way(owner: &Owner, slot: &PortSlot) -> bool {
    owner.origin == Origin::Router as u32 && slot.has(flags::ROUTES)
}

const fn at(key: &OwnerKey, number: u16) -> RouterKey {
    RouterKey { scope: key.scope, vlan: key.vlan, number }
}

/// A place for the address: its own from before, or one that stands for none any more, which is cleared;
/// otherwise [`ROUTERS_PER_NETWORK`].
#[inline(always)]
fn place(table: &mut impl Table, key: &OwnerKey, now: u64) -> u16 {
    let [high, low] = key.address.words();
    let mut free = ROUTERS_PER_NETWORK as usize;
    let mut left = opaque(ROUTERS_PER_NETWORK as usize);
    while left > 0 {
        left -= 1;
        free = forget(free, now as usize);
        let Some(router) = table.router(&at(key, left as u16)) else {
            free = left;
            continue;
        };
        let address = router.get().address;
        let [other_high, other_low] = address.words();
        if (high ^ other_high) | (low ^ other_low) == 0 {
            return left as u16;
        }
        if is_free(table, &OwnerKey { address, ..*key }, now) {
            free = left;
        }
    }
    free as u16
}

#[inline(always)]
fn is_free(table: &mut impl Table, key: &OwnerKey, now: u64) -> bool {
    let Some(owner) = table.owner(key) else { return true };
    let owner = owner.get();
    if owner.origin != Origin::Router as u32 {
        return true;
    }
    let over = owner.expires <= now;
    if over {
        table.remove(key);
    }
    over
}

#[cfg(test)]
mod tests;
