//! How long it takes from a claim that nobody has granted to the decision on it.

use std::fs;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use detector::bpf::{Hook, PinPaths};
use detector::config::{Config, OnRefusal};
use detector::daemon::brain::Brain;
use detector::daemon::input::{AdmissionRules, Effect, Input};
use detector::daemon::sources::Expected;
use detector::enforcer::part;
use detector::enforcer::remote::{Noticed, Notices, Remote};
use detector::inventory::{SourceEvent, file};
use detector::net::{LinkEvent, links};
use detector_core::model::{Registry, Template, TemplateStatus, Timestamp};
use detector_tests::bpf::{self, SkBuff};
use detector_tests::frames::Station;
use detector_tests::link;
use detector_tests::netns::NetNs;
use detector_tests::scene::vm;
use detector_tests::tap::{Header, Tap};
use nix::net::if_::if_nametoindex;
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::io::{Interest, unix::AsyncFd};
use tokio::time::timeout;

use crate::bridge::frame_of;
use crate::report::{Report, Target};
use crate::rounds::Figure;

/// Guest ports of a host, of which all but the last belong to VMs.
const PORTS: u16 = 4;
/// The same on a large one.
const MANY_PORTS: u16 = 500;
/// Ports that claim, whatever the size of the host.
const CLAIMANTS: u16 = 4;
/// Claims of each port in a round: what its budget reports in a second.
const CLAIMS: usize = 16;
/// After so long what a port has claimed is no finding any more.
const QUIET: Duration = Duration::from_secs(700);
/// Rounds on a large host at most, where the median is looked at.
const MANY_ROUNDS: usize = 3;
/// When a port's budget is whole again.
const REFILL: Duration = Duration::from_millis(1_100);
/// Long enough for whoever waits to be asleep, and for a claim to be one by itself: the daemon looks at
/// those that follow closely together.
const REST: Duration = Duration::from_millis(13);

/// How long to wait for what must come, on either side.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn run(rounds: usize, report: &mut Report) -> Result<()> {
    let few = on_a_host(PORTS, rounds)?;
    few.tell(PORTS, report);
    let ratio = Figure::alone(few.claims.of(99) / few.wakes.of(99));
    let name = "unknown claim to decision, p99 / wake-up by eventfd, p99";
    report.aim(name, ratio, Target::AtMost(2.5), 1.4);

    let many = on_a_host(MANY_PORTS, rounds.min(MANY_ROUNDS))?;
    many.tell(MANY_PORTS, report);
    let ratio = Figure::alone(many.turns.of(50) / few.turns.of(50));
    report.add(
        format!("deciding on a claim on a host with {MANY_PORTS} ports / with {PORTS}, medians"),
        ratio,
        Target::AtMost(3.0),
    );
    Ok(())
}

/// What was measured on a host with so many ports.
fn on_a_host(ports: u16, rounds: usize) -> Result<Times> {
    let network = NetNs::new()?;
    network.run(|| Ok(fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?))?;
    link::bridge(&network, "br0")?;
    let mut taps = Vec::new();
    for number in 0..ports {
        let tap = Tap::open(&network, &format!("vm{number}"), Header::None)?;
        link::enslave(&network, tap.name(), "br0")?;
        network.ip(&format!("link set {} up", tap.name()))?;
        taps.push(tap);
    }
    let times = network.run(|| measure(ports, rounds))?;
    drop(taps);
    Ok(times)
}

/// Durations in seconds, over all rounds: a percentile of one round would be a single sample.
struct Times {
    /// From a ring of the bell until whoever waits for it is awake.
    wakes: Spread,
    /// From a claim until it is decided on.
    claims: Spread,
    /// What the daemon does of this.
    turns: Spread,
    /// From a claim until a finding is told of it: the first of its kind of a port.
    firsts: Spread,
}

impl Times {
    fn tell(&self, ports: u16, report: &mut Report) {
        let spread = |times: &Spread| {
            let [least, median, high] = [0, 50, 99].map(|p| times.of(p) * 1e6);
            format!("{median:.0} µs (least {least:.0}, p99 {high:.0})")
        };
        report.note(format!(
            "{ports} ports: a claim is decided on in {}, of which deciding takes {}, the first of a port \
             in {}; a wake-up takes {}",
            spread(&self.claims),
            spread(&self.turns),
            spread(&self.firsts),
            spread(&self.wakes),
        ));
    }
}

/// Durations, sorted.
struct Spread(Vec<f64>);

impl Spread {
    fn new(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    /// So many percent took less.
    fn of(&self, percent: usize) -> f64 {
        self.0[self.0.len() * percent / 100]
    }
}

fn measure(ports: u16, rounds: usize) -> Result<Times> {
    let root = PathBuf::from(format!("/sys/fs/bpf/bench-latency-{ports}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let (mut brain, mut events) = brain(&root, ports)?;
    let paths = PinPaths::new(&root);
    // The last is nobody's.
    let claimants: Vec<u32> = (ports - CLAIMANTS..ports)
        .map(|number| Ok(if_nametoindex(format!("vm{number}").as_str())?))
        .collect::<Result<_>>()?;
    let guard = bpf::program_of(&paths.link(claimants[0], Hook::Ingress))?;

    let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK)?;
    let heard = bell.as_fd().try_clone_to_owned()?;
    // SAFETY: an owned descriptor is the same one until it is dropped.
    let listener = unsafe { AsyncFd::register_with_interest(heard, Interest::READABLE) }
        .map_err(|error| error.into_parts().1)?;

    let (orders, taken) = sync_channel::<Order>(0);
    let (told, times) = sync_channel::<Instant>(1);
    std::thread::scope(|scope| {
        let (guard, ring) = (&guard, &bell);
        scope.spawn(move || act(guard, ring, &taken, &told));
        let (mut wakes, mut claims, mut turns) = (Vec::new(), Vec::new(), Vec::new());
        let mut claim = 0;
        for _ in 0..rounds {
            for _ in 0..CLAIMS {
                for port in &claimants {
                    orders.send(Order::Ring)?;
                    runtime.block_on(rung(&listener))?;
                    wakes.push((Instant::now() - times.recv()?).as_secs_f64());

                    claim += 1;
                    orders.send(Order::Claim(*port, claim))?;
                    let (took, _) = runtime.block_on(decided(&mut events, &mut brain, now()?))?;
                    turns.push(took.as_secs_f64());
                    claims.push((Instant::now() - times.recv()?).as_secs_f64());
                }
            }
            runtime.block_on(tokio::time::sleep(REFILL));
        }
        // Once a port has been quiet for long, its next claim is a first one again.
        let mut firsts = Vec::new();
        for round in 1..=CLAIMS {
            let at = now()? + QUIET * u32::try_from(round)?;
            brain.turn(at, vec![Input::Tick]);
            for port in &claimants {
                claim += 1;
                orders.send(Order::Claim(*port, claim))?;
                let effects = runtime.block_on(decided(&mut events, &mut brain, at))?.1;
                let took = (Instant::now() - times.recv()?).as_secs_f64();
                if effects.iter().any(|effect| matches!(effect, Effect::Tell(_))) {
                    firsts.push(took);
                }
            }
        }
        ensure!(!firsts.is_empty(), "no claim has made a finding");
        drop(orders);
        let [wakes, claims, turns, firsts] = [wakes, claims, turns, firsts].map(Spread::new);
        Ok(Times { wakes, claims, turns, firsts })
    })
}

enum Order {
    /// Ring the bell.
    Ring,
    /// Let a port claim a MAC of this number.
    Claim(u32, u32),
}

/// The other side: does what is ordered a moment later, and tells when.
fn act(guard: &OwnedFd, bell: &EventFd, orders: &Receiver<Order>, told: &SyncSender<Instant>) {
    while let Ok(order) = orders.recv() {
        #[expect(clippy::disallowed_methods, reason = "whoever waits has to be asleep by then")]
        std::thread::sleep(REST);
        let now = Instant::now();
        let done = match order {
            Order::Ring => bell.write(1).map(drop).map_err(Into::into),
            Order::Claim(port, number) => {
                let [_, a, b, c] = number.to_be_bytes();
                let from = Station { mac: [2, 0, 0, a, b, c], ..Station::number(1) };
                bpf::run(guard.as_fd(), &SkBuff::on(port), &frame_of(from), 1).map(drop)
            }
        };
        // An error ends the channel, and with it the measurement.
        if done.is_err() || told.send(now).is_err() {
            return;
        }
    }
}

async fn rung(listener: &AsyncFd<OwnedFd>) -> Result<()> {
    let mut ready =
        timeout(PATIENCE, listener.readable()).await.context("the bell is not heard")??;
    let mut count = [0; 8];
    nix::unistd::read(listener.get_ref(), &mut count)?;
    ready.clear_ready();
    Ok(())
}

/// How long the daemon took once it was awake, and what it wants done.
async fn decided(
    events: &mut Notices,
    brain: &mut Brain<Remote>,
    at: Timestamp,
) -> Result<(Duration, Vec<Effect>)> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let claims = loop {
        // Signs of what the bench itself does are of no interest.
        let next = timeout(PATIENCE, events.next(deadline));
        if let Noticed::Events(batch) = next.await.context("the kernel has reported no claim")?? {
            ensure!(batch.unreadable == 0, "an unreadable event");
            break batch.events;
        }
    };
    let awake = Instant::now();
    let effects = brain.turn(at, claims.into_iter().map(Input::Kernel).collect());
    Ok((awake.elapsed(), effects))
}

/// A brain that enforces on every port, and what it is told by the kernel. Needs a runtime.
fn brain(root: &Path, ports: u16) -> Result<(Brain<Remote>, Notices)> {
    let mut inventory = tempfile::NamedTempFile::new()?;
    for number in 0..ports - 1 {
        let name = format!("vm{number}");
        write!(inventory, "{}", vm(&name, &name, station(number)))?;
    }
    let mut file = tempfile::NamedTempFile::new()?;
    write!(file, "mode = \"enforce\"\n[policy]\nevidence = \"declared\"\n")?;
    let config = Config::load(Some(file.path()))?;
    let words = [Path::new("--config"), file.path(), Path::new("--pins"), root];
    let (enforcer, notices) = part::start(&words.map(Into::into))?;
    let events = Notices::new(notices)?;
    let source = inventory.path().display().to_string();
    let rules = AdmissionRules {
        timeout: Duration::from_secs(1),
        on_timeout: OnRefusal::Mute,
        denied: OnRefusal::Mute,
    };
    let expected = vec![Expected { name: source.clone(), live: false }];
    let mut brain = Brain::new(now()?, config.policy(), rules, expected, enforcer)?;
    let update = file::read(inventory.path());
    brain.begin(
        now()?,
        vec![
            Input::Link(LinkEvent::Resynced(links()?)),
            Input::Registry(registry()),
            Input::Source(SourceEvent { source, update }),
        ],
    );
    while brain.is_beginning() {
        brain.turn(now()?, Vec::new());
    }
    Ok((brain, events))
}

fn now() -> Result<Timestamp> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(Timestamp(u64::try_from(since.as_millis())?))
}

/// The template that the VMs name.
fn registry() -> Registry {
    let template = Template::new("lab", TemplateStatus::Approved);
    Registry { templates: vec![template], ..Registry::default() }
}

/// An identity of its own for each port.
fn station(number: u16) -> Station {
    let [a, b] = (number + 1).to_be_bytes();
    Station { mac: [2, 0, 0, 1, a, b], ip: [10, 0, a, b].into() }
}
