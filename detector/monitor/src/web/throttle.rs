//! How often somebody may try to log in.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Wrong passwords from one place before it has to wait, and the longest that it waits.
const FROM_A_PLACE: (u32, Duration) = (5, Duration::from_secs(15 * 60));
/// The same of one account, from wherever: others can keep nobody out for long.
const OF_AN_ACCOUNT: (u32, Duration) = (20, Duration::from_secs(30));
/// Who is remembered; after that, whoever may try again first makes room.
const MOST: usize = 4096;
/// Somebody who has not tried for so long has not tried.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Place(IpAddr),
    Account(String),
}

#[derive(Clone, Copy, Debug)]
struct Tries {
    wrong: u32,
    until: Instant,
    last: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Throttle(BTreeMap<Key, Tries>);

impl Throttle {
    /// How long somebody has to wait; `None` where they need not. A try counts as a wrong one until it was right, so
    /// that many at a time count, too.
    pub(super) fn begin(
        &mut self,
        place: Option<IpAddr>,
        account: &str,
        now: Instant,
    ) -> Option<Duration> {
        let keys = keys(place, account);
        let waits = keys.iter().filter_map(|(key, _)| self.0.get(key));
        let wait = waits.map(|tries| tries.until.saturating_duration_since(now)).max();
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            return Some(wait);
        }
        for (key, (free, longest)) in keys {
            self.make_room(now);
            let fresh = Tries { wrong: 0, until: now, last: now };
            let tries = self.0.entry(key).or_insert(fresh);
            if now.duration_since(tries.last) > FORGOTTEN {
                *tries = fresh;
            }
            tries.wrong = tries.wrong.saturating_add(1);
            tries.last = now;
            let over = tries.wrong.saturating_sub(free);
            if over > 0 {
                let wait = Duration::from_secs(1u64 << over.min(20));
                tries.until = now + wait.min(longest);
            }
        }
        None
    }

    /// It was right.
    pub(super) fn succeed(&mut self, place: Option<IpAddr>, account: &str) {
        for (key, _) in keys(place, account) {
            self.0.remove(&key);
        }
    }

    fn make_room(&mut self, now: Instant) {
        if self.0.len() < MOST {
            return;
        }
        self.0.retain(|_, tries| now.duration_since(tries.last) <= FORGOTTEN);
        if self.0.len() >= MOST {
            let first = self.0.iter().min_by_key(|(_, tries)| (tries.until, tries.last));
            if let Some(key) = first.map(|(key, _)| key.clone()) {
                self.0.remove(&key);
            }
        }
    }
}

fn keys(place: Option<IpAddr>, account: &str) -> Vec<(Key, (u32, Duration))> {
    let account = (Key::Account(account.chars().take(64).collect()), OF_AN_ACCOUNT);
    let place = place.map(|place| (Key::Place(network(place)), FROM_A_PLACE));
    place.into_iter().chain([account]).collect()
}

/// Of IPv6 somebody has a whole network to come from.
fn network(place: IpAddr) -> IpAddr {
    match place {
        IpAddr::V4(_) => place,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn who_guesses_waits_and_others_do_not() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let (guesser, other) = (place("2001:db8::1"), place("2001:db8:0:1::1"));
        for _ in 0..=FROM_A_PLACE.0 {
            assert_eq!(throttle.begin(guesser, "alice", start), None);
        }
        assert!(throttle.begin(guesser, "alice", start).is_some());
        assert!(
            throttle.begin(place("2001:db8::2"), "bob", start).is_some(),
            "of the same network"
        );
        assert_eq!(throttle.begin(other, "alice", start), None);
        let later = start + Duration::from_secs(3);
        assert_eq!(throttle.begin(guesser, "alice", later), None);
        assert!(
            throttle.begin(guesser, "alice", later + Duration::from_secs(3)).is_some(),
            "longer"
        );
        throttle.succeed(guesser, "alice");
        assert_eq!(throttle.begin(guesser, "alice", later), None);
    }

    #[test]
    fn guesses_from_everywhere_make_one_account_wait_for_a_moment() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let mut waited = Duration::ZERO;
        for number in 0..100u8 {
            let wait = throttle.begin(place(&format!("192.0.2.{number}")), "alice", start);
            waited = waited.max(wait.unwrap_or_default());
        }
        assert!(!waited.is_zero() && waited <= OF_AN_ACCOUNT.1, "{waited:?}");
        assert_eq!(throttle.begin(place("198.51.100.1"), "bob", start), None);
    }

    #[test]
    fn it_is_bounded() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        for number in 0..2 * MOST {
            throttle.begin(None, &number.to_string(), start);
        }
        assert!(throttle.0.len() <= MOST + 1);
    }
}
