//! Alerts in words. Whatever a guest may have chosen is shown harmlessly, since receivers print it.

use std::fmt::Write;

use super::{
    host::Origin,
    notice::{Event, Notice},
};
use crate::escape::escape;

/// What one value may add to a text.
const LONGEST: usize = 512;

/// One line: what, how severe, where.
pub fn line(notice: &Notice, origin: &Origin) -> String {
    let finding = &notice.finding;
    let what = match notice.event {
        Event::Opened => String::new(),
        Event::Test => "TEST ".to_owned(),
        other => format!("{} ", other.as_str().to_uppercase()),
    };
    format!(
        "{what}{}: {} [{} {} on {}]",
        finding.severity.as_str(),
        shown(&finding.title),
        finding.kind.as_str(),
        finding.id,
        origin.host
    )
}

/// A paragraph: the line, and what is known.
pub fn paragraph(notice: &Notice, origin: &Origin) -> String {
    let finding = &notice.finding;
    let class = finding.kind.class();
    let mut text = line(notice, origin);
    let _ = write!(text, "\n  {}\n", class.meaning);
    let _ = writeln!(text, "  since: {}", finding.since);
    if let Some(technique) = class.technique {
        let _ = writeln!(text, "  technique: {technique} ({})", technique.tactic_name);
    }
    for (name, value) in &finding.evidence {
        let _ = writeln!(text, "  {}: {}", shown(name), shown(value));
    }
    if let Some(mark) = notice.mark() {
        let _ =
            writeln!(text, "  {} by {}: {}", notice.event, shown(&mark.who()), shown(&mark.why));
    }
    let _ = writeln!(text, "  advice: {}", class.advice);
    if let Some(next) = &finding.next {
        let _ = writeln!(text, "  > {}", shown(next));
    }
    text
}

/// A value on one line, without what acts on a terminal, and bounded.
pub fn shown(text: &str) -> String {
    let mut shown = escape(&text.chars().take(LONGEST).collect::<String>());
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
