use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Who;

/// Bytes of a text, and texts of one kind of evidence: a guest may have chosen some of them.
const LONGEST_TEXT: usize = 512;
const MOST_TEXTS: usize = 16;

/// What is put on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// What it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it is now; of an action, what was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    pub who: Who,
    /// The reason given, or found.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What it rests on, by name: rules, templates, digests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evidence: BTreeMap<String, Vec<String>>,
    /// The record that this one is the outcome of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A chain begins.
    ChainBegun,
    /// The chain is not the one that was written.
    ChainBroken,
    /// Checkpoints are signed by this key from here on.
    Key,
    /// Records could not be written, and are not there.
    RecordsLost,
    /// Records that were too old, or too many, have been removed.
    Pruned,
    DaemonStarted,
    DaemonStopped,
    /// The verdict on a VM.
    Vm,
    /// What a port may do.
    Port,
    /// A quarantine was imposed or lifted.
    Quarantine,
    /// The host's mode.
    Mode,
    /// A VM that is denied has a grace period.
    Grace,
    /// A VM that is denied keeps what it has, since too many would lose it.
    Held,
    /// A VM that is denied is suspended or shut down.
    Pause,
    /// Something has happened to a VM that is remediated.
    Remediation,
    /// A VM was about to start.
    Admission,
    Template,
    Policy,
    /// A person asks for something to be done. It is on record before it is done.
    ActionAsked,
    /// It has been done.
    ActionDone,
    /// It was refused, or has failed.
    ActionFailed,
    /// Somebody asked for what their role does not include, and was told so.
    Denied,
    /// The process that decides asked the enforcer for what it may not have.
    OrdersRefused,
}

/// Whom or what a record names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// `vm`, `port`, `mac`, `template`, `host`, `file`.
    #[serde(rename = "type")]
    pub of: String,
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Entry {
    pub fn new(kind: Kind, who: Who) -> Self {
        Self {
            kind,
            subject: None,
            from: None,
            to: None,
            who,
            why: String::new(),
            evidence: BTreeMap::new(),
            of: None,
        }
    }

    pub fn on(self, subject: Subject) -> Self {
        Self { subject: Some(subject), ..self }
    }

    /// From nothing, where there was nothing.
    pub fn change(self, from: Option<impl Into<String>>, to: impl Into<String>) -> Self {
        Self { from: from.map(Into::into), to: Some(to.into()), ..self }
    }

    pub fn why(self, why: impl Into<String>) -> Self {
        Self { why: why.into(), ..self }
    }

    /// Names what it rests on; nothing, where there is nothing.
    pub fn because(
        mut self,
        name: &str,
        what: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let what: Vec<String> = what.into_iter().map(Into::into).collect();
        if !what.is_empty() {
            self.evidence.insert(name.to_owned(), what);
        }
        self
    }

    /// The outcome of what the record of that number asks for.
    pub fn outcome(self, of: Option<u64>, result: Result<(), String>) -> Self {
        let (kind, why) = match result {
            Ok(()) => (Kind::ActionDone, self.why),
            Err(why) => (Kind::ActionFailed, why),
        };
        Self { kind, of, why, ..self }
    }

    /// The same, cut to what a record holds; what is cut shows it.
    pub(super) fn bounded(mut self) -> Self {
        let texts = [&mut self.from, &mut self.to].into_iter().flatten();
        texts.chain([&mut self.why]).for_each(cut);
        if let Some(subject) = &mut self.subject {
            cut(&mut subject.id);
            subject.name.iter_mut().for_each(cut);
        }
        self.who.texts().for_each(cut);
        for list in self.evidence.values_mut() {
            let more = list.len().saturating_sub(MOST_TEXTS);
            list.truncate(MOST_TEXTS);
            list.iter_mut().for_each(cut);
            if more > 0 {
                list.push(format!("… and {more} more"));
            }
        }
        self
    }
}

impl Subject {
    pub fn new(of: &str, id: impl Into<String>) -> Self {
        Self { of: of.to_owned(), id: id.into(), name: None }
    }

    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }
}

impl Kind {
    const ALL: [Self; 23] = [
        Self::ChainBegun,
        Self::ChainBroken,
        Self::Key,
        Self::RecordsLost,
        Self::Pruned,
        Self::DaemonStarted,
        Self::DaemonStopped,
        Self::Vm,
        Self::Port,
        Self::Quarantine,
        Self::Mode,
        Self::Grace,
        Self::Held,
        Self::Pause,
        Self::Remediation,
        Self::Admission,
        Self::Template,
        Self::Policy,
        Self::ActionAsked,
        Self::ActionDone,
        Self::ActionFailed,
        Self::Denied,
        Self::OrdersRefused,
    ];

    pub fn names() -> Vec<String> {
        Self::ALL.into_iter().map(Self::name).collect()
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// As a record has it.
    pub fn name(self) -> String {
        let quoted = serde_json::to_string(&self).unwrap_or_default();
        quoted.trim_matches('"').to_owned()
    }
}

fn cut(text: &mut String) {
    if text.len() > LONGEST_TEXT {
        text.truncate(text.floor_char_boundary(LONGEST_TEXT));
        text.push('…');
    }
}
