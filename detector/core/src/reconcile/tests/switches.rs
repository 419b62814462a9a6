//! In a datapath of Open vSwitch what the host sends is stamped before anything asks for the stamp.

use detector_common::{port::flags, settings::Mode};

use crate::{
    model::LinkKind,
    reconcile::{Action, reconcile},
    testing::{BRIDGE, Lab, UPLINK},
};

/// The host's way in.
const INTERNAL: u32 = 71;

fn lab() -> Lab {
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    lab.link(BRIDGE, "ovs-system", LinkKind::OpenVSwitch, None);
    lab.link(INTERNAL, "ovs0", LinkKind::OpenVSwitch, None);
    lab
}

fn is_switched(lab: &Lab, ifindex: u32) -> bool {
    lab.kernel.slot(ifindex).has(flags::SWITCHED)
}

/// Carries out one round, and says where each of these is switched among its actions.
fn round(lab: &mut Lab) -> Vec<Action> {
    let decision = lab.decide();
    let actions = reconcile(&decision.desired, &lab.kernel.state);
    actions.iter().for_each(|action| lab.kernel.apply(action));
    actions
}

fn place(actions: &[Action], wanted: (u32, bool)) -> Option<usize> {
    actions.iter().position(|action| {
        matches!(action, Action::SetSwitched { ifindex, switched, .. }
            if (*ifindex, *switched) == wanted)
    })
}

#[test]
fn what_stamps_comes_before_what_asks() {
    let mut lab = lab();
    round(&mut lab);
    let actions = round(&mut lab);
    let at = |ifindex| place(&actions, (ifindex, true)).unwrap();
    let granted = actions.iter().position(|action| {
        matches!(action, Action::WriteSlot { slot, .. } if slot.flags & flags::GRANTED != 0)
    });
    assert!(at(INTERNAL) < at(UPLINK) && at(INTERNAL) < at(Lab::port(1)), "{actions:#?}");
    assert!(at(Lab::port(1)) < granted.unwrap(), "a port asks before it is granted: {actions:#?}");
    let held = &lab.kernel.state.interfaces[&Lab::port(1)];
    assert!(held.forwarding.is_empty(), "nothing there has entries that are ours");
    assert!(!held.defended.is_empty(), "its MAC is nobody's outside");
    assert_eq!(round(&mut lab), []);

    // Back on a bridge, what asks goes before what stamps.
    lab.link(BRIDGE, "br0", LinkKind::Bridge, None);
    lab.link(INTERNAL, "br7", LinkKind::Bridge, None);
    let actions = round(&mut lab);
    let at = |ifindex| place(&actions, (ifindex, false)).unwrap();
    assert!(at(UPLINK) < at(INTERNAL) && at(Lab::port(1)) < at(INTERNAL), "{actions:#?}");
    assert!(!lab.kernel.state.interfaces[&Lab::port(1)].forwarding.is_empty());
}

/// Where the host's way in cannot be gated, it keeps its way out.
#[test]
fn an_uplink_asks_only_where_the_host_is_stamped() {
    let mut lab = lab();
    lab.settle();
    assert!(is_switched(&lab, UPLINK));
    lab.link(72, "ovs1", LinkKind::OpenVSwitch, None);
    let decision = lab.decide();
    let actions = reconcile(&decision.desired, &lab.kernel.state);
    assert!(place(&actions, (UPLINK, false)).is_some(), "{actions:#?}");
    assert!(place(&actions, (Lab::port(1), false)).is_none(), "guests need not hear it");
    actions.iter().for_each(|action| lab.kernel.apply(action));
    assert!(!is_switched(&lab, UPLINK));
    lab.settle();
    assert!(is_switched(&lab, UPLINK) && is_switched(&lab, 72));
}
