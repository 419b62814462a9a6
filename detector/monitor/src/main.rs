//! `detector-monitor`: see the library.

fn main() -> std::process::ExitCode {
    detector_monitor::cli::main()
}
