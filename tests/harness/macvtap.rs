//! Macvtaps, with the guest's end of each.

use std::process::Command;

use anyhow::{Context, Result};
use detector_guest::Mac;

use crate::guest::hex;
use crate::host::Host;
use crate::tap::Tap;

/// Makes a macvtap on a device of the host, up, and opens it as QEMU does.
pub fn open(host: &Host, device: &str, name: &str, mode: &str, mac: Mac) -> Result<Tap> {
    let network = host.network();
    let mac = hex(mac);
    network.ip(&format!(
        "link add link {device} name {name} address {mac} type macvtap mode {mode}"
    ))?;
    // A frame of the kernel's own would be mistaken for the guest's.
    network.ip(&format!("link set {name} addrgenmode none"))?;
    network.ip(&format!("link set {name} up"))?;
    let numbers = format!("cat /sys/class/net/{name}/tap*/dev");
    let numbers = host.check(Command::new("sh").args(["-c", &numbers]))?;
    let parts = numbers.trim().split_once(':').context("a macvtap has a device")?;
    let device = nix::sys::stat::makedev(parts.0.parse()?, parts.1.parse()?);
    Tap::of_macvtap(network, name, &host.path(name), device)
}
