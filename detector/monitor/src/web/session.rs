//! Who is logged in. Sessions are in memory: after a restart people log in anew.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use detector_core::api::Role;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A session ends after so long, …
const LONGEST: Duration = Duration::from_secs(12 * 60 * 60);
/// … or when nothing was asked for so long.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// Sessions at a time; the one that has been idle for longest makes room.
const MOST: usize = 1000;
/// Messages that wait to be shown.
const MOST_NOTES: usize = 1000;

/// Somebody who was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) user: String,
    pub(super) role: Role,
    /// What a form of theirs has to send.
    pub(super) csrf: String,
    /// A proxy says who they are, so that there is nothing to leave.
    pub(super) by_proxy: bool,
    /// It is the page that asks, to renew itself: nobody would see a message.
    pub(super) renews: bool,
}

impl Identity {
    /// Whether a form is one of theirs.
    pub(super) fn has_sent(&self, csrf: &str) -> bool {
        same(&self.csrf, csrf)
    }
}

/// What came of an action, for the next page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) good: bool,
    pub(super) text: String,
}

struct Session {
    user: String,
    csrf: String,
    since: Instant,
    seen: Instant,
}

/// By what their tokens hash to: whoever reads our memory half-way has no token.
#[derive(Default)]
pub(super) struct Sessions {
    all: BTreeMap<[u8; 32], Session>,
    notes: BTreeMap<String, Note>,
}

impl Sessions {
    /// Begins one; the answer is its token.
    pub(super) fn begin(&mut self, user: &str, now: Instant) -> Result<String> {
        self.all.retain(|_, one| one.is_alive(now));
        if self.all.len() >= MOST {
            let idlest = self.all.iter().min_by_key(|(_, one)| one.seen).map(|(key, _)| *key);
            idlest.and_then(|key| self.all.remove(&key));
        }
        let (token, csrf) = (random()?, random()?);
        let session = Session { user: user.to_owned(), csrf, since: now, seen: now };
        self.all.insert(hash(&token), session);
        Ok(token)
    }

    /// Whose it is, and what their forms have to send.
    pub(super) fn of(&mut self, token: &str, now: Instant) -> Option<(String, String)> {
        let key = hash(token);
        let session = self.all.get_mut(&key)?;
        if !session.is_alive(now) {
            self.all.remove(&key);
            return None;
        }
        session.seen = now;
        Some((session.user.clone(), session.csrf.clone()))
    }

    pub(super) fn end(&mut self, token: &str) {
        self.all.remove(&hash(token));
    }

    /// Leaves a message for the next page that somebody sees.
    pub(super) fn leave(&mut self, identity: &Identity, note: Note) {
        if self.notes.len() >= MOST_NOTES {
            self.notes.clear();
        }
        self.notes.insert(identity.csrf.clone(), note);
    }

    pub(super) fn note(&mut self, identity: &Identity) -> Option<Note> {
        if identity.renews {
            return None;
        }
        self.notes.remove(&identity.csrf)
    }
}

impl Session {
    fn is_alive(&self, now: Instant) -> bool {
        now.duration_since(self.since) < LONGEST && now.duration_since(self.seen) < IDLE
    }
}

/// What no other process knows.
pub(super) struct Secret([u8; 32]);

impl Secret {
    pub(super) fn new() -> Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).context("there is no randomness")?;
        Ok(Self(bytes))
    }

    /// What forms of somebody have to send whom a proxy vouches for, so that there is no session.
    pub(super) fn csrf(&self, user: &str) -> String {
        // A key of this length is one of HMAC's.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(user.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }
}

/// A text that nobody guesses.
pub(super) fn random() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("there is no randomness")?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Whether two secrets are the same, in a time that does not say where they differ. Nothing is the same as none.
pub(super) fn same(one: &str, other: &str) -> bool {
    !one.is_empty() && bool::from(one.as_bytes().ct_eq(other.as_bytes()))
}

/// Whoever has it has it for a moment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends() {
        let start = Instant::now();
        let mut sessions = Sessions::default();
        let token = sessions.begin("alice", start).unwrap();
        let user = |sessions: &mut Sessions, token: &str, after: Duration| {
            sessions.of(token, start + after).map(|(user, _)| user)
        };
        assert_eq!(user(&mut sessions, &token, IDLE / 2).as_deref(), Some("alice"));
        assert_eq!(user(&mut sessions, "", Duration::ZERO), None);
        assert_eq!(user(&mut sessions, &format!("{token}a"), Duration::ZERO), None);
        // It was seen in between.
        assert!(user(&mut sessions, &token, IDLE).is_some());
        assert_eq!(user(&mut sessions, &token, IDLE * 2), None);
        // However often it is seen.
        let token = sessions.begin("alice", start).unwrap();
        let seen = (0..30).map(|half| user(&mut sessions, &token, IDLE / 2 * half).is_some());
        assert_eq!(seen.filter(|seen| *seen).count(), 24);
        let token = sessions.begin("alice", start).unwrap();
        sessions.end(&token);
        assert_eq!(user(&mut sessions, &token, Duration::ZERO), None);
    }

    #[test]
    fn sessions_are_bounded_and_the_idlest_makes_room() {
        let start = Instant::now();
        let mut sessions = Sessions::default();
        let first = sessions.begin("a", start).unwrap();
        let second = sessions.begin("a", start).unwrap();
        assert!(sessions.of(&first, start + Duration::from_secs(1)).is_some());
        for _ in 0..MOST - 1 {
            sessions.begin("b", start + Duration::from_secs(2)).unwrap();
        }
        assert_eq!(sessions.all.len(), MOST);
        assert!(sessions.of(&second, start + Duration::from_secs(3)).is_none());
        assert!(sessions.of(&first, start + Duration::from_secs(3)).is_some());
    }

    #[test]
    fn nothing_is_no_secret() {
        assert!(same("a", "a"));
        for (one, other) in [("", ""), ("a", ""), ("", "a"), ("a", "b"), ("a", "aa")] {
            assert!(!same(one, other), "{one:?} {other:?}");
        }
        let (one, other) = (Secret::new().unwrap(), Secret::new().unwrap());
        assert_eq!(one.csrf("a"), one.csrf("a"));
        assert!(one.csrf("a") != one.csrf("b") && one.csrf("a") != other.csrf("a"));
    }
}
