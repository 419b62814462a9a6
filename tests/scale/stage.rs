//! A fleet of one size, and what is measured of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use detector::fleet::Authority;
use detector::registry::Trust;
use detector_core::decide::policy::DEFAULT;
use detector_core::fleet::message::Time;
use detector_core::fleet::subject::Holder;
use detector_tests::host::Host;
use detector_tests::monitor::{Monitor, Visitor};
use detector_tests::nats::{FLEET, Nats};
use detector_tests::wait;

use crate::crowd::Crowd;
use crate::figures::{Figures, Times};
use crate::speaker::{Order, Terms, name, title};
use crate::usage::{Usage, memory};

const PORT: u16 = 8470;
/// How long anything may take that all hosts take part in.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two findings.
const PACE: Duration = Duration::from_millis(100);

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) hosts: u32,
    pub(crate) vms: u32,
    pub(crate) findings: u32,
    pub(crate) watch: Duration,
}

impl Size {
    fn all_vms(self) -> u64 {
        u64::from(self.hosts) * u64::from(self.vms)
    }
}

pub(crate) fn measure(size: Size) -> Result<Figures> {
    let say = |what: &str| eprintln!("{} hosts: {what}", size.hosts);
    let host = Host::new()?;
    let nats = Nats::found(&host)?;
    let trusted = nats.key("trusted")?;
    let bundle = nats.bundle((1, DEFAULT, "trusted"))?;
    let mut monitor = Monitor::of_fleet(&host, &nats, "desk", PORT)?;
    say("they are enrolled");
    let credentials = enrol(&nats, size.hosts)?;

    say("they connect and say what they have");
    let (server, began) = (nats.pid()?, Instant::now());
    let terms = Terms {
        fleet: FLEET.parse()?,
        urls: nats.urls(),
        authority: nats.directory().join("ca.pem"),
        trust: Trust::new(&[trusted], true).map_err(anyhow::Error::msg)?,
        vms: size.vms,
    };
    let crowd = Crowd::join(host.network(), terms, credentials)?;
    let joined = began.elapsed();
    await_all(&monitor, size)?;
    let seen = began.elapsed();

    say("nobody looks");
    let (of_server, of_monitor) = (Usage::of(server)?, Usage::of(monitor.pid()?)?);
    wait::pause(size.watch);
    let (server_share, unseen_share) = (of_server.share()?, of_monitor.share()?);

    say("somebody looks at the overview");
    let of_monitor = Usage::of(monitor.pid()?)?;
    look(&monitor, size.watch)?;
    let seen_share = of_monitor.share()?;
    let used = memory(monitor.pid()?)?;

    say("findings are told while somebody looks");
    let findings = findings(&monitor, &crowd, size)?;

    say("a bundle is offered");
    let offered = Instant::now();
    nats.office(&["policy", "offer", &bundle.display().to_string()])?;
    let bundles = crowd.await_bundle(offered, PATIENCE)?;
    let mut visitor = monitor.log_in("vera")?;
    until("the page to show the bundle on each host", || {
        let rows = visitor.json("/api/v1/hosts")?;
        let rows = rows.as_array().context("no hosts")?.iter();
        Ok(rows.filter(|row| row["bundle"] == 1).count() == size.hosts as usize)
    })?;
    let shown = offered.elapsed();

    say("the monitor is started again");
    monitor.kill()?;
    let restarted = Instant::now();
    monitor.run()?;
    let of_monitor = Usage::of(monitor.pid()?)?;
    await_all(&monitor, size)?;
    let back = restarted.elapsed();
    crowd.check()?;

    let seconds = |time: Duration| time.as_secs_f64();
    Ok(Figures {
        hosts: size.hosts,
        vms: size.all_vms(),
        joined: seconds(joined),
        seen: seconds(seen),
        monitor_memory: used,
        monitor_unseen: unseen_share,
        monitor_seen: seen_share,
        server_memory: memory(server)?,
        server: server_share,
        findings: Times::of(findings),
        bundles: Times::of(bundles),
        bundle_shown: seconds(shown),
        restart: seconds(back),
        restart_processor: of_monitor.seconds()?,
    })
}

/// Credentials for each host.
fn enrol(nats: &Nats<'_>, hosts: u32) -> Result<Vec<String>> {
    let mut authority = Authority::open(&nats.directory())?;
    let mut enrol = |number| {
        let path = authority.enrol(&Holder::Host(name(number)?), Time::now())?;
        Ok(std::fs::read_to_string(path)?)
    };
    (0..hosts).map(&mut enrol).collect()
}

fn until(what: &str, mut is: impl FnMut() -> Result<bool>) -> Result<()> {
    let mut tried = Instant::now();
    wait::until(what, PATIENCE, || {
        // Whoever asks all the time measures the answers.
        if tried.elapsed() < PACE {
            return Ok(None);
        }
        tried = Instant::now();
        Ok(is()?.then_some(()))
    })
}

/// Waits until the monitor shows every host and VM.
fn await_all(monitor: &Monitor<'_>, size: Size) -> Result<()> {
    let mut visitor = monitor.log_in("vera")?;
    until("the monitor to know all", || {
        let overview = visitor.json("/api/v1/overview")?;
        let vms = overview["vms"].as_object().context("no VMs")?.values();
        let vms: u64 = vms.filter_map(serde_json::Value::as_u64).sum();
        Ok(overview["hosts"] == size.hosts && overview["silent"] == 0 && vms == size.all_vms())
    })
}

/// Looks at the overview for a while as a browser does.
fn look(monitor: &Monitor<'_>, time: Duration) -> Result<()> {
    let mut visitor = monitor.log_in("vera")?;
    let mut changes = visitor.follow(PATIENCE)?;
    let began = Instant::now();
    while began.elapsed() < time {
        changes.wait()?;
        renew(&mut visitor, "/")?;
    }
    Ok(())
}

fn renew(visitor: &mut Visitor<'_>, path: &str) -> Result<String> {
    let answer = visitor.get(path)?;
    anyhow::ensure!(answer.status == 200, "{path}: {}", answer.status);
    Ok(answer.text)
}

/// How long it takes from a host's telling of a finding until the page has it for somebody who looks.
fn findings(monitor: &Monitor<'_>, crowd: &Crowd, size: Size) -> Result<Vec<Duration>> {
    let mut visitor = monitor.log_in("vera")?;
    let mut changes = visitor.follow(PATIENCE)?;
    let host = |number: u32| (number.wrapping_mul(7919) % size.hosts) as usize;
    let told: Mutex<BTreeMap<u32, Instant>> = Mutex::default();
    let waiting = || told.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        let telling = scope.spawn(|| {
            (0..size.findings).try_for_each(|number| {
                waiting().insert(number, Instant::now());
                crowd.order(host(number), Order::Open(number))?;
                wait::pause(PACE);
                anyhow::Ok(())
            })
        });
        let mut times = Vec::new();
        while times.len() < size.findings as usize {
            crowd.check()?;
            changes.wait()?;
            let page = renew(&mut visitor, "/findings")?;
            let now = Instant::now();
            let mut waiting = waiting();
            let shown: Vec<u32> =
                waiting.keys().copied().filter(|number| page.contains(&title(*number))).collect();
            for number in shown {
                times.extend(waiting.remove(&number).map(|since| now - since));
                crowd.order(host(number), Order::Close(number))?;
            }
        }
        telling.join().map_err(|_| anyhow::anyhow!("whoever tells has panicked"))??;
        Ok(times)
    })
}
