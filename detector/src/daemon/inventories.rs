//! The inventories of the host, and what they say besides VMs.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;

use super::{input::Input, sources::Expected};
use crate::{
    config::Config,
    inventory::{
        Agents, Connection, FileSource, Inventory, LibvirtSource, Told, file,
        xml::{Context, Shared},
    },
    leases::Leases,
    registry::Pools,
};

/// What sources say that waits for the loop; who has more waits in turn.
const SAID: usize = 1024;

/// A call to libvirt may wait for its hook, and that for a verdict; how much longer it may take.
const SLACK: Duration = Duration::from_secs(5);

/// Which inventories will speak.
pub(super) fn expected(config: &Config) -> Vec<Expected> {
    let file = Expected { name: file::name(&config.paths.inventory), live: false };
    let managers = config.libvirt.uris().iter();
    let managers = managers.map(|uri| Expected { name: uri.clone(), live: true });
    std::iter::once(file).chain(managers).collect()
}

/// The libvirts, each with what it says of networks and volumes.
pub(super) fn connections(config: &Config) -> Vec<Connection> {
    let patience = Connection::PATIENCE.max(config.admission.timeout + SLACK);
    let connection = |uri: &String| {
        let metadata = config.libvirt.metadata(uri);
        let context = Shared::new(Context { metadata, ..Context::default() });
        Connection { uri: uri.clone(), patience, context }
    };
    config.libvirt.uris().iter().map(connection).collect()
}

/// Starts to ask the guests of each libvirt what they say of themselves.
pub(super) fn ask_guests(config: &Config, inputs: &mpsc::Sender<Input>) -> Result<Vec<Agents>> {
    let uris = config.libvirt.uris().iter().filter(|_| config.libvirt.guest_agents);
    uris.map(|uri| {
        let inputs = inputs.clone();
        let tell = move |uuid, claims| inputs.blocking_send(Input::Guest { uuid, claims }).is_ok();
        Agents::spawn(uri, tell).with_context(|| format!("cannot ask the guests of {uri}"))
    })
    .collect()
}

/// Starts to follow all inventories.
pub(super) fn follow(
    config: &Config,
    connections: &[Connection],
    inputs: &mpsc::Sender<Input>,
    pools: &Pools,
    leases: &Leases,
) -> Result<Vec<Box<dyn Inventory>>> {
    let (events, mut said) = mpsc::channel(SAID);
    let heard = inputs.clone();
    tokio::spawn(async move {
        while let Some(event) = said.recv().await {
            if heard.send(Input::Source(event)).await.is_err() {
                return;
            }
        }
    });
    let mut all: Vec<Box<dyn Inventory>> = Vec::new();
    all.push(Box::new(FileSource::spawn(&config.paths.inventory, events.clone())));
    for connection in connections {
        let uri = &connection.uri;
        let (pools, leases, source) = (pools.clone(), leases.clone(), uri.clone());
        let inputs = inputs.clone();
        let tell = move |told| match told {
            Told::Pools(directories) => pools.tell(&source, directories),
            Told::Leases(known) => {
                // Before the snapshot: a port learns what is known of it when it begins to learn.
                if leases.tell(&source, known) {
                    let _ = inputs.blocking_send(Input::Leases(leases.read()));
                }
            }
        };
        let followed = LibvirtSource::spawn(connection, events.clone(), tell);
        all.push(Box::new(followed.with_context(|| format!("cannot follow {uri}"))?));
    }
    Ok(all)
}
