//! The state machine: inputs change the world, and the host is brought to what follows from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use detector_common::settings::Mode;
use detector_core::{
    decide::{Decision, decide_and_act, policy::Rulebook},
    model::{
        Births, Curb, Finding, FleetStanding, Graces, ObservedMode, Policy, ProcessId, Processes,
        Recorded, Registry, Skew, Timestamp, World,
    },
    reconcile::reconcile,
};

use super::{
    admission::Admissions,
    claims::Claims,
    clock::DayClock,
    conduct::Conduct,
    execute::Executor,
    guests::Guests,
    input::{AdmissionRules, CallId, Effect, Input},
    learning::Learning,
    loads::{self, Looks},
    media::Media,
    mitigations::Guarding,
    mode::Keeping,
    names::Strangers,
    recall::Recall,
    refusals::Refused,
    reload::Reloads,
    remediation::Remediation,
    responses::Pauses,
    seen,
    since::Since,
    sources::{self, Expected},
    succession::Succession,
    tamper::Tampers,
    trail::Trail,
};
use crate::{
    alert::News,
    enforcer::{EnforceError, Enforcer},
    findings::Tracker,
};

/// How often a turn decides anew until nothing is left to do; what is left then waits for the next.
const ROUNDS: usize = 8;

/// How often it decides anew at least.
pub(super) const PULSE: Duration = Duration::from_secs(1);

/// How often the loop went round, and how long that took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turns {
    pub(super) count: u64,
    pub(super) took: Duration,
}

/// The daemon's state. It never waits: inputs come in batches, effects are for others to carry out.
#[derive(Debug)]
pub struct Brain<E> {
    pub(super) world: World,
    pub(super) enforcer: E,
    pub(super) decision: Decision,
    pub(super) executor: Executor,
    pub(super) media: Media,
    pub(super) admissions: Admissions,
    pub(super) findings: Tracker,
    /// What is known of alerts about them.
    pub(super) alerts: News,
    pub(super) since: Since,
    pub(super) tampered: Tampers,
    pub(super) refused: Refused,
    pub(super) looks: Looks,
    pub(super) guests: Guests,
    pub(super) learning: Learning,
    pub(super) keeping: Keeping,
    pub(super) recall: Recall,
    /// Clients that are told of every quarantine.
    pub(super) watchers: BTreeSet<CallId>,
    /// Sources that report what runs now.
    pub(super) live: BTreeSet<String>,
    pub(super) started: Timestamp,
    /// Kernel events taken in.
    pub(super) events: u64,
    pub(super) settled: Timestamp,
    pub(super) claims: Claims,
    pub(super) day: DayClock,
    pub(super) pauses: Pauses,
    pub(super) guarding: Guarding,
    pub(super) conduct: Conduct,
    pub(super) curbing: BTreeMap<ProcessId, Curb>,
    pub(super) reloads: Reloads,
    pub(super) strangers: Strangers,
    pub(super) remediation: Remediation,
    pub(super) turns: Turns,
    pub(super) succession: Succession,
    pub(super) trail: Trail,
    /// Ports that are listened to, by ifindex and instance.
    pub(super) overhearing: Vec<(u32, u32)>,
    /// Since when nobody listens to ports, and why.
    pub(super) deaf: Option<(Timestamp, String)>,
    /// When the first finding is told that has been kept back for a moment.
    untold: Option<Timestamp>,
    effects: Vec<Effect>,
    /// Until everything that is known at the start is in force.
    pub(super) beginning: bool,
}

impl<E: Enforcer> Brain<E> {
    /// A brain that knows what the kernel holds, and nothing else. `sources` are the inventories
    /// that will speak: until one does it counts as lost, so that what is in force
    /// stays.
    pub fn new(
        now: Timestamp,
        policy: Policy,
        rules: AdmissionRules,
        sources: Vec<Expected>,
        mut enforcer: E,
    ) -> Result<Self, EnforceError> {
        let observed = enforcer.observe()?;
        let seen = enforcer.seen()?;
        let trail = Trail::new(&observed);
        let world = World {
            now,
            skew: Skew::default(),
            policy,
            rules: Rulebook::default(),
            registry: Registry::default(),
            births: Births::default(),
            sources: sources
                .iter()
                .map(|source| (source.name.clone(), sources::silent(now, source.unsettled())))
                .collect(),
            links: BTreeMap::new(),
            evidence: BTreeMap::new(),
            unread: BTreeMap::new(),
            booted: BTreeMap::new(),
            disturbed: BTreeMap::new(),
            loads: loads::at_the_start(&observed, now),
            observed,
            asked: None,
            learned: BTreeMap::new(),
            leases: Vec::new(),
            adoption: Default::default(),
            quarantines_lost: None,
            addresses: BTreeSet::new(),
            gateways: BTreeSet::new(),
            seen,
            overheard: BTreeMap::new(),
            frames: BTreeMap::new(),
            noticed: BTreeMap::new(),
            processes: Processes::default(),
            graces: Graces::default(),
            recorded: Recorded::default(),
            stopped: BTreeSet::new(),
            conduct: BTreeMap::new(),
            guests: BTreeMap::new(),
            fleet: FleetStanding::default(),
        };
        Ok(Self {
            world,
            enforcer,
            decision: Decision::default(),
            executor: Executor::default(),
            media: Media::default(),
            admissions: Admissions::new(rules),
            findings: Tracker::default(),
            alerts: News::default(),
            since: Since::default(),
            tampered: Tampers::default(),
            refused: Refused::default(),
            guests: Guests::default(),
            looks: Looks::default(),
            learning: Learning::default(),
            keeping: Keeping::default(),
            recall: Recall::default(),
            watchers: BTreeSet::new(),
            live: sources.into_iter().filter(|source| source.live).map(|s| s.name).collect(),
            started: now,
            events: 0,
            settled: now,
            claims: Claims::default(),
            day: DayClock::new(now),
            pauses: Pauses::default(),
            guarding: Guarding::default(),
            conduct: Conduct::default(),
            curbing: BTreeMap::new(),
            reloads: Reloads::default(),
            strangers: Strangers::default(),
            remediation: Remediation::default(),
            turns: Turns::default(),
            succession: Succession::default(),
            trail,
            overhearing: Vec::new(),
            deaf: None,
            untold: None,
            effects: Vec::new(),
            beginning: true,
        })
    }

    /// The first turn: decides once everything that is known at the start is in. What follows from it may
    /// take more turns, while [`Self::is_beginning`].
    pub fn begin(&mut self, now: Timestamp, inputs: Vec<Input>) -> Vec<Effect> {
        self.world.now = now;
        for input in inputs {
            self.take_in(input);
        }
        self.settle();
        std::mem::take(&mut self.effects)
    }

    /// Whether what was known at the start is not all in force yet.
    pub fn is_beginning(&self) -> bool {
        self.beginning
    }

    /// Takes in what happened, brings the host to what follows from it, and returns what else has
    /// to be done. Interfaces come first: a new port is guarded before anything else is looked at.
    pub fn turn(&mut self, now: Timestamp, mut inputs: Vec<Input>) -> Vec<Effect> {
        self.world.now = now;
        let mut unsettled = false;
        let is_link = |input: &mut Input| matches!(input, Input::Link(_));
        let links: Vec<_> = inputs.extract_if(.., is_link).collect();
        if !links.is_empty() {
            // The kernel knows best which lives of them are over.
            self.observe();
            for input in links {
                self.take_in(input);
            }
            self.settle();
        }
        for input in inputs {
            // A request sees what came before it, so the world is settled in front of it.
            if matches!(input, Input::Request { .. }) {
                match std::mem::take(&mut unsettled) {
                    true => self.settle(),
                    false => self.look_at_claims(),
                }
            }
            unsettled |= self.take_in(input);
        }
        // What has come due does not wait for an input that calls for a decision.
        unsettled |= self.decides_at().is_some_and(|at| at <= now);
        if unsettled {
            self.settle();
        } else {
            self.look_at_claims();
        }
        std::mem::take(&mut self.effects)
    }

    /// When the brain wants a turn though nothing happens.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.decides_at().into_iter().chain(self.claims.wake_at()).min()
    }

    /// When it decides anew though nothing happens.
    fn decides_at(&self) -> Option<Timestamp> {
        [
            self.decision.wake_at,
            self.untold,
            self.executor.wake_at(),
            self.media.wake_at(),
            self.pauses.wake_at(self.settled),
            self.guarding.wake_at(self.settled),
            self.admissions.wake_at(),
            self.findings.wake_at(),
            self.tampered.wake_at(),
            self.remediation.wake_at(),
            self.refused.wake_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What carries actions out.
    pub fn enforcer_mut(&mut self) -> &mut E {
        &mut self.enforcer
    }

    /// The mode that the kernel is in.
    pub fn mode(&self) -> Option<Mode> {
        self.world.observed.mode.as_ref().map(ObservedMode::effective)
    }

    pub(super) fn emit(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Reads from the kernel what it holds now, and tells watchers what has changed.
    pub(super) fn observe(&mut self) {
        match self.enforcer.observe() {
            Ok(observed) => {
                self.executor.observed();
                let before = std::mem::replace(&mut self.world.observed, observed);
                self.tell_watchers(&before);
            }
            // What was seen last stands until the kernel answers again.
            Err(error) => self.executor.unobserved(self.world.now, &error),
        }
    }

    /// Decides and acts until nothing is left to do.
    pub(super) fn settle(&mut self) {
        let now = self.world.now;
        self.settled = now;
        self.world.stopped = self.pauses.asked();
        self.world.conduct = self.conduct.with(self.decision.conduct(&self.world), now);
        self.claims.take_all(now);
        self.media.retry(now);
        self.expire_provisional();
        self.doubt_mitigations();
        self.follow_arrivals();
        self.read_stale();
        self.succeed();
        for round in 1..=ROUNDS {
            self.reimpose();
            let Self { world, executor, enforcer, .. } = self;
            let (mut news, mut acted) = (false, false);
            // What is to be done comes before what is to be told, which takes longer to put in words.
            self.decision = decide_and_act(world, |decision| {
                news = seen::is_news(world, decision);
                if !news {
                    let actions = reconcile(&decision.desired, &world.observed);
                    acted = executor.carry_out(enforcer, actions, &world.observed, now);
                }
                round == ROUNDS || !(news || acted) || executor.is_interrupted()
            });
            seen::notice(&mut self.world, &self.decision);
            if news {
                self.emit(Effect::AskSources);
            } else if acted {
                self.observe();
            }
            if !news && (!acted || self.executor.is_interrupted()) {
                break;
            }
        }
        if self.beginning {
            self.beginning = self.executor.is_interrupted();
            self.keep_adopted();
        }
        for wanted in self.media.want(&self.decision.wanted) {
            self.emit(wanted);
        }
        for run in self.media.follow(&self.world, &self.decision) {
            self.emit(run);
        }
        self.follow_mode();
        self.keep_graces();
        self.keep_mitigations();
        self.stop_denied();
        self.curb_processes();
        self.start_remediations();
        self.remediate();
        self.since.update(now, &self.decision, &self.world.observed);
        self.keep_quarantines();
        self.follow_decisions();
        self.overhear();
        self.answer_admissions();
        let mut findings = self.decision.findings.clone();
        let silent = |finding: &Finding| {
            sources::silent_until(finding, &self.world).filter(|until| *until > now)
        };
        self.untold = findings.iter().filter_map(silent).min();
        findings.retain(|finding| silent(finding).is_none());
        findings.extend(self.executor.findings());
        findings.extend(self.mode_findings());
        findings.extend(self.media.findings(now));
        findings.extend(self.pauses.findings(&self.world));
        findings.extend(self.tampered.findings(now, &self.world));
        findings.extend(self.refused.findings(now));
        findings.extend(self.recall.findings());
        findings.extend(self.remediation_findings());
        findings.extend(self.reload_findings());
        findings.extend(self.strangers.finding());
        findings.extend(self.succession_findings());
        findings.extend(self.deaf_findings());
        findings.extend(self.trail.findings());
        findings.extend(self.alerts.findings.iter().cloned());
        for change in self.findings.update(now, findings) {
            self.emit(Effect::Tell(change));
        }
    }
}
