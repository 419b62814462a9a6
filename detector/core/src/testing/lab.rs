use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use detector_common::{
    addr::{Address, Mac},
    claim::{ClaimRecord, Family},
    quarantine::{Cause, QuarantineMode},
    reason::Reason,
    settings::{Cause as ModeCause, Mode},
};
use uuid::Uuid;

use super::FakeKernel;
use crate::{
    decide::{Decision, decide},
    model::{
        AddressRule, AdoptionRules, Chain, Deed, Digest, Evidence, EvidenceLevel, FloodLimits,
        Health, Image, ImageFile, Layer, Link, LinkKind, Load, Medium, MediumRole, MediumSource,
        ModeRecord, ModeRule, ModeScope, Nic, Policy, Posture, PowerState, Processes, Quarantine,
        QuarantineTarget, Registry, Revoked, SandboxRules, Seen, ShutDown, Source, Template,
        TemplateStatus, Ticks, Timestamp, Unsettled, Vm, World,
    },
    reconcile::{Action, reconcile},
};

/// Digests: of the images of an approved template, and of others.
pub(crate) const BASE: Digest = Digest([1; 32]);
pub(crate) const CDROM: Digest = Digest([2; 32]);
pub(crate) const STALE: Digest = Digest([3; 32]);
pub(crate) const REVOKED: Digest = Digest([4; 32]);
pub(crate) const EXPIRED: Digest = Digest([5; 32]);
pub(crate) const UNKNOWN: Digest = Digest([9; 32]);

pub(crate) const BRIDGE: u32 = 1;
pub(crate) const UPLINK: u32 = 2;
pub(crate) const SANDBOX: u32 = 3;
pub(crate) const DEVICE: u32 = 4;
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// The source that lists VMs unless a test says otherwise.
const MANAGER: &str = "qemu:///system";

/// A host with a bridge, an uplink, some templates, and as many VMs as a test adds. VM number `n`
/// is `vm<n>` with UUID and last MAC octets `n`, port `vnet<n>` of ifindex `100 + n`, and a disk
/// that is based on [`BASE`].
#[derive(Clone)]
pub(crate) struct Lab {
    pub(crate) world: World,
    pub(crate) kernel: FakeKernel,
}

impl Lab {
    pub(crate) fn new(mode: Mode) -> Self {
        let template = |id: &str, status, expires, images: &[(MediumRole, Digest)]| Template {
            expires,
            images: images.iter().map(|(role, sha256)| Image::new(*role, *sha256)).collect(),
            ..Template::new(id, status)
        };
        let now = Timestamp(1_800_000_000_000);
        let disk = |digest| (MediumRole::Disk, digest);
        let world = World {
            now,
            skew: Default::default(),
            policy: Policy {
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
                shut_down: ShutDown { grace: MINUTE, force: true },
            },
            rules: Default::default(),
            registry: Registry {
                templates: vec![
                    template(
                        "debian-12",
                        TemplateStatus::Approved,
                        Some(now + 60 * MINUTE),
                        &[disk(BASE), (MediumRole::Cdrom, CDROM)],
                    ),
                    template("debian-11", TemplateStatus::Deprecated, None, &[disk(STALE)]),
                    template("debian-10", TemplateStatus::Revoked, None, &[disk(REVOKED)]),
                    template("debian-9", TemplateStatus::Approved, Some(now), &[disk(EXPIRED)]),
                ],
                rejected: Vec::new(),
                lost: None,
                incomplete: None,
            },
            births: Default::default(),
            sources: BTreeMap::new(),
            links: BTreeMap::new(),
            evidence: BTreeMap::new(),
            unread: BTreeMap::new(),
            booted: BTreeMap::new(),
            disturbed: BTreeMap::new(),
            observed: Default::default(),
            asked: None,
            learned: BTreeMap::new(),
            leases: Vec::new(),
            adoption: Default::default(),
            quarantines_lost: None,
            addresses: Default::default(),
            gateways: Default::default(),
            seen: BTreeMap::new(),
            loads: BTreeMap::new(),
            overheard: BTreeMap::new(),
            frames: BTreeMap::new(),
            noticed: BTreeMap::new(),
            fleet: Default::default(),
            guests: BTreeMap::new(),
            processes: Processes { scanned: true, ..Processes::default() },
            graces: Default::default(),
            recorded: Default::default(),
            stopped: BTreeSet::new(),
            conduct: BTreeMap::new(),
        };
        let mut lab = Self { world, kernel: FakeKernel::default() };
        lab.kernel.tick(now);
        lab.link(BRIDGE, "br0", LinkKind::Bridge, None);
        lab.link(UPLINK, "eth0", LinkKind::Physical, Some(BRIDGE));
        lab.source(MANAGER);
        lab
    }

    /// VM number `n` speaks through a macvtap on a device of ifindex [`DEVICE`].
    pub(crate) fn macvtap(&mut self, n: u8, kind: LinkKind) {
        self.link(DEVICE, "eth9", LinkKind::Physical, None);
        self.link(port(n), &format!("vnet{n}"), kind, None);
        let link = self.world.links.get_mut(&port(n)).expect("a macvtap");
        link.lower = Some(DEVICE);
    }

    pub(crate) fn with_vms(mode: Mode, count: u8) -> Self {
        let mut lab = Self::new(mode);
        (1..=count).for_each(|n| lab.add_vm(n));
        lab
    }

    pub(crate) fn add_vm(&mut self, n: u8) {
        let vm = vm(n);
        self.base(n, BASE);
        self.source(MANAGER).vms.insert(vm.uuid, vm);
        self.link(port(n), &format!("vnet{n}"), LinkKind::Tap, Some(BRIDGE));
    }

    pub(crate) fn link(&mut self, ifindex: u32, name: &str, kind: LinkKind, master: Option<u32>) {
        let link = Link { ifindex, name: name.to_owned(), kind, master, lower: None, mac: None };
        self.world.links.insert(ifindex, link);
    }

    /// The source of this name, new if there is none.
    pub(crate) fn source(&mut self, name: &str) -> &mut Source {
        self.world.sources.entry(name.to_owned()).or_insert_with(|| Source {
            health: Health::Healthy,
            vms: BTreeMap::new(),
            overlays: BTreeMap::new(),
            outdated: BTreeSet::new(),
            unsettled: Unsettled::default(),
            rejected: Vec::new(),
        })
    }

    pub(crate) fn manager(&mut self) -> &mut Source {
        self.source(MANAGER)
    }

    pub(crate) fn lose(&mut self) {
        let since = self.world.now;
        self.manager().health = Health::Lost { since, why: "connection refused".to_owned() };
    }

    /// What the manager says of a VM.
    pub(crate) fn vm(&mut self, n: u8) -> &mut Vm {
        self.manager().vms.get_mut(&Lab::uuid(n)).unwrap()
    }

    pub(crate) fn nic(&mut self, n: u8) -> &mut Nic {
        &mut self.vm(n).nics[0]
    }

    pub(crate) fn template(&mut self, id: &str) -> &mut Template {
        self.world.registry.templates.iter_mut().find(|template| template.id == id).unwrap()
    }

    /// The same VM as another source might list it: no media, and what `change` makes of it.
    pub(crate) fn second_opinion(&mut self, n: u8, change: impl FnOnce(&mut Vm)) {
        let mut twin = vm(n);
        twin.media.clear();
        twin.nics[0].port = None;
        change(&mut twin);
        self.source("inventory.toml").vms.insert(twin.uuid, twin);
    }

    /// The disk of VM `n` turns out to be based on an image of this digest.
    pub(crate) fn base(&mut self, n: u8, digest: Digest) {
        let base = Layer { path: format!("/base/{digest}").into(), format: "raw".to_owned() };
        let chain = Chain { overlays: Vec::new(), base, digest, at_birth: false };
        self.world.evidence.insert(disk(n), Evidence::Chain(chain));
    }

    pub(crate) fn evidence(&mut self, n: u8, evidence: Option<Evidence>) {
        match evidence {
            Some(evidence) => self.world.evidence.insert(disk(n), evidence),
            None => self.world.evidence.remove(&disk(n)),
        };
    }

    pub(crate) fn add_medium(&mut self, n: u8, role: MediumRole, digest: Option<Digest>) {
        let path = PathBuf::from(format!("/img/{n}.{}", role.as_str()));
        if let Some(digest) = digest {
            let base = Layer { path: path.clone(), format: "raw".to_owned() };
            let chain = Chain { overlays: Vec::new(), base, digest, at_birth: false };
            self.world.evidence.insert(image(path.clone()), Evidence::Chain(chain));
        }
        self.vm(n).media.push(Medium { role, source: MediumSource::File(image(path)) });
    }

    /// Quarantines go to the sandbox from now on; its bridge is [`SANDBOX`].
    pub(crate) fn sandbox(&mut self) {
        self.world.policy.quarantine = QuarantineMode::Sandbox;
        self.world.policy.sandbox = Some(SandboxRules::new("sbx0"));
        self.link(SANDBOX, "sbx0", LinkKind::Bridge, None);
    }

    /// A person quarantines in the mode of the policy.
    pub(crate) fn quarantine(&mut self, target: QuarantineTarget) {
        let mode = self.world.policy.quarantine;
        let quarantine =
            Quarantine::new(target, self.world.now, Cause::Operator, 1000, "why not").in_mode(mode);
        self.kernel.apply(&Action::PutQuarantine(quarantine));
    }

    pub(crate) fn port_target(&self, n: u8) -> QuarantineTarget {
        QuarantineTarget::Port { ifindex: port(n), instance: self.kernel.slot(port(n)).instance }
    }

    /// The port of VM `n` was seen with this claim, refused for this reason.
    pub(crate) fn sees(&mut self, n: u8, mac: Mac, v4: Option<[u8; 4]>, reason: Reason) {
        let claim = ClaimRecord {
            address: v4.map_or(Address::UNSPECIFIED, Address::mapped),
            mac,
            family: v4.map_or(Family::None, |_| Family::V4) as u8,
            reason: reason as u8,
            ..ClaimRecord::default()
        };
        let (first, last) = (self.world.now, self.world.now);
        let instance = self.kernel.slot(port(n)).instance;
        let seen = Seen { instance, claim, first, last, count: 7 };
        self.world.seen.entry(port(n)).or_default().push(seen);
    }

    /// The same of any interface, with no address.
    pub(crate) fn sees_at(&mut self, ifindex: u32, mac: Mac, reason: Reason) {
        let claim = ClaimRecord { mac, reason: reason as u8, ..ClaimRecord::default() };
        let (first, last) = (self.world.now, self.world.now);
        let instance = self.kernel.slot(ifindex).instance;
        let seen = Seen { instance, claim, first, last, count: 7 };
        self.world.seen.entry(ifindex).or_default().push(seen);
    }

    /// The port of VM `n` has been flooding for a second.
    pub(crate) fn floods(&mut self, n: u8) {
        let Some(held) = self.kernel.state.interfaces.get(&port(n)) else { return };
        let mut load = Load::new(held.slot.instance);
        let from = self.world.now;
        self.pass(Duration::from_secs(1));
        load.sample(&self.world.policy.flood, from, self.world.now, 123_456);
        self.world.loads.insert(port(n), load);
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.world.now = self.world.now + time;
        self.kernel.tick(self.world.now);
    }

    /// One more rule on the mode of bridges or VMs.
    pub(crate) fn rule(&mut self, of: ModeScope, mode: Mode) {
        self.world.policy.modes.push(ModeRule { of, mode });
    }

    /// Somebody asks for this mode.
    pub(crate) fn switch(&mut self, mode: Mode) {
        self.switch_until(mode, None);
    }

    /// Somebody asks for this mode, for some time.
    pub(crate) fn switch_until(&mut self, mode: Mode, until: Option<Timestamp>) {
        let deed = Deed::new(self.world.now, 1000, ModeCause::Operator, "a test");
        let until = until.map(|at| Ticks(at.0));
        self.world.asked = Some(ModeRecord { until, ..ModeRecord::confirmed(mode, deed) });
    }

    pub(crate) fn decide(&mut self) -> Decision {
        self.world.observed = self.kernel.state.clone();
        decide(&self.world)
    }

    /// Decides and acts until there is nothing to do, and says what was done.
    pub(crate) fn settle(&mut self) -> (Decision, Vec<Action>) {
        let mut done = Vec::new();
        for _ in 0..3 {
            let decision = self.decide();
            let actions = reconcile(&decision.desired, &self.kernel.state);
            actions.iter().for_each(|action| self.kernel.apply(action));
            let pinned = self.kernel.state.mode.as_ref().map(|mode| &mode.record);
            if pinned == self.world.asked.as_ref() {
                self.world.asked = None;
            }
            if actions.is_empty() {
                return (decision, done);
            }
            done.extend(actions);
        }
        let decision = self.decide();
        let left = reconcile(&decision.desired, &self.kernel.state);
        assert!(left.is_empty(), "never comes to rest: {left:?}");
        (decision, done)
    }

    pub(crate) fn uuid(n: u8) -> Uuid {
        Uuid::from_u128(n.into())
    }

    pub(crate) fn mac(n: u8) -> Mac {
        Mac([0x52, 0x54, 0, 0, n, n])
    }

    pub(crate) fn port(n: u8) -> u32 {
        port(n)
    }
}

fn port(n: u8) -> u32 {
    100 + u32::from(n)
}

fn disk(n: u8) -> ImageFile {
    image(format!("/img/{n}.qcow2").into())
}

fn image(path: PathBuf) -> ImageFile {
    ImageFile::new(path, None)
}

fn vm(n: u8) -> Vm {
    Vm {
        uuid: Lab::uuid(n),
        name: format!("vm{n}"),
        power: PowerState::Running,
        nics: vec![Nic {
            mac: Lab::mac(n),
            port: Some(format!("vnet{n}")),
            vlans: Vec::new(),
            addresses: Vec::new(),
            rule: None,
            dhcp_server: false,
            router: false,
            vrrp: false,
            unguarded: None,
            settings: Vec::new(),
        }],
        media: vec![Medium { role: MediumRole::Disk, source: MediumSource::File(disk(n)) }],
        declared_template: None,
        run: None,
        presumed: Vec::new(),
        attachments: Vec::new(),
        posture: Posture::default(),
    }
}
