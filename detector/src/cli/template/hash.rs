//! Hashing images with a bar on the terminal.

use std::{io::IsTerminal, path::Path, time::Duration};

use anyhow::{Result, bail};
use detector_core::model::{Chain, Evidence, ImageFile};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    cli::escape::escape,
    registry::{Gatherer, bytes_read},
};

/// How often the progress bar moves.
const PROGRESS: Duration = Duration::from_millis(100);

/// Reads an image of that many bytes as the daemon does. The cache is not shared with it: here the
/// point is to read.
pub(super) fn digest(path: &Path, format: Option<&str>, size: u64) -> Result<Chain> {
    let scratch = tempfile::Builder::new().prefix("detector-hash-").tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let evidence = runtime.block_on(async {
        let gatherer = Gatherer::open(scratch.path());
        let file = ImageFile::new(path, format);
        let reading = gatherer.gather(&file);
        tokio::pin!(reading);
        let bar = bar(path, size);
        let before = bytes_read();
        loop {
            tokio::select! {
                evidence = &mut reading => {
                    bar.finish_and_clear();
                    return evidence;
                }
                () = tokio::time::sleep(PROGRESS) => bar.set_position(bytes_read() - before),
            }
        }
    });
    match evidence {
        Evidence::Chain(chain) => Ok(chain),
        Evidence::Unreadable(why) => bail!("{why}"),
        Evidence::Pending => bail!("the image has not been read"),
    }
}

fn bar(path: &Path, size: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(
        "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta_precise}",
    );
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    ProgressBar::new(size)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(escape(&name).to_string())
}
