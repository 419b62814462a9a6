//! The path of a frame from tap to tap, with and without something that vets it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use detector::bpf::Hook;
use detector_tests::tap::Tap;

use crate::bridge::{Bridge, rogue_frame, vetted_frame};
use crate::nftables::{self, Family};
use crate::report::{Report, Target};
use crate::rounds::{Side, interleave, processor_time};
use detector_tests::bpf;

/// Frames that are written before they are read: fewer than a tap's queue holds.
const BURST: usize = 256;
/// Bursts in one slice.
const BURSTS: usize = 2;

const NEXT: i32 = -1;
const DROP: i32 = 2;

pub(crate) fn run(rounds: usize, report: &mut Report) -> Result<()> {
    let (open, guarded, dropping) = (Bridge::new()?, Bridge::new()?, Bridge::new()?);
    guarded.guard()?;
    let netdev = Bridge::new()?;
    nftables::filter(&netdev, Family::Netdev)?;
    let bridge = Bridge::new()?;
    nftables::filter(&bridge, Family::Bridge)?;
    let drop = bpf::load(&[(0xb7, 0, 0, DROP), (0x95, 0, 0, 0)])?;
    let _drop = attach(&dropping, 0, &drop, Hook::Ingress)?;
    let next = bpf::load(&[(0xb7, 0, 0, NEXT), (0x95, 0, 0, 0)])?;
    let idle = Bridge::new()?;
    let _idle = [attach(&idle, 0, &next, Hook::Ingress)?, attach(&idle, 1, &next, Hook::Egress)?];

    let (vetted, rogue) = (vetted_frame(), rogue_frame());
    let [plain, empty, ours, by_netdev, by_bridge] = interleave(
        rounds,
        [
            sending(&open, &vetted, Fate::Arrives),
            sending(&idle, &vetted, Fate::Arrives),
            sending(&guarded, &vetted, Fate::Arrives),
            sending(&netdev, &vetted, Fate::Arrives),
            sending(&bridge, &vetted, Fate::Arrives),
        ],
    )?;
    let added = ours.beyond(&plain);
    report.add("tap to tap, guarded / unfiltered", ours.ratio_to(&plain), Target::AtMost(1.06));
    report.add("tap to tap, empty programs / unfiltered", empty.ratio_to(&plain), Target::None);
    report.add(
        "tap to tap, nftables netdev / unfiltered",
        by_netdev.ratio_to(&plain),
        Target::None,
    );
    report.add(
        "tap to tap, nftables bridge / unfiltered",
        by_bridge.ratio_to(&plain),
        Target::None,
    );
    report.add(
        "cost added by nftables netdev / by the guard",
        by_netdev.beyond(&plain) / added,
        Target::AtLeast(4.0),
    );
    report.add(
        "cost added by nftables bridge / by the guard",
        by_bridge.beyond(&plain) / added,
        Target::None,
    );

    let [plain, ours] = interleave(rounds, [passing(&open, &vetted), passing(&guarded, &vetted)])?;
    // Frames a second are the inverse of time a frame.
    let frames = plain.ratio_to(&ours);
    report.add("frames a second, guarded / unfiltered", frames, Target::AtLeast(0.92));

    let [bare, ours] = interleave(
        rounds,
        [sending(&dropping, &rogue, Fate::IsDropped), sending(&guarded, &rogue, Fate::IsDropped)],
    )?;
    report.add("drop by the guard / bare tc drop", ours.ratio_to(&bare), Target::AtMost(1.15));
    Ok(())
}

fn attach(bridge: &Bridge, tap: usize, program: &OwnedFd, hook: Hook) -> Result<OwnedFd> {
    let ifindex = bridge.ifindex(&bridge.taps[tap])?;
    bridge.network.run(|| bpf::attach(program.as_fd(), ifindex, hook))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrives,
    IsDropped,
}

/// Measures what the sender spends: in the kernel a frame is carried on to the receiving tap's queue
/// by the process that writes it.
fn sending<'a>(bridge: &'a Bridge, frame: &'a [u8], fate: Fate) -> Side<'a> {
    let [from, to] = &bridge.taps;
    Box::new(move || {
        let mut time = 0;
        for _ in 0..BURSTS {
            time += processor_time(|| write_burst(from, frame))?.as_nanos();
            let arrived = read_burst(to)?;
            let expect = if fate == Fate::Arrives { BURST } else { 0 };
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
