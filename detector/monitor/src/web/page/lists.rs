use maud::{Markup, html};

use super::{
    form::{Place, acknowledge, only_looks},
    part::{empty, host_path, icon, segment, severity, state, text, tone, vm_path, when},
    roll_out,
};
use crate::{
    view::{Counts, FindingRow, HostRow, RollOutView, VmFilter, VmPage},
    web::session::Identity,
};

/// Findings that are shown at a time: a host may have thousands.
const MOST: usize = 200;

const STATES: [&str; 5] = ["approved", "pending", "denied", "quarantined", "off"];

pub(super) fn vms(page: &VmPage, filter: &VmFilter) -> Markup {
    html! {
        div.title { h1 { "VMs" } p.hint { (page.total) " found" } }
        form.filter method="get" action="/vms" role="search" {
            label { "Search" input type="search" name="q" value=(filter.q) placeholder="Name, UUID, MAC, address, template"; }
            label { "State"
                select name="status" {
                    option value="" { "Any" }
                    @for word in STATES { option value=(word) selected[filter.status == word] { (word) } }
                }
            }
            @if !filter.host.is_empty() { input type="hidden" name="host" value=(filter.host); }
            button type="submit" { "Show" }
        }
        @if page.vms.is_empty() {
            @if filter == &VmFilter::default() {
                (empty("vm", "No VM is known yet", &html! { "Start one, or name an inventory in the host's configuration." }))
            } @else {
                (empty("vm", "No VM is like that", &html! { a href="/vms" { "Show all VMs" } }))
            }
        } @else {
            div.scroll { table.stack {
                thead { tr { th scope="col" { "VM" } th scope="col" { "State" } th scope="col" { "Template" } th scope="col" { "NICs" } th scope="col" { "Host" } th scope="col" { "Since" } } }
                tbody {
                    @for vm in &page.vms {
                        tr {
                            td { a href=(vm_path(&vm.host, vm.uuid)) { strong { (text(&vm.name)) } } }
                            td data-label="State" { (state(&vm.status)) @if vm.power != "running" && vm.status != "off" { " " span.hint { (text(&vm.power)) } } }
                            td data-label="Template" { @match &vm.template { Some(template) => (text(template)), None => span.hint { "none" } } }
                            td data-label="NICs" { @if vm.nics.is_empty() { span.hint { "none" } } @for nic in &vm.nics { div { code.whole { (text(&nic.mac)) } @for address in &nic.addresses { " " span.hint { (text(address)) } } } } }
                            td data-label="Host" { a href=(host_path(&vm.host)) { (text(&vm.host)) } }
                            td data-label="Since" { @match vm.since { Some(since) => (when(since)), None => span.hint { "unknown" } } }
                        }
                    }
                }
            } }
            @if page.pages > 1 {
                nav.pages aria-label="Pages" {
                    @if page.page > 0 { a.button href=(link(filter, page.page - 1)) { "Before" } }
                    span { "Page " (page.page + 1) " of " (page.pages) }
                    @if page.page + 1 < page.pages { a.button href=(link(filter, page.page + 1)) { "Next" } }
                }
            }
        }
    }
}

fn link(filter: &VmFilter, page: usize) -> String {
    let VmFilter { q, status, host, .. } = filter;
    format!("/vms?q={}&status={}&host={}&page={page}", segment(q), segment(status), segment(host))
}

pub(super) fn hosts(hosts: &[HostRow], rolls: Option<&RollOutView>) -> Markup {
    html! {
        div.title { h1 { "Hosts" } }
        @if let Some(view) = rolls { (roll_out::show(view)) }
        @if hosts.is_empty() {
            (empty("host", "No host has been heard of", &html! { "Enrol one with " code { "detector fleet enrol" } ", or see whether its daemon runs: " code { "systemctl status detector" } "." }))
        } @else { (hosts_table(hosts)) }
    }
}

pub(super) fn hosts_table(hosts: &[HostRow]) -> Markup {
    html! {
        div.scroll { table.stack {
            thead { tr { th scope="col" { "Host" } th scope="col" { "Condition" } th scope="col" { "Mode" } th scope="col" { "VMs" } th scope="col" { "Findings" } th scope="col" { "Bundle" } th scope="col" { "Heard" } } }
            tbody {
                @for host in hosts {
                    tr {
                        td { a href=(host_path(&host.name)) { strong { (text(&host.name)) } } }
                        td data-label="Condition" { (state(&host.condition)) @for trouble in host.troubles.iter().take(2) { div.hint { (text(trouble)) } } }
                        td data-label="Mode" { @match &host.mode { Some(mode) => (state(mode)), None => span.hint { "unknown" } } }
                        td data-label="VMs" { (counts(&host.vms)) }
                        td data-label="Findings" { (counts(&host.findings)) }
                        td data-label="Bundle" { @match host.bundle { Some(number) => (number), None => span.hint { "own files" } } }
                        td data-label="Heard" { @match host.heard { Some(heard) => (when(heard)), None => span.hint { "never" } } }
                    }
                }
            }
        } }
    }
}

fn counts(counts: &Counts) -> Markup {
    html! {
        @if counts.is_empty() { span.hint { "none" } }
        @for (word, count) in counts { span.few { (count) " " (text(word)) } }
    }
}

pub(super) fn findings(all: &[FindingRow], identity: &Identity) -> Markup {
    let (settled, open): (Vec<_>, Vec<_>) = all.iter().partition(|row| row.settled);
    html! {
        div.title { h1 { "Findings" } p.hint { (open.len()) " open" } }
        @if open.is_empty() {
            (empty("ok", "Nothing is open", &html! { "What administrators must know appears here by itself." }))
        }
        @else { (only_looks(identity)) }
        ul.cards { @for one in open.iter().take(MOST) { (with_deed(one, identity)) } }
        (beyond(open.len()))
        @if !settled.is_empty() {
            section.later {
                h2 { "Somebody sees to these" }
                ul.cards { @for one in settled.iter().take(MOST) { (card(one)) } }
                (beyond(settled.len()))
            }
        }
    }
}

fn beyond(count: usize) -> Markup {
    html! { @if count > MOST { p.hint { (count - MOST) " more are not shown; " code { "detector-monitor findings" } " lists all." } } }
}

fn with_deed(one: &FindingRow, identity: &Identity) -> Markup {
    let place = Place { host: &one.host, target: &one.id, back: "/findings" };
    html! { li.card.(tone(one.severity)) { (inside(one)) (acknowledge(identity, &place)) } }
}

pub(super) fn card(one: &FindingRow) -> Markup {
    html! { li.card.(tone(one.severity)) { (inside(one)) } }
}

fn inside(one: &FindingRow) -> Markup {
    html! {
        div.title { (severity(one.severity)) span.hint { (text(&one.kind)) " · " (text(&one.host)) " · " (when(one.since)) } }
        p { strong { (text(&one.title)) } }
        @if let Some(vm) = one.vm {
            p { a href=(vm_path(&one.host, vm)) { (icon("vm")) @match &one.vm_name { Some(name) => (text(name)), None => (vm) } } }
        }
        (evidence(one))
    }
}

pub(super) fn evidence(one: &FindingRow) -> Markup {
    html! {
        @if !one.evidence.is_empty() || one.next.is_some() {
            details id=(format!("evidence-{}", one.id)) {
                summary { "Evidence" }
                dl { @for pair in &one.evidence { dt { (text(&pair.name)) } dd { (text(&pair.value)) } } }
                @if let Some(next) = &one.next { p { "On the host: " code { (text(next)) } } }
            }
        }
    }
}
