//! Whether what guards VMs is in force, for whoever holds up what starts them.

use std::{io::Write, thread, time::Duration};

use anyhow::Result;
use serde::Serialize;

use super::{
    Done, Global,
    args::ReadyArgs,
    ask,
    escape::escape,
    output::{Output, Text, Tone},
    standing::{Ground, Standing},
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Whether VMs may start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Readiness {
    ready: bool,
    why: String,
}

pub(super) fn run(global: &Global, args: &ReadyArgs) -> Result<Done> {
    let mut output = Output::new(global);
    let mut told = String::new();
    loop {
        // What is configured may be mended meanwhile.
        let config = ask::config(global).ok();
        let readiness = Readiness::of(&Ground::new(global, config.as_ref()).standing(None));
        if readiness.ready || !args.wait {
            print(&mut output, &readiness)?;
            return Ok(if readiness.ready { Done::Fine } else { Done::Report });
        }
        if readiness.why != told {
            eprintln!("detector: VMs wait: {}", escape(&readiness.why));
            told = readiness.why;
        }
        wait();
    }
}

impl Readiness {
    pub(super) fn of(standing: &Standing) -> Self {
        let (ready, why) = match standing {
            Standing::Gated => (true, "every bridge is gated".to_owned()),
            Standing::Observed => (true, "verdicts are only observed".to_owned()),
            Standing::Off => (true, "the kernel's command line has detector.off".to_owned()),
            Standing::Open(why) => (false, why.clone()),
        };
        Self { ready, why }
    }
}

pub(super) fn print<W: Write>(output: &mut Output<W>, readiness: &Readiness) -> Result<()> {
    if output.is_json() {
        return output.json(readiness);
    }
    let (word, tone) = if readiness.ready { ("yes", Tone::Good) } else { ("no", Tone::Bad) };
    output.field("Ready", Text(word.to_owned(), tone))?;
    output.field("Why", readiness.why.clone())?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "of programs that are put in place nobody tells")]
fn wait() {
    thread::sleep(PAUSE);
}
