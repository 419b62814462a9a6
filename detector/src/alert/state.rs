//! What is open, and what people have said of it. It is small, held in memory, and copied to the disk.

use std::collections::{BTreeMap, BTreeSet};

use detector_core::model::FindingKey;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::view::{FindingView, Mark};

/// An alert that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alert {
    pub(super) id: Uuid,
    /// Whether receivers have been told.
    pub(super) told: bool,
    pub(super) view: FindingView,
}

/// What somebody has done about findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Deed {
    Acknowledged,
    Suppressed,
}

impl Deed {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Suppressed => "suppressed",
        }
    }
}

/// Everything that is known of alerts.
#[derive(Debug, Default)]
pub(super) struct State {
    open: BTreeMap<FindingKey, Alert>,
    /// By deed, and by the identifier of a finding or the name of a kind.
    marks: Marks,
    changed: BTreeSet<FindingKey>,
    changed_marks: BTreeSet<(Deed, String)>,
}

impl State {
    /// What the disk has. What another release has written and this one does not understand is left out.
    pub(super) fn read(from: &Connection) -> rusqlite::Result<Self> {
        let mut state = Self::default();
        let mut select = from.prepare("SELECT key, alert, told, view FROM alert")?;
        let rows = select.query_map([], |row| {
            let text = |column| row.get::<_, String>(column);
            Ok((text(0)?, text(1)?, row.get(2)?, text(3)?))
        })?;
        for row in rows {
            let (key, id, told, view): (_, _, bool, _) = row?;
            if let (Ok(key), Ok(id), Ok(view)) =
                (serde_json::from_str(&key), id.parse(), serde_json::from_str(&view))
            {
                state.open.insert(key, Alert { id, told, view });
            }
        }
        let mut select = from.prepare("SELECT deed, what, mark FROM mark")?;
        let rows = select.query_map([], |row| {
            let text = |column| row.get::<_, String>(column);
            Ok((text(0)?, text(1)?, text(2)?))
        })?;
        for row in rows {
            let (deed, what, mark) = row?;
            let deed = match deed.as_str() {
                "acknowledged" => Deed::Acknowledged,
                _ => Deed::Suppressed,
            };
            if let Ok(mark) = serde_json::from_str(&mark) {
                state.marks.insert((deed, what), mark);
            }
        }
        Ok(state)
    }

    pub(super) fn open(&self) -> &BTreeMap<FindingKey, Alert> {
        &self.open
    }

    pub(super) fn set(&mut self, key: FindingKey, alert: Alert) {
        self.changed.insert(key.clone());
        self.open.insert(key, alert);
    }

    pub(super) fn end(&mut self, key: &FindingKey) -> Option<Alert> {
        self.changed.insert(key.clone());
        self.open.remove(key)
    }

    pub(super) fn marks(&self) -> &Marks {
        &self.marks
    }

    pub(super) fn mark(&self, deed: Deed, what: &str) -> Option<&Mark> {
        self.marks.get(&(deed, what.to_owned()))
    }

    /// Sets a mark, or takes it away; what was there before.
    pub(super) fn set_mark(&mut self, deed: Deed, what: &str, mark: Option<Mark>) -> Option<Mark> {
        let key = (deed, what.to_owned());
        self.changed_marks.insert(key.clone());
        match mark {
            Some(mark) => self.marks.insert(key, mark),
            None => self.marks.remove(&key),
        }
    }

    /// Whether the disk has something else.
    pub(super) fn is_changed(&self) -> bool {
        !self.changed.is_empty() || !self.changed_marks.is_empty()
    }

    pub(super) fn written(&mut self) {
        self.changed.clear();
        self.changed_marks.clear();
    }

    /// Writes what has changed, or `whole` all of it.
    pub(super) fn write(&self, to: &Connection, whole: bool) -> rusqlite::Result<()> {
        if whole {
            to.execute_batch("DELETE FROM alert; DELETE FROM mark;")?;
        }
        let mut forget = to.prepare_cached("DELETE FROM alert WHERE key = ?1")?;
        let mut keep = to.prepare_cached(
            "INSERT OR REPLACE INTO alert (key, alert, told, view) VALUES (?1, ?2, ?3, ?4)",
        )?;
        let all = if whole { self.open.keys().collect() } else { BTreeSet::new() };
        for key in self.changed.iter().chain(all) {
            match self.open.get(key) {
                None => forget.execute([text(key)?])?,
                Some(Alert { id, told, view }) => {
                    keep.execute(params![text(key)?, id.to_string(), told, text(view)?])?
                }
            };
        }
        let mut forget = to.prepare_cached("DELETE FROM mark WHERE deed = ?1 AND what = ?2")?;
        let mut keep = to
            .prepare_cached("INSERT OR REPLACE INTO mark (deed, what, mark) VALUES (?1, ?2, ?3)")?;
        let all = if whole { self.marks.keys().collect() } else { BTreeSet::new() };
        for key in self.changed_marks.iter().chain(all) {
            let (deed, what) = key;
            match self.marks.get(key) {
                None => forget.execute(params![deed.as_str(), what])?,
                Some(mark) => keep.execute(params![deed.as_str(), what, text(mark)?])?,
            };
        }
        Ok(())
    }
}

/// What people have said, by deed, and by the identifier of a finding or the name of a kind.
pub(crate) type Marks = BTreeMap<(Deed, String), Mark>;

/// Adds to a finding what people have said of it.
pub(crate) fn label(marks: &Marks, view: &mut FindingView) {
    view.acknowledged = marks.get(&(Deed::Acknowledged, view.id.clone())).cloned();
    view.suppressed = suppression(marks, view).cloned();
}

pub(super) fn is_suppressed(marks: &Marks, view: &FindingView) -> bool {
    suppression(marks, view).is_some()
}

fn suppression<'a>(marks: &'a Marks, view: &FindingView) -> Option<&'a Mark> {
    let of = |what: &str| marks.get(&(Deed::Suppressed, what.to_owned()));
    of(&view.id).or_else(|| of(view.kind.as_str()))
}

fn text(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
