//! The one bounded reader of frames.
//!
//! A [`Frame`] is checked once for a whole header; the [`Window`] that comes back reads its fields
//! at offsets that the compiler has checked. In the kernel each field is a single load, which the
//! verifier accepts because of that one check.

use core::marker::PhantomData;

use crate::addr::{Address, Station};

/// Headers are read within so many bytes of the start of the frame; a frame that has more is
/// refused. The bound is also what the verifier needs to know of a computed offset.
pub const MAX_OFFSET: usize = 511;

/// The part of a frame that can be read.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    start: usize,
    end: usize,
    length: usize,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a> Frame<'a> {
    /// A frame that lies in memory as a whole.
    pub fn new(bytes: &'a [u8]) -> Self {
        let start = bytes.as_ptr().expose_provenance();
        Self { start, end: start + bytes.len(), length: bytes.len(), bytes: PhantomData }
    }

    /// A frame of `length` bytes, of which those from `start` to `end` can be read.
    ///
    /// # Safety
    ///
    /// Either `start..end` is readable for `'a`, or they are the packet pointers of a BPF context,
    /// where the verifier proves each access.
    pub const unsafe fn from_raw(start: usize, end: usize, length: usize) -> Self {
        Self { start, end, length, bytes: PhantomData }
    }

    /// Length on the wire, without a tag kept in metadata.
    pub const fn length(self) -> usize {
        self.length
    }

    /// The `N` bytes at `at`, which is at most [`MAX_OFFSET`]; `None` when they cannot be read.
    #[inline(always)]
    pub fn window<const N: usize>(self, at: usize) -> Option<Window<'a, N>> {
        if at > MAX_OFFSET {
            return None;
        }
        let from = self.start + at;
        if from + N > self.end {
            return None;
        }
        Some(Window { from, bytes: PhantomData })
    }
}

/// `N` bytes that are known to be readable.
#[derive(Clone, Copy)]
pub struct Window<'a, const N: usize> {
    from: usize,
    bytes: PhantomData<&'a [u8; N]>,
}

impl<const N: usize> Window<'_, N> {
    #[inline(always)]
    pub fn u8<const AT: usize>(self) -> u8 {
        const { assert!(AT < N) };
        // SAFETY: `AT` lies within the window.
        unsafe { load::u8(self.from + AT) }
    }

    /// Two bytes as a number, most significant first.
    #[inline(always)]
    pub fn u16<const AT: usize>(self) -> u16 {
        const { assert!(AT + 2 <= N) };
        // SAFETY: the field lies within the window.
        u16::from_be(unsafe { load::u16(self.from + AT) })
    }

    /// A MAC, on no VLAN.
    #[inline(always)]
    pub fn mac<const AT: usize>(self) -> Station {
        const { assert!(AT + 6 <= N) };
        // SAFETY: both parts lie within the window.
        let (first, last) = unsafe { (load::u32(self.from + AT), load::u16(self.from + AT + 4)) };
        Station::from_parts(first, last)
    }

    /// An IPv4 address, in wire order.
    #[inline(always)]
    pub fn v4<const AT: usize>(self) -> [u8; 4] {
        const { assert!(AT + 4 <= N) };
        // SAFETY: the field lies within the window.
        unsafe { load::u32(self.from + AT) }.to_ne_bytes()
    }

    #[inline(always)]
    pub fn v6<const AT: usize>(self) -> Address {
        const { assert!(AT + 16 <= N) };
        // SAFETY: both halves lie within the window.
        let (high, low) = unsafe { (load::u64(self.from + AT), load::u64(self.from + AT + 8)) };
        Address::from_words(high, low)
    }
}

/// Hides from the optimiser what it knows of `value`, so that it neither unrolls the code that
/// follows nor copies it for each value: the verifier walks every copy. Costs no instruction.
#[inline(always)]
pub fn opaque(value: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: no instruction.
        unsafe {
            core::arch::asm!("/* {0} */", inout(reg) value, options(pure, nomem, nostack));
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    value
}

/// Unaligned loads. The BPF instruction set has them, but the compiler, which must assume machines
/// that lack them, would load byte by byte.
#[cfg(target_arch = "bpf")]
mod load {
    use core::arch::asm;

    macro_rules! load {
        ($name:ident, $instruction:literal) => {
            /// # Safety
            ///
            /// The bytes at `from` are readable.
            #[inline(always)]
            pub(super) unsafe fn $name(from: usize) -> $name {
                let value: u64;
                // SAFETY: one load of readable bytes, with no other effect.
                unsafe {
                    asm!(
                        concat!("{value} = *(", $instruction, " *)({from} + 0)"),
                        value = lateout(reg) value,
                        from = in(reg) from,
                        options(pure, readonly, nostack, preserves_flags),
                    );
                }
                value as $name
            }
        };
    }

    load!(u8, "u8");
    load!(u16, "u16");
    load!(u32, "u32");
    load!(u64, "u64");
}

#[cfg(not(target_arch = "bpf"))]
mod load {
    macro_rules! load {
        ($name:ident) => {
            /// # Safety
            ///
            /// The bytes at `from` are readable.
            #[inline(always)]
            pub(super) unsafe fn $name(from: usize) -> $name {
                // SAFETY: promised by the caller; the read is unaligned.
                unsafe { core::ptr::with_exposed_provenance::<$name>(from).read_unaligned() }
            }
        };
    }

    load!(u8);
    load!(u16);
    load!(u32);
    load!(u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_inside_the_frame() {
        let bytes: Vec<u8> = (0..64).collect();
        for length in 0..bytes.len() {
            let frame = Frame::new(&bytes[..length]);
            for at in 0..70 {
                let window = frame.window::<6>(at);
                assert_eq!(window.is_some(), at + 6 <= length, "6 bytes at {at} of {length}");
                if let Some(window) = window {
                    assert_eq!(window.mac::<0>().mac().0[..], bytes[at..at + 6]);
                    assert_eq!(
                        window.u16::<4>(),
                        u16::from_be_bytes([bytes[at + 4], bytes[at + 5]])
                    );
                    assert_eq!(window.u8::<5>(), bytes[at + 5]);
                }
            }
        }
    }

    #[test]
    fn headers_end_somewhere() {
        let bytes = [0; 2048];
        let frame = Frame::new(&bytes);
        assert!(frame.window::<1>(MAX_OFFSET).is_some());
        assert!(frame.window::<1>(MAX_OFFSET + 1).is_none());
        assert!(frame.window::<1>(usize::MAX).is_none());
    }
}
