//! DHCP and DHCPv6: messages of clients and servers, and a server of the host's own.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use detector_common::samples::{BROADCAST, UDP, dhcp, ethernet, ipv4, ipv6, summed, udp};
use detector_guest::Mac;

use crate::frames::Station;
use crate::host::Host;
use crate::tap::Tap;
use crate::wait;

pub const DISCOVER: u8 = 1;
pub const OFFER: u8 = 2;
pub const REQUEST: u8 = 3;
pub const DECLINE: u8 = 4;
pub const ACK: u8 = 5;
pub const NAK: u8 = 6;
pub const RELEASE: u8 = 7;
pub const INFORM: u8 = 8;

/// DHCPv6
pub const SOLICIT: u8 = 1;
pub const ADVERTISE: u8 = 2;
pub const REQUEST6: u8 = 3;
pub const CONFIRM: u8 = 4;
pub const RENEW: u8 = 5;
pub const REPLY: u8 = 7;
pub const RELEASE6: u8 = 8;
pub const DECLINE6: u8 = 9;
pub const INFORMATION: u8 = 11;

const MAGIC: [u8; 4] = [0x63, 0x82, 0x53, 0x63];

/// What a DHCP message says.
#[derive(Clone, Debug)]
pub struct Message {
    pub kind: u8,
    pub id: u32,
    pub client: Mac,
    /// The client's address (`ciaddr`).
    pub current: Ipv4Addr,
    /// The address that a server assigns (`yiaddr`).
    pub yours: Ipv4Addr,
    /// Option 50.
    pub requested: Option<Ipv4Addr>,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
    /// Option 51, in seconds.
    pub lease: Option<u32>,
    /// Option 3.
    pub routers: Vec<Ipv4Addr>,
    /// The routers of default routes in option 121.
    pub routes: Vec<Ipv4Addr>,
    /// The lease time stands in the field for a file name (option 52).
    pub overloaded: bool,
}

impl Message {
    pub fn new(kind: u8, id: u32, client: Mac) -> Self {
        let nobody = Ipv4Addr::UNSPECIFIED;
        Self {
            kind,
            id,
            client,
            current: nobody,
            yours: nobody,
            requested: None,
            server: None,
            lease: None,
            routers: Vec::new(),
            routes: Vec::new(),
            overloaded: false,
        }
    }

    /// What a server says that leases the address for so many seconds.
    pub fn ack(id: u32, client: Mac, address: Ipv4Addr, lease: u32) -> Self {
        let (server, lease) = (Some(Ipv4Addr::new(192, 0, 2, 1)), Some(lease));
        Self { yours: address, server, lease, ..Self::new(ACK, id, client) }
    }

    fn bytes(&self, operation: u8) -> Vec<u8> {
        let mut message = dhcp(operation, self.client)[..236].to_vec();
        message[4..8].copy_from_slice(&self.id.to_be_bytes());
        message[10] = 0x80;
        message[12..16].copy_from_slice(&self.current.octets());
        message[16..20].copy_from_slice(&self.yours.octets());
        let lease = self.lease.map_or(vec![], |lease| option(51, &lease.to_be_bytes()));
        message.extend(MAGIC);
        message.extend(option(53, &[self.kind]));
        message.extend(self.requested.map_or(vec![], |one| option(50, &one.octets())));
        message.extend(self.server.map_or(vec![], |one| option(54, &one.octets())));
        let routers: Vec<u8> = self.routers.iter().flat_map(Ipv4Addr::octets).collect();
        let routes: Vec<_> =
            self.routes.iter().flat_map(|ip| [&[0][..], &ip.octets()].concat()).collect();
        for (code, value) in [(3, routers), (121, routes)] {
            message.extend(if value.is_empty() { vec![] } else { option(code, &value) });
        }
        if self.overloaded {
            message.extend(option(52, &[1]));
            message[108..108 + lease.len()].copy_from_slice(&lease);
            message[108 + lease.len()] = 255;
        } else {
            message.extend(lease);
        }
        message.push(255);
        message.resize(message.len().max(300), 0);
        message
    }

    /// The frame of a client; from 0.0.0.0 while it has no current address.
    pub fn from_client(&self) -> Vec<u8> {
        let packet = ipv4(self.current.octets(), UDP, &udp(68, 67, &self.bytes(1)));
        ethernet(BROADCAST, self.client, &[], 0x0800, &to_all(packet))
    }

    /// The frame of a server to everybody.
    pub fn from_server(&self, server: Station) -> Vec<u8> {
        let packet = ipv4(server.ip.octets(), UDP, &udp(67, 68, &self.bytes(2)));
        ethernet(BROADCAST, server.mac, &[], 0x0800, &to_all(packet))
    }

    /// Reads what a server has sent.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let message = frame.get(42..).filter(|_| frame[34..38] == [0, 67, 0, 68])?;
        let word = |at: usize| message.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        let mut found = Self::new(0, word(4)?, message.get(28..34)?.try_into().ok()?);
        (found.current, found.yours) = (word(12)?.into(), word(16)?.into());
        let mut rest = message.get(240..)?;
        while let [code, length, ..] = *rest {
            if code == 255 {
                break;
            }
            let value = rest.get(2..2 + usize::from(length))?;
            let number = || value.try_into().ok().map(u32::from_be_bytes);
            match code {
                53 => found.kind = *value.first()?,
                54 => found.server = number().map(Into::into),
                51 => found.lease = number(),
                _ => {}
            }
            rest = &rest[2 + usize::from(length)..];
        }
        Some(found)
    }
}

fn to_all(mut packet: Vec<u8>) -> Vec<u8> {
    packet[16..20].fill(255);
    summed(packet)
}

fn option(code: u8, value: &[u8]) -> Vec<u8> {
    [&[code, value.len() as u8], value].concat()
}

fn option6(code: u16, value: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
}

/// A DHCPv6 client: of one association, identified by its MAC.
#[derive(Clone, Copy, Debug)]
pub struct Client6 {
    pub station: Station,
    /// 24 bits.
    pub id: u32,
}

impl Client6 {
    fn duid(&self) -> Vec<u8> {
        option6(1, &[&[0, 3, 0, 1][..], &self.station.mac].concat())
    }

    fn header(&self, kind: u8) -> Vec<u8> {
        let [_, a, b, c] = self.id.to_be_bytes();
        vec![kind, a, b, c]
    }

    /// A frame with these addresses, or a wish for any.
    pub fn says(&self, kind: u8, server: Option<&[u8]>, addresses: &[Ipv6Addr]) -> Vec<u8> {
        let message = self.message(kind, server, addresses, 0);
        let to = [0x33, 0x33, 0, 1, 0, 2];
        let mut packet =
            ipv6(self.station.link_local().octets(), UDP, 64, &udp(546, 547, &message));
        // All servers and relays.
        packet[24..40].copy_from_slice(&Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2).octets());
        summed6(&mut packet);
        ethernet(to, self.station.mac, &[], 0x86dd, &packet)
    }

    /// The frame with which a server leases the addresses for so many seconds.
    pub fn is_told(&self, kind: u8, by: Station, addresses: &[Ipv6Addr], lease: u32) -> Vec<u8> {
        let message = self.message(kind, Some(&[0, 3, 0, 1, 2, 2, 2, 2, 2, 2]), addresses, lease);
        let packet = ipv6(by.link_local().octets(), UDP, 64, &udp(547, 546, &message));
        ethernet(self.station.mac, by.mac, &[], 0x86dd, &packet)
    }

    fn message(
        &self,
        kind: u8,
        server: Option<&[u8]>,
        addresses: &[Ipv6Addr],
        lease: u32,
    ) -> Vec<u8> {
        let mut association = [7_u32, 0, 0].map(u32::to_be_bytes).concat();
        for address in addresses {
            let times = [lease.to_be_bytes(); 2].concat();
            association.extend(option6(5, &[&address.octets()[..], &times].concat()));
        }
        let server = server.map_or(vec![], |id| option6(2, id));
        let elapsed = option6(8, &[0, 0]);
        [self.header(kind), self.duid(), server, elapsed, option6(3, &association)].concat()
    }

    /// What a server has answered: the kind, its identifier, the first address.
    pub fn parse(&self, frame: &[u8]) -> Option<(u8, Vec<u8>, Option<Ipv6Addr>)> {
        let message = frame.get(62..).filter(|_| frame[12..14] == [0x86, 0xdd])?;
        if frame.get(54..58)? != [2, 35, 2, 34] || message.get(1..4)? != &self.header(0)[1..] {
            return None;
        }
        let (mut server, mut address) = (Vec::new(), None);
        let mut rest = &message[4..];
        while let [a, b, c, d, ..] = *rest {
            let length = usize::from(u16::from_be_bytes([c, d]));
            let value = rest.get(4..4 + length)?;
            match u16::from_be_bytes([a, b]) {
                2 => server = value.to_vec(),
                3 if value.get(12..14) == Some(&[0, 5]) => {
                    let bytes: [u8; 16] = value.get(16..32)?.try_into().ok()?;
                    address = Some(bytes.into());
                }
                _ => {}
            }
            rest = &rest[4 + length..];
        }
        Some((message[0], server, address))
    }
}

/// Writes the checksum that a UDP datagram over IPv6 must have (RFC 8200, section 8.1).
fn summed6(packet: &mut [u8]) {
    packet[46..48].fill(0);
    let length = (packet.len() - 40) as u32;
    let pseudo = [&packet[8..40], &length.to_be_bytes(), &[0, 0, 0, UDP], &packet[40..]].concat();
    let words = pseudo
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = if sum == 0xffff { 0xffff } else { !(sum as u16) };
    packet[46..48].copy_from_slice(&sum.to_be_bytes());
}

/// Gets a lease as a client does; the address.
pub fn lease(tap: &Tap, mac: Mac, id: u32, patience: Duration) -> Result<Ipv4Addr> {
    let discover = Message::new(DISCOVER, id, mac);
    tap.send(&discover.from_client())?;
    let offer = answer(tap, OFFER, id, patience)?;
    let request =
        Message { kind: REQUEST, requested: Some(offer.yours), server: offer.server, ..discover };
    tap.send(&request.from_client())?;
    Ok(answer(tap, ACK, id, patience)?.yours)
}

/// Waits for a server's message of that kind.
pub fn answer(tap: &Tap, kind: u8, id: u32, patience: Duration) -> Result<Message> {
    wait::until(&format!("a DHCP message {kind} at {}", tap.name()), patience, || {
        let messages = tap.drain()?.into_iter().filter_map(|frame| Message::parse(&frame));
        let mut own = messages.filter(|message| message.id == id);
        let Some(message) = own.next() else { return Ok(None) };
        if message.kind != kind {
            bail!("expected a DHCP message {kind}, got {message:?}");
        }
        Ok(Some(message))
    })
}

/// dnsmasq on the host's bridge, for 192.0.2.100 to .150 and 2001:db8::100 to ::1ff. It ends with this
/// value.
pub struct Server {
    child: Child,
}

impl Server {
    pub fn start(host: &Host) -> Result<Self> {
        let log = host.path("dnsmasq.log");
        let mut command = Command::new("dnsmasq");
        command
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root"])
            .args(["--interface=br0", "--bind-interfaces", "--no-ping", "--log-dhcp"])
            .args(["--dhcp-authoritative", "--pid-file="])
            .arg("--dhcp-range=192.0.2.100,192.0.2.150,10m")
            .arg("--dhcp-range=2001:db8::100,2001:db8::1ff,64,10m")
            .arg(format!("--dhcp-leasefile={}", host.path("dnsmasq.leases").display()))
            .arg(format!("--log-facility={}", log.display()))
            .stdin(Stdio::null());
        let mut child = host.spawn(&mut command).context("package dnsmasq-base")?;
        wait::until("dnsmasq to be ready", Duration::from_secs(10), || {
            if let Some(status) = child.try_wait()? {
                bail!("dnsmasq ended: {status}");
            }
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            Ok(text.contains("DHCP, IP range").then_some(()))
        })?;
        Ok(Self { child })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended by itself when this fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
