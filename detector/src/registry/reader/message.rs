//! What is said between whoever wants a file read, the doorkeeper and its workers: one packet each.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use detector_core::model::Digest;
use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair},
};
use serde::{Deserialize, Serialize};

use super::ReadError;
use crate::{
    registry::qcow2::{Header, HeaderError},
    rights,
};

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

/// What a worker says to the doorkeeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Word {
    /// It has a file, and another one has to wait for the next.
    Taken = b't',
    /// Nobody hands anything over any more.
    Over = b'o',
}

/// Both ends of a way for packets.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

/// Hands over a file and where to answer; an error of the kind [`io::ErrorKind::WouldBlock`] where too many wait already.
pub(super) fn hand_over(
    way: BorrowedFd<'_>,
    question: Question,
    file: BorrowedFd<'_>,
    replies: BorrowedFd<'_>,
) -> io::Result<()> {
    rights::send(way, question as u8, &[file, replies])
}

/// What was handed over next; `None` when nobody will hand over anything any more.
pub(super) fn take_over(way: BorrowedFd<'_>) -> io::Result<Option<(Question, OwnedFd, OwnedFd)>> {
    let Some((word, found)) = rights::receive(way)? else { return Ok(None) };
    let question = match word {
        b'h' => Question::Header,
        b'w' => Question::Whole,
        _ => return Err(io::Error::other("a word that is not known")),
    };
    let mut found = found.into_iter();
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

/// Tells the doorkeeper.
pub(super) fn tell(door: &OwnedFd, word: Word) -> io::Result<()> {
    send(door.as_raw_fd(), &[word as u8], MsgFlags::MSG_NOSIGNAL)?;
    Ok(())
}

/// What a worker has told; `None` where none has for a while.
pub(super) fn hear(door: &OwnedFd) -> io::Result<Option<Word>> {
    let mut word = [0];
    match recv(door.as_raw_fd(), &mut word, MsgFlags::empty()) {
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(error) => Err(error.into()),
        Ok(1) if word == [Word::Taken as u8] => Ok(Some(Word::Taken)),
        Ok(_) => Ok(Some(Word::Over)),
    }
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
