//! The brain over a fake kernel: what happens goes in, what was carried out and said is compared.

mod admission;
mod claims;
mod clock;
mod fake;
mod loads;
mod media;
mod mitigations;
mod mode;
mod policy;
mod portions;
mod ports;
mod quarantine;
mod recall;
mod remediation;
mod responses;
mod trail;
mod trouble;

use std::{collections::BTreeMap, path::Path, time::Duration};

use detector_common::{addr::Mac, port::flags, quarantine::QuarantineMode, settings::Mode};
use detector_core::model::{
    AddressRule, AdoptionRules, Chain, Digest, Evidence, EvidenceLevel, FloodLimits, Image,
    ImageFile, Layer, Link, LinkKind, Medium, MediumRole, MediumSource, Nic, Policy, Posture,
    PowerState, QuarantineTarget, Registry, Revoked, ShutDown, Template, TemplateStatus, Timestamp,
    Vm,
};
use uuid::Uuid;

use self::fake::FakeKernel;
use super::{
    brain::Brain,
    input::{AdmissionRules, Effect, Input},
    sources::Expected,
};
use crate::{
    api::{ApiError, Reply, Request},
    config::OnRefusal,
    findings::Change,
    inventory::{SourceEvent, Update},
    net::LinkEvent,
};

const LIBVIRT: &str = "qemu:///system";
const BRIDGE: u32 = 2;
const APPROVED: Digest = Digest([7; 32]);
const FOUND: Digest = Digest([9; 32]);

/// A daemon with a bridge, a template and a libvirt that has answered, at a time of the test's own.
struct Host {
    brain: Brain<FakeKernel>,
    now: u64,
    effects: Vec<Effect>,
    calls: u64,
    /// How far the clock is behind the kernel's ticks.
    lag: u64,
    /// The test says itself what looking at media again shows; otherwise nothing has changed.
    looked_at: bool,
}

impl Host {
    fn new(mode: Mode) -> Self {
        Self::with(mode, |_| {})
    }

    fn with(mode: Mode, change: impl FnOnce(&mut AdmissionRules)) -> Self {
        let mut rules = AdmissionRules {
            timeout: Duration::from_secs(10),
            on_timeout: OnRefusal::Mute,
            denied: OnRefusal::Mute,
        };
        change(&mut rules);
        let now = 1_000_000;
        let brain = Self::brain_with(mode, rules, FakeKernel { ticks: now, ..Default::default() });
        let mut host = Self { brain, now, effects: Vec::new(), calls: 0, lag: 0, looked_at: false };
        let first = vec![
            Input::Link(LinkEvent::Resynced(vec![bridge()])),
            Input::Registry(registry()),
            listing(vec![]),
        ];
        host.effects = host.brain.begin(Timestamp(now), first);
        host.effects.clear();
        host.kernel().taken();
        host
    }

    /// A brain over this kernel that has heard of nothing yet.
    fn brain(mode: Mode, kernel: FakeKernel) -> Brain<FakeKernel> {
        let rules = AdmissionRules {
            timeout: Duration::from_secs(10),
            on_timeout: OnRefusal::Mute,
            denied: OnRefusal::Mute,
        };
        Self::brain_with(mode, rules, kernel)
    }

    fn brain_with(mode: Mode, rules: AdmissionRules, kernel: FakeKernel) -> Brain<FakeKernel> {
        let policy = Policy {
            mode,
            modes: Vec::new(),
            evidence: EvidenceLevel::Digest,
            default_rule: AddressRule::Any,
            bridges: vec!["*".to_owned()],
            uplinks: Vec::new(),
            trusted: Vec::new(),
            protected: Vec::new(),
            closed_devices: Vec::new(),
            known_senders: Vec::new(),
            adoption: AdoptionRules::DEFAULT,
            unknown_port_grace: Duration::from_secs(1),
            flood: FloodLimits::DEFAULT,
            quarantine: QuarantineMode::Drop,
            sandbox: None,
            curb: None,
            revoked: Revoked::Quarantine,
            revoked_grace: Duration::ZERO,
            blast: None,
            shut_down: ShutDown { grace: Duration::from_secs(60), force: true },
        };
        let sources = vec![Expected { name: LIBVIRT.to_owned(), live: true }];
        Brain::new(Timestamp(1_000_000), policy, rules, sources, kernel).unwrap()
    }

    fn kernel(&mut self) -> &mut FakeKernel {
        self.brain.enforcer_mut()
    }

    /// A turn with this, a millisecond later.
    fn turn(&mut self, inputs: Vec<Input>) -> &mut Self {
        self.now += 1;
        self.kernel().ticks = self.now;
        let effects = self.brain.turn(Timestamp(self.now - self.lag), inputs);
        self.effects.extend(effects);
        let before = self.effects.len();
        self.effects.retain(|effect| self.looked_at || !matches!(effect, Effect::LookAgain(_)));
        if self.effects.len() < before {
            self.turn(vec![Input::Altered(Vec::new())]);
        }
        self
    }

    fn wait(&mut self, span: Duration) -> &mut Self {
        self.now += u64::try_from(span.as_millis()).unwrap();
        self.turn(vec![Input::Tick])
    }

    /// Reads every medium that the brain wants read: `found` says what each shows.
    fn read(&mut self, found: impl Fn(&Path) -> Digest) -> &mut Self {
        let results: Vec<_> = std::mem::take(&mut self.effects)
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Gather { file, ticket } => {
                    let evidence = chain(&file.path, found(&file.path));
                    Some(Input::Evidence { file, ticket, evidence })
                }
                other => {
                    self.effects.push(other);
                    None
                }
            })
            .collect();
        self.turn(results)
    }

    fn ask(&mut self, request: Request) -> Result<Reply, ApiError> {
        self.calls += 1;
        let id = self.calls;
        self.turn(vec![Input::Request { id, uid: 1000, request }]);
        self.answer(id).expect("every request is answered at once")
    }

    /// Takes the next reply to a call.
    fn answer(&mut self, id: u64) -> Option<Result<Reply, ApiError>> {
        let of_call = |effect: &Effect| matches!(effect, Effect::Reply { id: of, .. } if *of == id);
        let place = self.effects.iter().position(of_call)?;
        match self.effects.remove(place) {
            Effect::Reply { reply, .. } => Some(reply),
            _ => None,
        }
    }

    /// Takes what people were told.
    fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::Tell(Change::Opened(finding)) => {
                told.push(format!("+{}", finding.key.kind.as_str()));
                false
            }
            Effect::Tell(Change::Closed(finding)) => {
                told.push(format!("-{}", finding.key.kind.as_str()));
                false
            }
            _ => true,
        });
        told
    }

    /// The ticket of the only medium that the brain wants read.
    fn ticket(&self) -> u64 {
        assert_eq!(self.gathers(), 1);
        let mut tickets = self.effects.iter().filter_map(|effect| match effect {
            Effect::Gather { ticket, .. } => Some(*ticket),
            _ => None,
        });
        tickets.next_back().unwrap()
    }

    fn gathers(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Gather { .. })).count()
    }

    fn port(&mut self, ifindex: u32) -> Port {
        match self.kernel().state.interfaces.get(&ifindex).map(|held| held.slot) {
            None => Port::None,
            Some(slot) if slot.has(flags::ISOLATED) => Port::Isolated,
            Some(slot) if slot.has(flags::GRANTED) => Port::Granted,
            Some(_) => Port::Mute,
        }
    }

    /// A VM of the approved image that runs, and has been read.
    fn approved(&mut self) -> &mut Self {
        self.turn(vec![tap(10, "vnet0"), listing(vec![vm("web", 1, "vnet0")])]);
        self.read(|_| APPROVED)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    None,
    Mute,
    Granted,
    Isolated,
}

/// The only one that there is.
fn bridge() -> Link {
    let name = "br0".to_owned();
    Link { ifindex: BRIDGE, name, kind: LinkKind::Bridge, master: None, lower: None, mac: None }
}

fn tap(ifindex: u32, name: &str) -> Input {
    Input::Link(LinkEvent::Seen(link(ifindex, name)))
}

fn link(ifindex: u32, name: &str) -> Link {
    Link {
        ifindex,
        name: name.to_owned(),
        kind: LinkKind::Tap,
        master: Some(BRIDGE),
        lower: None,
        mac: None,
    }
}

fn gone(ifindex: u32) -> Input {
    Input::Link(LinkEvent::Gone { ifindex })
}

fn listing(vms: Vec<Vm>) -> Input {
    said(Update::Snapshot { vms, overlays: BTreeMap::new(), refused: Vec::new() })
}

fn said(update: Update) -> Input {
    Input::Source(SourceEvent { source: LIBVIRT.to_owned(), update })
}

fn uuid(number: u8) -> Uuid {
    Uuid::from_bytes([number; 16])
}

fn mac(number: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, number])
}

fn vm(name: &str, number: u8, port: &str) -> Vm {
    Vm {
        uuid: uuid(number),
        name: name.to_owned(),
        power: PowerState::Running,
        nics: vec![Nic {
            mac: mac(number),
            port: Some(port.to_owned()),
            vlans: Vec::new(),
            addresses: Vec::new(),
            rule: None,
            dhcp_server: false,
            router: false,
            vrrp: false,
            unguarded: None,
            settings: Vec::new(),
        }],
        media: vec![Medium { role: MediumRole::Disk, source: MediumSource::File(image(name)) }],
        declared_template: None,
        run: None,
        presumed: Vec::new(),
        attachments: Vec::new(),
        posture: Posture::default(),
    }
}

fn image(name: &str) -> ImageFile {
    ImageFile::new(format!("/images/{name}"), Some("qcow2"))
}

fn off(mut vm: Vm) -> Vm {
    vm.power = PowerState::Off;
    vm
}

fn registry() -> Registry {
    let template = Template {
        images: vec![Image::new(MediumRole::Disk, APPROVED)],
        ..Template::new("debian", TemplateStatus::Approved)
    };
    Registry { templates: vec![template], ..Registry::default() }
}

fn chain(path: &Path, digest: Digest) -> Evidence {
    let base = Layer { path: path.to_owned(), format: "qcow2".to_owned() };
    Evidence::Chain(Chain { overlays: Vec::new(), base, digest, at_birth: false })
}
