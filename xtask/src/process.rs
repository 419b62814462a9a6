//! Running other programs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// The top of the checkout.
pub(crate) fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// `target/` of this checkout, where everything that xtask makes ends up.
pub(crate) fn target() -> PathBuf {
    workspace().join("target")
}

/// The cargo that runs this xtask, working at the top of the checkout.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// Runs quietly; what the program printed is part of the error when it fails.
pub(crate) fn quiet(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_run(command))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    bail!("{} failed ({}):\n{}", line(command), output.status, tail(&output))
}

/// Runs with the terminal of this process.
pub(crate) fn shown(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| cannot_run(command))?;
    if !status.success() {
        bail!("{} failed ({status})", line(command));
    }
    Ok(())
}

/// Whether `program` is on the PATH or at the usual places of system programs.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|d| d.join(program)).find(|p| p.is_file())
}

/// Removes what a rustup proxy and `cargo run` put into the environment, so that another toolchain's
/// cargo starts as if from a shell.
pub(crate) fn without_toolchain(command: &mut Command) -> &mut Command {
    const KEEP: [&str; 4] = ["CARGO_HOME", "CARGO_HTTP", "CARGO_NET", "CARGO_REGISTRIES"];
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let cargo = name == "CARGO" || name.starts_with("CARGO_");
        let toolchain = name.starts_with("RUSTUP_TOOLCHAIN")
            || name.starts_with("RUSTC")
            || name.starts_with("RUSTDOC")
            || name.starts_with("RUSTFLAGS")
            || name.starts_with("RUST_RECURSION_COUNT")
            || name == "LD_LIBRARY_PATH";
        if toolchain || (cargo && !KEEP.iter().any(|k| name.starts_with(k))) {
            command.env_remove(&*name);
        }
    }
    command
}

pub(crate) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|o| o.stdout.trim_ascii() == b"0")
}

fn cannot_run(command: &Command) -> String {
    format!("cannot run {}", command.get_program().to_string_lossy())
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn tail(output: &Output) -> String {
    const LINES: usize = 80;
    let text =
        [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
