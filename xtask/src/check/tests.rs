use std::path::{Path, PathBuf};

use crate::process::workspace;

const SOURCES: [&str; 6] =
    ["detector", "detector-common", "detector-ebpf", "tests", "xtask", "fuzz"];
/// A file that needs more has more than one job.
const LONGEST: usize = 400;
/// Tests are tables.
const LONGEST_TESTS: usize = 700;

/// What the core may not know, so that the same input always gives the same answer.
const NOT_IN_CORE: [&str; 9] = [
    "tokio",
    "aya",
    "std::fs",
    "std::process",
    "std::thread",
    "TcpStream",
    "UdpSocket",
    "SystemTime::now",
    "Instant::now",
];

#[test]
fn files_are_short() {
    let long: Vec<_> = sources()
        .into_iter()
        .filter_map(|(path, text)| {
            let limit = if path.ends_with("tests.rs") { LONGEST_TESTS } else { LONGEST };
            let lines = text.lines().count();
            (lines > limit).then(|| format!("{}: {lines} lines of {limit}", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "too long:\n{}", long.join("\n"));
}

#[test]
fn the_core_does_no_io() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        if !path.starts_with("detector/core/src") || path.ends_with("tests.rs") {
            continue;
        }
        for (number, line) in code_lines(&text) {
            for word in NOT_IN_CORE.iter().filter(|word| line.contains(**word)) {
                found.push(format!("{}:{number}: {word}", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "the core is pure, but:\n{}", found.join("\n"));
}

#[test]
fn nothing_is_imported_upwards() {
    // (where, what it must not import): arrows in `detector` go from the outside to the core.
    const RULES: [(&str, &[&str]); 5] = [
        ("detector/src/bpf", &["crate::cli", "crate::daemon", "crate::api"]),
        ("detector/src/net", &["crate::cli", "crate::daemon", "crate::api", "crate::bpf"]),
        ("detector/src/inventory", &["crate::cli", "crate::daemon", "crate::api", "crate::bpf"]),
        ("detector/src/registry", &["crate::cli", "crate::daemon", "crate::api", "crate::bpf"]),
        ("detector/src/daemon", &["crate::cli"]),
    ];
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (_, forbidden) in RULES.iter().filter(|(place, _)| path.starts_with(place)) {
            for (number, line) in code_lines(&text) {
                for word in forbidden.iter().filter(|word| line.contains(**word)) {
                    found.push(format!("{}:{number}: {word}", path.display()));
                }
            }
        }
    }
    assert!(found.is_empty(), "imports that point upwards:\n{}", found.join("\n"));
}

#[test]
fn lint_exceptions_say_why() {
    let bare = concat!("#[", "allow(");
    let inner = concat!("#![", "allow(");
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (number, line) in code_lines(&text) {
            if line.contains(bare) || line.contains(inner) {
                found.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "use #[expect(…, reason = …)]:\n{}", found.join("\n"));
}

/// Every source file with its text, by path within the workspace.
fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for directory in SOURCES {
        collect(&workspace().join(directory), &mut files);
    }
    assert!(!files.is_empty(), "no source file found below {}", workspace().display());
    files.sort();
    files
}

fn collect(directory: &Path, files: &mut Vec<(PathBuf, String)>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            files.push((path.strip_prefix(workspace()).unwrap().to_path_buf(), text));
        }
    }
}

fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}
