//! The page and the JSON interface, over HTTP.

mod act;
mod api;
mod assets;
mod gate;
mod live;
mod login;
mod metrics;
mod page;
mod roster;
mod server;
mod session;
#[cfg(test)]
mod tests;
mod throttle;

use std::sync::{Arc, Mutex};

use anyhow::Result;
use axum::{
    Router, middleware,
    routing::{get, post},
};
use tokio::{net::TcpListener, sync::Semaphore};
use utoipa::OpenApi;

use crate::{config::Config, desk::Desk};

/// The longest request in bytes.
const LONGEST_BODY: usize = 64 << 10;
/// Passwords that are looked at at a time: each takes 19 MiB and tens of milliseconds.
const VERIFYING: usize = 2;
/// Pages that are kept up to date at a time.
const LIVE: usize = 64;

/// What every request shares.
#[derive(Clone)]
struct App(Arc<Shared>);

struct Shared {
    desk: Arc<Desk>,
    roster: roster::Roster,
    sessions: Mutex<session::Sessions>,
    throttle: Mutex<throttle::Throttle>,
    proxy: Option<crate::config::Proxy>,
    secret: session::Secret,
    verifying: Semaphore,
    live: Arc<Semaphore>,
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// Serves until the process is told to end.
///
/// # Errors
///
/// There is no randomness, or nobody can be listened to any more.
pub async fn serve(listener: TcpListener, desk: Arc<Desk>, config: &Config) -> Result<()> {
    let address = listener.local_addr()?;
    let router = router(desk, config)?;
    tracing::info!(%address, "ready");
    server::serve(listener, router).await
}

/// Answers Prometheus until the process is told to end, where there is nothing else to be seen.
///
/// # Errors
///
/// Nobody can be listened to any more.
pub async fn serve_metrics(listener: TcpListener, desk: Arc<Desk>) -> Result<()> {
    server::serve(listener, metrics::router(desk)).await
}

/// The description of the JSON interface.
///
/// # Errors
///
/// It cannot be written as JSON.
pub fn openapi() -> Result<String> {
    Ok(api::Description::openapi().to_pretty_json()?)
}

fn router(desk: Arc<Desk>, config: &Config) -> Result<Router> {
    let app = App(Arc::new(Shared {
        desk,
        roster: roster::Roster::new(config.accounts.clone()),
        sessions: Mutex::default(),
        throttle: Mutex::default(),
        proxy: config.proxy.clone(),
        secret: session::Secret::new()?,
        verifying: Semaphore::new(VERIFYING),
        live: Arc::new(Semaphore::new(LIVE)),
    }));
    let known = Router::new()
        .route("/", get(page::overview))
        .route("/quarantine", get(page::queue))
        .route("/vms", get(page::vms))
        .route("/hosts", get(page::hosts))
        .route("/hosts/{host}", get(page::host))
        .route("/hosts/{host}/vms/{uuid}", get(page::vm))
        .route("/hosts/{host}/templates", get(page::templates))
        .route("/hosts/{host}/policy", get(page::policy))
        .route("/findings", get(page::findings))
        .route("/rules", get(page::rules))
        .route("/live", get(live::follow))
        .route("/act", post(act::from_page))
        .route("/logout", post(login::leave))
        .nest("/api/v1", api::router())
        .route_layer(middleware::from_fn_with_state(app.clone(), gate::let_in));
    let all = known
        .route("/login", get(login::show).post(login::enter))
        .route("/assets/style.css", get(assets::style))
        .route("/assets/live.js", get(assets::script))
        .route("/assets/icon.svg", get(assets::icon))
        // Where browsers look beside what is no page.
        .route("/favicon.ico", get(assets::icon))
        .fallback(page::not_found)
        .layer(axum::extract::DefaultBodyLimit::max(LONGEST_BODY))
        .layer(middleware::from_fn(gate::harden))
        .with_state(app);
    Ok(all)
}
