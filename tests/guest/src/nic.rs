//! The guest's NIC: brought up by ioctl, spoken through packet sockets.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use detector_guest::Mac;
use nix::net::if_::if_nametoindex;

use crate::pause;

pub(crate) struct Nic {
    name: String,
    mac: Mac,
    out: OwnedFd,
    /// Hears every frame.
    monitor: OwnedFd,
    heard: BTreeMap<Mac, u64>,
}

/// Sources that are counted one by one; a lab has fewer.
const SOURCES: usize = 16;

impl Nic {
    /// Waits for the driver to find the NIC. It is still down then, so nothing has been sent.
    pub(crate) fn open(name: &str, patience: Duration) -> io::Result<Self> {
        let address = Path::new("/sys/class/net").join(name).join("address");
        let start = Instant::now();
        while !address.exists() {
            if start.elapsed() > patience {
                return Err(io::Error::other(format!("no {name}")));
            }
            pause(Duration::from_millis(5));
        }
        let text = std::fs::read_to_string(address)?;
        let mac = crate::mac(text.trim()).ok_or_else(|| crate::invalid("mac"))?;
        let index = if_nametoindex(name)?;
        // Protocol 0 receives nothing: this one only sends.
        let out = packet_socket(0, index)?;
        let monitor = packet_socket(libc::ETH_P_ALL as u16, index)?;
        Ok(Self { name: name.to_owned(), mac, out, monitor, heard: BTreeMap::new() })
    }

    pub(crate) fn mac(&self) -> Mac {
        self.mac
    }

    /// Sets the address, in a network of 24 bits, if it is one, and brings the link up.
    pub(crate) fn up(&self, ip: Ipv4Addr) -> io::Result<()> {
        // SAFETY: plain arguments; the result is checked.
        let fd = checked(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) })?;
        // SAFETY: the descriptor is new and ours.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut request = self.request();
        let flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        request.ifr_ifru.ifru_addr = inet(ip);
        ioctl(&socket, libc::SIOCSIFADDR, &request)?;
        // Without an address there is nothing to have a netmask.
        if !ip.is_unspecified() {
            request.ifr_ifru.ifru_addr = inet(Ipv4Addr::new(255, 255, 255, 0));
            ioctl(&socket, libc::SIOCSIFNETMASK, &request)?;
        }
        request.ifr_ifru.ifru_flags = flags;
        ioctl(&socket, libc::SIOCSIFFLAGS, &request)
    }

    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the buffer lives through the call and its length is its own.
        let sent =
            unsafe { libc::send(self.out.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Frames received so far, by source.
    pub(crate) fn heard(&self) -> &BTreeMap<Mac, u64> {
        &self.heard
    }

    /// Frames that the device has taken so far, by the driver's own count: it misses none, but lags
    /// behind for a moment.
    pub(crate) fn sent(&self) -> io::Result<u64> {
        let path = format!("/sys/class/net/{}/statistics/tx_packets", self.name);
        let text = std::fs::read_to_string(path)?;
        text.trim().parse().map_err(|_| io::Error::other(format!("tx_packets is {text:?}")))
    }

    /// Counts what has been received since the last call.
    pub(crate) fn listen(&mut self) -> io::Result<()> {
        loop {
            let mut head = [0_u8; 12];
            // SAFETY: all zero is a valid address of any kind.
            let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            let mut length = size_of_val(&from) as libc::socklen_t;
            // SAFETY: buffer and address live through the call, with their own lengths.
            let got = unsafe {
                libc::recvfrom(
                    self.monitor.as_raw_fd(),
                    head.as_mut_ptr().cast(),
                    head.len(),
                    libc::MSG_DONTWAIT | libc::MSG_TRUNC,
                    (&raw mut from).cast(),
                    &raw mut length,
                )
            };
            if got < 0 {
                let error = io::Error::last_os_error();
                return match error.kind() {
                    io::ErrorKind::WouldBlock => Ok(()),
                    _ => Err(error),
                };
            }
            let mut source = [0; 6];
            source.copy_from_slice(&head[6..]);
            let known = self.heard.len() < SOURCES || self.heard.contains_key(&source);
            if known && from.sll_pkttype != libc::PACKET_OUTGOING {
                *self.heard.entry(source).or_default() += 1;
            }
        }
    }

    /// The next frame that has come in, if there is one within so long.
    pub(crate) fn receive(&mut self, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        let start = Instant::now();
        let mut frame = vec![0; 2048];
        while start.elapsed() < patience {
            // SAFETY: the buffer lives through the call and its length is its own.
            let got = unsafe {
                libc::recv(
                    self.monitor.as_raw_fd(),
                    frame.as_mut_ptr().cast(),
                    frame.len(),
                    libc::MSG_DONTWAIT,
                )
            };
            if let Ok(length) = usize::try_from(got) {
                frame.truncate(length);
                return Ok(Some(frame));
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(error);
            }
            pause(Duration::from_millis(5));
        }
        Ok(None)
    }

    /// Waits until the kernel has sent nothing for so long.
    pub(crate) fn wait_until_quiet(&self, quiet: Duration) -> io::Result<()> {
        let mut last = (self.sent()?, Instant::now());
        while last.1.elapsed() < quiet {
            pause(Duration::from_millis(10));
            let sent = self.sent()?;
            if sent != last.0 {
                last = (sent, Instant::now());
            }
        }
        Ok(())
    }

    fn request(&self) -> libc::ifreq {
        // SAFETY: all zero is a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(self.name.bytes()) {
            *to = from as libc::c_char;
        }
        request
    }
}

fn packet_socket(protocol: u16, index: u32) -> io::Result<OwnedFd> {
    let protocol = protocol.to_be();
    // SAFETY: plain arguments; the result is checked.
    let fd = checked(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, protocol.into()) })?;
    // SAFETY: the descriptor is new and ours.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zero is a valid address of any kind.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index as i32;
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address lives through the call, with its own length.
    checked(unsafe { libc::bind(fd, (&raw const address).cast(), length) })?;
    // That the link is down yet is kept as an error for the next call; reading it clears it.
    let mut error: libc::c_int = 0;
    let mut length = size_of_val(&error) as libc::socklen_t;
    // SAFETY: the value lives through the call, with its own length.
    checked(unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            (&raw mut error).cast(),
            &raw mut length,
        )
    })?;
    Ok(socket)
}

fn inet(ip: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, from) in data[2..].iter_mut().zip(ip.octets()) {
        *to = from as libc::c_char;
    }
    libc::sockaddr { sa_family: libc::AF_INET as u16, sa_data: data }
}

fn ioctl(socket: &OwnedFd, request: libc::Ioctl, argument: &libc::ifreq) -> io::Result<()> {
    // SAFETY: each request used here reads one ifreq, which lives through the call.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), request, argument) }).map(drop)
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
