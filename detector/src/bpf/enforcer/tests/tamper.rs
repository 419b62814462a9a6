//! Somebody else with our capabilities changes what is in force: it is noticed and put back.

use std::{os::fd::AsFd, time::Instant};

use detector_common::{
    addr::Address,
    maps::programs,
    port::PortSlot,
    services::{Asked, Service},
};
use detector_core::reconcile::ProtectedEntry;

use super::*;
use crate::{
    bpf::{Pins, load::Programs, maps::Maps, sys},
    enforcer::{Recheck, Sign, Tampered, Tampering},
    net::{Forwarding, ForwardingEntry},
};

mod cases;
mod spare;

use cases::{CASES, CLSACT_CASES, TCX_CASES};

/// A port with a verdict in force, and what others could change of it.
struct Victim {
    enforcer: KernelEnforcer,
    root: PinRoot,
    port: u32,
    method: Method,
    _ns: NetNs,
}

const INSTANCE: u32 = 1;
const OTHER_MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];

impl Victim {
    fn new(method: Method) -> Self {
        let ns = NetNs::enter();
        let root = PinRoot::new();
        ip("link add br0 type bridge");
        let port = tap("tap0");
        ip("link set tap0 master br0");
        tap("tap1");
        ip("link set tap1 master br0");
        let mut enforcer = open_by(&root, Some(method)).unwrap();
        let entry = |prefix, mut address: [u8; 16]| {
            address[15] = 7;
            GrantEntry { mac: MAC, vlan: 0, address, prefix, flags: 0 }
        };
        let quarantine = Quarantine::new(QUARANTINED, Timestamp(7), Cause::Operator, 0, "why not");
        carry_out(
            &mut enforcer,
            &[
                Action::SetMode(Mode::Enforce.into()),
                Action::PutQuarantine(quarantine),
                guard(port),
                Action::PutGrants {
                    ifindex: port,
                    instance: INSTANCE,
                    grants: vec![entry(None, [0; 16]), entry(Some(64), [0x20; 16])],
                },
                Action::WriteSlot { ifindex: port, instance: INSTANCE, slot: granted() },
                Action::PinForwarding { ifindex: port, mac: Mac(MAC), vlan: 0 },
                Action::DefendMac { ifindex: port, instance: INSTANCE, mac: Mac(MAC), vlan: 0 },
                Action::Protect { entries: vec![PROTECTED] },
                Action::OfferServices { entries: vec![offered(443).into()] },
            ],
        );
        assert_eq!(look(&mut enforcer), Recheck::default());
        Self { enforcer, root, port, method, _ns: ns }
    }

    fn paths(&self) -> PinPaths {
        PinPaths::new(self.root.path())
    }

    fn maps(&self) -> Maps {
        Maps::open(&self.paths()).unwrap()
    }

    fn link(&self, hook: Hook) -> std::os::fd::OwnedFd {
        sys::open_pin(&self.paths().link(self.port, hook)).unwrap()
    }

    /// Changes the slot as the kernel has it.
    fn rewrite_slot(&self, change: impl FnOnce(&mut PortSlot)) {
        let mut slot = self.maps().slots().unwrap()[0];
        change(&mut slot);
        self.maps().write_slot(slot).unwrap();
    }

    fn is_first(&self, hook: Hook) -> bool {
        let ours = sys::describe(self.link(hook).as_fd()).unwrap();
        ours.ifindex == self.port && sys::links_on(self.port, hook).unwrap()[0] == ours.id
    }
}

const PROTECTED: ProtectedEntry = ProtectedEntry { scope: 1, vlan: 0, address: [0x20; 16] };
/// What may be reached in the sandbox.
fn offered(port: u16) -> Service {
    Service::new(Address::from_bytes([0x20; 16]), Asked::Tcp(port))
}

const QUARANTINED: QuarantineTarget = QuarantineTarget::Mac(Mac(OTHER_MAC));

/// Looks at everything.
fn look(enforcer: &mut KernelEnforcer) -> Recheck {
    enforcer.watch.thorough_at = Instant::now();
    enforcer.look_around().unwrap()
}

/// What somebody does, whether it is about the port, and what is found.
type Case = (&'static str, fn(&mut Victim), bool, &'static [Tampered]);

/// Programs that are none of this enforcer's, though they look like them.
fn foreign_programs(victim: &Victim) -> Programs {
    Programs::load(&Pins::unlocked(victim.root.path()), Stamp::DEFAULT, false).unwrap()
}

#[test]
fn what_others_change_is_noticed_and_put_back() {
    for method in methods() {
        let own = if method == Method::Tcx { TCX_CASES } else { CLSACT_CASES };
        let mut victim = Victim::new(method);
        let before = assert_in_sync(&mut victim.enforcer);
        for (name, tamper, of_the_port, expected) in CASES.iter().chain(own) {
            tamper(&mut victim);
            let Recheck { tampering, .. } = look(&mut victim.enforcer);
            let found: Vec<_> = tampering.iter().map(|one| one.what).collect();
            assert_eq!(found, *expected, "{method:?}, {name}: {tampering:?}");
            for Tampering { port, left, .. } in tampering {
                assert_eq!(left, None, "{method:?}, {name}");
                assert_eq!(port, of_the_port.then_some((victim.port, INSTANCE)), "{name}");
            }
            let quiet = look(&mut victim.enforcer);
            assert_eq!(quiet, Recheck::default(), "{method:?}, {name}: once is enough");
            assert_eq!(victim.enforcer.observe().unwrap(), before, "{method:?}, {name}");
            assert_eq!(assert_in_sync(&mut victim.enforcer), before, "{method:?}, {name}");
            if method == Method::Tcx {
                assert!(Hook::BOTH.iter().all(|hook| victim.is_first(*hook)), "{name}");
            }
        }
    }
}

/// Without the whole look, which comes later.
#[test]
fn a_sign_has_looked_at_what_it_is_about() {
    for method in methods() {
        signs_about(method);
    }
}

fn signs_about(method: Method) {
    let mut victim = Victim::new(method);
    victim.enforcer.watch.thorough_at = Instant::now() + Duration::from_secs(600);
    let fdb = format!("fdb del {} dev tap0 master", Mac(MAC));
    type Crime<'a> = &'a dyn Fn(&Victim);
    let crimes: [(Sign, Crime<'_>, Tampered); 3] = [
        (
            Sign::Programs,
            &|victim| match victim.method {
                Method::Tcx => sys::detach(victim.link(Hook::Ingress).as_fd()).unwrap(),
                Method::Clsact => drop(run("tc", "filter del dev tap0 ingress")),
            },
            Tampered::Program,
        ),
        (
            Sign::Pins,
            &|victim| fs::remove_file(victim.paths().map(maps::GRANTS)).unwrap(),
            Tampered::Pin,
        ),
        (Sign::Forwarding, &|_| drop(run("bridge", &fdb)), Tampered::Forwarding),
    ];
    for (sign, crime, expected) in crimes {
        crime(&victim);
        let signs = BTreeSet::from([sign]);
        let found = victim.enforcer.look_for(&signs).unwrap().tampering;
        assert_eq!((found.len(), found[0].what, &found[0].left), (1, expected, &None), "{sign:?}");
        assert_eq!(victim.enforcer.look_for(&signs).unwrap(), Recheck::default(), "{sign:?}");
    }
}

#[test]
fn whoever_touches_pins_filters_or_entries_gives_a_sign() {
    let mut victim = Victim::new(Method::Clsact);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut signs = victim.enforcer.signs().unwrap();
        // So that the pins are watched.
        let quiet = Duration::from_millis(50);
        assert!(tokio::time::timeout(quiet, signs.next()).await.is_err(), "nothing yet");
        let pin = |victim: &Victim| victim.paths().map(maps::GRANTS);
        for again in [false, true] {
            fs::remove_file(pin(&victim)).unwrap();
            assert_eq!(signs.next().await.unwrap(), BTreeSet::from([Sign::Pins]), "{again}");
            look(&mut victim.enforcer);
            assert_eq!(signs.next().await.unwrap(), BTreeSet::from([Sign::Pins]), "it is back");
            if !again {
                fs::remove_dir_all(victim.root.path()).unwrap();
                look(&mut victim.enforcer);
                while tokio::time::timeout(quiet, signs.next()).await.is_ok() {}
            }
        }
        run("tc", "qdisc del dev tap0 clsact");
        assert!(signs.next().await.unwrap().contains(&Sign::Programs));
        look(&mut victim.enforcer);
        while tokio::time::timeout(quiet, signs.next()).await.is_ok() {}
        run("bridge", &format!("fdb del {} dev tap0 master", Mac(MAC)));
        assert_eq!(signs.next().await.unwrap(), BTreeSet::from([Sign::Forwarding]));
    });
}

#[test]
fn pins_that_are_all_removed_come_back_and_are_locked() {
    for method in methods() {
        all_pins_removed(method);
    }
}

fn all_pins_removed(method: Method) {
    let mut victim = Victim::new(method);
    fs::remove_dir_all(victim.root.path()).unwrap();
    let Recheck { tampering, .. } = look(&mut victim.enforcer);
    assert!(tampering.iter().all(|one| (one.what, &one.left) == (Tampered::Pin, &None)));
    // The directory, each map, and two links where there are any.
    let links = if method == Method::Tcx { 2 } else { 0 };
    assert_eq!(tampering.len(), 1 + maps::ALL.len() + links, "{tampering:?}");
    let before = assert_in_sync(&mut victim.enforcer);
    let error = open_by(&victim.root, Some(method)).err().unwrap().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    let Victim { enforcer, root, _ns, .. } = victim;
    drop(enforcer);
    let mut next = open_by(&root, Some(method)).unwrap();
    assert_eq!(next.observe().unwrap(), before, "the next one takes over");
}

#[test]
fn a_program_ahead_is_overtaken_and_one_behind_is_left_alone() {
    if !methods().contains(&Method::Tcx) {
        // Filters have priorities, of which ours is the first: `CLSACT_CASES`.
        return;
    }
    let mut victim = Victim::new(Method::Tcx);
    let mut foreign = foreign_programs(&victim);
    let mut first = |name: &str| {
        let program = foreign.fd(name).unwrap();
        sys::attach_first(crate::bpf::load::borrowed(program), victim.port, Hook::Ingress).unwrap()
    };
    let _other = first(programs::BRIDGE_EGRESS);
    let ours = sys::describe(victim.link(Hook::Ingress).as_fd()).unwrap();
    assert!(!victim.is_first(Hook::Ingress));
    let found = look(&mut victim.enforcer).tampering;
    assert_eq!((found.len(), found[0].what, &found[0].left), (1, Tampered::Order, &None));
    assert!(victim.is_first(Hook::Ingress));
    let links = sys::links_on(victim.port, Hook::Ingress).unwrap();
    assert_eq!(links.len(), 2, "theirs and one of ours");
    assert!(!links.contains(&ours.id), "the link that was behind has gone");
    assert_eq!(look(&mut victim.enforcer), Recheck::default(), "one behind ours is none of ours");

    // Again at once: it is told, and ours goes first again when some time has passed.
    let hook = (victim.port, Hook::Ingress);
    victim.enforcer.watch.contests.get_mut(&hook).unwrap().last = Instant::now();
    let _another = first(programs::UPLINK_EGRESS);
    let found = look(&mut victim.enforcer).tampering;
    assert_eq!((found.len(), found[0].what), (1, Tampered::Order));
    assert!(found[0].left.as_ref().unwrap().contains("again later"), "{found:?}");
    let contest = victim.enforcer.watch.contests.get_mut(&hook).unwrap();
    contest.last -= contest.wait;
    let found = look(&mut victim.enforcer).tampering;
    assert_eq!((found.len(), &found[0].left), (1, &None));
    assert!(victim.is_first(Hook::Ingress));
    let waits = victim.enforcer.watch.contests[&hook].wait;
    assert_eq!(waits, Duration::from_secs(2), "the next time it waits longer");

    // Whatever copy of the programs runs, the next daemon takes it over.
    let Victim { enforcer, root, port, _ns, .. } = victim;
    drop(enforcer);
    let mut next = open(&root);
    assert_eq!(look(&mut next).tampering, []);
    assert_eq!(sys::links_on(port, Hook::Ingress).unwrap().len(), 3);
}

#[test]
fn what_the_host_does_itself_is_no_tampering() {
    for method in methods() {
        the_host_goes_about_its_business(method);
    }
}

fn the_host_goes_about_its_business(method: Method) {
    let mut victim = Victim::new(method);
    let quiet = |victim: &mut Victim, what: &str| {
        assert_eq!(look(&mut victim.enforcer).tampering, [], "{what}");
    };
    ip("link set tap0 nomaster");
    quiet(&mut victim, "the port leaves its bridge");
    assert!(interface(&mut victim.enforcer, victim.port).forwarding.is_empty());
    ip("link set tap0 master br0");
    quiet(&mut victim, "it comes back");
    ip("link set tap0 name tap9");
    ip("link set tap9 name tap0");
    quiet(&mut victim, "it is renamed");
    let pin = Action::PinForwarding { ifindex: victim.port, mac: Mac(MAC), vlan: 0 };
    carry_out(&mut victim.enforcer, &[pin]);
    let mut forwarding = Forwarding::open().unwrap();
    let other = ForwardingEntry { ifindex: victim.port, mac: Mac(OTHER_MAC), vlan: 0 };
    forwarding.put(other).unwrap();
    quiet(&mut victim, "an administrator's own forwarding entry");
    run("nft", "flush ruleset");
    quiet(&mut victim, "the ruleset is flushed");
    carry_out(&mut victim.enforcer, &[Action::LiftQuarantine(QUARANTINED)]);
    quiet(&mut victim, "our own actions");
    ip("link del tap0");
    quiet(&mut victim, "the port goes");
    assert_eq!(victim.enforcer.observe().unwrap().interfaces.len(), 0);
}

/// A measurement: run with `--ignored --nocapture`.
#[test]
#[ignore = "makes a thousand interfaces to measure what looking around costs"]
fn looking_around_at_a_thousand_ports() {
    let _ns = NetNs::enter();
    let root = PinRoot::new();
    ip("link add br0 type bridge");
    let ports: Vec<_> = (0..1000).map(|n| tap(&format!("tap{n}"))).collect();
    let mut enforcer = open(&root);
    for (instance, port) in (1..).zip(&ports) {
        let [high, low] = u16::try_from(instance).unwrap().to_be_bytes();
        let slot = SlotEntry { mac: [0x52, 0x54, 0, 0, high, low], ..granted() };
        let write = Action::WriteSlot { ifindex: *port, instance, slot };
        carry_out(&mut enforcer, &[guard(*port), write]);
    }
    let timed = |what: &str, work: &mut dyn FnMut()| {
        let mut times: Vec<_> = (0..9)
            .map(|_| {
                let start = Instant::now();
                work();
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        println!("{what}: median {:?}, {:?} to {:?}", times[4], times[0], times[8]);
    };
    timed("quick", &mut || {
        enforcer.watch.thorough_at = Instant::now() + Duration::from_secs(60);
        assert_eq!(enforcer.look_around().unwrap(), Recheck::default());
    });
    timed("thorough", &mut || assert_eq!(look(&mut enforcer), Recheck::default()));
}
