//! What the guest boots from: busybox, modules, and what to do.

use anyhow::{Context, Result};
use detector_tests::cpio::Archive;

use crate::Suite;
use crate::modules::Module;

/// Loads the modules, mounts what the host shares, and goes there.
const INIT: &str = include_str!("init.sh");
/// The beginning of what is done there.
const BEGIN: &str = include_str!("begin.sh");

const BUSYBOX: &str = "/usr/bin/busybox";

pub(crate) fn make(modules: &[Module], suites: &[Suite]) -> Result<Vec<u8>> {
    let busybox = std::fs::read(BUSYBOX)
        .with_context(|| format!("cannot read {BUSYBOX} (package busybox-static)"))?;
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "proc", "sys", "modules", "root"] {
        archive.directory(directory);
    }
    archive.executable("bin/busybox", &busybox);
    archive.executable("init", INIT.as_bytes());
    archive.file("begin", script(suites).as_bytes());
    for (number, Module { name, content }) in modules.iter().enumerate() {
        archive.file(&format!("modules/{number:03}-{name}.ko"), content);
    }
    Ok(archive.finish())
}

fn script(suites: &[Suite]) -> String {
    let mut script = BEGIN.to_owned();
    for suite in suites {
        let (name, command) = (&suite.name, suite.command());
        script.push_str(&format!("echo '== suite {name}'\n{command}\necho \"== ended $?\"\n"));
    }
    script.push_str("echo '== end'\npower_off\n");
    script
}
