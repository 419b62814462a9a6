//! From the text of a policy to rules, or to everything that is wrong with it.

use std::{ops::Range, str::FromStr, sync::Mutex, time::Duration};

use cedar_policy::{
    ActionConstraint, Effect, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator,
};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};

use super::{Memo, NO_PERMIT, Rule, RuleEffect, Rules, SCHEMA};
use crate::model::AddressRule;

/// Something that is wrong with a policy, and where. Lines and columns (in characters) count from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub line: usize,
    pub column: usize,
    /// How many characters of that line it is about, at least 1.
    pub length: usize,
    pub message: String,
    /// The way out, where one is known.
    pub help: Option<String>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)?;
        self.help.iter().try_for_each(|help| write!(f, " ({help})"))
    }
}

impl Fault {
    fn at(
        text: &str,
        span: Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Self {
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let end = text.ceil_char_boundary(span.end.clamp(start, text.len()));
        let before = &text[..start];
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let about = text[start..end].lines().next().unwrap_or_default();
        let length = about.chars().count().max(1);
        Self { line, column, length, message: message.into(), help }
    }

    /// What Cedar says, at its first label; `whole` where it says no place.
    fn of(text: &str, whole: Range<usize>, said: &dyn Diagnostic) -> Self {
        let label = said.labels().and_then(|mut labels| labels.next());
        let span = label.map(|label| label.offset()..label.offset() + label.len());
        let help = said.help().map(|help| help.to_string());
        Self::at(text, span.unwrap_or(whole), said.to_string(), help)
    }
}

/// The longest grace period: that of a revocation too.
const LONGEST_GRACE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Longer ones are no names.
const LONGEST_ID: usize = 64;

pub(super) fn load(text: &str) -> Result<Rules, Vec<Fault>> {
    let parsed = PolicySet::from_str(text).map_err(|errors| {
        errors.iter().map(|error| Fault::of(text, 0..0, error)).collect::<Vec<_>>()
    })?;
    let starts = statements(text);
    let place = |number: usize| starts.get(number).cloned().unwrap_or(0..0);

    let mut faults = Vec::new();
    if parsed.templates().next().is_some() {
        let why = "a rule with a slot (?principal, ?resource) applies to nobody here";
        faults.push(Fault::at(text, 0..0, why, None));
    }
    let mut policies: Vec<_> =
        parsed.policies().map(|policy| (number(policy.id()), policy)).collect();
    policies.sort_by_key(|(number, _)| *number);

    let mut set = PolicySet::new();
    let mut list: Vec<Rule> = Vec::new();
    for (number, policy) in policies {
        let place = place(number);
        let rule = rule(text, &place, policy).and_then(|rule| {
            match list.iter().find(|known| known.id == rule.id) {
                Some(known) => Err(Fault::at(
                    text,
                    place.clone(),
                    format!(
                        "the @id {:?} is that of the rule in line {} already",
                        rule.id, known.line
                    ),
                    None,
                )),
                None => Ok(rule),
            }
        });
        match rule {
            Err(fault) => faults.push(fault),
            Ok(rule) => {
                if let Err(error) = set.add(policy.new_id(PolicyId::new(&rule.id))) {
                    faults.push(Fault::of(text, place, &error));
                }
                list.push(rule);
            }
        }
    }
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA)
        .map_err(|error| vec![Fault::at(text, 0..0, format!("the schema: {error}"), None)])?;
    let validated = Validator::new(schema).validate(&set, ValidationMode::Strict);
    let span_of = |id: &PolicyId| {
        let rule = list.iter().find(|rule| id == &PolicyId::new(&rule.id));
        let by_line = |span: &&Range<usize>| {
            rule.is_some_and(|rule| Fault::at(text, (*span).clone(), "", None).line == rule.line)
        };
        starts.iter().find(by_line).cloned().unwrap_or(0..0)
    };
    let errors = validated.validation_errors();
    faults.extend(errors.map(|error| Fault::of(text, span_of(error.policy_id()), error)));
    let warnings = validated.validation_warnings();
    let mut warnings: Vec<_> =
        warnings.map(|said| Fault::of(text, span_of(said.policy_id()), said)).collect();
    warnings.sort_by_key(|fault| (fault.line, fault.column));

    let permits = |rule: &Rule| rule.effect == RuleEffect::Permit && rule.action == "join";
    if faults.is_empty() && !list.iter().any(permits) {
        faults.push(Fault::at(
            text,
            text.len()..text.len(),
            "no rule permits a VM to join, so that every VM would be denied",
            Some(r#"end it with: @id("may-join") permit (principal, action == Action::"join", resource);"#.to_owned()),
        ));
    }
    if !faults.is_empty() {
        faults.sort_by_key(|fault| (fault.line, fault.column));
        faults.dedup();
        return Err(faults);
    }
    Ok(Rules { text: text.to_owned(), set, list, warnings, memo: Mutex::new(Memo::default()) })
}

/// What there is to know of a rule, and whether it says it.
fn rule(text: &str, place: &Range<usize>, policy: &Policy) -> Result<Rule, Fault> {
    let fault = |message: &str, help: &str| {
        let help = (!help.is_empty()).then(|| help.to_owned());
        Err(Fault::at(text, place.clone(), message, help))
    };
    let Some(id) = policy.annotation("id") else {
        return fault("a rule needs a name", r#"write @id("what-it-asks") in front of it"#);
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if id.is_empty() || id.len() > LONGEST_ID || !id.chars().all(plain) || id == NO_PERMIT {
        return fault(
            &format!("{id:?} is no name for a rule"),
            "expected at most 64 of a-z, 0-9 and '-', and not no-permit",
        );
    }
    let effect = match policy.effect() {
        Effect::Permit => RuleEffect::Permit,
        Effect::Forbid => RuleEffect::Forbid,
    };
    let action = match policy.action_constraint() {
        ActionConstraint::Eq(action) => action.id().unescaped().to_owned(),
        // A `forbid` of everything would forbid to isolate what it denies.
        ActionConstraint::Any | ActionConstraint::In(_) => {
            return fault(
                "a rule is about one action",
                r#"write action == Action::"join", or "find", "isolate", "sandbox", "pause", "shut-down", "remediate", "grace", "address-rule""#,
            );
        }
    };
    if effect == RuleEffect::Permit && matches!(action.as_str(), "find" | "isolate") {
        return fault(
            &format!("what is denied has {action:?} anyhow"),
            "only a forbid of it says anything",
        );
    }
    if effect == RuleEffect::Forbid && action == "address-rule" {
        return fault(
            "which addresses a NIC has is not forbidden but said",
            r#"write @rule("dhcp") permit (principal, action == Action::"address-rule", resource)"#,
        );
    }
    let (grace, address_rule) = values(text, place, policy, effect, &action)?;
    let provisioner = policy.annotation("provisioner").map(str::to_owned);
    if provisioner.is_some() && (effect, action.as_str()) != (RuleEffect::Permit, "remediate") {
        return fault("@provisioner says nothing here", r#"it belongs to a permit of "remediate""#);
    }
    let sentence = policy.annotation("sentence").unwrap_or_default().trim();
    if effect == RuleEffect::Forbid && sentence.is_empty() {
        return fault(
            "a rule that forbids says what it asks",
            r#"write @sentence("A VM …") in front of it"#,
        );
    }
    Ok(Rule {
        id: id.to_owned(),
        effect,
        action,
        grace,
        address_rule,
        provisioner,
        sentence: sentence.to_owned(),
        remedy: policy.annotation("remedy").unwrap_or_default().trim().to_owned(),
        line: Fault::at(text, place.clone(), "", None).line,
    })
}

/// The values that the permits of some actions have, as annotations.
fn values(
    text: &str,
    place: &Range<usize>,
    policy: &Policy,
    effect: RuleEffect,
    action: &str,
) -> Result<(Option<u64>, Option<AddressRule>), Fault> {
    let fault = |annotation: &str, message: String, help: &str| {
        // At the annotation, where there is one.
        let statement = text.get(place.clone()).unwrap_or_default();
        let start = statement.find(annotation).map_or(place.start, |at| place.start + at);
        Err(Fault::at(text, start..place.end, message, Some(help.to_owned())))
    };
    for (name, of) in [("grace", "grace"), ("rule", "address-rule")] {
        let annotation = format!("@{name}");
        let has_one = effect == RuleEffect::Permit && action == of;
        match policy.annotation(name) {
            None if has_one => {
                let help = match name {
                    "grace" => r#"write @grace("1h") in front of it"#,
                    _ => r#"write @rule("dhcp"), or "first-come", "any", "exact", in front of it"#,
                };
                return fault("@id", format!("a permit of {of:?} says which"), help);
            }
            Some(_) if !has_one => {
                let help = format!("it belongs to a permit of {of:?}");
                return fault(&annotation, format!("{annotation} says nothing here"), &help);
            }
            _ => {}
        }
    }
    let grace = match policy.annotation("grace") {
        None => None,
        Some(given) => match humantime::parse_duration(given) {
            Ok(grace) if grace <= LONGEST_GRACE && grace.as_secs() > 0 => Some(grace.as_secs()),
            _ => {
                let help = r#"expected one second to 30 days, as "90s", "15m", "1h 30m" or "7d""#;
                return fault("@grace", format!("{given:?} is no grace period"), help);
            }
        },
    };
    let address_rule = match policy.annotation("rule") {
        None => None,
        Some("dhcp") => Some(AddressRule::Dhcp),
        Some("first-come") => Some(AddressRule::FirstCome),
        Some("any") => Some(AddressRule::Any),
        Some("exact") => Some(AddressRule::Exact),
        Some(given) => {
            let help = r#"expected "dhcp", "first-come", "any" or "exact" (none but what its source lists)"#;
            return fault("@rule", format!("{given:?} is no rule for addresses"), help);
        }
    };
    Ok((grace, address_rule))
}

/// Cedar names the rules of a text `policy0`, `policy1`, and so on.
fn number(id: &PolicyId) -> usize {
    AsRef::<str>::as_ref(id).trim_start_matches("policy").parse().unwrap_or(usize::MAX)
}

/// Where each statement of a text that parses begins and ends: at a `;` that is in no string and in no
/// comment.
fn statements(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = None;
    let mut rest = text.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        match c {
            '/' if rest.peek().is_some_and(|(_, next)| *next == '/') => {
                while rest.next_if(|(_, c)| *c != '\n').is_some() {}
                continue;
            }
            '"' => {
                while let Some((_, c)) = rest.next() {
                    match c {
                        '\\' => drop(rest.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            ';' => {
                found.extend(start.take().map(|start| start..at));
                continue;
            }
            _ => {}
        }
        if !c.is_whitespace() {
            start.get_or_insert(at);
        }
    }
    found
}
