//! The mode is changed by people, ends by itself, and is kept.

use detector_common::settings::Cause;
use detector_core::model::{Deed, ModeRequest, Ticks};

use super::*;
use crate::{
    api::{
        ErrorCode,
        schema::TargetSpec,
        view::{ModeDetail, ModeView, Preview},
    },
    daemon::mode::Start,
    mode::Kept,
};

const MINUTE: Duration = Duration::from_secs(60);
const TRIAL: ModeRequest = ModeRequest::Enforce { confirm_within: Some(60) };
const GLASS: ModeRequest = ModeRequest::BreakGlass { lasts: 60 };

impl Host {
    fn change(&mut self, change: ModeRequest) -> Result<ModeDetail, ApiError> {
        let reason = "a test".to_owned();
        match self.ask(Request::ModeChange { change, reason })? {
            Reply::Mode(mode) => Ok(mode),
            other => panic!("{other:?}"),
        }
    }

    fn preview(&mut self) -> Preview {
        match self.ask(Request::EnforcePreview {}) {
            Ok(Reply::Preview(preview)) => *preview,
            other => panic!("{other:?}"),
        }
    }

    /// Takes what was to be kept of the mode.
    fn kept(&mut self) -> Vec<Mode> {
        let mut kept = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::KeepMode(one) => {
                kept.push(one.mode);
                false
            }
            _ => true,
        });
        kept
    }

    fn mode(&self) -> Option<Mode> {
        self.brain.mode()
    }

    /// Whose VM is quarantined, by number.
    fn quarantined(&mut self) -> Vec<u8> {
        let targets = self.kernel().state.quarantines.keys();
        let number = |target: &QuarantineTarget| match target {
            QuarantineTarget::Vm(uuid) => uuid.as_bytes()[0],
            other => panic!("{other:?}"),
        };
        targets.map(number).collect()
    }
}

/// A VM that is denied, and one that an operator quarantines.
fn with_a_rogue(mode: Mode) -> Host {
    let mut host = Host::new(mode);
    let vms = vec![vm("rogue", 1, "vnet0"), vm("web", 2, "vnet1")];
    host.turn(vec![tap(10, "vnet0"), tap(11, "vnet1"), listing(vms)]);
    host.read(|path| if path.ends_with("web") { APPROVED } else { FOUND });
    host.told();
    host
}

#[test]
fn enforcing_that_nobody_confirms_ends_with_what_it_has_brought() {
    let mut host = with_a_rogue(Mode::Observe);
    let mode = host.change(TRIAL).unwrap();
    assert_eq!((mode.mode, mode.then), (ModeView::Enforce, Some(ModeView::Observe)));
    assert_eq!((mode.standing.as_str(), mode.uid), ("provisional", 1000));
    assert_eq!(host.quarantined(), [1]);
    let target = TargetSpec::Vm("web".to_owned());
    let add = Request::QuarantineAdd { target, reason: "a test".to_owned(), mode: None };
    host.ask(add).unwrap();
    assert_eq!(host.quarantined(), [1, 2]);
    assert_eq!(host.kept(), [], "what is provisional is not kept");
    host.wait(MINUTE);
    assert_eq!((host.mode(), host.quarantined()), (Some(Mode::Observe), vec![2]));
    assert_eq!(host.told(), ["+enforcing-lapsed"]);
    assert_eq!(host.kept(), [Mode::Observe]);
    let error = host.change(ModeRequest::Confirm {}).unwrap_err();
    assert_eq!(error.code, ErrorCode::BadRequest);
    assert!(error.message.contains("is over"), "{error}");
    host.change(ModeRequest::Observe {}).unwrap();
    // Whoever says so has taken note.
    assert_eq!(host.told(), ["-enforcing-lapsed"]);
}

#[test]
fn confirmed_it_is_kept() {
    let mut host = with_a_rogue(Mode::Observe);
    host.change(TRIAL).unwrap();
    let mode = host.change(ModeRequest::Confirm {}).unwrap();
    assert_eq!((mode.standing.as_str(), mode.until), ("confirmed", None));
    // Before the answer: whoever gets it can rely on it.
    assert_eq!(host.kept(), [Mode::Enforce]);
    host.wait(MINUTE * 2);
    assert_eq!((host.mode(), host.quarantined()), (Some(Mode::Enforce), vec![1]));
}

#[test]
fn broken_glass_lifts_nothing_and_ends() {
    let mut host = with_a_rogue(Mode::Enforce);
    host.kept();
    let mode = host.change(GLASS).unwrap();
    assert_eq!((mode.mode, mode.standing.as_str()), (ModeView::Observe, "break-glass"));
    assert_eq!(host.told(), ["+break-glass"]);
    assert_eq!((host.kept(), host.quarantined()), (vec![], vec![1]));
    host.wait(MINUTE);
    assert_eq!(host.mode(), Some(Mode::Enforce));
    assert_eq!(host.told(), ["-break-glass"]);
}

#[test]
fn a_kernel_that_refuses_leaves_what_was() {
    let mut host = with_a_rogue(Mode::Observe);
    host.kernel().broken.insert("mode Enforce".to_owned());
    let error = host.change(TRIAL).unwrap_err();
    assert_eq!(error.code, ErrorCode::EnforcementFailed);
    host.kernel().broken.clear();
    host.wait(MINUTE);
    assert_eq!(host.mode(), Some(Mode::Observe), "it is not tried behind one's back");
}

/// What the host comes up with: what is pinned counts before what was kept, and that before what is
/// configured; the word of whoever starts the daemon before all.
#[test]
fn what_a_start_leads_to() {
    let kept = |mode| {
        let deed = Deed::new(Timestamp(5), 7, Cause::Operator, "before");
        Ok(Some(Kept { mode, deed }))
    };
    use Mode::{Enforce, Observe};
    let cases = [
        (None, Ok(None), None, Enforce),
        (None, kept(Observe), None, Observe),
        (None, Err("damaged".to_owned()), None, Enforce),
        (Some(Enforce), kept(Observe), None, Enforce),
        (Some(Observe), Ok(None), None, Observe),
        (Some(Enforce), kept(Enforce), Some(Observe), Observe),
        (None, kept(Observe), Some(Enforce), Enforce),
    ];
    for (pinned, kept, wanted, expect) in cases {
        let case = format!("{pinned:?} {kept:?} {wanted:?}");
        let damaged = kept.is_err();
        let mut kernel = FakeKernel::default();
        if let Some(mode) = pinned {
            kernel.put_mode(mode.into());
        }
        let mut brain = Host::brain(Enforce, kernel);
        let start = Start { kept, wanted: wanted.map(|mode| (mode, 7)) };
        let effects = brain.begin(Timestamp(1_000_000), vec![Input::Mode(start)]);
        assert_eq!(brain.mode(), Some(expect), "{case}");
        let told = effects.iter().any(|effect| {
            matches!(effect, Effect::Tell(Change::Opened(one)) if one.title.contains("kept"))
        });
        assert_eq!(told, damaged, "{case}");
    }
}

/// What is pinned of ours meanwhile is what the waiting has put there, not what anybody has confirmed.
#[test]
fn a_restart_beside_another_map_schema_loses_no_mode() {
    for pinned in [Mode::Observe, Mode::Enforce] {
        let mut host = with_a_rogue(Mode::Observe);
        let mut kernel = std::mem::take(host.kernel());
        kernel.predecessors = true;
        kernel.put_mode(pinned.into());
        host.brain = Host::brain(Mode::Observe, kernel);
        let deed = Deed::new(Timestamp(5), 7, Cause::Operator, "before");
        let kept = Ok(Some(Kept { mode: Mode::Enforce, deed }));
        host.brain.begin(Timestamp(2_000_000), vec![Input::Mode(Start { kept, wanted: None })]);
        assert_eq!(host.mode(), Some(Mode::Observe), "{pinned:?}: the others enforce");
        host.turn(vec![tap(10, "vnet0"), listing(vec![vm("web", 2, "vnet0")])]);
        host.read(|_| APPROVED);
        host.wait(MINUTE * 3);
        assert_eq!(host.mode(), Some(Mode::Enforce), "{pinned:?}");
        assert!(!host.kernel().predecessors, "{pinned:?}");
        assert!(!host.kept().contains(&Mode::Observe), "{pinned:?}");
    }
}

#[test]
fn a_provisional_mode_goes_on_over_a_restart_of_the_daemon() {
    for (passed, expect) in [(30_000, Mode::Enforce), (60_000, Mode::Observe)] {
        let mut host = with_a_rogue(Mode::Observe);
        host.change(TRIAL).unwrap();
        let mut kernel = std::mem::take(host.kernel());
        kernel.ticks += passed;
        let mut brain = Host::brain(Mode::Enforce, kernel);
        let start = Start { kept: Ok(None), wanted: None };
        brain.begin(Timestamp(2_000_000), vec![Input::Mode(start)]);
        assert_eq!(brain.mode(), Some(expect));
        let quarantines = brain.enforcer_mut().state.quarantines.len();
        assert_eq!(quarantines, usize::from(expect == Mode::Enforce));
    }
}

#[test]
fn bad_requests() {
    let long = "x".repeat(ModeRequest::LONGEST_REASON + 1);
    let cases = [
        (ModeRequest::Confirm {}, "why", "nothing to confirm"),
        (ModeRequest::Rollback {}, "why", "nothing to roll back"),
        (GLASS, "why", "nothing is enforced"),
        (ModeRequest::Enforce { confirm_within: Some(u64::MAX) }, "why", "1 day"),
        (ModeRequest::Maintenance { lasts: 0 }, "why", "7 days"),
        (ModeRequest::Maintenance { lasts: 5 }, "", "--reason"),
        (ModeRequest::EndMaintenance {}, "why", "no maintenance"),
        (TRIAL, &long, "112 bytes"),
    ];
    let mut host = with_a_rogue(Mode::Observe);
    for (change, reason, why) in cases {
        let error = host.ask(Request::ModeChange { change, reason: reason.to_owned() });
        let error = error.unwrap_err();
        assert_eq!(error.code, ErrorCode::BadRequest, "{change:?}");
        assert!(error.message.contains(why), "{change:?}: {error}");
        assert_eq!(host.mode(), Some(Mode::Observe));
    }
}

#[test]
fn a_preview_names_what_is_mute_and_changes_nothing() {
    let mut host = with_a_rogue(Mode::Observe);
    host.turn(vec![tap(12, "stray0")]);
    let preview = host.preview();
    assert_eq!(preview.mode, ModeView::Observe);
    let vms: Vec<_> = preview.vms.iter().map(|vm| (vm.vm.name.as_str(), &*vm.status)).collect();
    assert_eq!(vms, [("rogue", "denied")]);
    assert!(preview.vms[0].why[0].contains("template-registered"), "{preview:?}");
    let ports: Vec<_> = preview.ports.iter().map(|port| (&*port.name, port.mute)).collect();
    assert_eq!(ports, [("vnet0", true), ("stray0", true)]);
    assert_eq!((host.mode(), host.quarantined()), (Some(Mode::Observe), vec![]));
    let target = TargetSpec::Vm("rogue".to_owned());
    let reason = "by hand".to_owned();
    host.ask(Request::QuarantineAdd { target, reason, mode: None }).unwrap();
    let preview = host.preview();
    assert!(preview.vms.is_empty(), "it is cut off already: {preview:?}");
    assert_eq!(preview.ports.len(), 1);
}

#[test]
fn the_end_of_a_term_does_not_hang_on_the_clock() {
    let mut host = with_a_rogue(Mode::Observe);
    host.change(TRIAL).unwrap();
    let until = host.kernel().state.mode.as_ref().unwrap().record.until;
    assert_eq!(until, Some(Ticks(host.kernel().ticks + 60_000)));
    // Somebody sets the clock back: the ticks go on.
    host.lag = 900_000;
    host.wait(MINUTE);
    assert_eq!((host.mode(), host.quarantined()), (Some(Mode::Observe), vec![]));
}
