//! The figures, for people and for programs.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// What a figure should be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// Nothing is promised.
    None,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    ratio: f64,
    target: Target,
    met: bool,
}

/// All figures of one run.
#[derive(Default, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn add(&mut self, name: &'static str, ratio: f64, target: Target) {
        let met = match target {
            Target::AtMost(bound) => ratio <= bound,
            Target::AtLeast(bound) => ratio >= bound,
            Target::None => true,
        };
        self.rows.push(Row { name, ratio, target, met });
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
        for Row { name, ratio, target, met } in &self.rows {
            write!(f, "{name:width$}  {ratio:6.3}")?;
            match target {
                Target::AtMost(bound) => write!(f, "  at most  {bound:5.2}")?,
                Target::AtLeast(bound) => write!(f, "  at least {bound:5.2}")?,
                Target::None => {}
            }
            writeln!(f, "{}", if *met { "" } else { "  missed" })?;
        }
        Ok(())
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
            report.add("row", ratio, target);
            assert_eq!(report.met(), met, "{ratio} {target:?}");
            assert_eq!(report.to_string().contains("missed"), !met);
        }
    }
}
