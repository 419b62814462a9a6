//! What is put on record: each change once, with who, why and what it rests on.

use std::time::Instant;

use detector_core::{
    decide::policy::{DEFAULT, Rulebook, Rules},
    model::ModeRequest,
};

use super::{super::input::Admit, *};
use crate::{
    api::schema::TargetSpec,
    audit::{Entry, Kind, Limits, Place, Who, Writer},
};

const NO_WEB: &str = "@id(\"no-web\") @sentence(\"No VM is called web.\") \
                      forbid (principal, action == Action::\"join\", resource) \
                      when { principal has name && principal.name == \"web\" };\n";
const PAUSE: &str = "@id(\"hold\") permit (principal, action == Action::\"pause\", resource);\n";

impl Host {
    /// Takes what was to be put on record.
    pub(super) fn recorded(&mut self) -> Vec<Entry> {
        let mut entries = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::Record(entry) => {
                entries.push((**entry).clone());
                false
            }
            _ => true,
        });
        entries
    }

    /// The same, as text.
    fn trail(&mut self) -> Vec<String> {
        self.recorded().iter().map(shown).collect()
    }
}

fn shown(entry: &Entry) -> String {
    let subject = entry.subject.as_ref().unwrap();
    let (from, to) = (entry.from.as_deref().unwrap_or("-"), entry.to.as_deref().unwrap_or("-"));
    let name = subject.name.as_ref().unwrap_or(&subject.id);
    let who = match &entry.who {
        Who::Daemon => String::new(),
        Who::User { uid } => format!(" by {uid}"),
        Who::Fleet { user, .. } => format!(" by {user} of the fleet"),
        Who::Person(_) => " by a person".to_owned(),
    };
    format!("{} {} {name}: {from} -> {to}{who}", entry.kind.name(), subject.of)
}

fn rules(text: &str) -> Input {
    let rules = Rules::parse(&format!("{text}{DEFAULT}")).unwrap();
    let origin = Some("/etc/detector/policy.cedar".to_owned());
    Input::Rules(Rulebook { rules: rules.into(), origin, refused: None })
}

#[test]
fn each_decision_is_recorded_once() {
    let mut host = Host::new(Mode::Enforce);
    host.approved();
    let recorded = host.recorded();
    let shown: Vec<_> = recorded.iter().map(shown).collect();
    assert_eq!(
        shown,
        [
            "port port vnet0: - -> pending",
            "vm vm web: - -> pending",
            "vm vm web: pending -> approved",
            "port port vnet0: pending -> granted",
        ]
    );
    let evidence = &recorded[2].evidence;
    assert_eq!(evidence["template"], ["debian"]);
    assert_eq!(evidence["media"], [format!("/images/web sha256:{APPROVED}")]);
    assert!(evidence["policy"][0].starts_with("sha256:") && !evidence["rules"].is_empty());
    host.wait(Duration::from_secs(5)).turn(vec![Input::Tick]);
    assert_eq!(host.trail(), [""; 0], "nothing has changed");

    host.turn(vec![rules(NO_WEB)]);
    let recorded = host.recorded();
    let shown: Vec<_> = recorded.iter().map(self::shown).collect();
    assert!(shown[0].starts_with("policy file /etc/detector/policy.cedar: sha256:"), "{shown:?}");
    assert_eq!(
        shown[1..],
        [
            "quarantine vm web: - -> drop",
            "vm vm web: approved -> quarantined",
            "port port vnet0: granted -> isolated",
        ]
    );
    assert_eq!(recorded[1].evidence["cause"], ["verdict"]);
    assert!(recorded[2].why.contains("[no-web]"), "{:?}", recorded[2]);
    host.turn(vec![gone(10), listing(vec![])]);
    assert_eq!(
        host.trail(),
        ["port port vnet0: isolated -> gone", "vm vm web: quarantined -> unlisted"]
    );
}

#[test]
fn what_people_change_carries_their_name() {
    let mut host = Host::new(Mode::Enforce);
    host.approved().recorded();
    let target = TargetSpec::Vm("web".to_owned());
    let reason = "incident 42".to_owned();
    let add = Request::QuarantineAdd { target: target.clone(), reason, mode: None };
    host.ask(add).unwrap();
    let recorded = host.recorded();
    assert_eq!(shown(&recorded[0]), "quarantine vm web: - -> drop by 1000");
    assert_eq!(recorded[0].why, "incident 42");
    host.ask(Request::QuarantineRelease { target, reason: String::new() }).unwrap();
    assert_eq!(shown(&host.recorded()[0]), "quarantine vm web: drop -> lifted");
    let change = ModeRequest::BreakGlass { lasts: 60 };
    host.ask(Request::ModeChange { change, reason: "cut off".to_owned() }).unwrap();
    let recorded = host.recorded();
    assert_eq!(
        shown(&recorded[0]),
        "mode host mode: enforce, confirmed -> observe, break-glass by 1000"
    );
    assert_eq!(recorded[0].why, "cut off");
    host.wait(Duration::from_secs(61));
    assert_eq!(host.trail()[0], "mode host mode: observe, break-glass -> enforce, confirmed");
}

#[test]
fn templates_starts_and_pauses_are_recorded() {
    let mut host = Host::new(Mode::Enforce);
    host.approved().recorded();
    let mut changed = registry();
    changed.templates[0].status = TemplateStatus::Deprecated;
    changed.templates[0].reason = Some("a new version is out".to_owned());
    changed.templates.push(Template::new("fedora", TemplateStatus::Draft));
    host.turn(vec![Input::Registry(changed)]);
    let recorded = host.recorded();
    assert_eq!(shown(&recorded[0]), "template template debian: approved -> deprecated");
    assert_eq!(recorded[0].why, "a new version is out");
    assert_eq!(shown(&recorded[1]), "template template fedora: - -> draft");
    host.turn(vec![Input::Registry(registry())]);
    assert_eq!(host.trail()[1], "template template fedora: draft -> removed");

    host.turn(vec![rules(&format!("{PAUSE}{NO_WEB}"))]);
    let trail = host.trail();
    assert!(trail.contains(&"pause vm web: - -> asked".to_owned()), "{trail:?}");
    host.turn(vec![Input::Paused(uuid(1), Ok(()))]);
    assert_eq!(host.trail()[0], "pause vm web: - -> paused");

    for (vm, expect) in [
        (Ok(vm("web", 1, "vnet0")), "admission vm web: - -> denied, may start"),
        (Err("no XML".to_owned()), "admission vm web: - -> undecided, may start"),
    ] {
        host.turn(vec![Input::Admit(Box::new(Admit {
            id: 700,
            source: LIBVIRT.to_owned(),
            name: "web".to_owned(),
            vm,
            links: vec![link(10, "vnet0")],
            registry: None,
        }))]);
        host.read(|_| APPROVED);
        let trail = host.trail();
        assert!(trail.iter().any(|line| line == expect), "{expect}: {trail:?}");
    }
}

/// A guest whose word counts for something can go to and fro as it likes.
#[test]
fn what_goes_to_and_fro_is_recorded_now_and_then_and_how_it_ends_in_any_case() {
    let mut host = Host::new(Mode::Observe);
    host.approved().recorded();
    for round in 0..80 {
        let rule = if round % 2 == 0 { NO_WEB } else { "" };
        host.turn(vec![rules(rule)]);
    }
    let of_vm = |entry: &Entry| entry.kind == Kind::Vm;
    assert!(host.recorded().iter().filter(|entry| of_vm(entry)).count() <= 30);
    host.turn(vec![rules(NO_WEB)]);
    host.wait(Duration::from_secs(120));
    let last = host.recorded().into_iter().rfind(of_vm).unwrap();
    assert_eq!(last.to.as_deref(), Some("denied"));
}

/// The first start of a large host: prints what the records cost (`--nocapture`).
#[tokio::test]
async fn five_hundred_vms_at_once_are_all_on_record() {
    let mut host = Host::new(Mode::Enforce);
    let names: Vec<_> = (0..500_u32).map(|number| format!("tap{number}")).collect();
    let vms = (0_u16..).zip(&names).map(|(number, name)| {
        let mut vm = vm(&format!("vm{number}"), 1, name);
        vm.uuid = Uuid::from_u128(1000 + u128::from(number));
        vm.nics[0].mac = Mac([0x52, 0x54, 0, 1, number.to_be_bytes()[0], number.to_be_bytes()[1]]);
        vm
    });
    let links = (10..).zip(&names).map(|(ifindex, name)| tap(ifindex, name));
    let inputs: Vec<_> = links.chain([listing(vms.collect())]).collect();
    host.recorded();
    host.turn(inputs);
    let begun = Instant::now();
    host.brain.follow_decisions();
    let idle = begun.elapsed();
    host.read(|_| APPROVED);
    let entries = host.recorded();
    assert!(entries.len() >= 2000, "{} records", entries.len());
    // As though nothing had been told.
    host.brain.trail = Default::default();
    let begun = Instant::now();
    host.brain.follow_decisions();
    let first = begun.elapsed();

    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(directory.path());
    let limits = Limits { retention: Duration::ZERO, size: u64::MAX };
    let writer = Writer::spawn(place.clone(), limits, |_| {}).unwrap();
    let (now, count) = (jiff::Timestamp::now(), entries.len());
    let begun = Instant::now();
    for entry in entries {
        writer.decision(now, entry);
    }
    let handed = begun.elapsed();
    let last = Entry::new(Kind::DaemonStopped, Who::Daemon);
    writer.action(now, last, true).await.unwrap();
    let written = begun.elapsed();
    println!(
        "{count} records: {idle:?} to look for changes where there are none, {first:?} to put 1000 in words, \
         {handed:?} to hand all over, {written:?} until they are on the disk"
    );
    let connection = crate::audit::reader(&place.database).unwrap();
    let head = crate::audit::head(&connection).unwrap().unwrap();
    assert_eq!(head.seq as usize, count + 3, "with the chain's first, the key and the last");
}
