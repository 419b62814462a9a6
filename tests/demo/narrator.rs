//! What the audience reads.

use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::Value;

/// Prints the story as it is proven.
pub struct Narrator {
    start: Instant,
    proven: usize,
}

impl Default for Narrator {
    fn default() -> Self {
        Self { start: Instant::now(), proven: 0 }
    }
}

impl Narrator {
    pub fn act(&mut self, number: usize, title: &str) {
        println!("\n{number}. {title}");
    }

    /// What is being done.
    pub fn say(&self, text: &str) {
        println!("  {:6.1} s  {text}", self.start.elapsed().as_secs_f32());
    }

    /// A claim, with what was observed; an error when it does not hold.
    pub fn prove(&mut self, holds: bool, claim: &str, observed: &str) -> Result<()> {
        if !holds {
            bail!("not so: {claim} ({observed})");
        }
        self.proven += 1;
        println!("  {:6.1} s  PROVEN  {claim}: {observed}", self.start.elapsed().as_secs_f32());
        Ok(())
    }

    /// An alert as the operator gets it, with the next command where it names one.
    pub fn alert(&self, finding: &Value) {
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        self.say(&format!("ALERT   [{}] {}", text("severity"), text("title")));
        for pair in finding["evidence"].as_array().into_iter().flatten() {
            let word = |i: usize| pair[i].as_str().unwrap_or_default();
            println!("                      {}: {}", word(0), word(1));
        }
        if let Some(next) = finding["next"].as_str() {
            println!("                      next: {next}");
        }
    }

    /// A command and what it printed.
    pub fn command(&self, line: &str, output: &str) {
        println!("            $ {line}");
        for line in output.lines() {
            println!("              {line}");
        }
    }

    pub fn end(&self) {
        let took = self.start.elapsed().as_secs_f32();
        println!("\nall {} claims proven in {took:.0} s", self.proven);
    }
}
