//! What a process of the daemon may still do.

use std::{
    ffi::CString,
    fmt, fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, lchown},
    path::Path,
};

use caps::{CapSet, Capability, CapsHashSet};
use nix::{
    errno::Errno,
    sys::prctl,
    unistd::{Gid, Uid, User, initgroups, setgroups, setresgid, setresuid},
};

/// What programs, maps and interfaces take. To look up the programs of others by their numbers takes
/// `CAP_SYS_ADMIN`.
pub(crate) const OF_ENFORCER: [Capability; 4] = [
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_SYS_ADMIN,
];

/// Images and lease files that belong to others.
pub(crate) const OF_BRAIN: [Capability; 1] = [Capability::CAP_DAC_READ_SEARCH];

/// What others of the daemon's processes have, and the brain never.
pub(crate) const OF_OTHERS: [Capability; 7] = [
    Capability::CAP_CHECKPOINT_RESTORE,
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_RAW,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_PTRACE,
];

/// The user that the brain becomes where the configuration names none and there is one of this name.
pub(crate) const USER: &str = "detector";

/// Who the brain is to be; `None` where it stays what it is.
///
/// # Errors
///
/// There is no such user, or this process cannot become another one.
pub(crate) fn user(configured: Option<&str>) -> io::Result<Option<Identity>> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    named(configured)
}

/// The same, whoever asks.
///
/// # Errors
///
/// There is no such user.
pub(crate) fn named(configured: Option<&str>) -> io::Result<Option<Identity>> {
    let name = configured.unwrap_or(USER);
    let found = match name.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number))?.map_or_else(
            || Identity { name: None, uid: Uid::from_raw(number), gid: Gid::from_raw(number) },
            Identity::of,
        ),
        Err(_) => match User::from_name(name)? {
            Some(user) => Identity::of(user),
            None if configured.is_none() => return Ok(None),
            None => {
                return Err(io::Error::other(format!(
                    "no user {name:?} on this host: create it, or correct `user`"
                )));
            }
        },
    };
    Ok(Some(found).filter(|found| !found.uid.is_root()))
}

/// What is wrong where the user of the daemon's unit, which may be none, is another one than the daemon becomes.
pub(crate) fn disagreement(becomes: Option<&Identity>, of_unit: &str) -> Option<String> {
    let unit = match of_unit {
        "" => return None,
        name => named(Some(name)).ok()?.unwrap_or(Identity::ROOT),
    };
    let becomes = becomes.cloned().unwrap_or_else(|| Identity {
        name: User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name),
        uid: nix::unistd::geteuid(),
        gid: nix::unistd::getegid(),
    });
    (becomes.uid != unit.uid).then(|| {
        format!(
            "what decides becomes {becomes}, and the unit has `User={of_unit}`, to whom systemd gives the daemon's \
             directories at each start"
        )
    })
}

/// Who a process is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Of one whom this host knows, with groups.
    name: Option<String>,
    uid: Uid,
    gid: Gid,
}

impl Identity {
    pub(crate) const ROOT: Self =
        Self { name: None, uid: nix::unistd::ROOT, gid: Gid::from_raw(0) };

    fn of(user: User) -> Self {
        Self { name: Some(user.name), uid: user.uid, gid: user.gid }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => to.write_str(name),
            None => write!(to, "{}", self.uid),
        }
    }
}

/// Sees to it that no program that is run from here gains any but these.
fn gain_none(kept: &[Capability]) -> io::Result<()> {
    for capability in caps::all().into_iter().filter(|one| !kept.contains(one)) {
        // The second lock, which takes CAP_SETPCAP: without it there is the first.
        let _ = caps::drop(None, CapSet::Bounding, capability);
    }
    Ok(prctl::set_no_new_privs()?)
}

/// Gives up every capability but these, for good. For a process with one thread.
pub(crate) fn keep_only(kept: &[Capability]) -> io::Result<()> {
    gain_none(kept)?;
    let kept: CapsHashSet = kept.iter().copied().collect();
    let held = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    let left: CapsHashSet = held.intersection(&kept).copied().collect();
    // Nothing that is run from here has any.
    caps::clear(None, CapSet::Ambient).map_err(io::Error::other)?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).map_err(io::Error::other)?;
    caps::set(None, CapSet::Effective, &left).map_err(io::Error::other)?;
    caps::set(None, CapSet::Permitted, &left).map_err(io::Error::other)
}

/// Gives up these capabilities and keeps all others. For a process with one thread.
pub(crate) fn give_up(these: &[Capability]) -> io::Result<()> {
    let kept: Vec<_> = caps::all().into_iter().filter(|one| !these.contains(one)).collect();
    keep_only(&kept)
}

/// Makes a directory and all in it the user's own. Links are not followed, so that who may write there chooses
/// nothing elsewhere.
pub(crate) fn hand_over(place: &Path, user: &Identity) -> io::Result<()> {
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    // The place itself may be a link, of whoever has configured it.
    let mut left = vec![fs::canonicalize(place)?];
    while let Some(path) = left.pop() {
        let metadata = match fs::symlink_metadata(&path) {
            // A draft that has found its place meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        // What has another name elsewhere may be somebody else's.
        if metadata.is_file() && metadata.nlink() > 1 {
            continue;
        }
        // Whom a socket lets in is decided by its own group.
        let gid = if metadata.file_type().is_socket() { metadata.gid() } else { gid };
        if (metadata.uid(), metadata.gid()) != (uid, gid) {
            lchown(&path, Some(uid), Some(gid))?;
        }
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path)?.filter_map(|entry| Some(entry.ok()?.path())));
        }
    }
    Ok(())
}

/// Becomes this user with these capabilities, for good. For a process with one thread.
pub(crate) fn become_user(user: &Identity, kept: &[Capability]) -> io::Result<()> {
    gain_none(kept)?;
    prctl::set_keepcaps(true)?;
    match &user.name {
        Some(name) => initgroups(&CString::new(name.as_str())?, user.gid)?,
        None => setgroups(&[])?,
    }
    setresgid(user.gid, user.gid, user.gid)?;
    setresuid(user.uid, user.uid, user.uid)?;
    prctl::set_keepcaps(false)?;
    // They are permitted still, and what is permitted may be had again.
    keep_only(kept)?;
    match setresuid(nix::unistd::ROOT, nix::unistd::ROOT, nix::unistd::ROOT) {
        Err(Errno::EPERM) => Ok(()),
        other => Err(io::Error::other(format!("it could become root again: {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;

    #[test]
    fn the_units_user_is_the_daemons_or_something_is_wrong() {
        let numbered = |uid: &str| named(Some(uid)).unwrap();
        for (becomes, of_unit, agrees) in [
            (numbered("4005"), "4005", true),
            (numbered("4005"), "", true),
            (numbered("4005"), "4006", false),
            (numbered("4005"), "root", false),
            (Some(Identity::ROOT), "root", true),
            (Some(Identity::ROOT), "4005", false),
            // Systemd would not start it.
            (numbered("4005"), "nobody-of-this-name", true),
        ] {
            let wrong = disagreement(becomes.as_ref(), of_unit);
            assert_eq!(wrong.is_none(), agrees, "{becomes:?} {of_unit:?}: {wrong:?}");
        }
        let own = nix::unistd::geteuid().to_string();
        assert_eq!(disagreement(None, &own), None, "it stays who it is");
    }

    /// Whoever may write to the place chooses nothing elsewhere.
    #[test]
    fn a_directory_is_handed_over_and_nothing_beyond_it() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root hands anything over");
            return;
        }
        const GROUP: u32 = 4242;
        let user = Identity { name: None, uid: Uid::from_raw(4005), gid: Gid::from_raw(4006) };
        let (place, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let inside = place.path().join("state");
        let deep = inside.join("deep");
        fs::create_dir_all(&deep).unwrap();
        let precious = outside.path().join("precious");
        for path in [&inside.join("file"), &deep.join("file"), &precious] {
            fs::write(path, "x").unwrap();
        }
        fs::hard_link(&precious, inside.join("hard")).unwrap();
        symlink(&precious, inside.join("link")).unwrap();
        symlink(outside.path(), inside.join("way-out")).unwrap();
        let _listener = UnixListener::bind(inside.join("socket")).unwrap();
        lchown(inside.join("socket"), None, Some(GROUP)).unwrap();
        symlink(&inside, place.path().join("configured")).unwrap();

        for _ in 0..2 {
            hand_over(&place.path().join("configured"), &user).unwrap();
            let owner = |path: &Path| {
                let metadata = fs::symlink_metadata(path).unwrap();
                (metadata.uid(), metadata.gid())
            };
            let theirs = (4005, 4006);
            let cases = [
                ("", theirs),
                ("file", theirs),
                ("deep", theirs),
                ("deep/file", theirs),
                // The links themselves, and not what they lead to.
                ("link", theirs),
                ("way-out", theirs),
                ("hard", (0, 0)),
                // Whom it lets in its group says.
                ("socket", (4005, GROUP)),
            ];
            for (name, expect) in cases {
                assert_eq!(owner(&inside.join(name)), expect, "{name}");
            }
            for path in [outside.path(), &precious, place.path(), &place.path().join("configured")]
            {
                assert_eq!(owner(path), (0, 0), "{}", path.display());
            }
        }
    }
}
