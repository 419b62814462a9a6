//! What the layouts say of themselves, and what becomes of two who want the same at once. What ports learn in
//! the long run is held to written-out rules in `tests/oracle`.

use super::{plain::Plain, *};
use crate::{addr::Mac, port::flags, reason::Reason, settings::Settings};

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
        let nobodys = matches!(origin, Origin::Protected | Origin::Router);
        assert_eq!(lease || claim, !nobodys, "{origin:?}");
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

const HZ: u32 = 250;

/// Maps in which somebody else does something in the moment of an insertion.
struct Raced {
    plain: Plain,
    meanwhile: fn(&mut Plain, &OwnerKey) -> Result<(), Refused>,
}

impl Table for Raced {
    fn owner(&mut self, key: &OwnerKey) -> Option<Living<'_, Owner>> {
        self.plain.owner(key)
    }
    fn insert(&mut self, key: &OwnerKey, owner: &Owner) -> Result<(), Refused> {
        (self.meanwhile)(&mut self.plain, key)?;
        self.plain.insert(key, owner)
    }
    fn remove(&mut self, key: &OwnerKey) {
        self.plain.remove(key);
    }
    fn place(&mut self, number: u32) -> Option<Living<'_, Place>> {
        self.plain.place(number)
    }
    fn transaction(&mut self, number: u32) -> Option<Living<'_, Transaction>> {
        self.plain.transaction(number)
    }
    fn router(&mut self, key: &RouterKey) -> Option<Living<'_, Router>> {
        self.plain.router(key)
    }
    fn put_router(&mut self, key: &RouterKey, router: &Router) -> bool {
        self.plain.put_router(key, router)
    }
}

fn first_come() -> PortSlot {
    let flags = flags::GRANTED | flags::LEARNS | flags::FIRST_COME;
    PortSlot { ifindex: 7, instance: 3, id: 1, flags, ..PortSlot::VACANT }
}

fn claim(table: &mut impl Table, last: u8) -> Reason {
    let settings = Settings { hz: HZ, ..Settings::DEFAULT };
    let station = Station::new(Mac([2, 0, 0, 0, 0, 1]), 0);
    let address = Address::mapped([192, 0, 2, last]);
    ask(table, &first_come(), &settings, 1000, station, address)
}

#[test]
fn of_two_who_claim_an_address_at_once_one_has_it() {
    let meanwhile = |plain: &mut Plain, key: &OwnerKey| {
        let other = Owner { expires: 9_999, instance: 4, place: 3, ..Owner::default() };
        plain.owners.insert(*key, other);
        Ok(())
    };
    let mut table = Raced { plain: Plain::new(2), meanwhile };
    assert_eq!(claim(&mut table, 7), Reason::AddressTaken);
    assert_eq!(table.plain.owners.len(), 1);
    assert_eq!(table.plain.owners.values().next().unwrap().instance, 4);
    // The place that it has noted is free again.
    table.plain.owners.clear();
    table.meanwhile = |_, _| Ok(());
    for last in 0..16 {
        assert_eq!(claim(&mut table, 100 + last), Reason::Granted, "{last}");
    }
    assert_eq!(claim(&mut table, 99), Reason::LearnedFull);
}

#[test]
fn where_the_host_has_no_room_nobody_has_the_address() {
    let mut table = Raced { plain: Plain::new(2), meanwhile: |_, _| Err(Refused::NoRoom) };
    assert_eq!(claim(&mut table, 7), Reason::LearnedFull);
    assert!(table.plain.owners.is_empty());
}

/// Two CPUs learn at once for one place: the first of the addresses is in none.
#[test]
fn an_address_without_a_place_goes_when_it_is_asked_for() {
    let mut table = Plain::new(2);
    assert_eq!(claim(&mut table, 7), Reason::Granted);
    let place = table.owners.values().next().unwrap().place as usize;
    let other = Address::mapped([192, 0, 2, 8]);
    table.places[place].key = OwnerKey { address: other, ..table.places[place].key };
    assert_eq!(claim(&mut table, 7), Reason::LearnedFull);
    assert!(table.owners.is_empty());
    assert_eq!(claim(&mut table, 7), Reason::Granted, "with a place of its own");
}

/// The places of another port are never touched.
#[test]
fn a_port_has_places_of_its_own() {
    let mut table = Plain::new(3);
    for last in 0..40 {
        let expect = if last < 16 { Reason::Granted } else { Reason::LearnedFull };
        assert_eq!(claim(&mut table, last), expect, "{last}");
    }
    let (own, others): (Vec<_>, Vec<_>) =
        table.places.iter().enumerate().partition(|(number, _)| (16..32).contains(number));
    assert!(own.iter().all(|(_, place)| place.instance == 3));
    assert!(others.iter().all(|(_, place)| **place == Place::default()));
}
