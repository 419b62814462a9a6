//! One host that is made up: what it says, and when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_nats::jetstream::{self, message::PublishMessage};
use async_nats::{Client, StatusCode};
use detector::fleet::connection::Access;
use detector::fleet::pack;
use detector::registry::Trust;
use detector_core::fleet::Name;
use detector_core::fleet::message::{
    self, Announcement, FindingNews, HostState, NicState, OpenFinding, PolicyState, Time, Version,
    VmState,
};
use detector_core::fleet::page::{OpenPage, Page, open_pages, pages};
use detector_core::fleet::subject::{self, Holder};
use detector_core::model::Severity;
use futures::StreamExt;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use uuid::Uuid;

/// How often a host says its state when nothing has changed, as daemons do.
const STATE: Duration = Duration::from_secs(30);
/// How often something happens to one of its VMs.
const CHANGE: Duration = Duration::from_secs(60);
/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What all hosts have in common.
pub(crate) struct Terms {
    pub(crate) fleet: Name,
    pub(crate) urls: Vec<String>,
    pub(crate) authority: std::path::PathBuf,
    /// Whose bundles they take.
    pub(crate) trust: Trust,
    pub(crate) vms: u32,
}

/// What a host is told to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Tell of a finding with this number.
    Open(u32),
    /// It is over.
    Close(u32),
}

/// A host that is connected.
pub(crate) struct Speaker {
    terms: Arc<Terms>,
    name: Name,
    number: u32,
    client: Client,
    context: jetstream::Context,
    life: Uuid,
    started: Time,
    vms: Vec<VmState>,
    open: BTreeMap<u32, OpenFinding>,
    in_force: Option<Version>,
    changes: u32,
}

/// What the hosts are called.
pub(crate) fn name(number: u32) -> Result<Name> {
    Ok(format!("load-{number:05}").parse()?)
}

impl Speaker {
    /// Connects, and says everything once.
    pub(crate) async fn join(number: u32, credentials: &str, terms: Arc<Terms>) -> Result<Self> {
        let name = name(number)?;
        let holder = Holder::Host(name.clone());
        let (inbox, title) = (holder.inbox(), holder.title());
        let access = Access {
            urls: &terms.urls,
            credentials,
            authority: Some(&terms.authority),
            inbox: &inbox,
            name: &title,
        };
        let client = access.connect().await?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(PATIENCE);
        let vms = (0..terms.vms).map(|vm| vm_of(number, vm)).collect();
        let mut own = Self {
            terms,
            name,
            number,
            client,
            context,
            life: Uuid::new_v4(),
            started: Time::now(),
            vms,
            open: BTreeMap::new(),
            in_force: None,
            changes: 0,
        };
        for page in pages(own.vms.clone()).into_iter().rev() {
            own.say_page(&page).await?;
        }
        own.say_open().await?;
        own.say_state().await?;
        own.look().await?;
        Ok(own)
    }

    /// Lives until nobody orders anything any more; `took` is told of each bundle that it goes by.
    pub(crate) async fn live(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        took: std::sync::mpsc::Sender<std::time::Instant>,
    ) -> Result<()> {
        // Commands are heard as everything else is, and nobody sends any.
        let mut commands = self.client.subscribe(subject::commands(&self.name)).await?;
        let mut news = self.client.subscribe(subject::NEWS).await?;
        let [mut states, mut changes] = [STATE, CHANGE].map(|every| {
            // Each host has a beat of its own.
            let share = f64::from(self.number.wrapping_mul(2_654_435_761) >> 16) / 65536.0;
            let mut beats = interval_at(Instant::now() + every.mul_f64(share), every);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beats
        });
        loop {
            tokio::select! {
                _ = states.tick() => self.say_state().await?,
                _ = changes.tick() => self.change().await?,
                Some(_) = commands.next() => {}
                Some(message) = news.next() => {
                    if self.announced(&message.payload).await? {
                        let _ = took.send(std::time::Instant::now());
                    }
                }
                order = orders.recv() => match order {
                    None => return Ok(()),
                    Some(order) => self.tell(order).await?,
                },
            }
        }
    }

    /// Another VM has been started or stopped.
    async fn change(&mut self) -> Result<()> {
        self.changes += 1;
        let Some(at) = self.changes.checked_rem(self.terms.vms) else { return Ok(()) };
        let vm = &mut self.vms[at as usize];
        let (power, status) = match vm.power.as_str() {
            "running" => ("off", "off"),
            _ => ("running", "approved"),
        };
        (vm.power, vm.status, vm.since) = (power.to_owned(), status.to_owned(), Some(Time::now()));
        let uuid = vm.uuid;
        for page in pages(self.vms.clone()) {
            if page.vms.iter().any(|vm| vm.uuid == uuid) {
                self.say_page(&page).await?;
            }
        }
        self.say_state().await
    }

    async fn say_page(&self, page: &Page) -> Result<()> {
        let key = subject::vm_page(&self.name, page.number);
        self.put(subject::key(subject::VMS, &key), page, None).await
    }

    fn open_pages(&self) -> Vec<OpenPage> {
        open_pages(self.open.values().cloned().collect())
    }

    async fn say_open(&self) -> Result<()> {
        for page in self.open_pages().into_iter().rev() {
            let key = subject::open_page(&self.name, page.number);
            self.put(subject::key(subject::VMS, &key), &page, None).await?;
        }
        Ok(())
    }

    async fn say_state(&mut self) -> Result<()> {
        let mut vms = BTreeMap::new();
        for vm in &self.vms {
            *vms.entry(vm.status.clone()).or_insert(0) += 1;
        }
        let granted = vms.get("approved").copied().unwrap_or(0);
        let state = HostState {
            at: Time::now(),
            every: STATE.as_secs(),
            life: self.life,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            mode: "enforce".to_owned(),
            policy: PolicyState { in_force: self.in_force, ..PolicyState::default() },
            vms,
            ports: [("granted".to_owned(), granted)].into(),
            findings: [("high".to_owned(), self.open.len() as u64)].into(),
            troubles: Vec::new(),
            pages: u32::try_from(pages(self.vms.clone()).len())?,
            open_pages: u32::try_from(self.open_pages().len()).ok(),
        };
        self.put(subject::key(subject::HOSTS, self.name.as_str()), &state, None).await
    }

    /// Tells what happens to a finding, and what is open since, as a daemon does.
    async fn tell(&mut self, order: Order) -> Result<()> {
        let (number, event) = match order {
            Order::Open(number) => (number, "opened"),
            Order::Close(number) => (number, "closed"),
        };
        let (now, id) = (Time::now(), Uuid::new_v4());
        let known = self.open.remove(&number);
        let finding = known.unwrap_or_else(|| finding(number, now));
        let news = FindingNews {
            id,
            alert: Uuid::from_u64_pair(u64::from(self.number), u64::from(number)),
            event: event.to_owned(),
            at: now,
            finding: finding.id.clone(),
            kind: finding.kind.clone(),
            severity: finding.severity,
            title: finding.title.clone(),
            since: finding.since,
            vm: finding.vm,
            evidence: finding.evidence.clone(),
            next: finding.next.clone(),
        };
        self.put(subject::finding(&self.name), &news, Some(id)).await?;
        if matches!(order, Order::Open(_)) {
            self.open.insert(number, finding);
        }
        self.say_open().await?;
        self.say_state().await
    }

    /// Asks for what is announced, as a host does that has just connected.
    async fn look(&mut self) -> Result<()> {
        match self.ask(subject::ANNOUNCED).await? {
            Some(payload) => self.announced(&payload).await.map(drop),
            None => Ok(()),
        }
    }

    /// Takes a bundle if it is to; whether it goes by another one then, and has said so.
    async fn announced(&mut self, payload: &[u8]) -> Result<bool> {
        let (_, said) = message::open::<Announcement>(payload, &self.terms.fleet, None)?;
        let wanted = said.version_for(&self.name).filter(|version| self.in_force != Some(*version));
        let Some(version) = wanted else { return Ok(false) };
        let bundle = self.ask(&subject::bundle(version.number)).await?;
        let bundle = bundle.with_context(|| format!("there is no bundle {}", version.number))?;
        let opened = pack::open(&bundle, Some(&self.terms.trust))?;
        if opened.version != version {
            bail!("{} has been given another bundle", self.name);
        }
        self.in_force = Some(version);
        self.say_state().await?;
        Ok(true)
    }

    async fn ask(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let answer = self.client.request(subject::ask(key), bytes()).await?;
        Ok(match answer.status {
            Some(StatusCode::NOT_FOUND) => None,
            _ => Some(answer.payload.to_vec()),
        })
    }

    async fn put(&self, subject: String, body: &impl Serialize, id: Option<Uuid>) -> Result<()> {
        let message = message::seal(&self.terms.fleet, &self.name, body)?;
        let mut said = PublishMessage::build().payload(message.into());
        if let Some(id) = id {
            said = said.message_id(id.to_string());
        }
        let kept = self.context.send_publish(subject.clone(), said).await?;
        kept.await.with_context(|| format!("{subject} is not kept"))?;
        Ok(())
    }
}

/// By this a finding is known on a page.
pub(crate) fn title(number: u32) -> String {
    format!("Port load{number} belongs to no VM")
}

fn finding(number: u32, since: Time) -> OpenFinding {
    OpenFinding {
        id: format!("unknown-port:load{number}"),
        kind: "unknown-port".to_owned(),
        severity: Severity::High,
        title: title(number),
        evidence: vec![("port".to_owned(), format!("load{number}"))],
        next: Some(format!("detector explain load{number}")),
        since,
        vm: None,
        settled: false,
    }
}

fn vm_of(host: u32, number: u32) -> VmState {
    let [_, a, b, c] = host.to_be_bytes();
    let low = number.to_be_bytes();
    VmState {
        uuid: Uuid::from_u64_pair(0x4000 | u64::from(host) << 16, 1 << 63 | u64::from(number)),
        name: format!("vm-{host}-{number}"),
        source: "libvirt".to_owned(),
        power: "running".to_owned(),
        status: "approved".to_owned(),
        since: Some(Time::UNIX_EPOCH),
        template: Some(format!("debian-{}@1", number % 7)),
        nics: vec![NicState {
            mac: format!("52:{a:02x}:{b:02x}:{c:02x}:{:02x}:{:02x}", low[2], low[3]),
            port: Some(format!("vnet{number}")),
            status: Some("granted".to_owned()),
            // One network in which no two VMs have the same address.
            addresses: vec![format!("fd00::{host:x}:{number:x}")],
        }],
    }
}

fn bytes() -> bytes::Bytes {
    bytes::Bytes::new()
}
