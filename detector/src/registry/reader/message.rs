//! What is said between whoever wants a file read, the doorkeeper and its workers: one packet each.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use detector_core::model::Digest;
use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{
        AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv,
        recvmsg, send, sendmsg, socketpair,
    },
};
use serde::{Deserialize, Serialize};

use super::ReadError;
use crate::registry::qcow2::{Header, HeaderError};

/// A packet in bytes; a header names a file of 1,023 bytes at most.
const LONGEST: usize = 32 << 10;

/// What to do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Question {
    Header = b'h',
    Whole = b'w',
}

/// What a worker says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// So many bytes so far.
    Read(u64),
    Failed(String),
    Done(Answer),
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    Header {
        header: Header,
        /// The first bytes of the file, where nothing else of it matters.
        start: Option<Vec<u8>>,
    },
    Refused(HeaderError),
    Whole((Digest, u64)),
}

/// Both ends of a way for packets.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

/// Hands over a file and where to answer.
pub(super) fn hand_over(
    way: BorrowedFd<'_>,
    question: Question,
    file: BorrowedFd<'_>,
    replies: BorrowedFd<'_>,
) -> io::Result<()> {
    let both = [file.as_raw_fd(), replies.as_raw_fd()];
    let word = [question as u8];
    let rights = [ControlMessage::ScmRights(&both)];
    sendmsg::<()>(way.as_raw_fd(), &[IoSlice::new(&word)], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// What was handed over next; `None` when nobody will hand over anything any more.
pub(super) fn take_over(way: BorrowedFd<'_>) -> io::Result<Option<(Question, OwnedFd, OwnedFd)>> {
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
    let mut found = found.into_iter();
    let question = match word {
        [b'h'] => Question::Header,
        [b'w'] => Question::Whole,
        _ => return Err(io::Error::other("a word that is not known")),
    };
    match (found.next(), found.next()) {
        (Some(file), Some(replies)) => Ok(Some((question, file, replies))),
        _ => Err(io::Error::other("a word without its descriptors")),
    }
}

/// Says something to whoever waits; an error when nobody does.
pub(super) fn say(replies: &OwnedFd, reply: &Reply) -> io::Result<()> {
    let text = serde_json::to_vec(reply)?;
    send(replies.as_raw_fd(), &text, MsgFlags::MSG_NOSIGNAL)?;
    Ok(())
}

/// What the worker says next.
pub(super) fn receive(way: &OwnedFd) -> Result<Reply, ReadError> {
    let mut bytes = vec![0; LONGEST];
    let length = match recv(way.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
        Ok(0) | Err(Errno::ECONNRESET) => return Err(ReadError::Broken),
        Ok(length) => length,
        Err(error) => return Err(io::Error::from(error).into()),
    };
    // Whatever it says, it may have been told to by what it read.
    serde_json::from_slice(&bytes[..length]).map_err(|_| ReadError::Broken)
}
