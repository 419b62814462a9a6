//! Where a domain stands while its files are moved, whatever somebody does to it meanwhile.

use std::collections::BTreeMap;

use super::{
    Mover, Session, StorageError,
    journal::{Item, Journal},
    plan::{self, Described, Named},
    shell, undo,
};

/// Where a domain is between its former files and the copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Before,
    After,
    RunsBefore,
    RunsAfter,
    Other,
    Gone,
}

impl At {
    pub(super) fn sentence(self, name: &str) -> String {
        let name = shell(name);
        match self {
            Self::Before => format!("{name} has been described by its former files again"),
            Self::After => format!("{name} is described by the copies already"),
            Self::RunsBefore | Self::RunsAfter => {
                format!("{name} has been started meanwhile: shut it down first")
            }
            Self::Other => format!("{name} has been given other disks meanwhile"),
            Self::Gone => {
                format!("{name} is not defined any more: somebody has deleted it meanwhile")
            }
        }
    }
}

/// What a description names, by the names of disks.
type Places = BTreeMap<String, Named>;

fn places_of(described: &Described) -> Places {
    described.own.iter().map(|own| (own.target.clone(), own.source.clone())).collect()
}

fn after(before: &Places, items: &[Item]) -> Places {
    let mut after = before.clone();
    for item in items {
        after.insert(item.target.clone(), Named::File(item.place.clone()));
    }
    after
}

impl Mover {
    /// That the domain is off and names the files that it named.
    pub(super) fn attend(&self, session: &Session, journal: &Journal) -> Result<(), StorageError> {
        match self.is_at(session, journal)? {
            At::Before => Ok(()),
            at => Err(StorageError::Interfered(at.sentence(&journal.name))),
        }
    }

    pub(super) fn is_at(&self, session: &Session, journal: &Journal) -> Result<At, StorageError> {
        let Some(domain) = session.look(journal.task.domain)? else { return Ok(At::Gone) };
        let names = |xml: &str, places: &Places| {
            let described = plan::describe(xml);
            described.is_ok_and(|described| places_of(&described) == *places)
        };
        let before = places_of(&plan::describe(&journal.before).map_err(StorageError::Failed)?);
        let after = after(&before, &journal.items);
        if let Some(live) = &domain.live {
            let copies = undo::names_copies(live, journal)?;
            return Ok(if copies { At::RunsAfter } else { At::RunsBefore });
        }
        Ok(match &domain.described {
            xml if names(xml, &after) => At::After,
            xml if names(xml, &before) => At::Before,
            _ => At::Other,
        })
    }
}
