use detector_common::settings::Mode;

use crate::{
    model::{LinkKind, QuarantineTarget},
    reconcile::{Action, reconcile},
    testing::{BRIDGE, Lab, UNKNOWN, UPLINK},
};

/// The phase of an action, as the documentation of [`reconcile`] numbers them.
fn phase(action: &Action) -> u32 {
    match action {
        Action::SetMode(record) if record.mode == Mode::Observe => 1,
        Action::SetObserved { observed: true, .. } => 1,
        Action::SetObserved { observed: false, .. } => 65,
        // What stamps comes before what asks for the stamp: `switches.rs`.
        Action::SetSwitched { .. } => 0,
        Action::PutQuarantine(_)
        | Action::GiveQuarantineBack(_)
        | Action::Unprotect { .. }
        | Action::Protect { .. }
        | Action::OfferServices { .. } => 2,
        Action::WriteSlot { slot, .. } if slot.flags & 1 == 0 => 2,
        Action::Release { .. } => 3,
        Action::Trust { .. } | Action::AttachUplink { .. } | Action::AttachDevice { .. } => 40,
        Action::AttachBridge { .. } | Action::AttachSandbox { .. } => 41,
        Action::AttachGuard { .. } => 42,
        Action::PutGrants { .. } | Action::Teach { .. } | Action::WriteSlot { .. } => 50,
        Action::PinForwarding { .. } | Action::DefendMac { .. } => 51,
        Action::PutShield { .. } | Action::DropShield { .. } => 53,
        Action::MakeSandbox { .. } | Action::OpenPassage { .. } | Action::ClosePassage { .. } => 53,
        Action::WithdrawServices { .. } => 54,
        Action::LiftQuarantine(_) => 60,
        Action::SetMode(_) => 70,
        // They belong to the phase that they follow.
        Action::DropGrants { .. } | Action::UnpinForwarding { .. } | Action::YieldMac { .. } => 0,
    }
}

fn sets(action: Option<&Action>) -> Option<Mode> {
    match action? {
        Action::SetMode(record) => Some(record.mode),
        _ => None,
    }
}

fn round(lab: &mut Lab) -> Vec<Action> {
    let decision = lab.decide();
    let actions = reconcile(&decision.desired, &lab.kernel.state);
    actions.iter().for_each(|action| lab.kernel.apply(action));
    actions
}

fn assert_in_order(actions: &[Action]) {
    let phases: Vec<_> = actions.iter().map(phase).filter(|phase| *phase > 0).collect();
    assert!(phases.is_sorted(), "{phases:?} of {actions:#?}");
}

#[test]
fn what_takes_away_comes_before_what_gives() {
    let mut lab = Lab::with_vms(Mode::Observe, 4);
    lab.settle();
    lab.base(4, UNKNOWN);
    lab.nic(1).addresses = vec!["192.0.2.1/32".parse().unwrap(), "192.0.2.2/32".parse().unwrap()];
    lab.world.links.remove(&Lab::port(2));
    lab.add_vm(5);
    lab.switch(Mode::Enforce);
    let actions = round(&mut lab);
    assert_in_order(&actions);
    assert!(matches!(&actions[0], Action::PutQuarantine(_)), "{actions:#?}");
    let isolates = |action: &Action| {
        matches!(action, Action::WriteSlot { ifindex, slot, .. }
            if *ifindex == Lab::port(4) && slot.flags & 2 != 0)
    };
    assert!(isolates(&actions[1]), "{actions:#?}");
    assert_eq!(sets(actions.last()), Some(Mode::Enforce));
}

#[test]
fn observe_comes_first_and_enforce_last() {
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    let first = round(&mut lab);
    assert_in_order(&first);
    assert_eq!(sets(first.last()), Some(Mode::Enforce));
    let attached: Vec<_> = first
        .iter()
        .filter_map(|action| match action {
            Action::AttachUplink { ifindex, .. }
            | Action::AttachBridge { ifindex, .. }
            | Action::AttachGuard { ifindex, .. } => Some(*ifindex),
            _ => None,
        })
        .collect();
    assert_eq!(attached, [UPLINK, BRIDGE, Lab::port(1)]);
    lab.settle();

    lab.switch(Mode::Observe);
    lab.add_vm(2);
    let back = round(&mut lab);
    assert_in_order(&back);
    assert_eq!(sets(back.first()), Some(Mode::Observe));
}

#[test]
fn entries_frame_the_slot_that_needs_them() {
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    lab.nic(1).addresses = vec!["192.0.2.1/32".parse().unwrap(), "192.0.2.2/32".parse().unwrap()];
    round(&mut lab);
    let names = |actions: &[Action]| -> Vec<&'static str> {
        actions
            .iter()
            .map(|action| match action {
                Action::PutGrants { .. } => "put",
                Action::WriteSlot { .. } => "write",
                Action::DropGrants { .. } => "drop",
                Action::PinForwarding { .. } => "pin",
                Action::UnpinForwarding { .. } => "unpin",
                Action::DefendMac { .. } => "defend",
                Action::YieldMac { .. } => "yield",
                _ => "other",
            })
            .collect()
    };
    assert_eq!(names(&round(&mut lab)), ["put", "write", "pin", "defend"]);
    lab.nic(1).addresses.pop();
    assert_eq!(names(&round(&mut lab)), ["write", "drop"]);
    lab.nic(1).mac = Lab::mac(9);
    assert_eq!(names(&round(&mut lab)), ["write", "unpin", "yield", "pin", "defend"]);
    lab.quarantine(QuarantineTarget::Vm(Lab::uuid(1)));
    assert_eq!(names(&round(&mut lab)), ["write", "unpin", "yield"]);
}

/// A port that is to be left alone: nothing of ours stays in its bridge, and what is released makes room
/// before anything is attached.
#[test]
fn entries_go_before_the_port_and_ports_before_what_comes() {
    let mut lab = Lab::with_vms(Mode::Enforce, 2);
    lab.settle();
    lab.link(70, "br7", LinkKind::Bridge, None);
    lab.world.links.get_mut(&Lab::port(1)).unwrap().master = Some(70);
    lab.world.policy.bridges = vec!["*".to_owned(), "!br7".to_owned()];
    lab.add_vm(3);
    let actions = round(&mut lab);
    assert_in_order(&actions);
    let port = Lab::port(1);
    let unpin = Action::UnpinForwarding { ifindex: port, mac: Lab::mac(1), vlan: 0 };
    let guards = |action: &Action| matches!(action, Action::AttachGuard { .. });
    assert_eq!(actions[..2], [unpin, Action::Release { ifindex: port }], "{actions:#?}");
    assert!(actions[2..].iter().any(guards), "{actions:#?}");
    lab.settle();
    assert!(!lab.kernel.state.interfaces.contains_key(&port));
}

#[test]
fn a_quarantine_that_is_not_desired_is_lifted() {
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    lab.settle();
    lab.quarantine(QuarantineTarget::Vm(Lab::uuid(9)));
    let mut desired = lab.decide().desired;
    desired.quarantines.clear();
    let actions = reconcile(&desired, &lab.kernel.state);
    assert_eq!(actions, [Action::LiftQuarantine(QuarantineTarget::Vm(Lab::uuid(9)))]);
}
