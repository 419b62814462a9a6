//! The file that the textfile collector of node_exporter reads.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Puts the text in the place of the one before, in one step, readable for everybody: the exporter runs as
/// somebody else, and it says nothing of tenants but the names of interfaces. A directory that is absent is
/// not made.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    // The collector reads what ends in `.prom`.
    let new = path.with_extension("prom.new");
    let mut options = File::options();
    let options = options.write(true).create(true).truncate(true).mode(0o644);
    // Somebody else's directory: what is there already may be a link to anywhere.
    let mut file = options.custom_flags(libc::O_NOFOLLOW).open(&new)?;
    file.write_all(text.as_bytes())?;
    drop(file);
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_sees_half_of_it_or_is_led_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("detector.prom");
        write(&path, "one\n").unwrap();
        let before = File::open(&path).unwrap();
        write(&path, "two\n").unwrap();
        assert_eq!(io::read_to_string(before).unwrap(), "one\n", "whoever reads reads on");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let victim = directory.path().join("victim");
        fs::write(&victim, "v").unwrap();
        std::os::unix::fs::symlink(&victim, path.with_extension("prom.new")).unwrap();
        assert!(write(&path, "three\n").is_err());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "v");
    }
}
