//! One image, for whoever moves or keeps it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use detector_core::model::Digest;

use super::{
    chain::{self, ChainError},
    digest,
    open::{OpenError, Opened, open},
    pools::Reach,
    qcow2::Backing,
};

/// An open image. Nothing of its contents is looked at here, but by the readers.
#[derive(Debug)]
pub(crate) struct Image {
    named: PathBuf,
    opened: Opened,
}

impl Image {
    /// Opens what a manager has named.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self { named: path.to_owned(), opened: open(path, &Reach::Anything)? })
    }

    /// Where it is once every symbolic link is followed.
    pub(crate) fn real(&self) -> &Path {
        &self.opened.real
    }

    pub(crate) fn file(&self) -> &File {
        &self.opened.file
    }

    pub(crate) fn is_block_device(&self) -> bool {
        self.opened.block_device
    }

    /// The layer beneath, as the image names it.
    pub(crate) fn backing(&self, format: &str) -> Result<Option<Backing>, ChainError> {
        chain::layer(&self.named, &self.opened, Some(format)).map(|(_, backing)| backing)
    }

    /// Reads all of it, whatever is remembered of it. What has been written to it is on the disk by then. Blocks.
    ///
    /// # Errors
    ///
    /// A sentence, also where it changes meanwhile.
    pub(crate) fn digest(&self, stop: &AtomicBool) -> Result<Digest, String> {
        digest::read_steady(&self.opened, stop)
            .map(|(digest, _)| digest)
            .map_err(|error| format!("{}: {error}", self.named.display()))
    }
}
