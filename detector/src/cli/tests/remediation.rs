//! How far remediations are.

use serde_json::json;

use super::{records::view, *};
use crate::{
    api::view::{PlanView, RemediationView},
    cli::remediate::text,
};

fn steps() -> serde_json::Value {
    json!([
        { "step": "quarantine", "state": "done", "since": at(-90), "effect": "it is cut off" },
        { "step": "provision", "state": "begun", "since": at(-60), "effect": "it is changed",
          "note": format!("copies {HOSTILE}"), "percent": 40 },
        { "step": "approve", "state": "waiting", "effect": "people approve" },
    ])
}

fn media() -> serde_json::Value {
    json!([
        { "role": "disk", "path": HOSTILE, "sha256": "09".repeat(32), "known": false },
        { "role": "kernel", "path": "/boot/k", "sha256": "01".repeat(32), "known": true },
        { "role": "initrd", "path": "/boot/i", "sha256": null, "known": false,
          "unreadable": format!("{HOSTILE}: no such file") },
    ])
}

fn a_remediation() -> RemediationView {
    view(json!({
        "vm": { "uuid": uuid(), "name": HOSTILE },
        "outcome": { "patched": { "provisioner": "offline" } },
        "stage": "provisioning",
        "started": { "uid": 1000, "at": at(-90), "reason": HOSTILE },
        "waits": format!("2 people have to approve\n{HOSTILE}"),
        "steps": steps(),
        "needed": 2,
        "counted": [1001],
        "approvals": [{ "uid": 1001, "at": at(-5), "reason": HOSTILE, "sha256": ["09".repeat(32)] }],
        "media": media(),
        "history": [
            { "at": at(-90), "uid": 1000, "what": format!("started (patched): {HOSTILE}") },
            { "at": at(-60), "uid": null, "what": "provision begins" },
        ],
    }))
}

#[test]
fn remediations() {
    let table = "\
VM                       OUTCOME  STAGE         STEP       STARTED    WAITS FOR
web\\u{1b}[2J\\u{202e}1\\n  patched  provisioning  provision  1 min ago  2 people have to approve
";
    check("remediate status", table, |output| {
        text::list(output, std::slice::from_ref(&a_remediation()))
    });
    let digest = "09".repeat(32);
    let kernel = "01".repeat(32);
    let table = format!(
        "\
VM           web\\u{{1b}}[2J\\u{{202e}}1\\n (00000000-0000-0000-0000-000000000007)
Outcome      patched by offline
Stage        provisioning
Started      1 min ago by uid 1000: web\\u{{1b}}[2J\\u{{202e}}1\\n
Waits for    2 people have to approve
Waits for    web\\u{{1b}}[2J\\u{{202e}}1
Boots from   disk web\\u{{1b}}[2J\\u{{202e}}1\\n: sha256 {digest}, which no template in force has
Boots from   kernel /boot/k: sha256 {kernel}, an image of a template
Boots from   initrd /boot/i: cannot be read: web\\u{{1b}}[2J\\u{{202e}}1\\n: no such file
Approvals    1 of 2, none by who has started it
Approved     5 s ago by uid 1001: web\\u{{1b}}[2J\\u{{202e}}1\\n
             sha256 {digest}

Steps
quarantine  done     it is cut off
provision   begun    40 % copies web\\u{{1b}}[2J\\u{{202e}}1\\n
approve     waiting  people approve

History
2027-01-15 07:58:30 UTC  uid 1000  started (patched): web\\u{{1b}}[2J\\u{{202e}}1\\n
2027-01-15 07:59:00 UTC  daemon    provision begins
"
    );
    check("remediate status VM", &table, |output| text::show(output, &a_remediation()));
}

#[test]
fn a_plan_shows_each_step_before_anything_is_done() {
    let plan: PlanView = view(json!({
        "vm": { "uuid": uuid(), "name": HOSTILE },
        "outcome": { "template": { "template": "web" } },
        "steps": steps(),
        "left_out": [format!("{HOSTILE} is not there")],
        "needed": 1,
        "media": [],
        "alike": [{ "uuid": uuid(), "name": HOSTILE }],
    }));
    let table = "\
VM           web\\u{1b}[2J\\u{202e}1\\n (00000000-0000-0000-0000-000000000007)
Outcome      template web
Approvals    1
Alike        web\\u{1b}[2J\\u{202e}1\\n

Steps
 1  quarantine  it is cut off
 2  provision   it is changed
 3  approve     people approve

Left out
web\\u{1b}[2J\\u{202e}1\\n is not there
";
    check("remediate plan", table, |output| text::plan(output, &plan));
}
