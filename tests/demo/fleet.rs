//! What the host of the stage becomes a part of: a fleet with another host, whose VMs are taps of ours, and with a desk, where
//! the NATS server and the monitor are.

use std::collections::BTreeMap;
use std::thread::{self, ScopedJoinHandle};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Stage;
use super::stage::BOOT;
use crate::browser::Browser;
use crate::daemon::{Daemon, Settings};
use crate::frames::Station;
use crate::host::Host;
use crate::monitor::{Monitor, PASSWORD};
use crate::nats::Nats;
use crate::order::in_order;
use crate::scene::{Scene, beat, same, vm};
use crate::tap::Tap;
use crate::wait;

/// What the hosts are called: the one of the stage, and the other.
pub(super) const HOSTS: [&str; 2] = ["host-1", "host-2"];
/// Who acts by the page.
const OPERATOR: &str = "otto";
/// Who signs what all hosts go by.
pub(super) const SIGNER: &str = "office";
const PORT: u16 = 8470;
/// Frames that nobody is to hear.
pub(super) const COUNT: u64 = 20;

/// A VM of the second host: what it is called there, its port, and who its guest is.
pub(super) struct Vm {
    pub(super) name: &'static str,
    pub(super) port: &'static str,
    pub(super) station: Station,
}

/// Approved: the neighbour that must never notice anything.
pub(super) const NEIGHBOUR: Vm = Vm { name: "db1", port: "tap-db1", station: Station::number(21) };
/// Approved, but sends under a second MAC after a while.
pub(super) const NESTED: Vm = Vm { name: "db2", port: "tap-db2", station: Station::number(22) };
/// Of no template.
pub(super) const ROGUE: Vm = Vm { name: "pet1", port: "tap-pet1", station: Station::number(23) };

/// Where the rest of the fleet is.
pub(super) struct Places {
    pub(super) desk: Host,
    pub(super) second: Scene,
}

/// What there is once it is founded, and both hosts are of it.
pub(super) struct Fleet<'a> {
    /// Of somebody who has logged in as an operator.
    pub(super) browser: Browser,
    pub(super) monitor: Monitor<'a>,
    /// Of the second host.
    pub(super) daemon: Daemon<'a>,
    pub(super) neighbour: Tap,
    pub(super) nested: Tap,
    /// Once it is there.
    pub(super) rogue: Option<Tap>,
    pub(super) nats: Nats<'a>,
}

/// A host as the page shows it.
#[derive(serde::Deserialize)]
pub(super) struct Row {
    pub(super) name: String,
    /// How many are in which state.
    pub(super) vms: String,
    /// The bundle that it goes by.
    pub(super) bundle: String,
}

/// What the table of hosts says, as [`Row`]s.
const TABLE: &str = "Array.from(document.querySelectorAll('tbody tr'), (row) => ({
    name: row.cells[0].innerText,
    vms: Array.from(row.cells[3].querySelectorAll('.few'), (one) => one.innerText).join(', '),
    bundle: row.cells[5].innerText,
}))";

impl Places {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { desk: Host::new()?, second: Scene::new()? })
    }
}

impl<'a> Fleet<'a> {
    /// Founds it, and has both hosts join; the first one has a daemon already.
    pub(super) fn found(
        places: &'a Places,
        stage: &Stage<'_>,
        first: &mut Daemon<'_>,
    ) -> Result<Self> {
        let Places { desk, second } = places;
        let nats = Nats::found(desk)?;
        let key = nats.key(SIGNER)?;
        let join = |name: &str, host: &Host| {
            nats.reach_from(host)?;
            nats.section(name, &format!("role = \"operate\"\ntrusted_keys = [{key:?}]\n"))
        };
        let own = join(HOSTS[0], stage.host)?;
        let other = join(HOSTS[1], second.host())?;
        first.write_configuration(&[first.configuration()?, own].concat())?;
        // Each takes its time to start.
        let (own, other, page) = thread::scope(|scope| {
            let other = scope.spawn(|| start_second(second, &other));
            let page = scope.spawn(|| start_page(desk, &nats));
            let own = first.terminate().and_then(|()| first.run());
            (own, result_of(other), result_of(page))
        });
        own?;
        let (daemon, neighbour, nested) = other?;
        let (monitor, browser) = page?;
        Ok(Self { browser, monitor, daemon, neighbour, nested, rogue: None, nats })
    }

    /// Starts the rogue VM: somebody's tap, and an entry that names no template.
    pub(super) fn start_rogue(&mut self, places: &Places) -> Result<()> {
        let rogue = ROGUE.entry().replace("template = \"lab\"\n", "");
        self.daemon.write_inventory(&[NEIGHBOUR.entry(), NESTED.entry(), rogue].concat())?;
        self.rogue = Some(places.second.plug(ROGUE.port)?);
        Ok(())
    }

    /// Opens a page.
    pub(super) fn open(&mut self, path: &str) -> Result<()> {
        self.browser.open(&format!("{}{path}", self.monitor.url()))
    }

    /// Opens the page of hosts, and waits until it says this of them.
    pub(super) fn await_hosts(
        &mut self,
        what: &str,
        is: impl Fn(&[Row]) -> bool,
    ) -> Result<Vec<Row>> {
        self.open("/hosts")?;
        let mut last = Value::Null;
        let shown = wait::until(&format!("the page to say {what}"), BOOT, || {
            last = self.browser.evaluate(TABLE)?;
            let rows: Vec<Row> = serde_json::from_value(last.clone())?;
            Ok(is(&rows).then_some(rows))
        });
        shown.with_context(|| format!("the page says {last}"))
    }

    /// Opens the form of an action that is on the page, fills it in and sends it; waits for what the page says then.
    pub(super) fn act(&mut self, action: &str, reason: &str, said: &str) -> Result<()> {
        let form = format!("details[id^='{action}-']");
        let is_open = format!("document.querySelector(\"{form}[open]\") !== null");
        wait::until(&format!("the form to {action}"), BOOT, || {
            self.browser.click(&format!("{form} summary"))?;
            Ok((self.browser.evaluate(&is_open)? == true).then_some(()))
        })?;
        self.browser.fill(&format!("{form} input[name=reason]"), reason)?;
        self.browser.click(&format!("{form} button"))?;
        self.browser.await_text(said)
    }

    /// Sends [`COUNT`] frames from a VM that nobody is to hear, and then one from its neighbour. How much of it has arrived outside
    /// by the time at which the neighbour's is there.
    pub(super) fn leaks(&self, places: &Places, from: Station, tap: &Tap) -> Result<usize> {
        let seen = places.second.outside()?.len();
        let last = beat(NEIGHBOUR.station, seen as u64);
        in_order(|| {
            (0..COUNT).try_for_each(|seq| tap.send(&beat(from, seq)))?;
            self.neighbour.send(&last)
        })?;
        let arrived = places.second.outside_until("the neighbour's", seen, &last)?;
        Ok(arrived.iter().filter(|frame| frame.source() == Some(from.mac)).count())
    }

    /// Says how a person gets there.
    pub(super) fn invite(&self, places: &Places) -> Result<()> {
        println!("The page is {}, for {OPERATOR} with {PASSWORD:?}:", self.monitor.url());
        println!("  {}", self.monitor.how_to_look());
        println!("The second host, and the desk:");
        println!("  {}", places.second.host().how_to_enter());
        println!("  alias detector='{}'", self.daemon.command_line());
        println!("  {}", places.desk.how_to_enter());
        println!("  alias detector-monitor='{}'", self.monitor.command_line()?);
        println!("  detector-monitor hosts; detector-monitor vms; detector-monitor findings");
        Ok(())
    }
}

/// The daemon of the second host, and the taps of its approved VMs.
fn start_second<'a>(second: &'a Scene, joins: &str) -> Result<(Daemon<'a>, Tap, Tap)> {
    let settings = Settings {
        inventory: [NEIGHBOUR.entry(), NESTED.entry()].concat(),
        more: format!("unknown_port_grace = \"200ms\"\n{joins}"),
        ..Settings::default()
    };
    let daemon = Daemon::start(second.host(), &settings)?;
    let neighbour = second.plug_granted(&daemon, NEIGHBOUR.port)?;
    let nested = second.plug_granted(&daemon, NESTED.port)?;
    Ok((daemon, neighbour, nested))
}

/// The monitor, and the browser of somebody who has logged in.
fn start_page<'a>(desk: &'a Host, nats: &Nats<'_>) -> Result<(Monitor<'a>, Browser)> {
    let monitor = Monitor::of_fleet(desk, nats, "desk", PORT)?;
    let mut browser = Browser::start(desk)?;
    browser.log_in(&monitor, OPERATOR)?;
    Ok((monitor, browser))
}

fn result_of<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Vm {
    fn entry(&self) -> String {
        vm(self.name, self.port, self.station)
    }

    /// Its page.
    pub(super) fn path(&self, daemon: &Daemon<'_>) -> Result<String> {
        let listed = vms(daemon)?;
        let own = listed.iter().find(|one| one["name"] == self.name);
        let uuid = own.and_then(|one| one["uuid"].as_str());
        let uuid = uuid.with_context(|| format!("no {} is known", self.name))?;
        Ok(format!("/hosts/{}/vms/{uuid}", HOSTS[1]))
    }

    /// Waits until its frames are heard outside of its host.
    pub(super) fn await_heard(&self, places: &Places, tap: &Tap, seq: u64) -> Result<()> {
        let frame = beat(self.station, seq);
        tap.send(&frame)?;
        places.second.await_outside(&format!("a frame of {}", self.name), &frame)
    }
}

/// How many of a host's VMs are in which state, as the page says it.
pub(super) fn states(daemon: &Daemon<'_>) -> Result<String> {
    let mut states: BTreeMap<String, usize> = BTreeMap::new();
    for one in vms(daemon)? {
        *states.entry(one["status"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    let said: Vec<_> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    Ok(said.join(", "))
}

fn vms(daemon: &Daemon<'_>) -> Result<Vec<Value>> {
    let listed = daemon.ask(&["vm", "list"])?.json;
    listed["vms"].as_array().cloned().context("no list of VMs")
}

/// Whether the tap has been handed a frame of this station.
pub(super) fn has_heard(tap: &Tap, station: Station, seq: u64) -> Result<bool> {
    let frame = beat(station, seq);
    Ok(tap.drain()?.iter().any(|one| same(one, &frame)))
}
