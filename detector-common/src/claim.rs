//! What one frame asserts, as sightings and events carry it.

use crate::{
    addr::{Address, Mac},
    layout,
};

/// Which kind of source address a claim holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// None was read: the frame carries none, or was refused before it came to that.
    #[default]
    None = 0,
    V4 = 4,
    V6 = 6,
}

impl Family {
    pub const fn from_code(code: u8) -> Self {
        match code {
            4 => Self::V4,
            6 => Self::V6,
            _ => Self::None,
        }
    }
}

/// A claim in a map or an event: as much of it as had been read when the verdict fell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ClaimRecord {
    /// The claimed source address; IPv4 is IPv4-mapped.
    pub address: Address,
    /// The Ethernet source.
    pub mac: Mac,
    /// VLAN id, 0 for untagged and priority-tagged frames.
    pub vlan: u16,
    /// The EtherType behind all tags.
    pub ethertype: u16,
    /// A [`Family`] code.
    pub family: u8,
    /// A [`Reason`](crate::reason::Reason) code.
    pub reason: u8,
    pub pad: [u8; 4],
}

layout!(
    ClaimRecord, size 32,
    address @ 0, mac @ 16, vlan @ 22, ethertype @ 24, family @ 26, reason @ 27, pad @ 28,
);

impl ClaimRecord {
    /// The whole record, for comparison and hashing in few steps.
    #[inline(always)]
    pub fn words(&self) -> [u64; 4] {
        // SAFETY: the sizes are equal, the record has no padding, and it is aligned as its address is.
        unsafe { *core::ptr::from_ref(self).cast() }
    }
}
