//! The figures, for people and for programs.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::rounds::Figure;

/// What a figure should be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// Nothing is promised.
    None,
}

impl Target {
    fn is_met_by(self, ratio: f64) -> bool {
        match self {
            Self::AtMost(bound) => ratio <= bound,
            Self::AtLeast(bound) => ratio >= bound,
            Self::None => true,
        }
    }

    /// The same way round, with another bound.
    fn with(self, bound: f64) -> Self {
        match self {
            Self::AtMost(_) => Self::AtMost(bound),
            Self::AtLeast(_) => Self::AtLeast(bound),
            Self::None => Self::None,
        }
    }
}

#[derive(Serialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    ratio: Figure,
    target: Target,
    met: bool,
    /// What would be better still than to meet the target.
    reach: Target,
    reached: bool,
}

/// All figures of one run.
#[derive(Default, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
    /// What the rows stem from, in figures that only hold for this machine.
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn add(&mut self, name: impl Into<String>, ratio: Figure, target: Target) {
        self.push(name.into(), ratio, target, Target::None);
    }

    /// The same, where it says as well what to reach for.
    pub(crate) fn aim(
        &mut self,
        name: impl Into<String>,
        ratio: Figure,
        target: Target,
        reach: f64,
    ) {
        self.push(name.into(), ratio, target, target.with(reach));
    }

    fn push(&mut self, name: String, ratio: Figure, target: Target, reach: Target) {
        let [met, reached] = [target, reach].map(|bound| bound.is_met_by(ratio.median));
        let row = Row { name, ratio, target, met, reach, reached };
        eprint!("{}", Line(&row, 0));
        self.rows.push(row);
    }

    /// Says something beside the figures, to which no target is tied.
    pub(crate) fn note(&mut self, text: String) {
        eprintln!("{text}");
        self.notes.push(text);
    }

    /// The medians of some rows, by name.
    pub(crate) fn medians(&self) -> impl Iterator<Item = (&str, f64)> {
        self.rows.iter().map(|row| (row.name.as_str(), row.ratio.median))
    }

    pub(crate) fn met(&self) -> bool {
        self.rows.iter().all(|row| row.met)
    }

    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text + "\n")
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        self.rows.iter().try_for_each(|row| write!(f, "{}", Line(row, width)))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

/// A row with its name padded to a width.
struct Line<'a>(&'a Row, usize);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(row, width) = *self;
        let Row { name, ratio: Figure { median, low, high }, target, met, reach, reached } = row;
        write!(f, "{name:width$}  {median:6.3}  ({low:.3} to {high:.3})")?;
        match target {
            Target::AtMost(bound) => write!(f, "  at most  {bound:5.2}")?,
            Target::AtLeast(bound) => write!(f, "  at least {bound:5.2}")?,
            Target::None => {}
        }
        if let Target::AtMost(bound) | Target::AtLeast(bound) = reach {
            write!(f, ", better {bound:5.2}")?;
        }
        let said = match (met, reach, reached) {
            (false, ..) => "  missed",
            (true, Target::AtMost(_) | Target::AtLeast(_), true) => "  reached",
            (true, ..) => "",
        };
        writeln!(f, "{said}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_shows() {
        let cases = [
            (1.2, Target::AtMost(1.2), true),
            (1.3, Target::AtMost(1.2), false),
            (3.9, Target::AtLeast(4.0), false),
            (4.0, Target::AtLeast(4.0), true),
            (9.0, Target::None, true),
        ];
        for (ratio, target, met) in cases {
            let mut report = Report::default();
            report.add("row", Figure { median: ratio, low: ratio, high: ratio }, target);
            assert_eq!(report.met(), met, "{ratio} {target:?}");
            assert_eq!(report.to_string().contains("missed"), !met);
        }
    }

    #[test]
    fn what_is_reached_is_more_than_met() {
        let cases = [
            (1.3, Target::AtMost(1.2), 1.1, "missed"),
            (1.15, Target::AtMost(1.2), 1.1, "better  1.10\n"),
            (1.1, Target::AtMost(1.2), 1.1, "reached"),
            (4.5, Target::AtLeast(4.0), 5.0, "better  5.00\n"),
            (5.0, Target::AtLeast(4.0), 5.0, "reached"),
        ];
        for (ratio, target, reach, said) in cases {
            let mut report = Report::default();
            report.aim("row", Figure::alone(ratio), target, reach);
            assert!(report.to_string().contains(said), "{report}");
            assert_eq!(report.met(), said != "missed", "{report}");
        }
    }
}
