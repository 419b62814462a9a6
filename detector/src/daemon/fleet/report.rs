//! What the host tells of itself: its state, its VMs and its open findings, when they change and every so often.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use detector_core::fleet::{
    message::{HostState, PolicyState, RefusedBundle},
    page::{OpenPage, Page, open_pages, pages},
    report::{self, Life},
};
use serde::Serialize;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until},
};
use uuid::Uuid;

use super::{super::itself::Itself, Standing};
use crate::{
    api::{Reply, Request},
    clock,
    fleet::{
        speech::{Speech, Unsaid},
        store::Store,
        words::Place,
    },
};

/// A host that says nothing for longer is silent.
const EVERY: Duration = Duration::from_secs(30);
/// How often all of it is told anew: the fleet keeps it for some days only, and another host may have taken its place.
const ANEW: Duration = Duration::from_secs(15 * 60);
/// How soon after it was told it is told again what is open, however much happens to findings.
const SOON: Duration = Duration::from_secs(1);
/// How often no more than the text of open findings is told, such as a count that goes up.
const TEXT: Duration = Duration::from_secs(60);

/// What the fleet keeps of what was said last.
#[derive(Default)]
struct Said {
    host: Option<(HostState, Instant)>,
    vms: Pages<Page>,
    open: Pages<OpenPage>,
}

/// Pages by number, and when each was told.
type Pages<P> = BTreeMap<u32, (P, Instant)>;

/// What there is to tell.
struct Report {
    host: HostState,
    vms: Vec<Page>,
    open: Vec<OpenPage>,
}

/// Tells, for as long as the daemon lives.
pub(super) async fn keep_telling(
    (interval, mut connected): (Duration, watch::Receiver<()>),
    speech: Speech,
    itself: Itself,
    (store, standing): (Arc<Store>, Standing),
) {
    let life = Uuid::new_v5(&Uuid::NAMESPACE_OID, jiff::Timestamp::now().to_string().as_bytes());
    let (mut said, mut anew) = (Said::default(), Instant::now());
    let mut told = Instant::now();
    loop {
        let linked = tokio::select! {
            () = sleep(interval) => false,
            Ok(()) = connected.changed() => true,
            () = speech.await_happening() => {
                sleep_until(told + SOON).await;
                false
            }
        };
        told = Instant::now();
        if linked || anew.elapsed() >= ANEW {
            (said, anew) = (Said::default(), Instant::now());
        }
        let looked = Arc::clone(&store);
        let seen = spawn_blocking(move || (looked.in_force().ok().flatten(), looked.drift())).await;
        let Ok((in_force, drift)) = seen else { continue };
        let since = clock::now();
        standing
            .change(|standing| {
                if standing.drift.is_empty() != drift.is_empty() {
                    standing.drifted = since;
                }
                standing.drift.clone_from(&drift);
            })
            .await;
        let (Some(Reply::Status(status)), Some(Reply::Vms(vms))) =
            (itself.ask(Request::Status {}).await, itself.ask(Request::VmList {}).await)
        else {
            continue;
        };
        let refused = standing.now().await.refused;
        let refused = refused.map(|one| RefusedBundle {
            version: one.version,
            sha256: Some(one.sha256),
            why: one.why,
        });
        let policy = PolicyState { in_force, refused, drift };
        let vms = pages(vms.iter().map(report::vm).collect());
        // Whoever looks more seldom speaks more seldom.
        let life = Life { id: life, every: EVERY.max(interval).as_secs() };
        let mut host = report::host(jiff::Timestamp::now(), life, &status, policy, vms.len());
        let open = open_pages(status.findings.into_iter().map(report::finding).collect());
        host.open_pages = u32::try_from(open.len()).ok();
        let report = Report { host, vms, open };
        match tell(&speech, &mut said, report).await {
            Ok(()) => {}
            // That there is no connection is a finding of its own.
            Err(Unsaid::Later(why)) => tracing::info!(why, "fleet: not all is told for now"),
            Err(Unsaid::Never(why)) => {
                tracing::warn!(%why, "fleet: what there is to tell is not told");
            }
        }
    }
}

/// Tells what has changed. What is not kept there is told again the next time, and keeps nothing else from being told.
async fn tell(speech: &Speech, said: &mut Said, report: Report) -> Result<(), Unsaid> {
    let Report { host, vms, open } = report;
    let vms = tell_pages(speech, &mut said.vms, vms).await;
    let open = tell_pages(speech, &mut said.open, open).await;
    let same = |(before, at): &(HostState, Instant)| {
        let before = HostState { at: host.at, ..before.clone() };
        before == host && at.elapsed() < EVERY
    };
    if !said.host.as_ref().is_some_and(same) {
        said.host = None;
        speech.put(Place::Host, &host, None).await?;
        said.host = Some((host, Instant::now()));
    }
    vms.and(open)
}

/// Tells those that the fleet does not have. The first one says how many there are, and comes last: then all others are
/// there.
async fn tell_pages<P: Part>(
    speech: &Speech,
    said: &mut Pages<P>,
    pages: Vec<P>,
) -> Result<(), Unsaid> {
    let mut outcome = Ok(());
    let count = pages.len();
    for page in pages.into_iter().rev() {
        let number = page.number();
        if said.get(&number).is_some_and(|(before, at)| page.is_known(before, *at)) {
            continue;
        }
        said.remove(&number);
        let put = match speech.put(P::place(number), &page, None).await {
            Err(Unsaid::Never(_)) => {
                speech.put(P::place(number), &page.clone().lighter(), None).await
            }
            put => put,
        };
        match put {
            Ok(()) => drop(said.insert(number, (page, Instant::now()))),
            // The others would fare no better for now.
            Err(later @ Unsaid::Later(_)) => return outcome.and(Err(later)),
            Err(never) => outcome = outcome.and(Err(never)),
        }
    }
    said.retain(|number, _| (*number as usize) < count);
    outcome
}

/// A page of what there is to tell.
trait Part: Clone + Serialize {
    fn number(&self) -> u32;
    fn place(number: u32) -> Place;
    /// The same for where it is too long.
    fn lighter(self) -> Self;
    /// Whether the fleet need not be told it, which was told that before.
    fn is_known(&self, before: &Self, at: Instant) -> bool;
}

impl Part for Page {
    fn number(&self) -> u32 {
        self.number
    }

    fn place(number: u32) -> Place {
        Place::Vms(number)
    }

    fn lighter(self) -> Self {
        Self::lighter(self)
    }

    fn is_known(&self, before: &Self, _: Instant) -> bool {
        self == before
    }
}

impl Part for OpenPage {
    fn number(&self) -> u32 {
        self.number
    }

    fn place(number: u32) -> Place {
        Place::Open(number)
    }

    fn lighter(self) -> Self {
        Self::lighter(self)
    }

    fn is_known(&self, before: &Self, at: Instant) -> bool {
        self == before || (self.is_alike(before) && at.elapsed() < TEXT)
    }
}
