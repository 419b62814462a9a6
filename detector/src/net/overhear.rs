//! What a port without a VM asks DHCP servers for: its list of wanted options tells systems apart. A
//! packet socket hears a port before its guard does, so also what is dropped; a filter in the kernel lets
//! nothing else through, and there are few ports and one message each.

use std::{
    collections::BTreeMap,
    io,
    mem::size_of,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use detector_core::model::DhcpPrint;

/// Ports that are listened to at a time.
pub const PORTS: usize = 16;
/// How often what has come is looked at. Clients ask again and again.
const PAUSE: Duration = Duration::from_millis(500);
/// What is read of a message.
const LONGEST: usize = 1500;

/// A port: ifindex and instance.
pub type PortLife = (u32, u32);

/// Starts the thread that listens. It is sent the ports to listen to, all of them; `tell` is handed the
/// first message of each, and says whether anybody is left to hear of it.
pub fn spawn(
    tell: impl Fn(PortLife, DhcpPrint) -> bool + Send + 'static,
) -> io::Result<Sender<Vec<PortLife>>> {
    let (sender, wanted) = channel();
    thread::Builder::new().name("overhear".to_owned()).spawn(move || listen(&wanted, &tell))?;
    Ok(sender)
}

fn listen(wanted: &Receiver<Vec<PortLife>>, tell: &dyn Fn(PortLife, DhcpPrint) -> bool) {
    let mut sockets: BTreeMap<PortLife, OwnedFd> = BTreeMap::new();
    loop {
        let patience = if sockets.is_empty() { Duration::from_secs(3600) } else { PAUSE };
        match wanted.recv_timeout(patience) {
            Ok(ports) => {
                sockets.retain(|port, _| ports.contains(port));
                for port in ports.into_iter().take(PORTS) {
                    // A port that has gone meanwhile is not listened to.
                    if !sockets.contains_key(&port)
                        && let Ok(socket) = open(port.0)
                    {
                        sockets.insert(port, socket);
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let mut heard = Vec::new();
        for (port, socket) in &sockets {
            if let Some(print) = receive(socket) {
                heard.push((*port, print));
            }
        }
        for (port, print) in heard {
            sockets.remove(&port);
            if !tell(port, print) {
                return;
            }
        }
    }
}

/// The first message that has come and can be read.
fn receive(socket: &OwnedFd) -> Option<DhcpPrint> {
    let mut frame = [0; LONGEST];
    // A guest that sends what cannot be read is not listened to for ever.
    (0..PORTS).find_map(|_| {
        // SAFETY: the buffer lives through the call, with its own length.
        let got = unsafe {
            libc::recv(socket.as_raw_fd(), frame.as_mut_ptr().cast(), LONGEST, libc::MSG_DONTWAIT)
        };
        let got = usize::try_from(got).ok()?;
        frame.get(..got).and_then(print)
    })
}

/// What a DHCP client says of itself in a frame: RFC 2131, and RFC 2132 for the options.
fn print(frame: &[u8]) -> Option<DhcpPrint> {
    const MAGIC: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
    let header = usize::from(frame.get(14)? & 0x0f) * 4;
    let message = frame.get(14 + header + 8..)?;
    if message.get(236..240)? != MAGIC {
        return None;
    }
    let mut rest = message.get(240..)?;
    let mut print = DhcpPrint::default();
    loop {
        match rest {
            [] | [255, ..] => break,
            [0, after @ ..] => rest = after,
            [code, length, after @ ..] => {
                let value = after.get(..usize::from(*length))?;
                let text = || String::from_utf8_lossy(value).into_owned();
                match code {
                    12 => print.host = Some(text()),
                    55 => print.options = value.to_vec(),
                    60 => print.vendor = Some(text()),
                    _ => {}
                }
                rest = &after[value.len()..];
            }
            [_] => return None,
        }
    }
    (!print.options.is_empty()).then_some(print)
}

const fn step(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// IPv4, UDP, no later fragment, to port 67, a request: the first bytes of it. Everything else is none
/// of our business.
const REQUESTS: [libc::sock_filter; 13] = [
    step(0x28, 0, 0, 12),
    step(0x15, 0, 10, 0x0800),
    step(0x30, 0, 0, 23),
    step(0x15, 0, 8, 17),
    step(0x28, 0, 0, 20),
    step(0x45, 6, 0, 0x1fff),
    step(0xb1, 0, 0, 14),
    step(0x48, 0, 0, 16),
    step(0x15, 0, 3, 67),
    step(0x50, 0, 0, 22),
    step(0x15, 0, 1, 1),
    step(0x06, 0, 0, LONGEST as u32),
    step(0x06, 0, 0, 0),
];

fn open(ifindex: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // No protocol yet: it hears nothing before it has its filter.
    // SAFETY: the call takes numbers only.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: nobody else knows the descriptor.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let program =
        libc::sock_fprog { len: REQUESTS.len() as u16, filter: REQUESTS.as_ptr().cast_mut() };
    set(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
    let yes: libc::c_int = 1;
    // What others send to the guest is not its own.
    set(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &yes)?;
    let room: libc::c_int = 16 * 1024;
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, &room)?;
    // SAFETY: all zeroes is an address of a packet socket.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    // Only who hears every protocol hears what a guard drops.
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = i32::try_from(ifindex).map_err(io::Error::other)?;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address lives through the call, with its own length.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if bound != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

fn set<T>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value lives through the call, with its own length; the kernel copies what it points to.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), length)
    };
    if set != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(options: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 14];
        frame.push(0x45);
        frame.resize(14 + 20 + 8 + 236, 0);
        frame.extend([0x63, 0x82, 0x53, 0x63]);
        frame.extend(options);
        frame
    }

    #[test]
    fn what_a_client_wants_is_read_and_nothing_else_harms() {
        let whole =
            [53, 1, 1, 0, 55, 3, 1, 3, 6, 60, 4, b'M', b'S', b'F', b'T', 12, 1, b'h', 255, 9];
        let read = print(&frame(&whole)).unwrap();
        assert_eq!(read.options, [1, 3, 6]);
        assert_eq!((read.vendor.as_deref(), read.host.as_deref()), (Some("MSFT"), Some("h")));
        for cut in [&[55][..], &[55, 9, 1], &[55, 0, 255], &[53, 1, 1, 255], &[]] {
            assert_eq!(print(&frame(cut)), None, "{cut:?}");
        }
        let whole = frame(&whole);
        for length in 0..whole.len() {
            let _ = print(&whole[..length]);
        }
        assert_eq!(print(&[0xff; 400]), None);
    }
}
