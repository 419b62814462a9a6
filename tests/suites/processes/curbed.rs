//! VMs that no inventory knows are kept from running on.

use super::*;

/// The configuration with which VMs that no inventory knows do not run on.
pub(super) fn curbing(how: &str, limits: &str) -> String {
    format!("[mitigation]\n{limits}\nunknown_processes = \"{how}\"\n")
}

pub(super) fn is_stopped(host: &Host, pid: u32) -> bool {
    let stat = host.check(Command::new("cat").arg(format!("/proc/{pid}/stat"))).unwrap();
    stat.rsplit_once(") ").unwrap().1.starts_with('T')
}

pub(super) fn await_state(host: &Host, pid: u32, stopped: bool) {
    wait::until(&format!("stopped of process {pid} to be {stopped}"), PATIENCE, || {
        Ok((is_stopped(host, pid) == stopped).then_some(()))
    })
    .unwrap();
}

fn is_there(host: &Host, pid: u32) -> bool {
    host.check(Command::new("test").args(["-e", &format!("/proc/{pid}/exe")])).is_ok()
}

/// What no inventory knows is kept from running on, whoever runs it, and nothing else is touched.
#[test]
fn a_vm_that_no_inventory_knows_is_suspended_or_ended() {
    let host = host();
    let renamed = copy_of(QEMU, &host, "nginx");
    let holder = copy_of(artefacts::holder().unwrap(), &host, "sshd");
    host.check(Command::new("chmod").arg("755").arg(host.directory())).unwrap();
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let user = [BARE, &["-netdev", "user,id=n"]].concat();
    let run = || {
        let by_root = start(&host, &words(&[], Path::new(QEMU), &user));
        let by_nobody = start(&host, &words(&nobody, &renamed, &user));
        [by_root, by_nobody]
    };
    let more = curbing("suspend", "guard = false");
    let mut daemon = daemon(&host, Settings { mode: "enforce", more, ..Settings::default() });
    let others = [
        start(&host, &words(&[], &holder, &["nothing"])),
        start(&host, &words(&[], &holder, &["tap", "tap-x"])),
    ];
    let vms = run();
    vms.iter().for_each(|vm| await_state(&host, vm.pid(), true));
    for vm in &vms {
        let told = wait::until("the finding to say so", PATIENCE, || {
            let said = evidence(&finding(&daemon, vm.pid()), "kept from running on");
            Ok((said == "it is suspended").then_some(said))
        });
        told.unwrap();
        let shown = daemon.show(&["process", "show", &vm.pid().to_string()]).unwrap();
        assert!(shown.contains("it is suspended"), "{shown}");
    }
    // Whoever runs it lets it go on, and it does not for long.
    host.check(Command::new("kill").args(["-CONT", &vms[1].pid().to_string()])).unwrap();
    await_state(&host, vms[1].pid(), true);
    assert!(others.iter().all(|other| !is_stopped(&host, other.pid())));
    let audit = daemon.ask(&["audit", "list", "--kind", "pause"]).unwrap().json.to_string();
    assert!(audit.contains("\"suspended\"") && audit.contains("/nginx"), "{audit}");

    // It stays so without the daemon; in observe mode it goes on.
    daemon.kill().unwrap();
    assert!(vms.iter().all(|vm| is_stopped(&host, vm.pid())));
    daemon.run().unwrap();
    let said = |vm: &Program| evidence(&finding(&daemon, vm.pid()), "kept from running on");
    wait::until("both to be known as suspended", PATIENCE, || {
        Ok(vms.iter().all(|vm| said(vm) == "it is suspended").then_some(()))
    })
    .unwrap();
    assert_eq!(daemon.ask(&["observe", "--reason", "a test"]).unwrap().code, 0);
    vms.iter().for_each(|vm| await_state(&host, vm.pid(), false));
    drop(vms);

    daemon.kill().unwrap();
    let text = daemon.configuration().unwrap();
    daemon.write_configuration(&text.replace("\"suspend\"", "\"stop\"")).unwrap();
    daemon.run().unwrap();
    let vms = run();
    vms.iter().for_each(|vm| drop(finding(&daemon, vm.pid())));
    assert!(vms.iter().all(|vm| is_there(&host, vm.pid())), "frames and VMs are only observed");
    assert_eq!(daemon.ask(&["enforce", "--reason", "a test"]).unwrap().code, 0);
    wait::until("both to be ended", PATIENCE, || {
        Ok(vms.iter().all(|vm| !is_there(&host, vm.pid())).then_some(()))
    })
    .unwrap();
    assert!(others.iter().all(|other| is_there(&host, other.pid())));
}

/// No more of them than may be without a person.
#[test]
fn the_guard_counts_what_no_inventory_knows() {
    let host = host();
    let more = curbing("suspend", "max_vms = 1\nmax_percent = 100");
    let daemon = daemon(&host, Settings { mode: "enforce", more, ..Settings::default() });
    let vms = [0, 1].map(|_| start(&host, &words(&[], Path::new(QEMU), BARE)));
    let blast = daemon.await_finding("blast-radius", "process", PATIENCE).unwrap();
    let (stopped, running): (Vec<_>, Vec<_>) = wait::until("one to be suspended", PATIENCE, || {
        let parts: (Vec<_>, Vec<_>) = vms.iter().partition(|vm| is_stopped(&host, vm.pid()));
        Ok((parts.0.len() == 1).then_some(parts))
    })
    .unwrap();
    let held = format!("process-{}", running[0].pid());
    assert!(blast.to_string().contains("which no inventory knows"), "{blast}");
    let list = daemon.ask(&["mitigation", "list"]).unwrap().json;
    assert_eq!(list["held"][0]["vm"]["name"], held.as_str(), "{list}");
    assert_eq!(list["taken"][0]["name"], format!("process-{}", stopped[0].pid()), "{list}");
    let approve = ["mitigation", "approve", &held, "--reason", "a test"];
    assert_eq!(daemon.ask(&approve).unwrap().code, 0);
    await_state(&host, running[0].pid(), true);
}

/// Who lets it go on time and again has it run all the same: that is told, and it is not called suspended.
#[test]
fn one_that_is_let_go_on_time_and_again_is_told() {
    let host = host();
    let more = curbing("suspend", "guard = false");
    let daemon = daemon(&host, Settings { mode: "enforce", more, ..Settings::default() });
    let vm = start(&host, &words(&[], Path::new(QEMU), BARE));
    await_state(&host, vm.pid(), true);
    let pid = vm.pid().to_string();
    let script = format!("while kill -CONT {pid}; do sleep 0.01; done");
    let helper = start(&host, &["sh", "-c", &script].map(str::to_owned));
    let told = daemon.await_finding("pause-failed", &pid, PATIENCE).unwrap();
    assert_eq!(told["severity"], "high", "{told}");
    assert!(evidence(&told, "why").contains("lets it go on"), "{told}");
    wait::until("the process not to be called suspended", PATIENCE, || {
        let shown = daemon.show(&["process", "show", &pid])?;
        let said = evidence(&finding(&daemon, vm.pid()), "kept from running on");
        let runs = !shown.contains("it is suspended") && said.starts_with("no: somebody lets it");
        Ok(runs.then_some(()))
    })
    .unwrap();
    let audit = daemon.ask(&["audit", "list", "--kind", "pause"]).unwrap().json.to_string();
    assert!(audit.contains("\"failed\"") && audit.contains("lets it go on"), "{audit}");
    // It is stopped each second all the same.
    drop(helper);
    await_state(&host, vm.pid(), true);
}
