//! The machine that QEMU makes, without help of the processor: it runs everywhere, and takes its time.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use detector_tests::run;

const QEMU: &str = "qemu-system-x86_64";
/// A guest that has said nothing for so long has come to a stop.
const SILENCE: Duration = Duration::from_secs(1800);

pub(crate) struct Machine {
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
    pub(crate) binaries: PathBuf,
    /// Where the kernel's messages go.
    pub(crate) console: PathBuf,
    /// Where everything goes that the tests say.
    pub(crate) log: PathBuf,
}

/// Ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended by itself when this fails.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machine {
    /// Boots it, and hands on each line that the guest says until it is done.
    pub(crate) fn run(&self, mut each: impl FnMut(&str)) -> Result<()> {
        let mut log = std::fs::File::create(&self.log)?;
        let mut command = self.command();
        let mut running = Running(
            run::mortal(&mut command)
                .spawn()
                .with_context(|| format!("cannot run {QEMU} (package qemu-system-x86)"))?,
        );
        let output = running.0.stdout.take().context("QEMU has no output")?;
        let (sender, lines) = channel();
        // It ends with QEMU, whose output it reads.
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if sender.send(text).is_err() {
                    break;
                }
            }
        });
        loop {
            match lines.recv_timeout(SILENCE) {
                Ok(line) => {
                    writeln!(log, "{line}")?;
                    each(&line);
                }
                Err(RecvTimeoutError::Disconnected) => return self.end(&mut running),
                Err(RecvTimeoutError::Timeout) => bail!(
                    "the guest has said nothing for {SILENCE:?}; its console: {}",
                    self.console.display()
                ),
            }
        }
    }

    fn end(&self, running: &mut Running) -> Result<()> {
        let status = running.0.wait()?;
        if !status.success() {
            bail!("QEMU ended with {status}");
        }
        Ok(())
    }

    fn command(&self) -> Command {
        let share = |path: &str, tag: &str| {
            format!(
                "local,path={path},mount_tag={tag},readonly=on,security_model=none,multidevs=remap"
            )
        };
        let mut command = Command::new(QEMU);
        // Without these the kernel clears and copies memory eight bytes at a time and not one, which are as many steps.
        let processor = "max,-erms,-fsrm";
        command.args(["-machine", "q35", "-cpu", processor, "-m", "1536"]);
        // A nanosecond for each instruction, so that time goes by as the guest computes, whatever else this machine
        // is at. One processor: several would take turns of a tenth of a second.
        command.args(["-icount", "shift=0", "-smp", "1"]);
        command.args(["-display", "none", "-nodefaults", "-no-reboot"]);
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initrd);
        // On a busy machine the kernel would take its clocks for broken.
        const CLOCKS: &str = "no_timer_check tsc=unstable";
        let words = format!("console=ttyS0 quiet panic=-1 mitigations=off {CLOCKS}");
        command.arg("-append").arg(words);
        command.arg("-serial").arg(format!("file:{}", self.console.display()));
        command.args(["-serial", "stdio"]);
        command.args(["-virtfs", &share("/usr", "usr")]);
        command.args(["-virtfs", &share(&self.binaries.display().to_string(), "binaries")]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        command
    }
}
