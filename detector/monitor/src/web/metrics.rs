//! What Prometheus asks for, on an address of its own: it has no session.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use detector_core::fleet::message::Time;

use crate::{desk::Desk, metrics};

pub(super) fn router(desk: Arc<Desk>) -> Router {
    Router::new().route("/metrics", get(all)).with_state(desk)
}

async fn all(State(desk): State<Arc<Desk>>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    match metrics::text(&desk, Time::now()) {
        Ok(text) => (kind, text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
