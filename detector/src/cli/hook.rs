//! Answers libvirt's qemu hook. It never calls libvirt, which waits for it.

mod absent;

use std::{
    ffi::OsString,
    io::{self, Read},
    process::ExitCode,
};

use self::absent::Host;
use super::{Global, args::HookCommand, ask, escape::escape};
use crate::{
    api::{Reply, Request, view::AdmissionView},
    config::Config,
};

/// The longest description that is read, in bytes: as JSON text it still fits into a request.
const LONGEST_XML: u64 = 3 << 20;
/// libvirt gives its hook a name, an operation, a sub-operation and one more word.
const LIBVIRT_SAYS: usize = 4;

/// The arguments of this process, with `--` between ours and those of libvirt's hook: the name of a
/// VM is its owner's choice, and must not be read as an option.
pub(super) fn arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<_> = given.collect();
    let hook = arguments.windows(2).position(|pair| pair[0] == "hook" && pair[1] == "qemu");
    if let Some(place) = hook.map(|place| place + 2)
        && arguments.len() >= place + LIBVIRT_SAYS
    {
        arguments.insert(place, "--".into());
    }
    arguments
}

pub(super) fn run(global: &Global, command: &HookCommand) -> ExitCode {
    let HookCommand::Qemu { name, op, sub_op, .. } = command;
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
    let default = Config::default();
    let pins = config.as_ref().unwrap_or(&default).paths.pins.clone();
    let host = Host::new(config.as_ref().ok(), global.pins.clone().unwrap_or(pins));
    let socket = match config {
        Ok(config) => Ok(config.paths.socket),
        Err(error) => global.socket.clone().ok_or_else(|| format!("{error:#}")),
    };
    let answer = socket.and_then(|socket| {
        let xml = read_xml(io::stdin().lock())
            .map_err(|error| format!("its description cannot be read: {error}"))?;
        let request = Request::Admit { name: name.clone(), op: op.clone(), xml };
        // Should anything else not be heard, the start is judged all the same.
        if starts { host.ask(&socket, &request) } else { host.tell(&socket, request) }
    });
    match answer {
        _ if !starts => ExitCode::SUCCESS,
        Ok(Reply::Admission(AdmissionView { start, message, .. })) => {
            say(&message);
            exit(start)
        }
        Ok(_) => undecided(name, &host, "the daemon is of another release"),
        Err(why) => undecided(name, &host, &why),
    }
}

/// Nobody judges the VM now.
fn undecided(name: &str, host: &Host, why: &str) -> ExitCode {
    let (start, effect) = host.unjudged();
    let way_out = if start { "" } else { ". `detector run` starts the daemon" };
    say(&format!("the VM {name} {effect}: {why}{way_out}"));
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
