//! Brings records of remediations into the audit, each once, however often that fails. What is owed is on the disk, and
//! is read from there each time: nothing of it waits in memory.

use std::{
    collections::BTreeSet,
    sync::{Arc, mpsc as std_mpsc},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{Notify, oneshot},
    task::spawn_blocking,
};

use super::Writing;
use crate::{
    audit::{self, Entry, Place, Writer},
    remediate::{EVENT, Owed},
};

/// Where the records go.
pub(in crate::daemon) trait Book: Send + Sync + 'static {
    /// Has it recorded. False where nobody knows whether it is.
    fn settled(&self, at: Timestamp, entry: Entry) -> impl Future<Output = bool> + Send;

    /// Which of these events are on record, where none is older than that. Blocks; one pass over the records.
    fn recorded(&self, since: Timestamp, events: &BTreeSet<String>) -> BTreeSet<String>;
}

/// The audit of this host.
pub(in crate::daemon) struct Audit {
    pub(in crate::daemon) writer: Writer,
    pub(in crate::daemon) place: Place,
}

impl Book for Audit {
    async fn settled(&self, at: Timestamp, entry: Entry) -> bool {
        self.writer.settled(at, entry).await
    }

    fn recorded(&self, since: Timestamp, events: &BTreeSet<String>) -> BTreeSet<String> {
        let Ok(chain) = audit::reader(&self.place.database) else { return BTreeSet::new() };
        // What cannot be looked up is rather there twice.
        audit::mentioned(&chain, EVENT, since, events).unwrap_or_default()
    }
}

/// Pays whatever is owed, and what comes to be: `more` says when. What has failed is tried again after `retry`.
pub(super) async fn pay<B: Book>(
    book: Arc<B>,
    writing: std_mpsc::Sender<Writing>,
    more: Arc<Notify>,
    retry: Duration,
) {
    // Of what was owed before the start, or has failed, nobody knows whether it is on record.
    let mut doubtful = true;
    // What is on record, as far as that is not written down here.
    let mut paid = BTreeSet::new();
    loop {
        let (answer, answered) = oneshot::channel();
        if writing.send(Writing::Owed(answer)).is_err() {
            return;
        }
        let failed = match answered.await {
            Err(_) => return,
            Ok(Err(why)) => {
                tracing::error!(why, "remediations: what the audit is owed cannot be read");
                true
            }
            Ok(Ok(owed)) => {
                paid.retain(|number| owed.iter().any(|one| one.number == *number));
                if doubtful {
                    paid.extend(on_record(&book, &owed).await);
                }
                doubtful = !pay_all(&*book, &writing, owed, &mut paid).await;
                doubtful
            }
        };
        match failed {
            true => tokio::time::sleep(retry).await,
            false => more.notified().await,
        }
    }
}

/// False where one of them may not be on record; then those after it wait.
async fn pay_all(
    book: &impl Book,
    writing: &std_mpsc::Sender<Writing>,
    owed: Vec<Owed>,
    paid: &mut BTreeSet<i64>,
) -> bool {
    for Owed { number, at, entry } in owed {
        if !paid.contains(&number) && !book.settled(at, entry).await {
            return false;
        }
        paid.insert(number);
        let _ = writing.send(Writing::Paid(number));
    }
    true
}

/// What of it is on record: of that it was only not written down any more.
async fn on_record(book: &Arc<impl Book>, owed: &[Owed]) -> Vec<i64> {
    let event = |one: &Owed| Some(one.entry.evidence.get(EVENT)?.first()?.clone());
    let events: BTreeSet<_> = owed.iter().filter_map(event).collect();
    let Some(since) = owed.iter().map(|one| one.at).min().filter(|_| !events.is_empty()) else {
        return Vec::new();
    };
    let book = Arc::clone(book);
    let found = spawn_blocking(move || book.recorded(since, &events)).await.unwrap_or_default();
    let found = owed.iter().filter(|one| event(one).is_some_and(|event| found.contains(&event)));
    found.map(|one| one.number).collect()
}
