//! What each interface is.

use detector_common::settings::Mode;

use crate::{
    model::LinkKind,
    reconcile::InterfacePlan,
    testing::{BRIDGE, Lab},
};

const IT: u32 = 50;
const OTHER_BRIDGE: u32 = 51;
const SANDBOX: u32 = 52;
const DATAPATH: u32 = 53;

#[test]
fn classes() {
    use LinkKind::{Bridge, Loopback, Macvtap, OpenVSwitch, Other, Physical, Tap, Veth};
    /// Patterns for bridges, uplinks and trusted; kind, name, bridge; what it is.
    type Case =
        ([&'static [&'static str]; 3], (LinkKind, &'static str, Option<u32>), Option<&'static str>);
    const ALL: [&[&str]; 3] = [&["*"], &[], &[]];
    // Whoever names one bridge of Open vSwitch means its datapath, which has them all.
    const ONE: [&[&str]; 3] = [&["ovs0"], &[], &[]];
    const OTHERS: [&[&str]; 3] = [&["br*"], &[], &[]];
    const NO_DATAPATH: [&[&str]; 3] = [&["*", "!ovs-*"], &[], &[]];
    const SOME: [&[&str]; 3] = [&["*", "!virbr*", "virbr7"], &["up*", "!upper"], &["wg?"]];
    let cases: &[Case] = &[
        (ALL, (Tap, "vnet0", Some(BRIDGE)), Some("guest")),
        (ALL, (Veth, "veth0", Some(BRIDGE)), Some("guest")),
        (ALL, (Macvtap, "macvtap0", Some(BRIDGE)), Some("guest")),
        (ALL, (Other, "vxlan0", Some(BRIDGE)), Some("guest")),
        (ALL, (Physical, "eth1", Some(BRIDGE)), Some("uplink")),
        (ALL, (Physical, "eth1", None), Some("trusted")),
        (ALL, (Physical, "eth1", Some(77)), Some("trusted")),
        (ALL, (Macvtap, "macvtap0", None), Some("guest")),
        (ALL, (LinkKind::MacvtapPassthrough, "macvtap0", None), None),
        (SOME, (Macvtap, "macvtap0", None), Some("guest")),
        (SOME, (Macvtap, "virbr-tap", None), None),
        (SOME, (Macvtap, "up0", None), Some("guest")),
        (ALL, (Tap, "vnet0", None), None),
        (ALL, (Tap, "vnet0", Some(77)), None),
        (ALL, (Loopback, "lo", None), None),
        (ALL, (Other, "wg0", None), None),
        (ALL, (Bridge, "br7", None), Some("bridge")),
        (SOME, (Bridge, "virbr0", None), None),
        (SOME, (Bridge, "virbr7", None), Some("bridge")),
        (SOME, (Bridge, "br7", None), Some("bridge")),
        (SOME, (Tap, "vnet0", Some(OTHER_BRIDGE)), None),
        (SOME, (Physical, "eth1", Some(OTHER_BRIDGE)), Some("trusted")),
        (SOME, (Veth, "up0", Some(BRIDGE)), Some("uplink")),
        (SOME, (Veth, "upper", Some(BRIDGE)), Some("guest")),
        (SOME, (Other, "up0", None), Some("trusted")),
        (SOME, (Other, "wg0", None), Some("trusted")),
        (SOME, (Other, "wg10", None), None),
        (SOME, (Tap, "wg0", Some(BRIDGE)), Some("guest")),
        (ALL, (Tap, "vnet0", Some(SANDBOX)), None),
        (ALL, (Physical, "eth1", Some(SANDBOX)), None),
        (SOME, (Veth, "up0", Some(SANDBOX)), None),
        (ALL, (Tap, "sbx0", Some(BRIDGE)), Some("guest")),
        (ALL, (LinkKind::MacvtapVepa, "macvtap0", None), Some("guest")),
        (ALL, (Tap, "vnet0", Some(DATAPATH)), Some("guest")),
        (ALL, (Veth, "veth0", Some(DATAPATH)), Some("guest")),
        (ALL, (Other, "vxlan_sys_4789", Some(DATAPATH)), Some("guest")),
        (ALL, (Physical, "eth1", Some(DATAPATH)), Some("uplink")),
        (SOME, (Other, "up0", Some(DATAPATH)), Some("uplink")),
        (ALL, (OpenVSwitch, "ovs1", None), Some("bridge")),
        (ALL, (OpenVSwitch, "ovs1", Some(BRIDGE)), Some("guest")),
        (ONE, (Tap, "vnet0", Some(DATAPATH)), Some("guest")),
        (ONE, (OpenVSwitch, "ovs1", None), Some("bridge")),
        (OTHERS, (Tap, "vnet0", Some(DATAPATH)), None),
        (OTHERS, (OpenVSwitch, "ovs1", None), None),
        (NO_DATAPATH, (Tap, "vnet0", Some(DATAPATH)), None),
        (NO_DATAPATH, (OpenVSwitch, "ovs1", None), None),
        (NO_DATAPATH, (Physical, "eth1", Some(DATAPATH)), Some("trusted")),
    ];
    for (patterns, (kind, name, master), expect) in cases {
        let mut lab = Lab::new(Mode::Enforce);
        let owned = |patterns: &[&str]| patterns.iter().map(|one| (*one).to_owned()).collect();
        lab.world.policy.bridges = owned(patterns[0]);
        lab.world.policy.uplinks = owned(patterns[1]);
        lab.world.policy.trusted = owned(patterns[2]);
        lab.world.policy.sandbox = Some("sbx0".to_owned());
        lab.link(OTHER_BRIDGE, "virbr1", Bridge, None);
        lab.link(SANDBOX, "sbx0", Bridge, None);
        lab.link(DATAPATH, "ovs-system", OpenVSwitch, None);
        lab.link(54, "ovs0", OpenVSwitch, None);
        lab.link(IT, name, *kind, *master);
        let decision = lab.decide();
        let class = decision.desired.interfaces.get(&IT).map(|(_, plan)| match plan {
            InterfacePlan::Guest(_) => "guest",
            InterfacePlan::Uplink => "uplink",
            InterfacePlan::Bridge => "bridge",
            InterfacePlan::Trusted => "trusted",
            InterfacePlan::Sandbox => "sandbox",
            InterfacePlan::Device(_) => "device",
        });
        assert_eq!(class, *expect, "{kind:?} {name} in {master:?} with {patterns:?}");
        let sandbox = decision.desired.interfaces.get(&SANDBOX).map(|(_, plan)| plan);
        assert_eq!(sandbox, Some(&InterfacePlan::Sandbox), "{name}");
        assert_eq!(decision.ports.contains_key(&IT), class == Some("guest"), "{name}");
    }
}
