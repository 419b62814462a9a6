//! Who may log in, and what they may have done.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::known::{Browser, HOSTILE, PASSWORD, hidden};

#[tokio::test]
async fn only_who_knows_the_password_is_let_in() {
    let mut browser = Browser::new("login", None).await;
    for (name, password) in [("vera", "wrong"), ("nobody", PASSWORD), ("", "")] {
        let answer = browser.log_in(name, password).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name}");
        assert_eq!(browser.get("/").await.status, StatusCode::SEE_OTHER);
    }
    // A form that no page of ours has shown.
    let form = browser.get("/login").await;
    let csrf = hidden(&form.text, "csrf");
    let own = browser.cookies.clone();
    browser.cookies.clear();
    let fields = [("csrf", csrf.as_str()), ("name", "vera"), ("password", PASSWORD)];
    assert_eq!(browser.post("/login", &fields).await.status, StatusCode::FORBIDDEN);
    browser.cookies = own;
    let foreign = [("csrf", "x"), ("name", "vera"), ("password", PASSWORD)];
    assert_eq!(browser.post("/login", &foreign).await.status, StatusCode::FORBIDDEN);

    assert_eq!(browser.log_in("vera", PASSWORD).await.status, StatusCode::SEE_OTHER);
    assert_eq!(browser.get("/").await.status, StatusCode::OK);
    let csrf = browser.csrf().await;
    assert_eq!(browser.post("/logout", &[("csrf", "x")]).await.status, StatusCode::FORBIDDEN);
    let kept = browser.cookies.clone();
    assert_eq!(browser.post("/logout", &[("csrf", &csrf)]).await.headers["location"], "/login");
    browser.cookies = kept;
    assert_eq!(browser.get("/").await.status, StatusCode::SEE_OTHER, "the session is over");
}

#[tokio::test]
async fn who_guesses_has_to_wait() {
    let mut browser = Browser::new("guess", None).await;
    let mut refused = 0;
    for _ in 0..8 {
        let answer = browser.log_in("vera", "wrong").await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            assert!(answer.headers.contains_key("retry-after"));
            refused += 1;
        }
    }
    assert!(refused >= 2, "{refused}");
    assert_eq!(browser.log_in("vera", PASSWORD).await.status, StatusCode::TOO_MANY_REQUESTS);
    browser.peer = ([192, 0, 2, 7], 5).into();
    assert_eq!(browser.log_in("vera", PASSWORD).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn whoever_is_taken_out_of_the_file_is_out() {
    let mut browser = Browser::new("out", None).await;
    browser.log_in("otto", PASSWORD).await;
    assert_eq!(browser.get("/").await.status, StatusCode::OK);
    browser.forget_account("otto");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(browser.get("/").await.status, StatusCode::SEE_OTHER);
}

fn act<'a>(csrf: &'a str, action: &'a str, reason: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("csrf", csrf),
        ("host", "h1"),
        ("action", action),
        ("target", "vm:00000000-0000-0000-0000-000000000001"),
        ("reason", reason),
        ("id", "00000000-0000-4000-8000-000000000007"),
        ("back", "/quarantine"),
    ]
}

#[tokio::test]
async fn nothing_is_done_without_token_role_and_reason() {
    let mut browser = Browser::new("acting", None).await;
    browser.log_in("vera", PASSWORD).await;
    let csrf = browser.csrf().await;
    let answer = browser.post("/act", &act(&csrf, "quarantine", "x")).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.text.contains("takes the role operate"), "{}", answer.text);
    browser.cookies.clear();

    browser.log_in("otto", PASSWORD).await;
    let other = csrf;
    let csrf = browser.csrf().await;
    for wrong in ["", "x", other.as_str()] {
        let answer = browser.post("/act", &act(wrong, "quarantine", "x")).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{wrong}");
    }
    for (name, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
        browser.more = vec![(name, value.to_owned())];
        let answer = browser.post("/act", &act(&csrf, "quarantine", "x")).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{name}");
    }
    browser.more.clear();
    browser.post("/act", &act(&csrf, "quarantine", "  ")).await;
    assert!(browser.get("/").await.text.contains("A reason is needed"));
    // More than the role allows.
    let mut approve = act(&csrf, "approve", "x");
    let digest = "0".repeat(64);
    approve.push(("digests", &digest));
    assert_eq!(browser.post("/act", &approve).await.status, StatusCode::FORBIDDEN);
    assert_eq!(browser.asked(), []);

    let answer = browser.post("/act", &act(&csrf, "quarantine", "ticket 42")).await;
    assert_eq!(answer.headers["location"], "/quarantine");
    let (who, request) = browser.asked().remove(0);
    assert_eq!(who, "otto (operate)");
    let request = serde_json::to_value(request).unwrap();
    assert_eq!(request["quarantine-add"]["reason"], "ticket 42");
    assert!(browser.get("/quarantine").await.text.contains("neither sends nor receives"));
    // What a host says is text, and is said once, to a person.
    browser.post("/act", &act(&csrf, "release", "ticket 42")).await;
    browser.more = vec![("x-renews", "1".to_owned())];
    assert!(!browser.get("/vms").await.text.contains("note bad"));
    browser.more.clear();
    let text = browser.get("/vms").await.text;
    assert!(text.contains("note bad") && text.contains("&lt;script&gt;"), "{text}");
    assert!(!text.contains(HOSTILE));
    assert!(!browser.get("/vms").await.text.contains("note bad"));
    // Nobody is sent elsewhere.
    let mut elsewhere = act(&csrf, "quarantine", "x");
    elsewhere.retain(|(name, _)| *name != "back");
    elsewhere.push(("back", "//evil.example"));
    assert_eq!(browser.post("/act", &elsewhere).await.headers["location"], "/");
}

#[tokio::test]
async fn programs_act_by_the_same_rules() {
    let mut browser = Browser::new("json", None).await;
    browser.log_in("otto", PASSWORD).await;
    let session: Value = serde_json::from_str(&browser.get("/api/v1/session").await.text).unwrap();
    let body = json!({ "action": "quarantine", "target": "port:vnet0", "reason": "ticket 42" });
    let path = "/api/v1/hosts/h1/actions";
    assert_eq!(browser.post_json(path, &body).await.status, StatusCode::FORBIDDEN);
    browser.more = vec![("x-csrf-token", session["csrf"].as_str().unwrap().to_owned())];
    assert_eq!(browser.post_json(path, &body).await.status, StatusCode::OK);
    assert_eq!(browser.asked().len(), 1);
    let release = json!({ "action": "release", "target": "port:vnet0", "reason": "x" });
    assert_eq!(browser.post_json(path, &release).await.status, StatusCode::CONFLICT);
    let nowhere = browser.post_json("/api/v1/hosts/h2/actions", &body).await;
    assert_eq!(nowhere.status, StatusCode::NOT_FOUND);
    let approve =
        json!({ "action": "approve", "target": "vm:a", "reason": "x", "digests": "0".repeat(64) });
    assert_eq!(browser.post_json(path, &approve).await.status, StatusCode::FORBIDDEN);
}
