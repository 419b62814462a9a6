use maud::{Markup, html};

use super::part::{empty, host_path, icon, segment, state, text, when};
use crate::view::{HostRow, PolicyView, TemplateRow};

/// VMs of a template that are named.
const NAMED: usize = 5;

/// The two pages about one host's rules.
fn tabs(host: &str, current: &str) -> Markup {
    let path = host_path(host);
    html! {
        nav.tabs aria-label="Rules" {
            @for (name, title) in [("policy", "Policy"), ("templates", "Templates")] {
                a href=(format!("{path}/{name}")) aria-current=[(name == current).then_some("page")] { (title) }
            }
        }
    }
}

pub(super) fn choose(hosts: &[HostRow]) -> Markup {
    html! {
        div.title { h1 { "Rules" } p.hint { "Policy and templates of a host" } }
        @if hosts.is_empty() { (empty("host", "No host has been heard of", &html! { "Its rules are shown here." })) }
        @else { div.scroll { table.stack {
            thead { tr { th scope="col" { "Host" } th scope="col" { "Goes by" } th scope="col" { "Rules" } } }
            tbody { @for host in hosts { tr {
                td { strong { (text(&host.name)) } }
                td data-label="Goes by" { @match host.bundle { Some(number) => { "bundle " (number) } None => "its own files" } }
                td data-label="Rules" { a href=(format!("{}/policy", host_path(&host.name))) { "Policy" } " · " a href=(format!("{}/templates", host_path(&host.name))) { "Templates" } }
            } } }
        } } }
    }
}

pub(super) fn policy(host: &str, view: &PolicyView) -> Markup {
    html! {
        div.title { h1 { "Policy" } p.hint { "of " (text(host)) ", from " @match &view.origin { Some(origin) => code { (text(origin)) }, None => "the program itself" } } }
        (tabs(host, "policy"))
        @for why in &view.refused { div.note.bad { (icon("alert")) p { "The file is not what is in force: " (text(why)) } } }
        div.scroll { table.stack {
            thead { tr { th scope="col" { "Rule" } th scope="col" { "What it asks" } th scope="col" { "About" } } }
            tbody { @for rule in &view.rules { tr {
                td { code { (text(&rule.id)) } }
                td data-label="Asks" { (text(&rule.sentence)) @if !rule.remedy.is_empty() { div.hint { (text(&rule.remedy)) } } }
                td data-label="About" { (text(&rule.effect)) " " (text(&rule.action)) }
            } } }
        } }
        details id="cedar" { summary { "As Cedar" } pre { code { (view.text) } } }
    }
}

pub(super) fn templates(host: &str, all: &[TemplateRow]) -> Markup {
    html! {
        div.title { h1 { "Templates" } p.hint { "of " (text(host)) } }
        (tabs(host, "templates"))
        @if all.is_empty() {
            (empty("vm", "No template is approved", &html! { "Approve an image with " code { "detector template add" } ": without one no VM is let in." }))
        } @else {
            div.scroll { table.stack {
                thead { tr { th scope="col" { "Template" } th scope="col" { "Status" } th scope="col" { "Images" } th scope="col" { "VMs" } th scope="col" { "Signed by" } } }
                tbody { @for one in all { tr {
                    td { strong { (text(&one.name)) } @if let Some(os) = &one.os { div.hint { (text(os)) } } }
                    td data-label="Status" { (state(&one.status)) @if let Some(reason) = &one.reason { div.hint { (text(reason)) } } @if let Some(expires) = one.expires { div.hint { "expires " (when(expires)) } } }
                    td data-label="Images" { @for digest in &one.images { div { code.digest.whole title=(digest) { (digest.chars().take(12).collect::<String>()) "…" } } } }
                    td data-label="VMs" {
                        @if one.vms.is_empty() { span.hint { "none" } }
                        @for vm in one.vms.iter().take(NAMED) { span.few { (text(vm)) } }
                        @if one.vms.len() > NAMED { a href=(format!("/vms?q={}&host={}", segment(&one.name), segment(host))) { "and " (one.vms.len() - NAMED) " more" } }
                    }
                    td data-label="Signed by" { @match &one.signed_by { Some(key) => code { (text(key)) }, None => span.hint { "nobody" } } }
                } } }
            } }
        }
    }
}
