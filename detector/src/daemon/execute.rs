//! The only interpreter of actions: carries them out, and comes back to those that fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use detector_common::addr::Mac;
use detector_core::{
    model::{
        Finding, FindingKey, FindingKind, Observed, QuarantineTarget, Severity, Subject, Timestamp,
    },
    reconcile::Action,
};

use crate::enforcer::{EnforceError, Enforcer};

/// A failed action is tried again after this, then after twice as long, and so on…
const FIRST_RETRY: Duration = Duration::from_millis(50);
/// … up to this.
const LAST_RETRY: Duration = Duration::from_secs(30);
/// The first failure of an action may be a race with an interface that is going away; from this
/// many on it is a finding.
const A_FINDING: u32 = 2;
/// After so long other things have their turn before the next action: to attach a program takes the kernel
/// milliseconds, and a host may have hundreds of ports to begin with.
const PORTION: Duration = Duration::from_millis(100);

/// What failed and when it is due again.
#[derive(Debug, Default)]
pub(super) struct Executor {
    failures: BTreeMap<Key, Failure>,
    /// On what the verdict is not in force, because a step that it needs has failed or is still to come.
    behind: BTreeSet<On>,
    /// When actions were left for the next turn.
    interrupted: Option<Timestamp>,
    /// Reading back what the kernel holds fails since then.
    blind: Option<(Timestamp, String)>,
}

#[derive(Debug)]
struct Failure {
    action: Action,
    error: String,
    attempts: u32,
    since: Timestamp,
    due: Timestamp,
}

/// Which step on what: one that fails with other contents is the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    on: On,
    step: &'static str,
    /// The forwarding entry: a port may have several.
    entry: Option<(Mac, u16)>,
}

impl On {
    /// What findings are about, and its name in a sentence.
    fn described(self) -> (Subject, String) {
        match self {
            Self::Host => (Subject::Host, "the host's settings".to_owned()),
            Self::Addresses => (
                Subject::Place("addresses".to_owned()),
                "addresses that no port may learn".to_owned(),
            ),
            Self::Interface(ifindex) => {
                (Subject::Port { ifindex, instance: 0 }, format!("interface {ifindex}"))
            }
            Self::Quarantine(target) => {
                let subject = match target {
                    QuarantineTarget::Vm(uuid) => Subject::Vm(uuid),
                    QuarantineTarget::Port { ifindex, instance } => {
                        Subject::Port { ifindex, instance }
                    }
                    QuarantineTarget::Mac(mac) => Subject::Place(mac.to_string()),
                };
                (subject, "a quarantine".to_owned())
            }
        }
    }
}

impl Key {
    /// Whether the verdict rests on the step, so that later ones wait for it. It does not on what
    /// defends a MAC beyond the port, on what spares the host work, on a way to the sandbox (without
    /// one everything is dropped), and on what the port would otherwise learn by itself.
    fn bears(&self) -> bool {
        self.entry.is_none() && aside(self.step).is_none()
    }
}

/// What the host lacks while a step fails that no verdict rests on.
fn aside(step: &str) -> Option<&'static str> {
    match step {
        "put-shield" => Some("has no shield"),
        "drop-shield" => Some("keeps its shield"),
        "open-passage" => Some("has no way to the sandbox"),
        "close-passage" => Some("keeps its way to the sandbox"),
        "teach" => Some("has not been told its leases"),
        "pin-forwarding" | "defend-mac" => Some("does not have its MAC defended"),
        "unpin-forwarding" | "yield-mac" => Some("has a MAC defended that is no longer its own"),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum On {
    Host,
    /// Addresses that no port may learn.
    Addresses,
    Interface(u32),
    Quarantine(QuarantineTarget),
}

impl Executor {
    /// Carries the actions out in their order. After a failure the later actions on the same
    /// interface wait, since each relies on those before it; other interfaces go on. What takes longer
    /// than a portion is left for the next turn: as after a crash, what was done is a beginning that is safe
    /// by itself. True when the kernel has been changed.
    pub(super) fn carry_out(
        &mut self,
        enforcer: &mut impl Enforcer,
        mut actions: Vec<Action>,
        observed: &Observed,
        now: Timestamp,
    ) -> bool {
        if !self.failures.is_empty() {
            // What is not wanted any more is not failing any more, except for lessons: they are wanted
            // once, before the first grant, and the port lacks them until they succeed.
            let lessons = self.failures.values().map(|failure| &failure.action);
            let lessons = lessons.filter(|action| is_lesson_of_a_living(action, observed));
            let missed: Vec<_> = lessons
                .filter(|lesson| !actions.iter().any(|action| key_of(action) == key_of(lesson)))
                .cloned()
                .collect();
            actions.extend(missed);
            self.failures.retain(|key, _| actions.iter().any(|action| key_of(action) == *key));
        }
        let mut held = BTreeSet::new();
        let mut changed = false;
        self.interrupted = None;
        let begun = Instant::now();
        for action in actions {
            let key = key_of(&action);
            if self.interrupted.is_some() || changed && begun.elapsed() > PORTION {
                self.interrupted = Some(now);
                if key.bears() {
                    held.insert(key.on);
                }
                continue;
            }
            if held.contains(&key.on) {
                if let Some(failure) = self.failures.get_mut(&key) {
                    failure.due = failure.due.max(now + FIRST_RETRY);
                }
                continue;
            }
            let waits = self
                .failures
                .get(&key)
                .is_some_and(|failure| failure.due > now && failure.action == action);
            if waits {
                if key.bears() {
                    held.insert(key.on);
                }
                continue;
            }
            match enforcer.execute(&action) {
                Ok(()) => {
                    changed = true;
                    if !self.failures.is_empty() {
                        self.failures.remove(&key);
                    }
                }
                Err(error) => {
                    self.failed(key, action, &error, now);
                    if key.bears() {
                        held.insert(key.on);
                    }
                }
            }
        }
        self.behind = held;
        changed
    }

    /// Carries out one action at once, beside what reconciliation asks for.
    pub(super) fn carry_out_now(
        &mut self,
        enforcer: &mut impl Enforcer,
        action: Action,
        now: Timestamp,
    ) -> Result<(), EnforceError> {
        let result = enforcer.execute(&action);
        if let Err(error) = &result {
            self.failed(key_of(&action), action, error, now);
        }
        result
    }

    pub(super) fn observed(&mut self) {
        self.blind = None;
    }

    pub(super) fn unobserved(&mut self, now: Timestamp, error: &EnforceError) {
        tracing::warn!(%error, "cannot read back what the kernel holds");
        let since = self.blind.as_ref().map_or(now, |(since, _)| *since);
        self.blind = Some((since, error.to_string()));
    }

    /// Whether actions were left for the next turn.
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.is_some()
    }

    /// Whether the verdict on the interface is not in force, because a step that it needs waits to be
    /// tried, or tried again.
    pub(super) fn is_behind(&self, ifindex: u32) -> bool {
        self.behind.contains(&On::Interface(ifindex))
    }

    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.failures.values().map(|failure| failure.due).chain(self.interrupted).min()
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut by_subject: BTreeMap<(On, bool), Vec<(&Key, &Failure)>> = BTreeMap::new();
        for (key, failure) in &self.failures {
            if failure.attempts >= A_FINDING {
                by_subject.entry((key.on, key.bears())).or_default().push((key, failure));
            }
        }
        let mut findings: Vec<_> = by_subject
            .into_iter()
            .map(|((on, bears), failures)| {
                let (subject, what) = on.described();
                let since = failures.iter().map(|(_, f)| f.since).min().unwrap_or_default();
                let evidence = failures
                    .iter()
                    .map(|(key, failure)| {
                        let times = failure.attempts;
                        (key.step.to_owned(), format!("{} (tried {times} times)", failure.error))
                    })
                    .collect();
                if bears {
                    let title =
                        format!("The verdict on {what} is not in force: the kernel refuses it.");
                    return enforcement_finding(subject, title, evidence, since);
                }
                let lacks: BTreeSet<_> =
                    failures.iter().filter_map(|(key, _)| aside(key.step)).collect();
                let lacks = lacks.into_iter().collect::<Vec<_>>().join(", and ");
                let title =
                    format!("The verdict is in force, but {what} {lacks}: the kernel refuses it.");
                let key = FindingKey { kind: FindingKind::EnforcementImpaired, subject };
                let severity = Severity::Medium;
                Finding {
                    key,
                    severity,
                    ..enforcement_finding(Subject::Host, title, evidence, since)
                }
            })
            .collect();
        if let Some((since, error)) = &self.blind {
            let evidence = vec![("error".to_owned(), error.clone())];
            let title = "What is in force cannot be read back from the kernel.".to_owned();
            findings.push(enforcement_finding(Subject::Host, title, evidence, *since));
        }
        findings
    }

    fn failed(&mut self, key: Key, action: Action, error: &EnforceError, now: Timestamp) {
        let failure = self.failures.entry(key).or_insert_with(|| Failure {
            action: action.clone(),
            error: String::new(),
            attempts: 0,
            since: now,
            due: now,
        });
        failure.action = action;
        failure.error = error.to_string();
        failure.attempts = failure.attempts.saturating_add(1);
        let wait = FIRST_RETRY.saturating_mul(1 << (failure.attempts - 1).min(20)).min(LAST_RETRY);
        failure.due = now + wait;
        if failure.attempts >= A_FINDING {
            tracing::warn!(step = key.step, on = ?key.on, %error, "action failed");
        }
    }
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

/// Whether the action teaches a port that has not gone.
fn is_lesson_of_a_living(action: &Action, observed: &Observed) -> bool {
    let Action::Teach { ifindex, instance, .. } = action else { return false };
    observed.interfaces.get(ifindex).is_some_and(|held| held.slot.instance == *instance)
}

fn key_of(action: &Action) -> Key {
    let (on, step) = match action {
        Action::SetMode(_) => (On::Host, "set-mode"),
        Action::AttachGuard { ifindex, .. } => (On::Interface(*ifindex), "attach-guard"),
        Action::AttachUplink { ifindex, .. } => (On::Interface(*ifindex), "attach-uplink"),
        Action::AttachBridge { ifindex, .. } => (On::Interface(*ifindex), "attach-bridge"),
        Action::AttachSandbox { ifindex, .. } => (On::Interface(*ifindex), "attach-sandbox"),
        Action::Trust { ifindex, .. } => (On::Interface(*ifindex), "trust"),
        Action::AttachDevice { ifindex, .. } => (On::Interface(*ifindex), "attach-device"),
        Action::Release { ifindex } => (On::Interface(*ifindex), "release"),
        Action::PutGrants { ifindex, .. } => (On::Interface(*ifindex), "put-grants"),
        Action::WriteSlot { ifindex, .. } => (On::Interface(*ifindex), "write-slot"),
        Action::SetObserved { ifindex, .. } => (On::Interface(*ifindex), "set-observed"),
        Action::SetSwitched { ifindex, .. } => (On::Interface(*ifindex), "set-switched"),
        Action::DropGrants { ifindex, .. } => (On::Interface(*ifindex), "drop-grants"),
        Action::Teach { ifindex, .. } => (On::Interface(*ifindex), "teach"),
        Action::Protect { .. } => (On::Addresses, "protect"),
        Action::Unprotect { .. } => (On::Addresses, "unprotect"),
        Action::OfferServices { .. } => (On::Addresses, "offer-services"),
        Action::WithdrawServices { .. } => (On::Addresses, "withdraw-services"),
        Action::PinForwarding { ifindex, .. } => (On::Interface(*ifindex), "pin-forwarding"),
        Action::UnpinForwarding { ifindex, .. } => (On::Interface(*ifindex), "unpin-forwarding"),
        Action::DefendMac { ifindex, .. } => (On::Interface(*ifindex), "defend-mac"),
        Action::YieldMac { ifindex, .. } => (On::Interface(*ifindex), "yield-mac"),
        Action::PutShield { ifindex, .. } => (On::Interface(*ifindex), "put-shield"),
        Action::DropShield { ifindex, .. } => (On::Interface(*ifindex), "drop-shield"),
        Action::MakeSandbox { .. } => (On::Host, "make-sandbox"),
        Action::OpenPassage { ifindex, .. } => (On::Interface(*ifindex), "open-passage"),
        Action::ClosePassage { ifindex, .. } => (On::Interface(*ifindex), "close-passage"),
        Action::PutQuarantine(quarantine) => (On::Quarantine(quarantine.target), "put-quarantine"),
        Action::GiveQuarantineBack(quarantine) => {
            (On::Quarantine(quarantine.target), "give-quarantine-back")
        }
        Action::LiftQuarantine(target) => (On::Quarantine(*target), "lift-quarantine"),
    };
    let entry = match action {
        Action::PinForwarding { mac, vlan, .. }
        | Action::UnpinForwarding { mac, vlan, .. }
        | Action::DefendMac { mac, vlan, .. }
        | Action::YieldMac { mac, vlan, .. } => Some((*mac, *vlan)),
        _ => None,
    };
    Key { on, step, entry }
}
