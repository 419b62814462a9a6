//! Who is let in, and what every answer says to the browser.

use std::{net::SocketAddr, time::Instant};

use axum::{
    Json,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};

use super::{App, session::Identity};

/// The name of the cookie of a session; by the prefix a browser takes it only for this very host, and encrypted or from
/// this machine.
pub(super) const COOKIE: &str = "__Host-detector";
/// Of the form by which somebody logs in.
pub(super) const LOGIN_COOKIE: &str = "__Host-detector-login";

/// By which a page that renews itself says so.
const RENEWS: &str = "x-renews";

/// Nothing from elsewhere, nothing inline, in nobody's frame.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Lets on whoever is known, and nobody else.
pub(super) async fn let_in(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let Some(identity) = identify(&app, peer, request.headers()) else {
        let path = request.uri().path();
        if path.starts_with("/api/") || path == "/live" || request.method() != Method::GET {
            let error = serde_json::json!({ "error": "log in first" });
            return (StatusCode::UNAUTHORIZED, Json(error)).into_response();
        }
        return Redirect::to("/login").into_response();
    };
    if request.method() != Method::GET && !is_from_here(request.headers()) {
        let error = serde_json::json!({ "error": "this was sent by another site" });
        return (StatusCode::FORBIDDEN, Json(error)).into_response();
    }
    request.extensions_mut().insert(identity);
    next.run(request).await
}

/// Who it is: by a proxy's word, where it is one that is configured, or by a session.
pub(super) fn identify(
    app: &App,
    peer: Option<SocketAddr>,
    headers: &HeaderMap,
) -> Option<Identity> {
    let renews = headers.contains_key(RENEWS);
    if let (Some(proxy), Some(peer)) = (&app.proxy, peer)
        && proxy.peers.contains(&peer.ip().to_canonical())
    {
        let mut named = headers.get_all(proxy.header.as_str()).iter();
        // One that is there twice may be in part of somebody else.
        if let (Some(name), None) = (named.next(), named.next()) {
            let user = name.to_str().ok().filter(|name| is_name(name))?;
            let role = app.roster.role(user, proxy.role)?;
            let csrf = app.secret.csrf(user);
            return Some(Identity { user: user.to_owned(), role, csrf, by_proxy: true, renews });
        }
    }
    let token = cookie(headers, COOKIE)?;
    let found = super::session::lock(&app.sessions).of(token, Instant::now());
    let (user, csrf) = found?;
    let role = app.roster.role(&user, None)?;
    Some(Identity { user, role, csrf, by_proxy: false, renews })
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 128 && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether a form was sent by a page of ours, as far as the browser says.
pub(super) fn is_from_here(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(HeaderValue::to_str);
    match text("sec-fetch-site") {
        None | Some(Ok("same-origin" | "none")) => {}
        Some(_) => return false,
    }
    let Some(origin) = text("origin") else { return true };
    let (Ok(origin), Some(Ok(host))) = (origin, text("host")) else { return false };
    origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(host))
}

/// The value of a cookie that is there once.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs =
        texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value);
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// Sets a cookie, or takes it away where it has no value.
pub(super) fn set_cookie(name: &str, value: &str) -> HeaderValue {
    let ends = if value.is_empty() { "; Max-Age=0" } else { "" };
    let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Strict{ends}");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// What every answer says.
pub(super) async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn where_a_form_comes_from() {
        let host = ("host", "a.example:1");
        let cases: [(&[_], bool); 8] = [
            (&[host], true),
            (&[host, ("sec-fetch-site", "same-origin")], true),
            (&[host, ("sec-fetch-site", "same-site")], false),
            (&[host, ("sec-fetch-site", "cross-site")], false),
            (&[host, ("origin", "https://a.example:1")], true),
            (&[host, ("origin", "https://a.example")], false),
            (&[host, ("origin", "null")], false),
            (&[("origin", "https://a.example")], false),
        ];
        for (pairs, expect) in cases {
            assert_eq!(is_from_here(&headers(pairs)), expect, "{pairs:?}");
        }
    }

    #[test]
    fn cookies() {
        let cases: [(&[_], Option<&str>); 5] = [
            (&[("cookie", "a=1; x=2")], Some("2")),
            (&[("cookie", "a=1"), ("cookie", "x=2")], Some("2")),
            (&[("cookie", "x=1; x=2")], None),
            (&[("cookie", "xx=1")], None),
            (&[], None),
        ];
        for (pairs, expect) in cases {
            assert_eq!(cookie(&headers(pairs), "x"), expect, "{pairs:?}");
        }
    }
}
