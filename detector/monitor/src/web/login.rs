//! Logging in and out.

use std::{net::SocketAddr, time::Instant};

use axum::{
    Extension, Form,
    extract::{ConnectInfo, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    App,
    gate::{self, COOKIE, LOGIN_COOKIE, set_cookie},
    page,
    session::{Identity, lock, random, same},
};

#[derive(Deserialize)]
pub(super) struct Entry {
    csrf: String,
    name: String,
    password: String,
}

#[derive(Deserialize)]
pub(super) struct Leave {
    csrf: String,
}

type Peer = Option<Extension<ConnectInfo<SocketAddr>>>;

pub(super) async fn show(State(app): State<App>, peer: Peer, headers: HeaderMap) -> Response {
    let peer = peer.map(|peer| peer.0.0);
    if gate::identify(&app, peer, &headers).is_some() {
        return Redirect::to("/").into_response();
    }
    form(StatusCode::OK, "", None)
}

/// The form, with a token that is in a cookie as well: no other site knows it, nor can set that cookie.
fn form(status: StatusCode, name: &str, why: Option<&str>) -> Response {
    let Ok(token) = random() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    let mut response = (status, page::login(&token, name, why)).into_response();
    response.headers_mut().append(header::SET_COOKIE, set_cookie(LOGIN_COOKIE, &token));
    response
}

pub(super) async fn enter(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    Form(entry): Form<Entry>,
) -> Response {
    let known = gate::cookie(&headers, LOGIN_COOKIE).is_some_and(|token| same(token, &entry.csrf));
    if !known || !gate::is_from_here(&headers) {
        return form(StatusCode::FORBIDDEN, "", Some("The form was too old. Please try again."));
    }
    let peer = peer.map(|peer| peer.0.0.ip().to_canonical());
    // Everybody comes from the address of a proxy.
    let proxies = app.proxy.iter().flat_map(|proxy| &proxy.peers);
    let place = peer.filter(|peer| !proxies.into_iter().any(|proxy| proxy == peer));
    let now = Instant::now();
    if let Some(wait) = lock(&app.throttle).begin(place, &entry.name, now) {
        let why = format!("Too many tries. Please wait for {} seconds.", wait.as_secs() + 1);
        let mut response = form(StatusCode::TOO_MANY_REQUESTS, "", Some(&why));
        response.headers_mut().insert(header::RETRY_AFTER, (wait.as_secs() + 1).into());
        return response;
    }
    let Ok(_place) = app.verifying.acquire().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let (own, name, password) = (app.clone(), entry.name.clone(), entry.password);
    let verified = tokio::task::spawn_blocking(move || own.roster.now().verify(&name, &password));
    if verified.await.ok().flatten().is_none() {
        tracing::warn!(user = ?entry.name, place = ?place, "a login was refused");
        let why = "Name or password is wrong.";
        return form(StatusCode::UNAUTHORIZED, &entry.name, Some(why));
    }
    lock(&app.throttle).succeed(place, &entry.name);
    let Ok(token) = lock(&app.sessions).begin(&entry.name, now) else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    tracing::info!(user = entry.name, "logged in");
    let mut response = Redirect::to("/").into_response();
    let headers = response.headers_mut();
    headers.append(header::SET_COOKIE, set_cookie(COOKIE, &token));
    headers.append(header::SET_COOKIE, set_cookie(LOGIN_COOKIE, ""));
    response
}

pub(super) async fn leave(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    headers: HeaderMap,
    Form(sent): Form<Leave>,
) -> Response {
    if !identity.has_sent(&sent.csrf) {
        return page::refused(&app, &identity, "The form was too old. Please try again.");
    }
    if let Some(token) = gate::cookie(&headers, COOKIE) {
        lock(&app.sessions).end(token);
    }
    let mut response = Redirect::to("/login").into_response();
    response.headers_mut().append(header::SET_COOKIE, set_cookie(COOKIE, ""));
    response
}
