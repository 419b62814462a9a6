//! From a line to a request, and how long a line may be.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::schema::{ApiError, ErrorCode, Request, VERSION};

/// The longest line in bytes that an `admit` request may have: it carries domain XML.
pub const LONGEST_ADMIT: usize = 8 << 20;
/// The longest line in bytes that a `policy-diff` request may have: it carries a policy.
pub const LONGEST_POLICY: usize = 1 << 20;
/// The longest line in bytes of any other request.
pub const LONGEST: usize = 64 << 10;
/// The longest reply in bytes that a client reads.
pub const LONGEST_REPLY: usize = 64 << 20;

/// The longest name in characters of a person in whose name a program asks.
const LONGEST_NAME: usize = 128;

/// What is asked, and in whose name, where that is not the caller's own.
pub type Asked = (Request, Option<String>);

/// Reads a request. The version is looked at first, so that a client of another version is told so
/// whatever else it says.
pub fn parse(line: &str) -> Result<Asked, ApiError> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        v: u32,
        #[serde(default)]
        on_behalf: Option<String>,
        #[serde(borrow)]
        request: Option<&'a RawValue>,
    }
    let envelope: Envelope<'_> = serde_json::from_str(line).map_err(|error| {
        bad(format!("{error}; expected {{\"v\":{VERSION},\"request\":{{…}}}} on one line"))
    })?;
    if envelope.v != VERSION {
        return Err(ApiError::new(
            ErrorCode::UnsupportedVersion,
            format!(
                "version {} is not spoken here, only {VERSION}: use a client of the same release \
                 as the daemon",
                envelope.v
            ),
        ));
    }
    let request = envelope.request.ok_or_else(|| bad("no \"request\"".to_owned()))?;
    let request = serde_json::from_str(request.get()).map_err(|error| bad(error.to_string()))?;
    let limit = match request {
        Request::Admit { .. } => LONGEST_ADMIT,
        Request::PolicyDiff { .. } => LONGEST_POLICY,
        _ => LONGEST,
    };
    if line.len() > limit {
        return Err(too_long(limit));
    }
    let name = envelope.on_behalf;
    Ok((request, name.map(|name| name.chars().take(LONGEST_NAME).collect())))
}

/// The refusal of a line that is longer than `limit` bytes.
pub fn too_long(limit: usize) -> ApiError {
    ApiError::new(ErrorCode::TooLong, format!("the request is longer than {limit} bytes"))
}

fn bad(message: String) -> ApiError {
    ApiError::new(ErrorCode::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let code = |line: &str| parse(line).map(|asked| asked.0).map_err(|error| error.code);
        let long =
            format!(r#"{{"v":1,"request":{{"vm-show":{{"name":"{}"}}}}}}"#, "x".repeat(LONGEST));
        let xml =
            long.replace("vm-show", "admit").replace("\"}}", "\",\"op\":\"start\",\"xml\":\"\"}}");
        let cases = [
            (r#"{"v":1,"request":{"status":{}}}"#, Ok(Request::Status {})),
            (
                r#"{"v":1,"request":{"port-show":{"name":"vnet0"}}}"#,
                Ok(Request::PortShow { name: "vnet0".into() }),
            ),
            (r#"{"v":2,"request":{"status":{}}}"#, Err(ErrorCode::UnsupportedVersion)),
            (r#"{"v":0}"#, Err(ErrorCode::UnsupportedVersion)),
            (r#"{"v":2,"request":{"teleport":7}}"#, Err(ErrorCode::UnsupportedVersion)),
            (r#"{"v":1}"#, Err(ErrorCode::BadRequest)),
            (r#"{"request":{"status":{}}}"#, Err(ErrorCode::BadRequest)),
            (r#"{"v":1,"request":{"teleport":{}}}"#, Err(ErrorCode::BadRequest)),
            (r#"{"v":1,"request":{"status":{"x":1}}}"#, Err(ErrorCode::BadRequest)),
            (r#"{"v":-1,"request":{"status":{}}}"#, Err(ErrorCode::BadRequest)),
            ("", Err(ErrorCode::BadRequest)),
            ("GET / HTTP/1.1", Err(ErrorCode::BadRequest)),
            (&long, Err(ErrorCode::TooLong)),
        ];
        for (line, expect) in cases {
            assert_eq!(code(line), expect, "{line:.80}");
        }
        assert!(matches!(parse(&xml), Ok((Request::Admit { .. }, None))));
        let name = "ü".repeat(LONGEST_NAME);
        let named = format!(r#"{{"v":1,"on_behalf":"{name}ü","request":{{"status":{{}}}}}}"#);
        assert_eq!(parse(&named), Ok((Request::Status {}, Some(name))));
        let nested = "[".repeat(10_000);
        assert_eq!(code(&nested), Err(ErrorCode::BadRequest));
    }
}
