use axum::response::Html;
use maud::{DOCTYPE, Markup, html};

use super::part::{icon, sprite, text};
use crate::web::session::{Identity, Note};

/// What surrounds a page's own part.
pub(super) struct Page<'a> {
    pub(super) title: &'a str,
    /// Which part of the navigation it is.
    pub(super) current: &'a str,
    pub(super) place: Option<&'a str>,
    pub(super) lost: Option<String>,
    /// VMs that are cut off.
    pub(super) waiting: usize,
    pub(super) identity: &'a Identity,
    pub(super) note: Option<Note>,
}

const PARTS: [(&str, &str, &str); 6] = [
    ("overview", "/", "Overview"),
    ("quarantine", "/quarantine", "Quarantine"),
    ("vms", "/vms", "VMs"),
    ("hosts", "/hosts", "Hosts"),
    ("findings", "/findings", "Findings"),
    ("rules", "/rules", "Rules"),
];

fn head(title: &str, waiting: usize) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { @if waiting > 0 { "(" (waiting) ") " } (detector_core::escape::escape(title)) " · detector" }
            link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
            link rel="stylesheet" href="/assets/style.css";
            script src="/assets/live.js" defer {}
        }
    }
}

pub(super) fn whole(page: &Page<'_>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(page.title, page.waiting))
            body {
                (sprite())
                a.skip href="#content" { "To the content" }
                header.top {
                    a.brand href="/" { (icon("shield")) span { "detector" } @if let Some(place) = page.place { span.place { (place) } } }
                    nav aria-label="Main" {
                        @for (part, path, name) in PARTS {
                            a href=(path) aria-current=[(part == page.current).then_some("page")] {
                                (name)
                                @if part == "quarantine" && page.waiting > 0 {
                                    span.count #waiting { (page.waiting) span.unseen { " cut off" } }
                                }
                            }
                        }
                    }
                    (person(page.identity))
                }
                main #content tabindex="-1" {
                    @if let Some(note) = &page.note {
                        div.note.good[note.good].bad[!note.good] role="status" {
                            (icon(if note.good { "ok" } else { "alert" }))
                            div { @for line in note.text.lines() { p { (text(line)) } } }
                        }
                    }
                    div #live {
                        @if let Some(lost) = &page.lost {
                            div.note.bad role="alert" {
                                (icon("alert"))
                                div {
                                    p { strong { "This may be out of date. " } "What is in force on hosts does not depend on it." }
                                    p { (text(lost)) }
                                }
                            }
                        }
                        (body)
                    }
                }
                footer.bottom {
                    span #freshness data-live="/live" { "As of when it was loaded" }
                    a href="/api/v1/openapi.json" { "JSON interface" }
                }
            }
        }
    }
}

fn person(identity: &Identity) -> Markup {
    html! {
        div.person {
            span { (text(&identity.user)) " " small { (identity.role.as_str()) } }
            @if !identity.by_proxy {
                form method="post" action="/logout" {
                    input type="hidden" name="csrf" value=(identity.csrf);
                    button.quiet type="submit" { "Log out" }
                }
            }
        }
    }
}

/// A page for whoever is not let in.
pub(super) fn alone(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(title, 0))
            body.alone { (sprite()) main { (body) } }
        }
    }
}

pub(in crate::web) fn login(token: &str, name: &str, why: Option<&str>) -> Html<String> {
    let body = html! {
        form.login method="post" action="/login" {
            h1 { (icon("shield")) "detector" }
            @if let Some(why) = why { p.note.bad role="alert" { (icon("alert")) span { (why) } } }
            input type="hidden" name="csrf" value=(token);
            label { "Name" input name="name" value=(name) autocomplete="username" required autofocus[name.is_empty()]; }
            label { "Password" input name="password" type="password" autocomplete="current-password" required autofocus[!name.is_empty()]; }
            button.main type="submit" { "Log in" }
            p.hint { "Accounts are made by " code { "detector-monitor account add" } "." }
        }
    };
    Html(alone("Log in", &body).into_string())
}
