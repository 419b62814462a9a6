//! From the medium that a VM is given down to the image that it descends from.
//!
//! # Who says in which format a layer is read
//!
//! A guest chooses the contents of a raw disk, also those of its first sector. If those were
//! probed, a guest could write the header of a qcow2 image there that names an approved template,
//! or any file of the host, as its backing file. So the contents of a layer never decide how it is
//! read:
//!
//! - The format of the top layer is what the manager gives the hypervisor (libvirt's
//!   `<driver type>`; libvirt reads a disk without one as raw, and its adapter says so).
//! - The format of a backing layer is what the overlay states; only the hypervisor and the
//!   administrator write overlay headers.
//! - Where neither says, the layer is taken as raw, and the magic number serves to refuse only: if
//!   it would be a qcow2 image with a backing file, the two readings differ and neither is taken.

use std::{
    io::{Seek, SeekFrom},
    path::{Path, PathBuf},
};

use detector_core::model::{ImageFile, Layer};

use super::{
    open::{Inode, OpenError, Opened, open},
    pools::{Pools, Reach},
    qcow2::{self, HeaderError},
    reader,
};

/// The most layers of a medium, the base included. Snapshot tools keep chains far shorter, each
/// layer costs a running VM memory and latency, and a walk must end.
pub const MAX_LAYERS: usize = 16;

/// How a layer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Raw,
    Qcow2,
}

impl Format {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Raw, Self::Qcow2].into_iter().find(|format| format.as_str() == name)
    }
}

/// Why no base was found. The path is that of the layer at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    #[error("{0:?}: {1}")]
    Open(PathBuf, OpenError),
    #[error("{0:?}: {1}")]
    Header(PathBuf, HeaderError),
    #[error("{0:?}: the format {1:?} is not read here; expected raw or qcow2")]
    Format(PathBuf, String),
    #[error(
        "{0:?}: nobody says in which format it is read, and it looks like a qcow2 image with a \
         backing file; state the format (libvirt: <driver type>, an overlay: qemu-img rebase -F)"
    )]
    Ambiguous(PathBuf),
    #[error(
        "{0:?}: its backing file {1:?} is not a plain file name but something that the hypervisor \
         resolves itself (a protocol or a JSON description); expected the name of a file"
    )]
    Protocol(PathBuf, String),
    #[error("{0:?}: it occurs twice in its own chain of backing files")]
    Cycle(PathBuf),
    #[error("{0:?}: more than {MAX_LAYERS} layers; commit or flatten some of them")]
    TooDeep(PathBuf),
}

/// A medium whose base is open.
#[derive(Debug)]
pub(super) struct Walked {
    /// Top first.
    pub(super) overlays: Vec<Layer>,
    pub(super) base: Layer,
    pub(super) opened: Opened,
    /// The files of all layers, top first.
    pub(super) files: Vec<Inode>,
}

impl Walked {
    /// The same layers over the same file.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.overlays == other.overlays && self.base == other.base && self.files == other.files
    }
}

/// The layers of a medium, top first, and the size of its base in bytes. `format` is how the
/// hypervisor reads the medium, where its manager says.
pub fn base(path: &Path, format: Option<&str>) -> Result<(Vec<Layer>, u64), ChainError> {
    let medium = ImageFile::new(path, format);
    let Walked { overlays: mut layers, base, mut opened, .. } = walk(&medium, &Pools::anywhere())?;
    layers.push(base);
    // The length of a block device is where it ends, not what its metadata says.
    let size = opened.file.seek(SeekFrom::End(0));
    let size = size.map_err(|error| ChainError::Header(path.to_owned(), error.into()))?;
    Ok((layers, size))
}

/// Walks from a medium to its base. Its manager names the medium, and how the hypervisor reads it;
/// what lies beneath is followed within the pools only.
pub(super) fn walk(medium: &ImageFile, pools: &Pools) -> Result<Walked, ChainError> {
    let path = &medium.path;
    let mut overlays = Vec::new();
    let mut files: Vec<Inode> = Vec::new();
    let mut named = path.to_owned();
    let mut stated = medium.format.clone();
    let mut reach = match &medium.beneath {
        None => Reach::Anything,
        Some(top) => pools.beneath(top, &top.canonicalize().unwrap_or_else(|_| top.clone())),
    };
    loop {
        if overlays.len() == MAX_LAYERS {
            return Err(ChainError::TooDeep(path.to_owned()));
        }
        let opened =
            open(&named, &reach).map_err(|error| ChainError::Open(named.clone(), error))?;
        if files.contains(&opened.id) {
            return Err(ChainError::Cycle(named));
        }
        files.push(opened.id);
        let (format, backing) = layer(&named, &opened, stated.as_deref())?;
        let this = Layer { path: opened.real.clone(), format: format.as_str().to_owned() };
        let Some(backing) = backing else {
            return Ok(Walked { overlays, base: this, opened, files });
        };
        if overlays.is_empty() && medium.beneath.is_none() {
            reach = pools.beneath(&named, &opened.real);
        }
        overlays.push(this);
        named = beneath(&named, &backing)?;
        stated = backing.format;
    }
}

/// How a layer is read, and what it says lies beneath it.
pub(super) fn layer(
    path: &Path,
    opened: &Opened,
    stated: Option<&str>,
) -> Result<(Format, Option<qcow2::Backing>), ChainError> {
    let header = || {
        reader::header(&opened.file, opened.id)
            .map_err(|error| ChainError::Header(path.to_owned(), error))
    };
    match stated.map(|name| Format::named(name).ok_or(name)) {
        Some(Ok(Format::Raw)) => Ok((Format::Raw, None)),
        Some(Ok(Format::Qcow2)) => Ok((Format::Qcow2, header()?.backing)),
        Some(Err(name)) => Err(ChainError::Format(path.to_owned(), name.to_owned())),
        None => {
            let start = qcow2::read_at_most(&opened.file, qcow2::MAGIC.len())
                .map_err(|error| ChainError::Header(path.to_owned(), error.into()))?;
            if start != qcow2::MAGIC {
                return Ok((Format::Raw, None));
            }
            // Without a backing file the whole file is the base in either reading.
            match header()?.backing {
                None => Ok((Format::Qcow2, None)),
                Some(_) => Err(ChainError::Ambiguous(path.to_owned())),
            }
        }
    }
}

/// Resolves the name of a backing file as QEMU does: against the directory in which the overlay
/// was named, symbolic links unresolved.
fn beneath(overlay: &Path, backing: &qcow2::Backing) -> Result<PathBuf, ChainError> {
    let name = Path::new(&backing.name);
    // QEMU's path_has_protocol(): a colon before the first slash.
    let first = backing.name.as_encoded_bytes().iter().find(|byte| matches!(byte, b':' | b'/'));
    if first == Some(&b':') {
        let shown = backing.name.to_string_lossy().into_owned();
        return Err(ChainError::Protocol(overlay.to_owned(), shown));
    }
    Ok(overlay.parent().unwrap_or(Path::new("/")).join(name))
}

#[cfg(test)]
mod tests;
