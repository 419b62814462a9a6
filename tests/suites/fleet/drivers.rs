//! Who drives a roll-out: several at once, killed at any moment, without NATS for a while, stopped meanwhile.

use std::process::Child;

use async_nats::jetstream::{self, stream};
use detector::fleet::connection;
use detector::fleet::desk::Desk;
use detector::fleet::pack;
use detector_core::fleet::message::{Time, Version, seal};
use detector_core::fleet::roll_out::{Plan, RollOut, Stage};
use detector_core::fleet::subject::{self, Holder};
use detector_tests::host::Host;
use detector_tests::nats::{Member, Nats, name};
use detector_tests::scene::PATIENCE;
use detector_tests::wait;
use serde_json::{Value, json};

use super::bundles::LENIENT;
use super::roll_out::{drive, says};

/// A fleet of two hosts, and a desk that does one step and dies.
struct Scene<'a> {
    host: &'a Host,
    nats: Nats<'a>,
    members: [(&'static str, Member); 2],
    steward: Member,
    monitor: Member,
}

impl<'a> Scene<'a> {
    fn new(host: &'a Host) -> Self {
        let nats = Nats::found(host).unwrap();
        nats.key("trusted").unwrap();
        let members = ["h1", "h2"].map(|host| {
            let holder = Holder::Host(name(host).unwrap());
            (host, nats.connect(&holder, &nats.enrol(&holder).unwrap()).unwrap())
        });
        let (steward, monitor) = (nats.steward().unwrap(), nats.monitor().unwrap());
        Self { host, nats, members, steward, monitor }
    }

    fn sealed(&self, number: u32) -> (String, Version) {
        let path = self.nats.bundle((number, LENIENT, "trusted")).unwrap();
        let version = pack::open(&std::fs::read(&path).unwrap(), None).unwrap().version;
        (path.display().to_string(), version)
    }

    fn roll_out(&self, words: &[&str]) -> anyhow::Result<String> {
        self.nats.office(&[&["policy", "roll-out"], words].concat())
    }

    fn drive(&self, words: &[&str]) -> Child {
        drive(&self.nats, self.host, words)
    }

    fn stage(&self) -> Value {
        let status = self.roll_out(&["status", "--output", "json"]).unwrap();
        serde_json::from_str::<Value>(&status).unwrap()["roll_out"]["stage"].take()
    }

    fn say(&self, which: usize, version: Version) {
        let (host, member) = &self.members[which];
        says(member, host, Some(version));
    }

    /// The version that is announced, those that are withdrawn, and what the others are to have.
    fn announced(&self) -> (u64, Vec<u64>, Option<u64>) {
        let mut said = self.monitor.value(subject::POLICY, subject::ANNOUNCED).unwrap();
        let said = said["body"].take();
        let number = |version: &Value| version["number"].as_u64();
        let withdrawn = said["withdrawn"].as_array().into_iter().flatten().filter_map(number);
        (number(&said["version"]).unwrap(), withdrawn.collect(), number(&said["others"]))
    }

    /// Begins a roll-out, and dies before any host is told.
    fn begin(&self, number: u32) -> (RollOut, Version) {
        let (path, version) = self.sealed(number);
        let fleet = name("lab").unwrap();
        let plan = Plan {
            canaries: vec![name("h1").unwrap()],
            waves: vec![1000],
            soak: 1,
            patience: 60,
            most: 0,
            late: 0,
        };
        let begun = self.steward.run(async {
            let desk = Desk::open(self.steward.client.clone(), &fleet).await.unwrap();
            let mut planned =
                desk.plan((version, plan), "alice".to_owned()).await.unwrap().unwrap();
            // It was long ago.
            let since = Time::now() - jiff::SignedDuration::from_hours(5);
            planned.roll_out.stage = Stage::Spreading { wave: 0, since };
            desk.begin(&std::fs::read(&path).unwrap(), &planned).await.unwrap();
            planned.roll_out
        });
        (begun, version)
    }

    /// Stops it, and dies before any host is told.
    fn halt(&self) {
        let fleet = name("lab").unwrap();
        self.steward.run(async {
            let desk = Desk::open(self.steward.client.clone(), &fleet).await.unwrap();
            desk.halt("enough").await.unwrap();
        });
    }
}

/// Whether it has ended well.
fn ended(child: &mut Child) -> bool {
    wait::until("it to end", PATIENCE, || Ok(child.try_wait()?)).unwrap().success()
}

fn await_that(what: &str, mut is: impl FnMut() -> bool) {
    wait::until(what, PATIENCE, || Ok(is().then_some(()))).unwrap();
}

#[test]
fn whoever_drives_may_die_and_what_was_decided_last_holds() {
    let host = Host::new().unwrap();
    let mut scene = Scene::new(&host);
    let (first, version) = scene.sealed(1);
    scene.nats.office(&["policy", "offer", &first]).unwrap();
    scene.say(0, version);
    scene.say(1, version);

    // Killed before any host was told, hours ago: hosts have their time from now on. Two go on at once.
    let (_, version) = scene.begin(2);
    assert_eq!(scene.announced(), (1, vec![], None));
    let mut drivers = [(); 2].map(|()| scene.drive(&["continue"]));
    await_that("the first wave", || scene.announced() == (2, vec![], Some(1)));
    scene.say(0, version);
    // While they drive it somebody else can look.
    await_that("the second wave", || scene.stage()["wave"] == 1);
    scene.nats.kill().unwrap();
    scene.nats.start().unwrap();
    scene.say(1, version);
    assert_eq!(drivers.each_mut().map(ended), [true, true]);
    assert_eq!(scene.stage()["stage"], "done");
    assert_eq!(scene.announced(), (2, vec![], None));

    // What is offered afterwards is no matter of the roll-out's.
    let (third, version) = scene.sealed(3);
    scene.nats.office(&["policy", "offer", &third]).unwrap();
    scene.roll_out(&["continue"]).unwrap();
    let halt = || scene.roll_out(&["halt", "--reason", "a test"]);
    let complaint = halt().unwrap_err().to_string();
    assert!(complaint.contains("version 3 was offered since"), "{complaint}");
    assert_eq!(scene.announced(), (3, vec![], None));
    scene.say(0, version);
    scene.say(1, version);

    // One that is done is taken back.
    let (_, version) = scene.begin(4);
    let mut driver = scene.drive(&["continue"]);
    scene.say(0, version);
    scene.say(1, version);
    assert!(ended(&mut driver));
    halt().unwrap();
    assert_eq!(scene.announced(), (3, vec![4], None));

    // One that was stopped is withdrawn, also where whoever stopped it was killed before any host was told.
    scene.begin(5);
    scene.halt();
    assert_eq!(scene.announced(), (3, vec![4], None));
    let (next, _) = scene.begin(6);
    let numbers: Vec<_> = next.withdrawn.iter().map(|version| version.number).collect();
    assert_eq!((numbers, next.before.map(|before| before.number)), (vec![4, 5], Some(3)));
    // Stopped while somebody drives it.
    let mut driver = scene.drive(&["continue"]);
    await_that("the first wave", || scene.announced() == (6, vec![4, 5], Some(3)));
    halt().unwrap();
    assert!(!ended(&mut driver), "it was stopped");
    assert_eq!(scene.announced(), (3, vec![4, 5, 6], None));
    assert_eq!(scene.stage()["stage"], json!("halted"));
    // Once more is as good as once.
    halt().unwrap();
}

#[test]
fn who_decides_asks_the_leader_and_no_replica() {
    let host = Host::new().unwrap();
    let scene = Scene::new(&host);
    let (first, version) = scene.sealed(1);
    scene.nats.office(&["policy", "offer", &first]).unwrap();
    scene.say(0, version);
    let (_, version) = scene.begin(2);
    let (client, fleet) = (scene.steward.client.clone(), name("lab").unwrap());
    scene.steward.run(async {
        let desk = Desk::open(client.clone(), &fleet).await.unwrap();
        // From now on replicas do not answer by themselves; whoever leads does.
        let context = jetstream::new(client.clone());
        let policy = context.get_stream(subject::stream_of(subject::POLICY)).await.unwrap();
        let before = policy.cached_info().config.clone();
        let config = stream::Config { allow_direct: false, ..before };
        context.update_stream(config).await.unwrap();
        let asked = client.request(subject::ask(subject::ROLL_OUT), "".into()).await;
        assert!(asked.is_err(), "{asked:?}");
        assert_eq!(desk.roll_out().await.unwrap().unwrap().version, version);
        let in_the_way = connection::announced(&client, &fleet).await.unwrap().err().unwrap();
        assert!(in_the_way.contains("version 2 is under way"), "{in_the_way}");
    });
}

#[test]
fn what_was_stopped_is_withdrawn_whoever_was_late_or_offers_something_else() {
    let host = Host::new().unwrap();
    let scene = Scene::new(&host);
    let (first, version) = scene.sealed(1);
    scene.nats.office(&["policy", "offer", &first]).unwrap();
    scene.say(0, version);
    scene.say(1, version);

    // Somebody who drives it announces the first wave after it was stopped, and is killed.
    let (begun, _) = scene.begin(2);
    scene.halt();
    let said = seal(&name("lab").unwrap(), &name("lab").unwrap(), &begun.announcement()).unwrap();
    let place = subject::key(subject::POLICY, subject::ANNOUNCED);
    assert!(scene.steward.keeps_this(&place, &String::from_utf8(said).unwrap()));
    assert_eq!(scene.announced(), (2, vec![], Some(1)));
    assert!(scene.roll_out(&["continue"]).is_err(), "it was stopped");
    assert_eq!(scene.announced(), (1, vec![2], None));

    // The first host has it, whoever has stopped it is killed before they announce that, and another bundle comes to the
    // other host.
    let (_, version) = scene.begin(3);
    let mut driver = scene.drive(&["continue"]);
    await_that("the first wave", || scene.announced() == (3, vec![2], Some(1)));
    driver.kill().unwrap();
    driver.wait().unwrap();
    scene.say(0, version);
    scene.halt();
    let (fourth, _) = scene.sealed(4);
    scene.nats.office(&["policy", "offer", &fourth, "--host", "h2"]).unwrap();
    assert_eq!(scene.announced(), (4, vec![2, 3], Some(1)));
}
