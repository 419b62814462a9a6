//! What reaches the hypervisor without its manager having looked at it.

use detector_core::model::{Medium, MediumRole};
use roxmltree::Node;

use super::media::remote;

const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// Words of QEMU's that put nothing into the VM and open no door to it, each with a value. Of all others
/// nobody knows here what they do: devices load images and ROMs, a console may carry a monitor (`-serial
/// mon:…`), a debugger (`-gdb`) writes into the guest's memory, settings (`-set`, `-global`) put files in
/// place of others, and a word that is no option is a disk.
const HARMLESS: [&str; 7] =
    ["action", "cpu", "msg", "name", "overcommit", "rtc", "watchdog-action"];
/// The same without a value.
const HARMLESS_ALONE: [&str; 4] = ["enable-kvm", "no-hpet", "no-reboot", "no-shutdown"];

/// Words that are named; the first ones explain the others.
const MOST: usize = 8;
/// Characters of a word.
const LONGEST: usize = 80;

/// A medium that proves nothing for everything that may be one.
pub(super) fn media(domain: Node<'_, '_>) -> Vec<Medium> {
    let mut found: Vec<String> = Vec::new();
    // Which of the arguments for other hypervisors name media nobody knows here.
    let foreign = domain.children().any(|child| {
        let name = child.tag_name();
        name.name() == "commandline" && name.namespace().is_some_and(|uri| uri != QEMU_NAMESPACE)
    });
    if foreign {
        found.push("arguments of its hypervisor that libvirt has not read".to_owned());
    }
    let words = qemu_words(domain);
    found.extend(strangers(&words).take(MOST).map(|word| {
        let word: String = word.chars().take(LONGEST).collect();
        format!("an argument of QEMU ({word})")
    }));
    // A variable of the environment may have it load a library.
    let variables = command_lines(domain).filter(|child| child.tag_name().name() == "env");
    found.extend(variables.take(MOST).map(|variable| {
        let name: String =
            variable.attribute("name").unwrap_or("?").chars().take(LONGEST).collect();
        format!("a variable of QEMU's environment ({name})")
    }));
    if has_overrides(domain) {
        found.push("properties of QEMU's devices (override)".to_owned());
    }
    found.into_iter().map(|what| remote(MediumRole::Disk, what)).collect()
}

/// Whether anything reaches the hypervisor that libvirt has not looked at.
pub(super) fn is_any(domain: Node<'_, '_>) -> bool {
    let named = |child: Node<'_, '_>| child.tag_name().name() == "commandline";
    has_overrides(domain) || domain.children().any(named)
}

/// The arguments that libvirt hands to QEMU unread.
pub(super) fn qemu_words(domain: Node<'_, '_>) -> Vec<String> {
    let arguments = command_lines(domain).filter(|child| child.tag_name().name() == "arg");
    arguments.filter_map(|argument| argument.attribute("value").map(str::to_owned)).collect()
}

/// What is in the command lines for QEMU: libvirt reads them as one.
fn command_lines<'a>(domain: Node<'a, 'a>) -> impl Iterator<Item = Node<'a, 'a>> {
    let lines =
        domain.children().filter(|child| child.has_tag_name((QEMU_NAMESPACE, "commandline")));
    lines.flat_map(|line| line.children()).filter(Node::is_element)
}

/// Properties of devices that are put in place of libvirt's: a ROM or a drive may be among them.
fn has_overrides(domain: Node<'_, '_>) -> bool {
    domain.children().any(|child| child.has_tag_name((QEMU_NAMESPACE, "override")))
}

/// The words that are not known to be harmless. How many values an unknown option takes is not known
/// either: a word after one that is no option itself is taken for its value.
fn strangers(words: &[String]) -> impl Iterator<Item = &str> {
    let mut words = words.iter().map(String::as_str);
    let mut after_stranger = false;
    std::iter::from_fn(move || {
        loop {
            let word = words.next()?;
            // QEMU takes -drive and --drive alike.
            let option = word.strip_prefix("--").or(word.strip_prefix('-'));
            let before = std::mem::replace(&mut after_stranger, false);
            match option {
                // Whatever it is, QEMU takes the next word for the value.
                Some(option) if HARMLESS.contains(&option) => drop(words.next()),
                Some(option) if HARMLESS_ALONE.contains(&option) => {}
                None if before => {}
                _ => {
                    after_stranger = option.is_some();
                    return Some(word);
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_harmless_passes() {
        let cases: [(&[&str], &[&str]); 14] = [
            (&[], &[]),
            (&["-name", "x"], &[]),
            (&["-cpu", "host,migratable=off", "--rtc", "base=utc", "-no-hpet"], &[]),
            (&["-serial", "mon:unix:/tmp/m"], &["-serial"]),
            (&["-gdb", "tcp::1234", "-s"], &["-gdb", "-s"]),
            (&["-prom-env", "boot-command=x"], &["-prom-env"]),
            (&["-drive", "file=/evil"], &["-drive"]),
            (&["--blockdev", "x", "-name", "y"], &["--blockdev"]),
            // A word that is no option is a disk, also behind one that takes no value, ...
            (&["/evil.img"], &["/evil.img"]),
            (&["-no-hpet", "/evil.img"], &["/evil.img"]),
            // ... or whose value looks like an option.
            (&["-name", "-cpu", "/evil.img"], &["/evil.img"]),
            (&["-name=x"], &["-name=x"]),
            (&["---name", "x"], &["---name"]),
            (&["-", ""], &["-"]),
        ];
        for (words, expected) in cases {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(strangers(&words).collect::<Vec<_>>(), *expected, "{words:?}");
        }
    }
}
