//! The static inventory as a source: it is looked at now and then, and when somebody asks.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    inventory::{Inventory, SourceEvent, file},
    mark::mark,
};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The static inventory, followed until nobody listens any more.
#[derive(Debug)]
pub struct FileSource {
    name: String,
    asked: Arc<Notify>,
}

impl FileSource {
    /// Starts to follow the file, on the runtime of the caller. What it says first comes after a while:
    /// whoever needs it sooner reads it with [`file::said`].
    pub fn spawn(path: &Path, events: mpsc::Sender<SourceEvent>) -> Self {
        let asked = Arc::new(Notify::new());
        tokio::spawn(follow(path.to_owned(), events, Arc::clone(&asked)));
        Self { name: file::name(path), asked }
    }
}

impl Inventory for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_live(&self) -> bool {
        false
    }

    fn resync(&self) {
        self.asked.notify_one();
    }
}

/// Tells of every change of the file.
async fn follow(path: PathBuf, events: mpsc::Sender<SourceEvent>, asked: Arc<Notify>) {
    let mut seen = None;
    loop {
        let was_asked = timeout(LOOK, asked.notified()).await.is_ok();
        let before = seen.filter(|_| !was_asked);
        let path = path.clone();
        let look = move || {
            let now = mark(&path);
            (now, (before != Some(now)).then(|| file::said(&path)))
        };
        let Ok((now, said)) = spawn_blocking(look).await else { continue };
        seen = Some(now);
        if let Some(event) = said
            && events.send(event).await.is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Update;

    #[tokio::test]
    async fn a_file_speaks_when_it_changes_and_when_it_is_asked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("inventory.toml");
        let (sender, mut events) = mpsc::channel(4);
        let source = FileSource::spawn(&path, sender);
        let said = async |events: &mut mpsc::Receiver<SourceEvent>| -> usize {
            let event = timeout(Duration::from_secs(20), events.recv()).await.unwrap().unwrap();
            assert_eq!(event.source, path.display().to_string());
            match event.update {
                Update::Snapshot { vms, .. } => vms.len(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(said(&mut events).await, 0, "an absent file is an empty inventory");
        std::fs::write(&path, "[[vm]]\nname = \"a\"\n").unwrap();
        assert_eq!(said(&mut events).await, 1);
        source.resync();
        assert_eq!(said(&mut events).await, 1, "asked");
        let quiet = timeout(LOOK * 2, events.recv()).await;
        assert!(quiet.is_err(), "nothing has changed: {quiet:?}");
    }
}
