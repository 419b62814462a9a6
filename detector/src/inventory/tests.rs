use detector_core::model::PowerState;

use super::*;

fn vm(number: u128, name: &str) -> Vm {
    Vm {
        uuid: Uuid::from_u128(number),
        name: name.to_owned(),
        power: PowerState::Running,
        nics: Vec::new(),
        media: Vec::new(),
        declared_template: None,
    }
}

fn refused(number: u128) -> Refused {
    let uuid = Uuid::from_u128(number);
    let rejected = Rejected { place: place_of("qemu:///system", uuid), why: "x".to_owned() };
    Refused { vm: Some(uuid), rejected }
}

fn snapshot(vms: &[Vm], refused: &[Refused]) -> Update {
    Update::Snapshot { vms: vms.to_vec(), overlays: BTreeMap::new(), refused: refused.to_vec() }
}

#[test]
fn updates() {
    let lost = |why: &str| Update::Lost { why: why.to_owned() };
    // What happens, the names known afterwards, and the number of refusals.
    let steps: [(Update, &[&str], usize); 10] = [
        (lost("down"), &[], 0),
        (snapshot(&[vm(1, "a"), vm(2, "b")], &[]), &["a", "b"], 0),
        (Update::Changed(vm(1, "a2")), &["a2", "b"], 0),
        (Update::Refused(refused(1)), &["a2", "b"], 1),
        (Update::Refused(refused(1)), &["a2", "b"], 1),
        (Update::Changed(vm(1, "a3")), &["a3", "b"], 0),
        (snapshot(&[vm(2, "b")], &[refused(1), refused(3)]), &["a3", "b"], 2),
        (Update::Gone(Uuid::from_u128(1)), &["b"], 1),
        (lost("down"), &["b"], 1),
        (snapshot(&[], &[]), &[], 0),
    ];
    let mut source = Source {
        health: Health::Healthy,
        vms: BTreeMap::new(),
        overlays: BTreeMap::new(),
        rejected: Vec::new(),
    };
    for (index, (update, names, refusals)) in steps.into_iter().enumerate() {
        update.apply(&mut source, Timestamp(index as u64));
        let known: Vec<_> = source.vms.values().map(|vm| vm.name.as_str()).collect();
        assert_eq!((known.as_slice(), source.rejected.len()), (names, refusals), "step {index}");
    }
}

#[test]
fn a_source_is_lost_since_the_first_time() {
    let mut source = Source {
        health: Health::Healthy,
        vms: BTreeMap::new(),
        overlays: BTreeMap::new(),
        rejected: Vec::new(),
    };
    for (now, why) in [(5, "a"), (6, "b")] {
        Update::Lost { why: why.to_owned() }.apply(&mut source, Timestamp(now));
        let since = Timestamp(5);
        assert_eq!(source.health, Health::Lost { since, why: why.to_owned() });
    }
    snapshot(&[], &[]).apply(&mut source, Timestamp(7));
    assert_eq!(source.health, Health::Healthy);
}
