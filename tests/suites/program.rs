//! The loaded kernel program against the function that it is compiled from: the same frames, by
//! `BPF_PROG_TEST_RUN`, get the same verdict for the same reason.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail, ensure};
use aya_log::EbpfLogger;
use detector::bpf::{Hook, KernelEnforcer, Options, PinPaths};
use detector::enforcer::Enforcer;
use detector_common::addr::{Address, Mac};
use detector_common::frame::Frame;
use detector_common::parse::{Claim, MetaTag};
use detector_common::port::{Grant, GrantKey, PortSlot, PrefixKey, flags};
use detector_common::reason::Reason;
use detector_common::samples::{
    ALL_NODES, FRAGMENT, ICMPV6, IP_A, IP6_A, LOCAL_A, MAC_A, UDP, extension, fragment, from_a,
    ipv6, link_layer, neighbour, table, tcp4, udp,
};
use detector_common::verdict::{self, Grants};
use detector_common::{settings::Mode, stamp::Stamp};
use detector_core::reconcile::{Action, GrantEntry, SlotEntry};
use detector_tests::bpf::{self, SkBuff};
use detector_tests::netns::NetNs;
use detector_tests::pins::PinRoot;

/// The loopback device of a namespace, from which a test run's frames come.
const LO: u32 = 1;
const MUTANTS: usize = 3_000;
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
            run_on(NO_SLOT, &port)?;
            logger.flush();
            let lines = lines.lock().unwrap();
            // The test may run across the border of a second.
            ensure!((1..=2).contains(&lines.len()), "{} lines", lines.len());
            ensure!(lines[0].contains("interface 7"), "{}", lines[0]);
            Ok(())
        })
        .unwrap();
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
    let frames = frames();
    let mut dice = Dice(SEED);
    for identity in identities() {
        port.admit(&identity)?;
        for (name, frame) in &frames {
            port.check(name, frame)?;
        }
        for number in 0..MUTANTS {
            let (name, frame) = &frames[number % frames.len()];
            let mutant = dice.mutate(frame);
            port.check(&format!("{name}, mutated to {mutant:02x?}"), &mutant)?;
        }
    }
    // Unless both verdicts and most reasons have been seen, the agreement shows little.
    let Port { granted, dropped, .. } = port;
    let reasons = port.reasons.iter().filter(|seen| **seen).count();
    println!("{granted} granted, {dropped} dropped, {reasons} reasons");
    ensure!(granted > 500 && dropped > 5_000, "{granted} granted, {dropped} dropped");
    ensure!(reasons >= 26, "only {reasons} reasons were seen");
    Ok(())
}

/// The table of the unit tests, and frames that lead the parser further in.
fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let mut frames: Vec<_> = table().into_iter().map(|(name, frame, _)| (name, frame)).collect();
    let options = [link_layer(2, MAC_A), link_layer(1, MAC_A)];
    let advertisement = neighbour(136, IP6_A, &options);
    let query = udp(4000, 53, &[0; 12]);
    let deep = [0, 60, 43, 60, 60].iter().fold((ICMPV6, advertisement.clone()), |inner, kind| {
        (*kind, extension(inner.0, 0, &inner.1))
    });
    frames.extend([
        ("options in any order", from_a(0x86dd, &ipv6(IP6_A, ICMPV6, 255, &advertisement))),
        (
            "advertisement behind options",
            from_a(0x86dd, &ipv6(IP6_A, 60, 255, &extension(ICMPV6, 1, &advertisement))),
        ),
        ("too many headers", from_a(0x86dd, &ipv6(IP6_A, deep.0, 255, &deep.1))),
        (
            "atomic fragment",
            from_a(0x86dd, &ipv6(LOCAL_A, FRAGMENT, 64, &fragment(UDP, 0, false, &query))),
        ),
        (
            "first fragment",
            from_a(0x86dd, &ipv6(LOCAL_A, FRAGMENT, 64, &fragment(UDP, 0, true, &query))),
        ),
        (
            "first fragment, cut short",
            from_a(0x86dd, &ipv6(LOCAL_A, FRAGMENT, 64, &fragment(UDP, 0, true, &[0; 4]))),
        ),
        (
            "later fragment",
            from_a(0x86dd, &ipv6(LOCAL_A, FRAGMENT, 64, &fragment(UDP, 9, true, &query))),
        ),
        (
            "fragmented advertisement",
            from_a(0x86dd, &ipv6(IP6_A, FRAGMENT, 255, &fragment(ICMPV6, 0, true, &advertisement))),
        ),
        ("multicast source", from_a(0x86dd, &ipv6(ALL_NODES, UDP, 64, &query))),
    ]);
    frames
}

/// What a port may be granted: by its slot alone, and by the maps behind it.
fn identities() -> Vec<(SlotEntry, Vec<GrantEntry>)> {
    let inline = SlotEntry {
        flags: flags::GRANTED | flags::V4 | flags::V6,
        mac: MAC_A,
        vlan: 0,
        v4: IP_A,
        v4_mask: [255; 4],
        v6: IP6_A,
        v6_mask: [255; 16],
    };
    let any = SlotEntry { v4: [0; 4], v4_mask: [0; 4], v6: [0; 16], v6_mask: [0; 16], ..inline };
    let entry = |address, prefix| GrantEntry { mac: MAC_A, vlan: 0, address, prefix, flags: 0 };
    let mut net = [0; 16];
    net[..4].copy_from_slice(&IP6_A[..4]);
    vec![
        (inline, vec![]),
        (any, vec![]),
        (SlotEntry { flags: inline.flags | flags::ROUTER | flags::DHCP_SERVER, ..any }, vec![]),
        (SlotEntry { vlan: 7, ..inline }, vec![]),
        (SlotEntry { flags: 0, ..inline }, vec![]),
        (SlotEntry { flags: inline.flags | flags::ISOLATED, ..inline }, vec![]),
        (
            SlotEntry {
                flags: flags::GRANTED | flags::MORE_GRANTS | flags::MORE_PREFIXES,
                ..SlotEntry::default()
            },
            vec![
                entry([0; 16], None),
                entry(Address::mapped(IP_A).bytes(), None),
                entry(net, Some(32)),
            ],
        ),
    ]
}

/// A port whose guard is asked by test runs.
struct Port {
    enforcer: KernelEnforcer,
    guard: OwnedFd,
    slot: PortSlot,
    entries: Vec<GrantEntry>,
    counts: [u64; 64],
    reasons: [bool; 64],
    granted: u64,
    dropped: u64,
    _pins: PinRoot,
}

impl Port {
    fn new() -> Result<Self> {
        let pins = PinRoot::new()?;
        let root = pins.path().to_owned();
        let paths = PinPaths::new(&root);
        let mut enforcer =
            KernelEnforcer::open(&Options { pins: root, stamp: Stamp::default(), method: None })?;
        enforcer.execute(&Action::SetMode(Mode::Enforce))?;
        enforcer.execute(&Action::AttachGuard { ifindex: LO, name: "lo".to_owned() })?;
        Ok(Self {
            slot: enforcer.observe()?.interfaces[&LO].slot,
            enforcer,
            guard: bpf::program_of(&paths.link(LO, Hook::Ingress))?,
            entries: Vec::new(),
            counts: [0; 64],
            reasons: [false; 64],
            granted: 0,
            dropped: 0,
            _pins: pins,
        })
    }

    fn admit(&mut self, (slot, entries): &(SlotEntry, Vec<GrantEntry>)) -> Result<()> {
        let (ifindex, instance) = (LO, self.slot.instance);
        self.enforcer.execute(&Action::PutGrants { ifindex, instance, grants: entries.clone() })?;
        self.enforcer.execute(&Action::WriteSlot { ifindex, instance, slot: *slot })?;
        self.entries.clone_from(entries);
        self.slot = self.enforcer.observe()?.interfaces[&LO].slot;
        self.counts = self.counters()?;
        Ok(())
    }

    /// Asks kernel and host about a frame.
    fn check(&mut self, name: &str, frame: &[u8]) -> Result<()> {
        let passed = match bpf::run(self.guard.as_fd(), &SkBuff::on(LO), frame, 1) {
            Ok(action) => action != SHOT,
            // The kernel runs no program on less than the header of the protocol that is named.
            Err(_) if frame.len() < SHORT => return Ok(()),
            Err(error) => return Err(error.context(name.to_owned())),
        };
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

        let tag = MetaTag::default();
        let host = verdict::vet(Frame::new(frame), tag, &self.slot, self, &mut Claim::default());
        ensure!(kernel == host, "{name}: the kernel says {kernel:?}, the host {host:?}");
        ensure!(passed == kernel.passes(), "{name}: {kernel:?}, and yet passed: {passed}");
        self.reasons[kernel as usize] = true;
        *(if passed { &mut self.granted } else { &mut self.dropped }) += 1;
        Ok(())
    }

    fn counters(&self) -> Result<[u64; 64]> {
        let totals = self.enforcer.counts(LO)?.context("the port has no counters")?;
        let mut counts = [0; 64];
        for (reason, count) in totals.from {
            counts[reason as usize] = count;
        }
        Ok(counts)
    }
}

impl Grants for Port {
    fn grant(&self, key: &GrantKey) -> Option<Grant> {
        let wanted = (key.mac.0, key.vlan, key.address);
        let listed = self.entries.iter().filter(|entry| entry.prefix.is_none());
        listed
            .filter(|entry| (entry.mac, entry.vlan, entry.address) == wanted)
            .map(|entry| Grant { flags: entry.flags })
            .next()
    }

    fn prefix(&self, key: &PrefixKey) -> Option<Grant> {
        let wanted = u128::from_be_bytes(key.address);
        let covers = |entry: &&GrantEntry| {
            let Some(length) = entry.prefix else { return false };
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            (Mac(entry.mac), entry.vlan.to_ne_bytes()) == (key.mac, key.vlan)
                && u128::from_be_bytes(entry.address) & mask == wanted & mask
        };
        self.entries.iter().find(covers).map(|entry| Grant { flags: entry.flags })
    }
}

/// Chance that comes back (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    /// A few bytes of the frame changed; sometimes it is cut off, or longer than it says.
    fn mutate(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut mutant = frame.to_vec();
        for _ in 0..self.roll(3) {
            let at = self.roll(mutant.len());
            // Small values and single bits find more borders than any value would.
            mutant[at] = match self.roll(3) {
                0 => self.roll(256) as u8,
                1 => mutant[at] ^ 1 << self.roll(8),
                _ => self.roll(8) as u8,
            };
        }
        match self.roll(8) {
            0 => mutant.truncate(14 + self.roll(mutant.len())),
            1 => mutant.resize(mutant.len() + self.roll(64), 0),
            _ => {}
        }
        mutant
    }
}
