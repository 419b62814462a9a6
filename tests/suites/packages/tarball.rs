//! The tarball holds what all packages hold.

use std::collections::BTreeSet;
use std::process::Command;

use detector_tests::{artefacts, run};

fn lines(program: &str, words: &[&str]) -> BTreeSet<String> {
    let mut command = Command::new(program);
    let result = command.args(words).output();
    let text = run::checked(&command, result).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Files by their places on a host, without documents and what packages put elsewhere or compress.
fn files(paths: BTreeSet<String>) -> BTreeSet<String> {
    let elsewhere =
        ["/usr/share/doc/", "/usr/share/licenses/", "/usr/share/zsh/", "/usr/share/lintian/"];
    let kept =
        |path: &String| !path.ends_with('/') && !elsewhere.iter().any(|it| path.starts_with(it));
    paths.into_iter().filter(kept).collect()
}

#[test]
fn all_packages_hold_the_same() {
    let of = |name: &str, ending: &str| {
        artefacts::packages(name, ending).unwrap().remove(0).display().to_string()
    };
    let all = |line: &str, ending: &str| -> BTreeSet<String> {
        let packages = ["detector", "detector-monitor"].map(|name| of(name, ending));
        packages.iter().flat_map(|path| lines("sh", &["-c", line, "sh", path])).collect()
    };
    let tarball = lines("tar", &["--list", "--file", &of("detector", "gz")]);
    let below = |path: &str| path.split_once('/').map(|(_, path)| format!("/{path}"));
    let tarball = files(tarball.iter().filter_map(|path| below(path)).collect());
    let deb = all("dpkg-deb --fsys-tarfile \"$1\" | tar --list", "deb");
    let deb = files(deb.iter().map(|path| path.trim_start_matches('.').to_owned()).collect());
    // Without what it only knows of (`%ghost`).
    let rpm = "rpm -qp --queryformat '[%{FILEMODES:perms}%{FILEFLAGS:fflags} %{FILENAMES}\\n]' \"$1\" | sed -n 's/^-[^ g]* //p'";
    let rpm = files(all(rpm, "rpm"));
    assert_eq!(tarball, deb);
    assert_eq!(tarball, rpm);
    for file in [
        "/usr/sbin/detector",
        "/usr/sbin/detector-monitor",
        "/etc/detector/monitor.toml",
        "/usr/share/man/man8/detector.8.gz",
        "/usr/share/man/man8/detector-monitor-run.8.gz",
        "/usr/share/man/man5/detector-config.5.gz",
    ] {
        assert!(tarball.contains(file), "{file}: {tarball:?}");
    }
}
