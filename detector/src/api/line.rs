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

/// Reads a request. The version is looked at first, so that a client of another version is told so
/// whatever else it says.
pub fn parse(line: &str) -> Result<Request, ApiError> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        v: u32,
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
    Ok(request)
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
        let code = |line: &str| parse(line).map_err(|error| error.code);
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
        assert!(matches!(parse(&xml), Ok(Request::Admit { .. })));
        let nested = "[".repeat(10_000);
        assert_eq!(code(&nested), Err(ErrorCode::BadRequest));
    }
}
