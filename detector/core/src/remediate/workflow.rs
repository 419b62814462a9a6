use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Planned, Step, StepState};
use crate::model::{Digest, Image, Quarantine, Template, TemplateStatus, Timestamp};

/// Characters of a text that a workflow keeps.
pub const LONGEST_TEXT: usize = 500;
/// What a workflow remembers of its past; the oldest goes first.
pub const MOST_EVENTS: usize = 100;

/// The remediation of one VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workflow {
    pub vm: Uuid,
    /// The VM's name when it began, chosen by whoever made the VM.
    pub name: String,
    pub outcome: Outcome,
    /// Who has started it.
    pub begun: By,
    /// How many have to approve, by what was configured when it began.
    pub needed: u8,
    pub steps: Vec<Planned>,
    pub approvals: Vec<Approval>,
    /// What the VM may boot from, and no other VM: the digests that people have approved.
    #[serde(default)]
    pub approved: Vec<Image>,
    /// The people who have approved that.
    #[serde(default)]
    pub approvers: BTreeSet<u32>,
    /// The quarantine of before it began.
    pub before: Option<Quarantine>,
    /// What it leads to.
    pub goal: End,
    /// When it got there.
    pub ended: Option<Timestamp>,
    /// The VM that has taken its place.
    #[serde(default)]
    pub successor: Option<Uuid>,
    pub history: VecDeque<Event>,
    /// Rises with every change that is written down.
    pub revision: u64,
}

/// How a VM is to come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Its image is changed, by the provisioner or by a person, and that image is approved for it alone.
    Patched { provisioner: Option<String> },
    /// Its image becomes a template.
    Template { template: String },
    /// A VM of a template takes its place.
    Replaced { template: String },
}

/// Somebody did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    pub uid: u32,
    pub at: Timestamp,
    pub why: String,
}

/// Somebody approves that a VM boots from what has these digests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub by: By,
    pub digests: BTreeSet<Digest>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub at: Timestamp,
    /// `None` of what nobody has asked for.
    pub uid: Option<u32>,
    pub what: String,
}

/// Where a VM is on its way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Discovered,
    Quarantined,
    Sandboxed,
    Provisioning,
    Verifying,
    Released,
    Replaced,
    Rejected,
    /// In quarantine as before the remediation.
    Aborted,
}

/// How a remediation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    Released,
    Replaced,
    Rejected,
    Aborted,
}

/// Why something is not done, in a sentence that says the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl Outcome {
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Patched { .. } => "patched",
            Self::Template { .. } => "template",
            Self::Replaced { .. } => "replaced",
        }
    }

    /// The template that it is about.
    pub fn template(&self) -> Option<&str> {
        match self {
            Self::Patched { .. } => None,
            Self::Template { template } | Self::Replaced { template } => Some(template),
        }
    }

    pub(super) const fn goal(&self) -> End {
        match self {
            Self::Patched { .. } | Self::Template { .. } => End::Released,
            Self::Replaced { .. } => End::Replaced,
        }
    }
}

impl Stage {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discovered => "discovered",
            Self::Quarantined => "quarantined",
            Self::Sandboxed => "sandboxed",
            Self::Provisioning => "provisioning",
            Self::Verifying => "verifying",
            Self::Released => "released",
            Self::Replaced => "replaced",
            Self::Rejected => "rejected",
            Self::Aborted => "aborted",
        }
    }
}

impl End {
    pub const fn stage(self) -> Stage {
        match self {
            Self::Released => Stage::Released,
            Self::Replaced => Stage::Replaced,
            Self::Rejected => Stage::Rejected,
            Self::Aborted => Stage::Aborted,
        }
    }
}

impl Workflow {
    pub fn stage(&self) -> Stage {
        match (self.ended, self.current()) {
            (Some(_), _) => self.goal.stage(),
            (None, Some(planned)) => planned.step.stage(planned.has_begun()),
            (None, None) => Stage::Verifying,
        }
    }

    pub const fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    /// The step that is not done yet and comes first.
    pub fn current(&self) -> Option<&Planned> {
        self.steps.iter().find(|planned| !planned.is_done())
    }

    /// Whether the step was done.
    pub fn has_done(&self, step: Step) -> bool {
        self.steps.iter().any(|planned| planned.step == step && planned.is_done())
    }

    /// The template that stands for what people have approved for this VM alone.
    pub fn birth(&self) -> Option<Template> {
        if self.approved.is_empty() {
            return None;
        }
        let by: Vec<_> = self.approvers.iter().map(u32::to_string).collect();
        // Of what was written down by an earlier release nobody knows by whom.
        let by = match &by[..] {
            [] => String::new(),
            by => format!(" by uid {}", by.join(", ")),
        };
        Some(Template {
            reason: Some(format!("approved for this VM alone{by}")),
            images: self.approved.clone(),
            ..Template::new(format!("remediated/{}", self.vm), TemplateStatus::Approved)
        })
    }

    /// Of whom the approvals count: all name the same, no two are the same person's, and with two or more needed
    /// whoever has started it is none of them.
    pub fn counted(&self, needed: u8) -> BTreeSet<u32> {
        let Some(latest) = self.approvals.last() else { return BTreeSet::new() };
        let same = self.approvals.iter().filter(|one| one.digests == latest.digests);
        let counts = |uid: &u32| needed < 2 || *uid != self.begun.uid;
        same.map(|approval| approval.by.uid).filter(counts).collect()
    }

    /// How many have to approve.
    pub fn needed(&self, configured: u8) -> u8 {
        self.needed.max(configured).max(1)
    }

    /// Remembers something.
    pub fn note(&mut self, at: Timestamp, uid: Option<u32>, what: impl Into<String>) {
        let what = cut(what.into());
        self.history.push_back(Event { at, uid, what });
        while self.history.len() > MOST_EVENTS {
            self.history.pop_front();
        }
        self.revision += 1;
    }

    /// It is about to be written down that a step begins.
    ///
    /// # Errors
    ///
    /// It is not the one that comes next.
    pub fn begin(&mut self, step: Step, now: Timestamp) -> Result<(), Refusal> {
        let vm = self.vm;
        match self.current_mut(step) {
            Some(planned) if planned.state == StepState::Waiting => {
                planned.state = StepState::Begun(now);
                self.note(now, None, format!("{} begins", step.as_str()));
                Ok(())
            }
            _ => Err(Refusal(format!("{} is not what comes next for {vm}", step.as_str()))),
        }
    }

    /// The step that has begun is done, or has failed. A step that has not begun is none of anybody's.
    ///
    /// # Errors
    ///
    /// It is not the step that has begun.
    pub fn finish(
        &mut self,
        step: Step,
        now: Timestamp,
        result: Result<String, String>,
    ) -> Result<(), Refusal> {
        let vm = self.vm;
        match self.current_mut(step) {
            Some(planned) if planned.has_begun() => {
                let (state, says, what) = match result {
                    Ok(says) => (StepState::Done(now), says, "is done"),
                    Err(why) => (StepState::Failed(now), why, "has failed"),
                };
                let says = cut(says);
                let colon = if says.is_empty() { "" } else { ": " };
                let event = format!("{} {what}{colon}{says}", step.as_str());
                (planned.state, planned.note, planned.percent) = (state, says, None);
                self.note(now, None, event);
                Ok(())
            }
            _ => Err(Refusal(format!("{} has not begun for {vm}", step.as_str()))),
        }
    }

    /// How far the step is that has begun. It is not written down.
    pub fn progress(&mut self, step: Step, percent: Option<u8>, says: String) {
        if let Some(planned) = self.current_mut(step).filter(|planned| planned.has_begun()) {
            (planned.percent, planned.note) = (percent.map(|part| part.min(100)), cut(says));
        }
    }

    /// A step that was done is not any more, and comes again; one that was not planned comes before what is done to
    /// the VM.
    pub fn redo(&mut self, step: Step, now: Timestamp, why: &str) {
        let what = match self.steps.iter_mut().find(|planned| planned.step == step) {
            Some(planned) => {
                *planned = Planned::new(step);
                "once more"
            }
            None => {
                let is_before =
                    |planned: &&Planned| matches!(planned.step, Step::Quarantine | Step::Evidence);
                let place = self.steps.iter().take_while(is_before).count();
                self.steps.insert(place, Planned::new(step));
                "after all"
            }
        };
        self.note(now, None, format!("{} {what}: {why}", step.as_str()));
    }

    /// What has been approved, and by whom.
    pub fn approve_images(&mut self, images: Vec<Image>, by: BTreeSet<u32>) {
        if self.approves_images() {
            (self.approved, self.approvers) = (images, by);
        }
    }

    /// All steps are done.
    pub fn end(&mut self, now: Timestamp) {
        self.ended = Some(now);
        self.note(now, None, self.goal.stage().as_str());
    }

    pub(super) fn current_mut(&mut self, step: Step) -> Option<&mut Planned> {
        let current = self.steps.iter_mut().find(|planned| !planned.is_done());
        current.filter(|planned| planned.step == step)
    }
}

/// What is kept of a text that others may have chosen.
pub(super) fn cut(text: String) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
