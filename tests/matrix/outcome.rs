//! What the guest says, read line by line.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// What came of one run on one kernel.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// `uname -r`.
    pub(crate) kernel: String,
    /// What tests have found out about the kernel.
    pub(crate) findings: Vec<String>,
    pub(crate) suites: Vec<SuiteOutcome>,
    /// What went wrong outside of the tests.
    pub(crate) trouble: Vec<String>,
    #[serde(skip)]
    section: Section,
    #[serde(skip)]
    ended: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct SuiteOutcome {
    pub(crate) name: String,
    pub(crate) passed: u64,
    pub(crate) failed: Vec<String>,
    /// Tests that could not test anything here, and why.
    pub(crate) skipped: Vec<(String, String)>,
    /// The program said how many tests passed, and ended accordingly.
    pub(crate) whole: bool,
}

/// Where in the output of a test program we are.
#[derive(Debug, Default, PartialEq, Eq)]
enum Section {
    #[default]
    Tests,
    /// The names of the tests that failed, or what those have printed.
    Failures,
}

impl SuiteOutcome {
    fn is_good(&self) -> bool {
        self.whole && self.failed.is_empty() && self.passed + self.skipped.len() as u64 > 0
    }
}

impl Outcome {
    /// Takes in a line, and shows whoever watches how far it is.
    pub(crate) fn take(&mut self, line: &str) {
        if let Some(said) = line.strip_prefix("== ") {
            self.take_word(said);
        } else if let Some((test, why)) = split(line, "skipped ") {
            // Every skipped test passes, since it has nothing to say.
            self.suite().skipped.push((test, why));
        } else if let Some((_, what)) = split(line, "found ") {
            self.findings.push(what);
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            let passed = counts.split_whitespace().zip(counts.split_whitespace().skip(1));
            let passed = passed.filter(|(_, word)| *word == "passed;").map(|(number, _)| number);
            self.suite().passed = passed.filter_map(|number| number.parse::<u64>().ok()).sum();
            self.section = Section::Tests;
        } else if line == "failures:" {
            self.section = Section::Failures;
        } else if let (Section::Failures, Some(name)) = (&self.section, line.strip_prefix("    "))
            && !name.contains(' ')
        {
            let name = name.to_owned();
            let failed = &mut self.suite().failed;
            if !failed.contains(&name) {
                failed.push(name);
            }
        } else if line.starts_with("test ") {
            println!("    {line}");
        }
    }

    fn take_word(&mut self, said: &str) {
        let (word, rest) = said.split_once(' ').unwrap_or((said, ""));
        match word {
            "kernel" => {
                println!("  Linux {rest}");
                rest.clone_into(&mut self.kernel);
            }
            "suite" => {
                println!("  suite {rest}");
                self.section = Section::Tests;
                self.suites.push(SuiteOutcome { name: rest.to_owned(), ..SuiteOutcome::default() });
            }
            "ended" => {
                let suite = self.suite();
                suite.whole = rest == "0" || !suite.failed.is_empty();
            }
            "end" => self.ended = true,
            _ => self.fail(rest),
        }
    }

    pub(crate) fn fail(&mut self, what: &str) {
        println!("  {what}");
        self.trouble.push(what.to_owned());
    }

    /// No more lines will come.
    pub(crate) fn finish(&mut self) {
        if !self.ended {
            self.fail("the guest ended before its tests did");
        }
        for suite in &mut self.suites {
            let skipped = suite.skipped.len() as u64;
            suite.passed = suite.passed.saturating_sub(skipped);
        }
    }

    pub(crate) fn is_good(&self) -> bool {
        self.ended && self.trouble.is_empty() && self.suites.iter().all(SuiteOutcome::is_good)
    }

    pub(crate) fn summary(&self) -> String {
        let mut text = String::new();
        for suite in &self.suites {
            let SuiteOutcome { name, passed, failed, skipped, whole } = suite;
            let _ = write!(text, "  {name}: {passed} passed");
            for (number, what) in [(skipped.len(), "skipped"), (failed.len(), "failed")] {
                if number > 0 {
                    let _ = write!(text, ", {number} {what}");
                }
            }
            let _ = writeln!(text, "{}", if *whole { "" } else { ", did not come to its end" });
            for (test, why) in skipped {
                let _ = writeln!(text, "    skipped {test}: {why}");
            }
            for test in failed {
                let _ = writeln!(text, "    failed {test}");
            }
        }
        text
    }

    fn suite(&mut self) -> &mut SuiteOutcome {
        if self.suites.is_empty() {
            self.suites.push(SuiteOutcome::default());
        }
        let last = self.suites.len() - 1;
        &mut self.suites[last]
    }
}

/// `WORD TEST: TEXT`, which may come behind the beginning of libtest's own line.
fn split(line: &str, word: &str) -> Option<(String, String)> {
    let (test, text) = line.strip_prefix(word)?.split_once(": ")?;
    Some((test.to_owned(), text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libtest_says_is_understood() {
        let mut outcome = Outcome::default();
        let lines = "== kernel 6.1.0-50-amd64\n== suite gate\nrunning 4 tests\ntest a ... ok\n\
                     test b ... \nskipped b: no such thing\nok\ntest c::d ... FAILED\n\
                     found a: it attaches by clsact\n\nfailures:\n\n\
                     ---- c::d stdout ----\n    left: 1\n\nfailures:\n    c::d\n\n\
                     test result: FAILED. 3 passed; 1 failed; 0 ignored\n== ended 101\n== end";
        lines.lines().for_each(|line| outcome.take(line));
        outcome.finish();
        let suite = &outcome.suites[0];
        assert_eq!((outcome.kernel.as_str(), suite.passed), ("6.1.0-50-amd64", 2));
        assert_eq!(suite.failed, ["c::d"]);
        assert_eq!(suite.skipped, [("b".to_owned(), "no such thing".to_owned())]);
        assert_eq!(outcome.findings, ["it attaches by clsact"]);
        assert!(suite.whole && !outcome.is_good());
    }

    #[test]
    fn a_program_that_dies_is_no_success() {
        let mut outcome = Outcome::default();
        for line in ["== suite gate", "test a ... ok", "== ended 134", "== end"] {
            outcome.take(line);
        }
        outcome.finish();
        assert!(!outcome.is_good() && outcome.summary().contains("did not come to its end"));
    }
}
