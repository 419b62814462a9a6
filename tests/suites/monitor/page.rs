//! The page in a real browser.

use std::collections::{BTreeMap, BTreeSet};

use detector_core::fleet::message::{HostState, PolicyState, RefusedBundle, Time, Version, seal};
use detector_core::fleet::roll_out::{Plan, RollOut, Stage};
use detector_core::fleet::subject::{self, Holder};
use detector_core::model::Digest;
use detector_tests::browser::{Browser, Shape};
use detector_tests::daemon::Daemon;
use detector_tests::host::Host;
use detector_tests::monitor::Monitor;
use detector_tests::nats::{FLEET, Member, Nats, name};
use detector_tests::scene::{PATIENCE, Scene, vm};

use serde_json::{Value, json};

use super::{A, B, HOSTILE, PORT, await_that, daemon, monitor};

/// What is wrong with a page for somebody with a small screen, weak eyes or a keyboard only.
const LOOK: &str = include_str!("look.js");
const SHAPES: [(&str, Shape); 4] = [
    ("wide", Shape { width: 1280, dark: false }),
    ("wide-dark", Shape { width: 1280, dark: true }),
    ("phone", Shape { width: 360, dark: false }),
    ("phone-dark", Shape { width: 360, dark: true }),
];

#[test]
fn a_rogue_from_alert_to_release_by_clicking() {
    let scene = Scene::new().unwrap();
    let approved = vm(HOSTILE, "tap-r", B);
    let rogue = approved.replace("template = \"lab\"\n", "");
    let daemon = daemon(&scene, &[vm("web1", "tap-a", A), rogue], "");
    let monitor = monitor(&scene);
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let mut browser = Browser::start(scene.host()).unwrap();
    browser.log_in(&monitor, "otto").unwrap();

    // It appears, and nobody loads the page again.
    browser.evaluate("window.before = true").unwrap();
    let _rogue = scene.plug("tap-r").unwrap();
    daemon.await_port("tap-r", "isolated", PATIENCE).unwrap();
    browser.await_text("1 VM is in quarantine").unwrap();
    assert_eq!(browser.evaluate("window.before").unwrap(), true);
    assert_eq!(browser.evaluate("document.title").unwrap(), "(1) Overview · detector");

    // What it is called is text.
    browser.follow("a.button[href='/quarantine']", "neither sends nor receives").unwrap();
    let shown = browser.text().unwrap();
    assert!(shown.contains("<script>alert(1)</script>") && !shown.contains('\u{202e}'), "{shown}");
    let foreign = "document.querySelectorAll('main script, main img, [onerror], [style]').length";
    assert_eq!(browser.evaluate(foreign).unwrap(), 0);

    browser.follow("li.card a.button", "A VM descends from a registered template").unwrap();
    // By the keyboard: the form takes the focus, and the return key sends it.
    browser.evaluate("document.querySelector('details.deed summary').focus()").unwrap();
    browser.press("Enter").unwrap();
    await_that("the focus", || {
        let focused = browser.evaluate("document.activeElement.name").unwrap();
        (focused == "reason").then_some(())
    });
    browser.type_text("it looks fine to me").unwrap();
    browser.press("Enter").unwrap();
    browser.await_text("the quarantine stays").unwrap();
    assert_eq!(quarantines(&daemon), 1, "the policy speaks against it");

    // Another site has got hold of the token; the browser keeps the session from it.
    let token = "document.querySelector('input[name=csrf]').value";
    let token = browser.evaluate(token).unwrap().as_str().unwrap().to_owned();
    let page = browser.evaluate("location.href").unwrap().as_str().unwrap().to_owned();
    let target = page.rsplit('/').next().unwrap().to_owned();
    let host = page.rsplit('/').nth(2).unwrap();
    let fields = [("csrf", token.as_str()), ("host", host), ("action", "sandbox"), ("reason", "x")]
        .map(|(name, value)| format!("<input name={name} value={value}>"))
        .concat();
    browser
        .open(&format!(
            "data:text/html,<form method=post action={}/act>{fields}<input name=target value=vm:{target}><button>Win</button></form>",
            monitor.url()
        ))
        .unwrap();
    browser.click("button").unwrap();
    browser.await_text("log in first").unwrap();
    let complaints = browser.take_faults();
    assert!(complaints.iter().all(|one| one.contains("status of 401")), "{complaints:?}");

    // Somebody approves of what it is made from; now it is lifted.
    browser.open(&page).unwrap();
    daemon.write_inventory(&[vm("web1", "tap-a", A), approved].concat()).unwrap();
    // A page that has not come yet lists none.
    let are_met = "document.querySelector('.checks') !== null && document.querySelector('.checks .bad') === null";
    await_that("all requirements to be met", || {
        (browser.evaluate(are_met).unwrap() == true).then_some(())
    });
    browser.click("details.deed summary").unwrap();
    browser.fill("details[open] input[name=reason]", "its template is approved").unwrap();
    browser.click("details[open] button").unwrap();
    browser.await_text("The quarantine is lifted.").unwrap();
    daemon.await_port("tap-r", "granted", PATIENCE).unwrap();
    browser.await_text("It is approved").unwrap();
    assert_eq!(quarantines(&daemon), 0);
    let records = daemon.ask(&["audit", "list", "--limit", "0"]).unwrap().json["records"].clone();
    let released =
        |one: &&Value| one["kind"] == "action-asked" && one["to"] == "quarantine-release";
    let asked: Vec<_> = records.as_array().unwrap().iter().filter(released).collect();
    let whys: Vec<_> = asked.iter().map(|one| one["why"].as_str().unwrap()).collect();
    assert_eq!(whys, ["it looks fine to me", "its template is approved"], "{asked:?}");
    assert!(asked.iter().all(|one| one["who"]["on_behalf"] == "otto (operate)"), "{asked:?}");

    // Who only looks has nothing to click on, and a form of their own making is refused.
    browser.click("form[action='/logout'] button").unwrap();
    browser.await_text("Password").unwrap();
    browser.log_in(&monitor, "vera").unwrap();
    browser.open(&page).unwrap();
    browser.await_text("yours is view").unwrap();
    let ways = "document.querySelectorAll('details.deed, form[action=\"/act\"]').length";
    assert_eq!(browser.evaluate(ways).unwrap(), 0);
    assert_eq!(browser.take_faults(), [""; 0]);
    let forged = format!(
        "fetch('/act', {{ method: 'POST', body: new URLSearchParams({{
            csrf: document.querySelector('input[name=csrf]').value, host: {host:?},
            action: 'quarantine', target: 'vm:{target}', reason: 'x',
            id: '00000000-0000-4000-8000-000000000001' }}) }}).then((answer) => answer.status)"
    );
    assert_eq!(browser.evaluate(&forged).unwrap(), 403);
    assert_eq!(quarantines(&daemon), 0);
}

fn quarantines(daemon: &Daemon<'_>) -> usize {
    let listed = daemon.ask(&["quarantine", "list"]).unwrap().json;
    listed["quarantines"].as_array().unwrap().len()
}

/// Somebody who looks at pages from all sides, and takes pictures of them where they are wanted.
struct Tour<'a> {
    browser: Browser,
    monitor: &'a Monitor<'a>,
    faults: Vec<String>,
}

impl Tour<'_> {
    fn visit(&mut self, when: &str, pages: &[(&str, &str)]) {
        for (name, path) in pages {
            self.browser.open(&format!("{}{path}", self.monitor.url())).unwrap();
            self.look(&format!("{when}-{name}"));
        }
    }

    fn look(&mut self, name: &str) {
        for (shape, how) in SHAPES {
            self.browser.shape(how).unwrap();
            let faults = self.browser.evaluate(LOOK).unwrap();
            self.browser.picture(&format!("{name}-{shape}")).unwrap();
            let faults = faults.as_array().unwrap().iter();
            self.faults.extend(faults.map(|one| format!("{name}-{shape}: {one}")));
        }
        self.browser.shape(SHAPES[0].1).unwrap();
        // There is a page that is not there.
        let complaints = self.browser.take_faults().into_iter();
        let complaints = complaints.filter(|one| !one.contains("status of 404"));
        self.faults.extend(complaints.map(|one| format!("{name}: {one}")));
    }
}

#[test]
fn every_page_can_be_read_by_everybody() {
    let scene = Scene::new().unwrap();
    let daemon = daemon(&scene, &[], "");
    let monitor = monitor(&scene);
    let browser = Browser::start(scene.host()).unwrap();
    let mut tour = Tour { browser, monitor: &monitor, faults: Vec::new() };
    tour.visit("0", &[("login", "/login")]);
    tour.browser.log_in(&monitor, "ada").unwrap();
    let mut ada = monitor.log_in("ada").unwrap();
    let host = ada.json("/api/v1/hosts").unwrap()[0]["name"].as_str().unwrap().to_owned();
    let host = format!("/hosts/{host}");
    let (policy, templates) = (format!("{host}/policy"), format!("{host}/templates"));
    let pages = [
        ("overview", "/"),
        ("quarantine", "/quarantine"),
        ("vms", "/vms"),
        ("hosts", "/hosts"),
        ("host", &host),
        ("findings", "/findings"),
        ("policy", &policy),
        ("templates", &templates),
    ];
    tour.visit("0", &pages);

    daemon.write_inventory(&vm("web1", "tap-a", A)).unwrap();
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    tour.browser.open(&monitor.url()).unwrap();
    tour.browser.await_text("web1").unwrap();
    tour.visit("1", &pages[..1]);

    let rogue = vm(HOSTILE, "tap-b", B).replace("template = \"lab\"\n", "");
    let guest = |number: usize| {
        let guest = vm(&format!("guest-{number}"), &format!("t{number}"), A);
        guest.replace("mac = \"52:54", &format!("mac = \"5e:{number:02x}"))
    };
    let many: String = (0..200).map(guest).collect();
    daemon.write_inventory(&[vm("web1", "tap-a", A), rogue, many].concat()).unwrap();
    let _b = scene.plug("tap-b").unwrap();
    let _stray = scene.plug("stray0").unwrap();
    let rogue = await_that("all of it", || {
        let vms = ada.json("/api/v1/vms?status=quarantined").unwrap();
        let uuid = vms["vms"][0]["uuid"].as_str()?.to_owned();
        ada.get("/findings").unwrap().text.contains("stray0").then_some(uuid)
    });
    let rogue = format!("{host}/vms/{rogue}");
    tour.browser.open(&format!("{}{rogue}", monitor.url())).unwrap();
    tour.browser.click("details.deed summary").unwrap();
    tour.look("200-form");
    tour.visit("200", &pages);
    let nowhere = format!("{host}/vms/00000000-0000-4000-8000-000000000001");
    tour.visit("200", &[("vm", &rogue), ("none", "/vms?q=nobody"), ("nowhere", &nowhere)]);
    assert!(tour.faults.is_empty(), "{}", tour.faults.join("\n"));
}

#[test]
fn how_a_roll_out_goes_is_shown_while_it_goes() {
    let host = Host::new().unwrap();
    let nats = Nats::found(&host).unwrap();
    let fleet = name(FLEET).unwrap();
    let steward = nats.steward().unwrap();
    let keep = |member: &Member, place: &str, said: Vec<u8>| {
        let said = String::from_utf8(said).unwrap();
        assert!(member.keeps_this(place, &said), "{place}");
    };
    let version = |number: u64| Version { number, sha256: Digest([number as u8; 32]) };
    let hosts = ["h1", "h2"].map(|host| {
        let holder = Holder::Host(name(host).unwrap());
        (host, nats.connect(&holder, &nats.enrol(&holder).unwrap()).unwrap())
    });
    let say = |which: usize, in_force: u64, refused: Option<&str>| {
        let (host, member) = &hosts[which];
        let refused =
            refused.map(|why| RefusedBundle { version: 8, sha256: None, why: why.to_owned() });
        let policy = PolicyState { in_force: Some(version(in_force)), refused, drift: Vec::new() };
        let state = HostState {
            at: Time::now(),
            every: 3600,
            life: uuid::Uuid::nil(),
            release: "0".to_owned(),
            started: Time::now(),
            mode: "enforce".to_owned(),
            policy,
            vms: BTreeMap::new(),
            ports: BTreeMap::new(),
            findings: BTreeMap::new(),
            troubles: Vec::new(),
            pages: 0,
            open_pages: None,
        };
        let said = seal(&fleet, &name(host).unwrap(), &state).unwrap();
        keep(member, &subject::key(subject::HOSTS, host), said);
    };
    let begun = RollOut {
        version: version(8),
        before: Some(version(7)),
        withdrawn: Vec::new(),
        plan: Plan {
            canaries: vec![name("h1").unwrap()],
            waves: vec![1000],
            soak: 600,
            patience: 600,
            most: 3,
            late: 0,
        },
        by: "<b>alice</b>".to_owned(),
        begun: Time::now(),
        baseline: ["h1", "h2"].map(|host| (name(host).unwrap(), 0)).into(),
        absent: BTreeMap::new(),
        broken: BTreeMap::new(),
        breaks: 0,
        missing: BTreeSet::new(),
        stage: Stage::Spreading { wave: 1, since: Time::now() },
    };
    let rolls = |stage: Stage| {
        let roll_out = RollOut { stage, ..begun.clone() };
        let said = seal(&fleet, &fleet, &roll_out).unwrap();
        keep(&steward, &subject::key(subject::POLICY, subject::ROLL_OUT), said);
    };
    say(0, 8, None);
    say(1, 7, None);
    let monitor = Monitor::of_fleet(&host, &nats, "left", PORT).unwrap();
    let mut vera = monitor.log_in("vera").unwrap();
    assert_eq!(vera.get("/api/v1/roll-out").unwrap().status, 404);

    rolls(begun.stage.clone());
    let browser = Browser::start(&host).unwrap();
    let mut tour = Tour { browser, monitor: &monitor, faults: Vec::new() };
    tour.browser.log_in(&monitor, "vera").unwrap();
    tour.browser.await_text("Wave 2 of 2, until its hosts go by it").unwrap();
    tour.browser.await_text("1 of 2 hosts").unwrap();
    let shown = tour.browser.text().unwrap();
    assert!(shown.contains("<b>alice</b>") && shown.contains("h2"), "{shown}");
    let pages = [("overview", "/"), ("hosts", "/hosts")];
    tour.visit("roll-out", &pages);

    // It is stopped, and one host does not give it back: nobody loads the page again.
    tour.browser.open(&monitor.url()).unwrap();
    say(1, 8, Some("it was withdrawn, and stays: <img src=x>"));
    say(0, 7, None);
    let why = "h2 does not take it: <script>alert(1)</script>".to_owned();
    rolls(Stage::Halted { wave: 1, at: Time::now(), why });
    tour.browser.await_text("Stopped in wave 2 of 2").unwrap();
    tour.browser.await_text("it was withdrawn, and stays: <img src=x>").unwrap();
    let foreign = "document.querySelectorAll('main script, main img, main b').length";
    assert_eq!(tour.browser.evaluate(foreign).unwrap(), 0);
    tour.visit("roll-out-stopped", &pages);
    let view = vera.json("/api/v1/roll-out").unwrap();
    assert_eq!((&view["stage"], &view["waiting"]), (&"halted".into(), &json!(["h2"])), "{view}");
    // Without a script it says the same.
    assert!(vera.get("/hosts").unwrap().text.contains("Does not give it back"));

    // One that is done is no news.
    rolls(Stage::Done { at: Time::now() });
    await_that("it to be done", || {
        vera.get("/hosts").unwrap().text.contains("Every host is to go by it").then_some(())
    });
    assert!(!vera.get("/").unwrap().text.contains("Roll-out"));
    assert!(tour.faults.is_empty(), "{}", tour.faults.join("\n"));
}
