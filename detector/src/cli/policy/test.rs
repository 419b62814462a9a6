use std::{io::Write, path::Path};

use anyhow::{Result, bail};
use detector_core::decide::policy::Rules;

use crate::{
    cli::{
        Done,
        output::{Output, Text, Tone},
    },
    policy::cases::{self, Tried},
};

/// Tries the rules on the cases of a file.
pub(super) fn run<W: Write>(output: &mut Output<W>, rules: &Rules, path: &Path) -> Result<Done> {
    let cases = cases::read(path)?;
    let tried: Vec<Tried> = cases.iter().map(|case| case.try_on(rules)).collect();
    print(output, &tried)?;
    let failed = tried.iter().filter(|one| !one.wrong.is_empty()).count();
    if failed > 0 {
        bail!("{failed} of {} cases turn out otherwise", tried.len());
    }
    Ok(Done::Fine)
}

fn print<W: Write>(output: &mut Output<W>, tried: &[Tried]) -> Result<()> {
    if output.is_json() {
        #[derive(serde::Serialize)]
        struct All<'a> {
            cases: &'a [Tried],
        }
        return output.json(&All { cases: tried });
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
    output.table(&["CASE", "", "VERDICT", "BY RULE", "WRONG"], rows.collect())
}
