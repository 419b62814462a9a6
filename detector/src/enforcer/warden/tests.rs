use std::{io, path::Path};

use detector_common::port::PortSlot;
use detector_core::{
    model::{LinkKind, ObservedInterface, SandboxService, ServiceKind, Shield, Timestamp},
    reconcile::{GrantEntry, ProtectedEntry, SeedEntry, SlotEntry},
};

use super::*;
use crate::{config::Config, net::Changes};

const BRIDGE: u32 = 1;
const UPLINK: u32 = 2;
const TRUSTED: u32 = 3;
const SANDBOX: u32 = 4;
const DEVICE: u32 = 5;
const A: u32 = 10;
const B: u32 = 11;
const MACVTAP: u32 = 12;
/// On no bridge of the configuration.
const OUTSIDE: u32 = 20;
const OTHER_BRIDGE: u32 = 21;
/// Not attached yet.
const NEW: u32 = 30;

const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

/// What the kernel would say.
#[derive(Default)]
struct Script {
    links: BTreeMap<u32, Link>,
    changed: Changes,
    /// Something has changed, and the kernel does not say what.
    lost: bool,
    fails: bool,
}

impl Script {
    fn put(&mut self, ifindex: u32, name: &str, kind: LinkKind, master: Option<u32>) {
        let lower = (kind == LinkKind::Macvtap).then_some(DEVICE);
        let link = Link { ifindex, name: name.to_owned(), kind, master, lower, mac: None };
        self.links.insert(ifindex, link);
        self.changed.changed.insert(ifindex);
    }
}

impl Sight for &std::cell::RefCell<Script> {
    fn changed(&mut self) -> Result<Changed, NetError> {
        let changed = std::mem::take(&mut self.borrow_mut().changed);
        match std::mem::take(&mut self.borrow_mut().lost) {
            true => Ok(Changed::Any),
            false => Ok(Changed::Some(changed)),
        }
    }

    fn one(&mut self, ifindex: u32) -> Result<Option<Link>, NetError> {
        if self.borrow().fails {
            return Err(NetError::Open(io::Error::other("no netlink now")));
        }
        Ok(self.borrow().links.get(&ifindex).cloned())
    }

    fn all(&mut self) -> Result<Vec<Link>, NetError> {
        if self.borrow().fails {
            return Err(NetError::Open(io::Error::other("no netlink now")));
        }
        Ok(self.borrow().links.values().cloned().collect())
    }
}

fn host() -> std::cell::RefCell<Script> {
    let mut script = Script::default();
    for (ifindex, name, kind, master) in [
        (BRIDGE, "br0", LinkKind::Bridge, None),
        (UPLINK, "eth0", LinkKind::Physical, Some(BRIDGE)),
        (TRUSTED, "wg0", LinkKind::Other, None),
        (SANDBOX, "sandbox0", LinkKind::Bridge, None),
        (DEVICE, "eth1", LinkKind::Physical, None),
        (A, "tap-a", LinkKind::Tap, Some(BRIDGE)),
        (B, "tap-b", LinkKind::Tap, Some(BRIDGE)),
        (NEW, "tap-new", LinkKind::Tap, Some(BRIDGE)),
        (MACVTAP, "macvtap0", LinkKind::Macvtap, None),
        (OUTSIDE, "veth0", LinkKind::Veth, None),
        (OTHER_BRIDGE, "docker0", LinkKind::Bridge, None),
    ] {
        script.put(ifindex, name, kind, master);
    }
    script.into()
}

fn policy() -> Policy {
    let text =
        "[network]\nbridges = [\"br0\"]\ntrusted = [\"wg*\"]\n[sandbox]\nbridge = \"sandbox0\"\n";
    Config::parse(text, Path::new("test")).unwrap().policy()
}

fn by(cause: Cause, target: QuarantineTarget) -> Quarantine {
    Quarantine::new(target, Timestamp(1), cause, 1000, "so")
}

/// What the kernel holds; a person has quarantined B by its port and by its MAC.
fn held(mode: QuarantineMode, isolated: bool) -> Observed {
    let slot = |ifindex, role: Role| ObservedInterface {
        slot: PortSlot {
            ifindex,
            instance: 7,
            role: role as u8,
            flags: if ifindex == B && isolated { flags::ISOLATED } else { 0 },
            ..PortSlot::VACANT
        },
        grants: BTreeMap::new(),
        prefixes: BTreeMap::new(),
        forwarding: Default::default(),
        defended: Default::default(),
        shield: Shield::Off,
        passage: None,
    };
    let interfaces = [
        (BRIDGE, Role::Bridge),
        (UPLINK, Role::Uplink),
        (TRUSTED, Role::Trusted),
        (SANDBOX, Role::Sandbox),
        (DEVICE, Role::Device),
        (A, Role::Guest),
        (B, Role::Guest),
        (MACVTAP, Role::GuestOnDevice),
    ];
    let quarantines = [port(B), mac(MAC_B)].map(|target| by(Cause::Operator, target).in_mode(mode));
    Observed {
        interfaces: interfaces.map(|(ifindex, role)| (ifindex, slot(ifindex, role))).into(),
        quarantines: quarantines.map(|one| (one.target, one)).into(),
        ..Observed::default()
    }
}

fn port(ifindex: u32) -> QuarantineTarget {
    QuarantineTarget::Port { ifindex, instance: 7 }
}

fn mac(mac: [u8; 6]) -> QuarantineTarget {
    QuarantineTarget::Mac(Mac(mac))
}

fn entry(mac: [u8; 6]) -> GrantEntry {
    GrantEntry { mac, vlan: 0, address: [0; 16], prefix: None, flags: 0 }
}

fn slot(ifindex: u32, mac: [u8; 6], bits: u32) -> Action {
    let slot = SlotEntry { flags: bits, mac, ..SlotEntry::default() };
    Action::WriteSlot { ifindex, instance: 7, slot }
}

fn grants(ifindex: u32, grants: Vec<GrantEntry>) -> Action {
    Action::PutGrants { ifindex, instance: 7, grants }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    Perhaps,
    Certain,
}
use Verdict::{Certain, Fine, Perhaps};

fn verdict(result: Result<(), Refusal>) -> Verdict {
    match result {
        Ok(()) => Fine,
        Err(Refusal::Perhaps(_)) => Perhaps,
        Err(Refusal::Certain(_)) => Certain,
        Err(Refusal::Blind(why)) => panic!("{why}"),
    }
}

/// Each rule, from both sides.
#[test]
fn an_order_follows_from_the_configuration_or_is_refused() {
    let host = host();
    let mut warden = Warden::seeing(&host, policy()).unwrap();
    let attach: [fn(u32, String) -> Action; 7] = [
        |ifindex, name| Action::AttachGuard { ifindex, name },
        |ifindex, name| Action::AttachUplink { ifindex, name },
        |ifindex, name| Action::AttachBridge { ifindex, name },
        |ifindex, name| Action::AttachSandbox { ifindex, name },
        |ifindex, name| Action::Trust { ifindex, name },
        |ifindex, name| Action::AttachDevice { ifindex, name, trusted: true, closed: false },
        |ifindex, name| Action::AttachDevice { ifindex, name, trusted: false, closed: false },
    ];
    // Which of these each interface may have.
    let places = [
        (A, "tap-a", 0),
        (NEW, "tap-new", 0),
        (MACVTAP, "macvtap0", 0),
        (UPLINK, "eth0", 1),
        (BRIDGE, "br0", 2),
        (SANDBOX, "sandbox0", 3),
        (TRUSTED, "wg0", 4),
        (DEVICE, "eth1", 5),
        (OUTSIDE, "veth0", 7),
        (OTHER_BRIDGE, "docker0", 7),
        (99, "gone", 7),
    ];
    let now = held(QuarantineMode::Drop, true);
    for (ifindex, name, may) in places {
        for (number, attach) in attach.iter().enumerate() {
            let expect = if number == may { Fine } else { Perhaps };
            let action = attach(ifindex, name.to_owned());
            assert_eq!(verdict(warden.judge(&action, &now)), expect, "{action:?}");
            let other = attach(ifindex, "another".to_owned());
            assert_eq!(verdict(warden.judge(&other, &now)), Perhaps, "{other:?}");
        }
    }

    let on: [fn(u32) -> Action; 9] = [
        |ifindex| Action::PinForwarding { ifindex, mac: Mac(MAC_A), vlan: 0 },
        |ifindex| Action::UnpinForwarding { ifindex, mac: Mac(MAC_A), vlan: 0 },
        |ifindex| Action::PutShield { ifindex, instance: 7 },
        |ifindex| Action::DropShield { ifindex, instance: 7 },
        |ifindex| Action::ClosePassage { ifindex, instance: 7 },
        |ifindex| Action::DefendMac { ifindex, instance: 7, mac: Mac(MAC_A), vlan: 0 },
        |ifindex| Action::YieldMac { ifindex, instance: 7, mac: Mac(MAC_A), vlan: 0 },
        |ifindex| Action::Teach { ifindex, instance: 7, seeds: Vec::new() },
        |ifindex| Action::OpenPassage { ifindex, instance: 7, bridge: SANDBOX },
    ];
    for on in on {
        for (ifindex, expect) in [
            (A, Fine),
            (MACVTAP, Fine),
            (UPLINK, Perhaps),
            (BRIDGE, Perhaps),
            (DEVICE, Perhaps),
            (OUTSIDE, Perhaps),
            (NEW, Perhaps),
        ] {
            let action = on(ifindex);
            assert_eq!(verdict(warden.judge(&action, &now)), expect, "{action:?}");
        }
    }

    for (ifindex, expect) in [
        (A, Perhaps),
        (MACVTAP, Perhaps),
        (BRIDGE, Perhaps),
        (UPLINK, Perhaps),
        (TRUSTED, Perhaps),
        (SANDBOX, Perhaps),
        (DEVICE, Perhaps),
        // Nothing is attached there.
        (NEW, Fine),
        (OUTSIDE, Fine),
    ] {
        assert_eq!(verdict(warden.judge(&Action::Release { ifindex }, &now)), expect, "{ifindex}");
    }
    // What is something else to the programs than it should be may lose them, to get the right ones.
    let mut turned = held(QuarantineMode::Drop, true);
    for (ifindex, role) in [
        (A, Role::Uplink),
        (MACVTAP, Role::Trusted),
        (BRIDGE, Role::Sandbox),
        (UPLINK, Role::Guest),
        (TRUSTED, Role::Uplink),
        (SANDBOX, Role::Bridge),
        (DEVICE, Role::Uplink),
        (OUTSIDE, Role::Guest),
    ] {
        let held = turned.interfaces[&A].clone();
        let slot = PortSlot { ifindex, role: role as u8, ..held.slot };
        turned.interfaces.insert(ifindex, ObservedInterface { slot, ..held });
        let action = Action::Release { ifindex };
        assert_eq!(verdict(warden.judge(&action, &turned)), Fine, "{action:?}");
    }
    for bridge in [BRIDGE, OTHER_BRIDGE, A] {
        let action = Action::OpenPassage { ifindex: A, instance: 7, bridge };
        assert_eq!(verdict(warden.judge(&action, &now)), Perhaps, "{action:?}");
    }
    for ifindex in [BRIDGE, UPLINK, TRUSTED, SANDBOX] {
        let drop = Action::DropGrants { ifindex, instance: 7, grants: vec![entry(MAC_A)] };
        for action in [slot(ifindex, MAC_A, flags::ISOLATED), grants(ifindex, Vec::new()), drop] {
            assert_eq!(verdict(warden.judge(&action, &now)), Perhaps, "{action:?}");
        }
    }
    for action in [slot(DEVICE, [0; 6], 0), grants(DEVICE, vec![entry(MAC_A)])] {
        assert_eq!(verdict(warden.judge(&action, &now)), Fine, "{action:?}");
    }
}

/// What a person has quarantined.
#[test]
fn a_persons_quarantine_is_no_verdicts_to_undo() {
    let host = host();
    let mut warden = Warden::seeing(&host, policy()).unwrap();
    let vm = QuarantineTarget::Vm(uuid::Uuid::from_u128(5));
    let by_port = |mode, isolated| {
        let mut held = held(mode, isolated);
        held.quarantines.remove(&mac(MAC_B));
        held
    };
    let by_mac = |mode, isolated| {
        let mut held = held(mode, isolated);
        held.quarantines.remove(&port(B));
        held
    };
    use QuarantineMode::{Drop, Sandbox};
    let cases = [
        ("granted, by port", by_port(Drop, true), slot(B, MAC_A, flags::GRANTED), Certain),
        ("granted, by MAC", by_mac(Drop, true), slot(B, MAC_B, flags::GRANTED), Certain),
        ("another port under the MAC", by_mac(Drop, true), slot(A, MAC_B, flags::GRANTED), Certain),
        ("another port", by_port(Drop, true), slot(A, MAC_A, flags::GRANTED), Fine),
        ("cut off", by_port(Drop, true), slot(B, MAC_B, flags::GRANTED | flags::ISOLATED), Fine),
        (
            "cut off by hand",
            by_port(Drop, true),
            slot(B, MAC_B, flags::GRANTED | flags::ISOLATED_BY_OPERATOR),
            Fine,
        ),
        ("mute", by_port(Drop, true), slot(B, MAC_B, 0), Fine),
        ("entries under the MAC", by_mac(Drop, false), grants(A, vec![entry(MAC_B)]), Certain),
        ("entries under others", by_mac(Drop, false), grants(A, vec![entry(MAC_A)]), Fine),
        ("entries of who is cut off", by_mac(Drop, true), grants(B, vec![entry(MAC_B)]), Fine),
        (
            "entries for the sandbox, before it is cut off",
            by_mac(Sandbox, false),
            grants(B, vec![entry(MAC_B)]),
            Fine,
        ),
        (
            "taken over",
            by_port(Drop, true),
            Action::PutQuarantine(by(Cause::Verdict, port(B))),
            Certain,
        ),
        (
            "imposed again by a person",
            by_port(Drop, true),
            Action::PutQuarantine(by(Cause::Operator, port(B)).in_mode(Sandbox)),
            Fine,
        ),
        ("a verdict's", by_port(Drop, true), Action::PutQuarantine(by(Cause::Verdict, vm)), Fine),
        (
            "a verdict's, again",
            {
                let mut held = by_port(Drop, true);
                held.quarantines.insert(vm, by(Cause::Verdict, vm));
                held
            },
            Action::PutQuarantine(by(Cause::Verdict, vm).in_mode(Sandbox)),
            Fine,
        ),
        (
            "given back",
            by_port(Drop, true),
            Action::GiveQuarantineBack(by(Cause::Verdict, port(B))),
            Fine,
        ),
        ("lifted", by_port(Drop, true), Action::LiftQuarantine(port(B)), Fine),
    ];
    for (what, held, action, expect) in cases {
        assert_eq!(verdict(warden.judge(&action, &held)), expect, "{what}");
    }
}

#[test]
fn what_is_too_much_is_refused() {
    let host = host();
    let mut warden = Warden::seeing(&host, policy()).unwrap();
    let held = held(QuarantineMode::Drop, true);
    let protected = ProtectedEntry { scope: 1, vlan: 0, address: [1; 16] };
    let seed = SeedEntry {
        mac: MAC_A,
        vlan: 0,
        scope: BRIDGE,
        address: [1; 16],
        expires: None,
        origin: 1,
    };
    for (most, expect) in [(MOST_ENTRIES, Fine), (MOST_ENTRIES + 1, Certain)] {
        let (entries, seeds) = (vec![entry(MAC_A); most], vec![seed; most]);
        for action in [
            grants(A, entries.clone()),
            Action::DropGrants { ifindex: A, instance: 7, grants: entries },
            Action::Teach { ifindex: A, instance: 7, seeds },
            Action::Protect { entries: vec![protected; most] },
            Action::Unprotect { entries: vec![protected; most] },
        ] {
            assert_eq!(verdict(warden.judge(&action, &held)), expect, "{most}");
        }
    }
}

/// The warden goes by what there is now.
#[test]
fn interfaces_that_change_are_seen_also_after_a_look_that_failed() {
    let host = host();
    let mut warden = Warden::seeing(&host, policy()).unwrap();
    let held = held(QuarantineMode::Drop, true);
    let mut guard = |name: &str| {
        let action = Action::AttachGuard { ifindex: OUTSIDE, name: name.to_owned() };
        warden.judge(&action, &held)
    };
    assert_eq!(verdict(guard("veth0")), Perhaps);
    host.borrow_mut().put(OUTSIDE, "veth0", LinkKind::Veth, Some(BRIDGE));
    assert_eq!(verdict(guard("veth0")), Fine);
    // It has left the bridge, and nobody could be asked then.
    host.borrow_mut().put(OUTSIDE, "veth0", LinkKind::Veth, None);
    host.borrow_mut().fails = true;
    for _ in 0..2 {
        assert!(matches!(guard("veth0"), Err(Refusal::Blind(_))), "it is judged by what was");
    }
    host.borrow_mut().fails = false;
    assert_eq!(verdict(guard("veth0")), Perhaps, "what was told meanwhile is forgotten");
    host.borrow_mut().put(OUTSIDE, "renamed", LinkKind::Veth, Some(BRIDGE));
    assert_eq!(verdict(guard("veth0")), Perhaps);
    assert_eq!(verdict(guard("renamed")), Fine);
    host.borrow_mut().links.remove(&OUTSIDE);
    host.borrow_mut().changed.changed.insert(OUTSIDE);
    assert_eq!(verdict(guard("renamed")), Perhaps, "it is gone");
    host.borrow_mut().put(OUTSIDE, "renamed", LinkKind::Veth, Some(BRIDGE));
    host.borrow_mut().changed = Changes::default();
    assert_eq!(verdict(guard("renamed")), Perhaps, "nobody has told of it");
    host.borrow_mut().lost = true;
    assert_eq!(verdict(guard("renamed")), Fine);
}

/// Only the sandbox's bridge is made, and only where it is to be.
#[test]
fn a_sandbox_is_made_where_that_is_configured() {
    let host = host();
    for (create, name, expect) in
        [(true, "sandbox0", Fine), (true, "br9", Perhaps), (false, "sandbox0", Perhaps)]
    {
        let text = format!("[sandbox]\nbridge = \"sandbox0\"\ncreate = {create}\n");
        let policy = Config::parse(&text, Path::new("test")).unwrap().policy();
        let mut warden = Warden::seeing(&host, policy).unwrap();
        let action = Action::MakeSandbox { name: name.to_owned() };
        let held = held(QuarantineMode::Drop, true);
        assert_eq!(verdict(warden.judge(&action, &held)), expect, "{create} {name}");
    }
    let none = Config::parse("", Path::new("test")).unwrap().policy();
    let action = Action::MakeSandbox { name: "sandbox0".to_owned() };
    let mut warden = Warden::seeing(&host, none).unwrap();
    assert_eq!(verdict(warden.judge(&action, &Observed::default())), Perhaps);
}

/// From a reload on.
#[test]
fn another_configuration_holds_at_once() {
    let host = host();
    let mut warden = Warden::seeing(&host, policy()).unwrap();
    let held = held(QuarantineMode::Drop, true);
    let name = || "docker0".to_owned();
    let gate = Action::AttachBridge { ifindex: OTHER_BRIDGE, name: name() };
    assert_eq!(verdict(warden.judge(&gate, &held)), Perhaps);
    let text = "[network]\nbridges = [\"docker0\"]\n";
    warden.follow(Config::parse(text, Path::new("test")).unwrap().policy());
    assert_eq!(verdict(warden.judge(&gate, &held)), Fine);
    // What is configured no more may be let go.
    assert_eq!(verdict(warden.judge(&Action::Release { ifindex: A }, &held)), Fine);
}

/// What is reached in the sandbox is configured, and nobody is let reach more.
#[test]
fn the_sandbox_offers_what_is_configured() {
    let host = host();
    let mut policy = policy();
    let mut warden = Warden::seeing(&host, policy.clone()).unwrap();
    let now = held(QuarantineMode::Sandbox, true);
    let named = |last| SandboxService {
        address: std::net::Ipv4Addr::new(198, 51, 100, last).into(),
        kind: ServiceKind::Tcp(443),
    };
    let entries = |named: &[SandboxService]| services(named).into_iter().map(Into::into).collect();
    let offer = |named: &[SandboxService]| Action::OfferServices { entries: entries(named) };
    let withdraw = Action::WithdrawServices { entries: entries(&[named(1)]) };
    let (all, some) = (flags::ISOLATED | flags::SANDBOXED, flags::LIMITED);
    let free = slot(A, MAC_A, all);
    let limited = slot(A, MAC_A, all | some);
    for (configured, cases) in [
        (None, [Perhaps, Perhaps, Fine, Fine, Fine]),
        (Some(vec![named(1)]), [Fine, Perhaps, Fine, Perhaps, Fine]),
        (Some(Vec::new()), [Perhaps, Perhaps, Fine, Perhaps, Fine]),
    ] {
        policy.sandbox.as_mut().unwrap().services = configured;
        warden.follow(policy.clone());
        let actions = [
            offer(&[named(1)]),
            offer(&[named(1), named(2)]),
            withdraw.clone(),
            free.clone(),
            limited.clone(),
        ];
        for (action, expect) in actions.into_iter().zip(cases) {
            assert_eq!(verdict(warden.judge(&action, &now)), expect, "{action:?}");
        }
    }
}
