//! Tables of what is believed and what is not.

mod bundle;
mod roll_out;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Name,
    message::{
        Announcement, LONGEST, NicState, OpenFinding, Refused, Version, VmState, open, seal,
    },
    page::{Page, open_pages, pages},
    subject::{self, Holder, Paged},
};
use crate::model::{Digest, Severity};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[test]
fn a_name_is_one_token() {
    for good in ["a", "0", "host-1", &"x".repeat(63)] {
        assert!(good.parse::<Name>().is_ok(), "{good}");
    }
    let bad = ["", "-a", "a-", "a.b", "*", ">", "a b", "A", "ä", "a\n", "$sys", &"x".repeat(64)];
    for bad in bad {
        assert!(bad.parse::<Name>().is_err(), "{bad}");
        assert!(serde_json::from_value::<Name>(bad.into()).is_err(), "{bad}");
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Body {
    a: u8,
}

#[test]
fn only_what_is_of_this_version_and_from_its_sender_is_read() {
    let (fleet, host) = (name("prod"), name("h1"));
    let read = |text: &str| open::<Body>(text.as_bytes(), &fleet, Some(&host));
    let sealed = seal(&fleet, &host, &Body { a: 7 }).unwrap();
    assert_eq!(open(&sealed, &fleet, Some(&host)), Ok((host.clone(), Body { a: 7 })));
    assert_eq!(open(&sealed, &fleet, None), Ok((host.clone(), Body { a: 7 })));

    // The version comes first, whatever else there is.
    assert_eq!(read(r#"{"v":2,"fleet":["prod"],"body":0}"#), Err(Refused::OtherVersion(2)));
    assert_eq!(read(r#"{"v":0}"#), Err(Refused::OtherVersion(0)));
    let other = r#"{"v":1,"fleet":"test","from":"h1","body":{"a":7}}"#;
    assert_eq!(read(other), Err(Refused::OtherFleet(name("test"))));
    let other = r#"{"v":1,"fleet":"prod","from":"h2","body":{"a":7}}"#;
    assert_eq!(read(other), Err(Refused::OtherSender(name("h2"))));
    // What a release adds within a version is no reason not to read the rest.
    let more = r#"{"v":1,"fleet":"prod","from":"h1","later":1,"body":{"a":7,"b":8}}"#;
    assert_eq!(read(more), Ok((host.clone(), Body { a: 7 })));
    for bad in [
        "",
        "null",
        "[]",
        r#"{"stream":"KV_detector-hosts","seq":1}"#,
        r#"{"v":1}"#,
        r#"{"v":1,"v":2,"fleet":"prod","from":"h1","body":{"a":7}}"#,
        r#"{"v":"1","fleet":"prod","from":"h1","body":{"a":7}}"#,
        r#"{"v":1,"fleet":"prod","from":"h.1","body":{"a":7}}"#,
        r#"{"v":1,"fleet":"prod","from":"h1","body":{"a":700}}"#,
        r#"{"v":1,"fleet":"prod","from":"h1","body":{"a":7}}}"#,
        &"[".repeat(10_000),
    ] {
        assert!(matches!(read(bad), Err(Refused::NoMessage(_))), "{bad:.60}");
    }
    let long = " ".repeat(LONGEST + 1);
    assert_eq!(read(&long), Err(Refused::TooLong(LONGEST + 1)));
    let long = "x".repeat(LONGEST);
    assert!(matches!(seal(&fleet, &host, &long), Err(Refused::TooLong(_))));
}

#[test]
fn an_announcement_says_what_each_host_is_to_have() {
    let version = |number: u64| Version { number, sha256: Digest([number as u8; 32]) };
    let all = Announcement::to_all(version(2));
    let some = Announcement { hosts: vec![name("a")], ..all.clone() };
    let staged = Announcement { share: Some(0), others: Some(version(1)), ..some.clone() };
    let everybody = Announcement { share: Some(1000), ..staged.clone() };
    let withdrawn = Announcement { withdrawn: vec![version(2)], ..all.clone() };
    for (announcement, a, b, settled) in [
        (all, Some(2), Some(2), Some(2)),
        (some, Some(2), None, None),
        (staged, Some(2), Some(1), Some(1)),
        (everybody, Some(2), Some(2), Some(1)),
        (withdrawn, None, None, Some(2)),
    ] {
        let told = |host| announcement.version_for(&name(host)).map(|version| version.number);
        let settled_on = announcement.settled().map(|version| version.number);
        assert_eq!((told("a"), told("b"), settled_on), (a, b, settled), "{announcement:?}");
    }
    // Turns are spread, each wave has all of the one before, and another bundle has others first.
    let hosts: Vec<_> = (0..2000).map(|n| name(&format!("host-{n}"))).collect();
    let early = |number, share| -> Vec<_> {
        hosts.iter().filter(|host| version(number).turn(host) < share).collect()
    };
    let (tenth, half) = (early(1, 100), early(1, 500));
    assert!((120..280).contains(&tenth.len()), "{}", tenth.len());
    assert!((850..1150).contains(&half.len()), "{}", half.len());
    assert!(tenth.iter().all(|host| half.contains(host)));
    assert_ne!(tenth, early(2, 100));
}

/// Whether a pattern of NATS has a subject.
fn matches(pattern: &str, subject: &str) -> bool {
    let (mut patterns, mut tokens) = (pattern.split('.'), subject.split('.'));
    loop {
        match (patterns.next(), tokens.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

#[test]
fn a_host_speaks_for_itself_only() {
    let (own, other) = (name("a"), name("b"));
    let host = Holder::Host(own.clone()).permissions();
    let may = |patterns: &[String], subject: &str| patterns.iter().any(|one| matches(one, subject));
    let of = |host: &Name| {
        [
            subject::key(subject::HOSTS, host.as_str()),
            subject::key(subject::VMS, &subject::vm_page(host, 0)),
            subject::key(subject::VMS, &subject::open_page(host, 0)),
            subject::finding(host),
            subject::audit(host),
        ]
    };
    for place in of(&own) {
        assert!(may(&host.publish, &place), "{place}");
    }
    let asked = subject::ask(&subject::bundle(7));
    assert!(may(&host.publish, &asked));
    let forbidden = of(&other).into_iter().chain([
        subject::command(&own, &name("m")),
        subject::command(&other, &name("m")),
        subject::NEWS.to_owned(),
        subject::key(subject::POLICY, subject::ANNOUNCED),
        asked.replace("policy", "hosts"),
        "$JS.API.STREAM.DELETE.KV_detector-hosts".to_owned(),
        "$JS.API.CONSUMER.CREATE.detector-findings".to_owned(),
        "$SYS.REQ.CLAIMS.UPDATE".to_owned(),
        "_INBOX.monitor.m.1".to_owned(),
    ]);
    for place in forbidden {
        assert!(!may(&host.publish, &place), "{place}");
    }
    let inbox = |holder: &Holder| format!("{}.x.1", holder.inbox());
    let heard = [subject::command(&own, &name("m")), inbox(&Holder::Host(own.clone()))];
    for place in heard {
        assert!(may(&host.subscribe, &place), "{place}");
    }
    let unheard = [
        subject::command(&other, &name("m")),
        inbox(&Holder::Host(other.clone())),
        inbox(&Holder::Monitor(own.clone())),
        inbox(&Holder::Steward),
    ];
    for place in unheard.into_iter().chain(of(&other)) {
        assert!(!may(&host.subscribe, &place), "{place}");
    }
    // Who sees all still makes and removes no stream, and gives no credentials.
    let monitor = Holder::Monitor(own).permissions();
    let places = ["$JS.API.STREAM.DELETE.detector-audit", "$JS.API.STREAM.PURGE.detector-audit"];
    for place in places.into_iter().chain(["$SYS.REQ.CLAIMS.UPDATE", "detector.finding.b"]) {
        assert!(!may(&monitor.publish, place), "{place}");
    }
    // Nor says what the policy is: whoever steals its credentials would have hosts go back to an older one.
    let policy = [subject::key(subject::POLICY, subject::ANNOUNCED), subject::NEWS.to_owned()];
    for place in policy {
        assert!(!may(&monitor.publish, &place), "{place}");
    }
    // Nor asks in the name of another one.
    assert!(may(&monitor.publish, &subject::command(&other, &name("a"))));
    assert!(!may(&monitor.publish, &subject::command(&other, &name("b"))));
}

#[test]
fn a_command_is_of_whom_its_subject_names_and_answered_there() {
    let desk = Some(name("desk"));
    let cases = [
        ("detector.command.h1.desk", "_INBOX.monitor.desk.x.1", desk),
        ("detector.command.h1.desk", "_INBOX.monitor.other.x.1", None),
        ("detector.command.h1.desk", "_INBOX.monitor.desk", None),
        ("detector.command.h1.desk", "_INBOX.monitor.desk.", None),
        ("detector.command.h1.desk", "_INBOX.monitor.desk2.x", None),
        ("detector.command.h1.desk", "$KV.detector-hosts.h1", None),
        ("detector.command.h1.desk", "detector.finding.h1", None),
        ("detector.command.h1.*", "_INBOX.monitor.*.x", None),
        ("desk", "_INBOX.monitor.desk.x", None),
        ("", "", None),
    ];
    for (subject, reply, expect) in cases {
        assert_eq!(subject::asker(subject, reply), expect, "{subject} {reply}");
    }
}

/// What servers keep for a fleet has to fit the disk that they are given for it.
#[test]
fn every_place_is_bounded_and_all_of_them_have_room() {
    const DISK: i64 = 20_000_000_000;
    assert!(subject::PLACES.iter().all(|place| place.bytes > 0));
    assert!(subject::PLACES.iter().map(|place| place.bytes).sum::<i64>() < DISK);
    let for_ever = subject::PLACES.iter().filter(|place| place.days == 0);
    assert_eq!(for_ever.map(|place| place.name).collect::<Vec<_>>(), [subject::POLICY]);
}

fn vm(number: u128) -> VmState {
    VmState {
        uuid: Uuid::from_u128(number << 64 | 0xfeed),
        name: format!("vm{number}"),
        source: "qemu:///system".to_owned(),
        power: "running".to_owned(),
        status: "approved".to_owned(),
        since: None,
        template: None,
        nics: Vec::new(),
    }
}

#[test]
fn vms_are_on_one_page_each_and_pages_fit_a_message() {
    for (count, of) in [(0, 1), (1, 1), (32, 1), (33, 2), (1000, 32), (100_000, 256)] {
        let all = pages((0..count).map(vm).collect());
        assert_eq!(all.len(), of, "{count}");
        assert_eq!(all.iter().map(|page| page.vms.len()).sum::<usize>(), count as usize);
        let fullest = all.iter().map(|page| page.vms.len()).max().unwrap();
        // They are spread, though the UUIDs differ in few places.
        assert!(fullest <= 2 * (count as usize).div_ceil(of) + 16, "{count}: {fullest}");
    }
    // One more VM touches its own page only.
    let (before, after) = (pages((0..40).map(vm).collect()), pages((0..41).map(vm).collect()));
    let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert_eq!((before.len(), changed), (2, 1));

    // The longest that anybody can name.
    let hostile = |number| {
        let nic = NicState {
            mac: "52:54:00:00:00:01".to_owned(),
            port: Some("vnet0".to_owned()),
            status: Some("granted".to_owned()),
            addresses: vec!["2001:db8:1111:2222:3333:4444:5555:6666".to_owned(); 1000],
        };
        let name = "\u{1}".repeat(100_000);
        VmState { name, nics: vec![nic; 100], ..vm(number) }
    };
    let (fleet, host) = (name("prod"), name("h1"));
    let sealed = |page: &Page| seal(&fleet, &host, page);
    for page in pages((0..32).map(hostile).collect()) {
        assert!(sealed(&page).or_else(|_| sealed(&page.clone().lighter())).is_ok());
        assert!(page.vms[0].name.ends_with('…'));
    }
}

#[test]
fn open_findings_are_on_one_page_each_and_pages_fit_a_message() {
    let finding = |number: usize| OpenFinding {
        id: format!("{number:010x}"),
        kind: "rogue-vm".to_owned(),
        severity: if number == 9000 { Severity::Critical } else { Severity::Low },
        title: "t".to_owned(),
        evidence: vec![("n".to_owned(), "v".to_owned())],
        next: None,
        since: jiff::Timestamp::UNIX_EPOCH,
        vm: None,
        settled: false,
    };
    for (count, of, told) in [(0, 1, 0), (33, 2, 33), (9001, 256, 8192)] {
        let all = open_pages((0..count).map(finding).collect());
        assert_eq!(all.len(), of, "{count}");
        let ids: Vec<_> =
            all.iter().flat_map(|page| &page.findings).map(|one| one.id.clone()).collect();
        assert_eq!(ids.len(), told, "{count}");
        let has_worst = ids.contains(&finding(9000).id);
        assert_eq!(has_worst, count > 9000, "the most severe is not left out");
        // As long as anybody can have it, where all of them are.
        let fullest = all.iter().map(|page| page.findings.len()).max().unwrap();
        assert!(fullest < 2 * 32, "{count}: {fullest}");
    }
    let text = |length: usize| "\u{1}".repeat(length);
    let hostile = |number| OpenFinding {
        title: text(10_000),
        evidence: vec![(text(300), text(300)); 40],
        next: Some(text(300)),
        ..finding(number)
    };
    let (fleet, host) = (name("prod"), name("h1"));
    let mut page = open_pages((0..20).map(hostile).collect()).remove(0);
    assert!(page.findings[0].title.ends_with('…') && page.findings[0].evidence.len() == 32);
    page.findings = page.findings.iter().cycle().take(2 * 32).cloned().collect();
    assert!(matches!(seal(&fleet, &host, &page), Err(Refused::TooLong(_))));
    assert!(seal(&fleet, &host, &page.lighter()).is_ok());
    // What is told at once is what somebody would act by.
    let page = |findings: Vec<OpenFinding>| open_pages(findings).remove(0);
    let before = page(vec![finding(1)]);
    let other = |change: fn(&mut OpenFinding)| {
        let mut one = finding(1);
        change(&mut one);
        page(vec![one])
    };
    assert!(before.is_alike(&other(|one| one.evidence.clear())));
    assert!(!before.is_alike(&other(|one| one.settled = true)));
    assert!(!before.is_alike(&other(|one| one.severity = Severity::High)));
    assert!(!before.is_alike(&page(vec![])));
    assert!(!before.is_alike(&page(vec![finding(1), finding(2)])));
}

#[test]
fn a_page_says_by_its_key_whose_and_what_it_is() {
    let key = |key: String| subject::key(subject::VMS, &key);
    let host = name("h1");
    for (place, expected) in [
        (key(subject::vm_page(&host, 7)), Some(("h1", Paged::Vms(7)))),
        (key(subject::open_page(&host, 7)), Some(("h1", Paged::Open(7)))),
        (key("h1.open-".to_owned()), None),
        (key("h1.open-x".to_owned()), None),
        (key("h1.closed-7".to_owned()), None),
        ("7".to_owned(), None),
    ] {
        assert_eq!(subject::paged(&place), expected, "{place}");
    }
}
