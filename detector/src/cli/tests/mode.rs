use clap::Parser;

use super::*;
use crate::{
    api::view::{ModeDetail, Preview, PreviewPort, PreviewVm, TermView},
    cli::{self, Command},
};

pub(super) fn detail() -> ModeDetail {
    ModeDetail {
        mode: ModeView::Observe,
        standing: "confirmed".into(),
        until: None,
        then: None,
        since: at(-300),
        uid: 0,
        cause: "configured".into(),
        reason: String::new(),
        maintenance: None,
    }
}

#[test]
fn modes() {
    let cases = [
        (
            "provisional",
            ModeDetail {
                mode: ModeView::Enforce,
                standing: "provisional".into(),
                until: Some(at(45)),
                then: Some(ModeView::Observe),
                cause: "operator".into(),
                reason: HOSTILE.into(),
                ..detail()
            },
            "\
Mode         enforce, provisionally until 2027-01-15T08:00:45Z (in 45 s), unless confirmed: then observe
Since        2027-01-15T07:55:00Z (5 min ago), by uid 0
Reason       web\\u{1b}[2J\\u{202e}1\\n
",
        ),
        (
            "maintenance",
            ModeDetail {
                mode: ModeView::Enforce,
                cause: "lapsed".into(),
                maintenance: Some(TermView {
                    until: at(7200),
                    since: at(-60),
                    uid: 1000,
                    reason: HOSTILE.into(),
                }),
                ..detail()
            },
            "\
Mode         enforce
Since        2027-01-15T07:55:00Z (5 min ago), when the time that uid 0 had set was over
Maintenance  until 2027-01-15T10:00:00Z (in 2 h), by uid 1000: web\\u{1b}[2J\\u{202e}1\\n
",
        ),
    ];
    for (name, detail, table) in cases {
        check(name, table, |output| {
            if output.is_json() { output.json(&detail) } else { cli::mode::print(output, &detail) }
        });
    }
}

#[test]
fn previews() {
    let claim = SightingView { count: 1, ..a_port().sightings.remove(0) };
    let port = PreviewPort {
        name: "vnet0".into(),
        ifindex: 12,
        instance: 3,
        role: "guest".into(),
        status: PortState::Granted,
        vm: Some(VmRef { uuid: uuid(), name: HOSTILE.into() }),
        mute: false,
        why: None,
        from: [("mac-not-granted".to_owned(), 7)].into(),
        to: [].into(),
        claims: vec![claim],
        unlisted: 6,
    };
    let mut preview = Preview {
        mode: ModeView::Observe,
        vms: vec![PreviewVm {
            vm: VmRef { uuid: uuid(), name: HOSTILE.into() },
            status: "denied".into(),
            effect: "is quarantined".into(),
            why: vec![format!("no-web: {HOSTILE}")],
        }],
        ports: vec![port],
    };
    let mut text = Vec::new();
    cli::mode::preview::print(&mut Output::to(&mut text, Format::Table, at(0)), &preview).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
    for line in [
        "Enforcing would cut off these VMs",
        "vnet0 (granted, VM web\\u{1b}[2J\\u{202e}1\\n): some frames",
        "  from it, refused so far: 7 mac-not-granted",
        "1 time\n",
        "  ! and 6 more frames by claims that are not listed",
        "\nThis is not all of it",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    (preview.vms, preview.ports) = (vec![], vec![]);
    let table = "Enforcing would cut nothing that has been seen so far.\n";
    check("nothing", table, |output| cli::mode::preview::print(output, &preview));
}

#[test]
fn what_is_typed() {
    let cases = [
        ("enforce", Ok("Enforce")),
        ("enforce --confirm-within 60s", Ok("Enforce")),
        ("enforce --dry-run", Ok("Enforce")),
        ("enforce confirm", Ok("Enforce")),
        ("enforce rollback", Ok("Enforce")),
        ("enforce --confirm-within 0s", Err("at least one")),
        ("enforce --confirm-within 500ms", Err("whole seconds")),
        ("enforce --confirm-within soon", Err("60s")),
        ("enforce --confirm-within 60s --dry-run", Err("cannot be used with")),
        ("enforce --confirm-within 60s confirm", Err("cannot be used with")),
        ("observe", Ok("Observe")),
        ("break-glass --for 30m", Err("--reason")),
        ("break-glass --reason x", Err("--for")),
        ("break-glass --for 30m --reason x", Ok("BreakGlass")),
        ("maintenance", Err("--for")),
        ("maintenance --for 1h", Err("--reason")),
        ("maintenance --end", Ok("Maintenance")),
        ("maintenance --end --for 1h --reason x", Err("cannot be used with")),
        ("maintenance --for 1h --reason x", Ok("Maintenance")),
    ];
    for (words, expect) in cases {
        let typed = std::iter::once("detector").chain(words.split(' '));
        let parsed = cli::Cli::try_parse_from(typed).map(|cli| cli.command);
        let parsed = parsed.map(|command: Command| format!("{command:?}"));
        match (parsed.map_err(|error| error.to_string()), expect) {
            (Ok(command), Ok(name)) => assert!(command.starts_with(name), "{words}: {command}"),
            (Err(error), Err(word)) => assert!(error.contains(word), "{words}: {error}"),
            (parsed, _) => panic!("{words}: {parsed:?}"),
        }
    }
}
