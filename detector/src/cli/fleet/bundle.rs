//! Bundles: packed, sealed, shown, verified and offered.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use detector_core::{
    decide::policy::SCHEMA,
    fleet::{
        Name,
        bundle::{self, Bundle},
        message::{Announcement, Version},
    },
};
use jiff::{SignedDuration, Timestamp};

use super::{AtArgs, BundleCommand, Steward, roll_out};
use crate::{
    cli::{Done, Global, ask, output::Output},
    fleet::{
        connection,
        pack::{self, Opened},
    },
    registry::{Trust, edit},
};

pub(super) fn run(global: &Global, command: BundleCommand, now: Timestamp) -> Result<Done> {
    match command {
        BundleCommand::Pack { directory, fleet, serial, days, note, withdraw, to } => {
            let created = Timestamp::from_second(now.as_second())?;
            let expires = created + SignedDuration::from_hours(24 * i64::from(days));
            let mut files = BTreeMap::new();
            // By which it was checked here, should a host know another one.
            files.insert(bundle::SCHEMA.to_owned(), SCHEMA.to_owned());
            let withdraw = withdraw.as_secs();
            let bundle = Bundle { fleet, version: serial, created, expires, note, withdraw, files };
            write(&to, &pack::pack(&directory, bundle)?)?;
            println!("Sign it:   minisign -S -m {}", to.display());
            println!("Seal it:   detector fleet policy seal {0} --to BUNDLE", to.display());
        }
        BundleCommand::Seal { text, signature, to } => seal(&text, signature, &to)?,
        BundleCommand::Show { bundle } => {
            let opened = pack::open(&read(&bundle)?, None)?;
            show(&mut Output::new(global), &opened)?;
        }
        BundleCommand::Verify { bundle, key } => {
            let opened = pack::open(&read(&bundle)?, Some(&trust(global, key)?))?;
            pack::check(&opened.bundle)?;
            if opened.bundle.expires <= now {
                bail!("it has expired ({}); no host takes it any more", opened.bundle.expires);
            }
            show(&mut Output::new(global), &opened)?;
        }
        BundleCommand::Offer { bundle, at, host } => offer(&bundle, &at, host)?,
        BundleCommand::RollOut { command } => return roll_out::run(global, command),
    }
    Ok(Done::Fine)
}

/// The keys that are named, or those that the host trusts.
fn trust(global: &Global, keys: Vec<String>) -> Result<Trust> {
    let keys = if keys.is_empty() { ask::config(global)?.fleet.trusted_keys } else { keys };
    if keys.is_empty() {
        bail!(
            "nobody's signature counts; expected --key, or fleet.trusted_keys in the configuration"
        );
    }
    Trust::new(&keys, true).map_err(anyhow::Error::msg)
}

fn seal(text: &Path, signature: Option<PathBuf>, to: &Path) -> Result<()> {
    let signature = signature.unwrap_or_else(|| {
        let mut name = text.as_os_str().to_owned();
        name.push(".minisig");
        name.into()
    });
    let (said, signature) = (read(text)?, read(&signature)?);
    let signature = String::from_utf8(signature).context("the signature is no text")?;
    let sealed = bundle::seal(&signature, &said)?;
    pack::open(&sealed, None)?;
    write(to, &sealed)
}

fn offer(path: &Path, at: &AtArgs, hosts: Vec<Name>) -> Result<()> {
    let bytes = read(path)?;
    let (steward, version) = offered(&bytes, at)?;
    let fleet = &steward.fleet;
    let in_the_way = steward.speak(async |client| {
        let before = match connection::announced(&client, fleet).await? {
            Ok(before) => before,
            Err(in_the_way) => return Ok(Some(in_the_way)),
        };
        let announcement = match &before.value {
            Some(before) => match before.may_be_followed_by(version) {
                Ok(()) => before.followed_by(version, hosts),
                Err(unfit) => return Ok(Some(unfit.to_string())),
            },
            None => Announcement { hosts, ..Announcement::to_all(version) },
        };
        let announced = (&announcement, before.revision);
        connection::offer(&client, (fleet, fleet), &bytes, announced).await?;
        connection::overtaken(&client, fleet, &announcement).await
    })?;
    if let Some(why) = in_the_way {
        bail!(why);
    }
    println!("Version {} is offered.", version.number);
    Ok(())
}

/// Looks at a bundle that is to be offered.
pub(super) fn offered(bytes: &[u8], at: &AtArgs) -> Result<(Steward, Version)> {
    let Opened { bundle, version, .. } = pack::open(bytes, None)?;
    pack::check(&bundle)?;
    let steward = Steward::of(at)?;
    if bundle.fleet != steward.fleet {
        bail!("the bundle is of the fleet {}, and this is {}", bundle.fleet, steward.fleet);
    }
    Ok((steward, version))
}

fn show<W: std::io::Write>(output: &mut Output<W>, opened: &Opened) -> Result<()> {
    let Opened { bundle, version, signer } = opened;
    if output.is_json() {
        return output.json(bundle);
    }
    output.field("Fleet", bundle.fleet.as_str())?;
    output.field("Version", bundle.version.to_string())?;
    output.field("SHA-256", version.sha256.to_string())?;
    output.field("Made", bundle.created.to_string())?;
    output.field("Expires", bundle.expires.to_string())?;
    output.field("Signed by", signer.as_deref().unwrap_or("not looked at"))?;
    if !bundle.note.is_empty() {
        output.field("Note", bundle.note.as_str())?;
    }
    for (name, text) in &bundle.files {
        output.field("File", format!("{name} ({} bytes)", text.len()))?;
    }
    Ok(())
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let named = || path.display().to_string();
    let file = File::open(path).with_context(named)?;
    // One more than is taken is enough to refuse it.
    file.take(bundle::LONGEST as u64 + 1).read_to_end(&mut bytes).with_context(named)?;
    Ok(bytes)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(bytes).context("a bundle is text")?;
    let path = std::path::absolute(path)?;
    edit::overwrite(&path, text, 0o644).with_context(|| path.display().to_string())
}
