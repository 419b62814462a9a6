//! The loaded kernel program against the function that it is compiled from: the same frames, by
//! `BPF_PROG_TEST_RUN`, get the same verdict for the same reason.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use aya_log::EbpfLogger;
use detector::bpf::{Hook, KernelEnforcer, Method, Options, PinPaths};
use detector::enforcer::Enforcer;
use detector_common::addr::Address;
use detector_common::counters::Budget;
use detector_common::event::EventRecord;
use detector_common::learned::{Owner, OwnerKey};
use detector_common::maps;
use detector_common::port::flags;
use detector_common::reason::Reason;
use detector_common::samples::{IP_A, IP6_A, MAC_A, tcp4};
use detector_common::{settings::Mode, stamp::Stamp};
use detector_core::reconcile::{Action, GrantEntry, SlotEntry};
use detector_oracle::granted::Compiled;
use detector_oracle::{self as oracle, Arrival, dice::Dice, frames, granted, learned};
use detector_tests::bpf::{self, SkBuff};
use detector_tests::needs;
use detector_tests::netns::NetNs;
use detector_tests::pins::PinRoot;
use detector_tests::wait;

#[path = "program/delivery.rs"]
mod delivery;
#[path = "program/expiry.rs"]
mod expiry;
#[path = "program/samples.rs"]
mod samples;
#[path = "program/tags.rs"]
mod tags;

/// The loopback device of a namespace, from which a test run's frames come.
const LO: u32 = 1;
/// For each kind of port: frames of the table that are mutated, and frames of the stream that the host's
/// test judges as well (`tests/oracle/tests/agree.rs`), from its beginning; fewer where all is slower.
const MUTANTS: usize = 500;
const STREAM: usize = 8_000;
/// Fixed, so that a failure comes back.
const SEED: u64 = 0x5eed_0001;
/// Ethernet and IPv6 header.
const SHORT: usize = 54;
/// `TC_ACT_SHOT`
const SHOT: i32 = 2;

#[test]
fn kernel_and_host_agree_on_every_frame() {
    NetNs::new().unwrap().run(compare).unwrap();
}

/// Nobody reads the events: what the ring buffer has no room for is counted, and dropped like the rest.
#[test]
fn a_full_ring_buffer_changes_no_verdict() {
    NetNs::new().unwrap().run(fill).unwrap();
}

fn fill() -> Result<()> {
    let mut port = Port::new()?;
    let (_, rules) = granted::ports().swap_remove(0);
    port.admit(rules)?;
    let budgets = PinPaths::new(port.pins.path()).map(maps::BUDGETS);
    let lost = |port: &Port| -> Result<u64> {
        Ok(port.enforcer.counts(LO)?.context("the port has no counters")?.events_lost)
    };
    // Each is another claim, so that each would be told.
    for number in 0..4 * maps::EVENT_BYTES / size_of::<EventRecord>() as u32 {
        let [_, a, b, c] = number.to_be_bytes();
        port.check(&format!("claim {number}"), &tcp4([2, 0, 0, a, b, c], IP_A))?;
        bpf::change(&budgets, u32::from(port.id), |budget: &mut Budget| budget.tokens = 16)?;
        if number % 256 == 0 && lost(&port)? > 100 {
            return Ok(());
        }
    }
    bail!("{} events were lost", lost(&port)?)
}

/// A guard that runs where no slot is says so, and no guest makes it say so again and again.
#[test]
fn a_guard_without_a_slot_complains_once_a_second() {
    const NO_SLOT: u32 = 7;
    NetNs::new()
        .unwrap()
        .run(|| {
            let port = Port::new()?;
            let id = bpf::program_id(port.guard.as_fd())?;
            let lines = Arc::new(Mutex::new(Vec::new()));
            let mut logger = EbpfLogger::init_from_id_with_logger(id, Lines(lines.clone()))?;
            let start = Instant::now();
            run_on(NO_SLOT, &port)?;
            logger.flush();
            let lines = lines.lock().unwrap();
            // The test may run across the borders of seconds.
            let most = 2 + start.elapsed().as_secs() as usize;
            ensure!((1..=most).contains(&lines.len()), "{} lines", lines.len());
            ensure!(lines[0].contains("interface 7"), "{}", lines[0]);
            Ok(())
        })
        .unwrap();
}

/// A sandboxed port without its passage is cut off, whoever quarantined it; only a verdict that is merely
/// observed lets it go on.
#[test]
fn without_a_passage_nothing_goes_to_the_sandbox() {
    let in_force = |by: u32, mode: Mode| {
        NetNs::new().unwrap().run(|| {
            let mut port = Port::new()?;
            port.enforcer.execute(&Action::SetMode(mode.into()))?;
            let flags = flags::ISOLATED | flags::SANDBOXED | flags::V4 | flags::V6 | by;
            let slot = SlotEntry { flags, mac: MAC_A, ..SlotEntry::default() };
            let instance = port.instance;
            port.enforcer.execute(&Action::WriteSlot { ifindex: LO, instance, slot })?;
            let before = port.counters()?;
            let frame = tcp4(MAC_A, IP_A);
            let action = bpf::run(port.guard.as_fd(), &SkBuff::on(LO), &frame, 1)?;
            let after = port.counters()?;
            let moved = |reason: Reason| after[reason as usize] > before[reason as usize];
            let counted = [Reason::PortIsolated, Reason::Sandboxed].map(moved);
            Ok((action == SHOT, counted))
        })
    };
    let dropped = (true, [true, false]);
    assert_eq!(in_force(0, Mode::Enforce).unwrap(), dropped);
    assert_eq!(in_force(flags::ISOLATED_BY_OPERATOR, Mode::Enforce).unwrap(), dropped);
    assert_eq!(in_force(flags::ISOLATED_BY_OPERATOR, Mode::Observe).unwrap(), dropped);
    assert_eq!(in_force(0, Mode::Observe).unwrap(), (false, [false, true]));
}

/// An address that the host has no room for is nobody's: no conflict is made up.
#[test]
fn where_there_is_no_room_nothing_is_called_taken() {
    NetNs::new().unwrap().run(without_room).unwrap();
}

fn without_room() -> Result<()> {
    let mut port = Port::new()?;
    let flags = flags::GRANTED | flags::LEARNS | flags::FIRST_COME;
    let slot = SlotEntry { flags, mac: MAC_A, ..SlotEntry::default() };
    let instance = port.instance;
    port.enforcer.execute(&Action::WriteSlot { ifindex: LO, instance, slot })?;
    let owners = bpf::open_pin(&PinPaths::new(port.pins.path()).map(maps::ADDRESS_OWNERS))?;
    for number in 0..maps::MAX_OWNERS {
        let [a, b, c, d] = number.to_be_bytes();
        let key = OwnerKey { address: Address::mapped([a, b, c, d]), scope: 99, vlan: 0, pad: 0 };
        bpf::put(owners.as_fd(), &key, &Owner::PROTECTED)?;
    }
    let before = port.counters()?;
    let action = bpf::run(port.guard.as_fd(), &SkBuff::on(LO), &tcp4(MAC_A, IP_A), 1)?;
    let after = port.counters()?;
    let moved = |reason: &Reason| after[*reason as usize] > before[*reason as usize];
    let counted: Vec<_> = Reason::ALL.iter().copied().filter(moved).collect();
    ensure!(action == SHOT && counted == [Reason::LearnedFull], "{action}: {counted:?}");
    Ok(())
}

fn run_on(ifindex: u32, port: &Port) -> Result<()> {
    let network = std::process::Command::new("ip")
        .args(["link", "add", "stray", "index", &ifindex.to_string(), "type", "bridge"])
        .status()?;
    ensure!(network.success(), "cannot make an interface");
    let action = bpf::run(port.guard.as_fd(), &SkBuff::on(ifindex), &tcp4(MAC_A, IP_A), 1_000)?;
    ensure!(action == SHOT, "it passed");
    Ok(())
}

/// Keeps what is logged.
struct Lines(Arc<Mutex<Vec<String>>>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }
    fn flush(&self) {}
}

fn compare() -> Result<()> {
    let mut port = Port::new()?;
    let samples = samples::all();
    let mut dice = Dice::new(SEED);
    let stream = STREAM / wait::slowness() as usize;
    for (identity, wanted) in granted::ports() {
        port.admit(wanted)?;
        for (name, frame) in &samples {
            port.check(&format!("{identity}: {name}"), frame)?;
        }
        for number in 0..MUTANTS {
            let (name, frame) = &samples[number % samples.len()];
            let mutant = dice.mutate(frame);
            port.check(&format!("{identity}: {name}, mutated to {mutant:02x?}"), &mutant)?;
        }
        // A test run takes no tag in metadata.
        for (number, Arrival { bytes, .. }) in frames::stream(frames::SEED).take(stream).enumerate()
        {
            port.check(&format!("{identity}: frame {number}, {bytes:02x?}"), &bytes)?;
        }
    }
    println!("seed {:#x}: {stream} frames, at each port", frames::SEED);
    // Unless both verdicts and most reasons have been seen, the agreement shows little.
    let Port { granted, dropped, .. } = port;
    let reasons = port.reasons.iter().filter(|seen| **seen).count();
    println!("{granted} granted, {dropped} dropped, {reasons} reasons");
    ensure!(granted > 2_000 && dropped > 10_000, "{granted} granted, {dropped} dropped");
    ensure!(reasons >= 30, "only {reasons} reasons were seen");
    Ok(())
}

fn attached(
    enforcer: &KernelEnforcer,
    paths: &PinPaths,
    (ifindex, name): (u32, &str),
    hook: Hook,
) -> Result<OwnedFd> {
    match enforcer.method() {
        Method::Tcx => bpf::program_of(&paths.link(ifindex, hook)),
        Method::Clsact => bpf::program_of_filter(name, hook),
    }
}

/// A port whose guard is asked by test runs.
struct Port {
    ifindex: u32,
    enforcer: KernelEnforcer,
    guard: OwnedFd,
    instance: u32,
    id: u16,
    rules: oracle::Port,
    compiled: Compiled,
    /// What the host takes the port to have learned.
    held: learned::Held,
    counts: [u64; 64],
    reasons: [bool; 64],
    granted: u64,
    dropped: u64,
    pins: PinRoot,
}

impl Port {
    fn new() -> Result<Self> {
        Self::on(LO, "lo")
    }

    fn on(ifindex: u32, name: &str) -> Result<Self> {
        let pins = PinRoot::new()?;
        let root = pins.path().to_owned();
        let paths = PinPaths::new(&root);
        let mut enforcer =
            KernelEnforcer::open(&Options { pins: root, stamp: Stamp::default(), method: None })?;
        enforcer.execute(&Action::SetMode(Mode::Enforce.into()))?;
        enforcer.execute(&Action::AttachGuard { ifindex, name: name.to_owned() })?;
        let slot = enforcer.observe()?.interfaces[&ifindex].slot;
        let guard = attached(&enforcer, &paths, (ifindex, name), Hook::Ingress)?;
        needs::found(match enforcer.method() {
            Method::Tcx => "by TCX links",
            Method::Clsact => "as clsact filters",
        });
        Ok(Self {
            ifindex,
            instance: slot.instance,
            id: slot.id,
            enforcer,
            guard,
            rules: oracle::Port::Pending,
            compiled: Compiled::new(&oracle::Port::Pending),
            held: learned::Held::new(maps::LEARNED_PER_PORT as usize),
            counts: [0; 64],
            reasons: [false; 64],
            granted: 0,
            dropped: 0,
            pins,
        })
    }

    /// The program of ours on an interface.
    fn program(&self, ifindex: u32, name: &str, hook: Hook) -> Result<OwnedFd> {
        attached(&self.enforcer, &PinPaths::new(self.pins.path()), (ifindex, name), hook)
    }

    fn admit(&mut self, rules: oracle::Port) -> Result<()> {
        let (ifindex, instance) = (self.ifindex, self.instance);
        let before = std::mem::replace(&mut self.compiled, Compiled::new(&rules));
        self.rules = rules;
        let Compiled { slot, entries: grants } = self.compiled.clone();
        let mut gone = before.entries;
        let key = |entry: &GrantEntry| GrantEntry { flags: 0, ..*entry };
        gone.retain(|entry| !grants.iter().any(|kept| key(kept) == key(entry)));
        self.enforcer.execute(&Action::PutGrants { ifindex, instance, grants })?;
        self.lease()?;
        self.enforcer.execute(&Action::WriteSlot { ifindex, instance, slot })?;
        self.enforcer.execute(&Action::DropGrants { ifindex, instance, grants: gone })?;
        self.counts = self.counters()?;
        Ok(())
    }

    /// Leases what is leased to a port that learns; a frame may have released it.
    fn lease(&mut self) -> Result<()> {
        if self.compiled.slot.flags & flags::LEARNS != 0 {
            let (ifindex, instance, seeds) = (self.ifindex, self.instance, learned::seeds());
            self.enforcer.execute(&Action::Teach { ifindex, instance, seeds })?;
        }
        Ok(())
    }

    /// Asks the kernel, the host and the written-out rules about a frame.
    fn check(&mut self, name: &str, frame: &[u8]) -> Result<()> {
        self.lease()?;
        let passed = match bpf::run(self.guard.as_fd(), &SkBuff::on(self.ifindex), frame, 1) {
            Ok(action) => action != SHOT,
            // The kernel runs no program on less than the header of the protocol that is named.
            Err(_) if frame.len() < SHORT => return Ok(()),
            Err(error) => return Err(error.context(name.to_owned())),
        };
        let arrival = Arrival { bytes: frame.to_vec(), ..Arrival::default() };
        let kernel = self.compare(name, &arrival)?;
        ensure!(passed == kernel.passes(), "{name}: {kernel:?}, and yet passed: {passed}");
        Ok(())
    }

    /// Compares what the kernel has said of the latest frame with the host and the written-out rules.
    fn compare(&mut self, name: &str, arrival: &Arrival) -> Result<Reason> {
        let counts = self.counters()?;
        let moved: Vec<_> = Reason::ALL
            .iter()
            .copied()
            .filter(|reason| counts[*reason as usize] != self.counts[*reason as usize])
            .collect();
        self.counts = counts;
        let kernel = match moved[..] {
            [] => Reason::Granted,
            [refused] => refused,
            _ => bail!("{name}: counted as {moved:?}"),
        };

        let host = self.compiled.verdict(arrival, &mut self.held);
        ensure!(kernel == host, "{name}: the kernel says {kernel:?}, the host {host:?}");
        let (broken, passed) = (oracle::broken(arrival, &self.rules), kernel.passes());
        let agrees = match kernel {
            // The rules know no number of places. What else the frame asserts has not been asked.
            Reason::LearnedFull => broken.iter().all(|one| *one == Reason::AddressNotLeased),
            _ if passed => broken.is_empty(),
            _ => broken.contains(&kernel),
        };
        ensure!(agrees, "{name}: the kernel says {kernel:?}, the rules {broken:?}");
        self.reasons[kernel as usize] = true;
        *(if passed { &mut self.granted } else { &mut self.dropped }) += 1;
        Ok(kernel)
    }

    fn counters(&self) -> Result<[u64; 64]> {
        let totals = self.enforcer.counts(self.ifindex)?.context("the port has no counters")?;
        let mut counts = [0; 64];
        for (reason, count) in totals.from {
            counts[reason as usize] = count;
        }
        Ok(counts)
    }
}
