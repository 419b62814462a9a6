//! Modes that end in the kernel.

use std::time::Instant;

use detector_common::settings::{Cause as ModeCause, PROVISIONAL, Settings};
use detector_core::model::{Deed, ModeRecord, ModeRequest, Ticks};

use super::*;

/// Two taps on a bridge, of which the second hears what the first one's guest broadcasts.
struct Lan {
    guest: Tap,
    port: u32,
    _ns: NetNs,
}

impl Lan {
    fn new() -> Self {
        let ns = NetNs::enter();
        let guest = Tap::open("tap0");
        ip("link add br0 type bridge mcast_snooping 0");
        ip("link set br0 up");
        ip("link set tap0 master br0");
        Self { guest, port: ifindex("tap0"), _ns: ns }
    }

    /// Whether a frame that is refused goes on.
    fn passes(&self) -> bool {
        let before = received("br0");
        self.guest.send(&unknown_frame());
        received("br0") > before
    }
}

/// Frames that the host has received by an interface of this thread's namespace.
fn received(name: &str) -> u64 {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = table.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "nothing tells of what the kernel's clock ends")]
fn poll<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{what} never comes");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn deed() -> Deed {
    Deed::new(Timestamp(1_000), 1000, ModeCause::Operator, "a test")
}

fn provisional(enforcer: &mut KernelEnforcer, mode: Mode, seconds: u64) -> Action {
    let until = Some(enforcer.ticks_after(seconds).unwrap());
    Action::SetMode(ModeRecord { until, ..ModeRecord::confirmed(mode, deed()) })
}

#[test]
fn a_provisional_mode_ends_without_anybody() {
    for (mode, first) in [(Mode::Enforce, false), (Mode::Observe, true)] {
        let lan = Lan::new();
        let root = PinRoot::new();
        let mut enforcer = open(&root);
        let start = Action::SetMode(mode.other().into());
        carry_out(&mut enforcer, &[start, guard(lan.port)]);
        carry_out(
            &mut enforcer,
            &[Action::WriteSlot { ifindex: lan.port, instance: 1, slot: granted() }],
        );
        assert_eq!(lan.passes(), !first);
        let begun = Instant::now();
        let action = provisional(&mut enforcer, mode, 1);
        carry_out(&mut enforcer, &[action]);
        assert_eq!(enforcer.observe().unwrap().mode.unwrap().effective(), mode);
        assert_eq!(lan.passes(), first, "{mode:?}");
        drop(enforcer);
        poll("the end", || (lan.passes() != first).then_some(()));
        assert!(begun.elapsed() >= Duration::from_millis(900), "too early: {:?}", begun.elapsed());
        let observed = open(&root).observe().unwrap().mode.unwrap();
        assert_eq!((observed.lapsed, observed.effective()), (true, mode.other()));
    }
}

/// The one who looks around says that the mode has ended, and calls it no tampering.
#[test]
fn an_end_is_noticed_and_is_nobodys_doing() {
    let lan = Lan::new();
    let root = PinRoot::new();
    let mut enforcer = open(&root);
    let action = provisional(&mut enforcer, Mode::Enforce, 1);
    carry_out(&mut enforcer, &[action, guard(lan.port)]);
    enforcer.look_around().unwrap();
    assert_eq!(enforcer.look_around().unwrap(), Default::default());
    let found = poll("the end to be noticed", || {
        Some(enforcer.look_around().unwrap()).filter(|found| found.changed)
    });
    assert_eq!(found.tampering, []);
    assert!(enforcer.observe().unwrap().mode.unwrap().lapsed);
    assert_eq!(enforcer.look_around().unwrap(), Default::default(), "it is told once");
}

#[test]
fn without_a_daemon_the_pins_are_changed_and_with_one_they_are_not() {
    let lan = Lan::new();
    let root = PinRoot::new();
    let mut enforcer = open(&root);
    let change = |request: ModeRequest| Inspector::change_mode(root.path(), request, deed());
    // Not even by whoever is killed before it has set one.
    for _ in 0..2 {
        carry_out(&mut enforcer, &[guard(lan.port)]);
        drop(enforcer);
        assert_eq!(Inspector::open(root.path()).unwrap().mode().unwrap(), None);
        assert_eq!(Inspector::enforces(root.path()).unwrap(), None);
        enforcer = open(&root);
        assert_eq!(enforcer.observe().unwrap().mode, None);
    }
    carry_out(&mut enforcer, &[Action::SetMode(Mode::Enforce.into()), guard(lan.port)]);
    let glass = ModeRequest::BreakGlass { lasts: 60 };
    let refused = change(glass).unwrap_err();
    assert!(matches!(refused, BpfError::Locked { .. }), "{refused}");
    let before = assert_in_sync(&mut enforcer).mode;
    drop(enforcer);

    for (request, why) in [
        (ModeRequest::Confirm {}, "nothing to confirm"),
        (ModeRequest::Rollback {}, "nothing to roll back"),
        (ModeRequest::BreakGlass { lasts: 0 }, "1 day"),
    ] {
        let refused = change(request).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    assert_eq!(open(&root).observe().unwrap().mode, before);
    assert!(!lan.passes());
    change(glass).unwrap();
    assert!(lan.passes());
    let mut enforcer = open(&root);
    let mode = enforcer.observe().unwrap().mode.unwrap();
    assert_eq!((mode.is_provisional(), &mode.record.deed), (true, &deed()));
    let action = provisional(&mut enforcer, Mode::Enforce, 60);
    carry_out(&mut enforcer, &[action]);
    drop(enforcer);
    let confirmed = change(ModeRequest::Confirm {}).unwrap();
    assert_eq!((confirmed.effective(), confirmed.record.until), (Mode::Enforce, None));
    let mut enforcer = open(&root);
    let action = provisional(&mut enforcer, Mode::Enforce, 60);
    carry_out(&mut enforcer, &[action]);
    assert!(!lan.passes());
    drop(enforcer);
    change(ModeRequest::Rollback {}).unwrap();
    assert!(lan.passes());
}

/// A mode is switched by one word: at no moment does a provisional one come with the end of another.
#[test]
fn what_a_mode_makes_count_is_there_before_it() {
    let lan = Lan::new();
    let root = PinRoot::new();
    let mut enforcer = open(&root);
    carry_out(&mut enforcer, &[guard(lan.port)]);
    let read = |enforcer: &KernelEnforcer| enforcer.maps.settings().unwrap();
    let trial = provisional(&mut enforcer, Mode::Enforce, 60);
    for action in [trial, Action::SetMode(Mode::Observe.into())] {
        carry_out(&mut enforcer, &[action]);
    }
    let settings: Settings = read(&enforcer);
    assert_eq!((settings.mode, settings.change.until), (Mode::Observe as u32, 0));
    let trial = provisional(&mut enforcer, Mode::Enforce, 60);
    carry_out(&mut enforcer, &[trial]);
    let settings: Settings = read(&enforcer);
    assert_eq!(settings.mode, Mode::Enforce as u32 | PROVISIONAL);
    assert!(Ticks(settings.change.until) > enforcer.ticks_after(0).unwrap());
}
