use maud::{Markup, html};

use super::{
    form::{self, Place},
    lists,
    part::{empty, host_path, icon, severity, state, text, vm_path, when},
};
use crate::{
    view::{RemediationRow, RequirementRow, VmDetail},
    web::session::Identity,
};

pub(super) fn show(view: &VmDetail, identity: &Identity) -> Markup {
    let vm = &view.row;
    let target = format!("vm:{}", vm.uuid);
    let back = vm_path(&vm.host, vm.uuid);
    let place = Place { host: &vm.host, target: &target, back: &back };
    html! {
        div.title { h1 { (icon("vm")) (text(&vm.name)) } }
        p.hint { "On " a href=(host_path(&vm.host)) { (text(&vm.host)) } " · " (text(&vm.power)) " · " code { (vm.uuid) } }
        @if let Some(why) = &view.unasked { div.note.bad { (icon("alert")) p { "Its host could not be asked: " (text(why)) } } }
        (standing(view, identity, &place))
        @if let Some(remediation) = &view.remediation { (remedy(remediation, identity, &place)) }
        div.columns {
            section.panel { h2 { "What is required of it" } (requirements(view)) }
            section.panel { h2 { "What has happened" } (timeline(view)) }
        }
        div.columns {
            section {
                h2 { "Findings" }
                @if view.findings.is_empty() { p.hint { "None is open." } }
                @else { ul.cards { @for one in &view.findings { (lists::card(one)) } } }
            }
            section { h2 { "Network" } (network(view)) }
        }
        div.columns {
            section.panel { h2 { "What it boots from" } (media(view)) }
            section.panel {
                h2 { "Machine" }
                @if view.posture.is_empty() { p.hint { "Nobody says." } }
                @else { dl { @for pair in &view.posture { dt { (text(&pair.name)) } dd { (text(&pair.value)) } } } }
            }
        }
    }
}

/// Whether it may speak, why, and what can be done about it.
fn standing(view: &VmDetail, identity: &Identity, place: &Place<'_>) -> Markup {
    let status = view.row.status.as_str();
    let (tone, name, headline) = match (view.quarantine.as_deref(), status) {
        (Some("sandbox"), _) => ("cut", "lock", "It speaks with the sandbox only"),
        (Some(_), _) => ("cut", "lock", "It is cut off: it neither sends nor receives"),
        (None, "quarantined") => ("cut", "lock", "It is cut off"),
        (None, "denied") => ("bad", "no", "The policy denies it"),
        (None, "pending") => ("attention", "wait", "There is no verdict yet"),
        (None, "approved") => ("good", "shield", "It is approved"),
        _ => ("plain", "off", "It does not run"),
    };
    html! {
        section.verdict.(tone) {
            (icon(name))
            div {
                h2 { (headline) } " " (state(status))
                @if !view.summary.is_empty() { p { (text(&view.summary)) } }
            }
            div.deeds {
                @if view.quarantine.is_some() {
                    (form::release(identity, place))
                    @if view.remediation.as_ref().is_none_or(|one| one.is_over) { (form::remediate(identity, place)) }
                } @else if status != "off" {
                    (form::quarantine(identity, place))
                }
                (form::only_looks(identity))
            }
        }
    }
}

/// What is not met comes first.
fn in_order(all: &[RequirementRow]) -> Vec<&RequirementRow> {
    let mut all: Vec<_> = all.iter().collect();
    all.sort_by_key(|one| match one.outcome.as_str() {
        "failed" => 0,
        "met" => 2,
        _ => 1,
    });
    all
}

fn requirements(view: &VmDetail) -> Markup {
    html! {
        @if view.requirements.is_empty() {
            (empty("wait", "No verdict yet", &html! { "The policy judges a VM when it runs." }))
        } @else {
            ul.checks {
                @for one in in_order(&view.requirements) {
                    li {
                        (state(&one.outcome))
                        div {
                            p { strong { (text(if one.sentence.is_empty() { &one.id } else { &one.sentence })) } }
                            p { (text(&one.finding)) }
                            @if !one.remedy.is_empty() { p.hint { "What would meet it: " (text(&one.remedy)) } }
                        }
                    }
                }
            }
        }
        @for one in view.remedies.iter().filter(|one| one.command.is_some()) {
            p.hint { (text(&one.what)) @if let Some(command) = &one.command { br; "On the host: " code { (text(command)) } } }
        }
    }
}

fn timeline(view: &VmDetail) -> Markup {
    html! {
        @if view.timeline.is_empty() { p.hint { "Nothing, as far as is known here." } }
        @else {
            ol.timeline {
                @for event in &view.timeline {
                    li {
                        p.hint { (when(event.at)) " · " (text(&event.event)) @if let Some(one) = event.severity { " " (severity(one)) } }
                        p { (text(&event.what)) }
                    }
                }
            }
        }
    }
}

fn network(view: &VmDetail) -> Markup {
    html! {
        @if view.row.nics.is_empty() { p.hint { "It has no NIC." } }
        @else {
            div.scroll { table.stack {
                thead { tr { th scope="col" { "MAC" } th scope="col" { "Port" } th scope="col" { "Addresses" } } }
                tbody {
                    @for nic in &view.row.nics {
                        tr {
                            td { code.whole { (text(&nic.mac)) } }
                            td data-label="Port" { @if nic.port.is_none() { span.hint { "none" } } @if let Some(port) = &nic.port { (text(port)) " " } @if let Some(word) = &nic.status { (state(word)) } }
                            td data-label="Addresses" { @if nic.addresses.is_empty() { span.hint { "none known" } } @for address in &nic.addresses { div { (text(address)) } } }
                        }
                    }
                }
            } }
        }
    }
}

fn media(view: &VmDetail) -> Markup {
    html! {
        @if let Some(template) = &view.row.template { p { "Template " strong { (text(template)) } } }
        @if view.media.is_empty() { p.hint { "Nothing is known of it." } }
        @for one in &view.media {
            div.finding {
                p { (state(&one.evidence)) " " strong { (text(&one.role)) } " " (text(&one.source)) }
                @if let Some(why) = &one.why { p.hint { (text(why)) } }
                @if let Some(sha256) = &one.sha256 { p { code.digest { (text(sha256)) } } }
                @if one.layers.len() > 1 { p.hint { "Layers: " @for (number, layer) in one.layers.iter().enumerate() { @if number > 0 { " → " } (text(layer)) } } }
            }
        }
    }
}

fn remedy(one: &RemediationRow, identity: &Identity, place: &Place<'_>) -> Markup {
    html! {
        section.panel {
            div.title { h2 { "Remediation: " (text(&one.outcome)) } (state(&one.stage)) }
            @if let Some(waits) = &one.waits { p { "It waits for: " (text(waits)) } }
            ol.checks { @for step in &one.steps {
                li { (state(&step.state)) div { p { strong { (text(&step.step)) } " " (text(&step.effect)) } @if !step.note.is_empty() { p.hint { (text(&step.note)) } } } }
            } }
            @if !one.is_over {
                p.hint { (one.approvals) " of " (one.needed) " approvals" }
                div.deeds {
                    @if !one.digests.is_empty() && one.approvals < usize::from(one.needed) { (form::approve(identity, place, &one.digests)) }
                    (form::abort(identity, place))
                }
            }
        }
    }
}
