//! How much verdicts take away: written down before it is carried out, and what people say of the rest.

use std::time::Duration;

use detector_core::model::{Mitigations, Recorded, Rejected, Timestamp, Word};
use uuid::Uuid;

use super::{
    brain::Brain,
    input::{CallId, Effect},
};
use crate::{
    api::{ApiError, ErrorCode, Reply},
    enforcer::Enforcer,
};

/// Until what could not be written down is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// What is on its way to the disk.
#[derive(Debug, Default)]
pub(super) struct Guarding {
    writing: Option<(Mitigations, Vec<CallId>)>,
    /// What people have said since.
    words: Vec<Said>,
    /// Whose word is on the disk: they are answered when it has been acted upon.
    heard: Vec<CallId>,
    retry: Option<Timestamp>,
}

/// What a person has said of VMs that are held.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) by: CallId,
    pub(super) vms: Vec<Uuid>,
    pub(super) word: Word,
}

impl Guarding {
    pub(super) fn hear(&mut self, said: Said) {
        self.words.push(said);
    }

    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.retry
    }
}

impl<E: Enforcer> Brain<E> {
    /// This was written down before the start.
    pub(super) fn recall_mitigations(&mut self, mitigations: Mitigations) {
        self.world.recorded = Recorded { mitigations, lost: None };
    }

    /// Has written down what is to be taken next, and answers whose word is in force.
    pub(super) fn keep_mitigations(&mut self) {
        for id in std::mem::take(&mut self.guarding.heard) {
            let reply = Ok(Reply::Mitigations(Box::new(self.mitigations_view())));
            self.emit(Effect::Reply { id, reply, last: true });
        }
        let now = self.world.now;
        let (said, due) = {
            let guarding = &self.guarding;
            (!guarding.words.is_empty(), guarding.retry.is_none_or(|at| at <= now))
        };
        if self.guarding.writing.is_some() || !(said || due) {
            return;
        }
        let mut next = self.decision.mitigations.clone();
        let mut callers = Vec::new();
        for Said { by, vms, word } in std::mem::take(&mut self.guarding.words) {
            for vm in vms {
                if let Some(hold) = next.held.get_mut(&vm) {
                    hold.word = Some(word.clone());
                }
            }
            callers.push(by);
        }
        let kept = self.world.recorded.lost.is_none() && next == self.world.recorded.mitigations;
        if kept && callers.is_empty() {
            return;
        }
        self.guarding.retry = None;
        self.guarding.writing = Some((next.clone(), callers));
        self.emit(Effect::KeepMitigations(Box::new(next)));
    }

    /// What was to be written down has been, or cannot be: then nothing more is taken without a person.
    pub(super) fn mitigations_kept(&mut self, result: Result<(), Rejected>) {
        let Some((mitigations, callers)) = self.guarding.writing.take() else { return };
        match result {
            Ok(()) => {
                let before = &self.world.recorded.mitigations.held;
                let said = mitigations.held.iter().filter(|(uuid, hold)| {
                    let before = before.get(*uuid).and_then(|hold| hold.word.as_ref());
                    hold.word.is_some() && hold.word.as_ref() != before
                });
                let said: Vec<_> = said.map(|(uuid, hold)| (*uuid, hold.clone())).collect();
                for (uuid, hold) in said {
                    self.record_word(uuid, &hold);
                }
                self.world.recorded = Recorded { mitigations, lost: None };
                self.guarding.heard.extend(callers);
            }
            Err(why) => {
                let message = format!(
                    "nothing was done: it cannot be written down ({}). `detector quarantine add vm VM` cuts one \
                     off all the same",
                    why.why
                );
                tracing::error!(why = why.why, "how many VMs were cut off cannot be written down");
                self.world.recorded.lost = Some(why);
                self.guarding.retry = Some(self.world.now + RETRY);
                for id in callers {
                    let reply = Err(ApiError::new(ErrorCode::Unavailable, message.clone()));
                    self.emit(Effect::Reply { id, reply, last: true });
                }
            }
        }
    }
}
