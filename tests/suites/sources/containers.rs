//! Containers of libvirt's lxc driver: as it lists them, as its hook announces them, and as they run.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use detector_tests::artefacts;
use detector_tests::daemon::{Daemon, Settings};
use detector_tests::host::Host;
use detector_tests::libvirt::Libvirt;
use detector_tests::{link, wait};

use super::{Lab, PATIENCE};

const QEMU: &str = "qemu:///system";
const LXC: &str = "lxc:///";
const DRIVER: &str = "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_lxc.so";

fn container(name: &str, number: u8, root: &Path, init: &[&str]) -> String {
    let (init, arguments) = init.split_first().unwrap();
    let arguments: String =
        arguments.iter().map(|word| format!("<initarg>{word}</initarg>")).collect();
    format!(
        "<domain type='lxc'><name>{name}</name>
         <uuid>d37ec707-0000-4000-8000-0000000000{number}</uuid><memory unit='MiB'>64</memory>
         <os><type>exe</type><init>{init}</init>{arguments}</os><devices>
         <filesystem type='mount'><source dir='{}'/><target dir='/'/></filesystem>
         <interface type='bridge'><mac address='52:54:00:00:00:{number}'/><source bridge='br0'/>
         <target dev='veth-{name}'/></interface><console type='pty'/></devices></domain>",
        root.display()
    )
}

fn lacks_driver() -> bool {
    let lacks = !Path::new(DRIVER).exists();
    if lacks {
        println!("skipped: libvirt has no lxc driver here (package libvirt-daemon-driver-lxc)");
    }
    lacks
}

fn settings(lab: &Lab) -> Settings {
    Settings {
        uris: [QEMU, LXC].map(str::to_owned).to_vec(),
        evidence: "declared",
        inventory: "[[vm]]\nname = \"known\"\ntemplate = \"lab\"\n\
             uuid = \"d37ec707-0000-4000-8000-000000000081\"\n"
            .to_owned(),
        more: "[admission]\ndenied = \"refuse\"\n".to_owned(),
        ..lab.settings()
    }
}

/// A directory with one program, which is all of them.
fn root(lab: &Lab) -> PathBuf {
    let root = lab.host.path("root");
    for directory in ["bin", "dev", "proc", "sys"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    root
}

/// Speaks all the time, whether or not anybody answers: each asks who has an address.
fn speaking(number: u8) -> String {
    format!(
        "b=/bin/busybox; $b ip link set eth0 up; $b ip address add 192.0.2.{number}/24 dev eth0; \
         while true; do $b ping -c 1 -W 1 192.0.2.1; done"
    )
}

fn heard(lab: &Lab, number: u8) -> usize {
    let source = [0x52, 0x54, 0, 0, 0, u8::from_str_radix(&number.to_string(), 16).unwrap()];
    let frames = lab.outside.frames().unwrap();
    frames.iter().filter(|frame| frame.bytes.get(6..12) == Some(source.as_slice())).count()
}

/// Real ones: first without the hook, so that the interface is there before anybody has said whose it is, and
/// then with it.
#[test]
fn containers_that_run_are_guarded_and_judged() {
    if lacks_driver() {
        return;
    }
    let host = match Host::with_cgroups() {
        Ok(host) => host,
        Err(error) => return println!("skipped: no control groups of our own ({error:#})"),
    };
    let lab = Lab::on(host, Ok);
    let mut daemon = Daemon::configure(&lab.host, &settings(&lab)).unwrap();
    let mut libvirt = Libvirt::start(&lab.host, None).unwrap();
    daemon.run().unwrap();
    let root = root(&lab);
    for (name, number) in [("known", 81), ("rogue", 82)] {
        let speaking = speaking(number);
        let xml = container(name, number, &root, &["/bin/busybox", "sh", "-c", &speaking]);
        let path = lab.host.path(&format!("{name}.xml"));
        std::fs::write(&path, xml).unwrap();
        libvirt.virsh_at(LXC, &["define", path.to_str().unwrap()]).unwrap();
        libvirt.virsh_at(LXC, &["start", name]).unwrap();
    }
    daemon.await_port("veth-known", "granted", PATIENCE).unwrap();
    daemon.await_port("veth-rogue", "isolated", PATIENCE).unwrap();
    let await_known = || {
        let before = heard(&lab, 81);
        wait::until("more of the known one", PATIENCE, || {
            Ok((heard(&lab, 81) > before).then_some(()))
        })
        .unwrap();
    };
    await_known();
    // The other one speaks as well.
    wait::until("frames of the rogue to be refused", PATIENCE, || {
        let shown = daemon.ask(&["port", "show", "veth-rogue"])?.json;
        Ok(shown["counters"]["from"]["port-isolated"].as_u64().filter(|count| *count > 1))
    })
    .unwrap();
    daemon.await_finding("rogue-vm", "rogue", PATIENCE).unwrap();
    assert_eq!(heard(&lab, 82), 0);
    for name in ["known", "rogue"] {
        libvirt.virsh_at(LXC, &["destroy", name]).unwrap();
    }

    let hook = format!("#!/bin/sh\nexec {} hook lxc \"$@\"\n", daemon.command_line());
    libvirt.hook_lxc(&hook).unwrap();
    libvirt.kill().unwrap();
    libvirt.restart().unwrap();
    libvirt.virsh_at(LXC, &["start", "known"]).unwrap();
    // When the start has returned the verdict is in force.
    daemon.await_port("veth-known", "granted", Duration::ZERO).unwrap();
    await_known();
    let refused = libvirt.virsh_at(LXC, &["start", "rogue"]).unwrap_err().to_string();
    assert!(refused.contains("may not start"), "{refused}");
    assert_eq!(heard(&lab, 82), 0);
    libvirt.virsh_at(LXC, &["destroy", "known"]).unwrap();
}

/// A directory proves nothing, so that a container is admitted on an administrator's word alone.
#[test]
fn a_container_is_judged_by_what_is_declared_of_it() {
    if lacks_driver() {
        return;
    }
    let lab = Lab::new();
    let settings = settings(&lab);
    let mut daemon = Daemon::configure(&lab.host, &settings).unwrap();
    let _libvirt = Libvirt::start(&lab.host, None).unwrap();
    daemon.run().unwrap();
    for (name, number, admitted) in [("known", 81, true), ("rogue", 82, false)] {
        let xml = container(name, number, lab.host.directory(), &["/bin/init", "quiet"]);
        let path = lab.host.path(&format!("{name}.xml"));
        std::fs::write(&path, &xml).unwrap();
        lab.host
            .check(Command::new("virsh").args(["-q", "-c", "lxc:///", "define"]).arg(&path))
            .unwrap();
        // Of the other one the static inventory is shown, which lists it first.
        if !admitted {
            let shown = wait::until("the container to be listed", PATIENCE, || {
                let shown = daemon.show(&["vm", "show", name])?;
                Ok(shown.contains("a directory of the host").then_some(shown))
            })
            .unwrap();
            assert!(shown.contains("init=/bin/init quiet"), "{shown}");
        }

        let veth = format!("veth-{name}");
        let network = lab.host.network();
        network.ip(&format!("link add {veth} type veth peer name peer-{number}")).unwrap();
        link::enslave(network, &veth, "br0").unwrap();
        let mut hook = Command::new(artefacts::detector().unwrap());
        hook.arg("--config").arg(lab.host.path("detector.toml"));
        hook.args(["hook", "lxc", name, "start", "begin", "-"]);
        hook.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = lab.host.spawn(&mut hook).unwrap();
        child.stdin.take().unwrap().write_all(xml.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), admitted, "{said}");
        if admitted {
            daemon.await_port(&veth, "granted", PATIENCE).unwrap();
        } else {
            assert!(said.contains("may not start"), "{said}");
        }
    }
}
