//! The stamp by which the kernel programs recognise a frame that one of them has vetted.

use core::fmt;

/// Where a frame carries the stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Carrier {
    /// Bits of `skb->mark`.
    Mark = 0,
    /// Bits of `skb->tc_index`, which has 16.
    TcIndex = 1,
}

/// How a vetted frame is marked. The programs are loaded with it, so that reading it costs them
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub carrier: Carrier,
    /// Bits of the carrier that are ours.
    pub mask: u32,
    /// What they hold on a vetted frame: not zero, and within the mask.
    pub value: u32,
}

/// Names of the programs' constants.
pub mod globals {
    /// A [`Carrier`](super::Carrier) code.
    pub const CARRIER: &str = "STAMP_CARRIER";
    pub const MASK: &str = "STAMP_MASK";
    pub const VALUE: &str = "STAMP_VALUE";
    /// [`Stamp::brought`](super::Stamp::brought), or 0.
    pub const BROUGHT: &str = "STAMP_BROUGHT";
    /// Not 0 where programs of another release come behind, which look for the stamp as well.
    pub const STAYS: &str = "STAMP_STAYS";
}

/// Why nothing can be stamped so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StampError {
    /// An unvetted frame carries it as well.
    NoValue,
    /// The value has bits that are not ours.
    BeyondMask(Stamp),
    /// `tc_index` has 16 bits.
    BeyondTcIndex { mask: u32 },
    /// The low half of the mark is in use by hosts themselves.
    LowMark { mask: u32 },
}

impl Stamp {
    /// Bit 30 of the mark. The low bits are taken by others (a host's own IGMP frames, Kubernetes,
    /// Cilium), and bit 31 is for [`Self::refused`].
    pub const DEFAULT: Self =
        Self { carrier: Carrier::Mark, mask: 0xc000_0000, value: 0x4000_0000 };

    /// The default in `tc_index`.
    pub const IN_TC_INDEX: Self = Self { carrier: Carrier::TcIndex, mask: 0xc000, value: 0x4000 };

    /// What our bits hold on a frame that was refused and goes on all the same, where that has to be told
    /// from one that was vetted; 0 where the mask has no room for it.
    pub const fn refused(self) -> u32 {
        self.mask ^ self.value
    }

    /// What our bits hold on a frame that the passage of a sandboxed port has brought, where the interface by
    /// which it came cannot be told any more: none of the others. There is none in a mask of a single bit.
    pub const fn brought(self) -> Option<u32> {
        let fewer = self.mask & self.mask.wrapping_sub(1);
        match (self.mask == self.value, fewer) {
            (false, _) => Some(self.mask),
            (true, 0) => None,
            (true, fewer) => Some(fewer),
        }
    }

    /// # Errors
    ///
    /// When the carrier cannot carry it, or it says nothing.
    pub const fn check(self) -> Result<(), StampError> {
        let Self { carrier, mask, value } = self;
        match carrier {
            Carrier::Mark if mask & 0xffff != 0 => Err(StampError::LowMark { mask }),
            Carrier::TcIndex if mask > 0xffff => Err(StampError::BeyondTcIndex { mask }),
            _ if value == 0 => Err(StampError::NoValue),
            _ if value & !mask != 0 => Err(StampError::BeyondMask(self)),
            _ => Ok(()),
        }
    }
}

impl Default for Stamp {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl StampError {
    /// Whether the mask is to blame, and not the value.
    pub const fn is_in_mask(self) -> bool {
        matches!(self, Self::BeyondTcIndex { .. } | Self::LowMark { .. })
    }
}

impl fmt::Display for StampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoValue => f.write_str(
                "zero is what an unvetted frame carries; expected at least one bit of the mask",
            ),
            Self::BeyondMask(Stamp { mask, value, .. }) => write!(
                f,
                "{value:#x} lies outside the mask {mask:#x}; expected bits of the mask only"
            ),
            Self::BeyondTcIndex { mask } => {
                write!(f, "{mask:#x} does not fit; expected at most 16 bits, such as 0xc000")
            }
            Self::LowMark { mask } => write!(
                f,
                "{mask:#x} takes low bits of the mark, which hosts use for themselves; expected \
                 bits 16 to 31 only, such as 0xc0000000"
            ),
        }
    }
}

impl core::error::Error for StampError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_brought_is_told_from_what_is_vetted_and_what_is_not() {
        for (mask, value, brought) in [
            (0xc000_0000, 0x4000_0000, Some(0xc000_0000)),
            (0xc000_0000, 0xc000_0000, Some(0x8000_0000)),
            (0xf000_0000, 0x1000_0000, Some(0xf000_0000)),
            (0x8000_0000, 0x8000_0000, None),
        ] {
            let stamp = Stamp { carrier: Carrier::Mark, mask, value };
            assert_eq!(stamp.check(), Ok(()));
            assert_eq!(stamp.brought(), brought, "{stamp:x?}");
            assert!(stamp.brought().is_none_or(|one| ![0, value, stamp.refused()].contains(&one)));
        }
    }
}
