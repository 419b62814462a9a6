//! What the arguments of QEMU say: how the VM is connected where no guard is, and which VM it is.
//!
//! A process may write over its own arguments, so they add to what is known and prove nothing.

use detector_core::model::{Attachment, AttachmentKind, Says};

/// Bytes of an argument that are repeated.
const LONGEST: usize = 160;

/// The ways out of the VM that QEMU's arguments make and that no guard can be on.
pub(crate) fn attachments(arguments: &[String]) -> Vec<Attachment> {
    let mut ways = Vec::new();
    let mut connected = false;
    let mut bare = false;
    let mut words = arguments.iter().skip(1).peekable();
    while let Some(word) = words.next() {
        match option(word) {
            Some("netdev" | "net" | "nic") => {
                connected = true;
                let value = words.next_if(|value| option(value).is_none());
                let Some(value) = value else { continue };
                if let Some(kind) = backend(value) {
                    ways.push(Attachment { kind, what: short(value) });
                }
            }
            Some("device") => {
                let value = words.next_if(|value| option(value).is_none());
                let Some(value) = value else { continue };
                if first_word(value, "driver").starts_with("vfio-") {
                    let kind = AttachmentKind::Passthrough;
                    ways.push(Attachment { kind, what: short(value) });
                }
            }
            Some("nodefaults") => bare = true,
            _ => {}
        }
    }
    if !connected && !bare {
        let what = "user (QEMU's own choice where its arguments name no network)".to_owned();
        ways.push(Attachment { kind: AttachmentKind::UserMode, what });
    }
    ways.sort();
    ways.dedup();
    ways
}

/// Only what an option such as `-netdev` adds: for arguments that are not the whole command line.
pub(crate) fn further(arguments: &[String]) -> Vec<Attachment> {
    let first = ["qemu", "-nodefaults"].map(str::to_owned);
    attachments(&[&first, arguments].concat())
}

/// The VM that the arguments say it is.
pub(super) fn says(arguments: &[String]) -> Says {
    let value = |name: &str| {
        let at = arguments.iter().position(|word| option(word) == Some(name))?;
        arguments.get(at + 1)
    };
    let guest = value("name").map(|value| {
        let mut parts = value.split(',');
        let named = parts.clone().find_map(|part| part.strip_prefix("guest="));
        short(named.or_else(|| parts.next()).unwrap_or_default())
    });
    Says { uuid: value("uuid").and_then(|uuid| uuid.parse().ok()), name: guest }
}

/// The name of an option, which one dash or two may precede.
fn option(word: &str) -> Option<&str> {
    let name = word.strip_prefix('-')?;
    Some(name.strip_prefix('-').unwrap_or(name)).filter(|name| !name.is_empty())
}

/// What kind of connection a network backend is, if it is one without a host interface of its own.
fn backend(value: &str) -> Option<AttachmentKind> {
    match first_word(value, "type").as_str() {
        "user" | "passt" => Some(AttachmentKind::UserMode),
        "socket" | "stream" | "dgram" | "l2tpv3" | "vde" => Some(AttachmentKind::Socket),
        "vhost-user" | "vhost-vdpa" => Some(AttachmentKind::VhostUser),
        _ => None,
    }
}

/// The first word of an option's value, or the member of that name where it is a JSON object.
fn first_word(value: &str, key: &str) -> String {
    if value.starts_with('{') {
        let json: serde_json::Value = serde_json::from_str(value).unwrap_or_default();
        return json[key].as_str().unwrap_or_default().to_owned();
    }
    let first = value.split(',').next().unwrap_or_default();
    let first = first.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')).unwrap_or(first);
    first.to_owned()
}

fn short(text: &str) -> String {
    let end = text.char_indices().nth(LONGEST).map_or(text.len(), |(end, _)| end);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_without_an_interface() {
        use AttachmentKind::{Passthrough, Socket, UserMode, VhostUser};
        let cases: &[(&str, &[AttachmentKind])] = &[
            ("qemu", &[UserMode]),
            ("qemu -m 128 -nographic", &[UserMode]),
            ("qemu -nodefaults", &[]),
            ("qemu -nic none", &[]),
            ("qemu -net none", &[]),
            ("qemu -netdev user,id=n", &[UserMode]),
            ("qemu --netdev type=user,id=n", &[UserMode]),
            ("qemu -nic", &[]),
            ("qemu -nic -netdev user", &[UserMode]),
            ("qemu -netdev {\"type\":\"user\",\"id\":\"n\"}", &[UserMode]),
            ("qemu -netdev {\"type\":7}", &[]),
            ("qemu -netdev tap,fd=31", &[]),
            ("qemu -nic socket,listen=:1 -nic stream,addr.type=unix", &[Socket, Socket]),
            ("qemu -netdev vhost-user,chardev=c -netdev passt", &[VhostUser, UserMode]),
            ("qemu -nodefaults -device vfio-pci,host=05:00.0", &[Passthrough]),
            ("qemu -nodefaults -device {\"driver\":\"vfio-pci\",\"host\":\"0\"}", &[Passthrough]),
            ("", &[UserMode]),
        ];
        for (line, expect) in cases {
            let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            let mut kinds: Vec<_> = attachments(&words).iter().map(|way| way.kind).collect();
            let mut expect = expect.to_vec();
            kinds.sort();
            expect.sort();
            assert_eq!(kinds, expect, "{line}");
        }
        assert_eq!(further(&["-netdev".to_owned(), "user".to_owned()]).len(), 1);
        assert_eq!(further(&[]).len(), 0);
    }

    #[test]
    fn what_it_says_that_it_is() {
        let uuid = "d37ec707-0000-4000-8000-000000000001";
        let words = ["q", "-name", "guest=web1,debug-threads=on", "-uuid", uuid].map(str::to_owned);
        let said = says(&words);
        assert_eq!(said.name.as_deref(), Some("web1"));
        assert_eq!(said.uuid, uuid.parse().ok());
        assert_eq!(says(&["-name".to_owned()]), Says::default());
        assert_eq!(says(&["-name".to_owned(), "a,b".to_owned()]).name.as_deref(), Some("a"));
    }
}
