//! What the machine boots from: somebody's kernel and initial file system, and what it is to do.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use cpio::newc::{Builder, ModeFileType, trailer};

use super::Offline;

/// Its first program.
const INIT: &str = include_str!("init.sh");
/// Bytes.
const LARGEST_KERNEL: u64 = 128 << 20;
const LARGEST_INITRD: u64 = 512 << 20;
const LARGEST_FILE: u64 = 4 << 20;
/// The kernel looks for an archive that is not compressed at multiples of four bytes.
const ALIGNED: usize = 4;

/// What the machine is told, besides what it boots from.
pub(super) const ARGUMENTS: &str = "quiet loglevel=0 panic=-1 rdinit=/detector/init";

/// The kernel.
///
/// # Errors
///
/// Why there is none.
pub(super) fn kernel(work: &Offline) -> Result<Vec<u8>, String> {
    read(&work.kernel, LARGEST_KERNEL)
}

/// The initial file system, with what is to be done laid over it.
///
/// # Errors
///
/// What cannot be read of that.
pub(super) fn initrd(work: &Offline, request: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = read(&work.initrd, LARGEST_INITRD)?;
    bytes.resize(bytes.len().next_multiple_of(ALIGNED), 0);
    let mut contents = Vec::new();
    for file in &work.files {
        contents.push(match (&file.content, &file.from) {
            (Some(content), _) => content.clone().into_bytes(),
            (None, Some(from)) => read(from, LARGEST_FILE)?,
            (None, None) => Vec::new(),
        });
    }
    let root = format!("root={}\n", quoted(work.root.as_deref().unwrap_or_default()));
    let steps = steps(work);
    let archive = || -> io::Result<()> {
        directory(&mut bytes, "detector")?;
        directory(&mut bytes, "detector/files")?;
        file(&mut bytes, "detector/init", 0o755, INIT.as_bytes())?;
        file(&mut bytes, "detector/root", 0o600, root.as_bytes())?;
        file(&mut bytes, "detector/steps", 0o600, steps.as_bytes())?;
        file(&mut bytes, "detector/request.json", 0o600, request)?;
        for (number, content) in contents.iter().enumerate() {
            file(&mut bytes, &format!("detector/files/{number}"), 0o600, content)?;
        }
        trailer(&mut bytes).map(drop)
    };
    let mut archive = archive;
    archive().map_err(|error| format!("what is to be done cannot be handed over: {error}"))?;
    Ok(bytes)
}

fn directory(bytes: &mut Vec<u8>, name: &str) -> io::Result<()> {
    let entry = Builder::new(name).mode(0o755).set_mode_file_type(ModeFileType::Directory);
    entry.write(bytes, 0).finish().map(drop)
}

fn file(bytes: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let entry = Builder::new(name).mode(mode).set_mode_file_type(ModeFileType::Regular);
    let size = u32::try_from(content.len()).map_err(io::Error::other)?;
    let mut entry = entry.write(bytes, size);
    entry.write_all(content)?;
    entry.finish().map(drop)
}

/// What is to be done, as lines of a shell script whose every word is quoted.
fn steps(work: &Offline) -> String {
    let mut steps = Vec::new();
    for path in &work.remove {
        steps.push(("a path to remove", format!("remove {}", quoted(path))));
    }
    for (number, file) in work.files.iter().enumerate() {
        let (path, mode, owner) = (quoted(&file.path), quoted(&file.mode), quoted(&file.owner));
        steps.push(("a file", format!("put {number} {path} {mode} {owner}")));
    }
    for unit in &work.mask {
        steps.push(("a unit to mask", format!("mask {}", quoted(unit))));
    }
    for script in &work.run {
        steps.push(("a script", format!("run {}", quoted(script))));
    }
    let of = steps.len();
    let lines = steps.into_iter().enumerate().map(|(number, (what, line))| {
        format!("begin {} {of} {}\n{line}\n", number + 1, quoted(what))
    });
    lines.collect()
}

/// A word of a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let read = file.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("{shown} cannot be read: {error}"))?;
    if bytes.len() as u64 > most {
        return Err(format!("{shown} has more than {most} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use cpio::newc::Reader;

    use super::{super::OfflineFile, *};

    #[test]
    fn every_word_is_quoted() {
        let file = |path: &str, content: &str| OfflineFile {
            path: path.to_owned(),
            content: Some(content.to_owned()),
            from: None,
            mode: "0640".to_owned(),
            owner: "0:7".to_owned(),
        };
        let work = Offline {
            remove: vec!["/a b".to_owned()],
            files: vec![file("/etc/x'; rm -rf /", "one"), file("/etc/y", "")],
            mask: vec!["telnet.socket".to_owned()],
            run: vec!["echo $HOME\nexit 3".to_owned()],
            ..Offline::default()
        };
        let expect = "begin 1 5 'a path to remove'\nremove '/a b'\n\
                      begin 2 5 'a file'\nput 0 '/etc/x'\\''; rm -rf /' '0640' '0:7'\n\
                      begin 3 5 'a file'\nput 1 '/etc/y' '0640' '0:7'\n\
                      begin 4 5 'a unit to mask'\nmask 'telnet.socket'\n\
                      begin 5 5 'a script'\nrun 'echo $HOME\nexit 3'\n";
        assert_eq!(steps(&work), expect);
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("base");
        std::fs::write(&base, "odd").unwrap();
        let whole = initrd(&Offline { initrd: base, ..work }, b"{}").unwrap();
        let mut left = &whole[4..];
        let mut names = Vec::new();
        loop {
            let reader = Reader::new(left).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            names.push((reader.entry().name().to_owned(), reader.entry().file_size()));
            left = reader.finish().unwrap();
        }
        assert!(names.contains(&("detector/files/0".to_owned(), 3)), "{names:?}");
        assert!(names.contains(&("detector/request.json".to_owned(), 2)), "{names:?}");
    }

    #[test]
    fn what_is_too_large_or_not_there_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert!(read(&path, 3).unwrap_err().contains("cannot be read"));
        std::fs::write(&path, "four").unwrap();
        assert!(read(&path, 3).unwrap_err().contains("more than 3 bytes"));
        assert_eq!(read(&path, 4).unwrap(), b"four");
    }

    /// A shell that reads it as it stands finds no fault.
    #[test]
    fn the_first_program_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("init");
        std::fs::write(&path, INIT).unwrap();
        let read = std::process::Command::new("/bin/sh").arg("-n").arg(&path).output().unwrap();
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    }
}
