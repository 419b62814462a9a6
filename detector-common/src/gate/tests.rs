//! Each decision as a table of what it goes by.

use core::cell::Cell;

use super::*;
use crate::{
    addr::Mac,
    port::{Grant, PrefixKey},
};

const ROLES: [Role; 9] = [
    Role::Vacant,
    Role::Guest,
    Role::Uplink,
    Role::Bridge,
    Role::Trusted,
    Role::GuestOnDevice,
    Role::Sandbox,
    Role::Device,
    Role::ClosedDevice,
];
const GRANTED: u32 = flags::GRANTED;
const ISOLATED: u32 = flags::ISOLATED;

fn slot(role: Role, flags: u32) -> PortSlot {
    PortSlot { ifindex: 7, instance: 3, role: role as u8, flags, ..PortSlot::VACANT }
}

/// What is stamped is delivered if it came in by this.
#[test]
fn sources_in_force() {
    for role in ROLES {
        let learns = GRANTED | flags::LEARNS;
        for flags in [0, GRANTED, ISOLATED, GRANTED | ISOLATED, learns, flags::TRUSTED] {
            let granted = flags & GRANTED != 0 && flags & ISOLATED == 0;
            let expect = match role {
                Role::Uplink | Role::Bridge | Role::Trusted => true,
                Role::Guest | Role::GuestOnDevice => granted,
                Role::Device | Role::ClosedDevice => flags & flags::TRUSTED != 0,
                Role::Vacant | Role::Sandbox => false,
            };
            assert_eq!(is_in_force(&slot(role, flags)), expect, "{role:?} {flags:#x}");
        }
    }
}

#[test]
fn where_a_frame_may_come_from() {
    let (granted, isolated) = (slot(Role::Guest, GRANTED), slot(Role::Guest, ISOLATED));
    let cases = [
        ("the host's own", 0, false, None, Reason::HostOwn),
        ("the host's own, whatever it carries", 0, true, Some(&isolated), Reason::HostOwn),
        ("a tap that nobody knows", 7, false, None, Reason::Unvetted),
        ("the same with a stamp that is forged", 7, true, None, Reason::SourceNotInForce),
        ("not stamped", 7, false, Some(&granted), Reason::Unvetted),
        ("stamped", 7, true, Some(&granted), Reason::Vetted),
        ("stamped before it was cut off", 7, true, Some(&isolated), Reason::SourceNotInForce),
    ];
    for (name, source, stamped, slot, expect) in cases {
        let vetted = vet_source(source, || stamped, |_| slot, || Reason::HostOwn);
        assert_eq!(vetted, expect, "{name}");
    }
}

#[test]
fn what_came_in_by_no_interface() {
    let switched = slot(Role::Uplink, flags::SWITCHED);
    let bridged = slot(Role::Uplink, 0);
    let cases = [
        ("on a bridge", Some(&bridged), (false, false), Reason::HostOwn),
        ("where no slot is", None, (false, false), Reason::HostOwn),
        ("in a datapath", Some(&switched), (false, false), Reason::Unvetted),
        ("there, by the switch's daemon", Some(&switched), (true, false), Reason::Vetted),
        ("there, of the switch itself", Some(&switched), (false, true), Reason::HostOwn),
    ];
    for (name, place, (stamped, control), expect) in cases {
        assert_eq!(vet_sourceless(place, || stamped, || control), expect, "{name}");
    }
}

/// No question is asked whose answer does not matter: each is a look-up for a frame that passes.
#[test]
fn nothing_is_asked_in_vain() {
    let asked = Cell::new(0);
    let ask = |answer: bool| {
        asked.set(asked.get() + 1);
        answer
    };
    vet_source(0, || ask(true), |_| None, || Reason::HostOwn);
    vet_sourceless(Some(&slot(Role::Guest, GRANTED)), || ask(true), || ask(true));
    vet_towards(&slot(Role::Guest, GRANTED), || Reason::Vetted, || ask(true));
    vet_towards(&slot(Role::Guest, 0), || Reason::Vetted, || ask(true));
    vet_for_host(true, || ask(true));
    assert_eq!(asked.get(), 0);
}

#[test]
fn what_may_go_to_a_guest() {
    let sandboxed = ISOLATED | flags::SANDBOXED;
    let cases = [
        (0, Reason::Vetted, true, Reason::PortPending),
        (GRANTED, Reason::Vetted, false, Reason::Vetted),
        (GRANTED, Reason::Unvetted, true, Reason::Unvetted),
        (ISOLATED, Reason::Vetted, false, Reason::PortIsolated),
        (GRANTED | ISOLATED, Reason::Vetted, false, Reason::PortIsolated),
        (sandboxed, Reason::Vetted, false, Reason::PortIsolated),
        (sandboxed, Reason::Unvetted, true, Reason::Sandboxed),
        (GRANTED | sandboxed, Reason::Vetted, true, Reason::Sandboxed),
    ];
    for (flags, source, brought, expect) in cases {
        let slot = slot(Role::Guest, flags);
        assert_eq!(vet_towards(&slot, || source, || brought), expect, "{flags:#x} {source:?}");
    }
}

#[test]
fn what_may_go_to_the_host() {
    assert_eq!(vet_for_host(true, || false), Reason::Vetted);
    assert_eq!(vet_for_host(false, || true), Reason::HostOwn);
    assert_eq!(vet_for_host(false, || false), Reason::Unvetted);
    // linux/if_packet.h: host, broadcast, multicast, another host, outgoing, loopback.
    let multicast = [true, false, false, false, false, true];
    let unicast = [false, false, false, false, false, true];
    for (kind, (group, own)) in (0..).zip(multicast.into_iter().zip(unicast)) {
        assert_eq!(is_own_multicast(kind, || Some(0x33)), group, "{kind}");
        assert_eq!(is_own_multicast(kind, || Some(0x52)), own, "{kind}");
        assert_eq!(is_own_multicast(kind, || None), own, "{kind}");
    }
}

#[test]
fn what_may_be_routed() {
    assert_eq!(vet_routed(None), Reason::Unvetted);
    for role in ROLES {
        let known = matches!(role, Role::Uplink | Role::Bridge | Role::Trusted);
        let expect = if known { Reason::Vetted } else { Reason::SourceNotInForce };
        assert_eq!(vet_routed(Some(&slot(role, GRANTED))), expect, "{role:?}");
        let known = known || matches!(role, Role::Device | Role::ClosedDevice);
        let expect = if known { Reason::Vetted } else { Reason::SourceNotInForce };
        assert_eq!(vet_routed(Some(&slot(role, flags::TRUSTED))), expect, "{role:?}");
    }
}

/// Only MAC 2 on VLAN 5 plays the role.
struct Listed;

impl Grants for Listed {
    fn grant(&self, key: &GrantKey) -> Option<Grant> {
        let known = (key.ifindex, key.instance, key.address) == (7, 3, [0; 16]);
        let server = (key.mac, key.vlan) == (Mac([2; 6]), 5);
        known.then_some(Grant { flags: if server { flags::DHCP_SERVER } else { flags::ROUTER } })
    }
    fn prefix(&self, _: &PrefixKey) -> Option<Grant> {
        None
    }
}

#[test]
fn where_a_dhcp_server_may_be() {
    const NO: fn() -> Vetting = || Vetting::Unvetted;
    let to = PortSlot { ifindex: 9, ..slot(Role::Guest, GRANTED) };
    let more = GRANTED | flags::MORE_GRANTS;
    let server = Some(Station::new(Mac([2; 6]), 5));
    let cases = [
        ("an uplink", Role::Uplink, 0, None, true),
        ("a trusted interface", Role::Trusted, 0, None, true),
        ("a device with macvtaps", Role::Device, 0, None, false),
        ("one that is trusted", Role::Device, flags::TRUSTED, None, true),
        ("a bridge", Role::Bridge, 0, None, false),
        ("the sandbox", Role::Sandbox, flags::DHCP_SERVER, None, false),
        ("a free slot", Role::Vacant, flags::DHCP_SERVER, None, false),
        ("a guest", Role::Guest, GRANTED, server, false),
        ("a guest with the role", Role::Guest, GRANTED | flags::DHCP_SERVER, None, true),
        ("one MAC of it", Role::Guest, more, server, true),
        ("the same on another VLAN", Role::Guest, more, server.map(|s| s.on_vlan(6)), false),
        ("another MAC", Role::Guest, more, Some(Station::new(Mac([4; 6]), 5)), false),
        ("one that cannot be read", Role::Guest, more, None, false),
        ("another guest's device", Role::GuestOnDevice, flags::DHCP_SERVER, server, false),
    ];
    for (name, role, flags, sender, expect) in cases {
        let slot = slot(role, flags);
        let serves = may_serve(7, &to, |_| Some(&slot), || sender, NO, &Listed);
        assert_eq!(serves, expect, "{name}");
    }
    assert!(may_serve(0, &to, |_| None, || None, NO, &Listed), "the host itself");
    assert!(!may_serve(7, &to, |_| None, || None, || Vetting::Vetted, &Listed), "nobody knows it");
    let device = slot(Role::GuestOnDevice, 0);
    let switched = slot(Role::Guest, GRANTED | flags::SWITCHED);
    for vetting in [Vetting::Unvetted, Vetting::Vetted, Vetting::Refused] {
        let serves = may_serve(7, &device, |_| Some(&device), || None, || vetting, &Listed);
        assert_eq!(serves, vetting != Vetting::Refused, "on a device of its own: {vetting:?}");
        let serves = may_serve(0, &switched, |_| None, || None, || vetting, &Listed);
        assert_eq!(serves, vetting == Vetting::Vetted, "by way of a switch's daemon: {vetting:?}");
    }
}

#[test]
fn where_a_router_may_be_that_is_no_guest() {
    let to = PortSlot { ifindex: 9, ..PortSlot::VACANT };
    for role in ROLES {
        let known = matches!(role, Role::Uplink | Role::Trusted);
        let any = slot(role, GRANTED | flags::ROUTER | flags::DHCP_SERVER);
        assert_eq!(may_route(7, &to, |_| Some(&any), || Vetting::Vetted), known, "{role:?}");
    }
    assert!(may_route(0, &to, |_| None, || Vetting::Unvetted), "the host itself");
    assert!(!may_route(7, &to, |_| None, || Vetting::Vetted), "nobody knows it");
    let switched = PortSlot { flags: flags::SWITCHED, ..to };
    let device = slot(Role::GuestOnDevice, 0);
    for vetting in [Vetting::Unvetted, Vetting::Vetted, Vetting::Refused] {
        let routes = may_route(0, &switched, |_| None, || vetting);
        assert_eq!(routes, vetting == Vetting::Vetted, "by way of a switch: {vetting:?}");
        let routes = may_route(9, &to, |_| Some(&device), || vetting);
        assert_eq!(routes, vetting == Vetting::Unvetted, "on a device of its own: {vetting:?}");
    }
}
