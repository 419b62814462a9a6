use std::collections::BTreeSet;

use super::*;

/// The rows of the table, as the taxonomy says them.
fn rows() -> Vec<String> {
    let row = |kind: &FindingKind| {
        let Class { category, severity, technique, meaning, advice } = kind.class();
        let (least, most) = (severity.start().as_str(), severity.end().as_str());
        let severity = if least == most { least.into() } else { format!("{least} to {most}") };
        let technique = technique.map_or_else(|| "–".to_owned(), |one| one.to_string());
        format!(
            "| `{}` | {} | {severity} | {technique} | {meaning} | {advice} |",
            kind.as_str(),
            category.as_str()
        )
    };
    FindingKind::ALL.iter().map(row).collect()
}

#[test]
fn every_kind_is_documented() {
    let text = include_str!("../../../../../../docs/findings.md");
    let is_row = |line: &&str| line.starts_with("| `");
    // The first table; what comes further down is about evidence.
    let documented: Vec<_> =
        text.lines().skip_while(|line| !is_row(line)).take_while(is_row).collect();
    let rows = rows();
    assert_eq!(documented, rows, "the table has to be:\n{}\n", rows.join("\n"));
}

#[test]
fn every_kind_is_listed_once_and_named_as_in_json() {
    let names: BTreeSet<_> = FindingKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(names.len(), FindingKind::ALL.len());
    for (place, kind) in FindingKind::ALL.iter().enumerate() {
        assert_eq!(*kind as usize, place, "{kind:?}: in the order of the enumeration");
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        let class = kind.class();
        assert!(class.severity.start() <= class.severity.end(), "{kind:?}");
        assert_eq!(
            class.technique.is_none(),
            class.category == Category::Operations
                || matches!(kind, FindingKind::DeprecatedTemplate | FindingKind::Conflict),
            "{kind:?}"
        );
    }
}
