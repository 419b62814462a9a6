use maud::{Markup, html};

use super::{
    lists,
    part::{bar, empty, icon, line, severity, text, when},
    picture, roll_out,
};
use crate::{
    history::Sample,
    view::{Counts, HostRow, HostView, Overview, RollOutView},
};

/// Ports of a bridge that are shown here; the host's own page has more.
const PORTS: usize = 8;

pub(super) fn show(
    view: &Overview,
    hosts: &[HostRow],
    (picture, rolls): (Option<&HostView>, Option<&RollOutView>),
) -> Markup {
    let count = |word: &str| view.vms.get(word).copied().unwrap_or(0);
    let (denied, cut_off) = (count("denied"), count("quarantined"));
    let total: u64 = view.vms.values().sum();
    let open: u64 = view.findings.values().sum();
    let observes = view.modes.get("observe").copied().unwrap_or(0);
    html! {
        section.verdict.bad[denied > 0].cut[denied == 0 && cut_off > 0].good[denied + cut_off == 0 && total > 0] {
            (icon(if denied + cut_off > 0 { "lock" } else { "shield" }))
            div {
                h1 { (headline(total, denied, cut_off)) }
                p {
                    (number(view.hosts, "host", "hosts"))
                    @if view.silent > 0 { ", " strong { (view.silent) " not heard of" } }
                    @if observes > 0 { " · " strong { (number(observes, "host only observes", "hosts only observe")) } ": nothing is cut off there" }
                }
            }
            @if denied + cut_off > 0 { a.button.main href="/quarantine" { "See to it" } }
        }
        div.tiles {
            section.tile.wide {
                h2 { "VMs" }
                p.figure { (total) }
                (bar(&view.vms))
            }
            (tile("Cut off", denied + cut_off, &view.history, |one| one.cut_off))
            (tile("Open findings", open, &view.history, |one| one.findings))
        }
        @if let Some(view) = rolls { (roll_out::show(view)) }
        @if !view.correlations.is_empty() {
            section {
                h2 { "Across hosts" }
                ul.cards {
                    @for one in &view.correlations {
                        li.card {
                            (severity(one.correlation.severity))
                            p { strong { (text(&one.correlation.title)) } }
                            p.hint { (one.correlation.kind.as_str()) " · " (when(one.since)) }
                        }
                    }
                }
            }
        }
        div.columns {
            section {
                div.title { h2 { "Needs attention" } a href="/findings" { "All findings" } }
                @if total == 0 && view.latest.is_empty() {
                    (empty("vm", "No VM is known yet", &html! { "Start one, or name an inventory in the host's configuration. It appears here by itself." }))
                } @else if view.latest.is_empty() {
                    (empty("ok", "Nothing is open", &html! { "Findings appear here by themselves, the most severe first." }))
                } @else {
                    ul.cards { @for finding in &view.latest { (lists::card(finding)) } }
                }
            }
            section {
                @if let Some(host) = picture {
                    div.title { h2 { "What is plugged in" } a href="/vms" { "All VMs" } }
                    (picture::show(host, PORTS))
                } @else {
                    div.title { h2 { "Hosts" } a href="/hosts" { "All hosts" } }
                    (lists::hosts_table(hosts))
                }
            }
        }
        @if total > 0 {
            div.columns {
                (table("By template", "Template", &view.templates))
                (table("By where they run", "Inventory", &view.platforms))
            }
        }
    }
}

fn headline(total: u64, denied: u64, cut_off: u64) -> String {
    match (total, denied, cut_off) {
        (0, ..) => "No VM is known yet".to_owned(),
        (1, 0, 0) => "The one VM is fine".to_owned(),
        (_, 0, 0) => format!("All {total} VMs are fine"),
        (_, 0, cut_off) => format!("{} in quarantine", number(cut_off, "VM is", "VMs are")),
        (_, denied, 0) => format!("{} denied", number(denied, "VM is", "VMs are")),
        (_, denied, cut_off) => format!("{denied} denied, {cut_off} in quarantine"),
    }
}

fn number(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn tile(name: &str, now: u64, history: &[Sample], of: impl Fn(&Sample) -> u64) -> Markup {
    let most = history.iter().map(&of).max().unwrap_or(now).max(now);
    html! {
        section.tile {
            h2 { (name) }
            p.figure { (now) }
            (line(history, of))
            p.hint { (past(history, most, now)) }
        }
    }
}

/// How it has been, in words.
fn past(history: &[Sample], most: u64, now: u64) -> Markup {
    let Some(first) = history.first().filter(|_| history.len() > 1) else {
        return html! { "No history yet" };
    };
    html! { @if most > now { "At most " (most) } @else { "Never more" } ", as far as " (when(first.at)) }
}

fn table(title: &str, head: &str, counts: &Counts) -> Markup {
    html! {
        section {
            h2 { (title) }
            table {
                thead { tr { th scope="col" { (head) } th.number scope="col" { "VMs" } } }
                tbody { @for (word, count) in counts { tr { td { (text(word)) } td.number { (count) } } } }
            }
        }
    }
}
