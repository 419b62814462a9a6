//! Questions to the rules, and their answers.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{AuthorizationError, Authorizer, Decision, Entities};

use super::{
    Facts, NicFacts, Responses, Rule, RuleEffect, Rules,
    entities::{Record, Unaskable, Unknowns, entities, records, request},
};
use crate::{
    decide::{Outcome, VmStatus},
    model::AddressRule,
};

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
    /// Of each NIC, in their order, the rule by which it gets its addresses; `None` where the policy says
    /// nothing of it, and where its source says enough.
    pub address_rules: Vec<Option<AddressRule>>,
    /// Rules that could not be evaluated, and why. Each is a failure.
    pub errors: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleOutcome {
    pub id: String,
    pub outcome: Outcome,
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
pub(super) struct Asked<'a> {
    pub(super) facts: &'a Facts,
    /// With what is not known as unknowns.
    all: Entities,
    /// Without it.
    known: Entities,
}

/// The answer to one question.
pub(super) struct Answer {
    /// Of each rule about the action, by its id. A `permit` is met where it applies.
    pub(super) outcomes: BTreeMap<String, (RuleEffect, Outcome)>,
    /// The rules that permit it.
    pub(super) permits: Vec<String>,
    pub(super) errors: BTreeMap<String, String>,
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
        self.choose_address_rules(&asked, &mut verdict)?;
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
            address_rules: Vec::new(),
            errors: BTreeMap::new(),
        }
    }

    /// Puts one question, to each rule about the action.
    pub(super) fn ask(
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
    pub(super) fn of(&self, id: &str) -> Outcome {
        self.outcomes.get(id).map_or(Outcome::Failed, |(_, outcome)| *outcome)
    }

    /// Some rule permits it, none may forbid it, and none fails to evaluate.
    pub(super) fn allows(&self) -> bool {
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
