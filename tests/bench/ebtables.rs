//! What libvirt's own filter `clean-traffic` does for each VM, with the tables that it uses: the rules are
//! those that a libvirt has put in place for a VM.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use detector_tests::frames::Station;
use detector_tests::host::Host;
use detector_tests::libvirt::Libvirt;
use detector_tests::link;

use crate::bridge::{A, B, Bridge};
use crate::tool;

/// What stands in the rules for a VM's own.
const PORT: &str = "guarded-vm";
const MAC: &str = "52:54:00:0a:0b:0c";
const IP: &str = "192.0.2.77";

/// The rules for one VM, as text for `ebtables-restore`: chains that are declared, and rules.
pub(crate) struct CleanTraffic {
    chains: Vec<String>,
    rules: Vec<String>,
}

impl CleanTraffic {
    /// Lets a libvirt start a VM that has the filter, and looks.
    pub(crate) fn of_libvirt() -> Result<Self> {
        let host = Host::new()?;
        link::bridge(host.network(), "br0")?;
        let libvirt = Libvirt::start(&host, None)?;
        let path = host.path("filtered.xml");
        std::fs::write(&path, domain())?;
        libvirt.virsh(&["create", "--paused", &path.to_string_lossy()])?;
        let saved = host.check(Command::new("ebtables-save").args(["-t", "nat"]))?;
        libvirt.virsh(&["destroy", "filtered"])?;
        let of_vm = |line: &&str| line.contains(PORT);
        let lines = saved.lines().filter(of_vm).map(str::to_owned);
        let (chains, rules): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with(':'));
        ensure!(
            chains.len() > 2 && rules.len() > chains.len(),
            "libvirt has put no filter in place:\n{saved}"
        );
        Ok(Self { chains, rules })
    }

    /// Both taps' rules, behind those of other VMs: so many in all.
    pub(crate) fn put(&self, bridge: &Bridge, vms: usize) -> Result<()> {
        let others = (2..vms).map(|number| {
            let [high, low] = u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes();
            let station = Station { mac: [2, 0, 0, 9, high, low], ip: [10, 9, high, low].into() };
            (format!("o{number}"), station)
        });
        let ours =
            bridge.taps.iter().zip([A, B]).map(|(tap, station)| (tap.name().to_owned(), station));
        // With one VM only the sender is filtered.
        let vms: Vec<_> = others.chain(ours.take(vms)).collect();
        let mut table =
            "*nat\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n".to_owned();
        for lines in [&self.chains, &self.rules] {
            for (port, station) in &vms {
                for line in lines {
                    writeln!(table, "{}", of(line, port, *station))?;
                }
            }
        }
        tool::feed(&bridge.network, "ebtables-restore", &[], &table)
            .with_context(|| format!("the rules of libvirt:\n{}", self.rules.join("\n")))
    }
}

/// The line for another VM.
fn of(line: &str, port: &str, Station { mac, ip }: Station) -> String {
    let [a, b, c, d, e, f] = mac;
    let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    line.replace(PORT, port).replace(MAC, &mac).replace(IP, &ip.to_string())
}

/// A VM that has the filter, and nothing to boot from.
fn domain() -> String {
    format!(
        "<domain type='qemu'><name>filtered</name><memory unit='MiB'>64</memory>
         <os><type arch='x86_64' machine='pc'>hvm</type></os>
         <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
         <interface type='bridge'><mac address='{MAC}'/><source bridge='br0'/>
         <target dev='{PORT}'/><model type='virtio'/>
         <filterref filter='clean-traffic'><parameter name='IP' value='{IP}'/></filterref>
         </interface><memballoon model='none'/></devices></domain>"
    )
}
