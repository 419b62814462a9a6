use maud::{Markup, html};

use super::{
    part::{bar, host_path, icon, segment, state, text, when},
    picture,
};
use crate::view::HostView;

/// Ports of a bridge that are shown.
const MOST: usize = 60;

pub(super) fn show(view: &HostView) -> Markup {
    let host = &view.row;
    let path = host_path(&host.name);
    html! {
        div.title {
            h1 { (icon("host")) (text(&host.name)) }
            (state(&host.condition))
            @if let Some(mode) = &host.mode { (state(mode)) }
        }
        @for trouble in &host.troubles { div.note.bad { (icon("alert")) p { (text(trouble)) } } }
        div.columns {
            section.panel {
                h2 { "VMs" }
                (bar(&host.vms))
                p { a.button href=(format!("/vms?host={}", segment(&host.name))) { "All VMs of this host" } }
            }
            section.panel {
                h2 { "This host" }
                dl {
                    @if let Some(release) = &host.release { dt { "Release" } dd { (text(release)) } }
                    @if let Some(started) = host.started { dt { "Daemon started" } dd { (when(started)) } }
                    @if let Some(heard) = host.heard { dt { "Heard of" } dd { (when(heard)) } }
                    dt { "Goes by" } dd { @match host.bundle { Some(number) => { "bundle " (number) } None => "its own files" } }
                }
                p { a.button href=(format!("{path}/policy")) { "Policy" } " " a.button href=(format!("{path}/templates")) { "Templates" } }
            }
        }
        section { h2 { "What is plugged in" } (picture::show(view, MOST)) }
    }
}
