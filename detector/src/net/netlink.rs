//! Blocking questions to rtnetlink, and the framing of its messages.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::NetError;

/// A socket for one question after the other. The kernel answers rtnetlink within the system call
/// that asks, so that nothing here waits for anyone else.
#[derive(Debug)]
pub(crate) struct Rtnetlink {
    socket: Socket,
    sequence: u32,
}

/// A request: its type, its fixed header, its attributes.
#[derive(Debug)]
pub(crate) struct Request {
    kind: u16,
    flags: u16,
    payload: Vec<u8>,
}

/// One message of an answer or a notification.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) payload: &'a [u8],
}

/// A dump that the kernel says was disturbed is asked for again this often.
const DUMP_ATTEMPTS: usize = 8;
/// The kernel never sends more in one datagram (`NLMSG_GOODSIZE` is at most 32 KiB).
pub(crate) const DATAGRAM_BYTES: usize = 64 * 1024;
/// The dump's data changed while it was under way (`linux/netlink.h`).
const NLM_F_DUMP_INTR: u16 = 0x10;
const HEADER_BYTES: usize = 16;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// The two high bits say how to read the value and not what it is (`linux/netlink.h`).
const NLA_TYPE_MASK: u16 = 0x3fff;

impl Rtnetlink {
    pub(crate) fn open() -> Result<Self, NetError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        Ok(Self { socket: open().map_err(NetError::Open)?, sequence: 0 })
    }

    /// Has something done; the kernel says yes, or why not.
    pub(crate) fn perform(&mut self, request: &Request) -> io::Result<()> {
        self.exchange(request, NLM_F_ACK, &mut |_| ()).map(|_| ())
    }

    /// Asks for one thing: hands the answer to `read`.
    pub(crate) fn get(
        &mut self,
        request: &Request,
        read: &mut dyn FnMut(Message<'_>),
    ) -> io::Result<()> {
        self.exchange(request, NLM_F_ACK, read).map(|_| ())
    }

    /// Asks for everything of a kind; a dump that was disturbed is thrown away and repeated.
    pub(crate) fn dump<T>(
        &mut self,
        request: &Request,
        read: impl Fn(Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut found = Vec::new();
            if self.exchange(request, NLM_F_DUMP, &mut |m| found.extend(read(m)))? {
                return Ok(found);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::Interrupted,
            "what was listed changed while it was being listed, again and again",
        ))
    }

    /// Sends a request and reads its answer to the end. Whether the answer is of one piece.
    fn exchange(
        &mut self,
        request: &Request,
        flags: u16,
        read: &mut dyn FnMut(Message<'_>),
    ) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&request.encode(flags, self.sequence), 0)?;
        let mut whole = true;
        let mut datagram = Vec::with_capacity(DATAGRAM_BYTES);
        loop {
            datagram.clear();
            self.socket.recv(&mut datagram, 0)?;
            for message in frames(&datagram) {
                // The rest of an answer that an error cut short.
                if message.sequence_number() != self.sequence {
                    continue;
                }
                whole &= message.flags() & NLM_F_DUMP_INTR == 0;
                match message.message_type() {
                    NLMSG_DONE | NLMSG_ERROR => return status(message.payload()).map(|()| whole),
                    kind => read(Message { kind, payload: message.payload() }),
                }
            }
        }
    }
}

impl Request {
    /// `flags` besides those that make it a request.
    pub(crate) fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        Self { kind, flags, payload: header.to_vec() }
    }

    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.payload.extend_from_slice(&length.to_ne_bytes());
        self.payload.extend_from_slice(&kind.to_ne_bytes());
        self.payload.extend_from_slice(value);
        self.payload.resize(self.payload.len().next_multiple_of(4), 0);
        self
    }

    /// Header and attributes.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The fixed header with the attributes, as a nested message has them.
    pub(crate) fn into_payload(self) -> Vec<u8> {
        self.payload
    }

    fn encode(&self, flags: u16, sequence: u32) -> Vec<u8> {
        let length = HEADER_BYTES + self.payload.len();
        let mut bytes = vec![0; length];
        let mut header = NetlinkBuffer::new(&mut bytes);
        header.set_length(u32::try_from(length).unwrap_or(u32::MAX));
        header.set_message_type(self.kind);
        header.set_flags(NLM_F_REQUEST | self.flags | flags);
        header.set_sequence_number(sequence);
        bytes[HEADER_BYTES..].copy_from_slice(&self.payload);
        bytes
    }
}

impl<'a> Message<'a> {
    /// The attributes behind a fixed header of `header` bytes. A damaged one ends the list.
    pub(crate) fn attributes(self, header: usize) -> impl Iterator<Item = (u16, &'a [u8])> {
        attributes(self.payload.get(header..).unwrap_or_default())
    }

    /// `N` bytes of the fixed header.
    pub(crate) fn field<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.payload.get(at..at + N)?.try_into().ok()
    }

    pub(crate) fn u32(self, at: usize) -> Option<u32> {
        self.field(at).map(u32::from_ne_bytes)
    }
}

/// A list of attributes, as the value of another.
pub(crate) fn nested(list: &[(u16, &[u8])]) -> Vec<u8> {
    let empty = Request::new(0, 0, &[]);
    list.iter().fold(empty, |list, (kind, value)| list.attribute(*kind, value)).payload
}

/// The attributes in a list of them. A damaged one ends the list.
pub(crate) fn attributes(list: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let [a, b, c, d] = *rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(ATTRIBUTE_HEADER_BYTES..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & NLA_TYPE_MASK, value))
    })
}

/// The messages of a datagram. A damaged one ends the list.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    frames(datagram).map(|m| Message { kind: m.message_type(), payload: m.payload() })
}

/// A string attribute, without its terminating zero.
pub(crate) fn text(value: &[u8]) -> &[u8] {
    value.strip_suffix(b"\0").unwrap_or(value)
}

fn frames(datagram: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let length = usize::try_from(message.length()).ok()?.next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
        Some(message)
    })
}

/// What `NLMSG_ERROR` and `NLMSG_DONE` carry: zero, or a negative errno.
fn status(payload: &[u8]) -> io::Result<()> {
    let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_datagrams_end_and_do_not_panic() {
        let request = Request::new(16, 0, &[0; 16]).attribute(3, b"eth0\0").attribute(10, &[1; 4]);
        let good = request.encode(0, 7);
        let read: Vec<_> = messages(&good).flat_map(|m| m.attributes(16)).collect();
        assert_eq!(read, [(3, b"eth0\0".as_slice()), (10, &[1; 4])]);
        for cut in 0..good.len() {
            assert!(messages(&good[..cut]).count() <= 1);
        }
        for at in 0..good.len() {
            for value in [0, 1, 3, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                assert!(
                    messages(&bad).map(|m| m.attributes(16).count()).sum::<usize>() < bad.len()
                );
            }
        }
    }
}
