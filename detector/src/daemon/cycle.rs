//! The loop: takes in what happens, lets the brain take its turn, hands its wishes on.

use std::{collections::BTreeSet, time::Duration};

use detector_core::model::Timestamp;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    brain::Brain,
    hands::Hands,
    input::{Effect, Input},
    supervisor::Pulse,
};
use crate::{
    bpf::busy,
    clock,
    enforcer::{
        Enforcer, Sign,
        remote::{Noticed, Notices},
    },
    net::{LinkEvent, LinkEvents},
};

/// Inputs of one turn at most, so that a flood is decided on in portions.
const BATCH: usize = 1024;
/// How often the brain looks whether what is in force still is, at all of it.
const LOOK_AROUND: Duration = Duration::from_millis(500);
/// How often it looks at programs and pins, since nothing tells when a link is taken off. Looking takes at
/// most a part of the time, whether signs or the clock make it look.
const GLANCE: Duration = Duration::from_millis(100);
const LOOKING_SHARE: u32 = 10;
/// Signs that follow each other closely are one.
const SIGNS_PAUSE: Duration = Duration::from_millis(5);
/// A wake-up that is due already and changes nothing must not spin.
const BREATH: Duration = Duration::from_millis(5);
/// How long to wait before subscribing again when the kernel refuses.
const RESUBSCRIBE: Duration = Duration::from_secs(1);

/// What the loop listens to. Interfaces and kernel events have no task between them and the loop:
/// each hop costs a wake-up.
pub(super) struct Ears {
    pub(super) links: LinkEvents,
    pub(super) notices: Notices,
    pub(super) inputs: mpsc::Receiver<Input>,
}

/// Runs until everybody who could send an input is gone. Says so once what was known at the start is in
/// force.
pub(super) async fn run<E: Enforcer>(
    mut brain: Brain<E>,
    mut ears: Ears,
    mut hands: Hands,
    begun: impl FnOnce(),
) {
    let mut begun = Some(begun);
    let mut pulse = Pulse::new(hands.supervisor.clone());
    let mut look_around = Instant::now() + LOOK_AROUND;
    let mut deaf_until: Option<Instant> = None;
    // When it may look again at what signs are about, and when it glances without any.
    let (mut rested, mut glance) = (Instant::now(), Instant::now() + GLANCE);
    loop {
        if let Some(begun) = begun.take_if(|_| !brain.is_beginning()) {
            begun();
        }
        let mut batch = Vec::new();
        let look = look_around.min(glance);
        let wake = wake_at(&brain).map_or(look, |at| at.min(look));
        tokio::select! {
            biased;
            link = next_link(&mut ears.links, deaf_until) => match link {
                Ok(event) => {
                    deaf_until = None;
                    batch.push(Input::Link(event));
                }
                Err(error) => {
                    tracing::warn!(%error, "interfaces: cannot follow them, subscribing again");
                    match LinkEvents::subscribe() {
                        Ok(links) => ears.links = links,
                        Err(error) => tracing::warn!(%error, "interfaces: cannot subscribe"),
                    }
                    deaf_until = Some(Instant::now() + RESUBSCRIBE);
                }
            },
            noticed = ears.notices.next(rested) => match noticed {
                Ok(Noticed::Signs(signs)) => batch.push(Input::Signs(signs)),
                Ok(Noticed::Events(reported)) => {
                    batch.extend(reported.events.into_iter().map(Input::Kernel));
                }
                // Half a daemon is worse than none: what is in force stays, and whoever started us notices.
                Err(error) => {
                    tracing::error!(%error, "the enforcer's process has gone; what is in force stays in force");
                    std::process::exit(1);
                }
            },
            input = ears.inputs.recv() => match input {
                Some(input) => batch.push(input),
                None => return,
            },
            () = sleep_until(wake) => {}
        }
        while batch.len() < BATCH
            && let Ok(input) = ears.inputs.try_recv()
        {
            batch.push(input);
        }
        drain_links(&mut ears.links, &mut batch).await;
        let (start, before) = (Instant::now(), busy() + brain.enforcer.spent());
        if start >= look_around {
            batch.insert(0, Input::Clock(clock::read()));
            batch.push(Input::Tick);
            look_around = start + LOOK_AROUND;
        } else if start >= glance {
            batch.push(Input::Signs(BTreeSet::from([Sign::Programs])));
        }
        let looks = batch.iter().any(|input| matches!(input, Input::Signs(_)));
        let now = clock::now();
        let effects = brain.turn(now, batch);
        carry_out(&mut brain, &mut hands, now, effects);
        brain.turns.count += 1;
        brain.turns.took += start.elapsed();
        pulse.beat(Instant::now(), || brain.sentence());
        if looks {
            // A whole look sees to its own share.
            let end = Instant::now();
            let spent = busy() + brain.enforcer.spent();
            let rest = spent.saturating_sub(before) * LOOKING_SHARE;
            rested = end + rest.max(SIGNS_PAUSE);
            glance = end + rest.max(GLANCE);
        }
    }
}

/// Has carried out what the brain wants. What has come of it already it hears in the same turn: no queue is between them.
pub(super) fn carry_out<E: Enforcer>(
    brain: &mut Brain<E>,
    hands: &mut Hands,
    now: Timestamp,
    mut effects: Vec<Effect>,
) {
    let today = clock::read().day;
    while !effects.is_empty() {
        let come = effects.into_iter().filter_map(|effect| hands.carry_out(today, effect));
        let come: Vec<_> = come.collect();
        effects = if come.is_empty() { Vec::new() } else { brain.turn(now, come) };
    }
}

async fn next_link(
    links: &mut LinkEvents,
    deaf_until: Option<Instant>,
) -> Result<LinkEvent, crate::net::NetError> {
    if let Some(until) = deaf_until {
        sleep_until(until).await;
    }
    links.next().await
}

/// Takes what has been told of interfaces meanwhile, so that they come first in this turn.
async fn drain_links(links: &mut LinkEvents, batch: &mut Vec<Input>) {
    while batch.len() < 2 * BATCH
        && let Ok(Ok(event)) = timeout_at(Instant::now(), links.next()).await
    {
        batch.push(Input::Link(event));
    }
}

fn wake_at<E: Enforcer>(brain: &Brain<E>) -> Option<Instant> {
    let wait = brain.wake_at()?.since(clock::now());
    Some(Instant::now() + wait.max(BREATH))
}
