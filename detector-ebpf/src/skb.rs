//! The one accessor of `__sk_buff`.

use core::{arch::asm, hint::assert_unchecked, mem::offset_of};

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use detector_common::{frame::Frame, parse::MetaTag, reason::Reason};

/// Every header that is read lies within so many bytes, so that a frame is pulled at most once.
const HEADERS: u32 = 576;

#[derive(Clone, Copy)]
pub(crate) struct Skb {
    raw: *mut __sk_buff,
}

impl Skb {
    #[inline(always)]
    pub(crate) const fn new(raw: *mut __sk_buff) -> Self {
        Self { raw }
    }

    #[inline(always)]
    pub(crate) const fn raw(&self) -> *mut __sk_buff {
        self.raw
    }

    /// Length on the wire, without a tag kept in metadata.
    #[inline(always)]
    pub(crate) fn length(&self) -> u32 {
        self.context().len()
    }

    #[inline(always)]
    pub(crate) fn context(&self) -> TcContext {
        TcContext::new(self.raw)
    }

    /// The part of the frame that lies in linear memory.
    #[inline(always)]
    pub(crate) fn frame(&self) -> Frame<'_> {
        let ctx = self.context();
        // SAFETY: these are the packet pointers of the context.
        unsafe { Frame::from_raw(ctx.data(), ctx.data_end(), ctx.len() as usize) }
    }

    /// Whether every header that is read lies in linear memory.
    #[inline(always)]
    pub(crate) fn has_linear_headers(&self) -> bool {
        self.frame().holds(self.header_bytes() as usize)
    }

    /// Moves all headers into linear memory. Frames that were read before must not be used again.
    #[inline(always)]
    pub(crate) fn pull_headers(&self) -> bool {
        self.context().pull_data(self.header_bytes()).is_ok()
    }

    #[inline(always)]
    fn header_bytes(&self) -> u32 {
        let length = self.context().len();
        if length < HEADERS { length } else { HEADERS }
    }

    /// See [`Frame::forget`].
    #[inline(always)]
    pub(crate) fn forget(&self, reason: Reason) -> Reason {
        let code = self.frame().forget(reason as usize) as u8;
        // SAFETY: it is the same code still.
        unsafe { core::mem::transmute(code) }
    }

    /// Whether the network stack has moved a tag into the metadata.
    #[inline(always)]
    pub(crate) fn has_tag(&self) -> bool {
        self.field::<{ offset_of!(__sk_buff, vlan_present) }>() != 0
    }

    #[inline(always)]
    pub(crate) fn tag(&self) -> MetaTag {
        if !self.has_tag() {
            return MetaTag::default();
        }
        let protocol = self.field::<{ offset_of!(__sk_buff, vlan_proto) }>() as u16;
        let tci = self.field::<{ offset_of!(__sk_buff, vlan_tci) }>() as u16;
        MetaTag::of(u16::from_be(protocol), tci)
    }

    /// Whether the host will cut the frame into segments.
    #[inline(always)]
    pub(crate) fn is_in_segments(&self) -> bool {
        self.field::<{ offset_of!(__sk_buff, gso_size) }>() != 0
    }

    /// Whether a checksum is still to be written into the frame (`CHECKSUM_PARTIAL`): the host does so
    /// when no program looks any more, and the guest has chosen where. The frame must not be used
    /// again.
    ///
    /// The context does not say it, but a checksum that stands in such a frame is left alone by the
    /// helper that adapts checksums.
    #[inline(always)]
    pub(crate) fn awaits_checksum(&self) -> bool {
        /// The last two bytes of an ARP packet, which was read.
        const AT: usize = 40;
        let Ok(before) = self.context().load::<u16>(AT) else { return true };
        if self.context().l4_csum_replace(AT, 0, 1, size_of::<u16>() as u64).is_err() {
            return true;
        }
        let Ok(after) = self.context().load::<u16>(AT) else { return true };
        after == before || self.context().store(AT, &before, 0).is_err()
    }

    /// The interface that the program runs on.
    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        self.field::<{ offset_of!(__sk_buff, ifindex) }>()
    }

    /// The same as a word.
    #[inline(always)]
    pub(crate) fn ifindex_word(&self) -> u64 {
        self.field_word::<{ offset_of!(__sk_buff, ifindex) }>()
    }

    /// The interface by which the frame came into the host; 0 for the host's own frames.
    #[inline(always)]
    pub(crate) fn ingress_ifindex(&self) -> u32 {
        self.field::<{ offset_of!(__sk_buff, ingress_ifindex) }>()
    }

    /// `PACKET_HOST`, `PACKET_LOOPBACK` and so on (linux/if_packet.h).
    #[inline(always)]
    pub(crate) fn packet_type(&self) -> u32 {
        self.field::<{ offset_of!(__sk_buff, pkt_type) }>()
    }

    #[inline(always)]
    pub(crate) fn mark(&self) -> u64 {
        self.field_word::<{ offset_of!(__sk_buff, mark) }>()
    }

    #[inline(always)]
    pub(crate) fn set_mark(&self, mark: u64) {
        self.set_field::<{ offset_of!(__sk_buff, mark) }>(mark);
    }

    #[inline(always)]
    pub(crate) fn tc_index(&self) -> u64 {
        self.field_word::<{ offset_of!(__sk_buff, tc_index) }>()
    }

    #[inline(always)]
    pub(crate) fn set_tc_index(&self, index: u64) {
        self.set_field::<{ offset_of!(__sk_buff, tc_index) }>(index);
    }

    /// Reads a field of the context. In plain Rust the compiler may join two such reads into one at
    /// a computed offset, and the verifier wants each at a constant one.
    #[inline(always)]
    fn field<const OFFSET: usize>(&self) -> u32 {
        self.field_word::<OFFSET>() as u32
    }

    /// The same in a register that needs no clearing before it is compared, as one of 32 bits would.
    #[inline(always)]
    fn field_word<const OFFSET: usize>(&self) -> u64 {
        let value: u64;
        // SAFETY: one load of a field of the context, with no other effect.
        unsafe {
            asm!(
                "{value} = *(u32 *)({skb} + {offset})",
                value = lateout(reg) value,
                skb = in(reg) self.raw,
                offset = const OFFSET,
                options(readonly, nostack, preserves_flags),
            );
            // The load clears the upper half.
            assert_unchecked(value <= u32::MAX as u64);
        }
        value
    }

    /// Writes the lower half of `value` to a field of the context; see [`Self::field`].
    #[inline(always)]
    fn set_field<const OFFSET: usize>(&self, value: u64) {
        // SAFETY: one store to a field of the context.
        unsafe {
            asm!(
                "*(u32 *)({skb} + {offset}) = {value}",
                value = in(reg) value,
                skb = in(reg) self.raw,
                offset = const OFFSET,
                options(nostack, preserves_flags),
            );
        }
    }
}
