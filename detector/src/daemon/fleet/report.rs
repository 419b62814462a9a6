//! What the host tells of itself: its state, its VMs and its open findings, when they change and every so often.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use detector_core::fleet::{
    message::{HostState, PolicyState, RefusedBundle},
    page::{OpenPage, Page, open_pages, pages},
    report::{self, Life},
};
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
    pages: BTreeMap<u32, Page>,
    open: BTreeMap<u32, (OpenPage, Instant)>,
}

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
        let life = Life { id: life, every: EVERY.as_secs() };
        let mut host = report::host(jiff::Timestamp::now(), life, &status, policy, vms.len());
        let open = open_pages(status.findings.into_iter().map(report::finding).collect());
        host.open_pages = u32::try_from(open.len()).ok();
        let report = Report { host, vms, open };
        if let Err(Unsaid::Never(why)) = tell(&speech, &mut said, report).await {
            tracing::warn!(%why, "fleet: what there is to tell is not told");
        }
    }
}

/// Tells what has changed. What is not kept there is told again the next time.
async fn tell(speech: &Speech, said: &mut Said, report: Report) -> Result<(), Unsaid> {
    let Report { host, vms, open } = report;
    for page in vms {
        if said.pages.get(&page.number) == Some(&page) {
            continue;
        }
        said.pages.remove(&page.number);
        let place = Place::Vms(page.number);
        match speech.put(place, &page, None).await {
            Err(Unsaid::Never(_)) => speech.put(place, &page.clone().lighter(), None).await?,
            outcome => outcome?,
        }
        said.pages.insert(page.number, page);
    }
    said.pages.retain(|number, _| *number < host.pages);
    for page in open {
        let known = |(before, at): &(OpenPage, Instant)| {
            *before == page || (before.is_alike(&page) && at.elapsed() < TEXT)
        };
        if said.open.get(&page.number).is_some_and(known) {
            continue;
        }
        said.open.remove(&page.number);
        let place = Place::Open(page.number);
        match speech.put(place, &page, None).await {
            Err(Unsaid::Never(_)) => speech.put(place, &page.clone().lighter(), None).await?,
            outcome => outcome?,
        }
        said.open.insert(page.number, (page, Instant::now()));
    }
    said.open.retain(|number, _| host.open_pages.is_some_and(|count| *number < count));
    let same = |(before, at): &(HostState, Instant)| {
        let before = HostState { at: host.at, ..before.clone() };
        before == host && at.elapsed() < EVERY
    };
    // After the pages, so that how many there are is never ahead of them.
    if !said.host.as_ref().is_some_and(same) {
        said.host = None;
        speech.put(Place::Host, &host, None).await?;
        said.host = Some((host, Instant::now()));
    }
    Ok(())
}
