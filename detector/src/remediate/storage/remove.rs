//! Removes what a VM has copies of.

use std::io::ErrorKind;

use super::{
    At, Journal, Mover, Session, Stage, State, StorageError, Tell, file_name, locks, open,
    others::Goes, shown, unknown_holder,
};

impl Mover {
    pub(super) fn remove_all(
        &self,
        session: &Session,
        journal: &mut Journal,
        tell: &Tell,
    ) -> Result<(), StorageError> {
        for number in 0..journal.items.len() {
            let item = &journal.items[number];
            let Stage::Same(digest) = item.stage else { continue };
            match self.is_at(session, journal)? {
                At::After | At::RunsAfter => {}
                at => return Err(StorageError::Interfered(at.sentence(&journal.name))),
            }
            let item = journal.items[number].clone();
            journal.items[number].stage = match State::of(&item.source) {
                Err(error) if error.kind() == ErrorKind::NotFound => Stage::Removed(digest),
                Ok(now) if now.is_same(&item.state) => {
                    let goes =
                        Goes { target: &item.target, real: &item.source, identity: now.identity };
                    // Somebody may have described a VM by it since the move began.
                    let others = self.others(session, journal.task.domain, &[goes])?;
                    if others.is_empty() {
                        self.remove(session, journal, number)?;
                        Stage::Removed(digest)
                    } else {
                        Stage::Kept(digest, others.join("; "))
                    }
                }
                Ok(_) => Stage::Kept(digest, "it has been written to since".to_owned()),
                Err(error) => Stage::Kept(digest, error.to_string()),
            };
            let what = format!("the former file of {} is dealt with", item.target);
            self.keep(journal, &what, tell)?;
        }
        Ok(())
    }

    fn remove(
        &self,
        session: &Session,
        journal: &mut Journal,
        number: usize,
    ) -> Result<(), StorageError> {
        let item = journal.items[number].clone();
        let image = open(&item.source)?;
        if let Some(who) = locks::holder(image.file()).map_err(|error| unknown_holder(&error))? {
            return Err(StorageError::Failed(format!(
                "{} is in use by {who}, and so is not removed; the VM has its copy already, {}",
                shown(&item.source),
                shown(&item.place)
            )));
        }
        drop(image);
        let pool = self.pool_of(session, journal, &item.source)?;
        pool.remove(session, &file_name(&item.source)?)
    }
}
