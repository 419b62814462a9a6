//! Gives a move up.

use uuid::Uuid;

use super::{
    At, Journal, Mover, Named, Phase, Progress, Session, State, StorageError, Tell, plan, shown,
};

impl Mover {
    /// Gives up a move that is not finished: its copies go, and the domain names its former files. A move of which there
    /// is no journal is given up already. Blocks.
    ///
    /// # Errors
    ///
    /// Some of its former files are gone, so that it has to be finished.
    pub fn undo(&self, domain: Uuid, tell: &Tell) -> Result<(), StorageError> {
        let Some(mut journal) = self.journals.read(domain)? else { return Ok(()) };
        let session = Session::open(&journal.task.uri, self.patience, tell)?;
        if journal.phase == Phase::Done {
            return Err(StorageError::Refused(
                "its files are moved, and the former ones are gone: to have them elsewhere, move them there".to_owned(),
            ));
        }
        if journal.phase == Phase::Removing && !is_whole(&journal) {
            return Err(StorageError::Refused(
                "some of its former files are gone already, and the copies are what it has: finish the move".to_owned(),
            ));
        }
        if matches!(self.is_at(&session, &journal)?, At::RunsAfter) {
            return Err(StorageError::Refused(
                "it runs from the copies: shut it down first".to_owned(),
            ));
        }
        self.take_back(&session, &mut journal, tell)
    }

    /// What somebody else's doing leads to; the sentence with what has become of the copies.
    pub(super) fn withdraw(
        &self,
        session: &Session,
        journal: &mut Journal,
        why: &str,
        tell: &Tell,
    ) -> String {
        if !is_whole(journal) {
            let copies = journal.items.iter().map(|item| shown(&item.place));
            let copies = copies.collect::<Vec<_>>().join(", ");
            return format!(
                "{why}. Its former files are not all there; what has been copied is kept: {copies}"
            );
        }
        match self.take_back(session, journal, tell) {
            Ok(()) => format!("{why}. Its files are where they were, and the copies are gone"),
            Err(error) => {
                format!("{why}. Its files are where they were; the copies are not gone: {error}")
            }
        }
    }

    fn take_back(
        &self,
        session: &Session,
        journal: &mut Journal,
        tell: &Tell,
    ) -> Result<(), StorageError> {
        let from_copies =
            || Err(StorageError::Refused("it runs from the copies: shut it down first".to_owned()));
        if let Some(domain) = session.look(journal.task.domain)?
            && names_copies(&domain.described, journal)?
        {
            match self.is_at(session, journal)? {
                At::RunsAfter => return from_copies(),
                At::Other => {
                    return Err(StorageError::Refused(
                        "it has been given other disks meanwhile, and names copies still: take those out first"
                            .to_owned(),
                    ));
                }
                At::Before | At::After | At::RunsBefore | At::Gone => {}
            }
            session.define(&journal.before)?;
            tell(Progress::Step { what: "the domain is described by its former files".to_owned() });
        }
        // Whoever starts it from now on starts it from the former files; somebody may have done so just before.
        if self.is_at(session, journal)? == At::RunsAfter {
            return from_copies();
        }
        let pool = session.pool(&journal.task.pool)?;
        for item in &journal.items {
            pool.remove(session, &item.copy)?;
            tell(Progress::Step { what: format!("the copy of {} is gone", item.target) });
        }
        for pool in &journal.pools {
            session.end_pool(pool)?;
        }
        self.journals.forget(journal.task.domain)
    }
}

/// Whether any of the copies is a disk in a description.
pub(super) fn names_copies(xml: &str, journal: &Journal) -> Result<bool, StorageError> {
    let described = plan::describe(xml).map_err(StorageError::Failed)?;
    let is_copy = |own: &plan::Own| {
        journal.items.iter().any(|item| own.source == Named::File(item.place.clone()))
    };
    Ok(described.own.iter().any(is_copy))
}

/// Whether all former files are what was to be moved.
fn is_whole(journal: &Journal) -> bool {
    journal.items.iter().all(|item| State::of(&item.source).is_ok())
}
