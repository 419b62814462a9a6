//! Bundles: fetched when one is announced, judged, and put in force by a reload.

use std::{sync::Arc, time::Duration};

use detector_core::{
    fleet::message::{Announcement, Version},
    model::{RefusedOffer, Skew},
};
use tokio::{task::spawn_blocking, time::Instant};

use super::{super::itself::Itself, Paced, Standing};
use crate::{
    api::{Reply, Request},
    audit::{Entry, Kind, Subject, Who, Writer},
    clock,
    fleet::{
        speech::Speech,
        store::{Store, Taken},
    },
};

pub(super) struct Bundles {
    store: Arc<Store>,
    speech: Speech,
    itself: Itself,
    standing: Standing,
    audit: Writer,
    /// What was announced last.
    wanted: Option<Wanted>,
    refusals: Paced,
}

/// A bundle that was announced.
#[derive(Clone, Copy)]
struct Wanted {
    version: Version,
    /// How often it was tried.
    tries: u32,
    /// When it is tried again; `None` once it is in force, or will never be.
    again: Option<Instant>,
}

impl Wanted {
    /// It is being tried: whoever fetches it may die, and what it is refused for may pass.
    fn begin(&mut self) {
        self.again = Some(Instant::now() + pause(self.tries));
        self.tries += 1;
    }
}

const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LAST_PAUSE: Duration = Duration::from_secs(60 * 60);

fn pause(tries: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(tries)).min(LAST_PAUSE)
}

impl Bundles {
    pub(super) fn new(
        store: Arc<Store>,
        speech: &Speech,
        itself: Itself,
        standing: Standing,
        audit: &Writer,
    ) -> Self {
        let (speech, audit) = (speech.clone(), audit.clone());
        Self { store, speech, itself, standing, audit, wanted: None, refusals: Paced::default() }
    }

    /// There is a bundle.
    pub(super) async fn announced(&mut self, announcement: Announcement) {
        let version = announcement.version;
        let is_known = self.wanted.is_some_and(|wanted| wanted.version == version);
        if announcement.is_for(self.speech.host()) && !is_known {
            self.wanted = Some(Wanted { version, tries: 0, again: None });
            self.try_it().await;
        }
    }

    /// Tries again what has not come, or was refused for what may have passed.
    pub(super) async fn tick(&mut self) {
        let due = |wanted: Wanted| wanted.again.is_some_and(|again| again <= Instant::now());
        if self.wanted.is_some_and(due) {
            self.try_it().await;
        }
    }

    async fn try_it(&mut self) {
        let Some(wanted) = &mut self.wanted else { return };
        let version = wanted.version;
        wanted.begin();
        match self.store.in_force() {
            Ok(Some(own)) if own == version => self.settle().await,
            Ok(_) => self.speech.fetch(version.number).await,
            Err(why) => self.refuse(version.number, why).await,
        }
    }

    /// The one that is wanted is in force.
    async fn settle(&mut self) {
        self.give_up();
        self.standing.change(|standing| standing.refused = None).await;
    }

    fn give_up(&mut self) {
        if let Some(wanted) = &mut self.wanted {
            wanted.again = None;
        }
    }

    /// It has come, or has not.
    pub(super) async fn arrived(&mut self, number: u64, file: Result<String, String>) {
        let Some(Wanted { version: wanted, again: Some(_), .. }) = self.wanted else { return };
        if wanted.number != number {
            return;
        }
        let file = match file {
            Ok(file) => file,
            Err(why) => return tracing::warn!(why, number, "fleet: a bundle cannot be fetched"),
        };
        let store = Arc::clone(&self.store);
        let today = today(&self.itself).await;
        let taken = spawn_blocking(move || store.take(file.as_bytes(), today)).await;
        match taken.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(Taken::Known) if self.store.in_force() == Ok(Some(wanted)) => self.settle().await,
            Ok(Taken::Known) => {
                self.give_up();
                let why = "it was taken before, and did not hold here".to_owned();
                self.refuse(number, why).await;
            }
            Ok(Taken::Instead { version, of }) => {
                // Signed, and newer than what is in force: it counts, whatever was announced.
                self.wanted = Some(Wanted { version, tries: 0, again: None });
                self.put_in_force(version, of).await;
            }
            Err(why) => self.refuse(number, why).await,
        }
    }

    async fn put_in_force(&mut self, version: Version, before: Option<Version>) {
        let held = match self.itself.ask(Request::Reload {}).await {
            Some(Reply::Reloaded(reloaded)) => reloaded.refused.clone().map_or(Ok(()), Err),
            _ => Err("the daemon does not read it".to_owned()),
        };
        match held {
            Ok(()) => {
                tracing::info!(version = version.number, "fleet: a bundle is in force");
                let name = |version: Version| format!("{} {}", version.number, version.sha256);
                let entry = Entry::new(Kind::Policy, Who::Daemon)
                    .on(Subject::new("fleet", self.speech.fleet().as_str()))
                    .change(before.map(name), name(version))
                    .why("the fleet's bundle is in force");
                self.audit.decision(jiff::Timestamp::now(), entry);
                self.standing.change(|standing| standing.refused = None).await;
                let store = Arc::clone(&self.store);
                let _ = spawn_blocking(move || store.tidy(before)).await;
            }
            Err(why) => {
                if let Err(why) = self.store.go_back(before) {
                    tracing::error!(why, "fleet: the bundle before cannot be named again");
                }
                // What was read of the other is read anew.
                let _ = self.itself.ask(Request::Reload {}).await;
                self.refuse(version.number, format!("it does not hold here: {why}")).await;
            }
        }
    }

    /// Says why it is not taken: once, however often it is tried.
    async fn refuse(&mut self, number: u64, why: String) {
        let known = self.standing.now().await.refused;
        if known.as_ref().is_some_and(|known| known.version == number && known.why == why) {
            return;
        }
        tracing::warn!(number, why, "fleet: a bundle is not taken");
        if let Some(before) = self.refusals.due() {
            let entry = Entry::new(Kind::Policy, Who::Daemon)
                .on(Subject::new("fleet", self.speech.fleet().as_str()))
                .change(None::<String>, format!("refused {number}"))
                .why(why.clone())
                .because("not-recorded-before", (before > 0).then(|| before.to_string()));
            self.audit.decision(jiff::Timestamp::now(), entry);
        }
        let same = known.filter(|known| known.version == number);
        let since = same.map_or_else(clock::now, |known| known.since);
        let refused = RefusedOffer { since, version: number, why };
        self.standing.change(|standing| standing.refused = Some(refused)).await;
    }
}

/// The time of day as far as it is known: while the clock is doubted, both times count.
async fn today(itself: &Itself) -> detector_core::model::Today {
    let moment = |at: jiff::Timestamp| {
        detector_core::model::Timestamp(u64::try_from(at.as_millisecond()).unwrap_or(0))
    };
    match itself.ask(Request::ClockShow {}).await {
        Some(Reply::Clock(clock)) => detector_core::model::Today {
            earliest: moment(clock.earliest),
            latest: moment(clock.latest),
        },
        // By which nothing is known not to have expired.
        _ => Skew { most: i64::MAX, ..Skew::default() }.today(clock::now()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        let cases = [(0, 5), (1, 10), (3, 40), (10, 3600), (40, 3600), (u32::MAX, 3600)];
        for (tries, seconds) in cases {
            assert_eq!(pause(tries), Duration::from_secs(seconds), "{tries}");
        }
    }
}
