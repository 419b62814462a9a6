//! What one frame asserts, as sightings and events carry it.

use crate::{
    addr::{Address, Mac, Station},
    layout,
    reason::Reason,
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
    #[inline(always)]
    pub fn new(
        address: Address,
        station: Station,
        ethertype: u16,
        family: Family,
        reason: Reason,
    ) -> Self {
        let [high, low] = address.words();
        let rest = u64::from(ethertype) | (family as u64) << 16 | (reason as u64) << 24;
        // SAFETY: the sizes are equal, and every bit pattern is a record (MapData).
        unsafe { core::mem::transmute([high, low, station.word(), rest]) }
    }

    /// The whole record, for comparison and hashing in few steps.
    #[inline(always)]
    pub fn words(&self) -> [u64; 4] {
        // SAFETY: the sizes are equal, and the record has no padding.
        unsafe { core::mem::transmute(*self) }
    }

    /// A number below 2^`BITS` that differs for most claims that differ anywhere: it is the top bits
    /// of a product, which depend on all that went into it.
    #[inline(always)]
    pub fn spread<const BITS: u32>(&self) -> u32 {
        let mut hash = 0_u64;
        for word in self.words() {
            hash = (hash.rotate_left(27) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        (hash >> (64 - BITS)) as u32
    }

    /// Whether two records are equal, without a call.
    #[inline(always)]
    pub fn same(&self, other: &Self) -> bool {
        let ([a, b, c, d], [e, f, g, h]) = (self.words(), other.words());
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_laid_out_as_its_words() {
        let mac = Mac([1, 2, 3, 4, 5, 6]);
        let record = ClaimRecord::new(
            Address::mapped([192, 0, 2, 1]),
            Station::new(mac, 9),
            0x0800,
            Family::V4,
            Reason::Ipv4Source,
        );
        assert_eq!(record.address, Address::mapped([192, 0, 2, 1]));
        assert_eq!((record.mac, record.vlan, record.ethertype), (mac, 9, 0x0800));
        assert_eq!((record.family, record.reason, record.pad), (4, 29, [0; 4]));
        assert!(record.same(&record));
        assert!(!record.same(&ClaimRecord { vlan: 8, ..record }));
    }

    /// A port's sightings must not crowd each other out because they differ in one field only.
    #[test]
    fn claims_that_differ_in_one_field_are_spread() {
        let base = ClaimRecord {
            address: Address::mapped([192, 0, 2, 1]),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            ethertype: 0x0800,
            family: Family::V4 as u8,
            ..ClaimRecord::default()
        };
        type Change = fn(&mut ClaimRecord, u8);
        let fields: [(&str, Change); 6] = [
            ("reason", |record, n| record.reason = n),
            ("family", |record, n| record.family = n),
            ("ethertype", |record, n| record.ethertype = 0x0800 + u16::from(n)),
            ("vlan", |record, n| record.vlan = u16::from(n)),
            ("mac", |record, n| record.mac.0[5] = n),
            ("address", |record, n| record.address = Address::mapped([192, 0, 2, n])),
        ];
        for (name, set) in fields {
            let places: std::collections::BTreeSet<_> = (0..64)
                .map(|n| {
                    let mut record = base;
                    set(&mut record, n);
                    record.spread::<4>()
                })
                .collect();
            assert!(places.len() >= 12, "{name}: {places:?}");
        }
    }
}
