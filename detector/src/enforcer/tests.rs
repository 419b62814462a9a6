use std::collections::BTreeMap;

use detector_common::{
    addr::{Address, Mac},
    learned::OwnerKey,
    port::{Grant, GrantKey, PortSlot, PrefixKey, Role},
    quarantine::Cause,
    services::{Asked, Service},
};
use detector_core::model::{
    Observed, ObservedInterface, Passage, Quarantine, QuarantineTarget, Shield, Timestamp,
};

use super::message::{Answer, Answered, Difference, Order, PORTION, decode, encode};

fn interface(ifindex: u32, grants: u8) -> ObservedInterface {
    let slot = PortSlot { ifindex, instance: 7, role: Role::Guest as u8, ..PortSlot::VACANT };
    let mac = |number| Mac([2, 0, 0, 0, 0, number]);
    let key = |number| GrantKey {
        ifindex,
        instance: 7,
        mac: mac(number),
        vlan: 0,
        address: [number; 16],
    };
    let prefix = PrefixKey {
        ifindex: ifindex.to_ne_bytes(),
        instance: [0; 4],
        mac: mac(1),
        vlan: [0; 2],
        address: [9; 16],
    };
    ObservedInterface {
        slot,
        grants: (0..grants)
            .map(|number| (key(number), Grant { flags: u32::from(number) }))
            .collect(),
        prefixes: [((prefix, 64), Grant { flags: 3 })].into(),
        forwarding: [(mac(1), 0)].into(),
        defended: [(mac(1), 5)].into(),
        shield: Shield::Refused,
        passage: Some(Passage { inner: 40, bridge: 41 }),
    }
}

fn quarantine(number: u8) -> Quarantine {
    let target = QuarantineTarget::Mac(Mac([2, 0, 0, 0, 1, number]));
    Quarantine::new(target, Timestamp(5), Cause::Operator, 1000, "why \u{202e}")
}

fn owner(number: u8) -> OwnerKey {
    OwnerKey { address: Address::from_bytes([number; 16]), scope: 3, vlan: 0, pad: 0 }
}

fn service(number: u8) -> Service {
    Service::new(Address::from_bytes([number; 16]), Asked::Tcp(443))
}

/// Whatever has changed, the other side knows it afterwards, and what has not is not said.
#[test]
fn a_difference_makes_one_of_the_other() {
    let states: [Observed; 6] = [
        Observed::default(),
        Observed { interfaces: BTreeMap::from([(1, interface(1, 2))]), ..Observed::default() },
        Observed {
            interfaces: [(1, interface(1, 2)), (2, interface(2, 200))].into(),
            quarantines: [quarantine(1), quarantine(2)].map(|one| (one.target, one)).into(),
            protected: [owner(1)].into(),
            routers: [owner(2), owner(3)].into(),
            services: [service(1), service(2)].into(),
            mode: None,
        },
        Observed { interfaces: [(1, interface(1, 3))].into(), ..Observed::default() },
        Observed { protected: [owner(1), owner(4)].into(), ..Observed::default() },
        Observed::default(),
    ];
    for before in &states {
        for now in &states {
            let difference = Difference::between(before, now, PORTION);
            let bytes = encode(&difference).unwrap();
            assert!(before != now || bytes.len() < 120, "{} bytes", bytes.len());
            let mut held = before.clone();
            decode::<Difference>(&bytes).unwrap().apply(&mut held);
            assert_eq!(&held, now);
            // In portions of one interface each, too.
            let (mut held, mut portions) = (before.clone(), 0);
            loop {
                let difference = Difference::between(&held, now, 1);
                let is_whole = difference.is_whole();
                difference.apply(&mut held);
                portions += 1;
                if is_whole {
                    break;
                }
            }
            assert_eq!(&held, now);
            assert!(portions <= now.interfaces.len().max(1), "{portions}");
        }
    }
}

#[test]
fn orders_and_answers_cross() {
    let orders = [
        Order::Observe,
        Order::OwnerOf(super::raw::Raw(owner(9))),
        Order::Execute(detector_core::reconcile::Action::PutQuarantine(quarantine(3))),
        Order::RecheckFor([super::Sign::Pins].into()),
    ];
    for order in orders {
        assert_eq!(decode::<Order>(&encode(&order).unwrap()), Ok(order));
    }
    let answers: [Answered; 3] = [
        Ok(Answer::Owner(None)),
        Ok(Answer::Observed(Box::new(Difference::between(
            &Observed::default(),
            &Observed { interfaces: [(1, interface(1, 2))].into(), ..Observed::default() },
            PORTION,
        )))),
        Err(super::EnforceError("no".to_owned())),
    ];
    for answer in answers {
        assert_eq!(decode::<Answered>(&encode(&answer).unwrap()), Ok(answer));
    }
}

/// Any bytes are an order or an error.
#[test]
fn garbage_is_no_order() {
    let mut seed = 1_u64;
    for length in (0..2000).map(|number| number % 97) {
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        })
        .take(length)
        .collect();
        let _ = decode::<Order>(&bytes);
    }
    // What says that it is long need not be believed.
    for bytes in
        [&[0xdd, 0xff, 0xff, 0xff, 0xff][..], &[0xc6, 0xff, 0xff, 0xff, 0xff], &[0x91; 100_000]]
    {
        assert!(decode::<Order>(bytes).is_err());
    }
}
