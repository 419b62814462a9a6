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
    in_segments: bool,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a> Frame<'a> {
    /// A frame that lies in memory as a whole.
    pub fn new(bytes: &'a [u8]) -> Self {
        let start = bytes.as_ptr().expose_provenance();
        let (end, length) = (start + bytes.len(), bytes.len());
        Self { start, end, length, in_segments: false, bytes: PhantomData }
    }

    /// A frame of `length` bytes, of which those from `start` to `end` can be read.
    ///
    /// # Safety
    ///
    /// Either `start..end` is readable for `'a`, or they are the packet pointers of a BPF context,
    /// where the verifier proves each access.
    pub const unsafe fn from_raw(start: usize, end: usize, length: usize) -> Self {
        Self { start, end, length, in_segments: false, bytes: PhantomData }
    }

    /// The same frame, which may be cut into segments on its way (GSO): each gets the headers, but
    /// what follows a UDP header is another message in each.
    pub const fn with_segments(self, in_segments: bool) -> Self {
        Self { in_segments, ..self }
    }

    pub const fn is_in_segments(self) -> bool {
        self.in_segments
    }

    /// Length on the wire, without a tag kept in metadata.
    pub const fn length(self) -> usize {
        self.length
    }

    /// [`forget`], by the frame's length.
    #[inline(always)]
    pub fn forget(self, value: usize) -> usize {
        forget(value, self.length)
    }

    /// Whether the first `length` bytes can be read.
    #[inline(always)]
    pub const fn holds(self, length: usize) -> bool {
        self.end - self.start >= length
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

    /// [`Self::window`] at an offset that depends on what was read before.
    ///
    /// The bound is checked on the very value that is added. The compiler would rather check a value
    /// that differs by a constant, and verifiers before Linux 6.11 do not see what follows from that.
    #[inline(always)]
    pub fn window_behind<const N: usize>(self, at: usize) -> Option<Window<'a, N>> {
        self.window(opaque(at))
    }
}

/// Bytes of a copy; a power of two.
pub const COPY_BYTES: usize = 1024;
/// So many bytes more can be read behind any offset of a copy.
pub const COPY_SLACK: usize = 64;

/// A copy of the beginning of a frame: for what lies too deep for [`MAX_OFFSET`], or is walked at
/// length. Every offset can be read; those from [`Self::length`] on hold what is no part of the frame.
#[derive(Clone, Copy)]
pub struct Copied<'a> {
    start: usize,
    length: usize,
    bytes: PhantomData<&'a [u8; COPY_BYTES + COPY_SLACK]>,
}

impl<'a> Copied<'a> {
    /// The first `length` bytes are the frame's.
    #[inline(always)]
    pub fn new(bytes: &'a [u8; COPY_BYTES + COPY_SLACK], length: usize) -> Self {
        Self { start: bytes.as_ptr().expose_provenance(), length, bytes: PhantomData }
    }

    #[inline(always)]
    pub const fn length(self) -> usize {
        self.length
    }

    /// [`forget`], by the length.
    #[inline(always)]
    pub fn forget(self, value: usize) -> usize {
        forget(value, self.length)
    }

    /// The `N` bytes at `at`, modulo the size of a copy.
    #[inline(always)]
    pub fn window<const N: usize>(self, at: usize) -> Window<'a, N> {
        const { assert!(N <= COPY_SLACK) };
        Window { from: self.start + (at & (COPY_BYTES - 1)), bytes: PhantomData }
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
        unsafe { load::u8::<AT, 0>(self.from) }
    }

    /// Two bytes as a number, most significant first.
    #[inline(always)]
    pub fn u16<const AT: usize>(self) -> u16 {
        const { assert!(AT + 2 <= N) };
        // SAFETY: the field lies within the window.
        u16::from_be(unsafe { load::u16::<AT, 0>(self.from) })
    }

    /// Four bytes as a number, most significant first.
    #[inline(always)]
    pub fn u32<const AT: usize>(self) -> u32 {
        u32::from_be(self.v4::<AT>())
    }

    /// A MAC, on no VLAN.
    #[inline(always)]
    pub fn mac<const AT: usize>(self) -> Station {
        const { assert!(AT + 6 <= N) };
        if AT + 8 <= N {
            // SAFETY: the MAC and two bytes more lie within the window.
            Station::from_word(unsafe { load::u64::<AT, 0>(self.from) }).on_vlan(0)
        } else {
            // SAFETY: both parts lie within the window.
            let (first, last) =
                unsafe { (load::u32::<AT, 0>(self.from), load::u16::<AT, 4>(self.from)) };
            Station::from_parts(first, last)
        }
    }

    /// Eight bytes as they lie in memory.
    #[inline(always)]
    pub fn word<const AT: usize>(self) -> u64 {
        const { assert!(AT + 8 <= N) };
        // SAFETY: the field lies within the window.
        unsafe { load::u64::<AT, 0>(self.from) }
    }

    /// Four bytes as they lie in memory. As a number of 64 bits it can be compared as it is; one of 32
    /// would have its upper half cleared before.
    #[inline(always)]
    pub fn half_word<const AT: usize>(self) -> u64 {
        const { assert!(AT + 4 <= N) };
        // SAFETY: the field lies within the window.
        unsafe { load::half_word::<AT, 0>(self.from) }
    }

    /// An IPv4 address: its bytes as they lie in memory.
    #[inline(always)]
    pub fn v4<const AT: usize>(self) -> u32 {
        const { assert!(AT + 4 <= N) };
        // SAFETY: the field lies within the window.
        unsafe { load::u32::<AT, 0>(self.from) }
    }

    #[inline(always)]
    pub fn v6<const AT: usize>(self) -> Address {
        const { assert!(AT + 16 <= N) };
        // SAFETY: both halves lie within the window.
        let (high, low) = unsafe { (load::u64::<AT, 0>(self.from), load::u64::<AT, 8>(self.from)) };
        Address::from_words(high, low)
    }
}

/// Hides from the verifier what it knows of `value`, with the help of a number of which it knows
/// nothing: paths that have met then look the same to it, and it walks on from there once. Costs two
/// instructions.
#[inline(always)]
pub fn forget(value: usize, unknown: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: the second instruction undoes the first; that nothing is known of the one number
        // makes nothing known of the result.
        unsafe {
            core::arch::asm!(
                "{value} ^= {unknown}",
                "{value} ^= {unknown}",
                value = inout(reg) value,
                unknown = in(reg) unknown,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        let _ = unknown;
        value
    }
}

/// Hides from the optimiser what it knows of `value`, so that it neither unrolls the code that
/// follows nor copies it for each value: the verifier walks every copy. Costs one instruction; with
/// none, two lines of debug information could name the same place, which the kernel refuses.
#[inline(always)]
pub fn opaque(value: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: one instruction, without effect.
        unsafe {
            core::arch::asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack));
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    value
}

/// Unaligned loads from `from + AT + PLUS`. The BPF instruction set has them, but the compiler,
/// which must assume machines that lack them, would load byte by byte.
#[cfg(target_arch = "bpf")]
mod load {
    use core::{arch::asm, hint::assert_unchecked};

    macro_rules! load {
        ($name:ident, $instruction:literal, $loaded:ident as $type:ident) => {
            /// # Safety
            ///
            /// The bytes at `from + AT + PLUS` are readable.
            #[inline(always)]
            pub(super) unsafe fn $name<const AT: usize, const PLUS: usize>(from: usize) -> $type {
                let value: u64;
                // SAFETY: one load of readable bytes, with no other effect; it clears the bits
                // above those that it loads.
                unsafe {
                    asm!(
                        concat!("{value} = *(", $instruction, " *)({from} + {at})"),
                        value = lateout(reg) value,
                        from = in(reg) from,
                        at = const { AT + PLUS },
                        options(pure, readonly, nostack, preserves_flags),
                    );
                    assert_unchecked(value <= $loaded::MAX as u64);
                }
                value as $type
            }
        };
    }

    load!(u8, "u8", u8 as u8);
    load!(u16, "u16", u16 as u16);
    load!(u32, "u32", u32 as u32);
    load!(half_word, "u32", u32 as u64);
    load!(u64, "u64", u64 as u64);
}

#[cfg(not(target_arch = "bpf"))]
mod load {
    use core::ptr::with_exposed_provenance;

    macro_rules! load {
        ($name:ident, $loaded:ident as $type:ident) => {
            /// # Safety
            ///
            /// The bytes at `from + AT + PLUS` are readable.
            #[inline(always)]
            pub(super) unsafe fn $name<const AT: usize, const PLUS: usize>(from: usize) -> $type {
                let from = with_exposed_provenance::<$loaded>(from + AT + PLUS);
                // SAFETY: promised by the caller; the read is unaligned.
                unsafe { from.read_unaligned() }.into()
            }
        };
    }

    load!(u8, u8 as u8);
    load!(u16, u16 as u16);
    load!(u32, u32 as u32);
    load!(half_word, u32 as u64);
    load!(u64, u64 as u64);
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
