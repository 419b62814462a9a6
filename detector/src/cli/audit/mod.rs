//! What was decided and done: reads the database itself, whether a daemon lives or not.

pub(super) mod args;
pub(super) mod recorded;
pub(super) mod text;

use std::{
    collections::VecDeque,
    fs,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, Result, anyhow, bail};
use rusqlite::Connection;
use serde::Serialize;

use self::args::{AuditCommand, File, ListArgs, VerifyArgs};
use super::{
    Done, Global,
    ask::config,
    output::{Output, Tone},
};
use crate::audit::{
    self, Anchor, Checked, Head, Kind, Place, PublicKeys, Record, SigningKey, Verifier,
};

pub(super) fn run(global: &Global, command: &AuditCommand) -> Result<Done> {
    let mut output = Output::new(global);
    match command {
        AuditCommand::List(args) => list(global, args, &mut output)?,
        AuditCommand::Show { seq, file } => {
            let connection = open(global, file)?;
            let Some((line, hash)) = audit::record(&connection, *seq)? else {
                bail!("there is no record {seq}; `detector audit list` shows those that there are")
            };
            text::show(&mut output, &line, &hash)?;
        }
        AuditCommand::Verify(args) => return verify(global, args, &mut output),
        AuditCommand::Export { from, to, file } => {
            export(&open(global, file)?, *from, to.unwrap_or(u64::MAX))?;
        }
        AuditCommand::Head { file } => head(global, file, &mut output)?,
        AuditCommand::Key => key(global, &mut output)?,
    }
    Ok(Done::Fine)
}

fn place(global: &Global) -> Result<Place> {
    Ok(Place::new(&config(global)?.paths.state))
}

fn open(global: &Global, file: &File) -> Result<Connection> {
    let path: PathBuf = match &file.database {
        Some(path) => path.clone(),
        None => place(global)?.database,
    };
    Ok(audit::reader(&path)?)
}

fn list(global: &Global, args: &ListArgs, output: &mut Output) -> Result<()> {
    for kind in &args.kind {
        if Kind::named(kind).is_none() {
            bail!("there is no kind {kind:?}; expected one of {}", Kind::names().join(", "));
        }
    }
    let connection = open(global, &args.file)?;
    let oldest = args.since.map(|span| jiff::Timestamp::now().checked_sub(span)).transpose()?;
    let mut found: VecDeque<Record> = VecDeque::new();
    audit::each_record(&connection, 1, u64::MAX, |_, line, _| {
        // What is none is for `verify` to tell.
        let Ok(record) = serde_json::from_str::<Record>(line) else { return };
        let is_wanted = oldest.is_none_or(|oldest| record.at >= oldest)
            && (args.kind.is_empty() || args.kind.contains(&record.entry.kind.name()))
            && args.about.as_deref().is_none_or(|about| text::is_about(&record, about));
        if is_wanted {
            if args.limit > 0 && found.len() == args.limit {
                found.pop_front();
            }
            found.push_back(record);
        }
    })?;
    text::list(output, found.make_contiguous())
}

fn verify(global: &Global, args: &VerifyArgs, output: &mut Output) -> Result<Done> {
    let mut keys = PublicKeys::default();
    for key in &args.key {
        let text = text_or_file(key, |text| text.starts_with("RW"))?;
        keys.extend(PublicKeys::parse(&text).map_err(|why| anyhow!("--key: {why}"))?);
    }
    if args.key.is_empty() {
        keys = PublicKeys::read(&place(global)?).map_err(|why| anyhow!(why))?;
    }
    let mut anchors = Vec::new();
    for anchor in &args.anchor {
        let text = text_or_file(anchor, |text| text.parse::<Anchor>().is_ok())?;
        anchors.push(text.parse().map_err(|why| anyhow!("--anchor {anchor}: {why}"))?);
    }
    let connection = open(global, &args.file)?;
    let anchored = !anchors.is_empty();
    let checked = Verifier { keys, anchors }.verify(&connection)?;
    report(output, &checked, anchored)?;
    Ok(if checked.faults.is_empty() { Done::Fine } else { Done::Report })
}

fn text_or_file(given: &str, is_text: impl Fn(&str) -> bool) -> Result<String> {
    if is_text(given) {
        return Ok(given.to_owned());
    }
    fs::read_to_string(given).with_context(|| format!("{given:?} is no file that can be read"))
}

fn report<W: Write>(output: &mut Output<W>, checked: &Checked, anchored: bool) -> Result<()> {
    if output.is_json() {
        return output.json(checked);
    }
    let Checked { records, first, last, checkpoints, faults, more_faults } = checked;
    output.field("Records", format!("{records} ({first} to {last}), {checkpoints} checkpoints"))?;
    if faults.is_empty() {
        let text = match anchored {
            true => "every record is the one that was written",
            false => {
                "every record follows the one before it; --anchor says whether the whole was begun anew"
            }
        };
        return output.field("Verified", super::output::Text(text.to_owned(), Tone::Good));
    }
    for fault in faults {
        let word = output.toned("wrong", Tone::Bad);
        output.item(&format!("{word:<8} "), &super::escape::escape(&fault.text))?;
    }
    if *more_faults > 0 {
        output.line(&format!("… and {more_faults} more"))?;
    }
    Ok(())
}

/// The records, and the checkpoints that stand for them, each behind the record that it signs.
fn export(connection: &Connection, from: u64, to: u64) -> Result<()> {
    let mut checkpoints = audit::checkpoints(connection)?.into_iter().peekable();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut failed = Ok(());
    audit::each_record(connection, from, to, |seq, line, hash| {
        if failed.is_err() {
            return;
        }
        failed = (|| {
            while let Some((_, line)) = checkpoints.next_if(|(at, _)| *at < seq) {
                // The one that stands for what was removed before the first record, too.
                writeln!(out, "{line}")?;
            }
            writeln!(out, "{}", audit::with_hash(line, hash))
        })();
    })?;
    failed?;
    for (_, line) in checkpoints.take_while(|(at, _)| *at <= to) {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

fn head(global: &Global, file: &File, output: &mut Output) -> Result<()> {
    let connection = open(global, file)?;
    let head = audit::head(&connection)?.context("the audit has no record yet")?;
    let key = SigningKey::load(&place(global)?);
    let signed = match &key {
        Ok(key) => Some(audit::sign(&head, key).map_err(|why| anyhow!(why))?),
        Err(error) => {
            eprintln!("detector: it is not signed: {}", super::escape::escape(&error.to_string()));
            None
        }
    };
    if output.is_json() {
        #[derive(Serialize)]
        struct Signed<'a> {
            head: &'a Head,
            /// What is signed, byte for byte.
            text: Option<&'a str>,
            /// In the format of minisign.
            signature: Option<&'a str>,
            key: Option<String>,
        }
        let (text, signature) = match &signed {
            Some((text, signature)) => (Some(text.as_str()), Some(signature.as_str())),
            None => (None, None),
        };
        let key = key.as_ref().ok().map(SigningKey::public);
        return output.json(&Signed { head: &head, text, signature, key });
    }
    output.field("Record", head.seq.to_string())?;
    output.field("Hash", head.hash.as_str())?;
    output.field("Chain", head.chain.as_str())?;
    output.field("Written", format!("{} ({})", head.at, output.ago(head.at)))?;
    output.field("Anchor", format!("{}:{}", head.seq, head.hash))
}

fn key(global: &Global, output: &mut Output) -> Result<()> {
    let path = place(global)?.public;
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{}: the daemon makes it when it first starts", path.display()))?;
    if output.is_json() {
        #[derive(Serialize)]
        struct Key<'a> {
            key: &'a str,
        }
        return output.json(&Key { key: text.lines().nth(1).unwrap_or_default() });
    }
    output.line(&super::escape::escape(text.lines().nth(1).unwrap_or_default()))
}
