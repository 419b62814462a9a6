use detector_core::{
    fleet::{
        message::{FindingNews, HostState, PolicyState, Time, VmState},
        page,
    },
    model::Severity,
};
use uuid::Uuid;

use super::{Estate, MOST_FINDINGS, MOST_NEWS, OpenFinding, Told};

fn at(second: i64) -> Time {
    Time::from_second(second).unwrap()
}

pub(crate) fn state(pages: u32) -> HostState {
    HostState {
        at: at(0),
        every: 30,
        life: Uuid::nil(),
        release: "0.1.0".to_owned(),
        started: at(0),
        mode: "enforce".to_owned(),
        policy: PolicyState::default(),
        vms: [].into(),
        ports: [].into(),
        findings: [].into(),
        troubles: Vec::new(),
        pages,
        open_pages: None,
    }
}

pub(crate) fn vm(number: u128, status: &str) -> VmState {
    VmState {
        uuid: Uuid::from_u128(number),
        name: format!("vm{number}"),
        source: "qemu:///system".to_owned(),
        power: "running".to_owned(),
        status: status.to_owned(),
        since: None,
        template: None,
        nics: Vec::new(),
    }
}

fn news(event: &str, finding: usize) -> FindingNews {
    FindingNews {
        id: Uuid::from_u128(1),
        alert: Uuid::from_u128(2),
        event: event.to_owned(),
        at: at(5),
        finding: format!("{finding:010x}"),
        kind: "rogue-vm".to_owned(),
        severity: Severity::High,
        title: "t".to_owned(),
        since: at(4),
        vm: None,
        evidence: Vec::new(),
        next: None,
    }
}

fn open_finding(id: &str) -> OpenFinding {
    OpenFinding {
        id: id.to_owned(),
        kind: "rogue-vm".to_owned(),
        severity: Severity::High,
        title: id.to_owned(),
        evidence: Vec::new(),
        next: None,
        since: at(100),
        vm: None,
        settled: false,
    }
}

fn host() -> String {
    "h1".to_owned()
}

#[test]
fn what_is_heard_in_any_pieces_makes_the_same_estate() {
    let (one, two) = (vm(1, "approved"), vm(2, "denied"));
    let pieces = [
        Told::Page { host: host(), number: 1, of: 2, vms: vec![two] },
        Told::State { host: host(), state: state(2) },
        Told::Finding { host: host(), news: news("opened", 1) },
        Told::Page { host: host(), number: 0, of: 2, vms: vec![one] },
    ];
    let heard = |order: [usize; 4]| {
        let mut estate = Estate::default();
        order.iter().for_each(|piece| estate.apply(at(9), pieces[*piece].clone()));
        estate
    };
    let first = heard([0, 1, 2, 3]);
    assert_eq!(first, heard([3, 2, 1, 0]));
    assert_eq!((first.vms().count(), first.findings().count()), (2, 1));
}

#[test]
fn pages_of_earlier_times_do_not_count() {
    let mut estate = Estate::default();
    let mut tell = |number: u32, of| {
        let vms = vec![vm(u128::from(number), "approved")];
        estate.apply(at(1), Told::Page { host: host(), number, of, vms });
        estate.vms().count()
    };
    let seen =
        [(3, 4), (2, 4), (1, 4), (0, 4), (1, 2), (0, 2)].map(|(number, of)| tell(number, of));
    assert_eq!(seen, [1, 2, 3, 4, 4, 2]);
    // Which state is heard with them does not matter: it may be of before.
    estate.apply(at(1), Told::State { host: host(), state: state(1) });
    assert_eq!(estate.vms().count(), 2);
}

#[test]
fn a_finding_opens_settles_and_closes() {
    let mut estate = Estate::default();
    let open =
        |estate: &Estate| estate.findings().map(|(_, finding)| finding.settled).collect::<Vec<_>>();
    let mut tell = |event, expect: &[bool]| {
        estate.apply(at(9), Told::Finding { host: host(), news: news(event, 1) });
        assert_eq!(open(&estate), expect, "{event}");
    };
    tell("opened", &[false]);
    tell("acknowledged", &[true]);
    tell("changed", &[true]);
    tell("closed", &[]);
    tell("closed", &[]);
    tell("opened", &[false]);
    tell("suppressed", &[true]);
    tell("opened", &[false]);
    tell("closed", &[]);
    // Whether alerts arrive is no finding.
    tell("test", &[]);
    assert_eq!(estate.hosts[&host()].news.len(), 9);
}

#[test]
fn what_a_host_lists_as_open_is_open_and_no_news() {
    let mut estate = Estate::default();
    let lists = |pages| HostState { open_pages: Some(pages), ..state(1) };
    let page = |number, of, ids: &[usize]| Told::Open {
        host: host(),
        number,
        of,
        findings: ids.iter().map(|id| open_finding(&format!("{id:010x}"))).collect(),
    };
    let open = |estate: &Estate| {
        let ids = estate.findings().map(|(_, finding)| finding.id.trim_start_matches('0'));
        ids.collect::<Vec<_>>().join(" ")
    };
    let mut tell = |told: Vec<Told>, expect: &str| {
        told.into_iter().for_each(|told| estate.apply(at(9), told));
        assert_eq!(open(&estate), expect);
    };
    let happened = |event, id| Told::Finding { host: host(), news: news(event, id) };
    tell(vec![happened("opened", 1), Told::State { host: host(), state: state(1) }], "1");
    // It is of a later release from now on; its pages may come before it says so.
    tell(vec![page(1, 2, &[4]), page(0, 2, &[2, 3])], "1");
    tell(vec![Told::State { host: host(), state: lists(2) }], "2 3 4");
    // What closed while nobody could tell is closed.
    tell(vec![page(0, 2, &[3]), happened("changed", 2)], "3 4");
    tell(vec![page(0, 1, &[3, 4]), Told::State { host: host(), state: lists(1) }], "3 4");
    tell(vec![page(page::MOST, 1, &[5]), page(u32::MAX, 1, &[5])], "3 4");
    // Of a page that is missing, what has happened is all there is.
    tell(vec![page(0, 2, &[3])], "3 1 2");
    tell(vec![page(1, 2, &[4])], "3 4");
    // And of the earlier one again.
    tell(vec![happened("closed", 1), Told::State { host: host(), state: state(1) }], "2");
    assert_eq!(estate.hosts[&host()].news.len(), 3);
}

#[test]
fn what_a_host_says_is_bounded() {
    let mut estate = Estate::default();
    for finding in 0..MOST_FINDINGS + 10 {
        estate.apply(at(9), Told::Finding { host: host(), news: news("opened", finding) });
    }
    assert_eq!(estate.findings().count(), MOST_FINDINGS);
    for number in [0, page::MOST - 1, page::MOST, u32::MAX] {
        let vms = vec![vm(number.into(), "approved")];
        estate.apply(at(9), Told::Page { host: host(), number, of: page::MOST, vms });
    }
    assert_eq!(estate.vms().count(), 2);
    let evidence = vec![(String::new(), String::new()); 1000];
    for number in 0..page::MOST {
        let finding = |id| OpenFinding {
            evidence: evidence.clone(),
            ..open_finding(&format!("{number}-{id}"))
        };
        let findings = (0..50).map(finding).collect();
        estate.apply(at(9), Told::Open { host: host(), number, of: page::MOST, findings });
    }
    let state = HostState { open_pages: Some(page::MOST), ..state(1) };
    estate.apply(at(9), Told::State { host: host(), state });
    assert_eq!(estate.findings().count(), MOST_FINDINGS);
    assert!(estate.findings().all(|(_, one)| one.evidence.len() <= page::MOST_EVIDENCE));
    assert_eq!(estate.hosts[&host()].news.len(), MOST_NEWS);
}

#[test]
fn a_host_that_tells_all_of_it_makes_news_of_what_has_changed() {
    let mut estate = Estate::default();
    let mut tell = |second, status, findings: &[&str]| {
        let findings = findings.iter().map(|id| open_finding(id)).collect();
        let vms = vec![vm(1, status)];
        let told = Told::Whole { host: host(), state: state(7), vms, findings };
        estate.apply(at(second), told);
        let all = estate.hosts[&host()].news.iter();
        all.map(|one| (one.at.as_second(), format!("{} {}", one.event, one.what)))
            .collect::<Vec<_>>()
    };
    assert_eq!(tell(200, "approved", &["a"]), [(100, "opened a".to_owned())]);
    let next = tell(300, "quarantined", &["b"]);
    let expect = [(100, "opened b"), (300, "closed a"), (300, "status approved → quarantined")];
    let said: Vec<_> = next[1..].iter().map(|(at, what)| (*at, what.as_str())).collect();
    assert_eq!(said, expect);
    assert_eq!(estate.vms().count(), 1);
}

#[test]
fn who_is_silent() {
    let mut estate = Estate::default();
    let silent = |estate: &Estate, second| estate.hosts[&host()].is_silent(at(second));
    estate.apply(at(0), Told::Page { host: host(), number: 0, of: 1, vms: Vec::new() });
    assert!(silent(&estate, 0), "it has never said how it is");
    estate.apply(at(100), Told::State { host: host(), state: state(1) });
    for (second, expect) in [(100, false), (190, false), (191, true), (0, false)] {
        assert_eq!(silent(&estate, second), expect, "{second}");
    }
    estate.apply(at(200), Told::Silent { host: host(), why: "x".to_owned() });
    assert_eq!(estate.hosts[&host()].lost.as_deref(), Some("x"));
    estate.apply(at(201), Told::State { host: host(), state: state(1) });
    assert_eq!(estate.hosts[&host()].lost, None);
}
