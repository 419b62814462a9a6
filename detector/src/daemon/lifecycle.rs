//! From start to stop.

use std::{fs, io, os::unix::fs::DirBuilderExt, path::Path, sync::mpsc as std_mpsc, thread};

use anyhow::{Context, Result, anyhow};
use detector_common::settings::Mode;
use detector_core::model::{EvidenceLevel, Neighbour};
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
};

use super::{
    adoption::Known,
    brain::Brain,
    calls,
    cycle::{self, Ears},
    denials,
    files::{self, Fresh, PolicySource, Templates},
    hands::{self, Callers, Hands},
    input::{AdmissionRules, Input},
    inventories,
    itself::{self, Itself},
    mode::Start,
    reload::{Load, Reloader},
    supervisor::Supervisor,
    turns::Turns,
};
use crate::{
    alert::Alerts,
    api::{
        peer::Access,
        server,
        socket::{self, Doors},
    },
    audit::{Entry, Kind, Place, Via, Who, Writer},
    bpf::{Events, KernelEnforcer, Options},
    clock,
    config::{Config, Scan},
    graces::GraceFile,
    inventory::{Suspender, file},
    leases::{Adopted, Leases, Remembered, boot_id},
    mode::ModeFile,
    net::{LinkEvents, gateways, host_addresses, neighbours, overhear},
    pauses::PauseFile,
    processes::{self, ScanOptions},
    quarantines::Memory,
    registry::{Gatherer, Pools},
    stopped::StopMark,
};

/// Inputs that wait for the loop; whoever has more waits in turn.
const INPUTS: usize = 1024;
const CALLS: usize = 64;

/// Runs the daemon until it is told to stop, in the mode that whoever starts it wants, if any. What is in
/// force then stays in force. `load` reads the configuration again when somebody wants that.
pub fn run(config: &Config, wanted: Option<Mode>, load: Load) -> Result<()> {
    let supervisor = Supervisor::of_this_process().context("cannot start to tell of itself")?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("detector")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let doors = Doors::of(&config.api, &config.roles)?;

    make_state(&config.paths.state);

    // Holds the pins against a second daemon, and touches nothing when their schema is another.
    let options = Options { pins: config.paths.pins.clone(), stamp: config.stamp, method: None };
    let enforcer = KernelEnforcer::open(&options)?;
    tracing::info!(
        pins = %config.paths.pins.display(),
        method = ?enforcer.method(),
        "took the pins over"
    );

    let stopped = StopMark::new(&config.paths.state);
    if let Err(error) = stopped.clear() {
        tracing::warn!(%error, "starts of VMs will not wait for this daemon when it ends");
    }
    let map = enforcer.quarantine_map()?;
    let memory = Memory::new(&config.paths.state);
    let recalled = memory.recall(map, enforcer.is_fresh());
    let rules = AdmissionRules::of(config);
    let expected = inventories::expected(config);
    let brain = Brain::new(clock::now(), config.policy(), rules, expected, enforcer)?;

    let listener = socket::bind(&config.paths.socket, &doors)?;
    let manifests = config.manifests(true).map_err(|why| anyhow!(why))?;
    let templates = Templates::new(manifests, &config.paths.templates);
    let policy = PolicySource::new(&config.paths.policy);
    let callers = Callers::default();
    let (inputs, inbox) = mpsc::channel(INPUTS);
    let _enter = runtime.enter();
    let hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let pools = Pools::new(&config.registry.image_dirs);
    let leases = Leases::new(&config.paths.state, &config.learning.leases);
    let connections = inventories::connections(config);
    let inventories = inventories::follow(config, &connections, &inputs, &pools, &leases)?;
    let audit = start_audit(config, &inputs)?;
    audit.decision(jiff::Timestamp::now(), begins(config, wanted));
    let alerts = alerts(config, inputs.clone())?;
    let hands = Hands {
        inventories,
        callers: callers.clone(),
        gatherer: gatherer(config, pools),
        inputs: inputs.clone(),
        runtime: runtime.handle().clone(),
        turns: Turns::new(runtime.handle().clone()),
        alerts: alerts.clone(),
        overhear: overhear(inputs.clone())?,
        journal: hands::journal(&config.paths.state.join("findings.jsonl"))?,
        leases: Remembered::new(&config.paths.state),
        adopted: Adopted::new(&config.paths.state),
        mode: ModeFile::new(&config.paths.state),
        graces: GraceFile::new(&config.paths.state),
        pauses: PauseFile::new(&config.paths.state),
        suspender: suspender(inputs.clone())?,
        supervisor: supervisor.clone(),
        quarantines: hands::keeper(memory.clone(), map)?,
        audit: audit.clone(),
    };
    let uid = nix::unistd::geteuid().as_raw();
    let known = Known { ports: hands.adopted.read(), neighbours: known_neighbours() };
    let first = vec![
        Input::Registry(templates.read()),
        Input::Rules(policy.read()),
        Input::Leases(leases.read()),
        Input::Addresses(host_addresses().context("cannot list the host's own addresses")?),
        Input::Gateways(gateways().context("cannot list the host's default routes")?),
        Input::Adopt(known),
        Input::Mode(Start { kept: hands.mode.read(), wanted: wanted.map(|mode| (mode, uid)) }),
        Input::Graces(hands.graces.read()),
        Input::Pauses(hands.pauses.read()),
        Input::Recalled(recalled),
        Input::Source(file::said(&config.paths.inventory)),
    ];
    think(brain, inbox, hands, first)?;

    let access = Access { uid, roles: doors.roles };
    let (call, calls) = mpsc::channel(CALLS);
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let (denials, denied) = mpsc::channel(denials::BACKLOG);
    tokio::spawn(server::serve(listener, access, call.clone(), denials));
    tokio::spawn(denials::record(denied, audit.clone()));
    let fresh = Fresh { templates: templates.clone(), policy: policy.clone() };
    let (metrics, exported) = watch::channel(config.metrics.clone());
    let reloader = Reloader::new(config.clone(), load, fresh.clone(), metrics, supervisor.clone());
    let beside = calls::Beside { fresh, alerts, connections, reloader, audit: audit.clone() };
    tokio::spawn(calls::take(calls, callers, beside, inputs.clone()));
    let itself = Itself { uid, calls: call };
    tokio::spawn(itself.clone().reload_on(hangup));
    tokio::spawn(itself.export(exported.clone()));
    if memory.is_lost() {
        tokio::spawn(files::watch_memory(memory, inputs.clone()));
    }
    tokio::spawn(files::watch_leases(leases, inputs.clone()));
    tokio::spawn(files::watch(templates, policy, inputs.clone()));
    let _agents = inventories::ask_guests(config, &inputs)?;
    scan(&config.scan, inputs)?;
    // Whoever knows that it is ready may tell it to end.
    let end = End::watch().context("cannot wait for SIGTERM")?;
    supervisor.ready();
    tracing::info!(socket = %config.paths.socket.display(), "ready");

    runtime.block_on(end.told());
    Supervisor::stopping();
    tracing::info!("stopping; what is in force stays in force");
    let ends = Entry::new(Kind::DaemonStopped, Who::Daemon).why("it was told to end");
    runtime.block_on(audit.end(jiff::Timestamp::now(), ends));
    if let Err(error) = stopped.set() {
        tracing::warn!(%error, "starts of VMs will wait for this daemon, which does not come back");
    }
    if let Some(path) = &exported.borrow().textfile {
        itself::forget(path);
    }
    let _ = fs::remove_file(&config.paths.socket);
    // Nothing is dropped in order, so that no program is detached on the way out.
    std::process::exit(0)
}

/// Whom the host has spoken with. Nothing depends on it but how soon guests are believed.
fn known_neighbours() -> Vec<Neighbour> {
    neighbours().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot list the host's neighbours");
        Vec::new()
    })
}

/// Certificates of birth are kept where the policy takes them.
fn gatherer(config: &Config, pools: Pools) -> Gatherer {
    match config.policy.evidence {
        EvidenceLevel::Certificate => Gatherer::certifying(&config.paths.state, pools),
        EvidenceLevel::Declared | EvidenceLevel::Digest => {
            Gatherer::within(&config.paths.state, pools)
        }
    }
}

/// Starts the thread that writes the audit. Nothing waits for it.
fn start_audit(config: &Config, inputs: &mpsc::Sender<Input>) -> Result<Writer> {
    let inputs = inputs.clone();
    let tell = move |trouble| drop(inputs.blocking_send(Input::Audit(trouble)));
    Writer::spawn(Place::new(&config.paths.state), config.audit.limits(), tell)
        .context("cannot start to write the audit")
}

/// The record of this start.
fn begins(config: &Config, wanted: Option<Mode>) -> Entry {
    Entry::new(Kind::DaemonStarted, Who::this(Via::Start))
        .because("version", [env!("CARGO_PKG_VERSION")])
        .because("boot", [boot_id()])
        .because("pins", [config.paths.pins.display().to_string()])
        .because("mode-asked-for", wanted.map(Mode::as_str))
}

/// Starts to look through the host's processes, unless that is not wanted.
fn scan(scan: &Scan, inputs: mpsc::Sender<Input>) -> Result<()> {
    if scan.interval.is_zero() {
        return Ok(());
    }
    let options = ScanOptions {
        interval: scan.interval,
        grace: scan.grace,
        records: scan.records.clone(),
        ignored: scan.ignored.clone(),
    };
    let tell = move |scanned| inputs.blocking_send(Input::Processes(scanned)).is_ok();
    processes::spawn(options, clock::now, tell).context("cannot start to scan the host's processes")
}

/// Findings may name addresses of tenants, so that the directory is nobody else's. Without it the
/// daemon still guards: digests are computed anew at each start, and findings are in the log only.
fn make_state(path: &Path) {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    if let Err(error) = made {
        tracing::warn!(
            path = %path.display(),
            %error,
            "cannot make the state directory: make it, or correct paths.state"
        );
    }
}

/// Starts the brain's thread and waits until the first state is in force.
fn think(
    mut brain: Brain<KernelEnforcer>,
    inputs: mpsc::Receiver<Input>,
    mut hands: Hands,
    mut first: Vec<Input>,
) -> Result<()> {
    let (ready, settled) = std_mpsc::channel();
    let body = move || {
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(anyhow!(error)))),
        };
        runtime.block_on(async move {
            let ears = async {
                let mut links = LinkEvents::subscribe()?;
                let all = links.next().await?;
                let events: Events = brain.enforcer_mut().events()?;
                let signs = brain.enforcer_mut().signs()?;
                tokio::spawn(brain.enforcer_mut().follow_logs()?);
                anyhow::Ok((Ears { links, events, signs, inputs }, all))
            };
            let ears = match ears.await {
                Ok((ears, all)) => {
                    first.insert(0, Input::Link(all));
                    ears
                }
                Err(error) => return drop(ready.send(Err(error))),
            };
            let today = clock::read().day;
            for effect in brain.begin(clock::now(), first) {
                hands.carry_out(today, effect);
            }
            cycle::run(brain, ears, hands, move || drop(ready.send(Ok(())))).await;
        });
    };
    thread::Builder::new().name("brain".to_owned()).spawn(move || {
        // Half a daemon is worse than none: what is in force stays, and whoever started us notices.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err() {
            tracing::error!("the daemon has broken; what is in force stays in force");
            std::process::exit(1);
        }
    })?;
    settled.recv().context("the daemon broke while it started")?
}

/// Starts to listen to what ports without a VM ask for.
fn overhear(inputs: mpsc::Sender<Input>) -> Result<std_mpsc::Sender<Vec<overhear::PortLife>>> {
    let tell = move |port, print| inputs.blocking_send(Input::Overheard(port, print)).is_ok();
    overhear::spawn(tell).context("cannot start to listen to ports")
}

/// Starts to send alerts. The brain never waits for them, nor they for the brain.
fn alerts(config: &Config, inputs: mpsc::Sender<Input>) -> Result<Alerts> {
    let tell = move |told| inputs.try_send(Input::Alerts(told)).is_ok();
    Alerts::spawn(&config.alerts, &config.paths.state, tell).context("cannot start to send alerts")
}

/// Libvirt may take as long as it likes: it has a thread of its own.
fn suspender(inputs: mpsc::Sender<Input>) -> Result<Suspender> {
    let tell = move |vm, result| drop(inputs.blocking_send(Input::Paused(vm, result)));
    Suspender::spawn(tell).context("cannot start to suspend VMs")
}

/// A person, or the service manager, tells the daemon to end.
struct End {
    terminate: Signal,
    interrupt: Signal,
}

impl End {
    fn watch() -> io::Result<Self> {
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(Self { terminate: signal(terminate)?, interrupt: signal(interrupt)? })
    }

    async fn told(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
