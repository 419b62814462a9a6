//! Templates and what images descend from.
//!
//! [`Manifests`] reads what an administrator has approved; [`Gatherer`] reads what a VM boots
//! from. Images are hostile: of their contents nothing but one header of bounded size is ever
//! interpreted.

mod cache;
mod certificate;
mod chain;
mod digest;
pub mod edit;
mod evidence;
mod image;
mod manifest;
mod open;
mod pools;
mod qcow2;
mod reader;
mod serials;
mod signature;
mod verity;
mod witness;

pub use chain::{ChainError, Format, MAX_LAYERS, base};
pub use evidence::Gatherer;
pub(crate) use image::Image;
pub use manifest::Manifests;
pub(crate) use manifest::parse;
pub use open::OpenError;
pub use pools::Pools;
pub use qcow2::{Backing, Header, HeaderError};
pub use reader::bytes_read;
pub(crate) use reader::{begin as begin_reader, serve as serve_reader};
pub use signature::{Trust, Wrong};
