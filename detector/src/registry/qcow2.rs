//! The header of a qcow2 image: does it have a backing file, and which one.
//!
//! Follows `docs/interop/qcow2.txt` of QEMU, and is as strict as QEMU's own reader
//! (`block/qcow2.c`, `qcow2_do_open`) or stricter, so that an image is never read in another way
//! than the hypervisor reads it.

use std::{
    cell::Cell,
    ffi::OsString,
    fs::File,
    io,
    os::unix::{ffi::OsStringExt, fs::FileExt},
};

use serde::{Deserialize, Serialize};

/// What all qcow and qcow2 images begin with.
pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";

/// QEMU's limit on the length of the name of a backing file.
const MAX_NAME: u32 = 1023;

/// QEMU keeps the name of the backing format in 16 bytes with a terminator.
const MAX_FORMAT: u32 = 15;

/// The usual size of a cluster.
const START: usize = 64 << 10;

const V2_LENGTH: u32 = 72;
const V3_LENGTH: u32 = 104;

const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;

/// What is of interest in a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub backing: Option<Backing>,
}

/// The layer beneath, as the image names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backing {
    /// Not empty, without NUL; anything else is possible.
    pub name: OsString,
    /// `raw`, `qcow2` or whatever was written there.
    pub format: Option<String>,
}

/// Why a header is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum HeaderError {
    #[error("it is no qcow2 image: it does not begin with the magic number")]
    Magic,
    #[error("version {0} of the format; expected 2 or 3")]
    Version(u32),
    #[error("the header ends in the middle")]
    Truncated,
    #[error("its cluster size is 2^{0} bytes; expected 2^9 to 2^21")]
    ClusterBits(u32),
    #[error("its header has a length of {0} bytes; expected 104 or more, within the first cluster")]
    Length(u32),
    #[error("it keeps its data in another file; expected an image that holds its own data")]
    ExternalData,
    #[error("it uses incompatible features that are unknown here ({0:#x})")]
    Features(u64),
    #[error("the name of its backing file does not lie within the first cluster and 1023 bytes")]
    BackingName,
    #[error("the name of its backing file contains a NUL character")]
    BackingNul,
    #[error("a header extension reaches beyond its place")]
    Extension,
    #[error("it gives its backing format twice or not as a short text")]
    BackingFormat,
    #[error("it cannot be read: {0}")]
    Io(String),
    #[error("it has not been read: {0}")]
    Unread(String),
}

impl From<io::Error> for HeaderError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// Reads the header of an open image: at most its first cluster, 2 MiB, and of a large one no more than
/// is needed, since it is read again and again while its VM runs. Also the first bytes of the file that the header
/// follows from, whatever comes behind them; `None` where the end of the file mattered too.
pub(super) fn read(file: &File) -> Result<(Header, Option<Vec<u8>>), HeaderError> {
    let start = read_at_most(file, START)?;
    let size = cluster_size(&Cluster::new(&start))?;
    if size > START && start.len() == START && !holds_everything(&Cluster::new(&start))? {
        return parse(&Cluster::new(&read_at_most(file, size)?));
    }
    parse(&Cluster::new(start.get(..size).unwrap_or(&start)))
}

/// The first cluster of an image, or as much as there is of it, and how much of that has been looked at.
struct Cluster<'a> {
    bytes: &'a [u8],
    seen: Cell<usize>,
}

impl<'a> Cluster<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, seen: Cell::new(0) }
    }

    fn at(&self, offset: u64, length: u64) -> Result<&'a [u8], HeaderError> {
        let start = usize::try_from(offset).map_err(|_| HeaderError::Truncated)?;
        let length = usize::try_from(length).map_err(|_| HeaderError::Truncated)?;
        let end = start.checked_add(length).ok_or(HeaderError::Truncated)?;
        self.seen.set(self.seen.get().max(end));
        self.bytes.get(start..end).ok_or(HeaderError::Truncated)
    }

    /// Whether it ends before that. It might not, with more bytes behind the same ones.
    fn ends_before(&self, offset: u64) -> bool {
        let ends = offset >= self.bytes.len() as u64;
        if ends {
            self.seen.set(usize::MAX);
        }
        ends
    }

    fn seen(&self) -> Option<Vec<u8>> {
        self.bytes.get(..self.seen.get()).map(<[u8]>::to_vec)
    }
}

/// Whether the header, its extensions and the name of the backing file, which lie in this order, are in
/// this part of the first cluster.
fn holds_everything(start: &Cluster<'_>) -> Result<bool, HeaderError> {
    let (offset, length) = (u64_at(start, 8)?, u32_at(start, 16)?);
    let end = offset.checked_add(length.into());
    Ok(offset != 0 && end.is_some_and(|end| end <= start.bytes.len() as u64))
}

/// Parses a header, and says what it follows from.
fn parse(cluster: &Cluster<'_>) -> Result<(Header, Option<Vec<u8>>), HeaderError> {
    let backing = backing(cluster)?;
    Ok((Header { backing }, cluster.seen()))
}

fn backing(cluster: &Cluster<'_>) -> Result<Option<Backing>, HeaderError> {
    let size = cluster_size(cluster)? as u64;
    let (length, features) = match u32_at(cluster, 4)? {
        2 => (V2_LENGTH, 0),
        _ => (u32_at(cluster, 100)?, u64_at(cluster, 72)?),
    };
    let too_short = length < V3_LENGTH && length != V2_LENGTH;
    let v3_as_v2 = length == V2_LENGTH && u32_at(cluster, 4)? != 2;
    if too_short || v3_as_v2 || u64::from(length) > size {
        return Err(HeaderError::Length(length));
    }
    if features & EXTERNAL_DATA != 0 {
        return Err(HeaderError::ExternalData);
    }
    match features & !(DIRTY | CORRUPT | COMPRESSION_TYPE | EXTENDED_L2) {
        0 => {}
        unknown => return Err(HeaderError::Features(unknown)),
    }
    let offset = u64_at(cluster, 8)?;
    let backing_size = u32_at(cluster, 16)?;
    if offset > size || (offset != 0 && offset < u64::from(length)) {
        return Err(HeaderError::BackingName);
    }
    let end = if offset == 0 { size } else { offset };
    let format = backing_format(cluster, u64::from(length), end)?;
    if offset == 0 || backing_size == 0 {
        return Ok(None);
    }
    if backing_size > MAX_NAME || u64::from(backing_size) > size - offset {
        return Err(HeaderError::BackingName);
    }
    let name = cluster.at(offset, u64::from(backing_size))?;
    // QEMU takes the name up to the first NUL, whatever follows: two readers of one name.
    if name.contains(&0) {
        return Err(HeaderError::BackingNul);
    }
    Ok(Some(Backing { name: OsString::from_vec(name.to_vec()), format }))
}

/// Walks the header extensions between the header and `end`.
fn backing_format(
    cluster: &Cluster<'_>,
    start: u64,
    end: u64,
) -> Result<Option<String>, HeaderError> {
    let mut format = None;
    let mut at = start;
    // Each turn moves on by 8 bytes or more, within one cluster.
    while at < end {
        // QEMU writes an end marker only where there is room for one, and reads on into zeroes
        // that a short file need not have.
        if at.saturating_add(8) > end || cluster.ends_before(at) {
            break;
        }
        let kind = u32_at(cluster, at)?;
        let length = u32_at(cluster, at + 4)?;
        at += 8;
        if kind == EXTENSION_END {
            break;
        }
        if u64::from(length) > end - at {
            return Err(HeaderError::Extension);
        }
        if kind == EXTENSION_BACKING_FORMAT {
            let text = cluster.at(at, u64::from(length))?;
            let short = length <= MAX_FORMAT && text.iter().all(u8::is_ascii_graphic);
            if format.is_some() || !short {
                return Err(HeaderError::BackingFormat);
            }
            format = Some(String::from_utf8_lossy(text).into_owned());
        }
        at += u64::from(length).next_multiple_of(8);
    }
    Ok(format.filter(|format| !format.is_empty()))
}

fn cluster_size(start: &Cluster<'_>) -> Result<usize, HeaderError> {
    if !start.bytes.starts_with(&MAGIC) {
        return Err(HeaderError::Magic);
    }
    match u32_at(start, 4)? {
        2 | 3 => {}
        version => return Err(HeaderError::Version(version)),
    }
    match u32_at(start, 20)? {
        bits @ 9..=21 => Ok(1 << bits),
        bits => Err(HeaderError::ClusterBits(bits)),
    }
}

fn u32_at(cluster: &Cluster<'_>, offset: u64) -> Result<u32, HeaderError> {
    let bytes = cluster.at(offset, 4)?;
    bytes.try_into().map(u32::from_be_bytes).map_err(|_| HeaderError::Truncated)
}

fn u64_at(cluster: &Cluster<'_>, offset: u64) -> Result<u64, HeaderError> {
    let bytes = cluster.at(offset, 8)?;
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| HeaderError::Truncated)
}

/// The first bytes of a file: `length`, or fewer where it ends.
pub(super) fn read_at_most(file: &File, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests;
