//! The JSON interface: what is shown, for programs. Fields are added, never renamed or removed.

use axum::{
    Extension, Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};
use uuid::Uuid;

use super::{App, act, session::Identity};
use crate::{
    source::AskError,
    view::{
        self, FindingRow, HostRow, HostView, Missing, Overview, PolicyView, Queue, RollOutView,
        TemplateRow, VmDetail, VmFilter, VmPage,
    },
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "detector-monitor",
        description = "What the detector knows of one host or a fleet. Log in by the form at /login and send the cookie, \
            or come by a reverse proxy that says who you are. Texts may have been chosen by guests: escape them."
    ),
    paths(
        session,
        overview,
        hosts,
        host,
        vms,
        vm,
        queue,
        findings,
        roll_out,
        templates,
        policy,
        act::by_json,
        description
    )
)]
pub(super) struct Description;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/session", get(session))
        .route("/overview", get(overview))
        .route("/hosts", get(hosts))
        .route("/hosts/{host}", get(host))
        .route("/hosts/{host}/vms/{uuid}", get(vm))
        .route("/hosts/{host}/templates", get(templates))
        .route("/hosts/{host}/policy", get(policy))
        .route("/hosts/{host}/actions", post(act::by_json))
        .route("/vms", get(vms))
        .route("/quarantine", get(queue))
        .route("/findings", get(findings))
        .route("/roll-out", get(roll_out))
        .route("/openapi.json", get(description))
}

/// Why there is nothing to show.
#[derive(Serialize, ToSchema)]
struct Fault {
    error: String,
}

fn answer<T: Serialize>(result: Result<T, Missing>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(missing) => {
            let status = status(&missing);
            (status, Json(Fault { error: missing.to_string() })).into_response()
        }
    }
}

/// As HTTP says it.
pub(super) fn status(missing: &Missing) -> StatusCode {
    match missing {
        Missing::NotFound(_) | Missing::Unasked(AskError::NoHost(_)) => StatusCode::NOT_FOUND,
        Missing::Unasked(_) | Missing::Other => StatusCode::BAD_GATEWAY,
    }
}

/// Whoever asks.
#[derive(Serialize, ToSchema)]
struct Session {
    user: String,
    role: String,
    /// What actions have to send as the header `x-csrf-token`.
    csrf: String,
}

/// Who is logged in.
#[utoipa::path(get, path = "/api/v1/session", tag = "looking", responses((status = 200, body = Session), (status = 401)))]
async fn session(Extension(identity): Extension<Identity>) -> impl IntoResponse {
    let Identity { user, role, csrf, .. } = identity;
    Json(Session { user, role: role.as_str().to_owned(), csrf })
}

/// Everything at a glance.
#[utoipa::path(get, path = "/api/v1/overview", tag = "looking", responses((status = 200, body = Overview)))]
async fn overview(State(app): State<App>) -> impl IntoResponse {
    Json(view::overview(&app.desk))
}

/// The hosts, and how they are.
#[utoipa::path(get, path = "/api/v1/hosts", tag = "looking", responses((status = 200, body = Vec<HostRow>)))]
async fn hosts(State(app): State<App>) -> impl IntoResponse {
    Json(view::hosts(&app.desk))
}

/// A host, its bridges, ports and VMs.
#[utoipa::path(get, path = "/api/v1/hosts/{host}", tag = "looking", params(("host" = String, Path)),
    responses((status = 200, body = HostView), (status = 404, body = Fault)))]
async fn host(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(host): Path<String>,
) -> Response {
    answer(view::host(&app.desk, &host, &identity.user).await)
}

/// VMs, a page at a time.
#[utoipa::path(get, path = "/api/v1/vms", tag = "looking", params(VmFilter), responses((status = 200, body = VmPage)))]
async fn vms(State(app): State<App>, Query(filter): Query<VmFilter>) -> impl IntoResponse {
    Json(view::vms(&app.desk, &filter))
}

/// Everything there is to say about a VM.
#[utoipa::path(get, path = "/api/v1/hosts/{host}/vms/{uuid}", tag = "looking",
    params(("host" = String, Path), ("uuid" = Uuid, Path)),
    responses((status = 200, body = VmDetail), (status = 404, body = Fault)))]
async fn vm(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path((host, uuid)): Path<(String, Uuid)>,
) -> Response {
    answer(view::vm(&app.desk, &host, uuid, &identity.user).await)
}

/// What is cut off, or waits for a person.
#[utoipa::path(get, path = "/api/v1/quarantine", tag = "looking", responses((status = 200, body = Queue)))]
async fn queue(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
) -> impl IntoResponse {
    Json(view::queue(&app.desk, &identity.user).await)
}

/// Open findings, the most severe first.
#[utoipa::path(get, path = "/api/v1/findings", tag = "looking", responses((status = 200, body = Vec<FindingRow>)))]
async fn findings(State(app): State<App>) -> impl IntoResponse {
    Json(view::findings(&app.desk))
}

/// Where the roll-out of a bundle stands that was begun last.
#[utoipa::path(get, path = "/api/v1/roll-out", tag = "looking",
    responses((status = 200, body = RollOutView), (status = 404, body = Fault)))]
async fn roll_out(State(app): State<App>) -> Response {
    answer(view::roll_out(&app.desk))
}

/// The templates of a host.
#[utoipa::path(get, path = "/api/v1/hosts/{host}/templates", tag = "looking", params(("host" = String, Path)),
    responses((status = 200, body = Vec<TemplateRow>), (status = 404, body = Fault), (status = 502, body = Fault)))]
async fn templates(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(host): Path<String>,
) -> Response {
    answer(view::templates(&app.desk, &host, &identity.user).await)
}

/// The policy of a host.
#[utoipa::path(get, path = "/api/v1/hosts/{host}/policy", tag = "looking", params(("host" = String, Path)),
    responses((status = 200, body = PolicyView), (status = 404, body = Fault), (status = 502, body = Fault)))]
async fn policy(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(host): Path<String>,
) -> Response {
    answer(view::policy(&app.desk, &host, &identity.user).await)
}

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "looking", responses((status = 200)))]
async fn description() -> impl IntoResponse {
    Json(Description::openapi())
}
