//! Signs in rtnetlink that somebody has touched what is in force.

use std::{future::poll_fn, io, os::fd::AsRawFd};

use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};

use super::{
    NetError,
    netlink::{DATAGRAM_BYTES, messages},
};
use crate::enforcer::Sign;

/// Hears of queueing disciplines and filters that come and go, and of static forwarding entries.
pub(crate) struct NetSigns {
    socket: TokioSocket,
    datagram: Vec<u8>,
}

const RTMGRP_NEIGH: u32 = 1 << 2;
const RTMGRP_TC: u32 = 1 << 3;
/// What does not fit is not needed: one sign says as much as a thousand.
const RECEIVE_BYTES: u32 = 64 << 10;

/// Where a message has its type, and behind its header `struct ndmsg` its family and state.
const TYPE: u32 = 4;
const FAMILY: u32 = 16;
const STATE: u32 = 16 + 8;
const ACCEPT: u32 = u32::MAX;

impl NetSigns {
    /// In the network namespace of this thread. Needs a Tokio runtime.
    pub(crate) fn subscribe() -> Result<Self, NetError> {
        let open = || {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            let inner = socket.socket_mut();
            // First, so that nothing else is ever queued.
            keep_out(inner.as_raw_fd())?;
            inner.bind(&SocketAddr::new(0, RTMGRP_NEIGH | RTMGRP_TC))?;
            inner.set_rx_buf_sz(RECEIVE_BYTES)?;
            Ok(socket)
        };
        let socket = open().map_err(NetError::Open)?;
        Ok(Self { socket, datagram: Vec::with_capacity(DATAGRAM_BYTES) })
    }

    /// The next sign. Can be cancelled without losing one.
    pub(crate) async fn next(&mut self) -> Result<Sign, NetError> {
        loop {
            self.datagram.clear();
            let Self { socket, datagram } = self;
            match poll_fn(|cx| socket.poll_recv_from(cx, datagram)).await {
                Ok(from) if from.port_number() == 0 => {
                    if let Some(sign) = sign(&self.datagram) {
                        return Ok(sign);
                    }
                }
                Ok(_) => (),
                // There were more than fit, of either kind.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(Sign::Forwarding);
                }
                Err(source) => return Err(refused(source)),
            }
        }
    }

    /// Forgets what else has been said so far, which is about the same.
    pub(crate) fn drain(&mut self) -> Vec<Sign> {
        let mut signs = Vec::new();
        // As many as fit: what comes faster than it is read is left for the next time.
        for _ in 0..RECEIVE_BYTES / 64 {
            self.datagram.clear();
            if self.socket.socket_ref().recv(&mut self.datagram, 0).is_err() {
                break;
            }
            signs.extend(sign(&self.datagram));
        }
        signs
    }
}

fn sign(datagram: &[u8]) -> Option<Sign> {
    let sign = |kind| match kind {
        libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => Sign::Forwarding,
        _ => Sign::Programs,
    };
    messages(datagram).map(|message| sign(message.kind)).next()
}

/// Lets in what matters and keeps the rest out before it is queued: neighbours of the host, and what
/// bridges learn, which guests can have change as often as they like.
fn keep_out(socket: i32) -> io::Result<()> {
    let load = |size, offset| step(libc::BPF_LD | size | libc::BPF_ABS, offset, 0, 0);
    // Loads are in network order, and these fields are in the host's.
    let half = |value: u16| u32::from(u16::from_be_bytes(value.to_ne_bytes()));
    let equals = |value, yes, no| step(libc::BPF_JMP | libc::BPF_JEQ, value, yes, no);
    let end = |verdict| step(libc::BPF_RET, verdict, 0, 0);
    let mut program = [
        load(libc::BPF_H, TYPE),
        equals(half(libc::RTM_NEWNEIGH), 1, 0),
        equals(half(libc::RTM_DELNEIGH), 0, 4),
        load(libc::BPF_B, FAMILY),
        equals(libc::AF_BRIDGE as u32, 0, 3),
        load(libc::BPF_H, STATE),
        step(libc::BPF_JMP | libc::BPF_JSET, half(libc::NUD_NOARP), 0, 1),
        end(ACCEPT),
        end(0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the option's value, and the steps that it points to, live through the call.
    let done = unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of_val(&filter) as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn step(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

fn refused(source: io::Error) -> NetError {
    NetError::Refused { what: "go on telling of filters and forwarding entries".into(), source }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::net::testing::{NetNs, ip, run};

    #[test]
    fn what_others_do_is_heard_and_what_guests_do_is_not() {
        let ns = NetNs::enter();
        ip("link add br0 type bridge forward_delay 0");
        ip("link add tap0 type veth peer name far0");
        ip("link set tap0 master br0");
        ["br0", "tap0", "far0"].iter().for_each(|name| ip(&format!("link set {name} up")));
        // Until then it learns nothing.
        while !run("bridge", "link show dev tap0").contains("forwarding") {
            std::thread::yield_now();
        }
        ns.block_on(async {
            let mut signs = NetSigns::subscribe().unwrap();
            let fdb = |verb: &str, kind: &str| {
                format!("bridge fdb {verb} 52:54:00:00:00:01 dev tap0 master {kind}")
            };
            let cases = [
                ("a learned entry", fdb("add", "dynamic"), None),
                ("which goes", fdb("del", ""), None),
                ("a static entry", fdb("add", "static"), Some(Sign::Forwarding)),
                ("which goes", fdb("del", ""), Some(Sign::Forwarding)),
                (
                    "a neighbour of the host",
                    "ip neigh add 192.0.2.7 lladdr 02:00:00:00:00:07 nud noarp dev br0".to_owned(),
                    None,
                ),
                ("a qdisc", "tc qdisc add dev tap0 clsact".to_owned(), Some(Sign::Programs)),
                ("which goes", "tc qdisc del dev tap0 clsact".to_owned(), Some(Sign::Programs)),
            ];
            for (name, command, expected) in cases {
                let (program, words) = command.split_once(' ').unwrap();
                run(program, words);
                // The kernel tells while it acts, so that what is not there by now never comes.
                let heard = timeout(Duration::from_millis(50), signs.next()).await;
                assert_eq!(heard.ok().map(Result::unwrap), expected, "{name}");
                signs.drain();
            }
        });
    }
}
