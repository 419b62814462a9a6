use std::collections::BTreeSet;

use detector_core::model::{Posture, PowerState};

use super::*;

fn vm(number: u128, name: &str) -> Vm {
    Vm {
        uuid: Uuid::from_u128(number),
        name: name.to_owned(),
        power: PowerState::Running,
        nics: Vec::new(),
        media: Vec::new(),
        declared_template: None,
        run: None,
        presumed: Vec::new(),
        attachments: Vec::new(),
        posture: Posture::default(),
    }
}

fn refused(number: u128) -> Refused {
    let uuid = Uuid::from_u128(number);
    let rejected = Rejected { place: place_of("qemu:///system", uuid), why: "x".to_owned() };
    Refused { vm: Some(uuid), nics: Unsettled::default(), rejected }
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
        outdated: BTreeSet::new(),
        overlays: BTreeMap::new(),
        unsettled: Unsettled::default(),
        rejected: Vec::new(),
    };
    for (index, (update, names, refusals)) in steps.into_iter().enumerate() {
        update.apply(&mut source, Timestamp(index as u64));
        let known: Vec<_> = source.vms.values().map(|vm| vm.name.as_str()).collect();
        assert_eq!((known.as_slice(), source.rejected.len()), (names, refusals), "step {index}");
        assert_eq!(source.outdated.len(), refusals, "step {index}");
    }
}

#[test]
fn settings_that_cannot_be_read_any_more_stay() {
    let mac = |text: &str| text.parse::<Mac>().unwrap();
    let (known, unknown) = (mac("52:54:00:00:00:01"), mac("52:54:00:00:00:02"));
    let overlay = NicSettings {
        addresses: vec!["192.0.2.1/32".parse().unwrap()],
        rule: None,
        vlans: None,
        dhcp_server: None,
        router: None,
        vrrp: None,
        narrows: false,
    };
    let refuse = |nics| Refused { vm: None, nics, ..refused(1) };
    let one = |mac: Mac| refuse(Unsettled::Nics([mac].into()));
    let said =
        |overlays, refused: Vec<Refused>| Update::Snapshot { vms: Vec::new(), overlays, refused };
    let mut source = Source {
        health: Health::Healthy,
        vms: BTreeMap::new(),
        outdated: BTreeSet::new(),
        overlays: BTreeMap::new(),
        unsettled: Unsettled::Any,
        rejected: Vec::new(),
    };
    said([(known, overlay.clone())].into(), vec![]).apply(&mut source, Timestamp(1));
    assert_eq!(source.unsettled, Unsettled::default());
    said(BTreeMap::new(), vec![one(known), one(unknown)]).apply(&mut source, Timestamp(2));
    assert_eq!(source.overlays, [(known, overlay)].into());
    assert_eq!(source.unsettled, Unsettled::Nics([unknown].into()));
    said(BTreeMap::new(), vec![one(unknown), refuse(Unsettled::Any)])
        .apply(&mut source, Timestamp(3));
    assert_eq!((source.unsettled, source.overlays.len()), (Unsettled::Any, 0));
}

#[test]
fn a_source_is_lost_since_the_first_time() {
    let mut source = Source {
        health: Health::Healthy,
        vms: BTreeMap::new(),
        outdated: BTreeSet::new(),
        overlays: BTreeMap::new(),
        unsettled: Unsettled::default(),
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
