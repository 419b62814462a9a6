//! Libvirt's own networks: its server, its translation, and what it keeps for a NIC.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use detector_tests::daemon::{Daemon, Settings};
use detector_tests::guest::{Guest, Image, hex};
use detector_tests::host::Host;
use detector_tests::libvirt::Libvirt;
use detector_tests::netns::NetNs;
use detector_tests::tap::{Header, Tap};
use detector_tests::{link, wait};

use super::PATIENCE;

const OUR_SIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const FAR_SIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// Where the guests' datagrams go.
const PORT: u16 = 4242;

/// A host that routes out of libvirt's default network, and somebody whom its guests speak to.
struct Routed {
    ears: UdpSocket,
    _far: NetNs,
    image: Image,
    host: Host,
}

impl Routed {
    fn new() -> Self {
        let host = Host::new().unwrap();
        let far = NetNs::new().unwrap();
        link::cable((host.network(), "up0"), (&far, "far0")).unwrap();
        host.network().ip(&format!("address add {OUR_SIDE}/24 dev up0")).unwrap();
        far.ip(&format!("address add {FAR_SIDE}/24 dev far0")).unwrap();
        let ears = far.run(|| Ok(UdpSocket::bind((FAR_SIDE, PORT))?)).unwrap();
        ears.set_nonblocking(true).unwrap();
        let image = Image::make(host.directory(), "base", "an image that was reviewed").unwrap();
        Self { ears, _far: far, image, host }
    }

    fn settings(&self, more: &str) -> Settings {
        Settings {
            bridges: vec!["virbr0"],
            evidence: "digest",
            libvirt: true,
            templates: vec![("lab.toml".to_owned(), self.image.manifest("lab").unwrap())],
            more: more.to_owned(),
            ..Settings::default()
        }
    }

    /// Defines the guest, on the default network.
    fn define(&self, libvirt: &Libvirt<'_>, guest: &Guest) {
        self.image.overlay(&guest.overlay(self.host.directory())).unwrap();
        let xml = guest
            .domain(&self.image, "virbr0", self.host.directory())
            .replace("<interface type='bridge'>", "<interface type='network'>")
            .replace("<source bridge='virbr0'/>", "<source network='default'/>");
        let path = self.host.path(&format!("{}.xml", guest.name));
        std::fs::write(&path, xml).unwrap();
        libvirt.virsh(&["define", path.to_str().unwrap()]).unwrap();
    }

    /// Waits until one more datagram has come, and says from where.
    fn await_datagram(&self) -> SocketAddr {
        let mut buffer = [0; 256];
        while self.ears.recv_from(&mut buffer).is_ok() {}
        wait::until("a datagram of the guest's", PATIENCE, || {
            Ok(self.ears.recv_from(&mut buffer).ok().map(|(_, from)| from))
        })
        .unwrap()
    }
}

/// Starts the network, in which addresses are kept for these.
fn start_network(host: &Host, libvirt: &Libvirt<'_>, kept: &[&Guest]) {
    let hosts: String = kept
        .iter()
        .map(|guest| format!("<host mac='{}' ip='{}'/>", hex(guest.mac), guest.ip))
        .collect();
    let xml = format!(
        "<network><name>default</name><bridge name='virbr0'/><forward mode='nat'/>
         <ip address='192.168.122.1' netmask='255.255.255.0'><dhcp>
         <range start='192.168.122.100' end='192.168.122.200'/>{hosts}</dhcp></ip></network>"
    );
    let path = host.path("default.xml");
    std::fs::write(&path, xml).unwrap();
    // The package brings one along.
    let _ = libvirt.virsh(&["net-undefine", "default"]);
    libvirt.virsh(&["net-define", path.to_str().unwrap()]).unwrap();
    libvirt.virsh(&["net-start", "default"]).unwrap();
}

/// A guest that asks libvirt's server, and then speaks to the far side through its translation.
fn asking(name: &str, number: u8) -> Guest {
    let mut guest = Guest::new(name, number);
    guest.ip = Ipv4Addr::new(192, 168, 122, number);
    guest.more = format!("det.dhcp=1 det.target={FAR_SIDE}");
    guest
}

/// Libvirt's default network: a guest gets its lease and is routed out, before the daemon is there and
/// with it; libvirt says what it has leased when nobody else can.
#[test]
fn a_guest_of_libvirts_own_network_keeps_its_lease_and_is_routed_out() {
    let lab = Routed::new();
    let more = "default_rule = \"dhcp\"\n[learning]\nleases = []\nadopt = []\n";
    let mut daemon = Daemon::configure(&lab.host, &lab.settings(more)).unwrap();
    let libvirt = Libvirt::start(&lab.host, None).unwrap();
    start_network(&lab.host, &libvirt, &[]);
    let early = asking("early", 51);
    lab.define(&libvirt, &early);
    libvirt.start_domain(&early).unwrap();
    assert_eq!(lab.await_datagram().ip(), OUR_SIDE, "translated");
    let leased = libvirt.virsh(&["net-dhcp-leases", "default"]).unwrap();
    let address = leased.split_whitespace().find_map(|word| word.strip_suffix("/24")).unwrap();

    daemon.run().unwrap();
    let port = libvirt.tap(&early).unwrap();
    daemon.await_port(&port, "granted", PATIENCE).unwrap();
    let learned = daemon.ask(&["port", "show", &port]).unwrap().json["learned"].clone();
    assert_eq!(learned[0]["address"], address, "{learned}");
    assert_eq!(learned[0]["origin"], "lease-file", "{learned}");
    assert_eq!(lab.await_datagram().ip(), OUR_SIDE);
    libvirt.destroy(&early).unwrap();

    // With the daemon there, the server's answer itself teaches.
    let late = asking("late", 52);
    lab.define(&libvirt, &late);
    libvirt.start_domain(&late).unwrap();
    let port = libvirt.tap(&late).unwrap();
    assert_eq!(lab.await_datagram().ip(), OUR_SIDE);
    let learned = daemon.ask(&["port", "show", &port]).unwrap().json["learned"].clone();
    assert_eq!(learned[0]["origin"], "dhcp", "{learned}");
}

/// What the network keeps for a NIC is all that it may use; a change of the network is noticed.
#[test]
fn what_a_network_keeps_for_a_nic_is_all_that_it_has() {
    let lab = Routed::new();
    let mut daemon = Daemon::configure(&lab.host, &lab.settings("")).unwrap();
    let libvirt = Libvirt::start(&lab.host, Some(&daemon.hook())).unwrap();
    daemon.run().unwrap();
    let kept = asking("kept", 53);
    // It speaks under an address of its own choice.
    let mut liar = Guest::new("liar", 54);
    liar.ip = Ipv4Addr::new(192, 168, 122, 54);
    start_network(&lab.host, &libvirt, &[&kept, &liar]);
    liar.ip = Ipv4Addr::new(192, 168, 122, 99);
    lab.define(&libvirt, &kept);
    libvirt.start_domain(&kept).unwrap();
    assert_eq!(lab.await_datagram().ip(), OUR_SIDE);
    let port = libvirt.tap(&kept).unwrap();
    let granted = daemon.show(&["port", "show", &port]).unwrap();
    assert!(granted.contains("192.168.122.53"), "{granted}");

    lab.define(&libvirt, &liar);
    libvirt.start_domain(&liar).unwrap();
    daemon.await_finding("foreign-identity", "192.168.122.99", PATIENCE).unwrap();

    // Now the network keeps another address for it.
    let host = format!("<host mac='{}' ip='192.168.122.99'/>", hex(liar.mac));
    let change = ["net-update", "default", "modify", "ip-dhcp-host", &host, "--live", "--config"];
    libvirt.virsh(&change).unwrap();
    // Libvirt tells nobody. It is asked at the latest after a minute, and for a port that nobody knows at once.
    let _stray = Tap::open(lab.host.network(), "stray0", Header::None).unwrap();
    lab.host.network().ip("link set stray0 up").unwrap();
    link::enslave(lab.host.network(), "stray0", "virbr0").unwrap();
    let port = libvirt.tap(&liar).unwrap();
    wait::until("the new address", PATIENCE * 2, || {
        let told = daemon.ask(&["port", "show", &port])?.json["identities"].to_string();
        Ok(told.contains("192.168.122.99").then_some(()))
    })
    .unwrap();
}
