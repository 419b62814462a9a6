//! The RPM: what it holds and what its scripts do, by rpm on a system that has the libraries.

use detector_tests::artefacts;

use super::*;

#[test]
fn it_is_installed_upgraded_and_removed() {
    let packages = artefacts::packages("detector", "rpm").unwrap();
    let [first, second] = &packages[..] else { panic!("{packages:?}") };
    let system = with_a_port();
    // This distribution keeps its packages in another database; what they need is there.
    let rpm = "rpm --force-debian --nodeps";
    system.check("apt-get install --yes --no-install-recommends libvirt0").unwrap();
    for (package, name) in [(first, "first"), (second, "second")] {
        fs::copy(package, system.inside(&format!("/root/{name}.rpm"))).unwrap();
    }
    system.check(&format!("{rpm} --install /root/first.rpm")).unwrap();
    // As such distributions have it, an administrator starts it.
    assert!(!is_active(&system));
    system.check("systemctl enable --now detector").unwrap();
    await_guard(&system);
    assert_separate(&system);
    quarantine(&system);
    system.check("echo '# edited' >> /etc/detector/config.toml").unwrap();
    let (before, pid) = (links(&system), main_pid(&system));

    system.check(&format!("{rpm} --upgrade /root/second.rpm")).unwrap();
    assert!(is_active(&system));
    assert_ne!(main_pid(&system), pid);
    assert_eq!(links(&system), before);
    assert!(is_quarantined(&system));
    let config = fs::read_to_string(system.inside("/etc/detector/config.toml")).unwrap();
    assert!(config.ends_with("# edited\n"));
    let verified = system.output("rpm --verify --nodeps detector").unwrap();
    let verified = String::from_utf8_lossy(&verified.stdout).into_owned();
    let changed: Vec<_> = verified.lines().filter(|line| !line.contains("config.toml")).collect();
    assert!(changed.is_empty(), "{verified}");

    assert_not_removed(&system, &format!("{rpm} --erase detector"));

    system.check(&format!("{rpm} --erase detector")).unwrap();
    assert_off(&system);
    assert!(!is_active(&system));
    for gone in ["/usr/sbin/detector", HOOK] {
        assert!(!system.inside(gone).exists(), "{gone}");
    }
}
