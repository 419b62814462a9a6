//! Bridges and cables.

use anyhow::Result;

use crate::netns::NetNs;

/// A bridge that forwards at once and does not send anything by itself. Its MAC is its own: one
/// taken over from a port would change with the ports, and the host's neighbours be forgotten.
pub fn bridge(namespace: &NetNs, name: &str) -> Result<()> {
    namespace
        .ip(&format!("link add {name} address 02:b0:00:00:00:01 type bridge stp_state 0 forward_delay 0 mcast_snooping 0"))?;
    // An address of its own would announce itself into taps that are to hear nothing.
    namespace.ip(&format!("link set {name} addrgenmode none"))?;
    namespace.ip(&format!("link set {name} up"))?;
    Ok(())
}

/// A cable between two namespaces, both ends up.
pub fn cable(near: (&NetNs, &str), far: (&NetNs, &str)) -> Result<()> {
    let (near, here) = near;
    let (far, there) = far;
    // IPv6 would speak on its own; the far side only listens.
    near.ip(&format!("link add {here} type veth peer name {there} netns {}", far.path()))?;
    for (namespace, name) in [(near, here), (far, there)] {
        namespace.ip(&format!("link set {name} addrgenmode none"))?;
        namespace.ip(&format!("link set {name} up"))?;
    }
    Ok(())
}

/// Makes an interface a port of the bridge.
pub fn enslave(namespace: &NetNs, name: &str, bridge: &str) -> Result<()> {
    namespace.ip(&format!("link set {name} master {bridge}")).map(drop)
}
