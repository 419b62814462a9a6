//! What a guest sends at full speed is its own trouble only.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use detector_tests::daemon::{Daemon, Settings};
use detector_tests::family::Family;

use super::*;

/// Pairs of quiet ports, of which one speaks beside the flood and one without it.
const PAIRS: u8 = 7;
/// How much later than without it another port's first finding may be told beside a flood.
const LATER: Duration = Duration::from_millis(100);

/// A flood is a thousand frames a second here: the machine may be busy. Nobody looks for processes, of which there would
/// be findings as well.
fn daemon<'a>(scene: &'a Scene, vms: &[String]) -> Daemon<'a> {
    let more = "[flood]\nabove = 1000\nbelow = 500\n[scan]\ninterval = \"0s\"\n".to_owned();
    let settings = Settings { inventory: vms.concat(), more, ..Settings::default() };
    Daemon::start(scene.host(), &settings).unwrap()
}

/// A claim that has not been made before: another MAC, address and VLAN with every number, over IPv4 and
/// IPv6.
fn random(number: u32) -> Vec<u8> {
    // Any odd factor visits every number once.
    let [x, y, z, w] = number.wrapping_mul(0x9e37_79b1).to_be_bytes();
    let station = Station { mac: [2, 1, x, y, z, w], ip: Ipv4Addr::new(10, w, y, x) };
    let frame = Family::BOTH[(number / 3 % 2) as usize].beat(station, 0);
    match number % 3 {
        0 => frame,
        _ => frames::tagged(&frame, 1 + (number % 4094) as u16),
    }
}

/// A flood that can be turned on and off, for as long as something happens.
struct Flood {
    on: AtomicBool,
    over: AtomicBool,
    sent: AtomicU32,
}

impl Flood {
    fn beside<T>(tap: &Tap, during: impl FnOnce(&Self) -> T) -> T {
        let flood = Self { on: false.into(), over: false.into(), sent: 0.into() };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !flood.over.load(Ordering::Relaxed) {
                    if flood.on.load(Ordering::Relaxed) {
                        tap.send(&random(flood.sent.fetch_add(1, Ordering::Relaxed))).unwrap();
                    } else {
                        wait::pause(Duration::from_millis(1));
                    }
                }
            });
            let over = OnDrop(&flood.over);
            let result = during(&flood);
            drop(over);
            result
        })
    }

    /// Turns it on or off; on means that it runs.
    fn turn(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
        if on {
            self.await_more();
        }
    }

    fn await_more(&self) {
        let goal = self.sent.load(Ordering::Relaxed).wrapping_add(200);
        let reached = || self.sent.load(Ordering::Relaxed) >= goal;
        wait::until("the flood to run", PATIENCE, || Ok(reached().then_some(()))).unwrap();
    }
}

/// The flood ends also when what happens beside it panics.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How often it has been told that a finding of this kind has opened.
fn opened(daemon: &Daemon<'_>, kind: &str) -> usize {
    let told = daemon.findings().unwrap();
    told.iter().filter(|line| line["event"] == "opened" && line["finding"]["kind"] == kind).count()
}

/// The kinds of the findings that are open about a port.
fn open(daemon: &Daemon<'_>, port: &str) -> Vec<String> {
    let open = daemon.ask(&["finding", "list"]).unwrap().json;
    let all = open["findings"].as_array().unwrap().iter();
    let of_port = all.filter(|finding| finding["title"].to_string().contains(port));
    of_port.map(|finding| finding["kind"].as_str().unwrap().to_owned()).collect()
}

/// One port sends under a new MAC, address and VLAN with every frame, as fast as it can; another is
/// watched all the same.
#[test]
fn a_flood_on_one_port_holds_up_nothing_on_another() {
    let scene = Scene::new().unwrap();
    let vms = [vm("flood", "tap-a", A), vm("quiet", "tap-b", OTHER)];
    let daemon = daemon(&scene, &vms);
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    let busy = daemon.busy().unwrap();
    let (sent, took) = Flood::beside(&a, |flood| {
        let start = Instant::now();
        flood.turn(true);
        wait::pause(Duration::from_secs(2));
        b.send(&beat(Station { ip: FOREIGN_IP, ..OTHER }, 1)).unwrap();
        daemon.await_finding("foreign-identity", "tap-b", PATIENCE).unwrap();
        b.send(&beat(OTHER, 2)).unwrap();
        scene.await_outside("the quiet one's", &beat(OTHER, 2)).unwrap();
        let flooding = daemon.await_finding("flood", "tap-a", PATIENCE).unwrap();
        assert!(flooding["title"].to_string().contains("frames a second"), "{flooding}");
        let told = daemon.findings().unwrap().len();
        for _ in 0..4 {
            assert_eq!(open(&daemon, "tap-a"), ["flood"], "one finding for all that it claims");
            wait::pause(Duration::from_millis(500));
        }
        assert_eq!(daemon.findings().unwrap().len(), told, "nothing more is told while it lasts");
        (flood.sent.load(Ordering::Relaxed), start.elapsed())
    });
    let busy = daemon.busy().unwrap() - busy;
    println!("{sent} frames in {took:?}; daemon busy {busy:?}");
    assert!(sent > 10_000, "{sent} frames are no flood");
    assert!(busy < wait::scaled(took / 4), "the daemon was busy for {busy:?} of {took:?}");
    assert_eq!(opened(&daemon, "flood"), 1);
    // What was told of the port before it was known to flood has become part of the flood.
    assert_eq!(opened(&daemon, "foreign-identity"), 2, "one for each port");
    assert_eq!(daemon.findings().unwrap().len(), 4, "and one of them has closed");
    assert_eq!(scene.place_of(A.mac).unwrap().as_deref(), Some("tap-a"));
}

/// A million claims, or as many as there are time for: each is counted once, as dropped; what was not
/// told of them is counted as well, and their number is bounded by the port's budget.
#[test]
fn each_of_a_great_many_claims_is_dropped_and_counted() {
    const MOST: u32 = 1_000_000;
    const LEAST: u32 = 100_000;
    const TIME: Duration = Duration::from_secs(10);
    let scene = Scene::new().unwrap();
    let vms = [vm("flood", "tap-a", A), vm("quiet", "tap-b", OTHER)];
    let daemon = daemon(&scene, &vms);
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    let quiet = || daemon.ask(&["port", "show", "tap-b"]).unwrap().json["counters"].clone();
    let before = quiet();
    let start = Instant::now();
    let mut sent = 0;
    while sent < MOST && start.elapsed() < wait::scaled(TIME) {
        a.send(&random(sent)).unwrap();
        sent += 1;
    }
    let took = start.elapsed();
    assert!(sent >= LEAST, "{sent} frames in {took:?} are not many");
    let counters = daemon.ask(&["port", "show", "tap-a"]).unwrap().json["counters"].clone();
    let refused =
        counters["from"].as_object().unwrap().values().map(|count| count.as_u64().unwrap());
    assert_eq!(refused.sum::<u64>(), u64::from(sent), "each is counted once: {counters}");
    let number = |key: &str| counters[key].as_u64().unwrap();
    let untold = number("events_lost") + number("events_held");
    println!("{sent} frames in {took:?}; {counters}");
    assert!(number("events_held") > 0, "the port's budget holds back: {counters}");
    let told = u64::from(sent) - untold;
    assert!(told < u64::from(sent) / 10, "{told} of {sent} were told one by one");
    assert_eq!(quiet(), before, "nothing of it is another port's");
    assert_eq!(scene.outside().unwrap().len(), 0, "and nothing got out");
    b.send(&beat(OTHER, 1)).unwrap();
    scene.await_outside("the quiet one", &beat(OTHER, 1)).unwrap();
}

/// The first finding about a port comes as soon beside a flood as without one, and what the kernel
/// keeps of others stays. The machine may be busy with other things, which the median over pairs that
/// follow each other closely leaves out.
#[test]
fn a_flood_delays_no_neighbours_finding_and_evicts_nothing() {
    let scene = Scene::new().unwrap();
    let station = |number: u8| Station::number(100 + number);
    let port = |number: u8| format!("tap-q{number}");
    let quiet = (0..2 * PAIRS).map(|n| vm(&format!("quiet{n}"), &port(n), station(n)));
    let mut vms: Vec<_> = quiet.collect();
    vms.extend([vm("flood", "tap-a", A), vm("witness", "tap-b", OTHER)]);
    let daemon = daemon(&scene, &vms);
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let witness = scene.plug_granted(&daemon, "tap-b").unwrap();
    let taps: Vec<_> =
        (0..2 * PAIRS).map(|n| scene.plug_granted(&daemon, &port(n)).unwrap()).collect();

    // More claims than a port has places for, so that any place that is taken shows.
    for number in 0..64 {
        let address = Ipv4Addr::new(203, 0, 113, number);
        let family = Family::BOTH[usize::from(number % 2)];
        witness.send(&family.beat(Station { ip: address, ..OTHER }, 0)).unwrap();
    }
    let remembered = || {
        let shown = daemon.ask(&["port", "show", "tap-b"]).unwrap().json;
        let mut claims: Vec<_> = shown["sightings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|seen| (seen["address"].to_string(), seen["count"].as_u64()))
            .collect();
        claims.sort();
        (claims, shown["identities"].clone(), shown["counters"]["events_lost"].clone())
    };
    let before = remembered();
    assert!(before.0.len() >= 8, "{before:?}");

    let mut delays = [Vec::new(), Vec::new()];
    Flood::beside(&a, |flood| {
        for (number, tap) in (0..).zip(&taps) {
            let flooded = number % 2 == 1;
            flood.turn(flooded);
            let sent = flood.sent.load(Ordering::Relaxed);
            // Pairs alternate, so that both of one are of one family.
            let family = Family::BOTH[usize::from(number / 2 % 2)];
            tap.send(&family.beat(Station { ip: FOREIGN_IP, ..station(number) }, 1)).unwrap();
            let spoofed = Instant::now();
            daemon.await_finding("foreign-identity", &port(number), PATIENCE).unwrap();
            delays[usize::from(flooded)].push(spoofed.elapsed());
            if flooded {
                flood.await_more();
                assert!(flood.sent.load(Ordering::Relaxed) > sent, "the flood goes on");
            }
        }
        flood.turn(true);
        daemon.await_finding("flood", "tap-a", PATIENCE).unwrap();
    });
    let [without, beside] = &delays;
    let mut later: Vec<_> =
        without.iter().zip(beside).map(|(one, other)| other.saturating_sub(*one)).collect();
    later.sort();
    let later = later[later.len() / 2];
    let [without, beside] = delays.map(|mut delays| {
        delays.sort();
        (delays[delays.len() / 2], delays[delays.len() - 1])
    });
    println!("first finding, median and worst: {without:?} without a flood, {beside:?} beside one");
    assert!(later <= wait::scaled(LATER), "{later:?} later beside a flood");
    assert_eq!(remembered(), before, "what another port did and is granted");
    witness.send(&beat(OTHER, 9)).unwrap();
    scene.await_outside("the witness", &beat(OTHER, 9)).unwrap();
    assert_eq!(scene.place_of(OTHER.mac).unwrap().as_deref(), Some("tap-b"));
    assert_eq!(opened(&daemon, "flood"), 1);
    assert_eq!(
        opened(&daemon, "foreign-identity"),
        usize::from(2 * PAIRS) + 2,
        "one for each port"
    );
}
