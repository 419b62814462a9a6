//! What the layouts say of themselves.

use super::*;
use crate::addr::Mac;

#[test]
fn an_address_is_held_until_it_expires() {
    let station = Station::new(Mac([2, 0, 0, 0, 0, 1]), 5);
    let owner = Owner { expires: 100, station: station.word(), instance: 7, ..Owner::default() };
    let cases = [
        (7, station, 99, Holding::Own),
        (7, station, 100, Holding::Over),
        (8, station, 99, Holding::Other),
        (7, station.on_vlan(6), 99, Holding::Other),
        (8, station, 101, Holding::Over),
    ];
    for (instance, station, now, expect) in cases {
        assert_eq!(owner.holding(instance, station, now), expect, "{instance} {now}");
    }
    assert_eq!(Owner::PROTECTED.holding(7, station, u64::MAX - 1), Holding::Other);
    // Whoever has no instance cannot have what is protected.
    assert_eq!(Owner::PROTECTED.holding(0, Station::default(), 1), Holding::Own);
    assert!(Owner::PROTECTED.is_protected() && !owner.is_protected());
}

#[test]
fn a_reply_answers_one_transaction() {
    let begun =
        Transaction { station: 1, begun: 1000, id: 0xabcd, wanted: 0, instance: 3, family: 4 };
    let last = 1000 + TRANSACTION_SECONDS * 250;
    let cases = [
        (begun, last, true),
        (begun, last + 1, false),
        (Transaction { wanted: 9, begun: 0, ..begun }, 1000, true),
        (Transaction { id: 0xabce, ..begun }, 1000, false),
        (Transaction { station: 2, ..begun }, 1000, false),
        (Transaction { instance: 4, ..begun }, 1000, false),
        (Transaction { family: 6, ..begun }, 1000, false),
    ];
    for (reply, now, expect) in cases {
        assert_eq!(begun.is_answered_by(&reply, now, 250), expect, "{reply:?}");
    }
    let free = Transaction::default();
    assert!(!free.is_answered_by(&free, 0, 250));
}

#[test]
fn leases_end_when_the_server_says() {
    assert_eq!(expiry(10, 1000, 250), 3500);
    assert_eq!(expiry(0, 1000, 250), 1000);
    assert_eq!(expiry(u32::MAX, 1000, 250), NEVER);
    assert_eq!(expiry(u32::MAX - 1, u64::MAX - 5, 1000), u64::MAX);
}

#[test]
fn an_origin_is_a_servers_word_or_the_guests() {
    for code in 0..16 {
        let origin = Origin::from_code(code);
        assert!(origin as u32 == code || origin == Origin::Protected, "{code}");
        let (lease, claim) = (Origin::is_lease(code), Origin::is_claim(code));
        assert_eq!(lease || claim, origin != Origin::Protected, "{origin:?}");
        assert!(!(lease && claim), "{origin:?}");
    }
}

#[test]
fn some_addresses_are_nobodys() {
    let cases = [
        ("192.0.2.7", true),
        ("0.0.0.0", false),
        ("127.0.0.1", false),
        ("224.0.0.1", false),
        ("255.255.255.255", false),
    ];
    for (text, expect) in cases {
        let v4: std::net::Ipv4Addr = text.parse().unwrap();
        assert_eq!(is_learnable(Address::mapped(v4.octets())), expect, "{text}");
    }
    let cases = [("2001:db8::1", true), ("fe80::1", true), ("::", false), ("::1", false)];
    for (text, expect) in cases.into_iter().chain([("ff02::1", false), ("::7", false)]) {
        let v6: std::net::Ipv6Addr = text.parse().unwrap();
        assert_eq!(is_learnable(v6.into()), expect, "{text}");
    }
}
