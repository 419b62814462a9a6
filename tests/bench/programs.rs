//! The programs alone, run by the kernel on one frame over and over.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use detector::bpf::Hook;
use detector_common::port::flags;
use detector_core::reconcile::GrantEntry;
use detector_tests::frames::Station;
use detector_tests::netns::NetNs;

use crate::bridge::{B, Bridge, frame_of, rogue_frame, vetted_frame};
use crate::report::{Report, Target};
use crate::rounds::{Side, interleave, processor_time};
use detector_tests::bpf::{self, Instruction, SkBuff};

/// Runs in one slice: less than a millisecond.
const TIMES: u32 = 20_000;

const NEXT: i32 = -1;
const DROP: i32 = 2;

pub(crate) fn run(rounds: usize, report: &mut Report) -> Result<()> {
    let bridge = Bridge::new()?;
    let guarded = bridge.guard()?;
    let ingress = guarded.program(Hook::Ingress)?;
    let egress = guarded.program(Hook::Egress)?;
    let empty = bpf::load(&returning(NEXT))?;
    let drop = bpf::load(&returning(DROP))?;
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
    report.add("guard, from the guest / empty program", pass.ratio_to(&empty), Target::AtMost(1.2));
    // The guard takes the stamp off, so a frame that is run again and again can only be the host's.
    report.add("guard, from host to guest / empty program", deliver.ratio_to(&empty), Target::None);
    report.add("guard, the same rogue / bare drop", rogue.ratio_to(&drop), Target::AtMost(2.2));
    report.add(
        "guard, random MACs / bare drop",
        guard_flood.ratio_to(&drop_flood),
        Target::AtMost(2.2),
    );
    crowd(rounds, report)
}

/// One identity, where another port of the host has a hundred thousand.
fn crowd(rounds: usize, report: &mut Report) -> Result<()> {
    let others: Vec<_> = (0..100_000).map(other).collect();
    let last = Station { mac: others[others.len() - 1].mac, ..B };
    let (alone, crowded) = (Bridge::new()?, Bridge::new()?);
    let alone_guarded = alone.guard()?;
    let crowded_guarded = crowded.guard_beside(&others)?;
    let (alone_guard, crowded_guard) =
        (alone_guarded.program(Hook::Ingress)?, crowded_guarded.program(Hook::Ingress)?);
    let empty = bpf::load(&returning(NEXT))?;
    let (vetted, listed) = (vetted_frame(), frame_of(last));
    let side = |bridge: &'static str, network, program, ifindex, frame| -> Side<'_> {
        let network: &NetNs = network;
        Box::new(move || {
            let sample = || sample(program, &SkBuff::on(ifindex), frame, NEXT);
            network.run(sample).context(bridge)
        })
    };
    let [empty, one, many, listed] = interleave(
        rounds,
        [
            side("empty", &alone.network, &empty, alone_guarded.ifindexes[0], &vetted),
            side("alone", &alone.network, &alone_guard, alone_guarded.ifindexes[0], &vetted),
            side(
                "crowded",
                &crowded.network,
                &crowded_guard,
                crowded_guarded.ifindexes[0],
                &vetted,
            ),
            side("listed", &crowded.network, &crowded_guard, crowded_guarded.ifindexes[1], &listed),
        ],
    )?;
    report.add(
        "guard, 100,000 grants on the host / one",
        many.ratio_to(&one),
        Target::AtMost(1.05),
    );
    report.add("guard, one of 100,000 MACs / empty program", listed.ratio_to(&empty), Target::None);
    Ok(())
}

/// A MAC that may use any address.
fn other(number: u32) -> GrantEntry {
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

fn returning(verdict: i32) -> [Instruction; 2] {
    [(0xb7, 0, 0, verdict), (0x95, 0, 0, 0)]
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
