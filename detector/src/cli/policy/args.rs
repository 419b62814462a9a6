//! What can be typed after `detector policy`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Say whether a policy is valid, and where it is not; needs no daemon
    #[command(after_help = "\
Examples:
  detector policy check
  detector policy check /tmp/new.cedar
  detector policy check /tmp/new.cedar --output json | jq '.faults[]'

Exits with 1 when it is not.")]
    Check {
        /// The policy [default: the configured paths.policy]
        file: Option<PathBuf>,
    },
    /// Try a policy on cases that a file describes; needs no daemon
    #[command(after_help = "\
Examples:
  detector policy test cases.toml
  detector policy test cases.toml --policy /tmp/new.cedar

A case says what differs from a VM that the built-in policy approves, and what is expected:

  [[case]]
  name = \"a revoked template\"
  template = { status = \"revoked\" }
  expect = \"denied\"                    # approved | pending | denied
  rules = [\"template-approved\"]        # those that decide; may be left out

docs/policy.md has every key. Exits with 1 when a case turns out otherwise.")]
    Test {
        /// The cases, in TOML
        cases: PathBuf,
        /// The policy [default: the configured paths.policy, or the built-in one]
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
    },
    /// Say which rules decided on a VM, and what each rule asks
    #[command(after_help = "\
Examples:
  detector policy explain web1
  detector policy explain web1 --output json | jq '.rules'

Exits with 3 when it may not join.")]
    Explain {
        /// Name or UUID of a VM
        vm: String,
    },
    /// List the VMs that another policy would judge otherwise; nothing is done
    #[command(after_help = "\
Examples:
  detector policy diff /tmp/new.cedar
  detector policy diff /tmp/new.cedar --output json | jq '.changes[].vm.name'

The daemon judges the VMs of now by it. Exits with 3 when the verdict on some VM would be another one.")]
    Diff {
        /// The other policy
        file: PathBuf,
    },
    /// Show the rules in force, and where they were read
    #[command(after_help = "\
Examples:
  detector policy show
  detector policy show --output json | jq -r .text")]
    Show,
    /// Print the built-in policy, to start from
    #[command(after_help = "\
Examples:
  detector policy default > /etc/detector/policy.cedar")]
    Default,
    /// Print what a rule can speak of, as a Cedar schema
    #[command(after_help = "\
Examples:
  detector policy schema > detector.cedarschema")]
    Schema,
}
