//! A host is started anew: what was confirmed last is in force before the first frame of a VM, whatever becomes of the
//! daemon, and the host has its network.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

#[path = "boot/host.rs"]
mod host;
#[path = "boot/service.rs"]
mod service;

use detector_tests::capture::Frame;
use detector_tests::machine::Machine;
use host::{APPROVED, HOST, PATIENCE, ROGUE, SUSPECT, Vm, is_hosts};
use serde_json::Value;

/// What a machine has sent since a moment.
struct Since<'a> {
    machine: &'a mut Machine,
    seen: usize,
}

impl<'a> Since<'a> {
    fn now(machine: &'a mut Machine) -> Self {
        let seen = machine.outside().unwrap().len();
        Self { machine, seen }
    }

    /// A new start, before which all VMs were silent.
    fn restart(machine: &'a mut Machine) -> Self {
        for vm in Vm::ALL {
            // It may not run.
            machine.run(&format!("virsh destroy {}", vm.name)).unwrap();
        }
        let since = Self::now(machine);
        since.machine.restart().unwrap();
        since
    }

    fn await_frame_of(&self, vm: Vm) {
        let wanted = |frame: &_| Vm::of(frame) == Some(vm);
        self.machine.await_frame(vm.name, self.seen, PATIENCE, wanted).unwrap();
    }

    /// Frames of nobody but these and the host itself have left.
    fn assert_only(&self, vms: &[Vm]) {
        let frames = self.machine.outside().unwrap().split_off(self.seen);
        let may = |frame: &_| is_hosts(frame) || Vm::of(frame).is_some_and(|vm| vms.contains(&vm));
        let odd: Vec<_> = frames.iter().filter(|frame| !may(frame)).map(Frame::source).collect();
        assert!(odd.is_empty(), "{} of {} frames: {odd:x?}", odd.len(), frames.len());
    }
}

fn await_ready(machine: &mut Machine) {
    machine.await_success("systemctl -q is-active detector && detector health", PATIENCE).unwrap();
}

/// The mode, and why it is.
fn mode(machine: &mut Machine) -> String {
    let said = machine.run("detector status -o json").unwrap();
    let status: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{said:?}"));
    let detail = &status["mode_detail"];
    format!("{} {}", detail["mode"].as_str().unwrap(), detail["standing"].as_str().unwrap())
}

fn state(machine: &mut Machine, unit: &str) -> String {
    machine.run(&format!("systemctl is-active {unit}")).unwrap().out.trim().to_owned()
}

/// The unit that VMs wait for runs, or waits itself for a daemon that is just being started.
fn assert_vms_wait(machine: &mut Machine) {
    let jobs = machine.check("systemctl list-jobs --no-legend").unwrap();
    let waits = |line: &str| line.contains(" detector-ready.service ") && line.contains(" start ");
    assert!(jobs.lines().any(waits), "{jobs}");
    assert_eq!(state(machine, "libvirtd"), "inactive");
}

/// Waits until the kernel has refused frames of a VM, so that its silence says something.
fn await_tries(machine: &mut Machine, vm: Vm) {
    let refused =
        format!("detector port show {} -o json | grep -q '\"port-isolated\": [1-9]'", vm.name);
    machine.await_success(&refused, PATIENCE).unwrap();
}

#[test]
fn what_was_confirmed_last_is_in_force_before_the_first_frame() {
    let machine = &mut host::host().unwrap();
    machine.start("").unwrap();
    await_ready(machine);
    assert_eq!(mode(machine), "observe confirmed");

    // Nobody confirms it, and so the next start observes: all of them speak.
    machine.check("detector enforce --confirm-within 1h").unwrap();
    let since = Since::restart(machine);
    for vm in Vm::ALL {
        since.await_frame_of(vm);
    }
    assert_eq!(mode(machine), "observe confirmed");
    machine.check("detector enforce --reason 'a test'").unwrap();
    machine.check("detector quarantine add vm suspect --reason 'a test'").unwrap();
    machine.check("detector break-glass --for 1h --reason 'a test'").unwrap();

    // What was confirmed is another thing than what was in force last.
    let since = Since::restart(machine);
    since.await_frame_of(APPROVED);
    await_tries(since.machine, ROGUE);
    await_tries(since.machine, SUSPECT);
    since.machine.await_answer(HOST, PATIENCE).unwrap();
    since.assert_only(&[APPROVED]);
    assert_eq!(mode(machine), "enforce confirmed");
    let quarantined = machine.check("detector quarantine list").unwrap();
    assert!(quarantined.contains("suspect") && quarantined.contains("a test"), "{quarantined}");
}

/// The daemon never gets ready; all else that its program does it does.
const HANGING: &str = r#"
cd /usr/sbin && mv detector whole
printf '#!/bin/sh\n[ "$1" != run ] || exec sleep infinity\nexec /usr/sbin/whole "$@"\n' >detector
chmod +x detector
printf '[Service]\nTimeoutStartSec=20s\n' >/etc/systemd/system/detector.service.d/hanging.conf
"#;
const MENDED: &str = "mv /usr/sbin/whole /usr/sbin/detector
rm /etc/systemd/system/detector.service.d/hanging.conf && systemctl daemon-reload";

#[test]
fn whatever_becomes_of_the_daemon_the_host_has_its_network_and_vms_wait() {
    let machine = &mut host::host().unwrap();
    machine.start("").unwrap();
    await_ready(machine);
    machine.check("detector enforce --reason 'a test'").unwrap();

    // A daemon that does not start, until somebody mends it.
    machine.check("echo oops >>/etc/detector/config.toml").unwrap();
    let since = Since::restart(machine);
    since.machine.await_answer(HOST, PATIENCE).unwrap();
    since.machine.await_success("systemctl is-active network.target", PATIENCE).unwrap();
    assert_vms_wait(since.machine);
    since.assert_only(&[]);
    since.machine.check("sed -i '/^oops/d' /etc/detector/config.toml").unwrap();
    since.await_frame_of(APPROVED);
    since.assert_only(&[APPROVED, SUSPECT]);

    // A program that is none.
    machine
        .check("cd /usr/sbin; mv detector whole; echo none >detector; chmod +x detector")
        .unwrap();
    let since = Since::restart(machine);
    since.machine.await_answer(HOST, PATIENCE).unwrap();
    since.machine.await_success("systemctl is-active network.target", PATIENCE).unwrap();
    assert_vms_wait(since.machine);
    since.machine.check("mv /usr/sbin/whole /usr/sbin/detector").unwrap();
    since.await_frame_of(APPROVED);
    since.assert_only(&[APPROVED, SUSPECT]);

    // One that hangs keeps the host from its network for as long as the unit has it, and VMs for longer.
    machine.check(HANGING).unwrap();
    let since = Since::restart(machine);
    since.machine.await_answer(HOST, PATIENCE).unwrap();
    since.machine.await_success("systemctl is-active network.target", PATIENCE).unwrap();
    assert_vms_wait(since.machine);
    since.machine.check("journalctl -b -u detector | grep -q 'start operation timed out'").unwrap();
    since.machine.check(MENDED).unwrap();
    since.await_frame_of(APPROVED);
    since.assert_only(&[APPROVED, SUSPECT]);

    // The emergency exit.
    machine.turn_off().unwrap();
    let since = Since::now(machine);
    since.machine.start("detector.off").unwrap();
    since.await_frame_of(ROGUE);
    for unit in ["detector", "detector-ready"] {
        assert_eq!(state(since.machine, unit), "inactive");
    }
}
