//! What the daemon asks of itself, as any client does: on a signal, and on a schedule.

use std::{fs, io, path::Path};

use tokio::{
    signal::unix::Signal,
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

use crate::{
    api::{ApiError, Reply, Request, peer::Peer, server::Call},
    audit::Who,
    config::Metrics,
    metrics::{self, textfile},
};

/// Where requests of the daemon's own user go.
#[derive(Clone, Debug)]
pub(super) struct Itself {
    pub(super) uid: u32,
    pub(super) calls: mpsc::Sender<Call>,
}

impl Itself {
    /// The answer; `None` when the daemon has ended, or refuses.
    pub(super) async fn ask(&self, request: Request) -> Option<Reply> {
        self.ask_for(None, request).await?.ok()
    }

    /// The same in the name of somebody, with why it is refused.
    pub(super) async fn ask_for(
        &self,
        on_behalf: Option<Who>,
        request: Request,
    ) -> Option<Result<Reply, ApiError>> {
        let (replies, mut answer) = mpsc::channel(1);
        let pid = nix::unistd::getpid().as_raw();
        let peer = Peer { uid: self.uid, gid: 0, pid, groups: Vec::new(), on_behalf: None };
        self.calls.send(Call { peer, on_behalf, request, replies }).await.ok()?;
        answer.recv().await
    }

    /// Reloads whenever the signal comes. What comes of it is in the log; a signal that comes meanwhile
    /// waits.
    pub(super) async fn reload_on(self, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            if self.ask(Request::Reload {}).await.is_none() {
                tracing::error!("nothing was read again: `detector reload` says why");
            }
        }
    }

    /// Writes metrics for whoever reads files, where that is wanted.
    pub(super) async fn export(self, mut wanted: watch::Receiver<Metrics>) {
        let mut trouble = None;
        let mut due = Instant::now();
        loop {
            let Metrics { textfile, interval } = wanted.borrow_and_update().clone();
            let Some(path) = textfile else {
                if wanted.changed().await.is_err() {
                    return;
                }
                continue;
            };
            tokio::select! {
                () = sleep_until(due) => {}
                changed = wanted.changed() => match changed {
                    Ok(()) if wanted.borrow().textfile.as_ref() != Some(&path) => {
                        forget(&path);
                        continue;
                    }
                    Ok(()) => {}
                    Err(_) => return,
                },
            }
            due = Instant::now() + interval;
            let Some(Reply::Metrics(view)) = self.ask(Request::Metrics {}).await else { continue };
            let to = path.clone();
            let written = spawn_blocking(move || {
                let text = metrics::text(&view).map_err(io::Error::other)?;
                textfile::write(&to, &text)
            });
            let outcome = match written.await {
                Ok(outcome) => outcome.err().map(|error| error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            // What fails every time is told once.
            if outcome != trouble {
                match &outcome {
                    Some(error) => {
                        tracing::warn!(path = %path.display(), error, "metrics cannot be written");
                    }
                    None => tracing::info!(path = %path.display(), "metrics are written again"),
                }
            }
            trouble = outcome;
        }
    }
}

/// Takes the file away when nobody writes it any more: what it says would look like the state of now.
pub(super) fn forget(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "old metrics cannot be removed");
        }
        _ => {}
    }
}
