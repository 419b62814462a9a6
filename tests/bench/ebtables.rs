//! What libvirt's own filter `clean-traffic` does for each VM, with the tables that it uses.

use std::fmt::Write as _;

use anyhow::Result;
use detector_tests::frames::Station;

use crate::bridge::{A, B, Bridge};
use crate::tool;

/// Both taps' rules, behind those of other VMs: so many in all.
pub(crate) fn clean_traffic(bridge: &Bridge, vms: usize) -> Result<()> {
    let others = (2..vms).map(|number| {
        let [high, low] = u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes();
        let station = Station { mac: [2, 0, 0, 9, high, low], ip: [10, 9, high, low].into() };
        (format!("other{number}"), station)
    });
    let ours =
        bridge.taps.iter().zip([A, B]).map(|(tap, station)| (tap.name().to_owned(), station));
    // With one VM only the sender is filtered.
    let vms: Vec<_> = others.chain(ours.take(vms)).collect();
    let mut table = "*nat\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n".to_owned();
    for (port, _) in &vms {
        for chain in ["libvirt-I-", "libvirt-O-"] {
            writeln!(table, ":{chain}{port} ACCEPT")?;
        }
        for chain in ["mac", "ipv4-ip", "arp-mac", "arp-ip"] {
            writeln!(table, ":I-{port}-{chain} ACCEPT")?;
        }
    }
    for (port, station) in &vms {
        rules(&mut table, port, *station)?;
    }
    tool::feed(&bridge.network, "ebtables-restore", &[], &table)
}

fn rules(table: &mut String, port: &str, Station { mac, ip }: Station) -> Result<()> {
    let [a, b, c, d, e, f] = mac;
    let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    let (from, to) = (format!("libvirt-I-{port}"), format!("libvirt-O-{port}"));
    write!(
        table,
        "-A PREROUTING -i {port} -j {from}
-A POSTROUTING -o {port} -j {to}
-A {from} -j I-{port}-mac
-A {from} -p IPv4 -j I-{port}-ipv4-ip
-A {from} -p IPv4 -j ACCEPT
-A {from} -p ARP -j I-{port}-arp-mac
-A {from} -p ARP -j I-{port}-arp-ip
-A {from} -p ARP -j ACCEPT
-A {from} -j DROP
-A I-{port}-mac -s {mac} -j RETURN
-A I-{port}-mac -j DROP
-A I-{port}-ipv4-ip -p IPv4 --ip-src 0.0.0.0 --ip-proto udp -j RETURN
-A I-{port}-ipv4-ip -p IPv4 --ip-src {ip} -j RETURN
-A I-{port}-ipv4-ip -j DROP
-A I-{port}-arp-mac -p ARP --arp-mac-src {mac} -j RETURN
-A I-{port}-arp-mac -j DROP
-A I-{port}-arp-ip -p ARP --arp-ip-src {ip} -j RETURN
-A I-{port}-arp-ip -j DROP
-A {to} -p IPv4 -j ACCEPT
-A {to} -p ARP -j ACCEPT
-A {to} -j DROP
"
    )?;
    Ok(())
}
