//! Receivers that answer slowly, wrongly or never, a disk that is full, a journal that is gone.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use detector_tests::daemon::Daemon;
use detector_tests::receivers::{Answer, MailServer, Reception, Web};
use detector_tests::scene::{PATIENCE, Scene};
use serde_json::Value;

use super::{await_that, place, settings};

const SECRET: &str = "not to be in any log";

fn file(scene: &Scene, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(scene.host().path(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_receiver_that_hangs_or_answers_wrongly_holds_up_nobody_and_gets_it_in_the_end() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let answers = [Answer::Never, Answer::Garbage, Answer::Endless, Answer::Status(500)];
    let web = Web::start(host, answers).unwrap();
    let picky = Web::start(host, [Answer::Status(422)]).unwrap();
    let secret = host.path("secret");
    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    let log = host.path("alerts.jsonl");
    let sinks = format!(
        "[[alerts.file]]\nname = \"file\"\npath = {log:?}\n\
         [[alerts.webhook]]\nname = \"hook\"\nurl = \"http://127.0.0.1:{}/alerts?token=t0k3n\"\n\
         secret_file = {secret:?}\nauthorization_file = {secret:?}\n\
         [[alerts.webhook]]\nname = \"picky\"\nurl = \"http://127.0.0.1:{}/\"\nsecret_file = {secret:?}\n",
        web.port, picky.port,
    );
    let daemon = Daemon::start(host, &settings(&sinks)).unwrap();
    let _stray = scene.plug("stray0").unwrap();
    await_that(&daemon, "the alert in the file", || {
        place(&file(&scene, "alerts.jsonl"), &["stray0"]).is_some()
    });
    assert!(web.requests().len() <= 1, "the file does not wait for the webhook");
    await_that(&daemon, "the finding about the receiver", || {
        let open = daemon.ask(&["finding", "list"]).unwrap().json.to_string();
        open.contains("alerts-undelivered") && open.contains("hook")
    });
    await_that(&daemon, "the webhook to be delivered", || {
        let status = daemon.ask(&["alert", "status"]).unwrap().json;
        let mut sinks = status["sinks"].as_array().unwrap().iter();
        sinks.any(|sink| sink["name"] == "hook" && sink["waiting"] == 0)
    });
    let requests = web.requests();
    let body = |number: usize| -> Value { serde_json::from_slice(&requests[number].body).unwrap() };
    let first = body(0)["metadata"]["uid"].clone();
    for (number, request) in requests.iter().enumerate().take(5) {
        assert_eq!(request.path, "/alerts?token=t0k3n");
        assert_eq!(body(number)["metadata"]["uid"], first, "a retry is the same notice");
        assert_eq!(Value::from(request.header("webhook-id")), first);
        assert_eq!(request.header("authorization"), SECRET);
    }
    assert!(body(0)["message"].as_str().unwrap().contains("stray0"));
    let times: Vec<_> = requests.iter().map(|r| r.header("webhook-timestamp").to_owned()).collect();
    assert!(times[0] < times[4], "each try is signed anew: {times:?}");
    let schema = include_str!("../../ocsf/detection_finding-1.5.0.json");
    let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    for (number, request) in requests.iter().enumerate() {
        assert!(schema.is_valid(&body(number)), "{:#}", body(number));
        verify(
            &scene,
            request.header("webhook-signature"),
            |name| request.header(name),
            &request.body,
        );
    }
    // What a receiver does not want is counted, and the next one goes on.
    await_that(&daemon, "the refusal to be counted", || {
        let status = daemon.ask(&["alert", "status"]).unwrap().json;
        let picky = status["sinks"].as_array().unwrap().iter().find(|s| s["name"] == "picky");
        picky.is_some_and(|sink| sink["refused"] == 1 && sink["delivered"].as_u64() > Some(0))
    });
    // No secret is anywhere but in its file.
    let mut said = std::fs::read_to_string(daemon.log()).unwrap();
    for words in
        [&["alert", "status"][..], &["alert", "list"], &["finding", "list"], &["alert", "test"]]
    {
        said.push_str(&daemon.show(words).unwrap());
        said.push_str(&daemon.ask(words).unwrap().json.to_string());
    }
    assert!(!said.contains(SECRET) && !said.contains("t0k3n"), "{said}");
    // One that everybody may read is not used.
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o644)).unwrap();
    let test = daemon.ask(&["alert", "test", "hook"]).unwrap();
    assert_eq!(test.code, 1);
    assert!(test.json.to_string().contains("chmod"), "{test:?}");
    let test = daemon.ask(&["alert", "test", "nobody"]).unwrap();
    assert!(test.complaint.contains("file, hook, picky"), "{test:?}");
}

/// The signature of the specification, by another program.
fn verify<'a>(scene: &Scene, signature: &str, header: impl Fn(&str) -> &'a str, body: &[u8]) {
    let mut signed =
        format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).into_bytes();
    signed.extend(body);
    let path = scene.host().path("signed");
    std::fs::write(&path, signed).unwrap();
    let line =
        format!("openssl dgst -sha256 -hmac '{SECRET}' -binary {} | base64 -w0", path.display());
    let expect = scene.host().check(Command::new("sh").args(["-c", &line])).unwrap();
    assert_eq!(signature, format!("v1,{}", expect.trim()));
}

#[test]
fn a_flood_of_alerts_is_one_mail_and_a_server_that_is_busy_gets_it_later() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let server = MailServer::start(host, [Reception::Later]).unwrap();
    let sinks = format!(
        "[[alerts.email]]\nname = \"mail\"\nserver = \"127.0.0.1:{}\"\nsecurity = \"none\"\n\
         min_severity = \"low\"\nfrom = \"detector@hv1.example\"\nto = [\"oncall@example.org\"]\n\
         every = \"3s\"\n",
        server.port
    );
    let wrong = |number: u32| format!("[[vm]]\nname = \"bad{number}\"\n[[vm.nic]]\nmac = \"zz\"\n");
    let mut settings = settings(&sinks);
    settings.inventory = (0..80).map(wrong).collect();
    let daemon = Daemon::start(host, &settings).unwrap();
    await_that(&daemon, "the mails", || {
        let all = server.mails().concat();
        (0..80).all(|_| all.contains("entry-rejected")) && !server.mails().is_empty()
    });
    assert!(server.tries() >= 2, "it came back");
    await_that(&daemon, "nothing to wait", || {
        daemon.ask(&["alert", "list"]).unwrap().json["alerts"] == serde_json::json!([])
    });
    let mails = server.mails();
    assert!(mails.len() <= 3, "{} mails", mails.len());
    let digest = mails.iter().find(|mail| mail.contains("alerts, ")).unwrap();
    assert!(
        digest.contains("To: oncall@example.org") && digest.contains("more; detector finding"),
        "{digest}"
    );
    assert!(digest.contains("Message-ID: <"), "{digest}");
}

#[test]
fn the_journal_is_gone_and_the_disk_is_full_and_no_alert_is_lost() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let (socket, log) = (host.path("journal"), host.path("alerts.jsonl"));
    let sinks = format!(
        "[[alerts.journald]]\nname = \"journal\"\nsocket = {socket:?}\n\
         [[alerts.file]]\nname = \"file\"\npath = {log:?}\n"
    );
    let mut daemon = Daemon::configure(host, &settings(&sinks)).unwrap();
    // The state directory is a file system of its own, which is full.
    std::fs::create_dir_all(host.path("state")).unwrap();
    let fill = "cd $1 && mount -t tmpfs -o size=1m,mode=700 tmpfs state && \
                (dd if=/dev/zero of=state/filler bs=4k 2>/dev/null || true)";
    host.check(Command::new("sh").args(["-c", fill, "fill"]).arg(host.directory())).unwrap();
    daemon.run().unwrap();
    let _stray = scene.plug("stray0").unwrap();
    await_that(&daemon, "the alert in the file", || {
        place(&file(&scene, "alerts.jsonl"), &["stray0"]).is_some()
    });
    await_that(&daemon, "the finding about the disk", || {
        place(&file(&scene, "alerts.jsonl"), &["alerts-undelivered", "not kept"]).is_some()
    });
    let status = daemon.ask(&["alert", "status"]).unwrap();
    assert_eq!(status.code, 3);
    assert!(status.json["not_kept"].is_string(), "{status:?}");
    host.check(Command::new("rm").arg(host.path("state").join("filler"))).unwrap();
    await_that(&daemon, "alerts to be kept again", || {
        daemon.ask(&["alert", "status"]).unwrap().json["not_kept"].is_null()
    });
    // What waits for the journal waits over a restart now.
    daemon.kill().unwrap();
    daemon.run().unwrap();
    let journal = UnixDatagram::bind(&socket).unwrap();
    journal.set_read_timeout(Some(PATIENCE)).unwrap();
    daemon.ask(&["alert", "test", "journal"]).unwrap();
    let mut entries = Vec::new();
    while !entries.iter().any(|entry: &String| entry.contains("stray0")) {
        let mut entry = vec![0; 1 << 17];
        let length = journal.recv(&mut entry).unwrap();
        entries.push(String::from_utf8_lossy(&entry[..length]).into_owned());
    }
    let stray = entries.iter().find(|entry| entry.contains("stray0")).unwrap();
    for field in ["MESSAGE\n", "PRIORITY\n", "DETECTOR_KIND\n", "unknown-port", "DETECTOR_OCSF\n"] {
        assert!(stray.contains(field), "{field:?} in {stray:?}");
    }
}
