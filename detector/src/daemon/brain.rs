//! The state machine: inputs change the world, and the host is brought to what follows from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use detector_common::settings::Mode;
use detector_core::{
    decide::{Decision, decide_and_act, policy::Rulebook},
    model::{
        Finding, FindingKey, FindingKind, Observed, Policy, Processes, Registry, Severity, Source,
        Subject, Timestamp, Unsettled, World,
    },
    reconcile::reconcile,
};

use super::{
    admission::Admissions,
    answer,
    claims::Claims,
    execute::Executor,
    guests::Guests,
    input::{AdmissionRules, CallId, Effect, Input},
    learning::Learning,
    links,
    loads::{self, Looks},
    media::Media,
    seen,
    since::Since,
    sources::{self, Expected},
    tamper::Tampers,
};
use crate::{
    enforcer::{EnforceError, Enforcer},
    findings::Tracker,
};

/// How often a turn decides anew until nothing is left to do; what is left then waits for the next.
const ROUNDS: usize = 8;
/// How long a source may be silent before people are told. Nothing new is admitted from the first
/// moment on.
const SOURCE_GRACE: Duration = Duration::from_secs(2);

/// How often it decides anew at least.
const PULSE: Duration = Duration::from_secs(1);

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
    pub(super) since: Since,
    pub(super) tampered: Tampers,
    guests: Guests,
    looks: Looks,
    pub(super) learning: Learning,
    /// Clients that are told of every quarantine.
    pub(super) watchers: BTreeSet<CallId>,
    /// Sources that report what runs now.
    pub(super) live: BTreeSet<String>,
    pub(super) started: Timestamp,
    /// Kernel events taken in.
    pub(super) events: u64,
    settled: Timestamp,
    pub(super) claims: Claims,
    /// When the first finding is told that has been kept back for a moment.
    untold: Option<Timestamp>,
    effects: Vec<Effect>,
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
        let world = World {
            now,
            policy,
            rules: Rulebook::default(),
            registry: Registry::default(),
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
            learned: BTreeMap::new(),
            leases: Vec::new(),
            adoption: Default::default(),
            addresses: BTreeSet::new(),
            seen,
            noticed: BTreeMap::new(),
            processes: Processes::default(),
            guests: BTreeMap::new(),
        };
        Ok(Self {
            world,
            enforcer,
            decision: Decision::default(),
            executor: Executor::default(),
            media: Media::default(),
            admissions: Admissions::new(rules),
            findings: Tracker::default(),
            since: Since::default(),
            tampered: Tampers::default(),
            guests: Guests::default(),
            looks: Looks::default(),
            learning: Learning::default(),
            watchers: BTreeSet::new(),
            live: sources.into_iter().filter(|source| source.live).map(|s| s.name).collect(),
            started: now,
            events: 0,
            settled: now,
            claims: Claims::default(),
            untold: None,
            effects: Vec::new(),
        })
    }

    /// The first turn: decides once everything that is known at the start is in.
    pub fn begin(&mut self, now: Timestamp, inputs: Vec<Input>) -> Vec<Effect> {
        self.world.now = now;
        for input in inputs {
            self.take_in(input);
        }
        self.settle();
        self.keep_adopted();
        std::mem::take(&mut self.effects)
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
            self.admissions.wake_at(),
            self.findings.wake_at(),
            self.tampered.wake_at(),
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
        self.world.observed.mode
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

    /// Changes the world. False when no decision depends on what has changed.
    fn take_in(&mut self, input: Input) -> bool {
        match input {
            Input::Link(event) => links::take_in(self, event),
            Input::Source(event) => {
                let started = sources::take_in(self, event);
                self.media.refresh(&mut self.world, &started);
                self.media.forget_unused(&mut self.world);
            }
            Input::Registry(registry) => self.world.registry = registry,
            Input::Rules(rules) => self.world.rules = rules,
            Input::Leases(leases) => return self.learning.take_leases(&mut self.world, leases),
            Input::Adopt(known) => self.adopt(known),
            Input::Addresses(addresses) => {
                let news = self.world.addresses != addresses;
                self.world.addresses = addresses;
                return news;
            }
            Input::Evidence { file, ticket, evidence } => {
                self.media.arrived(&mut self.world, file, ticket, evidence);
            }
            Input::Altered(files) => return self.media.altered(files),
            Input::Kernel(event) => {
                self.events += 1;
                self.hear(&event);
                return false;
            }
            Input::Request { id, uid, request } => {
                answer::request(self, id, uid, request);
                return false;
            }
            Input::PolicyDiff { id, rules } => {
                answer::policy::diff(self, id, rules);
                return false;
            }
            Input::Incoming(uuid) => {
                self.admissions.expect(uuid, self.world.now);
                return false;
            }
            Input::Guest { uuid, claims } => {
                return self.guests.take_in(&mut self.world, uuid, claims);
            }
            Input::Ended(uuid) => {
                for effect in self.media.ended(&self.world, uuid) {
                    self.emit(effect);
                }
                return false;
            }
            Input::Admit(admit) => self.admit(*admit),
            Input::HungUp(id) => {
                self.watchers.remove(&id);
                return false;
            }
            Input::Processes(scanned) => self.scanned(scanned),
            Input::Signs(signs) => {
                let rechecked = self.enforcer.recheck_for(&signs);
                return self.looked_around(rechecked);
            }
            Input::Tick => {
                let rechecked = self.enforcer.recheck();
                let changed = self.looked_around(rechecked);
                let looked = self.looks.look(&mut self.world, &mut self.enforcer);
                self.remember();
                if let Some(look) = self.media.look_again(&self.world) {
                    self.emit(look);
                }
                let silent = self.guests.forget(&mut self.world);
                return changed || looked || silent || self.settled + PULSE <= self.world.now;
            }
        }
        true
    }

    /// Decides and acts until nothing is left to do.
    pub(super) fn settle(&mut self) {
        let now = self.world.now;
        self.settled = now;
        self.claims.take_all(now);
        self.media.retry(now);
        self.expire_provisional();
        self.follow_arrivals();
        self.read_stale();
        for round in 1..=ROUNDS {
            let Self { world, executor, enforcer, .. } = self;
            let (mut news, mut acted) = (false, false);
            // What is to be done comes before what is to be told, which takes longer to put in words.
            self.decision = decide_and_act(world, |decision| {
                news = seen::is_news(world, decision);
                if !news {
                    let actions = reconcile(&decision.desired, &world.observed);
                    acted = executor.carry_out(enforcer, actions, &world.observed, now);
                }
                round == ROUNDS || !(news || acted)
            });
            seen::notice(&mut self.world, &self.decision);
            if news {
                self.emit(Effect::AskSources);
            } else if acted {
                self.observe();
            } else {
                break;
            }
        }
        for wanted in self.media.want(&self.decision.wanted) {
            self.emit(wanted);
        }
        for run in self.media.follow(&self.world, &self.decision) {
            self.emit(run);
        }
        self.since.update(now, &self.decision, &self.world.observed);
        self.answer_admissions();
        let mut findings = self.decision.findings.clone();
        self.untold = findings.iter().filter_map(silent_until).filter(|until| *until > now).min();
        findings.retain(|finding| silent_until(finding).is_none_or(|until| until <= now));
        findings.extend(self.executor.findings());
        findings.extend(self.media.findings(now));
        findings.extend(self.tampered.findings(now, &self.world));
        for change in self.findings.update(now, findings) {
            self.emit(Effect::Tell(change));
        }
    }

    fn tell_watchers(&mut self, before: &Observed) {
        if self.watchers.is_empty() || before.quarantines == self.world.observed.quarantines {
            return;
        }
        let changes = answer::quarantine::changes(self, before);
        for id in self.watchers.clone() {
            for change in &changes {
                let reply = Ok(crate::api::Reply::QuarantineChange(change.clone()));
                self.emit(Effect::Reply { id, reply, last: false });
            }
        }
    }
}

/// Until when a finding is not told: a source that is lost for a moment, as at every start, is none.
fn silent_until(finding: &Finding) -> Option<Timestamp> {
    (finding.key.kind == FindingKind::SourceLost).then(|| finding.since + SOURCE_GRACE)
}

/// A finding about the daemon's own hold on the kernel.
pub(super) fn enforcement_finding(
    subject: Subject,
    title: String,
    evidence: Vec<(String, String)>,
    since: Timestamp,
) -> Finding {
    Finding {
        key: FindingKey { kind: FindingKind::EnforcementFailed, subject },
        severity: Severity::High,
        title,
        evidence,
        next: Some("detector status".to_owned()),
        since,
    }
}

/// The source of that name, as far as it has spoken.
pub(super) fn source_mut<'a>(
    sources: &'a mut BTreeMap<String, Source>,
    name: &str,
    now: Timestamp,
) -> &'a mut Source {
    let silent = || sources::silent(now, Unsettled::default());
    sources.entry(name.to_owned()).or_insert_with(silent)
}
