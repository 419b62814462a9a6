//! What happens to the interfaces of the host.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    io,
};

use detector_core::model::Link;
use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};

use super::{
    NetError,
    changes::{RECEIVE_BYTES, RTMGRP_LINK},
    link::{Read, link_by_index, links, read},
    netlink::{DATAGRAM_BYTES, messages},
};

/// What happened to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// It is there, or something about it has changed.
    Seen(Link),
    /// It is gone. One that has only left its bridge is seen without a master.
    Gone { ifindex: u32 },
    /// Everything that there is: what is not listed is gone. The first event is always this one,
    /// and it comes again after notifications were lost.
    Resynced(Vec<Link>),
}

/// The events of the interfaces, from now on.
pub struct LinkEvents {
    socket: TokioSocket,
    known: BTreeMap<u32, Link>,
    pending: VecDeque<LinkEvent>,
    stale: bool,
    datagram: Vec<u8>,
}

const FAMILY_BRIDGE: u8 = libc::AF_BRIDGE as u8;

impl LinkEvents {
    /// Subscribes, in the network namespace of this thread. Needs a Tokio runtime.
    pub fn subscribe() -> Result<Self, NetError> {
        let open = || {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            let inner = socket.socket_mut();
            inner.bind(&SocketAddr::new(0, RTMGRP_LINK))?;
            inner.set_rx_buf_sz(RECEIVE_BYTES)?;
            Ok(socket)
        };
        Ok(Self {
            socket: open().map_err(NetError::Open)?,
            known: BTreeMap::new(),
            pending: VecDeque::new(),
            stale: true,
            datagram: Vec::with_capacity(DATAGRAM_BYTES),
        })
    }

    /// The next event. Can be cancelled without losing one.
    pub async fn next(&mut self) -> Result<LinkEvent, NetError> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
            }
            if self.stale {
                return self.resync();
            }
            self.datagram.clear();
            let Self { socket, datagram, .. } = self;
            match poll_fn(|cx| socket.poll_recv_from(cx, datagram)).await {
                // Port 0 is the kernel; other processes can send to a netlink socket as well.
                Ok(from) if from.port_number() == 0 => self.absorb()?,
                Ok(_) => (),
                Err(error) if lost(&error) => self.stale = true,
                Err(source) => return Err(refused(source)),
            }
        }
    }

    /// Lists everything. Notifications that were sent before the list are thrown away first; those
    /// that come while it is made are kept and follow it.
    fn resync(&mut self) -> Result<LinkEvent, NetError> {
        loop {
            self.datagram.clear();
            match self.socket.socket_ref().recv(&mut self.datagram, 0) {
                Ok(_) => (),
                Err(error) if lost(&error) => (),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(source) => return Err(refused(source)),
            }
        }
        let list = links()?;
        self.known = list.iter().map(|link| (link.ifindex, link.clone())).collect();
        self.stale = false;
        Ok(LinkEvent::Resynced(list))
    }

    fn absorb(&mut self) -> Result<(), NetError> {
        let Self { known, pending, datagram, .. } = self;
        for Read { link, family, deleted } in messages(datagram).filter_map(read) {
            let seen = match (family, deleted) {
                // About a bridge port: it lacks the kind, and a deletion is of the port only. What
                // the interface is now is the answer to both.
                (FAMILY_BRIDGE, _) => link_by_index(link.ifindex)?,
                (_, false) => Some(link),
                (_, true) => {
                    known.remove(&link.ifindex);
                    pending.push_back(LinkEvent::Gone { ifindex: link.ifindex });
                    None
                }
            };
            if let Some(link) = seen
                && known.get(&link.ifindex) != Some(&link)
            {
                known.insert(link.ifindex, link.clone());
                pending.push_back(LinkEvent::Seen(link));
            }
        }
        Ok(())
    }
}

fn lost(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
}

fn refused(source: io::Error) -> NetError {
    NetError::Refused { what: "go on telling about interfaces".into(), source }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::net::testing::{NetNs, ip};

    async fn wait_for(events: &mut LinkEvents, what: impl Fn(&LinkEvent) -> bool) -> LinkEvent {
        let found = async {
            loop {
                let event = events.next().await.unwrap();
                if what(&event) {
                    return event;
                }
            }
        };
        timeout(Duration::from_secs(5), found).await.expect("the event comes")
    }

    #[test]
    fn a_port_joins_leaves_and_goes() {
        let ns = NetNs::enter();
        ip("link add br0 type bridge");
        ns.block_on(async {
            let mut events = LinkEvents::subscribe().unwrap();
            let first = events.next().await.unwrap();
            assert!(matches!(&first, LinkEvent::Resynced(all) if all.len() == 2), "{first:?}");

            ip("tuntap add tap0 mode tap");
            let seen = wait_for(&mut events, |e| matches!(e, LinkEvent::Seen(_))).await;
            let LinkEvent::Seen(tap) = seen else { unreachable!() };
            assert_eq!((tap.name.as_str(), tap.master), ("tap0", None));

            ip("link set tap0 master br0");
            wait_for(
                &mut events,
                |e| matches!(e, LinkEvent::Seen(l) if l.ifindex == tap.ifindex && l.master.is_some()),
            )
            .await;
            ip("link set tap0 nomaster");
            let left = wait_for(&mut events, |e| match e {
                LinkEvent::Gone { ifindex } => *ifindex == tap.ifindex,
                LinkEvent::Seen(l) => l.ifindex == tap.ifindex && l.master.is_none(),
                LinkEvent::Resynced(_) => false,
            })
            .await;
            assert!(matches!(left, LinkEvent::Seen(_)), "leaving a bridge is not going: {left:?}");

            ip("link set tap0 name tap9");
            wait_for(&mut events, |e| matches!(e, LinkEvent::Seen(l) if l.name == "tap9")).await;
            ip("link del tap9");
            wait_for(&mut events, |e| *e == LinkEvent::Gone { ifindex: tap.ifindex }).await;
        });
    }

    #[test]
    fn an_overrun_lists_everything_anew() {
        let ns = NetNs::enter();
        ns.block_on(async {
            let mut events = LinkEvents::subscribe().unwrap();
            events.next().await.unwrap();
            events.socket.socket_ref().set_rx_buf_sz(4096_u32).unwrap();
            for n in 0..20 {
                ip(&format!("tuntap add tap{n} mode tap"));
            }
            let all = wait_for(&mut events, |e| matches!(e, LinkEvent::Resynced(_))).await;
            let LinkEvent::Resynced(all) = all else { unreachable!() };
            assert_eq!(all.len(), 21);
        });
    }
}
