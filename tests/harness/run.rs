//! Running a program to its end, or to ours.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

/// What it printed; an error with what it complained about when it fails.
pub fn checked(command: &Command, result: std::io::Result<Output>) -> Result<String> {
    let output = result.with_context(|| format!("cannot run {}", line(command)))?;
    let out = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{} ({}): {out}{complaint}", line(command), output.status);
    }
    Ok(out.into_owned())
}

/// The command as a person would type it.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Has a program end with the thread that starts it, however that ends.
pub fn mortal(command: &mut Command) -> &mut Command {
    let parent = std::process::id();
    // SAFETY: only prctl(2) and getppid(2) are called between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // Who has ended before is not waited for.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn what_is_mortal_ends_with_its_thread() {
        let start = || mortal(Command::new("sleep").arg("60")).spawn().unwrap();
        let mut child = std::thread::spawn(start).join().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}
