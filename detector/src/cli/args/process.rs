use clap::Subcommand;
use clap_complete::engine::ArgValueCompleter;

use crate::cli::completions::processes;

#[derive(Debug, Subcommand)]
pub enum ProcessCommand {
    /// List the processes that are VMs, or hold what VMs are made of, with the VM that each is
    #[command(after_help = "\
Examples:
  detector process list
  detector process list --output json | jq '.processes[] | select(.status == \"unknown\")'")]
    List,
    /// Show one with its program, command line, and what it holds
    #[command(after_help = "Examples:\n  detector process show web1\n  detector process show 4711")]
    Show {
        /// Number of the process, or name or UUID of the VM that it is, or says it is
        #[arg(add = ArgValueCompleter::new(processes))]
        process: String,
    },
}
