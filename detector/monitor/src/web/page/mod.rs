//! Pages, rendered here: they say all they have to say without a script.

mod form;
mod host;
mod layout;
mod lists;
mod overview;
mod part;
mod picture;
mod queue;
mod roll_out;
mod rules;
mod vm;

use axum::{
    Extension,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};
use maud::{Markup, html};
use uuid::Uuid;

use super::{App, api, session::Identity};
use crate::view::{self, Missing, VmFilter};

use layout::{Page, alone};

pub(super) use layout::login;

type Known = Extension<Identity>;

/// Whoever looks, and what every page shows.
struct Viewer<'a> {
    app: &'a App,
    identity: &'a Identity,
}

impl Viewer<'_> {
    fn page(&self, current: &str, title: &str, body: &Markup) -> Response {
        self.page_with(StatusCode::OK, current, title, body)
    }

    fn page_with(&self, status: StatusCode, current: &str, title: &str, body: &Markup) -> Response {
        let note = super::session::lock(&self.app.sessions).note(self.identity);
        let waiting = {
            let estate = self.app.desk.estate();
            estate
                .vms()
                .filter(|(_, vm)| matches!(vm.status.as_str(), "denied" | "quarantined"))
                .count()
        };
        let page = Page {
            title,
            current,
            place: self.app.desk.fleet(),
            lost: self.app.desk.estate().lost.clone(),
            waiting,
            identity: self.identity,
            note,
        };
        (status, Html(layout::whole(&page, body).into_string())).into_response()
    }

    fn missing(&self, missing: &Missing) -> Response {
        let status = api::status(missing);
        let body = html! {
            section.empty {
                h1 { (if status == StatusCode::NOT_FOUND { "Not here" } else { "No answer" }) }
                p { (part::text(&missing.to_string())) }
                p { a.button href="/" { "Back to the overview" } }
            }
        };
        self.page_with(status, "", "Not here", &body)
    }
}

pub(super) async fn overview(State(app): State<App>, Extension(identity): Known) -> Response {
    let view = view::overview(&app.desk);
    let hosts = view::hosts(&app.desk);
    // Of one host the whole picture is on the first page.
    let picture = match &hosts[..] {
        [only] => view::host(&app.desk, &only.name, &identity.user).await.ok(),
        _ => None,
    };
    let roll_out = view::roll_out(&app.desk).ok().filter(view::RollOutView::is_news);
    let body = overview::show(&view, &hosts, (picture.as_ref(), roll_out.as_ref()));
    Viewer { app: &app, identity: &identity }.page("overview", "Overview", &body)
}

pub(super) async fn queue(State(app): State<App>, Extension(identity): Known) -> Response {
    let queue = view::queue(&app.desk, &identity.user).await;
    Viewer { app: &app, identity: &identity }.page(
        "quarantine",
        "Quarantine",
        &queue::show(&queue, &identity),
    )
}

pub(super) async fn vms(
    State(app): State<App>,
    Extension(identity): Known,
    Query(filter): Query<VmFilter>,
) -> Response {
    let page = view::vms(&app.desk, &filter);
    Viewer { app: &app, identity: &identity }.page("vms", "VMs", &lists::vms(&page, &filter))
}

pub(super) async fn hosts(State(app): State<App>, Extension(identity): Known) -> Response {
    let hosts = view::hosts(&app.desk);
    let roll_out = view::roll_out(&app.desk).ok();
    let body = lists::hosts(&hosts, roll_out.as_ref());
    Viewer { app: &app, identity: &identity }.page("hosts", "Hosts", &body)
}

pub(super) async fn findings(State(app): State<App>, Extension(identity): Known) -> Response {
    let all = view::findings(&app.desk);
    let body = lists::findings(&all, &identity);
    Viewer { app: &app, identity: &identity }.page("findings", "Findings", &body)
}

pub(super) async fn rules(State(app): State<App>, Extension(identity): Known) -> Response {
    let hosts = view::hosts(&app.desk);
    if let [only] = &hosts[..] {
        let to = format!("/hosts/{}/policy", part::segment(&only.name));
        return axum::response::Redirect::to(&to).into_response();
    }
    Viewer { app: &app, identity: &identity }.page("rules", "Rules", &rules::choose(&hosts))
}

pub(super) async fn host(
    State(app): State<App>,
    Extension(identity): Known,
    Path(name): Path<String>,
) -> Response {
    let viewer = Viewer { app: &app, identity: &identity };
    match view::host(&app.desk, &name, &identity.user).await {
        Ok(view) => viewer.page("hosts", &name, &host::show(&view)),
        Err(missing) => viewer.missing(&missing),
    }
}

pub(super) async fn vm(
    State(app): State<App>,
    Extension(identity): Known,
    Path((host, uuid)): Path<(String, Uuid)>,
) -> Response {
    let viewer = Viewer { app: &app, identity: &identity };
    match view::vm(&app.desk, &host, uuid, &identity.user).await {
        Ok(view) => viewer.page("vms", &view.row.name, &vm::show(&view, &identity)),
        Err(missing) => viewer.missing(&missing),
    }
}

pub(super) async fn templates(
    State(app): State<App>,
    Extension(identity): Known,
    Path(host): Path<String>,
) -> Response {
    let viewer = Viewer { app: &app, identity: &identity };
    match view::templates(&app.desk, &host, &identity.user).await {
        Ok(all) => viewer.page("rules", "Templates", &rules::templates(&host, &all)),
        Err(missing) => viewer.missing(&missing),
    }
}

pub(super) async fn policy(
    State(app): State<App>,
    Extension(identity): Known,
    Path(host): Path<String>,
) -> Response {
    let viewer = Viewer { app: &app, identity: &identity };
    match view::policy(&app.desk, &host, &identity.user).await {
        Ok(policy) => viewer.page("rules", "Policy", &rules::policy(&host, &policy)),
        Err(missing) => viewer.missing(&missing),
    }
}

/// Nothing was done, and why.
pub(super) fn refused(app: &App, identity: &Identity, why: &str) -> Response {
    let body = html! {
        section.empty {
            h1 { "Nothing was done" }
            p { (why) }
            p { a.button href="/" { "Back to the overview" } }
        }
    };
    Viewer { app, identity }.page_with(StatusCode::FORBIDDEN, "", "Nothing was done", &body)
}

pub(super) async fn not_found() -> Response {
    let body = html! { h1 { "Not here" } p { "There is no such page." } p { a.button href="/" { "To the overview" } } };
    (StatusCode::NOT_FOUND, Html(alone("Not here", &body).into_string())).into_response()
}
