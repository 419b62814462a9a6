//! Questions to the rules, and their answers.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{AuthorizationError, Authorizer, Decision, Entities};
use detector_common::quarantine::QuarantineMode;
use serde::{Deserialize, Serialize};

use super::{
    Facts, NicFacts, Rule, RuleEffect, Rules,
    entities::{Record, Unaskable, Unknowns, entities, records, request},
};
use crate::decide::{Outcome, VmStatus};

/// What the rules say of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Every rule that can forbid it to join, in the order of the policy: the strictest answer of all
    /// its NICs.
    pub rules: Vec<RuleOutcome>,
    /// Whether some rule permits it to join.
    pub permitted: Outcome,
    /// The rules that decided: those that permit it, those that forbid it, or those that are undecided.
    pub decided_by: Vec<String>,
    pub responses: Responses,
    /// Rules that could not be evaluated, and why. Each is a failure.
    pub errors: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleOutcome {
    pub id: String,
    pub outcome: Outcome,
}

/// What becomes of a VM that may not join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Responses {
    /// It is told as a finding.
    pub find: bool,
    /// Its ports are isolated; otherwise what is in force stays, and nothing new is granted.
    pub isolate: bool,
    /// Isolated, it speaks with the sandbox rather than with nobody.
    pub sandbox: bool,
    /// The rules that took a response away, or allowed the sandbox.
    pub rules: Vec<String>,
}

/// The strictest.
impl Default for Responses {
    fn default() -> Self {
        Self { find: true, isolate: true, sandbox: false, rules: Vec::new() }
    }
}

impl Responses {
    /// How what is isolated is isolated.
    pub fn mode(&self) -> QuarantineMode {
        if self.sandbox { QuarantineMode::Sandbox } else { QuarantineMode::Drop }
    }
}

impl Verdict {
    /// The verdict that follows. A failure outweighs what cannot be said yet: no further evidence
    /// could mend it.
    pub fn status(&self) -> VmStatus {
        let rules = self.rules.iter().map(|rule| rule.outcome);
        match rules.chain([self.permitted]).map(strictness).max() {
            Some(0) => VmStatus::Approved,
            Some(1) => VmStatus::Pending,
            _ => VmStatus::Denied,
        }
    }
}

/// What all questions about a VM have in common.
struct Asked<'a> {
    facts: &'a Facts,
    /// With what is not known as unknowns.
    all: Entities,
    /// Without it.
    known: Entities,
}

/// The answer to one question.
struct Answer {
    /// Of each rule about the action, by its id. A `permit` is met where it applies.
    outcomes: BTreeMap<String, (RuleEffect, Outcome)>,
    /// The rules that permit it.
    permits: Vec<String>,
    errors: BTreeMap<String, String>,
}

impl Rules {
    /// Evaluates the rules, whatever is remembered.
    pub(super) fn evaluate(&self, facts: &Facts) -> Verdict {
        match records(facts) {
            Ok(records) => self.evaluate_records(facts, &records),
            Err(error) => self.unaskable(&error),
        }
    }

    pub(super) fn evaluate_records(&self, facts: &Facts, records: &[Record]) -> Verdict {
        self.ask_all(facts, records).unwrap_or_else(|error| self.unaskable(&error))
    }

    fn ask_all(&self, facts: &Facts, records: &[Record]) -> Result<Verdict, Unaskable> {
        let asked = Asked {
            facts,
            all: entities(records, Unknowns::Kept)?,
            known: entities(records, Unknowns::LeftOut)?,
        };
        // A NIC that is on no network has nothing to join. Where none is on one, which it will be is not
        // known; also a VM without a NIC is judged.
        let on_one = facts.nics.iter().filter(|nic| nic.network.is_some());
        let mut nics: Vec<Option<&NicFacts>> = on_one.map(Some).collect();
        if nics.is_empty() {
            nics.extend(facts.nics.iter().map(Some));
        }
        if nics.is_empty() {
            nics.push(None);
        }
        let mut verdict = self.blank(Outcome::Met);
        let mut permits = BTreeSet::new();
        for nic in &nics {
            let answer = self.ask("join", &asked, *nic)?;
            for rule in &mut verdict.rules {
                rule.outcome = strictest(rule.outcome, answer.of(&rule.id));
            }
            verdict.permitted = strictest(verdict.permitted, answer.permitted());
            verdict.errors.extend(answer.errors);
            permits.extend(answer.permits);
        }
        let status = verdict.status();
        verdict.decided_by = match status {
            VmStatus::Approved => permits.into_iter().collect(),
            _ => {
                let wanted =
                    if status == VmStatus::Denied { Outcome::Failed } else { Outcome::Unknown };
                let rules = verdict.rules.iter().filter(|rule| rule.outcome == wanted);
                let mut ids: Vec<_> = rules.map(|rule| rule.id.clone()).collect();
                if verdict.permitted == wanted {
                    ids.push(super::NO_PERMIT.to_owned());
                }
                ids
            }
        };
        if status == VmStatus::Denied {
            self.respond(&asked, &nics, &mut verdict)?;
        }
        Ok(verdict)
    }

    /// The verdict where a question cannot even be put: it denies.
    fn unaskable(&self, error: &str) -> Verdict {
        let mut verdict = self.blank(Outcome::Failed);
        verdict.decided_by = vec![super::NO_PERMIT.to_owned()];
        verdict.errors.insert(super::NO_PERMIT.to_owned(), error.to_owned());
        verdict
    }

    fn blank(&self, outcome: Outcome) -> Verdict {
        let rules = self.about("join", RuleEffect::Forbid);
        Verdict {
            rules: rules.map(|rule| RuleOutcome { id: rule.id.clone(), outcome }).collect(),
            permitted: outcome,
            decided_by: Vec::new(),
            responses: Responses::default(),
            errors: BTreeMap::new(),
        }
    }

    /// Asks what becomes of a VM that may not join. In doubt it is the stricter response.
    fn respond(
        &self,
        asked: &Asked<'_>,
        nics: &[Option<&NicFacts>],
        verdict: &mut Verdict,
    ) -> Result<(), Unaskable> {
        let mut rules = BTreeSet::new();
        let mut answers = |action: &str| -> Result<Vec<Answer>, Unaskable> {
            if !self.list.iter().any(|rule| rule.action == action) {
                return Ok(Vec::new());
            }
            let answers = nics.iter().map(|nic| self.ask(action, asked, *nic));
            let answers = answers.collect::<Result<Vec<_>, _>>()?;
            for answer in &answers {
                let errors = answer.errors.iter();
                verdict.errors.extend(errors.map(|(id, why)| (id.clone(), why.clone())));
            }
            Ok(answers)
        };
        // Only what certainly forbids a response for every NIC takes it away.
        let mut happens = |answers: &[Answer], action: &str| {
            let forbids = |answer: &Answer| {
                let of = self.about(action, RuleEffect::Forbid).map(|rule| rule.id.clone());
                let of = of.filter(|id| answer.of(id) == Outcome::Failed);
                if answer.errors.is_empty() { of.collect() } else { Vec::new() }
            };
            let by: Vec<Vec<String>> = answers.iter().map(forbids).collect();
            let spared = !by.is_empty() && by.iter().all(|ids| !ids.is_empty());
            if spared {
                rules.extend(by.into_iter().flatten());
            }
            !spared
        };
        let find = happens(&answers("find")?, "find");
        let isolate = happens(&answers("isolate")?, "isolate");
        let asked = answers("sandbox")?;
        let sandbox = !asked.is_empty() && asked.iter().all(Answer::allows);
        if sandbox {
            rules.extend(asked.into_iter().flat_map(|answer| answer.permits));
        }
        let rules = rules.into_iter().collect();
        verdict.responses = Responses { find, isolate, sandbox, rules };
        Ok(())
    }

    /// Puts one question, to each rule about the action.
    fn ask(
        &self,
        action: &str,
        asked: &Asked<'_>,
        nic: Option<&NicFacts>,
    ) -> Result<Answer, Unaskable> {
        let authorizer = Authorizer::new();
        let question = request(asked.facts, nic, action, Unknowns::Kept)?;
        let answer = authorizer.is_authorized_partial(&question, &self.set, &asked.all);
        let applies: BTreeSet<_> =
            answer.definitely_satisfied().map(|rule| rule.id().to_string()).collect();
        let may_apply: BTreeSet<_> =
            answer.nontrivial_residuals().map(|rule| rule.id().to_string()).collect();
        let errored = answer.definitely_errored();
        let errored = errored.map(|id| (id.to_string(), "it fails to evaluate".to_owned()));
        let mut errors: BTreeMap<_, _> = errored.collect();

        // The same without what is not known: it is never better than what is absent.
        let question = request(asked.facts, nic, action, Unknowns::LeftOut)?;
        let without = authorizer.is_authorized(&question, &self.set, &asked.known);
        let failed = without.diagnostics().errors();
        errors.extend(failed.map(|AuthorizationError::PolicyEvaluationError(error)| {
            (error.policy_id().to_string(), error.inner().to_string())
        }));
        let reasons: BTreeSet<_> =
            without.diagnostics().reason().map(ToString::to_string).collect();
        let refused = without.decision() == Decision::Deny;

        let about = self.list.iter().filter(|rule| rule.action == action);
        let mut outcomes = BTreeMap::new();
        let mut permits = Vec::new();
        for Rule { id, effect, .. } in about {
            let objects = refused && reasons.contains(id);
            let outcome = match effect {
                _ if errors.contains_key(id) => Outcome::Failed,
                RuleEffect::Forbid if applies.contains(id) => Outcome::Failed,
                RuleEffect::Forbid if may_apply.contains(id) || objects => Outcome::Unknown,
                RuleEffect::Forbid => Outcome::Met,
                // Whether it is permitted is not said of what is forbidden.
                RuleEffect::Permit if applies.contains(id) && refused && reasons.is_empty() => {
                    Outcome::Unknown
                }
                RuleEffect::Permit if applies.contains(id) => Outcome::Met,
                RuleEffect::Permit if may_apply.contains(id) => Outcome::Unknown,
                RuleEffect::Permit => Outcome::Failed,
            };
            if *effect == RuleEffect::Permit && outcome == Outcome::Met {
                permits.push(id.clone());
            }
            outcomes.insert(id.clone(), (*effect, outcome));
        }
        Ok(Answer { outcomes, permits, errors })
    }
}

impl Answer {
    fn of(&self, id: &str) -> Outcome {
        self.outcomes.get(id).map_or(Outcome::Failed, |(_, outcome)| *outcome)
    }

    /// Some rule permits it, none may forbid it, and none fails to evaluate.
    fn allows(&self) -> bool {
        let mut forbids =
            self.outcomes.values().filter(|(effect, _)| *effect == RuleEffect::Forbid);
        self.errors.is_empty()
            && !self.permits.is_empty()
            && forbids.all(|(_, outcome)| *outcome == Outcome::Met)
    }

    /// Whether some rule permits it.
    fn permitted(&self) -> Outcome {
        let permits = self.outcomes.iter().filter(|(_, (effect, _))| *effect == RuleEffect::Permit);
        // One that fails to evaluate denies: what it would have said is not known.
        if permits.clone().any(|(id, _)| self.errors.contains_key(id)) {
            return Outcome::Failed;
        }
        let outcomes = permits.map(|(_, (_, outcome))| *outcome);
        outcomes.min_by_key(|outcome| strictness(*outcome)).unwrap_or(Outcome::Failed)
    }
}

const fn strictness(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Met => 0,
        Outcome::Unknown => 1,
        Outcome::Failed => 2,
    }
}

fn strictest(a: Outcome, b: Outcome) -> Outcome {
    if strictness(a) >= strictness(b) { a } else { b }
}
