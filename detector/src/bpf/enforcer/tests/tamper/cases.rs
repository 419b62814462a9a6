//! What somebody may do.

use aya::programs::{
    TcAttachType,
    tc::{NlOptions, TcAttachOptions, TcHandle},
};
use detector_common::{
    port::{Grant, MacOwner},
    quarantine::QuarantineKey,
    settings::PROVISIONAL,
};

use super::*;

/// However programs are attached.
pub(super) const CASES: &[Case] = &[
    ("nothing", |_| (), true, &[]),
    (
        "settings",
        |victim| {
            let mut settings = victim.maps().settings().unwrap();
            settings.mode = Mode::Observe as u32;
            victim.maps().write_settings(settings).unwrap();
        },
        false,
        &[Tampered::Settings],
    ),
    (
        "a mode that falls back at once",
        |victim| {
            let mut settings = victim.maps().settings().unwrap();
            settings.mode = Mode::Enforce as u32 | PROVISIONAL;
            settings.change.until = 0;
            victim.maps().write_settings(settings).unwrap();
        },
        false,
        &[Tampered::Settings],
    ),
    (
        "another MAC in the slot",
        |victim| victim.rewrite_slot(|slot| slot.mac = Mac(OTHER_MAC)),
        true,
        &[Tampered::Slot],
    ),
    ("no slot", |victim| victim.maps().clear_slot(victim.port).unwrap(), true, &[Tampered::Slot]),
    (
        "a slot for another interface",
        |victim| {
            let slot = victim.maps().slots().unwrap()[0];
            victim.maps().write_slot(PortSlot { ifindex: slot.ifindex + 1, ..slot }).unwrap();
        },
        false,
        &[Tampered::Slot],
    ),
    (
        "a second slot",
        |victim| {
            let slot = victim.maps().slots().unwrap()[0];
            let colliding = PortSlot { ifindex: slot.ifindex + PORT_SLOTS, ..slot };
            victim.maps().write_slot(colliding).unwrap();
        },
        false,
        &[Tampered::Slot],
    ),
    (
        "one grant more, one other, one less",
        |victim| {
            let mut maps = victim.maps();
            let (key, _) = maps.grants().unwrap().pop_first().unwrap();
            let more = GrantKey { mac: Mac(OTHER_MAC), ..key };
            let [plain, router] = [0, flags::ROUTER].map(|flags| Grant { flags });
            maps.put_grants(&[(more, plain), (key, router)]).unwrap();
            let (prefix, _) = maps.prefixes().unwrap().pop_first().unwrap();
            maps.drop_prefix(prefix).unwrap();
        },
        true,
        &[Tampered::Grants],
    ),
    (
        "a grant for nobody",
        |victim| {
            let mut maps = victim.maps();
            let (key, grant) = maps.grants().unwrap().pop_first().unwrap();
            maps.put_grants(&[(GrantKey { instance: 99, ..key }, grant)]).unwrap();
        },
        false,
        &[Tampered::Grants],
    ),
    (
        "a quarantine lifted",
        |victim| victim.maps().lift_quarantine(QUARANTINED.into()).unwrap(),
        false,
        &[Tampered::Quarantines],
    ),
    (
        "a quarantine added",
        |victim| {
            let mut maps = victim.maps();
            let (_, record) = maps.quarantines().unwrap().pop_first().unwrap();
            maps.put_quarantine(QuarantineKey::port(7, 7), record).unwrap();
        },
        false,
        &[Tampered::Quarantines],
    ),
    (
        "a protected address removed",
        |victim| victim.maps().disown(PROTECTED.into()).unwrap(),
        false,
        &[Tampered::Grants],
    ),
    (
        "a protected address added",
        |victim| {
            let more = ProtectedEntry { vlan: 7, ..PROTECTED };
            victim.maps().protect(more.into()).unwrap();
        },
        false,
        &[Tampered::Grants],
    ),
    (
        "a service of the sandbox removed",
        |victim| victim.maps().drop_service(offered(443)).unwrap(),
        false,
        &[Tampered::Passages],
    ),
    (
        "a service of the sandbox added",
        |victim| victim.maps().put_service(offered(22)).unwrap(),
        false,
        &[Tampered::Passages],
    ),
    (
        "the services of the sandbox replaced by as many as there is room for",
        |victim| {
            let mut maps = victim.maps();
            maps.drop_service(offered(443)).unwrap();
            let others = (1..).filter(|port| *port != 443).map(offered);
            others.take(maps::MAX_SERVICES as usize).for_each(|one| maps.put_service(one).unwrap());
            assert!(maps.put_service(offered(443)).is_err(), "there is no room left");
        },
        false,
        &[Tampered::Passages],
    ),
    (
        "the protected addresses replaced by as many as there is room for",
        |victim| {
            let mut maps = victim.maps();
            maps.disown(PROTECTED.into()).unwrap();
            let other = |number: u32| {
                let mut address = PROTECTED.address;
                address[..4].copy_from_slice(&number.to_be_bytes());
                ProtectedEntry { address, ..PROTECTED }
            };
            let mut others = (0..).map(other);
            while others.next().is_some_and(|one| maps.protect(one.into()).is_ok()) {}
            assert!(maps.protect(PROTECTED.into()).is_err(), "there is no room left");
        },
        false,
        &[Tampered::Grants],
    ),
    (
        "a MAC's owner removed",
        |victim| victim.maps().drop_mac_owner((Mac(MAC), 0)).unwrap(),
        true,
        &[Tampered::MacOwners],
    ),
    (
        "a MAC's owner added",
        |victim| {
            let owner = MacOwner { ifindex: 1, instance: 1 };
            victim.maps().put_mac_owner((Mac(OTHER_MAC), 0), owner).unwrap();
        },
        false,
        &[Tampered::MacOwners],
    ),
    (
        "the forwarding entry deleted",
        |_| drop(run("bridge", &format!("fdb del {} dev tap0 master", Mac(MAC)))),
        true,
        &[Tampered::Forwarding],
    ),
    (
        "the forwarding entry moved",
        |_| drop(run("bridge", &format!("fdb replace {} dev tap1 master static", Mac(MAC)))),
        true,
        &[Tampered::Forwarding],
    ),
    (
        "the forwarding entry not sticky any more",
        |_| {
            run("bridge", &format!("fdb del {} dev tap0 master", Mac(MAC)));
            run("bridge", &format!("fdb add {} dev tap0 master static", Mac(MAC)));
        },
        true,
        &[Tampered::Forwarding],
    ),
    (
        "a map's pin removed",
        |victim| fs::remove_file(victim.paths().map(maps::GRANTS)).unwrap(),
        false,
        &[Tampered::Pin],
    ),
    (
        "a map's pin replaced",
        |victim| {
            let path = victim.paths().map(maps::SETTINGS);
            fs::remove_file(&path).unwrap();
            Array::<MapData, u64>::create(1, 0).unwrap().pin(&path).unwrap();
        },
        false,
        &[Tampered::Pin],
    ),
];

/// Where programs are attached by TCX links.
pub(super) const TCX_CASES: &[Case] = &[
    (
        "a link detached",
        |victim| sys::detach(victim.link(Hook::Ingress).as_fd()).unwrap(),
        true,
        &[Tampered::Program],
    ),
    (
        "both links detached and their pins removed",
        |victim| {
            for hook in Hook::BOTH {
                sys::detach(victim.link(hook).as_fd()).unwrap();
                fs::remove_file(victim.paths().link(victim.port, hook)).unwrap();
            }
        },
        true,
        &[Tampered::Pin, Tampered::Pin, Tampered::Program, Tampered::Program],
    ),
    (
        "a link's pin removed",
        |victim| fs::remove_file(victim.paths().link(victim.port, Hook::Egress)).unwrap(),
        true,
        &[Tampered::Pin],
    ),
    (
        "one link's pin in the place of the other",
        |victim| {
            let [one, other] = Hook::BOTH.map(|hook| victim.paths().link(victim.port, hook));
            fs::rename(one, other).unwrap();
        },
        true,
        &[Tampered::Pin, Tampered::Pin],
    ),
];

/// Where they are filters on a clsact qdisc.
pub(super) const CLSACT_CASES: &[Case] = &[
    (
        "the qdisc deleted",
        |_| drop(run("tc", "qdisc del dev tap0 clsact")),
        true,
        &[Tampered::Program, Tampered::Program],
    ),
    (
        "a filter deleted",
        |_| drop(run("tc", "filter del dev tap0 egress")),
        true,
        &[Tampered::Program],
    ),
    (
        "another filter first",
        |victim| {
            let mut foreign = foreign_programs(victim);
            let options =
                NlOptions { priority: 1, handle: TcHandle::from(2), ..Default::default() };
            let program = foreign.get(programs::BRIDGE_EGRESS).unwrap();
            let options = TcAttachOptions::Netlink(options);
            let id = program.attach_with_options("tap0", TcAttachType::Ingress, options).unwrap();
            std::mem::forget(program.take_link(id).unwrap());
        },
        true,
        &[Tampered::Order],
    ),
];
