//! fs-verity: file systems that answer for what a file contains.
//!
//! Of a file with fs-verity nobody can change the contents any more, and every read is held against a tree
//! of hashes, whose root the kernel tells (`Documentation/filesystems/fsverity.rst`). So what has been read
//! once is known of every file with the same root, whatever its times say.

use std::{fmt::Write as _, fs::File, os::fd::AsRawFd};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// The file systems that have it themselves (`magic.h`: ext4, f2fs, btrfs). Others hand on what a server
/// says.
const FILE_SYSTEMS: [i64; 3] = [0xef53, 0xf2f5_2010, 0x9123_683e];
/// The longest digest that there is.
const MAX_DIGEST: usize = 64;

/// What the kernel has measured: the algorithm's number and the digest, as `1:0123abcd…`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Measurement(String);

/// `struct fsverity_digest` with room for a digest.
#[repr(C)]
struct VerityDigest {
    algorithm: u16,
    /// Room for the digest in bytes; afterwards its length.
    size: u16,
    digest: [u8; MAX_DIGEST],
}

nix::ioctl_readwrite_bad!(
    /// `FS_IOC_MEASURE_VERITY`, which counts the two numbers only.
    measure_verity,
    nix::request_code_readwrite!(b'f', 134, 4),
    VerityDigest
);

/// What the kernel says of a file; `None` where it answers for nothing.
pub(super) fn measure(file: &File, file_system: i64) -> Option<Measurement> {
    if !FILE_SYSTEMS.contains(&file_system) {
        return None;
    }
    let mut told = VerityDigest { algorithm: 0, size: MAX_DIGEST as u16, digest: [0; MAX_DIGEST] };
    // SAFETY: the descriptor is open, and the digest has as much room as it says.
    match unsafe { measure_verity(file.as_raw_fd(), &raw mut told) } {
        Ok(_) => {}
        // No such call, not on this file system, not this file.
        Err(Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::ENODATA) => return None,
        Err(error) => {
            tracing::debug!(%error, "a file's measurement cannot be read");
            return None;
        }
    }
    let digest = told.digest.get(..usize::from(told.size))?;
    let mut text = format!("{}:", told.algorithm);
    for byte in digest {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    Some(Measurement(text))
}

#[cfg(test)]
pub(super) mod testing;
