//! What people and programs see, with names that guests have chosen to do harm.

mod mode;
mod operations;
mod records;
mod remediation;

use detector_core::{
    decide::{Outcome, Requirement, VmStatus},
    model::{
        EvidenceLevel, FindingKind, GuestClaims, ImageFormat, MediumRole, Posture, PowerState,
        QuarantineTarget, SecurityProfile, Severity, Subject, TpmKind,
    },
};
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Done, Format, explain, output::Output, pins::Origin, policy, port, quarantine, status,
    template, vm,
};
use crate::api::view::{
    CountersView, EvidenceView, Explanation, FindingView, FramesView, IdentityView, ImageView,
    LearnedView, MediumView, ModeView, NicView, PolicyChange, PolicyDiffView, PortState, PortView,
    QuarantineView, Remedy, SightingView, SourceView, Status, TemplateView, VmRef, VmView,
};

/// Clears the screen, reorders text, breaks the line.
const HOSTILE: &str = "web\u{1b}[2J\u{202e}1\n";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn check(name: &str, table: &str, print: impl Fn(&mut Output<&mut Vec<u8>>) -> anyhow::Result<()>) {
    let text = |format| {
        let mut text = Vec::new();
        print(&mut Output::to(&mut text, format, at(0))).unwrap();
        String::from_utf8(text).unwrap()
    };
    assert_eq!(text(Format::Table), table, "{name}");
    let json = text(Format::Json);
    let harmless = |c: char| c == '\n' || (c.is_ascii_graphic() || c == ' ');
    assert!(json.chars().all(harmless), "{name}: {json}");
    serde_json::from_str::<serde_json::Value>(&json).unwrap();
}

fn uuid() -> Uuid {
    Uuid::from_u128(7)
}

fn a_port() -> PortView {
    PortView {
        name: "vnet0".into(),
        ifindex: 12,
        instance: 3,
        role: "guest".into(),
        bridge: Some("br0".into()),
        device: None,
        status: PortState::Isolated,
        isolation: None,
        shield: false,
        passage: false,
        services: None,
        why: Some("It is quarantined.".into()),
        since: Some(at(-90)),
        vm: Some(VmRef { uuid: uuid(), name: HOSTILE.into() }),
        identities: vec![IdentityView {
            mac: "52:54:00:00:00:01".into(),
            vlan: 0,
            addresses: vec!["192.0.2.7".into(), "2001:db8::/64".into()],
            dhcp_server: false,
            router: true,
            vrrp: false,
        }],
        counters: Some(CountersView {
            frames: FramesView { from: 75, to: 3 },
            from: [("mac-not-granted".to_owned(), 5), ("port-isolated".to_owned(), 70)].into(),
            to: [].into(),
            events_lost: 0,
            events_held: 4,
        }),
        learned: vec![LearnedView {
            mac: "52:54:00:00:00:01".into(),
            vlan: 0,
            address: "192.0.2.9".into(),
            origin: "dhcp".into(),
            since: Some(at(-60)),
            expires: Some(at(600)),
        }],
        observed: false,
        sightings: vec![SightingView {
            mac: "52:54:00:00:00:02".into(),
            vlan: 0,
            ethertype: "0x0806".into(),
            address: Some("192.0.2.8".into()),
            reason: "arp-sender-address".into(),
            describe: "The ARP sender address is not granted to this port.".into(),
            first: Some(at(-100)),
            last: Some(at(-10)),
            count: 3,
        }],
    }
}

fn a_vm() -> VmView {
    VmView {
        uuid: uuid(),
        name: HOSTILE.into(),
        source: "qemu:///system".into(),
        power: PowerState::Running,
        held: None,
        status: VmStatus::Quarantined,
        since: Some(at(-7300)),
        template: None,
        template_version: None,
        nics: vec![NicView {
            mac: "52:54:00:00:00:01".into(),
            port: Some("vnet0".into()),
            status: Some(PortState::Isolated),
            addresses: vec![],
            learned: vec!["192.0.2.9".into()],
        }],
        requirements: vec![
            Requirement {
                id: "media-listed".into(),
                outcome: Outcome::Met,
                sentence: String::new(),
                finding: "The VM lists its media.".into(),
                remedy: String::new(),
            },
            Requirement {
                id: "template-registered".into(),
                outcome: Outcome::Failed,
                sentence: String::new(),
                finding: format!("{HOSTILE} descends from nothing known."),
                remedy: "Rebuild it.".into(),
            },
        ],
        rules: vec!["template-registered".into()],
        media: vec![MediumView {
            role: MediumRole::Disk,
            source: "/images/a".into(),
            evidence: EvidenceView::Chain {
                layers: vec!["/images/a (qcow2)".into(), "/images/\u{7}b (raw)".into()],
                sha256: "00ff".into(),
                at_birth: false,
            },
            snapshot_of: None,
        }],
        posture: Some(Posture {
            tpm: Some(TpmKind::Emulator),
            tpm_version: Some("2.0".into()),
            machine: Some(HOSTILE.into()),
            host_devices: Some(vec!["pci 0000:05:10.2".into(), HOSTILE.into()]),
            shared_memory: Some(Vec::new()),
            devices: Some([("disk".to_owned(), 2), ("\u{7}".to_owned(), 1)].into()),
            ..Posture::default()
        }),
        guest: Some(GuestClaims {
            os_id: Some(HOSTILE.to_owned()),
            os_version: Some("12".to_owned()),
            users: Some(vec!["root".to_owned(), HOSTILE.to_owned()]),
            ..GuestClaims::default()
        }),
    }
}

fn a_quarantine() -> QuarantineView {
    QuarantineView {
        target: QuarantineTarget::Vm(uuid()),
        name: HOSTILE.into(),
        since: at(-86_400 * 3),
        cause: "operator".into(),
        mode: "drop".to_owned(),
        uid: 1000,
        note: "seen \u{202e}twice".into(),
    }
}

fn a_finding() -> FindingView {
    FindingView {
        id: "3f9a01c2d4".into(),
        kind: FindingKind::RogueVm,
        subject: Subject::Vm(uuid()),
        severity: Severity::High,
        title: format!("VM {HOSTILE} is nobody's."),
        evidence: vec![],
        next: Some("detector explain 00000007".into()),
        since: at(-5),
        acknowledged: None,
        suppressed: None,
    }
}

#[test]
fn ports() {
    let table = "\
PORT   ROLE   STATUS    BRIDGE  VM                       MAC                WHY
vnet0  guest  isolated  br0     web\\u{1b}[2J\\u{202e}1\\n  52:54:00:00:00:01  It is quarantined.
";
    check("port list", table, |output| port::list(output, Origin::Daemon, &[a_port()]));
    let shown = "\
Port         vnet0 (ifindex 12, instance 3)
Role         guest
Bridge       br0
Status       isolated
Why          It is quarantined.
Since        1 min ago
VM           web\\u{1b}[2J\\u{202e}1\\n (00000000-0000-0000-0000-000000000007)
Granted      52:54:00:00:00:01 192.0.2.7 2001:db8::/64 (router)
Learned      52:54:00:00:00:01 192.0.2.9 (dhcp, until 2027-01-15 08:10:00 UTC)
From guest   75 frames; refused: 70 port-isolated, 5 mac-not-granted
To guest     3 frames
Reports      0 lost, 4 held back

Claims without a grant
MAC                VLAN  TYPE    ADDRESS    FRAMES  LAST      WHY
52:54:00:00:00:02  0     0x0806  192.0.2.8  3       10 s ago  The ARP sender address is not granted to this port.
  and 5 more frames by claims that are not listed: a port has 16 places, and later claims have taken theirs
";
    check("port show", shown, |output| port::show(output, Origin::Pins, &a_port()));
}

#[test]
fn vms() {
    let table = "\
NAME                     STATUS       POWER    TEMPLATE  PORTS  SINCE    UUID
web\\u{1b}[2J\\u{202e}1\\n  quarantined  running  -         vnet0  2 h ago  00000000-0000-0000-0000-000000000007
";
    check("vm list", table, |output| vm::list(output, &[a_vm()]));
    let shown = "\
VM           web\\u{1b}[2J\\u{202e}1\\n
UUID         00000000-0000-0000-0000-000000000007
Source       qemu:///system
Power        running
Status       quarantined
Template     none
NIC          52:54:00:00:00:01 vnet0 isolated 
Learned      192.0.2.9

Requirements
  met      media-listed         The VM lists its media.
  FAILED   template-registered  web\\u{1b}[2J\\u{202e}1\\n descends from nothing known.

Media
  disk     /images/a (qcow2) on /images/\\u{7}b (raw)
           sha256 00ff

Posture
  Firmware unknown, secure boot unknown
  TPM      emulator 2.0
  Machine  web\\u{1b}[2J\\u{202e}1\\n
  Host's   pci 0000:05:10.2, web\\u{1b}[2J\\u{202e}1\\n
  Devices  \\u{7}, 2 disk

The guest says (it may lie)
  OS       web\\u{1b}[2J\\u{202e}1\\n 12
  Users    root, web\\u{1b}[2J\\u{202e}1\\n
";
    check("vm show", shown, |output| vm::show(output, &a_vm()));
}

#[test]
fn quarantines() {
    let table = "\
ON  NAME                     CAUSE                MODE  SINCE    WHY
vm  web\\u{1b}[2J\\u{202e}1\\n  operator (uid 1000)  drop  3 d ago  seen \\u{202e}twice
";
    check("quarantine list", table, |output| {
        quarantine::list(output, Origin::Daemon, &[a_quarantine()])
    });
    check("none", "ON  NAME  CAUSE  MODE  SINCE  WHY\n", |output| {
        quarantine::list(output, Origin::Daemon, &[])
    });
}

#[test]
fn templates() {
    let table = "\
ID      VERSION  OS         STATUS   EXPIRES               IMAGES  VMS
debian  -        Debian 12  expired  2027-01-15T08:00:00Z  0       1
";
    check("template list", table, |output| {
        let template = TemplateView {
            id: "debian".into(),
            version: None,
            os: Some("Debian 12".into()),
            status: "expired".into(),
            reason: None,
            since: None,
            expires: Some(at(0)),
            serial: None,
            signed_by: None,
            images: vec![],
            profile: Default::default(),
            vms: vec![HOSTILE.into()],
        };
        template::list(output, &[template])
    });
    let table = "\
Template     debian
Version      2026.11
OS           -
Status       revoked since 2027-01-15 07:00:00 UTC (1 h ago)
Reason       CVE\\u{1b} 7
Signed by    RWx
Image        disk, qcow2, sha256 00ff, /images/a
Profile      secure_boot true, devices disk interface
VMs          none
";
    check("template show", table, |output| {
        let image = ImageView {
            role: MediumRole::Disk,
            sha256: "00ff".into(),
            format: Some(ImageFormat::Qcow2),
            path: Some("/images/a".into()),
        };
        let profile = SecurityProfile {
            secure_boot: Some(true),
            devices: Some(["disk", "interface"].map(str::to_owned).into()),
            ..SecurityProfile::default()
        };
        let template = TemplateView {
            id: "debian".into(),
            version: Some("2026.11".into()),
            os: None,
            status: "revoked".into(),
            reason: Some("CVE\u{1b} 7".into()),
            since: Some(at(-3600)),
            expires: None,
            serial: Some(2),
            signed_by: Some("RWx".into()),
            images: vec![image],
            profile,
            vms: vec![],
        };
        template::show(output, &template)
    });
}

fn a_status() -> Status {
    let source = SourceView {
        name: "qemu:///system".into(),
        healthy: false,
        why: Some("no \u{1b} route".into()),
        since: Some(at(-10)),
        vms: 0,
        rejected: 0,
    };
    Status {
        version: "0.1.0".into(),
        schema: 1,
        mode: ModeView::Observe,
        mode_detail: Some(mode::detail()),
        evidence: EvidenceLevel::Digest,
        started: at(-300),
        sources: vec![source],
        ports: [("granted".to_owned(), 3), ("isolated".to_owned(), 1)].into(),
        vms: [].into(),
        bridges: 1,
        uplinks: 2,
        quarantines: 1,
        held: 0,
        recently_cut_off: 0,
        templates: 4,
        events: 0,
        findings: vec![a_finding()],
    }
}

#[test]
fn the_daemon_at_a_glance() {
    let table = "\
Mode         observe: nothing is dropped but what an operator quarantines
Since        2027-01-15T07:55:00Z (5 min ago), as configured
Daemon       0.1.0, started 5 min ago
Network      1 bridge, 2 uplinks
Ports        3 granted, 1 isolated
VMs          none
Quarantined  1
Templates    4
Source       qemu:///system: lost 10 s ago: no \\u{1b} route
Findings     1

SEVERITY  ID          KIND      SINCE    FINDING
high      3f9a01c2d4  rogue-vm  5 s ago  VM web\\u{1b}[2J\\u{202e}1\\n is nobody's.
                                         > detector explain 00000007
";
    check("status", table, |output| status::print(output, &a_status()));
}

#[test]
fn policies() {
    let diff = PolicyDiffView {
        vms: 7,
        losing: 0,
        held: 0,
        changes: vec![PolicyChange {
            vm: VmRef { uuid: uuid(), name: HOSTILE.into() },
            power: PowerState::Running,
            from: VmStatus::Approved,
            to: VmStatus::Denied,
            effect: "is quarantined".into(),
            rules: vec!["no-web".into()],
            why: vec![format!("no-web: {HOSTILE} is a web.")],
        }],
    };
    let table = "\
VM                       FROM      TO      BY RULE  EFFECT
web\\u{1b}[2J\\u{202e}1\\n  approved  denied  no-web   is quarantined

web\\u{1b}[2J\\u{202e}1\\n
  no-web: web\\u{1b}[2J\\u{202e}1\\n is a web.

1 of 7 VMs. Nothing has been done.
";
    check("diff", table, |output| {
        let done = policy::diff::print(output, &diff)?;
        assert_eq!(done, Done::Report);
        Ok(())
    });
    let table = "The verdict on none of 7 VMs would be another one.\n";
    check("no diff", table, |output| {
        let done =
            policy::diff::print(output, &PolicyDiffView { changes: vec![], ..diff.clone() })?;
        assert_eq!(done, Done::Fine);
        Ok(())
    });
    let table = "\
VM           web\\u{1b}[2J\\u{202e}1\\n
Status       quarantined
Decided by   template-registered

media-listed met
  found The VM lists its media.

template-registered FAILED
  asks  A VM descends from a template.
  found web\\u{1b}[2J\\u{202e}1\\n descends from nothing known.
  do    Rebuild it.
";
    let mut vm = a_vm();
    vm.requirements[1].sentence = "A VM descends from a template.".into();
    check("explain", table, |output| policy::explain(output, &vm));
}

#[test]
fn an_explanation_fits_on_a_screen() {
    let table = "\
VM           web\\u{1b}[2J\\u{202e}1\\n
Status       quarantined since 2027-01-15 05:58:20 UTC (2 h ago)
Why          It descends from nothing known.
Template     none
Decided by   template-registered
Quarantine   vm web\\u{1b}[2J\\u{202e}1\\n, by operator, since 2027-01-12 08:00:00 UTC (3 d ago): seen \\u{202e}twice

Requirements
  met      media-listed         The VM lists its media.
  FAILED   template-registered  web\\u{1b}[2J\\u{202e}1\\n descends from nothing known.

Media
  disk     /images/a (qcow2) on /images/\\u{7}b (raw)
           sha256 00ff

Port vnet0: isolated
Why          It is quarantined.
Granted      52:54:00:00:00:01 192.0.2.7 2001:db8::/64 (router)
Learned      52:54:00:00:00:01 192.0.2.9 (dhcp, until 2027-01-15 08:10:00 UTC)
From guest   75 frames; refused: 70 port-isolated, 5 mac-not-granted
To guest     3 frames
Reports      0 lost, 4 held back

Claims without a grant
MAC                VLAN  TYPE    ADDRESS    FRAMES  LAST      WHY
52:54:00:00:00:02  0     0x0806  192.0.2.8  3       10 s ago  The ARP sender address is not granted to this port.

Findings
SEVERITY  ID          KIND      SINCE    FINDING
high      3f9a01c2d4  rogue-vm  5 s ago  VM web\\u{1b}[2J\\u{202e}1\\n is nobody's.

What would change it
  1. Rebuild it.
  2. Lift it.
       detector quarantine release vm 00000007
";
    assert!(table.lines().count() <= 40, "a screen");
    check("explain", table, |output| {
        let remedy = |what: &str, command: Option<&str>| Remedy {
            what: what.into(),
            command: command.map(Into::into),
        };
        let explanation = Explanation {
            subject: HOSTILE.into(),
            kind: "vm".into(),
            status: "quarantined".into(),
            summary: "It descends from nothing known.".into(),
            since: Some(at(-7300)),
            vm: Some(a_vm()),
            ports: vec![a_port()],
            quarantines: vec![a_quarantine()],
            findings: vec![a_finding()],
            remedies: vec![
                remedy("Rebuild it.", None),
                remedy("Lift it.", Some("detector quarantine release vm 00000007")),
            ],
        };
        explain::print(output, &explanation)
    });
}

/// libvirt's description states the chain that the image states too.
#[test]
fn a_stated_base_is_told_of_once() {
    let medium = |layers: &[&str], sha256: &str| MediumView {
        role: MediumRole::Disk,
        source: layers[0].to_owned(),
        evidence: EvidenceView::Chain {
            layers: layers.iter().map(|layer| (*layer).to_owned()).collect(),
            sha256: sha256.to_owned(),
            at_birth: sha256 == "11ff",
        },
        snapshot_of: None,
    };
    let media = [
        medium(&["/a.qcow2 (qcow2)", "/base.raw (raw)"], "00ff"),
        medium(&["/base.raw (raw)"], "00ff"),
        medium(&["/other.raw (raw)"], "11ff"),
    ];
    let mut text = Vec::new();
    vm::media(&mut Output::to(&mut text, Format::Table, at(0)), &media).unwrap();
    let expect = "\nMedia\n  disk     /a.qcow2 (qcow2) on /base.raw (raw)\n           sha256 00ff\n  disk     \
                  /other.raw (raw)\n           sha256 11ff before its VM ran, by a certificate\n";
    assert_eq!(String::from_utf8(text).unwrap(), expect);
}

#[test]
fn a_hook_takes_any_name_that_a_vm_may_have() {
    use clap::Parser;
    let uri = "lxc+tcp://h/";
    let equals = format!("--uri={uri}");
    let options: [(&[&str], Option<&str>); 3] =
        [(&[], None), (&["--uri", uri], Some(uri)), (&[&equals], Some(uri))];
    let names = ["web1", "-x", "--help", "--output", "--", "hook", "-o json", "--uri", "--uri=x"];
    for (name, (option, uri)) in names.iter().flat_map(|name| options.map(|one| (*name, one))) {
        let words = ["detector", "--config", "/c", "hook", "lxc"].iter().chain(option);
        let libvirt = [name, "start", "begin", "-"];
        let given = super::hook::arguments(words.chain(&libvirt).map(Into::into));
        match super::Cli::try_parse_from(given).map(|cli| cli.command) {
            Ok(super::Command::Hook { command: super::args::HookCommand::Lxc(read) }) => {
                let words = (read.name.as_str(), read.op.as_str(), read.sub_op.as_str());
                assert_eq!(words, (name, "start", "begin"));
                assert_eq!(read.uri.as_deref(), uri, "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let help = ["detector", "hook", "qemu", "--help"].iter().map(Into::into);
    assert!(super::Cli::try_parse_from(super::hook::arguments(help)).is_err());
}

#[test]
fn every_command_has_a_sound_definition_and_an_example() {
    use clap::CommandFactory;
    let command = super::Cli::command();
    command.clone().debug_assert();
    let mut todo = vec![command];
    while let Some(command) = todo.pop() {
        let leaf = command.get_subcommands().next().is_none();
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(!leaf || help.contains("Examples:"), "{}", command.get_name());
        assert!(command.get_about().is_some(), "{}", command.get_name());
        // What is hidden nobody types.
        todo.extend(command.get_subcommands().filter(|one| !one.is_hide_set()).cloned());
    }
}
