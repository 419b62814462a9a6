//! What the monitor of a fleet makes of a move.

use std::time::Instant;

use detector_tests::monitor::{Monitor, Visitor};
use detector_tests::nats::Nats;
use serde_json::Value;

use super::*;

const PORT: u16 = 8470;
/// For longer than hosts have to say the same before it counts, which is two seconds.
const LONGER: Duration = Duration::from_secs(6);

/// Where the guest is by what the monitor shows, and whether it runs there.
fn seen(visitor: &mut Visitor<'_>) -> Vec<(String, String)> {
    let page = visitor.json("/api/v1/vms").unwrap();
    let text = |vm: &Value, key: &str| vm[key].as_str().unwrap().to_owned();
    page["vms"].as_array().unwrap().iter().map(|vm| (text(vm, "host"), text(vm, "power"))).collect()
}

/// Looks as often as it can whether the monitor takes the guest for two, until it is as it should be for so long.
fn watch(visitor: &mut Visitor<'_>, long: Duration, is: impl Fn(&[(String, String)]) -> bool) {
    let mut since = None;
    wait::until("the monitor to see it", PATIENCE, || {
        let overview = visitor.json("/api/v1/overview")?;
        let found = overview["correlations"].as_array().context("no correlations")?;
        assert!(found.is_empty(), "{found:?}");
        if !is(&seen(visitor)) {
            since = None;
            return Ok(None);
        }
        let since = *since.get_or_insert_with(Instant::now);
        Ok((since.elapsed() >= long).then_some(()))
    })
    .unwrap();
}

fn runs_on(vms: &[(String, String)]) -> Vec<&str> {
    vms.iter().filter(|(_, power)| power == "running").map(|(host, _)| host.as_str()).collect()
}

/// libvirt says to both hosts that it moves, and so no monitor takes it for two, however long that takes; one that is
/// twice all the same is told of.
#[test]
fn a_move_is_no_twin_to_the_fleet() {
    let street = Street::new();
    let [one, two] = &street.hosts;
    let nats = Nats::found(one).unwrap();
    nats.reach_from(two).unwrap();
    let sections = ["h1", "h2"].map(|host| nats.section(host, "").unwrap());
    let monitor = Monitor::of_fleet(one, &nats, "desk", PORT).unwrap();
    let homes =
        street.homes_with(|daemon, _| daemon.hook(), sections.each_ref().map(String::as_str));
    let [from, to] = &homes;
    let mut visitor = monitor.log_in("vera").unwrap();
    watch(&mut visitor, Duration::ZERO, |vms| runs_on(vms) == ["h1"]);

    let migration = street.set_out(&homes, &["--live"]);
    watch(&mut visitor, LONGER, |vms| vms.len() == 2 && runs_on(vms) == ["h1"]);
    street.hurry(from);
    let (done, said) = end(migration);
    assert!(done, "{said}");
    to.await_defence(true, &street);
    watch(&mut visitor, LONGER, |vms| runs_on(vms) == ["h2"]);

    // Somebody makes it again where it has been.
    from.libvirt.virsh(&["undefine", &street.guest.name]).unwrap();
    let twin = Guest::new("twin", 11);
    from.libvirt.define(&twin, &street.image, "br0").unwrap();
    from.libvirt.start_domain(&twin).unwrap();
    wait::until("the twin to be told of", PATIENCE, || {
        let found = visitor.json("/api/v1/overview")?["correlations"].to_string();
        Ok((found.contains("uuid-twice") && found.contains("mac-twice")).then_some(()))
    })
    .unwrap();
}
