//! Pieces of pages. What guests may have chosen goes through [`text`].

use detector_core::{escape::escape, fleet::message::Time, model::Severity};
use maud::{Markup, html};

use crate::{history::Sample, view::Counts};

/// A text that somebody else has chosen: what would reorder or hide it is made visible, and it reorders nothing around it.
pub(super) fn text(text: &str) -> Markup {
    html! { bdi { (escape(text)) } }
}

/// A text as one segment of a path.
pub(super) fn segment(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let encode =
        |byte: u8| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

pub(super) fn host_path(host: &str) -> String {
    format!("/hosts/{}", segment(host))
}

pub(super) fn vm_path(host: &str, uuid: uuid::Uuid) -> String {
    format!("{}/vms/{uuid}", host_path(host))
}

const ICONS: [(&str, &str); 11] = [
    (
        "shield",
        "M12 2 4 5v6c0 5 3.4 9.3 8 11 4.6-1.7 8-6 8-11V5l-8-3Zm-1.2 13.6-3.4-3.4 1.5-1.5 1.9 1.9 4.4-4.4 1.5 1.5-5.9 5.9Z",
    ),
    (
        "ok",
        "M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20Zm-1.3 14.4-4.2-4.2 1.6-1.6 2.6 2.6 5.4-5.4 1.6 1.6-7 7Z",
    ),
    ("wait", "M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20Zm3.9 14.2L11 12.6V6h2v5.6l4.1 3-1.2 1.6Z"),
    (
        "no",
        "M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20Zm4.6 13.2-1.4 1.4-3.2-3.2-3.2 3.2-1.4-1.4 3.2-3.2-3.2-3.2 1.4-1.4 3.2 3.2 3.2-3.2 1.4 1.4-3.2 3.2 3.2 3.2Z",
    ),
    (
        "lock",
        "M17 9V7A5 5 0 0 0 7 7v2H5v13h14V9h-2ZM9 7a3 3 0 0 1 6 0v2H9V7Zm4 9.7V19h-2v-2.3a2 2 0 1 1 2 0Z",
    ),
    ("off", "M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20Zm0 18a8 8 0 1 1 0-16 8 8 0 0 1 0 16Z"),
    ("alert", "M12 2 1 21h22L12 2Zm-1 7h2v6h-2V9Zm0 8h2v2h-2v-2Z"),
    ("host", "M3 3h18v8H3V3Zm0 10h18v8H3v-8Zm3-7v2h2V6H6Zm0 10v2h2v-2H6Z"),
    ("bridge", "M2 7h20v2h-3v4h3v2H2v-2h3V9H2V7Zm5 2v4h4V9H7Zm6 0v4h4V9h-4Z"),
    ("port", "M4 4h16v16h-3v-4H7v4H4V4Zm3 3v4h2V7H7Zm4 0v4h2V7h-2Zm4 0v4h2V7h-2Z"),
    ("vm", "M3 4h18v12h-8v2h4v2H7v-2h4v-2H3V4Zm2 2v8h14V6H5Z"),
];

/// The icons of a page, once.
pub(super) fn sprite() -> Markup {
    html! {
        svg.unseen aria-hidden="true" width="0" height="0" {
            @for (name, path) in ICONS { symbol id=(format!("i-{name}")) viewBox="0 0 24 24" { path d=(path) {} } }
        }
    }
}

pub(super) fn icon(name: &str) -> Markup {
    html! { svg.icon aria-hidden="true" viewBox="0 0 24 24" { use href=(format!("#i-{name}")) {} } }
}

/// A security state or a port's status: by colour, icon and word.
pub(super) fn state(word: &str) -> Markup {
    let (tone, name) = match word {
        "approved" | "granted" | "well" | "enforce" | "met" | "done" => ("good", "ok"),
        "pending" | "kept" | "unknown" | "begun" | "waiting" | "deprecated" | "observe"
        | "troubled" | "spreading" | "soaking" => ("attention", "wait"),
        "denied" | "failed" | "revoked" | "expired" | "unguarded" | "silent" | "unreadable"
        | "halted" => ("bad", "no"),
        "quarantined" | "isolated" => ("cut", "lock"),
        _ => ("plain", "off"),
    };
    html! { span.state.(tone) { (icon(name)) (escape(word)) } }
}

pub(super) fn tone(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "cut",
        Severity::High => "bad",
        Severity::Medium => "attention",
        Severity::Low | Severity::Info => "plain",
    }
}

pub(super) fn severity(severity: Severity) -> Markup {
    html! { span.state.(tone(severity)) { (icon("alert")) (severity.as_str()) } }
}

/// A moment, as long ago as it is.
pub(super) fn when(at: Time) -> Markup {
    html! { time datetime=(at) title=(at.strftime("%F %T UTC")) { (ago(at, Time::now())) } }
}

fn ago(at: Time, now: Time) -> String {
    let seconds = now.as_second() - at.as_second();
    let of = |count: i64, unit: &str| format!("{count} {unit} ago");
    match seconds {
        ..0 => at.strftime("%F %H:%M").to_string(),
        0..10 => "just now".to_owned(),
        10..120 => of(seconds, "s"),
        120..7200 => of(seconds / 60, "min"),
        7200..172_800 => of(seconds / 3600, "h"),
        172_800..2_592_000 => of(seconds / 86_400, "days"),
        _ => at.strftime("%F").to_string(),
    }
}

/// Why there is nothing, and what to do.
pub(super) fn empty(name: &str, title: &str, hint: &Markup) -> Markup {
    html! { div.empty { (icon(name)) h2 { (title) } p { (hint) } } }
}

/// States of VMs as parts of one bar, with a legend that says the same in words.
pub(super) fn bar(counts: &Counts) -> Markup {
    const ORDER: [&str; 5] = ["approved", "pending", "denied", "quarantined", "off"];
    let total: u64 = counts.values().sum();
    let mut begun = 0;
    let parts: Vec<_> = ORDER
        .iter()
        .filter_map(|word| {
            let count = *counts.get(*word)?;
            let at = begun;
            begun += count;
            Some((*word, count, at * 1000 / total.max(1), count * 1000 / total.max(1)))
        })
        .collect();
    html! {
        svg.bar viewBox="0 0 1000 12" preserveAspectRatio="none" aria-hidden="true" {
            @if total == 0 { rect.off x="0" y="0" width="1000" height="12" {} }
            @for (word, _, at, width) in &parts { rect class=(word) x=(at) y="0" width=(width.saturating_sub(2).max(3)) height="12" {} }
        }
        ul.legend {
            @for (word, count, ..) in &parts {
                li { a href=(format!("/vms?status={word}")) { (state(word)) " " strong { (count) } } }
            }
        }
    }
}

/// How a number has been, as a line.
pub(super) fn line(samples: &[Sample], of: impl Fn(&Sample) -> u64) -> Markup {
    let most = samples.iter().map(&of).max().unwrap_or(0).max(1);
    let second = |sample: Option<&Sample>| sample.map_or(0, |sample| sample.at.as_second());
    let begin = second(samples.first());
    let span = (second(samples.last()) - begin).max(1);
    let point = |sample: &Sample| {
        // A clock may have been set back in between.
        let x = ((second(Some(sample)) - begin) * 200 / span).clamp(0, 200);
        format!("{x},{}", 30 - of(sample) * 28 / most)
    };
    let points: Vec<_> = samples.iter().map(point).collect();
    html! {
        @if samples.len() > 1 {
            svg.line viewBox="0 0 200 32" preserveAspectRatio="none" aria-hidden="true" {
                polygon points=(format!("0,32 {} 200,32", points.join(" "))) {}
                polyline points=(points.join(" ")) {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_guests_act_on_nothing() {
        let cases = [
            ("web1", "<bdi>web1</bdi>"),
            ("<script>x</script>", "<bdi>&lt;script&gt;x&lt;/script&gt;</bdi>"),
            ("\"><img src=x onerror='y'>", "<bdi>&quot;&gt;&lt;img src=x onerror='y'&gt;</bdi>"),
            ("\u{202e}gpj.exe", r"<bdi>\u{202e}gpj.exe</bdi>"),
            ("\u{1b}[31mred", r"<bdi>\u{1b}[31mred</bdi>"),
        ];
        for (given, expect) in cases {
            assert_eq!(text(given).into_string(), expect);
        }
        assert_eq!(segment("a/b?c #ü"), "a%2Fb%3Fc%20%23%C3%BC");
    }

    #[test]
    fn a_line_goes_by_time() {
        let sample = |(second, cut_off): &(i64, u64)| {
            let at = Time::from_second(*second).unwrap();
            Sample { at, vms: 0, cut_off: *cut_off, findings: 0, silent: 0 }
        };
        let cases: [(&[(i64, u64)], &str); 4] = [
            (&[], ""),
            (&[(5, 1)], ""),
            (&[(0, 0), (50, 2), (200, 1)], "\"0,30 50,2 200,16\""),
            (&[(100, 0), (0, 0)], "\"0,30 0,30\""),
        ];
        for (samples, expect) in cases {
            let samples: Vec<_> = samples.iter().map(sample).collect();
            let drawn = line(&samples, |one| one.cut_off).into_string();
            assert!(drawn.contains(expect) && drawn.is_empty() == expect.is_empty(), "{drawn}");
        }
    }

    #[test]
    fn how_long_ago() {
        let at = |second: i64| Time::from_second(1_800_000_000 - second).unwrap();
        let cases = [
            (0, "just now"),
            (60, "60 s ago"),
            (600, "10 min ago"),
            (10_000, "2 h ago"),
            (200_000, "2 days ago"),
            (9_000_000, "2026-10-03"),
            (-60, "2027-01-15 08:01"),
        ];
        for (second, expect) in cases {
            assert_eq!(ago(at(second), at(0)), expect);
        }
    }
}
