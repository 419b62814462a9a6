use super::*;
use crate::{
    addr::{Mac, Station},
    learned::{NEVER, Place, plain::Plain},
};

const NOW: u64 = 1000;
const END: u64 = 2000;

fn router(last: u8) -> OwnerKey {
    OwnerKey { address: Address::mapped([192, 0, 2, last]), scope: 5, vlan: 0, pad: 0 }
}

/// An address of port 7, which has come by it so.
fn held(origin: Origin) -> Owner {
    let station = Station::new(Mac([2; 6]), 0).word();
    let origin = origin as u32;
    Owner { expires: END, station, ifindex: 7, instance: 3, origin, ..Owner::default() }
}

#[test]
fn what_is_named_is_nobodys_unless_somebody_has_more_right() {
    let over = |owner: Owner| Owner { expires: NOW, ..owner };
    let ours = Owner { origin: Origin::Router as u32, expires: 3000, ..Owner::PROTECTED };
    let cases = [
        ("nobody's", None, false, true),
        ("claimed", Some(held(Origin::FirstCome)), false, true),
        ("lent", Some(held(Origin::Observed)), false, true),
        ("claimed by who plays the router", Some(held(Origin::FirstCome)), true, false),
        ("leased", Some(held(Origin::Dhcp)), false, false),
        ("of a lease file", Some(held(Origin::LeaseFile)), false, false),
        ("a lease that is over", Some(over(held(Origin::Dhcp))), true, true),
        ("protected", Some(Owner::PROTECTED), false, false),
        ("named by then", Some(ours), false, true),
        ("named long ago", Some(over(ours)), false, true),
    ];
    for (name, before, plays, expect) in cases {
        let mut table = Plain::new(1);
        table.owners.extend(before.map(|owner| (router(254), owner)));
        protect(&mut table, &router(254), NOW, END, |port| port == 7 && plays);
        let after = table.owners.get(&router(254)).copied();
        if expect {
            let after = after.unwrap();
            assert!(after.is_protected() && after.origin == Origin::Router as u32, "{name}");
            let lasting = before.filter(|before| *before == ours).map_or(END, |one| one.expires);
            assert_eq!(after.expires, lasting, "{name}: of two ends the later");
        } else {
            assert_eq!(after, before, "{name}");
        }
        assert!(table.places.iter().all(|place| *place == Place::default()), "{name}");
    }
}

#[test]
fn so_many_of_a_network() {
    let mut table = Plain::new(1);
    let name = |table: &mut Plain, key: OwnerKey, now| protect(table, &key, now, END, |_| false);
    for last in 1..=20 {
        name(&mut table, router(last), NOW);
    }
    assert_eq!(table.owners.len(), usize::from(ROUTERS_PER_NETWORK));
    // Those that are named again stay, and take no second place.
    for last in 1..=20 {
        protect(&mut table, &router(last), NOW, END + 1, |_| false);
    }
    assert_eq!(table.owners.len(), usize::from(ROUTERS_PER_NETWORK));
    assert!(table.owners.values().all(|owner| owner.expires == END + 1));
    // Another network has places of its own.
    name(&mut table, OwnerKey { vlan: 9, ..router(30) }, NOW);
    assert!(table.owners.contains_key(&OwnerKey { vlan: 9, ..router(30) }));
    // Once their time is over, others take their places, and nothing is left of them.
    for last in 40..60 {
        protect(&mut table, &router(last), END + 1, NEVER, |_| false);
    }
    let here = table.owners.keys().filter(|key| key.vlan == 0).count();
    assert_eq!(here, usize::from(ROUTERS_PER_NETWORK));
    assert_eq!(table.routers.len(), usize::from(ROUTERS_PER_NETWORK) + 1);
}

#[test]
fn what_can_be_nobodys_is_no_routers() {
    for address in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255; 4]] {
        let mut table = Plain::new(1);
        let key = OwnerKey { address: Address::mapped(address), ..router(1) };
        protect(&mut table, &key, NOW, END, |_| false);
        assert_eq!(table, Plain::new(1), "{address:?}");
    }
    let mut table = Plain::new(1);
    protect(&mut table, &router(1), NOW, NOW, |_| false);
    assert_eq!(table, Plain::new(1), "for no time");
}
