//! Mail over TLS, to a real server (aiosmtpd).

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use detector_tests::daemon::Daemon;
use detector_tests::receivers::{Certificates, MailServer};
use detector_tests::scene::Scene;
use serde_json::Value;

use super::{await_that, settings};

/// Takes mail over TLS on 465 and after STARTTLS on 587, from whom it knows, into one directory each, until its
/// standard input is closed.
const SERVER: &str = r#"
import ssl, sys
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import AuthResult

certificate, key, mails = sys.argv[1:]
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(certificate, key)

def known(server, session, envelope, mechanism, said):
    right = (said.login, said.password) == (b"detector", b"open sesame")
    return AuthResult(success=right, handled=False)

for port, how in [
    (465, dict(ssl_context=tls, auth_require_tls=False)),
    (587, dict(tls_context=tls, require_starttls=True)),
]:
    mailbox = Mailbox(f"{mails}/{port}")
    Controller(mailbox, "", port, authenticator=known, auth_required=True, **how).start()
print("ready", flush=True)
sys.stdin.read()
"#;

/// The mails that have come by one port.
fn mails(directory: &Path, port: u16) -> Vec<String> {
    let arrived = std::fs::read_dir(directory.join(port.to_string()).join("new"));
    let files = arrived.into_iter().flatten().map(|entry| entry.unwrap().path());
    files.map(|file| std::fs::read_to_string(file).unwrap()).collect()
}

#[test]
fn mail_goes_over_tls_to_whom_the_certificate_names_and_to_nobody_else() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let certificates = Certificates::make(host).unwrap();
    let directory = host.path("mails");
    std::fs::create_dir(&directory).unwrap();
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", SERVER]).args([&certificates.certificate, &certificates.key, &directory]);
    let log = std::fs::File::create(host.path("aiosmtpd.log")).unwrap();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    let mut server = host.spawn(&mut command).unwrap();
    let mut said = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "ready\n");
    // One that offers no STARTTLS, such as somebody on the way would have it seem.
    let plain = MailServer::start(host, []).unwrap();

    let password = |name: &str, text: &str| {
        let path = host.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    };
    let (right, wrong) = (password("right", "open sesame\n"), password("wrong", "guess\n"));
    let ours = format!("tls = {{ ca = {:?} }}\n", certificates.ca);
    let sink = |name: &str, security: &str, port: u16, password: &Path, ca: &str| {
        format!(
            "[[alerts.email]]\nname = \"{name}\"\nserver = \"127.0.0.1:{port}\"\n\
             security = \"{security}\"\nmin_severity = \"low\"\nfrom = \"detector@hv1.example\"\n\
             to = [\"oncall@example.org\"]\nevery = \"1s\"\nusername = \"detector\"\n\
             password_file = {password:?}\n{ca}"
        )
    };
    let sinks = [
        sink("implicit", "tls", 465, &right, &ours),
        sink("upgraded", "starttls", 587, &right, &ours),
        sink("stranger", "tls", 465, &right, ""),
        sink("strange-upgrade", "starttls", 587, &right, ""),
        sink("stripped", "starttls", plain.port, &right, &ours),
        sink("guessing", "tls", 465, &wrong, &ours),
    ];
    let daemon = Daemon::start(host, &settings(&sinks.concat())).unwrap();
    let _stray = scene.plug("stray0").unwrap();
    for port in [465, 587] {
        await_that(&daemon, &format!("the mail by {port}"), || {
            let mails = mails(&directory, port);
            mails.iter().any(|mail| mail.contains("To: oncall@") && mail.contains("stray0"))
        });
    }
    for (name, why) in [
        ("stranger", "certificate"),
        ("strange-upgrade", "certificate"),
        ("stripped", "STARTTLS"),
        ("guessing", "535"),
    ] {
        let mut error = String::new();
        await_that(&daemon, &format!("{name} to fail for {why}"), || {
            let status = daemon.ask(&["alert", "status"]).unwrap().json;
            let mut sinks = status["sinks"].as_array().unwrap().iter();
            let sink = sinks.find(|sink| sink["name"] == name).unwrap();
            assert_eq!(sink["delivered"], Value::from(0), "{sink}");
            error = sink["error"].to_string();
            error.contains(why)
        });
        assert!(!error.contains("sesame") && !error.contains("guess"), "{error}");
    }
    assert_eq!(plain.tries(), 0);
    drop(server.stdin.take());
    server.wait().unwrap();
}
