//! The kernel object inside this binary.

/// The ELF object with the kernel programs and their maps.
pub fn bytes() -> &'static [u8] {
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/detector-ebpf"))
}
