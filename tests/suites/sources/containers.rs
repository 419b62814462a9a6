//! Containers of libvirt's lxc driver: as it lists them, and as its hook announces them. They are not
//! started: libvirt would make control groups on the machine itself.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use detector_tests::artefacts;
use detector_tests::daemon::Daemon;
use detector_tests::libvirt::Libvirt;
use detector_tests::{link, wait};

use super::{Lab, PATIENCE};

const DRIVER: &str = "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_lxc.so";

fn container(name: &str, number: u8, root: &Path) -> String {
    format!(
        "<domain type='lxc'><name>{name}</name>
         <uuid>d37ec707-0000-4000-8000-0000000000{number}</uuid><memory unit='MiB'>64</memory>
         <os><type>exe</type><init>/bin/init</init><initarg>quiet</initarg></os><devices>
         <filesystem type='mount'><source dir='{}'/><target dir='/'/></filesystem>
         <interface type='bridge'><mac address='52:54:00:00:00:{number}'/><source bridge='br0'/>
         <target dev='veth-{name}'/></interface><console type='pty'/></devices></domain>",
        root.display()
    )
}

/// A directory proves nothing, so that a container is admitted on an administrator's word alone.
#[test]
fn a_container_is_judged_by_what_is_declared_of_it() {
    if !Path::new(DRIVER).exists() {
        println!("skipped: libvirt has no lxc driver here (package libvirt-daemon-driver-lxc)");
        return;
    }
    let lab = Lab::new();
    let mut settings = lab.settings();
    settings.uris = ["qemu:///system", "lxc:///"].map(str::to_owned).to_vec();
    settings.evidence = "declared";
    settings.inventory = "[[vm]]\nname = \"known\"\ntemplate = \"lab\"\n\
         uuid = \"d37ec707-0000-4000-8000-000000000081\"\n"
        .to_owned();
    settings.more = "[admission]\ndenied = \"refuse\"\n".to_owned();
    let mut daemon = Daemon::configure(&lab.host, &settings).unwrap();
    let _libvirt = Libvirt::start(&lab.host, None).unwrap();
    daemon.run().unwrap();
    for (name, number, admitted) in [("known", 81, true), ("rogue", 82, false)] {
        let xml = container(name, number, lab.host.directory());
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
