//! What approved VMs lose from their first frame on, while the daemon runs: real guests under a real
//! libvirt.

use anyhow::{Result, ensure};
use detector_tests::demo::{BOOT, Stage};
use detector_tests::guest::Guest;
use detector_tests::host::Host;
use detector_tests::wait;

use crate::report::{Report, Target};
use crate::rounds::Figure;

/// Each takes a guest seconds to boot under emulation.
const STARTS: u8 = 5;

pub(crate) fn run(_rounds: usize, report: &mut Report) -> Result<()> {
    let host = Host::new()?;
    let stage = Stage::build(&host)?;
    let (_daemon, libvirt) = stage.start()?;
    let (mut sent, mut arrived) = (0, 0);
    for number in 0..STARTS {
        let guest = Guest::new(&format!("first{number}"), 20 + number);
        libvirt.define(&guest, &stage.approved, "br0")?;
        libvirt.start_domain(&guest)?;
        let phase = wait::until("the first phase of a guest", BOOT, || {
            Ok(stage.outside(guest.mac)?.first_phase())
        })?;
        ensure!(phase.sent > 0, "a guest has sent nothing");
        sent += phase.sent;
        arrived += phase.arrived;
        libvirt.destroy(&guest)?;
    }
    let lost = sent.saturating_sub(arrived);
    report.note(format!("{STARTS} approved VMs: {arrived} of {sent} frames have arrived"));
    let name = "frames lost / sent, approved VMs from their first one on";
    report.add(name, Figure::alone(lost as f64 / sent as f64), Target::AtMost(0.0));
    Ok(())
}
