//! What was found, who was told of it, and what was done.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::cli::{alert, audit, clock, finding, process};

pub(super) fn view<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn mark(until: Option<i64>) -> Value {
    json!({
        "uid": 1000, "user": "ann", "why": HOSTILE, "at": at(-90), "until": until.map(at),
    })
}

#[test]
fn findings() {
    let mut found = a_finding();
    found.evidence = vec![("command".into(), HOSTILE.into()), ("port".into(), "vnet0".into())];
    found.acknowledged = Some(view(mark(None)));
    found.suppressed = Some(view(mark(Some(3600))));
    let table = "\
SEVERITY  ID          KIND      SINCE    FINDING
high      3f9a01c2d4  rogue-vm  5 s ago  VM web\\u{1b}[2J\\u{202e}1\\n is nobody's.
                                         Acknowledged by ann, 1 min ago: web\\u{1b}[2J\\u{202e}1\\n
                                         Suppressed by ann, 1 min ago, ends in 60 min: web\\u{1b}[2J\\u{202e}1\\n
                                         port: vnet0
                                         > detector explain 00000007
";
    check("finding list", table, |output| {
        finding::list(output, std::slice::from_ref(&found)).map(drop)
    });
    check("no findings", "none\n", |output| finding::list(output, &[]).map(drop));
    let table = "\
ID           3f9a01c2d4
Finding      VM web\\u{1b}[2J\\u{202e}1\\n is nobody's.
Severity     high
Kind         rogue-vm (rogue)
Technique    T1564.006 Run Virtual Instance (Defense Evasion)
Since        2027-01-15 07:59:55 UTC (5 s ago)
Acknowledged by ann, 1 min ago: web\\u{1b}[2J\\u{202e}1\\n
Suppressed   by ann, 1 min ago, ends in 60 min: web\\u{1b}[2J\\u{202e}1\\n
Means        A VM that does not meet the policy: it descends from no approved template, or a rule forbids it.
Advice       `detector explain VM` names the rule and what would let it in; otherwise remove the VM.

Evidence
command: web\\u{1b}[2J\\u{202e}1\\n
port: vnet0

Next
detector explain 00000007
";
    check("finding show", table, |output| finding::show(output, &found).map(drop));
}

#[test]
fn alerts() {
    let sink = |name: &str, more: Value| {
        let mut sink = json!({
            "name": name, "kind": "syslog", "target": "log.example:6514", "min_severity": "low",
            "waiting": 0, "waits_since": null, "delivered": 12, "refused": 0, "dropped": 0,
            "last_delivery": at(-30), "failing_since": null, "error": null, "next_try": null,
        });
        sink.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        sink
    };
    let failing = json!({
        "waiting": 3, "refused": 1, "last_delivery": null, "failing_since": at(-600),
        "error": "answered 500: \u{1b}[2J",
    });
    let mut suppressed = mark(Some(3600));
    suppressed["what"] = "rogue-vm".into();
    let status = view(json!({
        "sinks": [sink("siem", json!({})), sink("pager", failing)], "open": 2,
        "not_kept": "the disk is full", "size": 3 << 19, "most": 64 << 20,
        "suppressions": [suppressed],
    }));
    let table = "\
Open         2
Kept         no: the disk is full
Outbox       1.5 MiB of 64.0 MiB

Receivers
NAME   KIND    WAITING  DELIVERED  LOST  LAST      STATE                   TARGET
siem   syslog  0        12         0     30 s ago  fine                    log.example:6514
pager  syslog  3        12         1     never     fails since 10 min ago  log.example:6514
pager        answered 500: \\u{1b}[2J

Suppressed
WHAT      ENDS       BY   WHY
rogue-vm  in 60 min  ann  web\\u{1b}[2J\\u{202e}1\\n
";
    check("alert status", table, |output| alert::status(output, &status).map(drop));
    let entry = view(json!({
        "id": uuid(), "sink": "pager", "event": "opened", "at": at(-600), "kind": "rogue-vm",
        "severity": "high", "finding": "3f9a01c2d4", "title": HOSTILE, "tries": 4,
    }));
    let table = "\
SINK   SINCE       EVENT   SEVERITY  TRIES  ID          FINDING
pager  10 min ago  opened  high      4      3f9a01c2d4  web\\u{1b}[2J\\u{202e}1\\n
";
    check("alert list", table, |output| {
        alert::list(output, std::slice::from_ref(&entry)).map(drop)
    });
    check("no alerts", "nothing waits\n", |output| alert::list(output, &[]).map(drop));
    let tried = ["answers", "does not"].map(|sink| {
        view(json!({
            "sink": sink, "target": "https://alerts.example", "milliseconds": 40,
            "error": (sink != "answers").then_some("no route\u{7}"),
        }))
    });
    let table = "\
answers      taken by https://alerts.example in 40 ms
does not     not taken by https://alerts.example: no route\\u{7}
";
    check("alert test", table, |output| {
        let failed = alert::test(output, &tried);
        assert!(failed.is_err_and(|why| why.to_string().contains("1 of 2")));
        Ok(())
    });
}

#[test]
fn processes() {
    let process = view(json!({
        "pid": 4711, "vm": null, "status": "unknown", "runs_vm": true, "uid": 1000, "user": "ann",
        "started": at(-90), "exe": "/tmp/\u{1b}nginx", "command": HOSTILE,
        "program": {"name": "qemu", "by": "content"}, "obscure": "its file is deleted",
        "holds": {"vms": 1, "vcpus": 2, "devices": ["/dev/kvm"], "taps": [{"name": "tap9", "namespace": null}]},
        "attachments": [{"kind": "user-mode", "what": "user,id=\u{7}net0"}],
        "says": {"uuid": uuid(), "name": HOSTILE},
        "network": 4_026_531_840_u64, "network_is_hosts": false, "cgroup": "/user.slice",
    }));
    let table = "\
PID   VM       USER  PROGRAM         HOLDS                                       STARTED    FILE
4711  unknown  ann   qemu (renamed)  1 KVM VM, 2 processors, tap tap9, /dev/kvm  1 min ago  /tmp/\\u{1b}nginx
";
    check("process list", table, |output| process::list(output, std::slice::from_ref(&process)));
    let table = "\
Process      4711
VM           unknown
User         ann
Started      2027-01-15T07:58:30Z (1 min ago)
File         /tmp/\\u{1b}nginx
Command      web\\u{1b}[2J\\u{202e}1\\n
Program      qemu (renamed)
Obscure      its file is deleted
Holds        1 KVM VM
Holds        2 processors
Holds        tap tap9
Holds        /dev/kvm
Network      user-mode: user,id=\\u{7}net0
Says it is   web\\u{1b}[2J\\u{202e}1\\n
Says it is   00000000-0000-0000-0000-000000000007
Namespace    network 4026531840 (not the host's)
Cgroup       /user.slice
";
    check("process show", table, |output| process::show(output, &process));
}

#[test]
fn the_clock() {
    let mut shown = json!({
        "says": at(0), "doubted": null, "earliest": at(0), "latest": at(0), "confirmed": null,
    });
    let print = |shown: &Value| {
        let view = view(shown.clone());
        move |output: &mut Output<&mut Vec<u8>>| clock::print(output, &view)
    };
    let table = "\
Clock        2027-01-15T08:00:00Z
Believed     yes
";
    check("believed", table, print(&shown));
    shown["doubted"] = json!(at(-60));
    shown["latest"] = json!(at(900));
    let table = "\
Clock        2027-01-15T08:00:00Z
Believed     no: it was set 1 min ago, so that it is 2027-01-15T08:00:00Z at the earliest and 2027-01-15T08:15:00Z at the latest

It is right:     detector clock confirm --reason '…'
It is wrong:     set it right; two minutes later it is believed again
";
    check("doubted", table, print(&shown));
}

#[test]
fn records() {
    let line = json!({
        "v": 1, "seq": 7, "at": at(-60), "prev": "00", "kind": "action-done", "from": "isolated",
        "to": HOSTILE, "subject": {"type": "vm", "id": uuid(), "name": HOSTILE},
        "who": {"type": "person", "via": "api", "uid": 1000, "gid": 1000, "user": "ann", "pid": 4711,
            "command": "detector quarantine release", "login_uid": 1001, "login_user": "bob"},
        "why": HOSTILE, "evidence": {"rule": ["only-approved", HOSTILE]},
    });
    let record: crate::audit::Record = view(line.clone());
    let table = "\
SEQ  WHEN                  KIND         ABOUT                       CHANGE                               WHO        WHY
7    2027-01-15 07:59:00Z  action-done  vm web\\u{1b}[2J\\u{202e}1\\n  isolated -> web\\u{1b}[2J\\u{202e}1\\n  ann (bob)  web\\u{1b}[2J\\u{202e}1\\n
";
    check("audit list", table, |output| audit::text::list(output, std::slice::from_ref(&record)));
    let table = "\
Record       7
Written      2027-01-15T07:59:00Z (1 min ago)
Kind         action-done
About        vm web\\u{1b}[2J\\u{202e}1\\n
Change       isolated -> web\\u{1b}[2J\\u{202e}1\\n
Who          ann (bob)
Process      4711 detector quarantine release
Logged in    uid 1001 bob
Why          web\\u{1b}[2J\\u{202e}1\\n
rule         only-approved
             web\\u{1b}[2J\\u{202e}1\\n
Follows      00
Hash         00ff
";
    check("audit show", table, |output| audit::text::show(output, &line.to_string(), "00ff"));
}
