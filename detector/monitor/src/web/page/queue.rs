use maud::{Markup, html};

use super::{
    form::{Place, only_looks, quarantine, release},
    lists::evidence,
    part::{empty, icon, severity, state, text, vm_path, when},
};
use crate::{
    view::{Queue, QueueItem},
    web::session::Identity,
};

/// What is shown at a time: the VMs' own page searches all of them.
const MOST: usize = 200;

pub(super) fn show(queue: &Queue, identity: &Identity) -> Markup {
    html! {
        div.title { h1 { "Quarantine" } p.hint { "What is cut off, or waits for a verdict" } }
        @for (host, why) in &queue.unasked {
            div.note.bad { (icon("alert")) p { (text(host)) " could not be asked: " (text(why)) } }
        }
        @if queue.items.is_empty() && queue.unasked.is_empty() {
            (empty("shield", "Nobody is cut off", &html! { "A VM that fails the policy appears here, with what speaks against it and what can be done." }))
        }
        @else { (only_looks(identity)) }
        ul.cards.large { @for item in queue.items.iter().take(MOST) { (card(item, identity)) } }
        @if queue.items.len() > MOST {
            p.hint { (queue.items.len() - MOST) " more: " a href="/vms?status=quarantined" { "all VMs in quarantine" } ", " a href="/vms?status=denied" { "all that are denied" } }
        }
    }
}

fn card(item: &QueueItem, identity: &Identity) -> Markup {
    let place = Place { host: &item.host, target: &item.target, back: "/quarantine" };
    let tone = match item.status.as_str() {
        "denied" => "bad",
        "quarantined" => "cut",
        _ => "attention",
    };
    html! {
        li.card.(tone) id=(format!("item-{}-{}", item.host, item.target)) {
            div.title {
                h2 {
                    @match item.vm {
                        Some(vm) => a href=(vm_path(&item.host, vm)) { (text(&item.name)) },
                        None => (text(&item.name)),
                    }
                }
                (state(&item.status))
                @if let Some(mode) = &item.mode { span.hint { (if mode == "sandbox" { "speaks with the sandbox only" } else { "neither sends nor receives" }) } }
            }
            p.hint {
                (text(&item.host))
                @if let Some(since) = item.since { " · " (when(since)) }
                @match item.cause.as_deref() {
                    Some("operator") => " · by a person",
                    Some(_) => " · by the policy",
                    None => "",
                }
            }
            @if !item.note.is_empty() { p { (text(&item.note)) } }
            @for one in &item.evidence {
                div.finding { p { (severity(one.severity)) " " (text(&one.title)) } (evidence(one)) }
            }
            div.deeds {
                @if item.cause.is_some() { (release(identity, &place)) }
                @else if item.status == "denied" { (quarantine(identity, &place)) }
                @if let Some(vm) = item.vm { a.button href=(vm_path(&item.host, vm)) { "Look closer" } }
            }
        }
    }
}
