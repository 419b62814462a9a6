use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::Path,
    rc::Rc,
};

use detector_common::{
    addr::Mac,
    learned::OwnerKey,
    port::{Grant, GrantKey, PortSlot, Role},
};
use detector_core::model::{Learned, ObservedInterface, Seen, Shield, Ticks};

use super::*;
use crate::{
    config::Config,
    enforcer::{Counts, Sign},
};

/// A kernel that does nothing.
#[derive(Default)]
struct Idle(Observed);

impl Ground for Idle {
    fn held(&self) -> &Observed {
        &self.0
    }
}

impl Enforcer for Idle {
    fn observe(&mut self) -> Result<Observed, EnforceError> {
        Ok(self.0.clone())
    }
    fn execute(&mut self, _: &Action) -> Result<(), EnforceError> {
        Ok(())
    }
    fn ticks_after(&mut self, seconds: u64) -> Result<Ticks, EnforceError> {
        Ok(Ticks(seconds))
    }
    fn recheck(&mut self) -> Result<Recheck, EnforceError> {
        Ok(Recheck::default())
    }
    fn recheck_for(&mut self, _: &BTreeSet<Sign>) -> Result<Recheck, EnforceError> {
        Ok(Recheck::default())
    }
    fn resync(&mut self) -> Result<(), EnforceError> {
        Ok(())
    }
    fn seen(&mut self) -> Result<BTreeMap<u32, Vec<Seen>>, EnforceError> {
        Ok(BTreeMap::new())
    }
    fn learned(&mut self) -> Result<BTreeMap<u32, Vec<Learned>>, EnforceError> {
        Ok(BTreeMap::new())
    }
    fn learned_by(&mut self, _: u32) -> Result<Vec<Learned>, EnforceError> {
        Ok(Vec::new())
    }
    fn owner_of(&mut self, _: OwnerKey) -> Result<Option<u32>, EnforceError> {
        Ok(None)
    }
    fn is_router(&mut self, _: OwnerKey) -> Result<bool, EnforceError> {
        Ok(false)
    }
    fn counts(&mut self, _: u32) -> Result<Option<Counts>, EnforceError> {
        Ok(None)
    }
    fn refused(&mut self, _: u32) -> Result<Option<u64>, EnforceError> {
        Ok(None)
    }
}

fn policy(text: &str) -> Policy {
    Config::parse(text, Path::new("test")).unwrap().policy()
}

fn server(held: Observed, load: Load) -> Server<Idle> {
    Server::new(Idle(held), policy(""), load).unwrap()
}

fn unreadable() -> Load {
    Box::new(|| Err("permission denied".to_owned()))
}

#[test]
fn what_is_refused_is_told_once_with_the_next_look() {
    let mut server = server(Observed::default(), unreadable());
    let refused = |server: &mut Server<Idle>| match server.answer(Order::Recheck).unwrap() {
        Answer::Recheck(found, _) => (found.refused.count, found.refused.why.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&mut server), (0, 0));
    let entry = detector_core::reconcile::GrantEntry {
        mac: [0; 6],
        vlan: 0,
        address: [0; 16],
        prefix: None,
        flags: 0,
    };
    let too_many = Action::DropGrants { ifindex: 1, instance: 1, grants: vec![entry; 200_000] };
    for _ in 0..30 {
        let answer = server.answer(Order::Execute(too_many.clone()));
        assert!(answer.unwrap_err().0.contains("the enforcer refuses it"));
    }
    // However many, few words are made of them.
    assert_eq!(refused(&mut server), (30, 1));
    assert_eq!(refused(&mut server), (0, 0));
}

#[test]
fn a_configuration_that_cannot_be_read_changes_nothing_and_is_told() {
    type Read = Result<(Policy, Option<Digest>), String>;
    let next: Rc<RefCell<Read>> = Rc::new(RefCell::new(Err("no".to_owned())));
    let read = Rc::clone(&next);
    let mut server = server(Observed::default(), Box::new(move || read.borrow().clone()));
    // The loopback device is there in every namespace.
    let trust = Order::Execute(Action::Trust { ifindex: 1, name: "lo".to_owned() });
    let gate = Order::Execute(Action::AttachBridge { ifindex: 1, name: "lo".to_owned() });
    for _ in 0..2 {
        assert_eq!(server.answer(Order::Reload(None)), Err(EnforceError("no".to_owned())));
        assert!(server.answer(trust.clone()).is_err());
        assert!(server.answer(gate.clone()).is_err());
    }
    // Neither does one that is another than was read there.
    let text = |byte| Some(Digest([byte; 32]));
    *next.borrow_mut() = Ok((policy("[network]\ntrusted = [\"lo\"]\n"), text(2)));
    for theirs in [text(1), None] {
        let refused = server.answer(Order::Reload(theirs)).unwrap_err();
        assert!(refused.0.contains("changed since"), "{refused:?}");
        assert!(server.answer(trust.clone()).unwrap_err().0.contains("refuses"));
    }
    *next.borrow_mut() = Ok((policy("[network]\nbridges = [\"lo\"]\n"), text(3)));
    assert_eq!(server.answer(Order::Reload(text(3))), Ok(Answer::Done));
}

#[test]
fn what_is_held_is_told_in_portions_and_no_answer_is_too_long() {
    let slot = PortSlot { instance: 7, role: Role::Guest as u8, ..PortSlot::VACANT };
    let interface = |ifindex: u32| {
        let key = |number: u32| GrantKey {
            ifindex,
            instance: 7,
            mac: Mac([2; 6]),
            vlan: 0,
            address: u128::from(number).to_be_bytes(),
        };
        ObservedInterface {
            slot: PortSlot { ifindex, ..slot },
            grants: (0..20_000).map(|number| (key(number), Grant { flags: 0 })).collect(),
            prefixes: BTreeMap::new(),
            forwarding: BTreeSet::new(),
            defended: BTreeSet::new(),
            shield: Shield::Off,
            passage: None,
        }
    };
    let held = Observed {
        interfaces: (1..=12).map(|ifindex| (ifindex, interface(ifindex))).collect(),
        ..Observed::default()
    };
    let mut server = server(held.clone(), unreadable());
    let (mut told, mut portions) = (Observed::default(), 0);
    loop {
        let Ok(Answer::Observed(part)) = server.answer(Order::Observe) else { panic!() };
        portions += 1;
        assert!(encode(&part).unwrap().len() < 2 * PORTION);
        let is_whole = part.is_whole();
        part.apply(&mut told);
        if is_whole {
            break;
        }
    }
    assert!(portions > 2, "{portions}");
    assert_eq!(told, held);

    let answer: Answered = Ok(Answer::LearnedBy(Vec::new()));
    let body = encode(&answer).unwrap();
    assert_eq!(within(&answer, body.len()), Ok(body.clone()));
    let told = decode::<Answered>(&within(&answer, body.len() - 1).unwrap()).unwrap();
    assert!(told.unwrap_err().0.contains("bytes"));
}
