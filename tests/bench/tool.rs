//! Tools that read their rules from standard input.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use detector_tests::netns::NetNs;

/// Feeds a text to a tool in the namespace; an error has what the tool says.
pub(crate) fn feed(network: &NetNs, name: &str, arguments: &[&str], text: &str) -> Result<()> {
    let mut tool = network
        .command(name)
        .args(arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    if let Some(mut input) = tool.stdin.take() {
        input.write_all(text.as_bytes())?;
    }
    let output = tool.wait_with_output()?;
    if !output.status.success() {
        bail!("{name} ({}): {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
