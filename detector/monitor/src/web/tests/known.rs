//! A host with hostile guests, and somebody who asks for pages.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderMap, Request, StatusCode},
};
use detector_core::{
    api::{ApiError, ErrorCode, Reply, Request as Asked, Role, view::QuarantineView},
    fleet::{
        message::{NicState, Time, Version},
        roll_out::{Plan, RollOut, Stage},
    },
    model::{Digest, QuarantineTarget, Severity},
};
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tower::ServiceExt;

use crate::{
    accounts::Accounts,
    config::Config,
    desk::Desk,
    estate::{
        OpenFinding, Told,
        tests::{state, vm},
    },
    source::{AskError, Question, Source},
    web::router,
};

pub(super) const PASSWORD: &str = "correct horse battery";
/// What a guest would like to be read as something else than text.
pub(super) const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x>\u{202e}gpj\u{1b}[31m";

/// A roll-out that was stopped for what a host has said.
fn stopped() -> RollOut {
    let plan = Plan {
        canaries: vec!["h1".parse().unwrap()],
        waves: vec![1000],
        soak: 1,
        patience: 1,
        most: 0,
        late: 0,
    };
    RollOut {
        version: Version { number: 8, sha256: Digest([8; 32]) },
        before: None,
        withdrawn: Vec::new(),
        plan,
        by: HOSTILE.to_owned(),
        begun: Time::now(),
        baseline: [("h1".parse().unwrap(), 0)].into(),
        absent: BTreeMap::new(),
        broken: BTreeMap::new(),
        breaks: 0,
        missing: BTreeSet::new(),
        stage: Stage::Halted { wave: 0, at: Time::now(), why: HOSTILE.to_owned() },
    }
}

/// A host that knows one hostile VM and refuses to lift anything.
#[derive(Default)]
pub(super) struct Known(pub(super) Mutex<Vec<Question>>);

impl Source for Known {
    fn follow(&self, told: mpsc::Sender<Told>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut one = vm(1, "quarantined");
            one.name = HOSTILE.to_owned();
            one.template = Some(HOSTILE.to_owned());
            one.nics.push(NicState {
                mac: "52:54:00:00:00:01".to_owned(),
                port: Some(HOSTILE.to_owned()),
                status: Some("isolated".to_owned()),
                addresses: vec![HOSTILE.to_owned()],
            });
            let finding = OpenFinding {
                id: "00000000ff".to_owned(),
                kind: "rogue-vm".to_owned(),
                severity: Severity::High,
                title: HOSTILE.to_owned(),
                evidence: vec![(HOSTILE.to_owned(), HOSTILE.to_owned())],
                next: Some(HOSTILE.to_owned()),
                since: Time::now(),
                vm: Some(one.uuid),
                settled: false,
            };
            let _ = told.send(Told::RollOut(Box::new(stopped()))).await;
            let (host, state) = ("h1".to_owned(), state(1));
            let (vms, findings) = (vec![one, vm(2, "approved")], vec![finding]);
            let _ = told.send(Told::Whole { host, state, vms, findings }).await;
            std::future::pending::<()>().await;
        })
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Reply, AskError>> {
        let request = question.request.clone();
        self.0.lock().unwrap().push(question);
        Box::pin(async move {
            let no = |code, message: &str| Err(AskError::Refused(ApiError::new(code, message)));
            match request {
                Asked::QuarantineList {} => Ok(Reply::Quarantines(vec![QuarantineView {
                    target: QuarantineTarget::Vm(vm(1, "").uuid),
                    name: HOSTILE.to_owned(),
                    since: Time::now(),
                    cause: "verdict".to_owned(),
                    mode: "drop".to_owned(),
                    uid: 0,
                    note: HOSTILE.to_owned(),
                }])),
                Asked::PortList { .. } => Ok(Reply::Ports(Vec::new())),
                Asked::TemplateList {} => Ok(Reply::Templates(Vec::new())),
                Asked::QuarantineAdd { .. } => Ok(Reply::Vms(Vec::new())),
                Asked::QuarantineRelease { .. } => no(ErrorCode::StillFailing, HOSTILE),
                _ => no(ErrorCode::NotFound, HOSTILE),
            }
        })
    }

    fn fleet(&self) -> Option<&str> {
        None
    }
}

/// The router, and a browser without a screen.
pub(super) struct Browser {
    router: Router,
    pub(super) source: Arc<Known>,
    pub(super) cookies: BTreeMap<String, String>,
    pub(super) peer: SocketAddr,
    pub(super) more: Vec<(&'static str, String)>,
    accounts: PathBuf,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Browser {
    pub(super) async fn new(name: &str, proxy: Option<crate::config::Proxy>) -> Self {
        let accounts =
            std::env::temp_dir().join(format!("detector-web-{name}-{}", std::process::id()));
        let mut all = Accounts::default();
        for (name, role) in
            [("ada", Role::Administer), ("otto", Role::Operate), ("vera", Role::View)]
        {
            all.put(name, role, Some(PASSWORD)).unwrap();
        }
        all.write(&accounts).unwrap();
        let config = Config { accounts: accounts.clone(), proxy, ..Config::default() };
        let source = Arc::new(Known::default());
        let desk = Desk::new(Arc::clone(&source) as Arc<dyn Source>, Vec::new(), 20);
        tokio::spawn(Arc::clone(&desk).keep());
        let begun = Instant::now();
        while desk.estate().hosts.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(10));
            tokio::task::yield_now().await;
        }
        let router = router(desk, &config).unwrap();
        let (cookies, more) = (BTreeMap::new(), Vec::new());
        Self { router, source, cookies, peer: ([127, 0, 0, 1], 5).into(), more, accounts }
    }

    async fn send(&mut self, request: axum::http::request::Builder, body: String) -> Answer {
        let cookies: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = request.header("host", "monitor.example");
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        for (name, value) in &self.more {
            request = request.header(*name, value);
        }
        let mut request = request.body(Body::from(body)).unwrap();
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        for cookie in headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            assert!(
                cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Strict")
                    || cookie.ends_with("Max-Age=0"),
                "{cookie}"
            );
            let (name, rest) = cookie.split_once('=').unwrap();
            match rest.split(';').next().unwrap() {
                "" => drop(self.cookies.remove(name)),
                value => drop(self.cookies.insert(name.to_owned(), value.to_owned())),
            }
        }
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Answer { status, headers, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.send(Request::get(path), String::new()).await
    }

    pub(super) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let encode =
            |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02x}")).collect() };
        let pairs =
            fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value)));
        let body = pairs.collect::<Vec<_>>().join("&");
        let request =
            Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        self.send(request, body).await
    }

    pub(super) async fn post_json(&mut self, path: &str, body: &serde_json::Value) -> Answer {
        let request = Request::post(path).header("content-type", "application/json");
        self.send(request, body.to_string()).await
    }

    pub(super) async fn log_in(&mut self, name: &str, password: &str) -> Answer {
        let form = self.get("/login").await;
        let csrf = hidden(&form.text, "csrf");
        self.post("/login", &[("csrf", &csrf), ("name", name), ("password", password)]).await
    }

    /// What forms have to send.
    pub(super) async fn csrf(&mut self) -> String {
        hidden(&self.get("/quarantine").await.text, "csrf")
    }

    pub(super) fn forget_account(&self, name: &str) {
        let mut accounts = Accounts::read(&self.accounts).unwrap();
        accounts.remove(name).unwrap();
        accounts.write(&self.accounts).unwrap();
    }

    /// Makes the file of accounts one that cannot be read.
    pub(super) fn break_accounts(&self) {
        std::fs::write(&self.accounts, "vera:view\n").unwrap();
    }

    /// What was asked of hosts to be done.
    pub(super) fn asked(&self) -> Vec<(String, Asked)> {
        let all = self.source.0.lock().unwrap();
        let acts = all.iter().filter(|one| Role::needed_for(&one.request) > Role::View);
        acts.map(|one| (one.who.clone(), one.request.clone())).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It is in a directory that is emptied anyway.
        let _ = std::fs::remove_file(&self.accounts);
    }
}

/// The value of a hidden field.
pub(super) fn hidden(text: &str, name: &str) -> String {
    let begin = format!("name=\"{name}\" value=\"");
    let rest = text.split(&begin).nth(1).unwrap_or_else(|| panic!("no field {name} in {text}"));
    rest.split('"').next().unwrap().to_owned()
}
