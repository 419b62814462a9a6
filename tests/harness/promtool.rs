//! Prometheus's own tool.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

const PROMTOOL: &str = "promtool";
const PACKAGE: &str = "promtool (package prometheus)";

/// What it says against a text of metrics; nothing where it is content.
pub fn metrics(text: &str) -> Result<String> {
    let mut tool = Command::new(PROMTOOL);
    tool.args(["check", "metrics"]);
    let mut tool = tool
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(PACKAGE)?;
    tool.stdin.take().context("it takes nothing")?.write_all(text.as_bytes())?;
    let output = tool.wait_with_output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { Ok(said) } else { bail!("{said}\n{text}") }
}

/// Runs it with these words there.
///
/// # Errors
///
/// What it is not content with.
pub fn run(words: &[&str], place: &Path) -> Result<String> {
    let output = Command::new(PROMTOOL).args(words).current_dir(place).output().context(PACKAGE)?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { Ok(said) } else { bail!("{words:?}: {said}") }
}
