//! The Debian package, by apt and with the service manager.

use std::path::Path;
use std::process::Command;

use detector_tests::debian::Debian;
use detector_tests::{artefacts, run};

use super::*;

/// Makes of the package one that leaves everything to root.
const ALL_ROOT: &str = "rm usr/lib/sysusers.d/detector.conf; sed -i 's/systemd-sysusers.*/true/' DEBIAN/postinst; \
    sed -i '/^User=/d; s/^ExecStart=!/ExecStart=/' usr/lib/systemd/system/detector.service";

/// Installs a package that lies in the directory; what apt says, and whether it was content.
pub(super) fn install(system: &Debian, name: &str) -> (bool, String) {
    let line = format!(
        "apt-get install --yes --no-install-recommends -o Dpkg::Options::=--force-confold /root/{name}.deb 2>&1"
    );
    let output = system.output(&line).unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn installs(system: &Debian, name: &str) {
    let (fine, said) = install(system, name);
    assert!(fine, "{said}");
    assert!(is_active(system), "{said}");
}

/// Puts the package into the system.
pub(super) fn put(system: &Debian, package: &Path, name: &str) {
    fs::copy(package, system.inside(&format!("/root/{name}.deb"))).unwrap();
}

/// Puts a package of a later version into the system, to which something has been done besides.
fn put_later(system: &Debian, package: &Path, name: &str, version: &str, change: &str) {
    let script = format!(
        "set -e; dpkg-deb -R {package} tree; cd tree; \
         sed -i 's/^Version: .*/Version: {version}/' DEBIAN/control; {change}; cd ..; \
         dpkg-deb -Znone --build tree changed.deb > /dev/null; rm -r tree",
        package = package.display(),
    );
    let mut sh = Command::new("sh");
    sh.args(["-c", &script]).current_dir(system.directory());
    let result = sh.output();
    run::checked(&sh, result).unwrap();
    put(system, &system.directory().join("changed.deb"), name);
}

#[test]
fn it_is_installed_upgraded_and_removed() {
    let package = artefacts::packages("detector", "deb").unwrap().remove(0);
    let system = with_a_port();
    // As releases were that knew no user.
    put_later(&system, &package, "first", "0.0.0-1", ALL_ROOT);
    installs(&system, "first");
    assert_eq!(owner(&system, STATE), "root:root");
    assert_eq!(system.check("systemctl is-enabled detector").unwrap().trim(), "enabled");
    await_guard(&system);
    // It says as well that there is no libvirt.
    let status = system.output("detector status --output json").unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["mode"], "observe", "{status}");
    let doctor = system.output("detector doctor").unwrap();
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.contains(&format!("{HOOK} asks before each start")), "{doctor}");

    // An upgrade: another daemon under the same links; what was edited, said and cut off stays.
    quarantine(&system);
    system.check("echo '# edited' >> /etc/detector/config.toml").unwrap();
    let (before, pid) = (links(&system), main_pid(&system));
    let newer = "echo '# of a later release' >> etc/detector/config.toml";
    put_later(&system, &package, "second", "0.0.2-1", newer);
    installs(&system, "second");
    assert_ne!(main_pid(&system), pid);
    assert_separate(&system);
    assert_eq!(links(&system), before);
    assert!(is_quarantined(&system));
    let config = fs::read_to_string(system.inside("/etc/detector/config.toml")).unwrap();
    assert!(config.ends_with("# edited\n") && !config.contains("a later release"));
    assert!(system.inside("/etc/detector/config.toml.dpkg-dist").exists());

    // One that does not start is told, and takes nothing off; the next one mends it.
    let broken = "printf '#!/bin/sh\\nexit 1\\n' > usr/sbin/detector";
    put_later(&system, &package, "third", "0.0.3-1", broken);
    let (fine, said) = install(&system, "third");
    assert!(!fine && said.contains("the service does not start"), "{said}");
    assert_eq!(links(&system), before);
    put_later(&system, &package, "fourth", "0.0.4-1", "true");
    installs(&system, "fourth");
    assert_eq!(links(&system), before);
    assert!(is_quarantined(&system));

    // A removal that cannot take it off is none.
    assert_not_removed(&system, "apt-get remove --yes detector");
    system.check("systemctl restart detector").unwrap();

    system.check("apt-get remove --yes detector").unwrap();
    assert_off(&system);
    assert!(!system.inside("/usr/sbin/detector").exists());
    for kept in ["/etc/detector/config.toml", "/var/lib/detector/audit.db", HOOK] {
        assert!(system.inside(kept).exists(), "{kept}");
    }
    // The hook is there, and nobody misses the program.
    let hook = format!("{HOOK} web1 start begin - < /dev/null 2>&1");
    assert_eq!(system.check(&hook).unwrap(), "");

    // It comes back with what it knew, and goes for good.
    installs(&system, "fourth");
    await_guard(&system);
    assert_eq!(owner(&system, STATE), "detector:detector");
    system.check("apt-get purge --yes detector").unwrap();
    assert_off(&system);
    let rest = "find / -xdev -name '*detector*' -not -path '/proc/*' -not -path '/usr/share/perl*'";
    assert_eq!(system.check(rest).unwrap(), "");
}
