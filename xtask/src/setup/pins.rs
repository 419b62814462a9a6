//! Every version that setup pins, and every package it installs.

/// The last one that links with LLVM 21, 22 and 23.
pub(super) const BPF_LINKER: &str = "0.13.0";
/// The LLVM versions that this bpf-linker has a feature for.
pub(super) const LINKER_LLVMS: [&str; 3] = ["21", "22", "23"];

/// Looks at the licences and sources of dependencies.
pub(super) const CARGO_DENY: &str = "0.20.2";

/// Building the daemon.
pub(super) const BUILD: &[&str] = &["libvirt-dev", "pkg-config", "gcc", "libc6-dev"];

/// Building the kernel programs where there is no nightly toolchain with rust-src: a compiler, its
/// library's source and an LLVM that match each other.
pub(super) const EBPF: &[&str] = &[
    "rustc-web",
    "rust-web-src",
    "cargo-web",
    "llvm-22",
    "llvm-22-dev",
    "libpolly-22-dev",
    "libclang-22-dev",
    "zlib1g-dev",
    "libzstd-dev",
    "libxml2-dev",
];

/// What the unit tests call.
pub(super) const UNIT: &[&str] = &["qemu-utils", "nftables", "iproute2"];

/// The lab.
pub(super) const LAB: &[&str] = &[
    "libvirt-daemon-system",
    "libvirt-clients",
    "libvirt-daemon-driver-lxc",
    "qemu-system-x86",
    "busybox-static",
    "e2fsprogs",
    "dnsmasq-base",
    "lvm2",
    "util-linux",
    "procps",
    "mount",
    "xz-utils",
    "openvswitch-switch",
    "openssl",
    "prometheus",
    "prometheus-alertmanager",
    "python3-aiosmtpd",
    "rsyslog",
    "rsyslog-openssl",
    "nats-server",
    "minisign",
    "systemd",
    "chromium",
    "fonts-dejavu-core",
];

/// Making the disk of a whole machine.
pub(super) const MACHINE_TOOLS: [&str; 2] = ["mmdebstrap", "e2fsprogs"];
/// What it has, beyond Debian's least.
pub(super) const MACHINE: &[&str] = &[
    "systemd-sysv",
    "dbus",
    "udev",
    "kmod",
    "iproute2",
    "libvirt-daemon-system",
    "libvirt-daemon-driver-qemu",
    "libvirt-clients",
    "qemu-system-x86",
    "qemu-guest-agent",
    "ipxe",
];

/// Making packages, and looking at what was made.
const DIST: [&str; 7] = ["binutils", "debhelper", "dpkg-dev", "gzip", "lintian", "lowdown", "rpm"];

/// Making a clean system to try them out on.
pub(super) const CLEAN: [&str; 1] = ["mmdebstrap"];
/// What is on it: a service manager, what makes interfaces, and the other kind of package.
pub(super) const CLEAN_ROOT: &[&str] = &["systemd", "systemd-sysv", "dbus", "iproute2", "rpm"];
/// What the packages depend on.
pub(super) const CLEAN_ROOT_LATER: &[&str] = &["libvirt0", "libgcc-s1"];

/// Building for another processor, and running what was built.
const CROSS: [&str; 2] = ["gcc-aarch64-linux-gnu", "qemu-user-static"];

pub(super) fn dist(cross: bool) -> Vec<&'static str> {
    let cross = if cross { &CROSS[..] } else { &[] };
    [&DIST[..], cross].concat()
}

/// What Debian's archive is signed with.
pub(super) const ARCHIVE_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Its one dependency is the package that holds the guest's kernel.
pub(super) const GUEST_KERNEL: &str = "linux-image-cloud-amd64";

/// What says in a guest what the guest is.
pub(super) const GUEST_AGENT: &str = "qemu-guest-agent";
