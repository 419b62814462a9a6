//! How long it takes to put grants in force.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use detector::enforcer::Enforcer;
use detector_common::addr::Mac;
use detector_common::maps;
use detector_common::port::{Grant, GrantKey};
use detector_core::reconcile::Action;
use detector_tests::bpf;

use crate::bridge::{Bridge, enforcer_of};
use crate::programs::other;
use crate::report::{Report, Target};
use crate::rounds::{Side, interleave_slices, processor_time};

const GRANTS: u32 = 100_000;

pub(crate) fn run(rounds: usize, report: &mut Report) -> Result<()> {
    let bridge = Bridge::new()?;
    let (mut enforcer, pins, ifindex) = enforcer_of(&bridge)?;
    let map = bpf::open_pin(&pins.map(maps::GRANTS))?;
    let instance = enforcer.observe()?.interfaces.get(&ifindex).context("no slot")?.slot.instance;
    let grants: Vec<_> = (0..GRANTS).map(other).collect();
    let put = Action::PutGrants { ifindex, instance, grants: grants.clone() };
    let drop = Action::DropGrants { ifindex, instance, grants: grants.clone() };
    let entry = |number| {
        let grant = other(number);
        let (mac, vlan, address) = (Mac(grant.mac), grant.vlan, grant.address);
        (GrantKey { ifindex, instance, mac, vlan, address }, Grant { flags: grant.flags })
    };
    let entries: Vec<_> = (0..GRANTS).map(entry).collect();

    let single: Side<'_> = Box::new(|| {
        let put = |(key, grant): &_| bpf::put(map.as_fd(), key, grant);
        let time = processor_time(|| entries.iter().try_for_each(put))?;
        entries.iter().try_for_each(|(key, _)| bpf::remove(map.as_fd(), key))?;
        Ok(time.as_nanos() as f64)
    });
    // What the daemon does, its own record of them included.
    let ours: Side<'_> = Box::new(|| {
        let time = processor_time(|| Ok(enforcer.execute(&put)?))?;
        enforcer.execute(&drop)?;
        Ok(time.as_nanos() as f64)
    });
    let [single, ours] = interleave_slices(rounds, 1, [single, ours])?;
    let name = "100,000 grants put in force / by one call each";
    report.aim(name, ours.ratio_to(&single), Target::AtMost(0.6), 0.4);
    Ok(())
}
