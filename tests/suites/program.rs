//! The loaded kernel program against the function that it was compiled from: the same frames, by
//! `BPF_PROG_TEST_RUN`, have to get the same verdict with the same reason.

mod frames;

use std::{
    fs,
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
};

use anyhow::{Context, Result, ensure};
use aya::programs::{ProgramFd, SchedClassifier, TcAttachType, loaded_programs};
use detector::{
    bpf::{KernelEnforcer, Options, Stamp},
    enforcer::Enforcer,
};
use detector_common::{
    addr::{Address, Mac},
    frame::Frame,
    parse::{self, Claim, MetaTag},
    port::{Grant, GrantKey, PortSlot, PrefixKey, flags},
    reason::Reason,
    settings::Mode,
    verdict::{self, Grants},
};
use detector_core::reconcile::{Action, GrantEntry, SlotEntry};
use detector_tests::netns::NetNs;

/// The loopback device, which is what a test run's frames come from.
const LO: u32 = 1;

#[test]
fn kernel_and_host_agree_on_every_frame() {
    let namespace = NetNs::new().unwrap();
    namespace.run(compare).unwrap();
}

fn compare() -> Result<()> {
    let mut port = Port::new()?;
    let table = frames::table();
    let mut seed = 0x5eed;
    for identity in identities() {
        port.grant(&identity)?;
        for (name, frame) in &table {
            port.check(name, frame)?;
        }
        for round in 0..4_000 {
            let (name, frame) = &table[round % table.len()];
            let mutant = frames::mutate(frame, &mut seed);
            port.check(&format!("{name}, mutated to {mutant:02x?}"), &mutant)?;
        }
    }
    // Both verdicts must have been seen often, or the frames show nothing.
    ensure!(port.granted > 200 && port.dropped > 2_000, "{} / {}", port.granted, port.dropped);
    let reasons = port.reasons.iter().filter(|seen| **seen).count();
    ensure!(reasons >= 24, "only {reasons} reasons were seen");
    println!("{} granted, {} dropped, {reasons} reasons", port.granted, port.dropped);
    Ok(())
}

/// What a port may be granted: the slot alone, and the maps behind it.
fn identities() -> Vec<(SlotEntry, Vec<GrantEntry>)> {
    let mac = frames::OWN.0;
    let inline = SlotEntry {
        flags: flags::GRANTED | flags::V4 | flags::V6,
        mac,
        vlan: 0,
        v4: frames::OWN_V4,
        v4_mask: [255; 4],
        v6: frames::OWN_V6,
        v6_mask: [255; 16],
    };
    let grant = |address, prefix, flags| GrantEntry { mac, vlan: 0, address, prefix, flags };
    let mut net = [0; 16];
    net[..4].copy_from_slice(&frames::OWN_V6[..4]);
    vec![
        (inline, vec![]),
        (SlotEntry { v4_mask: [0; 4], v4: [0; 4], v6_mask: [0; 16], v6: [0; 16], ..inline }, vec![]),
        (SlotEntry { flags: inline.flags | flags::ROUTER | flags::DHCP_SERVER, ..inline }, vec![]),
        (SlotEntry { vlan: 7, ..inline }, vec![]),
        (SlotEntry { flags: 0, ..inline }, vec![]),
        (
            SlotEntry {
                flags: flags::GRANTED | flags::MORE_GRANTS | flags::MORE_PREFIXES,
                ..SlotEntry::default()
            },
            vec![
                grant([0; 16], None, 0),
                grant(Address::mapped(frames::OWN_V4).bytes(), None, 0),
                grant(net, Some(32), 0),
            ],
        ),
    ]
}

/// A port whose guard is asked by test runs.
struct Port {
    enforcer: KernelEnforcer,
    program: ProgramFd,
    instance: u32,
    entries: Vec<GrantEntry>,
    slot: PortSlot,
    seen: [u64; 64],
    reasons: [bool; 64],
    granted: u64,
    dropped: u64,
    _pins: PinRoot,
}

impl Port {
    fn new() -> Result<Self> {
        let pins = PinRoot::new();
        let mut enforcer = KernelEnforcer::open(&Options {
            pins: pins.0.clone(),
            stamp: Stamp::default(),
            method: None,
        })?;
        enforcer.execute(&Action::SetMode(Mode::Enforce))?;
        enforcer.execute(&Action::AttachGuard { ifindex: LO, name: "lo".to_owned() })?;
        let (_, attached) = SchedClassifier::query_tcx("lo", TcAttachType::Ingress)?;
        let id = attached.first().context("the guard is not attached")?.id();
        let program = loaded_programs()
            .filter_map(Result::ok)
            .find(|program| program.id() == id)
            .context("the guard is not loaded")?
            .fd()?;
        let slot = enforcer.observe()?.interfaces[&LO].slot;
        Ok(Self {
            enforcer,
            program,
            instance: slot.instance,
            entries: Vec::new(),
            slot,
            seen: [0; 64],
            reasons: [false; 64],
            granted: 0,
            dropped: 0,
            _pins: pins,
        })
    }

    fn grant(&mut self, (slot, entries): &(SlotEntry, Vec<GrantEntry>)) -> Result<()> {
        let (ifindex, instance) = (LO, self.instance);
        let stale = std::mem::replace(&mut self.entries, entries.clone());
        self.enforcer.execute(&Action::PutGrants { ifindex, instance, grants: entries.clone() })?;
        self.enforcer.execute(&Action::WriteSlot { ifindex, instance, slot: *slot })?;
        let stale = stale.into_iter().filter(|one| !entries.contains(one)).collect();
        self.enforcer.execute(&Action::DropGrants { ifindex, instance, grants: stale })?;
        self.slot = self.enforcer.observe()?.interfaces[&LO].slot;
        self.seen = self.counters()?;
        Ok(())
    }

    /// Asks kernel and host about a frame.
    fn check(&mut self, name: &str, frame: &[u8]) -> Result<()> {
        // The kernel refuses to test-run less than an Ethernet header.
        if frame.len() < 14 {
            return Ok(());
        }
        let passed = test_run(&self.program, frame)? != libc_tc_act_shot();
        let now = self.counters()?;
        let changed: Vec<usize> = (0..64).filter(|code| now[*code] != self.seen[*code]).collect();
        self.seen = now;
        let [code] = changed[..] else {
            anyhow::bail!("{name}: {} counters moved", changed.len());
        };
        let kernel = Reason::from_code(u8::try_from(code)?).context("an unknown reason")?;

        let mut claim = Claim::default();
        let host = match parse::parse(Frame::new(frame), MetaTag::default(), &mut claim) {
            Ok(()) => verdict::judge(&self.slot, &claim, self),
            Err(reason) if self.slot.has(flags::GRANTED) || reason == Reason::Truncated => reason,
            Err(_) => Reason::PortPending,
        };
        ensure!(kernel == host, "{name}: kernel {kernel:?}, host {host:?}");
        ensure!(passed == kernel.passes(), "{name}: {kernel:?} and yet passed = {passed}");
        self.reasons[code] = true;
        *(if passed { &mut self.granted } else { &mut self.dropped }) += 1;
        Ok(())
    }

    fn counters(&self) -> Result<[u64; 64]> {
        let totals = self.enforcer.totals(LO)?.context("no counters")?;
        let mut counts = [0; 64];
        for reason in Reason::ALL {
            counts[*reason as usize] = totals.from.get(reason).copied().unwrap_or_default();
        }
        Ok(counts)
    }
}

impl Grants for Port {
    fn grant(&self, key: &GrantKey) -> Option<Grant> {
        self.entries
            .iter()
            .find(|one| one.prefix.is_none() && (one.mac, one.vlan, one.address) == (key.mac.0, key.vlan, key.address))
            .map(|one| Grant { flags: one.flags })
    }

    fn prefix(&self, key: &PrefixKey) -> Option<Grant> {
        let covers = |one: &&GrantEntry| {
            let length = u32::from(one.prefix.unwrap_or(128));
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            let same = u128::from_be_bytes(one.address) & mask == u128::from_be_bytes(key.address) & mask;
            one.prefix.is_some() && Mac(one.mac) == key.mac && one.vlan == u16::from_ne_bytes(key.vlan) && same
        };
        self.entries.iter().find(covers).map(|one| Grant { flags: one.flags })
    }
}
