use std::{
    fs::{self, File, Metadata},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
    sys::statfs::fstatfs,
};

use super::{
    pools::Reach,
    verity::{self, Measurement},
};

/// File systems of the kernel's own (`magic.h`: proc, sysfs, cgroup, cgroup2, debugfs, tracefs, bpf,
/// securityfs, configfs, pstore, efivarfs, selinuxfs, devpts): what looks like a file there need not
/// end, and reading it may have effects.
const OF_THE_KERNEL: [i64; 13] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
    0xcafe_4a11,
    0x7363_6673,
    0x6265_6570,
    0x6165_676c,
    0xde5e_81e4,
    0xf97c_ff8c,
    0x1cd1,
];

/// File systems on which a file may change and keep its times (`magic.h`): tmpfs, ramfs and hugetlbfs
/// do not notice what is written through a mapping, and those of FUSE and 9p say what their server
/// wants them to say.
const WITHOUT_TIMES: [i64; 5] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6, 0x6573_5546, 0x0102_1997];

/// A file that may be an image, opened once: everything about it is asked of the descriptor.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    /// Where it is once every symbolic link is followed.
    pub(super) real: PathBuf,
    pub(super) id: Inode,
    pub(super) block_device: bool,
    /// Whether its times tell of every change of its contents.
    pub(super) dated: bool,
    /// What the kernel answers for, of a file with fs-verity.
    pub(super) measurement: Option<Measurement>,
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
    #[error(
        "an image names it as its backing file, and it lies outside of the configured pools ({0:?}), so \
         that it is not opened; move it into one, or add its directory to registry.image_dirs"
    )]
    Outside(PathBuf),
    #[error("its path goes through a link of /proc, which leads somewhere else for each process")]
    MagicLink,
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

/// Opens an image for reading, if it is within reach. Symbolic links are followed, as the hypervisor
/// follows them; where they lead is asked of the descriptor.
pub(super) fn open(path: &Path, reach: &Reach) -> Result<Opened, OpenError> {
    // Opening a FIFO blocks and opening a device can have effects, so that the kind of the file
    // is asked of a descriptor that only names it, and the same file is opened through that.
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let named = match openat2(AT_FDCWD, path, how) {
        Ok(named) => File::from(named),
        // Too many links say the same; those fail without the restriction, too.
        Err(nix::errno::Errno::ELOOP) if fs::metadata(path).is_ok() => {
            return Err(OpenError::MagicLink);
        }
        Err(error) => return Err(io::Error::from(error).into()),
    };
    let metadata = named.metadata()?;
    let block_device = metadata.file_type().is_block_device();
    if !block_device && !metadata.is_file() {
        return Err(OpenError::Irregular(kind(&metadata)));
    }
    let file_system = fstatfs(&named).map_err(io::Error::from)?.filesystem_type().0;
    if !block_device && OF_THE_KERNEL.contains(&file_system) {
        return Err(OpenError::Irregular("file of the kernel's own"));
    }
    let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", named.as_raw_fd()));
    let real = fs::read_link(&by_descriptor)?;
    if !reach.includes(path, &real, block_device) {
        return Err(OpenError::Outside(real));
    }
    let file = File::options()
        .read(true)
        .custom_flags((OFlag::O_NOCTTY | OFlag::O_NONBLOCK).bits())
        .open(&by_descriptor)?;
    let id = if block_device { (0, metadata.rdev()) } else { (metadata.dev(), metadata.ino()) };
    let dated = !block_device && !WITHOUT_TIMES.contains(&file_system);
    let measurement = (!block_device).then(|| verity::measure(&file, file_system)).flatten();
    Ok(Opened { file, real, id, block_device, dated, measurement })
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
