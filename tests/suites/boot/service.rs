//! The service as systemd runs it: what it is told, what it notices, and that all of its work is done within what
//! the unit leaves it.

use detector_tests::machine::Machine;
use serde_json::Value;

use super::{PATIENCE, await_ready, host, state};

/// Where an alert would be sent to, with a secret that systemd hands over.
const RECEIVER: &str = "
[[alerts.webhook]]
name = \"receiver\"
url = \"https://192.0.2.99/\"
secret_file = \"/run/credentials/detector.service/secret\"
";
const DROP_IN: &str = "[Service]
WatchdogSec=30s
LoadCredential=secret:/etc/detector/secret
";

/// What systemd says of the service.
fn property(machine: &mut Machine, name: &str) -> String {
    let said = machine.check(&format!("systemctl show detector --value -p {name}")).unwrap();
    said.trim().to_owned()
}

/// A VM that boots from a device of blocks, as libvirt's hook describes it.
const ON_A_DEVICE: &str = "<domain type='kvm'><name>device</name>\
<uuid>d37ec707-0000-4000-8000-000000000020</uuid><os><type>hvm</type><boot dev='hd'/></os><devices>\
<disk type='block' device='disk'><driver type='raw'/><source dev='/dev/vdc'/><target dev='vda'/></disk>\
</devices></domain>";

#[test]
fn it_does_its_work_as_a_service() {
    let mut machine = host::host_with(|files| {
        files.text("/etc/systemd/system/detector.service.d/test.conf", DROP_IN)?;
        files.secret("/etc/detector/secret", "a secret")
    })
    .unwrap();
    let machine = &mut machine;
    machine.start("").unwrap();
    await_ready(machine);
    assert_eq!(property(machine, "NRestarts"), "0");
    assert!(property(machine, "StatusText").starts_with("Observing"), "its sentence");

    // It is within what the unit says.
    let pid = property(machine, "MainPID");
    let process = machine.check(&format!("cat /proc/{pid}/status")).unwrap();
    for wanted in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(process.contains(wanted), "{process}");
    }
    let look = format!("detector hook qemu device start begin - <<'XML'\n{ON_A_DEVICE}\nXML");
    machine.check(&look).unwrap();
    let shown = machine.check("detector vm show device -o json").unwrap();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert!(shown["media"][0].to_string().contains("sha256"), "{shown:#}");

    // A reload, and one of something that cannot be used.
    machine.check("systemctl reload detector").unwrap();
    machine
        .check("cp /etc/detector/config.toml /root/; echo oops >>/etc/detector/config.toml")
        .unwrap();
    assert_ne!(machine.run("systemctl reload detector").unwrap().code, 0);
    assert_eq!(state(machine, "detector"), "active");
    machine.check("cp /root/config.toml /etc/detector/; systemctl reload detector").unwrap();

    // Its alerts are in the journal, and it can read what systemd keeps for it.
    machine.check("detector alert test journal").unwrap();
    machine
        .await_success(
            "journalctl -b MESSAGE_ID=d5a31fb0b3d94f0e9b1ad0a0de7ec70f | grep -q test",
            PATIENCE,
        )
        .unwrap();
    machine.check(&format!("cat >>/etc/detector/config.toml <<'TOML'{RECEIVER}TOML")).unwrap();
    machine.check("systemctl restart detector").unwrap();
    let tried = machine.run("detector alert test receiver -o json").unwrap();
    let tried: Value = serde_json::from_str(&tried.out).unwrap_or_else(|_| panic!("{tried:?}"));
    let error = tried["tried"][0]["error"].as_str().unwrap();
    assert!(!error.contains("secret"), "{error}");

    // One that hangs is noticed, and one that dies is started anew.
    for (signal, restarts) in [("STOP", "1"), ("KILL", "2")] {
        machine
            .check(&format!("systemctl kill --kill-whom=main --signal={signal} detector"))
            .unwrap();
        let again = format!(
            "[ $(systemctl show detector --value -p NRestarts) = {restarts} ] && detector health"
        );
        machine.await_success(&again, PATIENCE).unwrap();
    }
    machine.check("journalctl -b -u detector | grep -q 'Watchdog timeout'").unwrap();
    machine.check("systemctl stop detector").unwrap();
    assert_eq!(property(machine, "Result"), "success");
}
