//! What the kernel programs and the daemon share: the layout of every map and event, and the one
//! parser and verdict that both run.
//!
//! The crate is `no_std`, allocates nothing and does no I/O, so that the code which decides in the
//! kernel is the code that the host's tests exercise.

#![cfg_attr(not(any(test, feature = "samples")), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod addr;
pub mod claim;
pub mod counters;
pub mod event;
pub mod frame;
pub mod gate;
pub mod learned;
pub mod lease;
pub mod maps;
pub mod parse;
pub mod port;
pub mod quarantine;
pub mod reason;
#[cfg(any(test, feature = "samples"))]
pub mod samples;
pub mod sandbox;
pub mod services;
pub mod settings;
pub mod stamp;
pub mod verdict;

/// A value that may live in a BPF map or a ring buffer record.
///
/// # Safety
///
/// The type is `#[repr(C)]`, has no padding, and every bit pattern is a valid value of it: it holds
/// integers and byte arrays only, no `bool`, `Option` or Rust enum. The layout asserts beside each
/// implementation prove the first two.
pub unsafe trait MapData: Copy + 'static {}

/// Asserts at compile time what the two sides of a map rely on: the size of the type, and the
/// offset of each field named.
macro_rules! layout {
    ($type:ty, size $size:literal $(, $field:ident @ $offset:literal)* $(,)?) => {
        const _: () = assert!(core::mem::size_of::<$type>() == $size);
        $(const _: () = assert!(core::mem::offset_of!($type, $field) == $offset);)*
        // SAFETY: the asserts above fix size and offsets; the fields are integers and byte arrays.
        unsafe impl $crate::MapData for $type {}
    };
}
pub(crate) use layout;
