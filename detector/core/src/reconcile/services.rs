//! From the services that are named to what the kernel looks up.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use detector_common::services::{Asked, Service};

use super::mapped;
use crate::model::{SandboxService, ServiceKind};

const DHCP_SERVER: u16 = 67;
const DHCPV6_SERVER: u16 = 547;
/// All DHCPv6 servers and relays (RFC 8415, section 7.1), and all routers (RFC 4291, section 2.7.1).
const DHCPV6_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Unreachable, time exceeded, parameter problem.
const ERRORS: [u8; 3] = [3, 11, 12];
/// Unreachable, packet too big, time exceeded, parameter problem.
const ERRORS_V6: [u8; 4] = [1, 2, 3, 4];
const ECHO: [u8; 2] = [0, 8];
const ECHO_V6: [u8; 2] = [128, 129];
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;

/// What ports in the sandbox may reach, and hear from. Whoever is named is found by ARP or Neighbour
/// Discovery, and says what is wrong with what it was sent.
pub fn services(named: &[SandboxService]) -> BTreeSet<Service> {
    let mut found = BTreeSet::new();
    for SandboxService { address, kind } in named {
        let mut put = |address: IpAddr, asked| {
            found.insert(Service::new(mapped(address), asked));
        };
        put(*address, Asked::Neighbour);
        let (errors, echo): (&[u8], [u8; 2]) = match address {
            IpAddr::V4(_) => (&ERRORS, ECHO),
            IpAddr::V6(_) => (&ERRORS_V6, ECHO_V6),
        };
        let message = |kind: u8| match address {
            IpAddr::V4(_) => Asked::Icmp(kind),
            IpAddr::V6(_) => Asked::IcmpV6(kind),
        };
        for kind in errors {
            put(*address, message(*kind));
        }
        match (kind, address) {
            (ServiceKind::Tcp(port), _) => put(*address, Asked::Tcp(*port)),
            (ServiceKind::Udp(port), _) => put(*address, Asked::Udp(*port)),
            (ServiceKind::Icmp, _) => echo.iter().for_each(|kind| put(*address, message(*kind))),
            (ServiceKind::Dhcp, IpAddr::V4(_)) => {
                put(*address, Asked::Udp(DHCP_SERVER));
                put(Ipv4Addr::BROADCAST.into(), Asked::Udp(DHCP_SERVER));
            }
            (ServiceKind::Dhcp, IpAddr::V6(_)) => {
                put(*address, Asked::Udp(DHCPV6_SERVER));
                put(DHCPV6_SERVERS.into(), Asked::Udp(DHCPV6_SERVER));
            }
            (ServiceKind::Router, IpAddr::V4(_)) => (),
            (ServiceKind::Router, IpAddr::V6(_)) => {
                put(*address, Asked::IcmpV6(ROUTER_ADVERTISEMENT));
                put(ROUTERS.into(), Asked::IcmpV6(ROUTER_SOLICITATION));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_kind_takes() {
        let (v4, v6): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "fe80::1".parse().unwrap());
        let everybody: IpAddr = Ipv4Addr::BROADCAST.into();
        type Case<'a> = (IpAddr, ServiceKind, &'a [(IpAddr, Asked)]);
        let cases: &[Case<'_>] = &[
            (v4, ServiceKind::Tcp(443), &[(v4, Asked::Tcp(443))]),
            (v6, ServiceKind::Udp(53), &[(v6, Asked::Udp(53))]),
            (v4, ServiceKind::Icmp, &[(v4, Asked::Icmp(0)), (v4, Asked::Icmp(8))]),
            (v6, ServiceKind::Icmp, &[(v6, Asked::IcmpV6(128)), (v6, Asked::IcmpV6(129))]),
            (v4, ServiceKind::Dhcp, &[(v4, Asked::Udp(67)), (everybody, Asked::Udp(67))]),
            (
                v6,
                ServiceKind::Dhcp,
                &[(v6, Asked::Udp(547)), (DHCPV6_SERVERS.into(), Asked::Udp(547))],
            ),
            (v4, ServiceKind::Router, &[]),
            (
                v6,
                ServiceKind::Router,
                &[(v6, Asked::IcmpV6(134)), (ROUTERS.into(), Asked::IcmpV6(133))],
            ),
        ];
        for (address, kind, expect) in cases {
            let found = services(&[SandboxService { address: *address, kind: *kind }]);
            let errors = if address.is_ipv4() { 3 } else { 4 };
            assert_eq!(found.len(), 1 + errors + expect.len(), "{kind:?} at {address}");
            let neighbour = [(*address, Asked::Neighbour)];
            for (address, asked) in expect.iter().chain(&neighbour) {
                assert!(found.contains(&Service::new(mapped(*address), *asked)), "{kind:?}");
            }
        }
    }
}
