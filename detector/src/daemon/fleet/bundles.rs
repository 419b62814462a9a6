//! Bundles: fetched when one is announced, judged, and put in force by a reload.

use std::sync::Arc;

use detector_core::{
    fleet::message::{Announcement, Version},
    model::{RefusedOffer, Skew},
};
use tokio::task::spawn_blocking;

use super::{super::itself::Itself, Standing};
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
    /// The one that is to be fetched, or was refused: it is not fetched again.
    wanted: Option<Version>,
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
        Self { store, speech, itself, standing, audit, wanted: None }
    }

    /// There is a bundle.
    pub(super) async fn announced(&mut self, announcement: Announcement) {
        let version = announcement.version;
        if !announcement.is_for(self.speech.host()) || self.wanted == Some(version) {
            return;
        }
        match self.store.in_force() {
            Ok(Some(own)) if own == version => {
                self.standing.change(|standing| standing.refused = None).await;
            }
            Ok(_) => {
                self.wanted = Some(version);
                self.speech.fetch(version.number).await;
            }
            Err(why) => self.refuse(version.number, why).await,
        }
    }

    /// It has come, or has not.
    pub(super) async fn arrived(&mut self, number: u64, file: Result<String, String>) {
        if self.wanted.is_none_or(|wanted| wanted.number != number) {
            return;
        }
        let file = match file {
            Ok(file) => file,
            Err(why) => {
                // It is asked for again when it is announced again.
                tracing::warn!(why, number, "fleet: a bundle cannot be fetched");
                self.wanted = None;
                return;
            }
        };
        let store = Arc::clone(&self.store);
        let today = today(&self.itself).await;
        let taken = spawn_blocking(move || store.take(file.as_bytes(), today)).await;
        match taken.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(Taken::Known) if self.store.in_force() == Ok(self.wanted) => {}
            Ok(Taken::Known) => {
                let why = "it was taken before, and did not hold here".to_owned();
                self.refuse(number, why).await;
            }
            Ok(Taken::Instead { version, of }) => {
                // Signed, and newer than what is in force: it counts, whatever was announced.
                self.wanted = Some(version);
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

    async fn refuse(&self, number: u64, why: String) {
        tracing::warn!(number, why, "fleet: a bundle is not taken");
        let since = clock::now();
        let entry = Entry::new(Kind::Policy, Who::Daemon)
            .on(Subject::new("fleet", self.speech.fleet().as_str()))
            .change(None::<String>, format!("refused {number}"))
            .why(why.clone());
        self.audit.decision(jiff::Timestamp::now(), entry);
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
