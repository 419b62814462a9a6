//! What a port has before it learns: from lease files, and from before a restart of the host.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use super::*;

#[test]
fn a_lease_file_is_believed_while_its_leases_live() {
    let scene = Scene::new().unwrap();
    let file = scene.host().path("dnsmasq.leases");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (over, other) = (Ipv4Addr::new(192, 0, 2, 97), Ipv4Addr::new(192, 0, 2, 96));
    let (a, b) = (hex(A.mac), hex(B.mac));
    let text =
        format!("{} {a} {LEASED} a *\n{} {a} {over} a *\n0 {b} {other} b *\n", now + 600, now - 1);
    std::fs::write(&file, text).unwrap();
    let more = format!("[learning]\nleases = [{:?}]\n", file.with_file_name("*.leases"));
    let inventory = learner("a", "tap-a", A, "dhcp", "") + &vm("b", "tap-b", B);
    let settings = Settings { inventory, more, ..Settings::default() };
    let daemon = Daemon::start(scene.host(), &settings).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    assert!(passes(&scene, &a, at(A, LEASED), (&b, B), 1), "at once");
    assert!(!passes(&scene, &a, at(A, over), (&b, B), 2), "whose time is over");
    assert!(!passes(&scene, &a, at(A, other), (&b, B), 3), "another's");
    let told = learned(&daemon, "tap-a");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["origin"], "lease-file");
}

#[test]
fn a_lease_outlives_a_restart_of_the_host() {
    let scene = Scene::new().unwrap();
    let vms = [learner("a", "tap-a", A, "dhcp", ""), vm("b", "tap-b", B)];
    let mut daemon = scene.daemon("enforce", &vms).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    a.send(&Message::new(DISCOVER, ID, A.mac).from_client()).unwrap();
    serve(&scene, &a, &Message::ack(ID, A.mac, LEASED, 600).from_server(SERVER));
    let kept = scene.host().path("state/leases.json");
    wait::until("the lease to be kept", PATIENCE * 2, || {
        let text = std::fs::read_to_string(&kept).unwrap_or_default();
        Ok(text.contains(&LEASED.to_string()).then_some(()))
    })
    .unwrap();
    daemon.kill().unwrap();
    drop(a);
    // Of what is pinned nothing outlives a restart.
    scene.host().check(Command::new("rm").args(["-r", "/sys/fs/bpf/detector"])).unwrap();
    daemon.run().unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    assert!(passes(&scene, &a, at(A, LEASED), (&b, B), 1), "before it has asked again");
    assert_eq!(learned(&daemon, "tap-a")[0]["origin"], "restored");
    assert!(!passes(&scene, &a, A, (&b, B), 2), "what was never leased");
}
