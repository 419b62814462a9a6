//! Descriptors that cross from one process to another (unix(7), SCM_RIGHTS).

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};

/// Sends a byte, and descriptors with it; an error of the kind [`io::ErrorKind::WouldBlock`] where too much waits.
pub(crate) fn send(way: BorrowedFd<'_>, word: u8, with: &[BorrowedFd<'_>]) -> io::Result<()> {
    let with: Vec<_> = with.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&with)];
    let word = [word];
    // Nobody waits for whoever takes nothing.
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<()>(way.as_raw_fd(), &[IoSlice::new(&word)], &rights, flags, None)?;
    Ok(())
}

/// The next byte, and what came with it: at most two descriptors, and what was more is closed. `None` when nobody
/// will send one any more.
pub(crate) fn receive(way: BorrowedFd<'_>) -> io::Result<Option<(u8, Vec<OwnedFd>)>> {
    let mut word = [0];
    let mut space = cmsg_space!([i32; 2]);
    let mut slices = [IoSliceMut::new(&mut word)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<()>(way.as_raw_fd(), &mut slices, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    if message.bytes == 0 {
        return Ok(None);
    }
    let mut found = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = part {
            // SAFETY: the kernel has just made them for this process, and nobody else knows of them.
            found.extend(descriptors.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(Some((word[0], found)))
}
