//! Provisioners that do what they should, and such that hang, lie, flood, and leave others behind.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use detector::remediate::provision::{Disk, Ended, Outcome, Provisioner, Request, Subject};
use detector_tests::hands::{Answer, Deed, Order, Then};
use detector_tests::host::Host;
use detector_tests::wait;

use super::HANDS;

fn order(host: &Host, script: &str, seconds: u64) -> Order {
    let vm = Subject { uuid: uuid::Uuid::from_u128(7), name: "web\u{1b}[31m".to_owned() };
    let disk = Disk {
        target: "vda".to_owned(),
        path: "/pool/vda".into(),
        format: "qcow2".to_owned(),
        sha256: None,
    };
    let provisioner = Provisioner {
        name: "test".to_owned(),
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        timeout: Duration::from_secs(seconds),
        keep: 4096,
        settings: BTreeMap::from([("mirror".to_owned(), "http://192.0.2.9/".to_owned())]),
    };
    let request = Box::new(Request::new("7-1", vm, vec![disk]));
    Order::Provision { provisioner, request, state: host.directory().to_owned() }
}

fn provision(host: &Host, script: &str, seconds: u64) -> (Ended, Vec<String>) {
    let order = order(host, script, seconds);
    match Deed::begin(host, HANDS, &order, &Then::GoOn).unwrap().outcome().unwrap() {
        (Some(Answer::Provisioned(ended)), said) => (*ended, said),
        (other, said) => panic!("{script}: {other:?}, {said:?}"),
    }
}

/// Processes of the host by a word in their arguments.
fn running(host: &Host, word: &str) -> bool {
    let mut pgrep = std::process::Command::new("pgrep");
    host.output(pgrep.args(["--full", word])).unwrap().status.success()
}

#[test]
fn it_is_handed_what_it_needs_and_heard() {
    let host = Host::new().unwrap();
    let script = r#"
        read -r request
        echo "$request"
        echo "HOME=$HOME PWD=$PWD"
        env | grep -c .
        grep -E 'CapEff|NoNewPrivs' /proc/self/status
        touch left-behind
        echo '{"event":"progress","percent":50,"message":"half of it"}'
        sleep 0.5
        echo '{"event":"result","ok":true,"changed":true,"message":"patched"}'
        echo complaint >&2
    "#;
    let (ended, said) = provision(&host, script, 30);
    let done = Outcome::Done { changed: Some(true), message: "patched".to_owned() };
    assert_eq!(ended.outcome, done, "{}", ended.output);
    assert_eq!(ended.strays, 0);
    let request = ended.output.lines().next().unwrap().replace("\\\\", "\\");
    for part in [
        r#""version":1,"workflow":"7-1","vm":{"uuid":"00000000-0000-0000-0000-000000000007""#,
        r#""disks":[{"target":"vda","path":"/pool/vda","format":"qcow2"}]"#,
        r#""settings":{"mirror":"http://192.0.2.9/"},"seconds":30"#,
    ] {
        assert!(request.contains(part), "{part}: {request}");
    }
    assert!(ended.output.contains("CapEff:\\t0000000000000000"), "{}", ended.output);
    assert!(ended.output.contains("NoNewPrivs:\\t1"), "{}", ended.output);
    assert!(ended.output.contains("complaint"), "{}", ended.output);
    assert!(said.iter().any(|line| line.contains("half of it")), "{said:?}");
    assert_eq!(std::fs::read_dir(host.path("provision")).unwrap().count(), 0);
}

/// (what it does, how long it may, what is said of it, how many it leaves behind at least)
#[test]
fn one_that_hangs_lies_or_floods_costs_its_time_and_no_more() {
    const RESULT: &str = "echo '{\"event\":\"result\",\"ok\":true,\"message\":\"fine\"}'";
    let lies = format!("{RESULT}; exit 3");
    let contradicts = "echo '{\"event\":\"result\",\"ok\":false,\"message\":\"no disk\"}'";
    let leaves =
        "(setsid sleep 8765 & ) ; setsid setsid sh -c 'trap \"\" TERM; sleep 8765' & exit 0";
    let breeds = "f() { ( setsid sh -c 'sleep 8765' & ) ; }; i=0; while [ $i -lt 40 ]; do f; i=$((i+1)); done";
    let cases: &[(&str, u64, &str, u32)] = &[
        ("sleep 8765", 1, "has not ended in 1 s, and was ended", 0),
        ("trap '' TERM INT HUP; while :; do sleep 8765; done", 1, "has not ended in 1 s", 1),
        ("exec >&- 2>&-; sleep 8765", 1, "has not ended in 1 s", 0),
        ("kill -STOP $$", 1, "has not ended in 1 s", 0),
        (&lies, 30, "code 3; it has said that it was done (fine)", 0),
        (contradicts, 30, "it says that it has failed: no disk", 0),
        ("exit 75", 30, "it cannot do it now", 0),
        ("kill -SEGV $$", 30, "it was ended by SIGSEGV", 0),
        (leaves, 30, "Done", 2),
        (breeds, 60, "Done", 40),
        ("kill -KILL $PPID; sleep 8765", 30, "not known: its supervisor has ended", 0),
    ];
    let host = Host::new().unwrap();
    for (script, seconds, expect, strays) in cases {
        let since = Instant::now();
        let (ended, _) = provision(&host, script, *seconds);
        let outcome = format!("{:?}", ended.outcome);
        assert!(outcome.contains(expect), "{script}: {outcome}");
        assert!(ended.strays >= *strays, "{script}: {}", ended.strays);
        assert!(since.elapsed() < wait::scaled(Duration::from_secs(12)), "{script}");
        assert!(!running(&host, "8765"), "{script}: something is left");
    }
    let (ended, said) =
        provision(&host, "while :; do echo '{\"event\":\"message\",\"message\":\"x\"}'; done", 2);
    assert!(matches!(ended.outcome, Outcome::Late { .. }), "{ended:?}");
    assert!(
        ended.output.len() <= 3 * 4096 && said.len() <= 15,
        "{} {}",
        ended.output.len(),
        said.len()
    );
    let (ended, _) =
        provision(&host, "head -c 20000000 /dev/urandom; echo; printf '\\377\\033[31m'", 30);
    assert!(matches!(ended.outcome, Outcome::Done { .. }), "{:?}", ended.outcome);
    assert!(ended.printed > 20_000_000 && !ended.output.contains('\u{1b}'), "{}", ended.printed);
    let (ended, _) = provision(&host, "tr '\\0' x < /dev/zero | head -c 9000000; exit 4", 30);
    assert!(format!("{:?}", ended.outcome).contains("code 4"), "{:?}", ended.outcome);
}

/// Whoever runs the daemon is killed: nothing that it has started outlives it.
#[test]
fn it_ends_with_the_daemon() {
    let host = Host::new().unwrap();
    let script =
        "echo '{\"event\":\"message\",\"message\":\"up\"}'; (setsid sleep 8765 &); sleep 8765";
    let order = order(&host, script, 600);
    let mut deed =
        Deed::begin(&host, HANDS, &order, &Then::WaitsFor("Message".to_owned())).unwrap();
    deed.await_pause().unwrap();
    assert!(running(&host, "8765"));
    drop(deed);
    wait::until("all of it to end", Duration::from_secs(20), || {
        Ok((!running(&host, "8765")).then_some(()))
    })
    .unwrap();
}
