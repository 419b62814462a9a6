//! Pins of a test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
};

use crate::net::testing::unique;

/// A pin root of its own, removed when the test ends, also when it fails.
pub(crate) struct PinRoot(PathBuf);

impl PinRoot {
    pub(crate) fn new() -> Self {
        static MOUNT: Once = Once::new();
        MOUNT.call_once(|| {
            let there = Command::new("mountpoint").args(["-q", "/sys/fs/bpf"]).status().unwrap();
            if !there.success() {
                let mount = ["-t", "bpf", "bpf", "/sys/fs/bpf"];
                assert!(Command::new("mount").args(mount).status().unwrap().success());
            }
        });
        Self(PathBuf::from(format!("/sys/fs/bpf/det-test-{}", unique())))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PinRoot {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The guest's side of a tap.
pub(crate) struct Tap(std::fs::File);

impl Tap {
    /// Makes a tap in the namespace of this thread, and brings it up.
    pub(crate) fn open(name: &str) -> Self {
        use std::os::fd::AsRawFd;

        let file = fs::File::options().read(true).write(true).open("/dev/net/tun").unwrap();
        // SAFETY: integers and bytes only, for which zero is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as i16;
        // SAFETY: the request outlives the call, and is of the type that this ioctl takes.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        crate::net::testing::ip(&format!("link set {name} up"));
        Self(file)
    }

    /// The guest sends a frame.
    pub(crate) fn send(&self, frame: &[u8]) {
        use std::io::Write;
        (&self.0).write_all(frame).unwrap();
    }
}
