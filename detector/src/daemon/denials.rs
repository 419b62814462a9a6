//! Who was refused for lack of a role: on record, and however often somebody tries, not more than that.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, task::spawn_blocking, time::timeout};

use crate::{
    api::server::Denial,
    audit::{Entry, Kind, Subject, Who, Writer},
};

/// Denials that wait; more at once are of one who tries and tries.
pub(super) const BACKLOG: usize = 64;
/// The same user is recorded once in this time, with how often they were refused since.
const PAUSE: Duration = Duration::from_secs(60);
/// Users who are told apart; there are no more records than these in that time.
const USERS: usize = 256;
/// How long a user's name may take to be found.
const NAMES: Duration = Duration::from_secs(2);

/// Puts denials on record until there are no more.
pub(super) async fn record(mut denials: mpsc::Receiver<Denial>, audit: Writer) {
    let mut pace = Pace::default();
    while let Some(denial) = denials.recv().await {
        let uid = denial.peer.uid;
        let Some(before) = pace.may(uid, Instant::now()) else { continue };
        let (asked, why) = (name(&denial), denial.error().message);
        tracing::warn!(uid, asked, "refused for lack of a role");
        let named = timeout(NAMES, spawn_blocking(move || Who::peer(&denial.peer))).await;
        let who = named.ok().and_then(Result::ok).unwrap_or(Who::User { uid });
        let entry = Entry::new(Kind::Denied, who)
            .on(Subject::new("host", "socket"))
            .change(None::<String>, asked)
            .why(why)
            .because("not-recorded-before", (before > 0).then(|| before.to_string()));
        audit.decision(jiff::Timestamp::now(), entry);
    }
}

/// What was asked, as a request is called.
fn name(denial: &Denial) -> String {
    let value = denial.request.as_ref().and_then(|request| serde_json::to_value(request).ok());
    let name = value.as_ref().and_then(|value| value.as_object()?.keys().next().cloned());
    name.unwrap_or_else(|| "connect".to_owned())
}

/// When each user was recorded last, and how often they were not since.
#[derive(Debug, Default)]
struct Pace(BTreeMap<u32, (Instant, u64)>);

impl Pace {
    /// How many of this user's denials have gone unrecorded before this one; `None` when this one does, too.
    fn may(&mut self, uid: u32, now: Instant) -> Option<u64> {
        if let Some((last, missed)) = self.0.get_mut(&uid) {
            if now < *last + PAUSE {
                *missed += 1;
                return None;
            }
            *last = now;
            return Some(std::mem::take(missed));
        }
        if self.0.len() >= USERS {
            self.0.retain(|_, (last, _)| now < *last + PAUSE);
        }
        let room = self.0.len() < USERS;
        room.then(|| {
            self.0.insert(uid, (now, 0));
            0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_tries_and_tries_takes_a_bounded_share() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.may(7, start), Some(0));
        assert_eq!((0..100).find_map(|_| pace.may(7, start)), None);
        assert_eq!(pace.may(8, start), Some(0), "another one is heard");
        assert_eq!(pace.may(7, start + PAUSE), Some(100));
        let heard = (0..100_000).filter(|uid| pace.may(*uid, start + PAUSE).is_some()).count();
        assert!(heard <= USERS, "{heard}");
        assert!(pace.may(1_000_000, start + 3 * PAUSE).is_some());
    }
}
