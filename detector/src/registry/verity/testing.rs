//! A file system with fs-verity, where this kernel has it.

use std::{
    fs::{self, File},
    io::Write,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use tempfile::TempDir;

const BYTES: u64 = 32 << 20;

/// `struct fsverity_enable_arg`
#[repr(C)]
struct Enable {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt: u64,
    signature_size: u32,
    reserved: u32,
    signature: u64,
    more: [u64; 11],
}

nix::ioctl_write_ptr!(enable_verity, b'f', 133, Enable);

/// A mounted ext4 that only this thread sees; it is gone with the thread.
pub(in crate::registry) struct Volume {
    place: PathBuf,
    _dir: TempDir,
}

impl Volume {
    /// None, and a word about it, where this kernel has no fs-verity.
    pub(in crate::registry) fn mount() -> Option<Self> {
        const NOTHING: Option<&str> = None;
        if !Path::new("/sys/fs/ext4/features/verity").exists() {
            let test = std::thread::current();
            let name = test.name().unwrap_or("test");
            // Past libtest, which keeps to itself what a test prints that passes.
            let line = format!("\nskipped {name}: this kernel has no ext4 with fs-verity\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let (image, place) = (dir.path().join("image"), dir.path().join("place"));
        File::create(&image).unwrap().set_len(BYTES).unwrap();
        fs::create_dir(&place).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-b", "4096", "-O", "verity"]).arg(&image));
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING).unwrap();
        run(Command::new("mount").args(["-o", "loop"]).args([&image, &place]));
        Some(Self { place, _dir: dir })
    }

    pub(in crate::registry) fn path(&self) -> &Path {
        &self.place
    }

    /// Has the kernel answer for the file from now on.
    pub(in crate::registry) fn seal(&self, path: &Path) {
        let file = File::open(path).unwrap();
        let wanted = Enable {
            version: 1,
            hash_algorithm: 1,
            block_size: 4096,
            salt_size: 0,
            salt: 0,
            signature_size: 0,
            reserved: 0,
            signature: 0,
            more: [0; 11],
        };
        // SAFETY: the descriptor is open, and the argument is whole.
        unsafe { enable_verity(file.as_raw_fd(), &raw const wanted) }.unwrap();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        run(Command::new("umount").arg(&self.place));
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
