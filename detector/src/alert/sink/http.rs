//! One request over HTTP/1.1, on a connection of its own.

use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Delivered, Failure,
    net::{self, Stream},
    secret::{HIDDEN, hide},
};
use crate::{
    alert::text::shown,
    config::alerts::{Tls, Url},
};

/// What is read of an answer.
const ANSWER: usize = 4096;

/// Posts JSON to a path of the receiver. `secret` is hidden in what is said of the answer.
pub(super) async fn post(
    url: &Url,
    path: &str,
    tls: &Tls,
    headers: Vec<(&'static str, String)>,
    secret: Option<&str>,
    body: Vec<u8>,
) -> Delivered {
    let stream: Box<dyn Stream> = match url.secure {
        true => net::encrypted(&url.address, tls).await?,
        false => Box::new(net::plain(&url.address).await?),
    };
    let broken = |error: hyper::Error| Failure::later("no answer over HTTP", error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, url.address.to_string())
        .header(USER_AGENT, concat!("detector/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json");
    for (name, value) in headers {
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| Failure::Later(format!("{name}: this cannot be in a header")))?;
        value.set_sensitive(true);
        request = request.header(name, value);
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| Failure::later("this is no request", error))?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    // An answer without end, or none that ends in time, says nothing more than its status.
    let body = Limited::new(answer.into_body(), ANSWER).collect().await;
    let text = body.map(Collected::to_bytes).unwrap_or_default();
    let text = hide(&String::from_utf8_lossy(&text), secret);
    // Whoever knows the path of a webhook may post to it, and many a receiver names it when it refuses.
    let text = if path.len() > 1 { text.replace(path, HIDDEN) } else { text };
    Err(judge(status, &shown(text.trim())))
}

/// Whether the same notice may be taken later.
fn judge(status: StatusCode, text: &str) -> Failure {
    let why = format!("the receiver answers {status}: {text}");
    match status {
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY => Failure::Refused(why),
        _ => Failure::Later(why),
    }
}
