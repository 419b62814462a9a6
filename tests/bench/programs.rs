//! The programs alone, run by the kernel on one frame over and over.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use detector::bpf::Hook;
use detector_common::port::flags;
use detector_core::reconcile::GrantEntry;
use detector_tests::frames::Station;

use crate::bridge::{B, Bridge, frame_of, rogue_frame, vetted_frame};
use crate::report::{Report, Target};
use crate::rounds::{Side, interleave, processor_time};
use detector_tests::bpf::{self, DROP, NEXT, SkBuff};

/// Runs in one slice: less than a millisecond.
const TIMES: u32 = 20_000;

pub(crate) fn run(rounds: usize, report: &mut Report) -> Result<()> {
    let bridge = Bridge::new()?;
    let guarded = bridge.guard()?;
    let ingress = guarded.program(Hook::Ingress)?;
    let egress = guarded.program(Hook::Egress)?;
    let empty = bpf::load(&bpf::returning(NEXT))?;
    let drop = bpf::load(&bpf::returning(DROP))?;
    let (guard_flood, _table) = flood_of(&ingress)?;
    let (drop_flood, _other_table) = flood_of(&drop)?;

    let on_tap = SkBuff::on(guarded.ifindexes[0]);
    let (vetted, rogue) = (vetted_frame(), rogue_frame());
    let side = |name: &'static str, program, context, frame, expect| -> Side<'_> {
        Box::new(move || sample(program, context, frame, expect).context(name))
    };
    // Interfaces are found by the namespace of the thread that runs the program.
    let [empty, pass, deliver, drop, rogue, drop_flood, guard_flood] =
        bridge.network.run(|| {
            interleave(
                rounds,
                [
                    side("empty", &empty, &on_tap, &vetted, NEXT),
                    side("guard, from the guest", &ingress, &on_tap, &vetted, NEXT),
                    side("guard, from host to guest", &egress, &on_tap, &vetted, NEXT),
                    side("drop", &drop, &on_tap, &rogue, DROP),
                    side("guard, a rogue", &ingress, &on_tap, &rogue, DROP),
                    side("drop, random MACs", &drop_flood, &on_tap, &rogue, DROP),
                    side("guard, random MACs", &guard_flood, &on_tap, &rogue, DROP),
                ],
            )
        })?;
    let name = "guard, from the guest / empty program";
    report.aim(name, pass.ratio_to(&empty), Target::AtMost(1.2), 1.1);
    // The guard takes the stamp off, so a frame that is run again and again can only be the host's.
    report.add("guard, from host to guest / empty program", deliver.ratio_to(&empty), Target::None);
    let drops = [
        ("guard, the same rogue / bare drop", rogue.ratio_to(&drop)),
        ("guard, random MACs / bare drop", guard_flood.ratio_to(&drop_flood)),
    ];
    for (name, ratio) in drops {
        report.aim(name, ratio, Target::AtMost(2.2), 1.3);
    }
    crowd(rounds, report)?;
    ports(rounds, report)
}

/// One identity, where another port of the host has this many.
const CROWDS: [u32; 3] = [1_000, 16_000, 100_000];

fn crowd(rounds: usize, report: &mut Report) -> Result<()> {
    let alone = Bridge::new()?;
    let alone_guarded = alone.guard()?;
    let alone_guard = alone_guarded.program(Hook::Ingress)?;
    let empty = bpf::load(&bpf::returning(NEXT))?;
    let vetted = vetted_frame();
    for size in CROWDS {
        let others: Vec<_> = (0..size).map(other).collect();
        let listed = frame_of(Station { mac: others[others.len() - 1].mac, ..B });
        let crowded = Bridge::new()?;
        let guarded = crowded.guard_beside(&others)?;
        let guard = guarded.program(Hook::Ingress)?;
        let [empty, one, many, listed] = interleave(
            rounds,
            [
                side(&alone, &empty, alone_guarded.ifindexes[0], &vetted),
                side(&alone, &alone_guard, alone_guarded.ifindexes[0], &vetted),
                side(&crowded, &guard, guarded.ifindexes[0], &vetted),
                side(&crowded, &guard, guarded.ifindexes[1], &listed),
            ],
        )?;
        let name = format!("guard, {size} grants on the host / one");
        report.aim(name, many.ratio_to(&one), Target::AtMost(1.05), 1.0);
        let name = format!("guard, a port with {size} grants / empty program");
        report.add(name, listed.ratio_to(&empty), Target::None);
    }
    Ok(())
}

fn side<'a>(bridge: &'a Bridge, program: &'a OwnedFd, ifindex: u32, frame: &'a [u8]) -> Side<'a> {
    Box::new(move || bridge.network.run(|| sample(program, &SkBuff::on(ifindex), frame, NEXT)))
}

/// One port, and a thousand in turn.
const PORTS: usize = 1_000;
/// Runs on one port before the next has its turn.
const TURN: u32 = 20;

fn ports(rounds: usize, report: &mut Report) -> Result<()> {
    let bridge = Bridge::new()?;
    let guarded = bridge.guard_many(PORTS)?;
    let guard = guarded.program(Hook::Ingress)?;
    let frame = vetted_frame();
    let turns = |ifindexes: Vec<u32>| -> Side<'_> {
        let (guard, frame) = (&guard, &frame);
        Box::new(move || {
            let run = |ifindex: &u32| bpf::run(guard.as_fd(), &SkBuff::on(*ifindex), frame, TURN);
            let time = processor_time(|| {
                ifindexes.iter().try_for_each(|ifindex| {
                    ensure!(run(ifindex)? == NEXT, "a frame of interface {ifindex} is dropped");
                    Ok(())
                })
            })?;
            Ok(time.as_nanos() as f64 / (ifindexes.len() * TURN as usize) as f64)
        })
    };
    let one = vec![guarded.ifindexes[0]; guarded.ifindexes.len()];
    let all = guarded.ifindexes.clone();
    let [one, all] = bridge.network.run(|| interleave(rounds, [turns(one), turns(all)]))?;
    report.add("guard, 1,000 ports in turn / one", all.ratio_to(&one), Target::None);
    Ok(())
}

/// A MAC that may use any address.
pub(crate) fn other(number: u32) -> GrantEntry {
    let [a, b, c, d] = number.to_be_bytes();
    GrantEntry {
        mac: [2, 1, a, b, c, d],
        vlan: 0,
        address: [0; 16],
        prefix: None,
        flags: flags::V4 | flags::V6,
    }
}

/// Nanoseconds a run.
fn sample(program: &OwnedFd, context: &SkBuff, frame: &[u8], expect: i32) -> Result<f64> {
    let time = processor_time(|| {
        let verdict = bpf::run(program.as_fd(), context, frame, TIMES)?;
        ensure!(verdict == expect, "the program returned {verdict}, not {expect}");
        Ok(())
    })?;
    Ok(time.as_nanos() as f64 / f64::from(TIMES))
}

/// A program that changes the frame's source MAC at each run, then jumps to another. The table must
/// be kept open.
fn flood_of(program: &OwnedFd) -> Result<(OwnedFd, OwnedFd)> {
    let table = bpf::jump_table(program.as_fd())?;
    let flood = bpf::load(&[
        (0xbf, 0x16, 0, 0),                             // r6 = context
        (0x61, 0x12, 76, 0),                            // r2 = data
        (0x61, 0x13, 80, 0),                            // r3 = data_end
        (0xbf, 0x24, 0, 0),                             // r4 = r2
        (0x07, 0x04, 0, 14),                            // r4 += 14
        (0x2d, 0x34, 8, 0),                             // if r4 > r3 goto end
        (0x61, 0x25, 8, 0),                             // r5 = last four bytes of the source MAC
        (0x07, 0x05, 0, 0x9e37_79b1_u32.cast_signed()), // r5 += an odd constant
        (0x63, 0x52, 8, 0),                             // write them back
        (0xbf, 0x61, 0, 0),                             // r1 = context
        (0x18, 0x12, 0, table.as_raw_fd()),             // r2 = the table …
        (0, 0, 0, 0),                                   // … in two words
        (0xb7, 0x03, 0, 0),                             // r3 = 0
        (0x85, 0, 0, 12),                               // jump
        (0xb7, 0, 0, 0),                                // end: r0 = 0
        (0x95, 0, 0, 0),
    ])?;
    Ok((flood, table))
}
