//! What a process takes of the machine.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

/// What a process has used up to a moment.
pub(crate) struct Usage {
    pid: u32,
    at: Instant,
    processor: Duration,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // proc_pid_stat(5): the name is in parentheses and may have any; user and system time are fields 14 and 15.
        let rest = text.rsplit_once(')').context("no line of a process")?.1;
        let mut fields = rest.split_whitespace().skip(11).map(str::parse::<u64>);
        let mut next = || fields.next().context("too few fields").and_then(|field| Ok(field?));
        let ticks = next()? + next()?;
        let each = sysconf(SysconfVar::CLK_TCK)?.context("no clock")?;
        let processor = Duration::from_secs_f64(ticks as f64 / each as f64);
        Ok(Self { pid, at: Instant::now(), processor })
    }

    /// The share of one processor that it has taken since.
    pub(crate) fn share(&self) -> Result<f64> {
        let now = Self::of(self.pid)?;
        let used = now.processor.saturating_sub(self.processor);
        Ok(used.as_secs_f64() / (now.at - self.at).as_secs_f64())
    }

    /// Seconds of processor that it has taken since.
    pub(crate) fn seconds(&self) -> Result<f64> {
        Ok(Self::of(self.pid)?.processor.saturating_sub(self.processor).as_secs_f64())
    }
}

/// Memory of a process that is its own or of files it has read, in MiB.
pub(crate) fn memory(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_takes_a_processor() {
        let pid = std::process::id();
        let before = Usage::of(pid).unwrap();
        let end = Instant::now() + Duration::from_millis(200);
        while Instant::now() < end {
            std::hint::black_box(0);
        }
        assert!(before.seconds().unwrap() > 0.0);
        assert!(before.share().unwrap() > 0.0);
        assert!(memory(pid).unwrap() > 1.0);
    }
}
