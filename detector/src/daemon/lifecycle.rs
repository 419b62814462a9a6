//! From start to stop.

use std::{
    ffi::OsString,
    fs,
    os::unix::{fs::DirBuilderExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, mpsc as std_mpsc},
    thread,
};

use anyhow::{Context, Result, anyhow};
use detector_common::settings::Mode;
use detector_core::model::{EvidenceLevel, Neighbour};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use super::{
    adoption::Known,
    brain::Brain,
    calls,
    cycle::{self, Ears},
    denials,
    end::End,
    files::{self, Fresh, PolicySource, Templates},
    fleet::Line,
    hands::{self, Callers, Hands},
    input::{AdmissionRules, Input},
    inventories,
    itself::{self, Itself},
    mode::Start,
    names,
    reload::{Load, Reloader},
    remedies::{Audit, RETRY, Remedies},
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
    clock,
    config::Config,
    enforcer::{
        part as enforcer_part,
        remote::{Notices, Remote},
    },
    fleet::speech::Process,
    graces::GraceFile,
    inventory::{Suspender, file},
    leases::{Adopted, Leases, Remembered, boot_id},
    mitigations::MitigationFile,
    mode::ModeFile,
    net::{LinkEvents, gateways, host_addresses, neighbours},
    part::{Curbed, Curbing, List, Listener, Ports, Scanning},
    pauses::PauseFile,
    privilege::{self, Identity},
    quarantines::Memory,
    registry::{self, Gatherer, Pools},
    remediate::{self, Store},
    stopped::StopMark,
};

/// Inputs that wait for the loop; whoever has more waits in turn.
const INPUTS: usize = 1024;
const CALLS: usize = 64;

/// Runs the daemon until it is told to stop, in the mode that whoever starts it wants, if any. What is in
/// force then stays in force. `load` reads the configuration again when somebody wants that; `words` have the
/// enforcer's process read the same one.
pub fn run(config: &Config, wanted: Option<Mode>, load: Load, words: &[OsString]) -> Result<()> {
    let doors = Doors::of(&config.api, &config.roles);
    let user = privilege::user(config.user.as_deref())?;
    let managed = std::env::var_os("STATE_DIRECTORY").and_then(|_| std::env::var("USER").ok());
    if let Some(why) = managed.and_then(|unit| privilege::disagreement(user.as_ref(), &unit)) {
        tracing::warn!(why, "`user` and the unit's `User=` should be the same");
    }
    // Holds the pins against a second daemon, and touches nothing when their schema is another.
    let (enforcer, notices) = enforcer_part::start(words)?;
    tracing::info!(
        pins = %config.paths.pins.display(),
        method = enforcer.hello().method,
        "took the pins over"
    );
    make_state(&config.paths.state);
    // Whose they are when the socket is there, `give_up` sees to.
    given("RUNTIME_DIRECTORY").iter().for_each(|place| own(place, None));
    let listener = socket::bind(&config.paths.socket, &doors)?;
    let scanning = Scanning::start(config, words).context("cannot start to scan processes")?;
    let curbing =
        Curbing::start(config, words).context("cannot start to keep VMs from running on")?;
    let listener_to_ports = Listener::start(words).context("cannot start to listen to ports")?;
    let speaker = Process::start(config, words).context("cannot start to speak to the fleet")?;
    // From here on this process can load no program, and touch no interface. It has one thread so far.
    give_up(config, user.as_ref())?;
    registry::begin_reader();

    let supervisor = Supervisor::of_this_process().context("cannot start to tell of itself")?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("detector")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let stopped = StopMark::new(&config.paths.state);
    if let Err(error) = stopped.clear() {
        tracing::warn!(%error, "starts of VMs will not wait for this daemon when it ends");
    }
    let map = enforcer.hello().quarantine_map;
    let memory = Memory::new(&config.paths.state);
    let recalled = memory.recall(map, enforcer.hello().fresh);
    let rules = AdmissionRules::of(config);
    let expected = inventories::expected(config);
    let brain = Brain::new(clock::now(), config.policy(), rules, expected, enforcer)?;

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
    let fleet = Line::open(config, speaker).context("cannot start to speak to the fleet")?;
    let alerts = alerts(config, fleet.as_ref(), inputs.clone())?;
    let (store, workflows) = Store::open(&config.paths.state);
    let remedying: Arc<dyn remediate::hands::Hands> = Arc::new(remediate::HostHands::new(config));
    let means = remediate::means(config, &*remedying);
    let hands = Hands {
        inventories,
        callers: callers.clone(),
        gatherer: gatherer(config, pools),
        inputs: inputs.clone(),
        runtime: runtime.handle().clone(),
        turns: Turns::new(runtime.handle().clone()),
        alerts: alerts.clone(),
        overhear: overhear(listener_to_ports, inputs.clone())?,
        curbs: curbing.map(|curbing| curbs(curbing, inputs.clone())).transpose()?,
        journal: hands::journal(&config.paths.state.join("findings.jsonl"))?,
        leases: Remembered::new(&config.paths.state),
        adopted: Adopted::new(&config.paths.state),
        mode: ModeFile::new(&config.paths.state),
        graces: GraceFile::new(&config.paths.state),
        pauses: PauseFile::new(&config.paths.state),
        mitigations: MitigationFile::new(&config.paths.state),
        suspender: suspender(inputs.clone())?,
        supervisor: supervisor.clone(),
        quarantines: hands::keeper(memory.clone(), map)?,
        audit: audit.clone(),
        remedies: Remedies::start(
            store,
            remedying,
            (Audit { writer: audit.clone(), place: Place::new(&config.paths.state) }, RETRY),
            inputs.clone(),
            runtime.handle().clone(),
        )
        .context("cannot start to write remediations down")?,
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
        Input::Mitigations(hands.mitigations.read()),
        Input::Recalled(recalled),
        Input::Remediations(workflows, means),
        Input::Source(file::said(&config.paths.inventory)),
    ];
    think(brain, notices, inbox, hands, first)?;

    let access = Arc::new(Access { uid, roles: doors.roles.clone() });
    let (known, access) = watch::channel(access);
    let (call, calls) = mpsc::channel(CALLS);
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let (denials, denied) = mpsc::channel(denials::BACKLOG);
    tokio::spawn(server::serve(listener, access, call.clone(), denials));
    tokio::spawn(names::look_up(doors, known, inputs.clone()));
    tokio::spawn(denials::record(denied, audit.clone()));
    let fresh = Fresh { templates: templates.clone(), policy: policy.clone() };
    let (metrics, exported) = watch::channel(config.metrics.clone());
    let beside = (metrics, alerts.clone());
    let reloader = Reloader::new(config.clone(), load, fresh.clone(), beside, supervisor.clone());
    let beside = calls::Beside { fresh, alerts, connections, reloader, audit: audit.clone() };
    tokio::spawn(calls::take(calls, callers, beside, inputs.clone()));
    let itself = Itself { uid, calls: call };
    if let Some(fleet) = fleet {
        fleet.serve(config, &itself, &audit, inputs.clone());
    }
    tokio::spawn(itself.clone().reload_on(hangup));
    tokio::spawn(itself.export(exported.clone()));
    if memory.is_lost() {
        tokio::spawn(files::watch_memory(memory, inputs.clone()));
    }
    tokio::spawn(files::watch_leases(leases, inputs.clone()));
    tokio::spawn(files::watch(templates, policy, inputs.clone()));
    let _agents = inventories::ask_guests(config, &inputs)?;
    if let Some(scanning) = scanning {
        let tell = move |scanned| inputs.blocking_send(Input::Processes(scanned)).is_ok();
        scanning.follow(tell).context("cannot start to scan the host's processes")?;
    }
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

/// Gives up what the enforcer's process has, and becomes the user that is configured, where there is one.
fn give_up(config: &Config, user: Option<&Identity>) -> Result<()> {
    own(&config.paths.state, user);
    for place in ["RUNTIME_DIRECTORY", "LOGS_DIRECTORY"].map(given).iter().flatten() {
        own(place, user);
    }
    match user {
        Some(user) => {
            privilege::become_user(user, &privilege::OF_BRAIN)
                .with_context(|| format!("cannot become the user {user}"))?;
            tracing::info!(%user, "gave up all privileges but to look");
        }
        None => {
            privilege::give_up(&privilege::OF_OTHERS).context("cannot give up capabilities")?;
        }
    }
    Ok(())
}

/// A directory that the service manager has made, where it has.
fn given(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

/// Makes a directory and what is in it this user's, or root's own, who without a capability for it can write into no
/// directory of others. Where that cannot be, the daemon still guards, and tells what it cannot keep.
fn own(place: &Path, user: Option<&Identity>) {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    if let Err(error) = privilege::hand_over(place, user.unwrap_or(&Identity::ROOT)) {
        tracing::warn!(place = %place.display(), %error, "cannot hand a directory over");
    }
}

/// Starts the brain's thread and waits until the first state is in force.
fn think(
    mut brain: Brain<Remote>,
    notices: UnixStream,
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
                let notices = Notices::new(notices)?;
                anyhow::Ok((Ears { links, notices, inputs }, all))
            };
            let ears = match ears.await {
                Ok((ears, all)) => {
                    first.insert(0, Input::Link(all));
                    ears
                }
                Err(error) => return drop(ready.send(Err(error))),
            };
            let now = clock::now();
            let effects = brain.begin(now, first);
            cycle::carry_out(&mut brain, &mut hands, now, effects);
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
fn overhear(listener: Listener, inputs: mpsc::Sender<Input>) -> Result<Ports> {
    let tell = move |heard| inputs.blocking_send(Input::Overheard(heard)).is_ok();
    listener.follow(tell).context("cannot start to listen to ports")
}

/// Starts to keep processes from running on.
fn curbs(curbing: Curbing, inputs: mpsc::Sender<Input>) -> Result<List<Curbed>> {
    let tell = move |told| inputs.blocking_send(Input::Curbed(told)).is_ok();
    curbing.follow(tell).context("cannot start to keep VMs from running on")
}

/// Starts to send alerts. The brain never waits for them, nor they for the brain.
fn alerts(config: &Config, fleet: Option<&Line>, inputs: mpsc::Sender<Input>) -> Result<Alerts> {
    let tell = move |told| inputs.try_send(Input::Alerts(told)).is_ok();
    let beside = (config.paths.state.as_path(), fleet.map(|line| line.speech.clone()));
    Alerts::spawn(&config.alerts, beside, tell).context("cannot start to send alerts")
}

/// Libvirt may take as long as it likes: it has a thread of its own.
fn suspender(inputs: mpsc::Sender<Input>) -> Result<Suspender> {
    let tell = move |vm, result| drop(inputs.blocking_send(Input::Paused(vm, result)));
    Suspender::spawn(tell).context("cannot start to suspend VMs")
}
