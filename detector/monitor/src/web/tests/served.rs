//! What is shown, and to whom.

use axum::http::StatusCode;
use serde_json::Value;

use super::known::{Browser, HOSTILE, PASSWORD};
use crate::config::Proxy;
use detector_core::api::Role;

const PAGES: [&str; 10] = [
    "/",
    "/quarantine",
    "/vms",
    "/hosts",
    "/hosts/h1",
    "/hosts/h1/vms/00000000-0000-0000-0000-000000000001",
    "/hosts/h1/templates",
    "/hosts/h1/policy",
    "/findings",
    "/vms?q=%3Cscript%3E",
];

const DATA: [&str; 11] = [
    "/api/v1/session",
    "/api/v1/overview",
    "/api/v1/hosts",
    "/api/v1/hosts/h1",
    "/api/v1/hosts/h1/vms/00000000-0000-0000-0000-000000000001",
    "/api/v1/hosts/h1/templates",
    "/api/v1/vms",
    "/api/v1/quarantine",
    "/api/v1/findings",
    "/api/v1/roll-out",
    "/api/v1/openapi.json",
];

#[tokio::test]
async fn without_a_login_there_is_nothing() {
    let mut browser = Browser::new("nothing", None).await;
    for path in PAGES {
        let answer = browser.get(path).await;
        assert_eq!((answer.status, answer.text.as_str()), (StatusCode::SEE_OTHER, ""), "{path}");
        assert_eq!(answer.headers["location"], "/login");
    }
    for path in DATA.into_iter().chain(["/live"]) {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(!answer.text.contains("h1"), "{path}: {}", answer.text);
    }
    for path in ["/act", "/logout", "/api/v1/hosts/h1/actions"] {
        assert_eq!(browser.post(path, &[]).await.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    browser.cookies.insert("__Host-detector".to_owned(), "x".repeat(43));
    assert_eq!(browser.get("/").await.status, StatusCode::SEE_OTHER);
    assert_eq!(browser.get("/nowhere").await.status, StatusCode::NOT_FOUND);
    assert!(browser.source.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn names_that_guests_choose_are_text_everywhere() {
    let mut browser = Browser::new("hostile", None).await;
    assert_eq!(browser.log_in("vera", PASSWORD).await.status, StatusCode::SEE_OTHER);
    let mut shown = 0;
    for path in PAGES {
        let answer = browser.get(path).await;
        let text = &answer.text;
        assert!(text.contains("<main id=\"content\""), "{path}: {text}");
        for bad in ["<script>alert", "<img", "\u{202e}", "\u{1b}", "'><img"] {
            assert!(!text.contains(bad), "{path}: {bad:?}");
        }
        // Nothing that the policy would have to stop is ours.
        for inline in
            ["style=\"", "onclick", "onload", "javascript:", "<style", "http://", "https://"]
        {
            assert!(!text.contains(inline), "{path}: {inline}");
        }
        assert_eq!(text.matches("<script").count(), 1, "{path}");
        shown += text.matches("&lt;script&gt;alert(1)").count();
        for (name, value) in &answer.headers {
            assert!(value.to_str().is_ok(), "{path}: {name}");
        }
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; style-src 'self'; script-src 'self'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers["x-frame-options"], "DENY");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
    assert!(shown > 10, "{shown}");
    // Programs get it as it is, and as JSON only.
    for path in DATA {
        let answer = browser.get(path).await;
        assert_eq!(answer.headers["content-type"], "application/json", "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        serde_json::from_str::<Value>(&answer.text).unwrap();
    }
    let page = browser.get("/hosts").await.text;
    assert!(page.contains("Roll-out of bundle 8") && page.contains("Stopped in wave 1 of 2"));
    let vms: Value = serde_json::from_str(&browser.get("/api/v1/vms").await.text).unwrap();
    assert_eq!(vms["vms"][0]["name"], HOSTILE);
}

#[tokio::test]
async fn what_is_answered_is_what_is_described() {
    let mut browser = Browser::new("described", None).await;
    browser.log_in("vera", PASSWORD).await;
    let description: Value =
        serde_json::from_str(&browser.get("/api/v1/openapi.json").await.text).unwrap();
    let paths = description["paths"].as_object().unwrap();
    for path in DATA {
        let known = path
            .replace("/hosts/h1", "/hosts/{host}")
            .replace("00000000-0000-0000-0000-000000000001", "{uuid}");
        let schema =
            &paths[&known]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        if schema.is_null() {
            assert_eq!(path, "/api/v1/openapi.json");
            continue;
        }
        // References are within the description.
        let whole =
            serde_json::json!({ "components": description["components"], "allOf": [schema] });
        let validator = jsonschema::draft202012::new(&whole).unwrap();
        let answer: Value = serde_json::from_str(&browser.get(path).await.text).unwrap();
        let faults: Vec<_> =
            validator.iter_errors(&answer).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{path}: {faults:?}\n{answer}");
    }
}

#[tokio::test]
async fn a_proxys_word_counts_from_the_proxy_only() {
    let proxy = Proxy {
        peers: vec!["192.0.2.1".parse().unwrap()],
        header: "x-remote-user".to_owned(),
        role: None,
    };
    let with_role = Proxy { role: Some(Role::View), ..proxy.clone() };
    let cases: [(&Proxy, &str, &[&str], Option<&str>); 8] = [
        (&proxy, "192.0.2.1", &["otto"], Some("otto operate")),
        (&proxy, "192.0.2.2", &["otto"], None),
        (&proxy, "::ffff:192.0.2.1", &["otto"], Some("otto operate")),
        (&proxy, "192.0.2.1", &[], None),
        (&proxy, "192.0.2.1", &["otto", "ada"], None),
        (&proxy, "192.0.2.1", &["nobody"], None),
        (&with_role, "192.0.2.1", &["nobody"], Some("nobody view")),
        (&with_role, "192.0.2.1", &["no body"], None),
    ];
    for (number, (proxy, peer, names, expect)) in cases.into_iter().enumerate() {
        let mut browser = Browser::new(&format!("proxy{number}"), Some(proxy.clone())).await;
        browser.peer = (peer.parse::<std::net::IpAddr>().unwrap(), 5).into();
        browser.more = names.iter().map(|name| ("x-remote-user", (*name).to_owned())).collect();
        let answer = browser.get("/api/v1/session").await;
        let session: Value = serde_json::from_str(&answer.text).unwrap();
        let said = session["user"]
            .as_str()
            .map(|user| format!("{user} {}", session["role"].as_str().unwrap()));
        assert_eq!(said.as_deref(), expect, "{peer} {names:?}");
    }
    // Whoever has an account may have less than those who have none.
    let mut browser = Browser::new("proxy-broken", Some(with_role)).await;
    browser.peer = ("192.0.2.1".parse::<std::net::IpAddr>().unwrap(), 5).into();
    browser.more = vec![("x-remote-user", "nobody".to_owned())];
    browser.break_accounts();
    assert_eq!(browser.get("/api/v1/session").await.status, 401);
}
