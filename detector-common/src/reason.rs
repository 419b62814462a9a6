//! Why a frame passed or was dropped: the stable codes that counters, events, `detector port show`
//! and `detector explain` speak of.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $text:literal, $action:ident;)+) => {
        /// The reason of a verdict. Codes are part of the map schema and are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name = $code,)+
        }

        impl Reason {
            /// Every reason, in the order of the codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The reason of a code read from a map or an event.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// The name in tables, JSON and metrics.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            /// Whether frames with this reason go on.
            pub const fn passes(self) -> bool {
                match self {
                    $(Self::$name => reasons!(@$action),)+
                }
            }

            /// One sentence for people.
            pub const fn describe(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
    (@pass) => { true };
    (@drop) => { false };
}

reasons! {
    /// The claim is granted to this port.
    Granted = 0, "granted", pass;
    /// The host itself sent the frame.
    HostOwn = 1, "host-own", pass;
    /// A guard, or the gate of an uplink, has vetted the frame.
    Vetted = 2, "vetted", pass;
    /// The frame came in by an uplink.
    FromUplink = 3, "from-uplink", pass;

    /// The port is quarantined, and the frame goes to its sandbox or comes from there.
    Sandboxed = 4, "sandboxed", pass;

    /// No verdict on the port's VM is in force yet, so the port is mute.
    PortPending = 8, "port-pending", drop;
    /// The port is quarantined.
    PortIsolated = 9, "port-isolated", drop;
    /// The guard runs on an interface that no slot describes.
    PortUnknown = 10, "port-unknown", drop;
    /// The frame reached the gate without the stamp of a guard.
    Unvetted = 11, "unvetted", drop;
    /// The frame was stamped, but came from an interface that is no port in force.
    SourceNotInForce = 12, "source-not-in-force", drop;
    /// The frame would cross the boundary of the sandbox, where only quarantined ports do.
    SandboxBoundary = 13, "sandbox-boundary", drop;
    /// The source MAC is granted to a guest of this host, so the frame cannot have come from outside.
    MacOfLocalGuest = 14, "mac-of-local-guest", drop;

    /// The frame ends before its headers do.
    Truncated = 16, "truncated", drop;
    /// The source MAC is a group address or all zero.
    SourceMacInvalid = 17, "source-mac-invalid", drop;
    /// The destination is a link-local bridge address (01:80:c2:00:00:0x): STP, LLDP, 802.1X.
    LinkLocalDestination = 18, "link-local-destination", drop;
    /// The frame is 802.3 with a length field (LLC or SNAP), which hides what it carries.
    Llc = 19, "llc", drop;
    /// The EtherType is none of IPv4, IPv6, ARP and RARP.
    EtherTypeUnknown = 20, "ethertype-unknown", drop;
    /// More VLAN tags than are read, or a VLAN in another place than the outermost 802.1Q tag.
    VlanTags = 21, "vlan-tags", drop;
    /// The MAC is granted, but not on this VLAN.
    VlanNotGranted = 22, "vlan-not-granted", drop;
    /// The source MAC is not granted to this port.
    MacNotGranted = 23, "mac-not-granted", drop;

    /// The ARP or RARP packet is not one for IPv4 over Ethernet.
    ArpMalformed = 24, "arp-malformed", drop;
    /// The ARP or RARP sender MAC is not the Ethernet source, or a RARP packet asks for another MAC.
    ArpSenderMac = 25, "arp-sender-mac", drop;
    /// The ARP sender address is not granted to this port.
    ArpSenderAddress = 26, "arp-sender-address", drop;

    /// The IPv4 header contradicts itself or the frame.
    Ipv4Malformed = 28, "ipv4-malformed", drop;
    /// The IPv4 source address is not granted to this port.
    Ipv4Source = 29, "ipv4-source", drop;
    /// The first IPv4 fragment is too short to hold its transport header.
    Ipv4Fragment = 30, "ipv4-fragment", drop;

    /// The IPv6 header contradicts itself or the frame.
    Ipv6Malformed = 32, "ipv6-malformed", drop;
    /// The IPv6 source address is not granted to this port.
    Ipv6Source = 33, "ipv6-source", drop;
    /// The IPv6 extension headers are more than are walked.
    Ipv6HeaderChain = 34, "ipv6-header-chain", drop;
    /// The first IPv6 fragment does not hold the whole header chain (RFC 7112).
    Ipv6Fragment = 35, "ipv6-fragment", drop;

    /// The Neighbour Discovery message contradicts itself or the frame.
    NdMalformed = 36, "nd-malformed", drop;
    /// The Neighbour Discovery message has a hop limit other than 255, so it was routed.
    NdHopLimit = 37, "nd-hop-limit", drop;
    /// The Neighbour Discovery message is in a fragment (RFC 6980).
    NdFragmented = 38, "nd-fragmented", drop;
    /// The Neighbour Discovery target is not granted to this port.
    NdTarget = 39, "nd-target", drop;
    /// A link-layer address option is not the Ethernet source.
    NdLinkLayer = 40, "nd-link-layer", drop;
    /// Router advertisement, redirect, PIM, or a query for groups (IGMP, MLD) from a port that is no router.
    RouterRole = 41, "router-role", drop;

    /// DHCP or DHCPv6 server traffic from a port that is no DHCP server.
    DhcpServerRole = 44, "dhcp-server-role", drop;
    /// The DHCP message contradicts itself or the frame.
    DhcpMalformed = 45, "dhcp-malformed", drop;
    /// The DHCP client hardware address is not the Ethernet source.
    DhcpClientMac = 46, "dhcp-client-mac", drop;

    /// The ARP or RARP packet asks the host to write a checksum into it, which would change what was judged.
    ChecksumPending = 48, "checksum-pending", drop;
    /// VRRP, or a virtual router's MAC in ARP or Neighbour Discovery, from a port without that role.
    VrrpRole = 49, "vrrp-role", drop;

    /// No trusted DHCP server has leased the address to this port, or the lease has ended.
    AddressNotLeased = 55, "address-not-leased", drop;
    /// The address belongs to another port, or to the network itself (gateway, host, protected).
    AddressTaken = 56, "address-taken", drop;
    /// The port has learned as many addresses as it may have at a time, or the host has no room for more.
    LearnedFull = 57, "learned-full", drop;

    /// The port is in the sandbox, and the frame is neither for nor from a service that is named there.
    NotAService = 58, "not-a-service", drop;
}

/// How many counters a port has: one for each possible code.
pub const REASON_SLOTS: usize = 64;

const _: () = {
    let mut i = 0;
    while i < Reason::ALL.len() {
        assert!((Reason::ALL[i] as usize) < REASON_SLOTS);
        i += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_and_names_are_unique_and_round_trip() {
        let mut names = BTreeSet::new();
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason as u8), Some(reason));
            assert!(names.insert(reason.as_str()), "{} twice", reason.as_str());
            assert!(reason.describe().ends_with('.'), "{}", reason.as_str());
        }
        let unknown = (0..=u8::MAX).filter(|c| Reason::from_code(*c).is_none()).count();
        assert_eq!(unknown, 256 - Reason::ALL.len());
    }

    /// docs/reasons.md is what operators read: it has a line for each reason, in the same words, and
    /// what to do about it.
    #[test]
    fn every_reason_is_documented() {
        let text = include_str!("../../docs/reasons.md");
        let rows: Vec<Vec<&str>> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
            .map(|row| row.split(" | ").collect())
            .filter(|row: &Vec<&str>| row[0].parse::<u8>().is_ok())
            .collect();
        for (reason, row) in Reason::ALL.iter().zip(&rows) {
            let (code, name) = ((*reason as u8).to_string(), format!("`{}`", reason.as_str()));
            assert_eq!(row[..3], [code.as_str(), name.as_str(), reason.describe()]);
            assert!(row.get(3).is_some_and(|advice| advice.ends_with('.')), "{row:?}");
        }
        assert_eq!(rows.len(), Reason::ALL.len());
    }

    #[test]
    fn only_the_named_five_pass() {
        let passing: Vec<_> = Reason::ALL.iter().filter(|r| r.passes()).collect();
        assert_eq!(
            passing,
            [
                &Reason::Granted,
                &Reason::HostOwn,
                &Reason::Vetted,
                &Reason::FromUplink,
                &Reason::Sandboxed
            ]
        );
    }
}
