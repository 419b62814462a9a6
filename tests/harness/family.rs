//! The same frame over IPv4 and over IPv6, so that what is tried with one is tried with the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use anyhow::Result;
use detector_guest::{Beat, Mac, Phase};

use crate::frames::{self, Station, ip6};
use crate::netns::NetNs;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// A broadcast with a number, or a multicast to all nodes.
    pub fn beat(self, from: Station, seq: u64) -> Vec<u8> {
        let beat = Beat { phase: Phase::Stream, seq, total: 0 };
        match self {
            Self::V4 => beat.frame(from.mac, from.ip).to_vec(),
            Self::V6 => beat.frame6(from.mac, from.ip6()).to_vec(),
        }
    }

    /// A UDP datagram to whoever has the IPv4 address, or the IPv6 address that goes with it.
    pub fn udp(
        self,
        from: Station,
        to: (Mac, Ipv4Addr),
        ports: (u16, u16),
        payload: &[u8],
    ) -> Vec<u8> {
        match self {
            Self::V4 => frames::udp(from, to, ports, payload),
            Self::V6 => frames::udp6(from, (to.0, ip6(to.1)), ports, payload),
        }
    }

    /// What tells the neighbours that the station has its address: gratuitous ARP, or an unsolicited
    /// neighbour advertisement.
    pub fn announcement(self, from: Station) -> Vec<u8> {
        match self {
            Self::V4 => frames::arp(from, from.ip),
            Self::V6 => frames::neighbour_advertisement(from, from.ip6(), from.ip6()),
        }
    }

    /// The address of this family that goes with an IPv4 address.
    pub fn address(self, ip: Ipv4Addr) -> IpAddr {
        match self {
            Self::V4 => ip.into(),
            Self::V6 => ip6(ip).into(),
        }
    }

    /// A socket that hears what is sent to the port at any address, broadcasts and multicasts included.
    pub fn ears(self, namespace: &NetNs, port: u16) -> Result<UdpSocket> {
        let any = match self {
            Self::V4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        namespace.run(|| {
            let socket = UdpSocket::bind((any, port))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
    }
}

/// Gives an interface of the namespace an address of either family, in a network that all such addresses
/// are in.
pub fn give_addresses(namespace: &NetNs, interface: &str, ip: Ipv4Addr) -> Result<()> {
    namespace.ip(&format!("address replace {ip}/24 dev {interface}"))?;
    namespace.ip(&format!("address replace {}/120 dev {interface} nodad", ip6(ip)))?;
    Ok(())
}

/// Lets the host route packets of either family.
pub fn forward(namespace: &NetNs) -> Result<()> {
    namespace.tool("sysctl", "-qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1").map(drop)
}
