//! The enforcer's process: carries out orders that its warden lets pass, and tells of signs of tampering.

use std::{io, time::Duration};

use bytes::Bytes;
use detector_common::quarantine::Cause;
use detector_core::{
    model::{Digest, Observed, Policy},
    reconcile::Action,
};
use futures::{SinkExt, StreamExt};
use tokio::{
    net::UnixStream,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::codec::{Framed, FramedWrite};

use super::{
    EnforceError, Enforcer, Recheck, Tampering,
    ledger::Ledger,
    message::{
        Answer, Answered, Difference, LONGEST_ANSWER, LONGEST_ORDER, Order, PORTION, decode,
        encode, frames,
    },
    warden::{Refusal, Warden},
};
use crate::{
    bpf::{Signs, busy},
    net::NetError,
};

/// Orders that may come at once, such as on a first start…
const BURST: u32 = 20_000;
/// … and how many a second otherwise. Who has more waits.
const RATE: u32 = 5_000;
/// When nobody has had it looked around for so long, the enforcer does so by itself.
const ALONE: Duration = Duration::from_secs(2);
/// What it has found meanwhile and nobody has asked for.
const MOST_UNTOLD: usize = 1024;
/// Signs that cannot be read are tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// An enforcer that says what it holds without a copy.
pub(crate) trait Ground: Enforcer {
    fn held(&self) -> &Observed;
}

/// Reads the configuration.
pub(crate) type Load = Box<dyn Fn() -> Result<(Policy, Option<Digest>), String>>;

/// Answers orders.
pub(crate) struct Server<G> {
    ground: G,
    warden: Warden,
    /// Reads the configuration, for what is judged by it, and says of which text that is.
    load: Load,
    /// What the brain knows.
    told: Observed,
    /// What was found while the brain did not ask.
    untold: Recheck,
    ledger: Ledger,
    pace: Pace,
}

impl<G: Ground> Server<G> {
    pub(crate) fn new(ground: G, policy: Policy, load: Load) -> Result<Self, NetError> {
        Ok(Self {
            ground,
            warden: Warden::new(policy)?,
            load,
            told: Observed::default(),
            untold: Recheck::default(),
            ledger: Ledger::default(),
            pace: Pace { left: BURST, at: Instant::now() },
        })
    }

    /// Answers orders until nobody gives any.
    ///
    /// # Errors
    ///
    /// What came is no frame, so that nothing after it could be understood.
    pub(crate) async fn run(mut self, way: UnixStream) -> io::Result<()> {
        let mut way = Framed::new(way, frames(LONGEST_ORDER));
        let mut alone = Instant::now() + ALONE;
        loop {
            let order = match timeout_at(alone, way.next()).await {
                Err(_) => {
                    self.look_alone();
                    alone = Instant::now() + ALONE;
                    continue;
                }
                Ok(None) => return Ok(()),
                Ok(Some(order)) => order?,
            };
            // The timer's grain is coarser than most orders take, so that nobody waits who need not.
            if let Some(at) = self.pace.waits_until(Instant::now()) {
                sleep_until(at).await;
            }
            let answer = match decode::<Order>(&order) {
                Ok(order) => {
                    if matches!(order, Order::Recheck) {
                        alone = Instant::now() + ALONE;
                    }
                    self.answer(order)
                }
                Err(error) => Err(self.refuse(Refusal::Certain(error.0))),
            };
            self.ledger.tell(Instant::now());
            way.codec_mut().set_max_frame_length(LONGEST_ANSWER);
            way.send(Bytes::from(within(&answer, LONGEST_ANSWER).map_err(io::Error::other)?))
                .await?;
            way.codec_mut().set_max_frame_length(LONGEST_ORDER);
        }
    }

    fn answer(&mut self, order: Order) -> Answered {
        let ground = &mut self.ground;
        Ok(match order {
            Order::Observe => {
                let now = ground.observe()?;
                let difference = Difference::between(&self.told, &now, PORTION);
                match difference.is_whole() {
                    true => self.told = now,
                    false => difference.clone().apply(&mut self.told),
                }
                Answer::Observed(Box::new(difference))
            }
            Order::Execute(action) => {
                let held = ground.held();
                if let Err(refusal) = self.warden.judge(&action, held) {
                    return Err(self.refuse(refusal));
                }
                match &action {
                    Action::LiftQuarantine(target) => {
                        held.quarantines
                            .get(target)
                            .into_iter()
                            .for_each(|one| self.ledger.lifted(one));
                    }
                    Action::PutQuarantine(now) | Action::GiveQuarantineBack(now) => {
                        let before = held.quarantines.get(&now.target);
                        let by_a_person = before.filter(|before| before.cause == Cause::Operator);
                        if let Some(before) = by_a_person.filter(|before| *before != now) {
                            self.ledger.exchanged(before, now);
                        }
                    }
                    Action::SetMode(mode) => self.ledger.mode_changed(mode),
                    _ => {}
                }
                ground.execute(&action)?;
                Answer::Done
            }
            Order::TicksAfter(seconds) => Answer::Ticks(ground.ticks_after(seconds)?),
            Order::Recheck => {
                let before = busy();
                let now = ground.recheck()?;
                let all = merged(std::mem::take(&mut self.untold), now);
                Answer::Recheck(all, busy().saturating_sub(before))
            }
            Order::RecheckFor(signs) => {
                let before = busy();
                let found = ground.recheck_for(&signs)?;
                Answer::Recheck(found, busy().saturating_sub(before))
            }
            Order::Resync => {
                ground.resync()?;
                Answer::Done
            }
            Order::Seen => Answer::Seen(many(ground.seen()?)),
            Order::Learned => Answer::Learned(many(ground.learned()?)),
            Order::LearnedBy(ifindex) => Answer::LearnedBy(all(ground.learned_by(ifindex)?)),
            Order::OwnerOf(key) => Answer::Owner(ground.owner_of(key.0)?),
            Order::IsRouter(key) => Answer::Router(ground.is_router(key.0)?),
            Order::Counts(ifindex) => Answer::Counts(ground.counts(ifindex)?.map(Into::into)),
            Order::Refused(ifindex) => Answer::Refused(ground.refused(ifindex)?),
            Order::EndPredecessors => {
                ground.end_predecessors()?;
                Answer::Done
            }
            Order::Reload(theirs) => {
                // One that cannot be used changes nothing, here as there.
                let (policy, ours) = (self.load)().map_err(EnforceError)?;
                // Whoever gives orders by another text would be refused what follows from that one only. It chooses
                // none by this: what is gone by is what is in the file.
                if ours != theirs {
                    let why = "it has changed since the daemon has read it: reload once more";
                    return Err(EnforceError(why.to_owned()));
                }
                self.warden.follow(policy);
                Answer::Done
            }
        })
    }

    /// What is in force stays so, whatever has become of the brain.
    fn look_alone(&mut self) {
        match self.ground.recheck() {
            Ok(found) => {
                let untold = std::mem::take(&mut self.untold);
                self.untold = merged(untold, found);
            }
            Err(error) => tracing::warn!(%error, "cannot look whether what is in force still is"),
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> EnforceError {
        self.ledger.refused(&refusal, Instant::now(), &mut self.untold.refused);
        refusal.into()
    }
}

/// The answer as it is sent; one that is too long becomes one that says so.
fn within(answer: &Answered, longest: usize) -> Result<Vec<u8>, EnforceError> {
    let body = encode(answer)?;
    if body.len() <= longest {
        return Ok(body);
    }
    let why = format!("the answer has {} bytes, and {longest} are the most", body.len());
    encode(&Answered::Err(EnforceError(why)))
}

fn merged(before: Recheck, now: Recheck) -> Recheck {
    let mut tampering: Vec<Tampering> = before.tampering;
    tampering.extend(now.tampering);
    tampering.truncate(MOST_UNTOLD);
    let mut refused = before.refused;
    refused.add(now.refused);
    Recheck { changed: before.changed || now.changed, tampering, refused }
}

fn all<From, To: std::convert::From<From>>(list: Vec<From>) -> Vec<To> {
    list.into_iter().map(Into::into).collect()
}

fn many<K: Ord, From, To: std::convert::From<From>>(
    lists: std::collections::BTreeMap<K, Vec<From>>,
) -> std::collections::BTreeMap<K, Vec<To>> {
    lists.into_iter().map(|(key, list)| (key, all(list))).collect()
}

/// How many orders may come.
struct Pace {
    left: u32,
    at: Instant,
}

impl Pace {
    /// When the next one may be carried out; `None` for at once.
    fn waits_until(&mut self, now: Instant) -> Option<Instant> {
        let since = now.saturating_duration_since(self.at);
        let more = (since.as_secs_f64() * f64::from(RATE)) as u32;
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST);
            self.at = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                None
            }
            None => Some(now + Duration::from_secs(1) / RATE),
        }
    }
}

/// Hands on signs of tampering, for as long as somebody takes them.
pub(crate) async fn hand_on(mut signs: Signs, way: UnixStream) {
    let mut way = FramedWrite::new(way, frames(LONGEST_ANSWER));
    loop {
        match signs.next().await {
            Ok(found) => {
                let Ok(frame) = encode(&found) else { continue };
                if way.send(Bytes::from(frame)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "tampering: it is noticed by looking only, for a while");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
