//! What becomes of a VM that may not join, and how NICs get their addresses: questions of their own, each
//! with an answer of its own in doubt.

use std::collections::BTreeSet;

use detector_common::quarantine::QuarantineMode;
use serde::{Deserialize, Serialize};

use super::{
    NicFacts, Rule, RuleEffect, Rules, Verdict,
    answer::{Answer, Asked},
    entities::Unaskable,
};
use crate::{decide::Outcome, model::AddressRule};

/// What becomes of a VM that may not join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Responses {
    /// It is told as a finding.
    pub find: bool,
    /// Its ports are isolated; otherwise what is in force stays, and nothing new is granted.
    pub isolate: bool,
    /// Isolated, it speaks with the sandbox rather than with nobody.
    pub sandbox: bool,
    /// Isolated, it is suspended as well.
    #[serde(default)]
    pub pause: bool,
    /// Isolated, it is shut down as well.
    #[serde(default)]
    pub shut_down: bool,
    /// Isolated, its remediation is started.
    #[serde(default)]
    pub remediate: bool,
    /// By which provisioner that is.
    #[serde(default)]
    pub provisioner: Option<String>,
    /// For how many seconds it keeps what is in force before it is isolated.
    #[serde(default)]
    pub grace: Option<u64>,
    /// The rules that took a response away, or allowed one.
    pub rules: Vec<String>,
}

/// Isolated at once, and told.
impl Default for Responses {
    fn default() -> Self {
        Self {
            find: true,
            isolate: true,
            sandbox: false,
            pause: false,
            shut_down: false,
            remediate: false,
            provisioner: None,
            grace: None,
            rules: Vec::new(),
        }
    }
}

impl Responses {
    /// What becomes of its power.
    pub fn stops(&self) -> Option<Stop> {
        match (self.shut_down, self.pause) {
            (true, _) => Some(Stop::ShutDown),
            (false, true) => Some(Stop::Suspend),
            (false, false) => None,
        }
    }

    /// How what is isolated is isolated.
    pub fn mode(&self) -> QuarantineMode {
        if self.sandbox { QuarantineMode::Sandbox } else { QuarantineMode::Drop }
    }
}

/// How a VM is kept from running on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    Suspend,
    /// Its guest is asked to shut down, and its power is taken where it does not.
    ShutDown,
}

impl Rules {
    /// Asks what becomes of a VM that may not join. In doubt it is the stricter response.
    pub(super) fn respond(
        &self,
        asked: &Asked<'_>,
        nics: &[Option<&NicFacts>],
        verdict: &mut Verdict,
    ) -> Result<(), Unaskable> {
        let mut rules = BTreeSet::new();
        let mut answers = |action: &str| {
            let answers = self.ask_each(action, asked, nics)?;
            for answer in &answers {
                let errors = answer.errors.iter();
                verdict.errors.extend(errors.map(|(id, why)| (id.clone(), why.clone())));
            }
            Ok::<_, Unaskable>(answers)
        };
        let find = !self.takes_away("find", &answers("find")?, &mut rules);
        let isolate = !self.takes_away("isolate", &answers("isolate")?, &mut rules);
        let mut allowed = |answers: Vec<Answer>, enough: fn(&[Answer]) -> bool| {
            let allowed = enough(&answers);
            if allowed {
                rules.extend(answers.into_iter().flat_map(|answer| answer.permits));
            }
            allowed
        };
        // What is milder has to be allowed for every NIC. To be stopped is worse for the VM, and guards nobody:
        // certain for one NIC is enough, and a doubt is not.
        let all: fn(&[Answer]) -> bool = |one| !one.is_empty() && one.iter().all(Answer::allows);
        let any: fn(&[Answer]) -> bool = |one| one.iter().any(Answer::allows);
        let sandbox = allowed(answers("sandbox")?, all);
        let pause = isolate && allowed(answers("pause")?, any);
        let shut_down = isolate && allowed(answers("shut-down")?, any);
        let remedies = answers("remediate")?;
        let named = remedies.iter().flat_map(|one| &one.permits);
        let named: BTreeSet<_> =
            named.filter_map(|id| self.rule(id)).map(|rule| rule.line).collect();
        let first = self.list.iter().find(|rule| named.contains(&rule.line));
        let provisioner = first.and_then(|rule| rule.provisioner.clone());
        let remediate = isolate && allowed(remedies, any);
        let provisioner = provisioner.filter(|_| remediate);
        let spared = answers("grace")?;
        let graces =
            spared.iter().flat_map(|one| &one.permits).filter_map(|id| self.rule(id)?.grace);
        let grace = graces.min();
        let grace = if isolate && allowed(spared, all) { grace } else { None };
        let rules = rules.into_iter().collect();
        verdict.responses = Responses {
            find,
            isolate,
            sandbox,
            pause,
            shut_down,
            remediate,
            provisioner,
            grace,
            rules,
        };
        Ok(())
    }

    /// Asks by which rule each NIC gets its addresses of which its source says nothing.
    pub(super) fn choose_address_rules(
        &self,
        asked: &Asked<'_>,
        verdict: &mut Verdict,
    ) -> Result<(), Unaskable> {
        for nic in &asked.facts.nics {
            let open = nic.rule.is_none() && nic.addresses.is_empty();
            let answers =
                if open { self.ask_each("address-rule", asked, &[Some(nic)])? } else { Vec::new() };
            let default = asked.facts.host.default_rule;
            let chosen = answers.first().and_then(|answer| self.address_rule(answer, default));
            verdict.address_rules.push(chosen);
            verdict.errors.extend(answers.into_iter().flat_map(|answer| answer.errors));
        }
        Ok(())
    }

    /// The strictest of those that apply. One that may apply counts as if it did, and as if it did not.
    fn address_rule(&self, answer: &Answer, default: AddressRule) -> Option<AddressRule> {
        let with = |wanted: Outcome| {
            let outcomes = answer.outcomes.iter();
            let ids = outcomes.filter(move |(_, (_, outcome))| *outcome == wanted);
            ids.filter_map(|(id, _)| self.rule(id)?.address_rule)
        };
        let errors = answer.errors.keys().filter_map(|id| self.rule(id)?.address_rule);
        let doubtful: Vec<_> = with(Outcome::Unknown).chain(errors).collect();
        let applies: Vec<_> = with(Outcome::Met).collect();
        let fallback = (applies.is_empty() && !doubtful.is_empty()).then_some(default);
        let all = applies.into_iter().chain(doubtful).chain(fallback);
        all.max_by_key(|rule| strictness(*rule))
    }

    /// Puts the question for each NIC, where there is a rule about it.
    fn ask_each(
        &self,
        action: &str,
        asked: &Asked<'_>,
        nics: &[Option<&NicFacts>],
    ) -> Result<Vec<Answer>, Unaskable> {
        if !self.list.iter().any(|rule| rule.action == action) {
            return Ok(Vec::new());
        }
        nics.iter().map(|nic| self.ask(action, asked, *nic)).collect()
    }

    /// Whether a response is certainly forbidden for every NIC: nothing else takes it away.
    fn takes_away(&self, action: &str, answers: &[Answer], rules: &mut BTreeSet<String>) -> bool {
        let forbids = |answer: &Answer| {
            let of = self.about(action, RuleEffect::Forbid).map(|rule: &Rule| rule.id.clone());
            let of = of.filter(|id| answer.of(id) == Outcome::Failed);
            if answer.errors.is_empty() { of.collect() } else { Vec::new() }
        };
        let by: Vec<Vec<String>> = answers.iter().map(forbids).collect();
        let spared = !by.is_empty() && by.iter().all(|ids| !ids.is_empty());
        if spared {
            rules.extend(by.into_iter().flatten());
        }
        spared
    }
}

/// Of a NIC without addresses of its own: the more it has to show for one, the stricter.
const fn strictness(rule: AddressRule) -> u8 {
    match rule {
        AddressRule::Any => 0,
        AddressRule::FirstCome => 1,
        AddressRule::Dhcp => 2,
        AddressRule::Exact | AddressRule::Prefix => 3,
    }
}
