//! A cluster of servers that loses one after the other while a host speaks.

use std::collections::BTreeSet;

use detector_core::fleet::subject;
use detector_tests::nats::{Member, Nats};
use detector_tests::scene::Scene;
use serde_json::Value;

use super::{await_that, daemon};

/// Findings before, while and after each server is gone.
const STRAYS: usize = 4;

/// What a stream keeps; nothing while none of the servers can be asked.
fn bodies(monitor: &Member, stream: &str) -> Vec<Value> {
    monitor.bodies(stream).unwrap_or_default()
}

fn tells(monitor: &Member, ports: std::ops::Range<usize>) -> bool {
    let findings = bodies(monitor, subject::FINDINGS);
    let opened = findings.iter().filter(|body| body["event"] == "opened").map(Value::to_string);
    let opened: Vec<_> = opened.collect();
    ports
        .into_iter()
        .all(|number| opened.iter().any(|text| text.contains(&format!("\"stray{number}\""))))
}

#[test]
fn nothing_is_lost_when_servers_of_a_cluster_are_killed_under_load() {
    let scene = Scene::new().unwrap();
    let mut nats = Nats::found_cluster(scene.host()).unwrap();
    let daemon = daemon(&scene, &nats, "");
    let monitor = nats.monitor().unwrap();
    await_that(&daemon, "the state of the host", || monitor.value(subject::HOSTS, "h1"));

    let mut taps = Vec::new();
    let mut go_on = || {
        let from = taps.len();
        taps.extend((from..from + STRAYS).map(|n| scene.plug(&format!("stray{n}")).unwrap()));
        taps.len()
    };
    // Whichever leads, and whichever the host and the monitor are connected to: each is gone once.
    for server in 0..3 {
        go_on();
        nats.kill_one(server).unwrap();
        let so_far = go_on();
        await_that(&daemon, "what was found without the server", || {
            tells(&monitor, 0..so_far).then_some(())
        });
        nats.start_one(server).unwrap();
        await_that(&daemon, "all three to agree", || {
            nats.office(&["prepare", "--replicas", "3"]).ok()
        });
    }
    let all = go_on();
    await_that(&daemon, "every finding", || tells(&monitor, 0..all).then_some(()));

    let findings = bodies(&monitor, subject::FINDINGS);
    let ids: BTreeSet<_> = findings.iter().map(|body| body["id"].to_string()).collect();
    assert_eq!(ids.len(), findings.len(), "each once");
    let list = daemon.ask(&["audit", "list", "--limit", "1"]).unwrap().json;
    let wanted = list["records"][0]["seq"].as_u64().unwrap();
    await_that(&daemon, "the audit", || {
        let batches = bodies(&monitor, subject::AUDIT);
        let records = batches.iter().filter_map(|batch| batch["records"].as_array()).flatten();
        let seqs: Vec<_> = records.filter_map(|record| record["seq"].as_u64()).collect();
        let last = *seqs.last()?;
        (last >= wanted).then(|| assert!(seqs.iter().copied().eq(1..=last), "{seqs:?}"))
    });
}
