//! What is wrong with a policy, shown where it stands.

use std::{io::Write, path::Path};

use anyhow::Result;
use detector_core::decide::policy::Fault;
use serde::Serialize;

use crate::{cli::output::Output, policy::PolicyError};

/// Everything that is wrong, each with its line; the text is not escaped yet.
pub(super) fn describe(error: &PolicyError) -> String {
    match error {
        PolicyError::Unreadable { .. } => error.to_string(),
        PolicyError::Invalid { path, text, faults } => {
            let all: Vec<_> = faults.iter().map(|fault| marked(path, text, fault, "")).collect();
            let count = match faults.len() {
                1 => "1 fault".to_owned(),
                many => format!("{many} faults"),
            };
            format!("{}\n{}: no valid policy: {count}", all.join("\n"), path.display())
        }
    }
}

pub(super) fn warning(path: &Path, text: &str, warning: &Fault) -> String {
    marked(path, text, warning, "warning: ")
}

pub(super) fn json<W: Write>(output: &mut Output<W>, valid: bool, faults: &[Fault]) -> Result<()> {
    #[derive(Serialize)]
    struct Checked<'a> {
        valid: bool,
        /// Of a valid policy, what is odd about it.
        faults: &'a [Fault],
    }
    output.json(&Checked { valid, faults })
}

/// The place, the message, and the line with a mark below what it is about.
fn marked(path: &Path, text: &str, fault: &Fault, kind: &str) -> String {
    let Fault { line, column, length, message, help } = fault;
    let mut out = format!("{}:{line}:{column}: {kind}{message}\n", path.display());
    if let Some(source) = text.lines().nth(line - 1) {
        // A tab is as wide as its own place, so that the mark stands below what it means.
        let source = source.replace('\t', " ");
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        out.push_str(&format!("  {number} | {source}\n"));
        out.push_str(&format!("  {margin} | {}{}\n", " ".repeat(column - 1), "^".repeat(*length)));
    }
    if let Some(help) = help {
        out.push_str(&format!("  help: {help}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use detector_core::decide::policy::Rules;

    use super::*;

    #[test]
    fn the_mark_stands_below_the_fault() {
        let text = "@id(\"a\")\npermit (principal, action == Action::\"joins\", resource);\n";
        let faults = Rules::parse(text).unwrap_err();
        let said = marked(Path::new("p.cedar"), text, &faults[0], "");
        let expected = "\
p.cedar:2:30: for policy `a`, unrecognized action `Action::\"joins\"`
  2 | permit (principal, action == Action::\"joins\", resource);
    |                              ^^^^^^^^^^^^^^^
  help: did you mean `Action::\"join\"`?
";
        assert_eq!(said, expected);
    }
}
