//! One line per step, with a spinner where somebody watches, and a summary.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// What a step came to.
pub(crate) enum Outcome {
    Done(String),
}

impl Outcome {
    pub(crate) fn done() -> Self {
        Self::Done(String::new())
    }
}

/// Steps and what came of them.
#[derive(Default)]
pub(crate) struct Steps {
    lines: Vec<String>,
    failed: usize,
}

impl Steps {
    /// A step whose own output does not matter unless it fails: a spinner stands for it, or a line where
    /// nobody watches.
    pub(crate) fn quiet(
        &mut self,
        name: &str,
        step: impl FnOnce() -> Result<Outcome>,
    ) -> Result<()> {
        let bar = spinner(name);
        let start = Instant::now();
        let result = step();
        bar.finish_and_clear();
        self.note(name, start, &result);
        result.map(drop)
    }

    /// A step that prints for itself. A failure is noted, and the steps after it go on.
    pub(crate) fn shown(&mut self, name: &str, step: impl FnOnce() -> Result<Outcome>) {
        eprintln!("==> {name}");
        let start = Instant::now();
        let result = step();
        if let Err(error) = &result {
            eprintln!("{error:#}");
        }
        self.note(name, start, &result);
    }

    /// Prints every step again with what came of it; an error when one failed.
    pub(crate) fn summary(self) -> Result<()> {
        eprintln!("\nsummary");
        for line in &self.lines {
            eprintln!("{line}");
        }
        match self.failed {
            0 => Ok(()),
            n => bail!("{n} of {} steps failed", self.lines.len()),
        }
    }

    fn note(&mut self, name: &str, start: Instant, result: &Result<Outcome>) {
        let (sign, detail) = match result {
            Ok(Outcome::Done(detail)) => ("ok     ", detail.as_str()),
            Err(_) => ("FAILED ", ""),
        };
        let took = start.elapsed().as_secs_f32();
        let line = format!("  {sign} {name} ({took:.1} s) {detail}");
        let line = line.trim_end().to_owned();
        eprintln!("{line}");
        self.failed += usize::from(result.is_err());
        self.lines.push(line);
    }
}

fn spinner(name: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        eprintln!("==> {name}");
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(name.to_owned());
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
