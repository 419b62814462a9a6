//! Bundles: fetched when one is announced, judged, and put in force by a reload.

use std::{sync::Arc, time::Duration};

use detector_core::{
    fleet::{
        Name,
        message::{Announcement, Version},
    },
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
        store::{Former, Stays, Store, Taken},
    },
};

pub(super) struct Bundles {
    store: Arc<Store>,
    speech: Speech,
    itself: Itself,
    standing: Standing,
    audit: Writer,
    /// What this host is to have, as announced last.
    wanted: Option<Pursuit>,
    /// What is in force and was withdrawn.
    withdrawn: Option<Pursuit>,
    refusals: Paced,
}

/// A bundle that is to be taken, or given back.
#[derive(Clone, Copy)]
struct Pursuit {
    version: Version,
    /// How often it was tried.
    tries: u32,
    /// When it is tried again; `None` once it has come about, or never will.
    again: Option<Instant>,
}

impl Pursuit {
    const fn of(version: Version) -> Self {
        Self { version, tries: 0, again: None }
    }

    /// It is being tried: whoever fetches it may die, and what it is refused for may pass.
    fn begin(&mut self) {
        self.again = Some(Instant::now() + pause(self.tries));
        self.tries += 1;
    }

    fn is_due(&self) -> bool {
        self.again.is_some_and(|again| again <= Instant::now())
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
        let (speech, audit, refusals) = (speech.clone(), audit.clone(), Paced::default());
        Self { store, speech, itself, standing, audit, wanted: None, withdrawn: None, refusals }
    }

    /// There is a bundle.
    pub(super) async fn announced(&mut self, announcement: Announcement) {
        let own = || self.store.in_force().ok().flatten();
        let withdrawn = own().filter(|own| announcement.withdrawn.contains(own));
        if withdrawn != version_of(self.withdrawn) {
            self.withdrawn = withdrawn.map(Pursuit::of);
            self.give_back().await;
        }
        let own = self.store.in_force().ok().flatten();
        let version = wanted(&announcement, self.speech.host(), own);
        if version != version_of(self.wanted) {
            self.wanted = version.map(Pursuit::of);
            self.try_it().await;
        }
    }

    /// Tries again what has not come about for what may have passed.
    pub(super) async fn tick(&mut self) {
        if self.withdrawn.as_ref().is_some_and(Pursuit::is_due) {
            self.give_back().await;
        }
        if self.wanted.as_ref().is_some_and(Pursuit::is_due) {
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
            Err(why) => self.refuse(version, why).await,
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

    /// The fleet has withdrawn what is in force.
    async fn give_back(&mut self) {
        let Some(pursuit) = &mut self.withdrawn else { return };
        let own = pursuit.version;
        pursuit.begin();
        let today = today(&self.itself).await;
        let store = Arc::clone(&self.store);
        let given = spawn_blocking(move || store.give_back(today)).await;
        let given = given.unwrap_or_else(|error| Err(Stays::Still(error.to_string())));
        let given = match given {
            Ok((before, former)) => match self.go_by(former).await {
                Ok(()) => Ok(before),
                Err(why) => {
                    Err(Stays::Still(format!("what was before does not hold any more: {why}")))
                }
            },
            Err(stays) => Err(stays),
        };
        match given {
            Ok(before) => {
                tracing::info!(version = own.number, "fleet: a bundle was withdrawn");
                self.record(Some(own), named(before), "the fleet has withdrawn its bundle");
                self.withdrawn = None;
                let of_it = |refused: &mut RefusedOffer| refused.version == own.number;
                self.standing.change(|standing| drop(standing.refused.take_if(of_it))).await;
            }
            Err(stays) => {
                if let (Stays::Forever(_), Some(pursuit)) = (&stays, &mut self.withdrawn) {
                    pursuit.again = None;
                }
                self.refuse(own, format!("it was withdrawn, and stays: {stays}")).await;
            }
        }
    }

    /// It has come, or has not.
    pub(super) async fn arrived(&mut self, number: u64, file: Result<String, String>) {
        let Some(Pursuit { version: wanted, again: Some(_), .. }) = self.wanted else { return };
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
                let why = "it was taken before, and did not hold here or was given back".to_owned();
                self.refuse(wanted, why).await;
            }
            Ok(Taken::Instead { version, of }) => {
                // Signed, and newer than what is in force: it counts, whatever was announced.
                self.wanted = Some(Pursuit::of(version));
                self.put_in_force(version, of).await;
            }
            Err(why) => self.refuse(wanted, why).await,
        }
    }

    async fn put_in_force(&mut self, version: Version, former: Former) {
        let before = former.version();
        match self.go_by(former).await {
            Ok(()) => {
                tracing::info!(version = version.number, "fleet: a bundle is in force");
                self.record(before, named(Some(version)), "the fleet's bundle is in force");
                self.withdrawn = None;
                self.standing.change(|standing| standing.refused = None).await;
                let store = Arc::clone(&self.store);
                let _ = spawn_blocking(move || store.tidy(before)).await;
            }
            Err(why) => self.refuse(version, format!("it does not hold here: {why}")).await,
        }
    }

    /// Reads what was named as in force; where that does not hold, what was before is in force as before.
    async fn go_by(&self, former: Former) -> Result<(), String> {
        let read = self.reload().await;
        if read.is_err() {
            let store = Arc::clone(&self.store);
            let named = spawn_blocking(move || store.go_back(former)).await;
            if let Err(why) = named.unwrap_or_else(|error| Err(error.to_string())) {
                tracing::error!(why, "fleet: the bundle before cannot be named again");
            }
            // What was read of the other is read anew.
            let _ = self.reload().await;
        }
        read
    }

    async fn reload(&self) -> Result<(), String> {
        match self.itself.ask(Request::Reload {}).await {
            Some(Reply::Reloaded(reloaded)) => reloaded.refused.clone().map_or(Ok(()), Err),
            _ => Err("the daemon does not read it".to_owned()),
        }
    }

    fn record(&self, before: Option<Version>, after: String, why: &str) {
        let entry = Entry::new(Kind::Policy, Who::Daemon)
            .on(Subject::new("fleet", self.speech.fleet().as_str()))
            .change(before.map(|before| named(Some(before))), after)
            .why(why);
        self.audit.decision(jiff::Timestamp::now(), entry);
    }

    /// Says why it is not taken, or not given back: once, however often it is tried.
    async fn refuse(&mut self, of: Version, why: String) {
        let Version { number, sha256 } = of;
        let known = self.standing.now().await.refused;
        let known = known.filter(|known| (known.version, known.sha256) == (number, sha256));
        if known.as_ref().is_some_and(|known| known.why == why) {
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
        let since = known.map_or_else(clock::now, |known| known.since);
        let refused = RefusedOffer { since, version: number, sha256, why };
        self.standing.change(|standing| standing.refused = Some(refused)).await;
    }
}

fn version_of(pursuit: Option<Pursuit>) -> Option<Version> {
    pursuit.map(|pursuit| pursuit.version)
}

/// What a host is to fetch, or has. No host goes back by itself: one that has something newer than it is to have until its turn
/// comes, or something that is withdrawn and stays, keeps that.
fn wanted(announcement: &Announcement, host: &Name, own: Option<Version>) -> Option<Version> {
    let version = announcement.version_for(host)?;
    let is_bound = |own: Version| {
        own.number > version.number
            && (version != announcement.version || announcement.withdrawn.contains(&own))
    };
    (!own.is_some_and(is_bound)).then_some(version)
}

/// A bundle as the audit has it.
fn named(version: Option<Version>) -> String {
    version.map_or_else(
        || "the host's own files".to_owned(),
        |Version { number, sha256 }| format!("{number} {sha256}"),
    )
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
    use detector_core::model::Digest;

    use super::*;

    #[test]
    fn who_has_something_newer_fetches_nothing_older_unless_all_are_to_have_that() {
        let version = |number: u64| Version { number, sha256: Digest([number as u8; 32]) };
        let all = |number| Announcement::to_all(version(number));
        let withdrawn = Announcement { withdrawn: vec![version(2)], ..all(1) };
        let staged =
            |share| Announcement { share: Some(share), others: Some(version(2)), ..all(3) };
        for (what, announcement, own, expected) in [
            ("nothing yet", all(1), None, Some(1)),
            ("that one", all(1), Some(1), Some(1)),
            ("an older one is for its own host to refuse", all(1), Some(2), Some(1)),
            ("withdrawn, and stays", withdrawn.clone(), Some(2), None),
            ("withdrawn, and given back", withdrawn.clone(), Some(1), Some(1)),
            ("a newer one than the withdrawn", withdrawn, Some(3), Some(1)),
            ("its turn", staged(1000), Some(2), Some(3)),
            ("not its turn", staged(0), Some(1), Some(2)),
            ("not its turn, and has it from before", staged(0), Some(3), None),
        ] {
            let own = own.map(version);
            let wanted = wanted(&announcement, &"a".parse().unwrap(), own);
            assert_eq!(wanted.map(|version| version.number), expected, "{what}");
        }
    }

    #[test]
    fn pauses_double_and_end() {
        let cases = [(0, 5), (1, 10), (3, 40), (10, 3600), (40, 3600), (u32::MAX, 3600)];
        for (tries, seconds) in cases {
            assert_eq!(pause(tries), Duration::from_secs(seconds), "{tries}");
        }
    }
}
