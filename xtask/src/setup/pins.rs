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
    "rsyslog",
    "rsyslog-openssl",
    "systemd",
];

/// What Debian's archive is signed with.
pub(super) const ARCHIVE_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Its one dependency is the package that holds the guest's kernel.
pub(super) const GUEST_KERNEL: &str = "linux-image-cloud-amd64";

/// What says in a guest what the guest is.
pub(super) const GUEST_AGENT: &str = "qemu-guest-agent";
