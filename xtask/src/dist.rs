//! `cargo xtask dist`: Debian packages, RPMs and a tarball, the same bytes from the same commit.

mod build;
mod deb;
mod licences;
mod needs;
mod pages;
mod rpm;
mod stage;
mod tarball;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::build_ebpf;
use crate::process;
use crate::setup::{self, Processor, Profile};
use crate::steps::{Outcome, Steps};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What it is for: this machine's processor, or aarch64-unknown-linux-gnu
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// With what optimisation; `dev` is for trying packages out
    #[arg(long, value_enum, default_value = "release")]
    profile: Optimisation,
    /// Only these
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',')]
    only: Vec<Kind>,
    /// Build all of it again from a copy in another directory, and compare
    #[arg(long)]
    check_reproducible: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Optimisation {
    Release,
    Dev,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Kind {
    Deb,
    Rpm,
    Tarball,
}

const KINDS: [Kind; 3] = [Kind::Deb, Kind::Rpm, Kind::Tarball];

/// The versions of the packages that are tried out.
const TESTED: [&str; 2] = ["0.0.1", "0.0.2"];

/// Makes packages of one kind; the answer is where they are.
type Make = fn(&Product) -> Result<Vec<PathBuf>>;

/// What is made, and of what.
#[derive(Clone)]
struct Product {
    machine: Machine,
    optimisation: Optimisation,
    version: String,
    /// Seconds since 1970: no file and no package is younger.
    epoch: u64,
    /// The checkout.
    source: PathBuf,
    /// Where everything that is made is beneath.
    place: PathBuf,
    /// A program that is there already, in place of one that is built.
    built: Option<PathBuf>,
}

/// The processor that the product runs on.
#[derive(Clone)]
struct Machine {
    target: String,
    debian: &'static str,
    rpm: &'static str,
    cross: Option<Processor>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let kinds = if args.only.is_empty() { &KINDS[..] } else { &args.only };
    let machine = Machine::of(args.target.as_deref())?;
    let product = Product::prepare(machine, args.profile, env!("CARGO_PKG_VERSION"))?;
    let made = product.make(kinds)?;
    check(&made)?;
    if args.check_reproducible {
        Steps::default().quiet("the same from another directory", || {
            product.make_again(kinds, &made).map(|()| Outcome::done())
        })?;
    }
    for path in made {
        println!("{}", path.strip_prefix(&product.source).unwrap_or(&path).display());
    }
    Ok(())
}

/// Makes what the suite of packages tries out, of the program that all suites run, and makes all of it once more:
/// the same bytes have to come out. Of RPMs there is a later version as well.
pub(crate) fn for_tests() -> Result<()> {
    setup::ensure_clean_root()?;
    let built = Some(process::target().join("debug/detector"));
    let product = Product::prepare(Machine::of(None)?, Optimisation::Dev, TESTED[0])?;
    let product = Product { built, ..product };
    remove(&product.out())?;
    let made = product.make(&KINDS)?;
    check(&made)?;
    let again = Product { place: process::target().join("dist-again"), ..product.clone() };
    compare(&made, &again.make(&KINDS)?)?;
    remove(&again.place)?;
    Product { version: TESTED[1].to_owned(), ..product }.make(&[Kind::Rpm]).map(drop)
}

/// Has the compiler look at the program for every other processor.
pub(crate) fn check_others() -> Result<()> {
    setup::ensure_dist(&Processor::ALL)?;
    let host = host()?;
    let mut others = Processor::ALL.into_iter().filter(|processor| processor.target != host);
    others.try_for_each(build::check)
}

impl Product {
    fn prepare(machine: Machine, optimisation: Optimisation, version: &str) -> Result<Self> {
        setup::ensure(Profile::Build)?;
        setup::ensure_dist(machine.cross.as_slice())?;
        build_ebpf::build()?;
        Ok(Self {
            machine,
            optimisation,
            version: version.to_owned(),
            epoch: epoch()?,
            source: process::workspace(),
            place: process::target().join("dist"),
            built: None,
        })
    }

    /// Makes packages; the answer is where they are.
    fn make(&self, kinds: &[Kind]) -> Result<Vec<PathBuf>> {
        let mut steps = Steps::default();
        let mut binary = PathBuf::new();
        steps.quiet(&format!("program for {}", self.machine.target), || {
            binary = build::build(self)?;
            let program = self.run(&binary, &["--version"])?;
            Ok(Outcome::Done(program.trim().to_owned()))
        })?;
        let mut made = Vec::new();
        steps.quiet("what is packaged", || {
            made.extend(stage::lay_out(self, &binary)?);
            Ok(Outcome::done())
        })?;
        for kind in kinds {
            let (name, make): (_, Make) = match kind {
                Kind::Deb => ("Debian packages", deb::make),
                Kind::Rpm => ("RPMs", rpm::make),
                Kind::Tarball => ("tarball", tarball::make),
            };
            steps.quiet(name, || {
                let mut size = 0;
                for path in make(self)? {
                    size += std::fs::metadata(&path)?.len();
                    made.push(path);
                }
                Ok(Outcome::Done(format!("{size} bytes")))
            })?;
        }
        Ok(made)
    }

    fn make_again(&self, kinds: &[Kind], made: &[PathBuf]) -> Result<()> {
        let elsewhere = process::target().join("reproduce-dist");
        remove(&elsewhere)?;
        let source = elsewhere.join("a/checkout");
        build_ebpf::copy_checkout(&source)?;
        let again = Self { source, place: elsewhere.join("dist"), ..self.clone() };
        compare(made, &again.make(kinds)?)?;
        remove(&elsewhere)
    }

    /// Runs the program that was built, on whichever machine this is; what it says.
    fn run(&self, binary: &Path, arguments: &[&str]) -> Result<String> {
        let mut command = match self.machine.cross {
            Some(processor) => processor.run(binary),
            None => Command::new(binary),
        };
        process::quiet(command.args(arguments))
    }

    /// The laid out trees, one for each package by its name.
    fn stage(&self) -> PathBuf {
        self.place.join("stage").join(&self.machine.target)
    }

    /// Where packages end up.
    fn out(&self) -> PathBuf {
        match self.optimisation {
            Optimisation::Release => self.place.clone(),
            Optimisation::Dev => self.place.join("dev"),
        }
    }

    fn is_optimised(&self) -> bool {
        self.optimisation == Optimisation::Release
    }

    /// Of a file of the packaging.
    fn packaging(&self, name: &str) -> PathBuf {
        self.source.join("packaging").join(name)
    }
}

impl Machine {
    /// This one without a target.
    fn of(target: Option<&str>) -> Result<Self> {
        let host = host()?;
        let target = target.unwrap_or(&host);
        let (debian, rpm) = match target {
            "x86_64-unknown-linux-gnu" => ("amd64", "x86_64"),
            "aarch64-unknown-linux-gnu" => ("arm64", "aarch64"),
            _ => {
                bail!("there are packages for x86_64 and aarch64 with glibc, and not for {target}")
            }
        };
        let cross = match Processor::of(target) {
            _ if target == host => None,
            Some(processor) => Some(processor),
            None => bail!("{target} can only be built for on such a machine"),
        };
        Ok(Self { target: target.to_owned(), debian, rpm, cross })
    }

    fn tool(&self, name: &str) -> Command {
        Command::new(self.cross.map_or_else(|| name.to_owned(), |processor| processor.tool(name)))
    }
}

fn check(made: &[PathBuf]) -> Result<()> {
    let debs: Vec<_> =
        made.iter().filter(|path| path.extension().is_some_and(|e| e == "deb")).collect();
    if debs.is_empty() {
        return Ok(());
    }
    Steps::default().quiet("lintian", || deb::check(&debs).map(|()| Outcome::done()))
}

fn compare(made: &[PathBuf], again: &[PathBuf]) -> Result<()> {
    for (path, other) in made.iter().zip(again) {
        if std::fs::read(path)? != std::fs::read(other)? {
            bail!("{} and {} differ: not reproducible", path.display(), other.display());
        }
    }
    Ok(())
}

fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = process::quiet(Command::new(rustc).arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say what it runs on")
}

/// `SOURCE_DATE_EPOCH`, or when the last commit was made.
fn epoch() -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => process::quiet(
            Command::new("git")
                .args(["log", "-1", "--format=%ct"])
                .current_dir(process::workspace()),
        )
        .context("set SOURCE_DATE_EPOCH where there is no git")?,
    };
    text.trim().parse().with_context(|| format!("{text:?} is no time"))
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The files of a directory with such an ending, in order.
fn entries(directory: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("cannot list {}", directory.display()))?;
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut fitting: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
    fitting.sort();
    Ok(fitting)
}
