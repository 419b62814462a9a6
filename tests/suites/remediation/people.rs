//! Who approves: people whom the kernel tells apart.

use super::*;

const STARTER: u32 = 4101;
const ANN: u32 = 4102;
const BOB: u32 = 4103;

/// Where two have to approve, who has started it is none of them, nobody is two, and both mean the same.
#[test]
fn two_others_approve_what_somebody_has_started() {
    let place = Place::new();
    let (rogue, patched) = (place.image("rogue"), place.image("patched"));
    let roles = format!("[roles]\nadminister = [\"{STARTER}\", \"{ANN}\", \"{BOB}\"]\n");
    let mut daemon = place.configure_with(&format!("approvals = 2\n{roles}"));
    let libvirt = Libvirt::start(place.scene.host(), Some(&daemon.hook())).unwrap();
    let guest = Guest::new("web", 101);
    libvirt.define(&guest, &rogue, "br0").unwrap();
    daemon.run().unwrap();
    let by = |user: u32, words: &[&str]| daemon.ask_as(user, &[&["remediate"], words].concat());
    let approve = |user: u32, digest: &str| {
        by(user, &["approve", "web", "--sha256", digest, "--reason", "looked at"]).unwrap()
    };
    let counted = |one: &Value| one["counted"].as_array().cloned().unwrap_or_default();
    let shows = |digest: &str| {
        await_status(&daemon, &guest, "its image", |one| one["media"].to_string().contains(digest))
    };

    let nobody = by(4104, &["status"]).unwrap();
    assert!(nobody.complaint.contains("lacks the role"), "{}", nobody.complaint);
    let start = ["start", "web", "--outcome", "patched", "--reason", "ticket 45"];
    wait::until("the VM to be known", PATIENCE, || {
        Ok((by(STARTER, &start)?.code == 0).then_some(()))
    })
    .unwrap();
    let (first, second) = (digest(&rogue.disk), digest(&patched.disk));
    await_status(&daemon, &guest, "two approvals", |one| {
        waits_for(one, "2 people have to approve")
    });
    shows(&first);
    let refused = approve(STARTER, &first);
    assert!(refused.complaint.contains("user 4101 has started it"), "{}", refused.complaint);
    assert_eq!(approve(ANN, &first).code, 0);
    let refused = approve(ANN, &first);
    assert!(refused.complaint.contains("user 4102 has approved this"), "{}", refused.complaint);
    let one = await_status(&daemon, &guest, "another one", |one| waits_for(one, "1 person has to"));
    assert_eq!(counted(&one), [ANN]);

    // Of another image that says nothing.
    place.lay(&guest, &patched);
    shows(&second);
    assert_eq!(approve(BOB, &second).code, 0);
    let one = await_status(&daemon, &guest, "another one", |one| waits_for(one, "1 person has to"));
    assert_eq!(counted(&one), [BOB], "{one}");
    assert_eq!(approve(ANN, &second).code, 0);
    await_status(&daemon, &guest, "its start", |one| waits_for(one, "start it"));
    libvirt.start_domain(&guest).unwrap();
    await_stage(&daemon, &guest, "released");
    daemon.await_port(&libvirt.tap(&guest).unwrap(), "granted", PATIENCE).unwrap();
    let words = ["audit", "list", "--kind", "remediation", "--limit", "0"];
    let records = daemon.ask(&words).unwrap().json["records"].clone();
    let approved = records.as_array().unwrap().iter();
    let approved = approved.filter(|one| one["why"].as_str().unwrap().starts_with("approved "));
    let mut who: Vec<_> = approved.map(|one| one["who"]["uid"].as_u64().unwrap()).collect();
    who.sort_unstable();
    assert_eq!(who, [ANN, ANN, BOB].map(u64::from));
}
