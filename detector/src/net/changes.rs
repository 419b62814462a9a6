//! Which interfaces something has happened to, without waiting.

use std::{collections::BTreeSet, io};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{
    NetError,
    link::{Read, read},
    netlink::{DATAGRAM_BYTES, messages},
};

/// Keeps note, in the kernel, of the interfaces that change. The kernel adds to the notes while it
/// makes the change, so whoever has heard of one elsewhere finds it here.
#[derive(Debug)]
pub(crate) struct LinkChanges {
    socket: Socket,
    datagram: Vec<u8>,
}

/// What has changed since the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    Some(Changes),
    /// The notes were more than fit: any interface may have.
    Any,
}

/// Interfaces by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Those to which anything has happened.
    pub(crate) changed: BTreeSet<u32>,
    /// Of these, those that were deleted or left the namespace, whether or not another has the
    /// index by now.
    pub(crate) deleted: BTreeSet<u32>,
    /// Of these, those that left a bridge.
    pub(crate) left: BTreeSet<u32>,
}

pub(super) const RTMGRP_LINK: u32 = 1;
/// Room for a burst of notes, so that a host that starts hundreds of VMs at once seldom has to be
/// looked at as a whole. The kernel takes it from its own limit when we have the capability.
pub(super) const RECEIVE_BYTES: u32 = 4 << 20;

impl LinkChanges {
    /// From now on, in the network namespace of this thread.
    pub(crate) fn subscribe() -> Result<Self, NetError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, RTMGRP_LINK))?;
            socket.set_rx_buf_sz(RECEIVE_BYTES)?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        let socket = open().map_err(NetError::Open)?;
        Ok(Self { socket, datagram: Vec::with_capacity(DATAGRAM_BYTES) })
    }

    /// Takes the notes. One system call when there are none.
    pub(crate) fn take(&mut self) -> Result<Changed, NetError> {
        let mut found = Changes::default();
        let mut lost = false;
        loop {
            self.datagram.clear();
            match self.socket.recv_from(&mut self.datagram, 0) {
                // Port 0 is the kernel; other processes can send to a netlink socket as well.
                Ok((_, from)) if from.port_number() == 0 => {
                    for Read { link, family, deleted } in messages(&self.datagram).filter_map(read)
                    {
                        found.changed.insert(link.ifindex);
                        // A bridge port that is no more is an interface still.
                        match (deleted, family == libc::AF_BRIDGE as u8) {
                            (true, true) => found.left.insert(link.ifindex),
                            (true, false) => found.deleted.insert(link.ifindex),
                            (false, _) => continue,
                        };
                    }
                }
                Ok(_) => (),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => lost = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(source) => {
                    let what = "tell which interfaces have changed".into();
                    return Err(NetError::Refused { what, source });
                }
            }
        }
        Ok(if lost { Changed::Any } else { Changed::Some(found) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        link_by_name,
        testing::{NetNs, ip},
    };

    #[test]
    fn changes_are_there_when_they_are_made() {
        let _ns = NetNs::enter();
        let mut changes = LinkChanges::subscribe().unwrap();
        let some = |changed: &[u32], deleted: &[u32], left: &[u32]| {
            let set = |list: &[u32]| list.iter().copied().collect();
            let (changed, deleted, left) = (set(changed), set(deleted), set(left));
            Changed::Some(Changes { changed, deleted, left })
        };
        assert_eq!(changes.take().unwrap(), some(&[], &[], &[]));
        ip("link add br0 type bridge");
        ip("tuntap add tap0 mode tap");
        let [bridge, tap] = ["br0", "tap0"].map(|n| link_by_name(n).unwrap().unwrap().ifindex);
        assert_eq!(changes.take().unwrap(), some(&[bridge, tap], &[], &[]));
        ip("link set tap0 master br0");
        ip("link set tap0 nomaster");
        assert_eq!(changes.take().unwrap(), some(&[bridge, tap], &[], &[tap]));
        ip("link del tap0");
        assert_eq!(changes.take().unwrap(), some(&[tap], &[tap], &[]));
        assert_eq!(changes.take().unwrap(), some(&[], &[], &[]));

        changes.socket.set_rx_buf_sz(4096_u32).unwrap();
        for n in 0..20 {
            ip(&format!("tuntap add tap{n} mode tap"));
        }
        assert_eq!(changes.take().unwrap(), Changed::Any);
    }
}
