//! Whether a chain is what was written, and where it is not.

use std::{collections::BTreeMap, str::FromStr};

use rusqlite::Connection;
use serde::Serialize;

use super::{
    Head, PublicKeys, Record,
    chain::row,
    line::{self, NOTHING},
};

/// Faults that are told; what is beyond is counted.
const MOST_FAULTS: usize = 100;

/// The end of the chain as it was once, kept where nobody who can write the chain can write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Not known of one that is given as `SEQ:HASH`.
    pub chain: Option<String>,
    pub seq: u64,
    pub hash: String,
}

/// Something that is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The record that is wrong, or the first one that is missing.
    pub seq: u64,
    /// Stable: docs/audit.md lists them.
    pub code: &'static str,
    pub text: String,
}

/// What has been looked at, and found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    pub records: u64,
    pub first: u64,
    pub last: u64,
    /// Checkpoints whose signature counts.
    pub checkpoints: u64,
    /// In the order in which they were found.
    pub faults: Vec<Fault>,
    /// Further ones, which are not listed.
    pub more_faults: u64,
}

/// What a chain is held against.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    pub keys: PublicKeys,
    pub anchors: Vec<Anchor>,
}

impl FromStr for Anchor {
    type Err = String;

    /// `SEQ:HASH`, or what `detector audit head --output json` prints.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            "this is no anchor; expected SEQ:HASH, or a file with what `detector audit head --output json` \
             printed"
                .to_owned()
        };
        let is_hash = |hash: &str| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        let text = text.trim();
        if let Ok(value) = serde_json::from_str::<serde_json::Value>(text) {
            let value = value.get("head").cloned().unwrap_or(value);
            let head: Head = serde_json::from_value(value).map_err(|_| expected())?;
            let anchor = Self { chain: Some(head.chain), seq: head.seq, hash: head.hash };
            return if is_hash(&anchor.hash) { Ok(anchor) } else { Err(expected()) };
        }
        let (seq, hash) = text.split_once(':').ok_or_else(expected)?;
        match seq.parse() {
            Ok(seq) if is_hash(hash) => {
                Ok(Self { chain: None, seq, hash: hash.to_ascii_lowercase() })
            }
            _ => Err(expected()),
        }
    }
}

impl Verifier {
    /// Looks at the whole chain, as it is at one moment.
    pub fn verify(&self, connection: &Connection) -> rusqlite::Result<Checked> {
        let moment = connection.unchecked_transaction()?;
        let id: Option<String> = moment.query_row("SELECT max(id) FROM chain", [], |r| r.get(0))?;
        let mut checked = Checked::default();
        let signed = self.checkpoints(&moment, id.as_deref(), &mut checked)?;
        let known = self.known(id.as_deref(), &signed, &mut checked);
        let mut walk = Walk { id: id.as_deref(), known: &known, before: None, checked };
        each_record(&moment, 1, u64::MAX, |seq, line, hash| walk.step(seq, line, hash))?;
        Ok(walk.end())
    }

    /// The checkpoints that count: hash by number of the record.
    fn checkpoints(
        &self,
        connection: &Connection,
        id: Option<&str>,
        checked: &mut Checked,
    ) -> rusqlite::Result<BTreeMap<u64, String>> {
        let mut signed = BTreeMap::new();
        let mut all =
            connection.prepare("SELECT seq, text, signature FROM checkpoint ORDER BY seq")?;
        let mut rows = all.query([])?;
        while let Some(found) = rows.next()? {
            let seq = u64::try_from(found.get::<_, i64>(0)?).unwrap_or_default();
            let (text, signature): (String, String) = (found.get(1)?, found.get(2)?);
            if !self.keys.have_signed(&text, &signature) {
                checked.fault(seq, "checkpoint-unsigned", format!(
                    "the checkpoint at record {seq} is not signed by the audit's key: it was changed, or the \
                     key is another one (--key takes the one that was kept elsewhere)"
                ));
                continue;
            }
            match serde_json::from_str::<Head>(&text) {
                Ok(head) if head.seq == seq && Some(head.chain.as_str()) == id => {
                    checked.checkpoints += 1;
                    signed.insert(seq, head.hash);
                }
                _ => checked.fault(seq, "checkpoint-foreign", format!(
                    "the checkpoint at record {seq} was signed for another record or another chain"
                )),
            }
        }
        Ok(signed)
    }

    /// Everything that is known from elsewhere of the records of this chain.
    fn known(
        &self,
        id: Option<&str>,
        signed: &BTreeMap<u64, String>,
        checked: &mut Checked,
    ) -> Vec<Known> {
        let mut known: Vec<_> = signed
            .iter()
            .map(|(seq, hash)| Known { seq: *seq, hash: hash.clone(), anchor: false })
            .collect();
        for anchor in &self.anchors {
            if anchor.chain.is_some() && anchor.chain.as_deref() != id {
                checked.fault(anchor.seq, "another-chain", format!(
                    "the anchor is of another chain, of which record {} is not here: the audit has begun anew \
                     since, or was replaced. Its first record may say why",
                    anchor.seq
                ));
                continue;
            }
            known.push(Known { seq: anchor.seq, hash: anchor.hash.clone(), anchor: true });
        }
        known.sort();
        known
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Known {
    seq: u64,
    hash: String,
    anchor: bool,
}

/// Goes along the chain.
struct Walk<'a> {
    id: Option<&'a str>,
    known: &'a [Known],
    /// Number of the record before, its hash as it is, and as it is stored.
    before: Option<(u64, String, String)>,
    checked: Checked,
}

impl Walk<'_> {
    fn step(&mut self, seq: u64, line: &str, stored: &str) {
        let actual = line::hash(line);
        let checked = &mut self.checked;
        checked.records += 1;
        let record = serde_json::from_str::<Record>(line).ok();
        if actual != stored {
            checked.fault(
                seq,
                "changed",
                format!("record {seq} was changed: what it says is not what it was written with"),
            );
        } else if record.as_ref().is_none_or(|record| record.seq != seq) {
            checked.fault(
                seq,
                "unreadable",
                format!("record {seq} is none, or is another's number"),
            );
        }
        let prev = record.map(|record| record.prev);
        match &self.before {
            None => self.first(seq, prev.as_deref(), &actual),
            Some((before, ..)) if seq != before + 1 => {
                let (from, to) = (before + 1, seq - 1);
                checked.fault(from, "missing", format!("records {from} to {to} are missing"));
            }
            Some((before, its_hash, its_stored)) => {
                // What was changed has been said already.
                let follows = prev.is_none_or(|prev| prev == *its_hash || prev == *its_stored);
                if !follows {
                    let before = *before;
                    checked.fault(before, "replaced", format!(
                        "record {before} is not the one that record {seq} was written after: one of them was \
                         replaced"
                    ));
                }
            }
        }
        for known in self.known.iter().filter(|known| known.seq == seq && known.hash != actual) {
            let (code, by) = match known.anchor {
                true => ("anchor-differs", "of the anchor"),
                false => ("checkpoint-differs", "that its checkpoint was signed for"),
            };
            self.checked.fault(seq, code, format!("record {seq} is not the one {by}"));
        }
        self.before = Some((seq, actual, stored.to_owned()));
    }

    /// The first record that is there.
    fn first(&mut self, seq: u64, prev: Option<&str>, actual: &str) {
        self.checked.first = seq;
        if seq == 1 {
            if prev.is_some_and(|prev| prev != NOTHING) || self.id != Some(actual) {
                self.checked.fault(
                    seq,
                    "replaced",
                    "record 1 is not the one that the chain began with".into(),
                );
            }
            return;
        }
        let end = seq - 1;
        let signed = self.known.iter().find(|known| known.seq == end && !known.anchor);
        if signed.is_none() {
            self.checked.fault(
                1,
                "missing",
                format!("records 1 to {end} are missing, and no signed checkpoint stands for them"),
            );
        } else if signed.is_some_and(|known| prev.is_some_and(|prev| prev != known.hash)) {
            self.checked.fault(
                seq,
                "replaced",
                format!("record {seq} does not follow the ones that were removed before it"),
            );
        }
        for anchor in self.known.iter().filter(|known| known.anchor && known.seq < seq) {
            if !(anchor.seq == end && signed.is_some_and(|known| known.hash == anchor.hash)) {
                self.checked.fault(anchor.seq, "anchor-pruned", format!(
                    "record {} of the anchor has been removed with others that were too old: take a later anchor",
                    anchor.seq
                ));
            }
        }
    }

    fn end(mut self) -> Checked {
        self.checked.last = self.before.as_ref().map_or(0, |(seq, ..)| *seq);
        let last = self.checked.last;
        if last == 0 {
            self.checked.fault(1, "missing", "there is no record at all".into());
        }
        for known in self.known.iter().filter(|known| last > 0 && known.seq > last) {
            let by = if known.anchor { "the anchor" } else { "a signed checkpoint" };
            let (from, to) = (last + 1, known.seq);
            self.checked.fault(
                from,
                "truncated",
                format!(
                    "records {from} to {to} are missing at the end: {by} stands for record {to}"
                ),
            );
        }
        self.checked
    }
}

impl Checked {
    fn fault(&mut self, seq: u64, code: &'static str, text: String) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(Fault { seq, code, text });
        } else {
            self.more_faults += 1;
        }
    }
}

/// What is wrong with the records up to this one, by themselves: for when they are about to be removed.
pub(super) fn faults_up_to(connection: &Connection, last: u64) -> rusqlite::Result<Vec<Fault>> {
    let (mut before, mut checked) = (None::<(u64, String)>, Checked::default());
    each_record(connection, 1, last, |seq, line, hash| {
        let prev = serde_json::from_str::<Record>(line).map(|record| record.prev);
        let follows = match (&before, prev) {
            (Some((number, hash)), Ok(prev)) => *number + 1 == seq && *hash == prev,
            (None, Ok(_)) => true,
            (_, Err(_)) => false,
        };
        if !follows || line::hash(line) != hash {
            checked.fault(seq, "changed", format!("record {seq} is not what was written"));
        }
        before = Some((seq, hash.to_owned()));
    })?;
    Ok(checked.faults)
}

/// Hands every record to `each`: number, line, hash.
pub fn each_record(
    connection: &Connection,
    from: u64,
    to: u64,
    mut each: impl FnMut(u64, &str, &str),
) -> rusqlite::Result<()> {
    let mut records = connection
        .prepare("SELECT seq, line, hash FROM record WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq")?;
    let mut rows = records.query([row(from), row(to)])?;
    while let Some(found) = rows.next()? {
        let seq = u64::try_from(found.get::<_, i64>(0)?).unwrap_or_default();
        each(seq, found.get_ref(1)?.as_str()?, found.get_ref(2)?.as_str()?);
    }
    Ok(())
}
