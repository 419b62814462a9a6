//! What a VM was when it was cut off, kept for whoever has to explain it later: its description, digests of its disks, the
//! first frames that were seen of it, and a manifest that has the digest of each file.
//!
//! A case is a directory of its own. It appears as a whole, is never written to again, and never removed by the daemon:
//! where there is no room for another one, that is said.

mod domain;

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use detector_core::model::Digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::escape::escape;
pub use domain::of_domain;

const VERSION: u32 = 1;
const MANIFEST: &str = "manifest.toml";
const DESCRIPTION: &str = "domain.xml";
const FRAMES: &str = "frames.txt";

/// Cases that are kept.
const MOST_CASES: usize = 1000;
/// Bytes of all of them.
const MOST_BYTES: u64 = 512 << 20;
/// Lines about frames, and bytes of each.
const MOST_FRAMES: usize = 1024;
const LONGEST_FRAME: usize = 4096;
/// What is read of a manifest.
const LARGEST_MANIFEST: u64 = 1 << 20;
/// Disks of one VM.
const MOST_DISKS: usize = 256;

/// What is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Of letters, digits, `-` and `_`: the same one is kept once.
    pub id: String,
    pub vm: Uuid,
    /// Chosen by whoever has made the VM.
    pub name: String,
    /// Where it is known from.
    pub source: String,
    pub description: String,
    pub disks: Vec<DiskEvidence>,
    /// A line each.
    pub frames: Vec<String>,
}

/// A disk as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskEvidence {
    pub target: String,
    pub path: String,
    pub format: String,
    pub bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<Digest>,
    /// Why it has no digest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unread: Option<String>,
}

/// What is in a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub version: u32,
    pub case: String,
    pub vm: Uuid,
    pub name: String,
    pub source: String,
    pub kept_at: Timestamp,
    #[serde(rename = "file", default)]
    pub files: Vec<FileEvidence>,
    #[serde(rename = "disk", default)]
    pub disks: Vec<DiskEvidence>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEvidence {
    pub name: String,
    pub bytes: u64,
    pub sha256: Digest,
}

/// A case that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub place: PathBuf,
    /// Of its manifest.
    pub sha256: Digest,
    pub manifest: Manifest,
}

/// Why nothing is kept, or what was is not what it was.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    #[error("{0:?} is no name of a case")]
    Name(String),
    #[error(
        "{MOST_CASES} cases are kept in {place}, or {MOST_BYTES} bytes of them: take some away, to where they are kept for \
         longer", place = .0.display()
    )]
    Full(PathBuf),
    #[error("the evidence in {place} is not what was kept: {why}", place = .place.display())]
    Damaged { place: PathBuf, why: String },
    #[error("the evidence cannot be kept in {place}: {why}", place = .place.display())]
    Io { place: PathBuf, why: io::Error },
}

/// Where cases are kept.
#[derive(Clone, Debug)]
pub struct Evidence {
    directory: PathBuf,
}

impl Evidence {
    /// Below the state directory.
    pub fn new(state: &Path) -> Self {
        Self { directory: state.join("evidence") }
    }

    /// Keeps a case, on the disk when this returns. One that is kept already is left as it is.
    ///
    /// # Errors
    ///
    /// There is no room, or what is there under this name is damaged.
    pub fn keep(&self, case: &Case, now: Timestamp) -> Result<Kept, EvidenceError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if case.id.is_empty() || case.id.len() > 128 || !case.id.chars().all(plain) {
            return Err(EvidenceError::Name(case.id.clone()));
        }
        if let Some(kept) = self.find(&case.id) {
            return kept;
        }
        let place = self.directory.join(&case.id);
        let io = |why| EvidenceError::Io { place: place.clone(), why };
        let description = visible(&case.description);
        let frames = lines(&case.frames);
        let files = [(DESCRIPTION, description.as_bytes()), (FRAMES, frames.as_bytes())];
        let manifest = Manifest {
            version: VERSION,
            case: case.id.clone(),
            vm: case.vm,
            name: escape(&case.name),
            source: escape(&case.source),
            kept_at: now,
            files: files
                .iter()
                .map(|(name, bytes)| FileEvidence {
                    name: (*name).to_owned(),
                    bytes: bytes.len() as u64,
                    sha256: Digest(Sha256::digest(bytes).into()),
                })
                .collect(),
            disks: case.disks.iter().take(MOST_DISKS).cloned().collect(),
        };
        let text = toml::to_string(&manifest).map_err(|error| io(io::Error::other(error)))?;
        let wanted = text.len() + description.len() + frames.len();
        if !self.has_room(wanted as u64).map_err(io)? {
            return Err(EvidenceError::Full(self.directory.clone()));
        }
        self.write(&case.id, &place, &[files[0], files[1], (MANIFEST, text.as_bytes())])
            .map_err(io)?;
        verify(&place)
    }

    /// A case that is kept already.
    pub fn find(&self, id: &str) -> Option<Result<Kept, EvidenceError>> {
        let place = self.directory.join(id);
        fs::symlink_metadata(&place).is_ok().then(|| verify(&place))
    }

    fn has_room(&self, wanted: u64) -> io::Result<bool> {
        let (mut cases, mut bytes) = (0, wanted);
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            entries => entries?,
        };
        for case in entries {
            cases += 1;
            for file in fs::read_dir(case?.path()).into_iter().flatten() {
                bytes = bytes.saturating_add(file?.metadata()?.len());
            }
        }
        Ok(cases < MOST_CASES && bytes <= MOST_BYTES)
    }

    fn write(&self, id: &str, place: &Path, files: &[(&str, &[u8])]) -> io::Result<()> {
        let private = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        private(&self.directory)?;
        // Of one that was ended in the middle.
        let new = self.directory.join(format!(".{id}.new"));
        match fs::remove_dir_all(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        private(&new)?;
        for (name, bytes) in files {
            let mut options = File::options();
            let mut file = options.write(true).create_new(true).mode(0o400).open(new.join(name))?;
            file.write_all(bytes)?;
            file.sync_all()?;
        }
        File::open(&new)?.sync_all()?;
        // A directory that has something in it is not replaced (rename(2)).
        fs::rename(&new, place)?;
        File::open(&self.directory)?.sync_all()
    }
}

/// Reads a case, and compares each of its files with what the manifest says of it.
///
/// # Errors
///
/// It is not what was kept.
pub fn verify(place: &Path) -> Result<Kept, EvidenceError> {
    let damaged = |why: String| EvidenceError::Damaged { place: place.to_owned(), why };
    let read = |name: &str, most: u64| {
        let path = place.join(name);
        let found =
            fs::symlink_metadata(&path).map_err(|error| damaged(format!("{name}: {error}")))?;
        if !found.is_file() || found.len() > most {
            return Err(damaged(format!("{name} is no file, or is too large")));
        }
        fs::read(&path).map_err(|error| damaged(format!("{name}: {error}")))
    };
    let bytes = read(MANIFEST, LARGEST_MANIFEST)?;
    let text = str::from_utf8(&bytes).map_err(|error| damaged(format!("{MANIFEST}: {error}")))?;
    let manifest: Manifest = toml::from_str(text)
        .map_err(|error| damaged(format!("{MANIFEST}: {}", error.message())))?;
    if manifest.version != VERSION {
        return Err(damaged(format!("version {}; expected {VERSION}", manifest.version)));
    }
    for file in &manifest.files {
        if ![DESCRIPTION, FRAMES].contains(&file.name.as_str()) {
            return Err(damaged("it names a file that is none of a case's".to_owned()));
        }
        let bytes = read(&file.name, file.bytes)?;
        if Digest(Sha256::digest(&bytes).into()) != file.sha256 {
            return Err(damaged(format!("{} has another digest", file.name)));
        }
    }
    let sha256 = Digest(Sha256::digest(&bytes).into());
    Ok(Kept { place: place.to_owned(), sha256, manifest })
}

/// A description in which nothing acts on a terminal, and that a parser reads as it was.
fn visible(xml: &str) -> String {
    let mut shown = String::with_capacity(xml.len());
    for c in xml.chars() {
        match c {
            '\n' | '\\' => shown.push(c),
            c if escape(c.encode_utf8(&mut [0; 4])).chars().eq([c]) => shown.push(c),
            c => shown.push_str(&format!("&#x{:x};", u32::from(c))),
        }
    }
    shown
}

fn lines(frames: &[String]) -> String {
    let mut lines = String::new();
    for frame in frames.iter().take(MOST_FRAMES) {
        let mut end = frame.len().min(LONGEST_FRAME);
        while !frame.is_char_boundary(end) {
            end -= 1;
        }
        lines.push_str(&escape(&frame[..end]));
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn case(id: &str) -> Case {
        Case {
            id: id.to_owned(),
            vm: Uuid::from_u128(7),
            name: "web\u{202e}1".to_owned(),
            source: "qemu:///system".to_owned(),
            description: "<domain>\n  <name>web\u{202e}1 \\ \u{9b}</name>\n</domain>".to_owned(),
            disks: vec![DiskEvidence {
                target: "vda".to_owned(),
                path: "/x".to_owned(),
                format: "raw".to_owned(),
                bytes: 9,
                sha256: Some(Digest([7; 32])),
                unread: None,
            }],
            frames: vec!["one\u{1b}[31m".to_owned(), "é".repeat(5000)],
        }
    }

    #[test]
    fn a_case_is_kept_once_and_whatever_is_changed_of_it_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let evidence = Evidence::new(directory.path());
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let kept = evidence.keep(&case("7-1"), now).unwrap();
        assert_eq!(kept.place, directory.path().join("evidence/7-1"));
        assert_eq!(kept.manifest.disks, case("7-1").disks);
        let read = |name: &str| fs::read_to_string(kept.place.join(name)).unwrap();
        let xml = read(DESCRIPTION);
        assert!(xml.contains("web&#x202e;1 \\ &#x9b;"), "{xml}");
        let parsed = roxmltree::Document::parse(&xml).unwrap();
        assert_eq!(parsed.root_element().text().map(str::trim), Some(""));
        let frames = read(FRAMES);
        assert!(frames.starts_with("one\\u{1b}[31m\n") && frames.len() < 4200, "{}", frames.len());
        for name in [DESCRIPTION, FRAMES, MANIFEST] {
            assert_eq!(fs::metadata(kept.place.join(name)).unwrap().mode() & 0o777, 0o400);
        }
        // Asked for again after a crash, also with something else: what was kept first stays.
        let other = Case { description: "<domain/>".to_owned(), ..case("7-1") };
        assert_eq!(evidence.keep(&other, Timestamp::now()).unwrap(), kept);

        type Damage<'a> = &'a dyn Fn(&Path);
        let write = |place: &Path, name: &str, text: &str| {
            let path = place.join(name);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            fs::write(path, text).unwrap();
        };
        let damages: &[(Damage<'_>, &str)] = &[
            (&|place| write(place, DESCRIPTION, &xml.replace('1', "2")), "another digest"),
            (&|place| write(place, DESCRIPTION, &format!("{xml} ")), "too large"),
            (&|place| fs::remove_file(place.join(FRAMES)).unwrap(), "frames.txt"),
            (&|place| write(place, MANIFEST, ""), "manifest.toml"),
            (
                &|place| {
                    let text = read(MANIFEST).replace("domain.xml", "../x");
                    write(place, MANIFEST, &text);
                },
                "none of a case's",
            ),
        ];
        for (number, (damage, expect)) in damages.iter().enumerate() {
            let id = format!("damaged-{number}");
            let kept = evidence.keep(&case(&id), now).unwrap();
            damage(&kept.place);
            let error = evidence.keep(&case(&id), now).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        }
    }

    #[test]
    fn what_was_ended_in_the_middle_is_none_and_no_name_leads_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let evidence = Evidence::new(directory.path());
        let half = directory.path().join("evidence/.a.new");
        fs::create_dir_all(&half).unwrap();
        fs::write(half.join(MANIFEST), "half").unwrap();
        let kept = evidence.keep(&case("a"), Timestamp::now()).unwrap();
        assert!(!half.exists());
        assert_eq!(verify(&kept.place).unwrap(), kept);
        for id in ["", ".", "..", "a/b", "a\0", &"x".repeat(129)] {
            assert!(matches!(
                evidence.keep(&case(id), Timestamp::now()),
                Err(EvidenceError::Name(_))
            ));
        }
        for number in 0..MOST_CASES {
            fs::create_dir_all(directory.path().join(format!("evidence/old-{number}"))).unwrap();
        }
        let error = evidence.keep(&case("b"), Timestamp::now()).unwrap_err().to_string();
        assert!(error.contains("take some away"), "{error}");
        assert!(evidence.keep(&case("a"), Timestamp::now()).is_ok());
    }
}
