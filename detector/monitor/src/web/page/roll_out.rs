use maud::{Markup, html};

use super::part::{host_path, icon, state, text, when};
use crate::view::RollOutView;

/// Hosts that are named.
const NAMED: usize = 8;

/// Where a bundle stands that comes in waves.
pub(super) fn show(view: &RollOutView) -> Markup {
    let tone = match view.stage.as_str() {
        _ if view.superseded_by.is_some() => "",
        "halted" => "bad",
        "done" => "good",
        _ => "attention",
    };
    let is_stopped = view.stage == "halted";
    html! {
        section {
            h2 { "Roll-out of bundle " (view.version) }
            div.card.(tone) {
                div.title {
                    (state(&view.stage))
                    strong { (stage(view)) }
                    span.hint { (when(view.since)) }
                }
                @if let Some(later) = view.superseded_by { p { "Bundle " (later) " was offered since: hosts are to go by that." } }
                @if let Some(why) = &view.why { div.note.bad { (icon("alert")) p { (text(why)) } } }
                p.hint {
                    "Begun by " (text(&view.by)) ", " (when(view.begun)) ", after "
                    @match view.before { Some(before) => { "bundle " (before) } None => "none" }
                }
                dl {
                    @if is_stopped {
                        dt { "Have not gone back" } dd { (hosts(view.hosts)) }
                    } @else {
                        dt { "Go by it" } dd { (view.going_by_it) " of " (hosts(view.hosts)) }
                    }
                    dt { "VMs cut off" } dd { (view.cut_off) " of " (view.most) " that may" }
                    @if !view.waiting.is_empty() {
                        dt { @if is_stopped { "Still go by it" } @else { "Waiting for" } }
                        dd {
                            @for host in view.waiting.iter().take(NAMED) { span.few { a href=(host_path(host)) { (text(host)) } } }
                            @if view.waiting.len() > NAMED { span.few { "and " (view.waiting.len() - NAMED) " more" } }
                        }
                    }
                    @for refusal in view.refused.iter().take(NAMED) {
                        dt { @if is_stopped { "Does not give it back" } @else { "Does not take it" } }
                        dd { a href=(host_path(&refusal.host)) { (text(&refusal.host)) } ": " (text(&refusal.why)) }
                    }
                }
            }
        }
    }
}

fn stage(view: &RollOutView) -> String {
    let (wave, waves) = (view.wave, view.waves);
    match view.stage.as_str() {
        "spreading" => format!("Wave {wave} of {waves}, until its hosts go by it"),
        "soaking" => format!("Wave {wave} of {waves}, without harm"),
        "halted" => format!("Stopped in wave {wave} of {waves}"),
        _ => "Every host is to go by it".to_owned(),
    }
}

fn hosts(number: u64) -> String {
    if number == 1 { "1 host".to_owned() } else { format!("{number} hosts") }
}
