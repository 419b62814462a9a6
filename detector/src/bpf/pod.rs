//! Lets the shared types into aya's maps.

use detector_common::MapData;

/// A shared type as aya wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Pod<T>(pub(super) T);

// SAFETY: `MapData` promises what `Pod` asks for: no padding, and every bit pattern is a value; the
// wrapper is transparent.
unsafe impl<T: MapData> aya::Pod for Pod<T> {}
