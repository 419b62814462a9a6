//! The enforcer as the brain has it: in another process.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    time::Duration,
};

use detector_common::learned::OwnerKey;
use detector_core::{
    model::{Digest, Learned, Observed, Seen, Ticks},
    reconcile::Action,
};
use futures::StreamExt;
use tokio::time::{Instant, sleep_until};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use super::{
    Counts, EnforceError, Enforcer, Recheck, Sign,
    message::{
        self, Answer, Answered, Difference, Hello, LONGEST_ANSWER, LONGEST_ORDER, Order, VERSION,
        decode, encode,
    },
    raw::Raw,
};
use crate::{
    bpf::{Batch, Events},
    rights,
};

/// Of what is held: more than there are interfaces.
const MOST_PORTIONS: usize = 1 << 16;

/// Sends orders to the enforcer's process, and waits for each answer.
pub struct Remote {
    way: UnixStream,
    hello: Hello,
    /// What was observed last; only what has changed since is told.
    held: Observed,
    spent: Duration,
}

/// The answer of one kind; anything else is an error.
macro_rules! expect {
    ($asked:expr, $pattern:pat => $value:expr) => {
        match $asked? {
            $pattern => Ok($value),
            other => strange(&other),
        }
    };
}

impl Remote {
    /// Waits until the enforcer has taken over what is in force.
    ///
    /// # Errors
    ///
    /// Why it has not.
    pub fn greet(mut way: UnixStream) -> Result<Self, EnforceError> {
        let hello =
            receive::<Result<Hello, EnforceError>>(&mut way).map_err(|error| gone(&error))??;
        if hello.version != VERSION {
            return Err(EnforceError(format!(
                "the enforcer's process speaks version {}, and this one {VERSION}: start it anew",
                hello.version
            )));
        }
        Ok(Self { way, hello, held: Observed::default(), spent: Duration::ZERO })
    }

    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    fn look(&mut self, order: &Order) -> Result<Recheck, EnforceError> {
        let (found, took) =
            expect!(self.ask(order), Answer::Recheck(found, took) => (found, took))?;
        self.spent += took;
        Ok(found)
    }

    fn ask(&mut self, order: &Order) -> Answered {
        let asked = send(&mut self.way, order).and_then(|()| receive::<Answered>(&mut self.way));
        asked.map_err(|error| gone(&error))?
    }
}

/// What was said in place of the answer that belongs there.
fn strange<T>(answer: &Answer) -> Result<T, EnforceError> {
    Err(EnforceError(format!("the enforcer's process has answered something else: {answer:?}")))
}

fn gone(error: &io::Error) -> EnforceError {
    EnforceError(format!("the enforcer's process does not answer: {error}"))
}

/// Sends an order, as one frame.
pub fn send(way: &mut UnixStream, order: &Order) -> io::Result<()> {
    let body = encode(order).map_err(io::Error::other)?;
    if body.len() > LONGEST_ORDER {
        return Err(io::Error::other(format!("an order of {} bytes", body.len())));
    }
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(body.len() + 4);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    way.write_all(&frame)
}

/// Waits for a frame.
pub fn receive<M: serde::de::DeserializeOwned>(way: &mut UnixStream) -> io::Result<M> {
    let mut length = [0; 4];
    way.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST_ANSWER {
        return Err(io::Error::other(format!("an answer of {length} bytes")));
    }
    let mut body = vec![0; length];
    way.read_exact(&mut body)?;
    decode(&body).map_err(io::Error::other)
}

impl Enforcer for Remote {
    fn observe(&mut self) -> Result<Observed, EnforceError> {
        for _ in 0..MOST_PORTIONS {
            let difference: Box<Difference> =
                expect!(self.ask(&Order::Observe), Answer::Observed(part) => part)?;
            let is_whole = difference.is_whole();
            difference.apply(&mut self.held);
            if is_whole {
                return Ok(self.held.clone());
            }
        }
        Err(EnforceError("the enforcer's process does not come to an end".to_owned()))
    }

    fn execute(&mut self, action: &Action) -> Result<(), EnforceError> {
        expect!(self.ask(&Order::Execute(action.clone())), Answer::Done => ())
    }

    fn ticks_after(&mut self, seconds: u64) -> Result<Ticks, EnforceError> {
        expect!(self.ask(&Order::TicksAfter(seconds)), Answer::Ticks(ticks) => ticks)
    }

    fn recheck(&mut self) -> Result<Recheck, EnforceError> {
        self.look(&Order::Recheck)
    }

    fn recheck_for(&mut self, signs: &BTreeSet<Sign>) -> Result<Recheck, EnforceError> {
        self.look(&Order::RecheckFor(signs.clone()))
    }

    fn resync(&mut self) -> Result<(), EnforceError> {
        expect!(self.ask(&Order::Resync), Answer::Done => ())
    }

    fn seen(&mut self) -> Result<BTreeMap<u32, Vec<Seen>>, EnforceError> {
        expect!(self.ask(&Order::Seen), Answer::Seen(seen) => many(seen))
    }

    fn learned(&mut self) -> Result<BTreeMap<u32, Vec<Learned>>, EnforceError> {
        expect!(self.ask(&Order::Learned), Answer::Learned(learned) => many(learned))
    }

    fn learned_by(&mut self, ifindex: u32) -> Result<Vec<Learned>, EnforceError> {
        expect!(self.ask(&Order::LearnedBy(ifindex)), Answer::LearnedBy(learned) => all(learned))
    }

    fn owner_of(&mut self, address: OwnerKey) -> Result<Option<u32>, EnforceError> {
        expect!(self.ask(&Order::OwnerOf(Raw(address))), Answer::Owner(owner) => owner)
    }

    fn is_router(&mut self, address: OwnerKey) -> Result<bool, EnforceError> {
        expect!(self.ask(&Order::IsRouter(Raw(address))), Answer::Router(is) => is)
    }

    fn counts(&mut self, ifindex: u32) -> Result<Option<Counts>, EnforceError> {
        expect!(self.ask(&Order::Counts(ifindex)), Answer::Counts(counts) => counts.map(Into::into))
    }

    fn has_predecessors(&self) -> bool {
        self.hello.predecessors
    }

    fn end_predecessors(&mut self) -> Result<(), EnforceError> {
        expect!(self.ask(&Order::EndPredecessors), Answer::Done => ())?;
        self.hello.predecessors = false;
        Ok(())
    }

    fn refused(&mut self, ifindex: u32) -> Result<Option<u64>, EnforceError> {
        expect!(self.ask(&Order::Refused(ifindex)), Answer::Refused(refused) => refused)
    }

    fn spent(&self) -> Duration {
        self.spent
    }

    fn reload(&mut self, text: Option<Digest>) -> Result<(), EnforceError> {
        expect!(self.ask(&Order::Reload(text)), Answer::Done => ())
    }
}

fn all<From, To: std::convert::From<From>>(list: Vec<From>) -> Vec<To> {
    list.into_iter().map(Into::into).collect()
}

fn many<From, To: std::convert::From<From>>(
    lists: BTreeMap<u32, Vec<From>>,
) -> BTreeMap<u32, Vec<To>> {
    lists.into_iter().map(|(ifindex, list)| (ifindex, all(list))).collect()
}

/// What comes without having been asked for.
pub struct Notices {
    /// From the kernel, with nobody between: a process on the way would have to be woken as well.
    events: Events,
    /// From the enforcer's process.
    frames: FramedRead<tokio::net::UnixStream, LengthDelimitedCodec>,
    /// What has not been handed on yet.
    signs: BTreeSet<Sign>,
}

/// What has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noticed {
    Events(Batch),
    Signs(BTreeSet<Sign>),
}

impl Notices {
    /// Waits for the ring buffer of events. Needs a Tokio runtime.
    pub fn new(way: UnixStream) -> io::Result<Self> {
        let ring = match rights::receive(way.as_fd())? {
            Some((message::EVENTS, rights)) => rights.into_iter().next(),
            _ => None,
        };
        let ring = ring.ok_or_else(|| io::Error::other("there came no ring buffer of events"))?;
        way.set_nonblocking(true)?;
        let way = tokio::net::UnixStream::from_std(way)?;
        let frames = FramedRead::new(way, message::frames(LONGEST_ANSWER));
        Ok(Self { events: Events::of(ring)?, frames, signs: BTreeSet::new() })
    }

    /// What comes next; signs not before `rested`. Can be cancelled without losing anything.
    ///
    /// # Errors
    ///
    /// The enforcer's process has gone.
    pub async fn next(&mut self, rested: Instant) -> io::Result<Noticed> {
        loop {
            let Self { events, frames, signs } = self;
            let frame = tokio::select! {
                frame = frames.next() => frame,
                batch = events.next() => return Ok(Noticed::Events(batch?)),
                () = sleep_until(rested), if !signs.is_empty() => {
                    return Ok(Noticed::Signs(std::mem::take(signs)));
                }
            };
            let frame = frame.ok_or(io::ErrorKind::UnexpectedEof)??;
            self.signs.extend(decode::<BTreeSet<Sign>>(&frame).map_err(io::Error::other)?);
        }
    }
}
