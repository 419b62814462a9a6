//! What a VM really boots from decides, whatever else it has.

use super::*;

/// Without a kernel of its own, by this boot order and with these devices more.
fn by_order(domain: &str, order: &[&str], devices: &str) -> String {
    let (start, end) = (domain.find("<kernel>").unwrap(), domain.find("</os>").unwrap());
    let order: String = order.iter().map(|class| format!("<boot dev='{class}'/>")).collect();
    format!("{}{order}{}", &domain[..start], &domain[end..])
        .replace("</devices>", &format!("{devices}</devices>"))
}

#[test]
fn each_way_to_boot_is_judged_by_what_is_booted() {
    let host = host();
    let image = Image::make(host.directory(), "base", "an image that was reviewed").unwrap();
    let mut daemon = Daemon::configure(&host, &settings(&image)).unwrap();
    let libvirt = Libvirt::start(&host, Some(&daemon.hook())).unwrap();
    daemon.run().unwrap();
    let disc = host.path("rescue.iso");
    std::fs::write(&disc, vec![7; 1 << 20]).unwrap();
    let drive = |source: &str| {
        format!(
            "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>{source}\
             <target dev='hda' bus='ide'/><readonly/></disk>"
        )
    };
    let [empty, full] = ["", &format!("<source file='{}'/>", disc.display())].map(drive);
    // The kernel that was reviewed, and a byte.
    let changed = Image { kernel: host.path("changed.kernel"), ..image.clone() };
    std::fs::copy(&image.kernel, &changed.kernel).unwrap();
    let mut kernel = std::fs::File::options().append(true).open(&changed.kernel).unwrap();
    std::io::Write::write_all(&mut kernel, b"x").unwrap();
    drop(kernel);

    let ordered = |guest: &Guest, order: &[&str], devices: &str| {
        by_order(&guest.domain(&image, "br0", host.directory()), order, devices)
    };
    let direct = |guest: &Guest, image: &Image| guest.domain(image, "br0", host.directory());
    let guest = |name: &str, number| Guest::new(name, number);
    let cases = [
        (guest("disk", 31), "granted", None),
        (guest("empty", 32), "granted", None),
        (guest("disc", 33), "isolated", Some("template-registered")),
        (guest("network", 34), "isolated", Some("no-network-boot")),
        (guest("kernel", 35), "granted", None),
        (guest("changed", 36), "isolated", Some("template-registered")),
    ];
    for (guest, status, rule) in cases {
        let domain = match guest.name.as_str() {
            // What is not booted from does not count.
            "disk" => ordered(&guest, &["hd"], &full),
            "empty" => ordered(&guest, &["cdrom", "hd"], &empty),
            "disc" => ordered(&guest, &["cdrom", "hd"], &full),
            "network" => ordered(&guest, &["network", "hd"], ""),
            "kernel" => direct(&guest, &image),
            _ => direct(&guest, &changed),
        };
        libvirt.define(&guest, &image, "br0").unwrap();
        libvirt.define_as(&guest, &domain).unwrap();
        libvirt.start_domain(&guest).unwrap();
        daemon.await_port(&libvirt.tap(&guest).unwrap(), status, PATIENCE).unwrap();
        let decided = daemon.ask(&["policy", "explain", &guest.name]).unwrap().json;
        let rules = decided["rules"].as_array().unwrap();
        let named = rule.is_none_or(|rule| rules.iter().any(|one| one == rule));
        assert!(named, "{}: {decided}", guest.name);
        libvirt.destroy(&guest).unwrap();
    }
}
