//! What a domain is of which no hypervisor runs the machine, but the host's own kernel the first program
//! (<https://libvirt.org/drvlxc.html>).

use detector_core::model::{Attachment, AttachmentKind, Medium, MediumRole};
use roxmltree::Node;

use super::{
    attribute, child, children, devices,
    media::{blob, remote},
    text,
};

const LXC_NAMESPACE: &str = "http://libvirt.org/schemas/domain/lxc/1.0";

pub(super) fn is(domain: Node<'_, '_>) -> bool {
    domain.attribute("type") == Some("lxc")
}

/// The file systems that its programs come from: each of them, since the first program may be on any.
pub(super) fn media(domain: Node<'_, '_>) -> Vec<Medium> {
    let mut media: Vec<_> = devices(domain, "filesystem").filter_map(file_system).collect();
    let is_root = |one: Node<'_, '_>| attribute(one, "target", "dir") == Some("/");
    if !devices(domain, "filesystem").any(is_root) {
        media.insert(0, remote(MediumRole::Disk, "the host's own root directory".to_owned()));
    }
    media
}

/// Of a directory nobody can say what was in it.
fn file_system(node: Node<'_, '_>) -> Option<Medium> {
    let source = |name| attribute(node, "source", name).filter(|value| !value.is_empty());
    let kind = node.attribute("type").unwrap_or("mount");
    Some(match (kind, source("file"), source("dev")) {
        ("file", Some(path), _) => {
            blob(MediumRole::Disk, path, attribute(node, "driver", "format"))
        }
        ("block", _, Some(path)) => blob(MediumRole::Disk, path, None),
        // Empty at every start.
        ("ram", ..) => return None,
        _ => {
            let what = source("dir").or(source("name")).or(source("pool")).unwrap_or("?");
            remote(MediumRole::Disk, format!("a directory of the host ({kind} {what})"))
        }
    })
}

/// The first program and its arguments, as a kernel would be told of them.
pub(super) fn init(domain: Node<'_, '_>) -> Option<String> {
    let os = child(domain, "os").filter(|_| is(domain))?;
    let program = text(os, "init").unwrap_or("/sbin/init");
    let arguments = children(os, "initarg").filter_map(|argument| argument.text());
    let words = std::iter::once(program).chain(arguments);
    Some(format!("init={}", words.collect::<Vec<_>>().join(" ")))
}

/// Without an interface of its own, and without the wish for an empty network, it has the host's.
pub(super) fn shared_network(domain: Node<'_, '_>) -> Option<Attachment> {
    if !is(domain) {
        return None;
    }
    let shared = domain.children().filter(|child| child.has_tag_name((LXC_NAMESPACE, "namespace")));
    let mut shared = shared.flat_map(|namespace| namespace.children());
    let shared = shared.find(|one| one.has_tag_name((LXC_NAMESPACE, "sharenet")));
    let private = child(domain, "features").is_some_and(|all| child(all, "privnet").is_some());
    let what = match shared {
        Some(of) => format!("the network of {}", of.attribute("value").unwrap_or("?")),
        None if private || devices(domain, "interface").next().is_some() => return None,
        None => "the host's own network".to_owned(),
    };
    let what = what.chars().take(160).collect();
    Some(Attachment { kind: AttachmentKind::Passthrough, what })
}

#[cfg(test)]
mod tests {
    use detector_core::model::{MediumSource, PowerState};

    use super::super::{Context, parse};

    fn container(inner: &str) -> (Vec<String>, Option<String>, Vec<String>) {
        let text = format!(
            "<domain type='lxc'><name>c</name><uuid>5f0b1c3e-8f57-4d8e-9f7a-3a6c1d2e4f50</uuid>
             <os><type>exe</type><init>/bin/sh</init><initarg>-c</initarg></os>{inner}</domain>"
        );
        let vm = parse(&text, PowerState::Running, &Context::default()).unwrap();
        let media = vm.media.iter().map(|medium| match &medium.source {
            MediumSource::File(file) => {
                format!("{} {}", file.path.display(), file.format.as_deref().unwrap())
            }
            MediumSource::Remote(what) => format!("remote: {what}"),
        });
        let ways = vm.attachments.iter().map(|way| way.what.clone());
        (media.collect(), vm.posture.kernel_arguments, ways.collect())
    }

    #[test]
    fn what_a_container_is_made_of() {
        let nic = "<interface type='bridge'><mac address='52:54:00:00:00:01'/></interface>";
        let mount = |kind: &str, source: &str, driver: &str, to: &str| {
            format!(
                "<filesystem type='{kind}'>{driver}<source {source}/><target dir='{to}'/></filesystem>"
            )
        };
        let root = mount("mount", "dir='/srv/c'", "", "/");
        let image = mount("file", "file='/srv/c.raw'", "<driver type='loop' format='raw'/>", "/");
        let ram = mount("ram", "usage='1' units='MiB'", "", "/tmp");
        let data = mount("bind", "dir='/data'", "", "/data");
        let host = "remote: the host's own root directory";
        for (systems, expect) in [
            (root.clone(), vec!["remote: a directory of the host (mount /srv/c)"]),
            (image.clone() + &ram, vec!["/srv/c.raw raw"]),
            (image + &data, vec!["/srv/c.raw raw", "remote: a directory of the host (bind /data)"]),
            (mount("block", "dev='/dev/vg/c'", "", "/"), vec!["/dev/vg/c raw"]),
            (data, vec![host, "remote: a directory of the host (bind /data)"]),
            (String::new(), vec![host]),
        ] {
            let (media, init, ways) = container(&format!("<devices>{systems}{nic}</devices>"));
            assert_eq!(media, expect);
            assert_eq!(init.as_deref(), Some("init=/bin/sh -c"));
            assert_eq!(ways, [""; 0]);
        }
        let share = "<lxc:namespace xmlns:lxc='http://libvirt.org/schemas/domain/lxc/1.0'>
            <lxc:sharenet type='name' value='other'/></lxc:namespace>";
        for (inner, expect) in [
            (format!("<devices>{root}</devices>"), vec!["the host's own network"]),
            (format!("<features><privnet/></features><devices>{root}</devices>"), vec![]),
            (format!("{share}<devices>{root}{nic}</devices>"), vec!["the network of other"]),
        ] {
            assert_eq!(container(&inner).2, expect, "{inner}");
        }
    }
}
