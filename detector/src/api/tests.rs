//! The server over a real socket, with a brain of two lines.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener as StdListener, UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::UnixListener,
    runtime::Runtime,
    sync::{mpsc, watch},
};

use super::{
    client::{CallError, Client},
    line::{LONGEST, LONGEST_ADMIT},
    peer::{Access, Members},
    role::Role,
    schema::{ErrorCode, Outcome, Reply, ReplyLine, Request},
    server::{self, Call, Denial},
    socket::{self, Doors, SocketError},
};
use crate::config::{Api, Roles};

const PATIENCE: Duration = Duration::from_secs(10);

struct Server {
    _runtime: Runtime,
    directory: tempfile::TempDir,
    denied: mpsc::Receiver<Denial>,
}

impl Server {
    /// Answers `port-list` with nothing, a watch with two lines and then silence, `status` never,
    /// and everything else with `not-found`.
    fn start(access: Access) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = socket::bind(&directory.path().join("socket"), &Doors::default()).unwrap();
        let (calls, inbox) = mpsc::channel(8);
        let (denials, denied) = mpsc::channel(64);
        runtime.spawn(async move {
            let listener = UnixListener::from_std(listener).unwrap();
            let (_doors, access) = watch::channel(Arc::new(access));
            server::serve(listener, access, calls, denials).await;
        });
        runtime.spawn(answer(inbox));
        Self { _runtime: runtime, directory, denied }
    }

    fn open() -> Self {
        Self::start(Access { uid: nix::unistd::geteuid().as_raw(), roles: BTreeMap::new() })
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

async fn answer(mut inbox: mpsc::Receiver<Call>) {
    let mut held = Vec::new();
    while let Some(call) = inbox.recv().await {
        match call.request {
            Request::PortList { .. } => {
                let _ = call.replies.send(Ok(Reply::Ports(Vec::new()))).await;
            }
            Request::QuarantineWatch {} => {
                let _ = call.replies.send(Ok(Reply::Quarantines(Vec::new()))).await;
                let _ = call.replies.send(Ok(Reply::Quarantines(Vec::new()))).await;
                held.push(call.replies);
            }
            // Dropped without an answer.
            Request::Status {} => {}
            _ => {
                let error = super::ApiError::new(ErrorCode::NotFound, "nothing here");
                let _ = call.replies.send(Err(error)).await;
            }
        }
    }
}

type Replies = Vec<Result<Reply, ErrorCode>>;

/// What comes back for these bytes, line by line, until the server closes or nothing more comes.
fn exchange(mut stream: UnixStream, bytes: &[u8]) -> Replies {
    // A server that has heard enough closes while we still write.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    BufReader::new(stream)
        .lines()
        .map_while(Result::ok)
        .map(|line| match serde_json::from_str::<ReplyLine>(&line).unwrap() {
            ReplyLine { v: 1, outcome: Outcome::Ok(reply) } => Ok(reply),
            ReplyLine { v: 1, outcome: Outcome::Error(error) } => Err(error.code),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn lines_and_their_answers() {
    let server = Server::open();
    let list = b"{\"v\":1,\"request\":{\"port-list\":{}}}\n".as_slice();
    let ports = || Ok(Reply::Ports(Vec::new()));
    let admit = |bytes| {
        format!("{{\"v\":1,\"request\":{{\"admit\":{{\"name\":\"a\",\"op\":\"start\",\"xml\":\"{}\"}}}}}}\n", "x".repeat(bytes)).into_bytes()
    };
    let show = |bytes| {
        format!("{{\"v\":1,\"request\":{{\"vm-show\":{{\"name\":\"{}\"}}}}}}\n", "x".repeat(bytes))
            .into_bytes()
    };
    let cases: [(&str, Vec<u8>, Replies); 12] = [
        ("one", list.to_vec(), vec![ports()]),
        ("several at once", list.repeat(3), vec![ports(), ports(), ports()]),
        ("none", vec![], vec![]),
        ("cut short", list[..20].to_vec(), vec![Err(ErrorCode::BadRequest)]),
        (
            "another version",
            b"{\"v\":9,\"request\":{}}\n".to_vec(),
            vec![Err(ErrorCode::UnsupportedVersion)],
        ),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![Err(ErrorCode::BadRequest); 2]),
        ("no UTF-8", vec![0xff, 0xfe, b'\n'], vec![Err(ErrorCode::BadRequest)]),
        ("recovers", [b"{}\n", list].concat(), vec![Err(ErrorCode::BadRequest), ports()]),
        (
            "no answer",
            b"{\"v\":1,\"request\":{\"status\":{}}}\n".to_vec(),
            vec![Err(ErrorCode::Unavailable)],
        ),
        ("long", show(LONGEST), vec![Err(ErrorCode::TooLong)]),
        ("long XML", admit(LONGEST * 2), vec![Err(ErrorCode::NotFound)]),
        ("endless", vec![b'x'; LONGEST_ADMIT + 2], vec![Err(ErrorCode::TooLong)]),
    ];
    for (case, bytes, expect) in cases {
        assert_eq!(exchange(server.raw(), &bytes), expect, "{case}");
    }
}

#[test]
fn a_watch_goes_on_until_the_client_closes() {
    let server = Server::open();
    let mut client = Client::connect(&server.path(), PATIENCE).unwrap();
    client.call(Request::QuarantineWatch {}).unwrap();
    client.receive().unwrap();
    let both = b"{\"v\":1,\"request\":{\"quarantine-watch\":{}}}\n{\"v\":1,\"request\":{\"port-list\":{}}}\n";
    let replies = exchange(server.raw(), both);
    assert_eq!(replies.last(), Some(&Err(ErrorCode::BadRequest)), "a watch takes no request");
}

#[test]
fn who_opens_too_many_connections_is_told() {
    let server = Server::open();
    let mut held: Vec<_> = (0..64).map(|_| server.raw()).collect();
    // The server takes them in order, so that the last one of those held shows that all are taken.
    for stream in held.iter_mut().rev().take(1) {
        stream.write_all(b"{\"v\":1,\"request\":{\"port-list\":{}}}\n").unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
    }
    assert_eq!(exchange(server.raw(), b""), [Err(ErrorCode::Busy)]);
}

/// Connects as another user, with no other groups; only root can.
fn as_user(uid: u32, gid: u32, path: &Path, request: &str) -> Replies {
    let become_user = move || {
        // SAFETY: the calls of the kernel, other than those of the C library, change this thread
        // alone, and it ends here; none takes memory of ours.
        let results = unsafe {
            [
                libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()),
                libc::syscall(libc::SYS_setresgid, gid, gid, gid),
                libc::syscall(libc::SYS_setresuid, uid, uid, uid),
            ]
        };
        assert_eq!(results, [0; 3], "{}", std::io::Error::last_os_error());
    };
    let (path, request) = (path.to_owned(), format!("{request}\n"));
    let visit = std::thread::spawn(move || {
        become_user();
        exchange(UnixStream::connect(path).unwrap(), request.as_bytes())
    });
    visit.join().unwrap()
}

#[test]
fn each_role_may_ask_so_much_and_who_may_not_is_told() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can come as somebody else");
        return;
    }
    let group = |gid| Members { gids: [gid].into(), ..Members::default() };
    let roles =
        [(Role::View, group(4241)), (Role::Operate, group(4242)), (Role::Administer, group(4243))];
    let mut server = Server::start(Access { uid: 0, roles: roles.into() });
    // The mode would keep a stranger out; what is tested here is the second lock.
    for path in [server.directory.path().to_owned(), server.path()] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(path, mode).unwrap();
    }
    let requests = [
        ("port-list", r#"{"v":1,"request":{"port-list":{}}}"#),
        ("quarantine-release", r#"{"v":1,"request":{"quarantine-release":{"target":{"vm":"a"}}}}"#),
        ("mode-change", r#"{"v":1,"request":{"mode-change":{"change":{"observe":{}}}}}"#),
        ("admit", r#"{"v":1,"request":{"admit":{"name":"a","op":"start","xml":""}}}"#),
    ];
    // How many of them each may ask, from the first on.
    let cases = [(4000, 4000, 0), (4000, 4241, 1), (4000, 4242, 2), (4000, 4243, 4), (0, 0, 4)];
    for (uid, gid, may) in cases {
        for (at, (name, request)) in requests.iter().enumerate() {
            let reply = as_user(uid, gid, &server.path(), request);
            let refused = reply == [Err(ErrorCode::Forbidden)];
            assert_eq!(refused, at >= may, "{uid}:{gid} {name}: {reply:?}");
            if let Some(denial) = server.denied.try_recv().ok().filter(|_| refused) {
                let message = denial.error().message;
                let expect = format!("roles.{}", denial.needed().as_str());
                assert!(message.contains(&expect) && message.contains("user 4000"), "{message}");
            } else {
                assert!(!refused, "{uid}:{gid} {name}: nobody hears of it");
            }
        }
    }
}

/// A provisioner runs as the daemon's own user, and says nothing of the VM that it works on.
#[test]
fn what_is_for_people_is_refused_to_the_daemons_own_user() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can come as somebody else");
        return;
    }
    let mut server = Server::start(Access { uid: 4100, roles: BTreeMap::new() });
    for path in [server.directory.path().to_owned(), server.path()] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(path, mode).unwrap();
    }
    let digest = "0".repeat(64);
    let start = |digests: &str| {
        format!(
            r#"{{"remediate-start":{{"vm":"a","outcome":{{"patched":{{}}}},"reason":"","digests":[{digests}]}}}}"#
        )
    };
    let cases = [
        (r#"{"port-list":{}}"#.to_owned(), false),
        (r#"{"remediate-abort":{"vm":"a","reason":""}}"#.to_owned(), false),
        (start(""), false),
        (start(&format!("{digest:?}")), true),
        (r#"{"remediate-approve":{"vm":"a","digests":[],"reason":""}}"#.to_owned(), true),
        (r#"{"remediate-reject":{"vm":"a","reason":""}}"#.to_owned(), true),
    ];
    for (request, refused) in cases {
        let line = format!(r#"{{"v":1,"request":{request}}}"#);
        let forbidden =
            |uid| as_user(uid, uid, &server.path(), &line) == [Err(ErrorCode::Forbidden)];
        assert_eq!(forbidden(4100), refused, "{request}");
        assert!(!forbidden(0), "{request}");
        let told = server.denied.try_recv().map(|denial| denial.error().message);
        assert_eq!(
            told.is_ok_and(|told| told.contains("provisioners run as")),
            refused,
            "{request}"
        );
    }
}

#[test]
fn who_is_configured_is_looked_up() {
    let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let doors = |group: Option<&str>, view: &[&str]| {
        let roles = Roles { view: texts(view), ..Roles::default() };
        Doors::of(&Api { group: group.map(str::to_owned) }, &roles)
    };
    let mode = |doors: &Doors| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let _listener = socket::bind(&path, doors).unwrap();
        std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap()) & 0o777
    };
    assert_eq!(mode(&doors(None, &[])), 0o660);
    let view = doors(None, &["root", "4000", "@root", "@4001"]);
    let members = Members { uids: [0, 4000].into(), gids: [0, 4001].into() };
    assert_eq!(view.roles, BTreeMap::from([(Role::View, members)]));
    assert_eq!(mode(&view), 0o666);
    let operate = doors(Some("root"), &["@root"]);
    assert!(operate.roles[&Role::Operate].gids.contains(&0));
    assert_eq!(mode(&operate), 0o660, "one group alone needs no open socket");
    for (group, view, unknown) in [
        (Some("no such group"), "@root", "\"@no such group\" in api.group"),
        (Some("root"), "@no such group", "\"@no such group\" in roles.view"),
        (Some("root"), "no such user", "\"no such user\" in roles.view"),
    ] {
        let mut doors = doors(group, &[view]);
        let known = doors.roles.clone();
        assert_eq!(known.values().map(|one| one.uids.len() + one.gids.len()).sum::<usize>(), 1);
        assert_eq!(mode(&doors), 0o666, "they may become known");
        doors.look_up();
        assert_eq!(doors.roles, known);
        assert_eq!(doors.unknown.iter().map(ToString::to_string).collect::<Vec<_>>(), [unknown]);
    }
}

#[test]
fn a_socket_is_taken_only_from_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/socket");
    let first = socket::bind(&path, &Doors::default()).unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o777, 0o660);
    assert!(matches!(socket::bind(&path, &Doors::default()), Err(SocketError::InUse(_))));
    drop(first);
    socket::bind(&path, &Doors::default()).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(socket::bind(&path, &Doors::default()), Err(SocketError::NoSocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_client_gives_up_on_a_daemon_that_says_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let unreachable = Client::connect(&path, PATIENCE).unwrap_err();
    assert!(matches!(unreachable, CallError::Unreachable { .. }), "{unreachable:?}");
    let _listener = StdListener::bind(&path).unwrap();
    let mut client = Client::connect(&path, Duration::from_millis(20)).unwrap();
    let error = client.call(Request::Status {}).unwrap_err();
    assert!(matches!(error, CallError::Broken(_)), "{error:?}");
}
