//! What the suites and the demo share: hosts of their own made of namespaces, taps, guests, a libvirt,
//! the daemon under test, and the eyes that watch what goes over the wire.
//!
//! Nothing here touches the machine's own network, mounts or services, and everything ends with the
//! process that made it, however that ends.

pub mod artefacts;
pub mod block;
pub mod bpf;
pub mod browser;
pub mod capture;
pub mod cgroups;
pub mod cpio;
pub mod daemon;
pub mod debian;
#[path = "../demo/mod.rs"]
pub mod demo;
pub mod dhcp;
pub mod ears;
pub mod family;
pub mod flow;
pub mod frames;
pub mod guest;
pub mod hands;
pub mod host;
pub mod libvirt;
pub mod link;
pub mod machine;
pub mod macvtap;
pub mod monitor;
pub mod nats;
pub mod needs;
pub mod netns;
pub mod offline;
pub mod open_vswitch;
pub mod order;
pub mod packet;
pub mod pins;
pub mod program;
pub mod promtool;
pub mod receivers;
pub mod run;
pub mod scene;
pub mod tap;
pub mod vhost;
pub mod wait;
