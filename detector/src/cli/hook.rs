//! Answers libvirt's hooks for VMs and containers. It never calls libvirt, which waits for it.

mod absent;
pub(super) mod installed;

use std::{
    ffi::OsString,
    io::{self, Read},
    process::ExitCode,
};

use self::absent::Host;
use super::{
    Global,
    args::{HookArgs, HookCommand},
    ask,
    escape::escape,
};
use crate::{
    api::{Reply, Request, view::AdmissionView},
    audit::{Entry, Kind, Place, Subject, Via, Who, aside},
};

/// The longest description that is read, in bytes: as JSON text it still fits into a request.
const LONGEST_XML: u64 = 3 << 20;
/// The drivers of libvirt's that have such a hook.
pub(super) const DRIVERS: [&str; 2] = ["qemu", "lxc"];
/// libvirt gives its hook a name, an operation, a sub-operation and one more word.
const LIBVIRT_SAYS: usize = 4;

/// The arguments of this process, with `--` between ours and those of libvirt's hook: the name of a
/// VM is its owner's choice, and must not be read as an option.
pub(super) fn arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<_> = given.collect();
    let is_hook =
        |pair: &[OsString]| pair[0] == "hook" && DRIVERS.iter().any(|one| pair[1] == *one);
    if let Some(place) = arguments.windows(2).position(is_hook) {
        let place = place + 2 + ours(&arguments[place + 2..]);
        if arguments.len() >= place + LIBVIRT_SAYS {
            arguments.insert(place, "--".into());
        }
    }
    arguments
}

/// How many arguments behind the driver are ours: libvirt's begin with the name of a VM, which has no slash
/// in it, and none of the others looks like a URI.
fn ours(arguments: &[OsString]) -> usize {
    let is_uri = |text: &OsString| text.to_string_lossy().contains("://");
    match arguments {
        [first, ..] if first.to_string_lossy().starts_with("--uri=") && is_uri(first) => 1,
        [first, second, ..] if first == "--uri" && is_uri(second) => 2,
        _ => 0,
    }
}

pub(super) fn run(global: &Global, command: &HookCommand) -> ExitCode {
    let (driver, HookArgs { uri, name, op, sub_op, .. }) = match command {
        HookCommand::Qemu(args) => ("qemu", args),
        HookCommand::Lxc(args) => ("lxc", args),
    };
    // A restore comes by `start begin` too, and so does an incoming migration, after it has been
    // announced by `migrate begin`. To that libvirt takes an answer on standard output as a new
    // description, and none as consent.
    let starts = match (op.as_str(), sub_op.as_str()) {
        ("start", "begin") => true,
        ("migrate", "begin") => false,
        // libvirt has let go of its files: what is done to them from now on is not the VM's doing.
        ("release", "end") => false,
        _ => return ExitCode::SUCCESS,
    };
    let config = ask::config(global);
    let mut host = Host::new(global, config.as_ref().ok());
    let configured = || config.as_ref().ok()?.libvirt.uri_of(driver).map(str::to_owned);
    let audit = config.as_ref().ok().map(|config| Place::new(&config.paths.state));
    let source = uri.clone().or_else(configured);
    let socket = match config {
        Ok(config) => Ok(config.paths.socket),
        Err(error) => global.socket.clone().ok_or_else(|| format!("{error:#}")),
    };
    let answer = socket.and_then(|socket| {
        let xml = read_xml(io::stdin().lock())
            .map_err(|error| format!("its description cannot be read: {error}"))?;
        host.learn(&xml);
        let request = Request::Admit { name: name.clone(), op: op.clone(), xml, source };
        // Should anything else not be heard, the start is judged all the same.
        if starts { host.ask(&socket, &request) } else { host.tell(&socket, request) }
    });
    match answer {
        _ if !starts => ExitCode::SUCCESS,
        Ok(Reply::Admission(AdmissionView { start, message, .. })) => {
            say(&message);
            exit(start)
        }
        Ok(_) => undecided(name, &host, audit.as_ref(), "the daemon is of another release"),
        Err(why) => undecided(name, &host, audit.as_ref(), &why),
    }
}

/// Nobody judges the VM now.
fn undecided(name: &str, host: &Host, audit: Option<&Place>, why: &str) -> ExitCode {
    let (start, effect) = host.unjudged();
    let way_out = if start { "" } else { ". `detector run` starts the daemon" };
    say(&format!("the VM {name} {effect}: {why}{way_out}"));
    let outcome = if start { "undecided, may start" } else { "undecided, may not start" };
    let entry = Entry::new(Kind::Admission, Who::this(Via::Hook))
        .on(Subject::new("vm", name))
        .change(None::<String>, outcome)
        .why(format!("{effect}: {why}"));
    if let Some(Err(why)) = audit.map(|place| aside::record(place, &entry)) {
        say(&format!("that is not on record, since the audit cannot be written: {why}"));
    }
    exit(start)
}

/// libvirt hands this to whoever starts the VM.
fn say(message: &str) {
    if !message.is_empty() {
        eprintln!("detector: {}", escape(message));
    }
}

fn exit(start: bool) -> ExitCode {
    if start { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read_xml(from: impl Read) -> io::Result<String> {
    let mut xml = String::new();
    from.take(LONGEST_XML + 1).read_to_string(&mut xml)?;
    if xml.len() as u64 > LONGEST_XML {
        return Err(io::Error::other(format!("it is longer than {LONGEST_XML} bytes")));
    }
    Ok(xml)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libvirt_says_is_bounded_and_text() {
        assert_eq!(read_xml(&b"<domain/>"[..]).unwrap(), "<domain/>");
        let endless = read_xml(io::repeat(b' ')).unwrap_err().to_string();
        assert!(endless.contains("longer"), "{endless}");
        let broken = read_xml(&b"<domain><name>\xff</name></domain>"[..]).unwrap_err().to_string();
        assert!(broken.contains("UTF-8"), "{broken}");
    }
}
