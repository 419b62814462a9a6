//! Where a roll-out is driven from: it hears the hosts, and moves the roll-out on that is kept in the fleet itself. Any
//! number of desks do so side by side, since a stage is written only over the one that it follows.

use std::{collections::BTreeMap, time::Duration};

use async_nats::{
    Client,
    connection::State,
    jetstream::{
        self,
        kv::{self, UpdateErrorKind},
    },
};
use detector_core::fleet::{
    Name,
    message::{self, Announcement, HostState, LONGEST, Time, Version, seal},
    roll_out::{BadPlan, Heard, Plan, Progress, RollOut, Stage},
    subject,
};
use futures::StreamExt;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{self, ConnectionError, Last, PATIENCE, failed};

/// So often it is looked at where a roll-out stands.
const TICK: Duration = Duration::from_millis(500);
/// So often hosts are told again, which may have missed the word: they ask by themselves minutes later.
const AGAIN: Duration = Duration::from_secs(30);

/// What a roll-out may grow by while it is under way: why it was stopped, who has broken soaks, and who was
/// missing before. It can always be kept.
const ROOM: usize = 20 << 10;

/// A connection that hears the hosts of a fleet.
pub struct Desk {
    client: Client,
    fleet: Name,
    policy: kv::Store,
    states: kv::Store,
    watch: kv::Watch,
    hosts: BTreeMap<Name, Heard>,
    /// The stage that is seen, and since when without a break.
    seen: Option<(Stage, Instant)>,
    /// When hosts were told last what is announced.
    told: Option<Instant>,
}

/// A roll-out that can begin.
pub struct Planned {
    pub roll_out: RollOut,
    /// Which change of the one before it follows.
    over: u64,
}

/// Something that is kept, and which of its changes that is.
struct Kept<T> {
    value: T,
    revision: u64,
}

impl Kept<RollOut> {
    /// What is to be announced in place of what is.
    fn due(&self, announced: Option<&Kept<Announcement>>) -> Option<Announcement> {
        let later = announced.is_some_and(|announced| announced.revision > self.revision);
        self.value.due(announced.map(|announced| &announced.value), later)
    }
}

impl Desk {
    /// Listens; returns when it has heard of every host that has ever spoken.
    ///
    /// # Errors
    ///
    /// The fleet has no buckets, or they cannot be reached.
    pub async fn open(client: Client, fleet: &Name) -> Result<Self, ConnectionError> {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(PATIENCE);
        let bucket = |name: &'static str| context.get_key_value(name);
        let policy = bucket(subject::POLICY).await.map_err(|why| failed(subject::POLICY, why))?;
        let states = bucket(subject::HOSTS).await.map_err(|why| failed(subject::HOSTS, why))?;
        let watch = watch(&states).await?;
        let (fleet, hosts) = (fleet.clone(), BTreeMap::new());
        let mut desk = Self { client, fleet, policy, states, watch, hosts, seen: None, told: None };
        desk.list().await?;
        Ok(desk)
    }

    /// What hosts have said.
    pub fn hosts(&self) -> &BTreeMap<Name, Heard> {
        &self.hosts
    }

    /// The roll-out that was begun last.
    ///
    /// # Errors
    ///
    /// It cannot be asked for, or read.
    pub async fn roll_out(&self) -> Result<Option<RollOut>, ConnectionError> {
        Ok(self.kept(subject::ROLL_OUT).await?.map(|kept| kept.value))
    }

    /// A roll-out that could begin now.
    ///
    /// # Errors
    ///
    /// Another one is under way, or what there is cannot be read; or the plan is none.
    pub async fn plan(
        &self,
        bundle: (Version, Plan),
        by: String,
    ) -> Result<Result<Planned, BadPlan>, ConnectionError> {
        let last: Option<Kept<RollOut>> = self.kept(subject::ROLL_OUT).await?;
        if let Some(Kept { value, .. }) = last.as_ref().filter(|kept| kept.value.is_under_way()) {
            return Err(failed(NOT_BEGUN, connection::in_the_way(value)));
        }
        let announced: Option<Kept<Announcement>> = self.kept(subject::ANNOUNCED).await?;
        // What has become of the last one holds, also where whoever stopped it was killed before hosts were told.
        let due = last.as_ref().and_then(|last| last.due(announced.as_ref()));
        let announced = due.or_else(|| announced.map(|announced| announced.value));
        let over = last.map_or(0, |last| last.revision);
        let begun = RollOut::begin(bundle, announced.as_ref(), &self.hosts, (by, Time::now()));
        Ok(begun.map(|roll_out| Planned { roll_out, over }))
    }

    /// Begins a roll-out: puts the bundle where hosts find it, and has them be told by whoever drives.
    ///
    /// # Errors
    ///
    /// Another one has begun meanwhile, or it cannot be written.
    pub async fn begin(&self, bundle: &[u8], planned: &Planned) -> Result<(), ConnectionError> {
        let Planned { roll_out, over } = planned;
        let said =
            seal(&self.fleet, &self.fleet, roll_out).map_err(|why| failed(NOT_BEGUN, why))?;
        if said.len() > LONGEST - ROOM {
            let why = "the fleet has more hosts than one roll-out counts: offer it to some by name";
            return Err(failed(NOT_BEGUN, why));
        }
        let key = subject::bundle(roll_out.version.number);
        let put = self.policy.put(key, bundle.to_vec().into()).await;
        put.map_err(|why| failed(NOT_BEGUN, why))?;
        match self.write(subject::ROLL_OUT, roll_out, *over).await? {
            true => Ok(()),
            false => Err(failed(NOT_BEGUN, "somebody else has begun another one")),
        }
    }

    /// Drives the roll-out until it is over and hosts are told so, and says each time where it stands. What fails for a
    /// while is tried again.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be read.
    pub async fn drive(
        &mut self,
        mut tell: impl FnMut(&RollOut, &Progress, Option<&ConnectionError>),
    ) -> Result<(RollOut, Progress), ConnectionError> {
        let mut last = None;
        loop {
            match self.step().await {
                Ok((roll_out, progress, is_told)) => {
                    tell(&roll_out, &progress, None);
                    if is_told && !roll_out.is_under_way() {
                        return Ok((roll_out, progress));
                    }
                    last = Some((roll_out, progress));
                }
                Err(error) => {
                    self.seen = None;
                    match &last {
                        Some((roll_out, progress)) => tell(roll_out, progress, Some(&error)),
                        None => return Err(error),
                    }
                }
            }
            if !self.listen(TICK).await {
                self.seen = None;
            }
        }
    }

    /// Has hosts be told what they are to have, and moves the roll-out on where it is time. Whether they are told it
    /// says, too.
    async fn step(&mut self) -> Result<(RollOut, Progress, bool), ConnectionError> {
        const WHAT: &str = "there is no roll-out";
        // In this order: what is announced is replaced only where nobody has announced a later stage since.
        let announced = self.kept(subject::ANNOUNCED).await?;
        let kept: Option<Kept<RollOut>> = self.kept(subject::ROLL_OUT).await?;
        let kept = kept.ok_or_else(|| failed(WHAT, "begin one with `roll-out start`"))?;
        let is_told = self.announce(&kept, announced).await?;
        let Kept { value: roll_out, revision } = kept;
        let now = Time::now();
        let progress = roll_out.progress(&self.hosts, now);
        let watched = self.watched(&roll_out.stage);
        // Before hosts are told nothing can have come of it.
        if let Some(stage) = roll_out.next(&progress, now, watched).filter(|_| is_told) {
            let next = roll_out.moved_to(stage, &progress);
            self.write(subject::ROLL_OUT, &next, revision).await?;
        }
        Ok((roll_out, progress, is_told))
    }

    /// For how long a stage has been seen without a break.
    fn watched(&mut self, stage: &Stage) -> Duration {
        let (_, since) = match self.seen.take() {
            Some(seen) if seen.0 == *stage => self.seen.insert(seen),
            _ => self.seen.insert((stage.clone(), Instant::now())),
        };
        since.elapsed()
    }

    /// Whether hosts are told what follows from a roll-out.
    async fn announce(
        &mut self,
        roll_out: &Kept<RollOut>,
        announced: Option<Kept<Announcement>>,
    ) -> Result<bool, ConnectionError> {
        let Some(wanted) = roll_out.due(announced.as_ref()) else {
            if let Some(Kept { value, .. }) = announced
                && self.told.is_none_or(|told| told.elapsed() >= AGAIN)
            {
                self.tell_hosts(&value).await?;
            }
            return Ok(true);
        };
        let over = announced.map_or(0, |announced| announced.revision);
        let is_written = self.write(subject::ANNOUNCED, &wanted, over).await?;
        if is_written {
            self.tell_hosts(&wanted).await?;
        }
        Ok(is_written)
    }

    /// Stops the roll-out, or takes it back once it is for all hosts; what hosts are told follows when it is driven. One
    /// that was stopped before stays so.
    ///
    /// # Errors
    ///
    /// There is none, something else was offered since, or it cannot be written.
    pub async fn halt(&self, why: &str) -> Result<(), ConnectionError> {
        const WHAT: &str = "nothing is stopped";
        loop {
            let announced: Option<Kept<Announcement>> = self.kept(subject::ANNOUNCED).await?;
            let kept: Option<Kept<RollOut>> = self.kept(subject::ROLL_OUT).await?;
            let kept = kept.ok_or_else(|| failed(WHAT, "there is no roll-out"))?;
            if let Some(Kept { value, revision }) = &announced
                && kept.value.is_overtaken(value, *revision > kept.revision)
                && kept.due(announced.as_ref()).is_none()
            {
                let number = value.version.number;
                return Err(failed(WHAT, format!("version {number} was offered since")));
            }
            let Kept { value: roll_out, revision } = kept;
            let Some(stage) = roll_out.halt(why, Time::now()) else { return Ok(()) };
            let halted = RollOut { stage, ..roll_out };
            if self.write(subject::ROLL_OUT, &halted, revision).await? {
                return Ok(());
            }
        }
    }

    async fn tell_hosts(&mut self, announcement: &Announcement) -> Result<(), ConnectionError> {
        const WHAT: &str = "hosts are not told";
        self.told = None;
        let said = seal(&self.fleet, &self.fleet, announcement);
        let said = said.map_err(|why| failed(WHAT, why))?;
        let told = self.client.publish(subject::NEWS, said.into()).await;
        told.map_err(|why| failed(WHAT, why))?;
        self.client.flush().await.map_err(|why| failed(WHAT, why))?;
        self.told = Some(Instant::now());
        Ok(())
    }

    async fn kept<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<Kept<T>>, ConnectionError> {
        let Last { value, revision } =
            connection::last(&self.client, &self.fleet, key, key).await?;
        Ok(value.map(|value| Kept { value, revision }))
    }

    /// Writes where nobody has since. Whether that was so.
    async fn write(
        &self,
        key: &str,
        value: &impl Serialize,
        over: u64,
    ) -> Result<bool, ConnectionError> {
        let said = seal(&self.fleet, &self.fleet, value).map_err(|why| failed(key, why))?;
        match self.policy.update(key, said.into(), over).await {
            Ok(_) => Ok(true),
            Err(why) if why.kind() == UpdateErrorKind::WrongLastRevision => Ok(false),
            Err(why) => Err(failed(key, why)),
        }
    }

    /// Hears what is kept of every host, as of when it was said.
    async fn list(&mut self) -> Result<(), ConnectionError> {
        const WHAT: &str = "what hosts have said is not known";
        let status = self.states.status().await.map_err(|why| failed(WHAT, why))?;
        if status.values() == 0 {
            return Ok(());
        }
        loop {
            let entry = timeout(PATIENCE, self.watch.next()).await;
            let entry = entry.map_err(|_| failed(WHAT, "no answer in time"))?;
            let entry = entry.ok_or_else(|| failed(WHAT, "it has ended"))?;
            let entry = entry.map_err(|why| failed(WHAT, why))?;
            let said = Time::from_second(entry.created.unix_timestamp()).unwrap_or(Time::MIN);
            self.hear(&entry, said);
            if entry.seen_current {
                return Ok(());
            }
        }
    }

    /// Hears hosts for a while. Whether that was without a break.
    async fn listen(&mut self, span: Duration) -> bool {
        let end = Instant::now() + span;
        loop {
            match timeout_at(end, self.watch.next()).await {
                Ok(Some(Ok(entry))) => self.hear(&entry, Time::now()),
                Ok(Some(Err(_)) | None) => {
                    // What was said meanwhile is listed again.
                    if let Ok(Ok(watch)) = timeout(PATIENCE, watch(&self.states)).await {
                        self.watch = watch;
                        let _ = self.list().await;
                    }
                    tokio::time::sleep_until(end).await;
                    return false;
                }
                Err(_) => return self.client.connection_state() == State::Connected,
            }
        }
    }

    /// What is none of a host's words is nothing.
    fn hear(&mut self, entry: &kv::Entry, at: Time) {
        let Ok(name) = entry.key.parse::<Name>() else { return };
        if let Ok((_, state)) = message::open::<HostState>(&entry.value, &self.fleet, Some(&name)) {
            self.hosts.insert(name, Heard { at, state });
        }
    }
}

const NOT_BEGUN: &str = "the roll-out has not begun";

async fn watch(states: &kv::Store) -> Result<kv::Watch, ConnectionError> {
    states.watch_with_history(">").await.map_err(|why| failed(subject::HOSTS, why))
}
