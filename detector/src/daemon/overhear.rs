//! Which ports are listened to, so that a finding about one can say what kind of system is behind it.

use detector_core::model::DhcpPrint;

use super::{brain::Brain, input::Effect};
use crate::{
    enforcer::Enforcer,
    net::overhear::{PORTS, PortLife},
};

impl<E: Enforcer> Brain<E> {
    /// Has those listened to that belong to no VM, as long as nothing has been heard of them.
    pub(super) fn overhear(&mut self) {
        let world = &mut self.world;
        world.overheard.retain(|port, _| world.noticed.contains_key(port));
        let unheard = world.noticed.keys().filter(|(_, instance)| *instance != 0);
        let unheard = unheard.filter(|port| !world.overheard.contains_key(port));
        let ports: Vec<PortLife> = unheard.copied().take(PORTS).collect();
        if ports != self.overhearing {
            self.overhearing.clone_from(&ports);
            self.emit(Effect::Overhear(ports));
        }
    }

    /// Takes in what was heard. False where the port has gone, or belongs to a VM by now.
    pub(super) fn overheard(&mut self, port: PortLife, print: DhcpPrint) -> bool {
        let wanted = self.world.noticed.contains_key(&port);
        if wanted {
            self.world.overheard.insert(port, print);
        }
        wanted
    }
}
