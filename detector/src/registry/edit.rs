//! Writing manifests: the text keeps what people have written into it, and a file is replaced whole.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, fchown},
    path::Path,
};

use detector_core::model::{Image, Template, TemplateStatus, Timestamp};
use toml_edit::{ArrayOfTables, Datetime, DocumentMut, Item, Table, Value, value};

/// Stands before the first image, since a profile behind them could be lost with the end of the file.
const PROFILE: &str = "\n# What its VMs have to be like goes here: [profile]\n\n";

/// A manifest as text. Where its profile says nothing it is for people to write.
pub fn compose(template: &Template) -> String {
    let mut manifest = DocumentMut::new();
    let mut text = |key: &str, what: Option<&str>| {
        if let Some(what) = what {
            manifest[key] = value(what);
        }
    };
    text("id", Some(&template.id));
    text("version", template.version.as_deref());
    text("os", template.os.as_deref());
    text("status", Some(template.status.as_str()));
    text("reason", template.reason.as_deref());
    for (key, at) in [("since", template.since), ("expires", template.expires)] {
        if let Some(at) = at {
            manifest[key] = Item::Value(moment(at));
        }
    }
    if let Some(serial) = template.serial.and_then(|serial| i64::try_from(serial).ok()) {
        manifest["serial"] = value(serial);
    }
    // What comes last in an image is what it cannot do without: cut off anywhere, it is no manifest.
    if let Ok(number) = i64::try_from(template.images.len()) {
        manifest["images"] = value(number);
    }
    let mut images = ArrayOfTables::new();
    images.extend(template.images.iter().map(image));
    match (profile(template), images.get_mut(0)) {
        (Some(profile), _) => manifest["profile"] = Item::Table(profile),
        (None, Some(first)) => first.decor_mut().set_prefix(PROFILE),
        (None, None) => {}
    }
    manifest["image"] = Item::ArrayOfTables(images);
    manifest.to_string()
}

/// What its VMs have to be like, where that is said.
fn profile(template: &Template) -> Option<Table> {
    let text = toml::to_string(&template.profile).ok()?;
    let said: DocumentMut = text.parse().ok()?;
    let said = said.as_table().clone();
    (!said.is_empty()).then_some(said)
}

fn image(image: &Image) -> Table {
    let mut table = Table::new();
    table["role"] = value(image.role.as_str());
    if let Some(format) = image.format {
        table["format"] = value(format.as_str());
    }
    // TOML has no words for a name that is not UTF-8.
    if let Some(path) = image.path.as_deref().and_then(Path::to_str) {
        table["path"] = value(path);
    }
    table["sha256"] = value(image.sha256.to_string());
    table
}

/// The text of a manifest with another status, and a serial that is one higher. A reason that is not
/// given anew goes, since it was that of the earlier status. Comments and order stay.
pub fn with_status(
    text: &str,
    status: TemplateStatus,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<String, toml_edit::TomlError> {
    let mut manifest: DocumentMut = text.parse()?;
    let same = manifest.get("status").and_then(Item::as_str) == Some(status.as_str());
    set(&mut manifest, "status", status.as_str().into());
    match reason {
        Some(reason) => set(&mut manifest, "reason", reason.into()),
        None if same => {}
        None => drop(manifest.remove("reason")),
    }
    // Said once more it is not said later: a grace period is counted from it.
    if !same {
        set(&mut manifest, "since", moment(now));
    }
    let serial = manifest.get("serial").and_then(Item::as_integer).unwrap_or(0);
    set(&mut manifest, "serial", serial.saturating_add(1).into());
    Ok(manifest.to_string())
}

/// Sets a value, and leaves the comment behind it.
fn set(manifest: &mut DocumentMut, key: &str, mut new: Value) {
    match manifest.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        None => drop(manifest.insert(key, Item::Value(new))),
    }
}

fn moment(at: Timestamp) -> Value {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    let text = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string();
    text.parse::<Datetime>().map_or_else(|_| text.into(), Into::into)
}

/// Writes a file that must not be there yet.
pub fn create(path: &Path, text: &str) -> io::Result<()> {
    let draft = draft(path, text, 0o644)?;
    draft.persist_noclobber(path).map_err(|error| error.error)?;
    sync_directory(path)
}

/// Replaces a file in one step: whoever reads it reads the old text or the new one, also after a crash.
/// What a symbolic link leads to is replaced, not the link.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let metadata = fs::metadata(&path)?;
    let draft = draft(&path, text, metadata.mode() & 0o7777)?;
    fchown(draft.as_file(), Some(metadata.uid()), Some(metadata.gid()))?;
    draft.persist(&path).map_err(|error| error.error)?;
    sync_directory(&path)
}

/// Writes a file in one step, whether it is there or not.
pub(crate) fn overwrite(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    draft(path, text, mode)?.persist(path).map_err(|error| error.error)?;
    sync_directory(path)
}

/// A file beside the other, which the daemon does not read.
fn draft(path: &Path, text: &str, mode: u32) -> io::Result<tempfile::NamedTempFile> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut draft = tempfile::Builder::new()
        .prefix(".manifest-")
        .suffix(".new")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)?;
    draft.write_all(text.as_bytes())?;
    // The umask is no part of what was asked for.
    draft.as_file().set_permissions(Permissions::from_mode(mode))?;
    draft.as_file().sync_all()?;
    Ok(draft)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use detector_core::model::{ImageFormat, MediumRole};

    use super::*;
    use crate::registry::manifest::parse;

    const AT: Timestamp = Timestamp(1_800_000_000_000);

    fn parsed(text: &str) -> Template {
        let mut rejected = Vec::new();
        let template = parse(Path::new("t.toml"), text, &mut rejected).unwrap();
        assert_eq!(rejected, []);
        template
    }

    #[test]
    fn what_is_composed_is_what_is_read() {
        let image = Image {
            format: Some(ImageFormat::Qcow2),
            path: Some("/images/a \"b\".qcow2".into()),
            ..Image::new(MediumRole::Disk, detector_core::model::Digest([7; 32]))
        };
        let template = Template {
            version: Some("2026.11".to_owned()),
            os: Some("Debian 12".to_owned()),
            since: Some(AT),
            expires: Some(Timestamp(AT.0 + 1000)),
            serial: Some(1),
            images: vec![image.clone(), Image { role: MediumRole::Kernel, ..image }],
            ..Template::new("debian-12", TemplateStatus::Draft)
        };
        assert_eq!(parsed(&compose(&template)), template);
    }

    #[test]
    fn a_change_keeps_what_people_wrote() {
        let text = "# Golden image.\nid = \"a\" # mine\nstatus = \"approved\" # by Ann\n\
                    reason = \"tested\"\n\n# The disk\n[[image]]\nrole = \"disk\"\nsha256 = \"00\"\n";
        let revoked = with_status(text, TemplateStatus::Revoked, Some("CVE"), AT).unwrap();
        assert_eq!(
            revoked,
            "# Golden image.\nid = \"a\" # mine\nstatus = \"revoked\" # by Ann\nreason = \"CVE\"\n\
             since = 2027-01-15T08:00:00Z\nserial = 1\n\n# The disk\n[[image]]\nrole = \"disk\"\n\
             sha256 = \"00\"\n"
        );
        let later = Timestamp(AT.0 + 5000);
        let again = with_status(&revoked, TemplateStatus::Revoked, None, later).unwrap();
        assert_eq!(again, revoked.replace("serial = 1", "serial = 2"), "no new grace");
        let back = with_status(&again, TemplateStatus::Approved, None, later).unwrap();
        assert!(!back.contains("CVE") && back.contains("since = 2027-01-15T08:00:05Z"), "{back}");
        assert!(back.contains("serial = 3"), "{back}");
    }

    #[test]
    fn a_file_is_replaced_whole_and_never_created_twice() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.toml"), dir.path().join("link.toml"));
        create(&real, "one").unwrap();
        assert_eq!(create(&real, "two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real.toml", &link).unwrap();
        replace(&link, "three").unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "three");
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no draft is left");
    }
}
