//! The rules and the answers, on facts alone.

mod responses;

use std::collections::BTreeSet;

use detector_common::quarantine::QuarantineMode;

use super::{entities::records, *};
use crate::{
    decide::{VmStatus, profile::Ask},
    model::{
        AddressRule, EvidenceLevel, FindingKind, Firmware, GuestClaims, LinkKind, MediumRole,
        Posture, PowerState, TemplateStatus,
    },
};

/// A VM that the built-in policy approves.
fn good() -> Facts {
    Facts {
        uuid: uuid::Uuid::from_u128(7),
        name: "web".to_owned(),
        power: PowerState::Running,
        host: HostFacts {
            evidence: EvidenceLevel::Digest,
            quarantine: QuarantineMode::Drop,
            sandbox: false,
            default_rule: AddressRule::Any,
        },
        standing: Fact::Known(Standing::Digest),
        registered: Fact::Known(true),
        template: Fact::Known(TemplateFacts {
            id: "debian-12".to_owned(),
            version: None,
            os: Some("debian".to_owned()),
            status: Fact::Known(TemplateStatus::Approved),
            expired: Fact::Known(false),
        }),
        unmet: Fact::Known(BTreeSet::new()),
        declared: None,
        variables: Some(Fact::Known(Variables::None)),
        media: 1,
        media_roles: [MediumRole::Disk].into(),
        media_local: true,
        media_read: Fact::Known(true),
        boots_from_network: false,
        attachments: BTreeSet::new(),
        posture: Posture { firmware: Some(Firmware::Efi), ..Posture::default() },
        guest: None,
        findings: BTreeSet::new(),
        nics: vec![nic("52:54:00:00:00:01", Some("br0"))],
    }
}

fn nic(mac: &str, network: Option<&str>) -> NicFacts {
    NicFacts {
        mac: mac.to_owned(),
        vlans: Vec::new(),
        addresses: Vec::new(),
        rule: None,
        dhcp_server: false,
        router: false,
        vrrp: false,
        port: network.map(|_| ("vnet0".to_owned(), LinkKind::Tap)),
        network: network.map(str::to_owned),
    }
}

/// The same on the word of its source alone.
fn declared() -> Facts {
    Facts {
        host: HostFacts { evidence: EvidenceLevel::Declared, ..good().host },
        standing: Fact::Known(Standing::Declared),
        declared: Some("debian-12".to_owned()),
        media: 0,
        media_read: Fact::Unknown,
        media_local: false,
        boots_from_network: true,
        ..good()
    }
}

fn denied() -> Facts {
    let mut facts = good();
    if let Fact::Known(template) = &mut facts.template {
        template.status = Fact::Known(TemplateStatus::Revoked);
    }
    facts
}

fn expired() -> Facts {
    let mut facts = good();
    if let Fact::Known(template) = &mut facts.template {
        template.expired = Fact::Known(true);
    }
    facts
}

fn with(rules: &str) -> Rules {
    Rules::parse(&format!("{rules}\n{DEFAULT}")).unwrap()
}

fn strictness(status: VmStatus) -> u8 {
    match status {
        VmStatus::Approved => 0,
        VmStatus::Pending => 1,
        _ => 2,
    }
}

#[test]
fn the_built_in_policy_is_valid() {
    let rules = Rules::built_in();
    assert_eq!(rules.warnings(), []);
    assert!(rules.list().iter().all(|rule| rule.sentence.ends_with('.')));
    assert_eq!(rules.list().last().unwrap().id, "may-join", "what is cut off permits nothing");
}

/// A start of the file, as a crash half-way leaves it, is no policy.
#[test]
fn a_policy_that_is_cut_off_is_refused() {
    for length in (0..DEFAULT.len() - 2).step_by(97).chain([DEFAULT.len() - 2]) {
        let cut = DEFAULT.get(..length).unwrap_or_default();
        assert!(Rules::parse(cut).is_err(), "{length} bytes");
    }
}

/// None of the facts that is missing, or not known, makes a verdict milder.
#[test]
fn what_is_absent_or_unknown_never_widens_access() {
    let rules = Rules::built_in();
    let unproven = Facts { media_read: Fact::Unknown, standing: Fact::Unknown, ..good() };
    let homeless = Facts { nics: vec![nic("52:54:00:00:00:01", None)], ..good() };
    let mut sandboxed = denied();
    sandboxed.host.quarantine = QuarantineMode::Sandbox;
    let mut stricter = 0;
    // And of each requirement a VM that fails it alone.
    let alone = [
        Facts { media: 0, ..good() },
        Facts { boots_from_network: true, ..good() },
        Facts { media_local: false, ..good() },
        Facts { media_read: Fact::Known(false), ..good() },
        Facts { registered: Fact::Known(false), ..good() },
        Facts { standing: Fact::Known(Standing::Declared), ..good() },
        denied(),
        expired(),
    ];
    let unmet = Ask::ALL.map(|ask| Facts { unmet: Fact::Known([ask].into()), ..good() });
    let alone: Vec<_> = alone.into_iter().chain(unmet).collect();
    assert_eq!(alone.len(), rules.about("join", RuleEffect::Forbid).count());
    for (facts, requirement) in alone.iter().zip(rules.list()) {
        assert_eq!(rules.evaluate(facts).decided_by, [requirement.id.as_str()]);
    }
    for facts in [good(), declared(), unproven, homeless, sandboxed].into_iter().chain(alone) {
        let whole = rules.evaluate(&facts);
        let before = strictness(whole.status());
        let count = records(&facts).unwrap().len();
        for record in 0..count {
            for attribute in 0..records(&facts).unwrap()[record].attributes.len() {
                for forget in [false, true] {
                    let mut records = records(&facts).unwrap();
                    let name = records[record].attributes[attribute].0;
                    if forget {
                        records[record].attributes[attribute].1 = None;
                    } else {
                        records[record].attributes.remove(attribute);
                    }
                    let verdict = rules.evaluate_records(&facts, &records);
                    let case = format!("{facts:?} without {name} (unknown: {forget}): {verdict:?}");
                    // What denied and is not known any more denies nobody, and admits nobody either.
                    let least = if forget { before.min(1) } else { before };
                    assert!(strictness(verdict.status()) >= least, "{case}");
                    assert_eq!(verdict.errors.len(), 0, "{case}");
                    assert!(verdict.responses.isolate && verdict.responses.find, "{case}");
                    assert!(whole.responses.sandbox || !verdict.responses.sandbox, "{case}");
                    stricter += usize::from(strictness(verdict.status()) > before);
                }
            }
        }
    }
    assert!(stricter >= 100, "only {stricter} of them matter");
}

/// Every entity that is missing altogether makes the verdict stricter or leaves it.
#[test]
fn entities_that_are_missing_never_widen_access() {
    let rules = Rules::built_in();
    for facts in [good(), declared(), denied()] {
        let before = strictness(rules.evaluate(&facts).status());
        for record in 0..records(&facts).unwrap().len() {
            let mut records = records(&facts).unwrap();
            let uid = records.remove(record).uid;
            let verdict = rules.evaluate_records(&facts, &records);
            assert!(strictness(verdict.status()) >= before, "without {uid}: {verdict:?}");
        }
    }
}

/// Cedar leaves an erroring `forbid` out, which would allow.
#[test]
fn a_rule_that_fails_to_evaluate_denies() {
    const OVERFLOW: &str = "principal has mediaCount && principal.mediaCount * 9223372036854775807 > principal.mediaCount";
    let two = Facts { media: 2, ..good() };
    for (effect, action) in [
        ("forbid", "join"),
        ("permit", "join"),
        ("forbid", "find"),
        ("forbid", "isolate"),
        ("permit", "sandbox"),
    ] {
        let rules = with(&format!(
            "@id(\"broken\") @sentence(\"It adds up.\") \
             {effect} (principal, action == Action::\"{action}\", resource) when {{ {OVERFLOW} }};"
        ));
        let facts = match action {
            "join" => two.clone(),
            _ => Facts { media: 2, ..denied() },
        };
        let verdict = rules.evaluate(&facts);
        assert_eq!(verdict.status(), VmStatus::Denied, "{effect} {action}");
        assert_eq!(verdict.errors.keys().collect::<Vec<_>>(), ["broken"], "{effect} {action}");
        let Responses { find, isolate, sandbox, .. } = verdict.responses;
        assert_eq!((find, isolate, sandbox), (true, true, false), "{effect} {action}");
        if effect == "forbid" && action == "join" {
            assert_eq!(verdict.decided_by, ["broken"]);
        }
    }
}

/// (the rule, facts, the verdict, the rules that decided)
type Case = (&'static str, fn(&mut Facts), VmStatus, &'static [&'static str]);

/// What rules of an administrator's own decide.
#[test]
fn custom_rules() {
    use VmStatus::{Approved, Denied, Pending};
    const NETWORK: &str = r#"@id("dmz") @sentence("Only Debian.") forbid (principal,
        action == Action::"join", resource == Network::"br-dmz") unless { principal has
        lineage.template.os && principal.lineage.template.os == "debian" };"#;
    const ONLY: &str = r#"@id("only-br0") @sentence("Only br0.") forbid (principal,
        action == Action::"join", resource) unless { resource == Network::"br0" };"#;
    const NAMED: &str = r#"@id("revoked") @sentence("None revoked.") forbid (principal,
        action == Action::"join", resource) when { principal has lineage.template.status &&
        principal.lineage.template.status == "revoked" };"#;
    const ROLE: &str = r#"@id("no-dhcp") @sentence("No servers.") forbid (principal,
        action == Action::"join", resource) unless { context has nic.dhcpServer &&
        !context.nic.dhcpServer };"#;
    let other: fn(&mut Facts) = |facts| facts.nics[0].network = Some("br-dmz".to_owned());
    let cases: &[Case] = &[
        (NETWORK, |_| (), Approved, &["may-join"]),
        (NETWORK, other, Approved, &["may-join"]),
        (
            NETWORK,
            |facts| {
                facts.nics.push(nic("52:54:00:00:00:02", Some("br-dmz")));
                if let Fact::Known(template) = &mut facts.template {
                    template.os = None;
                }
            },
            Denied,
            &["dmz"],
        ),
        (ONLY, |_| (), Approved, &["may-join"]),
        (ONLY, other, Denied, &["only-br0"]),
        // Where it will be is not known yet.
        (ONLY, |facts| facts.nics[0].network = None, Pending, &["only-br0"]),
        (ONLY, |facts| facts.nics.clear(), Pending, &["only-br0"]),
        (ONLY, |facts| facts.nics.push(nic("52:54:00:00:00:02", None)), Approved, &["may-join"]),
        (NAMED, |_| (), Approved, &["may-join"]),
        // It does not object to what is absent, and yet it may to what is not known.
        (
            NAMED,
            |facts| facts.template = Fact::Unknown,
            Pending,
            &["revoked", "template-approved", "template-unexpired"],
        ),
        (ROLE, |_| (), Approved, &["may-join"]),
        (ROLE, |facts| facts.nics[0].dhcp_server = true, Denied, &["no-dhcp"]),
    ];
    for (number, (rule, change, status, by)) in cases.iter().enumerate() {
        let mut facts = good();
        change(&mut facts);
        let verdict = with(rule).evaluate(&facts);
        assert_eq!((verdict.status(), verdict.decided_by), (*status, own(by)), "case {number}");
    }
}

fn own(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn without_a_permit_that_applies_nothing_joins() {
    let permit = |when: &str| {
        let text = format!(
            "@id(\"some\") permit (principal, action == Action::\"join\", resource) when {{ {when} }};"
        );
        Rules::parse(&text).unwrap()
    };
    let named = permit("principal has name && principal.name == \"db\"");
    let verdict = named.evaluate(&good());
    assert_eq!((verdict.status(), verdict.decided_by), (VmStatus::Denied, own(&[NO_PERMIT])));
    let unknown = Facts { standing: Fact::Unknown, ..good() };
    let proven =
        permit("principal has lineage.evidence && principal.lineage.evidence == \"digest\"");
    let verdict = proven.evaluate(&unknown);
    assert_eq!((verdict.status(), verdict.decided_by), (VmStatus::Pending, own(&[NO_PERMIT])));
    assert_eq!(proven.evaluate(&good()).status(), VmStatus::Approved);
}

/// (a rule, whether the evidence is known, find, isolate, sandbox)
#[test]
fn responses_are_asked_in_turn() {
    let spare = |action: &str, when: &str| {
        format!(
            "@id(\"own\") @sentence(\"Some are spared.\") \
             forbid (principal, action == Action::\"{action}\", resource) when {{ {when} }};"
        )
    };
    let deprecated = "principal has name && principal.name == \"web\"";
    let other = "principal has name && principal.name == \"db\"";
    let open = "principal has mediaRead && principal.mediaRead";
    let cases = [
        (String::new(), true, (true, true, false)),
        (spare("find", deprecated), true, (false, true, false)),
        (spare("isolate", deprecated), true, (true, false, false)),
        (spare("isolate", other), true, (true, true, false)),
        (spare("isolate", open), true, (true, false, false)),
        // What is not known spares nobody.
        (spare("isolate", open), false, (true, true, false)),
        (spare("sandbox", other), true, (true, true, false)),
    ];
    for (rule, read, expected) in cases {
        let mut facts = denied();
        if !read {
            facts.media_read = Fact::Unknown;
        }
        let verdict = with(&rule).evaluate(&facts);
        let Responses { find, isolate, sandbox, rules, .. } = verdict.responses;
        assert_eq!((find, isolate, sandbox), expected, "{rule}");
        assert_eq!(rules.is_empty(), find && isolate, "{rule}");
    }
    let mut facts = denied();
    facts.host.quarantine = QuarantineMode::Sandbox;
    assert!(Rules::built_in().evaluate(&facts).responses.sandbox);
    assert!(!with(&spare("sandbox", deprecated)).evaluate(&facts).responses.sandbox);
}

/// Each with the line and the column.
#[test]
fn faults_have_a_place() {
    const PERMIT: &str = "\n@id(\"may\") permit (principal, action == Action::\"join\", resource);";
    let cases = [
        ("", "1:1: no rule permits"),
        ("@id(\"a\")\npermit (principal, action, resource)", "3:1: unexpected token `@`"),
        ("permit (principal, action == Action::\"join\", resource);", "1:1: a rule needs a name"),
        (
            "// a; \"comment\"\n@id(\"A\") permit (principal, action == Action::\"join\", resource);",
            "2:1: \"A\" is no name",
        ),
        ("@id(\"a\") permit (principal, action, resource);", "1:1: a rule is about one action"),
        (
            "@id(\"a\") forbid (principal, action == Action::\"join\", resource);",
            "1:1: a rule that forbids says",
        ),
        (
            "@id(\"a\") permit (principal, action == Action::\"find\", resource);",
            "1:1: what is denied has \"find\" anyhow",
        ),
        ("@id(\"may\") permit (principal, action == Action::\"join\", resource);", "2:1: the @id"),
        (
            "@id(\"a\") permit (principal, action == Action::\"jion\", resource);",
            "1:39: for policy `a`, unrecognized action",
        ),
        (
            "@id(\"a\") permit (principal, action == Action::\"join\", resource)\nwhen { principal.name == \"ü\" };",
            "2:8: for policy `a`, unable to guarantee safety",
        ),
        (
            "@id(\"a\") permit (principal, action == Action::\"join\", resource)\n when { principal has name && principal.name > 3 };",
            "2:31: for policy `a`, unexpected type",
        ),
        (
            "@id(\"a\") permit (principal == ?principal, action == Action::\"join\", resource);",
            "1:1: a rule with a slot",
        ),
    ];
    for (text, expected) in cases {
        let text = if text.contains("\"may\"") || text.contains("\"a\"") {
            format!("{text}{PERMIT}")
        } else {
            text.to_owned()
        };
        let faults = Rules::parse(&text).unwrap_err();
        let said = faults[0].to_string();
        assert!(said.starts_with(expected), "{text}\nsays {said}\nexpected {expected}");
    }
}

/// The same facts are evaluated once; other ones anew, also when only time has passed.
#[test]
fn verdicts_are_remembered_by_value() {
    let rules = Rules::parse(DEFAULT).unwrap();
    assert_eq!(rules.judge(good()).status(), VmStatus::Approved);
    assert_eq!(rules.judge(good()).status(), VmStatus::Approved);
    assert_eq!(rules.evaluations(), 1);
    assert_eq!(rules.judge(denied()).status(), VmStatus::Denied);
    assert_eq!(rules.judge(expired()).status(), VmStatus::Denied);
    assert_eq!(rules.evaluations(), 3);
    rules.forget_others(|_| false);
    rules.judge(denied());
    assert_eq!(rules.evaluations(), 4);
}

/// What a guest says may forbid, and its silence decides nothing.
#[test]
fn what_a_guest_says_of_itself() {
    let text = "@id(\"join\") permit(principal, action == Action::\"join\", resource);
        @id(\"old\") @sentence(\"It is new.\") forbid(principal, action == Action::\"join\", resource) when {
            principal has guestClaims && principal.guestClaims has osVersion &&
            principal.guestClaims.osVersion == \"10\" };
        @id(\"user\") @sentence(\"Eve is out.\") forbid(principal, action == Action::\"join\", resource) when {
            principal has guestClaims && principal.guestClaims has users &&
            principal.guestClaims.users.contains(\"eve\") };";
    let rules = Rules::parse(text).unwrap();
    let claims = |version: &str, user: &str| GuestClaims {
        os_version: Some(version.to_owned()),
        users: Some(vec![user.to_owned()]),
        ..GuestClaims::default()
    };
    for (guest, decided_by) in [
        (None, "join"),
        (Some(GuestClaims::default()), "join"),
        (Some(claims("12", "root")), "join"),
        (Some(claims("10", "root")), "old"),
        (Some(claims("12", "eve")), "user"),
    ] {
        let verdict = rules.evaluate(&Facts { guest: guest.clone(), ..good() });
        assert_eq!(verdict.decided_by, [decided_by], "{guest:?}");
        assert_eq!(verdict.errors.len(), 0);
    }
}

/// What findings say of a VM's conduct is known, and nothing where there are none.
#[test]
fn what_findings_say_of_it() {
    let text = "@id(\"join\") permit(principal, action == Action::\"join\", resource);
        @id(\"honest\") @sentence(\"It speaks as itself.\") forbid(principal, action == Action::\"join\", resource)
        when { principal has findings && principal.findings.contains(\"foreign-identity\") };
        @id(\"floods\") permit(principal, action == Action::\"pause\", resource)
        when { principal has findings && principal.findings.contains(\"flood\") };";
    let rules = Rules::parse(text).unwrap();
    for (findings, decided_by, pause) in [
        (vec![], "join", false),
        (vec![FindingKind::Flood], "join", false),
        (vec![FindingKind::ForeignIdentity], "honest", false),
        (vec![FindingKind::Flood, FindingKind::ForeignIdentity], "honest", true),
    ] {
        let facts = Facts { findings: findings.iter().copied().collect(), ..good() };
        let verdict = rules.evaluate(&facts);
        assert_eq!(verdict.decided_by, [decided_by], "{findings:?}");
        assert_eq!((verdict.responses.pause, verdict.errors.len()), (pause, 0), "{findings:?}");
    }
}
