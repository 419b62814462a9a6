//! What is to be kept on the disk, where only the latest state of it is worth a write.

use std::sync::{Arc, Mutex, PoisonError};

/// What is to be written next. Whoever comes to write it writes the latest, one after the other; whoever sets it
/// waits for no disk.
#[derive(Debug)]
pub(crate) struct Latest<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    next: Mutex<Option<T>>,
    writing: Mutex<()>,
}

impl<T: Clone> Latest<T> {
    /// This is to be written instead.
    pub(crate) fn set(&self, value: T) {
        *self.0.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    /// Writes what is to be written, if there is anything still; blocks. What could not be written is still to be.
    pub(crate) fn write<Error>(
        &self,
        write: impl FnOnce(T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let _alone = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let next = || self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(value) = next().take() else { return Ok(()) };
        let written = write(value.clone());
        if written.is_err() {
            next().get_or_insert(value);
        }
        written
    }
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self(Arc::new(Shared { next: Mutex::new(None), writing: Mutex::new(()) }))
    }
}

impl<T> Clone for Latest<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::{channel, sync_channel},
        thread,
        time::Duration,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn what_could_not_be_written_is_written_by_whoever_comes_next() {
        let latest = Latest::default();
        latest.set(1);
        assert_eq!(latest.write(|_| Err("full")), Err("full"));
        assert_eq!(latest.write(|value| if value == 1 { Ok(()) } else { Err("another") }), Ok(()));
        assert_eq!(latest.write(|_| Err("nothing is left")), Ok(()));
        latest.set(2);
        let newer = latest.clone();
        assert_eq!(
            latest.write(|_| {
                newer.set(3);
                Err("full")
            }),
            Err("full")
        );
        assert_eq!(latest.write(|value| if value == 3 { Ok(()) } else { Err("older") }), Ok(()));
    }

    #[test]
    fn whoever_sets_what_is_written_next_does_not_wait_for_a_disk_that_hangs() {
        let latest = Latest::default();
        let (begun, begins) = channel();
        let (answer, disk) = channel::<()>();
        latest.set(1);
        let writer = latest.clone();
        let writes = thread::spawn(move || {
            let write = |value| {
                begun.send(value).unwrap();
                disk.recv().map_err(drop)
            };
            [writer.write(write), writer.write(|value| begun.send(value).map_err(drop))]
        });
        assert_eq!(begins.recv_timeout(PATIENCE), Ok(1));
        let (done, set) = sync_channel(1);
        let setter = latest.clone();
        thread::spawn(move || {
            [2, 3].into_iter().for_each(|value| setter.set(value));
            done.send(()).unwrap();
        });
        set.recv_timeout(PATIENCE).expect("the disk hangs");
        answer.send(()).unwrap();
        assert_eq!(
            begins.recv_timeout(PATIENCE),
            Ok(3),
            "what came meanwhile, and the latest of it"
        );
        assert_eq!(writes.join().unwrap(), [Ok(()), Ok(())]);
    }
}
