use super::*;

const CASES: &str = include_str!("../../../../packaging/policy-cases.toml");

fn cases(text: &str) -> Result<Vec<Case>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    read(file.path())
}

/// The cases that are installed describe the built-in policy.
#[test]
fn the_installed_cases_turn_out_as_expected() {
    let rules = Rules::built_in();
    let cases = cases(CASES).unwrap();
    assert!(cases.len() >= 10);
    for case in &cases {
        let tried = case.try_on(&rules);
        assert_eq!(tried.wrong, [""; 0], "{}", case.name);
    }
    let mut decided: BTreeSet<String> =
        cases.iter().flat_map(|case| case.try_on(&rules).rules).collect();
    for rule in rules.list().iter().filter(|rule| rule.action == "join") {
        assert!(decided.remove(&rule.id), "no case for {}", rule.id);
    }
}

#[test]
fn what_turns_out_otherwise_is_said() {
    let rules = Rules::built_in();
    let text = "[[case]]\nname = \"a\"\nexpect = \"denied\"\nrules = [\"x\"]\nisolate = false";
    let tried = cases(text).unwrap()[0].try_on(&rules);
    assert_eq!(tried.status, VmStatus::Approved);
    let wrong = ["expected denied", "expected by x", "expected isolate = false"];
    assert_eq!(tried.wrong, wrong);
}

#[test]
fn a_bad_file_is_refused_with_its_place() {
    let error = cases("[[case]]\nname = \"a\"\nexpect = \"maybe\"").unwrap_err().to_string();
    assert!(error.contains(":3:10: unknown variant"), "{error}");
    let error = cases("[[case]]\nname = \"a\"\nexpect = \"denied\"\nwhat = 1").unwrap_err();
    assert!(error.to_string().contains(":4:1: unknown field"), "{error}");
}

/// What a rule asks of variables can be tried, whether or not it is known.
#[test]
fn variables_are_facts_of_a_case() {
    let rule = "@id(\"v\") @sentence(\"x.\") forbid (principal, action == Action::\"join\", resource) \
                unless { principal has lineage.variables && principal.lineage.variables == \"template\" };";
    let default = detector_core::decide::policy::DEFAULT;
    let rules = Rules::parse(&format!("{rule}\n{default}")).unwrap();
    for (says, expect) in [
        ("variables = \"template\"", VmStatus::Approved),
        ("variables = \"unknown\"", VmStatus::Denied),
        ("", VmStatus::Denied),
        ("unknown = [\"variables\"]", VmStatus::Pending),
    ] {
        let text = format!("[[case]]\nname = \"a\"\nexpect = \"denied\"\n{says}");
        assert_eq!(cases(&text).unwrap()[0].try_on(&rules).status, expect, "{says}");
    }
}
