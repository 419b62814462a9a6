//! What the daemon does when somebody sets the host's clock.

use super::*;
use crate::{api::view::ClockView, clock::Reading};

const HOUR: Duration = Duration::from_secs(3600);

/// The clock says so much more, or less, than the time that has passed; looked at twice a second.
fn pass(host: &mut Host, seconds: u32, set: i64) {
    for _ in 0..seconds * 2 {
        host.now += 500;
        let day = Timestamp(host.now.saturating_add_signed(set));
        host.turn(vec![Input::Clock(Reading { day, synchronised: false }), Input::Tick]);
    }
}

fn expiring(host: &mut Host, when: Duration) {
    let mut registry = registry();
    registry.templates[0].expires = Some(Timestamp(host.now) + when);
    host.turn(vec![Input::Registry(registry)]);
}

#[test]
fn a_clock_that_is_set_forward_quarantines_nobody() {
    let mut host = Host::new(Mode::Enforce);
    expiring(&mut host, HOUR);
    host.approved();
    host.told();
    pass(&mut host, 10, 0);
    assert_eq!((host.port(10), host.told()), (Port::Granted, vec![]));

    let forward = i64::try_from(2 * HOUR.as_millis()).unwrap();
    pass(&mut host, 10, forward);
    assert_eq!(host.port(10), Port::Granted, "it keeps what it has");
    assert_eq!(host.kernel().state.quarantines.len(), 0);
    assert_eq!(host.told(), ["+clock-jumped"]);
    host.turn(vec![tap(11, "vnet1"), listing(vec![vm("web", 1, "vnet0"), vm("new", 2, "vnet1")])]);
    host.read(|_| APPROVED);
    assert_eq!((host.port(10), host.port(11)), (Port::Granted, Port::Mute), "nobody new");

    // Set right again.
    pass(&mut host, 119, 0);
    assert_eq!(host.port(11), Port::Mute);
    pass(&mut host, 3, 0);
    assert_eq!((host.port(10), host.port(11)), (Port::Granted, Port::Granted));
    assert_eq!(host.told(), ["-clock-jumped"]);
}

fn confirm(host: &mut Host, says: u64, reason: &str) -> Result<ClockView, String> {
    let request = Request::ClockConfirm { says, reason: reason.to_owned() };
    match host.ask(request).map_err(|error| error.message)? {
        Reply::Clock(clock) => Ok(*clock),
        other => panic!("{other:?}"),
    }
}

/// The doubt ends by a person's word, about the time that the person has looked at and no other.
#[test]
fn a_person_confirms_a_clock_that_was_set() {
    let forward = i64::try_from(2 * HOUR.as_millis()).unwrap();
    let mut host = Host::new(Mode::Enforce);
    expiring(&mut host, HOUR);
    host.approved();
    let now = host.now;
    let why = confirm(&mut host, now, "it is").unwrap_err();
    assert!(why.contains("nothing to confirm"), "{why}");
    pass(&mut host, 10, forward);
    host.told();
    let says = host.now.saturating_add_signed(forward);
    for (says, reason, why) in [
        (host.now, "the old time", "by now"),
        (says + 4_000, "another time", "by now"),
        (says, " ", "--reason"),
        (says, &"x".repeat(1000), "--reason"),
    ] {
        let refused = confirm(&mut host, says, reason).unwrap_err();
        assert!(refused.contains(why), "{reason}: {refused}");
        assert_eq!((host.port(10), host.told()), (Port::Granted, vec![]), "{reason}");
    }
    let clock = confirm(&mut host, says, "the battery was changed").unwrap();
    assert_eq!((clock.doubted, clock.earliest), (None, clock.latest));
    let confirmed = clock.confirmed.unwrap();
    assert_eq!((confirmed.uid, &*confirmed.reason), (1000, "the battery was changed"));
    let ahead = confirmed.at.duration_since(confirmed.instead_of).as_secs();
    assert!((7198..7202).contains(&ahead), "{ahead}");
    assert_eq!(host.port(10), Port::Isolated, "its template has expired");
    assert!(host.told().contains(&"-clock-jumped".to_owned()));
    // It goes on by the new time, and a jump back is another one.
    pass(&mut host, 300, forward);
    assert_eq!(host.told(), Vec::<String>::new());
    pass(&mut host, 3, 0);
    assert!(host.told().contains(&"+clock-jumped".to_owned()));
}

/// Neither the looks at media nor the decisions wait for a clock that was set back.
#[test]
fn a_clock_that_is_set_back_stops_nothing() {
    let mut host = Host::new(Mode::Enforce);
    host.looked_at = true;
    host.approved();
    let back = -i64::try_from(HOUR.as_millis()).unwrap();
    let looks = |host: &mut Host| {
        host.effects.clear();
        pass(host, 3, back);
        let looks = host.effects.iter().filter(|one| matches!(one, Effect::LookAgain(_))).count();
        host.turn(vec![Input::Altered(Vec::new())]);
        looks
    };
    assert_eq!((looks(&mut host), looks(&mut host)), (1, 1));
    expiring(&mut host, 2 * HOUR);
    pass(&mut host, 7200, back);
    assert_eq!(host.port(10), Port::Granted, "it expires when the later clock says so");
    pass(&mut host, 3601, back);
    assert_eq!(host.port(10), Port::Isolated);
}
