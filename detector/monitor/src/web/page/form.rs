//! Forms by which something is done. Each asks for a reason, and says beforehand what it does.

use detector_core::api::Role;
use maud::{Markup, html};
use uuid::Uuid;

use crate::web::session::Identity;

/// One thing that can be done.
pub(super) struct Deed<'a> {
    pub(super) action: &'a str,
    /// What is on the button.
    pub(super) title: &'a str,
    /// What it does.
    pub(super) effect: &'a str,
    pub(super) needed: Role,
    /// Further fields.
    pub(super) more: Markup,
}

/// Something that things can be done to.
pub(super) struct Place<'a> {
    pub(super) host: &'a str,
    pub(super) target: &'a str,
    /// The page to go back to.
    pub(super) back: &'a str,
}

/// Says why there are no buttons.
pub(super) fn only_looks(identity: &Identity) -> Markup {
    html! {
        @if identity.role == Role::View {
            p.hint { "You look: to act takes the role " (Role::Operate.as_str()) ", and yours is " (Role::View.as_str()) "." }
        }
    }
}

pub(super) fn deed(identity: &Identity, place: &Place<'_>, deed: &Deed<'_>) -> Markup {
    if identity.role < deed.needed {
        // Who may do nothing is told so once, by `only_looks`.
        return html! {
            @if identity.role > Role::View {
                span.hint { (deed.title) " takes the role " (deed.needed.as_str()) "." }
            }
        };
    }
    let name = format!("{}-{}-{}", deed.action, place.host, place.target);
    html! {
        details.deed name="deed" id=(name) {
            summary.button { (deed.title) }
            form method="post" action="/act" {
                input type="hidden" name="csrf" value=(identity.csrf);
                input type="hidden" name="id" value=(Uuid::new_v4());
                input type="hidden" name="host" value=(place.host);
                input type="hidden" name="target" value=(place.target);
                input type="hidden" name="action" value=(deed.action);
                input type="hidden" name="back" value=(place.back);
                p { (deed.effect) }
                (deed.more)
                label { "Reason, for the audit" input name="reason" required maxlength="300" autocomplete="off" placeholder="Ticket or a few words"; }
                button.main type="submit" { (deed.title) }
            }
        }
    }
}

pub(super) fn release(identity: &Identity, place: &Place<'_>) -> Markup {
    let effect = "The host lifts the quarantine if all requirements are met by now, or if a person had imposed it.";
    let more = Markup::default();
    deed(
        identity,
        place,
        &Deed { action: "release", title: "Release", effect, needed: Role::Operate, more },
    )
}

pub(super) fn quarantine(identity: &Identity, place: &Place<'_>) -> Markup {
    let drop = Deed {
        action: "quarantine",
        title: "Quarantine",
        effect: "It neither sends nor receives any more, until somebody releases it.",
        needed: Role::Operate,
        more: Markup::default(),
    };
    let sandbox = Deed {
        action: "sandbox",
        title: "Sandbox",
        effect: "It speaks with the sandbox only, until somebody releases it.",
        needed: Role::Operate,
        more: Markup::default(),
    };
    html! { (deed(identity, place, &drop)) (deed(identity, place, &sandbox)) }
}

pub(super) fn remediate(identity: &Identity, place: &Place<'_>) -> Markup {
    let more = html! {
        fieldset {
            legend { "How is it to come back?" }
            label.choice { input type="radio" name="outcome" value="patched" checked; "Patched: its image is changed and approved for it alone" }
            label.choice { input type="radio" name="outcome" value="template"; "As a template: its image becomes the template below" }
            label.choice { input type="radio" name="outcome" value="replaced"; "Replaced: a VM of the template below takes its place" }
        }
        label { "Template" input name="template" maxlength="100" placeholder="Only for the last two"; }
    };
    let effect = "The host begins a remediation. The VM stays cut off until it passes.";
    deed(
        identity,
        place,
        &Deed { action: "remediate", title: "Remediate", effect, needed: Role::Operate, more },
    )
}

pub(super) fn approve(identity: &Identity, place: &Place<'_>, digests: &[String]) -> Markup {
    let more = html! {
        input type="hidden" name="digests" value=(digests.join(","));
        ul.digests { @for digest in digests { li { code { (digest) } } } }
    };
    let effect = "You vouch for what the VM boots from, which has these digests:";
    deed(
        identity,
        place,
        &Deed { action: "approve", title: "Approve", effect, needed: Role::Administer, more },
    )
}

pub(super) fn abort(identity: &Identity, place: &Place<'_>) -> Markup {
    let effect = "The remediation ends; the VM stays in quarantine as before.";
    let more = Markup::default();
    deed(
        identity,
        place,
        &Deed { action: "abort", title: "Abort", effect, needed: Role::Operate, more },
    )
}

pub(super) fn acknowledge(identity: &Identity, place: &Place<'_>) -> Markup {
    let effect = "Others see that somebody sees to it. What is in force stays.";
    let more = Markup::default();
    deed(
        identity,
        place,
        &Deed { action: "acknowledge", title: "Acknowledge", effect, needed: Role::Operate, more },
    )
}
