use std::{
    fs::{File, Metadata},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

/// A file that may be an image, opened once: everything about it is asked of the descriptor.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    /// Where it is once every symbolic link is followed.
    pub(super) real: PathBuf,
    pub(super) id: Inode,
    pub(super) block_device: bool,
}

/// A file whatever its names: device and inode, or the device number of a block device.
pub(super) type Inode = (u64, u64);

/// Why a file was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("there is no such file")]
    Absent,
    #[error("it is a {0}; expected a regular file or a block device")]
    Irregular(&'static str),
    #[error("it cannot be opened: {0}")]
    Io(String),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Absent,
            _ => Self::Io(error.to_string()),
        }
    }
}

/// Opens an image for reading. Symbolic links are followed, as the hypervisor follows them.
pub(super) fn open(path: &Path) -> Result<Opened, OpenError> {
    // Opening a FIFO blocks and opening a device can have effects, so that the kind of the file
    // is asked of a descriptor that only names it, and the same file is opened through that.
    let named = File::options().read(true).custom_flags(OFlag::O_PATH.bits()).open(path)?;
    let metadata = named.metadata()?;
    let block_device = metadata.file_type().is_block_device();
    if !block_device && !metadata.is_file() {
        return Err(OpenError::Irregular(kind(&metadata)));
    }
    let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", named.as_raw_fd()));
    let file = File::options()
        .read(true)
        .custom_flags((OFlag::O_NOCTTY | OFlag::O_NONBLOCK).bits())
        .open(&by_descriptor)?;
    let real = std::fs::read_link(&by_descriptor)?;
    let id = if block_device { (0, metadata.rdev()) } else { (metadata.dev(), metadata.ino()) };
    Ok(Opened { file, real, id, block_device })
}

fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_dir() {
        "directory"
    } else if kind.is_fifo() {
        "FIFO"
    } else if kind.is_socket() {
        "socket"
    } else {
        "character device"
    }
}
