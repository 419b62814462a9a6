use std::{io::Write, path::Path};

use anyhow::{Result, bail};
use detector_core::{
    decide::{Losers, admit, policy::Rules},
    model::{BlastLimits, Mitigations, Timestamp},
};
use uuid::Uuid;

use crate::{
    cli::{
        Done,
        output::{Output, Text, Tone},
    },
    policy::cases::{self, Tried},
};

/// Tries the rules on the cases of a file.
pub(super) fn run<W: Write>(
    output: &mut Output<W>,
    rules: &Rules,
    path: &Path,
    limits: Option<BlastLimits>,
) -> Result<Done> {
    let cases = cases::read(path)?;
    let tried: Vec<Tried> = cases.iter().map(|case| case.try_on(rules)).collect();
    print(output, &tried, held(&tried, limits))?;
    let failed = tried.iter().filter(|one| !one.wrong.is_empty()).count();
    if failed > 0 {
        bail!("{failed} of {} cases turn out otherwise", tried.len());
    }
    Ok(Done::Fine)
}

/// Of how many a person would be asked first, were these the VMs of one host.
fn held(tried: &[Tried], limits: Option<BlastLimits>) -> usize {
    let Some(limits) = limits else { return 0 };
    let numbered = tried.iter().enumerate().filter(|(_, one)| one.loses);
    let losers: Losers = numbered
        .map(|(n, one)| (Uuid::from_u128(n as u128), one.rules.iter().cloned().collect()))
        .collect();
    let mut mitigations = Mitigations::default();
    admit(&mut mitigations, &losers, limits, limits.allowed(tried.len()), Timestamp(0));
    mitigations.held.len()
}

fn print<W: Write>(output: &mut Output<W>, tried: &[Tried], held: usize) -> Result<()> {
    if output.is_json() {
        #[derive(serde::Serialize)]
        struct All<'a> {
            cases: &'a [Tried],
            /// Were these the VMs of one host.
            held: usize,
        }
        return output.json(&All { cases: tried, held });
    }
    let rows = tried.iter().map(|one| {
        let (mark, tone) =
            if one.wrong.is_empty() { ("ok", Tone::Good) } else { ("WRONG", Tone::Bad) };
        vec![
            one.name.as_str().into(),
            Text(mark.to_owned(), tone),
            crate::cli::vm::status(one.status),
            one.rules.join(", ").into(),
            one.wrong.join("; ").into(),
        ]
    });
    output.table(&["CASE", "", "VERDICT", "BY RULE", "WRONG"], rows.collect())?;
    let losing = tried.iter().filter(|one| one.loses).count();
    if losing == 0 {
        return Ok(());
    }
    output.line("")?;
    output.line(&format!(
        "Were these the VMs of one host, {losing} of {} would lose what they have, and the guard would hold {held} \
         of them.",
        tried.len()
    ))
}
