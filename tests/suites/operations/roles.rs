//! Users of the real socket have the role that the configuration gives them, and no other.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use detector::api::client::Client;
use detector::api::{CallError, ErrorCode, Request};
use detector_tests::daemon::{Daemon, Launch, Settings};
use detector_tests::scene::{PATIENCE, Scene, vm};
use detector_tests::wait;

use super::A;

const NOBODY: u32 = 4000;
const VIEWER: u32 = 4001;
const OPERATOR: u32 = 4002;
const ADMINISTRATOR: u32 = 4003;

/// Asks as another user, who is in no group but their own.
fn ask(user: u32, socket: &Path, request: &str) -> Result<(), CallError> {
    let (socket, request) = (socket.to_owned(), serde_json::from_str::<Request>(request).unwrap());
    let visit = std::thread::spawn(move || {
        // SAFETY: the calls of the kernel, other than those of the C library, change this thread alone, and
        // it ends here; none takes memory of ours.
        let results = unsafe {
            [
                libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()),
                libc::syscall(libc::SYS_setresgid, user, user, user),
                libc::syscall(libc::SYS_setresuid, user, user, user),
            ]
        };
        assert_eq!(results, [0; 3], "{}", std::io::Error::last_os_error());
        Client::connect(&socket, Duration::from_secs(30))?.call(request).map(drop)
    });
    visit.join().unwrap()
}

fn is_denied(outcome: &Result<(), CallError>, role: &str) -> bool {
    let lacks = format!("lacks the role {role:?}");
    matches!(outcome, Err(CallError::Refused(error))
        if error.code == ErrorCode::Forbidden && error.message.contains(&lacks))
}

#[test]
fn each_user_may_ask_what_their_role_includes() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let more = format!(
        "[roles]\nview = [\"{VIEWER}\"]\noperate = [\"@{OPERATOR}\"]\nadminister = [\"{ADMINISTRATOR}\"]\n"
    );
    let settings = Settings { inventory: vm("a", "tap-a", A), more, ..Settings::default() };
    let daemon = Daemon::start(host, &settings).unwrap();
    // The directory is a temporary one of root's.
    fs::set_permissions(host.directory(), fs::Permissions::from_mode(0o711)).unwrap();
    let socket = host.path("detector.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o666);

    let requests = [
        ("view", r#"{"status":{}}"#),
        ("operate", r#"{"quarantine-add":{"target":{"mac":"52:54:00:00:00:77"},"reason":"x"}}"#),
        ("operate", r#"{"quarantine-release":{"target":{"mac":"52:54:00:00:00:77"}}}"#),
        ("administer", r#"{"mode-change":{"change":{"maintenance":{"lasts":60}},"reason":"x"}}"#),
        ("administer", r#"{"mode-change":{"change":{"end-maintenance":{}},"reason":"x"}}"#),
    ];
    for (user, may) in [(NOBODY, 0), (VIEWER, 1), (OPERATOR, 3), (ADMINISTRATOR, 5)] {
        for (at, (role, request)) in requests.iter().enumerate() {
            let outcome = ask(user, &socket, request);
            match at < may {
                true => outcome.unwrap_or_else(|error| panic!("{user} {request}: {error:?}")),
                // Who may ask nothing is not listened to.
                false if may == 0 => assert!(is_denied(&outcome, "view"), "{outcome:?}"),
                false => assert!(is_denied(&outcome, role), "{user} {request}: {outcome:?}"),
            }
        }
    }
    // Each of them is on record once, however often they tried.
    wait::until("the record of who was refused", PATIENCE, || {
        let records = daemon.ask(&["audit", "list", "--kind", "denied", "--limit", "1000"])?.json;
        let records = records["records"].as_array().cloned().unwrap_or_default();
        let mut users: Vec<_> = records.iter().map(|one| one["who"]["uid"].as_u64()).collect();
        users.sort_unstable();
        let expect = [NOBODY, VIEWER, OPERATOR].map(|uid| Some(u64::from(uid)));
        let said =
            |one: &serde_json::Value| one["why"].as_str().is_some_and(|why| why.contains("roles."));
        Ok((users == expect && records.iter().all(said)).then_some(()))
    })
    .unwrap();
    assert_eq!(daemon.ask(&["audit", "verify"]).unwrap().code, 0);
}

/// A group of a directory service is there only once the host has a network, and the daemon starts before.
#[test]
fn whom_nobody_knows_yet_has_no_role_until_somebody_does() {
    const LATE: u32 = 4005;
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let (groups, socket) = (host.path("group"), host.path("detector.sock"));
    fs::copy("/etc/group", &groups).unwrap();
    let more = "[roles]\nview = [\"@detector-late\"]\noperate = [\"4002\"]\n".to_owned();
    let mut daemon = Daemon::configure(host, &Settings { more, ..Settings::default() }).unwrap();
    let in_place = format!("mount --bind {} /etc/group; exec \"$@\"", groups.display());
    let wrapper = ["unshare", "--mount", "sh", "-c", &in_place, "sh"].map(str::to_owned).into();
    daemon.launch_by(Launch { wrapper, ..Launch::default() });
    daemon.run().unwrap();
    fs::set_permissions(host.directory(), fs::Permissions::from_mode(0o711)).unwrap();
    daemon.await_finding("entry-rejected", "@detector-late", PATIENCE).unwrap();
    let status = r#"{"status":{}}"#;
    assert!(is_denied(&ask(LATE, &socket, status), "view"));
    ask(OPERATOR, &socket, status).unwrap();

    let mut known = fs::File::options().append(true).open(&groups).unwrap();
    writeln!(known, "detector-late:x:{LATE}:").unwrap();
    daemon.await_no_finding("entry-rejected", PATIENCE).unwrap();
    ask(LATE, &socket, status).unwrap();
    let add = r#"{"quarantine-add":{"target":{"mac":"52:54:00:00:00:77"},"reason":"x"}}"#;
    assert!(is_denied(&ask(LATE, &socket, add), "operate"));
}
