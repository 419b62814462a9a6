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

    type Change<'a> = Box<dyn Fn(&Guest) -> String + 'a>;
    let plain = |guest: &Guest, image: &Image| guest.domain(image, "br0", host.directory());
    let order = |order: &'static [&'static str], devices: String| -> Change<'_> {
        Box::new(move |guest| by_order(&plain(guest, &image), order, &devices))
    };
    // (name, the description, the status of the port, the rule that refuses)
    let cases: [(&str, Change<'_>, &str, Option<&str>); 6] = [
        ("disk", order(&["hd"], full.clone()), "granted", None),
        ("empty", order(&["cdrom", "hd"], empty), "granted", None),
        ("disc", order(&["cdrom", "hd"], full), "isolated", Some("template-registered")),
        ("network", order(&["network", "hd"], String::new()), "isolated", Some("no-network-boot")),
        ("kernel", Box::new(|guest| plain(guest, &image)), "granted", None),
        (
            "changed",
            Box::new(|guest| plain(guest, &changed)),
            "isolated",
            Some("template-registered"),
        ),
    ];
    for (number, (name, describe, status, rule)) in (31..).zip(cases) {
        let guest = Guest::new(name, number);
        libvirt.define(&guest, &image, "br0").unwrap();
        libvirt.define_as(&guest, &describe(&guest)).unwrap();
        libvirt.start_domain(&guest).unwrap();
        daemon.await_port(&libvirt.tap(&guest).unwrap(), status, PATIENCE).unwrap();
        let decided = daemon.ask(&["policy", "explain", name]).unwrap().json;
        let rules = decided["rules"].as_array().unwrap();
        let named = rule.is_none_or(|rule| rules.iter().any(|one| one == rule));
        assert!(named, "{name}: {decided}");
        libvirt.destroy(&guest).unwrap();
    }
}
