//! What lives in maps crosses as its bytes.

use std::{fmt, marker::PhantomData};

use detector_common::MapData;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Visitor};

/// A value as it lies in a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Raw<T>(pub T);

impl<T: MapData> Serialize for Raw<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let start = (&raw const self.0).cast::<u8>();
        // SAFETY: the value lives through the call, and has no padding, as `MapData` promises.
        to.serialize_bytes(unsafe { std::slice::from_raw_parts(start, size_of::<T>()) })
    }
}

impl<'de, T: MapData> Deserialize<'de> for Raw<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_bytes(Bytes(PhantomData))
    }
}

struct Bytes<T>(PhantomData<T>);

impl<T: MapData> Visitor<'_> for Bytes<T> {
    type Value = Raw<T>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} bytes", size_of::<T>())
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Raw<T>, E> {
        if bytes.len() != size_of::<T>() {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        // SAFETY: there are as many bytes, and any of them are a value, as `MapData` promises.
        Ok(Raw(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() }))
    }
}
