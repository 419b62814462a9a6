//! Pause, grace period and address rule: asked in turn, with values.

use super::*;

/// A rule that permits `action`, with an annotation before it.
fn permit(id: &str, annotation: &str, action: &str, when: &str) -> String {
    format!(
        "@id({id:?}) {annotation} permit (principal, action == Action::{action:?}, resource) \
         when {{ {when} }};\n"
    )
}

const WEB: &str = "principal has name && principal.name == \"web\"";
const OTHER: &str = "principal has name && principal.name == \"db\"";
const OPEN: &str = "principal has mediaRead && principal.mediaRead";
const ON_BR0: &str = "resource == Network::\"br0\"";

/// A denied VM whose media are being read, on two networks.
fn denied_on_two() -> Facts {
    let nics = vec![nic("52:54:00:00:00:01", Some("br0")), nic("52:54:00:00:00:02", Some("br1"))];
    Facts { media_read: Fact::Unknown, nics, ..denied() }
}

#[test]
fn the_strictest_of_those_that_apply_holds() {
    let hour = |id: &str, when: &str| permit(id, "@grace(\"1h\")", "grace", when);
    let day = |id: &str, when: &str| permit(id, "@grace(\"1d\")", "grace", when);
    let pause = |when: &str| permit("p", "", "pause", when);
    let never = |action: &str, when: &str| {
        format!(
            "@id(\"f\") @sentence(\"Not these.\") forbid (principal, action == \
             Action::{action:?}, resource) when {{ {when} }};\n"
        )
    };
    // (rules, pause, grace)
    let cases = [
        (String::new(), false, None),
        (hour("a", WEB), false, Some(3600)),
        (hour("a", OTHER), false, None),
        // Of two the shorter one, whichever comes first.
        (day("a", WEB) + &hour("b", WEB), false, Some(3600)),
        (hour("a", WEB) + &day("b", WEB), false, Some(3600)),
        (hour("a", OTHER) + &day("b", WEB), false, Some(86_400)),
        // What is milder has to be certain, for every NIC.
        (hour("a", OPEN), false, None),
        (hour("a", ON_BR0), false, None),
        (hour("a", WEB) + &never("grace", WEB), false, None),
        (hour("a", WEB) + &never("grace", OPEN), false, None),
        (hour("a", WEB) + &never("grace", OTHER), false, Some(3600)),
        (pause(WEB), true, None),
        (pause(OTHER), false, None),
        (pause(OPEN), false, None),
        // To be suspended is worse: one NIC is enough.
        (pause(ON_BR0), true, None),
        (pause(WEB) + &never("pause", WEB), false, None),
        (pause(WEB) + &hour("a", WEB), true, Some(3600)),
        // Who is not isolated is neither suspended, nor does he need time.
        (pause(WEB) + &hour("a", WEB) + &never("isolate", WEB), false, None),
    ];
    for (rules, pause, grace) in cases {
        let verdict = with(&rules).evaluate(&denied_on_two());
        assert_eq!(verdict.status(), VmStatus::Denied, "{rules}");
        assert_eq!((verdict.responses.pause, verdict.responses.grace), (pause, grace), "{rules}");
        let approved = with(&rules).evaluate(&good());
        assert_eq!(approved.responses, Responses::default(), "nothing of it is asked: {rules}");
    }
}

#[test]
fn address_rules_are_asked_of_each_nic_also_of_approved_vms() {
    use AddressRule::{Any, Dhcp, Exact, FirstCome};
    let rule = |id: &str, rule: &str, when: &str| {
        permit(id, &format!("@rule({rule:?})"), "address-rule", when)
    };
    const OVERFLOW: &str = "principal has mediaCount && principal.mediaCount * 9223372036854775807 > principal.mediaCount";
    // (rules, the configured one, that of the NIC on br0, that of the one on br1)
    let cases = [
        (String::new(), Any, None, None),
        (rule("a", "dhcp", WEB), Any, Some(Dhcp), Some(Dhcp)),
        (rule("a", "any", WEB), Dhcp, Some(Any), Some(Any)),
        (rule("a", "dhcp", OTHER), Any, None, None),
        (rule("a", "dhcp", ON_BR0), Any, Some(Dhcp), None),
        (rule("a", "any", WEB) + &rule("b", "dhcp", ON_BR0), Any, Some(Dhcp), Some(Any)),
        (rule("a", "exact", WEB) + &rule("b", "dhcp", WEB), Any, Some(Exact), Some(Exact)),
        (
            rule("a", "first-come", WEB) + &rule("b", "any", WEB),
            Any,
            Some(FirstCome),
            Some(FirstCome),
        ),
        // In doubt it applies, and does not.
        (rule("a", "any", OPEN), Dhcp, Some(Dhcp), Some(Dhcp)),
        (rule("a", "dhcp", OPEN), Any, Some(Dhcp), Some(Dhcp)),
        (rule("a", "dhcp", OPEN) + &rule("b", "any", WEB), Any, Some(Dhcp), Some(Dhcp)),
        (rule("a", "any", OVERFLOW), Dhcp, Some(Dhcp), Some(Dhcp)),
    ];
    for (rules, default, first, second) in cases {
        for status in [VmStatus::Approved, VmStatus::Denied] {
            let mut facts = Facts { media: 2, ..denied_on_two() };
            if status == VmStatus::Approved {
                facts.template = good().template;
                // Nothing asks for it.
                facts.host.evidence = EvidenceLevel::Declared;
                facts.declared = Some("debian-12".to_owned());
            }
            facts.host.default_rule = default;
            let verdict = with(&rules).evaluate(&facts);
            assert_eq!(verdict.status(), status, "{rules}");
            assert_eq!(verdict.address_rules, [first, second], "{rules} {status:?}");
            // What a source says goes before.
            facts.nics[0].rule = Some(Any);
            facts.nics[1].addresses = vec!["192.0.2.1/32".to_owned()];
            assert_eq!(with(&rules).evaluate(&facts).address_rules, [None, None], "{rules}");
        }
    }
}

/// None of the facts that is missing, or not known, gives more time, or a wider rule.
#[test]
fn what_is_absent_or_unknown_spares_nobody() {
    let permits = permit("g", "@grace(\"1h\")", "grace", WEB)
        + &permit("a", "@rule(\"any\")", "address-rule", WEB);
    let rules = with(&permits);
    let mut facts = denied();
    facts.host.default_rule = AddressRule::Dhcp;
    let whole = rules.evaluate(&facts);
    assert_eq!(
        (whole.responses.grace, whole.address_rules),
        (Some(3600), vec![Some(AddressRule::Any)])
    );
    let mut taken = 0;
    for record in 0..records(&facts).unwrap().len() {
        for attribute in 0..records(&facts).unwrap()[record].attributes.len() {
            for forget in [false, true] {
                let mut records = records(&facts).unwrap();
                if forget {
                    records[record].attributes[attribute].1 = None;
                } else {
                    records[record].attributes.remove(attribute);
                }
                let verdict = rules.evaluate_records(&facts, &records);
                let rule = verdict.address_rules[0].unwrap_or(AddressRule::Dhcp);
                let spared = verdict.responses.grace.is_some();
                assert!(!spared || verdict.responses.grace == Some(3600));
                assert!(matches!(rule, AddressRule::Any | AddressRule::Dhcp));
                taken += usize::from(!spared) + usize::from(rule == AddressRule::Dhcp);
            }
        }
    }
    // The name, absent and unknown; and with the status that denies there is nothing to spare.
    assert!(taken >= 4, "{taken}");
}

/// Each with the line and the column, and the way out.
#[test]
fn values_are_checked_where_they_stand() {
    const PERMIT: &str = "\n@id(\"may\") permit (principal, action == Action::\"join\", resource);";
    let of = |annotation: &str, effect: &str, action: &str| {
        format!(
            "@id(\"a\")\n{annotation}\n@sentence(\"So.\")\n{effect} (principal, action == \
             Action::{action:?}, resource);{PERMIT}"
        )
    };
    let cases = [
        (of("", "permit", "grace"), "1:1: a permit of \"grace\" says which"),
        (of("", "permit", "address-rule"), "1:1: a permit of \"address-rule\" says which"),
        (of("@grace(\"soon\")", "permit", "grace"), "2:1: \"soon\" is no grace period"),
        (of("@grace(\"31d\")", "permit", "grace"), "2:1: \"31d\" is no grace period"),
        (of("@grace(\"0s\")", "permit", "grace"), "2:1: \"0s\" is no grace period"),
        (of("@rule(\"prefix\")", "permit", "address-rule"), "2:1: \"prefix\" is no rule"),
        (of("@grace(\"1h\")", "permit", "sandbox"), "2:1: @grace says nothing here"),
        (of("@grace(\"1h\")", "forbid", "grace"), "2:1: @grace says nothing here"),
        (of("@rule(\"any\")", "permit", "join"), "2:1: @rule says nothing here"),
        (of("", "forbid", "address-rule"), "1:1: which addresses a NIC has is not forbidden"),
    ];
    for (text, expected) in cases {
        let faults = Rules::parse(&text).unwrap_err();
        let said = faults[0].to_string();
        assert!(said.starts_with(expected), "{text}\nsays {said}\nexpected {expected}");
        assert!(faults[0].help.is_some(), "{said}");
    }
    let text = of("@grace(\"1h 30m\")", "permit", "grace");
    assert_eq!(Rules::parse(&text).unwrap().rule("a").unwrap().grace, Some(5400));
}
