//! What the program asks of the libraries that it is linked to, by the versions of their symbols.

use std::collections::BTreeMap;
use std::path::Path;

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
/// When the program needs a library that is of none of these packages.
pub(super) fn debian(machine: &Machine, binary: &Path) -> Result<String> {
    let text =
        process::quiet(machine.tool("readelf").args(["--wide", "--version-info"]).arg(binary))?;
    packages(&text)
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
