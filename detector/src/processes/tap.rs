//! Which tap a descriptor of another process is a queue of.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
};

use detector_core::model::HeldTap;

nix::ioctl_read!(tun_get_iff, b'T', 210, libc::c_uint);
nix::ioctl_none!(tun_get_network, b'T', 227);

/// The tap of this name, unless the descriptor turns out to be a tun device, which carries packets and
/// no frames. The name alone does not say which tap it is: each network namespace has its own.
pub(super) fn held(
    pid: Option<u32>,
    descriptor: u32,
    name: String,
    network: u64,
) -> Option<HeldTap> {
    let Some(queue) = pid.and_then(|pid| borrow(pid, descriptor).ok()) else {
        return Some(HeldTap { name, here: None });
    };
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one ifreq (TUNGETIFF, `linux/if_tun.h`), which lives through the call.
    let asked = unsafe { tun_get_iff(queue.as_raw_fd(), (&raw mut request).cast()) };
    // SAFETY: the kernel has written the flags, or they are zero.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    if asked.is_ok() && i32::from(flags) & libc::IFF_TAP == 0 {
        return None;
    }
    Some(HeldTap { name, here: namespace(&queue).map(|inode| inode == network) })
}

/// The network namespace of a tap, by its inode. Linux 5.6 and later say.
fn namespace(queue: &OwnedFd) -> Option<u64> {
    // SAFETY: the call takes no argument, and returns a new descriptor.
    let descriptor = unsafe { tun_get_network(queue.as_raw_fd()) }.ok()?;
    // SAFETY: the kernel has just opened it for us, and nobody else knows it.
    let namespace = unsafe { File::from_raw_fd(descriptor) };
    Some(namespace.metadata().ok()?.ino())
}

/// A descriptor of the same open file. Linux 5.6 and later hand one out (pidfd_getfd(2)).
fn borrow(pid: u32, descriptor: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: the calls take numbers only, and each returns a new descriptor or an error.
    let process = unsafe { owned(libc::syscall(libc::SYS_pidfd_open, pid, 0)) }?;
    let of = process.as_raw_fd();
    // SAFETY: as above.
    unsafe { owned(libc::syscall(libc::SYS_pidfd_getfd, of, descriptor, 0)) }
}

/// # Safety
///
/// A result that is not negative is a new descriptor that belongs to nobody yet.
unsafe fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the caller says so.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
