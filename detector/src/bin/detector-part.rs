//! The daemon's processes that have a privilege each, or read what is hostile: a program of its own, so that nothing is
//! linked to it that only the daemon needs.

fn main() -> std::process::ExitCode {
    detector::part::main()
}
