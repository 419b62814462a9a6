//! A host with many VMs: how long the brain is busy with what concerns all of them, so that everything
//! else waits for it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail, ensure};
use detector::config::{Config, OnRefusal};
use detector::daemon::brain::Brain;
use detector::daemon::input::{AdmissionRules, Effect, Input};
use detector::daemon::sources::Expected;
use detector::enforcer::remote::Remote;
use detector::enforcer::{Enforcer, part};
use detector::inventory::{Connection, Inventory as _, LibvirtSource, SourceEvent, Update, xml};
use detector::net::{LinkEvent, links};
use detector::registry::{Gatherer, Manifests, Pools};
use detector_common::port::flags;
use detector_core::decide::policy::{Rulebook, Rules};
use detector_core::model::{Registry, Timestamp};
use detector_tests::artefacts;
use detector_tests::link;
use detector_tests::netns::NetNs;
use detector_tests::run;
use detector_tests::tap::{Header, Tap};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::report::{Report, Target};
use crate::rounds::{Figure, processor_time};

/// VMs of a host, and of a small one to compare it with.
const MANY: u16 = 500;
const FEW: u16 = 50;
/// What takes ten times as long is no worse than the number of VMs is greater, and caches are no bigger.
/// A start is in portions, each with a decision of its own.
const PROPORTION: f64 = 15.0;
const BASE: &str = "base.raw";
const TEMPLATES: &str = "templates";
const STATE: &str = "state";
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(rounds: usize, report: &mut Report) -> Result<()> {
    let few = on_a_host(FEW, rounds)?;
    let many = on_a_host(MANY, rounds)?;
    for (what, many) in &many {
        let few = few.get(what).context("measured on both")?;
        let ratio = Figure::alone(middle(many) / middle(few));
        report.add(
            format!("{what}, a host with {MANY} VMs / with {FEW}"),
            ratio,
            if what.starts_with("start") { Target::None } else { Target::AtMost(PROPORTION) },
        );
        let longest = many.iter().map(|turn| turn.took).max().unwrap_or_default();
        let took = |turns: &[Turn]| median(turns.iter().map(|turn| turn.took)) * 1e3;
        report.note(format!(
            "{what}: with {MANY} VMs the brain works for {:.1} ms and is done after {:.1}, at most {:.1}; with {FEW} \
             {:.1} and {:.1}",
            middle(many) * 1e3,
            took(many),
            longest.as_secs_f64() * 1e3,
            middle(few) * 1e3,
            took(few),
        ));
    }
    Ok(())
}

/// What each thing took, each time.
type Times = BTreeMap<&'static str, Vec<Turn>>;

/// How long everything else waits while the brain is at one thing.
#[derive(Clone, Copy)]
struct Turn {
    /// The processor time of the brain.
    worked: Duration,
    /// With the enforcer's answers.
    took: Duration,
}

fn middle(turns: &[Turn]) -> f64 {
    median(turns.iter().map(|turn| turn.worked))
}

fn median(times: impl Iterator<Item = Duration>) -> f64 {
    Figure::of(times.map(|time| time.as_secs_f64())).median
}

fn on_a_host(vms: u16, rounds: usize) -> Result<Times> {
    let network = NetNs::new()?;
    network.run(|| Ok(fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?))?;
    link::bridge(&network, "br0")?;
    let mut taps = Vec::new();
    for number in 0..vms {
        let tap = Tap::open(&network, &format!("vm{number}"), Header::None)?;
        link::enslave(&network, tap.name(), "br0")?;
        network.ip(&format!("link set {} up", tap.name()))?;
        taps.push(tap);
    }
    let files = Files::new(vms)?;
    let times = network.run(|| measure(&files, vms, rounds))?;
    drop(taps);
    Ok(times)
}

/// Disks over one base, a template of it, and libvirt's own driver for tests with a VM for each.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new(vms: u16) -> Result<Self> {
        let dir = tempfile::tempdir_in(artefacts::target())?;
        let at = |name: &str| dir.path().join(name);
        fs::write(at(BASE), vec![7_u8; 1 << 20])?;
        let mut make = Command::new("qemu-img");
        make.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
        make.args([at(BASE), at("overlay.qcow2")]);
        let made = make.output();
        run::checked(&make, made)?;
        let mut host = "<node>".to_owned();
        for number in 0..vms {
            let disk = at(&format!("vm{number}.qcow2"));
            fs::copy(at("overlay.qcow2"), &disk)?;
            let [high, low] = number.to_be_bytes();
            write!(
                host,
                "<domain type='test'><name>vm{number}</name><memory>1024</memory>
                 <uuid>5f0b1c3e-8f57-4d8e-9f7a-3a6c1d2e{number:04x}</uuid>
                 <os><type>hvm</type></os><devices>
                 <disk type='file'><driver name='qemu' type='qcow2'/><source file='{}'/>
                 <target dev='vda' bus='virtio'/></disk>
                 <interface type='bridge'><source bridge='br0'/><target dev='vm{number}'/>
                 <mac address='52:54:00:01:{high:02x}:{low:02x}'/></interface>
                 </devices></domain>",
                disk.display()
            )?;
        }
        fs::write(at("host.xml"), host + "</node>")?;
        fs::create_dir(at(TEMPLATES))?;
        fs::create_dir(at(STATE))?;
        Ok(Self { dir })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn uri(&self) -> String {
        format!("test://{}", self.at("host.xml").display())
    }

    /// Registers the base under this name, and what else is registered.
    fn register(&self, template: &str) -> Result<Registry> {
        let digest = Sha256::digest(fs::read(self.at(BASE))?);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!(
            "id = \"{template}\"\nstatus = \"approved\"\n[[image]]\nrole = \"disk\"\nsha256 = \"{digest}\"\n"
        );
        fs::write(self.at(TEMPLATES).join(format!("{template}.toml")), text)?;
        let registry = Manifests::new(&self.at(TEMPLATES)).reload();
        ensure!(registry.rejected.is_empty(), "{:?}", registry.rejected);
        Ok(registry)
    }
}

fn measure(files: &Files, vms: u16, rounds: usize) -> Result<Times> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let gatherer = Gatherer::within(&files.at(STATE), Pools::new(&[files.dir.path().to_owned()]));
    let mut times = Times::new();
    let mut took = |what, turn| times.entry(what).or_default().push(turn);

    let (sender, mut said) = mpsc::channel(usize::from(vms));
    let connection = Connection {
        uri: files.uri(),
        patience: Connection::PATIENCE,
        context: xml::Shared::default(),
    };
    let libvirt = LibvirtSource::spawn(&connection, sender, drop)?;
    let inventory = runtime.block_on(snapshot(&mut said, vms))?;

    let mut brain = brain(&files.uri(), vms)?;
    let first = vec![
        Input::Link(LinkEvent::Resynced(links()?)),
        Input::Registry(files.register("first")?),
        Input::Source(inventory),
    ];
    let at = now()?;
    let (mut all, mut effects) = measured(|| brain.begin(at, first))?;
    let mut longest = all;
    while brain.is_beginning() {
        let (next, more) = turn(&mut brain, Vec::new())?;
        effects.extend(more);
        all = Turn { worked: all.worked + next.worked, took: all.took + next.took };
        longest = if next.took > longest.took { next } else { longest };
    }
    took("start", all);
    took("start, the longest of its turns", longest);
    let read = runtime.block_on(gather(&gatherer, effects));
    ensure!(read.len() == usize::from(vms), "{} disks are asked for, not {vms}", read.len());
    took("disks read", turn(&mut brain, read)?.0);
    let granted = granted(&mut brain)?;
    ensure!(granted == usize::from(vms), "{granted} ports are granted, not {vms}");

    for round in 0..rounds {
        libvirt.resync();
        let inventory = runtime.block_on(snapshot(&mut said, vms))?;
        took("resync with libvirt", turn(&mut brain, vec![Input::Source(inventory)])?.0);
        let registry = files.register(&format!("round-{round}"))?;
        took("templates reloaded", turn(&mut brain, vec![Input::Registry(registry)])?.0);
        took("policy reloaded", turn(&mut brain, vec![Input::Rules(policy(round)?)])?.0);
        let rules = policy(rounds + round)?.rules;
        let id = u64::try_from(round)?;
        took("policy tried", turn(&mut brain, vec![Input::PolicyDiff { id, rules }])?.0);
        took("nothing new", turn(&mut brain, vec![Input::Tick])?.0);
    }
    Ok(times)
}

/// The built-in policy, as a file that somebody has touched.
fn policy(number: usize) -> Result<Rulebook> {
    let text = format!("{}// {number}\n", Rules::built_in().text());
    let rules = Rules::parse(&text).map_err(|faults| anyhow!("{faults:?}"))?;
    Ok(Rulebook { rules: Arc::new(rules), ..Rulebook::default() })
}

/// How long the brain takes for these, and what it wants done.
fn turn(brain: &mut Brain<Remote>, inputs: Vec<Input>) -> Result<(Turn, Vec<Effect>)> {
    let at = now()?;
    measured(|| brain.turn(at, inputs))
}

fn measured(work: impl FnOnce() -> Vec<Effect>) -> Result<(Turn, Vec<Effect>)> {
    let (begun, mut effects) = (Instant::now(), Vec::new());
    let worked = processor_time(|| {
        effects = work();
        Ok(())
    })?;
    Ok((Turn { worked, took: begun.elapsed() }, effects))
}

/// The next time that libvirt lists everything.
async fn snapshot(said: &mut mpsc::Receiver<SourceEvent>, vms: u16) -> Result<SourceEvent> {
    loop {
        let event = timeout(PATIENCE, said.recv()).await?.context("libvirt is not followed")?;
        match &event.update {
            Update::Snapshot { vms: listed, .. } => {
                ensure!(listed.len() == usize::from(vms), "{} of {vms} are listed", listed.len());
                return Ok(event);
            }
            Update::Lost { why } => bail!("libvirt is lost: {why}"),
            _ => {}
        }
    }
}

/// Reads what the brain wants read.
async fn gather(gatherer: &Gatherer, effects: Vec<Effect>) -> Vec<Input> {
    let mut read = Vec::new();
    for effect in effects {
        if let Effect::Gather { file, ticket } = effect {
            let evidence = gatherer.gather(&file).await;
            read.push(Input::Evidence { file, ticket, evidence });
        }
    }
    read
}

/// How many ports are granted what they are.
fn granted(brain: &mut Brain<Remote>) -> Result<usize> {
    let observed = brain.enforcer_mut().observe()?;
    let slots = observed.interfaces.values().map(|interface| interface.slot);
    Ok(slots.filter(|slot| slot.flags & flags::GRANTED != 0).count())
}

/// A brain that enforces and follows one libvirt. Needs a runtime.
fn brain(uri: &str, vms: u16) -> Result<Brain<Remote>> {
    let mut file = tempfile::NamedTempFile::new()?;
    std::io::Write::write_all(&mut file, b"mode = \"enforce\"\n")?;
    let config = Config::load(Some(file.path()))?;
    let pins = PathBuf::from(format!("/sys/fs/bpf/bench-crowd-{vms}"));
    let words = [Path::new("--config"), file.path(), Path::new("--pins"), &pins];
    let (enforcer, _notices) = part::start(&words.map(Into::into))?;
    let rules = AdmissionRules {
        timeout: Duration::from_secs(1),
        on_timeout: OnRefusal::Mute,
        denied: OnRefusal::Mute,
    };
    let expected = vec![Expected { name: uri.to_owned(), live: true }];
    Ok(Brain::new(now()?, config.policy(), rules, expected, enforcer)?)
}

fn now() -> Result<Timestamp> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(Timestamp(u64::try_from(since.as_millis())?))
}
