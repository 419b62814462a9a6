//! What one would otherwise do: nftables with the identities in a set.

use std::fmt::Write as _;

use anyhow::Result;
use detector_tests::frames::Station;

use crate::bridge::{A, Bridge};
use crate::tool;

const ELEMENTS: u32 = 1000;

/// The hooks that see a frame of a bridge port.
#[derive(Clone, Copy)]
pub(crate) enum Family {
    Netdev,
    Bridge,
}

/// Lets only 1,000 pairs of MAC and address in by the first tap, A's among them.
pub(crate) fn filter(bridge: &Bridge, family: Family) -> Result<()> {
    let port = bridge.taps[0].name();
    let (table, hook, only) = match family {
        Family::Netdev => ("netdev", format!("ingress device {port} priority 0"), String::new()),
        Family::Bridge => {
            ("bridge", "prerouting priority -300".to_owned(), format!("iifname {port} "))
        }
    };
    let mut elements = pair(A);
    for number in 1..ELEMENTS {
        let [_, _, high, low] = number.to_be_bytes();
        let other = Station { mac: [2, 0, 0, 9, high, low], ip: [10, 9, high, low].into() };
        write!(elements, ", {}", pair(other))?;
    }
    let rules = format!(
        "table {table} bench {{
            set granted {{ type ether_addr . ipv4_addr; elements = {{ {elements} }} }}
            chain vet {{
                type filter hook {hook}; policy accept;
                {only}ether saddr . ip saddr @granted accept
                {only}drop
            }}
        }}"
    );
    tool::feed(&bridge.network, "nft", &["-f", "-"], &rules)
}

fn pair(station: Station) -> String {
    let [a, b, c, d, e, f] = station.mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} . {}", station.ip)
}
