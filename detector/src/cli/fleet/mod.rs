//! What an administrator does for a fleet; none of it needs a daemon.

mod args;
mod bundle;
mod roll_out;

use std::{
    future::Future,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use detector_core::fleet::{Name, subject::Holder};
use jiff::Timestamp;

pub(super) use args::FleetCommand;
use args::{AtArgs, BundleCommand, InitArgs, RollOutCommand, StartArgs};

use super::{
    Done, Global,
    output::{Output, Text, Tone},
};
use crate::fleet::{
    Authority, Found,
    connection::{self, Access},
};

pub(super) fn run(global: &Global, command: FleetCommand) -> Result<Done> {
    let now = Timestamp::now();
    match command {
        FleetCommand::Init(args) => init(args, now),
        FleetCommand::Prepare { at, replicas } => prepare(&at, replicas),
        FleetCommand::Enrol { name, of, monitor } => enrol(&of.dir, &holder(name, monitor), now),
        FleetCommand::Revoke { name, at, monitor } => revoke(&at, &holder(name, monitor), now),
        FleetCommand::List { of } => list(global, &of.dir),
        FleetCommand::Policy { command } => bundle::run(global, command, now),
    }
}

fn holder(name: Name, monitor: bool) -> Holder {
    if monitor { Holder::Monitor(name) } else { Holder::Host(name) }
}

fn init(args: InitArgs, now: Timestamp) -> Result<Done> {
    let InitArgs { directory, name, server, port, listen, server_directory } = args;
    let host =
        |server: &String| if server.contains(':') { format!("[{server}]") } else { server.clone() };
    let found = Found {
        fleet: name,
        urls: server.iter().map(|server| format!("tls://{}:{port}", host(server))).collect(),
        names: server.clone(),
        listen: format!("{}:{port}", host(&listen)),
        server_directory,
    };
    Authority::found(&directory, &found, now)?;
    let shown = directory.display();
    println!(
        "The fleet {} is in {shown}. Whoever has that directory decides who is of it.",
        found.fleet
    );
    println!("Start its server:   nats-server -c {shown}/server/nats-server.conf");
    println!("Make its buckets:   detector fleet prepare --dir {shown}");
    println!("Enrol a host:       detector fleet enrol HOST --dir {shown}");
    Ok(Done::Fine)
}

fn enrol(directory: &Path, holder: &Holder, now: Timestamp) -> Result<Done> {
    let mut authority = Authority::open(directory)?;
    let path = authority.enrol(holder, now)?;
    println!("{}", path.display());
    Ok(Done::Fine)
}

fn prepare(at: &AtArgs, replicas: u8) -> Result<Done> {
    let steward = Steward::of(at)?;
    steward.speak(async |client| connection::prepare(&client, usize::from(replicas)).await)?;
    println!("The buckets and streams of the fleet {} are there.", steward.fleet);
    Ok(Done::Fine)
}

fn revoke(at: &AtArgs, holder: &Holder, now: Timestamp) -> Result<Done> {
    let mut authority = Authority::open(&at.of.dir)?;
    // Who was revoked before, while no server could be told, is told now.
    let revoked = authority.members().iter().any(|member| {
        let of = holder.title();
        member.revoked.is_some() && of == format!("{} {}", member.kind, member.name)
    });
    match authority.revoke(holder, now) {
        Err(crate::fleet::AuthorityError::Unknown(_)) if revoked => {}
        outcome => outcome?,
    }
    let token = authority.account(now)?;
    let credentials = authority.system_credentials()?;
    let urls = urls(&authority, at);
    let certificate = authority.certificate();
    let access = Access {
        urls: &urls,
        credentials: &credentials,
        authority: Some(&certificate),
        inbox: "_INBOX",
        name: "detector fleet",
    };
    let told = block_on(async { connection::push(&access.connect().await?, &token).await })?;
    told.with_context(|| {
        format!(
            "{} is revoked here, and goes on until a server is told: run this again",
            holder.title()
        )
    })?;
    authority.told(&token)?;
    println!("{} is revoked.", holder.title());
    Ok(Done::Fine)
}

fn list(global: &Global, directory: &Path) -> Result<Done> {
    let authority = Authority::open(directory)?;
    let mut output = Output::new(global);
    if output.is_json() {
        output.json(&authority.members())?;
        return Ok(Done::Fine);
    }
    let row = |member: &crate::fleet::Member| {
        let revoked = member.revoked.map(|at| Text(format!("revoked {at}"), Tone::Attention));
        vec![
            member.kind.as_str().into(),
            member.name.as_str().into(),
            member.enrolled.to_string().into(),
            revoked.unwrap_or_else(|| "good".into()),
        ]
    };
    let rows = authority.members().iter().map(row).collect();
    output.table(&["KIND", "NAME", "ENROLLED", "CREDENTIALS"], rows)?;
    Ok(Done::Fine)
}

fn urls(authority: &Authority, at: &AtArgs) -> Vec<String> {
    at.url.clone().map_or_else(|| authority.urls().to_vec(), |url| vec![url])
}

/// Who may make buckets and offer bundles. Nobody else who works with the directory waits until that is done, which may
/// take hours.
struct Steward {
    fleet: Name,
    urls: Vec<String>,
    certificate: PathBuf,
    credentials: String,
}

impl Steward {
    fn of(at: &AtArgs) -> Result<Self> {
        let authority = Authority::open(&at.of.dir)?;
        Ok(Self {
            fleet: authority.fleet().clone(),
            urls: urls(&authority, at),
            certificate: authority.certificate(),
            credentials: authority.steward_credentials()?,
        })
    }

    /// Does something over a connection.
    fn speak<T, F>(&self, work: impl FnOnce(async_nats::Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, connection::ConnectionError>>,
    {
        let inbox = Holder::Steward.inbox();
        let access = Access {
            urls: &self.urls,
            credentials: &self.credentials,
            authority: Some(&self.certificate),
            inbox: &inbox,
            name: "detector fleet",
        };
        Ok(block_on(async { work(access.connect().await?).await })??)
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.context("cannot start the runtime")?.block_on(work))
}
