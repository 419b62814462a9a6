//! Tells a page that there is something else to see.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::StatusCode,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures::stream;
use tokio::time::{Instant, sleep, timeout_at};

use super::App;

/// A page is told this often at the most.
const PACE: Duration = Duration::from_millis(500);
/// After so long a browser asks anew, and is let in or not.
const LONGEST: Duration = Duration::from_secs(5 * 60);

pub(super) async fn follow(State(app): State<App>) -> Response {
    let Ok(place) = Arc::clone(&app.live).try_acquire_owned() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let end = Instant::now() + LONGEST;
    let changes = app.desk.changes();
    let events = stream::unfold((changes, place), move |(mut changes, place)| async move {
        sleep(PACE).await;
        timeout_at(end, changes.changed()).await.ok()?.ok()?;
        let number = *changes.borrow_and_update();
        let event = Event::default().event("changed").data(number.to_string());
        Some((Ok::<_, Infallible>(event), (changes, place)))
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}
