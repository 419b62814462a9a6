//! What can be typed after `detector audit`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List what was decided and what people did, the latest last
    #[command(after_help = "\
Examples:
  detector audit list
  detector audit list --since 2h --kind quarantine --kind action-asked
  detector audit list --about web1 --limit 0 --output json | jq '.records[].why'

Reads the database itself, also with the daemon dead.")]
    List(ListArgs),
    /// Show one record with its evidence
    #[command(after_help = "Examples:\n  detector audit show 4711")]
    Show {
        /// Number of the record
        seq: u64,
        #[command(flatten)]
        file: File,
    },
    /// Say whether the audit is what was written, and which record is not
    #[command(after_help = "\
Examples:
  detector audit verify
  detector audit verify --anchor /mnt/elsewhere/host1.json
  detector audit verify --anchor 4711:9f86d081884c7d65… --key RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3

An anchor is what `detector audit head` printed once and was kept where nobody who can write on this host can: \
without one, whoever can read the key here can begin the whole chain anew.

Exits with 3 when something is wrong.")]
    Verify(VerifyArgs),
    /// Print the records as lines of JSON that can be verified without detector
    #[command(after_help = "\
Examples:
  detector audit export > audit.jsonl
  detector audit export --from 4712 >> audit.jsonl

docs/audit.md says how to verify them. What is printed acts on no terminal.")]
    Export {
        /// The first record
        #[arg(long, value_name = "SEQ", default_value_t = 1)]
        from: u64,
        /// The last record
        #[arg(long, value_name = "SEQ")]
        to: Option<u64>,
        #[command(flatten)]
        file: File,
    },
    /// Print the end of the chain, signed, to be kept elsewhere
    #[command(after_help = "\
Examples:
  detector audit head --output json | ssh archive 'cat > anchors/host1.json'
  detector audit verify --anchor anchors/host1.json")]
    Head {
        #[command(flatten)]
        file: File,
    },
    /// Print the public key by which the chain is signed
    #[command(after_help = "\
Examples:
  detector audit key
  detector audit key | ssh archive 'cat > keys/host1.pub'")]
    Key,
}

#[derive(Clone, Debug, Args)]
pub struct File {
    /// Another database, such as one that was set aside or copied [default: audit.db in paths.state]
    #[arg(long, value_name = "FILE")]
    pub database: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// Only what was recorded so long ago at most
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub since: Option<Duration>,
    /// Only of this kind (`vm`, `port`, `quarantine`, `action-asked`, …); may be given again
    #[arg(long, value_name = "KIND")]
    pub kind: Vec<String>,
    /// Only about this VM, port or MAC: its name or id
    #[arg(long, value_name = "NAME")]
    pub about: Option<String>,
    /// The latest so many; 0 for all
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    #[command(flatten)]
    pub file: File,
}

#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// An end of the chain that was kept elsewhere: a file, or SEQ:HASH; may be given again
    #[arg(long, value_name = "ANCHOR")]
    pub anchor: Vec<String>,
    /// A public key that was kept elsewhere: a file, or its text; may be given again
    /// [default: audit.pub in paths.state]
    #[arg(long, value_name = "KEY")]
    pub key: Vec<String>,
    #[command(flatten)]
    pub file: File,
}
