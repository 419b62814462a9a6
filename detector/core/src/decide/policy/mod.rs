//! The policy: rules in Cedar that say whether a VM may join a network, and what becomes of one that
//! may not.
//!
//! Every question has one of three answers. A fact that is not known yet, such as the digest of a disk
//! that is being read, is an *unknown* to the evaluator: a rule that hangs on it is
//! [`Outcome::Unknown`], neither met nor failed. A fact that is absent is absent, and a rule that needs
//! it fails. Only what no rule can object to any more, whatever the unknown facts turn out to be, may
//! join; and the same question without the unknown facts at all has to be allowed as well.
//!
//! Cedar leaves a rule out that fails to evaluate, which of a `forbid` would allow. Here such a rule is
//! a failed requirement ([`Verdict::errors`]).

mod answer;
mod entities;
mod facts;
mod load;
mod memo;
mod respond;

use std::sync::{Arc, LazyLock, Mutex};

use cedar_policy::PolicySet;
use serde::{Deserialize, Serialize};

use crate::model::AddressRule;

pub(super) use self::facts::links_by_name;
use self::memo::Memo;
pub use self::{
    answer::{RuleOutcome, Verdict},
    facts::{Fact, Facts, HostFacts, NicFacts, Standing, TemplateFacts, Variables},
    load::Fault,
    respond::{Responses, Stop},
};

/// The policy that is in force where no file says otherwise.
pub const DEFAULT: &str = include_str!("../../../../../packaging/policy.cedar");

/// What a policy can speak of, as Cedar writes it.
pub const SCHEMA: &str = include_str!("../../../../../packaging/policy.cedarschema");

/// The requirement that is not met where no `permit` applies.
pub const NO_PERMIT: &str = "no-permit";

/// A policy that has been read and found valid.
#[derive(Debug)]
pub struct Rules {
    text: String,
    set: PolicySet,
    /// In the order of the text.
    list: Vec<Rule>,
    warnings: Vec<Fault>,
    memo: Mutex<Memo>,
}

/// A rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub id: String,
    pub effect: RuleEffect,
    /// The action that it is about: `join`, `find`, `isolate`, `sandbox`, `pause`, `shut-down`, `remediate`,
    /// `grace` or `address-rule`.
    pub action: String,
    /// The grace period that it permits, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<u64>,
    /// The address rule that it permits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_rule: Option<AddressRule>,
    /// The provisioner of the remediation that it permits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioner: Option<String>,
    /// What it asks, for people.
    pub sentence: String,
    /// What would meet it.
    pub remedy: String,
    /// Where it begins, from 1.
    pub line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleEffect {
    Permit,
    Forbid,
}

/// The policy in force, and why it is not the one that the file asks for.
#[derive(Clone, Debug)]
pub struct Rulebook {
    pub rules: Arc<Rules>,
    /// Where the rules were read; `None` where they are the built-in ones.
    pub origin: Option<String>,
    pub refused: Option<Refused>,
}

/// A policy that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The file.
    pub path: String,
    /// What is wrong with it, each with its place; the first is the one to begin with.
    pub why: Vec<String>,
    pub since: crate::model::Timestamp,
}

impl Rules {
    /// Reads a policy. Everything that is wrong with it is returned at once.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        load::load(text)
    }

    /// The built-in policy, which every test of it shows to be valid.
    pub fn built_in() -> Arc<Self> {
        static BUILT_IN: LazyLock<Arc<Rules>> = LazyLock::new(|| {
            let rules = Rules::parse(DEFAULT);
            Arc::new(rules.unwrap_or_else(|faults| unreachable!("the built-in policy: {faults:?}")))
        });
        BUILT_IN.clone()
    }

    /// What it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Every rule, in the order of the text.
    pub fn list(&self) -> &[Rule] {
        &self.list
    }

    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.list.iter().find(|rule| rule.id == id)
    }

    /// What is odd about it, and does not keep it from being used.
    pub fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    fn about<'a>(&'a self, action: &'a str, effect: RuleEffect) -> impl Iterator<Item = &'a Rule> {
        self.list.iter().filter(move |rule| rule.action == action && rule.effect == effect)
    }
}

impl Default for Rulebook {
    fn default() -> Self {
        Self { rules: Rules::built_in(), origin: None, refused: None }
    }
}

#[cfg(test)]
mod tests;
