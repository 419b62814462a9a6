//! Manual pages: those of commands the program writes itself, those of files are made of the documentation.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Product;
use crate::process;

/// The package, the name, what `whatis` says of it, and what it is made of.
const FILES: [(&str, &str, &str, &str); 4] = [
    (
        "detector",
        "detector-config",
        "configuration, template manifests and inventory of detector",
        "configuration.md",
    ),
    (
        "detector",
        "detector-policy",
        "the rules by which detector judges virtual machines",
        "policy.md",
    ),
    ("detector", "detector-templates", "approved templates of virtual machines", "templates.md"),
    (
        "detector-monitor",
        "detector-monitor-config",
        "configuration and use of the monitor of detector",
        "monitor.md",
    ),
];

/// Those of a package, whose commands are a program's.
pub(super) fn write(product: &Product, package: &str, program: &Path, root: &Path) -> Result<()> {
    let (commands, files) = (root.join("man8"), root.join("man5"));
    std::fs::create_dir_all(&commands)?;
    std::fs::create_dir_all(&files)?;
    product.run(program, &["man", "--directory", &commands.to_string_lossy()])?;
    let date = process::quiet(Command::new("date").args([
        "--utc",
        "+%F",
        "--date",
        &format!("@{}", product.epoch),
    ]))?;
    for (_, name, summary, source) in FILES.into_iter().filter(|(of, ..)| *of == package) {
        let source = product.source.join("docs").join(source);
        let text = std::fs::read_to_string(&source)
            .with_context(|| format!("cannot read {}", source.display()))?;
        let page = convert(name, date.trim(), &with_name(name, summary, &text))
            .with_context(|| format!("cannot make a manual page of {}", source.display()))?;
        std::fs::write(files.join(format!("{name}.5")), page)?;
    }
    for page in [super::entries(&commands, "8")?, super::entries(&files, "5")?].concat() {
        process::quiet(Command::new("gzip").args(["--best", "--no-name"]).arg(page))?;
    }
    Ok(())
}

/// Where the title was there is what `whatis` looks for.
fn with_name(name: &str, summary: &str, text: &str) -> String {
    let body = text.split_once('\n').map_or("", |(_title, body)| body);
    format!("# NAME\n\n{name} - {summary}\n\n# DESCRIPTION\n{body}")
}

fn convert(name: &str, date: &str, text: &str) -> Result<Vec<u8>> {
    let mut lowdown = Command::new("lowdown")
        .args(["-s", "-Tman", "-M", "section=5", "-M", &format!("title={name}")])
        .args(["-M", &format!("date={date}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run lowdown")?;
    // All of it is read before anything is written.
    lowdown.stdin.take().context("lowdown takes nothing")?.write_all(text.as_bytes())?;
    let output = lowdown.wait_with_output()?;
    if !output.status.success() {
        bail!("lowdown failed ({})", output.status);
    }
    Ok(output.stdout)
}
