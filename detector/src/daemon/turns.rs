//! Work that blocks, off the loop: on one thing in the order in which it was asked for, on several side by side.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use tokio::{runtime::Handle, task::JoinHandle};

pub(super) struct Turns {
    runtime: Handle,
    /// The last on each file.
    last: BTreeMap<PathBuf, JoinHandle<()>>,
}

impl Turns {
    pub(super) fn new(runtime: Handle) -> Self {
        Self { runtime, last: BTreeMap::new() }
    }

    /// Does it when all is done that was asked for before on the file.
    pub(super) fn take(&mut self, file: &Path, work: impl FnOnce() + Send + 'static) {
        self.last.retain(|_, before| !before.is_finished());
        let before = self.last.remove(file);
        let turn = self.runtime.spawn(async move {
            if let Some(before) = before {
                // One that has panicked is over as well.
                let _ = before.await;
            }
            let _ = tokio::task::spawn_blocking(work).await;
        });
        self.last.insert(file.to_owned(), turn);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, sync_channel};

    use super::*;

    #[test]
    fn what_is_asked_for_later_waits_and_holds_up_nothing_else() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut turns = Turns::new(runtime.handle().clone());
        let (go, held) = channel::<()>();
        let (done, order) = sync_channel(9);
        let say = |what: &'static str| {
            let done = done.clone();
            move || done.send(what).unwrap()
        };
        let first = say("begins");
        turns.take(Path::new("a"), move || {
            held.recv().unwrap();
            first();
        });
        turns.take(Path::new("a"), || panic!("as one may"));
        turns.take(Path::new("a"), say("ends"));
        turns.take(Path::new("b"), say("another's"));
        assert_eq!(order.recv().unwrap(), "another's");
        go.send(()).unwrap();
        assert_eq!([order.recv().unwrap(), order.recv().unwrap()], ["begins", "ends"]);
    }
}
