//! What the program asks of the libraries that it is linked to, by the versions of their symbols.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::Machine;
use crate::process;

/// What the versions of a library's symbols begin with, and Debian's package of the library.
const LIBRARIES: [(&str, &str); 3] =
    [("GLIBC_", "libc6"), ("LIBVIRT_", "libvirt0"), ("GCC_", "libgcc-s1")];

/// The packages with their least versions, as Debian writes them.
///
/// # Errors
///
/// When a program needs a library that is of none of these packages.
pub(super) fn debian(machine: &Machine, binaries: &[PathBuf]) -> Result<String> {
    let mut readelf = machine.tool("readelf");
    packages(&process::quiet(readelf.args(["--wide", "--version-info"]).args(binaries))?)
}

/// Sees to it that nothing is loaded with the program that it does without: linkers differ in what they leave out.
pub(super) fn only_the_c_library(machine: &Machine, binary: &Path) -> Result<()> {
    let text = process::quiet(machine.tool("readelf").args(["--wide", "--dynamic"]).arg(binary))?;
    match foreign(&text) {
        Some(library) => bail!("{} would load {library}, which it does without", binary.display()),
        None => Ok(()),
    }
}

/// A library among those that are needed that is not part of the C library or the compiler's.
fn foreign(dynamic: &str) -> Option<&str> {
    const KNOWN: [&str; 4] = ["libc.so.", "libm.so.", "libgcc_s.so.", "ld-linux"];
    let needed = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    let mut names = needed.filter_map(|line| line.split(['[', ']']).nth(1));
    names.find(|name| !KNOWN.iter().any(|known| name.starts_with(known)))
}

fn packages(version_info: &str) -> Result<String> {
    let mut least: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for line in version_info.lines() {
        let Some((_, rest)) = line.split_once("Name: ") else { continue };
        let symbol = rest.split_whitespace().next().unwrap_or_default();
        let library = LIBRARIES
            .iter()
            .find_map(|(prefix, package)| Some((symbol.strip_prefix(prefix)?, package)));
        let Some((version, package)) = library else {
            bail!("the program needs {symbol}, and nobody knows which package has it");
        };
        let numbers: Option<Vec<u32>> = version.split('.').map(|n| n.parse().ok()).collect();
        // What is private to a library has no number.
        let Some(numbers) = numbers else { continue };
        let known = least.entry(package).or_default();
        *known = numbers.max(std::mem::take(known));
    }
    if least.is_empty() {
        bail!("the program says no version of what it needs");
    }
    let written = least.iter().map(|(package, numbers)| {
        let version: Vec<_> = numbers.iter().map(ToString::to_string).collect();
        format!("{package} (>= {})", version.join("."))
    });
    Ok(written.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_loaded_besides_the_c_library_is_named() {
        let line = |name: &str| format!(" 0x01 (NEEDED)  Shared library: [{name}]\n");
        let known = ["libgcc_s.so.1", "libm.so.6", "libc.so.6", "ld-linux-aarch64.so.1"];
        let known: String = known.into_iter().map(line).collect();
        assert_eq!(foreign(&known), None);
        assert_eq!(foreign(&(known + &line("libvirt.so.0"))), Some("libvirt.so.0"));
    }

    #[test]
    fn the_highest_version_counts() {
        let said = |names: &[&str]| {
            let line = |name: &&str| format!("  0x0010:   Name: {name}  Flags: none  Version: 5\n");
            packages(&names.iter().map(line).collect::<String>()).ok()
        };
        let cases = [
            (&["GLIBC_2.4", "GLIBC_2.34", "GLIBC_2.17"][..], Some("libc6 (>= 2.34)")),
            (
                &["LIBVIRT_0.10.2", "GLIBC_2.34", "LIBVIRT_5.10.0", "GCC_3.0"],
                Some("libc6 (>= 2.34), libgcc-s1 (>= 3.0), libvirt0 (>= 5.10.0)"),
            ),
            (&["GLIBC_2.36", "GLIBC_ABI_DT_RELR"], Some("libc6 (>= 2.36)")),
            (&["GLIBC_2.36", "OPENSSL_3.0.0"], None),
            (&[], None),
        ];
        for (names, expect) in cases {
            assert_eq!(said(names).as_deref(), expect, "{names:?}");
        }
    }
}
