//! Raw frames of one interface.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;

use crate::netns::NetNs;

/// A packet socket bound to one interface of a namespace.
pub struct PacketSocket {
    fd: OwnedFd,
}

/// Which way a frame went, seen from the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    In,
    Out,
}

impl PacketSocket {
    /// Opens it with a receive buffer that holds seconds of a lab's traffic.
    pub fn open(namespace: &NetNs, interface: &str) -> Result<Self> {
        namespace.run(|| open(interface).with_context(|| format!("cannot listen on {interface}")))
    }

    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: the buffer lives through the call and its length is its own.
        let sent =
            unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error()).context("cannot send a frame");
        }
        Ok(())
    }

    /// The next frame, cut to the buffer, or `None` if there is none now.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Option<(usize, Direction)>> {
        // SAFETY: all zero is a valid address of any kind.
        let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut length = size_of_val(&from) as libc::socklen_t;
        // SAFETY: buffer and address live through the call, with their own lengths.
        let got = unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
                (&raw mut from).cast(),
                &raw mut length,
            )
        };
        let Ok(got) = usize::try_from(got) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock => Ok(None),
                _ => Err(error).context("cannot receive a frame"),
            };
        };
        let out = from.sll_pkttype == libc::PACKET_OUTGOING;
        Ok(Some((got, if out { Direction::Out } else { Direction::In })))
    }

    /// Frames that were lost because nobody received them in time, since the last call.
    pub fn lost(&self) -> Result<u32> {
        // SAFETY: all zero is a valid value of this plain struct.
        let mut statistics: libc::tpacket_stats = unsafe { std::mem::zeroed() };
        let mut length = size_of_val(&statistics) as libc::socklen_t;
        // SAFETY: the struct lives through the call, with its own length.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error()).context("cannot read the socket's statistics");
        }
        Ok(statistics.tp_drops)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open(interface: &str) -> Result<PacketSocket> {
    let bytes: libc::c_int = 32 << 20;
    let index = if_nametoindex(interface)?;
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: plain arguments; the result is checked.
    let fd = checked(unsafe { libc::socket(libc::AF_PACKET, kind, protocol.into()) })?;
    // SAFETY: the descriptor is new and ours.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the option's value lives through the call, with its own length.
    checked(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        )
    })?;
    // SAFETY: all zero is a valid address of any kind.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = i32::try_from(index)?;
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address lives through the call, with its own length.
    checked(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(PacketSocket { fd })
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
