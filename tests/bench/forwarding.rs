//! The path of a frame from a tap to the uplink and to another tap, with and without something that
//! vets it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use detector::bpf::Hook;
use detector_tests::tap::Tap;

use crate::bridge::{Bridge, outbound_frame, rogue_frame, vetted_frame};
use crate::ebtables::CleanTraffic;
use crate::nftables::{self, Family};
use crate::report::{Report, Target};
use crate::rounds::{Samples, Side, interleave, processor_time};
use detector_tests::bpf;

/// Frames that are written before they are read: fewer than a tap's queue holds.
const BURST: usize = 256;
/// Bursts in one slice.
const BURSTS: usize = 2;

/// Bridges that differ in what vets a frame, in the order of [`NAMES`].
struct Lanes {
    bridges: [Bridge; 8],
    _links: Vec<OwnedFd>,
}

const NAMES: [&str; 8] = [
    "unfiltered",
    "empty programs",
    "guarded",
    "nftables netdev, 1,000-element set",
    "nftables bridge, 1,000-element set",
    "locked bridge port",
    "ebtables clean-traffic, 1 VM",
    "ebtables clean-traffic, the last of 100 VMs",
];
const PLAIN: usize = 0;
const OURS: usize = 2;
const NETDEV: usize = 3;
const ONE_VM: usize = 6;
const HUNDRED_VMS: usize = 7;

impl Lanes {
    fn new() -> Result<Self> {
        let bridges: Vec<_> = NAMES.iter().map(|_| Bridge::new()).collect::<Result<_>>()?;
        let bridges =
            <[Bridge; 8]>::try_from(bridges).ok().context("as many as there are names")?;
        let [_, idle, guarded, netdev, bridge, locked, one_vm, hundred_vms] = &bridges;
        let next = bpf::load(&bpf::returning(bpf::NEXT))?;
        let hooks = [
            (idle.ifindex(&idle.taps[0])?, Hook::Ingress),
            (idle.ifindex(&idle.taps[1])?, Hook::Egress),
            (idle.uplink()?, Hook::Egress),
        ];
        let attach =
            |(ifindex, hook)| idle.network.run(|| bpf::attach(next.as_fd(), ifindex, hook));
        let links = hooks.into_iter().map(attach).collect::<Result<_>>()?;
        guarded.guard()?;
        nftables::filter(netdev, Family::Netdev)?;
        nftables::filter(bridge, Family::Bridge)?;
        locked.network.bridge(&format!("link set dev {} locked on", locked.taps[0].name()))?;
        let clean_traffic = CleanTraffic::of_libvirt()?;
        clean_traffic.put(one_vm, 1)?;
        clean_traffic.put(hundred_vms, 100)?;
        Ok(Self { bridges, _links: links })
    }

    fn measure<'a>(
        &'a self,
        rounds: usize,
        side: impl Fn(&'a Bridge) -> Side<'a>,
    ) -> Result<[Samples; 8]> {
        interleave(rounds, self.bridges.each_ref().map(side))
    }
}

pub(crate) fn run(rounds: usize, report: &mut Report) -> Result<()> {
    let lanes = Lanes::new()?;
    let (vetted, outbound, rogue) = (vetted_frame(), outbound_frame(), rogue_frame());

    let out = lanes.measure(rounds, |bridge| sending(bridge, &outbound, Fate::GoesOut))?;
    path("tap to uplink", &out, report);
    let across = lanes.measure(rounds, |bridge| sending(bridge, &vetted, Fate::Arrives))?;
    path("tap to tap", &across, report);

    let frames = lanes.measure(rounds, |bridge| passing(bridge, &vetted))?;
    // Frames a second are the inverse of time a frame.
    let compared = [(PLAIN, 0.92, 0.97), (ONE_VM, 1.3, 1.4), (HUNDRED_VMS, 4.0, 5.0)];
    for (lane, target, reach) in compared {
        let name = format!("frames a second, guarded / {}", NAMES[lane]);
        report.aim(name, frames[lane].ratio_to(&frames[OURS]), Target::AtLeast(target), reach);
    }

    let dropping = Bridge::new()?;
    let drop = bpf::load(&bpf::returning(bpf::DROP))?;
    let tap = dropping.ifindex(&dropping.taps[0])?;
    let _drop = dropping.network.run(|| bpf::attach(drop.as_fd(), tap, Hook::Ingress))?;
    let shielded = Bridge::new()?;
    let _shield = shielded.shield()?;
    let side = |bridge| sending(bridge, &rogue, Fate::IsDropped);
    let sides = [side(&dropping), side(&lanes.bridges[OURS]), side(&shielded)];
    let [bare, ours, shield] = interleave(rounds, sides)?;
    let (by_guard, by_shield) = (ours.ratio_to(&bare), shield.ratio_to(&bare));
    report.aim("drop by the guard / bare tc drop", by_guard, Target::AtMost(1.15), 1.08);
    report.aim("drop by the shield / bare tc drop", by_shield, Target::AtMost(0.6), 0.48);
    Ok(())
}

/// What each filter costs on a path.
fn path(path: &str, lanes: &[Samples; 8], report: &mut Report) {
    let plain = &lanes[PLAIN];
    for (lane, name) in lanes.iter().zip(NAMES).skip(1) {
        let (ratio, name_of_row) = (lane.ratio_to(plain), format!("{path}, {name} / unfiltered"));
        if name == NAMES[OURS] {
            report.aim(name_of_row, ratio, Target::AtMost(1.06), 1.03);
        } else {
            report.add(name_of_row, ratio, Target::None);
        }
    }
    let cost = lanes[NETDEV].cost_ratio_to(&lanes[OURS], plain);
    let name = format!("{path}, cost added by nftables netdev / by the guard");
    report.aim(name, cost, Target::AtLeast(4.0), 8.0);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// At the other tap.
    Arrives,
    /// By the uplink.
    GoesOut,
    IsDropped,
}

/// Measures what the sender spends: in the kernel a frame is carried on to the receiving tap's queue
/// by the process that writes it.
fn sending<'a>(bridge: &'a Bridge, frame: &'a [u8], fate: Fate) -> Side<'a> {
    let [from, to] = &bridge.taps;
    Box::new(move || {
        let mut time = 0;
        for _ in 0..BURSTS {
            let before = if fate == Fate::GoesOut { bridge.sent_out()? } else { 0 };
            time += processor_time(|| write_burst(from, frame))?.as_nanos();
            let arrived = match fate {
                Fate::GoesOut => usize::try_from(bridge.sent_out()? - before)?,
                Fate::Arrives | Fate::IsDropped => read_burst(to)?,
            };
            let expect = if fate == Fate::IsDropped { 0 } else { BURST };
            ensure!(arrived == expect, "{arrived} of {BURST} frames have arrived, not {expect}");
        }
        Ok(time as f64 / (BURST * BURSTS) as f64)
    })
}

/// Measures sender and receiver.
fn passing<'a>(bridge: &'a Bridge, frame: &'a [u8]) -> Side<'a> {
    let [from, to] = &bridge.taps;
    Box::new(move || {
        let time = processor_time(|| {
            for _ in 0..BURSTS {
                write_burst(from, frame)?;
                let arrived = read_burst(to)?;
                ensure!(arrived == BURST, "{arrived} of {BURST} frames have arrived");
            }
            Ok(())
        })?;
        Ok(time.as_nanos() as f64 / (BURST * BURSTS) as f64)
    })
}

fn write_burst(tap: &Tap, frame: &[u8]) -> Result<()> {
    let fd = tap.as_fd().as_raw_fd();
    for _ in 0..BURST {
        // SAFETY: the frame lives through the call, with its own length.
        let written = unsafe { libc::write(fd, frame.as_ptr().cast(), frame.len()) };
        if usize::try_from(written) != Ok(frame.len()) {
            return Err(io::Error::last_os_error()).context("cannot write to the tap");
        }
    }
    Ok(())
}

/// Reads what is there; returns how many frames that were.
fn read_burst(tap: &Tap) -> Result<usize> {
    let fd = tap.as_fd().as_raw_fd();
    let mut buffer = [0_u8; 256];
    let mut frames = 0;
    loop {
        // SAFETY: the buffer lives through the call, with its own length.
        let read = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
        if read < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock => Ok(frames),
                _ => Err(error).context("cannot read from the tap"),
            };
        }
        frames += 1;
    }
}
