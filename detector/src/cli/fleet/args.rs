//! What can be typed after `detector fleet`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use detector_core::fleet::Name;

#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Make a fleet: its keys, certificates, and the configuration of its NATS server
    #[command(after_help = "\
Examples:
  detector fleet init ./prod --name prod --server nats.example.org
  nats-server -c ./prod/server/nats-server.conf
  detector fleet prepare --dir ./prod

The directory decides who is of the fleet: keep it where no host of the fleet is. Only `server` goes to the machine \
that NATS runs on.")]
    Init(InitArgs),
    /// Make the buckets and streams of a fleet on its running NATS server
    #[command(after_help = "\
Examples:
  detector fleet prepare --dir ./prod
  detector fleet prepare --dir ./prod --replicas 3")]
    Prepare {
        #[command(flatten)]
        at: AtArgs,
        /// On how many servers of a cluster each is kept
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
        replicas: u8,
    },
    /// Give a host credentials by which it speaks for itself and for no other; no server is touched
    #[command(after_help = "\
Examples:
  detector fleet enrol host-1 --dir ./prod
  detector fleet enrol desk --monitor --dir ./prod

The file of credentials goes to the host, where only root reads it, with ca.pem beside it (docs/fleet.md).")]
    Enrol {
        name: Name,
        #[command(flatten)]
        of: OfArgs,
        /// For a monitor, which sees all hosts and sends them commands
        #[arg(long)]
        monitor: bool,
    },
    /// Make credentials void; whoever uses them is cut off at once
    #[command(after_help = "\
Examples:
  detector fleet revoke host-1 --dir ./prod
  detector fleet revoke desk --monitor --dir ./prod

Run it again where no server could be told: until then the credentials are good.")]
    Revoke {
        name: Name,
        #[command(flatten)]
        at: AtArgs,
        /// A monitor's
        #[arg(long)]
        monitor: bool,
    },
    /// List who has credentials, and who had
    #[command(after_help = "\
Examples:
  detector fleet list --dir ./prod
  detector fleet list --dir ./prod --output json | jq '.[].name'")]
    List {
        #[command(flatten)]
        of: OfArgs,
    },
    /// Bundles: policy, templates and settings of all hosts in one signed file
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Policy {
        #[command(subcommand)]
        command: BundleCommand,
    },
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where to make it
    pub directory: PathBuf,
    /// What the fleet is called
    #[arg(long)]
    pub name: Name,
    /// Name or address by which hosts reach the NATS server; several for several
    #[arg(long, required = true, value_name = "HOST")]
    pub server: Vec<String>,
    /// The port
    #[arg(long, default_value_t = 4222)]
    pub port: u16,
    /// Where the server listens
    #[arg(long, default_value = "0.0.0.0", value_name = "ADDRESS")]
    pub listen: String,
    /// Where the directory `server` will lie on the machine that NATS runs on [default: where it is made]
    #[arg(long, value_name = "DIR")]
    pub server_directory: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct OfArgs {
    /// The directory of the fleet
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct AtArgs {
    #[command(flatten)]
    pub of: OfArgs,
    /// Where to reach NATS, in place of where hosts do
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum BundleCommand {
    /// Put the files of a directory into the text of a bundle, which is then signed
    #[command(after_help = "\
Examples:
  detector fleet policy pack ./policy --fleet prod --serial 7 --days 90 --to bundle-7.json
  minisign -S -s fleet.key -m bundle-7.json
  detector fleet policy seal bundle-7.json --to bundle-7

The directory has policy.cedar and, where wanted, settings.toml and templates/*.toml. The key that signs stays offline.")]
    Pack {
        /// Where the files are
        directory: PathBuf,
        #[arg(long)]
        fleet: Name,
        /// Its version, higher than that of any bundle before it
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
        serial: u64,
        /// For how many days hosts take it
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=3650))]
        days: u16,
        /// What is new, for people
        #[arg(long, default_value = "")]
        note: String,
        /// For how long after a host has taken it a roll-out that is stopped has the host go back
        #[arg(long, default_value = "24h", value_name = "TIME", value_parser = humantime::parse_duration)]
        withdraw: Duration,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Put a text and its signature into one file, the bundle
    #[command(after_help = "\
Examples:
  detector fleet policy seal bundle-7.json --to bundle-7")]
    Seal {
        /// The text that was signed
        text: PathBuf,
        /// Its signature [default: the same name with .minisig]
        #[arg(long, value_name = "FILE")]
        signature: Option<PathBuf>,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Show what a bundle says, whoever has signed it
    #[command(after_help = "\
Examples:
  detector fleet policy show bundle-7
  detector fleet policy show bundle-7 --output json | jq -r '.files[\"policy.cedar\"]'")]
    Show { bundle: PathBuf },
    /// Say whether a bundle is signed by a trusted key and can be used by this release
    #[command(after_help = "\
Examples:
  detector fleet policy verify bundle-7
  detector fleet policy verify bundle-7 --key RWQ…

Exits with 1 when it is not.")]
    Verify {
        bundle: PathBuf,
        /// A key whose signature counts [default: fleet.trusted_keys of the configuration]
        #[arg(long, value_name = "KEY")]
        key: Vec<String>,
    },
    /// Offer a bundle to the hosts of a fleet
    #[command(after_help = "\
Examples:
  detector fleet policy offer bundle-7 --dir ./prod
  detector fleet policy offer bundle-7 --dir ./prod --host canary-1 --host canary-2

Each host looks at the signature itself, and takes only what is newer than what it has.")]
    Offer {
        bundle: PathBuf,
        #[command(flatten)]
        at: AtArgs,
        /// A host that is to take it; all hosts when none is named
        #[arg(long)]
        host: Vec<Name>,
    },
    /// Offer a bundle in waves, and take it back where it cuts off VMs
    #[command(
        subcommand_required = true,
        arg_required_else_help = true,
        after_help = "\
Examples:
  detector fleet policy roll-out start bundle-8 --dir ./prod --canary host-1 --wave 5% --wave 30% --soak 1h
  detector fleet policy roll-out status --dir ./prod --output json
  detector fleet policy roll-out continue --dir ./prod       # after an interruption
  detector fleet policy roll-out halt --dir ./prod --reason 'ticket 4711'"
    )]
    RollOut {
        #[command(subcommand)]
        command: RollOutCommand,
    },
}

#[derive(Debug, Subcommand)]
pub enum RollOutCommand {
    /// Begin, and go on until every host goes by the bundle
    #[command(after_help = "\
Examples:
  detector fleet policy roll-out start bundle-8 --dir ./prod --dry-run
  detector fleet policy roll-out start bundle-8 --dir ./prod --canary host-1 --wave 5% --wave 30% --soak 1h

Each wave begins once every host of the one before has gone by the bundle for a while. The roll-out stops by itself, and \
the hosts go back, when more VMs than --most lose their network, or a host refuses the bundle or does not take it in \
time. It can be interrupted (and a lost connection is waited for): `roll-out continue` goes on, here or elsewhere, and a wave \
does no harm for as long again as it has to. Exits with 1 when it was stopped.")]
    Start(StartArgs),
    /// Go on with the one that is under way
    #[command(after_help = "\
Examples:
  detector fleet policy roll-out continue --dir ./prod

Several may do so side by side, and it does no harm where it goes on already.")]
    Continue {
        #[command(flatten)]
        at: AtArgs,
    },
    /// Say how far it has come
    #[command(after_help = "\
Examples:
  detector fleet policy roll-out status --dir ./prod
  detector fleet policy roll-out status --dir ./prod --output json | jq .progress")]
    Status {
        #[command(flatten)]
        at: AtArgs,
    },
    /// Stop it, or take it back once it is done: the hosts go back to the bundle before
    #[command(after_help = "\
Examples:
  detector fleet policy roll-out halt --dir ./prod --reason 'ticket 4711'
  detector fleet policy roll-out status --dir ./prod         # which hosts have not gone back, and why

A host goes back for as long as the bundle allows (`pack --withdraw`). A later version that was offered stays.")]
    Halt {
        #[command(flatten)]
        at: AtArgs,
        /// Why, for whoever asks later
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub struct StartArgs {
    pub bundle: PathBuf,
    #[command(flatten)]
    pub at: AtArgs,
    /// A host of the first wave; several for several
    #[arg(long, value_name = "HOST")]
    pub canary: Vec<Name>,
    /// The share of all hosts that have it after the next wave; 100% comes last
    #[arg(long, value_name = "PERCENT", value_parser = share, default_values = ["10%", "50%"])]
    pub wave: Vec<u16>,
    /// For how long a wave has to do no harm
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub soak: Duration,
    /// How long the hosts of a wave may take to go by it
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub patience: Duration,
    /// How many VMs may lose their network by it, in all
    #[arg(long, default_value_t = 3, value_name = "NUMBER")]
    pub most: u64,
    /// How many hosts of a wave may be silent, or not have it in time
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub late: u64,
    /// Only say which hosts are in which wave
    #[arg(long)]
    pub dry_run: bool,
}

/// Reads a percentage as thousandths.
fn share(text: &str) -> Result<u16, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>();
    let thousandths = number.map(|percent| (percent * 10.0).round());
    match thousandths {
        Ok(share) if (1.0..=1000.0).contains(&share) => Ok(share as u16),
        _ => Err("expected a percentage from 0.1% to 100%".to_owned()),
    }
}
