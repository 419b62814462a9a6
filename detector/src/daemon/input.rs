//! What the brain is told, and what it wants done.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use detector_common::event::EventRecord;
use detector_core::{
    decide::policy::{Rulebook, Rules},
    model::{
        Curb, Curbed, Digest, Evidence, Finding, FleetStanding, Graces, GuestClaims, ImageFile,
        KnownLease, Link, MediumRole, Mitigations, ProcessId, Registry, Rejected, Timestamp, Vm,
    },
    remediate::{Means, Workflow},
};
use uuid::Uuid;

use super::{
    adoption::Known,
    mode::Start,
    reload::Loaded,
    remediation::{Report, Running},
};
use crate::{
    alert::ToBrain,
    api::{ApiError, Reply, Request, socket::Named},
    audit::{Entry, Trouble},
    clock::Reading,
    config::{Config, OnRefusal},
    enforcer::Sign,
    findings::Change,
    inventory::{NotDone, Power, SourceEvent},
    mode,
    net::{LinkEvent, overhear::PortLife},
    part::Heard,
    processes::Scanned,
    quarantines::{self, Recalled},
    remediate::{
        self,
        hands::{Order, Patient},
    },
};

/// Names a request until its last reply.
pub type CallId = u64;

/// Something that happened.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "they are taken in one by one, and few wait")]
pub enum Input {
    Link(LinkEvent),
    Source(SourceEvent),
    /// The templates have been read.
    Registry(Registry),
    /// The policy has been read.
    Rules(Rulebook),
    /// An operator asks what another policy would change.
    PolicyDiff {
        id: CallId,
        rules: Arc<Rules>,
    },
    /// Leases that are known from elsewhere than the kernel, all of them.
    Leases(Vec<KnownLease>),
    /// What was quarantined before the maps were made.
    Recalled(Recalled),
    /// What is known of guests from before the start.
    Adopt(Known),
    /// What is known of the mode from before the start.
    Mode(Start),
    /// Whether the mode has been kept, as [`Effect::KeepMode`] asked.
    ModeKept(Result<(), String>),
    /// The host's own addresses, all of them.
    Addresses(BTreeSet<IpAddr>),
    /// The gateways that the host itself uses, all of them.
    Gateways(BTreeSet<IpAddr>),
    /// A medium has been read, as [`Effect::Gather`] asked.
    Evidence {
        file: ImageFile,
        ticket: u64,
        evidence: Evidence,
    },
    /// Which media are not what they were, of those that [`Effect::LookAgain`] named.
    Altered(Vec<ImageFile>),
    /// The kernel reports a claim without a grant.
    Kernel(EventRecord),
    /// An operator asks.
    Request {
        id: CallId,
        uid: u32,
        request: Request,
    },
    /// Everything has been read again.
    Reload {
        id: CallId,
        loaded: Box<Loaded>,
    },
    /// libvirt is about to take over a VM from another host; its start follows.
    Incoming(Uuid),
    /// A guest's agent says something of itself, or nothing any more.
    Guest {
        uuid: Uuid,
        claims: Option<GuestClaims>,
    },
    /// A VM has ended, and its manager has let go of its files; it waits until nothing of what happens to them
    /// from then on can pass for the VM's doing.
    Ended {
        id: CallId,
        uuid: Uuid,
    },
    /// libvirt is about to start a VM.
    Admit(Box<Admit>),
    /// Nobody waits for replies to this request any more.
    HungUp(CallId),
    /// What has become of processes that were to be kept from running on, as [`Effect::Curb`] asked.
    Curbed(BTreeMap<ProcessId, Curbed>),
    /// The host's processes have been looked through.
    Processes(Scanned),
    /// Somebody may have touched what is in force.
    Signs(BTreeSet<Sign>),
    /// Since when VMs have a grace period, as it was kept before the start.
    Graces(Graces),
    /// That cannot be kept.
    GracesLost(Rejected),
    /// What verdicts have taken away, as it was written down before the start.
    Mitigations(Mitigations),
    /// Whether it is on the disk, as [`Effect::KeepMitigations`] asked.
    MitigationsKept(Result<(), Rejected>),
    /// A VM is suspended, or asked to shut down, or why it is not, as [`Effect::Stop`] asked.
    Paused(Uuid, Result<(), NotDone>),
    /// Which VMs had been suspended before the start; `None` where nobody knows.
    Pauses(Option<BTreeSet<Uuid>>),
    /// Whether that has been kept, as [`Effect::KeepPauses`] asked.
    PausesKept(Result<(), String>),
    /// Remediations as they were written down before the start, and what this host has for them.
    Remediations(remediate::Recalled, Means),
    /// Whether a workflow is on the disk, as [`Effect::KeepWorkflow`] asked.
    WorkflowKept {
        vm: Uuid,
        revision: u64,
        result: Result<(), String>,
    },
    /// So many records of remediations were dropped, which the audit has never got.
    RecordsDropped(u64),
    /// What has become of a deed, as [`Effect::Remedy`] asked.
    Remedied {
        vm: Uuid,
        deed: Running,
        report: Report,
    },
    /// What is wrong with the audit, all of it.
    Audit(Trouble),
    /// Whom the configuration gives a role and nobody on this host knows; all of them.
    Unknown(Vec<Named>),
    /// How this host stands with its fleet.
    Fleet(FleetStanding),
    /// What the time of day is said to be.
    Clock(Reading),
    /// What a port without a VM asks DHCP servers for, or that nobody listens.
    Overheard(Heard),
    /// What is known of alerts, or what is wanted for them.
    Alerts(ToBrain),
    /// Time has passed.
    Tick,
}

/// A VM that is about to start, with what was read afresh for it.
#[derive(Clone, Debug)]
pub struct Admit {
    pub id: CallId,
    /// The source in whose inventory the VM will appear.
    pub source: String,
    /// Name of the VM, as the hook says it.
    pub name: String,
    /// The VM, or why its description cannot be read.
    pub vm: Result<Vm, String>,
    /// Its interfaces, as they are now.
    pub links: Vec<Link>,
    /// The templates, as they are now; `None` where they could not be read.
    pub registry: Option<Registry>,
}

/// What the brain wants done outside the kernel.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send a reply. After the last one the request is over.
    Reply { id: CallId, reply: Result<Reply, ApiError>, last: bool },
    /// Read a medium, and say what it shows.
    Gather { file: ImageFile, ticket: u64 },
    /// Look whether these media are still what they were when they were read, and say which are not;
    /// the flag says whether its VM writes to the medium.
    LookAgain(Vec<(ImageFile, bool)>),
    /// A VM begins to run with a disk, or firmware's variables, of its own that had this digest before it
    /// ever ran.
    Begins { role: MediumRole, disk: ImageFile, digest: Digest },
    /// A VM has ended that had these disks and variables. Whoever has called is answered when it is recorded what
    /// they are like, and where that one waits no longer nothing is.
    Ends { disks: Vec<ImageFile>, call: Option<CallId> },
    /// What was read again holds, or not.
    Reloaded,
    /// Ask the sources that can be asked: there is a port that none has named yet.
    AskSources,
    /// Listen to what these ports ask DHCP servers for, and to no others.
    Overhear(Vec<PortLife>),
    /// Tell people.
    Tell(Change),
    /// Tell everything that is open and that people have been told of.
    TellAll(Vec<Finding>),
    /// Keep these leases for after a restart of the host.
    Remember(Vec<KnownLease>),
    /// Keep since when VMs have a grace period.
    KeepGraces(BTreeMap<Uuid, Timestamp>),
    /// Write down what verdicts take away, before they do.
    KeepMitigations(Box<Mitigations>),
    /// Have the manager of this name suspend or end a VM.
    Stop { source: String, vm: Uuid, power: Power },
    /// Keep these processes from running on, and no others.
    Curb(Vec<(ProcessId, Curb)>),
    /// Keep which denied VMs have been suspended.
    KeepPauses(BTreeSet<Uuid>),
    /// Keep which ports are adopted: their instances by ifindex.
    KeepAdopted(BTreeMap<u32, u32>),
    /// Keep the mode that has been confirmed, before anything that follows is done.
    KeepMode(mode::Kept),
    /// Write this workflow down, before anything that follows from it is done, and put on record what has happened to it.
    KeepWorkflow { workflow: Box<Workflow>, records: Vec<Entry> },
    /// Nobody needs the VM's workflow any more.
    ForgetWorkflow(Uuid),
    /// Have a step of a remediation done outside of the kernel.
    Remedy { deed: Running, patient: Patient, order: Order },
    /// Have what is being done for the VM stop where nothing is lost.
    StopRemedy(Uuid),
    /// Put this on record.
    Record(Box<Entry>),
    /// Keep these quarantines for after a restart of the host.
    KeepQuarantines(Vec<quarantines::Kept>),
}

/// How admissions are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionRules {
    /// How long to wait for a verdict.
    pub timeout: Duration,
    pub on_timeout: OnRefusal,
    pub denied: OnRefusal,
}

impl AdmissionRules {
    pub fn of(config: &Config) -> Self {
        Self {
            timeout: config.admission.timeout,
            on_timeout: config.admission.on_timeout,
            denied: config.admission.denied,
        }
    }
}
